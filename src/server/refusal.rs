//! Requests that the front answers itself, because they can't be passed on.

use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;

use crate::rules::Time;
use crate::rules::cache_status::{Failure, Outcome};

/// The methods that are served, for `Allow` (RFC 9110 §10.2.1). Others are passed on where the
/// origin may know them.
pub(crate) const ALLOWED: &str = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE";

/// Why a request went no further than the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not HTTP, or HTTP that two recipients could read in two ways (RFC 9112 §11.2).
    Malformed(&'static str),
    /// The head took longer than `head_timeout`.
    TooSlow,
    /// The target is longer than `max_uri`.
    LongTarget,
    /// The head is larger than `max_head`.
    LargeHead,
    /// There are more fields than `max_fields`.
    ManyFields,
    /// CONNECT, for this is no forward proxy; and TRACE, which would show who asks what is
    /// added on the way, and scripts the cookies they may not read.
    Method,
    /// A transfer coding other than chunked (RFC 9112 §6.1).
    Coding,
    /// An expectation other than `100-continue` (RFC 9110 §10.1.1).
    Expectation,
    /// Not HTTP/1.0 or HTTP/1.1.
    Version,
}

impl Refusal {
    /// The status it is answered with.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::LongTarget => StatusCode::URI_TOO_LONG,
            Self::LargeHead | Self::ManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    /// Its name in `Cache-Status`, metrics and logs.
    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Malformed(_) => Failure::BadRequest,
            Self::TooSlow => Failure::HeadTimeout,
            Self::LongTarget => Failure::UriTooLong,
            Self::LargeHead | Self::ManyFields => Failure::HeadTooLarge,
            Self::Method | Self::Coding | Self::Expectation | Self::Version => Failure::Unsupported,
        }
    }

    /// What the page says, for the person who reads it. Never a word of the request itself.
    fn detail(self) -> &'static str {
        match self {
            Self::Malformed(what) => what,
            Self::TooSlow => "the request head did not arrive in time",
            Self::LongTarget => "the request target is too long",
            Self::LargeHead => "the request head is too large",
            Self::ManyFields => "the request has too many fields",
            Self::Method => "CONNECT and TRACE are not served here",
            Self::Coding => "the only transfer coding served here is chunked",
            Self::Expectation => "the only expectation served here is 100-continue",
            Self::Version => "only HTTP/1.0 and HTTP/1.1 are spoken here",
        }
    }

    /// The whole response. The connection closes after it: where a request
    /// can't be read, neither can what follows it.
    pub(super) fn page(self, now: Time, head_only: bool) -> Vec<u8> {
        let status = self.status();
        let outcome = Outcome::Failed { why: self.failure() };
        let reason = status.canonical_reason().unwrap_or("Error");
        let body = format!("{} {reason}: {}\n", status.as_u16(), self.detail());
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now.secs()));
        // RFC 9110 §15.5.6: a 405 names the methods that are allowed.
        let allow = match self {
            Self::Method => format!("Allow: {ALLOWED}\r\n"),
            _ => String::new(),
        };
        format!(
            "HTTP/1.1 {} {reason}\r\nDate: {date}\r\n{allow}Content-Type: text/plain; \
             charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\nCache-Status: \
             {outcome}\r\nX-Cache: {}\r\nConnection: close\r\n\r\n{}",
            status.as_u16(),
            body.len(),
            outcome.x_cache(),
            if head_only { "" } else { &body },
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_whole_and_says_why() {
        let page = Refusal::Malformed("bare CR").page(Time(784_111_777_000), false);
        assert_eq!(
            String::from_utf8(page).unwrap(),
            "HTTP/1.1 400 Bad Request\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 25\r\n\
             Cache-Control: no-store\r\n\
             Cache-Status: perennial; detail=bad-request\r\n\
             X-Cache: MISS\r\n\
             Connection: close\r\n\r\n\
             400 Bad Request: bare CR\n"
        );
        let page = String::from_utf8(Refusal::Method.page(Time(0), true)).unwrap();
        assert!(page.contains("Allow: GET") && page.ends_with("\r\n\r\n"), "{page}");
    }
}
