//! Takes secrets out of a finished line.
//!
//! On the line as written and not where it is made, because a secret has many
//! ways into a log: a query, a field, the `Debug` of a header map, the message
//! of somebody else's error. It runs on the thread that writes, and so costs
//! no request anything.
//!
//! A secret can be written in other ways than as itself: percent-encoded, once
//! or twice (a URL within a URL), with the escapes of JSON or of Rust's
//! `Debug`. So a line with such characters is looked at once more as it reads
//! decoded, and what is found there is cut out of the line as written.

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError};

/// What stands where a secret was.
const MASK: &[u8] = b"***";

/// How often a line is decoded: a URL within a URL within JSON.
const LEVELS: usize = 3;

/// Names whose value is never written, wherever they end a longer name
/// (`x-revalidate-secret`, `proxy-authorization`), and where the value ends.
const NAMES: [(&str, Value); 4] = [
    ("secret", Value::Word),
    ("authorization", Value::Line),
    ("cookie", Value::Line),
    ("bearer", Value::Token),
];

/// Where the value of a name ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// After `=` or `:`, up to white space, `&`, `#` or the end quote.
    Word,
    /// After `=` or `:`, up to the end quote or the end of the line: it may have spaces.
    Line,
    /// After white space, up to white space or the end quote.
    Token,
}

/// Takes secrets out of lines.
#[derive(Debug)]
pub struct Redactor {
    /// The secrets, then [`NAMES`].
    patterns: AhoCorasick,
    /// How many of the patterns are secrets.
    secrets: usize,
}

impl Redactor {
    /// Takes these secrets out wherever they occur, in any case, besides the
    /// values of what is named like one. Empty ones are ignored.
    ///
    /// # Errors
    /// When the secrets are too many or too long for a matcher: gigabytes.
    pub fn new<S: AsRef<str>>(secrets: &[S]) -> Result<Redactor, BuildError> {
        let mut patterns: Vec<String> = Vec::new();
        for secret in secrets.iter().map(AsRef::as_ref).filter(|s| !s.is_empty()) {
            patterns.push(secret.to_owned());
            // A decoded view has spaces where the line had `+`.
            if secret.contains('+') {
                patterns.push(secret.replace('+', " "));
            }
        }
        let secrets = patterns.len();
        patterns.extend(NAMES.iter().map(|(name, _)| (*name).to_owned()));
        let patterns = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            // The fastest kind, and the largest: for the few short patterns there are.
            .kind((secrets < 32).then_some(AhoCorasickKind::DFA))
            .build(patterns)?;
        Ok(Redactor { patterns, secrets })
    }

    /// Appends a line to `out` with `***` for each of its secrets.
    pub fn line(&self, line: &[u8], out: &mut Vec<u8>) {
        let mut found = Vec::new();
        self.search(&View { bytes: Cow::Borrowed(line), written: None }, LEVELS, &mut found);
        for range in &mut found {
            *range = whole_escapes(line, range.clone());
        }
        found.sort_unstable_by_key(|range| range.start);
        let mut at = 0;
        for range in found {
            if range.end <= at {
                continue;
            }
            if range.start >= at {
                out.extend_from_slice(line.get(at..range.start).unwrap_or_default());
                out.extend_from_slice(MASK);
            }
            at = range.end;
        }
        out.extend_from_slice(line.get(at..).unwrap_or_default());
    }

    /// Finds what is secret in a view and in what it decodes to.
    fn search(&self, view: &View<'_>, levels: usize, found: &mut Vec<Range<usize>>) {
        let bytes = &*view.bytes;
        for hit in self.patterns.find_overlapping_iter(bytes) {
            let range = match hit.pattern().as_usize().checked_sub(self.secrets) {
                None => hit.range(),
                // `revalidate.secret: it is too short`, of the configuration, is prose.
                Some(_) if bytes.get(hit.start().wrapping_sub(1)) == Some(&b'.') => continue,
                Some(name) => match NAMES.get(name).and_then(|n| value(bytes, hit.end(), n.1)) {
                    Some(range) => range,
                    None => continue,
                },
            };
            if !range.is_empty() {
                found.push(view.as_written(range));
            }
        }
        if levels > 0 {
            // One by one, not both at once: a secret may look percent-encoded
            // itself, and is then found where only the escapes are undone.
            for decoder in [percent, escape] {
                if let Some(decoded) = view.decoded(decoder) {
                    self.search(&decoded, levels - 1, found);
                }
            }
        }
    }
}

/// A line as it reads decoded, and where each byte of that was written.
struct View<'a> {
    bytes: Cow<'a, [u8]>,
    /// For each byte the position in the line where its spelling begins, and
    /// one more for the end; none: the line itself.
    written: Option<Vec<usize>>,
}

