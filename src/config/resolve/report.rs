//! What is found wrong while a configuration is resolved, and what stands in for
//! it meanwhile.

use crate::config::source::{Path, Step};

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

    /// A key that must be there is not; unless it was wrong, and is reported as that.
    pub(super) fn missing(&mut self, section: &Path, key: &str) {
        if !self.is_gone(&section.key(key)) {
            self.error(section.clone(), format!("`{key}` is missing"));
        }
    }
}
