//! How long an idle connection is kept for the next request, so that none meets a
//! connection that is being closed.
//!
//! A server closes its idle connections some time, and a request that is sent at
//! that very moment is lost. One that is safe to repeat is repeated, on a new
//! connection. A `POST` must not be: it may have been carried out. So it goes
//! only over connections that were idle for next to no time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, Method};
use pingora::upstreams::peer::HttpPeer;

/// The longest that a connection may have been idle for a request that must not
/// be repeated. No server closes earlier unless it says so.
const FRESH: Duration = Duration::from_secs(1);

/// How much earlier than the server closes it a connection is not used any more.
const MARGIN: Duration = Duration::from_secs(1);

/// What a server says of its idle connections: `Keep-Alive: timeout=5`.
#[derive(Debug, Default)]
pub(super) struct Announced(AtomicU64);

impl Announced {
    /// Takes note of what a response says. The last word counts.
    pub(super) fn learn(&self, headers: &HeaderMap) {
        let said = timeout(headers).map_or(0, |timeout| timeout.as_secs().saturating_add(1));
        if self.0.load(Ordering::Relaxed) != said {
            self.0.store(said, Ordering::Relaxed);
        }
    }

    fn get(&self) -> Option<Duration> {
        self.0.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_secs)
    }
}

/// The `timeout` of a response's `Keep-Alive` field.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    value.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse().ok()?;
        name.trim().eq_ignore_ascii_case("timeout").then_some(Duration::from_secs(seconds))
    })
}

/// How long an idle connection to a server that `announced` this is kept, where
/// `configured` is the longest; none: not at all.
pub(super) fn keep(announced: Option<Duration>, configured: Duration) -> Option<Duration> {
    let keep = announced.map_or(configured, |it| configured.min(it.saturating_sub(MARGIN)));
    (!keep.is_zero()).then_some(keep)
}

/// Sets which connections of pingora's pool a request with this method may take,
/// and how long its own is kept there afterwards. Connections that are kept for
/// different times never mix: what was put there before the server had said how
/// long it keeps them is not taken any more.
pub(super) fn pool(
    peer: &mut HttpPeer,
    method: &Method,
    announced: &Announced,
    configured: Duration,
) {
    let longest = if method.is_idempotent() { configured } else { configured.min(FRESH) };
    match keep(announced.get(), longest) {
        Some(keep) => {
            peer.group_key = group(keep, method);
            peer.options.idle_timeout = Some(keep);
        }
        None => {
            // Nobody else has this key.
            static NEXT: AtomicU64 = AtomicU64::new(0);
            peer.group_key = ALONE | NEXT.fetch_add(1, Ordering::Relaxed);
            peer.options.idle_timeout = Some(Duration::ZERO);
        }
    }
}

/// The bit that sets connections apart which nobody else may take.
const ALONE: u64 = 1 << 63;

/// The key of connections that are kept so long for requests of this kind.
fn group(keep: Duration, method: &Method) -> u64 {
    let millis = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    (millis << 1 | u64::from(method.is_idempotent())) & !ALONE
}

#[cfg(test)]
mod tests {
    use pingora::upstreams::peer::Peer;

    use super::*;

    fn headers(value: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert("keep-alive", value.parse().unwrap());
        }
        headers
    }

    /// field, seconds kept of 60 for a GET, and for a POST
    const KEPT: &[(Option<&str>, Option<u64>, Option<u64>)] = &[
        (None, Some(60), Some(1)),
        (Some("timeout=5"), Some(4), Some(1)),
        (Some("timeout=5, max=100"), Some(4), Some(1)),
        (Some("max=100, Timeout = \"7\""), Some(6), Some(1)),
        (Some("timeout=600"), Some(60), Some(1)),
        (Some("timeout=2"), Some(1), Some(1)),
        (Some("timeout=1"), None, None),
        (Some("timeout=0"), None, None),
        (Some("timeout=soon"), Some(60), Some(1)),
        (Some("max=100"), Some(60), Some(1)),
        (Some("timeout=18446744073709551615"), Some(60), Some(1)),
    ];

    #[test]
    fn how_long_connections_are_kept() {
        let address = std::net::SocketAddr::from(([192, 0, 2, 1], 80));
        for &(field, get, post) in KEPT {
            let announced = Announced::default();
            announced.learn(&headers(field));
            for (method, expected) in [(Method::GET, get), (Method::POST, post)] {
                let mut peer = HttpPeer::new(address, false, String::new());
                pool(&mut peer, &method, &announced, Duration::from_secs(60));
                let kept = peer.idle_timeout().filter(|keep| !keep.is_zero());
                assert_eq!(kept, expected.map(Duration::from_secs), "{field:?} {method}");
            }
        }
    }

    #[test]
    fn which_requests_share_connections() {
        let address = std::net::SocketAddr::from(([192, 0, 2, 1], 80));
        let hash = |method: &Method, field: Option<&str>| {
            let announced = Announced::default();
            announced.learn(&headers(field));
            let mut peer = HttpPeer::new(address, false, String::new());
            pool(&mut peer, method, &announced, Duration::from_secs(60));
            peer.reuse_hash()
        };
        let (get, put, post) = (&Method::GET, &Method::PUT, &Method::POST);
        assert_eq!(hash(get, None), hash(put, None));
        assert_ne!(hash(get, None), hash(post, None));
        assert_eq!(hash(post, None), hash(&Method::PATCH, Some("timeout=5")));
        assert_ne!(hash(get, Some("timeout=2")), hash(post, Some("timeout=2")));
        assert_ne!(hash(get, None), hash(get, Some("timeout=5")));
        for method in [get, post] {
            assert_ne!(hash(method, Some("timeout=1")), hash(method, Some("timeout=1")));
        }
    }
}
