//! From the tree to the types of the YAML, with errors that know their path.

use std::fmt;

use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::source::{Node, Path, Step, Value};

/// The first thing that is wrong.
#[derive(Debug)]
pub(super) struct Fault {
    /// From the innermost step outwards.
    steps: Vec<Step>,
    /// What it is.
    pub(super) kind: FaultKind,
}

/// What is wrong.
#[derive(Debug)]
pub(super) enum FaultKind {
    /// A key that nobody knows, and those that are known there.
    UnknownKey(&'static [&'static str]),
    /// Anything else, said.
    Wrong(String),
}

impl Fault {
    fn wrong(message: String) -> Fault {
        Fault { steps: Vec::new(), kind: FaultKind::Wrong(message) }
    }

    fn under(mut self, step: Step) -> Fault {
        self.steps.push(step);
        self
    }

    /// Where it is.
    pub(super) fn path(&self) -> Path {
        Path(self.steps.iter().rev().cloned().collect())
    }
}

/// Which of the known names was probably meant.
pub(super) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = written.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|&(distance, name)| distance <= 1.max(name.len().max(written.len()) / 3))
        // Of two that are as near, the one that begins alike.
        .min_by_key(|&(distance, name)| {
            let alike = lower.chars().zip(name.chars()).take_while(|(a, b)| a == b).count();
            (distance, std::cmp::Reverse(alike))
        })
        .map(|(_, name)| name)
}

/// `a`, `b` or `c`.
pub(super) fn one_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path(), self.kind)
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Fault {
        Fault::wrong(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        let expected = expected.to_string().replace("a sequence", "a list");
        // A string is the one type that quotes make.
        let quotes = match found {
            Unexpected::Unsigned(_)
            | Unexpected::Signed(_)
            | Unexpected::Float(_)
            | Unexpected::Bool(_)
                if expected == "a string" =>
            {
                "; put it in quotes"
            }
            _ => "",
        };
        let found = match found {
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "keys with values".to_owned(),
            Unexpected::Bool(v) => format!("`{v}`"),
            Unexpected::Unsigned(v) => format!("the number {v}"),
            Unexpected::Signed(v) => format!("the number {v}"),
            Unexpected::Float(v) => format!("the number {v}"),
            Unexpected::Str(v) => format!("{v:?}"),
            other => other.to_string(),
        };
        Fault::wrong(format!("expected {expected}, found {found}{quotes}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Fault {
        Fault { steps: Vec::new(), kind: FaultKind::UnknownKey(expected) }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Fault {
        let meant = nearest(variant, expected.iter().copied())
            .map(|name| format!("; did you mean {name:?}?"))
            .unwrap_or_default();
        Fault::wrong(format!("expected {}, found {variant:?}{meant}", one_of(expected)))
    }
}

/// Reads a node.
#[derive(Clone, Copy)]
pub(super) struct De<'n>(pub(super) &'n Node);

impl<'de> de::Deserializer<'de> for De<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Null | Value::Gone => visitor.visit_unit(),
            Value::Bool(v) => visitor.visit_bool(*v),
            Value::Unsigned(v) => visitor.visit_u64(*v),
            Value::Signed(v) => visitor.visit_i64(*v),
            Value::Float(v) => visitor.visit_f64(*v),
            Value::Text(v) => visitor.visit_borrowed_str(v),
            Value::List(items) => visitor.visit_seq(Items { items, index: 0 }),
            Value::Map(entries) => visitor.visit_map(Entries { entries, index: 0 }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A key with nothing after it is a section with nothing in it: all of what
    /// was there may have been commented out.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Null => visitor
                .visit_map(
                    MapDeserializer::new(std::iter::empty::<(&'static str, &'static str)>()),
                ),
            // A derived client would take a list for the fields in their order.
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Null => visitor.visit_seq(Items { items: &[], index: 0 }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Text(text) => {
                let text: StrDeserializer<'_, Fault> = text.as_str().into_deserializer();
                visitor.visit_enum(text)
            }
            Value::Bool(v) => Err(de::Error::unknown_variant(&v.to_string(), variants)),
            _ => Err(Fault::wrong(format!("expected {}", one_of(variants)))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'n> {
    items: &'n [Node],
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        while let Some(item) = self.items.get(self.index) {
            let index = self.index;
            self.index += 1;
            if !matches!(item.value, Value::Gone) {
                let value = seed.deserialize(De(item));
                return value.map(Some).map_err(|fault| fault.under(Step::Item(index)));
            }
        }
        Ok(None)
    }
}

struct Entries<'n> {
    entries: &'n [(String, Node)],
    index: usize,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        while let Some((key, value)) = self.entries.get(self.index) {
            self.index += 1;
            if !matches!(value.value, Value::Gone) {
                let text: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
                let name = seed.deserialize(text);
                return name.map(Some).map_err(|fault| fault.under(Step::Key(key.clone())));
            }
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some((key, value)) = self.index.checked_sub(1).and_then(|at| self.entries.get(at))
        else {
            return Err(Fault::wrong("a value was read before its key".to_owned()));
        };
        seed.deserialize(De(value)).map_err(|fault| fault.under(Step::Key(key.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name() {
        let known = ["revalidate", "stale_for", "path", "fill_timeout", "isr", "dsg"];
        for (written, meant) in [
            ("revalidat", Some("revalidate")),
            ("stale-for", Some("stale_for")),
            ("staleFor", Some("stale_for")),
            ("Path", Some("path")),
            ("pth", Some("path")),
            ("irs", Some("isr")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
        assert_eq!(one_of(&["a"]), "`a`");
        assert_eq!(one_of(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
