//! Invalidations are numbered, and a page is held against the numbers when it is
//! read: no clock, no index from tags to pages.
//!
//! Three things are counted:
//!
//! - the invalidations of the log. It hands the numbers out (several nodes may share
//!   one log), and has an invalidation durable before anybody is told that it happened;
//! - the unsafe methods that this process has seen. They are not logged;
//! - the generation of the table: how often it has changed. What a lookup found is
//!   remembered with it, so that the next one costs one atomic load and one compare.
//!
//! Each name is recorded with the number of its latest invalidation. A fill remembers
//! the first two counts as they were when it *began* ([`Born`]). What it brings is dead
//! if a hard number over its page's names is above that, stale if a soft one is. This
//! one rule makes a purge by tag O(1) and is the fence against fills in flight.
//!
//! # The order that makes it a fence
//!
//! An invalidation is (1) made durable by the log, which hands out its number, (2)
//! applied: under the lock of the table its names are recorded, then the counts
//! advance, and only then (3) acknowledged. So
//!
//! - who reads the generation and then the table sees at least the names of that
//!   generation: what was found is remembered with the one that was read *before*;
//! - a fill that begins after the acknowledgement is born at or above the number
//!   and cannot be made stale by it;
//! - a fill that began before the log handed out the number is born below it,
//!   whenever it commits;
//! - what began between the two may count as either. So invalidations need not be
//!   applied in the order of their numbers: what is born at 6 while 5 is not applied
//!   yet began when 5 had been handed out.
//!
//! # When the log fails
//!
//! Nothing is applied and the caller gets the error: an invalidation that works
//! until the next restart and is undone by it would be worse than one that is
//! known to have failed. The log may hold it after all; then it takes effect at the
//! next start, which is harmless.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use parking_lot::{RwLock, RwLockReadGuard};

use super::name::{Name, depth, prefixes, trimmed};
use crate::host;
use crate::page::{Born, Page, PageKey, Representation, Seq, Standing, Tags};

/// Paths that unsafe methods invalidated and that are remembered. Anybody can
/// add one, so that they are few; what is lost when the oldest is forgotten is
/// said at [`Invalidations::invalidate_unsafe`].
const MAX_UNSAFE: usize = 16_384;

/// What an invalidation does to the pages it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hardness {
    /// They are stale.
    Soft,
    /// They must not be served.
    Hard,
}

/// An invalidation with its number, as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: Seq,
    /// What it names.
    pub names: Vec<Name>,
    /// What it does to them.
    pub hardness: Hardness,
}

/// Where invalidations get their numbers and are made durable.
///
/// A log that is kept small may replace its oldest entries by one of
/// [`Name::All`] with the greatest of their numbers: never by nothing.
pub trait Log: Send + Sync + 'static {
    /// Hands out every entry, oldest first; answers the last number that was given
    /// out. Called once, before anything is served.
    ///
    /// # Errors
    /// If the log cannot be read. What is stored must not be served then.
    fn replay(&self, each: &mut dyn FnMut(&Entry)) -> io::Result<Seq>;

    /// Makes an invalidation durable; answers its number, which is greater than every
    /// one that was given out before. It may wait, and others may append meanwhile.
    ///
    /// # Errors
    /// If it is not certain that it is durable.
    fn append<'a>(
        &'a self,
        names: &'a [Name],
        hardness: Hardness,
    ) -> BoxFuture<'a, io::Result<Seq>>;
}

/// A log in memory: for a store that is empty after a restart, so that nothing old
/// could be served.
#[derive(Debug, Default)]
pub struct MemoryLog(AtomicU64);

impl Log for MemoryLog {
    fn replay(&self, _each: &mut dyn FnMut(&Entry)) -> io::Result<Seq> {
        Ok(self.0.load(Ordering::Acquire))
    }

    fn append<'a>(&'a self, _: &'a [Name], _: Hardness) -> BoxFuture<'a, io::Result<Seq>> {
        Box::pin(std::future::ready(Ok(self.0.fetch_add(1, Ordering::AcqRel) + 1)))
    }
}

