//! What a client names with a URL, as one canonical string.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use crate::host;

/// The key of a page: deployment + scheme + host + canonical path + keyed
/// query + declared variants, as one string:
///
/// ```text
/// DEPLOYMENT \0 SCHEME :// HOST PATH [? QUERY] \0 [NAME = VALUE \n …]
/// ```
///
/// The separators cannot occur in a part: the request head is refused when it
/// carries control characters. Cloning is cheap.
#[derive(Clone)]
pub struct PageKey(Arc<Parts>);

struct Parts {
    text: Box<str>,
    host: Range<u32>,
    path: Range<u32>,
}

/// A [`PageKey`] under construction, in a buffer that is used again: looking a
/// page up allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct KeyBuf {
    text: String,
    host: Range<u32>,
    path: Range<u32>,
    query_end: u32,
}

impl KeyBuf {
    /// Starts a key over. `host` is canonical (see [`host::canonical`]), and so is
    /// `path` (see [`canonical_path`](super::canonical_path)).
    pub fn begin(&mut self, deployment: &str, scheme: &str, host: &str, path: &str) {
        let text = &mut self.text;
        text.clear();
        text.push_str(deployment);
        text.push('\0');
        text.push_str(scheme);
        text.push_str("://");
        let start = text.len() as u32;
        text.push_str(host);
        self.host = start..text.len() as u32;
        text.push_str(path);
        self.path = self.host.end..text.len() as u32;
        self.query_end = self.path.end;
    }

    /// Makes it the same of another deployment.
    pub fn move_to(&mut self, deployment: &str) {
        let own = self.deployment().len();
        self.text.replace_range(..own, deployment);
        let moved = |at: u32| at - own as u32 + deployment.len() as u32;
        let of = |range: &Range<u32>| moved(range.start)..moved(range.end);
        (self.host, self.path) = (of(&self.host), of(&self.path));
        self.query_end = moved(self.query_end);
    }

    /// Adds the keyed part of the query, without its question mark.
    pub fn query(&mut self, query: &str) {
        if !query.is_empty() {
            self.text.push('?');
            self.text.push_str(query);
        }
        self.query_end = self.text.len() as u32;
    }

    /// Adds a declared variant with its normalised value.
    pub fn variant(&mut self, name: &str, value: &str) {
        if self.text.len() as u32 == self.query_end {
            self.text.push('\0');
        }
        self.text.push_str(name);
        self.text.push('=');
        self.text.push_str(value);
        self.text.push('\n');
    }

    /// The deployment.
    #[must_use]
    pub fn deployment(&self) -> &str {
        self.text.split_once('\0').map_or("", |(deployment, _)| deployment)
    }

    /// The key as text, to look a page up with.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Path and keyed query: what a fill asks the origin for.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.text[self.path.start as usize..self.query_end as usize]
    }

    /// The canonical host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.text[self.host.start as usize..self.host.end as usize]
    }

    /// The canonical path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.path.start as usize..self.path.end as usize]
    }

    /// The key itself.
    #[must_use]
    pub fn key(&self) -> PageKey {
        PageKey(Arc::new(Parts {
            text: self.text.as_str().into(),
            host: self.host.clone(),
            path: self.path.clone(),
        }))
    }
}

impl PageKey {
    /// A key without query or variants: for tests and tools.
    #[must_use]
    pub fn new(deployment: &str, scheme: &str, host: &str, path: &str) -> PageKey {
        let mut buf = KeyBuf::default();
        buf.begin(deployment, scheme, host, path);
        buf.key()
    }

