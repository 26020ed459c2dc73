//! Freshness (RFC 9111 §4.2) and stale serving (RFC 5861).

use std::time::Duration;

/// How long past its freshness a response may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Not at all.
    None,
    /// For this long.
    For(Duration),
    /// As long as it is stored.
    Unbounded,
}

/// Under which terms a response is stored: what policy and directives came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The freshness lifetime; none: fresh until revalidated.
    pub fresh_for: Option<Duration>,
    /// Served stale while one regeneration runs.
    pub while_revalidating: Window,
    /// Served stale when the origin answers with an error (5xx).
    pub if_error: Window,
    /// Served stale when no response head arrives (RFC 9111 §4.2.4).
    pub if_unreachable: Window,
}
