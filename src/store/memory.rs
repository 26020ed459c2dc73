//! The memory tier: pages in moka, least recently used goes first.
//!
//! TinyLFU, moka's default, refuses new pages when it is full: then a page that
//! was just rendered is not there for the next client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::page::{Page, PageKey};

/// What an entry costs beyond the page: nodes of moka's hash table and of its
/// queue, and the counts of the `Arc`s. In bytes.
pub(super) const ENTRY_OVERHEAD: usize = 300;

/// Writes that moka has not weighed yet are bounded by number only (384), which
/// says nothing about bytes. So after this part of the capacity was written,
/// the writer has it catch up and evict.
const UNSETTLED_PART: u64 = 32;

/// The memory tier.
#[derive(Clone)]
pub(super) struct Memory {
    pages: Cache<PageKey, Arc<Page>, ahash::RandomState>,
    capacity: u64,
    /// Bytes written since moka last caught up.
    unsettled: Arc<AtomicU64>,
    evictions: Arc<AtomicU64>,
}

/// The allocator rounds sizes up and keeps some of what was freed: this part more
/// is taken than was asked for. Without it, a tier of 256 MiB made a process of
/// 320 to 350 MiB under a flood of 16 KiB pages, and of 385 with pages of 128 to
/// 384 KiB.
const ALLOCATOR_PART: usize = 8;

/// What a page weighs in the tier, in bytes.
fn weight(page: &Page) -> u64 {
    let size = page.size() + ENTRY_OVERHEAD;
    (size + size / ALLOCATOR_PART) as u64
}

