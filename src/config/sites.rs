//! What the files of a site's build tell: they are read when the configuration is,
//! and name the build, the pages and the secrets that nobody should have to copy.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::Read;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::site::Gatsby;

mod expression;
mod nextjs;

pub(crate) use expression::expression;
pub(super) use nextjs::nextjs;

/// Bytes of one file that are read; those of real sites are far smaller.
const MAX_FILE: u64 = 64 << 20;
/// The longest name of a build, in bytes. Frameworks make some dozens.
const MAX_BUILD_ID: usize = 128;
/// Files of a Gatsby build that list its pages.
const MAX_PAGE_FILES: usize = 10_000;

/// What the folder of a Gatsby site tells after `gatsby build`: the site, and the
/// paths of its server-rendered pages as patterns.
///
/// # Errors
/// As for [`nextjs()`].
pub(super) fn gatsby(site: &Path) -> Result<(Gatsby, Vec<String>), String> {
    let file = site.join("public/page-data/app-data.json");
    let app: AppData = json(&file, "gatsby build")?;
    check_build_id(&app.hash).map_err(|why| fault(&file, &why, "gatsby build"))?;
    let pages = site.join(".cache/redux");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&pages)
        .map_err(|why| fault(&pages, &why, "gatsby build"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("redux.page.state_"))
        })
        .take(MAX_PAGE_FILES)
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(fault(&pages.join("redux.page.state_0"), &"there is none", "gatsby build"));
    }
    let mut patterns = Vec::new();
    for file in files {
        let bytes = bytes(&file, "gatsby build")?;
        for page in gatsby_pages(&bytes).filter(|page| page.mode == "SSR") {
            patterns.push(pattern(page.match_path.as_deref().unwrap_or(&page.path)));
        }
    }
    patterns.sort();
    patterns.dedup();
    Ok((Gatsby { build_id: Some(app.hash), ..Gatsby::default() }, patterns))
}

#[derive(Deserialize)]
struct AppData {
    #[serde(rename = "webpackCompilationHash")]
    hash: String,
}

/// A page as Gatsby's own state lists it.
#[derive(Debug, PartialEq, Eq)]
struct GatsbyPage {
    path: String,
    match_path: Option<String>,
    /// `SSG`, `DSG` or `SSR`.
    mode: String,
}

/// The pages of a state file: objects as V8 serialises them, of which only the
/// strings are read. Each begins with the key `internalComponentName`, and ends
/// with `mode`.
fn gatsby_pages(bytes: &[u8]) -> impl Iterator<Item = GatsbyPage> {
    const BEGIN: &[u8] = b"\"\x15internalComponentName";
    let begins: Vec<usize> = memchr::memmem::find_iter(bytes, BEGIN).collect();
    let ends: Vec<usize> = begins.iter().skip(1).copied().chain([bytes.len()]).collect();
    let after = |page: &[u8], key: &[u8], last: bool| {
        let at =
            if last { memchr::memmem::rfind(page, key) } else { memchr::memmem::find(page, key) };
        v8_string(&page[at? + key.len()..])
    };
    begins.into_iter().zip(ends).filter_map(move |(begin, end)| {
        let page = &bytes[begin..end];
        Some(GatsbyPage {
            path: after(page, b"\"\x04path", false)?,
            match_path: after(page, b"\"\x09matchPath", false),
            mode: after(page, b"\"\x04mode", true)?,
        })
    })
}

/// A string of V8's serialisation at the beginning of `bytes`: a tag, a length as
/// a varint, and Latin-1 or UTF-16. Padding may come first.
fn v8_string(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.strip_prefix(b"\0").unwrap_or(bytes);
    let (tag, rest) = bytes.split_first()?;
    let mut length = 0usize;
    let mut used = 0;
    for byte in rest.iter().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * used);
        used += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let content = rest.get(used..)?.get(..length)?;
    match tag {
        b'"' => Some(content.iter().map(|&byte| char::from(byte)).collect()),
        b'c' => {
            let units = content.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<String, _>>().ok()
        }
        _ => None,
    }
}

