//! The YAML as a tree, the path to a place in it, and the line of that place.
//!
//! Strings are whatever they were written as until a type of the configuration
//! reads them: an environment variable can stand for a number, and none can add
//! a key.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A node of the tree.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; a key may be there twice until that is found out.
    Map(Vec<(String, Node)>),
    /// Something was wrong with it, and has been said: nobody sees it again.
    Gone,
}

/// One step from a node down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a map: the n-th value of that key, from 0.
    Key(String, usize),
    /// Into a list.
    Item(usize),
}

/// The way from the root to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Path {
    /// The path of a value below this one.
    pub(super) fn key(&self, key: &str) -> Path {
        self.step(Step::Key(key.to_owned(), 0))
    }

    /// The path of an item of this list.
    pub(super) fn item(&self, index: usize) -> Path {
        self.step(Step::Item(index))
    }

    pub(super) fn step(&self, step: Step) -> Path {
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
                Step::Key(key, _) => {
                    let dot = if index == 0 { "" } else { "." };
                    write!(f, "{dot}{}", key.escape_debug())?;
                }
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

impl Node {
    /// Reads a document. An empty one is [`Node::Null`].
    pub(super) fn parse(text: &str) -> Result<Node, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    /// The node at a path.
    pub(super) fn at_mut(&mut self, path: &[Step]) -> Option<&mut Node> {
        let Some((step, rest)) = path.split_first() else { return Some(self) };
        let child = match (self, step) {
            (Node::Map(entries), Step::Key(key, nth)) => entries
                .iter_mut()
                .filter(|(name, _)| name == key)
                .nth(*nth)
                .map(|(_, value)| value)?,
            (Node::List(items), Step::Item(index)) => items.get_mut(*index)?,
            _ => return None,
        };
        child.at_mut(rest)
    }

    /// Calls `visit` with every node, the outer ones first.
    pub(super) fn walk(&mut self, path: &Path, visit: &mut dyn FnMut(&Path, &mut Node)) {
        visit(path, self);
        match self {
            Node::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    item.walk(&path.item(index), visit);
                }
            }
            Node::Map(entries) => {
                for (key, value) in entries {
                    value.walk(&path.key(key), visit);
                }
            }
            _ => {}
        }
    }

    /// Puts a text where a map lacks a value; false if it is no map, or has one.
    pub(super) fn stand_in(&mut self, key: &str, text: &str) -> bool {
        let Node::Map(entries) = self else { return false };
        let text = Node::Text(text.to_owned());
        match entries.iter_mut().find(|(name, _)| name == key) {
            None => entries.push((key.to_owned(), text)),
            Some((_, value @ Node::Gone)) => *value = text,
            Some(_) => return false,
        }
        true
    }

    /// The keys that occur twice in a map: all but the first are taken out.
    pub(super) fn take_repeated(&mut self) -> Vec<Path> {
        let mut found = Vec::new();
        self.walk(&Path::default(), &mut |path, node| {
            let Node::Map(entries) = node else { return };
            let mut seen: std::collections::HashMap<String, usize> = Default::default();
            for (key, value) in entries {
                let nth = seen.entry(key.clone()).or_default();
                if *nth > 0 {
                    found.push(path.step(Step::Key(key.clone(), *nth)));
                    *value = Node::Gone;
                }
                *nth += 1;
            }
        });
        found
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        struct Tree;
        impl<'de> Visitor<'de> for Tree {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("plain YAML, without tags")
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Node, E> {
                Ok(Node::Bool(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Node, E> {
                Ok(Node::Unsigned(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Node, E> {
                Ok(u64::try_from(v).map_or(Node::Signed(v), Node::Unsigned))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Node, E> {
                Ok(Node::Float(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Node, E> {
                Ok(Node::Text(v.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, Node>()? {
                    entries.push(entry);
                }
                Ok(Node::Map(entries))
            }
        }
        deserializer.deserialize_any(Tree)
    }
}

/// The line of a place, from 1: that of its key, or of the item's beginning.
/// Of a place that is not there, the line of the nearest one above it.
///
/// serde_yaml keeps its marks to itself, but for those in errors: so this walks
/// down the path once more and fails on purpose where it leads.
pub(super) fn line_of(text: &str, path: &Path) -> Option<usize> {
    let mut steps = path.0.as_slice();
    loop {
        let found = Cell::new(false);
        let seed = Seek { steps, found: &found };
        let failed = seed.deserialize(serde_yaml::Deserializer::from_str(text)).err();
        if found.get() {
            return failed?.location().map(|at| at.line());
        }
        let (_, above) = steps.split_last()?;
        steps = above;
    }
}

#[derive(Clone, Copy)]
struct Seek<'s> {
    steps: &'s [Step],
    found: &'s Cell<bool>,
}

impl Seek<'_> {
    fn here<E: de::Error>(&self) -> E {
        self.found.set(true);
        E::custom("here")
    }

    /// The end of the way; or of what there is of it.
    fn scalar<E: de::Error>(&self) -> E {
        self.found.set(self.steps.is_empty());
        E::custom("here")
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Err(self.scalar())
    }
    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        Err(self.scalar())
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Err(self.scalar())
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Err(self.scalar())
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Err(self.scalar())
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Err(self.scalar())
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Err(self.scalar())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else { return Err(self.here()) };
        let mut index = 0;
        loop {
            let more = if *step == Step::Item(index) {
                seq.next_element_seed(Seek { steps: rest, ..self })?.is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else { return Err(self.here()) };
        let mut nth = 0;
        while let Some(wanted) =
            map.next_key_seed(SeekKey { step, nth: &mut nth, last: rest.is_empty(), seek: self })?
        {
            if wanted {
                map.next_value_seed(Seek { steps: rest, ..self })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct SeekKey<'s, 'n> {
    step: &'s Step,
    nth: &'n mut usize,
    last: bool,
    seek: Seek<'s>,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SeekKey<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<bool, E> {
        let Step::Key(key, nth) = self.step else { return Ok(false) };
        if key != v {
            return Ok(false);
        }
        let wanted = self.nth == nth;
        *self.nth += 1;
        if wanted && self.last {
            return Err(self.seek.here());
        }
        Ok(wanted)
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
        let key = |key: &str| Step::Key(key.to_owned(), 0);
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
            (vec![Step::Key("c".to_owned(), 1)], 10, "c"),
            (vec![key("e")], 11, "e"),
            (vec![key("f"), key("below nothing")], 13, "f.below nothing"),
            (vec![key("7")], 14, "7"),
            (vec![key("none")], 1, "none"),
            (vec![Step::Item(3)], 1, "[3]"),
        ] {
            let path = Path(steps);
            assert_eq!(line_of(TEXT, &path), Some(line), "{path}");
            assert_eq!(path.to_string(), shown);
        }
    }

    #[test]
    fn a_key_that_is_there_twice_counts_once() {
        let mut node = Node::parse(TEXT).expect("YAML");
        let repeated = node.take_repeated();
        assert_eq!(repeated, [Path(vec![Step::Key("c".to_owned(), 1)])]);
        assert!(node.take_repeated().len() == 1, "the place stays, so that paths do");
    }
}
