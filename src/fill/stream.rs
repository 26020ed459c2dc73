//! What a fill brings, while it arrives: one append-only buffer that its leader
//! and all followers read at their own pace.
//!
//! Two ways of keeping: *whole*, while the response may be stored (the buffer
//! is the page to be), and *window*, once it will not be: then it is a bounded
//! pipe, paced by its fastest reader, and it ends with its last one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::page::{Born, Fields, Representation, Tags};
use crate::rules::Reason;
use crate::rules::cache_status::Failure;

/// How far the origin may be ahead of the fastest reader of a pipe, in bytes.
const AHEAD: usize = 256 * 1024;

/// How long a follower waits for the head of a fill that carries another client's
/// fields, on `ssr`; then it asks for itself, as nginx does after
/// `proxy_cache_lock_timeout`.
pub(super) const FOLLOW: Duration = Duration::from_secs(5);

/// The same where that client sends something else beside what browsers send: the more
/// likely it is its own doing.
const FOLLOW_OTHERS: Duration = Duration::from_secs(1);

/// The head of a response that is streamed before it is stored.
#[derive(Debug)]
pub struct Preview {
    /// The status.
    pub status: u16,
    /// The fields for clients, those that belong to the body included.
    pub fields: Fields,
    /// The origin's `Date` as sent, or the time of receipt.
    pub date: Option<Box<[u8]>>,
    /// The length of the body, if the origin named it.
    pub length: Option<u64>,
    /// The coding of its body where it is not decoded here: only for clients that accept it.
    pub coding: Option<Box<str>>,
    /// Whether it will be stored, or why not.
    pub stored: Result<(), Reason>,
    /// Whether others than its leader may have it. A cache may use it without
    /// validation, or it is of a page route, where nothing of a client was sent.
    pub reusable: bool,
    /// A failed render: a stale page is served instead, where there is one.
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
    /// When it began, as invalidations count time.
    pub born: Born,
    /// The request fields that it was begun with: what its response may vary on.
    pub fields: Fields,
    state: Mutex<State>,
    /// Bumped at every change. A watch, because a reader that looks late must
    /// still see that something happened.
    version: watch::Sender<u64>,
    /// Told when a reader moved or left.
    moved: Notify,
    readers: AtomicUsize,
    /// It carries fields of a client, on `ssr`: how it goes may be that client's doing.
    of_a_client: bool,
    /// See `Ask::kind`.
    kind: u64,
    began: Instant,
}

#[derive(Debug, Default)]
struct State {
    interim: Vec<(u16, Fields)>,
    lead: Option<Lead>,
    chunks: VecDeque<Bytes>,
    /// Index of the first chunk that is still kept.
    first: usize,
    kept: usize,
    /// Bytes brought so far, and what the fastest reader has taken of them: so
    /// many bytes, up to this chunk.
    brought: u64,
    taken: u64,
    fastest: usize,
    /// Bytes to keep; none: all.
    window: Option<usize>,
    /// The last piece, kept back until the page is stored.
    tail: Option<Bytes>,
    end: Option<Result<Option<Arc<Representation>>, Broken>>,
    closed: bool,
    /// The leader has left.
    orphaned: bool,
    head: Head,
}

/// Whether the origin has answered, whatever is made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Head {
    #[default]
    Awaited,
    Arrived,
}

impl State {
    /// Lets go of the oldest chunk.
    fn drop_first(&mut self) {
        if let Some(gone) = self.chunks.pop_front() {
            self.kept -= gone.len();
            self.first += 1;
        }
    }

    /// Lets go of what is beyond the window, but never of what no reader has taken.
    fn trim(&mut self, window: usize) {
        while self.kept > window && self.first < self.fastest {
            self.drop_first();
        }
    }
}

