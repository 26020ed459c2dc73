//! Connections to servers: new ones from pingora's connector, and idle ones.
//!
//! The pool is our own. pingora's hands a connection over between the task
//! that watches it and the one that wants it, and loses it when both run at
//! the same moment on different workers: of 2,000 fetches, each a task of its
//! own on two workers, 47 to 177 made a new connection (and pingora logged as
//! many errors) where one would have done for all. Here a connection is simply
//! in the pool or with its user.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::Stream;
use pingora::upstreams::peer::{HttpPeer, Peer};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::task::Task;
use crate::relief::Relief;

/// Idle connections kept over all origins; beyond, the oldest is closed. More
/// than the fills that run at once in any sensible configuration.
const MAX_IDLE: usize = 1024;

/// How often connections that expired or that their server closed are removed.
/// They are never used either way; this is about file descriptors.
const SWEEP: Duration = Duration::from_secs(1);

/// Makes connections and keeps idle ones.
pub(super) struct Connector {
    transport: TransportConnector,
    pool: Arc<Pool>,
    relief: Relief,
    /// Removes what nobody asks for. Ends with this.
    _sweeper: Task,
}

/// Idle connections, by what makes them interchangeable: [`Peer::reuse_hash`].
#[derive(Default)]
struct Pool(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    /// None of the queues is empty. The oldest comes first.
    by_peer: HashMap<u64, VecDeque<Kept>>,
    count: usize,
}

struct Kept {
    stream: Stream,
    since: Instant,
    until: Instant,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("idle", &self.pool.0.lock().count).finish()
    }
}

impl Connector {
    /// A connector that verifies servers with the certificates in `ca_file`;
    /// none: the platform's. Needs a tokio runtime.
    pub(super) fn new(ca_file: Option<String>) -> Arc<Self> {
        // Its pool is not used.
        let mut options = ConnectorOptions::new(1);
        options.ca_file = ca_file;
        let pool = Arc::new(Pool::default());
        let sweeper = Task::spawn({
            let pool = pool.clone();
            async move {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    pool.sweep(Instant::now());
                }
            }
        });
        let transport = TransportConnector::new(Some(options));
        Arc::new(Self { transport, pool, relief: Relief::default(), _sweeper: sweeper })
    }

    /// Where descriptors are asked for when there are none to connect with.
    pub(super) fn relief(&self) -> &Relief {
        &self.relief
    }

    /// A new connection, TLS included, within the timeout that `peer` carries.
    pub(super) async fn connect(&self, peer: &HttpPeer) -> pingora::Result<Stream> {
        self.transport.new_stream(peer).await
    }

    /// An idle connection that looks alive, if there is one.
    pub(super) fn reuse(&self, peer: &HttpPeer) -> Option<Stream> {
        self.pool.take(peer.reuse_hash(), Instant::now())
    }

    /// Keeps a connection for at most `keep`.
    pub(super) fn release(&self, peer: &HttpPeer, stream: Stream, keep: Duration) {
        self.pool.put(peer.reuse_hash(), stream, Instant::now(), keep, MAX_IDLE);
    }
}

impl Pool {
    fn put(&self, key: u64, mut stream: Stream, now: Instant, keep: Duration, max: usize) {
        if !is_quiet(&mut stream) {
            return;
        }
        let evicted = {
            let mut idle = self.0.lock();
            let evicted = if idle.count >= max { idle.oldest() } else { None };
            let kept = Kept { stream, since: now, until: now + keep };
            idle.by_peer.entry(key).or_default().push_back(kept);
            idle.count += 1;
            evicted
        };
        // Closed outside the lock.
        drop(evicted);
    }

    /// The youngest: it is the least likely to be closed this very moment, and
    /// those that are not needed grow old.
    fn take(&self, key: u64, now: Instant) -> Option<Stream> {
        loop {
            let mut kept = self.0.lock().youngest(key)?;
            if kept.until > now && is_quiet(&mut kept.stream) {
                return Some(kept.stream);
            }
        }
    }

    fn sweep(&self, now: Instant) {
        let mut gone = Vec::new();
        let mut idle = self.0.lock();
        for queue in idle.by_peer.values_mut() {
            let all = std::mem::take(queue);
            for mut kept in all {
                let stays = kept.until > now && is_quiet(&mut kept.stream);
                if stays { queue.push_back(kept) } else { gone.push(kept) }
            }
        }
        idle.by_peer.retain(|_, queue| !queue.is_empty());
        idle.count -= gone.len();
        drop(idle);
        // Closed outside the lock.
        drop(gone);
    }
}

