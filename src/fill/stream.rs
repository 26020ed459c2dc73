//! What a fill brings, while it arrives: one append-only buffer that its leader
//! and all followers read at their own pace.
//!
//! Two ways of keeping: *whole*, while the response may be stored (the buffer
//! is the page to be), and *window*, once it will not be: then it is a bounded
//! pipe, paced by its fastest reader, and it ends when nobody reads any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::page::{Fields, Representation, Seq, Tags};
use crate::rules::Reason;
use crate::rules::cache_status::Failure;

/// How far the origin may be ahead of the fastest reader of a pipe, in bytes.
const AHEAD: usize = 256 * 1024;

/// The head of a response that is streamed before it is stored.
#[derive(Debug)]
pub struct Preview {
    /// The status.
    pub status: u16,
    /// The fields for visitors, those that belong to the body included.
    pub fields: Fields,
    /// The origin's `Date` as sent, or the time of receipt.
    pub date: Option<Box<[u8]>>,
    /// The length of the body, if the origin named it.
    pub length: Option<u64>,
    /// Whether it will be stored, or why not.
    pub stored: Result<(), Reason>,
    /// A failed render: whoever has something stale shows that instead.
    pub failed: bool,
    /// The request fields it varies on, lower case.
    pub vary: Vec<Box<str>>,
    /// Its tags: an invalidation may name them.
    pub tags: Tags,
}

/// What became of a fill when the head of its response arrived, or when none came.
#[derive(Clone, Debug)]
pub enum Lead {
    /// For everyone it fits: it will be stored, or it is an error that is shared.
    Shared(Arc<Preview>),
    /// For the leader alone: it will not be stored.
    Private(Arc<Preview>),
    /// The origin said 304: here is the refreshed page. The cookies are for the leader.
    Refreshed(Arc<Representation>, Arc<[HeaderValue]>),
    /// The path is server-rendered: ask again as on `ssr`.
    ServerRendered,
    /// The page has no JSON: ask for the document.
    NoData,
    /// No response came.
    Failed(Failure),
}

/// Why a stream ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The origin broke off, or ran into a deadline.
    Origin,
    /// This reader was too slow for what can be kept.
    Lagging,
}

/// The shared end of a fill.
#[derive(Debug)]
pub struct Fill {
    /// The invalidation sequence number when it began.
    pub born: Seq,
    /// The request fields that it was begun with: what its response may vary on.
    pub fields: Fields,
    state: Mutex<State>,
    /// Bumped at every change. A watch, because a reader that looks late must
    /// still see that something happened.
    version: watch::Sender<u64>,
    /// Told when a reader moved or left.
    moved: Notify,
    readers: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    interim: Vec<(u16, Fields)>,
    lead: Option<Lead>,
    chunks: VecDeque<Bytes>,
    /// Index of the first chunk that is still kept.
    first: usize,
    kept: usize,
    /// Bytes brought so far, and bytes the fastest reader has taken.
    brought: u64,
    taken: u64,
    /// Bytes to keep; none: all.
    window: Option<usize>,
    /// The last piece, kept back until the page is stored.
    tail: Option<Bytes>,
    end: Option<Result<Option<Arc<Representation>>, Broken>>,
    closed: bool,
}

impl State {
    /// Lets go of the chunks before index `next`.
    fn drop_before(&mut self, next: usize) {
        while self.first < next {
            let Some(gone) = self.chunks.pop_front() else { break };
            self.kept -= gone.len();
            self.first += 1;
        }
    }
}

impl Fill {
    /// A fill that begins now, at `born`, with these request fields.
    #[must_use]
    pub fn new(born: Seq, fields: Fields) -> Arc<Fill> {
        Arc::new(Fill {
            born,
            fields,
            state: Mutex::default(),
            version: watch::Sender::new(0),
            moved: Notify::new(),
            readers: AtomicUsize::new(0),
        })
    }

    /// Joins it. `leader`: whether this reader's request is the one that the
    /// fill carries. `seq` is the sequence number now.
    #[must_use]
    pub fn subscribe(self: &Arc<Fill>, leader: bool, seq: Seq) -> Subscriber {
        self.readers.fetch_add(1, Ordering::AcqRel);
        Subscriber {
            fill: Arc::clone(self),
            version: self.version.subscribe(),
            leader,
            joined: seq,
            interim: 0,
            next: 0,
            taken: 0,
        }
    }

    /// Whether a newcomer may still join.
    #[must_use]
    pub fn joinable(&self) -> bool {
        !self.state.lock().closed
    }

    /// Nobody joins any more.
    pub fn close(&self) {
        self.state.lock().closed = true;
    }

    /// What is known of the response.
    #[must_use]
    pub fn lead(&self) -> Option<Lead> {
        self.state.lock().lead.clone()
    }