impl View<'_> {
    fn as_written(&self, range: Range<usize>) -> Range<usize> {
        match &self.written {
            None => range,
            Some(at) => {
                let position = |i: usize| at.get(i).or(at.last()).copied().unwrap_or_default();
                position(range.start)..position(range.end)
            }
        }
    }

    /// What it reads with one decoder; none: the same.
    fn decoded(&self, decode: fn(&[u8]) -> Option<(u8, usize)>) -> Option<View<'static>> {
        let all = &*self.bytes;
        // Most lines end here.
        let first = (0..all.len()).find(|&i| all.get(i..).and_then(decode).is_some())?;
        let mut bytes = all.get(..first).unwrap_or_default().to_vec();
        let mut at: Vec<usize> = (0..first).collect();
        let mut i = first;
        while let Some(rest) = all.get(i..).filter(|rest| !rest.is_empty()) {
            let (byte, len) =
                decode(rest).unwrap_or((rest.first().copied().unwrap_or_default(), 1));
            bytes.push(byte);
            at.push(i);
            i += len;
        }
        at.push(all.len());
        for position in &mut at {
            *position = self.as_written(*position..*position).start;
        }
        Some(View { bytes: Cow::Owned(bytes), written: Some(at) })
    }
}

/// `%41`, and `+` for a space.
fn percent(text: &[u8]) -> Option<(u8, usize)> {
    match *text {
        [b'+', ..] => Some((b' ', 1)),
        [b'%', high, low, ..] => Some((hex(high)? << 4 | hex(low)?, 3)),
        _ => None,
    }
}

/// The escapes of JSON and of `Debug` that stand for a character of ASCII.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    match *text {
        [b'\\', c @ (b'"' | b'\'' | b'\\' | b'/'), ..] => Some((c, 2)),
        [b'\\', b'n' | b'r' | b't', ..] => Some((b' ', 2)),
        [b'\\', b'u', b'0', b'0', high, low, ..] => Some((hex(high)? << 4 | hex(low)?, 6)),
        _ => None,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// The value after a name that ends at `after`; none: it is not followed by one.
fn value(text: &[u8], after: usize, kind: Value) -> Option<Range<usize>> {
    let mut at = after;
    if kind == Value::Token {
        at = blank(text, at);
        if at == after {
            return None;
        }
    } else {
        (at, _) = quote(text, at);
        at = blank(text, at);
        if !matches!(text.get(at)?, b'=' | b':') {
            return None;
        }
        at = blank(text, at + 1);
    }
    let (start, depth) = quote(text, at);
    let mut backslashes = 0;
    let mut end = start;
    while let Some(&byte) = text.get(end) {
        match byte {
            // A quote within the value has more backslashes than the one that began it.
            b'"' if backslashes % 2 == 0 || backslashes <= depth => break,
            b'\n' | b'\r' => break,
            b'&' | b'#' if kind == Value::Word => break,
            _ if byte.is_ascii_whitespace() && kind != Value::Line => break,
            _ => {}
        }
        backslashes = if byte == b'\\' { backslashes + 1 } else { 0 };
        end += 1;
    }
    if text.get(end) == Some(&b'"') {
        end -= backslashes;
    }
    Some(start..end.max(start))
}

/// Behind an opening or closing quote with its backslashes, and how many these were.
fn quote(text: &[u8], at: usize) -> (usize, usize) {
    let rest = text.get(at..).unwrap_or_default();
    let depth = rest.iter().take_while(|&&b| b == b'\\').count();
    if rest.get(depth) == Some(&b'"') { (at + depth + 1, depth) } else { (at, 0) }
}

/// Behind blanks and the colours of a terminal.
fn blank(text: &[u8], mut at: usize) -> usize {
    loop {
        match text.get(at..) {
            Some([b' ' | b'\t', ..]) => at += 1,
            Some([0x1b, b'[', rest @ ..]) => match rest.iter().position(|&b| b == b'm') {
                Some(end) if end < 8 => at += end + 3,
                _ => return at,
            },
            _ => return at,
        }
    }
}

