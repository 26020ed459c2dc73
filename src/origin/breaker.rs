//! The breaker of an origin (semantics §3): it keeps requests away from an
//! origin that does not answer, and no client can open it.
//!
//! Clients choose what is asked for, and they can make up paths. So it takes
//! much to open it, and little to close it:
//!
//! - Only silence counts (see [`Liveness`]), and of one page only a few times.
//!   Many pages must be silent, and none may have answered since.
//! - Where the origin took the connections, somebody may have made those pages up, or
//!   queries that break pages that were served. Then the origin is asked for other
//!   pages, if need be for `/`, and that decides (see `probe`).
//! - While it is open, a page that is known to have been served goes first: if
//!   the others failed because somebody made them up, it closes the breaker.
//! - While it is open, a probe of our own goes every other turn. Or whoever sends
//!   most of the requests would have nearly all of the turns, and could keep it open.
//! - A breaker that closed soon after it opened was wrong. For a while it does
//!   not believe the silence of pages that nobody has ever been served.
//!
//! A pure state machine: `now` is an argument, nothing is logged here. It takes
//! some twenty KiB for an origin.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

use super::liveness::Liveness;
use crate::page::canonical_path;

/// How far back attempts count.
const WINDOW: Duration = Duration::from_secs(10);

/// Attempts within [`WINDOW`] that it takes to open the breaker, half of them
/// failed.
pub(super) const MIN_ATTEMPTS: usize = 20;

/// Different pages that must have failed.
const MIN_PAGES: usize = 5;

/// Failures of one page that count.
const MAX_PER_PAGE: usize = MIN_ATTEMPTS / MIN_PAGES;

/// Attempts that must have failed since the origin answered last, whatever it
/// said: who answers between two failures is there.
const MIN_ROW: usize = 10;

/// Time between two requests that an open breaker lets through.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The same where health checks decide: requests close the breaker only if the
/// checks are wrong.
const CHECKED_PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// How much earlier than others a page may go that was served before.
const HEAD_START: Duration = Duration::from_millis(250);

/// How long a breaker that opened wrongly is slow to open again.
const DOUBT: Duration = Duration::from_secs(60);

/// Time after a probe that could not be sent until the next one.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Attempts that are remembered at most. The latest decide.
const REMEMBERED: usize = 256;

/// Pages of which it is remembered that they were served, about. A power of two.
const SERVED: usize = 1024;

/// What counts as one page: a path. Not its query, nor the host: clients can
/// make those up for one broken page, and other spellings of its path, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PageId(u64);

impl PageId {
    /// No page, almost surely.
    const NONE: PageId = PageId(0);

    /// The page of a request target: a path, perhaps with a query.
    pub(super) fn of(target: &str) -> PageId {
        PageId::of_segments(target, usize::MAX)
    }

    /// The same of the first segment of its path alone: pages below one are often broken
    /// together.
    pub(super) fn section(target: &str) -> PageId {
        PageId::of_segments(target, 1)
    }

    fn of_segments(target: &str, segments: usize) -> PageId {
        // Unforeseeable, or somebody could push a page out of the memory of those
        // that were served.
        static SEED: LazyLock<u64> = LazyLock::new(|| fastrand::u64(..));
        let path = canonical_path(target.split(['?', ';']).next().unwrap_or(target));
        let mut folded = String::with_capacity(path.len());
        for segment in path.split('/').filter(|segment| !segment.is_empty()).take(segments) {
            folded.push('/');
            folded.extend(segment.chars().map(|c| c.to_ascii_lowercase()));
        }
        PageId(xxhash_rust::xxh3::xxh3_64_with_seed(folded.as_bytes(), *SEED))
    }
}

/// What the health checks of an origin say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checks {
    /// There are none.
    None,
    /// No server passed its last one.
    Fail,
    /// At least one server did.
    Pass,
}

/// What a recorded liveness changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// It is in question whether the origin answers: a probe is to be sent, and
    /// [`Breaker::probed`] told how it went.
    Ask,
    /// The probe was answered: the pages that were silent were made up.
    Refuted,
    /// The breaker opened.
    Opened,
    /// The breaker closed.
    Closed,
}

