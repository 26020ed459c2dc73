//! From text to [`Config`].

use std::io::Read;
use std::net::SocketAddr;

use serde::Deserialize;

use super::de::{De, FaultKind, nearest, one_of};
use super::env::{bare, substitute};
use super::errors::{Errors, Note};
use super::machine::{self, Memory};
use super::origins::{Origin, Server};
use super::resolve::{Report, resolve};
use super::root::{Config, Raw};
use super::source::{Document, Node, NotYaml, Path, Step, Value};
use crate::framework::Name;

/// Bytes of a configuration file; what is larger is not one.
const MAX_FILE: u64 = 4 << 20;

/// Keys whose values must not be seen.
const SECRETS: [&str; 2] = ["secret", "preview_mode_id"];

/// How many faults of structure are looked for. Each takes a pass over the tree.
const MAX_FAULTS: usize = 50;

/// What the arguments of the program say in place of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Where clients connect; none: as the file says.
    pub listen: Vec<SocketAddr>,
    /// Where health and metrics are served, or that they are not.
    pub admin: Option<Option<SocketAddr>>,
    /// Pass everything through uncached.
    pub dev: bool,
}

impl Config {
    /// Reads a file, with the variables of the environment, and looks whether the
    /// machine has what it asks for.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, or why it cannot be read.
    pub fn from_file(
        path: &std::path::Path,
        overrides: &Overrides,
    ) -> Result<(Config, Vec<Note>), Errors> {
        let name = path.display().to_string();
        let fail = |message: String| Errors::new(vec![Note::whole(&name, None, message)]);
        let file = std::fs::File::open(path).map_err(|why| fail(format!("cannot open: {why}")))?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|why| fail(format!("cannot read: {why}")))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(fail(format!("larger than {} MiB", MAX_FILE >> 20)));
        }
        let text = String::from_utf8(bytes).map_err(|why| {
            let lines = why.as_bytes()[..why.utf8_error().valid_up_to()].iter();
            let line = 1 + lines.filter(|&&b| b == b'\n').count();
            Errors::new(vec![Note::whole(&name, Some(line), "not UTF-8".to_owned())])
        })?;
        let found = found(&text, &name, &|variable| std::env::var(variable).ok())?;
        finish(found, &name, machine::memory(), overrides)
    }

    /// Reads a text. `name` stands before each error; `env` looks a variable up.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the order of its lines: what is not as
    /// it must be written, and what does not fit together.
    pub fn from_yaml(
        text: &str,
        name: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Config, Vec<Note>), Errors> {
        finish(found(text, name, env)?, name, None, &Overrides::default())
    }

    /// What runs without a file: this origin with `framework: auto`, and every route that
    /// this does not bring `ssr: {}`.
    ///
    /// # Errors
    ///
    /// If the URL is not one of an origin.
    pub fn for_origin(url: &str, overrides: &Overrides) -> Result<(Config, Vec<Note>), Errors> {
        const NAME: &str = "--origin";
        let server = Server::from_url(url)
            .map_err(|message| Errors::new(vec![Note::whole(NAME, None, message)]))?;
        let origin = Origin { name: "web".to_owned(), servers: vec![server], ..Origin::default() };
        let raw = Raw { framework: Name::Auto, origins: vec![origin], ..Raw::default() };
        finish(Found { raw: Some(raw), ..Found::default() }, NAME, machine::memory(), overrides)
    }
}

