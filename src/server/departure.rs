//! Whether a client that will send no more has left.
//!
//! A FIN alone does not say. It comes from who closed the connection, and from
//! who only ended the sending side and waits for the answer (RFC 9112 §9.6
//! knows both; `nc`, some libraries and health checks do the latter). Neither
//! may be taken for the other: who waits is to be served, and who is gone
//! would hold a place in the origin's queue.
//!
//! What tells them apart is what they do with a byte: who has closed answers
//! with RST. So after a FIN the client is sent one, and it is one that changes
//! nothing: the first of the status line that is to come anyway, or, between
//! two chunks, a leading zero of the next one's size. A while later the next
//! one, for a client may half-close now and leave later.
//!
//! In a body with a length, or one that ends with the connection, there is no
//! such byte: there the next part of the body tells. What a client that left
//! without a word, or behind a firewall that swallows the RST, can hold is
//! bounded as for one that went silent: by the deadline of the fill, the idle
//! timeout of a stream, and the timeout for writing.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::timer::Timer;

/// The first look comes so soon after the first byte was sent; pauses double from here.
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// The longest pause between two looks.
const LONGEST: Duration = Duration::from_secs(10);

/// After a pause of this length another byte is sent.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A client from which a FIN came.
#[derive(Debug, Default)]
pub(super) struct Fin {
    /// When to look again, and after which pause. None: nothing was asked yet.
    next: Option<(Instant, Duration)>,
    left: bool,
}

/// What there is to do about such a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Send it a byte.
    Ask,
    /// It has left. It stays so.
    Left,
}

impl Fin {
    /// Pending while there is nothing to do. `may_ask`: there is a byte to send; `has_failed`
    /// tells whether the connection broke since it was called last.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        may_ask: bool,
        has_failed: impl Fn() -> bool,
    ) -> Poll<Word> {
        loop {
            self.left = self.left || has_failed();
            if self.left {
                return Poll::Ready(Word::Left);
            }
            let asks = match self.next {
                None => {
                    self.next = Some((Instant::now() + FIRST_LOOK, FIRST_LOOK));
                    true
                }
                Some((at, _)) if Instant::now() < at => {
                    ready!(timer.poll_until(cx, at));
                    // What there is to be seen is seen before anything else is asked.
                    continue;
                }
                Some((_, pause)) => {
                    let next = (pause * 2).min(LONGEST);
                    self.next = Some((Instant::now() + next, next));
                    pause >= ASK_AGAIN
                }
            };
            if asks && may_ask {
                return Poll::Ready(Word::Ask);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_asks_at_once_looks_often_at_first_and_asks_again_later() {
        let start = Instant::now();
        let (mut fin, mut timer) = (Fin::default(), Timer::default());
        let looks = Cell::new(0);
        let looked = || {
            looks.set(looks.get() + 1);
            false
        };
        let mut asked = Vec::new();
        for _ in 0..6 {
            let word = poll_fn(|cx| fin.poll(cx, &mut timer, true, looked)).await;
            assert_eq!(word, Word::Ask);
            asked.push(start.elapsed().as_millis());
        }
        assert_eq!(asked[0], 0);
        assert!(asked[1] >= 1000 && asked[1] < 5000, "{asked:?}");
        assert!(asked[5] < 60_000, "{asked:?}");
        assert!(looks.get() > 10);
        for gone in [true, false] {
            let word = poll_fn(|cx| fin.poll(cx, &mut timer, true, || gone)).await;
            assert_eq!(word, Word::Left, "once and for ever");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_where_it_cannot_ask() {
        let start = Instant::now();
        let (mut fin, mut timer) = (Fin::default(), Timer::default());
        let gone = || start.elapsed() >= Duration::from_secs(100);
        assert_eq!(poll_fn(|cx| fin.poll(cx, &mut timer, false, gone)).await, Word::Left);
        assert!(start.elapsed() < Duration::from_secs(111));
    }
}
