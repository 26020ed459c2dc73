//! Requests and answers of the plain case, and how answers are written.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::head::Version;

/// A plain request: GET or HEAD of a path, with one Host, without a body, and with nothing in its
/// head about the connection but perhaps `Connection: close` or `keep-alive`.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET` or `HEAD`.
    pub method: &'a str,
    /// The target in origin-form: path and query as they came, starting with `/`.
    pub target: &'a str,
    /// The version.
    pub version: Version,
    /// The value of `Host`: checked, but as it came (case, port).
    pub host: &'a str,
    /// All fields in their order, `Host` and `Connection` among them.
    pub fields: &'a [httparse::Header<'a>],
    /// The visitor's address.
    pub peer: SocketAddr,
    /// When the first byte of the head was read.
    pub received: Instant,
}

/// Where the answer to a plain request goes.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The response head goes to the *end* of this: the status line and all fields, each with its
    /// CR LF, but neither `Connection` nor the empty line. What is there already belongs to the
    /// replies before this one.
    pub head: &'a mut Vec<u8>,
    /// The body; stays empty for HEAD and 304.
    pub body: &'a mut Parts,
}

/// What became of a plain request.
#[derive(Debug)]
pub enum Plain<T, W> {
    /// It is answered.
    Answered(T),
    /// Its answer has to be waited for.
    Waits(W),
    /// It is not plain after all: it takes the long way.
    No,
}

/// A body in one piece, mostly: several only where a multipart range is answered.
#[derive(Debug, Default)]
pub struct Parts {
    first: Bytes,
    more: Vec<Bytes>,
}

impl Parts {
    /// Adds a piece. Nothing is copied.
    pub fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
        } else if !piece.is_empty() {
            self.more.push(piece);
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.first).chain(&self.more).map(|piece| &piece[..])
    }

    fn len(&self) -> usize {
        self.iter().map(<[u8]>::len).sum()
    }
}

/// What became of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// The client's address.
    pub peer: SocketAddr,
    /// Bytes that were handed to the system, head and body.
    pub bytes: u64,
    /// Bytes of them that were body.
    pub body: u64,
    /// Why there were not more, if the client did not take them all.
    pub error: Option<io::ErrorKind>,
    /// From the end of the request's head to the first byte of the reply; none: none went out.
    pub first_byte: Option<Duration>,
    /// From the end of the request's head to the last byte of the reply.
    pub took: Duration,
}

/// Replies that are held back, to write several at once, stop at these: the first one that
/// reaches either is the last.
const MOST_REPLIES: usize = 32;
const MOST_BYTES: usize = 64 * 1024;

/// Slices of one vectored write.
const SLICES: usize = 32;

/// Replies in the order of their requests, on their way to the visitor.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heads: Vec<u8>,
    replies: Vec<Queued<T>>,
    /// Bytes in all, and how many of them are written.
    total: usize,
    written: usize,
    /// Replies that are written whole, and the bytes up to their end.
    whole: usize,
    whole_bytes: usize,
    /// Replies of which a byte is written, and the bytes up to their end.
    begun: usize,
    begun_bytes: usize,
}

/// The request behind a reply.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Where its head lies in the connection's buffer.
    pub(super) head: Range<usize>,
    /// When the end of its head was read.
    pub(super) at: Instant,
}

#[derive(Debug)]
struct Queued<T> {
    /// Where its head lies in `heads`.
    head: Range<usize>,
    body: Parts,
    len: usize,
    token: T,
    asked: Asked,
    /// When its first byte was written, if its last one was not written at the same time.
    first: Option<Instant>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue {
            heads: Vec::new(),
            replies: Vec::new(),
            total: 0,
            written: 0,
            whole: 0,
            whole_bytes: 0,
            begun: 0,
            begun_bytes: 0,
        }
    }
}

/// Room for a head of ordinary size, so that it is written without growing.
const HEAD: usize = 1024;

