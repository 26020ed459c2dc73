//! The stream that pingora's `HttpProxy` is given for one request.
//!
//! pingora takes a stream and reads what it likes, beyond the end of the
//! request if there is more; it drops such bytes, or the whole request with
//! them. So it is not shown them: this stream delivers the bytes of one request
//! and keeps what follows for the next. While the response is being made it
//! looks whether the client has left, which is the one thing pingora wants to
//! know between two requests (see `departure`).
//!
//! On the way out it holds a response's head back until its body, or a flush,
//! comes, so that both are one write; and it has the last word on two fields
//! that pingora writes into every head, `Date` and `Connection`.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown as PingoraShutdown,
    SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use super::departure::{Fin, Word};
use super::head::Length;
use super::response::{Said, split, status};
use super::shutdown::Shutdown;
use super::slot::{End, Left, Slot};
use super::socket::Socket;
use super::timer::Timer;
use crate::config::Limits;

/// Bytes beyond the request that are read while its response is made. A visitor who sends more
/// has to wait; that they left is then noticed only when writing to them fails.
const AHEAD: usize = 16 * 1024;

/// Bytes of response that may wait for more, or for a flush.
const HELD: usize = 16 * 1024;

/// Length of a `Date` (RFC 9110 §5.6.7).
const DATE: usize = 29;

/// What every response begins with, and what may be sent before there is one.
const STATUS_LINE: &[u8] = b"HTTP/1.";

/// Zeros that may be sent before a chunk: leading zeros of its size (RFC 9112 §7.1).
const ZEROS: usize = 3;

/// The last chunk as pingora writes it: in a write of its own.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What pingora may read beside the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beyond {
    /// Nothing: the front knows where the request ends.
    Nothing,
    /// Everything: the body is chunked, and only pingora knows where it ends.
    Chunks,
    /// Everything, for the connection is no longer HTTP (101).
    Tunnel,
}

/// How far the response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No final head was written.
    Waiting,
    /// One was, and its body is not chunked.
    Body,
    /// One was, and chunks follow.
    Chunks,
}

/// One request's share of a connection.
pub struct Withhold {
    /// There until it is reclaimed, or dropped into the slot.
    socket: Option<Socket>,
    slot: Slot,
    end_of_socket: End,
    limits: Arc<Limits>,
    shutdown: Shutdown,
    received: std::time::Instant,

    /// Bytes read: `..given` are delivered, `given..end` belong to the request, the rest to
    /// whatever follows it.
    buf: Vec<u8>,
    given: usize,
    end: usize,
    /// Bytes of the request's body that are still to be read.
    left: u64,
    beyond: Beyond,
    /// pingora has read the body to its end, chunked or not. Interior mutability, because pingora
    /// shows its stream by shared reference only; like the two further down.
    body_read: AtomicBool,
    /// The client will send no more.
    fin: Option<Fin>,

    /// Bytes written and not sent yet, from `sent` on.
    held: Vec<u8>,
    sent: usize,
    stage: Stage,
    /// Bytes of a status line that were sent before there was one.
    ahead: usize,
    /// Zeros that were sent before the next chunk.
    zeros: usize,
    /// The response is written whole, whatever becomes of the stream.
    whole: AtomicBool,
    /// The connection ends with this request.
    last: bool,
    body: bool,
    head_request: bool,
    http10: bool,
    date: Mutex<Option<[u8; DATE]>>,
    /// Since when writing makes no progress, and the timer for it.
    stalled: Option<Instant>,
    timer: Timer,
}

/// What a [`Withhold`] is made of.
pub(super) struct Lending {
    pub(super) socket: Socket,
    /// Bytes read, from the first one of the request on.
    pub(super) read: Vec<u8>,
    /// How many of them are its head.
    pub(super) head: usize,
    pub(super) length: Length,
    pub(super) persistent: bool,
    pub(super) head_request: bool,
    pub(super) http10: bool,
    pub(super) received: Instant,
    pub(super) limits: Arc<Limits>,
    pub(super) shutdown: Shutdown,
}

