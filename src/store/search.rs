//! Searching the tiers: for the pages that an invalidation names, to renew them or to
//! give back their memory.

use std::collections::HashSet;
use std::sync::Arc;

use super::memory::Memory;
use super::name::Names;
use super::{Listed, Name, Store, graves};
use crate::page::{Page, PageKey, Standing, Tags};

/// A page that names cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key.
    pub key: PageKey,
    /// How often it was looked up lately.
    pub uses: u32,
    /// Whether anything of it was asked for since it was stored.
    pub asked: bool,
}

/// A page that was found in a search.
struct Searched {
    listed: Listed,
    uses: u32,
    asked: bool,
}

impl Searched {
    fn of(page: &Page) -> Searched {
        let born = page.members.iter().map(|member| member.born).max().unwrap_or_default();
        Searched {
            listed: Listed { key: page.key.clone(), tags: Arc::clone(&page.tags), born },
            uses: page.uses.count(),
            asked: page.members.iter().any(|member| member.uses.any()),
        }
    }
}

/// Tells the tags of the route of a page.
pub trait RouteTags: Fn(&PageKey) -> Arc<Tags> + Send + 'static {}

impl<F: Fn(&PageKey) -> Arc<Tags> + Send + 'static> RouteTags for F {}

impl Store {
    /// The pages that one of `names` names and that have a member which is not dead.
    /// Goes through the whole store, once, on a thread for that. `route`: the tags of
    /// the route of a page.
    pub async fn matching(self: &Arc<Self>, names: Vec<Name>, route: impl RouteTags) -> Vec<Found> {
        let store = Arc::clone(self);
        let search = move || {
            let mut found = Vec::new();
            store.each_named(&Names::new(&names), &route, |page, route| {
                if !store.is_dead(&page.listed, route) {
                    found.push(Found { key: page.listed.key, uses: page.uses, asked: page.asked });
                }
            });
            found
        };
        // It fails only when the runtime shuts down, and then nobody waits.
        tokio::task::spawn_blocking(search).await.unwrap_or_default()
    }

    /// Gives back the memory of the pages that one of `names` names and that must not
    /// be served any more; answers how many there were. Goes through the whole store,
    /// once, on a thread for that, and to its end even when the future is dropped.
    ///
    /// For what is deleted. What is only expired will be asked for again, and then it
    /// is of use what is known of it: what it varies on, and that requests for it may
    /// wait for one another.
    pub async fn free(self: &Arc<Self>, names: Vec<Name>, route: impl RouteTags) -> u64 {
        let store = Arc::clone(self);
        let free = move || store.free_now(&names, &route);
        tokio::task::spawn_blocking(free).await.unwrap_or_default()
    }

    pub(super) fn free_now(&self, names: &[Name], route: &impl RouteTags) -> u64 {
        let names = Names::new(names);
        let mut freed = 0;
        self.each_named(&names, route, |page, route| {
            freed += u64::from(self.bury(&page.listed, route, names.by_tag()));
        });
        self.memory.iter().for_each(Memory::catch_up);
        freed
    }

    /// Every page that is named, each once, with the tags of its route.
    fn each_named(
        &self,
        names: &Names,
        route: &impl RouteTags,
        mut each: impl FnMut(Searched, &Tags),
    ) {
        let mut seen = HashSet::new();
        let mut search = |page: Searched| {
            let (key, tags) = (&page.listed.key, &page.listed.tags);
            let route = route(key);
            let named = names.cover(key, &[tags, &route]);
            // One in memory may be in the other tier as well.
            if named && (self.below.is_none() || seen.insert(key.clone())) {
                each(page, &route);
            }
        };
        self.memory.iter().flat_map(Memory::iter).for_each(|page| search(Searched::of(&page)));
        if let Some(below) = &self.below {
            below.list(&mut |listed| search(Searched { listed, uses: 0, asked: false }));
        }
    }

    /// Whether no member of a page may be served any more: not even the latest.
    fn is_dead(&self, page: &Listed, route: &Tags) -> bool {
        let held = self.invalidations.hold();
        held.judge(&page.key, &[&page.tags, route], page.born) == Standing::Dead
    }

    /// Removes a page if it is dead: as it was found, and as it is now. `by_tag`: a
    /// tag that it had is why.
    fn bury(&self, found: &Listed, route: &Tags, by_tag: bool) -> bool {
        if !self.is_dead(found, route) {
            return false;
        }
        let mut stripe = self.stripe(found.key.as_str());
        let now = match self.in_memory(found.key.as_str()) {
            Some(page) => Searched::of(&page).listed,
            None if self.below.is_some() => found.clone(),
            None => return false,
        };
        if !self.is_dead(&now, route) {
            return false;
        }
        if by_tag && !now.tags.names.is_empty() {
            let hash = self.hasher.hash_one(&now.key);
            self.graves.get_or_init(graves).insert(hash, Arc::clone(&now.tags));
        }
        // What was put below since it was listed stays there.
        self.take_out(&mut stripe, &now.key, now.born);
        true
    }
}
