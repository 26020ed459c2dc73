//! Hashed assets of pages, fetched before anybody asks: a tab that was open
//! before a deploy loads the rest of its build's bundles afterwards, when the
//! renderer has them no more. What stored pages name is therefore stored, too,
//! as long as the renderer still has it.
//!
//! A page may name thousands, and clients may have a hand in what pages say: a page
//! of search results repeats what was searched for. So bodies are searched in the
//! background, one at a time; a page is believed
//! [`MAX_NAMES`](crate::framework::MAX_NAMES) names, but none that its own URL holds, and
//! no more after four that were not there; and so many are fetched in a minute
//! as the configuration says. What is not there counts, too: it is a request to the origin.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use memchr::memmem;
use moka::sync::Cache;
use percent_encoding::percent_decode;
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

/// Names of one page that may not be there; then the rest of its names is dropped until it
/// is rendered again. A page and its assets are of one build: real ones lack none.
pub(crate) const MAX_MISSES: usize = 4;
/// How often a URL is percent-decoded to find names in it. Sites that pass a URL in a
/// query, and repeat it, decode it twice.
const DECODED: usize = 2;

/// The time that the bound on fetches is about.
const MINUTE: Duration = Duration::from_secs(60);

/// The assets that a stored page names.
#[derive(Clone, Debug)]
pub struct Named {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host of the page.
    pub host: Box<str>,
    /// The paths of the assets, in the order in which the page names them.
    pub paths: Vec<String>,
}

/// A stored page that is to be searched for the names of assets.
#[derive(Debug)]
pub struct Search {
    preset: Preset,
    key: PageKey,
    /// The path and query that it was asked for with.
    target: Box<str>,
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

    /// A representation was stored, of what was asked for as `target`: what it names is
    /// wanted. Error pages often repeat their path, and are not searched.
    pub(crate) fn named_by(
        &self,
        preset: &Preset,
        key: &PageKey,
        target: &str,
        rep: &Arc<Representation>,
    ) {
        let whole = rep.status == StatusCode::OK && rep.identity().bytes.len() <= MAX_BODY;
        if !preset.names_assets() || !is_text(rep) || !whole {
            return;
        }
        let (preset, key, rep) = (preset.clone(), key.clone(), Arc::clone(rep));
        // Too many wait: it is as if it had not been rendered yet.
        let _ = self.0.try_send(Search { preset, key, target: target.into(), rep });
    }
}

impl Search {
    /// Searches. Takes milliseconds for a large body: nothing for an async worker.
    #[must_use]
    pub fn names(self) -> Named {
        let Search { preset, key, target, rep } = self;
        let mut paths = preset.assets(key.path(), &rep.identity().bytes);
        let urls: Vec<_> = [&*target, key.target()].into_iter().flat_map(readings).collect();
        paths.retain(|path| !urls.iter().any(|url| holds(url, path)));
        Named { scheme: key.scheme(), host: key.host().into(), paths }
    }
}

/// A URL as it came, and as a site may read it.
fn readings(url: &str) -> Vec<Cow<'_, [u8]>> {
    let mut readings = vec![Cow::Borrowed(url.as_bytes())];
    for _ in 0..DECODED {
        let last = readings.last().map_or(&[][..], |last| last);
        let decoded: Vec<u8> = percent_decode(last).collect();
        if decoded == last {
            break;
        }
        readings.push(Cow::Owned(decoded));
    }
    readings
}

/// Whether a URL holds the name of the file at `path`. The folder does not count: presets
/// complete what a page names.
fn holds(url: &[u8], path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    readings(name).iter().any(|name| memmem::find(url, name).is_some())
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
    /// Drops the names that were looked for just now.
    pub fn drop_seen(&self, named: &mut Named) {
        let Named { scheme, host, paths } = named;
        paths.retain(|path| !self.seen.contains_key(&hash(scheme, host, path)));
    }

    /// Whether this one is fetched, where `most` are in a minute.
    pub fn takes(&mut self, named: &Named, path: &str, most: usize, now: Instant) -> Taken {
        let hash = hash(named.scheme, &named.host, path);
        if self.seen.contains_key(&hash) {
            return Taken::Seen;
        }
        if self.minute.is_none_or(|began| now.saturating_duration_since(began) >= MINUTE) {
            (self.minute, self.fetched) = (Some(now), 0);
        }
        if self.fetched >= most {
            return Taken::TooMany;
        }
        self.fetched += 1;
        self.seen.insert(hash, ());
        Taken::Fetch
    }
}

/// What becomes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is fetched.
    Fetch,
    /// It was looked for just now.
    Seen,
    /// Not in this minute; it may be named again.
    TooMany,
}

fn hash(scheme: &str, host: &str, path: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{scheme}\0{host}\0{path}").as_bytes())
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

    #[test]
    fn so_many_in_a_minute_and_each_once() {
        let named = Named { scheme: "http", host: "a.example".into(), paths: Vec::new() };
        let path = |n: usize| format!("/{n}.js");
        let mut choice = Choice::default();
        let start = Instant::now();
        let mut take = |from: usize, after: u64| {
            let now = start + Duration::from_secs(after);
            let mut takes = |n: &usize| choice.takes(&named, &path(*n), 600, now) == Taken::Fetch;
            (from..from + 4000).filter(|n| takes(n)).count()
        };
        assert_eq!(take(0, 0), 600);
        assert_eq!(take(0, 59), 0, "not in this minute");
        assert_eq!(take(0, 60), 600, "others of them");
        assert_eq!(take(0, 120), 600);
        assert_eq!(take(10_000, 121), 0);
        let mut choice = Choice::default();
        let mut takes = |n: usize, most, now| choice.takes(&named, &path(n), most, now);
        assert_eq!(takes(0, 0, start), Taken::TooMany, "off");
        assert_eq!(takes(0, 1, start), Taken::Fetch);
        let later = start + MINUTE;
        assert_eq!(takes(0, 1, later), Taken::Seen);
        assert_eq!(takes(1, 1, later), Taken::Fetch);
        let mut some = Named { paths: (0..3).map(path).collect(), ..named.clone() };
        choice.drop_seen(&mut some);
        assert_eq!(some.paths, ["/2.js"]);
    }

    #[test]
    fn names_that_the_url_holds() {
        for (url, path, held) in [
            ("/search?q=/_astro/a-1.js", "/_astro/a-1.js", true),
            ("/search?q=%2F_astro%2Fa%2D1.js", "/_astro/a-1.js", true),
            ("/search?q=%252F_astro%252Fa%252D1.js", "/_astro/a-1.js", true),
            ("/search/static/x,static/a-1.js", "/_next/static/a-1.js", true),
            ("/search?q=static/[id]-1.js", "/_next/static/%5Bid%5D-1.js", true),
            ("/search?q=static/%5bid%5d-1.js", "/_next/static/%5Bid%5D-1.js", true),
            ("/search?q=a-2.js", "/_astro/a-1.js", false),
            ("/a", "/_next/static/chunks/pages/a-1.js", false),
            ("/%", "/_astro/a-1.js", false),
        ] {
            assert_eq!(readings(url).iter().any(|url| holds(url, path)), held, "{url} {path}");
        }
    }
}