impl Drop for Withhold {
    fn drop(&mut self) {
        if *self.whole.get_mut()
            && let Some((socket, buf)) = self.take_reusable()
        {
            self.slot.leave(Left::Kept(socket, buf));
        } else if let Some(socket) = self.socket.take() {
            // Half a status line is no answer, either.
            let end = if self.ahead > 0 { End::Reset } else { self.end_of_socket };
            if end == End::Reset {
                // Now, for whoever drops the socket may be dropped with it.
                socket.reset_on_close();
            }
            self.slot.leave(Left::Ends(socket, end));
        }
    }
}

impl Withhold {
    /// Lends a connection for one request. The slot gets it back if the stream is dropped.
    pub(super) fn lend(lending: Lending) -> (Withhold, Slot) {
        let Lending { socket, read, head, length, persistent, received, limits, shutdown, .. } =
            lending;
        let slot = Slot::default();
        let here = (read.len() - head) as u64;
        let (end, left, beyond) = match length {
            Length::Known(len) if len <= here => (head + usize_of(len), 0, Beyond::Nothing),
            Length::Known(len) => (read.len(), len - here, Beyond::Nothing),
            Length::Chunked => (read.len(), 0, Beyond::Chunks),
        };
        let stream = Withhold {
            socket: Some(socket),
            slot: slot.clone(),
            end_of_socket: End::Linger,
            limits,
            shutdown,
            received: received.into_std(),
            buf: read,
            given: 0,
            end,
            left,
            beyond,
            body_read: AtomicBool::new(false),
            fin: None,
            held: Vec::new(),
            sent: 0,
            stage: Stage::Waiting,
            ahead: 0,
            zeros: 0,
            whole: AtomicBool::new(false),
            last: !persistent || beyond != Beyond::Nothing,
            body: length != Length::Known(0),
            head_request: lending.head_request,
            http10: lending.http10,
            date: Mutex::new(None),
            stalled: None,
            timer: Timer::default(),
        };
        (stream, slot)
    }

    /// Takes the head of a request without a body out of the stream: nothing is left to be read
    /// of it.
    pub fn take_request(&mut self) -> Vec<u8> {
        let rest = self.buf.split_off(self.end);
        (self.given, self.end) = (0, 0);
        std::mem::replace(&mut self.buf, rest)
    }

    /// Makes what pingora asks about addresses available.
    pub(super) fn prepare_digest(&mut self) {
        self.socket().prepare_digest();
    }

    /// Resolves when the client has left, not when it only ends its sending side. Sends what was
    /// written so far. For a request that was [taken](Self::take_request). Cancel-safe.
    pub async fn left(&mut self) -> io::Error {
        poll_fn(|cx| {
            if self.stage != Stage::Waiting
                && let Poll::Ready(Err(error)) = self.poll_send(cx, &[])
            {
                return Poll::Ready(error);
            }
            self.poll_ahead(cx)
        })
        .await
    }

    /// The connection and the bytes of the next request, if it can carry one.
    pub(super) fn reclaim(mut self) -> Option<(Socket, Vec<u8>)> {
        self.take_reusable()
    }

    fn take_reusable(&mut self) -> Option<(Socket, Vec<u8>)> {
        let reusable = !self.last
            && self.beyond == Beyond::Nothing
            && self.left == 0
            && self.given == self.end
            && self.stage != Stage::Waiting
            && self.sent == self.held.len();
        if !reusable {
            return None;
        }
        let socket = self.socket.take()?;
        let mut buf = std::mem::take(&mut self.buf);
        buf.drain(..self.end);
        Some((socket, buf))
    }

    /// The next final response head that is written through this stream keeps this `Date`, in
    /// place of the one that pingora puts into every response (RFC 9110 §6.6.1: a cache sends
    /// the stored one). Ignored unless it is of 29 bytes.
    pub fn keep_date(&self, value: &[u8]) {
        if let Ok(date) = value.try_into() {
            *self.date.lock() = Some(date);
        }
    }

    /// pingora has read the request's body to its end. Only a chunked one needs to be told.
    pub fn body_is_read(&self) {
        self.body_read.store(true, Ordering::Relaxed);
    }

