//! What a lent connection comes to when its stream is dropped.

use std::sync::Arc;

use parking_lot::Mutex;

use super::socket::Socket;

/// Where the socket goes when pingora drops the stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Left>>>);

/// What a dropped stream leaves behind.
#[derive(Debug)]
pub(super) enum Left {
    /// The connection with the bytes of the next request: it can carry one.
    Kept(Socket, Vec<u8>),
    /// A connection that is to end.
    Ends(Socket, End),
}

/// How a connection that nobody wants any more should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// In a way that lets the client read all that was written, though it may still be sending.
    Linger,
    /// A response whose end is the end of the connection broke off: it must not look whole.
    Reset,
}

impl Slot {
    /// Leaves a connection here.
    pub(super) fn leave(&self, left: Left) {
        *self.0.lock() = Some(left);
    }

    /// The connection with the bytes of the next request, if it is here and can carry one.
    pub(super) fn take_kept(&self) -> Option<(Socket, Vec<u8>)> {
        let mut left = self.0.lock();
        match left.take() {
            Some(Left::Kept(socket, buf)) => Some((socket, buf)),
            other => {
                *left = other;
                None
            }
        }
    }

    /// Ends the connection, if it is here.
    pub(super) async fn end(&self) {
        let left = self.0.lock().take();
        match left {
            Some(Left::Ends(socket, End::Linger)) => socket.linger().await,
            Some(Left::Ends(_, End::Reset) | Left::Kept(..)) | None => {}
        }
    }
}
