//! The servers of an origin: their addresses, their health, and which one is next.
//!
//! Round robin over the healthy ones. When none is healthy an unhealthy one is
//! tried all the same, as Envoy's panic mode does and unlike nginx's "no live
//! upstreams": a health check can be wrong, there is nothing better to do with
//! the request, and it is the breaker that keeps a dead origin from being
//! asked too often.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::backend::{Backend, Rank, Target, literal};
use super::breaker::Checks;
use super::health;
use super::pool::Connector;
use crate::config;
use crate::rules::cache_status::Failure;

/// The servers of one origin.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) config: Arc<config::Origin>,
    connector: Arc<Connector>,
    /// The addresses of each configured server; none: not known yet.
    found: Mutex<Vec<Found>>,
    /// All of them, in order. Swapped whole.
    list: ArcSwap<Vec<Arc<Backend>>>,
    /// Whether there are addresses, or every name was asked for at least once.
    settled: watch::Sender<bool>,
    /// Round robin.
    turn: AtomicUsize,
}

#[derive(Clone, Debug)]
enum Found {
    Pending,
    Nothing,
    Addresses(Vec<SocketAddr>),
}

/// The health of one server address, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHealth {
    /// The address.
    pub address: SocketAddr,
    /// Whether it takes its turn.
    pub healthy: bool,
}

impl Servers {
    /// The servers as configured. IP literals are known at once; for names
    /// somebody has to call [`resolved`](Self::resolved).
    pub(super) fn new(config: Arc<config::Origin>, connector: Arc<Connector>) -> Arc<Self> {
        let found = config.servers.iter().map(|server| {
            literal(&server.host, server.port)
                .map_or(Found::Pending, |address| Found::Addresses(vec![address]))
        });
        let servers = Arc::new(Self {
            found: Mutex::new(found.collect()),
            config,
            connector,
            list: ArcSwap::default(),
            settled: watch::Sender::new(false),
            turn: AtomicUsize::new(0),
        });
        servers.rebuild(&servers.found.lock());
        servers
    }

    pub(super) fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    #[cfg(test)]
    pub(super) fn list(&self) -> Arc<Vec<Arc<Backend>>> {
        self.list.load_full()
    }

    /// Whether server `index` has to be resolved.
    pub(super) fn is_name(&self, index: usize) -> bool {
        let server = &self.config.servers[index];
        literal(&server.host, server.port).is_none()
    }

    /// Takes the addresses (not empty) of server `index`. Those known already
    /// keep their health.
    pub(super) fn resolved(&self, index: usize, addresses: Vec<SocketAddr>) {
        let mut found = self.found.lock();
        match &found[index] {
            Found::Addresses(known) if *known == addresses => return,
            _ => {}
        }
        tracing::info!(
            origin = %self.config.name, host = %self.config.servers[index].host, ?addresses,
            "the name resolves to new addresses"
        );
        found[index] = Found::Addresses(addresses);
        self.rebuild(&found);
    }

    /// The lookup of server `index` failed: what is known stays.
    pub(super) fn unresolved(&self, index: usize) {
        let mut found = self.found.lock();
        if matches!(found[index], Found::Pending) {
            found[index] = Found::Nothing;
            self.rebuild(&found);
        }
    }

    /// Makes the list from what was found. The caller holds the lock.
    fn rebuild(&self, found: &[Found]) {
        let old = self.list.load();
        let mut list: Vec<Arc<Backend>> = Vec::new();
        for (index, found) in found.iter().enumerate() {
            let Found::Addresses(addresses) = found else { continue };
            for &address in addresses {
                let server = &self.config.servers[index];
                // Two names for one server do not double its share.
                let twice = list.iter().any(|backend| {
                    backend.address() == address && self.config.servers[backend.index()] == *server
                });
                if twice {
                    continue;
                }
                let known = old.iter().find(|b| b.index() == index && b.address() == address);
                list.push(known.map_or_else(|| self.backend(index, address), Arc::clone));
            }
        }
        let settled = !list.is_empty() || !found.iter().any(|f| matches!(f, Found::Pending));
        self.list.store(Arc::new(list));
        self.settled.send_replace(settled);
    }

    fn backend(&self, index: usize, address: SocketAddr) -> Arc<Backend> {
        let backend = Arc::new(Backend::new(&self.config, index, address));
        if let Some(health) = &self.config.health {
            let task = health::watch(&backend, health.clone(), &self.config, &self.connector);
            backend.keep_check(task);
        }
        backend
    }

    /// Waits until there are addresses, or none are to be had.
    pub(super) async fn settled(&self, deadline: Instant) -> Result<(), Failure> {
        if self.list.load().is_empty() {
            let mut settled = self.settled.subscribe();
            let waited = timeout_at(deadline, settled.wait_for(|settled| *settled)).await;
            waited.map_err(|_elapsed| Failure::Timeout)?.map_err(|_closed| Failure::Dns)?;
        }
        if self.list.load().is_empty() { Err(Failure::Dns) } else { Ok(()) }
    }

    /// The next one, as [`pick`](Self::pick), once there are addresses.
    pub(super) async fn target(
        &self,
        not: &[SocketAddr],
        deadline: Instant,
    ) -> Result<Target, Failure> {
        self.settled(deadline).await?;
        let backend = self.pick(not, Instant::now())?;
        Ok(Target { backend, keepalive: self.config.keepalive })
    }

