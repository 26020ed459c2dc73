//! The canonical form of a path, so that equivalent URLs are one page.

use std::borrow::Cow;

/// The canonical form of a path (RFC 3986 §6.2.2): percent-encoded unreserved
/// characters are decoded, the hexadecimal digits of the others are upper case,
/// dot segments are removed, and an empty path is `/`. Double slashes stay, and
/// a path with a malformed escape is not decoded at all (what is decoded beside
/// it might complete it): servers disagree about them, and a page must never be
/// taken for another.
#[must_use]
pub fn canonical_path(raw: &str) -> Cow<'_, str> {
    let bytes = raw.as_bytes();
    if bytes.first() == Some(&b'/')
        && memchr::memchr(b'%', bytes).is_none()
        && memchr::memmem::find(bytes, b"/.").is_none()
    {
        return Cow::Borrowed(raw);
    }
    let rooted = if bytes.first() == Some(&b'/') { raw.to_owned() } else { format!("/{raw}") };
    let decoded = decode_unreserved(&rooted).unwrap_or(rooted);
    Cow::Owned(remove_dot_segments(&decoded))
}

/// None if an escape is malformed.
fn decode_unreserved(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let digit = |i: usize| char::from(*rest.as_bytes().get(at + i)?).to_digit(16);
        let byte = (digit(1)? * 16 + digit(2)?) as u8;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&rest[at..at + 3].to_ascii_uppercase());
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Some(out)
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
            ("/a/.b", "/a/.b"),
        ] {
            assert_eq!(canonical_path(raw), canonical, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn is_idempotent_and_rooted(raw in "(/|[a-z.%0-9A-F]){0,40}") {
            let once = canonical_path(&raw).into_owned();
            prop_assert!(once.starts_with('/'));
            prop_assert!(!once.split('/').any(|s| s == "." || s == ".."));
            prop_assert_eq!(canonical_path(&once).into_owned(), once.clone());
        }
    }
}