/// An invalidation could not be made durable. It did not happen.
#[derive(Debug, thiserror::Error)]
#[error("the invalidation could not be logged: {0}")]
pub struct LogError(#[from] io::Error);

/// What was invalidated, and when.
pub(super) struct Invalidations {
    /// The greatest number of the log that was applied.
    applied: AtomicU64,
    /// How many unsafe methods there were.
    local: AtomicU64,
    /// How often the table has changed. All three advance under the table's lock.
    generation: AtomicU64,
    /// Read by lookups whose page was not checked since it changed, and never held for
    /// longer than a few hash table accesses.
    table: RwLock<Table>,
    log: Arc<dyn Log>,
}

impl Invalidations {
    /// Invalidations as the log has them; at most `max_names` distinct names are kept
    /// apart.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(super) fn open(max_names: usize, log: Arc<dyn Log>) -> io::Result<Invalidations> {
        let these = Invalidations {
            applied: AtomicU64::new(0),
            local: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            table: RwLock::new(Table::new(max_names, MAX_UNSAFE)),
            log: Arc::clone(&log),
        };
        let last = log.replay(&mut |entry| these.apply(entry))?;
        these.applied.fetch_max(last, Ordering::Release);
        Ok(these)
    }

    /// What a fill that begins now is born at. Ask before anything is sent to the
    /// origin.
    pub(super) fn born(&self) -> Born {
        Born {
            log: self.applied.load(Ordering::Acquire),
            local: self.local.load(Ordering::Acquire),
        }
    }

    /// Invalidates what `names` name. When this returns, no lookup finds anything
    /// live that began before the call. It goes to its end even when the future
    /// is dropped.
    ///
    /// # Errors
    /// If it could not be made durable. Then nothing was invalidated.
    pub(super) async fn invalidate(
        self: &Arc<Self>,
        names: Vec<Name>,
        hardness: Hardness,
    ) -> Result<Seq, LogError> {
        let these = Arc::clone(self);
        // What is in the log is applied, even if the caller has gone away.
        let logged = tokio::spawn(async move {
            let seq = these.log.append(&names, hardness).await?;
            these.apply(&Entry { seq, names, hardness });
            Ok(seq)
        });
        logged.await.map_err(io::Error::other)?
    }

    /// Takes over an invalidation that is in the log: at start, as soon as it is
    /// appended, or from another node. One that is known already changes nothing.
    pub(super) fn apply(&self, entry: &Entry) {
        let mut table = self.table.write();
        let latest = self.applied.load(Ordering::Relaxed).max(entry.seq);
        for name in &entry.names {
            table.record(name, entry.seq, entry.hardness, latest);
        }
        self.applied.store(latest, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Invalidates the page of a URI after an unsafe method (RFC 9111 §4.4), and
    /// fills of it in flight. `host` and `path` as the page's key has them.
    /// Costs no log write, and raises no floor, because anybody can cause it.
    ///
    /// The names are bounded: the oldest is forgotten when 16,384 others came
    /// after it. So the caller also removes what is stored under the target's
    /// own key, and what can escape then are other queries and variants of it,
    /// and a fill in flight during that many unsafe requests.
    pub(super) fn invalidate_unsafe(&self, host: &str, path: &str, hardness: Hardness) {
        let mut table = self.table.write();
        let number = self.local.load(Ordering::Relaxed) + 1;
        table.record_unsafe(host, path, number, hardness);
        self.local.store(number, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// How a representation of a page stands: one atomic load and one compare, as
    /// long as nothing was invalidated since it was asked last. `route`: the tags that
    /// its route has now.
    pub(super) fn standing(&self, page: &Page, rep: &Representation, route: &Tags) -> Standing {
        // Before the table is read, so that that is at least as new.
        let generation = self.generation.load(Ordering::Acquire);
        let checked = page.checked(rep);
        if let Some(known) = checked.and_then(|checked| checked.at(generation)) {
            return known;
        }
        let standing = self.hold().judge(&page.key, &[&page.tags, route], rep.born);
        if let Some(checked) = checked {
            checked.set(generation, standing);
        }
        standing
    }

    /// Nothing that was found so far counts any more: routes may have other tags.
    pub(super) fn forget_checked(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// How a fill of `key` that was born at `born` stands. As long as its tags are
    /// not known (`None`), every tag purge counts. A request that arrives must not
    /// join a fill that is [`Standing::Dead`].
    pub(super) fn fence(&self, key: &PageKey, tags: Option<&Tags>, born: Born) -> Standing {
        if self.born() == born {
            return Standing::Live;
        }
        let tags = tags.as_ref().map(std::slice::from_ref);
        self.table.read().judge(key, tags, born)
    }

    /// Distinct names that are remembered.
    pub(super) fn len(&self) -> usize {
        let table = self.table.read();
        table.names.len() + table.unsafe_paths.len()
    }

    /// The table, unchanged for as long as this is held.
    pub(super) fn hold(&self) -> Held<'_> {
        Held(self.table.read())
    }
}

impl std::fmt::Debug for Invalidations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invalidations").field("born", &self.born()).finish_non_exhaustive()
    }
}

/// While it lives, nothing is invalidated. Don't ask [`Invalidations`] meanwhile:
/// a waiting writer would make that a deadlock.
pub(super) struct Held<'a>(RwLockReadGuard<'a, Table>);

impl Held<'_> {
    pub(super) fn judge(&self, key: &PageKey, tags: &[&Tags], born: Born) -> Standing {
        self.0.judge(key, Some(tags), born)
    }
}