impl Idle {
    fn youngest(&mut self, key: u64) -> Option<Kept> {
        let queue = self.by_peer.get_mut(&key)?;
        let kept = queue.pop_back()?;
        self.taken(key);
        Some(kept)
    }

    fn oldest(&mut self) -> Option<Kept> {
        let oldest = self.by_peer.iter().min_by_key(|(_, queue)| queue.front().map(|k| k.since));
        let key = *oldest?.0;
        let kept = self.by_peer.get_mut(&key)?.pop_front()?;
        self.taken(key);
        Some(kept)
    }

    fn taken(&mut self, key: u64) {
        self.count -= 1;
        if self.by_peer.get(&key).is_some_and(VecDeque::is_empty) {
            self.by_peer.remove(&key);
        }
    }
}

/// Whether nothing has come on an idle connection, neither its end nor bytes
/// that nobody asked for (which must never become the next response).
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0];
    // Unconstrained, or a task that used up its budget would see nothing.
    tokio::task::unconstrained(stream.read(&mut byte)).now_or_never().is_none()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const KEEP: Duration = Duration::from_secs(60);

    /// Puts one end of a connection into the pool.
    fn put(pool: &Pool, key: u64) -> DuplexStream {
        let (ours, theirs) = duplex(64);
        pool.put(key, Box::new(ours), Instant::now(), KEEP, 3);
        theirs
    }

    fn count(pool: &Pool) -> usize {
        let idle = pool.0.lock();
        assert_eq!(idle.count, idle.by_peer.values().map(VecDeque::len).sum::<usize>());
        assert!(idle.by_peer.values().all(|queue| !queue.is_empty()));
        idle.count
    }

    async fn is_closed(theirs: &mut DuplexStream) -> bool {
        let read = tokio::time::timeout(Duration::from_millis(1), theirs.read(&mut [0])).await;
        matches!(read, Ok(Ok(0)))
    }

    #[tokio::test(start_paused = true)]
    async fn the_youngest_goes_out_and_the_oldest_goes() {
        let pool = Pool::default();
        let mut first = put(&pool, 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut second = put(&pool, 2);
        let mut third = put(&pool, 2);
        assert_eq!(count(&pool), 3);
        let _fourth = put(&pool, 2);
        assert_eq!(count(&pool), 3);
        assert!(is_closed(&mut first).await, "the oldest of all, whoever it belongs to");
        assert!(pool.take(1, Instant::now()).is_none());

        drop(pool.take(2, Instant::now()));
        let taken = pool.take(2, Instant::now()).unwrap();
        assert!(!is_closed(&mut second).await && !is_closed(&mut third).await);
        drop(taken);
        assert!(is_closed(&mut third).await && !is_closed(&mut second).await);
        assert_eq!(count(&pool), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_expired_closed_or_spoke_up_is_not_used() {
        let pool = Pool::default();
        let _expires = put(&pool, 1);
        tokio::time::advance(KEEP).await;
        assert!(pool.take(1, Instant::now()).is_none());

        drop(put(&pool, 1));
        let mut speaks = put(&pool, 1);
        speaks.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        assert!(pool.take(1, Instant::now()).is_none());
        assert_eq!(count(&pool), 0);

        // Not even let in.
        let (ours, theirs) = duplex(64);
        drop(theirs);
        pool.put(1, Box::new(ours), Instant::now(), KEEP, 3);
        assert_eq!(count(&pool), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn sweeping_removes_what_nobody_asks_for() {
        let connector = Connector::new(Some(super::super::tests::testdata("localhost.pem")));
        let pool = connector.pool.clone();
        let mut stays = put(&pool, 1);
        drop(put(&pool, 1));
        assert_eq!(count(&pool), 2);
        tokio::time::sleep(SWEEP * 2).await;
        assert_eq!(count(&pool), 1);
        assert!(!is_closed(&mut stays).await);
        tokio::time::sleep(KEEP).await;
        assert_eq!(count(&pool), 0);
        assert!(is_closed(&mut stays).await);

        drop(connector);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&pool), 1, "the sweeper ended");
    }
}
