//! What fills remember about pages that the store cannot tell: which are not
//! collapsible, which are server-rendered for now, which have no JSON, and
//! which wait after a failed regeneration.
//!
//! All of it is bounded, and losing a note costs a request to the origin,
//! never a wrong answer.

use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use crate::config::Backoff;
use crate::page::{Form, PageKey, Seq};

/// How long a page whose response was not storable is fetched by each request for itself.
const UNCOLLAPSIBLE: Duration = Duration::from_secs(120);
/// How long a path counts as server-rendered.
const SERVER_RENDERED: Duration = Duration::from_secs(600);
/// Notes of one kind that are kept.
const NOTES: u64 = 100_000;

/// Marks of RSC requests: as many as there are kinds of payload.
const MARKS: u64 = 1000;

/// The notes.
#[derive(Debug)]
pub struct Notes {
    uncollapsible: Cache<(PageKey, Form), Instant>,
    server_rendered: Cache<PageKey, Instant>,
    no_data: Cache<PageKey, Seq>,
    waits: Cache<PageKey, Wait>,
    marks: Cache<u64, Box<str>>,
}

/// Waiting after failed regenerations.
#[derive(Clone, Copy, Debug)]
struct Wait {
    failures: u32,
    until: Instant,
}

impl Default for Notes {
    fn default() -> Notes {
        Notes {
            uncollapsible: Cache::new(NOTES),
            server_rendered: Cache::new(NOTES),
            no_data: Cache::new(NOTES),
            waits: Cache::new(NOTES),
            marks: Cache::new(MARKS),
        }
    }
}

impl Notes {
    /// The response was not storable: for 120 s each request fetches for itself.
    pub fn set_uncollapsible(&self, key: &PageKey, form: Form) {
        self.uncollapsible.insert((key.clone(), form), Instant::now() + UNCOLLAPSIBLE);
    }

    /// It was storable after all.
    pub fn set_collapsible(&self, key: &PageKey, form: Form) {
        self.uncollapsible.invalidate(&(key.clone(), form));
    }

    /// Whether requests for it may wait for one another.
    #[must_use]
    pub fn collapsible(&self, key: &PageKey, form: Form) -> bool {
        self.uncollapsible.get(&(key.clone(), form)).is_none_or(|until| until <= Instant::now())
    }

    /// The page turned out to be server-rendered: for 10 minutes it counts as `ssr`.
    pub fn set_server_rendered(&self, key: &PageKey) {
        self.server_rendered.insert(key.clone(), Instant::now() + SERVER_RENDERED);
    }

    /// Whether the page counts as server-rendered.
    #[must_use]
    pub fn server_rendered(&self, key: &str) -> bool {
        self.server_rendered.get(key).is_some_and(|until| until > Instant::now())
    }

    /// Asking for the page's JSON at `born` brought something else.
    pub fn set_no_data(&self, key: &PageKey, born: Seq) {
        self.no_data.insert(key.clone(), born);
    }

    /// When the page was found to have no JSON; none if it was not.
    #[must_use]
    pub fn no_data(&self, key: &str) -> Option<Seq> {
        self.no_data.get(key)
    }

    /// What the origin wants in the parameter of RSC requests with this selection
    /// (see [`Ask::selection`](super::Ask::selection)).
    pub fn set_mark(&self, selection: u64, mark: &str) {
        self.marks.insert(selection, mark.into());
    }

    /// What it wanted last.
    #[must_use]
    pub fn mark(&self, selection: u64) -> Box<str> {
        self.marks.get(&selection).unwrap_or_default()
    }

    /// The page was revalidated: it may have JSON now.
    pub fn forget_no_data(&self, key: &str) {
        self.no_data.invalidate(key);
    }

    /// A regeneration of a page with this freshness lifetime failed. Answers how
    /// long the next one waits: `clamp(lifetime, min, 30 s)`, doubled with every
    /// failure in a row up to `max`, with a jitter of a tenth.
    pub fn failed(&self, key: &PageKey, lifetime: Duration, backoff: Backoff) -> Duration {
        let failures = self.waits.get(key.as_str()).map_or(0, |w| w.failures).saturating_add(1);
        let first = lifetime.min(Duration::from_secs(30)).max(backoff.min);
        let wait = first.saturating_mul(1u32 << (failures - 1).min(16)).min(backoff.max);
        let wait = wait.mul_f64(0.9 + 0.2 * fastrand::f64());
        self.waits.insert(key.clone(), Wait { failures, until: Instant::now() + wait });
        wait
    }

    /// The origin regenerated nothing yet: ask again after `wait`.
    pub fn wait(&self, key: &PageKey, wait: Duration) {
        self.waits.insert(key.clone(), Wait { failures: 0, until: Instant::now() + wait });
    }

    /// A regeneration succeeded: the next failure is the first again.
    pub fn succeeded(&self, key: &PageKey) {
        if self.waits.get(key).is_some_and(|wait| wait.failures > 0) {
            self.waits.invalidate(key);
        }
    }

    /// A regeneration must be tried at once.
    pub fn forget_failures(&self, key: &str) {
        self.waits.invalidate(key);
    }

    /// Whether the next regeneration still waits.
    #[must_use]
    pub fn waiting(&self, key: &str) -> bool {
        self.waits.get(key).is_some_and(|wait| wait.until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn backs_off_by_doubling() {
        let notes = Notes::default();
        let key = PageKey::new("", "http", "h", "/");
        let backoff = Backoff { min: Duration::from_secs(3), max: Duration::from_secs(300) };
        let mut waits = Vec::new();
        for _ in 0..10 {
            waits.push(notes.failed(&key, Duration::from_secs(1), backoff).as_secs_f64());
        }
        for (wait, nominal) in
            waits.iter().zip([3., 6., 12., 24., 48., 96., 192., 300., 300., 300.])
        {
            assert!((wait / nominal - 1.).abs() <= 0.11, "{wait} is not about {nominal}");
        }
        assert!(notes.waiting(key.as_str()));
        tokio::time::advance(Duration::from_secs(331)).await;
        assert!(!notes.waiting(key.as_str()));
        notes.succeeded(&key);
        let wait = notes.failed(&key, Duration::from_secs(1), backoff).as_secs_f64();
        assert!((wait / 3. - 1.).abs() <= 0.11, "{wait}: a success starts over");
        notes.wait(&key, Duration::from_secs(9));
        notes.succeeded(&key);
        assert!(notes.waiting(key.as_str()), "what the origin asked for stays");
        // A long lifetime waits 30 s at first, not its own length.
        notes.forget_failures(key.as_str());
        let wait = notes.failed(&key, Duration::from_secs(3600), backoff).as_secs_f64();
        assert!((wait / 30. - 1.).abs() <= 0.11, "{wait}");
    }

    #[tokio::test(start_paused = true)]
    async fn notes_end() {
        let notes = Notes::default();
        let key = PageKey::new("", "http", "h", "/");
        notes.set_uncollapsible(&key, Form::Document);
        notes.set_server_rendered(&key);
        assert!(!notes.collapsible(&key, Form::Document) && notes.collapsible(&key, Form::Data));
        tokio::time::advance(UNCOLLAPSIBLE).await;
        assert!(notes.collapsible(&key, Form::Document) && notes.server_rendered(key.as_str()));
        tokio::time::advance(SERVER_RENDERED).await;
        assert!(!notes.server_rendered(key.as_str()));
    }
}