    /// A whole response was written. The connection is then kept if it can be, even if pingora
    /// drops the stream, as it does after an error of the origin.
    pub fn response_is_whole(&self) {
        self.whole.store(true, Ordering::Relaxed);
    }

    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peek().peer()
    }

    /// When the first byte of the request's head was read.
    #[must_use]
    pub fn received(&self) -> std::time::Instant {
        self.received
    }

    /// Whether the request has a body.
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.body
    }

    /// Whether the body's end is not known to this stream, so that the connection ends with the
    /// response.
    pub(super) fn is_open_ended(&self) -> bool {
        self.beyond != Beyond::Nothing
    }

    fn socket(&mut self) -> &mut Socket {
        self.socket.as_mut().expect("there until it is taken, with which the stream ends")
    }

    fn peek(&self) -> &Socket {
        self.socket.as_ref().expect("there until it is taken, with which the stream ends")
    }

    /// Whether the connection is to end with this request.
    fn is_last(&self) -> bool {
        self.last || self.shutdown.is_draining()
    }

    /// Whether the request is HTTP/1.0.
    pub(super) fn is_http10(&self) -> bool {
        self.http10
    }

    /// How long reading a body may stall.
    pub(super) fn body_timeout(&self) -> Duration {
        self.limits.body_timeout
    }

    /// The stop signal as pingora wants it.
    pub(super) fn shutdown_watch(&self) -> pingora::server::ShutdownWatch {
        self.shutdown.watch()
    }

    /// Reads what follows the request, only to see whether the client is still there. Never
    /// ready but with an error: it has left.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.fin.is_none() {
            if self.buf.len() - self.end >= AHEAD {
                return Poll::Pending;
            }
            let socket = self.socket.as_mut().expect("there until the stream ends");
            match ready!(socket.poll_fill(cx, &mut self.buf)) {
                Ok(0) => self.fin = Some(Fin::default()),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error),
            }
        }
        self.poll_departed(cx)
    }

    /// The client sent FIN: it has closed, or it still reads. Ready when it has closed.
    fn poll_departed(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            // What was asked goes out first.
            if let Err(error) = ready!(self.poll_send(cx, &[])) {
                return Poll::Ready(error);
            }
            let may_ask = self.may_ask();
            let socket = self.socket.as_ref().expect("there until the stream ends");
            let fin = self.fin.get_or_insert_default();
            match ready!(fin.poll(cx, &mut self.timer, may_ask, || socket.has_failed())) {
                Word::Left => return Poll::Ready(io::ErrorKind::ConnectionReset.into()),
                Word::Ask => self.ask(),
            }
        }
    }

    /// Whether there is a byte that can be sent without changing the response.
    fn may_ask(&self) -> bool {
        match self.stage {
            Stage::Waiting => self.ahead < STATUS_LINE.len(),
            Stage::Chunks => self.zeros < ZEROS,
            Stage::Body => false,
        }
    }

    /// Adds that byte to what is to be sent.
    fn ask(&mut self) {
        if self.stage == Stage::Chunks {
            self.held.push(b'0');
            self.zeros += 1;
        } else {
            self.held.push(STATUS_LINE[self.ahead]);
            self.ahead += 1;
        }
    }

    /// Takes a response head from pingora, which writes each in one piece.
    fn take_head(&mut self, head: &[u8]) {
        let ahead = std::mem::take(&mut self.ahead);
        let Some(status) = status(head) else {
            // Not a head: nothing here is to be touched.
            self.stage = Stage::Body;
            self.held.extend_from_slice(head);
            return;
        };
        if status == 101 {
            self.stage = Stage::Body;
            self.beyond = Beyond::Tunnel;
            self.last = true;
            self.end = self.buf.len();
        }
        if status < 200 {
            self.held.extend_from_slice(&head[ahead..]);
            return;
        }
        let said = Said::by(head);
        let framed = self.head_request || matches!(status, 204 | 304) || said.framed();
        self.stage = if said.chunked { Stage::Chunks } else { Stage::Body };
        if !framed {
            // RFC 9112 §6.3: such a body ends where the connection does, so only `shutdown` may
            // end it well.
            self.end_of_socket = End::Reset;
        }
        let close = self.is_last() || said.close || !framed;
        self.last |= close;
        let date = self.date.get_mut().take();
        let mut says_close = !close;
        for line in head[ahead..].split_inclusive(|b| *b == b'\n') {
            let (name, _) = split(line);
            if let Some(date) = &date
                && name.eq_ignore_ascii_case(b"date")
            {
                self.hold_field(b"Date", date);
            } else if close && name.eq_ignore_ascii_case(b"connection") {
                self.hold_field(b"Connection", b"close");
                says_close = true;
            } else {
                if line == b"\r\n" && !says_close {
                    self.hold_field(b"Connection", b"close");
                }
                self.held.extend_from_slice(line);
            }
        }
    }

    fn hold_field(&mut self, name: &[u8], value: &[u8]) {
        for part in [name, b": ", value, b"\r\n"] {
            self.held.extend_from_slice(part);
        }
    }

    /// Sends what is held and then some of `bufs`; ready with the bytes of `bufs` that went, once
    /// any did or, if they are empty, once nothing is held any more.
    fn poll_send(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        const MOST: usize = 8;
        let wanted = bufs.iter().any(|b| !b.is_empty());
        loop {
            let held = &self.held[self.sent..];
            if held.is_empty() && !wanted {
                return Poll::Ready(Ok(0));
            }
            let mut slices = [IoSlice::new(&[]); MOST];
            slices[0] = IoSlice::new(held);
            let more = bufs.len().min(MOST - 1);
            slices[1..=more].copy_from_slice(&bufs[..more]);
            let first = usize::from(held.is_empty());
            let socket = self.socket.as_mut().expect("there until the stream ends");
            match socket.poll_write(cx, &slices[first..=more]) {
                Poll::Ready(Ok(n)) => {
                    self.stalled = None;
                    let of_held = n.min(held.len());
                    self.sent += of_held;
                    if self.sent == self.held.len() {
                        self.held.clear();
                        self.sent = 0;
                    }
                    if n > of_held {
                        return Poll::Ready(Ok(n - of_held));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_stalled(cx),
            }
        }
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let since = *self.stalled.get_or_insert_with(Instant::now);
        let timed_out = io::ErrorKind::TimedOut;
        self.timer
            .poll_until(cx, since + self.limits.write_timeout)
            .map(|()| Err(io::Error::new(timed_out, "the visitor does not read")))
    }
}

fn usize_of(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl AsyncRead for Withhold {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.given < this.end {
            let n = buf.remaining().min(this.end - this.given);
            buf.put_slice(&this.buf[this.given..this.given + n]);
            this.given += n;
            return Poll::Ready(Ok(()));
        }
        // Who listens has nothing to write for now: what is held would wait for
        // the next part of a slow render.
        if this.stage != Stage::Waiting
            && let Poll::Ready(Err(error)) = this.poll_send(cx, &[])
        {
            return Poll::Ready(Err(error));
        }
        let limit = match (this.beyond, this.left) {
            (Beyond::Nothing, 0) => return this.poll_ahead(cx).map(Err),
            (Beyond::Nothing, left) => left,
            (Beyond::Chunks | Beyond::Tunnel, _) => u64::MAX,
        };
        if this.fin.is_none() {
            let n = ready!(this.socket().poll_read(cx, buf, limit))?;
            if n > 0 {
                if this.beyond == Beyond::Nothing {
                    this.left -= n as u64;
                }
                return Poll::Ready(Ok(()));
            }
            this.fin = Some(Fin::default());
        }
        if this.beyond == Beyond::Chunks && *this.body_read.get_mut() {
            return this.poll_departed(cx).map(Err);
        }
        // In the middle of a body, or of a tunnel, that is the end.
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Withhold {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.stage == Stage::Waiting
            && let Some(head) = bufs.iter().find(|b| !b.is_empty())
        {
            if this.held.len() >= HELD {
                ready!(this.poll_send(cx, &[]))?;
            }
            this.take_head(head);
            return Poll::Ready(Ok(head.len()));
        }
        this.zeros = 0;
        if this.stage == Stage::Chunks && matches!(bufs, [only] if **only == *LAST_CHUNK) {
            // No chunk follows whose size a zero could begin.
            this.stage = Stage::Body;
        }
        let len = bufs.iter().map(|b| b.len()).sum::<usize>();
        if this.held.len() + len <= HELD {
            bufs.iter().for_each(|b| this.held.extend_from_slice(b));
            return Poll::Ready(Ok(len));
        }
        this.poll_send(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx, &[]))?;
        this.socket().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx, &[]))?;
        // The response ended as it should, where its end is the connection's.
        this.end_of_socket = End::Linger;
        this.socket().poll_shutdown(cx)
    }
}

