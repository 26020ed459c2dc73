//! What the files of a site's build tell: they are read when the configuration is,
//! and name the build, the pages and the secrets that nobody should have to copy.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Bytes of one file that are read; those of real sites are far smaller.
const MAX_FILE: u64 = 64 << 20;
/// The longest name of a build, in bytes. Frameworks make some dozens.
const MAX_BUILD_ID: usize = 128;

/// An object of a JSON file. Without this an array would be read as one, too: `[]` as an
/// object that says nothing.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(OfMap(PhantomData)).map(Object)
    }
}

/// What a file tells, which must hold an object.
pub(super) fn json<T: DeserializeOwned>(path: &Path, cure: &str) -> Result<T, String> {
    let bytes = bytes(path, cure)?;
    let read: Object<T> = serde_json::from_slice(&bytes).map_err(|why| fault(path, &why, cure))?;
    Ok(read.0)
}

pub(super) fn text(path: &Path, cure: &str) -> Result<String, String> {
    String::from_utf8(bytes(path, cure)?).map_err(|why| fault(path, &why, cure))
}

pub(super) fn bytes(path: &Path, cure: &str) -> Result<Vec<u8>, String> {
    let read = || {
        // Opening a pipe would wait for somebody who writes to it.
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("it is not a file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|why| fault(path, &why, cure))
}

/// Says if the name of a build cannot stand in paths and fields.
pub(super) fn check_build_id(id: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_graphic() && !b"/?#%\\\"<>".contains(&b);
    let good = (1..=MAX_BUILD_ID).contains(&id.len()) && id.bytes().all(plain);
    if good && !matches!(id, "." | "..") {
        return Ok(());
    }
    Err("the id of the build is none: expected 1 to 128 characters that can stand in a path")
}

pub(super) fn fault(path: &Path, why: &dyn Display, cure: &str) -> String {
    format!("cannot read {}: {why}; run `{cure}` first", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = folder();
        let path = folder.path().join("BUILD_ID");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        for path in [&path, folder.path()] {
            let why = text(path, "next build").unwrap_err();
            assert!(why.ends_with("it is not a file; run `next build` first"), "{why}");
        }
    }

    #[test]
    fn names_of_builds() {
        let longest = "x".repeat(MAX_BUILD_ID);
        for id in ["b1", "a_B-c.d~e", "v1.2+3", "a:b@c", longest.as_str()] {
            assert_eq!(check_build_id(id), Ok(()), "{id:?}");
        }
        let longer = "x".repeat(MAX_BUILD_ID + 1);
        for id in
            ["", ".", "..", "a/b", "a b", "a\r\nX: y", "a\0", "\u{e9}", "a?b", longer.as_str()]
        {
            assert!(check_build_id(id).is_err(), "{id:?}");
        }
    }
}