/// The greatest numbers over a name, of the log or of unsafe methods; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reach {
    soft: Seq,
    hard: Seq,
}

impl Reach {
    fn add(&mut self, seq: Seq, hardness: Hardness) {
        let number = match hardness {
            Hardness::Soft => &mut self.soft,
            Hardness::Hard => &mut self.hard,
        };
        *number = seq.max(*number);
    }

    fn raise(&mut self, other: Reach) {
        self.add(other.soft, Hardness::Soft);
        self.add(other.hard, Hardness::Hard);
    }

    fn last(self) -> Seq {
        self.soft.max(self.hard)
    }

    fn over(self, born: u64) -> Standing {
        if self.hard > born {
            Standing::Dead
        } else if self.soft > born {
            Standing::Stale
        } else {
            Standing::Live
        }
    }
}

/// What a name is of; part of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Host,
    Path,
    Prefix,
    Tag,
    Unsafe,
}

/// Names by their hashes, and how far each reaches. Two names that collide are
/// one, which makes too much stale and never too little.
#[derive(Debug)]
struct Recent {
    reach: HashMap<u64, (Kind, Reach)>,
    /// Names in the order of their numbers; those with a later number since are
    /// left behind and dropped now and then.
    order: VecDeque<(Seq, u64)>,
    max: usize,
}

impl Recent {
    fn new(max: usize) -> Recent {
        Recent { reach: HashMap::new(), order: VecDeque::new(), max: max.max(1) }
    }

    /// Records a number. If that is one name too many, the oldest is handed out.
    fn record(&mut self, name: (Kind, u64), seq: Seq, with: Hardness) -> Option<(Kind, Reach)> {
        let (kind, hash) = name;
        let (_, reach) = self.reach.entry(hash).or_insert((kind, Reach::default()));
        if reach.last() < seq {
            self.order.push_back((seq, hash));
        }
        reach.add(seq, with);
        let latest = |reach: &HashMap<u64, (Kind, Reach)>, (seq, hash): (Seq, u64)| {
            reach.get(&hash).is_some_and(|(_, reach)| reach.last() == seq)
        };
        if self.order.len() > self.max.saturating_mul(2) {
            self.order.retain(|&place| latest(&self.reach, place));
        }
        while self.reach.len() > self.max {
            let place = self.order.pop_front()?;
            if latest(&self.reach, place) {
                return self.reach.remove(&place.1);
            }
        }
        None
    }

    fn get(&self, hash: u64) -> Reach {
        self.reach.get(&hash).map_or(Reach::default(), |&(_, reach)| reach)
    }

    fn len(&self) -> usize {
        self.reach.len()
    }