/// A page's path, or Gatsby's `matchPath` of one, as a pattern of ours.
fn pattern(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.as_bytes().first() {
        Some(b':') => "*".to_owned(),
        Some(b'*') => "**".to_owned(),
        _ => segment
            .chars()
            .map(|c| match c {
                // Escaped or encoded, it means itself.
                '*' => r"\*".to_owned(),
                '?' | '[' | ']' | '{' | '}' | '\\' => format!("%{:02X}", u32::from(c)),
                c => c.to_string(),
            })
            .collect(),
    });
    segments.collect::<Vec<String>>().join("/")
}

/// An object of a JSON file. Without this an array would be read as one, too: `[]` as an
/// object that says nothing.
struct Object<T>(T);

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
fn json<T: DeserializeOwned>(path: &Path, cure: &str) -> Result<T, String> {
    let bytes = bytes(path, cure)?;
    let read: Object<T> = serde_json::from_slice(&bytes).map_err(|why| fault(path, &why, cure))?;
    Ok(read.0)
}

fn text(path: &Path, cure: &str) -> Result<String, String> {
    String::from_utf8(bytes(path, cure)?).map_err(|why| fault(path, &why, cure))
}

fn bytes(path: &Path, cure: &str) -> Result<Vec<u8>, String> {
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
fn check_build_id(id: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_graphic() && !b"/?#%\\\"<>".contains(&b);
    let good = (1..=MAX_BUILD_ID).contains(&id.len()) && id.bytes().all(plain);
    if good && !matches!(id, "." | "..") {
        return Ok(());
    }
    Err("the id of the build is none: expected 1 to 128 characters that can stand in a path")
}

fn fault(path: &Path, why: &dyn Display, cure: &str) -> String {
    format!("cannot read {}: {why}; run `{cure}` first", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// A page as V8 writes it, as far as it is read.
    fn page(path: &str, match_path: Option<&str>, mode: &str) -> Vec<u8> {
        let text = |text: &str| {
            if text.chars().all(|c| u32::from(c) < 256) {
                let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
                [&[b'"', latin.len() as u8][..], &latin].concat()
            } else {
                let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
                [&[b'c', wide.len() as u8][..], &wide].concat()
            }
        };
        let mut bytes = [b"o".to_vec(), text("internalComponentName"), text("Component")].concat();
        bytes.extend([text("path"), text(path), text("matchPath")].concat());
        match match_path {
            Some(path) => bytes.extend(text(path)),
            None => bytes.push(b'_'),
        }
        // What a page's context holds means nothing.
        bytes.extend(
            [text("context"), b"o".to_vec(), text("mode"), text("SSR"), b"{".to_vec()].concat(),
        );
        bytes.extend([text("mode"), text(mode), b"{\x0d".to_vec()].concat());
        bytes
    }

    #[test]
    fn a_gatsby_build() {
        let site = folder();
        fs::create_dir_all(site.path().join("public/page-data")).unwrap();
        fs::create_dir_all(site.path().join(".cache/redux")).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(site.path().join(name), bytes).unwrap();
        write("public/page-data/app-data.json", br#"{"webpackCompilationHash":"a4c3"}"#);
        let missing = gatsby(site.path()).unwrap_err();
        assert!(
            missing.contains("redux.page.state_0: there is none; run `gatsby build`"),
            "{missing}"
        );
        let pages = [
            page("/", None, "SSG"),
            page("/deferred/", None, "DSG"),
            page("/server/", None, "SSR"),
            page("/app/", Some("/app/:id/*"), "SSR"),
            page("/caf\u{e9}/", None, "SSR"),
            page("/\u{4e2d}/", None, "SSR"),
        ];
        write(
            ".cache/redux/redux.page.state_0",
            &[b"\xff\x0fA\x12".to_vec(), pages.concat()].concat(),
        );
        write(".cache/redux/redux.page.state_1", &page("/[x]/", None, "SSR"));
        let (read, patterns) = gatsby(site.path()).unwrap();
        assert_eq!(read.build_id.as_deref(), Some("a4c3"));
        assert_eq!(patterns, ["/%5Bx%5D/", "/app/*/**", "/caf\u{e9}/", "/server/", "/\u{4e2d}/"]);
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

    #[test]
    fn any_bytes_are_read() {
        for bytes in [
            &b"\"\x15internalComponentName"[..],
            b"\"\x15internalComponentName\"\x04path\"\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(gatsby_pages(bytes).count(), 0);
        }
    }
}
