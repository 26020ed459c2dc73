//! What is wrong with a configuration, and where.

use std::fmt;

use super::source::{Node, Path};

/// Everything that is wrong with a configuration. Displayed as one line each:
///
/// ```text
/// perennial.yaml:14: routes[2].isr.revalidat: unknown key; did you mean "revalidate"?
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(Vec<Note>);

/// A message about a place: what is wrong there, or what is allowed and probably not meant.
/// Displayed as a line like those of [`Errors`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The name of the file, or of what else the text came from.
    pub name: String,
    /// The line, from 1; none if it is about the whole.
    pub line: Option<usize>,
    /// The path of the key, as in `routes[2].isr`; empty if it is about the whole.
    pub path: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl Note {
    pub(super) fn whole(name: &str, line: Option<usize>, message: String) -> Note {
        Note { name: name.to_owned(), line, path: String::new(), message }
    }

    /// A note about a path in a tree, where there is one.
    pub(super) fn at(name: &str, tree: Option<&Node>, path: &Path, message: String) -> Note {
        let line = tree.map(|tree| tree.line_of(path));
        Note { name: name.to_owned(), line, path: path.to_string(), message }
    }
}

impl Errors {
    pub(super) fn new(mut notes: Vec<Note>) -> Errors {
        notes.sort_by_key(|note| note.line);
        notes.dedup();
        Errors(notes)
    }

    /// Each of them, in the order of the file. Never empty.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.0
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        // One line each, whatever a value holds that a cure repeats.
        f.write_str(": ")?;
        self.message.lines().enumerate().try_for_each(|(n, line)| {
            f.write_str(if n > 0 { " " } else { "" })?;
            f.write_str(line)
        })
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, note) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{note}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
