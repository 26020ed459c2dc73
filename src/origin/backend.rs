//! One server: how to connect to it, and what is known of its health.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, Method};
use parking_lot::Mutex;
use pingora::protocols::{ALPN, TcpKeepalive};
use pingora::upstreams::peer::HttpPeer;
use tokio::time::Instant;

use super::keepalive::{self, Announced};
use super::task::Task;
use crate::config;
use crate::rules::cache_status::Failure;

/// How long a server is left alone after connecting failed for the first
/// time; it doubles with every failed try up to [`MAX_DOWN`].
const MIN_DOWN: Duration = Duration::from_secs(1);

/// The longest time that a server is left alone.
const MAX_DOWN: Duration = Duration::from_secs(30);

/// One address of a server.
#[derive(Debug)]
pub(super) struct Backend {
    /// The origin's name, for logs.
    origin: String,
    /// Index of the configured server.
    index: usize,
    address: SocketAddr,
    /// Ready to be cloned: with name, address, TLS and timeouts.
    peer: HttpPeer,
    connect_timeout: Duration,
    standing: Mutex<Standing>,
    announced: Announced,
    /// The task of the active health check, if there is one. It ends with this.
    check: OnceLock<Task>,
}

/// What is known about the health of an address.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// How the last active check went.
    check: Check,
    /// Tries to connect that failed in a row.
    failures: u32,
    /// Left alone until then. Set as long as `failures` is not 0.
    down_until: Option<Instant>,
    /// Somebody is trying whether it is up again.
    probing: bool,
}

/// How the last active check of a server went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Check {
    /// There was none yet.
    #[default]
    Unknown,
    Passed,
    Failed,
}

/// A server to connect to.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) backend: Arc<Backend>,
    /// How long an idle connection to it is kept, at most.
    pub(super) keepalive: Duration,
}

/// How good a choice a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// Nothing speaks against it.
    Up,
    /// Connecting failed a short time ago.
    Down,
    /// Its last health check failed.
    CheckFailed,
}

impl Standing {
    fn rank(&self, now: Instant) -> Rank {
        match self {
            Self { check: Check::Failed, .. } => Rank::CheckFailed,
            Self { down_until: Some(until), .. } if *until > now => Rank::Down,
            _ => Rank::Up,
        }
    }
}

impl Backend {
    /// The server at `address` of the configured server `index`.
    pub(super) fn new(config: &config::Origin, index: usize, address: SocketAddr) -> Self {
        Self {
            origin: config.name.clone(),
            index,
            address,
            peer: peer(config, index, address),
            connect_timeout: config.connect_timeout,
            standing: Mutex::default(),
            announced: Announced::default(),
            check: OnceLock::new(),
        }
    }

    /// Keeps the task of its health check, which ends with it. Only the first one counts.
    pub(super) fn keep_check(&self, task: Task) {
        let _ = self.check.set(task);
    }

    /// How good a choice it is now.
    pub(super) fn rank(&self, now: Instant) -> Rank {
        self.standing.lock().rank(now)
    }

    /// Whether its last health check passed.
    pub(super) fn passed_check(&self) -> bool {
        self.standing.lock().check == Check::Passed
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn peer(&self) -> &HttpPeer {
        &self.peer
    }

    pub(super) fn announced(&self) -> &Announced {
        &self.announced
    }

    /// Somebody is about to connect. When the server was down until now, it is
    /// one who tries whether it is up again: the others stay away meanwhile.
    pub(super) fn claim(&self, now: Instant) {
        let mut standing = self.standing.lock();
        if standing.down_until.is_some_and(|until| until <= now) {
            standing.probing = true;
            standing.down_until = Some(now + self.connect_timeout);
        }
    }

    /// Connecting worked.
    pub(super) fn connected(&self) {
        let mut standing = self.standing.lock();
        if standing.failures > 0 {
            tracing::info!(origin = %self.origin, server = %self.address, "server is up again");
            *standing = Standing { check: standing.check, ..Standing::default() };
        }
    }

    /// Connecting failed.
    pub(super) fn failed(&self, now: Instant) {
        let mut standing = self.standing.lock();
        let known = standing.down_until.is_some_and(|until| until > now);
        if known && !standing.probing {
            // One of many that were under way when it went down, or one that
            // had no other choice: nothing new.
            return;
        }
        if standing.failures == 0 {
            tracing::warn!(origin = %self.origin, server = %self.address, "server is down: connecting failed");
        }
        let down = MIN_DOWN.saturating_mul(1 << standing.failures.min(5)).min(MAX_DOWN);
        standing.failures = standing.failures.saturating_add(1);
        standing.down_until = Some(now + down);
        standing.probing = false;
    }

    /// An active check passed or failed, and why.
    pub(super) fn checked(&self, result: Result<(), String>) {
        let mut standing = self.standing.lock();
        match result {
            Ok(()) => {
                if standing.check == Check::Failed || standing.failures > 0 {
                    tracing::info!(origin = %self.origin, server = %self.address, "server is healthy again");
                }
                *standing = Standing { check: Check::Passed, ..Standing::default() };
            }
            Err(why) => {
                if standing.check != Check::Failed {
                    tracing::warn!(origin = %self.origin, server = %self.address, %why, "server failed its health check");
                }
                standing.check = Check::Failed;
            }
        }
    }
}

/// How to connect to an address of server `index`.
fn peer(config: &config::Origin, index: usize, address: SocketAddr) -> HttpPeer {
    let server = &config.servers[index];
    let name = if server.tls { tls_name(config, server) } else { String::new() };
    // From a `SocketAddr` this resolves nothing and cannot fail.
    let mut peer = HttpPeer::new(address, server.tls, name);
    let options = &mut peer.options;
    options.connection_timeout = Some(config.connect_timeout);
    options.total_connection_timeout = Some(config.connect_timeout);
    options.read_timeout = Some(config.idle_timeout);
    options.write_timeout = Some(config.idle_timeout);
    options.idle_timeout = Some(config.keepalive);
    options.verify_cert = true;
    options.verify_hostname = true;
    options.alpn = ALPN::H1;
    // A server that vanished without a word is noticed within a minute and a half.
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::ZERO,
    });
    peer
}

