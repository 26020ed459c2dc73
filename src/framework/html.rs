//! What presets read of bodies: tags and scripts of documents, and names of hashed files.
//! Each takes time in proportion to the body's size, whatever is in it.

use memchr::{memchr, memchr2, memmem};

use super::urls::{MAX_NAME, Names};

/// Folders up that a name is followed.
const MAX_STEPS: usize = 8;

/// A start tag of a document.
pub(super) struct Tag<'a> {
    name: &'a [u8],
    attributes: &'a [u8],
    /// Of a script, and of what else holds no tags: all that is in it.
    pub content: &'a [u8],
}

impl<'a> Tag<'a> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Names and values, as they are written.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.attributes;
        std::iter::from_fn(move || attribute(&mut rest))
    }

    /// The value of the first attribute of this name.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let mut all = self.attributes();
        let (_, value) = all.find(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes()))?;
        std::str::from_utf8(value).ok()
    }

    /// The URL of the script or style sheet that the document loads here.
    pub(super) fn loads(&self) -> Option<&'a str> {
        if self.is("script") {
            return self.get("src");
        }
        let is_file = matches!(self.get("rel"), Some("stylesheet" | "modulepreload"));
        if self.is("link") && is_file { self.get("href") } else { None }
    }
}

/// The start tags of a document, as a browser finds them: not in values of attributes,
/// comments, scripts or titles. What clients wrote is none, or it could load scripts.
pub(super) fn tags(body: &[u8]) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[memchr(b'<', rest)? + 1..];
            if rest.starts_with(b"!--") {
                // `<!-->` is a whole one.
                rest = &rest[memmem::find(&rest[1..], b"-->")? + 1..];
                continue;
            }
            let ends = rest.first() == Some(&b'/');
            let tag = &rest[usize::from(ends)..];
            match tag.first()? {
                first if first.is_ascii_alphabetic() => {}
                _ if ends || matches!(rest[0], b'!' | b'?') => {
                    rest = &rest[memchr(b'>', rest)?..];
                    continue;
                }
                _ => continue,
            }
            let name = tag.iter().position(|b| b.is_ascii_whitespace() || b"/>".contains(b))?;
            let (name, attributes) = tag.split_at(name);
            let (length, whole) = length(attributes)?;
            rest = &attributes[length..];
            if ends {
                continue;
            }
            let mut content = &rest[..0];
            if !whole && RAW.iter().any(|raw| name.eq_ignore_ascii_case(raw.as_bytes())) {
                content = &rest[..end_of(rest, name)?];
                rest = &rest[content.len()..];
            }
            return Some(Tag { name, attributes: &attributes[..length], content });
        }
    })
}

/// Elements that hold no tags.
const RAW: [&str; 8] =
    ["script", "style", "title", "textarea", "iframe", "xmp", "noembed", "noframes"];

/// Up to where attributes go, the `>` included, and whether a slash before that says that
/// the element is empty.
fn length(attributes: &[u8]) -> Option<(usize, bool)> {
    let mut rest = attributes;
    loop {
        let before = rest;
        if attribute(&mut rest).is_some() {
            continue;
        }
        let whole = before[..before.len() - rest.len()].ends_with(b"/");
        return rest.first().map(|_| (attributes.len() - rest.len() + 1, whole));
    }
}

/// The next attribute, without its quotes; none at the tag's end, which `rest` then begins
/// with, or is empty where the tag is cut off.
fn attribute<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let space = |b: &u8| b.is_ascii_whitespace();
    let take = |rest: &mut &'a [u8], is_in: &dyn Fn(&u8) -> bool| {
        let end = rest.iter().position(|b| !is_in(b)).unwrap_or(rest.len());
        let (taken, after) = rest.split_at(end);
        *rest = after;
        taken
    };
    take(rest, &|b| space(b) || *b == b'/');
    if matches!(rest.first(), None | Some(b'>')) {
        return None;
    }
    let start = *rest;
    // A name may begin with `=`.
    *rest = &rest[1..];
    let more = take(rest, &|b| !space(b) && !b"/>=".contains(b)).len();
    let name = &start[..=more];
    take(rest, &space);
    let Some(value) = rest.strip_prefix(b"=") else { return Some((name, b"")) };
    *rest = value;
    take(rest, &space);
    let Some(quote) = rest.first().filter(|b| b"\"'".contains(b)).copied() else {
        return Some((name, take(rest, &|b| !space(b) && *b != b'>')));
    };
    let Some(end) = memchr(quote, &rest[1..]) else {
        *rest = &[];
        return None;
    };
    let value = &rest[1..=end];
    *rest = &rest[end + 2..];
    Some((name, value))
}

