//! How the values of the YAML are written: how they are read, shown in the reference,
//! and described in the schema.
//!
//! A key says its form beside its type: `#[serde(with = "As::<Count<1, 1024>>")]` at a
//! `usize`. Each form can be read from a string, so that `${VAR}` can stand for any of
//! them.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value as Json, json};

/// A form in which values are written.
pub(super) trait Written {
    /// What the program has of it.
    type Value;
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self::Value, D::Error>;
    /// How a value is written, in the schema and in the reference.
    fn show(value: &Self::Value) -> Json;
    fn schema(generator: &mut SchemaGenerator) -> Json;
}

/// A value, by the form in which it is written.
pub(super) struct As<W: Written>(W::Value);

impl<W: Written> As<W> {
    pub(super) fn into_inner(self) -> W::Value {
        self.0
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<W::Value, D::Error> {
        W::read(from)
    }

    pub(super) fn serialize<S: Serializer>(value: &W::Value, to: S) -> Result<S::Ok, S::Error> {
        W::show(value).serialize(to)
    }
}

impl<'de, W: Written> Deserialize<'de> for As<W> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<As<W>, D::Error> {
        W::read(from).map(As)
    }
}

impl<W: Written> JsonSchema for As<W> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        std::any::type_name::<W>().into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        W::schema(generator).try_into().unwrap_or_default()
    }
}

/// A form that is one word, number, or text.
pub(super) trait Scalar {
    type Value;
    /// What stands after "expected".
    const EXPECTED: &'static str;
    fn expected() -> String {
        Self::EXPECTED.to_owned()
    }
    fn text(text: &str) -> Result<Self::Value, String>;
    fn number(number: u64) -> Result<Self::Value, String> {
        Err(format!("expected {}, found the number {number}", Self::expected()))
    }
    fn boolean(flag: bool) -> Result<Self::Value, String> {
        Err(format!("expected {}, found `{flag}`", Self::expected()))
    }
    fn show(value: &Self::Value) -> Json;
    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

impl<S: Scalar> Written for S {
    type Value = S::Value;

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<S::Value, D::Error> {
        struct Reads<S>(PhantomData<S>);
        impl<S: Scalar> Visitor<'_> for Reads<S> {
            type Value = S::Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&S::expected())
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<S::Value, E> {
                S::text(v).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<S::Value, E> {
                S::number(v).map_err(E::custom)
            }
            fn visit_bool<E: de::Error>(self, v: bool) -> Result<S::Value, E> {
                S::boolean(v).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Reads::<S>(PhantomData))
    }
    fn show(value: &S::Value) -> Json {
        S::show(value)
    }
    fn schema(_: &mut SchemaGenerator) -> Json {
        S::schema()
    }
}

/// Nothing stands for a default that is not one value.
impl<W: Written> Written for Option<W> {
    type Value = Option<W::Value>;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        Option::<As<W>>::deserialize(from).map(|value| value.map(|value| value.0))
    }
    fn show(value: &Self::Value) -> Json {
        value.as_ref().map_or(Json::Null, W::show)
    }
    fn schema(generator: &mut SchemaGenerator) -> Json {
        W::schema(generator)
    }
}

/// A list.
impl<W: Written> Written for Vec<W> {
    type Value = Vec<W::Value>;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        let items = Vec::<As<W>>::deserialize(from)?;
        Ok(items.into_iter().map(|item| item.0).collect())
    }
    fn show(value: &Self::Value) -> Json {
        value.iter().map(W::show).collect()
    }
    fn schema(generator: &mut SchemaGenerator) -> Json {
        json!({ "type": "array", "items": W::schema(generator) })
    }
}

/// One value, or a list of them.
pub(super) struct OneOrMany<W>(PhantomData<W>);