    /// The whole key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The key of which these are the bytes (see [`as_str`](Self::as_str)), as another
    /// tier keeps them; none if they are of no key.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<PageKey> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (deployment, rest) = text.split_once('\0')?;
        let (url, variants) = match rest.split_once('\0') {
            Some((url, variants)) => (url, Some(variants)),
            None => (rest, None),
        };
        let (scheme, authority) = url.split_once("://")?;
        let (host, target) = authority.split_at(authority.find('/')?);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let is_plain = |part: &str| !part.bytes().any(|b| b.is_ascii_control());
        // Tabs may stand in a field.
        let is_variant = |line: &str| {
            line.strip_suffix('\n').is_some_and(|line| {
                line.contains('=') && !line.bytes().any(|b| b.is_ascii_control() && b != b'\t')
            })
        };
        let of_a_key = is_plain(deployment)
            && matches!(scheme, "http" | "https")
            && is_plain(url)
            && !host.contains('?')
            && query != Some("")
            && variants != Some("")
            && variants.unwrap_or("").split_inclusive('\n').all(is_variant);
        let start = (deployment.len() + 1 + scheme.len() + 3) as u32;
        let end = start + host.len() as u32;
        of_a_key.then(|| {
            PageKey(Arc::new(Parts {
                text: text.into(),
                host: start..end,
                path: end..end + path.len() as u32,
            }))
        })
    }

    /// The canonical host (see [`host::canonical`]).
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.text[self.0.host.start as usize..self.0.host.end as usize]
    }

    /// The host's name without its port, and the port that clients connected to.
    #[must_use]
    pub fn name_and_port(&self) -> (&str, u16) {
        let (name, port) = host::split(self.host());
        (name, port.unwrap_or_else(|| host::default_port(self.scheme())))
    }

    /// The canonical path, without query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.text[self.0.path.start as usize..self.0.path.end as usize]
    }

    /// The deployment.
    #[must_use]
    pub fn deployment(&self) -> &str {
        self.0.text.split_once('\0').map_or("", |(deployment, _)| deployment)
    }

    /// The same page of another deployment.
    #[must_use]
    pub fn in_deployment(&self, deployment: &str) -> PageKey {
        let text = format!("{deployment}\0{}", self.after_deployment());
        let moved = |at: u32| at - self.deployment().len() as u32 + deployment.len() as u32;
        let moved = |range: &Range<u32>| moved(range.start)..moved(range.end);
        PageKey(Arc::new(Parts {
            text: text.into(),
            host: moved(&self.0.host),
            path: moved(&self.0.path),
        }))
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.url().starts_with("https:") { "https" } else { "http" }
    }

    /// Path and keyed query.
    #[must_use]
    pub fn target(&self) -> &str {
        let url = self.url();
        let start =
            self.0.path.start as usize - (self.0.text.len() - self.after_deployment().len());
        &url[start..]
    }

    /// The declared variants, names and normalised values.
    pub fn variants(&self) -> impl Iterator<Item = (&str, &str)> {
        let variants = self.after_deployment().split_once('\0').map_or("", |(_, rest)| rest);
        variants.lines().filter_map(|line| line.split_once('='))
    }

    fn after_deployment(&self) -> &str {
        self.0.text.split_once('\0').map_or("", |(_, rest)| rest)
    }

    fn url(&self) -> &str {
        let rest = self.after_deployment();
        rest.split_once('\0').map_or(rest, |(url, _)| url)
    }

    /// Bytes of heap that the key takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.text.len() + size_of::<Parts>() + 2 * size_of::<usize>()
    }
}

impl Borrow<str> for PageKey {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Hash for PageKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq for PageKey {
    fn eq(&self, other: &PageKey) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for PageKey {}

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The URL, for logs.
impl fmt::Display for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_gives_back_what_it_was_made_of() {
        let mut buf = KeyBuf::default();
        buf.begin("v2", "https", "h:8443", "/a/b");
        buf.query("page=2");
        assert_eq!(buf.target(), "/a/b?page=2");
        let bare = buf.key();
        buf.variant("accept-language", "de,en;q=0.5");
        buf.variant("x", "");
        let key = buf.key();
        assert_eq!((key.scheme(), key.host(), key.path()), ("https", "h:8443", "/a/b"));
        assert_eq!((key.target(), buf.target()), ("/a/b?page=2", "/a/b?page=2"));
        assert_eq!(
            key.variants().collect::<Vec<_>>(),
            [("accept-language", "de,en;q=0.5"), ("x", "")]
        );
        assert_eq!(key.to_string(), "https://h:8443/a/b?page=2");
        assert_eq!(bare.variants().count(), 0);
        assert_ne!(bare, key);
        assert_eq!((buf.deployment(), key.deployment()), ("v2", "v2"));
        assert_eq!(key.name_and_port(), ("h", 8443));
        assert_eq!(PageKey::new("", "https", "[::1]", "/").name_and_port(), ("[::1]", 443));
        assert_eq!(PageKey::new("", "http", "h", "/").name_and_port(), ("h", 80));
        for deployment in ["", "v10"] {
            let other = key.in_deployment(deployment);
            buf.begin(deployment, "https", "h:8443", "/a/b");
            buf.query("page=2");
            buf.variant("accept-language", "de,en;q=0.5");
            buf.variant("x", "");
            assert_eq!((&other, other.host()), (&buf.key(), "h:8443"));
            assert_eq!((other.path(), other.target()), ("/a/b", "/a/b?page=2"));
            buf.move_to("version-3");
            assert_eq!(buf.key(), key.in_deployment("version-3"));
            let parts = (buf.deployment(), buf.host(), buf.path(), buf.target());
            assert_eq!(parts, ("version-3", "h:8443", "/a/b", "/a/b?page=2"));
        }
    }

