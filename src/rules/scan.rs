//! The small grammar that fields share (RFC 9110 §5.6): whitespace, tokens,
//! quoted strings, lists and weights, over bytes and without allocation.

use http::{HeaderMap, HeaderValue};

/// The field lines of a message, by name. The rules on the request side take
/// anything that has them, so that nobody copies a request to ask a question.
pub trait Lines {
    /// Each field line of that name (in any case), in order.
    fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;

    /// The one line of that name; none if there is no such line, or more than one.
    fn only<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        let mut lines = self.lines(name);
        let first = lines.next()?;
        lines.next().is_none().then_some(first)
    }
}

impl Lines for [httparse::Header<'_>] {
    fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    }
}

impl Lines for HeaderMap {
    fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

/// Without optional whitespace at both ends (RFC 9110 §5.6.3).
pub(super) fn trim(mut s: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = s {
        s = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = s {
        s = rest;
    }
    s
}

/// Whether `b` may be part of a token (RFC 9110 §5.6.2).
pub(super) const fn is_token(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
        || matches!(
            b,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// What a quote means inside a list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// Quoted strings, with backslash escapes (RFC 9110 §5.6.4).
    Strings,
    /// Entity tags, which know no escapes (RFC 9110 §8.8.3).
    Tags,
}

/// The length of the quoted string that `s` begins with, both quotes included.
pub(super) fn quoted(s: &[u8], quotes: Quotes) -> Option<usize> {
    let mut at = 1;
    while let Some(&b) = s.get(at) {
        match b {
            b'"' => return Some(at + 1),
            b'\\' if quotes == Quotes::Strings => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// The members of one line of a list, split at `separator` outside quotes and
/// trimmed; empty ones are among them. A quote that nothing closes is an
/// ordinary character, so that it hides nothing that follows it.
pub(super) struct Pieces<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
    quotes: Option<Quotes>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(line: &'a [u8], separator: u8, quotes: Quotes) -> Pieces<'a> {
        Pieces { rest: Some(line), separator, quotes: Some(quotes) }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut at = 0;
        while let Some(&b) = rest.get(at) {
            if b == self.separator {
                self.rest = Some(&rest[at + 1..]);
                return Some(trim(&rest[..at]));
            }
            at += match self.quotes {
                Some(quotes) if b == b'"' => quoted(&rest[at..], quotes).unwrap_or_else(|| {
                    // Asked once a line: the scan stays linear whatever is sent.
                    self.quotes = None;
                    1
                }),
                _ => 1,
            };
        }
        self.rest = None;
        Some(trim(rest))
    }
}

/// The members of a list in one line, empty ones left out (RFC 9110 §5.6.1.2).
pub(super) fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    Pieces::new(line, b',', Quotes::Strings).filter(|m| !m.is_empty())
}

/// The entity tags of a list in one line.
pub(super) fn tag_members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    Pieces::new(line, b',', Quotes::Tags).filter(|m| !m.is_empty())
}

/// A member of a list with weights: what it names, its weight in thousandths
/// (RFC 9110 §12.4.2), and whether it had parameters besides.
pub(super) struct Weighted<'a> {
    pub(super) name: &'a [u8],
    pub(super) q: u16,
    pub(super) parameters: bool,
}

/// Parses a weighted member; none if its weight is malformed.
pub(super) fn weighted(member: &[u8]) -> Option<Weighted<'_>> {
    let mut pieces = Pieces::new(member, b';', Quotes::Strings);
    let name = pieces.next()?;
    let (mut q, mut parameters) = (1000, false);
    for piece in pieces {
        match piece {
            [b'q' | b'Q', b'=', value @ ..] => q = weight(value)?,
            [] => {}
            _ => parameters = true,
        }
    }
    Some(Weighted { name, q, parameters })
}

/// A weight in thousandths (RFC 9110 §12.4.2): 0 to 1 with at most three
/// decimals.
fn weight(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut q = u16::from(whole - b'0') * 1000;
    let mut place = 100;
    for d in decimals {
        if !d.is_ascii_digit() {
            return None;
        }
        q += u16::from(d - b'0') * place;
        place /= 10;
    }
    (q <= 1000).then_some(q)
}

/// A number of seconds (RFC 9111 §1.2.2): digits only; what is too large is
/// 2^31, as the section says.
pub(super) fn delta_seconds(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n =
        value.iter().fold(0u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')));
    Some(n.min(MAX_SECONDS))
}

/// The greatest number of seconds that is told apart (RFC 9111 §1.2.2).
pub(super) const MAX_SECONDS: u64 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_split_outside_quotes() {
        let rows: &[(&str, &[&str])] = &[
            ("", &[]),
            (" , ,", &[]),
            ("a", &["a"]),
            (" a ,\tb", &["a", "b"]),
            (r#"a="x, y", b"#, &[r#"a="x, y""#, "b"]),
            (r#"a="x\", y", b"#, &[r#"a="x\", y""#, "b"]),
            // A quote that nothing closes hides nothing.
            (r#"a="x, no-store"#, &[r#"a="x"#, "no-store"]),
            (r#"a="x\"#, &[r#"a="x\"#]),
        ];
        for (line, want) in rows {
            let got: Vec<_> = members(line.as_bytes()).collect();
            let want: Vec<_> = want.iter().map(|m| m.as_bytes()).collect();
            assert_eq!(got, want, "{line}");
        }
        // RFC 9110 §8.8.3: a backslash is an ordinary character of a tag.
        let tags: Vec<_> = tag_members(br#""a\", "b""#).collect();
        assert_eq!(tags, [&br#""a\""#[..], br#""b""#]);
    }

    #[test]
    fn weights_by_rfc_9110_12_4_2() {
        let rows = [
            ("0", Some(0)),
            ("1", Some(1000)),
            ("0.", Some(0)),
            ("1.", Some(1000)),
            ("0.5", Some(500)),
            ("0.25", Some(250)),
            ("0.001", Some(1)),
            ("1.000", Some(1000)),
            ("1.001", None),
            ("0.0001", None),
            ("2", None),
            ("", None),
            (".5", None),
            ("-1", None),
            ("0.x", None),
        ];
        for (value, want) in rows {
            assert_eq!(weight(value.as_bytes()), want, "{value}");
        }
    }

    #[test]
    fn seconds_by_rfc_9111_1_2_2() {
        let rows = [
            ("0", Some(0)),
            ("003600", Some(3600)),
            ("2147483647", Some(2_147_483_647)),
            ("2147483648", Some(MAX_SECONDS)),
            ("99999999999", Some(MAX_SECONDS)),
            ("99999999999999999999999999", Some(MAX_SECONDS)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("1a", None),
            ("1 ", None),
        ];
        for (value, want) in rows {
            assert_eq!(delta_seconds(value.as_bytes()), want, "{value}");
        }
    }

    #[test]
    fn hostile_quotes_are_split_in_linear_time() {
        // A quote and then only escaped ones: each would scan to the end.
        let mut line = vec![b'"'];
        line.extend(br#"\","#.repeat(1 << 20));
        assert_eq!(members(&line).count(), 1 << 20);
    }

    proptest! {
        #[test]
        fn nothing_panics(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            for member in members(&line).chain(tag_members(&line)) {
                let _ = weighted(member);
                let _ = delta_seconds(member);
            }
        }
    }
}
