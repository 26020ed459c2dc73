//! What is found wrong while a configuration is resolved, and what stands in for
//! it meanwhile.

use std::time::Duration;

use crate::config::source::{Path, Step};
use crate::config::values::{Count, Size, Span, human_size};

/// What was found on the way.
#[derive(Debug, Default)]
pub(in crate::config) struct Report {
    pub(in crate::config) errors: Vec<(Path, String)>,
    pub(in crate::config) warnings: Vec<(Path, String)>,
    /// Places of which it was said that they are not as they must be written: a
    /// default stands there now, and nothing that it leads to is a mistake.
    gone: Vec<Path>,
}

impl Report {
    /// A report that begins with what is wrong at the places that are `gone`.
    pub(in crate::config) fn after(
        errors: Vec<(Path, String)>,
        gone: Vec<Path>,
        warnings: Vec<(Path, String)>,
    ) -> Report {
        Report { errors, warnings, gone }
    }

    /// A value is wrong.
    pub(super) fn error(&mut self, path: Path, message: impl Into<String>) {
        if !self.is_gone(&path) {
            self.errors.push((path, message.into()));
        }
    }

    /// Values do not fit together, or one is lacking: a mistake only if nothing
    /// was wrong with any of them.
    pub(super) fn unfit(&mut self, path: Path, message: impl Into<String>) {
        if !self.gone.iter().any(|gone| gone.0.starts_with(&path.0)) {
            self.error(path, message);
        }
    }

    /// Something is allowed and probably not meant.
    pub(super) fn warn(&mut self, path: Path, message: impl Into<String>) {
        self.warnings.push((path, message.into()));
    }

    /// Whether a default stands at a place, or above it, for what is wrong there.
    pub(super) fn is_gone(&self, path: &Path) -> bool {
        self.gone.iter().any(|gone| path.0.starts_with(&gone.0))
    }

    /// The place in the file of the nth item that is left of a list.
    pub(super) fn item(&self, list: &Path, nth: usize) -> Path {
        let mut gone: Vec<usize> = self
            .gone
            .iter()
            .filter_map(|gone| match gone.0.split_last()? {
                (Step::Item(at), rest) if rest == list.0 => Some(*at),
                _ => None,
            })
            .collect();
        gone.sort_unstable();
        gone.dedup();
        let at = gone.into_iter().fold(nth, |at, gone| if gone <= at { at + 1 } else { at });
        list.item(at)
    }

    /// A number within bounds.
    pub(super) fn count(&mut self, path: Path, count: Count, min: usize, max: usize) -> usize {
        let value = usize::try_from(count.0).unwrap_or(usize::MAX);
        if (min..=max).contains(&value) {
            return value;
        }
        let message = if max == usize::MAX {
            format!("at least {min}, found {}", count.0)
        } else {
            format!("from {min} to {max}, found {}", count.0)
        };
        self.error(path, message);
        min
    }

    /// A size in bytes within bounds, of something that is held in memory.
    pub(super) fn bytes(&mut self, path: Path, size: Size, min: u64, max: u64) -> usize {
        if !(min..=max).contains(&size.0) {
            let (min, max) = (human_size(min), human_size(max));
            self.error(path, format!("from {min} to {max}, found {}", human_size(size.0)));
        }
        usize::try_from(size.0).unwrap_or(usize::MAX)
    }

    /// A duration that is not zero.
    pub(super) fn time(&mut self, path: Path, span: Span) -> Duration {
        if span.0.is_zero() {
            self.error(path, "must be longer than 0s");
        }
        span.0
    }
}
