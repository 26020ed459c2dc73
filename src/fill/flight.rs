//! What is under way: where fills are found while they run, and the guards that
//! tell when they are over.

use std::collections::HashMap;
use std::hash::Hasher;
use std::sync::Arc;

use super::request::Ask;
use super::stream::{Broken, Fill, Lead};
use super::{Fills, Inner};
use crate::page::{Form, Page, PageKey, Representation};
use crate::rules::cache_status::Failure;

/// Several for one form of a page, where what it varies on tells them apart.
pub(super) type InFlight = HashMap<Place, Vec<Arc<Fill>>>;

/// What a fill brings: a form of a page, and which representation of it as far as
/// that is known beforehand (see [`Ask::selection`]).
pub(super) type Place = (PageKey, Form, u64);

/// What a page varies on as far as this request knows: by what is stored of it,
/// and by the fills it has waited for in vain.
pub(super) fn known_to_vary(
    ask: &Ask,
    seen: Option<&Arc<Page>>,
    refused: &[Arc<Fill>],
) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    let stored = seen.into_iter().flat_map(|page| page.members.iter());
    for rep in stored.filter(|rep| rep.form == ask.form) {
        names.extend(rep.vary.iter().map(|field| field.name.clone()));
    }
    for fill in refused {
        match fill.lead() {
            Some(Lead::Shared(preview)) => names.extend(preview.vary.iter().cloned()),
            Some(Lead::Refreshed(rep, _)) => {
                names.extend(rep.vary.iter().map(|field| field.name.clone()));
            }
            _ => {}
        }
    }
    names
}

/// Where a fill for this is found.
pub(super) fn place(ask: &Ask) -> Place {
    (ask.key.clone(), ask.form, ask.selection())
}

/// Which variant of a page a representation is.
pub(super) fn variant(rep: &Representation) -> u64 {
    if rep.vary.is_empty() {
        return 0;
    }
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for field in &rep.vary {
        hasher.write(field.name.as_bytes());
        hasher.write(field.value.as_deref().unwrap_or(b"\0"));
        hasher.write_u8(0);
    }
    hasher.finish() | 1
}

/// A fill under way. However its task ends, nobody is left waiting for it.
pub(super) struct Flight {
    pub(super) fills: Fills,
    pub(super) place: Place,
    pub(super) fill: Arc<Fill>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.fill.decide(Lead::Failed(Failure::Reset));
        self.fill.finish(Err(Broken::Origin));
        let mut inflight = self.fills.0.inflight.lock();
        if let Some(fills) = inflight.get_mut(&self.place) {
            fills.retain(|fill| !Arc::ptr_eq(fill, &self.fill));
            if fills.is_empty() {
                inflight.remove(&self.place);
            }
        }
    }
}

/// A task under way, its last steps included.
pub(super) struct Running(pub(super) Arc<Inner>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

/// A regeneration under way.
pub(super) struct Regenerating {
    pub(super) fills: Fills,
    pub(super) mark: (PageKey, u64),
}

impl Drop for Regenerating {
    fn drop(&mut self) {
        self.fills.0.regenerating.lock().remove(&self.mark);
    }
}
