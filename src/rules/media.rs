//! What a `Content-Type` stands for, as far as caching asks.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::scan::trim;

/// The media type of a message without its parameters (RFC 9110 §8.3.1).
#[must_use]
pub fn essence(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(CONTENT_TYPE)?.as_bytes();
    Some(trim(value.split(|&b| b == b';').next().unwrap_or_default()))
}

/// Whether it is JSON: `application/json`, `text/json`, or a `+json` type
/// (RFC 6839 §3.1).
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    essence(headers).is_some_and(|e| {
        e.eq_ignore_ascii_case(b"application/json")
            || e.eq_ignore_ascii_case(b"text/json")
            || e.len() > 5 && e[e.len() - 5..].eq_ignore_ascii_case(b"+json")
    })
}

/// Whether it is HTML.
#[must_use]
pub fn is_html(headers: &HeaderMap) -> bool {
    essence(headers).is_some_and(|e| {
        e.eq_ignore_ascii_case(b"text/html") || e.eq_ignore_ascii_case(b"application/xhtml+xml")
    })
}

/// Whether it is of this media type.
#[must_use]
pub fn is(headers: &HeaderMap, kind: &str) -> bool {
    essence(headers).is_some_and(|e| e.eq_ignore_ascii_case(kind.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    #[test]
    fn types_without_regard_to_case_and_parameters() {
        let rows = [
            ("application/json", (true, false, false)),
            ("Application/JSON ; charset=utf-8", (true, false, false)),
            ("application/ld+json", (true, false, false)),
            ("application/jsonp", (false, false, false)),
            ("text/html;charset=utf-8", (false, true, false)),
            ("TEXT/HTML", (false, true, false)),
            ("application/xhtml+xml", (false, true, false)),
            ("text/x-component", (false, false, true)),
            ("text/plain; x=text/html", (false, false, false)),
            ("+json", (false, false, false)),
            ("", (false, false, false)),
        ];
        for (value, want) in rows {
            let headers = map(&[("content-type", value)]);
            assert_eq!(
                (is_json(&headers), is_html(&headers), is(&headers, "text/x-component")),
                want,
                "{value}"
            );
        }
        assert!(!is_html(&HeaderMap::new()));
    }
}
