//! Names to addresses, asynchronously and again and again.
//!
//! The addresses of a name are asked for by one task per name, which hands
//! them to [`Servers`]. A lookup that fails changes nothing: the last good
//! addresses stay.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{sleep, timeout};

use super::servers::Servers;
use super::task::{Task, jittered};

/// How long a lookup may take before it counts as failed. The system's own
/// bound (`resolv.conf`) is often tens of seconds.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The first wait after a failed lookup; it doubles up to [`MAX_RETRY`] or
/// `resolve_interval`, whichever is shorter.
const MIN_RETRY: Duration = Duration::from_secs(1);

/// The longest wait after a failed lookup.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Addresses of one name that are used; a name with more is a mistake or an attack.
const MAX_ADDRESSES: usize = 64;

/// Asks for the addresses of a name.
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync {
    /// The addresses of `host`, with `port`.
    ///
    /// # Errors
    ///
    /// Whatever kept it from finding any.
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver, on tokio's blocking threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

#[async_trait]
impl Resolve for System {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// Starts the task that keeps the addresses of the name of server `index` up
/// to date, until the task or the servers are dropped.
pub(super) fn keep(
    servers: &Arc<Servers>,
    index: usize,
    resolver: Arc<dyn Resolve>,
    interval: Duration,
) -> Task {
    let server = &servers.config.servers[index];
    let (host, port) = (server.host.clone(), server.port);
    let name = servers.config.name.clone();
    let servers = Arc::downgrade(servers);
    Task::spawn(async move {
        let mut failures = 0u32;
        loop {
            let failure = ask(&servers, index, &*resolver, &host, port).await;
            let wait = match failure {
                None => {
                    if failures > 0 {
                        tracing::info!(origin = %name, %host, "the name resolves again");
                    }
                    failures = 0;
                    interval
                }
                Some(error) => {
                    if failures == 0 {
                        tracing::warn!(
                            origin = %name, %host, %error,
                            "the name does not resolve; its last good addresses stay"
                        );
                    }
                    let wait = MIN_RETRY.saturating_mul(1 << failures.min(5));
                    failures = failures.saturating_add(1);
                    wait.min(MAX_RETRY).min(interval)
                }
            };
            sleep(jittered(wait)).await;
        }
    })
}

/// One lookup; the error that kept it from finding an address, if any.
async fn ask(
    servers: &Weak<Servers>,
    index: usize,
    resolver: &dyn Resolve,
    host: &str,
    port: u16,
) -> Option<io::Error> {
    let settle = |found: io::Result<Vec<SocketAddr>>| {
        let found = found.and_then(|mut addresses| {
            // Sorted, because DNS shuffles its answers and round robin is ours to do.
            addresses.sort_unstable();
            addresses.dedup();
            addresses.truncate(MAX_ADDRESSES);
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no addresses"));
            }
            Ok(addresses)
        });
        let servers = servers.upgrade()?;
        match found {
            Ok(addresses) => {
                servers.resolved(index, addresses);
                None
            }
            Err(error) => {
                servers.unresolved(index);
                Some(error)
            }
        }
    };
    let mut lookup = resolver.lookup(host, port);
    match timeout(LOOKUP_TIMEOUT, &mut lookup).await {
        Ok(found) => settle(found),
        Err(_elapsed) => {
            // Those who wait for a first answer need not wait longer. But the
            // system's lookup holds a thread until it ends, so no second one
            // is started before, and a late answer is as good as any.
            settle(Err(io::ErrorKind::TimedOut.into()));
            settle(lookup.await)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use parking_lot::Mutex;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::super::tests::{config, connector};
    use super::*;
    use crate::rules::cache_status::Failure;

    /// Answers a lookup with what the test has laid ready, and says that it did.
    #[derive(Debug)]
    struct Scripted {
        answers: Mutex<VecDeque<io::Result<Vec<SocketAddr>>>>,
        asked: mpsc::UnboundedSender<Instant>,
    }

    #[async_trait]
    impl Resolve for Scripted {
        async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            assert_eq!((host, port), ("origin.example", 80));
            self.asked.send(Instant::now()).expect("the test listens");
            let answer = self.answers.lock().pop_front();
            match answer {
                Some(answer) => answer,
                // A lookup that hangs.
                None => std::future::pending().await,
            }
        }
    }

    fn scripted(
        answers: impl IntoIterator<Item = io::Result<Vec<SocketAddr>>>,
    ) -> (Arc<Servers>, Task, mpsc::UnboundedReceiver<Instant>) {
        let (asked, heard) = mpsc::unbounded_channel();
        let resolver =
            Arc::new(Scripted { answers: Mutex::new(answers.into_iter().collect()), asked });
        let config = Arc::new(config(&["http://origin.example:80"]));
        let interval = config.resolve_interval;
        let servers = Servers::new(config, connector());
        let task = keep(&servers, 0, resolver, interval);
        (servers, task, heard)
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 80))
    }

    fn refused() -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn addresses(servers: &Servers) -> Vec<SocketAddr> {
        servers.list().iter().map(|backend| backend.address()).collect()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test(start_paused = true)]
    async fn follows_dns_and_keeps_the_last_good_addresses_when_it_fails() {
        let (servers, _task, mut asked) = scripted([
            Ok(vec![address(2), address(1), address(2)]),
            refused(),
            Ok(vec![]),
            Ok(vec![address(2), address(3)]),
        ]);
        servers.settled(soon()).await.unwrap();
        assert_eq!(addresses(&servers), [address(1), address(2)]);
        let kept = servers.list()[1].clone();

        asked.recv().await.unwrap();
        for _failing in 0..2 {
            asked.recv().await.unwrap();
            tokio::task::yield_now().await;
            assert_eq!(addresses(&servers), [address(1), address(2)]);
        }
        asked.recv().await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(addresses(&servers), [address(2), address(3)]);
        assert!(Arc::ptr_eq(&kept, &servers.list()[0]), "its health is carried over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_never_resolved_is_a_dns_failure_and_asked_again_soon() {
        let (servers, _task, mut asked) = scripted([refused(), refused(), Ok(vec![address(1)])]);
        assert_eq!(servers.settled(soon()).await, Err(Failure::Dns));
        let mut last = asked.recv().await.unwrap();
        for most in [2, 4] {
            let next = asked.recv().await.unwrap();
            assert!(next - last <= Duration::from_secs(most), "waited {:?}", next - last);
            last = next;
        }
        tokio::task::yield_now().await;
        assert_eq!(servers.settled(soon()).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_hangs_is_bounded_and_not_doubled() {
        let (servers, _task, mut asked) = scripted([]);
        let began = Instant::now();
        assert_eq!(servers.settled(soon()).await, Err(Failure::Dns));
        assert_eq!(began.elapsed(), LOOKUP_TIMEOUT);
        asked.recv().await.unwrap();
        let hour = timeout(Duration::from_secs(3600), asked.recv()).await;
        assert!(hour.is_err(), "one thread of the system's resolver, not one per try");

        let (servers, _task, _asked) = scripted([]);
        let soon = Instant::now() + Duration::from_secs(1);
        assert_eq!(servers.settled(soon).await, Err(Failure::Timeout));
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_task_ends_it() {
        let (servers, task, mut asked) = scripted([refused()]);
        assert_eq!(servers.settled(soon()).await, Err(Failure::Dns));
        asked.recv().await.unwrap();
        drop(task);
        assert_eq!(asked.recv().await, None, "the resolver went with the task");
    }

    #[tokio::test]
    async fn the_system_resolves_localhost() {
        let found = System.lookup("localhost", 80).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
    }
}
