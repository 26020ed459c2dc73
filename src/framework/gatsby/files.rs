//! What `gatsby build` wrote down: the build, and which pages are rendered on the server.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::files::{bytes, check_build_id, fault, json};
use crate::config::Gatsby;

/// Files of a build that list its pages.
const MAX_PAGE_FILES: usize = 10_000;

/// What the folder of a Gatsby site tells after `gatsby build`.
///
/// # Errors
/// A file cannot be read, or is not what Gatsby writes: its name, why, and the cure.
pub(crate) fn gatsby(site: &Path) -> Result<Gatsby, String> {
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
    Ok(Gatsby { build_id: Some(app.hash), server_rendered: patterns, ..Gatsby::default() })
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
        let read = gatsby(site.path()).unwrap();
        assert_eq!(read.build_id.as_deref(), Some("a4c3"));
        assert_eq!(
            read.server_rendered,
            ["/%5Bx%5D/", "/app/*/**", "/caf\u{e9}/", "/server/", "/\u{4e2d}/"]
        );
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