/// The state of an origin's breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    /// The oldest comes first; at most [`REMEMBERED`], none older than [`WINDOW`]
    /// after the last record.
    attempts: VecDeque<Attempt>,
    /// Pages that were served, each at the place that its hash says.
    served: Box<[PageId]>,
    gate: Option<Gate>,
    question: Option<Question>,
    doubt_until: Option<Instant>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// It may go to the origin.
    pub(super) admitted: bool,
    /// A probe is to be sent, with it or in its place: how many went before, since the
    /// breaker opened.
    pub(super) probe: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    at: Instant,
    page: PageId,
    liveness: Liveness,
}

impl Attempt {
    const fn failed(&self) -> bool {
        self.liveness.is_failure()
    }
}

/// Whether the origin answers, though many pages are silent.
#[derive(Clone, Copy, Debug)]
enum Question {
    /// A probe is under way. If it fails the breaker opens, unless the origin has
    /// answered something else meanwhile; then `stands` is false.
    Asked { stands: bool },
    /// The last probe could not be sent. The next one may be, from then on.
    Later(Instant),
}

/// An open breaker.
#[derive(Clone, Copy, Debug)]
struct Gate {
    opened: Instant,
    /// The last turn: when it was, and the page of the request that was let through.
    last: Option<(Instant, PageId)>,
    /// How many turns there were.
    turns: usize,
}

impl Breaker {
    /// A closed breaker.
    pub(super) fn new() -> Self {
        Self {
            attempts: VecDeque::new(),
            served: vec![PageId::NONE; SERVED].into(),
            gate: None,
            question: None,
            doubt_until: None,
        }
    }

    /// Whether a request for `page` may go to the origin now. While the breaker is
    /// open, that takes the turn of this interval.
    pub(super) fn admit(&mut self, page: PageId, checks: Checks, now: Instant) -> Turn {
        let mut turn = Turn { admitted: self.has_turn(page, checks, now), probe: None };
        let known = self.was_served(page);
        let Some(gate) = self.gate.as_mut().filter(|_| turn.admitted) else { return turn };
        // Every other one, so that nobody is locked out where the probe asks for pages
        // that are broken. Health checks are probes themselves.
        if checks == Checks::None && gate.turns.is_multiple_of(2) {
            turn = Turn { admitted: known, probe: Some(gate.turns / 2) };
        }
        gate.last = Some((now, if turn.admitted { page } else { PageId::NONE }));
        gate.turns += 1;
        turn
    }

    /// Whether [`admit`](Self::admit) would take a turn now, or none is needed.
    pub(super) fn has_turn(&self, page: PageId, checks: Checks, now: Instant) -> bool {
        let Some(gate) = self.gate else { return true };
        let interval = match checks {
            Checks::None => PROBE_INTERVAL,
            Checks::Fail | Checks::Pass => CHECKED_PROBE_INTERVAL,
        };
        let (since, wait) = match gate.last {
            None if checks == Checks::None && self.was_served(page) => return true,
            None => (gate.opened, interval),
            // Not the same broken page again, as long as others come.
            Some((since, last)) if last == page => (since, interval * 2),
            Some((since, _)) if self.was_served(page) => (since, interval - HEAD_START),
            Some((since, _)) => (since, interval),
        };
        now.saturating_duration_since(since) >= wait
    }

    /// Takes note of how a request for `page` went. An answer closes the breaker
    /// whenever its request began.
    pub(super) fn record(
        &mut self,
        page: PageId,
        liveness: Liveness,
        checks: Checks,
        now: Instant,
    ) -> Change {
        if liveness == Liveness::Silent && self.doubts(now) && !self.was_served(page) {
            return Change::None;
        }
        let attempt = self.remember(page, liveness, now);
        if !attempt.failed() {
            return self.close(now);
        }
        // Checks that pass say that it answers; whoever has some should be able to
        // rely on them.
        if self.gate.is_some() || checks == Checks::Pass || !self.is_dead() {
            return Change::None;
        }
        if checks == Checks::None && !self.is_certain() {
            return self.ask(now);
        }
        self.open(now)
    }