    /// The next one, without those in `not`.
    pub(super) fn pick(&self, not: &[SocketAddr], now: Instant) -> Result<Arc<Backend>, Failure> {
        let list = self.list.load();
        if list.is_empty() {
            return Err(Failure::Dns);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // The best rank that anyone has, and of those who have it the next one
        // in turn: counted over those only, so that the neighbour of one that
        // is down does not get a double share.
        for rank in [Rank::Up, Rank::Down, Rank::CheckFailed] {
            let fits = |b: &&Arc<Backend>| !not.contains(&b.address()) && b.rank(now) == rank;
            let count = list.iter().filter(fits).count();
            // Ranks may change between the two passes, then the first in the list does.
            let Some(place) = turn.checked_rem(count) else { continue };
            let picked = list.iter().filter(fits).nth(place);
            if let Some(backend) =
                picked.or_else(|| list.iter().find(|b| !not.contains(&b.address())))
            {
                backend.claim(now);
                return Ok(backend.clone());
            }
        }
        Err(Failure::Unhealthy)
    }

    /// What the active checks say of all servers together.
    pub(super) fn checks(&self) -> Checks {
        if self.config.health.is_none() {
            return Checks::None;
        }
        if self.list.load().iter().any(|backend| backend.passed_check()) {
            Checks::Pass
        } else {
            Checks::Fail
        }
    }

    pub(super) fn health(&self, now: Instant) -> Vec<ServerHealth> {
        let list = self.list.load();
        let health = list.iter().map(|backend| ServerHealth {
            address: backend.address(),
            healthy: backend.rank(now) == Rank::Up,
        });
        health.collect()
    }
}

#[cfg(test)]
mod tests {

    use std::time::Duration;

    use super::super::tests::{config, connector};
    use super::*;

    fn servers(urls: &[&str]) -> Arc<Servers> {
        Servers::new(Arc::new(config(urls)), connector())
    }

    const THREE: &[&str] = &["http://192.0.2.1:80", "http://192.0.2.2:80", "http://192.0.2.3:80"];

    fn picks(servers: &Servers, not: &[SocketAddr], count: usize) -> Vec<u8> {
        let picks = (0..count).map(|_| {
            let picked = servers.pick(not, Instant::now()).unwrap().address();
            let std::net::IpAddr::V4(ip) = picked.ip() else { panic!("{picked}") };
            ip.octets()[3]
        });
        picks.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn round_robin_over_the_healthy() {
        let servers = servers(THREE);
        assert_eq!(picks(&servers, &[], 6), [1, 2, 3, 1, 2, 3]);
        let list = servers.list();
        list[1].failed(Instant::now());
        let fair = picks(&servers, &[], 6);
        assert_eq!(fair.iter().filter(|&&n| n == 1).count(), 3, "{fair:?}");
        assert_eq!(fair.iter().filter(|&&n| n == 3).count(), 3, "{fair:?}");
        list[1].connected();
        assert_eq!(picks(&servers, &[], 6), [1, 2, 3, 1, 2, 3]);
        // Those that failed in this attempt are out, healthy or not.
        let not = [list[0].address(), list[1].address()];
        assert_eq!(picks(&servers, &not, 2), [3, 3]);
        let all: Vec<_> = list.iter().map(|b| b.address()).collect();
        assert_eq!(servers.pick(&all, Instant::now()).unwrap_err(), Failure::Unhealthy);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_down_is_tried_by_one_at_a_time_and_later_each_time() {
        let servers = servers(&THREE[..2]);
        let list = servers.list();
        for down in [1, 2, 4, 8, 16, 30, 30] {
            // Many fail at once: it counts once.
            for _ in 0..20 {
                list[0].failed(Instant::now());
            }
            tokio::time::advance(Duration::from_secs(down) - Duration::from_millis(1)).await;
            assert_eq!(picks(&servers, &[], 2), [2, 2], "down for {down} s");
            tokio::time::advance(Duration::from_millis(1)).await;
            let mut tried = picks(&servers, &[], 4);
            tried.sort_unstable();
            assert_eq!(tried, [1, 2, 2, 2], "one tries, the others stay away");
        }
        list[0].connected();
        assert_eq!(picks(&servers, &[], 4).iter().filter(|&&n| n == 1).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_down_they_are_tried_all_the_same() {
        let servers = servers(THREE);
        let list = servers.list();
        for backend in list.iter() {
            backend.checked(Err("500".to_owned()));
        }
        assert_eq!(picks(&servers, &[], 3), [1, 2, 3], "checks can be wrong");
        // One that only failed to connect is the better guess.
        list[2].checked(Ok(()));
        list[2].failed(Instant::now());
        assert_eq!(picks(&servers, &[], 2), [3, 3]);
        // A passed check is news about connecting, too.
        list[1].failed(Instant::now());
        list[1].checked(Ok(()));
        assert_eq!(picks(&servers, &[], 2), [2, 2]);
        let healthy: Vec<_> =
            servers.health(Instant::now()).iter().map(|server| server.healthy).collect();
        assert_eq!(healthy, [false, true, false]);
    }

    #[tokio::test]
    async fn the_same_server_twice_is_one() {
        let servers = servers(&["http://192.0.2.1:80", "http://192.0.2.1:80"]);
        assert_eq!(servers.list().len(), 1);
    }
}