/// The name that is sent as SNI and that the certificate must be for: the
/// server's. Where that is an address, the configured `host:` if there is one,
/// as certificates for addresses are rare. Never empty, which pingora would
/// take for "do not verify".
fn tls_name(config: &config::Origin, server: &config::Server) -> String {
    if let config::HostField::Name(name) = &config.host
        && literal(&server.host, server.port).is_some()
    {
        // Without its port. An IPv6 literal gives nothing useful here.
        let host = name.split(':').next().unwrap_or_default();
        if !host.is_empty() && !host.starts_with('[') {
            return host.to_owned();
        }
    }
    server.host.clone()
}

/// The address of a host that is an IP literal (IPv6 without brackets) and
/// needs no resolver.
pub(super) fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port))
}

impl Target {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    /// For pingora's `upstream_peer`, and a request with this method. Then tell
    /// [`connected`](Self::connected) or [`failed`](Self::failed) in
    /// `connected_to_upstream` and `fail_to_connect`.
    #[must_use]
    pub fn peer(&self, method: &Method) -> Box<HttpPeer> {
        let mut peer = self.backend.peer().clone();
        keepalive::pool(&mut peer, method, self.backend.announced(), self.keepalive);
        Box::new(peer)
    }

    /// It answered with these fields: they may say how long it keeps connections.
    pub fn answered(&self, headers: &HeaderMap) {
        self.backend.announced().learn(headers);
    }

    /// Connecting to it worked: it is up.
    pub fn connected(&self) {
        self.backend.connected();
    }

    /// Connecting to it failed: it is left alone for a short, growing time, unless
    /// the fault was ours.
    pub fn failed(&self, why: Failure) {
        if why != Failure::Unavailable {
            self.backend.failed(Instant::now());
        }
    }

    pub(super) fn http_peer(&self) -> &HttpPeer {
        self.backend.peer()
    }
}

#[cfg(test)]
mod tests {
    use pingora::upstreams::peer::Peer;

    use super::super::tests::config;
    use super::*;

    #[test]
    fn literals_need_no_resolver() {
        assert_eq!(literal("192.0.2.1", 80), Some(([192, 0, 2, 1], 80).into()));
        assert_eq!(literal("::1", 8080), Some("[::1]:8080".parse().unwrap()));
        assert_eq!(literal("localhost", 80), None);
    }

    #[test]
    fn peers_carry_name_and_timeouts() {
        let config = config(&["https://[2001:db8::1]:443"]);
        let address = "[2001:db8::1]:443".parse().unwrap();
        let peer = peer(&config, 0, address);
        assert_eq!(peer.address().as_inet(), Some(&address));
        assert!(peer.is_tls() && peer.verify_cert() && peer.verify_hostname());
        assert_eq!(peer.sni(), "2001:db8::1");
        assert_eq!(peer.connection_timeout(), Some(config.connect_timeout));
        assert_eq!(peer.total_connection_timeout(), Some(config.connect_timeout));
        assert_eq!(peer.options.read_timeout, Some(config.idle_timeout));
        assert_eq!(peer.idle_timeout(), Some(config.keepalive));
    }

    /// server, `host:`, SNI
    #[test]
    fn the_name_for_tls() {
        for (server, host, expected) in [
            ("https://origin.example:443", None, "origin.example"),
            ("https://origin.example:443", Some("www.example.com"), "origin.example"),
            ("https://192.0.2.1:443", None, "192.0.2.1"),
            ("https://192.0.2.1:443", Some("www.example.com"), "www.example.com"),
            ("https://192.0.2.1:443", Some("www.example.com:8443"), "www.example.com"),
            ("https://192.0.2.1:443", Some(""), "192.0.2.1"),
            ("https://192.0.2.1:443", Some("[::1]:443"), "192.0.2.1"),
            ("https://192.0.2.1:443", Some("::1"), "192.0.2.1"),
        ] {
            let mut config = config(&[server]);
            if let Some(host) = host {
                config.host = config::HostField::Name(host.to_owned());
            }
            assert_eq!(tls_name(&config, &config.servers[0]), expected, "{server} {host:?}");
        }
    }
}