    /// Takes note of how the probe went that [`Change::Ask`] wanted, for `page`. None:
    /// it could not be sent, or nobody knows how it went; that decides nothing.
    pub(super) fn probed(
        &mut self,
        probe: Option<(PageId, Liveness)>,
        checks: Checks,
        now: Instant,
    ) -> Change {
        let stands = matches!(self.question.take(), Some(Question::Asked { stands: true }));
        let Some((page, liveness)) = probe else {
            self.question = Some(Question::Later(now + ASK_AGAIN));
            return Change::None;
        };
        let attempt = self.remember(page, liveness, now);
        if attempt.failed() {
            let opens = stands && self.gate.is_none() && checks != Checks::Pass;
            return if opens { self.open(now) } else { Change::None };
        }
        let closed = self.close(now);
        self.doubt_until = Some(now + DOUBT);
        self.attempts.clear();
        if closed == Change::None { Change::Refuted } else { closed }
    }

    /// The origin answered a request or a health check.
    pub(super) fn close(&mut self, now: Instant) -> Change {
        if let Some(Question::Asked { stands }) = &mut self.question {
            *stands = false;
        }
        let Some(gate) = self.gate.take() else { return Change::None };
        if now.saturating_duration_since(gate.opened) < WINDOW {
            self.doubt_until = Some(now + DOUBT);
        }
        self.attempts.clear();
        Change::Closed
    }

    fn open(&mut self, now: Instant) -> Change {
        self.gate = Some(Gate { opened: now, last: None, turns: 0 });
        Change::Opened
    }

    /// The failures may be made up: one probe at a time finds out.
    fn ask(&mut self, now: Instant) -> Change {
        match &mut self.question {
            Some(Question::Asked { stands }) => *stands = true,
            Some(Question::Later(then)) if now < *then => {}
            Some(Question::Later(_)) | None => {
                self.question = Some(Question::Asked { stands: true });
                return Change::Ask;
            }
        }
        Change::None
    }

    /// Whether it is open.
    pub(super) const fn is_open(&self) -> bool {
        self.gate.is_some()
    }