impl Fill {
    /// A fill that begins now, at `born`, with these request fields. `of_a_client`:
    /// nobody else waits for it for long.
    #[must_use]
    pub fn new(born: Born, fields: Fields, of_a_client: bool, kind: u64) -> Arc<Fill> {
        Arc::new(Fill {
            born,
            fields,
            state: Mutex::default(),
            version: watch::Sender::new(0),
            moved: Notify::new(),
            readers: AtomicUsize::new(0),
            of_a_client,
            kind,
            began: Instant::now(),
        })
    }

    /// Whether a newcomer may wait for its head: not where the client that it carries
    /// has left, or where it takes long, for that may be that client's doing.
    pub(super) fn is_worth_waiting(&self) -> bool {
        let state = self.state.lock();
        let slow = self.of_a_client && self.began.elapsed() >= FOLLOW;
        state.lead.is_some() || !(state.orphaned || slow)
    }

    /// Whether it carries fields of a client: how it goes may be that client's doing.
    #[must_use]
    pub fn is_of_a_client(&self) -> bool {
        self.of_a_client
    }

    /// Its leader: the reader whose request it carries. `now`: see [`Fill::born`].
    #[must_use]
    pub fn lead_by(self: &Arc<Fill>, now: Born) -> Subscriber {
        self.subscribe(true, now, self.kind)
    }

    /// A follower, if a newcomer may still join. Then it can read from the first
    /// byte on. `kind`: of its client (see `Ask::kind`).
    #[must_use]
    pub fn join(self: &Arc<Fill>, now: Born, kind: u64) -> Option<Subscriber> {
        // Counted under the lock, with the fill still open: a reader that finds itself alone in a
        // closed fill stays alone.
        let state = self.state.lock();
        let subscriber = (!state.closed).then(|| self.subscribe(false, now, kind));
        drop(state);
        if subscriber.is_some() {
            self.moved.notify_waiters();
        }
        subscriber
    }

    fn subscribe(self: &Arc<Fill>, leader: bool, now: Born, kind: u64) -> Subscriber {
        let patience = if kind == self.kind { FOLLOW } else { FOLLOW_OTHERS };
        self.readers.fetch_add(1, Ordering::AcqRel);
        Subscriber {
            fill: Arc::clone(self),
            version: self.version.subscribe(),
            leader,
            until: (!leader && self.of_a_client).then(|| Instant::now() + patience),
            joined: now,
            interim: 0,
            next: 0,
            taken: 0,
        }
    }

    /// No other may join it: it is its leader's alone.
    pub(super) fn seal(&self) {
        self.state.lock().closed = true;
    }

    /// The head of a response has arrived: it goes on, whichever reader leaves.
    pub(super) fn arrived(&self) {
        self.state.lock().head = Head::Arrived;
    }

    /// Resolves when its leader has left, no other may join it, and the origin has not
    /// answered yet.
    pub(super) async fn abandoned(&self) {
        loop {
            let moved = self.moved.notified();
            if self.readers() == 0 {
                let state = self.state.lock();
                if state.closed && state.head == Head::Awaited {
                    return;
                }
            }
            moved.await;
        }
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

    /// From here on only `window` bytes are kept, no reader joins any more, and
    /// readers that lag further behind are cut off.
    pub(super) fn overflow(&self, window: usize) {
        self.change(|s| {
            s.window = Some(window.max(AHEAD));
            s.closed = true;
        });
    }

    /// Appends to the body. In a pipe it waits for the fastest reader, and
    /// answers false when it has no readers any more.
    pub(super) async fn push(&self, chunk: Bytes) -> bool {
        let piped = self.change(|s| {
            s.brought += chunk.len() as u64;
            s.kept += chunk.len();
            s.chunks.push_back(chunk);
            s.window
        });
        let Some(window) = piped else { return true };
        loop {
            let moved = self.moved.notified();
            if self.readers() == 0 {
                return false;
            }
            {
                let mut s = self.state.lock();
                if s.brought.saturating_sub(s.taken) < AHEAD as u64 / 2 {
                    s.trim(window);
                    return true;
                }
            }
            moved.await;
        }
    }

    /// Keeps the last piece of a body back until [`Fill::finish`]: a reader
    /// that has all of a page may ask for it again at once, and finds it stored.
    pub(super) fn hold(&self, chunk: Bytes) {
        self.state.lock().tail = Some(chunk);
    }

    /// Resolves when it has a reader.
    pub(super) async fn wanted(&self) {
        loop {
            let moved = self.moved.notified();
            if self.readers() > 0 {
                return;
            }
            moved.await;
        }
    }

    /// Resolves when it has no readers any more.
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
    /// It is waited for no longer: it carries the request of a client who has left,
    /// or takes long, and that may be that client's doing.
    Alone,
}

/// A reader of a fill.
#[derive(Debug)]
pub struct Subscriber {
    fill: Arc<Fill>,
    version: watch::Receiver<u64>,
    /// Whether the fill carries this reader's own request.
    pub leader: bool,
    /// When it joined, as invalidations count time.
    pub joined: Born,
    /// Until when a follower waits for the head of what another client asked for.
    until: Option<Instant>,
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