    /// Readers there are now.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.readers.load(Ordering::Acquire)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let out = change(&mut self.state.lock());
        self.version.send_modify(|v| *v += 1);
        out
    }

    /// An informational response to relay.
    pub(super) fn interim(&self, status: u16, fields: Fields) {
        self.change(|s| s.interim.push((status, fields)));
    }

    /// The head is here, or nothing will come. Later calls change nothing: the
    /// first word that readers heard stands.
    pub(super) fn decide(&self, lead: Lead) {
        self.change(|s| {
            if matches!(lead, Lead::Private(_)) {
                s.window = Some(AHEAD);
                s.closed = true;
            }
            s.lead.get_or_insert(lead);
        });
    }

    /// From here on only `window` bytes are kept, nobody joins any more, and
    /// who lags further behind is cut off.
    pub(super) fn overflow(&self, window: usize) {
        self.change(|s| {
            s.window = Some(window.max(AHEAD));
            s.closed = true;
        });
    }

    /// Appends to the body. In a pipe it waits for the fastest reader, and
    /// answers false when nobody reads any more.
    pub(super) async fn push(&self, chunk: Bytes) -> bool {
        let piped = self.change(|s| {
            s.brought += chunk.len() as u64;
            s.kept += chunk.len();
            s.chunks.push_back(chunk);
            if let Some(window) = s.window {
                while s.kept > window && s.chunks.len() > 1 {
                    s.drop_before(s.first + 1);
                }
            }
            s.window.is_some()
        });
        if !piped {
            return true;
        }
        loop {
            let moved = self.moved.notified();
            if self.readers() == 0 {
                return false;
            }
            {
                let s = self.state.lock();
                if s.brought.saturating_sub(s.taken) < AHEAD as u64 / 2 {
                    return true;
                }
            }
            moved.await;
        }
    }

    /// Keeps the last piece of a body back until [`Fill::finish`]: who has read
    /// all of a page may ask for it again at once, and finds it stored.
    pub(super) fn hold(&self, chunk: Bytes) {
        self.state.lock().tail = Some(chunk);
    }

    /// Resolves when nobody reads any more.
    pub(super) async fn deserted(&self) {
        loop {
            let moved = self.moved.notified();
            if self.readers() == 0 {
                return;
            }
            moved.await;
        }
    }

    /// The body is complete (and stored as that, if it is), or it broke off.
    pub(super) fn finish(&self, end: Result<Option<Arc<Representation>>, Broken>) {
        self.change(|s| {
            s.closed = true;
            if s.end.is_none()
                && end.is_ok()
                && let Some(tail) = s.tail.take()
            {
                s.brought += tail.len() as u64;
                s.kept += tail.len();
                s.chunks.push_back(tail);
            }
            s.end.get_or_insert(end);
        });
    }
}

/// What a reader finds next.
#[derive(Debug)]
pub enum Next {
    /// An informational response (1xx) to relay.
    Interim(u16, Fields),
    /// What became of the fill.
    Lead(Lead),
}

/// A reader of a fill.
#[derive(Debug)]
pub struct Subscriber {
    fill: Arc<Fill>,
    version: watch::Receiver<u64>,
    /// Whether the fill carries this reader's own request.
    pub leader: bool,
    /// The invalidation sequence number when it joined.
    pub joined: Seq,
    interim: usize,
    next: usize,
    taken: u64,
}

impl Subscriber {
    /// The fill that is read.
    #[must_use]
    pub fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    /// Waits for the head, or for an informational response before it.
    pub async fn head(&mut self) -> Next {
        loop {
            {
                let s = self.fill.state.lock();
                if let Some((status, fields)) = s.interim.get(self.interim) {
                    self.interim += 1;
                    return Next::Interim(*status, fields.clone());
                }
                if let Some(lead) = &s.lead {
                    return Next::Lead(lead.clone());
                }
                if s.end.is_some() {
                    return Next::Lead(Lead::Failed(Failure::Reset));
                }
            }
            self.wait().await;
        }
    }

    /// The next part of the body; none at its end.
    ///
    /// # Errors
    /// The body broke off, or this reader was too slow.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            {
                let mut s = self.fill.state.lock();
                if self.next < s.first {
                    return Err(Broken::Lagging);
                }
                if let Some(chunk) = s.chunks.get(self.next - s.first).cloned() {
                    self.next += 1;
                    self.taken += chunk.len() as u64;
                    if self.taken > s.taken {
                        s.taken = self.taken;
                        if s.window.is_some() {
                            if self.fill.readers() == 1 {
                                // Nobody else will ask for it: a pipe keeps nothing.
                                s.drop_before(self.next);
                            }
                            drop(s);
                            self.fill.moved.notify_waiters();
                        }
                    }
                    return Ok(Some(chunk));
                }
                match &s.end {
                    Some(Ok(_)) => return Ok(None),
                    Some(Err(broken)) => return Err(*broken),
                    None => {}
                }
            }
            self.wait().await;
        }
    }

    /// Waits for the end; the representation as stored, where it was.
    ///
    /// # Errors
    /// The body broke off.
    pub async fn end(&mut self) -> Result<Option<Arc<Representation>>, Broken> {
        loop {
            if let Some(end) = &self.fill.state.lock().end {
                return end.clone();
            }
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        // The sender lives in the fill that we hold.
        let _ = self.version.changed().await;
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.fill.readers.fetch_sub(1, Ordering::AcqRel);
        self.fill.moved.notify_waiters();
    }
}
