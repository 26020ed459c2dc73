//! Patterns of hosts and paths, and whether one leaves anything to another.
//!
//! A path pattern is a glob: `*` stands for anything within a segment (nothing,
//! too), `**` as a whole segment for any depth, `[ab]` and `{a,b}` for
//! alternatives. `/blog/**` also matches `/blog` itself. A trailing slash
//! counts: `/a/*` matches `/a/x`, and neither `/a/x/` nor `/a/x/y`.
//!
//! The common shapes are answered by comparing strings; everything else by
//! [`globset`]. A property test holds the two against each other.

use globset::{GlobBuilder, GlobMatcher};
use percent_encoding::utf8_percent_encode;

use crate::host;
use crate::page::{NOT_IN_PATH, canonical_escapes};

/// Bytes of a pattern. It is a label of metrics, too.
const MAX_PATTERN: usize = 256;

/// Which paths a route is for.
#[derive(Clone, Debug)]
pub struct PathPattern {
    text: Box<str>,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    /// `/**`, or `/**/*`
    All,
    /// No wildcard.
    Exact,
    /// `/prefix/**`: what comes before the last slash.
    Tree(Box<str>),
    /// `/prefix/*`: what comes before the last slash.
    Children(Box<str>),
    /// `/**/*.css`: what comes after the asterisk.
    Suffix(Box<str>),
    /// Anything else.
    Glob {
        /// What comes before the first wildcard: most paths are told by it alone.
        prefix: Box<str>,
        globs: Box<Globs>,
    },
}

#[derive(Clone, Debug)]
struct Globs {
    whole: GlobMatcher,
    /// `/x*` of `/x*/**`, which matches it, too.
    itself: Option<GlobMatcher>,
}

impl Globs {
    fn new(text: &str) -> Result<Globs, String> {
        let itself = match text.strip_suffix("/**") {
            Some("") | None => None,
            Some(itself) => Some(glob(itself)?),
        };
        Ok(Globs { whole: glob(text)?, itself })
    }

    fn matches(&self, path: &str) -> bool {
        self.whole.is_match(path) || self.itself.as_ref().is_some_and(|glob| glob.is_match(path))
    }
}

fn glob(text: &str) -> Result<GlobMatcher, String> {
    GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| error.kind().to_string())
}

impl PathPattern {
    /// Reads a pattern. It is brought to the canonical form that the paths of
    /// requests have: what cannot stand in a path as it is, and means nothing
    /// here, is percent-encoded.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what to write instead.
    pub fn new(written: &str) -> Result<PathPattern, String> {
        if !written.starts_with('/') {
            let cure = format!("/{}", written.trim_start());
            return Err(format!("a path pattern begins with a slash; did you mean {cure:?}?"));
        }
        if written.len() > MAX_PATTERN {
            return Err(format!("a path pattern has at most {MAX_PATTERN} bytes"));
        }
        if written.contains(['?', '#']) {
            return Err("a path pattern is matched against the path alone, without its query; \
                        which parameters count is said with `query`"
                .to_owned());
        }
        if let Some(c) = written.chars().find(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!("{c:?} cannot be in a path; write it percent-encoded"));
        }
        if written.split('/').any(|segment| segment.contains("**") && segment != "**") {
            return Err("`**` stands for whole segments, as in `/blog/**`; \
                        within a segment it is `*`"
                .to_owned());
        }
        let text: Box<str> = canonical(written)?.into();
        let globs = Globs::new(&text)?;
        let shape = Shape::of(&text).unwrap_or_else(|| Shape::Glob {
            prefix: text[..text.find(WILD).unwrap_or(0)].into(),
            globs: Box::new(globs),
        });
        Ok(PathPattern { text, shape })
    }

    /// Only this path, whatever is in it.
    #[must_use]
    pub fn exactly(path: &str) -> PathPattern {
        PathPattern { text: path.into(), shape: Shape::Exact }
    }

    /// The pattern in canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches a canonical path. Allocates nothing.
    #[must_use]
    #[inline]
    pub fn matches(&self, path: &str) -> bool {
        match &self.shape {
            Shape::All => true,
            Shape::Exact => path == &*self.text,
            Shape::Tree(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Shape::Children(prefix) => path
                .strip_prefix(&**prefix)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|rest| !rest.contains('/')),
            Shape::Suffix(suffix) => path.starts_with('/') && path.ends_with(&**suffix),
            Shape::Glob { prefix, globs } => path.starts_with(&**prefix) && globs.matches(path),
        }
    }

    /// Whether it matches every path.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(self.shape, Shape::All)
    }

    /// Whether it certainly matches every path that `other` does.
    #[must_use]
    pub fn covers(&self, other: &PathPattern) -> bool {
        if self.text == other.text {
            return true;
        }
        match (&self.shape, &other.shape) {
            (Shape::All, _) => true,
            (_, Shape::Exact) => self.matches(&other.text),
            (Shape::Tree(_), Shape::Tree(at) | Shape::Children(at)) => {
                !at.is_empty() && self.matches(at)
            }
            (Shape::Tree(_), Shape::Glob { prefix, .. }) => {
                // The directory of the first wildcard: everything lies below it.
                let dir = prefix.rfind('/').unwrap_or(0);
                dir > 0 && self.matches(&prefix[..dir])
            }
            (Shape::Suffix(a), Shape::Suffix(b)) => b.ends_with(&**a),
            _ => false,
        }
    }
}

