//! What lies below memory: slower tiers, that keep more.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::page::{Born, Page, PageKey, Tags};

/// A tier below memory: a disk, or a server that several nodes share.
///
/// What was put or removed counts for every load that begins afterwards, written or
/// not: an older page must never come back. Beyond that a tier may lose pages at any
/// time, and one that fails has none. What it has may have been invalidated: the store
/// holds it against the invalidations when it is read.
pub trait Tier: Send + Sync + 'static {
    /// The page of a key, with all its members and with its tags. It may wait.
    fn load<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Page>>;

    /// Takes a page in the place of the one of its key, to be written later. Called
    /// under a lock, in the order of the commits: it must not wait. False if it does
    /// not take it; then it has none of that key any more.
    fn put(&self, page: &Arc<Page>) -> bool;

    /// Removes the members of a page that began at `born` or before, written or not.
    /// Called under a lock: it must not wait.
    fn remove(&self, key: &PageKey, born: Born);

    /// Hands out every page, in no order. Called on a thread that may block. Those that
    /// come or go meanwhile may be missed.
    fn list(&self, each: &mut dyn FnMut(Listed));
}

/// A page, as a tier lists it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its key.
    pub key: PageKey,
    /// Its tags.
    pub tags: Arc<Tags>,
    /// When the latest of its members began.
    pub born: Born,
}

#[cfg(test)]
pub(super) mod testing {
    use std::collections::{HashMap, VecDeque};

    use parking_lot::Mutex;
    use tokio::sync::oneshot;

    use super::*;

    /// A slow tier in memory: what it takes it writes later, and loads wait.
    #[derive(Default)]
    pub(crate) struct Slow {
        written: Mutex<HashMap<PageKey, Arc<Page>>>,
        /// What is to be written; none: to be removed.
        pending: Mutex<VecDeque<(PageKey, Option<Arc<Page>>)>>,
        /// What loads wait for when they have read.
        gates: Mutex<VecDeque<Gate>>,
        pub(crate) full: std::sync::atomic::AtomicBool,
    }

    /// A load says that it has read, and waits to be told to go on.
    struct Gate {
        read: oneshot::Sender<()>,
        go: oneshot::Receiver<()>,
    }

    impl Slow {
        /// The next load waits. It has read when the first resolves, and goes on when
        /// the second is sent.
        pub(crate) fn gate(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
            let ((read, has_read), (go_on, go)) = (oneshot::channel(), oneshot::channel());
            self.gates.lock().push_back(Gate { read, go });
            (has_read, go_on)
        }

        /// Writes the oldest page that waits.
        pub(crate) fn write(&self) {
            let next = self.pending.lock().pop_front();
            match next {
                Some((key, Some(page))) => drop(self.written.lock().insert(key, page)),
                Some((key, None)) => drop(self.written.lock().remove(&key)),
                None => {}
            }
        }

        pub(crate) fn read(&self, key: &str) -> Option<Arc<Page>> {
            let pending = self.pending.lock();
            match pending.iter().rev().find(|(of, _)| of.as_str() == key) {
                Some((_, page)) => page.clone(),
                None => self.written.lock().get(key).cloned(),
            }
        }

        /// As it would be read back: members as they were, nothing remembered.
        fn parsed(page: &Page) -> Page {
            let members = page.members.iter().map(|member| Arc::new((**member).clone()));
            let key = PageKey::parse(page.key.as_str().as_bytes()).unwrap();
            let mut parsed = Page::new(key, members.collect());
            parsed.tags = Arc::clone(&page.tags);
            parsed
        }
    }

    impl Tier for Slow {
        fn load<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Page>> {
            Box::pin(async move {
                let page = self.read(key);
                tokio::task::yield_now().await;
                let gate = self.gates.lock().pop_front();
                if let Some(gate) = gate {
                    let _ = gate.read.send(());
                    let _ = gate.go.await;
                }
                page.map(|page| Slow::parsed(&page))
            })
        }

        fn put(&self, page: &Arc<Page>) -> bool {
            let full = self.full.load(std::sync::atomic::Ordering::Relaxed);
            let page_or_none = (!full).then(|| Arc::clone(page));
            self.pending.lock().push_back((page.key.clone(), page_or_none));
            !full
        }

        fn remove(&self, key: &PageKey, born: Born) {
            let Some(page) = self.read(key.as_str()) else { return };
            let members = page.members.iter().filter(|member| member.born > born).cloned();
            let members: Vec<_> = members.collect();
            let left = (!members.is_empty()).then(|| Arc::new(Page::new(key.clone(), members)));
            self.pending.lock().push_back((key.clone(), left));
        }

