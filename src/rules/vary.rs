//! `Vary` (RFC 9110 §12.5.5): which request fields chose a response, and
//! whether another request has the same in them (RFC 9111 §4.1).

use http::header::VARY;
use http::{HeaderMap, HeaderName};

use super::scan::{self, Lines, Pieces, Quotes, trim};

/// More names than this are as good as `*`: every variant keeps its own values.
const MAX_NAMES: usize = 32;

/// What a response varies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// On nothing.
    None,
    /// On what no request field says, or on what cannot be read.
    Star,
    /// On these fields, sorted, each once.
    Names(Vec<HeaderName>),
}

/// Parses a response's `Vary`.
#[must_use]
pub fn parse(headers: &HeaderMap) -> Vary {
    let mut names = Vec::new();
    for line in headers.lines(VARY.as_str()) {
        for member in scan::members(line) {
            match HeaderName::from_bytes(member) {
                Ok(name) if name != "*" => names.push(name),
                _ => return Vary::Star,
            }
        }
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    match names.len() {
        0 => Vary::None,
        1..=MAX_NAMES => Vary::Names(names),
        _ => Vary::Star,
    }
}

/// Whether `*` is among what a response varies on, whatever else is there.
#[must_use]
pub fn has_star(headers: &HeaderMap) -> bool {
    headers.lines(VARY.as_str()).any(|line| scan::members(line).any(|member| member == b"*"))
}

/// The normalised value of a request field; none if the request has no such
/// field. Two values with one normal form mean the same (RFC 9111 §4.1).
#[must_use]
pub fn value<L: Lines + ?Sized>(name: &str, request: &L) -> Option<Box<[u8]>> {
    let mut out = Vec::new();
    normalise(name, request.lines(name), &mut out).then(|| out.into())
}

/// Whether a request has, in the fields that chose a stored response, what the
/// request for that one had (RFC 9111 §4.1). `stored` is names and normalised
/// values, none where that request had no such field.
///
/// Allocates only where a value is not literally the stored one.
#[must_use]
pub fn matches<'s, L: Lines + ?Sized>(
    stored: impl IntoIterator<Item = (&'s str, Option<&'s [u8]>)>,
    request: &L,
) -> bool {
    stored.into_iter().all(|(name, want)| {
        let mut lines = request.lines(name);
        let (Some(first), Some(want)) = (lines.next(), want) else {
            return request.lines(name).next().is_none() && want.is_none();
        };
        // Normalising what is normal changes nothing, so literal equality is enough.
        if first == want && lines.next().is_none() {
            return true;
        }
        let mut out = Vec::with_capacity(want.len());
        normalise(name, request.lines(name), &mut out) && out == want
    })
}

/// Appends the normal form of a field's lines; false if there are none.
///
/// Lines are joined (RFC 9110 §5.3), whitespace around list separators is one
/// space after them. `Accept-Language` and `Accept-Encoding` are lower case,
/// sorted by weight, and their weights are written in one way.
pub fn normalise<'a>(name: &str, lines: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) -> bool {
    let lines: Vec<&[u8]> = lines.map(trim).collect();
    if name.eq_ignore_ascii_case("cookie") {
        // One list of its own kind (RFC 9113 §8.2.3).
        let filled: Vec<&[u8]> = lines.iter().copied().filter(|l| !l.is_empty()).collect();
        out.extend_from_slice(&filled.join(&b"; "[..]));
        return !lines.is_empty();
    }
    let joined;
    let line: &[u8] = match lines[..] {
        [] => return false,
        [line] => line,
        _ => {
            joined = lines.join(&b", "[..]);
            &joined
        }
    };
    let weighted = if name.eq_ignore_ascii_case("accept-language") {
        ranked(line, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'*'))
    } else if name.eq_ignore_ascii_case("accept-encoding") {
        ranked(line, scan::is_token)
    } else {
        None
    };
    match weighted {
        Some(mut ranks) => {
            // By weight, then by name: the order in which equals are listed
            // means nothing (RFC 9110 §12.4.2, §12.5.4).
            ranks.sort_by(|a, b| b.q.cmp(&a.q).then_with(|| a.name.cmp(&b.name)));
            ranks.dedup();
            for (i, rank) in ranks.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                rank.write(out);
            }
        }
        None => {
            for (i, piece) in Pieces::new(line, b',', Quotes::Strings).enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                out.extend_from_slice(piece);
            }
        }
    }
    true
}