impl<W: Written> Written for OneOrMany<W> {
    type Value = Vec<W::Value>;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error> {
        struct Either<W>(PhantomData<W>);
        impl<'de, W: Written> Visitor<'de> for Either<W> {
            type Value = Vec<W::Value>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value, or a list of them")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Self::Value, E> {
                Ok(vec![W::read(StrDeserializer::new(v))?])
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Self::Value, E> {
                Ok(vec![W::read(de::value::U64Deserializer::new(v))?])
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::<W>::read(SeqAccessDeserializer::new(seq))
            }
        }
        from.deserialize_any(Either::<W>(PhantomData))
    }
    fn show(value: &Self::Value) -> Json {
        match value.as_slice() {
            [one] => W::show(one),
            several => several.iter().map(W::show).collect(),
        }
    }
    fn schema(generator: &mut SchemaGenerator) -> Json {
        let one = W::schema(generator);
        json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// Keys and values, of which the most usual can be written as one text.
pub(super) trait ShortForm: for<'de> Deserialize<'de> + JsonSchema {
    /// What stands after "expected".
    const EXPECTED: &'static str;
    fn short(text: &str) -> Result<Self, String>;
    /// What the text looks like.
    fn schema() -> Json;
}

/// See [`ShortForm`].
pub(super) struct Short<T>(PhantomData<T>);

impl<T: ShortForm> Written for Short<T> {
    type Value = T;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: ShortForm> Visitor<'de> for Either<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<T, E> {
                T::short(v).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_any(Either::<T>(PhantomData))
    }
    fn show(_: &T) -> Json {
        // No default is of this form.
        Json::Null
    }
    fn schema(generator: &mut SchemaGenerator) -> Json {
        json!({ "anyOf": [T::schema(), generator.subschema_for::<T>()] })
    }
}

/// A word that stands for something, or names.
pub(super) trait Names: Sized {
    /// The words with what they stand for.
    fn words() -> Vec<(&'static str, Self)>;
    /// What the names are of, as in "a list of `of`".
    const OF: &'static str;
    fn names(names: Vec<String>) -> Self;
}

/// See [`Names`].
pub(super) struct WordOrNames<T>(PhantomData<T>);

impl<T: Names> WordOrNames<T> {
    fn expected() -> String {
        let words: Vec<_> = T::words().iter().map(|(word, _)| format!("`{word}`, ")).collect();
        format!("{}or a list of {}", words.concat(), T::OF)
    }
}

impl<T: Names> Written for WordOrNames<T> {
    type Value = T;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Names> Visitor<'de> for Either<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&WordOrNames::<T>::expected())
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<T, E> {
                let word = T::words().into_iter().find(|(word, _)| *word == v);
                word.map(|(_, value)| value).ok_or_else(|| {
                    let expected = WordOrNames::<T>::expected();
                    E::custom(format!("expected {expected}, found {v:?}; did you mean [{v}]?"))
                })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(T::names)
            }
        }
        from.deserialize_any(Either::<T>(PhantomData))
    }
    fn show(_: &T) -> Json {
        // No default is of this form.
        Json::Null
    }
    fn schema(_: &mut SchemaGenerator) -> Json {
        let words: Vec<_> = T::words().iter().map(|(word, _)| *word).collect();
        json!({ "anyOf": [{ "enum": words }, { "type": "array", "items": { "type": "string" } }] })
    }
}

/// A word that stands for no value.
pub(super) trait Word {
    const WORD: &'static str;
}

/// A value, or a word instead of it, which is none.
pub(super) struct Or<W, S>(PhantomData<(W, S)>);

impl<W: Word, S: Scalar> Scalar for Or<W, S> {
    type Value = Option<S::Value>;

    const EXPECTED: &str = S::EXPECTED;
    fn expected() -> String {
        format!("{}, or `{}`", S::EXPECTED, W::WORD)
    }
    fn text(v: &str) -> Result<Self::Value, String> {
        if v == W::WORD {
            return Ok(None);
        }
        S::text(v).map(Some).map_err(|said| match said.contains("did you mean") {
            true => said,
            false => format!("expected {}, found {v:?}", Self::expected()),
        })
    }
    fn number(v: u64) -> Result<Self::Value, String> {
        S::number(v).map(Some)
    }
    fn show(value: &Self::Value) -> Json {
        value.as_ref().map_or(W::WORD.into(), S::show)
    }
    fn schema() -> Json {
        json!({ "anyOf": [{ "const": W::WORD }, S::schema()] })
    }
}
