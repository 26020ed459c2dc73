//! What fills remember about pages that the store cannot tell: which are not
//! collapsible, which are server-rendered for now, which have no JSON, and
//! which wait after a failed regeneration.
//!
//! Clients can make notes grow by asking for URLs that they make up. So a note
//! holds a hash and never a key, it has a lifetime, and all of them together have
//! a bound in bytes (`cache.max_notes`). Losing a note costs a request to the
//! origin, never a wrong answer; so does a hash that two pages share.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use crate::config::Backoff;
use crate::page::{Born, Form};

/// How long a page whose response was not storable is fetched by each request for itself.
const UNCOLLAPSIBLE: Duration = Duration::from_secs(120);
/// How long a path counts as server-rendered.
const SERVER_RENDERED: Duration = Duration::from_secs(600);
/// How long a page counts as one without JSON (semantics §4).
const NO_DATA: Duration = Duration::from_secs(600);
/// What one note takes in memory, bookkeeping included, in bytes: moka holds an
/// entry in its hash table and in a queue.
const NOTE_SIZE: u64 = 320;
/// Kinds of notes that share the bound.
const KINDS: u64 = 4;

/// Cache busters of requests for payloads: as many as there are kinds of payload, and on `ssr`
/// states of a browser's router.
const MARKS: u64 = 1000;

/// What a note is about: a page, a form of it, or a part of that, hashed with a
/// secret that clients do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject(u64);

/// The notes.
#[derive(Debug)]
pub struct Notes {
    hasher: RandomState,
    uncollapsible: Cache<Subject, Instant>,
    server_rendered: Cache<Subject, Instant>,
    no_data: Cache<Subject, (Instant, Born)>,
    waits: Cache<Subject, Wait>,
    marks: Cache<u64, Box<str>>,
}

/// Waiting after failed regenerations.
#[derive(Clone, Copy, Debug)]
struct Wait {
    failures: u32,
    until: Instant,
    /// When what failed began: an invalidation since then has
    /// not been tried yet.
    born: Born,
}

impl Notes {
    /// No notes yet; they will take at most `max` bytes.
    #[must_use]
    pub fn new(max: u64) -> Notes {
        let each = (max / KINDS / NOTE_SIZE).max(1);
        Notes {
            hasher: RandomState::new(),
            uncollapsible: Cache::new(each),
            server_rendered: Cache::new(each),
            no_data: Cache::new(each),
            waits: Cache::new(each),
            marks: Cache::new(MARKS),
        }
    }

    /// A page, by its key.
    #[must_use]
    pub fn page(&self, key: &str) -> Subject {
        Subject(self.hasher.hash_one(key))
    }

    /// What one client says of a page, by a hash of its fields.
    #[must_use]
    pub fn client(&self, key: &str, client: u64) -> Subject {
        Subject(self.hasher.hash_one((key, client)))
    }

    /// A form of a page; `part`: what else tells requests for it apart (see
    /// `Ask::selection` and `Ask::crowd`).
    #[must_use]
    pub fn form(&self, key: &str, form: Form, part: u64) -> Subject {
        Subject(self.hasher.hash_one((key, form, part)))
    }

    /// The response was not storable: for 120 s each request fetches for itself.
    pub fn set_uncollapsible(&self, form: Subject) {
        self.uncollapsible.insert(form, Instant::now() + UNCOLLAPSIBLE);
    }

    /// It was storable after all.
    pub fn set_collapsible(&self, form: Subject) {
        self.uncollapsible.invalidate(&form);
    }

    /// Whether requests for it may wait for one another.
    #[must_use]
    pub fn collapsible(&self, form: Subject) -> bool {
        self.uncollapsible.get(&form).is_none_or(|until| until <= Instant::now())
    }

    /// It turned out to be server-rendered: for 10 minutes it counts as `ssr`.
    pub fn set_server_rendered(&self, form: Subject) {
        self.server_rendered.insert(form, Instant::now() + SERVER_RENDERED);
    }

    /// Whether it counts as server-rendered.
    #[must_use]
    pub fn server_rendered(&self, form: Subject) -> bool {
        self.server_rendered.get(&form).is_some_and(|until| until > Instant::now())
    }

    /// Asking for this form of the page at `born` brought something else.
    pub fn set_no_data(&self, form: Subject, born: Born) {
        self.no_data.insert(form, (Instant::now() + NO_DATA, born));
    }

    /// When the page was found not to have this form; none if it was not.
    #[must_use]
    pub fn no_data(&self, form: Subject) -> Option<Born> {
        let (until, born) = self.no_data.get(&form)?;
        (until > Instant::now()).then_some(born)
    }

    /// The page was revalidated: it may have this form now.
    pub fn forget_no_data(&self, form: Subject) {
        self.no_data.invalidate(&form);
    }

    /// What the origin wants in the parameter of requests for payloads with these fields
    /// (see `Ask::cache_buster_subject`).
    pub fn set_mark(&self, fields: u64, mark: &str) {
        self.marks.insert(fields, mark.into());
    }

    /// What it wanted last.
    #[must_use]
    pub fn mark(&self, fields: u64) -> Box<str> {
        self.marks.get(&fields).unwrap_or_default()
    }

