//! How a representation stands towards invalidations: what is compared, and what a
//! lookup remembers of it (see `store::invalidation`).

use std::sync::atomic::{AtomicU64, Ordering};

/// A number of the invalidation log. The first is 1.
pub type Seq = u64;

/// When a fill began, as invalidations count time. Those of one process are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Born {
    /// The greatest number of the log that was applied then.
    pub log: Seq,
    /// How many unsafe methods the process had seen then. It means nothing to another
    /// process: what that one loads began before all of its own, with 0.
    pub local: u64,
}

impl Born {
    /// Not before anything.
    pub const MAX: Born = Born { log: Seq::MAX, local: u64::MAX };
}

/// What an invalidation made of a representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing newer than its birth names it.
    Live,
    /// A soft invalidation does: it is stale.
    Stale,
    /// A hard one does: it must not be served.
    Dead,
}

/// Remembers how a member of a page stood when it was checked last, so that a hit
/// costs one atomic compare.
///
/// It belongs to the member *of this page*, not to the representation: the same
/// representation is checked against other tags once its page is committed
/// again with other members.
#[derive(Debug, Default)]
pub struct Checked(AtomicU64);

impl Checked {
    /// What was found in this generation of the invalidations, if it was checked in it.
    #[must_use]
    pub fn at(&self, generation: u64) -> Option<Standing> {
        let word = self.0.load(Ordering::Relaxed);
        if word >> 2 != generation {
            return None;
        }
        match word & 3 {
            1 => Some(Standing::Live),
            2 => Some(Standing::Stale),
            3 => Some(Standing::Dead),
            _ => None,
        }
    }

    /// Remembers what was found in this generation.
    pub fn set(&self, generation: u64, standing: Standing) {
        self.0.store(generation << 2 | (standing as u64 + 1), Ordering::Relaxed);
    }
}
