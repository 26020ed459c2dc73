//! The YAML as a tree that knows its lines, and the path to a place in it.
//!
//! Strings are whatever they were written as until a type of the configuration
//! reads them: an environment variable can stand for a number, and none can add
//! a key.

use std::fmt;

use saphyr_parser::{Event, Parser, ScanError, StrInput};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A node of the tree, and its line in the file: that of its key, or of the item's
/// beginning.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<(String, Node)>),
    /// Something was wrong with it, and has been reported: nothing reads it again.
    Gone,
}

/// One step from a node down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a map.
    Key(String),
    /// Into a list.
    Item(usize),
}

/// The way from the root to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Path {
    /// The path of a value below this one.
    pub(super) fn key(&self, key: &str) -> Path {
        self.step(Step::Key(key.to_owned()))
    }

    /// The path of an item of this list.
    pub(super) fn item(&self, index: usize) -> Path {
        self.step(Step::Item(index))
    }

    fn step(&self, step: Step) -> Path {
        let mut steps = self.0.clone();
        steps.push(step);
        Path(steps)
    }
}

/// As in `routes[2].isr.revalidate`.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    let dot = if index == 0 { "" } else { "." };
                    write!(f, "{dot}{}", key.escape_debug())?;
                }
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

/// Why a text is not a YAML document, and the line of it.
#[derive(Debug)]
pub(super) struct NotYaml {
    pub(super) line: usize,
    pub(super) why: String,
}

impl From<serde_yaml::Error> for NotYaml {
    fn from(error: serde_yaml::Error) -> NotYaml {
        let line = error.location().map_or(1, |at| at.line());
        // The message ends with the place, which is said apart.
        let text = error.to_string();
        let why = text.split(" at line ").next().unwrap_or(&text);
        NotYaml { line, why: why.to_owned() }
    }
}

impl From<ScanError> for NotYaml {
    fn from(error: ScanError) -> NotYaml {
        NotYaml { line: error.marker().line(), why: error.info().to_owned() }
    }
}

/// A document that was read.
pub(super) struct Document {
    pub(super) root: Node,
    /// The keys that a map has already, with their lines; they are not in the tree.
    pub(super) repeated: Vec<(Path, usize)>,
}