    fn clear(&mut self) {
        self.reach.clear();
        self.order.clear();
    }
}

/// A host that is named: on every port, or on one.
type Host<'a> = (&'a str, Option<u16>);

/// What the numbers name.
#[derive(Debug)]
struct Table {
    /// Keyed, because clients choose the paths of unsafe methods.
    hasher: RandomState,
    all: Reach,
    names: Recent,
    /// Names that were forgotten, as if each had named every page.
    floor: Reach,
    /// Tags that were forgotten, as if each page with tags had them all.
    tag_floor: Reach,
    /// Every tag purge: for pages that had more tags than are kept, and for fills
    /// whose tags are not known yet.
    any_tag: Reach,
    /// Whether any name is limited to a host.
    by_host: bool,
    /// Segments of the longest prefix; none: there is no prefix. Visitors can ask
    /// for paths of thousands of segments.
    depth: Option<usize>,
    /// Apart: a flood of them must not push out the names of the webhook.
    unsafe_paths: Recent,
}

impl Table {
    fn new(max_names: usize, max_unsafe: usize) -> Table {
        Table {
            hasher: RandomState::new(),
            all: Reach::default(),
            names: Recent::new(max_names),
            floor: Reach::default(),
            tag_floor: Reach::default(),
            any_tag: Reach::default(),
            by_host: false,
            depth: None,
            unsafe_paths: Recent::new(max_unsafe),
        }
    }

    fn hash(&self, kind: Kind, host: Option<Host<'_>>, value: &str) -> u64 {
        self.hasher.hash_one((kind, host, value))
    }

    /// `latest`: the greatest number that is recorded, with this one.
    fn record(&mut self, name: &Name, seq: Seq, with: Hardness, latest: Seq) {
        let (kind, host, value) = match name {
            Name::All => {
                self.all.add(seq, with);
                // Nothing older can matter any more, if nothing is newer.
                if with == Hardness::Hard && seq == latest {
                    self.names.clear();
                    self.by_host = false;
                    self.depth = None;
                }
                return;
            }
            Name::Host(host) => (Kind::Host, Some(host), ""),
            Name::Path { host, path } => (Kind::Path, host.as_ref(), &**path),
            Name::Prefix { host, path } => {
                let prefix = trimmed(path);
                self.depth = Some(self.depth.unwrap_or(0).max(depth(prefix)));
                (Kind::Prefix, host.as_ref(), prefix)
            }
            Name::Tag { host, tag } => {
                self.any_tag.add(seq, with);
                (Kind::Tag, host.as_ref(), &**tag)
            }
        };
        self.by_host |= host.is_some();
        let host = host.map(|host| host.to_ascii_lowercase());
        let hash = self.hash(kind, host.as_deref().map(host::split), value);
        match self.names.record((kind, hash), seq, with) {
            Some((Kind::Tag, oldest)) => self.tag_floor.raise(oldest),
            Some((_, oldest)) => self.floor.raise(oldest),
            None => {}
        }
    }

    fn record_unsafe(&mut self, host: &str, path: &str, number: u64, with: Hardness) {
        let hash = self.hash(Kind::Unsafe, Some((host, None)), path);
        self.unsafe_paths.record((Kind::Unsafe, hash), number, with);
    }

    /// How something of that key, those tags (`None`: not known) and that birth
    /// stands.
    fn judge(&self, key: &PageKey, tags: Option<&[&Tags]>, born: Born) -> Standing {
        let (host, path) = (key.host(), key.path());
        let mut reach = self.all;
        reach.raise(self.floor);
        if tags.is_none_or(|sets| sets.iter().any(|tags| tags.overflow)) {
            reach.raise(self.any_tag);
        }
        let tags = || tags.into_iter().flatten().flat_map(|tags| &tags.names);
        if tags().next().is_some() {
            reach.raise(self.tag_floor);
        }
        if self.names.len() > 0 {
            self.raise_by_names(&mut reach, None, path, tags());
            if self.by_host {
                let (name, port) = key.name_and_port();
                self.raise_by_names(&mut reach, Some((name, None)), path, tags());
                self.raise_by_names(&mut reach, Some((name, Some(port))), path, tags());
            }
        }
        let standing = reach.over(born.log);
        if self.unsafe_paths.len() == 0 {
            return standing;
        }
        let hash = self.hash(Kind::Unsafe, Some((host, None)), path);
        standing.max(self.unsafe_paths.get(hash).over(born.local))
    }