        fn list(&self, each: &mut dyn FnMut(Listed)) {
            let mut keys: Vec<_> = self.written.lock().keys().cloned().collect();
            keys.extend(self.pending.lock().iter().map(|(key, _)| key.clone()));
            keys.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
            keys.dedup();
            for page in keys.iter().filter_map(|key| self.read(key.as_str())) {
                let born = page.members.iter().map(|member| member.born).max().unwrap();
                each(Listed { key: page.key.clone(), tags: Arc::clone(&page.tags), born });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::testing::Slow;
    use super::*;
    use crate::config;
    use crate::page::testing::{key, rep, tags};
    use crate::page::{Coding, Form, Representation, Standing};
    use crate::store::{Committed, Hardness, MemoryLog, Name, Store};

    fn store(memory: u64) -> (Arc<Store>, Arc<Slow>) {
        let slow = Arc::new(Slow::default());
        let config = config::Cache { memory, ..crate::store::tests::config(0) };
        let below = Arc::clone(&slow) as Arc<dyn Tier>;
        let store = Store::open(&config, Arc::new(MemoryLog::default()), Some(below)).unwrap();
        (Arc::new(store), slow)
    }

    async fn commit(store: &Store, path: &str, members: Vec<Representation>) -> Committed {
        store.commit(&key(path), &Tags::default(), members, |_| false).await
    }

    fn evict(store: &Store, path: &str) {
        store.memory.as_ref().unwrap().remove(key(path).as_str());
        assert!(store.get(key(path).as_str()).is_none());
    }

    /// The identity bodies of a page.
    async fn bodies(store: &Store, path: &str) -> Vec<String> {
        let page = store.load(key(path).as_str()).await;
        let text =
            |rep: &Arc<Representation>| String::from_utf8(rep.identity().bytes.to_vec()).unwrap();
        page.iter().flat_map(|page| &page.members).map(text).collect()
    }

    fn doc(body: &str) -> Vec<Representation> {
        vec![rep(Form::Document, 0, &["t"], body)]
    }

    #[tokio::test]
    async fn what_memory_has_lost_is_loaded_and_promoted() {
        let (store, slow) = store(1 << 20);
        assert!(store.load(key("/a").as_str()).await.is_none());
        commit(&store, "/a", doc("1")).await;
        for written in [false, true] {
            evict(&store, "/a");
            assert_eq!(bodies(&store, "/a").await, ["1"], "written: {written}");
            let hit = store.get(key("/a").as_str()).expect("it is promoted");
            assert_eq!(hit.uses.count(), 2);
            slow.write();
        }
    }

    #[tokio::test]
    async fn what_memory_has_no_room_for_is_kept_below() {
        for memory in [0, 1 << 10] {
            let (store, slow) = store(memory);
            let large = "x".repeat(2 << 10);
            let stored = commit(&store, "/a", doc(&large)).await;
            assert!(store.keeps() && matches!(stored, Committed::Stored { .. }));
            assert!(store.get(key("/a").as_str()).is_none());
            assert_eq!(bodies(&store, "/a").await, [large]);
            // Nobody has it any more where nobody takes the next one.
            slow.full.store(true, Ordering::Relaxed);
            let refused = commit(&store, "/a", doc(&"y".repeat(2 << 10))).await;
            assert!(matches!(refused, Committed::NoRoom));
            assert!(bodies(&store, "/a").await.is_empty());
        }
    }

    #[tokio::test]
    async fn a_commit_joins_what_only_the_slow_tier_has() {
        let (store, _) = store(1 << 20);
        let data = || vec![rep(Form::Data, 0, &["u"], "data")];
        commit(&store, "/a", doc("1")).await;
        evict(&store, "/a");
        let Committed::Stored { page, .. } = commit(&store, "/a", data()).await else {
            panic!("not stored");
        };
        assert_eq!(page.tags.names, tags(&["t", "u"]).names);
        assert_eq!(bodies(&store, "/a").await, ["1", "data"]);
        evict(&store, "/a");
        let is_data = |member: &Representation| member.form == Form::Data;
        assert!(store.withdraw(&key("/a"), &Tags::default(), Born::MAX, is_data).await);
        evict(&store, "/a");
        assert_eq!(bodies(&store, "/a").await, ["1"]);
    }

    #[tokio::test]
    async fn coded_bodies_join_what_only_the_slow_tier_has() {
        let (store, _) = store(1 << 20);
        let Committed::Stored { page, .. } = commit(&store, "/a", doc("1")).await else {
            panic!("not stored");
        };
        evict(&store, "/a");
        let rep = &page.members[0];
        let mut coded = rep.bodies.to_vec();
        coded.push(crate::page::Body { coding: Coding::Gzip, ..coded[0].clone() });
        assert!(store.replace_bodies(&key("/a"), rep, coded.into()).await);
        evict(&store, "/a");
        assert_eq!(store.load(key("/a").as_str()).await.unwrap().members[0].bodies.len(), 2);
    }

    /// While it waits, the page is changed: what it read counts no more.
    #[tokio::test]
    async fn a_load_in_flight_brings_nothing_old_back() {
        enum Change {
            Commit,
            Remove,
            Withdraw,
            Unsafe,
        }
        for (change, left) in [
            (Change::Commit, &["2"][..]),
            (Change::Remove, &[]),
            (Change::Withdraw, &[]),
            (Change::Unsafe, &[]),
        ] {
            let (store, slow) = store(1 << 20);
            commit(&store, "/a", doc("1")).await;
            evict(&store, "/a");
            let (has_read, go_on) = slow.gate();
            let loading = Arc::clone(&store);
            let loading = tokio::spawn(async move { bodies(&loading, "/a").await });
            has_read.await.unwrap();
            match change {
                Change::Commit => drop(commit(&store, "/a", doc("2")).await),
                Change::Remove => store.remove(&key("/a")),
                Change::Unsafe => store.invalidate_unsafe(&key("/a")),
                Change::Withdraw => {
                    store.withdraw(&key("/a"), &Tags::default(), Born::MAX, |_| true).await;
                }
            }
            // Not even where memory has lost the new one already.
            store.memory.as_ref().unwrap().remove(key("/a").as_str());
            go_on.send(()).unwrap();
            assert_eq!(loading.await.unwrap(), left);
            assert_eq!(bodies(&store, "/a").await, left);
        }
    }

    #[tokio::test]
    async fn a_purge_beats_a_load_in_flight_and_what_is_written_late() {
        for (hardness, standing) in
            [(Hardness::Soft, Standing::Stale), (Hardness::Hard, Standing::Dead)]
        {
            let (store, slow) = store(1 << 20);
            commit(&store, "/a", doc("1")).await;
            evict(&store, "/a");
            let (has_read, go_on) = slow.gate();
            let loading = Arc::clone(&store);
            let loading = tokio::spawn(async move { loading.load(key("/a").as_str()).await });
            has_read.await.unwrap();
            let names = vec![Name::Tag { host: None, tag: "t".into() }];
            store.invalidate(names, hardness).await.unwrap();
            go_on.send(()).unwrap();
            let stands = |page: Option<Arc<Page>>| {
                let page = page.unwrap();
                store.standing(&page, &page.members[0], &Tags::default())
            };
            assert_eq!(stands(loading.await.unwrap()), standing);
            // It is written only now, and read again.
            slow.write();
            evict(&store, "/a");
            assert_eq!(stands(store.load(key("/a").as_str()).await), standing);
        }
    }

    #[tokio::test]
    async fn a_search_goes_through_every_tier() {
        let (store, slow) = store(1 << 20);
        let untagged = |_: &PageKey| Arc::<Tags>::default();
        let names = || vec![Name::Tag { host: None, tag: "t".into() }];
        for path in ["/a", "/b", "/c"] {
            commit(&store, path, doc("1")).await;
        }
        commit(&store, "/d", vec![rep(Form::Document, 0, &[], "1")]).await;
        slow.write();
        evict(&store, "/a");
        evict(&store, "/b");
        let found = store.matching(names(), untagged).await;
        let mut found: Vec<_> = found.iter().map(|found| found.key.path()).collect();
        found.sort_unstable();
        assert_eq!(found, ["/a", "/b", "/c"]);

        let in_flight = store.born();
        store.invalidate(names(), Hardness::Hard).await.unwrap();
        assert!(store.matching(names(), untagged).await.is_empty());
        // One is rendered again.
        commit(&store, "/b", vec![rep(Form::Document, store.born(), &["t"], "2")]).await;
        evict(&store, "/b");
        assert_eq!(store.free(names(), untagged).await, 2);
        for (path, left) in [("/a", &[][..]), ("/b", &["2"]), ("/c", &[]), ("/d", &["1"])] {
            assert_eq!(bodies(&store, path).await, left, "{path}");
        }
        // What was in flight then comes too late, and without its tag.
        let late = vec![rep(Form::Document, in_flight, &[], "1")];
        assert!(matches!(commit(&store, "/a", late).await, Committed::Dead));
    }
}