    /// A regeneration of what has this freshness lifetime failed. Answers how
    /// long the next one waits: `clamp(lifetime, min, 30 s)`, doubled with every
    /// failure in a row up to `max`, with a jitter of a tenth. `born`: when it
    /// began.
    pub fn failed(
        &self,
        about: Subject,
        lifetime: Duration,
        backoff: Backoff,
        born: Born,
    ) -> Duration {
        let failures = self.waits.get(&about).map_or(0, |w| w.failures).saturating_add(1);
        let first = lifetime.min(Duration::from_secs(30)).max(backoff.min);
        let wait = first.saturating_mul(1u32 << (failures - 1).min(16)).min(backoff.max);
        let wait = wait.mul_f64(0.9 + 0.2 * fastrand::f64());
        self.waits.insert(about, Wait { failures, until: Instant::now() + wait, born });
        wait
    }

    /// The origin regenerated nothing yet, when it was asked at `born`: ask again
    /// after `wait`.
    pub fn wait(&self, about: Subject, wait: Duration, born: Born) {
        let until = Instant::now() + wait;
        self.waits.insert(about, Wait { failures: 0, until, born });
    }

    /// A regeneration succeeded: the next failure is the first again.
    pub fn succeeded(&self, about: Subject) {
        if self.waits.get(&about).is_some_and(|wait| wait.failures > 0) {
            self.waits.invalidate(&about);
        }
    }

    /// A regeneration must be tried at once.
    pub fn forget_failures(&self, about: Subject) {
        self.waits.invalidate(&about);
    }

    /// When what failed began, if the next regeneration still waits because of it.
    /// Whether that still counts depends on what was invalidated since then.
    #[must_use]
    pub fn waiting(&self, about: Subject) -> Option<Born> {
        let wait = self.waits.get(&about)?;
        (wait.until > Instant::now()).then_some(wait.born)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::PageKey;
    use crate::page::testing::logged;

    #[tokio::test(start_paused = true)]
    async fn backs_off_by_doubling() {
        let notes = Notes::new(1 << 20);
        let key = PageKey::new("", "http", "h", "/");
        let page = notes.page(key.as_str());
        let backoff = Backoff { min: Duration::from_secs(3), max: Duration::from_secs(300) };
        let mut waits = Vec::new();
        for _ in 0..10 {
            waits
                .push(notes.failed(page, Duration::from_secs(1), backoff, logged(7)).as_secs_f64());
        }
        for (wait, nominal) in
            waits.iter().zip([3., 6., 12., 24., 48., 96., 192., 300., 300., 300.])
        {
            assert!((wait / nominal - 1.).abs() <= 0.11, "{wait} is not about {nominal}");
        }
        assert_eq!(notes.waiting(page), Some(logged(7)));
        tokio::time::advance(Duration::from_secs(331)).await;
        assert_eq!(notes.waiting(page), None);
        notes.succeeded(page);
        let wait = notes.failed(page, Duration::from_secs(1), backoff, logged(7)).as_secs_f64();
        assert!((wait / 3. - 1.).abs() <= 0.11, "{wait}: a success starts over");
        notes.wait(page, Duration::from_secs(9), logged(8));
        notes.succeeded(page);
        assert_eq!(notes.waiting(page), Some(logged(8)), "what the origin asked for stays");
        // A long lifetime waits 30 s at first, not its own length.
        notes.forget_failures(page);
        let wait = notes.failed(page, Duration::from_secs(3600), backoff, logged(7)).as_secs_f64();
        assert!((wait / 30. - 1.).abs() <= 0.11, "{wait}");
    }

    #[tokio::test(start_paused = true)]
    async fn notes_end() {
        let notes = Notes::new(1 << 20);
        let about = |form| notes.form("key", form, 0);
        let (doc, data) = (about(Form::Document), about(Form::Data));
        notes.set_uncollapsible(doc);
        notes.set_server_rendered(doc);
        notes.set_no_data(data, logged(7));
        assert!(!notes.collapsible(doc) && notes.collapsible(data));
        assert!(notes.collapsible(notes.form("key", Form::Document, 1)), "of another part");
        tokio::time::advance(UNCOLLAPSIBLE).await;
        assert!(notes.collapsible(doc) && notes.server_rendered(doc));
        assert_eq!(notes.no_data(data), Some(logged(7)));
        tokio::time::advance(SERVER_RENDERED).await;
        assert!(!notes.server_rendered(doc) && notes.no_data(data).is_none());
    }

    /// A hundred thousand long URLs that clients make up take no more than the bound.
    #[tokio::test]
    async fn notes_have_a_bound_in_bytes() {
        let notes = Notes::new(64 << 10);
        let long = "x".repeat(8 << 10);
        for n in 0..100_000 {
            let subject = notes.form(&format!("{long}{n}"), Form::Document, 0);
            notes.set_uncollapsible(subject);
            notes.set_server_rendered(subject);
        }
        notes.uncollapsible.run_pending_tasks();
        notes.server_rendered.run_pending_tasks();
        let all = notes.uncollapsible.entry_count() + notes.server_rendered.entry_count();
        assert!(all * NOTE_SIZE <= 64 << 10, "{all}");
    }
}