#[async_trait]
impl PingoraShutdown for Withhold {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Withhold {
    fn id(&self) -> UniqueIDType {
        self.peek().id()
    }
}

impl Ssl for Withhold {}

impl Peek for Withhold {}

impl GetTimingDigest for Withhold {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Withhold {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Withhold {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.peek().digest()
    }
}

impl fmt::Debug for Withhold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Withhold")
            .field("peer", &self.peer())
            .field("left", &self.left)
            .field("withheld", &(self.buf.len() - self.end))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\n\r\n";

    fn lending(socket: Socket, read: Vec<u8>, length: Length) -> Lending {
        Lending {
            socket,
            read,
            head: HEAD.len(),
            length,
            persistent: true,
            head_request: false,
            http10: false,
            received: Instant::now(),
            limits: Arc::new(super::super::tests::limits()),
            shutdown: super::super::shutdown().1,
        }
    }

    async fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        (client, Socket::new(stream, peer))
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(super::super::tests::within("a case", future))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// However much was read beforehand and however pingora reads, it gets this request, and
        /// the rest is there for the next one.
        #[test]
        fn exactly_one_request_is_delivered(
            body in 0..40_000usize,
            next in 0..2_000usize,
            before in any::<prop::sample::Index>(),
            reads in prop::collection::vec(1..20_000usize, 1..20),
        ) {
            block_on(async {
                let all = [HEAD, &vec![b'b'; body], &vec![b'n'; next]].concat();
                let before = HEAD.len() + before.index(all.len() - HEAD.len() + 1);
                let (mut client, socket) = pair().await;
                let length = Length::Known(body as u64);
                let (mut stream, _slot) =
                    Withhold::lend(lending(socket, all[..before].to_vec(), length));
                let after = all[before..].to_vec();
                let sending = tokio::spawn(async move {
                    client.write_all(&after).await.unwrap();
                    client
                });
                let mut got = Vec::new();
                for size in reads.iter().cycle() {
                    if got.len() == HEAD.len() + body {
                        break;
                    }
                    let mut part = vec![0; *size];
                    let n = stream.read(&mut part).await.unwrap();
                    assert!(n > 0);
                    got.extend_from_slice(&part[..n]);
                }
                assert_eq!(got, &all[..HEAD.len() + body]);
                // One more read finds nothing for pingora, neither the end.
                let mut client = sending.await.unwrap();
                client.shutdown().await.unwrap();
                let (mut byte, mut none) = ([0], [0; 10]);
                tokio::select! {
                    read = stream.read(&mut none) => panic!("{read:?}"),
                    asked = client.read_exact(&mut byte) => assert_eq!(asked.unwrap(), 1),
                }
                assert_eq!(&byte, b"H");
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                stream.flush().await.unwrap();
                let (_, rest) = stream.reclaim().unwrap();
                assert_eq!(rest, vec![b'n'; next]);
            });
        }

