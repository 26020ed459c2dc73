//! A visitor's transport. TCP today; TLS becomes another kind of stream in
//! here, and nothing outside this file need know.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora::protocols::SocketDigest;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes one read may bring: the size of a worker's scratch buffer.
pub(super) const READ: usize = 16 * 1024;

/// How long a connection that was answered and closed may go on sending before
/// it is dropped. Closing a socket with unread bytes resets it, and a reset can
/// take the answer from the visitor who is still sending.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that are thrown away while a connection lingers.
const LINGER_BYTES: usize = 1024 * 1024;

thread_local! {
    /// Reads go here first: a connection needs memory of its own only once
    /// something came, so an idle one has none.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// A visitor's connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    peer: SocketAddr,
    digest: Option<Arc<SocketDigest>>,
}

impl Socket {
    /// Takes over an accepted connection.
    pub(super) fn new(stream: TcpStream, peer: SocketAddr) -> Socket {
        // An IPv4 visitor of a dual-stack socket is an IPv4 visitor.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Socket { stream, peer, digest: None }
    }

    /// The visitor's address.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The file descriptor, which pingora takes for an identity.
    pub(super) fn id(&self) -> i32 {
        self.stream.as_raw_fd()
    }

    /// What pingora asks about addresses.
    pub(super) fn digest(&self) -> Option<Arc<SocketDigest>> {
        self.digest.clone()
    }

    /// Makes [`Socket::digest`] available: only the long way needs it.
    pub(super) fn prepare_digest(&mut self) {
        if self.digest.is_none() {
            let digest = SocketDigest::from_raw_fd(self.stream.as_raw_fd());
            let _ = digest.peer_addr.set(Some(PingoraAddr::Inet(self.peer)));
            let local = self.stream.local_addr().ok().map(PingoraAddr::Inet);
            let _ = digest.local_addr.set(local);
            self.digest = Some(Arc::new(digest));
        }
    }

    /// Reads what is there, at most [`READ`] bytes, to the end of `into`. Zero: the visitor
    /// will send no more.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            into.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    }

    /// Reads at most `limit` bytes into `buf`.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        limit: u64,
    ) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut (&mut self.stream).take(limit)).poll_read(cx, buf))?;
        Poll::Ready(Ok(buf.filled().len() - before))
    }

    /// Writes some of `bufs`.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            other => Poll::Ready(other),
        }
    }

    /// Whether the connection has failed since this was asked last: after a FIN, reading does not
    /// tell of a RST.
    pub(super) fn has_failed(&self) -> bool {
        !matches!(self.stream.take_error(), Ok(None))
    }

    /// Sends what a layer below holds back, if one does.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Says that nothing more will be written.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Closes in a way that lets a visitor who is still sending read the answer first.
    pub(super) async fn linger(mut self) {
        let over = async {
            if std::future::poll_fn(|cx| self.poll_shutdown(cx)).await.is_err() {
                return;
            }
            let mut thrown = 0;
            while let Ok(n @ 1..) = std::future::poll_fn(|cx| self.poll_discard(cx)).await {
                thrown += n;
                if thrown > LINGER_BYTES {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, over).await;
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            Poll::Ready(Ok(read.filled().len()))
        })
    }

    /// Lets the connection end with a reset, so that nobody takes what was sent for whole.
    pub(super) fn reset_on_close(&self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}
