//! Pages at rest. [`Store`] lays memory over a slower [`Tier`], and everything it hands
//! out is read under one rule: how a representation stands towards what was invalidated
//! since its fill began (`invalidation`).
//!
//! What waits comes first: a page that is to be changed is loaded, then changed under a
//! lock without waiting, then put into memory at once and below it behind.
//!
//! The store never asks an origin, reads no clock, and knows nothing of freshness:
//! [`Standing::Live`] says that nothing was invalidated, not that the time is not up.

mod invalidation;
mod memory;
#[cfg(test)]
mod model;
mod name;
mod search;
mod tier;

use std::hash::{BuildHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use invalidation::Invalidations;
pub use invalidation::{Hardness, Log, LogError, MemoryLog};
pub use name::Name;
pub use search::{Found, RouteTags};
pub use tier::{Listed, Tier};

use crate::config;
use crate::page::{Body, Born, Form, Page, PageKey, Representation, Seq, Standing, Tags};
use memory::Memory;

/// Locks for changes of pages, each for the keys of one hash. Commits of
/// different members of a page must see one another; hits take no lock. So many that
/// a page is seldom loaded again because another one was changed meanwhile.
const STRIPES: usize = 1024;

/// Bytes for the tags of pages that were removed because of one.
const MAX_GRAVES: u64 = 4 << 20;
/// How long they are remembered: longer than a fill takes that began before.
const GRAVE: Duration = Duration::from_secs(600);

/// Variants that are remembered as stored before, and for how long.
const MAX_SEEN: u64 = 16_384;
const SEEN: Duration = Duration::from_secs(600);

/// Pages at rest.
pub struct Store {
    memory: Option<Memory>,
    below: Option<Arc<dyn Tier>>,
    invalidations: Arc<Invalidations>,
    /// How often pages of that hash were changed. Held while one is.
    stripes: Box<[Mutex<u64>]>,
    hasher: ahash::RandomState,
    max_variants: AtomicUsize,
    /// The tags of pages that were removed because of a tag, by the hash of their
    /// keys: a fill in flight that began before brings such a page back without it.
    /// None as long as none was.
    graves: OnceLock<moka::sync::Cache<u64, Arc<Tags>>>,
    /// How often variants were stored lately, by hash.
    variants: moka::sync::Cache<u64, u32>,
}

/// What became of a commit.
#[derive(Clone, Debug)]
pub enum Committed {
    /// It is stored.
    Stored {
        /// The page with it.
        page: Arc<Page>,
        /// Of what was committed: live, or stale when a part of it was invalidated
        /// while it was rendered.
        standing: Standing,
    },
    /// Invalidated hard while it was rendered; nothing was changed.
    Dead,
    /// What is stored began later; nothing was changed.
    Superseded,
    /// The forms named were dropped, and no member is left: the page is gone.
    Removed,
    /// No tier has room for it. An older page of that key is gone, or its clients
    /// would never see a newer one.
    NoRoom,
}

/// The members of a page after a commit.
struct Swapped {
    /// Those that it brings.
    fresh: Vec<Arc<Representation>>,
    /// All, with these.
    members: Vec<Arc<Representation>>,
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pages in memory.
    pub entries: u64,
    /// What they weigh, in bytes.
    pub bytes: u64,
    /// Pages that had to go for others, since the start.
    pub evictions: u64,
    /// Distinct names of invalidations that are remembered.
    pub names: u64,
}

impl Store {
    /// A store in memory alone.
    #[must_use]
    pub fn new(config: &config::Cache) -> Store {
        // A log in memory can always be read.
        let log = Arc::new(MemoryLog::default());
        Store::open(config, log, None).unwrap_or_else(|_| unreachable!())
    }

    /// A store whose invalidations are durable in `log`, with memory over the tier
    /// `below`.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn open(
        config: &config::Cache,
        log: Arc<dyn Log>,
        below: Option<Arc<dyn Tier>>,
    ) -> io::Result<Store> {
        Ok(Store {
            memory: Memory::new(config.memory),
            below,
            invalidations: Arc::new(Invalidations::open(config.max_invalidations, log)?),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: ahash::RandomState::new(),
            max_variants: AtomicUsize::new(config.max_variants.max(1)),
            graves: OnceLock::new(),
            variants: moka::sync::Cache::builder()
                .max_capacity(MAX_SEEN)
                .time_to_live(SEEN)
                .build(),
        })
    }

    /// Goes by other bounds from now on, as far as they can change. Routes may have
    /// other tags now.
    pub fn configure(&self, config: &config::Cache) {
        self.invalidations.forget_checked();
        self.max_variants.store(config.max_variants.max(1), Ordering::Relaxed);
    }

    /// What a fill that begins now is born at. Ask before anything is sent to the
    /// origin, and once for all members of a generation.
    #[must_use]
    pub fn born(&self) -> Born {
        self.invalidations.born()
    }

    /// The page in memory, which counts as used by this. Its members may be stale or
    /// dead: ask [`standing`](Self::standing) about the one that is selected.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<Page>> {
        let page = self.memory.as_ref()?.get(key)?;
        page.uses.add();
        Some(page)
    }

    /// How often this page (or another one that shares its lock) was changed. Who asks
    /// before it loads the page can tell later whether to look again.
    #[must_use]
    pub fn changes(&self, key: &str) -> u64 {
        *self.stripe(key)
    }

    /// The page in any tier, which counts as used by this. What a slower one has is
    /// promoted.
    pub async fn load(&self, key: &str) -> Option<Arc<Page>> {
        if let Some(page) = self.get(key) {
            return Some(page);
        }
        self.below.as_ref()?;
        let (stripe, page) = self.lock(key).await;
        if let (Some(page), Some(memory)) = (&page, &self.memory) {
            memory.put(Arc::clone(page));
            drop(stripe);
            memory.settle();
        }
        page.inspect(|page| page.uses.add())
    }

    /// How a member of a page stands. `route`: the tags that its route has now. They
    /// are not stored. What is found is remembered, so whoever asks says the same; after
    /// a reload, [`configure`](Self::configure) has it forgotten.
    #[must_use]
    pub fn standing(&self, page: &Page, rep: &Representation, route: &Tags) -> Standing {
        self.invalidations.standing(page, rep, route)
    }

    /// How a fill of `key` that was born at `born` stands. As long as its tags are not
    /// known (`None`), every tag purge counts. A request that arrives must not join a
    /// fill that is [`Standing::Dead`].
    #[must_use]
    pub fn fence(&self, key: &PageKey, tags: Option<&Tags>, born: Born) -> Standing {
        self.invalidations.fence(key, tags, born)
    }

    /// Invalidates what `names` name. When this returns, no lookup finds anything live
    /// that began before the call. It goes to its end even when the future is dropped.
    ///
    /// # Errors
    /// If it could not be made durable. Then nothing was invalidated.
    pub async fn invalidate(&self, names: Vec<Name>, hardness: Hardness) -> Result<Seq, LogError> {
        self.invalidations.invalidate(names, hardness).await
    }

    /// Invalidates the page of a URI after an unsafe method (RFC 9111 §4.4): every
    /// query and variant of its path, and fills in flight. `key` is what a GET of
    /// the URI would have.
    pub fn invalidate_unsafe(&self, key: &PageKey) {
        // First the name, or a fill could commit between the two.
        self.invalidations.invalidate_unsafe(key.host(), key.path(), Hardness::Hard);
        self.remove(key);
    }

    /// Marks the page of a URI as stale after an unsafe method: every query and variant
    /// of its path, and what fills in flight will bring. Recorded and bounded as by
    /// [`invalidate_unsafe`](Self::invalidate_unsafe).
    pub fn outdate_unsafe(&self, key: &PageKey) {
        self.invalidations.invalidate_unsafe(key.host(), key.path(), Hardness::Soft);
    }

    /// Swaps the members of one generation together, and drops those that the page
    /// has no more. One of the same form and selection takes the place of the stored
    /// one; the others stay. All of it happens, or nothing. Of each form, the
    /// variants that are used most are kept. `route`: the tags of its route.
    pub async fn commit(
        &self,
        key: &PageKey,
        route: &Tags,
        new: Vec<Representation>,
        gone: impl Fn(&Representation) -> bool,
    ) -> Committed {
        if !self.keeps() {
            return Committed::NoRoom;
        }
        let (stripe, old) = self.lock(key.as_str()).await;
        let committed = self.merge(stripe, key, old, route, new, gone);
        self.memory.iter().for_each(Memory::settle);
        committed
    }

    /// Adds coded bodies to a representation, as long as what is stored has the very
    /// body that they were made of. `bodies` begins with that one.
    pub async fn replace_bodies(
        &self,
        key: &PageKey,
        rep: &Representation,
        bodies: Box<[Body]>,
    ) -> bool {
        let Some(identity) = bodies.first() else { return false };
        let (mut stripe, page) = self.lock(key.as_str()).await;
        let of_it = |member: &&mut Arc<Representation>| {
            let body = member.identity();
            member.is_in_place_of(rep)
                && member.compress.worth() == rep.compress.worth()
                && (&body.etag, &body.bytes) == (&identity.etag, &identity.bytes)
        };
        let Some(page) = page else { return false };
        let mut members = page.members.to_vec();
        let Some(member) = members.iter_mut().find(of_it) else { return false };
        *member = Arc::new(Representation { bodies, ..(**member).clone() });
        let mut new = Page::new(key.clone(), members).used(page.uses.count());
        new.tags = Arc::clone(&page.tags);
        let stored = self.put(&mut stripe, &Arc::new(new));
        drop(stripe);
        self.memory.iter().for_each(Memory::settle);
        stored
    }

    /// Removes a page from every tier.
    pub fn remove(&self, key: &PageKey) {
        self.take_out(&mut self.stripe(key.as_str()), key, Born::MAX);
    }

    /// Removes those members of a page that began at `born` or before it: what a fill
    /// learned then says nothing of a newer render. Answers whether there were any.
    /// `route`: the tags of its route.
    pub async fn withdraw(
        &self,
        key: &PageKey,
        route: &Tags,
        born: Born,
        of: impl Fn(&Representation) -> bool,
    ) -> bool {
        let old = |member: &Representation| member.born <= born && of(member);
        matches!(
            self.commit(key, route, Vec::new(), old).await,
            Committed::Stored { .. } | Committed::Removed
        )
    }

    /// Whether there is a tier that keeps pages.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.memory.is_some() || self.below.is_some()
    }

    /// Pages stored; lags a little behind.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.memory.as_ref().map_or(0, Memory::len)
    }

    /// Whether nothing is stored; lags a little behind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the pages weigh, in bytes; lags a little behind.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.memory.as_ref().map_or(0, Memory::bytes)
    }

    /// Figures for metrics. Lets the tiers catch up first, which they do of
    /// themselves only while they are used.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.memory.iter().for_each(Memory::catch_up);
        Stats {
            entries: self.len(),
            bytes: self.bytes(),
            evictions: self.memory.as_ref().map_or(0, Memory::evictions),
            names: self.invalidations.len() as u64,
        }
    }

    fn in_memory(&self, key: &str) -> Option<Arc<Page>> {
        self.memory.as_ref()?.get(key)
    }

    fn stripe(&self, key: &str) -> MutexGuard<'_, u64> {
        let hash = self.hasher.hash_one(key);
        self.stripes[hash as usize % STRIPES].lock()
    }

    /// Locks a page to change it; and what is stored of it, in whichever tier. It is
    /// loaded before it is locked, and again if it was changed meanwhile.
    async fn lock(&self, key: &str) -> (MutexGuard<'_, u64>, Option<Arc<Page>>) {
        let Some(below) = &self.below else {
            let stripe = self.stripe(key);
            return (stripe, self.in_memory(key));
        };
        loop {
            let changes = self.changes(key);
            let loaded = match self.in_memory(key) {
                Some(_) => None,
                None => Some(below.load(key).await.map(Arc::new)),
            };
            let stripe = self.stripe(key);
            match (self.in_memory(key), loaded) {
                (Some(page), _) => return (stripe, Some(page)),
                (None, Some(page)) if *stripe == changes => return (stripe, page),
                (None, _) => {}
            }
        }
    }

    /// Stores a page in every tier that takes it; false if none does.
    fn put(&self, stripe: &mut MutexGuard<'_, u64>, page: &Arc<Page>) -> bool {
        **stripe += 1;
        let below = self.below.as_ref().is_some_and(|below| below.put(page));
        let memory = self.memory.as_ref().is_some_and(|memory| {
            let stored = memory.put(Arc::clone(page));
            if !stored {
                memory.remove(page.key.as_str());
            }
            stored
        });
        memory || below
    }

    /// Removes a page of which nothing began after `born`.
    fn take_out(&self, stripe: &mut MutexGuard<'_, u64>, key: &PageKey, born: Born) {
        **stripe += 1;
        if let Some(below) = &self.below {
            below.remove(key, born);
        }
        if let Some(memory) = &self.memory {
            memory.remove(key.as_str());
        }
    }

    fn merge(
        &self,
        mut stripe: MutexGuard<'_, u64>,
        key: &PageKey,
        old: Option<Arc<Page>>,
        route: &Tags,
        new: Vec<Representation>,
        gone: impl Fn(&Representation) -> bool,
    ) -> Committed {
        // 1. Who stays, who goes.
        let Some(Swapped { fresh, mut members }) = self.swapped(key, old.as_deref(), new, gone)
        else {
            return Committed::Superseded;
        };

        // 2. Under which names. The tags of the page as it was count once more: a
        // purge by one of them named this page, and all that was rendered before it.
        let held = self.invalidations.hold();
        let mut names = match &old {
            Some(page) => (*page.tags).clone(),
            None => self.buried(key),
        };
        let had_names = old.is_some() || names != Tags::default();
        for rep in &fresh {
            names = names.union(&rep.tags);
        }
        let standing =
            |member: &Arc<Representation>| held.judge(key, &[&names, route], member.born);
        let worst = fresh.iter().map(standing).max().unwrap_or(Standing::Live);
        if worst == Standing::Dead {
            return Committed::Dead;
        }
        members.retain(|member| standing(member) != Standing::Dead);
        self.trim(&mut members);
        if members.is_empty() {
            self.take_out(&mut stripe, key, Born::MAX);
            return Committed::Removed;
        }

        // 3. The page keeps the tags by which such a purge made a member stale that is
        // still there.
        let mut page = Page::new(key.clone(), members);
        let forgets = |member: &Arc<Representation>| {
            held.judge(key, &[&page.tags, route], member.born) != standing(member)
        };
        if page.members.iter().any(forgets) {
            page.tags = Arc::new(names.clone());
        }

        // 4. Where the page loses a tag, nothing is invalidated until it is in place:
        // a purge of that tag would fall between the judgement and this. Where it
        // loses none, such a purge reaches it afterwards, and need not wait.
        let loses = had_names && page.tags.union(&Tags::default()) != names;
        let held = loses.then_some(held);
        let uses = old.as_ref().map_or(0, |old| old.uses.count() / 2);
        let page = Arc::new(page.used(uses));
        let stored = self.put(&mut stripe, &page);
        drop(held);
        if stored { Committed::Stored { page, standing: worst } } else { Committed::NoRoom }
    }

    /// The members of a page after a commit; none if what is stored began later, or
    /// nothing changes.
    fn swapped(
        &self,
        key: &PageKey,
        old: Option<&Page>,
        new: Vec<Representation>,
        gone: impl Fn(&Representation) -> bool,
    ) -> Option<Swapped> {
        let stored = old.map_or(&[][..], |page| &page.members);
        let (dropped, mut members): (Vec<_>, Vec<_>) =
            stored.iter().cloned().partition(|member| gone(member));
        // Or an old slow fill would bring back what a newer one replaced.
        let born = new.iter().map(|rep| rep.born).min().unwrap_or(Born::MAX);
        let newer = |member: &Arc<Representation>| {
            new.iter().any(|rep| member.is_in_place_of(rep) && member.born > rep.born)
        };
        if dropped.iter().any(|member| member.born > born)
            || members.iter().any(newer)
            || (new.is_empty() && dropped.is_empty())
        {
            return None;
        }
        let fresh: Vec<_> = new.into_iter().map(Arc::new).collect();
        for rep in &fresh {
            let place = members.iter().position(|member| member.is_in_place_of(rep));
            rep.uses.inherit(match place {
                Some(place) => members.remove(place).uses.count() / 2,
                None => self.stored_lately(key, rep),
            });
            // The latest one last: it is the one to select (RFC 9111 §4.1) and the
            // last one to go.
            members.push(Arc::clone(rep));
        }
        Some(Swapped { fresh, members })
    }

    /// The tags that a page had when it was removed because of one.
    fn buried(&self, key: &PageKey) -> Tags {
        let tags = self.graves.get().and_then(|graves| graves.get(&self.hasher.hash_one(key)));
        tags.map_or_else(Tags::default, |tags| (*tags).clone())
    }

    /// How often a variant was stored lately, this time not counted: one that is
    /// asked for again and again has been seen before, one that was made up has not,
    /// even where it was pushed out in between.
    fn stored_lately(&self, key: &PageKey, rep: &Representation) -> u32 {
        if rep.vary.is_empty() {
            return 0;
        }
        let mut hasher = self.hasher.build_hasher();
        (key, rep.form).hash(&mut hasher);
        rep.vary.iter().for_each(|field| (&field.name, &field.value).hash(&mut hasher));
        let hash = hasher.finish();
        let stored = self.variants.get(&hash).unwrap_or(0);
        self.variants.insert(hash, stored.saturating_add(1));
        stored
    }

    /// Keeps as many variants of each form as there may be: the newest one, and of
    /// the others those that were used most, or clients who make up what a page
    /// varies on would take the true ones out.
    fn trim(&self, members: &mut Vec<Arc<Representation>>) {
        let max = self.max_variants.load(Ordering::Relaxed);
        let mut forms: Vec<Form> = members.iter().map(|member| member.form).collect();
        forms.sort_unstable();
        forms.dedup();
        for form in forms {
            loop {
                let places: Vec<usize> =
                    (0..members.len()).filter(|&place| members[place].form == form).collect();
                if places.len() <= max {
                    break;
                }
                let older = places[..places.len() - 1].iter().copied();
                // Of those that were used alike, the oldest.
                let Some(least) = older.min_by_key(|&place| members[place].uses.count()) else {
                    break;
                };
                members.remove(least);
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// No graves yet.
fn graves() -> moka::sync::Cache<u64, Arc<Tags>> {
    moka::sync::Cache::builder()
        .max_capacity(MAX_GRAVES)
        .weigher(|_, tags: &Arc<Tags>| {
            u32::try_from(tags.size() + memory::ENTRY_OVERHEAD).unwrap_or(u32::MAX)
        })
        .time_to_live(GRAVE)
        .build()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::executor::block_on as now;

    use super::*;
    use crate::page::Judgement;
    use crate::page::testing::{key, rep, tags, varying};
    use crate::page::{Coding, FieldsBuf, KeyBuf};

    pub(super) fn config(memory: u64) -> config::Cache {
        config::Cache {
            memory,
            max_object: 1 << 20,
            max_variants: 2,
            max_invalidations: 1_000,
            max_notes: 1 << 20,
            ..config::Cache::default()
        }
    }

    fn store() -> Store {
        Store::new(&config(1 << 24))
    }

    fn commit(store: &Store, key: &PageKey, members: Vec<Representation>) -> Committed {
        now(store.commit(key, &Tags::default(), members, |_| false))
    }

    fn page(store: &Store, path: &str) -> Arc<Page> {
        store.get(key(path).as_str()).expect("is stored")
    }

    /// Form, variant and body of each member.
    fn members(store: &Store, path: &str) -> Vec<(Form, String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let member = |rep: &Arc<Representation>| {
            let vary = rep.vary.first().and_then(|field| field.value.as_deref()).unwrap_or(b"");
            (rep.form, text(vary), text(&rep.identity().bytes))
        };
        page(store, path).members.iter().map(member).collect()
    }

    fn standing(store: &Store, path: &str, form: Form) -> Standing {
        let page = page(store, path);
        let rep = page.members.iter().rfind(|member| member.form == form).expect("is stored");
        store.standing(&page, rep, &Tags::default())
    }

    fn tag(tag: &str) -> Vec<Name> {
        vec![Name::Tag { host: None, tag: tag.into() }]
    }

    fn untagged(_: &PageKey) -> Arc<Tags> {
        Arc::default()
    }

    fn is_stored(committed: &Committed) -> bool {
        matches!(committed, Committed::Stored { standing: Standing::Live, .. })
    }

    #[test]
    fn members_of_a_page_are_merged() {
        let store = store();
        let (doc, data) = (Form::Document, Form::Data);
        assert!(is_stored(&commit(&store, &key("/a"), vec![rep(doc, 0, &["x"], "1")])));
        assert!(is_stored(&commit(&store, &key("/a"), vec![rep(data, 0, &["y"], "2")])));
        assert_eq!(page(&store, "/a").tags.names, tags(&["x", "y"]).names);
        assert!(is_stored(&commit(&store, &key("/a"), vec![rep(doc, 0, &["z"], "3")])));
        let all = [(data, String::new(), "2".into()), (doc, String::new(), "3".into())];
        assert_eq!(members(&store, "/a"), all);
        assert_eq!(page(&store, "/a").tags.names, tags(&["y", "z"]).names);

        now(store.withdraw(&key("/a"), &Tags::default(), Born::MAX, |member| member.form == data));
        assert_eq!(members(&store, "/a"), all[1..]);
        now(store.withdraw(&key("/a"), &Tags::default(), Born::MAX, |member| member.form == doc));
        assert!(store.get(key("/a").as_str()).is_none());
        store.remove(&key("/a"));
    }

    #[test]
    fn the_oldest_variants_of_a_form_go() {
        let store = store();
        let doc = |value: &str| varying(rep(Form::Document, 0, &[], value), "accept", value);
        commit(&store, &key("/a"), vec![rep(Form::Data, 0, &[], "json")]);
        for value in ["a", "b", "a", "c"] {
            commit(&store, &key("/a"), vec![doc(value)]);
        }
        let left: Vec<_> = members(&store, "/a").into_iter().map(|(_, _, body)| body).collect();
        assert_eq!(left, ["json", "a", "c"]);
    }

    #[tokio::test]
    async fn what_began_later_is_not_replaced() {
        let store = store();
        let born = store.born();
        store.invalidate(tag("t"), Hardness::Soft).await.unwrap();
        commit(&store, &key("/a"), vec![rep(Form::Document, store.born(), &[], "new")]);
        let slow = || rep(Form::Document, born, &[], "old");
        let data = || rep(Form::Data, born, &[], "data");
        assert!(matches!(commit(&store, &key("/a"), vec![slow()]), Committed::Superseded));
        // All or nothing.
        let both = vec![data(), slow()];
        assert!(matches!(commit(&store, &key("/a"), both), Committed::Superseded));
        assert!(matches!(
            now(store.commit(&key("/a"), &Tags::default(), vec![data()], |member| member.form
                == Form::Document)),
            Committed::Superseded
        ));
        assert_eq!(members(&store, "/a").len(), 1);
        assert!(is_stored(&commit(&store, &key("/a"), vec![data()])));
    }

    #[test]
    fn a_generation_swaps_its_members_and_drops_a_form() {
        let store = store();
        let (doc, data, rsc) = (Form::Document, Form::Data, Form::Payload);
        let old = vec![rep(doc, 0, &[], "1"), rep(data, 0, &[], "1"), rep(rsc, 0, &[], "1")];
        now(store.commit(&key("/a"), &Tags::default(), old, |_| false));
        let new = vec![rep(doc, 0, &[], "2")];
        assert!(is_stored(&now(
            store.commit(&key("/a"), &Tags::default(), new, |member| member.form == data)
        )));
        let all = [(rsc, String::new(), "1".into()), (doc, String::new(), "2".into())];
        assert_eq!(members(&store, "/a"), all);
        assert!(matches!(
            now(store.commit(&key("/a"), &Tags::default(), Vec::new(), |member| [doc, rsc]
                .contains(&member.form))),
            Committed::Removed
        ));
        assert!(store.get(key("/a").as_str()).is_none());
    }

    #[tokio::test]
    async fn a_fill_that_an_invalidation_overtook_is_stale_or_not_stored() {
        let store = store();
        let doc = |born| vec![rep(Form::Document, born, &["t"], "x")];
        let born = store.born();
        store.invalidate(tag("t"), Hardness::Soft).await.unwrap();
        let stale = commit(&store, &key("/a"), doc(born));
        assert!(matches!(stale, Committed::Stored { standing: Standing::Stale, .. }));
        assert_eq!(standing(&store, "/a", Form::Document), Standing::Stale);
        assert!(is_stored(&commit(&store, &key("/a"), doc(store.born()))));
        assert_eq!(standing(&store, "/a", Form::Document), Standing::Live);

        let born = store.born();
        store.invalidate(tag("t"), Hardness::Hard).await.unwrap();
        assert_eq!(standing(&store, "/a", Form::Document), Standing::Dead);
        assert!(matches!(commit(&store, &key("/b"), doc(born)), Committed::Dead));
        assert!(store.get(key("/b").as_str()).is_none());
        assert!(is_stored(&commit(&store, &key("/b"), doc(store.born()))));
    }

    #[tokio::test]
    async fn a_member_does_not_hide_behind_what_was_remembered_under_other_tags() {
        let store = store();
        commit(&store, &key("/a"), vec![rep(Form::Document, 0, &["x"], "doc")]);
        let born = store.born();
        store.invalidate(tag("y"), Hardness::Soft).await.unwrap();
        assert_eq!(standing(&store, "/a", Form::Document), Standing::Live);
        // The page turns out to have the tag: what is older than its purge is stale,
        // though nothing was invalidated since it was found live.
        assert!(born < store.born());
        let data = vec![rep(Form::Data, store.born(), &["y"], "data")];
        assert!(is_stored(&commit(&store, &key("/a"), data)));
        assert_eq!(standing(&store, "/a", Form::Data), Standing::Live);
        assert_eq!(standing(&store, "/a", Form::Document), Standing::Stale);
    }

    #[tokio::test]
    async fn a_purged_member_stays_stale_when_its_page_loses_the_tag() {
        let store = store();
        let (doc, data) = (Form::Document, Form::Data);
        let both = vec![rep(doc, 0, &["x"], "1"), rep(data, 0, &["y"], "1")];
        commit(&store, &key("/a"), both);
        let in_flight = store.born();
        store.invalidate(tag("y"), Hardness::Soft).await.unwrap();
        assert_eq!(standing(&store, "/a", doc), Standing::Stale);
        commit(&store, &key("/a"), vec![rep(data, store.born(), &[], "2")]);
        assert_eq!(standing(&store, "/a", data), Standing::Live);
        assert_eq!(standing(&store, "/a", doc), Standing::Stale);
        // So does a render of the page that began before the purge.
        commit(&store, &key("/a"), vec![rep(doc, in_flight, &["x"], "2")]);
        assert_eq!(standing(&store, "/a", doc), Standing::Stale);
        // And the tag is gone with the next render.
        commit(&store, &key("/a"), vec![rep(doc, store.born(), &["x"], "3")]);
        assert_eq!(standing(&store, "/a", doc), Standing::Live);
        assert_eq!(page(&store, "/a").tags.names, tags(&["x"]).names);
    }

    #[test]
    fn coded_bodies_are_added_to_that_very_representation_only() {
        let store = store();
        let doc = || vec![rep(Form::Document, 0, &["t"], "body")];
        commit(&store, &key("/a"), vec![rep(Form::Data, 0, &[], "{}")]);
        let Committed::Stored { page: first, .. } = commit(&store, &key("/a"), doc()) else {
            panic!("not stored");
        };
        let rep = &first.members[1];
        let mut coded = rep.bodies.to_vec();
        coded.push(Body { coding: Coding::Gzip, etag: "\"g\"".into(), bytes: "zip".into() });
        let coded: Box<[Body]> = coded.into();
        assert!(!now(store.replace_bodies(&key("/a"), rep, Box::default())));
        assert!(!now(store.replace_bodies(&key("/b"), rep, coded.clone())));
        assert!(now(store.replace_bodies(&key("/a"), rep, coded.clone())));
        let coded_page = page(&store, "/a");
        assert_eq!(coded_page.members[1].bodies.len(), 2);
        assert_eq!(coded_page.members[1].tags, rep.tags);
        assert!(Arc::ptr_eq(&coded_page.members[0], &first.members[0]));
        // It was rendered again: the same, and then another.
        commit(&store, &key("/a"), doc());
        assert!(now(store.replace_bodies(&key("/a"), rep, coded.clone())));
        let other = crate::page::testing::rep(Form::Document, 0, &["t"], "other");
        commit(&store, &key("/a"), vec![other]);
        assert!(!now(store.replace_bodies(&key("/a"), rep, coded)));
        assert_eq!(page(&store, "/a").members[1].bodies.len(), 1);
    }

    #[tokio::test]
    async fn coded_bodies_make_no_stale_member_live() {
        let store = store();
        let (doc, data) = (Form::Document, Form::Data);
        let both = vec![rep(doc, 0, &["x"], "1"), rep(data, 0, &["y"], "1")];
        commit(&store, &key("/a"), both);
        store.invalidate(tag("y"), Hardness::Soft).await.unwrap();
        commit(&store, &key("/a"), vec![rep(data, store.born(), &[], "2")]);
        let first = page(&store, "/a");
        let bodies = first.members[0].bodies.clone();
        assert!(store.replace_bodies(&key("/a"), &first.members[0], bodies).await);
        assert_eq!(standing(&store, "/a", doc), Standing::Stale);
    }

    #[tokio::test]
    async fn without_memory_nothing_is_stored_and_nothing_fails() {
        let store = Arc::new(Store::new(&config(0)));
        let doc = rep(Form::Document, 0, &[], "x");
        assert!(matches!(commit(&store, &key("/a"), vec![doc.clone()]), Committed::NoRoom));
        assert!(store.load(key("/a").as_str()).await.is_none());
        assert!(store.matching(vec![Name::All], untagged).await.is_empty());
        assert!(!now(store.replace_bodies(&key("/a"), &Arc::new(doc.clone()), doc.bodies)));
        now(store.withdraw(&key("/a"), &Tags::default(), Born::MAX, |member| {
            member.form == Form::Document
        }));
        store.invalidate_unsafe(&key("/a"));
        store.invalidate(vec![Name::All], Hardness::Hard).await.unwrap();
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn a_page_without_room_takes_the_older_one_with_it() {
        let store = Store::new(&config(64 << 10));
        let doc = |len: usize| vec![rep(Form::Document, 0, &[], &"x".repeat(len))];
        assert!(is_stored(&commit(&store, &key("/a"), doc(10))));
        assert!(matches!(commit(&store, &key("/a"), doc(65 << 10)), Committed::NoRoom));
        assert!(store.get(key("/a").as_str()).is_none());
    }

    fn path(host: Option<&str>, path: &str) -> Name {
        Name::Path { host: host.map(Into::into), path: path.into() }
    }

    fn sorted(mut found: Vec<Found>) -> Vec<PageKey> {
        found.sort_by(|a, b| a.key.as_str().cmp(b.key.as_str()));
        found.into_iter().map(|found| found.key).collect()
    }

    #[tokio::test]
    async fn matching_finds_every_page_that_is_named() {
        let store = Arc::new(store());
        let mut keys = Vec::new();
        for (host, query) in [("a.com", ""), ("a.com", "p=2"), ("b.com:8080", "")] {
            let mut buf = KeyBuf::default();
            buf.begin("", "http", host, "/x");
            buf.query(query);
            commit(&store, &buf.key(), vec![rep(Form::Document, 0, &[], "x")]);
            keys.push(buf.key());
        }
        commit(&store, &key("/y"), vec![rep(Form::Document, 0, &["t"], "x")]);
        keys.push(key("/y"));
        assert_eq!(sorted(store.matching(vec![path(None, "/x")], untagged).await), keys[..3]);
        assert_eq!(
            sorted(store.matching(vec![path(Some("b.com"), "/x")], untagged).await),
            keys[2..3]
        );
        let several = vec![path(Some("b.com"), "/x"), path(None, "/z"), tag("t").remove(0)];
        assert_eq!(sorted(store.matching(several, untagged).await), keys[2..]);
        assert!(store.matching(Vec::new(), untagged).await.is_empty());
        // What must not be served is not stored.
        store.invalidate(vec![path(Some("a.com"), "/x")], Hardness::Hard).await.unwrap();
        assert_eq!(sorted(store.matching(vec![path(None, "/x")], untagged).await), keys[2..3]);
    }

    #[tokio::test]
    async fn what_is_deleted_is_freed_and_what_came_since_is_not() {
        for name in [
            path(None, "/a"),
            Name::Prefix { host: None, path: "/a".into() },
            tag("t").remove(0),
            Name::Host("example.com".into()),
            Name::All,
        ] {
            let store = Arc::new(store());
            let doc = |born| vec![rep(Form::Document, born, &["t"], &"x".repeat(10_000))];
            let others = ["/b", "/c"].map(|path| PageKey::new("", "http", "other", path));
            for key in [key("/a"), others[0].clone()] {
                commit(&store, &key, doc(Born::default()));
            }
            commit(&store, &others[1], vec![rep(Form::Document, 0, &[], "x")]);
            // Not before it is invalidated.
            assert_eq!(store.free(vec![name.clone()], untagged).await, 0);
            store.invalidate(vec![name.clone()], Hardness::Soft).await.unwrap();
            assert_eq!(store.free(vec![name.clone()], untagged).await, 0);
            let born = store.born();
            store.invalidate(vec![name.clone()], Hardness::Hard).await.unwrap();
            let left = if name == Name::All { 0 } else { u64::from(name != tag("t")[0]) + 1 };
            assert_eq!(store.free(vec![name.clone()], untagged).await, 3 - left, "{name:?}");
            assert_eq!(store.len(), left, "{name:?}");
            // A render that began before is dead, one that began since stays.
            assert!(matches!(commit(&store, &key("/a"), doc(born)), Committed::Dead));
            assert!(is_stored(&commit(&store, &key("/a"), doc(store.born()))));
            assert_eq!(store.free(vec![name], untagged).await, 0);
            assert!(store.get(key("/a").as_str()).is_some());
        }
    }

    /// They are not stored: what is asked is what they are now.
    #[tokio::test]
    async fn the_tags_of_its_route_name_a_page_too() {
        let store = Arc::new(store());
        let doc = |born| vec![rep(Form::Document, born, &["t"], "x")];
        let (route, a) = (tags(&["r"]), key("/a"));
        let of_route = |_: &PageKey| Arc::new(tags(&["r"]));
        let standing = |route: &Tags| {
            let page = page(&store, "/a");
            store.standing(&page, &page.members[0], route)
        };
        now(store.commit(&a, &route, doc(store.born()), |_| false));
        let born = store.born();
        store.invalidate(tag("r"), Hardness::Soft).await.unwrap();
        assert_eq!(page(&store, "/a").tags.names, tags(&["t"]).names);
        assert_eq!(standing(&route), Standing::Stale);
        assert_eq!(store.matching(tag("r"), of_route).await.len(), 1);
        assert!(store.matching(tag("r"), untagged).await.is_empty());
        // With another configuration it has another route.
        store.configure(&config(0));
        assert_eq!(standing(&Tags::default()), Standing::Live);
        store.configure(&config(0));
        store.invalidate(tag("r"), Hardness::Hard).await.unwrap();
        assert!(matches!(now(store.commit(&a, &route, doc(born), |_| false)), Committed::Dead));
        assert_eq!(store.free(tag("r"), untagged).await, 0);
        store.configure(&config(0));
        assert_eq!(store.free(tag("r"), of_route).await, 1);
        assert!(matches!(now(store.commit(&a, &route, doc(born), |_| false)), Committed::Dead));
    }

    /// The page had the tag by another member, or by what it was before.
    #[tokio::test]
    async fn a_render_that_began_before_its_page_was_deleted_by_a_tag_is_dead() {
        let store = Arc::new(store());
        let both = vec![rep(Form::Document, 0, &["t"], "1"), rep(Form::Data, 0, &[], "1")];
        commit(&store, &key("/a"), both);
        let born = store.born();
        store.invalidate(tag("t"), Hardness::Hard).await.unwrap();
        assert_eq!(store.free(tag("t"), untagged).await, 1);
        for form in [Form::Data, Form::Document] {
            let old = vec![rep(form, born, &[], "1")];
            assert!(matches!(commit(&store, &key("/a"), old), Committed::Dead), "{form:?}");
        }
        assert!(is_stored(&commit(
            &store,
            &key("/a"),
            vec![rep(Form::Data, store.born(), &[], "2")]
        )));
    }

    #[tokio::test]
    async fn deleting_everything_gives_the_memory_back() {
        let store = Arc::new(Store::new(&config(1 << 30)));
        let doc = || vec![rep(Form::Document, 0, &["t"], &"x".repeat(2_000))];
        for n in 0..20_000 {
            commit(&store, &key(&format!("/{n}")), doc());
        }
        assert_eq!(store.stats().entries, 20_000);
        store.invalidate(vec![Name::All], Hardness::Hard).await.unwrap();
        assert_eq!(store.free(vec![Name::All], untagged).await, 20_000);
        assert_eq!((store.stats().entries, store.stats().bytes), (0, 0));
    }

    #[test]
    fn uses_are_counted_and_fade() {
        let store = store();
        commit(&store, &key("/a"), vec![rep(Form::Document, 0, &[], "1")]);
        (0..9).for_each(|_| drop(page(&store, "/a")));
        assert_eq!(page(&store, "/a").uses.count(), 10);
        commit(&store, &key("/a"), vec![rep(Form::Document, 0, &[], "2")]);
        assert_eq!(page(&store, "/a").uses.count(), 6, "half of them, and this one");
    }

    #[test]
    fn an_unsafe_method_removes_the_page_and_fences_fills() {
        let store = store();
        let doc = |born| vec![rep(Form::Document, born, &[], "x")];
        let mut other = KeyBuf::default();
        other.begin("", "http", "example.com", "/a");
        other.variant("accept-language", "de");
        let other = other.key();
        let born = store.born();
        commit(&store, &key("/a"), doc(born));
        commit(&store, &other, doc(born));
        commit(&store, &key("/b"), doc(born));
        store.invalidate_unsafe(&key("/a"));
        assert!(store.get(key("/a").as_str()).is_none());
        assert!(matches!(commit(&store, &key("/a"), doc(born)), Committed::Dead));
        let page = store.get(other.as_str()).unwrap();
        assert_eq!(store.standing(&page, &page.members[0], &Tags::default()), Standing::Dead);
        assert_eq!(standing(&store, "/b", Form::Document), Standing::Live);
        assert_eq!(store.fence(&key("/a"), None, born), Standing::Dead);
        assert_eq!(store.fence(&key("/b"), None, born), Standing::Live);
        assert!(is_stored(&commit(&store, &key("/a"), doc(store.born()))));
    }

    /// Each thread commits its own form of one page again and again: what it
    /// committed last must be there until it commits again.
    #[test]
    fn concurrent_commits_lose_no_member() {
        let slow = Arc::new(tier::testing::Slow::default());
        let below = Arc::clone(&slow) as Arc<dyn Tier>;
        let log = Arc::new(MemoryLog::default());
        let over_it = Store::open(&config(1 << 24), log, Some(below)).unwrap();
        for store in [store(), over_it] {
            let running = AtomicUsize::new(3);
            std::thread::scope(|scope| {
                for form in [Form::Document, Form::Data, Form::Payload] {
                    let (store, running) = (&store, &running);
                    scope.spawn(move || {
                        for round in 0..3_000 {
                            let body = round.to_string();
                            commit(store, &key("/a"), vec![rep(form, 0, &[], &body)]);
                            std::thread::yield_now();
                            let page = now(store.load(key("/a").as_str())).unwrap();
                            let mine = page.members.iter().find(|member| member.form == form);
                            assert_eq!(mine.unwrap().identity().bytes, body);
                        }
                        running.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                // What memory loses, the tier below has.
                while store.below.is_some() && running.load(Ordering::Relaxed) > 0 {
                    store.memory.iter().for_each(|memory| drop(memory.remove(key("/a").as_str())));
                    slow.write();
                    std::thread::yield_now();
                }
            });
            assert_eq!(now(store.load(key("/a").as_str())).unwrap().members.len(), 3);
        }
    }

    /// The bar: at most 1 KiB beyond the bytes of the page.
    #[test]
    fn a_typical_page_costs_less_than_a_kibibyte_beyond_its_bytes() {
        let mut fields = FieldsBuf::default();
        for n in 0..12 {
            fields.push(&format!("x-field-{n}"), b"a value of some thirty bytes..");
        }
        let fields = fields.done();
        let mut rep = rep(Form::Document, 0, &["article-1234", "section-news", "author-99"], "");
        rep.origin = fields.clone();
        let head = fields.clone();
        rep.judged = crate::page::Judged::new(Judgement { stamp: 0, terms: None, head });
        rep.bodies[0].bytes = Bytes::from(vec![0; 16 << 10]);
        rep.bodies[0].etag = "\"0123456789abcdef\"".into();
        let path = "/blog/2024/05/a-typical-title-of-an-article";
        let page = Page::new(key(path), vec![Arc::new(rep)]);
        let own = (16 << 10) + fields.size();
        let overhead = page.size() + memory::ENTRY_OVERHEAD - own;
        // The head counts once as the page's own: the copy made ready for
        // clients is overhead.
        println!("overhead: {overhead} bytes, {} of them the ready head", fields.size());
        assert!(overhead - fields.size() <= 1024, "{overhead}");
    }
}