/// A range that begins or ends within `\"` takes all of it, so that JSON stays JSON.
fn whole_escapes(line: &[u8], range: Range<usize>) -> Range<usize> {
    let run = |to: usize| {
        let before = line.get(..to).unwrap_or_default();
        before.iter().rev().take_while(|&&b| b == b'\\').count()
    };
    let start = range.start - run(range.start) % 2;
    let end = (range.end + run(range.end) % 2).min(line.len());
    start..end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redact(secrets: &[&str], line: &str) -> String {
        let mut out = Vec::new();
        Redactor::new(secrets).unwrap().line(line.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_named_like_a_secret_is_masked() {
        for (line, expected) in [
            ("GET /__revalidate?secret=hunter2&path=/a", "GET /__revalidate?secret=***&path=/a"),
            ("GET /x?path=/a&secret=hunter2 200", "GET /x?path=/a&secret=*** 200"),
            ("GET /x?SECRET=hunter2", "GET /x?SECRET=***"),
            ("GET /x?%73ecret=hunter2", "GET /x?%73ecret=***"),
            ("/login?next=%2Fr%3Fsecret%3Dab%26x", "/login?next=%2Fr%3Fsecret%3D***%26x"),
            ("/a?n=%252Fr%253Fsecret%253Dab", "/a?n=%252Fr%253Fsecret%253D***"),
            ("x-revalidate-secret: hunter2", "x-revalidate-secret: ***"),
            (r#"{"secret":"hun\"ter2","b":1}"#, r#"{"secret":"***","b":1}"#),
            (
                r#"{"m":"{\"secret\": \"a\\\"b\", \"c\": 1}"}"#,
                r#"{"m":"{\"secret\": \"***\", \"c\": 1}"}"#,
            ),
            (r#"uri="/x?secret=ab" status=200"#, r#"uri="/x?secret=***" status=200"#),
            ("authorization: Bearer a b", "authorization: ***"),
            (
                r#"{"authorization": "Bearer ab", "host": "x"}"#,
                r#"{"authorization": "***", "host": "x"}"#,
            ),
            (
                r#"{"m":"{\"authorization\": \"Basic ab\", \"host\": \"x\"}"}"#,
                r#"{"m":"{\"authorization\": \"***\", \"host\": \"x\"}"}"#,
            ),
            ("sent Bearer abc to it", "sent Bearer *** to it"),
            ("Cookie: a=b; c=d", "Cookie: ***"),
            (
                "\u{1b}[3msecret\u{1b}[0m\u{1b}[2m=\u{1b}[0mhunter2 x",
                "\u{1b}[3msecret\u{1b}[0m\u{1b}[2m=\u{1b}[0m*** x",
            ),
            // Words that are no names.
            ("reason=authorization age=3", "reason=authorization age=3"),
            (r#"{"reason":"set-cookie","age":1}"#, r#"{"reason":"set-cookie","age":1}"#),
            ("the secret of /blog/hello", "the secret of /blog/hello"),
            ("a.yaml:4: revalidate.secret: too short", "a.yaml:4: revalidate.secret: too short"),
            ("/blog/100%25+sure", "/blog/100%25+sure"),
        ] {
            assert_eq!(redact(&[], line), expected, "{line}");
        }
    }

    #[test]
    fn a_configured_secret_is_masked_in_every_spelling() {
        let secret = r#"s3 "c\r/+%41"#;
        for spelling in [
            r#"s3 "c\r/+%41"#,
            r#"S3 "C\R/+%41"#,
            "s3+%22c%5Cr/%2B%2541",
            "%73%33%20%22c%5cr%2f%2b%25%34%31",
            "s3%2520%2522c%255Cr%252F%252B%252541",
            r#"s3 \"c\\r/+%41"#,
            r#"s3 \\\"c\\\\r/+%41"#,
            r#"s3+\"c\\r/+%2541"#,
        ] {
            assert_eq!(redact(&[secret], &format!("a {spelling} z")), "a *** z", "{spelling}");
        }
    }

    #[test]
    fn two_secrets_that_overlap_leave_nothing() {
        assert_eq!(redact(&["abcd", "cdef"], "x abcdef y"), "x *** y");
        assert_eq!(redact(&["", "ab"], "secret=xabx"), "secret=***");
    }

    /// As a client or a library may write it: each character as it is or encoded.
    fn encoded(secret: &str, how: &[bool]) -> String {
        let mut how = how.iter().cycle();
        let mut out = String::new();
        for byte in secret.bytes() {
            if *how.next().unwrap() || !byte.is_ascii() || byte == b'%' || byte == b'+' {
                out.push_str(&format!("%{byte:02x}"));
            } else {
                out.push(char::from(byte));
            }
        }
        out
    }

    proptest! {
        #[test]
        fn the_secret_never_appears(
            secret in "[ -)+-~é]{1,24}",
            before in "[ -~]{0,40}",
            after in "[ -~]{0,40}",
        ) {
            let line = format!("{before}{secret}{after}");
            prop_assert!(!redact(&[&secret], &line).contains(&secret));
        }

        #[test]
        fn nor_does_it_in_json_which_stays_json(
            secret in "[ -)+-~é]{4,24}",
            before in "[ -~]{0,40}",
            after in "[ -~]{0,40}",
        ) {
            let line = serde_json::json!({ "_": format!("{before}{secret}{after}") }).to_string();
            let line = redact(&[&secret], &line);
            let read: Result<serde_json::Value, _> = serde_json::from_str(&line);
            // A secret with a quote can reach into the frame of the line.
            if !secret.contains('"') {
                let read = read.map_err(|e| TestCaseError::fail(format!("{e}: {line}")))?;
                let text = read["_"].as_str().unwrap_or_default();
                prop_assert!(!text.contains(&secret), "{}", line);
            }
            prop_assert!(!line.contains(&secret), "{}", line);
        }

        #[test]
        fn nor_does_it_encoded(
            secret in "[ -)+-~é]{4,24}",
            how in proptest::collection::vec(any::<bool>(), 1..24),
            before in "[ -$&-~]{0,40}",
            after in "[ -$&-~]{0,40}",
        ) {
            let line = format!("{before}{}{after}", encoded(&secret, &how));
            let line = redact(&[&secret], &line);
            let decoded = percent_encoding::percent_decode_str(&line).decode_utf8_lossy();
            prop_assert!(!decoded.contains(&secret), "{}", line);
        }

        #[test]
        fn any_bytes_are_survived(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            Redactor::new(&["s3cret", "\\\"%"]).unwrap().line(&line, &mut out);
        }
    }
}