        /// However pingora writes, the visitor gets the same bytes.
        #[test]
        fn every_way_of_writing_sends_the_same(
            pieces in prop::collection::vec((0..40_000usize, any::<bool>()), 0..8),
        ) {
            block_on(async {
                let body = pieces.iter().map(|(len, _)| len).sum::<usize>();
                let (mut client, socket) = pair().await;
                let (mut stream, _slot) =
                    Withhold::lend(lending(socket, HEAD.to_vec(), Length::Known(0)));
                stream.read_exact(&mut [0; HEAD.len()]).await.unwrap();
                let reading = tokio::spawn(async move {
                    let mut all = Vec::new();
                    client.read_to_end(&mut all).await.unwrap();
                    all
                });
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n");
                stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.unwrap();
                stream.write_all(head.as_bytes()).await.unwrap();
                for (i, (len, flush)) in pieces.iter().enumerate() {
                    stream.write_all(&vec![b'a' + i as u8; *len]).await.unwrap();
                    if *flush {
                        stream.flush().await.unwrap();
                    }
                }
                stream.flush().await.unwrap();
                drop(stream.reclaim().unwrap());
                let mut expected = format!("HTTP/1.1 103 Early Hints\r\n\r\n{head}").into_bytes();
                for (i, (len, _)) in pieces.iter().enumerate() {
                    expected.extend(std::iter::repeat_n(b'a' + i as u8, *len));
                }
                assert_eq!(reading.await.unwrap(), expected);
            });
        }
    }