impl Document {
    /// Reads a document. An empty one is [`Value::Null`].
    ///
    /// serde_yaml makes the tree, and bounds what aliases repeat and how deep it nests; but it
    /// keeps the lines to itself. The events of another parser, which come in the order of the
    /// tree, bring them.
    pub(super) fn parse(text: &str) -> Result<Document, NotYaml> {
        let text = text.trim_start_matches('\u{feff}');
        let mut root: Node = serde_yaml::from_str(text)?;
        let mut lines = Lines { parser: Parser::new_from_str(text), repeated: Vec::new() };
        loop {
            match lines.next()? {
                (Event::StreamStart | Event::DocumentStart(_), _) => {}
                (Event::StreamEnd | Event::DocumentEnd, _) => break,
                (event, line) => lines.locate(&mut root, &event, line, &Path::default())?,
            }
        }
        Ok(Document { root, repeated: lines.repeated })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        struct Tree;
        impl<'de> Visitor<'de> for Tree {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("plain YAML, without tags")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
                Ok(Value::Bool(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
                Ok(Value::Unsigned(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
                Ok(u64::try_from(v).map_or(Value::Signed(v), Value::Unsigned))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
                Ok(Value::Float(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Value, E> {
                Ok(Value::Text(v.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Value::Map(entries))
            }
        }
        let value = deserializer.deserialize_any(Tree)?;
        Ok(Node { line: 1, value })
    }
}

/// Brings the lines of a document to its tree.
struct Lines<'t> {
    parser: Parser<'t, StrInput<'t>>,
    repeated: Vec<(Path, usize)>,
}

impl<'t> Lines<'t> {
    fn next(&mut self) -> Result<(Event<'t>, usize), NotYaml> {
        let (event, span) = self
            .parser
            .next_event()
            .unwrap_or(Ok((Event::StreamEnd, saphyr_parser::Span::default())))?;
        Ok((event, span.start.line()))
    }

    /// Gives a node and all below it their lines. `event`: the first one of the node.
    fn locate(
        &mut self,
        node: &mut Node,
        event: &Event<'_>,
        line: usize,
        path: &Path,
    ) -> Result<(), NotYaml> {
        node.line = line;
        match (&mut node.value, event) {
            // What it repeats is here, too.
            (_, Event::Alias(_)) => node.each(&mut |node| node.line = line),
            (Value::List(items), Event::SequenceStart(..)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let (event, line) = self.next()?;
                    self.locate(item, &event, line, &path.item(index))?;
                }
                self.next()?;
            }
            (Value::Map(entries), Event::MappingStart(..)) => {
                let mut kept: Vec<(String, Node)> = Vec::with_capacity(entries.len());
                for (key, mut node) in std::mem::take(entries) {
                    let ((_, line), (event, _)) = (self.next()?, self.next()?);
                    let path = path.key(&key);
                    self.locate(&mut node, &event, line, &path)?;
                    if kept.iter().any(|(before, _)| *before == key) {
                        self.repeated.push((path, line));
                    } else {
                        kept.push((key, node));
                    }
                }
                *entries = kept;
                self.next()?;
            }
            (_, Event::Scalar(..)) => {}
            // Two parsers that disagree: nothing that anybody should rely on.
            _ => return Err(NotYaml { line, why: "expected plain YAML".to_owned() }),
        }
        Ok(())
    }
}

impl Node {
    /// The child that a step leads to.
    fn child(&self, step: &Step) -> Option<&Node> {
        match (&self.value, step) {
            (Value::Map(entries), Step::Key(key)) => {
                entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
            }
            (Value::List(items), Step::Item(index)) => items.get(*index),
            _ => None,
        }
    }

    /// The line of a place, from 1. Of a place that is not there, that of the nearest
    /// one above it.
    pub(super) fn line_of(&self, path: &Path) -> usize {
        let mut node = self;
        for step in &path.0 {
            let Some(child) = node.child(step) else { break };
            node = child;
        }
        node.line
    }

    /// The node at a path.
    pub(super) fn at_mut(&mut self, path: &[Step]) -> Option<&mut Node> {
        let Some((step, rest)) = path.split_first() else { return Some(self) };
        let child = match (&mut self.value, step) {
            (Value::Map(entries), Step::Key(key)) => {
                entries.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)?
            }
            (Value::List(items), Step::Item(index)) => items.get_mut(*index)?,
            _ => return None,
        };
        child.at_mut(rest)
    }

    /// Calls `visit` with every node.
    fn each(&mut self, visit: &mut dyn FnMut(&mut Node)) {
        visit(self);
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|node| node.each(visit)),
            Value::Map(entries) => entries.iter_mut().for_each(|(_, node)| node.each(visit)),
            _ => {}
        }
    }

    /// Calls `visit` with every text.
    pub(super) fn texts(&mut self, path: &Path, visit: &mut dyn FnMut(&Path, &mut Node)) {
        match &mut self.value {
            Value::Text(_) => visit(path, self),
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    item.texts(&path.item(index), visit);
                }
            }
            Value::Map(entries) => {
                for (key, value) in entries {
                    value.texts(&path.key(key), visit);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
a: 1
b:
  - x
  - y: 2
    z: { p: 1, q: 2 }
  -
    - deep
c: &anchor
  d: 1
c: *anchor
e: |
  text
f: ~
7: seven
";

    #[test]
    fn lines() {
        let document = Document::parse(TEXT).expect("YAML");
        let key = |key: &str| Step::Key(key.to_owned());
        for (steps, line, shown) in [
            (vec![], 1, ""),
            (vec![key("a")], 1, "a"),
            (vec![key("b")], 2, "b"),
            (vec![key("b"), Step::Item(0)], 3, "b[0]"),
            (vec![key("b"), Step::Item(1)], 4, "b[1]"),
            (vec![key("b"), Step::Item(1), key("z"), key("q")], 5, "b[1].z.q"),
            (vec![key("b"), Step::Item(1), key("none")], 4, "b[1].none"),
            (vec![key("b"), Step::Item(2), Step::Item(0)], 7, "b[2][0]"),
            (vec![key("c"), key("d")], 9, "c.d"),
            (vec![key("e")], 11, "e"),
            (vec![key("f"), key("below nothing")], 13, "f.below nothing"),
            (vec![key("7")], 14, "7"),
            (vec![key("none")], 1, "none"),
            (vec![Step::Item(3)], 1, "[3]"),
        ] {
            let path = Path(steps);
            assert_eq!(document.root.line_of(&path), line, "{path}");
            assert_eq!(path.to_string(), shown);
        }
        assert_eq!(document.repeated, [(Path::default().key("c"), 10)]);
    }

    #[test]
    fn scalars() {
        for (text, wanted) in [
            ("", "Null"),
            ("~", "Null"),
            ("true", "Bool(true)"),
            ("yes", "Text(\"yes\")"),
            ("'7'", "Text(\"7\")"),
            ("7", "Unsigned(7)"),
            ("-7", "Signed(-7)"),
            ("007", "Text(\"007\")"),
            ("0", "Unsigned(0)"),
            ("0.5", "Float(0.5)"),
            ("1e3", "Float(1000.0)"),
            ("inf", "Text(\"inf\")"),
            ("-", "List([Node { line: 1, value: Null }])"),
            ("1.2.3.4:5", "Text(\"1.2.3.4:5\")"),
        ] {
            let read = Document::parse(text).expect(text).root.value;
            assert_eq!(format!("{read:?}"), wanted, "{text}");
        }
    }

    /// Aliases that would make a tree larger than any machine, and nesting that would
    /// end the stack.
    #[test]
    fn what_grows_without_bound_is_refused() {
        let mut bomb = "a: &a0 [x]\n".to_owned();
        for n in 1..40 {
            bomb += &format!("b{n}: &a{n} [*a{m}, *a{m}, *a{m}]\n", m = n - 1);
        }
        for text in [bomb, "- ".repeat(10_000), "[".repeat(10_000), "a: *none".to_owned()] {
            assert!(Document::parse(&text).is_err());
        }
    }
}
