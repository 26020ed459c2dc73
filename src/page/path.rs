//! The canonical form of a path, so that equivalent URLs are one page: for
//! requests, for purges and for the patterns of routes.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What cannot stand in a path as it is (RFC 3986 §3.3), beside what is not ASCII.
/// Browsers encode most of it (the path percent-encode set of WHATWG's URL
/// standard: space, `"`, `#`, `<`, `>`, `?`, `^`, `` ` ``, `{`, `}`), older ones
/// not `^`, and none of them `|`, `[` and `]`. They make a slash of a backslash,
/// tools send it as it is.
pub(crate) const NOT_IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Which bytes a canonical path has as they are, but for the percent sign.
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = b'!';
    while b < 0x7F {
        table[b as usize] = !matches!(
            b,
            b'"' | b'#'
                | b'%'
                | b'<'
                | b'>'
                | b'?'
                | b'['
                | b'\\'
                | b']'
                | b'^'
                | b'`'
                | b'{'
                | b'|'
                | b'}'
        );
        b += 1;
    }
    table
};

/// The canonical form of a path (RFC 3986 §6.2.2): what cannot stand in a path is
/// percent-encoded, percent-encoded unreserved characters are decoded, the
/// hexadecimal digits of the others are upper case, dot segments are removed, and
/// an empty path is `/`. Double slashes stay, and so do reserved characters as they
/// are written: `,` is not `%2C` (§2.2). A path with a malformed escape is not
/// decoded at all (what is decoded beside it might complete it): servers disagree
/// about them, and a page must never be taken for another.
#[must_use]
pub fn canonical_path(raw: &str) -> Cow<'_, str> {
    if is_canonical(raw.as_bytes()) {
        return Cow::Borrowed(raw);
    }
    let encoded: Cow<'_, str> = utf8_percent_encode(raw, NOT_IN_PATH).into();
    Cow::Owned(canonical_escapes(&encoded))
}

/// The same, where all that cannot stand in a path is encoded already, or means
/// something (in a pattern).
pub(crate) fn canonical_escapes(encoded: &str) -> String {
    let rooted = if encoded.starts_with('/') { encoded.to_owned() } else { format!("/{encoded}") };
    let mut decoded = String::with_capacity(rooted.len());
    push_normalised(&rooted, &mut decoded);
    remove_dot_segments(&decoded)
}

/// Whether there is surely nothing to be done: no byte to encode or decode, and no
/// segment that begins with a dot.
fn is_canonical(path: &[u8]) -> bool {
    let mut before = 0;
    path.first() == Some(&b'/')
        && path.iter().all(|&b| {
            let plain = PLAIN[usize::from(b)] && !(b == b'.' && before == b'/');
            before = b;
            plain
        })
}

/// Appends a text with normalised escapes (RFC 3986 §6.2.2): unreserved characters are
/// decoded, hexadecimal digits are upper case. If one is malformed the whole text is
/// appended as it is: decoding beside it could complete it.
pub(crate) fn push_normalised(raw: &str, out: &mut String) {
    let before = out.len();
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let digit = |i: usize| char::from(*rest.as_bytes().get(at + i)?).to_digit(16);
        let (Some(high), Some(low)) = (digit(1), digit(2)) else {
            out.truncate(before);
            out.push_str(raw);
            return;
        };
        let byte = (high * 16 + low) as u8;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(rest[at..at + 3].chars().map(|c| c.to_ascii_uppercase()));
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
}

