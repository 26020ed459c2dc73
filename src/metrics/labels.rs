//! The values of labels that are ours.

use strum::{IntoStaticStr, VariantArray};

use crate::rules::Reason;
use crate::rules::cache_status::Failure;

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FillResult {
    /// The answer is stored.
    Stored,
    /// 304: what was stored is fresh again.
    Refreshed,
    /// A complete answer that may not be stored. What was stored is as it was.
    Refused(Reason),
    /// A complete answer that removed the stored page: it has become private or unpublished.
    Removed(Reason),
    /// An answer that is a failed render: 5xx, broken off, too large, ill-typed.
    Rejected(Reason),
    /// No answer.
    Failed(Failure),
}

impl FillResult {
    /// Number of distinct values.
    #[cfg(test)]
    pub(super) const COUNT: usize = 2 + 3 * Reason::VARIANTS.len() + Failure::VARIANTS.len();

    /// The metric label: `stored`, `refreshed`, `refused`, `removed` or `failed`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Refreshed => "refreshed",
            Self::Refused(_) => "refused",
            Self::Removed(_) => "removed",
            Self::Rejected(_) | Self::Failed(_) => "failed",
        }
    }

    /// Why, where there is a reason.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Stored | Self::Refreshed => None,
            Self::Refused(r) | Self::Removed(r) | Self::Rejected(r) => Some(r.into()),
            Self::Failed(f) => Some(f.into()),
        }
    }

    pub(super) const fn index(self) -> usize {
        const REASONS: usize = Reason::VARIANTS.len();
        match self {
            Self::Stored => 0,
            Self::Refreshed => 1,
            Self::Refused(r) => 2 + r as usize,
            Self::Removed(r) => 2 + REASONS + r as usize,
            Self::Rejected(r) => 2 + 2 * REASONS + r as usize,
            Self::Failed(f) => 2 + 3 * REASONS + f as usize,
        }
    }

    /// All values, in the order of their index.
    pub(super) fn all() -> impl Iterator<Item = FillResult> {
        let reasons = || Reason::VARIANTS.iter().copied();
        [Self::Stored, Self::Refreshed]
            .into_iter()
            .chain(reasons().map(Self::Refused))
            .chain(reasons().map(Self::Removed))
            .chain(reasons().map(Self::Rejected))
            .chain(Failure::VARIANTS.iter().copied().map(Self::Failed))
    }
}

/// What an invalidation named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Invalidation {
    /// Everything.
    All,
    /// One host.
    Host,
    /// One path.
    Path,
    /// All paths below one.
    Prefix,
    /// A tag.
    Tag,
    /// The target of an unsafe method (RFC 9111 §4.4).
    Unsafe,
}

/// A content coding that a stored body was compressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Compression {
    /// gzip.
    Gzip,
    /// Brotli.
    #[strum(serialize = "br")]
    Brotli,
    /// Zstandard.
    Zstd,
}

/// How reading the configuration again ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Reload {
    /// The new one runs.
    Applied,
    /// It runs, but for keys that take effect at the next start.
    Partly,
    /// It cannot run, and the old one runs on.
    Refused,
}