/// Where the end tag of an element begins that holds no tags.
fn end_of(content: &[u8], name: &[u8]) -> Option<usize> {
    memmem::find_iter(content, b"</").find(|at| {
        let tag = &content[at + 2..];
        let named = tag.get(..name.len()).is_some_and(|own| own.eq_ignore_ascii_case(name));
        let after = tag.get(name.len());
        named && after.is_some_and(|b| b.is_ascii_whitespace() || b"/>".contains(b))
    })
}

/// The contents of the `script` elements of a document, trimmed: what a framework says
/// of itself stands in one. Text that clients wrote does not, or it would run; but
/// scripts may hold such text in strings, and so it matters how one begins.
pub(super) fn scripts(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    tags(body).filter(|tag| tag.is("script")).map(|tag| tag.content.trim_ascii())
}

/// The last place of `mark` in a script that is in none of its strings, which are in double
/// quotes, as frameworks print data.
pub(super) fn last_in_code(script: &[u8], mark: &[u8]) -> Option<usize> {
    let (mut at, mut last) = (0, None);
    while at < script.len() {
        let quote = memchr(b'"', &script[at..]).map_or(script.len(), |quote| at + quote);
        last = memmem::rfind(&script[at..quote], mark).map(|found| at + found).or(last);
        at = quote + 1;
        loop {
            let end = script.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest));
            let Some(end) = end else { return last };
            at += end + 1;
            if script[at - 1] == b'"' {
                break;
            }
            at += 1;
        }
    }
    last
}

/// What is between the first `before` and the next `end`, if that is a short word.
pub(super) fn word<'a>(text: &'a [u8], before: &[u8], end: u8) -> Option<&'a str> {
    /// Names of builds and folders are shorter.
    const MAX_WORD: usize = 128;
    let word = &text[memmem::find(text, before)? + before.len()..];
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
    fn tags_of_documents() {
        for (html, found) in [
            ("<!DOCTYPE html><p class=\"a\">x<br/></p>", "p class=a|br"),
            ("a < b <3 <p>&lt;i></p >", "p"),
            ("<p title=\"<i a='b'>\" x='\"' y=z/>\">", "p title=<i a='b'> x=\" y=z/"),
            ("<p a\"b='<i>' c = d e>", "p a\"b=<i> c=d e="),
            ("<!-- <i> --><!--><b><?x <i>></ <i>><u>", "b|u"),
            ("<title>\"<i></TITLE ><script>\"</p><i></script><b>", "title|script|b"),
            (
                "<svg><title/><style /><path/></svg><script src=/a/><i></script>",
                "svg|title|style|path|script src=/a/",
            ),
            ("</p title=\"<i>\"><b>", "b"),
            ("<p><i a=\"", "p"),
            ("<p><i a", "p"),
            ("<p><script><i>", "p"),
            ("<p><!-- <i>", "p"),
            ("<p =a/b=\"c\">", "p =a= b=c"),
        ] {
            let text = |bytes| std::str::from_utf8(bytes).unwrap();
            let tags = tags(html.as_bytes()).map(|tag| {
                let pairs = tag.attributes().map(|(name, value)| (text(name), text(value)));
                let pairs: String = pairs.map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{}{pairs}", text(tag.name))
            });
            assert_eq!(tags.collect::<Vec<_>>().join("|"), found, "{html}");
        }
        // Where the time were in proportion to the square of the size, this would take hours.
        for bad in ["<", "<a ", "<a b=\"", "<!--", "</", "<title>", "<script>x", "<a =", "<p/"] {
            let body = bad.repeat((4 << 20) / bad.len());
            assert!(tags(body.as_bytes()).count() <= 1, "{bad}");
        }
    }

    #[test]
    fn code_and_strings() {
        for (script, at) in [
            ("a:{}", Some(0)),
            ("x={b:\"a:{\",a:{c:\"a:{\"}}", Some(11)),
            (r#""\"a:{"a:{"a:{"#, Some(7)),
            (r#""\\"a:{"#, Some(4)),
            ("\"a:{", None),
            (r#""\"#, None),
        ] {
            assert_eq!(last_in_code(script.as_bytes(), b"a:{"), at, "{script}");
        }
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
        assert_eq!(names("/", &many).len(), super::super::urls::MAX_NAMES);
    }
}