impl Memory {
    /// A tier of `capacity` bytes; none if that is 0.
    pub(super) fn new(capacity: u64) -> Option<Memory> {
        if capacity == 0 {
            return None;
        }
        let evictions = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&evictions);
        let pages = Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(EvictionPolicy::lru())
            // The key is inside the page as well: one allocation, counted once.
            .weigher(|_: &PageKey, page: &Arc<Page>| {
                u32::try_from(weight(page)).unwrap_or(u32::MAX)
            })
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build_with_hasher(ahash::RandomState::new());
        Some(Memory { pages, capacity, unsettled: Arc::default(), evictions })
    }

    /// The page, which counts as used by this.
    pub(super) fn get(&self, key: &str) -> Option<Arc<Page>> {
        self.pages.get(key)
    }

    /// Stores a page whole, in place of the one of that key; false if the tier is
    /// too small for it.
    pub(super) fn put(&self, page: Arc<Page>) -> bool {
        let weight = weight(&page);
        if weight > self.capacity {
            return false;
        }
        self.pages.insert(page.key.clone(), page);
        self.unsettled.fetch_add(weight, Ordering::Relaxed);
        true
    }

    /// Lets moka catch up when enough was written. Call it after [`put`](Self::put),
    /// without locks: it frees what it evicts.
    pub(super) fn settle(&self) {
        if self.unsettled.load(Ordering::Relaxed) >= self.capacity / UNSETTLED_PART {
            self.catch_up();
        }
    }

    /// Lets moka weigh and evict what it has not yet.
    pub(super) fn catch_up(&self) {
        self.unsettled.store(0, Ordering::Relaxed);
        self.pages.run_pending_tasks();
    }

    /// Removes a page.
    pub(super) fn remove(&self, key: &str) -> Option<Arc<Page>> {
        self.pages.remove(key)
    }

    /// Every page, in no order. Those that come or go meanwhile may be missed.
    pub(super) fn iter(&self) -> impl Iterator<Item = Arc<Page>> {
        self.pages.iter().map(|(_, page)| page)
    }

    /// Pages stored; lags a little behind.
    pub(super) fn len(&self) -> u64 {
        self.pages.entry_count()
    }

    /// Bytes stored; lags a little behind.
    pub(super) fn bytes(&self) -> u64 {
        self.pages.weighted_size()
    }

    /// Pages that had to go for others, since the start.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn settled(&self) -> &Self {
        self.catch_up();
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use bytes::Bytes;

    use super::*;
    use crate::page::Form;
    use crate::page::testing::{key, rep};

    fn page(path: &str, len: usize) -> Arc<Page> {
        let rep = rep(Form::Document, 0, &[], &"x".repeat(len));
        Arc::new(Page::new(key(path), vec![Arc::new(rep)]))
    }

    #[test]
    fn no_capacity_is_no_tier() {
        assert!(Memory::new(0).is_none());
    }

    #[test]
    fn least_recently_used_goes_first_and_new_pages_are_admitted() {
        let memory = Memory::new(64 << 10).unwrap();
        for n in 0..6 {
            assert!(memory.put(page(&format!("/{n}"), 8 << 10)));
        }
        assert_eq!(memory.settled().evictions(), 0);
        for _ in 0..10 {
            assert!(memory.get(key("/0").as_str()).is_some());
        }
        memory.settled();
        for n in 6..9 {
            memory.put(page(&format!("/{n}"), 8 << 10));
            assert!(memory.settled().get(key(&format!("/{n}")).as_str()).is_some());
        }
        assert!(memory.get(key("/0").as_str()).is_some());
        assert!(memory.get(key("/1").as_str()).is_none());
        assert_eq!(memory.evictions() + memory.len(), 9);
        assert!(memory.bytes() <= 64 << 10);
        let weights: u64 = memory.iter().map(|page| weight(&page)).sum();
        assert_eq!(memory.bytes(), weights);
    }

    #[test]
    fn replacing_and_removing_keeps_the_account() {
        let memory = Memory::new(1 << 20).unwrap();
        memory.put(page("/a", 10_000));
        memory.put(page("/a", 20_000));
        assert_eq!(memory.settled().len(), 1);
        assert_eq!(memory.bytes(), weight(&page("/a", 20_000)));
        assert!(memory.remove(key("/a").as_str()).is_some());
        assert_eq!((memory.settled().len(), memory.bytes()), (0, 0));
        assert_eq!(memory.evictions(), 0);
        assert!(!memory.put(page("/a", 1 << 20)));
    }

    /// A body that counts the bytes alive.
    struct Counted(Vec<u8>, Arc<AtomicI64>);

    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(self.0.len() as i64, Ordering::Relaxed);
        }
    }

    /// moka weighs and evicts behind the writer's back.
    #[test]
    fn a_flood_of_distinct_pages_stays_bounded() {
        let capacity = 8 << 20;
        for len in [4 << 10, 64 << 10, 1 << 20] {
            let memory = Memory::new(capacity).unwrap();
            let alive = Arc::new(AtomicI64::new(0));
            for n in 0..4 * capacity as usize / len {
                alive.fetch_add(len as i64, Ordering::Relaxed);
                let mut rep = rep(Form::Document, 0, &[], "");
                rep.bodies[0].bytes = Bytes::from_owner(Counted(vec![0; len], Arc::clone(&alive)));
                let page = Page::new(key(&format!("/{n}")), vec![Arc::new(rep)]);
                memory.put(Arc::new(page));
                memory.settle();
                if n % 64 == 0 || len > 100_000 {
                    let stored: u64 = memory.iter().map(|page| weight(&page)).sum();
                    let most = capacity + capacity / UNSETTLED_PART + 2 * len as u64 + 4_096;
                    assert!(stored <= most, "{len} bytes a page: {stored} stored");
                }
            }
            // What was evicted is freed when no thread can still be reading the
            // table: soon, but other tests have a say in it.
            let freed = (0..1_000_000).any(|_| {
                std::thread::yield_now();
                memory.settled();
                alive.load(Ordering::Relaxed) as u64 <= capacity
            });
            assert!(freed, "{len} bytes a page: {alive:?} alive");
        }
    }
}