    #[tokio::test]
    async fn heads_that_pingora_writes_are_put_right() {
        let rows: &[(&str, bool, &str)] = &[
            // (what pingora writes, whether the connection is to end, what is sent)
            (
                "200 OK\r\nDate: x\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
                false,
                "200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\
                 Connection: keep-alive\r\n\r\n",
            ),
            (
                "200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\ndate: x\r\n\r\n",
                true,
                "200 OK\r\nConnection: close\r\ncontent-length: 0\r\n\
                 Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
            ),
            (
                "304 Not Modified\r\nX: y\r\n\r\n",
                true,
                "304 Not Modified\r\nX: y\r\nConnection: close\r\n\r\n",
            ),
            ("304 Not Modified\r\n\r\n", false, "304 Not Modified\r\n\r\n"),
            // RFC 9112 §9.3: what ends with the connection says so.
            (
                "200 OK\r\nConnection: keep-alive\r\n\r\n",
                true,
                "200 OK\r\nConnection: close\r\n\r\n",
            ),
            ("200 OK\r\nX: y\r\n\r\n", true, "200 OK\r\nX: y\r\nConnection: close\r\n\r\n"),
        ];
        for (written, last, expected) in rows {
            let (mut client, socket) = pair().await;
            let mut lending = lending(socket, HEAD.to_vec(), Length::Known(0));
            // What has no end of its own is the last whatever the client wanted.
            let unframed = written.starts_with("200") && !written.contains("ength");
            lending.persistent = !last || unframed;
            let (mut stream, slot) = Withhold::lend(lending);
            stream.read_exact(&mut [0; HEAD.len()]).await.unwrap();
            stream.keep_date(b"no date at all");
            stream.keep_date(b"Sun, 06 Nov 1994 08:49:37 GMT");
            stream.write_all(format!("HTTP/1.1 {written}").as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            if unframed {
                AsyncWriteExt::shutdown(&mut stream).await.unwrap();
            }
            assert_eq!(stream.reclaim().is_none(), *last, "{written}");
            slot.end().await;
            let mut all = String::new();
            client.read_to_string(&mut all).await.unwrap();
            assert_eq!(all, format!("HTTP/1.1 {expected}"));
        }
    }

    /// Between two chunks a half-closed client is asked with a zero, which is the beginning of
    /// the next size.
    #[tokio::test]
    async fn a_client_that_streams_is_asked_between_two_chunks() {
        for leaves in [false, true] {
            let (mut client, socket) = pair().await;
            let (mut stream, _slot) =
                Withhold::lend(lending(socket, HEAD.to_vec(), Length::Known(0)));
            stream.read_exact(&mut [0; HEAD.len()]).await.unwrap();
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(b"1\r\na\r\n").await.unwrap();
            stream.flush().await.unwrap();
            let mut got = vec![0; head.len() + 6];
            client.read_exact(&mut got).await.unwrap();
            if leaves {
                drop(client);
                let error = stream.read(&mut [0; 10]).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                continue;
            }
            client.shutdown().await.unwrap();
            let (mut zero, mut none) = ([1], [0; 10]);
            tokio::select! {
                read = stream.read(&mut none) => panic!("{read:?}"),
                asked = client.read_exact(&mut zero) => assert_eq!(asked.unwrap(), 1),
            }
            assert_eq!(&zero, b"0");
            stream.write_all(b"1\r\nb\r\n").await.unwrap();
            stream.write_all(LAST_CHUNK).await.unwrap();
            stream.flush().await.unwrap();
            assert!(!stream.may_ask(), "nothing follows that a zero could begin");
            drop(stream.reclaim().unwrap());
            let mut rest = String::new();
            client.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "1\r\nb\r\n0\r\n\r\n");
        }
    }

