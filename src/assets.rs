//! Hashed assets of pages, fetched before anybody asks: a tab that was open
//! before a deploy loads the rest of its build's bundles afterwards, when the
//! renderer has them no more. What stored pages name is therefore stored, too,
//! as long as the renderer still has it.
//!
//! A page may name thousands, and visitors may have a hand in what pages say. So
//! bodies are searched in the background, one at a time; a page is believed
//! [`MAX_NAMES`](crate::framework::MAX_NAMES) names; and so many are fetched in a
//! minute as the configuration says.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::framework::Preset;
use crate::page::{PageKey, Representation};

/// Bodies that wait to be searched; what comes on top is searched when it is
/// rendered again. They are of pages that were just stored, so that waiting costs
/// no memory as a rule.
const WAITING: usize = 256;
/// Names that are remembered as seen.
const SEEN: u64 = 100_000;
/// For how long: what was evicted meanwhile is fetched again when it is named.
const SEEN_FOR: Duration = Duration::from_secs(600);
/// The largest body that is searched, in bytes.
const MAX_BODY: usize = 4 << 20;

/// The time that the bound on fetches is about.
const MINUTE: Duration = Duration::from_secs(60);

/// An asset that a stored page names.
#[derive(Clone, Debug)]
pub struct Named {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host of the page.
    pub host: Box<str>,
    /// The path of the asset.
    pub path: String,
}

/// A stored page that is to be searched for the names of assets.
#[derive(Debug)]
pub struct Search {
    preset: Preset,
    key: PageKey,
    rep: Arc<Representation>,
}

/// Where pages are reported. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Assets(mpsc::Sender<Search>);

impl Assets {
    /// The reporting end, and the one that is to search.
    #[must_use]
    pub fn new() -> (Assets, mpsc::Receiver<Search>) {
        let (searches, receiver) = mpsc::channel(WAITING);
        (Assets(searches), receiver)
    }

    /// A representation was stored: what it names is wanted.
    pub(crate) fn named_by(&self, preset: &Preset, key: &PageKey, rep: &Arc<Representation>) {
        if !preset.names_assets() || !is_text(rep) || rep.identity().bytes.len() > MAX_BODY {
            return;
        }
        let (preset, key, rep) = (preset.clone(), key.clone(), Arc::clone(rep));
        // Too many wait: it is as if it had not been rendered yet.
        let _ = self.0.try_send(Search { preset, key, rep });
    }
}

impl Search {
    /// Searches. Takes milliseconds for a large body: nothing for an async worker.
    #[must_use]
    pub fn names(self) -> Vec<Named> {
        let Search { preset, key, rep } = self;
        let named = |path| Named { scheme: key.scheme(), host: key.host().into(), path };
        preset.assets(key.path(), &rep.identity().bytes).into_iter().map(named).collect()
    }
}

/// Which names are fetched: each once in a while, and not too many in a minute.
#[derive(Debug)]
pub struct Choice {
    seen: Cache<u64, ()>,
    /// When this minute began, and what was fetched in it.
    minute: Option<Instant>,
    fetched: usize,
}

impl Default for Choice {
    fn default() -> Choice {
        let seen = Cache::builder().max_capacity(SEEN).time_to_live(SEEN_FOR).build();
        Choice { seen, minute: None, fetched: 0 }
    }
}

impl Choice {
    /// Whether this one is fetched, where `most` are in a minute. One that is not
    /// may be named again.
    pub fn takes(&mut self, named: &Named, most: usize, now: Instant) -> bool {
        let name = format!("{}\0{}\0{}", named.scheme, named.host, named.path);
        let hash = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
        if self.seen.contains_key(&hash) {
            return false;
        }
        if self.minute.is_none_or(|began| now.saturating_duration_since(began) >= MINUTE) {
            (self.minute, self.fetched) = (Some(now), 0);
        }
        if self.fetched >= most {
            return false;
        }
        self.fetched += 1;
        self.seen.insert(hash, ());
        true
    }
}

/// Whether a body can name anything.
fn is_text(rep: &Representation) -> bool {
    let kind = rep.origin.get("content-type").and_then(|v| std::str::from_utf8(v).ok());
    let kind = kind.unwrap_or("").to_ascii_lowercase();
    rep.origin.get("content-encoding").is_none()
        && (kind.starts_with("text/") || kind.contains("javascript") || kind.contains("json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(n: usize) -> Named {
        Named { scheme: "http", host: "a.example".into(), path: format!("/{n}.js") }
    }

    #[test]
    fn so_many_in_a_minute_and_each_once() {
        let mut choice = Choice::default();
        let start = Instant::now();
        let mut take = |from: usize, after: u64| {
            let now = start + Duration::from_secs(after);
            (from..from + 4000).filter(|n| choice.takes(&named(*n), 600, now)).count()
        };
        assert_eq!(take(0, 0), 600);
        assert_eq!(take(0, 59), 0, "not in this minute");
        assert_eq!(take(0, 60), 600, "others of them");
        assert_eq!(take(0, 120), 600);
        assert_eq!(take(10_000, 121), 0);
        let mut choice = Choice::default();
        assert!(!choice.takes(&named(0), 0, start), "off");
        assert!(choice.takes(&named(0), 1, start));
        let later = start + MINUTE;
        assert!(!choice.takes(&named(0), 1, later), "seen");
        assert!(choice.takes(&named(1), 1, later));
    }
}