    /// Every part of a key, put together again.
    fn rebuilt(key: &PageKey) -> PageKey {
        let mut buf = KeyBuf::default();
        buf.begin(key.deployment(), key.scheme(), key.host(), key.path());
        buf.query(key.target().split_once('?').map_or("", |(_, query)| query));
        key.variants().for_each(|(name, value)| buf.variant(name, value));
        buf.key()
    }

    fn keys() -> impl Strategy<Value = PageKey> {
        let host = "([a-z0-9.-]{1,12}|\\[::1\\])(:[0-9]{1,5})?";
        let variant = ("[a-z-]{1,9}", "([ -~\t\u{80}-\u{ff}]{0,9})");
        (
            "[ -~]{0,9}",
            prop::sample::select(vec!["http", "https"]),
            host,
            "/([!->@-~]{0,20})",
            "[!-~\u{80}-\u{ff}]{0,20}",
            prop::collection::vec(variant, 0..3),
        )
            .prop_map(|(deployment, scheme, host, path, query, variants)| {
                let mut buf = KeyBuf::default();
                buf.begin(&deployment, scheme, &host, &path);
                buf.query(&query);
                variants.iter().for_each(|(name, value)| buf.variant(name, value));
                buf.key()
            })
    }

    proptest! {
        #[test]
        fn every_key_is_parsed_back(key in keys()) {
            let parsed = PageKey::parse(key.as_str().as_bytes()).unwrap();
            prop_assert_eq!(&parsed, &key);
            prop_assert_eq!((parsed.host(), parsed.path()), (key.host(), key.path()));
            prop_assert_eq!(rebuilt(&parsed), key);
        }

        /// A damaged key is none, or another one, but never half of one.
        #[test]
        fn odd_bytes_are_no_key(key in keys(), at in any::<prop::sample::Index>(), put in any::<Option<u8>>()) {
            let mut bytes = key.as_str().as_bytes().to_vec();
            let at = at.index(bytes.len());
            match put {
                Some(byte) => bytes[at] = byte,
                None => bytes.truncate(at),
            }
            if let Some(parsed) = PageKey::parse(&bytes) {
                prop_assert_eq!(parsed.as_str().as_bytes(), &bytes[..]);
                prop_assert_eq!(rebuilt(&parsed), parsed);
            }
        }

        #[test]
        fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = PageKey::parse(&bytes);
        }
    }

    #[test]
    fn what_is_no_key() {
        for odd in [
            "",
            "\0",
            "http://h/",
            "\0http://h",
            "\0ftp://h/",
            "\0http:/h/",
            "\0http://h?/",
            "\0http://h/?",
            "\0http://h/\n",
            "\0http://h/\0",
            "\0http://h/\0a=b",
            "\0http://h/\0a\n",
            "\0http://h/\0a=b\n\n",
            "\0http://h/\0a=b\n\0",
            "\0http://h/\0a=b\r\n",
            "a\nb\0http://h/",
        ] {
            assert!(PageKey::parse(odd.as_bytes()).is_none(), "{odd:?}");
        }
        assert!(PageKey::parse(b"\0http://h/\xff").is_none());
        assert!(PageKey::parse(b"\0http://h/").is_some());
    }
}