    fn remember(&mut self, page: PageId, liveness: Liveness, now: Instant) -> Attempt {
        let attempt = Attempt { at: now, page, liveness };
        if liveness == Liveness::Served {
            self.served[Self::place(page)] = page;
        }
        let old = |first: &Attempt| attempt.at.saturating_duration_since(first.at) > WINDOW;
        while self.attempts.front().is_some_and(old) || self.attempts.len() >= REMEMBERED {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
        attempt
    }

    /// The attempts that failed since the origin answered last, the latest first.
    fn row(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().rev().take_while(|attempt| attempt.failed())
    }

    /// Whether the attempts that are remembered are those of a dead origin.
    fn is_dead(&self) -> bool {
        // Cheap, and almost always enough.
        if self.attempts.len() < MIN_ATTEMPTS {
            return false;
        }
        let row = Failures::of(self.row());
        if row.pages < MIN_PAGES || row.count < MIN_ROW {
            return false;
        }
        let all = Failures::of(self.attempts.iter().filter(|attempt| attempt.failed()));
        let answered = self.attempts.iter().filter(|attempt| !attempt.failed()).count();
        all.count + answered >= MIN_ATTEMPTS && all.count >= answered
    }

    /// Whether no client can have a part in enough of those that failed: the origin
    /// could not even be asked. A page that was served may be silent for another query.
    fn is_certain(&self) -> bool {
        let certain = |attempt: &&Attempt| attempt.liveness == Liveness::Unreachable;
        Failures::of(self.row().filter(certain)).pages >= MIN_PAGES
    }

    /// Whether it does not believe the silence of pages that nobody was ever served.
    pub(super) fn doubts(&self, now: Instant) -> bool {
        self.doubt_until.is_some_and(|until| now < until)
    }

    fn was_served(&self, page: PageId) -> bool {
        self.served[Self::place(page)] == page
    }

    const fn place(page: PageId) -> usize {
        (page.0 as usize) & (SERVED - 1)
    }
}

/// Failed attempts, counted.
struct Failures {
    /// At most [`MAX_PER_PAGE`] for each page.
    count: usize,
    /// How many pages.
    pages: usize,
}

impl Failures {
    fn of<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Failures {
        let mut pages: Vec<PageId> = attempts.map(|attempt| attempt.page).collect();
        pages.sort_unstable();
        let by_page = pages.chunk_by(|a, b| a == b);
        by_page.fold(Failures { count: 0, pages: 0 }, |sum, page| Failures {
            count: sum.count + page.len().min(MAX_PER_PAGE),
            pages: sum.pages + 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Liveness::{Answered, Served, Silent, Unreachable};

    const MS: Duration = Duration::from_millis(1);

    fn page(n: usize) -> PageId {
        PageId::of(&format!("/{n}"))
    }

    /// A breaker without health checks, and its clock.
    struct Bench {
        breaker: Breaker,
        now: Instant,
        checks: Checks,
        /// How a probe goes, at once. None: the test says it later.
        probe: Option<Liveness>,
    }

    const NO_TURN: Turn = Turn { admitted: false, probe: None };

    /// The page that the probe asks for.
    const HOME: usize = 5000;

    impl Bench {
        fn new() -> Bench {
            Bench {
                breaker: Breaker::new(),
                now: Instant::now(),
                checks: Checks::None,
                probe: Some(Silent),
            }
        }

        fn record(&mut self, n: usize, liveness: Liveness) -> Change {
            let change = self.breaker.record(page(n), liveness, self.checks, self.now);
            match (change, self.probe) {
                (Change::Ask, Some(liveness)) => self.probed(Some((HOME, liveness))),
                _ => change,
            }
        }

        fn probed(&mut self, probe: Option<(usize, Liveness)>) -> Change {
            let probe = probe.map(|(n, liveness)| (page(n), liveness));
            self.breaker.probed(probe, self.checks, self.now)
        }

        fn turn(&mut self, n: usize) -> Turn {
            let asked = self.breaker.has_turn(page(n), self.checks, self.now);
            let turn = self.breaker.admit(page(n), self.checks, self.now);
            assert_eq!(asked, turn.admitted || turn.probe.is_some());
            turn
        }

        fn admit(&mut self, n: usize) -> bool {
            self.turn(n).admitted
        }

        /// The first turn goes to a probe, and the next one is due.
        fn skip_probe(&mut self) {
            self.now += PROBE_INTERVAL;
            assert_eq!(self.turn(9999), Turn { admitted: false, probe: Some(0) });
            self.now += PROBE_INTERVAL;
        }

        /// So many pages fail, from `from` on.
        fn fail(&mut self, from: usize, pages: usize, liveness: Liveness) {
            for n in from..from + pages {
                self.record(n, liveness);
            }
        }

        fn opened() -> Bench {
            let mut bench = Bench::new();
            bench.fail(0, MIN_ATTEMPTS, Unreachable);
            assert!(bench.breaker.is_open());
            bench
        }
    }

    #[test]
    fn one_page_has_many_names() {
        let one = PageId::of("/a/b");
        for name in ["/a/b?c", "/a/b/", "//a///b", "/A/b", "/%61/b", "/a/./b", "/a/b;c=1", "/a/b#"]
        {
            let same = PageId::of(name) == one;
            assert_eq!(same, name != "/a/b#", "{name}");
        }
        assert_eq!(PageId::of("/"), PageId::of("/?a"));
        assert_ne!(PageId::of("/a"), PageId::of("/b"));
        assert_eq!(PageId::section("//%61/b?c"), PageId::of("/A"));
        assert_eq!(PageId::section("/"), PageId::of("/"));
    }

    /// attempts as (liveness, pages, attempts of each), in order; whether it opens
    #[test]
    fn what_opens_it() {
        type Attempts = &'static [(Liveness, usize, usize)];
        let cases: &[(Attempts, bool)] = &[
            // A dead origin, in whatever way it is dead.
            (&[(Unreachable, 20, 1)], true),
            (&[(Silent, 20, 1)], true),
            (&[(Silent, 5, 4)], true),
            // Too few.
            (&[(Silent, 19, 1)], false),
            // Too few pages, however often they are asked for.
            (&[(Silent, 1, 1000)], false),
            (&[(Silent, 4, 1000)], false),
            (&[(Unreachable, 4, 1000)], false),
            // One page cannot make up for what is missing of others.
            (&[(Silent, 1, 1000), (Silent, 4, 1)], false),
            // Half of them, and it answered before that.
            (&[(Served, 20, 1), (Silent, 19, 1)], false),
            (&[(Served, 20, 1), (Silent, 20, 1)], true),
            (&[(Answered, 20, 1), (Silent, 20, 1)], true),
            // It answers in between: a page with an error of its own is an answer.
            (&[(Silent, 9, 1), (Served, 1, 1), (Silent, 9, 1), (Served, 1, 1)], false),
            (&[(Silent, 19, 1), (Answered, 1, 1), (Silent, 9, 1)], false),
            (&[(Answered, 1000, 1)], false),
        ];
        for (attempts, opens) in cases {
            let mut bench = Bench::new();
            let mut first = 0;
            for &(liveness, pages, each) in *attempts {
                for n in 0..each * pages {
                    bench.record(first + n % pages, liveness);
                }
                first += pages;
            }
            assert_eq!(bench.breaker.is_open(), *opens, "{attempts:?}");
        }
    }

    #[test]
    fn only_the_last_ten_seconds_count() {
        let mut bench = Bench::new();
        bench.fail(0, 10, Silent);
        bench.now += WINDOW + MS;
        bench.fail(0, 19, Silent);
        assert!(!bench.breaker.is_open());
        bench.now += WINDOW;
        assert_eq!(bench.record(19, Silent), Change::Opened);
        assert_eq!(bench.record(20, Silent), Change::None, "said once");
    }

    #[test]
    fn open_it_lets_one_request_a_second_through_and_the_first_answer_closes_it() {
        let mut bench = Bench::opened();
        assert!(!bench.admit(100));
        bench.now += PROBE_INTERVAL - MS;
        assert_eq!(bench.turn(100), NO_TURN);
        bench.now += MS;
        for (turn, probe) in [Some(0), None, Some(1), None].into_iter().enumerate() {
            // One that never reports blocks nothing.
            assert_eq!(bench.turn(100 + turn), Turn { admitted: probe.is_none(), probe });
            for n in 0..200 {
                assert_eq!(bench.turn(n), NO_TURN, "one a second");
            }
            bench.now += PROBE_INTERVAL;
        }
        assert_eq!(bench.record(101, Answered), Change::Closed);
        assert!(bench.admit(1) && bench.admit(1));
        // What was before is forgotten.
        bench.fail(0, MIN_ATTEMPTS - 1, Unreachable);
        assert!(!bench.breaker.is_open());
    }

    #[test]
    fn each_turn_is_for_another_page() {
        let mut bench = Bench::opened();
        bench.skip_probe();
        assert!(bench.admit(0));
        bench.record(0, Unreachable);
        bench.now += PROBE_INTERVAL;
        assert_eq!(bench.turn(0), NO_TURN, "it had its turn");
        assert_eq!(bench.turn(1).probe, Some(1));
        bench.now += PROBE_INTERVAL;
        assert!(bench.admit(0));
        bench.now += PROBE_INTERVAL;
        assert_eq!(bench.turn(0), NO_TURN);
        bench.now += PROBE_INTERVAL;
        assert_eq!(bench.turn(0).probe, Some(2), "nobody else comes");
    }

    /// Whoever asks most often, for pages that break what was served or for others.
    #[test]
    fn nobody_takes_the_turns_of_the_probe_nor_the_probe_all_of_them() {
        for known in [true, false] {
            let mut bench = Bench::opened();
            if known {
                // Without a record: that would close it.
                for n in 0..100 {
                    bench.breaker.served[Breaker::place(page(n))] = page(n);
                }
            }
            let (mut admitted, mut probes) = (0, 0);
            let end = bench.now + PROBE_INTERVAL * 60;
            while bench.now < end {
                for n in 0..100 {
                    let turn = bench.turn(n);
                    admitted += usize::from(turn.admitted);
                    probes += usize::from(turn.probe.is_some());
                }
                bench.now += MS * 40;
            }
            // With its head start it has 80 turns, and otherwise 60.
            assert!((28..=40).contains(&probes), "{probes}");
            assert!((28..=80).contains(&admitted), "{admitted}");
        }
    }

    #[test]
    fn pages_that_were_served_go_first() {
        let mut bench = Bench::new();
        bench.record(1000, Served);
        bench.fail(0, MIN_ATTEMPTS, Silent);
        assert!(bench.breaker.is_open());
        assert_eq!(bench.turn(0), NO_TURN, "made up, perhaps");
        assert_eq!(bench.turn(1000), Turn { admitted: true, probe: Some(0) }, "at once");
        assert_eq!(bench.turn(1000), NO_TURN);
        bench.now += PROBE_INTERVAL;
        assert_eq!(bench.turn(1000), NO_TURN, "it had its turn");
        assert!(bench.admit(0));
        bench.now += PROBE_INTERVAL - HEAD_START;
        assert_eq!(bench.turn(1), NO_TURN);
        assert_eq!(bench.turn(1000), Turn { admitted: true, probe: Some(1) });
    }

    #[test]
    fn a_breaker_that_was_wrong_is_slow_to_open_again() {
        let mut bench = Bench::new();
        for n in 1000..1020 {
            bench.record(n, Served);
        }
        bench.now += WINDOW + MS;
        bench.fail(0, 20, Silent);
        assert!(bench.admit(1000));
        assert_eq!(bench.record(1000, Served), Change::Closed);
        // The same again, for ever: made up.
        bench.fail(2000, 1000, Silent);
        assert!(!bench.breaker.is_open());
        // What nobody can make up still counts.
        bench.now += WINDOW + MS;
        // Twice, for some of them may have been forgotten.
        bench.fail(1000, 20, Silent);
        bench.fail(1000, 20, Silent);
        assert!(bench.breaker.is_open(), "pages that were served before");
        let mut bench = Bench::opened();
        bench.record(0, Answered);
        bench.fail(2000, 20, Unreachable);
        assert!(bench.breaker.is_open(), "it cannot even be asked");
    }

    #[test]
    fn one_that_was_right_is_not() {
        let mut bench = Bench::opened();
        bench.now += WINDOW;
        assert_eq!(bench.record(0, Served), Change::Closed);
        bench.fail(2000, 20, Silent);
        assert!(bench.breaker.is_open());
    }

    #[test]
    fn health_checks_decide_where_there_are_some() {
        let mut bench = Bench::new();
        bench.checks = Checks::Pass;
        bench.fail(0, 1000, Unreachable);
        assert!(!bench.breaker.is_open(), "the checks say that it answers");
        bench.checks = Checks::Fail;
        assert_eq!(bench.record(0, Unreachable), Change::Opened);
        bench.now += PROBE_INTERVAL;
        assert!(!bench.admit(2000));
        assert_eq!(bench.breaker.close(bench.now), Change::Closed);
        assert_eq!(bench.breaker.close(bench.now), Change::None, "said once");
        // Checks can be wrong: nobody is locked out for ever.
        let mut bench = Bench::opened();
        bench.checks = Checks::Fail;
        bench.now += CHECKED_PROBE_INTERVAL;
        assert_eq!(bench.turn(0), Turn { admitted: true, probe: None });
        assert_eq!(bench.turn(1), NO_TURN);
    }

    /// So many made-up pages fail as it takes to ask, right after the start.
    fn in_question() -> Bench {
        let mut bench = Bench { probe: None, ..Bench::new() };
        bench.fail(0, MIN_ATTEMPTS - 1, Silent);
        assert_eq!(bench.record(MIN_ATTEMPTS, Silent), Change::Ask);
        assert!(!bench.breaker.is_open());
        bench
    }

    #[test]
    fn the_silence_of_pages_that_nobody_was_served_is_a_question() {
        let mut bench = in_question();
        for n in 0..1000 {
            assert_eq!(bench.record(n, Silent), Change::None, "one probe at a time");
            assert!(bench.admit(n));
        }
        assert_eq!(bench.probed(Some((1000, Answered))), Change::Refuted);
        // It has learnt: the same again needs no probe.
        bench.now += DOUBT - MS;
        for n in 0..1000 {
            assert_eq!(bench.record(n, Silent), Change::None);
        }
        assert!(!bench.breaker.is_open());
        bench.now += MS;
        bench.fail(0, MIN_ATTEMPTS - 1, Silent);
        assert_eq!(bench.record(2000, Silent), Change::Ask, "not for ever");
    }

    #[test]
    fn a_probe_that_fails_opens_it_at_once() {
        for liveness in [Silent, Unreachable] {
            let mut bench = in_question();
            bench.now += WINDOW * 2;
            assert_eq!(bench.probed(Some((1000, liveness))), Change::Opened, "{liveness:?}");
            assert!(!bench.admit(1));
            // As any other open one.
            assert_eq!(bench.record(1000, Served), Change::Closed);
        }
        let mut bench = in_question();
        bench.checks = Checks::Pass;
        assert_eq!(bench.probed(Some((1000, Silent))), Change::None, "the checks decide");
    }

    #[test]
    fn whatever_is_answered_meanwhile_answers_the_question() {
        let mut bench = in_question();
        bench.record(0, Answered);
        assert_eq!(bench.probed(Some((1000, Silent))), Change::None);
        assert!(!bench.breaker.is_open());
        // Unless the same begins again: then the probe under way decides it.
        let mut bench = in_question();
        bench.record(0, Answered);
        for n in 0..MIN_ATTEMPTS {
            assert_eq!(bench.record(n, Silent), Change::None, "one probe at a time");
        }
        assert_eq!(bench.probed(Some((1000, Silent))), Change::Opened);
    }

    #[test]
    fn a_probe_that_could_not_be_sent_decides_nothing() {
        let mut bench = in_question();
        assert_eq!(bench.probed(None), Change::None);
        bench.now += ASK_AGAIN - MS;
        assert_eq!(bench.record(0, Silent), Change::None, "not in a hurry");
        bench.now += MS;
        assert_eq!(bench.record(0, Silent), Change::Ask);
        assert_eq!(bench.probed(Some((1000, Silent))), Change::Opened);
    }

    #[test]
    fn what_cannot_be_made_up_is_no_question() {
        let opens = |probe, checks, bring: fn(&mut Bench)| {
            let mut bench = Bench::new();
            for n in 1000..1000 + MIN_PAGES {
                bench.record(n, Served);
            }
            bench.now += WINDOW + MS;
            (bench.probe, bench.checks) = (Some(probe), checks);
            bring(&mut bench);
            bench.breaker.is_open()
        };
        let made_up: fn(&mut Bench) = |bench| bench.fail(0, 20, Silent);
        assert!(!opens(Answered, Checks::None, made_up));
        assert!(opens(Silent, Checks::None, made_up));
        assert!(opens(Answered, Checks::Fail, made_up), "the checks say so, too");
        assert!(!opens(Silent, Checks::Pass, made_up));
        assert!(opens(Answered, Checks::None, |bench| bench.fail(0, 20, Unreachable)));
        for (known, liveness, is) in [
            (MIN_PAGES - 1, Unreachable, false),
            (MIN_PAGES, Unreachable, true),
            // With another query, perhaps.
            (20, Silent, false),
        ] {
            let mut bench = Bench::new();
            for n in 0..known {
                bench.record(n, Served);
            }
            bench.now += WINDOW + MS;
            bench.probe = None;
            bench.fail(0, known, liveness);
            bench.fail(100, 20, Silent);
            assert_eq!(bench.breaker.is_open(), is, "{known} {liveness:?}");
        }
    }

    #[test]
    fn one_that_opened_while_the_probe_was_under_way_is_closed_by_its_answer() {
        let mut bench = in_question();
        bench.fail(0, MIN_PAGES, Unreachable);
        assert!(bench.breaker.is_open());
        assert_eq!(bench.probed(Some((1000, Served))), Change::Closed);
        let mut bench = in_question();
        bench.fail(0, MIN_PAGES, Unreachable);
        assert_eq!(bench.probed(Some((1000, Silent))), Change::None, "said once");
        assert!(bench.breaker.is_open());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Ask(usize),
        Record(usize, Liveness),
    }

    fn steps(pages: usize) -> impl Strategy<Value = Vec<Step>> {
        let liveness = prop_oneof![
            8 => Just(Silent),
            4 => Just(Unreachable),
            1 => Just(Answered),
            1 => Just(Served),
        ];
        let step = prop_oneof![
            1 => (0u64..1500).prop_map(Step::Wait),
            4 => (0..pages).prop_map(Step::Ask),
            8 => (0..pages, liveness).prop_map(|(page, liveness)| Step::Record(page, liveness)),
        ];
        prop::collection::vec(step, 0..400)
    }

    fn play(steps: &[Step], mut each: impl FnMut(&mut Bench, &Step, bool, bool)) {
        let mut bench = Bench::new();
        for step in steps {
            let was_open = bench.breaker.is_open();
            let admitted = match step {
                Step::Wait(ms) => {
                    bench.now += Duration::from_millis(*ms);
                    false
                }
                Step::Ask(n) => bench.turn(*n) != NO_TURN,
                Step::Record(n, liveness) => {
                    let change = bench.record(*n, *liveness);
                    let is_open = bench.breaker.is_open();
                    let expected = match (was_open, is_open) {
                        (false, true) => Change::Opened,
                        (true, false) => Change::Closed,
                        _ => Change::None,
                    };
                    assert_eq!(change, expected);
                    false
                }
            };
            each(&mut bench, step, was_open, admitted);
        }
    }

    proptest! {
        /// Whatever a client makes up, as long as the origin answers what was served.
        #[test]
        fn made_up_pages_never_open_it(
            steps in prop::collection::vec((0usize..40, 0u64..300, 0u8..8), 0..400),
        ) {
            let mut bench = Bench { probe: None, ..Bench::new() };
            let mut asked = false;
            for (n, wait, what) in steps {
                bench.now += Duration::from_millis(wait);
                let change = match what {
                    0 => bench.record(n, Answered),
                    1 if asked => {
                        asked = false;
                        let answer = [None, Some((1000, Served)), Some((1000, Answered))];
                        bench.probed(answer[n % 3])
                    }
                    _ => bench.record(n, Silent),
                };
                assert!(!bench.breaker.is_open());
                if change == Change::Ask {
                    assert!(!asked, "one at a time");
                    asked = true;
                }
            }
        }

        /// One client with a few broken pages does what they want, and it stays shut.
        #[test]
        fn a_few_pages_never_open_it(steps in steps(MIN_PAGES - 1)) {
            play(&steps, |bench, _, _, _| assert!(!bench.breaker.is_open()));
        }

        /// Whatever happens: closed it lets everything through, open hardly anything;
        /// an answer closes it; and it opens only as the semantics have it, by a
        /// model that keeps the whole history.
        #[test]
        fn it_is_what_the_history_says(steps in steps(40)) {
            let mut history: Vec<(Instant, usize, bool)> = Vec::new();
            let mut turns: Vec<Instant> = Vec::new();
            play(&steps, |bench, step, was_open, admitted| {
                match *step {
                    Step::Wait(_) => {}
                    Step::Ask(_) if !was_open => assert!(admitted),
                    Step::Ask(_) => {
                        if admitted {
                            turns.push(bench.now);
                        }
                        if let [.., last, this] = turns[..] {
                            assert!(this - last >= PROBE_INTERVAL - HEAD_START);
                        }
                    }
                    Step::Record(n, liveness) => {
                        let failed = matches!(liveness, Silent | Unreachable);
                        history.push((bench.now, n, failed));
                        if !failed {
                            assert!(!bench.breaker.is_open());
                        }
                        if !was_open && bench.breaker.is_open() {
                            turns.clear();
                            let recent: Vec<_> =
                                history.iter().filter(|h| bench.now - h.0 <= WINDOW).collect();
                            let bad: Vec<_> =
                                recent.iter().filter(|h| h.2).map(|h| h.1).collect();
                            let pages: std::collections::HashSet<_> = bad.iter().collect();
                            assert!(recent.len() >= MIN_ATTEMPTS);
                            assert!(2 * bad.len() >= recent.len());
                            assert!(pages.len() >= MIN_PAGES);
                        }
                        if was_open && !bench.breaker.is_open() {
                            history.clear();
                        }
                    }
                }
                assert!(bench.breaker.attempts.len() <= REMEMBERED);
            });
        }
    }
}
