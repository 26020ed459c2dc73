//! The front: accepts connections, reads request heads under limits, answers
//! the plain case itself, and hands everything else to pingora's `HttpProxy`.
//!
//! ```text
//! Listeners::bind ── run ──┬── serve (a task per connection)
//!                          │     read a head       head, refusal
//!                          │     plain?  ──────────  Door::plain, reply
//!                          │     otherwise  ───────  Door::long_way, withhold, through
//!                          └── drain                 shutdown
//! ```
//!
//! What the answer to a request is, is not known here: that is the [`Door`]'s.
//! And whatever is not byte for byte plain goes the long way, so that there is
//! one opinion on framing.
//!
//! TLS will be another kind of stream in `socket`, and a connection that
//! negotiated HTTP/2 will go to the door whole, before `connection::serve`;
//! nothing above the socket knows that it is TCP.

mod connection;
mod head;
mod listener;
mod refusal;
mod reply;
mod shutdown;
mod socket;
#[cfg(test)]
mod tests;
mod through;
mod timer;
mod withhold;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

pub use head::Version;
pub use listener::{BindError, Listeners};
pub use reply::{Parts, Reply, Request, Sent};
pub use shutdown::{Shutdown, Trigger, shutdown};
pub use through::{stream_of, suit_http10, through};
pub use withhold::Withhold;

use crate::config::Limits;
use crate::rules::cache_status::Failure;
use listener::Acceptor;
use socket::Socket;

/// What stands behind the front.
pub trait Door: Send + Sync + 'static {
    /// What [`Door::plain`] wants back in [`Door::served`]: all that log and metrics need, for
    /// the request is gone by then. Small, and `()` where nothing is wanted.
    type Token: Send;

    /// What is held while a connection is open: a guard that counts, or `()`.
    type Open: Send;

    /// A visitor connected.
    fn opened(&self) -> Self::Open;

    /// Answers a plain request if that needs no waiting. None: not plain after all; what was
    /// written into `reply` is thrown away and the request takes the long way.
    fn plain(&self, request: &Request<'_>, reply: &mut Reply<'_>) -> Option<Self::Token>;

    /// A reply was written, or could not be.
    fn served(&self, token: Self::Token, sent: Sent);

    /// The front answered a request with `status` itself, and closes the connection.
    fn refused(&self, peer: SocketAddr, why: Failure, status: u16);

    /// Takes a request the long way: mostly [`through`]. Returning the stream keeps the
    /// connection. Whatever becomes of the stream, the front sees to its proper end.
    fn long_way(&self, stream: Withhold) -> impl Future<Output = Option<Withhold>> + Send;
}

/// What all connections share.
struct Shared<D> {
    door: Arc<D>,
    limits: Arc<ArcSwap<Limits>>,
    shutdown: Shutdown,
}

/// How [`run`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Connections with a request in flight that were cut off when time was up; zero after a
    /// clean stop.
    pub cut_off: usize,
}

/// How long accepting rests when the system is out of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// How soon a higher `max_connections` is noticed when the present one is reached.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Accepts and serves connections until `shutdown`, on the runtime this is called on.
///
/// Then the listeners close, idle connections end at once, and requests in flight may take up to
/// `patience`, which is asked then. `limits` may be replaced at any time: the next request of any connection obeys the
/// new ones.
///
/// # Errors
/// The listeners can't be handed to the runtime.
pub async fn run<D: Door>(
    listeners: Listeners,
    door: Arc<D>,
    limits: Arc<ArcSwap<Limits>>,
    shutdown: Shutdown,
    patience: impl Fn() -> Duration,
) -> io::Result<Summary> {
    let mut acceptor = Acceptor::new(listeners)?;
    let shared = Arc::new(Shared { door, limits, shutdown: shutdown.clone() });
    let mut connections = JoinSet::new();
    let mut resting: Option<Instant> = None;
    let begun = shutdown.begun();
    tokio::pin!(begun);
    loop {
        // Who comes above the limit waits in the listen queue, and costs nothing there.
        let has_room = connections.len() < shared.limits.load().max_connections.max(1);
        tokio::select! {
            biased;
            () = &mut begun => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                note(ended);
                while let Some(ended) = connections.try_join_next() {
                    note(ended);
                }
            }
            // The limit may be raised while everyone stays.
            () = sleep(LOOK_AGAIN), if !has_room => {}
            () = sleep_until(resting.unwrap_or_else(Instant::now)), if resting.is_some() => {
                resting = None;
            }
            accepted = poll_fn(|cx| acceptor.poll_accept(cx)), if has_room && resting.is_none() => {
                match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(admit(stream, peer, Arc::clone(&shared)));
                    }
                    Err(error) if listener::is_exhaustion(&error) => {
                        tracing::warn!(%error, open = connections.len(), "cannot accept connections");
                        resting = Some(Instant::now() + REST);
                    }
                    // The visitor was gone before they were accepted.
                    Err(error) => tracing::debug!(%error, "a connection was not accepted"),
                }
            }
        }
    }
    drop(acceptor);
    Ok(drain(connections, patience()).await)
}

/// Waits for the connections in flight, and cuts off those that take too long.
async fn drain(mut connections: JoinSet<()>, patience: Duration) -> Summary {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(patience, all).await.is_ok() {
        return Summary { cut_off: 0 };
    }
    let cut_off = connections.len();
    tracing::warn!(cut_off, "requests in flight took too long to end");
    connections.shutdown().await;
    Summary { cut_off }
}

async fn admit<D: Door>(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared<D>>) {
    // Each response is written in one piece: there is nothing to wait for.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "the visitor left before anything was read");
        return;
    }
    let _open = shared.door.opened();
    connection::serve(Socket::new(stream, peer), shared).await;
}

/// A connection's task ended; by itself, unless there is a bug.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}
