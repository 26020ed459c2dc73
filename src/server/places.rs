//! Who has a place among the connections, and who gives theirs up when all are
//! taken: the one that has waited longest for the next request, or for its
//! first. A connection with a request in flight is never asked to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::{AbortHandle, Id};
use tokio::time::Instant;

/// Of so many connections one more is closed at once: finding them is a walk over all, and a
/// flood would have it made for each.
const PER_WALK: usize = 1024;

/// What all connections share of this.
#[derive(Debug)]
pub(super) struct Room {
    began: Instant,
    /// Somebody waits to be accepted and nobody could give way: the next connection that has
    /// nothing to do ends.
    wanted: AtomicBool,
}

/// One connection's place.
///
/// A word, because a busy connection writes it twice for each request: since when it waits, in
/// microseconds and one more, or [`BUSY`], or [`GIVEN_UP`].
///
/// It begins as a busy one: what a client sent with its first packet is answered, however many
/// others want the place.
#[derive(Debug, Default)]
pub(super) struct Place(AtomicU64);

const BUSY: u64 = 0;
const GIVEN_UP: u64 = u64::MAX;

impl Room {
    pub(super) fn new() -> Room {
        Room { began: Instant::now(), wanted: AtomicBool::new(false) }
    }

    fn micros(&self, at: Instant) -> u64 {
        let micros = at.saturating_duration_since(self.began).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX - 2).saturating_add(1).min(GIVEN_UP - 1)
    }

    /// Whether a connection that has nothing to do should end. True for one that asks.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::Relaxed)
    }

    /// Nobody waits to be accepted any more.
    pub(super) fn suffices(&self) {
        self.wanted.store(false, Ordering::Relaxed);
    }

    /// From here on the connection waits for a request, or for the rest of one, since `since`.
    pub(super) fn waits(&self, place: &Place, since: Instant) {
        place.0.store(self.micros(since), Ordering::Relaxed);
    }
}

impl Place {
    /// The connection has something to do. False: its place was given up meanwhile.
    pub(super) fn resumes(&self) -> bool {
        self.0.swap(BUSY, Ordering::Relaxed) != GIVEN_UP
    }

    /// Gives it up if it still waits as it did.
    fn give_up(&self, seen: u64) -> bool {
        let (relaxed, changed) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.compare_exchange(seen, GIVEN_UP, relaxed, changed).is_ok()
    }
}

/// All places that are taken. Of the accept loop alone.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<Id, (Arc<Place>, AbortHandle)>);

impl Places {
    /// A connection took a place.
    pub(super) fn taken(&mut self, place: Arc<Place>, task: AbortHandle) {
        self.0.insert(task.id(), (place, task));
    }

    /// Its task has ended.
    pub(super) fn free(&mut self, task: Id) {
        self.0.remove(&task);
    }

    /// Ends the connection that waits longest; of very many, some. How many it ended. With none,
    /// and if somebody `waits` for a place, the next connection that has nothing to do ends.
    pub(super) fn make_room(&mut self, room: &Room) -> usize {
        // Before looking: who begins to wait meanwhile finds it.
        room.wanted.store(true, Ordering::SeqCst);
        let mut waiting: Vec<(u64, &Place, &AbortHandle)> = self
            .0
            .values()
            .map(|(place, task)| (place.0.load(Ordering::SeqCst), &**place, task))
            .filter(|(since, ..)| !matches!(*since, BUSY | GIVEN_UP))
            .collect();
        let most = (1 + self.0.len() / PER_WALK).min(waiting.len());
        if most > 0 {
            waiting.select_nth_unstable_by_key(most - 1, |(since, ..)| *since);
        }
        let mut ended = 0;
        for (since, place, task) in &waiting[..most] {
            if place.give_up(*since) {
                task.abort();
                ended += 1;
            }
        }
        if ended > 0 {
            room.suffices();
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_waits_longest_goes_and_who_is_busy_stays() {
        let room = Room::new();
        let mut places = Places::default();
        let mut tasks = Vec::new();
        let start = Instant::now();
        for since in [30, 10, 20, 0] {
            let place = Arc::<Place>::default();
            room.waits(&place, start + Duration::from_millis(since));
            let task = tokio::spawn(std::future::pending::<()>());
            places.taken(Arc::clone(&place), task.abort_handle());
            tasks.push((task, place));
        }
        assert!(tasks[3].1.resumes());
        for gone in [1, 2, 0] {
            assert_eq!(places.make_room(&room), 1);
            assert!(!room.is_wanted());
            let (task, place) = &mut tasks[gone];
            let id = task.id();
            assert!(task.await.unwrap_err().is_cancelled());
            assert!(!place.resumes(), "it would find out");
            places.free(id);
        }
        // Only a busy one is left: the first that has nothing to do ends.
        assert_eq!(places.make_room(&room), 0);
        assert!(room.is_wanted() && !room.is_wanted());
        room.waits(&tasks[3].1, start);
        assert_eq!(places.make_room(&room), 1);
    }

    #[tokio::test]
    async fn of_very_many_some_go_at_once() {
        let room = Room::new();
        let mut places = Places::default();
        let mut tasks = tokio::task::JoinSet::<()>::new();
        for _ in 0..3 * PER_WALK {
            let task = tasks.spawn(std::future::pending());
            let place = Arc::<Place>::default();
            room.waits(&place, Instant::now());
            places.taken(place, task);
        }
        assert_eq!(places.make_room(&room), 4);
    }
}
