//! Relief in a shortage of descriptors: who needs one to connect with asks, and who has some
//! to spare gives them up. A leaf: neither knows of the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How long who asks waits. Giving way takes far less; and where nobody can, one who is told so
/// is better off than one who waits.
const PATIENCE: Duration = Duration::from_millis(50);

/// A place where descriptors are asked for. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct Relief(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How many wait.
    waiting: AtomicUsize,
    /// Somebody began to wait.
    asked: Notify,
    /// Descriptors became free.
    given: Notify,
}

impl Relief {
    /// Asks for a descriptor. It returns when some are free, or soon: either way it is worth
    /// another try, for others give theirs back all the time. Cancel-safe.
    pub async fn ask(&self) {
        let given = self.0.given.notified();
        tokio::pin!(given);
        // From here on: what is given before it is first polled counts.
        given.as_mut().enable();
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        let _waits = Waits(&self.0);
        self.0.asked.notify_one();
        let _ = timeout(PATIENCE, given).await;
    }

    /// Waits until somebody asks, and says how many do. For one task. Cancel-safe.
    pub async fn asked(&self) -> usize {
        loop {
            self.0.asked.notified().await;
            // Zero: who asked has left.
            let waiting = self.0.waiting.load(Ordering::SeqCst);
            if waiting > 0 {
                return waiting;
            }
        }
    }

    /// Descriptors are free: who waits tries again.
    pub fn given(&self) {
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.given.notify_waiters();
        }
    }
}

struct Waits<'a>(&'a Shared);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_waits_until_something_is_given_and_not_for_long() {
        let relief = Relief::default();
        relief.given();
        let mut one = Box::pin(relief.ask());
        let mut two = Box::pin(relief.ask());
        assert!((&mut one).now_or_never().is_none() && (&mut two).now_or_never().is_none());
        assert_eq!(relief.asked().await, 2);
        relief.given();
        assert!((&mut one).now_or_never().is_some() && (&mut two).now_or_never().is_some());

        let began = tokio::time::Instant::now();
        relief.ask().await;
        assert_eq!(began.elapsed(), PATIENCE);
        // Who asked has left.
        assert!(relief.asked().now_or_never().is_none());
        let mut asked = Box::pin(relief.asked());
        assert!((&mut asked).now_or_never().is_none());
        let mut late = Box::pin(relief.ask());
        assert!((&mut late).now_or_never().is_none());
        assert_eq!(asked.await, 1);
    }
}
