//! All connections: who is let in, who waits outside, and how they all end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::{Id, JoinError, JoinSet};

use super::connection;
use super::handler::{Handler, Shared};
use super::places::{Place, Places};
use super::socket::Socket;

/// How [`run`](super::run) ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Connections with a request in flight that were cut off when time was up; zero after a
    /// clean stop.
    pub cut_off: usize,
}

/// The connections there are.
pub(super) struct Crowd<D> {
    shared: Arc<Shared<D>>,
    connections: JoinSet<()>,
    places: Places,
    /// Accepted while all places were taken by requests in flight. One at most: the others wait
    /// in the listen queue, and cost nothing there.
    outside: Option<(TcpStream, SocketAddr)>,
}

impl<D: Handler> Crowd<D> {
    pub(super) fn new(shared: Arc<Shared<D>>) -> Self {
        let (connections, places) = (JoinSet::new(), Places::default());
        Crowd { shared, connections, places, outside: None }
    }

    /// Connections, those included that are about to end.
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Somebody came.
    pub(super) fn came(&mut self, stream: TcpStream, peer: SocketAddr) {
        self.outside = Some((stream, peer));
    }

    /// Whether somebody waits for a place.
    pub(super) fn is_anyone_outside(&self) -> bool {
        self.outside.is_some()
    }

    /// Gives a place to who waits for one, if one is free or somebody gives way.
    pub(super) fn seat(&mut self) {
        let Some((stream, peer)) = self.outside.take() else { return };
        let most = self.shared.limits.load().max_connections.max(1);
        if self.places.len() >= most {
            // More than one where the limit was lowered.
            self.make_room(self.places.len() + 1 - most);
            if self.places.len() >= most {
                self.outside = Some((stream, peer));
                return;
            }
        }
        self.shared.room.suffices();
        let place = Arc::<Place>::default();
        let connection = admit(stream, peer, Arc::clone(&self.shared), Arc::clone(&place));
        let task = self.connections.spawn(connection);
        self.places.taken(place, task);
    }

    /// Ends connections that wait for a request, those that wait longest.
    pub(super) fn make_room(&mut self, wanted: usize) {
        self.places.make_room(&self.shared.room, wanted);
    }

    /// As [`make_room`](Self::make_room), but only of those that wait now, and less by those
    /// that are about to end already; says whether any end.
    pub(super) fn give_way(&mut self, wanted: usize) -> bool {
        let leaving = self.places.leaving();
        leaving >= wanted || self.places.give_way(wanted - leaving) + leaving > 0
    }

    /// Whether connections gave way that have yet to end.
    pub(super) fn is_anyone_leaving(&self) -> bool {
        self.places.leaving() > 0
    }

    /// Waits until a connection has ended. Cancel safe.
    pub(super) async fn ended(&mut self) {
        let mut next = self.connections.join_next_with_id().await;
        while let Some(ended) = next {
            self.places.free(note(ended));
            next = self.connections.try_join_next_with_id();
        }
    }

    /// Waits for the requests in flight, and cuts off those that take too long.
    pub(super) async fn drain(mut self, patience: Duration) -> Summary {
        drop(self.outside.take());
        let all = async {
            while let Some(ended) = self.connections.join_next_with_id().await {
                note(ended);
            }
        };
        if tokio::time::timeout(patience, all).await.is_ok() {
            return Summary { cut_off: 0 };
        }
        let cut_off = self.connections.len();
        tracing::warn!(cut_off, "requests in flight took too long to end");
        self.connections.shutdown().await;
        Summary { cut_off }
    }
}

async fn admit<D: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared<D>>,
    place: Arc<Place>,
) {
    // Each response is written in one piece: there is nothing to wait for.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "the client left before anything was read");
        return;
    }
    let _open = shared.handler.opened();
    connection::serve(Socket::new(stream, peer), shared, place).await;
}

/// A connection's task ended; by itself, unless it gave way or there is a bug.
fn note(ended: Result<(Id, ()), JoinError>) -> Id {
    match ended {
        Ok((id, ())) => id,
        Err(error) => {
            if error.is_panic() {
                tracing::error!(%error, "a connection's task panicked");
            }
            error.id()
        }
    }
}
