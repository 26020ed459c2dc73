//! Hashed assets of pages, fetched before anybody asks: a tab that was open
//! before a deploy loads the rest of its build's bundles afterwards, when the
//! renderer has them no more. What stored pages name is therefore stored, too,
//! as long as the renderer still has it.

use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::mpsc;

use crate::framework::Preset;
use crate::page::{PageKey, Representation};

/// Names that wait to be fetched; what comes on top is named again by the next
/// render.
const WAITING: usize = 4096;
/// Names that are remembered as seen.
const SEEN: u64 = 100_000;
/// For how long: what was evicted meanwhile is fetched again when it is named.
const SEEN_FOR: Duration = Duration::from_secs(600);
/// The largest body that is searched, in bytes.
const MAX_BODY: usize = 4 << 20;

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

/// Where assets are reported. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Assets {
    wanted: mpsc::Sender<Named>,
    seen: Cache<u64, ()>,
}

impl Assets {
    /// The reporting end, and the one that is to fetch.
    #[must_use]
    pub fn new() -> (Assets, mpsc::Receiver<Named>) {
        let (wanted, receiver) = mpsc::channel(WAITING);
        let seen = Cache::builder().max_capacity(SEEN).time_to_live(SEEN_FOR).build();
        (Assets { wanted, seen }, receiver)
    }

    /// A representation was stored: what it names is wanted.
    pub(crate) fn named_by(&self, preset: &Preset, key: &PageKey, rep: &Representation) {
        let body = &rep.identity().bytes;
        if !is_text(rep) || body.len() > MAX_BODY {
            return;
        }
        for path in preset.assets(key.path(), body) {
            let hash = xxhash_rust::xxh3::xxh3_64(format!("{}\0{path}", key.host()).as_bytes());
            if self.seen.contains_key(&hash) {
                continue;
            }
            let named = Named { scheme: key.scheme(), host: key.host().into(), path };
            if self.wanted.try_send(named).is_ok() {
                self.seen.insert(hash, ());
            }
        }
    }
}

/// Whether a body can name anything.
fn is_text(rep: &Representation) -> bool {
    let kind = rep.origin.get("content-type").and_then(|v| std::str::from_utf8(v).ok());
    let kind = kind.unwrap_or("").to_ascii_lowercase();
    rep.origin.get("content-encoding").is_none()
        && (kind.starts_with("text/") || kind.contains("javascript") || kind.contains("json"))
}