/// A pattern in the canonical form of paths: `/a|{b,\u{e9}}` is `/a%7C{b,%C3%A9}`.
fn canonical(written: &str) -> Result<String, String> {
    let mut out = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' | '{' | '}' => out.push(c),
            '\\' => match rest.chars().next() {
                Some(c) => {
                    rest = &rest[c.len_utf8()..];
                    // What would mean something even here.
                    out.push_str(if matches!(c, '*' | ',') { "\\" } else { "" });
                    literal(c, &mut out);
                }
                None => out.push(c),
            },
            '[' => match class_end(rest) {
                Some(end) => {
                    class(&rest[..end], &mut out)?;
                    rest = &rest[end + 1..];
                }
                // The glob says what is wrong.
                None => out.push(c),
            },
            c => literal(c, &mut out),
        }
    }
    Ok(canonical_escapes(&out))
}

/// A character that stands for itself, as a canonical path has it.
fn literal(c: char, out: &mut String) {
    out.extend(utf8_percent_encode(c.encode_utf8(&mut [0; 4]), NOT_IN_PATH));
}

/// Where the class ends whose opening bracket was read: a closing one that comes
/// first is a member.
fn class_end(rest: &str) -> Option<usize> {
    let first = usize::from(rest.starts_with(['!', '^']));
    rest.char_indices().skip(first + 1).find(|(_, c)| *c == ']').map(|(at, _)| at)
}

/// A class of characters; alternatives, where a path has more than one character
/// for one of them.
fn class(members: &str, out: &mut String) -> Result<(), String> {
    let encoded = |c: char| {
        let mut text = String::new();
        literal(c, &mut text);
        (text.len() > 1).then_some(text)
    };
    let (not, listed) = match members.strip_prefix(['!', '^']) {
        Some(listed) => ("!", listed),
        None => ("", members),
    };
    if listed.chars().all(|c| encoded(c).is_none()) {
        out.extend(["[", not, listed, "]"]);
        return Ok(());
    }
    let cannot =
        |why: &str| Err(format!("`[{members}]`: {why}; use alternatives, as in `{{a,b}}`"));
    if !not.is_empty() {
        return cannot("a path has one of these percent-encoded, which is more than a character");
    }
    let mut alternatives = Vec::new();
    let mut chars = listed.chars();
    while let Some(c) = chars.next() {
        let mut ahead = chars.clone();
        if let (Some('-'), Some(last)) = (ahead.next(), ahead.next()) {
            if encoded(c).or(encoded(last)).is_some() {
                return cannot("a path has an end of this range percent-encoded");
            }
            alternatives.push(format!("[{c}-{last}]"));
            chars = ahead;
        } else {
            let escape = if matches!(c, '*' | ',') { "\\" } else { "" };
            alternatives.push(encoded(c).unwrap_or_else(|| format!("{escape}{c}")));
        }
    }
    match &alternatives[..] {
        [one] => out.push_str(one),
        several => out.extend(["{", &several.join(","), "}"]),
    }
    Ok(())
}

/// What makes a pattern more than a literal.
const WILD: [char; 6] = ['*', '[', ']', '{', '}', '\\'];