/// A member of a weighted list, in lower case.
#[derive(PartialEq)]
struct Rank {
    name: Vec<u8>,
    q: u16,
}

impl Rank {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.name);
        if self.q < 1000 {
            out.extend_from_slice(b";q=0");
            let digits = [self.q / 100, self.q / 10 % 10, self.q % 10];
            let used = digits.iter().rposition(|&d| d != 0).map_or(0, |last| last + 1);
            if used > 0 {
                out.push(b'.');
            }
            out.extend(digits[..used].iter().map(|&d| b'0' + d as u8));
        }
    }
}

/// The members of a weighted list; none if one of them is not as the grammar
/// says, so that the field is compared as it is.
fn ranked(line: &[u8], allowed: impl Fn(u8) -> bool) -> Option<Vec<Rank>> {
    let mut ranks = Vec::new();
    for member in scan::members(line) {
        let weighted = scan::weighted(member)?;
        if weighted.parameters
            || weighted.name.is_empty()
            || !weighted.name.iter().all(|&b| allowed(b))
        {
            return None;
        }
        let mut name = weighted.name.to_ascii_lowercase();
        // RFC 9110 §8.4.1.3
        if name == b"x-gzip" {
            name = b"gzip".to_vec();
        }
        ranks.push(Rank { name, q: weighted.q });
    }
    Some(ranks)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fields, map};
    use super::*;
    use proptest::prelude::*;

    fn names(list: &[&str]) -> Vary {
        Vary::Names(list.iter().map(|n| n.parse().expect("a name")).collect())
    }

    #[test]
    fn parses() {
        let rows: &[(&[&str], Vary)] = &[
            // RFC 9110 §12.5.5
            (&[], Vary::None),
            (&[""], Vary::None),
            (&[" , "], Vary::None),
            (&["Foo"], names(&["foo"])),
            (&["Foo, bar", "baz,FOO"], names(&["bar", "baz", "foo"])),
            (&["*"], Vary::Star),
            (&["*, *"], Vary::Star),
            (&["*", "*"], Vary::Star),
            (&[", *"], Vary::Star),
            (&["", "*"], Vary::Star),
            (&["*, Foo"], Vary::Star),
            (&["Foo, *"], Vary::Star),
            (&["Foo", "*"], Vary::Star),
            // what cannot be read cannot be matched
            (&["Accept Encoding"], Vary::Star),
            (&["Foo; Bar"], Vary::Star),
            (&["\"Foo\""], Vary::Star),
        ];
        for (lines, want) in rows {
            let headers = map(&lines.iter().map(|l| ("vary", *l)).collect::<Vec<_>>());
            assert_eq!(parse(&headers), *want, "{lines:?}");
            let star = lines.iter().any(|l| l.contains('*'));
            assert_eq!(has_star(&headers), star, "{lines:?}");
        }
        let many: Vec<String> = (0..33).map(|i| format!("x-{i}")).collect();
        assert_eq!(parse(&map(&[("vary", &many.join(","))])), Vary::Star);
    }

    #[test]
    fn same_meaning_same_normal_form() {
        let rows: &[(&str, &[&str], Option<&str>)] = &[
            ("foo", &[], None),
            ("foo", &[""], Some("")),
            ("foo", &["1"], Some("1")),
            // RFC 9111 §4.1, RFC 9110 §5.3
            ("foo", &["1, 2"], Some("1, 2")),
            ("foo", &["1", "2"], Some("1, 2")),
            ("foo", &["1,2"], Some("1, 2")),
            ("foo", &[" 1\t,  2 "], Some("1, 2")),
            ("foo", &["a  b"], Some("a  b")),
            ("foo", &["\"a,b\" ,c"], Some("\"a,b\", c")),
            ("foo", &["A"], Some("A")),
            ("cookie", &["a=b; c=d"], Some("a=b; c=d")),
            ("cookie", &["a=b", " c=d"], Some("a=b; c=d")),
            ("cookie", &["a=1,2"], Some("a=1,2")),
            ("cookie", &["", "a=b"], Some("a=b")),
            ("foo", &["\"a ,b", "c\""], Some("\"a ,b, c\"")),
            // RFC 9110 §12.5.4
            ("accept-language", &["en, de"], Some("de, en")),
            ("accept-language", &["de, en"], Some("de, en")),
            ("accept-language", &["eN, De"], Some("de, en")),
            ("accept-language", &[" en ,   de"], Some("de, en")),
            ("accept-language", &["en", "de"], Some("de, en")),
            ("Accept-Language", &["en;q=0.5,de"], Some("de, en;q=0.5")),
            ("accept-language", &["en; q=0.500, de;q=1.0"], Some("de, en;q=0.5")),
            ("accept-language", &["*;q=0, de"], Some("de, *;q=0")),
            ("accept-language", &["de;q=0.05;"], Some("de;q=0.05")),
            ("accept-language", &["de, de"], Some("de")),
            ("accept-language", &["de-CH,fr;q=0.123"], Some("de-ch, fr;q=0.123")),
            ("accept-language", &[""], Some("")),
            // not by the grammar: as it is
            ("accept-language", &["en_US,De"], Some("en_US, De")),
            ("accept-language", &["en;q=2"], Some("en;q=2")),
            ("accept-language", &["en;level=1"], Some("en;level=1")),
            // RFC 9110 §12.5.3
            ("accept-encoding", &["GZip, br;q=1.0"], Some("br, gzip")),
            ("accept-encoding", &["x-gzip"], Some("gzip")),
            ("accept-encoding", &["gzip;q=0, *"], Some("*, gzip;q=0")),
        ];
        for (name, lines, want) in rows {
            let request = map(&lines.iter().map(|l| (*name, *l)).collect::<Vec<_>>());
            let got = value(name, &request);
            assert_eq!(got.as_deref(), want.map(str::as_bytes), "{name}: {lines:?}");
        }
    }

    #[test]
    fn requests_match_by_rfc_9111_4_1() {
        let rows: &[(Fields<'_>, Fields<'_>, bool)] = &[
            // of the stored request, of the new one, which vary on all three
            (&[("foo", "1")], &[("foo", "1")], true),
            (&[("foo", "1")], &[("Foo", "1"), ("other", "3")], true),
            (&[("foo", "1")], &[("foo", "2")], false),
            (&[], &[("foo", "1")], false),
            (&[("foo", "1")], &[], false),
            (&[("foo", "")], &[], false),
            (&[], &[("foo", "")], false),
            (&[("foo", "1"), ("bar", "a")], &[("bar", "a"), ("foo", "1")], true),
            (&[("foo", "1"), ("bar", "a")], &[("foo", "1"), ("bar", "ab")], false),
            (&[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true),
            (&[("foo", "1,2")], &[("foo", " 1, 2 ")], true),
            (&[("foo", "1")], &[("foo", "1"), ("foo", "1")], false),
            (&[("accept-language", "en, de")], &[("accept-language", "De,en;q=1")], true),
        ];
        const VARY: [&str; 3] = ["accept-language", "bar", "foo"];
        for (stored, new, want) in rows {
            let stored_request = map(stored);
            let values: Vec<_> = VARY.iter().map(|n| (*n, value(n, &stored_request))).collect();
            let stored_values = || values.iter().map(|(n, v)| (*n, v.as_deref()));
            assert_eq!(matches(stored_values(), &map(new)), *want, "{stored:?} {new:?}");
            let raw: Vec<_> = new
                .iter()
                .map(|(name, value)| httparse::Header { name, value: value.as_bytes() })
                .collect();
            assert_eq!(matches(stored_values(), &raw[..]), *want, "{stored:?} {new:?}");
        }
    }

    proptest! {
        #[test]
        fn normalising_again_changes_nothing(
            name in "(foo|cookie|accept-language|accept-encoding)",
            lines in proptest::collection::vec(
                "[ \t,;\"\\\\a-cQq=.01*-]{0,24}|(en|DE|x-gzip|gzip)(; ?[qQ]=[01](\\.[0-9]{0,3})?)?", 1..4,
            ),
        ) {
            let mut once = Vec::new();
            normalise(&name, lines.iter().map(|l| l.as_bytes()), &mut once);
            let mut twice = Vec::new();
            normalise(&name, [&once[..]].into_iter(), &mut twice);
            prop_assert_eq!(once, twice);
        }

        #[test]
        fn nothing_panics(lines in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..40), 0..3,
        )) {
            for name in ["foo", "cookie", "accept-language", "accept-encoding"] {
                normalise(name, lines.iter().map(Vec::as_slice), &mut Vec::new());
            }
        }
    }
}
