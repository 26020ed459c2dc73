//! The breaker of an origin (semantics §3): ten failures in a row open it, then
//! one probe a second is let through until one succeeds.
//!
//! A pure state machine: `now` is an argument, nothing is logged here.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open the breaker.
pub const FAILURES_TO_OPEN: u32 = 10;

/// Time between two probes while the breaker is open.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How a request to the origin went, as far as the breaker is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The origin answered, and not with 5xx.
    Ok,
    /// It could not be reached, did not answer in time, broke off, or said 5xx.
    Failed,
}

/// What a recorded verdict changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The breaker opened.
    Opened,
    /// The breaker closed.
    Closed,
}

/// The state of an origin's breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    /// Failures since the last success; saturates.
    failures: u32,
    /// When open: the time from which the next probe may go.
    open: Option<Instant>,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub(super) const fn new() -> Self {
        Self { failures: 0, open: None }
    }

    /// Whether a request may go to the origin now. While the breaker is open,
    /// a `true` is the one probe of this second.
    #[must_use]
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        match &mut self.open {
            None => true,
            Some(next) if *next <= now => {
                *next = now + PROBE_INTERVAL;
                true
            }
            Some(_) => false,
        }
    }

    /// Takes note of how a request went. A success closes the breaker whenever
    /// its request began: the origin answers.
    pub(super) fn record(&mut self, verdict: Verdict, now: Instant) -> Change {
        match verdict {
            Verdict::Ok => {
                self.failures = 0;
                if self.open.take().is_some() { Change::Closed } else { Change::None }
            }
            Verdict::Failed => {
                self.failures = self.failures.saturating_add(1);
                if self.open.is_none() && self.failures >= FAILURES_TO_OPEN {
                    self.open = Some(now + PROBE_INTERVAL);
                    return Change::Opened;
                }
                Change::None
            }
        }
    }

    /// Whether [`admit`](Self::admit) would let nothing through now.
    #[must_use]
    pub(super) fn is_shut(&self, now: Instant) -> bool {
        self.open.is_some_and(|next| next > now)
    }

    /// Whether it is open.
    #[must_use]
    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ten_failures_in_a_row_open_and_one_success_closes() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        for _ in 0..FAILURES_TO_OPEN - 1 {
            assert_eq!(breaker.record(Verdict::Failed, now), Change::None);
        }
        assert_eq!(breaker.record(Verdict::Ok, now), Change::None, "the row is broken");
        for _ in 0..FAILURES_TO_OPEN - 1 {
            assert_eq!(breaker.record(Verdict::Failed, now), Change::None);
        }
        assert!(breaker.admit(now));
        assert_eq!(breaker.record(Verdict::Failed, now), Change::Opened);
        assert!(breaker.is_shut(now) && !breaker.is_shut(now + PROBE_INTERVAL));
        assert_eq!(breaker.record(Verdict::Failed, now), Change::None, "said once");

        assert!(!breaker.admit(now), "the first probe comes a second later");
        let later = now + PROBE_INTERVAL;
        assert!(breaker.admit(later));
        assert!(!breaker.admit(later), "one probe a second");
        assert!(!breaker.admit(later + PROBE_INTERVAL / 2));
        assert!(breaker.admit(later + PROBE_INTERVAL), "a probe that never reports blocks nothing");

        assert_eq!(breaker.record(Verdict::Ok, later), Change::Closed);
        assert!(breaker.admit(later) && breaker.admit(later));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Admit,
        Record(Verdict),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => (0u64..1500).prop_map(Step::Wait),
            4 => Just(Step::Admit),
            5 => Just(Step::Record(Verdict::Failed)),
            1 => Just(Step::Record(Verdict::Ok)),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against a model that keeps the whole history instead of a state.
        #[test]
        fn is_what_the_history_says(steps in steps()) {
            let start = Instant::now();
            let mut now = start;
            let mut breaker = Breaker::new();
            let mut row = 0u32;
            // When it opened or last let a probe through, if it is open.
            let mut gate: Option<Instant> = None;
            for step in steps {
                match step {
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                    Step::Admit => {
                        let expected = match gate {
                            None => true,
                            Some(since) => now - since >= PROBE_INTERVAL,
                        };
                        prop_assert_eq!(breaker.admit(now), expected);
                        if gate.is_some() && expected {
                            gate = Some(now);
                        }
                    }
                    Step::Record(verdict) => {
                        let change = breaker.record(verdict, now);
                        if verdict == Verdict::Ok {
                            row = 0;
                            prop_assert_eq!(change == Change::Closed, gate.take().is_some());
                        } else {
                            row += 1;
                            let opens = row == FAILURES_TO_OPEN;
                            prop_assert_eq!(change == Change::Opened, opens);
                            if opens {
                                gate = Some(now);
                            }
                        }
                    }
                }
                prop_assert_eq!(breaker.is_open(), row >= FAILURES_TO_OPEN);
            }
        }
    }
}