impl Shape {
    fn of(text: &str) -> Option<Shape> {
        let literal = |part: &str| !part.contains(WILD);
        if matches!(text, "/**" | "/**/*") {
            return Some(Shape::All);
        }
        if literal(text) {
            return Some(Shape::Exact);
        }
        if let Some(prefix) = text.strip_suffix("/**").filter(|prefix| literal(prefix)) {
            return Some(Shape::Tree(prefix.into()));
        }
        if let Some(prefix) = text.strip_suffix("/*").filter(|prefix| literal(prefix)) {
            return Some(Shape::Children(prefix.into()));
        }
        let suffix = text.strip_prefix("/**/*")?;
        (literal(suffix) && !suffix.is_empty() && !suffix.contains('/'))
            .then(|| Shape::Suffix(suffix.into()))
    }
}

/// Which hosts a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Any.
    Any,
    /// This one.
    Exact(Box<str>),
    /// Any subdomain: holds `.example.com` of `*.example.com`.
    Under(Box<str>),
}

impl HostPattern {
    /// Reads a pattern: a host name or address, or `*.` and a domain. None is any.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what to write instead.
    pub fn new(written: Option<&str>) -> Result<HostPattern, String> {
        let Some(written) = written else { return Ok(HostPattern::Any) };
        let host = written.to_ascii_lowercase();
        if host.contains("://") || host.contains('/') {
            return Err("a host is a bare name, without scheme or path".to_owned());
        }
        if host.len() > 1 && host.ends_with('.') {
            return Err("a host is matched without the dot at its end; leave it out".to_owned());
        }
        if !host.is_ascii() {
            return Err("write an international name in its ASCII form (xn--…)".to_owned());
        }
        if host.starts_with('[') {
            let end = host.find(']').map_or(0, |at| at + 1);
            return match host[1..end.max(2) - 1].parse::<std::net::Ipv6Addr>() {
                Ok(_) if end == host.len() => Ok(HostPattern::Exact(host::named(&host).into())),
                Ok(_) => Err("a host is matched without its port; leave it out".to_owned()),
                Err(_) => Err("expected an IPv6 address between the brackets".to_owned()),
            };
        }
        if host.contains(':') {
            return Err("a host is matched without its port; leave it out \
                        (an IPv6 address stands in brackets)"
                .to_owned());
        }
        let name = host.strip_prefix("*.").unwrap_or(&host);
        if name.contains('*') {
            return Err("`*` can only stand for the subdomains of a domain, \
                        as in `*.example.com`"
                .to_owned());
        }
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err("expected a host name such as `example.com` or `*.example.com`".to_owned());
        }
        Ok(match host.strip_prefix('*') {
            Some(suffix) => HostPattern::Under(suffix.into()),
            None => HostPattern::Exact(host.into()),
        })
    }

    /// Whether it matches a host in lower case, without its port.
    #[must_use]
    #[inline]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Exact(name) => host == &**name,
            HostPattern::Under(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }

    /// Whether it matches every host that `other` does.
    #[must_use]
    pub fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Any, _) => true,
            (_, HostPattern::Any) => false,
            (pattern, HostPattern::Exact(host)) => pattern.matches(host),
            (HostPattern::Under(a), HostPattern::Under(b)) => b.ends_with(&**a),
            (HostPattern::Exact(_), HostPattern::Under(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::canonical_path;
    use proptest::prelude::*;

    fn path(text: &str) -> PathPattern {
        PathPattern::new(text).expect(text)
    }

    fn host(text: &str) -> HostPattern {
        HostPattern::new(Some(text)).expect(text)
    }

    #[test]
    fn paths() {
        for (pattern, yes, no) in [
            ("/**", &["/", "/a", "/a/b/", "//"][..], &[][..]),
            ("/", &["/"], &["/a", "//"]),
            ("/about", &["/about"], &["/about/", "/abou", "/about/x", "/About"]),
            ("/blog/**", &["/blog", "/blog/", "/blog/a", "/blog/a/b"], &["/blogs", "/", "/blo"]),
            ("/p/*", &["/p/x", "/p/"], &["/p", "/p/x/", "/p/x/y", "/px"]),
            ("/*", &["/", "/x"], &["/x/", "/x/y"]),
            ("/p/*/", &["/p/x/"], &["/p/x", "/p/x/y"]),
            ("/**/*.css", &["/a.css", "/x/y/a.css", "/.css"], &["/a.css/", "/a.cs", "/css"]),
            ("/**/*", &["/", "/a", "/a/b"], &[]),
            ("/*/feed", &["/blog/feed", "//feed"], &["/feed", "/a/b/feed"]),
            ("/**/feed", &["/feed", "/blog/feed", "/a/b/feed"], &["/xfeed"]),
            ("/a/**/z", &["/a/z", "/a/b/z", "/a/b/c/z"], &["/az", "/a/bz"]),
            ("/x*/**", &["/x", "/xy", "/xy/z", "/x/y/z"], &["/y", "/y/x"]),
            ("/{de,fr}/**", &["/de", "/fr/a"], &["/en", "/def"]),
            ("/[ab]", &["/a", "/b"], &["/c", "/[ab]"]),
            (r"/a\*", &["/a*"], &["/ab"]),
            ("/caf\u{e9}/*", &["/caf%C3%A9/x"], &["/cafe/x"]),
            ("/%7euser/%2f", &["/~user/%2F"], &["/%7euser/%2f"]),
            // As it is written and as it is sent, it is the same path.
            ("/a^b|c`\"<>", &["/a%5Eb%7Cc%60%22%3C%3E"], &["/a^b|c`\"<>"]),
            ("/a%5eb%7c/**", &["/a%5Eb%7C", "/a%5Eb%7C/x"], &["/a^b|"]),
            (r"/a\{b\}\[c\]\\", &["/a%7Bb%7D%5Bc%5D%5C"], &["/ab", "/a{b}[c]\\"]),
            ("/a]", &["/a%5D"], &["/a]"]),
            ("/{a|b,\u{e9}}/*", &["/a%7Cb/x", "/%C3%A9/x"], &["/a/x", "/b/x"]),
            (r"/{a\,b,c}", &["/a,b", "/c"], &["/a", "/b"]),
            ("/[{]x", &["/%7Bx"], &["/{x"]),
            ("/[a\u{e9}|0-2]", &["/a", "/%C3%A9", "/%7C", "/1"], &["/%", "/C", "/3"]),
            ("/[*,]", &["/*", "/,"], &["/a"]),
            ("/[!a]", &["/b"], &["/a"]),
        ] {
            for p in yes {
                assert!(path(pattern).matches(p), "{pattern} should match {p}");
            }
            for p in no {
                assert!(!path(pattern).matches(p), "{pattern} should not match {p}");
            }
        }
    }

    #[test]
    fn patterns_that_cannot_be_meant() {
        for (pattern, message) in [
            ("", "did you mean \"/\"?"),
            ("blog/**", "did you mean \"/blog/**\"?"),
            ("/search?q=*", "without its query"),
            ("/blog**", "whole segments"),
            ("/a b", "percent-encoded"),
            ("/{a", "unclosed alternate group"),
            ("/[!\u{e9}]", "use alternatives"),
            ("/[a-\u{e9}]", "use alternatives"),
            ("/[a", "unclosed character class"),
        ] {
            let error = PathPattern::new(pattern).expect_err(pattern);
            assert!(error.contains(message), "{pattern}: {error}");
        }
        assert!(PathPattern::new(&format!("/{}", "a".repeat(MAX_PATTERN))).is_err());
    }

    #[test]
    fn hosts() {
        for (pattern, yes, no) in [
            ("Example.com", &["example.com"][..], &["www.example.com", "example.co"][..]),
            (
                "*.example.com",
                &["a.example.com", "a.b.example.com"],
                &["example.com", ".example.com", "xexample.com"],
            ),
            ("[::1]", &["[::1]"], &["::1"]),
            ("[0:0::1]", &["[::1]"], &[]),
            ("localhost", &["localhost"], &[""]),
        ] {
            for h in yes {
                assert!(host(pattern).matches(h), "{pattern} should match {h}");
            }
            for h in no {
                assert!(!host(pattern).matches(h), "{pattern} should not match {h}");
            }
        }
        for (pattern, message) in [
            ("https://example.com", "without scheme"),
            ("example.com:8080", "without its port"),
            ("[::1]:80", "without its port"),
            ("example.com.", "without the dot"),
            ("[::1", "IPv6"),
            ("[", "IPv6"),
            ("[]", "IPv6"),
            ("a.*.com", "subdomains"),
            ("*", "subdomains"),
            ("*.", "without the dot"),
            ("", "host name"),
            ("b\u{fc}cher.example", "xn--"),
            ("a..b", "host name"),
        ] {
            let error = HostPattern::new(Some(pattern)).expect_err(pattern);
            assert!(error.contains(message), "{pattern}: {error}");
        }
    }

    #[test]
    fn coverage() {
        for (wide, narrow, covers) in [
            ("/**", "/a/b", true),
            ("/a/**", "/a/**", true),
            ("/a/**", "/a", true),
            ("/a/**", "/a/b/**", true),
            ("/a/**", "/a/*", true),
            ("/a/**", "/ab/**", false),
            ("/a/**", "/**", false),
            ("/a/**", "/a/*/b", true),
            ("/a/**", "/a*/b", false),
            ("/a/**", "/*/b", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/*", "/a/**", false),
            ("/*/feed", "/a/feed", true),
            ("/**/*", "/a/b", true),
            ("/**/*.css", "/**/*.min.css", true),
            ("/**/*.min.css", "/**/*.css", false),
        ] {
            assert_eq!(path(wide).covers(&path(narrow)), covers, "{wide} over {narrow}");
        }
        for (wide, narrow, covers) in [
            (None, Some("a.com"), true),
            (Some("a.com"), None, false),
            (Some("*.a.com"), Some("b.a.com"), true),
            (Some("*.a.com"), Some("*.b.a.com"), true),
            (Some("*.a.com"), Some("a.com"), false),
            (Some("b.a.com"), Some("*.a.com"), false),
        ] {
            let pattern = |text| HostPattern::new(text).expect("a host");
            assert_eq!(pattern(wide).covers(&pattern(narrow)), covers, "{wide:?} over {narrow:?}");
        }
    }

    /// Segments from few letters, so that patterns and paths meet.
    const PATTERN: &str = r"(/(\*\*|\*|a|b|ab|\*\.a|a\*|\{a,b\}|\{a,a/b\}|\[ab\]|\\a|)){1,4}";
    const PATH: &str = r"(/(a|b|ab|x\.a|\.a|)){1,4}";

    proptest! {
        /// A pattern is read twice: Gatsby's come from its build.
        #[test]
        fn the_canonical_form_is_final(text in r"(/(\*\*|\*|[a-c|^\u{e9}%]{1,3}|\{a,\u{e9}\}|\[a|\]|\\[*,{|a])){1,4}") {
            if let Ok(once) = PathPattern::new(&text) {
                let twice = PathPattern::new(once.as_str()).expect("it was one");
                prop_assert_eq!(once.as_str(), twice.as_str());
            }
        }

        /// Raw or encoded, in the pattern or in the request.
        #[test]
        fn a_literal_matches_what_browsers_send(p in r"/[a-c/|^`\u{e9}<>~,%4-6]{0,12}") {
            let pattern = path(&p.replace(',', r"\,"));
            let sent = canonical_path(&p);
            prop_assert!(pattern.matches(&sent), "{} on {}", pattern.as_str(), sent);
        }

        #[test]
        fn the_short_way_is_globset(pattern in PATTERN, p in PATH) {
            let short = path(&pattern);
            let globs = Globs::new(short.as_str()).expect("checked above");
            prop_assert_eq!(short.matches(&p), globs.matches(&p), "{} on {}", pattern, p);
        }

        #[test]
        fn what_is_covered_is_matched(wide in PATTERN, narrow in PATTERN, p in PATH) {
            let (wide, narrow) = (path(&wide), path(&narrow));
            if wide.covers(&narrow) && narrow.matches(&p) {
                prop_assert!(wide.matches(&p), "{:?} over {:?} on {}", wide, narrow, p);
            }
        }

        #[test]
        fn arbitrary_patterns_do_not_panic(text in "\\PC*", p in "\\PC*") {
            if let Ok(pattern) = PathPattern::new(&text) {
                let _ = pattern.matches(&p);
            }
            let _ = HostPattern::new(Some(&text)).map(|host| host.matches(&p));
        }
    }
}
