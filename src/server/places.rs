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
        let since = at.saturating_duration_since(self.began);
        // In 64 bits, which last for half a million years: it is written twice for each request.
        (since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())).saturating_add(1)
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
        let gave_up = self.0.swap(BUSY, Ordering::Relaxed) == GIVEN_UP;
        if gave_up {
            // It stays so: it is counted by that.
            self.0.store(GIVEN_UP, Ordering::Relaxed);
        }
        !gave_up
    }

    /// Gives it up if it still waits as it did.
    fn give_up(&self, seen: u64) -> bool {
        let (relaxed, changed) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.compare_exchange(seen, GIVEN_UP, relaxed, changed).is_ok()
    }
}

/// All places that are taken. Of the accept loop alone.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: HashMap<Id, (Arc<Place>, AbortHandle)>,
    /// Of these, given up by connections whose tasks have yet to end.
    leaving: usize,
}

impl Places {
    /// A connection took a place.
    pub(super) fn taken(&mut self, place: Arc<Place>, task: AbortHandle) {
        self.taken.insert(task.id(), (place, task));
    }

    /// Its task has ended.
    pub(super) fn free(&mut self, task: Id) {
        if let Some((place, _)) = self.taken.remove(&task)
            && place.0.load(Ordering::Relaxed) == GIVEN_UP
        {
            self.leaving -= 1;
        }
    }

    /// Places that are taken, and not given up.
    pub(super) fn len(&self) -> usize {
        self.taken.len() - self.leaving
    }

    /// Places that were given up by connections whose tasks have yet to end.
    pub(super) fn leaving(&self) -> usize {
        self.leaving
    }

    /// Ends the connections that wait longest: so many, or of very many a few more. Where they
    /// do not suffice, the next one that has nothing to do ends itself.
    pub(super) fn make_room(&mut self, room: &Room, wanted: usize) {
        // Before looking: who begins to wait meanwhile finds it.
        room.wanted.store(true, Ordering::SeqCst);
        if self.give_way(wanted) >= wanted {
            room.suffices();
        }
    }

    /// Ends the connections that wait longest, of those that wait now; says how many.
    pub(super) fn give_way(&mut self, wanted: usize) -> usize {
        let mut waiting: Vec<(u64, &Place, &AbortHandle)> = self
            .taken
            .values()
            .map(|(place, task)| (place.0.load(Ordering::SeqCst), &**place, task))
            .filter(|(since, ..)| !matches!(*since, BUSY | GIVEN_UP))
            .collect();
        let most = wanted.max(1 + self.taken.len() / PER_WALK).min(waiting.len());
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
        self.leaving += ended;
        if ended > 0 {
            tracing::debug!(ended, open = self.len(), "idle connections gave way");
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
        for (left, gone) in [(3, 1), (2, 2), (1, 0)] {
            places.make_room(&room, 1);
            assert_eq!(places.len(), left);
            assert!(!room.is_wanted());
            let (task, place) = &mut tasks[gone];
            let id = task.id();
            assert!(task.await.unwrap_err().is_cancelled());
            assert!(!place.resumes() && !place.resumes(), "it would find out");
            places.free(id);
            assert_eq!(places.len(), left);
        }
        // Only a busy one is left: the first that has nothing to do ends.
        places.make_room(&room, 1);
        assert_eq!(places.len(), 1);
        assert!(room.is_wanted() && !room.is_wanted());
        room.waits(&tasks[3].1, start);
        places.make_room(&room, 2);
        assert_eq!(places.len(), 0);
        assert!(room.is_wanted(), "two were wanted");
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
        places.make_room(&room, 1);
        assert_eq!(places.len(), 3 * PER_WALK - 4);
        places.make_room(&room, 100);
        assert_eq!(places.len(), 3 * PER_WALK - 104);
    }
}
