//! One timer per connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for deadlines that nearly always move before they are reached.
///
/// Setting tokio's timer takes a lock and a place in its wheel. A busy
/// connection would do that twice per request, for deadlines that never come.
/// So a deadline that moves back leaves the timer alone: it fires early, once,
/// and is then set to what the deadline has become.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when `deadline` has passed.
    pub(super) fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_that_move_either_way_are_kept() {
        let start = Instant::now();
        let mut timer = Timer::default();
        for (from_start, what) in [(10, "first"), (75, "later"), (76, "later again")] {
            let deadline = start + Duration::from_secs(from_start);
            poll_fn(|cx| {
                // What a busy connection does: asks for a deadline, then for another.
                let _ = timer.poll_until(cx, deadline + Duration::from_secs(100));
                timer.poll_until(cx, deadline)
            })
            .await;
            assert_eq!(start.elapsed().as_secs(), from_start, "{what}");
        }
    }
}