    /// What is written whole keeps its connection, even where pingora drops the stream.
    #[tokio::test]
    async fn a_stream_that_is_dropped_after_a_whole_response_keeps_the_connection() {
        for (whole, length, kept) in [
            (true, Length::Known(0), true),
            (false, Length::Known(0), false),
            (true, Length::Known(1), false),
            (true, Length::Chunked, false),
        ] {
            let (_client, socket) = pair().await;
            let read = [HEAD, b"GET /next"].concat();
            let read = if length == Length::Known(0) { read } else { HEAD.to_vec() };
            let (mut stream, slot) = Withhold::lend(lending(socket, read, length));
            stream.read_exact(&mut [0; HEAD.len()]).await.unwrap();
            stream.write_all(b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            stream.flush().await.unwrap();
            if whole {
                stream.response_is_whole();
            }
            drop(stream);
            let next = slot.take_kept().map(|(_, next)| next);
            assert_eq!(next, kept.then(|| b"GET /next".to_vec()), "{whole} {length:?}");
        }
    }

    /// RFC 9112 §6.3: a body without length ends where the connection does.
    #[tokio::test]
    async fn a_body_without_length_ends_the_connection() {
        for (head, reusable) in [("200 OK\r\n", false), ("200 OK\r\nContent-Length: 0\r\n", true)] {
            let (_client, socket) = pair().await;
            let (mut stream, _) = Withhold::lend(lending(socket, HEAD.to_vec(), Length::Known(0)));
            stream.read_exact(&mut [0; HEAD.len()]).await.unwrap();
            stream.write_all(format!("HTTP/1.1 {head}\r\n").as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(stream.reclaim().is_some(), reusable, "{head}");
        }
    }

    #[tokio::test]
    async fn what_is_read_ahead_is_bounded() {
        let (mut client, socket) = pair().await;
        let (mut stream, _) = Withhold::lend(lending(socket, HEAD.to_vec(), Length::Known(0)));
        stream.read_exact(&mut [0; HEAD.len()]).await.unwrap();
        let sending =
            tokio::spawn(async move { client.write_all(&vec![b'x'; 64 << 20]).await.is_ok() });
        let withheld = |stream: &Withhold| stream.buf.len() - stream.end;
        let mut looks_when_full = 0;
        let looking = async {
            while looks_when_full < 1000 {
                let read = futures::poll!(std::pin::pin!(stream.read(&mut [0; 10])));
                assert!(read.is_pending());
                looks_when_full += usize::from(withheld(&stream) >= AHEAD);
                tokio::task::yield_now().await;
            }
        };
        super::super::tests::within("the bound", looking).await;
        assert!(withheld(&stream) < AHEAD + super::super::socket::READ);
        sending.abort();
    }

    /// A request that was not answered, or not read, leaves a connection of no use.
    #[tokio::test]
    async fn only_a_finished_request_gives_the_connection_back() {
        for (read, answer) in [(false, true), (true, false)] {
            let (_client, socket) = pair().await;
            let (mut stream, _) = Withhold::lend(lending(socket, HEAD.to_vec(), Length::Known(0)));
            if read {
                stream.read_exact(&mut [0; HEAD.len()]).await.unwrap();
            }
            if answer {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                stream.flush().await.unwrap();
            }
            assert!(stream.reclaim().is_none());
        }
    }
}
