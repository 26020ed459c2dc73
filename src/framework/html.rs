//! What presets read of bodies: scripts of documents, and names of hashed files. Each
//! takes time in proportion to the body's size, whatever is in it.

use memchr::{memchr, memmem};

use super::{MAX_NAME, Names};

/// Folders up that a name is followed.
const MAX_STEPS: usize = 8;

/// The contents of the `script` elements of a document, trimmed: what a framework says
/// of itself stands in one. Text that visitors wrote does not, or it would run.
pub(super) fn scripts(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    const OPEN: &[u8] = b"<script";
    const CLOSE: &[u8] = b"</script>";
    let mut rest = body;
    std::iter::from_fn(move || {
        let tag = &rest[memmem::find(rest, OPEN)? + OPEN.len()..];
        let content = &tag[memchr(b'>', tag)? + 1..];
        let end = memmem::find(content, CLOSE)?;
        rest = &content[end + CLOSE.len()..];
        Some(content[..end].trim_ascii())
    })
}

/// What is between `before` and the next `end`, if that is a short word.
pub(super) fn word<'a>(text: &'a [u8], before: &[u8], end: u8) -> Option<&'a str> {
    /// Names of builds and folders are shorter.
    const MAX_WORD: usize = 128;
    let word = &text[memmem::rfind(text, before)? + before.len()..];
    let word = &word[..memchr(end, word.get(..=MAX_WORD).unwrap_or(word))?];
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~/%".contains(b);
    (!word.is_empty() && word.iter().all(plain)).then(|| std::str::from_utf8(word).ok())?
}

/// The hashed files that a body names: with `mark` before the name, as in
/// `href="/docs/_astro/a.js"`, or, in a file of that folder, from where that is, as in
/// `import "../chunks/b.js"`. `folder` is the path that ends with `mark`.
pub(super) fn hashed_files(
    folder: &str,
    mark: &str,
    path: &str,
    body: &[u8],
    is_asset: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut found = Names::default();
    let mut add = |name: String| {
        if name != path && is_file(&name) && is_asset(&name) {
            found.add(name);
        }
        !found.is_full()
    };
    for (_, name) in names_after(body, mark.as_bytes()) {
        if !add(format!("{folder}{name}")) {
            return found.list;
        }
    }
    if path.starts_with(folder) {
        for (at, name) in names_after(body, b"./") {
            let Some(name) = beside(path, steps(&body[..at]), name) else { continue };
            if name.starts_with(folder) && !add(name) {
                break;
            }
        }
    }
    found.list
}

/// How many folders up the dots lead that `before` ends with: `./`, `../`, `../../`.
fn steps(before: &[u8]) -> usize {
    let mut rest = before;
    let mut steps = 0;
    while let Some(shorter) = rest.strip_suffix(b"../")
        && steps < MAX_STEPS
    {
        (rest, steps) = (shorter, steps + 1);
    }
    steps
}

/// A file by its way from another one.
fn beside(path: &str, steps: usize, name: &str) -> Option<String> {
    let mut folder = &path[..path.rfind('/')?];
    for _ in 0..steps {
        folder = &folder[..folder.rfind('/')?];
    }
    Some(format!("{folder}/{name}"))
}

/// What follows each `mark`, as far as a name may go, and where.
fn names_after<'a>(body: &'a [u8], mark: &'a [u8]) -> impl Iterator<Item = (usize, &'a str)> {
    let in_name = |b: &u8| b.is_ascii_alphanumeric() || b"/-_.~%@+".contains(b);
    let mut end = 0;
    memmem::find_iter(body, mark).filter_map(move |at| {
        let start = at + mark.len();
        // A name may hold the mark again: no byte is looked at twice.
        if start >= end {
            let length = body[start..].iter().position(|b| !in_name(b));
            end = length.map_or(body.len(), |length| start + length);
        }
        let name = &body[start..end];
        let plain = name.first().is_some_and(|b| !b"/.".contains(b));
        if !plain || name.len() > MAX_NAME {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        (!name.contains("..") && !name.contains("//")).then_some((start, name))
    })
}

/// Whether a name is that of a file that pages load.
fn is_file(name: &str) -> bool {
    const KINDS: &[&str] = &[
        "js", "mjs", "css", "woff", "woff2", "ttf", "otf", "png", "jpg", "jpeg", "webp", "avif",
        "svg", "gif", "ico", "wasm", "json",
    ];
    name.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_of_documents() {
        let html = b"<p>&lt;script>no</p><script> a </script><script src=\"x\"></script>\
            <script type=\"module\">b</script><script>cut";
        assert_eq!(scripts(html).collect::<Vec<_>>(), [&b"a"[..], b"", b"b"]);
    }

    #[test]
    fn words() {
        assert_eq!(word(b"{a:\"x-1\"}", b"a:\"", b'"'), Some("x-1"));
        for text in [&b"a:\""[..], b"a:\"\"", b"a:\"x y\"", b"a:\"x"] {
            assert_eq!(word(text, b"a:\"", b'"'), None);
        }
    }

    #[test]
    fn files_that_are_named() {
        let names = |path: &str, body: &str| {
            hashed_files("/docs/_x/", "/_x/", path, body.as_bytes(), |_| true)
        };
        assert_eq!(
            names("/docs/p", r#"<link href="/docs/_x/a.js"><link href="./_x/b/c.css">"./d.js""#),
            ["/docs/_x/a.js", "/docs/_x/b/c.css"]
        );
        assert_eq!(
            names(
                "/docs/_x/n/a.js",
                r#"import"./b.js";import"../c/d.js";import("../../e.js");"./f.txt""#
            ),
            ["/docs/_x/n/b.js", "/docs/_x/c/d.js"]
        );
        for bad in ["./", "../", "/_x/", "/_x/a.js", "./a"] {
            let body = bad.repeat((1 << 20) / bad.len());
            assert!(names("/docs/_x/a.js", &body).len() <= MAX_NAME, "{bad}");
        }
        let many: String = (0..4000).map(|n| format!("\"/_x/{n}.js\" ")).collect();
        assert_eq!(names("/", &many).len(), super::super::MAX_NAMES);
    }
}
