//! The plain error pages of the edge: a status, a cause, a cure.

use crate::rules::cache_status::Failure;

/// The status that a failure is answered with.
#[must_use]
pub const fn status(why: Failure) -> u16 {
    match why {
        Failure::BadRequest => 400,
        Failure::HeadTimeout => 408,
        Failure::UriTooLong => 414,
        Failure::HeadTooLarge => 431,
        Failure::Unsupported => 501,
        Failure::Dns | Failure::Connect | Failure::Tls | Failure::Reset | Failure::Unhealthy => 502,
        Failure::Busy | Failure::Breaker | Failure::Unavailable => 503,
        Failure::Timeout | Failure::OnlyIfCached => 504,
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
        Failure::UriTooLong => "414 URI Too Long: the address is longer than this server allows.\n",
        Failure::HeadTooLarge => {
            "431 Request Header Fields Too Large: send fewer or smaller cookies and fields.\n"
        }
        Failure::Unsupported => "501 Not Implemented: this server does not do that.\n",
        Failure::Dns | Failure::Connect | Failure::Tls | Failure::Reset | Failure::Unhealthy => {
            "502 Bad Gateway: the site behind this edge could not be reached. Please try again.\n"
        }
        Failure::Busy | Failure::Breaker | Failure::Unavailable => {
            "503 Service Unavailable: the site is busy. Please try again in a moment.\n"
        }
        Failure::Timeout => {
            "504 Gateway Timeout: the site behind this edge took too long. Please try again.\n"
        }
        Failure::OnlyIfCached => "504 Gateway Timeout: not in the cache.\n",
    }
}
