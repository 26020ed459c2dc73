//! How a response says where its body ends (RFC 9112 §6.3), as it came over
//! HTTP/1. Strict: what two readers could read in two ways is no response.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};

use super::scan;

/// Whether responses of this status have no content, whatever their framing says.
///
/// 1xx, 204 and 304 end with their head (RFC 9112 §6.3). A 205 has no content
/// either (RFC 9110 §15.3.6), but readers look for its end as for any other's: it
/// goes on with `Content-Length: 0`.
#[must_use]
pub fn has_no_content(status: StatusCode) -> bool {
    status.is_informational()
        || matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
        )
}

/// The length of the body if the response names it, checked.
///
/// Of a status without content the framing means nothing and is not checked; a
/// 304 may still name the length that a 200 would have, and a 205 names none but
/// zero.
///
/// # Errors
/// What is wrong with it: then there is no telling where the body ends.
pub fn length(status: StatusCode, headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return Ok(None);
    }
    if status == StatusCode::RESET_CONTENT {
        return Ok(Some(0));
    }
    if status != StatusCode::NOT_MODIFIED {
        coding(headers)?;
    }
    content_length(headers)
}

/// RFC 9112 §6.1: `chunked` once, and nothing else, for nothing else was asked
/// for (§7.4).
fn coding(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err("a Transfer-Encoding other than one chunked"),
    }
}

/// RFC 9110 §8.6: equal lengths are one; different ones are an error.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut length = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        // Of an empty member nobody knows what it was.
        for member in line.as_bytes().split(|b| *b == b',').map(scan::trim) {
            let digits = !member.is_empty() && member.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(member).ok().and_then(|m| m.parse::<u64>().ok());
            match (number.filter(|_| digits), length) {
                (None, _) => return Err("a Content-Length that is no number"),
                (Some(new), Some(old)) if new != old => return Err("several Content-Lengths"),
                (new, _) => length = new,
            }
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fields, map};
    use super::*;

    #[test]
    fn lengths_and_codings() {
        type Row<'a> = (u16, Fields<'a>, Result<Option<u64>, ()>);
        let rows: &[Row<'_>] = &[
            (200, &[], Ok(None)),
            (200, &[("content-length", "5")], Ok(Some(5))),
            (200, &[("content-length", "0")], Ok(Some(0))),
            (200, &[("content-length", "05")], Ok(Some(5))),
            // RFC 9110 §8.6
            (200, &[("content-length", "5"), ("content-length", "5")], Ok(Some(5))),
            (200, &[("content-length", "5, 5")], Ok(Some(5))),
            (200, &[("content-length", "5, 6")], Err(())),
            (200, &[("content-length", "5"), ("content-length", "6")], Err(())),
            (200, &[("content-length", "")], Err(())),
            (200, &[("content-length", "5,")], Err(())),
            (200, &[("content-length", "+5")], Err(())),
            (200, &[("content-length", "-1")], Err(())),
            (200, &[("content-length", "5 5")], Err(())),
            (200, &[("content-length", "99999999999999999999")], Err(())),
            // RFC 9112 §6.1
            (200, &[("transfer-encoding", "chunked")], Ok(None)),
            (200, &[("transfer-encoding", " Chunked ")], Ok(None)),
            (200, &[("transfer-encoding", "identity")], Err(())),
            (200, &[("transfer-encoding", "gzip, chunked")], Err(())),
            (200, &[("transfer-encoding", "chunked, chunked")], Err(())),
            (200, &[("transfer-encoding", "xchunked")], Err(())),
            (200, &[("transfer-encoding", "")], Err(())),
            (200, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Err(())),
            // RFC 9112 §6.3, 1.: without a body
            (204, &[("content-length", "5")], Ok(None)),
            (204, &[("transfer-encoding", "gzip")], Ok(None)),
            (103, &[("transfer-encoding", "chunked")], Ok(None)),
            // RFC 9110 §15.3.6
            (205, &[], Ok(Some(0))),
            (205, &[("content-length", "0")], Ok(Some(0))),
            (205, &[("content-length", "5")], Ok(Some(0))),
            (205, &[("transfer-encoding", "chunked")], Ok(Some(0))),
            (205, &[("transfer-encoding", "gzip")], Ok(Some(0))),
            (304, &[("transfer-encoding", "gzip")], Ok(None)),
            (304, &[("content-length", "5")], Ok(Some(5))),
            (304, &[("content-length", "5, 6")], Err(())),
        ];
        for (status, fields, want) in rows {
            let status = StatusCode::from_u16(*status).expect("a status");
            let got = length(status, &map(fields));
            assert_eq!(got.map_err(|_| ()), *want, "{status} {fields:?}");
            let empty = matches!(status.as_u16(), 103 | 204 | 205 | 304);
            assert_eq!(has_no_content(status), empty, "{status}");
        }
    }
}
