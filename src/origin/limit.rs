//! How many fills run at once against an origin, and who goes next; likewise for
//! what is passed through, where everybody is a client.
//!
//! Clients go ahead of background regenerations; within a class it is first
//! come, first served. The queue is bounded. Not `tokio::sync::Semaphore`,
//! because that one knows no classes and no bound on who waits.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::rules::cache_status::Failure;

/// So many clients in a row go ahead of a background fill that waits; the
/// next place is its own. Regenerations thus get a seventeenth of the places
/// even in the worst storm, and no page stays stale for ever.
const CLIENTS_IN_A_ROW: u32 = 16;

/// Who asks for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Somebody waits for the answer.
    Client,
    /// Nobody waits: a regeneration.
    Background,
}

/// The limit of one origin. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Limit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max_running: usize,
    max_waiting: usize,
    // Not an async mutex: it is held for a few instructions, never across an await.
    state: Mutex<State>,
}

/// Invariant: nobody waits while a place is free.
#[derive(Debug, Default)]
struct State {
    running: usize,
    clients: VecDeque<Waiter>,
    background: VecDeque<Waiter>,
    /// Clients served since a background fill last was, while one waited.
    row: u32,
    /// The number of the next waiter.
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    /// Grows along each queue, so that one who leaves is found by bisection.
    number: u64,
    place: oneshot::Sender<Permit>,
}

/// A place; dropping it passes it on.
#[derive(Debug)]
pub struct Permit(Option<Arc<Shared>>);

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.pass_on();
        }
    }
}

impl Limit {
    /// A limit of `max_running` at once (at least one) and `max_waiting` in the queue.
    #[must_use]
    pub(super) fn new(max_running: usize, max_waiting: usize) -> Self {
        Self(Arc::new(Shared {
            max_running: max_running.max(1),
            max_waiting,
            state: Mutex::default(),
        }))
    }

    /// Waits for a place. Dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// [`Failure::Busy`] when the queue is full (a client then takes the place
    /// in the queue of the background fill that came last, which gets the
    /// error instead), [`Failure::Timeout`] when `deadline` comes first.
    pub(super) async fn acquire(
        &self,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Permit, Failure> {
        let (number, place) = {
            let mut state = self.0.state.lock();
            if state.running < self.0.max_running {
                state.running += 1;
                return Ok(Permit(Some(self.0.clone())));
            }
            if state.clients.len() + state.background.len() >= self.0.max_waiting {
                if priority == Priority::Background {
                    return Err(Failure::Busy);
                }
                // Its receiver sees the dropped sender, which means busy.
                state.background.pop_back().ok_or(Failure::Busy)?;
            }
            let (sender, place) = oneshot::channel();
            let number = state.next;
            state.next += 1;
            state.queue(priority).push_back(Waiter { number, place: sender });
            (number, place)
        };
        // However this ends: a place that was sent and not taken is passed on
        // when `place` drops, and an entry in the queue goes when this drops.
        let _leave = Leave { shared: &self.0, priority, number };
        match timeout_at(deadline, place).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_displaced)) => Err(Failure::Busy),
            Err(_elapsed) => Err(Failure::Timeout),
        }
    }

    /// Fills that run now.
    #[must_use]
    pub(super) fn running(&self) -> usize {
        self.0.state.lock().running
    }

    /// Fills that wait now.
    #[must_use]
    pub(super) fn waiting(&self) -> usize {
        let state = self.0.state.lock();
        state.clients.len() + state.background.len()
    }
}

impl State {
    fn queue(&mut self, priority: Priority) -> &mut VecDeque<Waiter> {
        match priority {
            Priority::Client => &mut self.clients,
            Priority::Background => &mut self.background,
        }
    }

    /// Takes who is next off the queue.
    fn pop(&mut self) -> Option<Waiter> {
        if self.background.is_empty() {
            self.row = 0;
            return self.clients.pop_front();
        }
        if self.row < CLIENTS_IN_A_ROW
            && let Some(client) = self.clients.pop_front()
        {
            self.row += 1;
            return Some(client);
        }
        self.row = 0;
        self.background.pop_front()
    }
}

impl Shared {
    /// Gives a place that became free to who is next, or back.
    fn pass_on(self: Arc<Self>) {
        let mut state = self.state.lock();
        let mut permit = Permit(Some(self.clone()));
        while let Some(waiter) = state.pop() {
            match waiter.place.send(permit) {
                Ok(()) => return,
                // Gone already: its `Leave` is about to find nothing.
                Err(back) => permit = back,
            }
        }
        // Disarmed, or its drop would come back here.
        permit.0 = None;
        state.running -= 1;
    }
}

