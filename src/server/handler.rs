//! What stands behind the front, and what all connections share.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::places::Room;
use super::reply::{Plain, Reply, Request, Sent};
use super::shutdown::Shutdown;
use super::withhold::Withhold;
use crate::config::Limits;
use crate::rules::cache_status::Failure;

/// What stands behind the front.
pub trait Handler: Send + Sync + 'static {
    /// What [`Handler::plain`] wants back in [`Handler::served`]: all that log and metrics need, for
    /// the request is gone by then. Small, and `()` where nothing is wanted.
    type Token: Send;

    /// What is held while a connection is open: a guard that counts, or `()`.
    type Open: Send;

    /// A visitor connected.
    fn opened(&self) -> Self::Open;

    /// What is known of a plain request whose answer has to be waited for.
    type Wait: Send;

    /// Answers a plain request if that needs no waiting. Unless it is answered, what was written
    /// into `reply` is thrown away.
    fn plain(&self, request: &Request<'_>, reply: &mut Reply<'_>)
    -> Plain<Self::Token, Self::Wait>;

    /// Answers a plain request on the connection's own task, whatever that waits for. The stream
    /// begins with its head. Returning the stream keeps the connection, as in
    /// [`long_way`](Self::long_way).
    fn wait(
        &self,
        wait: Self::Wait,
        stream: Withhold,
    ) -> impl Future<Output = Option<Withhold>> + Send;

    /// A reply was written, or could not be. `head` is that of its request, as it came.
    fn served(&self, token: Self::Token, sent: Sent, head: &[u8]);

    /// The front answered a request with `status` itself, and closes the connection.
    fn refused(&self, peer: SocketAddr, why: Failure, status: u16);

    /// Takes a request the long way: mostly [`through`](super::through). Returning the stream keeps the
    /// connection. Whatever becomes of the stream, the front sees to its proper end.
    fn long_way(&self, stream: Withhold) -> impl Future<Output = Option<Withhold>> + Send;
}

/// What all connections share.
pub(super) struct Shared<D> {
    pub(super) handler: Arc<D>,
    pub(super) limits: Arc<ArcSwap<Limits>>,
    pub(super) shutdown: Shutdown,
    pub(super) room: Room,
}