    /// Waits for the head, or for an informational response before it; those go to
    /// the leader alone, because it is not known yet for whom the response is.
    pub async fn head(&mut self) -> Next {
        loop {
            {
                let s = self.fill.state.lock();
                if self.leader
                    && let Some((status, fields)) = s.interim.get(self.interim)
                {
                    self.interim += 1;
                    return Next::Interim(*status, fields.clone());
                }
                if let Some(lead) = &s.lead {
                    return Next::Lead(lead.clone());
                }
                if s.end.is_some() {
                    return Next::Lead(Lead::Failed(Failure::Reset));
                }
                if self.until.is_some() && s.orphaned {
                    return Next::Alone;
                }
            }
            let Some(until) = self.until else {
                self.wait().await;
                continue;
            };
            if tokio::time::timeout_at(until, self.wait()).await.is_err() {
                return Next::Alone;
            }
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
                        s.fastest = self.next;
                        if s.window.is_some() {
                            if self.fill.readers() == 1 {
                                // No other reader will come: a pipe keeps nothing.
                                s.trim(0);
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

    /// Waits for the end; the representation as stored. None as soon as it is
    /// known that there will be none: what is not read then holds up the other readers.
    ///
    /// # Errors
    /// The body broke off.
    pub async fn end(&mut self) -> Result<Option<Arc<Representation>>, Broken> {
        loop {
            {
                let s = self.fill.state.lock();
                if let Some(end) = &s.end {
                    return end.clone();
                }
                if s.window.is_some() {
                    return Ok(None);
                }
            }
            self.wait().await;
        }
    }

    /// Whether this is the only reader, and will be.
    #[must_use]
    pub fn alone(&self) -> bool {
        self.fill.state.lock().closed && self.fill.readers() == 1
    }

    async fn wait(&mut self) {
        // The sender lives in the fill that we hold.
        let _ = self.version.changed().await;
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.leader && self.fill.of_a_client {
            self.fill.change(|s| s.orphaned = true);
        }
        self.fill.readers.fetch_sub(1, Ordering::AcqRel);
        self.fill.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::page::testing;
    use crate::page::testing::logged;

    /// Nothing here takes long; what hangs is a lost wake-up.
    async fn soon<T>(event: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), event).await.expect("a wake-up was lost")
    }

    fn fill() -> Arc<Fill> {
        Fill::new(logged(7), Fields::default(), false, 0)
    }

    fn preview() -> Arc<Preview> {
        Arc::new(Preview {
            status: 200,
            fields: Fields::default(),
            date: None,
            length: None,
            coding: None,
            stored: Ok(()),
            reusable: true,
            failed: false,
            vary: Vec::new(),
            tags: Tags::default(),
        })
    }

    fn piece(size: usize) -> Bytes {
        Bytes::from(vec![b'x'; size])
    }

    async fn read(mut reader: Subscriber) -> Result<usize, Broken> {
        let mut size = 0;
        while let Some(chunk) = reader.chunk().await? {
            size += chunk.len();
        }
        Ok(size)
    }

    #[tokio::test(start_paused = true)]
    async fn everyone_reads_all_of_it_at_any_pace() {
        let fill = fill();
        let mut leader = fill.lead_by(logged(7));
        let early = tokio::spawn(read(fill.join(logged(8), 0).unwrap()));
        fill.interim(103, Fields::default());
        fill.decide(Lead::Shared(preview()));
        // Nobody reads yet, and nothing waits for that: it will be stored.
        for _ in 0..100 {
            assert!(soon(fill.push(piece(10_000))).await);
        }
        let mut late = fill.join(logged(9), 0).unwrap();
        assert!(matches!(leader.head().await, Next::Interim(103, _)));
        assert!(matches!(late.head().await, Next::Lead(Lead::Shared(_))), "not for a follower");
        let rep = Arc::new(testing::rep(crate::page::Form::Document, 7, &[], "x"));
        fill.finish(Ok(Some(rep)));
        assert!(fill.join(logged(9), 0).is_none(), "nobody joins what has ended");
        assert_eq!(soon(early).await.unwrap(), Ok(1_000_000));
        assert_eq!(soon(read(leader)).await, Ok(1_000_000));
        assert!(matches!(soon(late.end()).await, Ok(Some(_))));
        assert_eq!(soon(read(late)).await, Ok(1_000_000));
        assert_eq!(fill.readers(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_breaks_off_is_an_error_to_everyone() {
        let fill = fill();
        let readers = [
            fill.lead_by(logged(7)),
            fill.join(logged(7), 0).unwrap(),
            fill.join(logged(7), 0).unwrap(),
        ];
        let mut waits = fill.join(logged(7), 0).unwrap();
        let early = tokio::spawn(async move { waits.end().await.map(|_| ()) });
        fill.decide(Lead::Shared(preview()));
        fill.push(piece(10)).await;
        fill.finish(Err(Broken::Origin));
        // The first word stands.
        fill.finish(Ok(None));
        fill.decide(Lead::Failed(Failure::Reset));
        assert!(matches!(fill.lead(), Some(Lead::Shared(_))));
        for mut reader in readers {
            assert_eq!(soon(reader.chunk()).await, Ok(Some(piece(10))));
            assert_eq!(soon(reader.chunk()).await, Err(Broken::Origin));
        }
        assert_eq!(soon(early).await.unwrap(), Err(Broken::Origin));
    }

    /// A pipe keeps a bounded amount, waits for its reader, and ends with it.
    #[tokio::test(start_paused = true)]
    async fn a_pipe_waits_for_its_reader() {
        let fill = fill();
        let mut reader = fill.lead_by(logged(7));
        let follower = fill.join(logged(7), 0).unwrap();
        fill.decide(Lead::Private(preview()));
        assert!(fill.join(logged(7), 0).is_none(), "it is its leader's alone");
        drop(follower);
        let writer = {
            let fill = Arc::clone(&fill);
            tokio::spawn(async move {
                let mut pushed = 0;
                while fill.push(piece(64 * 1024)).await {
                    pushed += 1;
                }
                pushed
            })
        };
        for n in 0..1000 {
            soon(reader.chunk()).await.unwrap().unwrap();
            assert!(fill.state.lock().kept <= AHEAD, "after {n}");
        }
        drop(reader);
        let pushed = soon(writer).await.unwrap();
        // The last one may have been read before it was counted.
        assert!((999..1004).contains(&pushed), "{pushed}");
        soon(fill.deserted()).await;
    }

    /// Past the limit who lags is cut off, the fastest never is, and what is
    /// kept stays bounded, whether or not anybody reads.
    #[tokio::test(start_paused = true)]
    async fn what_outgrows_the_store_is_paced_by_the_fastest() {
        let fill = fill();
        let mut fast = fill.lead_by(logged(7));
        let mut slow = fill.join(logged(7), 0).unwrap();
        let mut waits = fill.join(logged(7), 0).unwrap();
        fill.decide(Lead::Shared(preview()));
        for _ in 0..16 {
            fill.push(piece(64 * 1024)).await;
        }
        fill.overflow(1024 * 1024);
        assert!(fill.join(logged(7), 0).is_none());
        assert!(!fast.alone());
        // Who waits for the page to be stored waits no more.
        assert!(matches!(soon(waits.end()).await, Ok(None)));
        drop(waits);
        let writer = {
            let fill = Arc::clone(&fill);
            tokio::spawn(async move {
                for _ in 0..100 {
                    assert!(fill.push(piece(64 * 1024)).await);
                }
                fill.finish(Ok(None));
            })
        };
        tokio::task::yield_now().await;
        assert!(!writer.is_finished(), "it waits, for nobody has read a byte");
        let mut size = 0;
        while let Some(chunk) = soon(fast.chunk()).await.unwrap() {
            size += chunk.len();
            assert!(fill.state.lock().kept <= 1024 * 1024 + AHEAD);
        }
        assert_eq!(size, 116 * 64 * 1024);
        soon(writer).await.unwrap();
        assert_eq!(slow.chunk().await, Err(Broken::Lagging));
    }

    /// The fastest leaves: the others, who lag within the window, go on.
    #[tokio::test(start_paused = true)]
    async fn the_fastest_may_leave() {
        let fill = fill();
        let mut fast = fill.lead_by(logged(7));
        let slow = fill.join(logged(7), 0).unwrap();
        fill.decide(Lead::Shared(preview()));
        fill.overflow(1024 * 1024);
        let writer = {
            let fill = Arc::clone(&fill);
            tokio::spawn(async move {
                for _ in 0..40 {
                    assert!(fill.push(piece(64 * 1024)).await);
                }
                fill.finish(Ok(None));
            })
        };
        for _ in 0..5 {
            soon(fast.chunk()).await.unwrap().unwrap();
        }
        drop(fast);
        assert!(slow.alone());
        assert_eq!(soon(read(slow)).await, Ok(40 * 64 * 1024));
        soon(writer).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_piece_comes_with_the_end() {
        let fill = fill();
        let mut reader = fill.lead_by(logged(7));
        fill.decide(Lead::Shared(preview()));
        fill.push(piece(1)).await;
        fill.hold(piece(2));
        assert_eq!(reader.chunk().await, Ok(Some(piece(1))));
        assert!(reader.chunk().now_or_never().is_none());
        fill.finish(Ok(None));
        assert_eq!(reader.chunk().await, Ok(Some(piece(2))));
        assert_eq!(reader.chunk().await, Ok(None));
    }

    /// However a fill ends before its head came, nobody waits for one.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_head_that_never_comes() {
        let fill = fill();
        let mut reader = fill.lead_by(logged(7));
        let waits = tokio::spawn(async move { matches!(reader.head().await, Next::Lead(_)) });
        tokio::task::yield_now().await;
        fill.finish(Err(Broken::Origin));
        assert!(soon(waits).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fill_hears_of_readers() {
        let fill = fill();
        let reader = {
            let fill = Arc::clone(&fill);
            tokio::spawn(async move {
                fill.wanted().await;
                fill.deserted().await;
            })
        };
        tokio::task::yield_now().await;
        let follower = fill.join(logged(7), 0).unwrap();
        tokio::task::yield_now().await;
        assert!(!reader.is_finished());
        drop(follower);
        soon(reader).await.unwrap();
    }

    /// A fill that nobody may join is abandoned when its leader leaves before the
    /// head; any other never.
    #[tokio::test(start_paused = true)]
    async fn what_is_abandoned() {
        let sealed = fill();
        sealed.seal();
        assert!(sealed.join(logged(7), 0).is_none());
        let leader = sealed.lead_by(logged(7));
        let ends = {
            let fill = Arc::clone(&sealed);
            tokio::spawn(async move { fill.abandoned().await })
        };
        tokio::task::yield_now().await;
        assert!(!ends.is_finished());
        drop(leader);
        soon(ends).await.unwrap();

        let answered = fill();
        answered.seal();
        answered.arrived();
        assert!(answered.abandoned().now_or_never().is_none(), "it is on its way to the store");
        let open = fill();
        drop(open.lead_by(logged(7)));
        assert!(open.abandoned().now_or_never().is_none(), "it belongs to nobody");
    }

    /// Readers on other threads come, read and leave while it is written, closed
    /// and ended: everyone gets all of it or an error, and nothing hangs.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_is_lost() {
        for round in 0..300 {
            let fill = fill();
            let leader = fill.lead_by(logged(7));
            let private = round % 3 == 0;
            let writer = {
                let fill = Arc::clone(&fill);
                tokio::spawn(async move {
                    if private {
                        fill.decide(Lead::Private(preview()));
                    } else {
                        fill.decide(Lead::Shared(preview()));
                    }
                    let mut size = 0;
                    for n in 0..40 {
                        if n == 20 && round % 3 == 1 {
                            fill.overflow(0);
                        }
                        size += 20_000;
                        if !fill.push(piece(20_000)).await {
                            break;
                        }
                        if n % 8 == round % 8 {
                            tokio::task::yield_now().await;
                        }
                    }
                    fill.finish(Ok(None));
                    size
                })
            };
            let mut readers = Vec::new();
            for n in 0..6 {
                let Some(mut reader) = fill.join(logged(7), 0) else { break };
                readers.push(tokio::spawn(async move {
                    if let Next::Lead(Lead::Private(_)) = reader.head().await {
                        return Ok(None);
                    }
                    for _ in 0..n * 3 {
                        reader.chunk().await?;
                    }
                    if n % 2 == 0 {
                        return Ok(None);
                    }
                    let rest = read(reader).await;
                    rest.map(Some)
                }));
            }
            let led = soon(read(leader)).await;
            let size = soon(writer).await.unwrap();
            assert!(led == Ok(size) || led == Err(Broken::Lagging), "{led:?}");
            if round % 3 != 1 {
                assert_eq!(led, Ok(size), "nobody is cut off");
            }
            for reader in readers {
                let _ = soon(reader).await.unwrap();
            }
            assert_eq!(fill.readers(), 0);
        }
    }

    proptest! {
        /// Whatever is written and read in whatever order: a reader gets the
        /// bytes in order and all of them, or is told that it lags.
        #[test]
        fn bytes_come_in_order(
            steps in proptest::collection::vec((0usize..4, 1usize..90_000), 1..80),
            overflow_at in 0usize..100,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let fill = fill();
                fill.decide(Lead::Shared(preview()));
                let mut readers = [fill.lead_by(logged(7)), fill.join(logged(7), 0).unwrap(), fill.join(logged(7), 0).unwrap()];
                let mut taken = [0usize; 3];
                let mut written = 0usize;
                let byte = |at: usize| (at % 251) as u8;
                for (n, (what, size)) in steps.into_iter().enumerate() {
                    if n == overflow_at {
                        fill.overflow(200_000);
                    }
                    if what == 3 {
                        let chunk: Vec<u8> = (written..written + size).map(byte).collect();
                        written += size;
                        // Written, even where it would then wait for the readers.
                        let _ = fill.push(chunk.into()).now_or_never();
                        continue;
                    }
                    match readers[what].chunk().now_or_never() {
                        Some(Ok(Some(chunk))) => {
                            for got in chunk {
                                prop_assert_eq!(got, byte(taken[what]));
                                taken[what] += 1;
                            }
                        }
                        None => prop_assert_eq!(taken[what], written),
                        Some(Err(Broken::Lagging)) => {
                            let most = taken.iter().max().unwrap();
                            prop_assert!(n >= overflow_at && taken[what] < *most);
                        }
                        Some(end) => prop_assert!(false, "{:?}", end),
                    }
                }
                Ok(())
            })?;
        }
    }
}
