//! The YAML as a tree that knows its lines, and the path to a place in it.
//!
//! Strings are whatever they were written as until a type of the configuration
//! reads them: an environment variable can stand for a number, and none can add
//! a key.

use std::collections::HashMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

/// Nodes of a tree: what aliases repeat is bounded.
const MAX_NODES: usize = 1 << 18;
/// How deep lists and maps may be nested.
const MAX_DEPTH: usize = 64;

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
    pub(super) fn parse(text: &str) -> Result<Document, NotYaml> {
        let mut reader = Reader {
            parser: Parser::new_from_str(text.trim_start_matches('\u{feff}')),
            anchors: HashMap::new(),
            nodes: 0,
            repeated: Vec::new(),
        };
        let mut root = None;
        loop {
            let (event, line) = reader.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    return Err(NotYaml { line, why: "more than one document".to_owned() });
                }
                event => root = Some(reader.node(event, line, &Path::default())?),
            }
        }
        let root = root.unwrap_or(Node { line: 1, value: Value::Null });
        Ok(Document { root, repeated: reader.repeated })
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    repeated: Vec<(Path, usize)>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, usize), NotYaml> {
        let (event, span) = self
            .parser
            .next_event()
            .unwrap_or(Ok((Event::StreamEnd, saphyr_parser::Span::default())))?;
        Ok((event, span.start.line()))
    }

    fn node(&mut self, event: Event<'t>, line: usize, path: &Path) -> Result<Node, NotYaml> {
        let fail = |why: &str| Err(NotYaml { line, why: why.to_owned() });
        if path.0.len() > MAX_DEPTH {
            return fail("nested too deep");
        }
        let is_alias = matches!(event, Event::Alias(_));
        let (value, anchor) = match event {
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else { return fail("unknown anchor") };
                (node.value.clone(), 0)
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => return fail("tags have no meaning here"),
            Event::Scalar(text, style, anchor, None) => (scalar(&text, style), anchor),
            Event::SequenceStart(anchor, None) => (self.list(path)?, anchor),
            Event::MappingStart(anchor, None) => (self.map(path)?, anchor),
            _ => return fail("expected a value"),
        };
        let node = Node { line, value };
        self.nodes += if anchor > 0 || is_alias { node.size() } else { 1 };
        if self.nodes > MAX_NODES {
            return fail("too large, with what its aliases repeat");
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, path: &Path) -> Result<Value, NotYaml> {
        let mut items = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::List(items));
            }
            items.push(self.node(event, line, &path.item(items.len()))?);
        }
    }

    fn map(&mut self, path: &Path) -> Result<Value, NotYaml> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Value::Map(entries)),
                Event::Scalar(key, _, _, None) => key.into_owned(),
                _ => return Err(NotYaml { line, why: "expected a plain key".to_owned() }),
            };
            let path = path.key(&key);
            let (event, _) = self.next()?;
            let mut node = self.node(event, line, &path)?;
            node.line = line;
            if entries.iter().any(|(before, _)| *before == key) {
                self.repeated.push((path, line));
            } else {
                entries.push((key, node));
            }
        }
    }
}

/// A scalar by the core schema of YAML 1.2 (§10.3.2).
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            Value::Text(text.to_owned())
        }
        // `007` is a name.
        _ if digits.len() > 1 && digits.starts_with('0') && !digits.contains('.') => {
            Value::Text(text.to_owned())
        }
        _ => match (text.parse(), text.parse(), text.parse()) {
            (Ok(number), _, _) => Value::Unsigned(number),
            (_, Ok(number), _) => Value::Signed(number),
            (_, _, Ok(number)) => Value::Float(number),
            _ => Value::Text(text.to_owned()),
        },
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

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Node::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.size()).sum(),
            _ => 0,
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