pub(super) fn found(
    text: &str,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Found, Errors> {
    read(text, env).map_err(|NotYaml { line, why }| {
        // The one thing that looks right and is not.
        let hint = match text.lines().nth(line.saturating_sub(1)) {
            Some(written) if written.contains("${") => {
                "; within { } and [ ], `${…}` stands in quotes"
            }
            _ => "",
        };
        let message = format!("not valid YAML: {why}{hint}");
        Errors::new(vec![Note::whole(name, Some(line), message)])
    })
}

/// `memory`: what there is of it, where that matters.
pub(super) fn finish(
    found: Found,
    name: &str,
    memory: Option<Memory>,
    overrides: &Overrides,
) -> Result<(Config, Vec<Note>), Errors> {
    let hints = found.warnings.clone();
    let mut report = Report::after(found.faults, found.gone, found.warnings);
    let beside = std::path::Path::new(name).parent().unwrap_or(std::path::Path::new(""));
    let config = found.raw.map(|mut raw| {
        if !overrides.listen.is_empty() {
            raw.listen.clone_from(&overrides.listen);
        }
        if let Some(admin) = overrides.admin {
            raw.admin = admin;
        }
        let mut config = resolve(raw, beside, memory, &mut report);
        config.dev |= overrides.dev;
        config
    });
    let tree = found.tree.as_ref();
    let note = |(path, message): (Path, String)| Note::at(name, tree, &path, message);
    let twice = found.repeated.into_iter().map(|(path, line)| Note {
        line: Some(line),
        ..Note::at(name, None, &path, "this key is there twice".to_owned())
    });
    let mut notes: Vec<Note> = twice.collect();
    let is_good = report.errors.is_empty() && notes.is_empty();
    let Some(config) = config.filter(|_| is_good) else {
        // What is wrong with a value may be what was warned of.
        let hinted = |(path, said): (Path, String)| match hints.iter().find(|(at, _)| *at == path) {
            Some((_, hint)) => (path, format!("{said}; {hint}")),
            None => (path, said),
        };
        notes.extend(report.errors.into_iter().map(hinted).map(note));
        return Err(Errors::new(notes));
    };
    let mut warnings: Vec<Note> = report.warnings.into_iter().map(note).collect();
    warnings.sort_by_key(|note| note.line);
    Ok((config, warnings))
}

/// What was read of a text.
#[derive(Default)]
pub(super) struct Found {
    /// For the lines; none: there is no text.
    tree: Option<Node>,
    /// Keys that are there twice, with their lines.
    repeated: Vec<(Path, usize)>,
    /// None: so much was wrong that nothing can be said of the rest.
    raw: Option<Raw>,
    /// What is not as it must be written.
    faults: Vec<(Path, String)>,
    /// Where something was wrong, and a default stands now.
    gone: Vec<Path>,
    /// What is probably not meant.
    warnings: Vec<(Path, String)>,
}

/// Reads the structure. When something is wrong it is noted and taken out of the
/// tree, and the next pass looks on: so all of it is found, not only the first.
fn read(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Found, NotYaml> {
    let Document { root: mut tree, repeated } = Document::parse(text)?;
    let (mut faults, mut gone, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    tree.texts(&Path::default(), &mut |path, node| {
        let Value::Text(text) = &node.value else { return };
        if let Some(name) = bare(text) {
            warnings.push((path.clone(), no_braces(path, name)));
        }
        match substitute(text, env) {
            Ok(value) => node.value = Value::Text(value),
            Err(message) => {
                gone.push(path.clone());
                faults.push((path.clone(), message));
                node.value = Value::Gone;
            }
        }
    });
    let mut raw = None;
    while faults.len() < MAX_FAULTS {
        let fault = match Raw::deserialize(De(&tree)) {
            Ok(read) => {
                raw = Some(read);
                break;
            }
            Err(fault) => fault,
        };
        let path = fault.path();
        let message = match fault.kind {
            FaultKind::UnknownKey(known) => unknown(&path, known),
            FaultKind::Wrong(message) => message,
        };
        faults.push((path.clone(), message));
        match tree.at_mut(&path.0) {
            Some(node) if !path.0.is_empty() && !matches!(node.value, Value::Gone) => {
                node.value = Value::Gone;
            }
            // The root itself, or no progress: nothing is left to look at.
            _ => break,
        }
        gone.push(path);
    }
    Ok(Found { tree: Some(tree), repeated, raw, faults, gone, warnings })
}

/// What to say of a variable without its braces. Of a secret nothing is repeated:
/// it may be a part of it.
fn no_braces(path: &Path, name: &str) -> String {
    let key = path.0.last();
    let secret = matches!(key, Some(Step::Key(key)) if SECRETS.contains(&key.as_str()));
    let name = if secret { "NAME" } else { name };
    format!("`${name}` is text as it stands: write `${{{name}}}` for the variable, `$$` for a `$`")
}

/// What to say of a key that nobody knows: the name that is next to it, or the
/// place where it would be right, or all there are.
fn unknown(path: &Path, known: &[&str]) -> String {
    let Some(Step::Key(written)) = path.0.last() else {
        return "unknown key".to_owned();
    };
    if let Some(meant) = nearest(written, known.iter().copied()) {
        return format!("unknown key; did you mean {meant:?}?");
    }
    if known.is_empty() {
        return "unknown key; there are none here".to_owned();
    }
    let elsewhere = super::reference::sections_with(written);
    if !elsewhere.is_empty() {
        let sections: Vec<&str> = elsewhere.iter().map(String::as_str).collect();
        return format!("unknown key here; it belongs to {}", one_of(&sections));
    }
    format!("unknown key; expected {}", one_of(known))
}