impl<T> Queue<T> {
    /// Adds the reply that `answer` makes, if it makes one; otherwise hands back what it said.
    pub(super) fn push<W>(
        &mut self,
        connection: &[u8],
        asked: Asked,
        answer: impl FnOnce(&mut Reply<'_>) -> Plain<T, W>,
    ) -> Plain<(), W> {
        let start = self.heads.len();
        if start == 0 {
            self.heads.reserve(HEAD);
        }
        let mut body = Parts::default();
        let token = match answer(&mut Reply { head: &mut self.heads, body: &mut body }) {
            Plain::Answered(token) => token,
            other => {
                self.heads.truncate(start);
                return match other {
                    Plain::Waits(wait) => Plain::Waits(wait),
                    _ => Plain::No,
                };
            }
        };
        self.heads.extend_from_slice(connection);
        let head = start..self.heads.len();
        let len = head.len() + body.len();
        self.total += len;
        self.replies.push(Queued { head, body, len, token, asked, first: None });
        Plain::Answered(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// Whether another reply may join before these are written.
    pub(super) fn has_room(&self) -> bool {
        self.replies.len() < MOST_REPLIES && self.total < MOST_BYTES
    }

    /// Hands what is not written yet to `write`, as many slices as go at once.
    pub(super) fn write<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut skip = self.written - self.whole_bytes;
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        'all: for reply in &self.replies[self.whole..] {
            for piece in std::iter::once(&self.heads[reply.head.clone()]).chain(reply.body.iter()) {
                if skip >= piece.len() {
                    skip -= piece.len();
                    continue;
                }
                if used == SLICES {
                    break 'all;
                }
                slices[used] = IoSlice::new(&piece[skip..]);
                skip = 0;
                used += 1;
            }
        }
        write(&slices[..used])
    }

    /// Takes note that `n` more bytes are written; true when that is all.
    pub(super) fn advance(&mut self, n: usize) -> bool {
        self.written += n;
        while let Some(reply) = self.replies.get(self.whole)
            && self.whole_bytes + reply.len <= self.written
        {
            self.whole_bytes += reply.len;
            self.whole += 1;
        }
        if self.written == self.total {
            return true;
        }
        // The clock is asked here only: mostly there is one write.
        let now = Instant::now();
        while let Some(reply) = self.replies.get_mut(self.begun)
            && self.begun_bytes < self.written
        {
            reply.first = Some(now);
            self.begun_bytes += reply.len;
            self.begun += 1;
        }
        false
    }

    /// Empties the queue and says what became of each reply, and where the head of its request
    /// lies.
    pub(super) fn settle(
        &mut self,
        peer: SocketAddr,
        error: Option<io::ErrorKind>,
        mut served: impl FnMut(T, Sent, Range<usize>),
    ) {
        let now = Instant::now();
        let mut left = self.written;
        for reply in self.replies.drain(..) {
            let bytes = left.min(reply.len);
            left -= bytes;
            let sent = Sent {
                peer,
                bytes: bytes as u64,
                body: bytes.saturating_sub(reply.head.len()) as u64,
                error: error.filter(|_| bytes < reply.len),
                first_byte: (bytes > 0)
                    .then(|| reply.first.unwrap_or(now).saturating_duration_since(reply.asked.at)),
                took: now.saturating_duration_since(reply.asked.at),
            };
            served(reply.token, sent, reply.asked.head);
        }
        self.heads.clear();
        (self.total, self.written, self.whole, self.whole_bytes) = (0, 0, 0, 0);
        (self.begun, self.begun_bytes) = (0, 0);
    }

    /// Gives its memory back, for a connection that idles.
    pub(super) fn release(&mut self) {
        debug_assert!(self.is_empty());
        *self = Queue::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer() -> SocketAddr {
        "127.0.0.1:1".parse().unwrap()
    }

    fn answered<T>(token: T) -> Plain<T, usize> {
        Plain::Answered(token)
    }

    fn asked(n: usize) -> Asked {
        Asked { head: n..n + 1, at: Instant::now() }
    }

    /// However long the last byte takes.
    #[test]
    fn the_first_byte_has_a_time_of_its_own() {
        let mut queue = Queue::default();
        for n in 0..3 {
            queue.push(b"", asked(n), |reply| {
                reply.head.extend_from_slice(b"0123456789");
                answered(n)
            });
        }
        // The first two replies are begun by the first write, the third by none.
        assert!(!queue.advance(15));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(2) {}
        assert!(!queue.advance(1));
        let mut times = Vec::new();
        queue.settle(peer(), Some(io::ErrorKind::TimedOut), |n, sent, head| {
            assert_eq!(head, n..n + 1);
            times.push((sent.first_byte.map(|first| first < sent.took), sent.bytes));
        });
        assert_eq!(times, [(Some(true), 10), (Some(true), 6), (None, 0)]);
    }

    #[test]
    fn a_reply_not_made_leaves_nothing_behind() {
        let mut queue = Queue::<()>::default();
        for waits in [true, false] {
            let made = queue.push(b"\r\n", asked(0), |reply| {
                reply.head.extend_from_slice(b"half");
                if waits { Plain::Waits(7) } else { Plain::No }
            });
            assert!(matches!((made, waits), (Plain::Waits(7), true) | (Plain::No, false)));
            assert!(queue.is_empty());
        }
        let made = queue.push(b"\r\n", asked(0), |reply| {
            reply.head.extend_from_slice(b"a");
            answered(())
        });
        assert!(matches!(made, Plain::Answered(())));
        queue.write(|slices| assert_eq!(&*slices[0], b"a\r\n"));
    }

    proptest! {
        /// However the system cuts the writes, the bytes are the same, and each reply learns
        /// how many of its own went out.
        #[test]
        fn every_cut_gives_the_same_bytes(
            replies in prop::collection::vec(
                ("[a-z]{1,20}", prop::collection::vec("[A-Z]{0,30}", 0..40)), 1..6),
            cuts in prop::collection::vec(1..50usize, 0..200),
        ) {
            let mut queue = Queue::default();
            let mut expected = Vec::new();
            for (i, (head, body)) in replies.iter().enumerate() {
                queue.push(b"|", asked(i), |reply| {
                    reply.head.extend_from_slice(head.as_bytes());
                    body.iter().for_each(|part| reply.body.push(part.clone().into()));
                    answered(i)
                });
                expected.extend_from_slice(format!("{head}|{}", body.concat()).as_bytes());
            }
            let mut written = Vec::new();
            let mut over = false;
            for cut in cuts {
                if over {
                    break;
                }
                let bytes = queue.write(|slices| {
                    slices.iter().flat_map(|s| s.to_vec()).take(cut).collect::<Vec<_>>()
                });
                prop_assert!(!bytes.is_empty());
                over = queue.advance(bytes.len());
                written.extend(bytes);
            }
            prop_assert_eq!(&written[..], &expected[..written.len()]);
            prop_assert_eq!(over, written == expected);
            let mut total = 0;
            let mut order = Vec::new();
            queue.settle(peer(), (!over).then_some(io::ErrorKind::TimedOut), |i, sent, head| {
                assert_eq!(head.start, i);
                assert_eq!(sent.first_byte.is_some(), sent.bytes > 0);
                total += sent.bytes;
                order.push(i);
                let (head, body) = &replies[i];
                let full = (head.len() + 1 + body.concat().len()) as u64;
                assert_eq!(sent.error.is_none(), sent.bytes == full);
                assert_eq!(sent.body, sent.bytes.saturating_sub(head.len() as u64 + 1));
            });
            prop_assert_eq!(total, written.len() as u64);
            prop_assert_eq!(order, (0..replies.len()).collect::<Vec<_>>());
        }
    }
}
