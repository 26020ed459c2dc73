//! The plain error pages of the edge: a status, a cause, a cure.

use crate::rules::cache_status::Failure;

/// The status that a failure is answered with.
#[must_use]
pub const fn status(why: Failure) -> u16 {
    match why {
        Failure::BadRequest => 400,
        Failure::HeadTimeout | Failure::BodyTimeout => 408,
        Failure::UriTooLong => 414,
        Failure::HeadTooLarge => 431,
        Failure::Unsupported => 501,
        Failure::Dns
        | Failure::Connect
        | Failure::Tls
        | Failure::Reset
        | Failure::Coding
        | Failure::Unhealthy => 502,
        Failure::Busy | Failure::Breaker | Failure::Unavailable => 503,
        Failure::Timeout | Failure::OnlyIfCached => 504,
        Failure::Loop => 508,
    }
}

/// Seconds after which trying again makes sense, where it does.
#[must_use]
pub const fn retry_after(why: Failure) -> Option<&'static str> {
    match why {
        Failure::Busy | Failure::Breaker | Failure::Unavailable => Some("1"),
        _ => None,
    }
}

/// What a visitor reads. It names no host and no address: those are in the log.
#[must_use]
pub const fn text(why: Failure) -> &'static str {
    match why {
        Failure::BadRequest => "400 Bad Request: the request is malformed.\n",
        Failure::HeadTimeout => "408 Request Timeout: the request head did not arrive in time.\n",
        Failure::BodyTimeout => "408 Request Timeout: the request body did not arrive in time.\n",
        Failure::UriTooLong => "414 URI Too Long: the address is longer than this server allows.\n",
        Failure::HeadTooLarge => {
            "431 Request Header Fields Too Large: send fewer or smaller cookies and fields.\n"
        }
        Failure::Unsupported => "501 Not Implemented: this server does not do that.\n",
        Failure::Dns | Failure::Connect | Failure::Tls | Failure::Reset | Failure::Unhealthy => {
            "502 Bad Gateway: the site behind this edge could not be reached. Please try again.\n"
        }
        Failure::Coding => {
            "502 Bad Gateway: the site answered in a coding that was not asked for.\n"
        }
        Failure::Busy | Failure::Breaker | Failure::Unavailable => {
            "503 Service Unavailable: the site is busy. Please try again in a moment.\n"
        }
        Failure::Timeout => {
            "504 Gateway Timeout: the site behind this edge took too long. Please try again.\n"
        }
        Failure::OnlyIfCached => "504 Gateway Timeout: not in the cache.\n",
        Failure::Loop => {
            "508 Loop Detected: the site behind this edge is this edge itself. Its configuration \
             names itself as the origin.\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    /// Whose doing it was says the class: 4xx the client's, 5xx ours or the origin's.
    #[test]
    fn every_failure_has_its_page() {
        for &why in Failure::VARIANTS {
            let expected = match why {
                Failure::BadRequest => 400,
                Failure::HeadTimeout | Failure::BodyTimeout => 408,
                Failure::UriTooLong => 414,
                Failure::HeadTooLarge => 431,
                Failure::Unsupported => 501,
                Failure::Dns
                | Failure::Connect
                | Failure::Tls
                | Failure::Reset
                | Failure::Coding
                | Failure::Unhealthy => 502,
                Failure::Busy | Failure::Breaker | Failure::Unavailable => 503,
                Failure::Timeout | Failure::OnlyIfCached => 504,
                Failure::Loop => 508,
            };
            assert_eq!(status(why), expected, "{why:?}");
            assert!(text(why).starts_with(&format!("{expected} ")), "{why:?}");
            assert!(text(why).ends_with(".\n"), "{why:?}");
            assert_eq!(retry_after(why).is_some(), expected == 503, "{why:?}");
        }
    }
}