/// RFC 3986 §5.2.4, for a path that begins with a slash.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical() {
        for (raw, canonical) in [
            ("/", "/"),
            ("", "/"),
            ("/a/b", "/a/b"),
            ("/a//b", "/a//b"),           // an empty segment is a segment
            ("/%61", "/a"),               // RFC 3986 §6.2.2.2
            ("/%7euser", "/~user"),       //
            ("/%2f", "/%2F"),             // §6.2.2.1: reserved stays encoded, upper case
            ("/%zz", "/%zz"),             // malformed: as it is
            ("/100%", "/100%"),           //
            ("/%%411", "/%%411"),         // decoding would make an escape of it
            ("/%E4%b8%ad", "/%E4%B8%AD"), //
            ("/a/./b", "/a/b"),           // §5.2.4
            ("/a/../b", "/b"),            //
            ("/a/..", "/"),               //
            ("/a/b/..", "/a/"),           //
            ("/a/.", "/a/"),              //
            ("/../../a", "/a"),           //
            ("/a/%2e%2e/b", "/b"),        // the encoded dot is a dot
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            // What browsers encode, as they do (WHATWG URL, path percent-encode set).
            ("/a b", "/a%20b"),
            ("/a\"b", "/a%22b"),
            ("/a<b>", "/a%3Cb%3E"),
            ("/a^b", "/a%5Eb"),
            ("/a`b", "/a%60b"),
            ("/a{b}", "/a%7Bb%7D"),
            ("/a%7bb%7d", "/a%7Bb%7D"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            // What they leave, though it cannot stand in a path (RFC 3986 §3.3).
            ("/a|b", "/a%7Cb"),
            ("/a%7cb", "/a%7Cb"),
            ("/[b]", "/%5Bb%5D"),
            ("/%5bb%5D", "/%5Bb%5D"),
            ("/a\\b", "/a%5Cb"),
            // What can stays as it is written (RFC 3986 §2.2).
            ("/!$&'()*+,;=:@-._~", "/!$&'()*+,;=:@-._~"),
            (
                "/%21%24%26%27%28%29%2a%2b%2c%3b%3d%3a%40",
                "/%21%24%26%27%28%29%2A%2B%2C%3B%3D%3A%40",
            ),
            // Beside a malformed escape, too; and it completes none.
            ("/100%{", "/100%%7B"),
            ("/%{41", "/%%7B41"),
            ("/%7{%41", "/%7%7B%41"),
            ("/a/.b", "/a/.b"),
        ] {
            assert_eq!(canonical_path(raw), canonical, "{raw}");
        }
    }

    /// How a browser sends a path that is typed or linked so (WHATWG URL: special
    /// URLs, path state), whether it knows that `^` belongs to the set or not.
    fn as_a_browser_sends(path: &str, caret: bool) -> String {
        const SET: &AsciiSet = &CONTROLS
            .add(b' ')
            .add(b'"')
            .add(b'#')
            .add(b'<')
            .add(b'>')
            .add(b'?')
            .add(b'`')
            .add(b'{')
            .add(b'}');
        const NEWER: &AsciiSet = &SET.add(b'^');
        utf8_percent_encode(path, if caret { NEWER } else { SET }).to_string()
    }

    #[test]
    fn the_table_is_the_set() {
        for b in 0..=255_u8 {
            let encoded: String = percent_encoding::percent_encode(&[b], NOT_IN_PATH).collect();
            assert_eq!(PLAIN[usize::from(b)], encoded.len() == 1 && b != b'%', "{b:#x}");
        }
    }

    proptest! {
        #[test]
        fn is_idempotent_and_rooted(raw in "(/|[a-z.%0-9A-F{}|^\\\\\u{e9}]){0,40}") {
            let once = canonical_path(&raw).into_owned();
            prop_assert!(once.starts_with('/'));
            prop_assert!(!once.split('/').any(|s| s == "." || s == ".."));
            prop_assert_eq!(canonical_path(&once).into_owned(), once.clone());
        }

        /// What is typed and what is sent is one page.
        #[test]
        fn raw_and_encoded_are_one(path in "/([a-z/.%0-9A-F \"<>^`{}|\\[\\]\\\\\u{e9}\u{4e2d}]){0,30}") {
            for caret in [false, true] {
                let sent = as_a_browser_sends(&path, caret);
                prop_assert_eq!(canonical_path(&sent), canonical_path(&path));
            }
        }

        /// Whatever reads it finds the bytes that were meant.
        #[test]
        fn says_the_same(path in "/([a-z0-9 \"<>^`{}|,;\u{e9}]|%[2-7][0-9A-Fa-f]){0,30}") {
            let decoded = |path: &str| percent_encoding::percent_decode_str(path).collect::<Vec<_>>();
            prop_assume!(!decoded(&path).windows(2).any(|pair| pair == b"/."));
            prop_assert_eq!(decoded(&canonical_path(&path)), decoded(&path));
        }
    }
}
