//! The front: accepts connections, reads request heads under limits, answers
//! the plain case itself, and hands everything else to pingora's `HttpProxy`.
//!
//! ```text
//! Listeners::bind ── run ──┬── serve (a task per connection)   crowd, places
//!                          │     read a head       head, refusal
//!                          │     plain?  ──────────  Handler::plain, reply
//!                          │       it waits  ──────  Handler::wait, withhold
//!                          │     otherwise  ───────  Handler::long_way, withhold, through
//!                          └── drain                 shutdown
//! ```
//!
//! What the answer to a request is, is not known here: that is the [`Handler`]'s.
//! And whatever is not byte for byte plain goes the long way, so that there is
//! one opinion on framing.
//!
//! TLS will be another kind of stream in `socket`, and a connection that
//! negotiated HTTP/2 will go to the handler whole, before `connection::serve`;
//! nothing above the socket knows that it is TCP.

mod connection;
mod crowd;
mod departure;
mod descriptors;
mod handler;
mod head;
mod listener;
mod places;
mod refusal;
mod reply;
mod response;
mod shutdown;
mod slot;
mod socket;
#[cfg(test)]
mod tests;
mod through;
mod timer;
mod withhold;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, sleep, sleep_until};

pub use crowd::Summary;
pub use descriptors::raise_descriptor_limit;
pub use handler::Handler;
pub use head::Version;
pub use listener::{BindError, Listeners};
pub(crate) use refusal::ALLOWED;
pub use reply::{Parts, Plain, Reply, Request, Sent};
pub use shutdown::{Shutdown, Trigger, shutdown};
pub use through::{left, stream_of, suit_http10, through};
pub use withhold::Withhold;

use crate::config::Limits;
use crate::relief::Relief;
use crowd::Crowd;
use handler::Shared;
use listener::Acceptor;
use places::Room;

/// How long accepting rests when the system is out of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// Connections that give way at once where descriptors are asked for: the next ones who need
/// one find it.
const GIVE_WAY: usize = 4;

/// How soon it is looked again for a connection that may give way.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Accepts and serves connections until `shutdown`, on the runtime this is called on.
///
/// Above `max_connections` the one that has waited longest for a request gives way to the next;
/// where all have a request in flight, who comes waits. At the end the listeners close, idle
/// connections end at once, and requests in flight may take up to `patience`, which is asked
/// then. `limits` may be replaced at any time: the next request of any connection obeys the new
/// ones. Who asks for descriptors at `relief` gets those of the connections that have waited
/// longest for a request.
///
/// # Errors
/// The listeners can't be handed to the runtime.
pub async fn run<D: Handler>(
    listeners: Listeners,
    handler: Arc<D>,
    limits: Arc<ArcSwap<Limits>>,
    relief: Relief,
    shutdown: Shutdown,
    patience: impl Fn() -> Duration,
) -> io::Result<Summary> {
    let mut acceptor = Acceptor::new(listeners)?;
    let room = Room::new();
    let shared = Arc::new(Shared { handler, limits, shutdown: shutdown.clone(), room });
    let mut crowd = Crowd::new(shared);
    let mut shortage = Shortage::default();
    let mut resting: Option<Instant> = None;
    // It rests because what is free is for who asked at `relief`, and not for the next who comes.
    let mut gives = false;
    let begun = shutdown.begun();
    tokio::pin!(begun);
    loop {
        crowd.seat();
        let accepts = !crowd.is_anyone_outside() && resting.is_none();
        tokio::select! {
            biased;
            () = &mut begun => break,
            () = crowd.ended(), if !crowd.is_empty() => {
                if !crowd.is_anyone_leaving() {
                    relief.given();
                }
                if !gives {
                    resting = None;
                }
            }
            asking = relief.asked() => {
                if crowd.give_way(asking.max(GIVE_WAY)) {
                    (resting, gives) = (Some(Instant::now() + REST), true);
                }
            }
            // A connection may have begun to wait, or the limit been raised.
            () = sleep(LOOK_AGAIN), if crowd.is_anyone_outside() => {}
            () = sleep_until(resting.unwrap_or_else(Instant::now)), if resting.is_some() => {
                (resting, gives) = (None, false);
            }
            accepted = poll_fn(|cx| acceptor.poll_accept(cx)), if accepts => {
                match accepted {
                    Ok((stream, peer)) => crowd.came(stream, peer),
                    Err(error) if listener::is_exhaustion(&error) => {
                        if acceptor.is_anyone_waiting() {
                            shortage.noted(&error, crowd.len());
                            // What one of them holds is free in a moment.
                            crowd.make_room(1);
                        }
                        resting = Some(Instant::now() + REST);
                    }
                    // The client was gone before it was accepted.
                    Err(error) => tracing::debug!(%error, "a connection was not accepted"),
                }
            }
        }
    }
    drop(acceptor);
    Ok(crowd.drain(patience()).await)
}

/// Says that no connection can be accepted, but not each time.
#[derive(Default)]
struct Shortage {
    said: Option<Instant>,
    since: u64,
}

impl Shortage {
    /// How often it is said, while it lasts.
    const PAUSE: Duration = Duration::from_secs(10);

    fn noted(&mut self, error: &io::Error, open: usize) {
        self.since += 1;
        if self.said.is_none_or(|said| said.elapsed() >= Self::PAUSE) {
            let times = std::mem::take(&mut self.since);
            tracing::warn!(%error, open, times, "cannot accept connections");
            self.said = Some(Instant::now());
        }
    }
}
