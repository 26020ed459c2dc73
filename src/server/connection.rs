//! The life of one HTTP/1.1 connection: read a head, answer it or hand it on,
//! and again.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;

use super::handler::{Handler, Shared};
use super::head::{self, Length};
use super::places::Place;
use super::refusal::Refusal;
use super::reply::{Asked, Plain, Queue, Request};
use super::socket::Socket;
use super::timer::Timer;
use super::withhold::{Lending, Withhold};

/// Empty lines before a request line that are forgiven (RFC 9112 §2.2).
const EMPTY_LINES: u32 = 4;

/// Serves a connection to its end.
pub(super) async fn serve<D: Handler>(socket: Socket, shared: Arc<Shared<D>>, place: Arc<Place>) {
    // Polled once: that leaves this task's waker to be called when draining
    // begins, and `read` asks the flag whenever the task wakes. Waiting for
    // the news anew before each request would take a lock each time.
    let wake = shared.shutdown.wake();
    tokio::pin!(wake);
    poll_fn(|cx| {
        let _ = wake.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;

    let mut connection = Connection::new(socket, &shared, &place);
    connection.unspoken = Some(connection.read_at);
    loop {
        match connection.turn().await {
            Turn::Again => {}
            Turn::Over => return,
            Turn::Close => return connection.close().await,
            Turn::Refused(refusal) => return connection.refuse(refusal).await,
            // Boxed, so that a connection that never goes this way does not
            // carry the room for it.
            Turn::Lend(way) => match Box::pin(connection.lend(*way)).await {
                Some(back) => connection = back,
                None => return,
            },
        }
    }
}

struct Connection<'s, D: Handler> {
    socket: Socket,
    shared: &'s Arc<Shared<D>>,
    place: &'s Place,
    /// The place says that it waits for a request.
    waits: bool,
    /// Since when it is open, as long as no request came.
    unspoken: Option<Instant>,
    /// What was read and not used up: from `start` on.
    buf: Vec<u8>,
    start: usize,
    /// Bytes behind `start` that were searched for the end of a head.
    scanned: usize,
    /// Empty lines skipped since the last request.
    empty_lines: u32,
    /// When the first byte of the head in `buf` was read.
    began: Option<Instant>,
    /// When the last bytes were read.
    read_at: Instant,
    queue: Queue<D::Token>,
    timer: Timer,
}

/// What to do next.
enum Turn<W> {
    /// Go on.
    Again,
    /// The connection is lent for a request.
    Lend(Box<Way<W>>),
    /// A request is refused, and with it the connection.
    Refused(Refusal),
    /// The last reply is out: close.
    Close,
    /// The visitor is gone, or has nothing to say.
    Over,
}

/// A request that is not answered at once.
struct Way<W> {
    /// A plain one that has to wait; none: it takes the long way.
    wait: Option<W>,
    /// Bytes of its head in the buffer.
    head: usize,
    /// The head to be read instead, where it was normalised.
    normalised: Option<Vec<u8>>,
    length: Length,
    persistent: bool,
    head_request: bool,
    http10: bool,
    received: Instant,
}

/// What became of the bytes at the front of the buffer.
enum Step<W> {
    /// They are no whole head yet.
    Incomplete,
    /// They were a plain request; its reply is in the queue. `last`: it ends the connection.
    Answered {
        last: bool,
    },
    Lend(Box<Way<W>>),
    Refused(Refusal),
}

impl<'s, D: Handler> Connection<'s, D> {
    fn new(socket: Socket, shared: &'s Arc<Shared<D>>, place: &'s Place) -> Self {
        Connection {
            socket,
            shared,
            place,
            waits: false,
            unspoken: None,
            buf: Vec::new(),
            start: 0,
            scanned: 0,
            empty_lines: 0,
            began: None,
            read_at: Instant::now(),
            queue: Queue::default(),
            timer: Timer::default(),
        }
    }

    /// Answers what was read, writes the answers, and reads on.
    async fn turn(&mut self) -> Turn<D::Wait> {
        // Requests that came together are answered together.
        let step = loop {
            match self.step() {
                Step::Answered { last: false } if self.queue.has_room() => {}
                step => break step,
            }
        };
        // In their order: nothing overtakes a reply that is made.
        if !self.queue.is_empty() && self.write().await.is_err() {
            return Turn::Over;
        }
        match step {
            Step::Answered { last: false } => Turn::Again,
            Step::Answered { last: true } => Turn::Close,
            Step::Lend(way) => Turn::Lend(way),
            Step::Refused(refusal) => Turn::Refused(refusal),
            Step::Incomplete => self.read().await,
        }
    }

    /// Takes the next request from the buffer, if it is there.
    fn step(&mut self) -> Step<D::Wait> {
        self.skip_empty_lines();
        let bytes = &self.buf[self.start..];
        if bytes.is_empty() || bytes == b"\r" {
            return Step::Incomplete;
        }
        let limits = self.shared.limits.load();
        let found = match head::find_end(bytes, self.scanned) {
            Ok(found) => found,
            Err(refusal) => return Step::Refused(refusal),
        };
        self.scanned = bytes.len();
        let Some(len) = found else {
            return match head::check_partial(bytes, &limits) {
                Ok(()) => Step::Incomplete,
                Err(refusal) => Step::Refused(refusal),
            };
        };
        let mut room = head::room();
        let head = match head::parse(&bytes[..len], &mut room, &limits) {
            Ok(head) => head,
            Err(refusal) => return Step::Refused(refusal),
        };
        let received = self.began.unwrap_or(self.read_at);

        let mut wait = None;
        if head.plain {
            let request = Request {
                method: head.method,
                target: head.target,
                version: head.version,
                host: head.host,
                fields: head.fields,
                peer: self.socket.peer(),
                received: received.into_std(),
            };
            let last = !head.persistent || self.shared.shutdown.is_draining();
            let connection: &[u8] =
                if last { b"Connection: close\r\n\r\n" } else { b"Connection: keep-alive\r\n\r\n" };
            let handler = &self.shared.handler;
            let asked = Asked { head: self.start..self.start + len, at: self.read_at.into_std() };
            match self.queue.push(connection, asked, |reply| handler.plain(&request, reply)) {
                Plain::Answered(()) => {
                    self.used(len);
                    return Step::Answered { last };
                }
                Plain::Waits(waits) => wait = Some(waits),
                Plain::No => {}
            }
        }
        Step::Lend(Box::new(Way {
            wait,
            head: len,
            normalised: head.normalised(),
            length: head.length,
            persistent: head.persistent,
            head_request: head.method == "HEAD",
            http10: head.version == head::Version::Http10,
            received,
        }))
    }

    /// RFC 9112 §2.2: "SHOULD ignore at least one empty line".
    fn skip_empty_lines(&mut self) {
        while self.empty_lines < EMPTY_LINES && self.buf[self.start..].starts_with(b"\r\n") {
            self.pass(2);
            self.empty_lines += 1;
        }
    }

    /// The request of `len` bytes at the front is done with.
    fn used(&mut self, len: usize) {
        self.pass(len);
        self.empty_lines = 0;
        self.unspoken = None;
    }

    fn pass(&mut self, len: usize) {
        self.start += len;
        self.scanned = 0;
        // What follows came with the last read, as far as it came.
        self.began = (self.start < self.buf.len()).then_some(self.read_at);
    }

    /// Reads more of a head, or waits for the next one to begin.
    async fn read(&mut self) -> Turn<D::Wait> {
        let limits = self.shared.limits.load();
        let (head_timeout, keepalive) = (limits.head_timeout, limits.keepalive);
        drop(limits);
        self.buf.drain(..self.start);
        self.start = 0;
        let idle = self.buf.is_empty();
        if idle {
            // An idle connection holds no memory: `read` fills a worker's scratch buffer first.
            self.buf = Vec::new();
            self.queue.release();
        }
        let (since, patience) = match (self.began, self.unspoken) {
            (Some(began), _) => (began, head_timeout),
            (None, Some(opened)) => (opened, head_timeout.min(keepalive)),
            (None, None) => (Instant::now(), keepalive),
        };
        let (place, waits, room) = (self.place, &mut self.waits, &self.shared.room);
        let (socket, buf, timer) = (&mut self.socket, &mut self.buf, &mut self.timer);
        let shutdown = &self.shared.shutdown;
        let read = poll_fn(|cx| {
            // What is there is read even when time is up or draining has begun.
            if let Poll::Ready(read) = socket.poll_fill(cx, buf) {
                return Poll::Ready(Some(read));
            }
            if idle && (shutdown.is_draining() || room.is_wanted()) {
                return Poll::Ready(None);
            }
            if !std::mem::replace(waits, true) {
                room.waits(place, since);
            }
            timer.poll_until(cx, since + patience).map(|()| None)
        })
        .await;
        if std::mem::take(&mut self.waits) && !place.resumes() {
            return Turn::Over;
        }
        match read {
            Some(Ok(1..)) => {
                self.read_at = Instant::now();
                self.began.get_or_insert(self.read_at);
                Turn::Again
            }
            // The client closed in the middle of a head: perhaps only one direction.
            Some(Ok(0)) if !self.buf.is_empty() => {
                Turn::Refused(Refusal::Malformed("the request head breaks off"))
            }
            None if !idle => Turn::Refused(Refusal::TooSlow),
            None | Some(Ok(0) | Err(_)) => Turn::Over,
        }
    }

    /// Writes all replies.
    async fn write(&mut self) -> Result<(), io::ErrorKind> {
        let (socket, queue, timer) = (&mut self.socket, &mut self.queue, &mut self.timer);
        let limits = &self.shared.limits;
        let mut stalled = None;
        let written = poll_fn(|cx| {
            loop {
                match queue.write(|slices| socket.poll_write(cx, slices)) {
                    Poll::Ready(Ok(n)) => {
                        stalled = None;
                        if queue.advance(n) {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.kind())),
                    Poll::Pending => {
                        let deadline = *stalled
                            .get_or_insert_with(|| Instant::now() + limits.load().write_timeout);
                        return timer
                            .poll_until(cx, deadline)
                            .map(|()| Err(io::ErrorKind::TimedOut));
                    }
                }
            }
        })
        .await;
        let handler = &self.shared.handler;
        let (peer, buf) = (socket.peer(), &self.buf);
        queue.settle(peer, written.err(), |token, sent, head| {
            handler.served(token, sent, buf.get(head).unwrap_or_default());
        });
        written
    }

    /// Lends the connection to the handler for one request. None: it did not come back.
    async fn lend(mut self, way: Way<D::Wait>) -> Option<Self> {
        let (shared, place) = (self.shared, self.place);
        let limits = shared.limits.load_full();
        let head = match way.normalised {
            Some(head) => {
                let len = head.len();
                drop(self.buf.splice(..self.start + way.head, head));
                len
            }
            None => {
                self.buf.drain(..self.start);
                way.head
            }
        };
        let (stream, slot) = Withhold::lend(Lending {
            socket: self.socket,
            read: self.buf,
            head,
            length: way.length,
            persistent: way.persistent,
            head_request: way.head_request,
            http10: way.http10,
            received: way.received,
            limits,
            shutdown: shared.shutdown.clone(),
        });
        let back = match way.wait {
            Some(wait) => shared.handler.wait(wait, stream).await,
            None => shared.handler.long_way(stream).await,
        };
        match back.and_then(Withhold::reclaim).or_else(|| slot.take_kept()) {
            Some((socket, buf)) => {
                let mut connection = Connection::new(socket, shared, place);
                connection.timer = self.timer;
                connection.began = (!buf.is_empty()).then_some(connection.read_at);
                connection.buf = buf;
                Some(connection)
            }
            None => {
                // Nobody wants it any more; how it ends is still to be seen to.
                shared.room.waits(place, Instant::now());
                slot.end().await;
                None
            }
        }
    }

    /// Answers a request that goes no further, and ends the connection.
    async fn refuse(mut self, refusal: Refusal) {
        let bytes = &self.buf[self.start..];
        let page = refusal.page(crate::clock::now(), bytes.starts_with(b"HEAD "));
        self.shared.handler.refused(
            self.socket.peer(),
            refusal.failure(),
            refusal.status().as_u16(),
        );
        let limit = self.shared.limits.load().write_timeout;
        let mut rest = &page[..];
        let write = poll_fn(|cx| {
            while !rest.is_empty() {
                match self.socket.poll_write(cx, &[io::IoSlice::new(rest)]) {
                    Poll::Ready(Ok(n)) => rest = &rest[n..],
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        });
        if let Ok(Ok(())) = tokio::time::timeout(limit, write).await {
            self.close().await;
        }
    }

    /// Ends the connection after its last reply. The client may have sent more than was read:
    /// closing at once would then reset the connection, and the reply could get lost.
    async fn close(self) {
        self.shared.room.waits(self.place, Instant::now());
        self.socket.linger().await;
    }
}