/// Takes a waiter off the queue when its future ends, however it ends.
struct Leave<'a> {
    shared: &'a Shared,
    priority: Priority,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let queue = state.queue(self.priority);
        if let Ok(at) = queue.binary_search_by_key(&self.number, |waiter| waiter.number) {
            queue.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinHandle;

    use super::*;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    /// Starts waiting, and returns when it is in the queue (or has a place).
    async fn ask(limit: &Limit, priority: Priority) -> JoinHandle<Result<Permit, Failure>> {
        let limit = limit.clone();
        let task = tokio::spawn(async move { limit.acquire(priority, far()).await });
        tokio::task::yield_now().await;
        task
    }

    #[tokio::test(start_paused = true)]
    async fn bounds_of_running_and_waiting() {
        let limit = Limit::new(2, 1);
        let first = limit.acquire(Priority::Client, far()).await.unwrap();
        let _second = limit.acquire(Priority::Background, far()).await.unwrap();
        assert_eq!((limit.running(), limit.waiting()), (2, 0));

        let third = ask(&limit, Priority::Client).await;
        assert_eq!((limit.running(), limit.waiting()), (2, 1));
        assert_eq!(limit.acquire(Priority::Client, far()).await.unwrap_err(), Failure::Busy);
        assert_eq!(limit.acquire(Priority::Background, far()).await.unwrap_err(), Failure::Busy);

        drop(first);
        let third = third.await.unwrap().unwrap();
        assert_eq!((limit.running(), limit.waiting()), (2, 0));
        drop(third);
        assert_eq!(limit.running(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_go_first_and_each_class_in_order() {
        let limit = Limit::new(1, 10);
        let mut held = Some(limit.acquire(Priority::Client, far()).await.unwrap());
        let (say, mut said) = tokio::sync::mpsc::unbounded_channel();
        for (name, priority) in [
            ("b1", Priority::Background),
            ("v1", Priority::Client),
            ("b2", Priority::Background),
            ("v2", Priority::Client),
        ] {
            let (limit, say) = (limit.clone(), say.clone());
            tokio::spawn(async move {
                let permit = limit.acquire(priority, far()).await.unwrap();
                say.send((name, permit)).unwrap();
            });
            tokio::task::yield_now().await;
        }
        for expected in ["v1", "v2", "b1", "b2"] {
            held.take();
            let (name, permit) = said.recv().await.unwrap();
            assert_eq!(name, expected);
            held = Some(permit);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn background_fills_do_not_starve() {
        let limit = Limit::new(1, 1000);
        let mut held = Some(limit.acquire(Priority::Client, far()).await.unwrap());
        let background = ask(&limit, Priority::Background).await;
        let (say, mut said) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..CLIENTS_IN_A_ROW * 2 {
            let (limit, say) = (limit.clone(), say.clone());
            tokio::spawn(async move {
                say.send(limit.acquire(Priority::Client, far()).await.unwrap()).unwrap();
            });
            tokio::task::yield_now().await;
        }
        for _ in 0..CLIENTS_IN_A_ROW {
            held.take();
            held = Some(said.recv().await.unwrap());
            assert!(!background.is_finished());
        }
        held.take();
        background.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_takes_the_place_of_the_last_background_fill_in_a_full_queue() {
        let limit = Limit::new(1, 2);
        let held = limit.acquire(Priority::Client, far()).await.unwrap();
        let first = ask(&limit, Priority::Background).await;
        let last = ask(&limit, Priority::Background).await;
        let client = ask(&limit, Priority::Client).await;
        assert_eq!(last.await.unwrap().unwrap_err(), Failure::Busy);
        assert_eq!(limit.waiting(), 2);
        drop(held);
        drop(client.await.unwrap().unwrap());
        drop(first.await.unwrap().unwrap());
        assert_eq!((limit.running(), limit.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_and_cancelling_leave_the_queue() {
        let limit = Limit::new(1, 2);
        let held = limit.acquire(Priority::Client, far()).await.unwrap();
        let soon = Instant::now() + Duration::from_secs(1);
        assert_eq!(limit.acquire(Priority::Client, soon).await.unwrap_err(), Failure::Timeout);
        assert_eq!(limit.waiting(), 0);

        let cancelled = ask(&limit, Priority::Client).await;
        let patient = ask(&limit, Priority::Client).await;
        cancelled.abort();
        assert!(cancelled.await.unwrap_err().is_cancelled());
        assert_eq!(limit.waiting(), 1, "a place in the queue is free again");

        drop(held);
        let permit = patient.await.unwrap().unwrap();
        assert_eq!((limit.running(), limit.waiting()), (1, 0));
        drop(permit);
        assert_eq!(limit.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_sent_to_one_who_left_is_passed_on() {
        let limit = Limit::new(1, 2);
        let held = limit.acquire(Priority::Client, far()).await.unwrap();
        let gone = ask(&limit, Priority::Client).await;
        let next = ask(&limit, Priority::Client).await;
        // The place is sent, and the task is aborted before it runs again.
        drop(held);
        gone.abort();
        drop(next.await.unwrap().unwrap());
        assert_eq!((limit.running(), limit.waiting()), (0, 0));
    }

    /// Whatever comes and goes in whatever order: the bounds hold and no place is lost.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_place_is_lost_in_a_storm() {
        let limit = Limit::new(3, 20);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..400u64 {
            let limit = limit.clone();
            tasks.spawn(async move {
                let priority =
                    if number % 3 == 0 { Priority::Background } else { Priority::Client };
                let wait = Instant::now() + Duration::from_micros(number % 7 * 50);
                let deadline = if number % 5 == 0 { wait } else { far() };
                if let Ok(_permit) = limit.acquire(priority, deadline).await {
                    assert!(limit.running() <= 3);
                    assert!(limit.waiting() <= 20);
                    for _ in 0..number % 4 {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!((limit.running(), limit.waiting()), (0, 0));
    }
}
