//! The tags of a response: the names by which a CMS purges it.

use http::HeaderMap;

use super::scan::{self, Lines};

/// Tags of a page that are kept.
pub const MAX_TAGS: usize = 128;
/// Characters of a tag that is kept.
pub const MAX_CHARS: usize = 256;

/// The tags of a response, each once, in the order in which they came: from
/// `Cache-Tag`, `x-next-cache-tags` and `Netlify-Cache-Tag` (separated by
/// commas), `Surrogate-Key` (by spaces) and `Cache-Groups` (RFC 9875).
///
/// The second value says that there were more than are kept, longer ones, or
/// ones that are no text, so that no list of tags tells what the page depends on.
#[must_use]
pub fn tags(headers: &HeaderMap) -> (Vec<Box<str>>, bool) {
    let mut found = Found::default();
    for field in ["cache-tag", "x-next-cache-tags", "netlify-cache-tag"] {
        for line in headers.lines(field) {
            line.split(|&b| b == b',').for_each(|tag| found.add(tag));
        }
    }
    for line in headers.lines("surrogate-key") {
        line.split(|&b| b == b' ' || b == b'\t').for_each(|tag| found.add(tag));
    }
    found.groups(headers);
    (found.tags, found.overflow)
}

#[derive(Default)]
struct Found {
    tags: Vec<Box<str>>,
    overflow: bool,
}

impl Found {
    /// Spaces around a tag are none of it, in any field: the webhook trims what it is
    /// called with, too, and could not name such a tag.
    fn add(&mut self, tag: &[u8]) {
        let tag = scan::trim(tag);
        if tag.is_empty() {
            return;
        }
        let Ok(tag) = std::str::from_utf8(tag) else {
            self.overflow = true;
            return;
        };
        if self.tags.iter().any(|known| **known == *tag) {
            return;
        }
        if self.tags.len() == MAX_TAGS || tag.chars().count() > MAX_CHARS {
            self.overflow = true;
            return;
        }
        self.tags.push(tag.into());
    }

    /// RFC 9875 §2: a list of strings, whose parameters are ignored. A field that
    /// cannot be parsed is as if it were not there (RFC 8941 §4.2).
    fn groups(&mut self, headers: &HeaderMap) {
        let lines: Vec<&[u8]> = headers.lines("cache-groups").collect();
        if lines.is_empty() {
            return;
        }
        let joined = lines.join(&b", "[..]);
        let Ok(list) = sfv::Parser::new(&joined).parse::<sfv::List>() else { return };
        for entry in &list {
            if let sfv::ListEntry::Item(item) = entry
                && let Some(group) = item.bare_item.as_string()
            {
                self.add(group.as_str().as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fields, map};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_field_in_its_own_syntax() {
        let rows: &[(Fields<'_>, &[&str])] = &[
            (&[], &[]),
            (&[("cache-tag", "")], &[]),
            (&[("cache-tag", "a, b c ,,d"), ("cache-tag", "a,e")], &["a", "b c", "d", "e"]),
            (&[("surrogate-key", " a b,c \t d")], &["a", "b,c", "d"]),
            (&[("x-next-cache-tags", "_N_T_/layout,_N_T_/page")], &["_N_T_/layout", "_N_T_/page"]),
            (&[("netlify-cache-tag", "x,y")], &["x", "y"]),
            // RFC 9875 §2
            (&[("cache-groups", r#""a", "b, \"c\"";x=1"#)], &["a", "b, \"c\""]),
            (&[("cache-groups", "\"a\""), ("cache-groups", "\"b\"")], &["a", "b"]),
            (&[("cache-groups", "\"a\", token, 5")], &["a"]),
            (&[("cache-groups", "\"a\", &")], &[]),
            (&[("cache-groups", "\" a \", \" \"")], &["a"]),
            (&[("cache-tag", "B"), ("surrogate-key", "b"), ("cache-groups", "\"B\"")], &["B", "b"]),
            (&[("cache-tag", "größe")], &["größe"]),
        ];
        for (fields, want) in rows {
            let (got, overflow) = tags(&map(fields));
            let got: Vec<&str> = got.iter().map(|t| &**t).collect();
            assert_eq!(got, *want, "{fields:?}");
            assert!(!overflow, "{fields:?}");
        }
    }

    #[test]
    fn what_is_not_kept_is_told() {
        let numbers = |n: usize| (0..n).map(|i| format!("t{i}")).collect::<Vec<_>>().join(",");
        let (got, overflow) = tags(&map(&[("cache-tag", &numbers(128)), ("surrogate-key", "t5")]));
        assert_eq!((got.len(), overflow), (128, false));
        let (got, overflow) = tags(&map(&[("cache-tag", &numbers(129))]));
        assert_eq!((got.len(), overflow), (128, true));

        let (got, overflow) = tags(&map(&[("cache-tag", &"ü".repeat(256))]));
        assert_eq!((got.len(), overflow), (1, false));
        let (got, overflow) = tags(&map(&[("cache-tag", &format!("a,{}", "x".repeat(257)))]));
        assert_eq!((got.len(), overflow), (1, true));

        let mut headers = HeaderMap::new();
        headers.insert("cache-tag", http::HeaderValue::from_bytes(b"a,\xff").expect("a value"));
        assert_eq!(tags(&headers), (vec!["a".into()], true));
    }

    proptest! {
        #[test]
        fn nothing_panics(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(value) = http::HeaderValue::from_bytes(&line) {
                let mut headers = HeaderMap::new();
                for field in super::super::hop::TAG_FIELDS {
                    headers.append(*field, value.clone());
                }
                let (tags, _) = tags(&headers);
                prop_assert!(tags.len() <= MAX_TAGS);
                prop_assert!(tags.iter().all(|t| !t.is_empty() && t.chars().count() <= MAX_CHARS));
            }
        }
    }
}