    fn raise_by_names<'t>(
        &self,
        reach: &mut Reach,
        host: Option<Host<'_>>,
        path: &str,
        tags: impl Iterator<Item = &'t Box<str>>,
    ) {
        let mut raise = |kind, value: &str| {
            reach.raise(self.names.get(self.hash(kind, host, value)));
        };
        if host.is_some() {
            raise(Kind::Host, "");
        }
        raise(Kind::Path, path);
        if let Some(depth) = self.depth {
            prefixes(path, depth).for_each(|prefix| raise(Kind::Prefix, prefix));
        }
        tags.for_each(|tag| raise(Kind::Tag, tag));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use parking_lot::Mutex;
    use tokio::sync::oneshot;

    use super::*;
    use crate::page::Form;
    use crate::page::testing::{key, logged, rep, tags};

    fn tag(tag: &str) -> Name {
        Name::Tag { host: None, tag: tag.into() }
    }

    fn path(path: &str) -> Name {
        Name::Path { host: None, path: path.into() }
    }

    fn prefix(path: &str) -> Name {
        Name::Prefix { host: None, path: path.into() }
    }

    fn arced(max_names: usize) -> Arc<Invalidations> {
        Arc::new(Invalidations::open(max_names, Arc::new(MemoryLog::default())).unwrap())
    }

    async fn soft(these: &Arc<Invalidations>, name: Name) -> Seq {
        these.invalidate(vec![name], Hardness::Soft).await.unwrap()
    }

    /// The table and [`Name::covers`] say the same.
    #[tokio::test]
    async fn every_kind_of_name_reaches_the_pages_it_covers() {
        let limited = |name: &Name, to: &str| {
            let host = Some(to.into());
            match name.clone() {
                Name::Path { path, .. } => Name::Path { host, path },
                Name::Prefix { path, .. } => Name::Prefix { host, path },
                Name::Tag { tag, .. } => Name::Tag { host, tag },
                other => other,
            }
        };
        let mut names = vec![Name::All];
        for name in [path("/a/b"), path("/"), prefix("/"), prefix("/a/"), prefix("/a/b"), tag("t")]
        {
            let hosts = ["a.com", "A.com:80", "a.com:443", "b.com", "[::1]"];
            names.extend(hosts.map(|host| limited(&name, host)));
            names.push(name);
        }
        names.extend(["a.com", "a.com:80", "[::1]", ""].map(|host| Name::Host(host.into())));
        for name in names {
            for hardness in [Hardness::Soft, Hardness::Hard] {
                let these = arced(10);
                these.invalidate(vec![name.clone()], hardness).await.unwrap();
                for (scheme, host) in [
                    ("http", "a.com"),
                    ("https", "a.com"),
                    ("https", "a.com:80"),
                    ("http", "b.com:8080"),
                    ("http", "[::1]:80"),
                ] {
                    for path in ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab"] {
                        for tags in [tags(&[]), tags(&["s", "t"])] {
                            let key = PageKey::new("", scheme, host, path);
                            let expected = match hardness {
                                _ if !name.covers(&key, &tags) => Standing::Live,
                                Hardness::Soft => Standing::Stale,
                                Hardness::Hard => Standing::Dead,
                            };
                            assert_eq!(
                                these.fence(&key, Some(&tags), logged(0)),
                                expected,
                                "{name:?} {key}"
                            );
                            assert_eq!(these.fence(&key, Some(&tags), logged(1)), Standing::Live);
                        }
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn more_tags_than_are_kept_are_purged_by_every_tag() {
        let these = arced(10);
        let overflow = Tags { overflow: true, ..tags(&["a"]) };
        soft(&these, path("/other")).await;
        assert_eq!(these.fence(&key("/"), Some(&overflow), logged(0)), Standing::Live);
        soft(&these, Name::Tag { host: Some("other.com".into()), tag: "t".into() }).await;
        assert_eq!(these.fence(&key("/"), Some(&overflow), logged(0)), Standing::Stale);
        assert_eq!(these.fence(&key("/"), None, logged(0)), Standing::Stale);
        assert_eq!(these.fence(&key("/"), Some(&tags(&["a"])), logged(0)), Standing::Live);
        these.invalidate(vec![tag("x")], Hardness::Hard).await.unwrap();
        assert_eq!(these.fence(&key("/"), Some(&overflow), logged(0)), Standing::Dead);
        assert_eq!(these.fence(&key("/"), Some(&overflow), these.born()), Standing::Live);
    }

    #[tokio::test]
    async fn what_was_found_is_remembered_until_the_next_invalidation() {
        let these = arced(10);
        let page = Page::new(key("/a"), vec![Arc::new(rep(Form::Document, 0, &["t"], "x"))]);
        let rep = &page.members[0];
        assert_eq!(these.standing(&page, rep, &tags(&[])), Standing::Live);
        soft(&these, tag("t")).await;
        assert_eq!(these.standing(&page, rep, &tags(&[])), Standing::Stale);
        let generation = these.generation.load(Ordering::Relaxed);
        assert_eq!(page.checked(rep).unwrap().at(generation), Some(Standing::Stale));
        // What is remembered is believed: it is all that is looked at.
        page.checked(rep).unwrap().set(generation, Standing::Live);
        assert_eq!(these.standing(&page, rep, &tags(&[])), Standing::Live);
        soft(&these, tag("other")).await;
        assert_eq!(these.standing(&page, rep, &tags(&[])), Standing::Stale);
    }

    #[tokio::test]
    async fn names_are_bounded_and_the_oldest_become_a_floor() {
        let these = arced(3);
        let tagged = tags(&["t"]);
        let at = |path: &str, born| these.fence(&key(path), Some(&tags(&[])), born);
        soft(&these, tag("a")).await;
        for n in 2..=4 {
            soft(&these, path(&format!("/{n}"))).await;
        }
        // The tag was forgotten: pages with tags are stale, whichever they are.
        assert_eq!(these.len(), 3);
        assert_eq!(these.fence(&key("/x"), Some(&tagged), logged(0)), Standing::Stale);
        assert_eq!(these.fence(&key("/x"), Some(&tagged), logged(1)), Standing::Live);
        assert_eq!(at("/x", logged(0)), Standing::Live);
        // A name that comes again is not the oldest any more.
        soft(&these, path("/2")).await;
        soft(&these, path("/6")).await;
        assert_eq!((at("/x", logged(2)), at("/x", logged(3))), (Standing::Stale, Standing::Live));
        assert_eq!((at("/2", logged(4)), at("/2", logged(5))), (Standing::Stale, Standing::Live));
        // A hard one stays hard.
        these.invalidate(vec![path("/7")], Hardness::Hard).await.unwrap();
        for n in 8..=10 {
            soft(&these, path(&format!("/{n}"))).await;
        }
        assert_eq!((at("/x", logged(6)), at("/x", logged(7))), (Standing::Dead, Standing::Live));
        // The same names again and again take no room.
        for _ in 0..1_000 {
            soft(&these, path("/8")).await;
        }
        assert_eq!(these.len(), 3);
        assert!(these.table.read().names.order.len() <= 6);
        assert_eq!(at("/x", logged(7)), Standing::Live);
        // And after everything was invalidated, none is needed.
        these.invalidate(vec![Name::All], Hardness::Hard).await.unwrap();
        assert_eq!(these.len(), 0);
        assert_eq!(at("/x", logged(these.born().log - 1)), Standing::Dead);
    }

    #[tokio::test]
    async fn a_flood_of_unsafe_methods_raises_no_floor_and_pushes_out_no_name() {
        let these = arced(10);
        soft(&these, path("/a")).await;
        let born = these.born();
        for n in 0..MAX_UNSAFE + 100 {
            these.invalidate_unsafe("example.com", &format!("/post/{n}"), Hardness::Hard);
        }
        assert_eq!(these.len(), MAX_UNSAFE + 1);
        let none = tags(&[]);
        let at = |path: &str, born| these.fence(&key(path), Some(&none), born);
        assert_eq!(at("/a", logged(0)), Standing::Stale);
        assert_eq!(at("/a", born), Standing::Live);
        assert_eq!(at("/b", logged(0)), Standing::Live);
        assert_eq!(at("/post/200", born), Standing::Dead);
        assert_eq!(at("/post/200", these.born()), Standing::Live);
        // Of another host, and of the same on another port.
        let key = |host| PageKey::new("", "http", host, "/post/200");
        assert_eq!(these.fence(&key("a.com"), Some(&none), born), Standing::Live);
        assert_eq!(these.fence(&key("example.com:1"), Some(&none), born), Standing::Live);
    }

    /// Visitors choose how many segments a path has; checking it costs no more
    /// than the longest prefix that was ever purged.
    #[tokio::test]
    async fn long_paths_cost_no_more_than_long_prefixes() {
        let long = "/a".repeat(4_000);
        assert_eq!(prefixes(&long, 2).count(), 3);
        let these = arced(10);
        soft(&these, prefix("/a/a")).await;
        assert_eq!(these.table.read().depth, Some(2));
        assert_eq!(these.fence(&key(&long), None, logged(0)), Standing::Stale);
    }

    /// What a purge does is independent of how many pages have the tag: it touches
    /// none of them.
    #[tokio::test]
    async fn a_purge_touches_no_page() {
        let these = arced(10);
        let one = Arc::new(rep(Form::Document, 0, &["t"], "x"));
        let page = |n| Page::new(key(&format!("/{n}")), vec![Arc::clone(&one)]);
        let pages: Vec<_> = (0..100_000).map(page).collect();
        soft(&these, tag("t")).await;
        assert_eq!(these.len(), 1);
        assert!(pages.iter().all(|page| page.checked(&one).unwrap().at(1).is_none()));
        assert!(pages.iter().all(|page| these.standing(page, &one, &tags(&[])) == Standing::Stale));
    }

    /// A log in memory that can be stopped and broken.
    #[derive(Default)]
    struct TestLog {
        entries: Mutex<Vec<Entry>>,
        broken: AtomicBool,
        /// Appending waits here once it has its number.
        gates: Mutex<VecDeque<oneshot::Receiver<()>>>,
        appended: tokio::sync::Notify,
    }

    impl TestLog {
        fn gate(&self) -> oneshot::Sender<()> {
            let (open, gate) = oneshot::channel();
            self.gates.lock().push_back(gate);
            open
        }
    }

    impl Log for TestLog {
        fn replay(&self, each: &mut dyn FnMut(&Entry)) -> io::Result<Seq> {
            self.entries.lock().iter().for_each(each);
            Ok(self.entries.lock().len() as Seq)
        }

        fn append<'a>(
            &'a self,
            names: &'a [Name],
            hardness: Hardness,
        ) -> BoxFuture<'a, io::Result<Seq>> {
            Box::pin(async move {
                let seq = {
                    let mut entries = self.entries.lock();
                    let seq = entries.len() as Seq + 1;
                    entries.push(Entry { seq, names: names.to_vec(), hardness });
                    seq
                };
                self.appended.notify_one();
                let gate = self.gates.lock().pop_front();
                if let Some(gate) = gate {
                    gate.await.map_err(io::Error::other)?;
                }
                if self.broken.load(Ordering::Relaxed) {
                    return Err(io::Error::other("no space left"));
                }
                Ok(seq)
            })
        }
    }

    fn open(log: &Arc<TestLog>) -> Arc<Invalidations> {
        Arc::new(Invalidations::open(10, Arc::clone(log) as Arc<dyn Log>).unwrap())
    }

    #[tokio::test]
    async fn a_failed_log_invalidates_nothing() {
        let log = Arc::new(TestLog::default());
        let these = open(&log);
        let before = these.born();
        log.broken.store(true, Ordering::Relaxed);
        let failed = these.invalidate(vec![tag("t")], Hardness::Hard).await;
        assert!(failed.unwrap_err().to_string().contains("no space left"));
        assert_eq!(these.born(), before);
        assert_eq!(these.fence(&key("/"), Some(&tags(&["t"])), logged(0)), Standing::Live);
        log.broken.store(false, Ordering::Relaxed);
        let seq = soft(&these, tag("t")).await;
        assert_eq!((these.born(), seq), (logged(2), 2));
    }

    #[tokio::test]
    async fn a_restart_forgets_no_invalidation() {
        let log = Arc::new(TestLog::default());
        let these = open(&log);
        soft(&these, tag("t")).await;
        these.invalidate_unsafe("example.com", "/x", Hardness::Hard);
        let (born, tagged) = (these.born(), tags(&["t"]));
        assert_eq!((born.log, born.local), (1, 1));
        let these = open(&log);
        assert_eq!(these.born(), logged(1));
        assert_eq!(these.fence(&key("/"), Some(&tagged), logged(0)), Standing::Stale);
        assert_eq!(these.fence(&key("/"), Some(&tagged), born), Standing::Live);
        soft(&these, tag("t")).await;
        assert_eq!(these.fence(&key("/"), Some(&tagged), born), Standing::Stale);
        // From another node; known ones change nothing.
        let entry = Entry { seq: 7, names: vec![path("/y")], hardness: Hardness::Hard };
        these.apply(&entry);
        assert_eq!(these.fence(&key("/y"), None, logged(6)), Standing::Dead);
        these.apply(&entry);
        assert_eq!(these.fence(&key("/y"), None, logged(7)), Standing::Live);
    }

    /// Unsafe methods and what another process counted have nothing to do with the log.
    #[tokio::test]
    async fn the_counts_are_compared_each_with_its_own() {
        let these = arced(10);
        let none = tags(&[]);
        let at = |born| these.fence(&key("/x"), Some(&none), born);
        these.invalidate_unsafe("example.com", "/x", Hardness::Soft);
        assert_eq!(at(Born { log: 9, local: 0 }), Standing::Stale);
        assert_eq!(at(Born { log: 0, local: 1 }), Standing::Live);
        soft(&these, path("/x")).await;
        assert_eq!(at(Born { log: 0, local: 9 }), Standing::Stale);
        assert_eq!(at(Born { log: 1, local: 1 }), Standing::Live);
        these.invalidate_unsafe("example.com", "/x", Hardness::Hard);
        assert_eq!(at(Born { log: 9, local: 1 }), Standing::Dead);
        assert_eq!(at(these.born()), Standing::Live);
    }

    /// Whoever asked may go away: what the log has is applied.
    #[tokio::test]
    async fn an_invalidation_that_is_being_logged_goes_to_its_end() {
        let log = Arc::new(TestLog::default());
        let these = open(&log);
        let first = log.gate();
        let asked = Arc::clone(&these);
        let asking = tokio::spawn(async move { soft(&asked, tag("t")).await });
        log.appended.notified().await;
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        // Meanwhile neither an unsafe method nor another invalidation waits for it.
        let page = |born: Born| {
            let rep = Arc::new(rep(Form::Document, born, &["t"], "x"));
            Page::new(key("/"), vec![rep])
        };
        let (before, old) = (these.born(), page(these.born()));
        these.invalidate_unsafe("example.com", "/x", Hardness::Hard);
        assert_eq!(soft(&these, tag("u")).await, 2);
        let (between, new) = (these.born(), page(these.born()));
        assert!(before < between);
        for page in [&old, &new] {
            assert_eq!(these.standing(page, &page.members[0], &tags(&[])), Standing::Live);
        }
        first.send(()).unwrap();
        while these.standing(&old, &old.members[0], &tags(&[])) == Standing::Live {
            tokio::task::yield_now().await;
        }
        // What began in between began after the log had it.
        assert_eq!(these.standing(&new, &new.members[0], &tags(&[])), Standing::Live);
        assert_eq!(these.born(), between);
    }
}
