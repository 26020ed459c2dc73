//! Conditional requests and ranges against a stored response (RFC 9110 §13,
//! §14), and what a 304 from the origin does to one (RFC 9111 §4.3.4).
//!
//! What requests ask for is decided without allocating, but for several ranges.

use std::ops::Range;

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED,
    SET_COOKIE,
};
use http::{HeaderMap, HeaderName, StatusCode};

use super::scan::{self, Lines, trim};
use super::{Time, date, hop, media};

/// More ranges than this in one request are not worth it: the whole is sent
/// (RFC 9110 §14.2, §17.15).
const MAX_RANGES: usize = 16;
/// As are more overlaps than this (RFC 9110 §14.2).
const MAX_OVERLAPS: usize = 2;

/// The stored response that a request selects.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its entity tag, quotes and weakness mark included.
    pub etag: Option<&'a [u8]>,
    /// Its `Last-Modified`.
    pub last_modified: Option<Time>,
    /// Its `Date`, or when it was received: stands in for `Last-Modified`
    /// (RFC 9111 §4.3.2).
    pub date: Option<Time>,
}

/// What the preconditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Answer as if there were none.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the preconditions of a GET or HEAD request in the order of
/// RFC 9110 §13.2.2. `Range` and `If-Range` come after, see [`ranges`].
///
/// A cache need not evaluate `If-Match` and `If-Unmodified-Since` (§13.1.1,
/// RFC 9111 §4.3.2). Here it does, because it answers in the origin's place.
#[must_use]
pub fn evaluate<L: Lines + ?Sized>(
    request: &L,
    selected: &Selected<'_>,
    now: Time,
) -> Precondition {
    // §13.2.1: only where the answer would be a success.
    if !selected.status.is_success() {
        return Precondition::Proceed;
    }
    let date = |name| request.only(name).and_then(|value| date::parse(value, now));
    if request.lines("if-match").next().is_some() {
        if !lists(request, "if-match", selected.etag, strongly_equal) {
            return Precondition::Failed;
        }
    } else if let (Some(since), Some(modified)) =
        (date("if-unmodified-since"), selected.last_modified)
        && modified.secs() > since.secs()
    {
        return Precondition::Failed;
    }
    if request.lines("if-none-match").next().is_some() {
        if lists(request, "if-none-match", selected.etag, weakly_equal) {
            return Precondition::NotModified;
        }
    } else if let (Some(since), Some(modified)) =
        (date("if-modified-since"), selected.last_modified.or(selected.date))
        && modified.secs() <= since.secs()
    {
        return Precondition::NotModified;
    }
    Precondition::Proceed
}

/// Whether the field lists the tag, or is `*` (§13.1.1, §13.1.2).
fn lists<L: Lines + ?Sized>(
    request: &L,
    name: &str,
    etag: Option<&[u8]>,
    equal: fn(&[u8], &[u8]) -> bool,
) -> bool {
    request.lines(name).any(|line| {
        trim(line) == b"*"
            || etag.is_some_and(|etag| scan::tag_members(line).any(|tag| equal(tag, etag)))
    })
}

/// Weak comparison (RFC 9110 §8.8.3.2). Tags that are not as the grammar says
/// are equal when their bytes are.
#[must_use]
pub fn weakly_equal(a: &[u8], b: &[u8]) -> bool {
    opaque(a) == opaque(b)
}

/// Strong comparison (RFC 9110 §8.8.3.2).
#[must_use]
pub fn strongly_equal(a: &[u8], b: &[u8]) -> bool {
    a == b && is_strong(a)
}

/// Whether a tag is strong: in quotes, and without a mark before them.
#[must_use]
pub fn is_strong(tag: &[u8]) -> bool {
    matches!(tag, [b'"', .., b'"'])
}

fn opaque(tag: &[u8]) -> &[u8] {
    match tag {
        [b'W', b'/', rest @ ..] if rest.starts_with(b"\"") => rest,
        _ => tag,
    }
}

/// What of a body is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// All of it, as if no range had been asked for.
    Whole,
    /// One part: 206 with `Content-Range`. Never empty.
    One(Range<u64>),
    /// Several parts, in the order asked for: 206 as `multipart/byteranges`.
    Many(Vec<Range<u64>>),
    /// 416 with `Content-Range: bytes */LENGTH`.
    Unsatisfiable,
}

/// The ranges that a GET request asks for (RFC 9110 §14.2), if `If-Range`
/// (§13.1.5) lets it. For use after [`evaluate`] said to proceed.
#[must_use]
pub fn requested<L: Lines + ?Sized>(
    request: &L,
    selected: &Selected<'_>,
    len: u64,
    now: Time,
) -> Ranges {
    let Some(range) = request.only("range") else { return Ranges::Whole };
    let mut condition = request.lines("if-range");
    match (condition.next(), condition.next()) {
        (None, _) => ranges(range, None, selected, len, now),
        (if_range @ Some(_), None) => ranges(range, if_range, selected, len, now),
        (Some(_), Some(_)) => Ranges::Whole,
    }
}

/// As [`requested`], over the values of `Range` and `If-Range`. `len` is the
/// length of the selected body in bytes.
#[must_use]
pub fn ranges(
    range: &[u8],
    if_range: Option<&[u8]>,
    selected: &Selected<'_>,
    len: u64,
    now: Time,
) -> Ranges {
    let applies = selected.status == StatusCode::OK
        && if_range.is_none_or(|value| unchanged(value, selected, now));
    if !applies {
        return Ranges::Whole;
    }
    parse_ranges(range, len).unwrap_or(Ranges::Whole)
}

/// Whether `If-Range` holds (§13.1.5): by strong comparison of tags, or by the
/// exact `Last-Modified` where that is strong (§8.8.2.2).
fn unchanged(if_range: &[u8], selected: &Selected<'_>, now: Time) -> bool {
    let value = trim(if_range);
    if value.contains(&b'"') {
        return selected.etag.is_some_and(|etag| strongly_equal(value, etag));
    }
    match (date::parse(value, now), selected.last_modified, selected.date) {
        (Some(value), Some(modified), Some(date)) => {
            value.secs() == modified.secs() && date.secs() > modified.secs()
        }
        _ => false,
    }
}

/// The satisfiable ranges; none where the field is invalid or asks too much,
/// so that it is ignored (§14.2).
fn parse_ranges(value: &[u8], len: u64) -> Option<Ranges> {
    let value = trim(value);
    let (unit, set) = value.split_at(value.iter().position(|&b| b == b'=')?);
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut found: [Range<u64>; MAX_RANGES] = std::array::from_fn(|_| 0..0);
    let (mut asked, mut satisfiable) = (0, 0);
    for spec in set[1..].split(|&b| b == b',').map(trim).filter(|s| !s.is_empty()) {
        asked += 1;
        if asked > MAX_RANGES {
            return None;
        }
        let dash = spec.iter().position(|&b| b == b'-')?;
        let range = match (&spec[..dash], &spec[dash + 1..]) {
            // §14.1.2: the last so many bytes
            ([], suffix) => len.saturating_sub(number(suffix)?)..len,
            (first, []) => number(first)?..len,
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first {
                    return None;
                }
                first..last.saturating_add(1).min(len)
            }
        };
        if !range.is_empty() {
            found[satisfiable] = range;
            satisfiable += 1;
        } else if len == 0 && dash == 0 && spec[1..].iter().any(|&b| b != b'0') {
            // The last bytes of nothing are all of it, which no 206 can say.
            return None;
        }
    }
    match &found[..satisfiable] {
        [] if asked == 0 => None,
        [] => Some(Ranges::Unsatisfiable),
        [one] => Some(Ranges::One(one.clone())),
        many => {
            let overlap = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
            let overlaps: usize = many
                .iter()
                .enumerate()
                .map(|(i, a)| many[..i].iter().filter(|b| overlap(a, b)).count())
                .sum();
            let total = many.iter().fold(0u64, |n, r| n.saturating_add(r.end - r.start));
            // More bytes than the whole is no saving for anyone.
            (overlaps <= MAX_OVERLAPS && total <= len).then(|| Ranges::Many(many.to_vec()))
        }
    }
}

/// A position; what is too large is past any end.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        digits.iter().fold(0, |n: u64, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0'))),
    )
}

/// Whether a 304 speaks of the stored response whose validators were sent
/// (RFC 9111 §4.3.4). Where it does not, the page is to be asked for again
/// without conditions.
///
/// Tags are compared weakly, because servers that compress on the fly weaken
/// the tag of a 200 and not that of a 304; [`merge_304`] sees to it that a weak
/// tag never turns strong. A 304 without any validator is taken to mean the one
/// that was asked about, as every cache does.
#[must_use]
pub fn selects(stored: &HeaderMap, update: &HeaderMap) -> bool {
    let pair = |name: &HeaderName| (stored.get(name), update.get(name));
    // A tag that only one of them has cannot be compared; the date may.
    if let (Some(ours), Some(theirs)) = pair(&ETAG) {
        return weakly_equal(ours.as_bytes(), theirs.as_bytes());
    }
    match pair(&LAST_MODIFIED) {
        (Some(ours), Some(theirs)) => same_date(ours.as_bytes(), theirs.as_bytes()),
        (None, Some(_)) => false,
        (_, None) => !update.contains_key(ETAG),
    }
}

/// Whether two dates are one, however they are written.
fn same_date(a: &[u8], b: &[u8]) -> bool {
    // Any year will do to choose the century of both by.
    let at = Time::default();
    trim(a) == trim(b) || date::parse(a, at).is_some_and(|a| date::parse(b, at) == Some(a))
}

/// The fields of a stored response after a 304 (RFC 9111 §3.2, §4.3.4): each
/// field of the 304 replaces the stored one, except
///
/// - hop-by-hop fields, and those that the 304's `Connection` names (§3.1),
/// - `Content-Length`, `Content-Encoding` and `Content-Range`, which describe
///   the stored bytes, and `Content-Type` where it names another type than the
///   stored one (§3.2 allows to keep what the stored form depends on; a changed
///   parameter is taken over),
/// - `Set-Cookie`, which belongs to whoever asked,
/// - a tag that would make a weak one strong.
///
/// `Age`, `Date` and the fields that `of_one` names speak of one response and not of what
/// it carries: those of the stored one go even where the 304 has none.
#[must_use]
pub fn merge_304(stored: &HeaderMap, update: &HeaderMap, of_one: &[&str]) -> HeaderMap {
    let mut merged = stored.clone();
    for name in [AGE.as_str(), DATE.as_str()].iter().chain(of_one) {
        merged.remove(*name);
    }
    for name in update.keys() {
        if keeps(name, stored, update) {
            continue;
        }
        merged.remove(name);
        for value in update.get_all(name) {
            merged.append(name, value.clone());
        }
    }
    merged
}

/// Whether the stored field stays as it is.
fn keeps(name: &HeaderName, stored: &HeaderMap, update: &HeaderMap) -> bool {
    let described = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, SET_COOKIE];
    if described.contains(name)
        || name == "set-cookie2"
        || hop::is_hop_by_hop(name.as_str())
        || hop::is_nominated(update, name.as_str())
    {
        return true;
    }
    if name == CONTENT_TYPE {
        return media::essence(stored).is_some_and(|ours| {
            !media::essence(update).is_some_and(|theirs| ours.eq_ignore_ascii_case(theirs))
        });
    }
    if name == ETAG {
        let tags = (stored.get(ETAG), update.get(ETAG));
        return matches!(tags, (Some(ours), Some(theirs))
            if !is_strong(ours.as_bytes()) && weakly_equal(ours.as_bytes(), theirs.as_bytes()));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fields, map};
    use super::*;
    use proptest::prelude::*;

    /// Sun, 01 Mar 2026 00:00:00 GMT
    const NOW: Time = Time(1_772_323_200_000);
    const MODIFIED: Time = Time(NOW.0 - 3_000_000);

    fn selected(etag: Option<&str>) -> Selected<'_> {
        Selected {
            status: StatusCode::OK,
            etag: etag.map(str::as_bytes),
            last_modified: Some(MODIFIED),
            date: Some(NOW),
        }
    }

    fn at(offset: i64) -> String {
        date::format(Time(NOW.0.saturating_add_signed(offset * 1000)))
    }

    #[test]
    fn preconditions_by_rfc_9110_section_13() {
        use Precondition::{Failed, NotModified, Proceed};
        let (same, later, earlier) = (at(-3000), at(-2000), at(-4000));
        let obsolete = "Saturday, 28-Feb-26 23:10:00 GMT"; // the same
        let rows: &[(&str, Fields<'_>, Precondition)] = &[
            ("\"a\"", &[], Proceed),
            // §13.1.2: weak comparison
            ("\"a\"", &[("if-none-match", "\"a\"")], NotModified),
            ("\"a\"", &[("If-None-Match", "W/\"a\"")], NotModified),
            ("W/\"a\"", &[("if-none-match", "\"a\"")], NotModified),
            ("W/\"a\"", &[("if-none-match", "W/\"a\"")], NotModified),
            ("\"a\"", &[("if-none-match", "\"b\"")], Proceed),
            ("\"a\"", &[("if-none-match", "\"A\"")], Proceed),
            ("\"a\"", &[("if-none-match", "*")], NotModified),
            ("\"a\"", &[("if-none-match", " * ")], NotModified),
            ("\"a\"", &[("if-none-match", "\"*\"")], Proceed),
            ("\"a\"", &[("if-none-match", "\"a\", \"b\", \"c\"")], NotModified),
            ("\"a\"", &[("if-none-match", "\"b\", \"a\",\"c\"")], NotModified),
            ("\"a\"", &[("if-none-match", "\"b\",,W/\"a\"")], NotModified),
            ("\"a\"", &[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], NotModified),
            ("\"a\"", &[("if-none-match", "")], Proceed),
            // §8.8.3: commas and backslashes are part of a tag
            ("\"a,b\"", &[("if-none-match", "\"x\", \"a,b\"")], NotModified),
            ("\"b\"", &[("if-none-match", "\"a,\"b\"")], Proceed),
            ("\"b\"", &[("if-none-match", "\"a\\\", \"b\"")], NotModified),
            ("\"\u{fc}\"", &[("if-none-match", "\"\u{fc}\"")], NotModified),
            ("\"\"", &[("if-none-match", "\"\"")], NotModified),
            // not tags by the grammar: equal byte for byte, and not otherwise
            ("\"a\"", &[("if-none-match", "a")], Proceed),
            ("a", &[("if-none-match", "\"a\"")], Proceed),
            ("a", &[("if-none-match", "a")], NotModified),
            ("w/\"a\"", &[("if-none-match", "w/\"a\"")], NotModified),
            ("\"a\"", &[("if-none-match", "w/\"a\"")], Proceed),
            // §13.1.3
            ("\"a\"", &[("if-modified-since", &same)], NotModified),
            ("\"a\"", &[("if-modified-since", obsolete)], NotModified),
            ("\"a\"", &[("if-modified-since", &later)], NotModified),
            ("\"a\"", &[("if-modified-since", &earlier)], Proceed),
            ("\"a\"", &[("if-modified-since", "yesterday")], Proceed),
            ("\"a\"", &[("if-modified-since", &same), ("if-modified-since", &same)], Proceed),
            // §13.2.2: If-None-Match comes before If-Modified-Since
            ("\"a\"", &[("if-none-match", "\"b\""), ("if-modified-since", &same)], Proceed),
            ("\"a\"", &[("if-none-match", "\"a\""), ("if-modified-since", &earlier)], NotModified),
            // §13.1.1: strong comparison
            ("\"a\"", &[("if-match", "\"a\"")], Proceed),
            ("\"a\"", &[("if-match", "\"b\", \"a\"")], Proceed),
            ("\"a\"", &[("if-match", "*")], Proceed),
            ("\"a\"", &[("if-match", "\"b\"")], Failed),
            ("\"a\"", &[("if-match", "W/\"a\"")], Failed),
            ("W/\"a\"", &[("if-match", "W/\"a\"")], Failed),
            // §13.1.4
            ("\"a\"", &[("if-unmodified-since", &same)], Proceed),
            ("\"a\"", &[("if-unmodified-since", &later)], Proceed),
            ("\"a\"", &[("if-unmodified-since", &earlier)], Failed),
            ("\"a\"", &[("if-unmodified-since", "x")], Proceed),
            // §13.2.2: If-Match comes before If-Unmodified-Since, both before the rest
            ("\"a\"", &[("if-match", "\"a\""), ("if-unmodified-since", &earlier)], Proceed),
            ("\"a\"", &[("if-match", "\"b\""), ("if-none-match", "\"a\"")], Failed),
            ("\"a\"", &[("if-match", "\"a\""), ("if-none-match", "\"a\"")], NotModified),
        ];
        for (etag, fields, want) in rows {
            let etag = Some(*etag);
            assert_eq!(evaluate(&map(fields), &selected(etag), NOW), *want, "{etag:?} {fields:?}");
            let raw: Vec<_> = fields
                .iter()
                .map(|(name, value)| httparse::Header { name, value: value.as_bytes() })
                .collect();
            assert_eq!(evaluate(&raw[..], &selected(etag), NOW), *want, "{etag:?} {fields:?}");
        }
    }

    #[test]
    fn preconditions_without_validators_or_success() {
        let (same, now, later) = (at(-3000), at(0), at(10));
        let bare = Selected { last_modified: None, ..selected(None) };
        let rows: &[(Fields<'_>, Precondition)] = &[
            (&[("if-none-match", "\"a\"")], Precondition::Proceed),
            (&[("if-none-match", "*")], Precondition::NotModified),
            (&[("if-match", "\"a\"")], Precondition::Failed),
            (&[("if-match", "*")], Precondition::Proceed),
            (&[("if-unmodified-since", &same)], Precondition::Proceed),
            // RFC 9111 §4.3.2: `Date` stands in for `Last-Modified`
            (&[("if-modified-since", &same)], Precondition::Proceed),
            (&[("if-modified-since", &now)], Precondition::NotModified),
            (&[("if-modified-since", &later)], Precondition::NotModified),
        ];
        for (fields, want) in rows {
            assert_eq!(evaluate(&map(fields), &bare, NOW), *want, "{fields:?}");
        }
        // RFC 9110 §13.2.1: not where the answer would be no success
        for status in [301, 404, 500] {
            let status = StatusCode::from_u16(status).expect("a status");
            let page = Selected { status, ..selected(Some("\"a\"")) };
            for fields in [[("if-none-match", "\"a\"")], [("if-match", "\"b\"")]] {
                assert_eq!(evaluate(&map(&fields), &page, NOW), Precondition::Proceed);
            }
        }
    }

    #[test]
    fn ranges_by_rfc_9110_section_14() {
        use Ranges::{Many, One, Unsatisfiable, Whole};
        let sixteen = format!("bytes={}", (0..16).map(|i| format!("{i}-{i},")).collect::<String>());
        let seventeen = format!("{sixteen}50-51");
        let overlapping = "bytes=0-9,5-14,10-19,15-24"; // three overlaps
        let rows: Vec<(&str, u64, Ranges)> = vec![
            // §14.1.2
            ("bytes=0-1", 11, One(0..2)),
            ("bytes=1-", 11, One(1..11)),
            ("bytes=-1", 11, One(10..11)),
            ("bytes=0-", 11, One(0..11)),
            ("bytes=10-10", 11, One(10..11)),
            ("bytes=5-100", 11, One(5..11)),
            ("bytes=-100", 11, One(0..11)),
            ("Bytes=0-1", 11, One(0..2)),
            (" bytes=0-1 ", 11, One(0..2)),
            ("bytes=,0-1 ,", 11, One(0..2)),
            ("bytes=0-18446744073709551615", 11, One(0..11)),
            ("bytes=0-99999999999999999999999", 11, One(0..11)),
            ("bytes=-99999999999999999999999", 11, One(0..11)),
            ("bytes=0-1,4-5", 11, Many(vec![0..2, 4..6])),
            ("bytes=-2, 0-1", 11, Many(vec![9..11, 0..2])),
            ("bytes=0-1,99-", 11, One(0..2)),
            // §15.5.17
            ("bytes=11-", 11, Unsatisfiable),
            ("bytes=99-100", 11, Unsatisfiable),
            ("bytes=-0", 11, Unsatisfiable),
            ("bytes=99-,-0", 11, Unsatisfiable),
            ("bytes=99999999999999999999999-", 11, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-0", 0, Unsatisfiable),
            ("bytes=-1", 0, Whole),
            // §14.2: ignored where invalid
            ("", 11, Whole),
            ("bytes", 11, Whole),
            ("bytes=", 11, Whole),
            ("bytes=,", 11, Whole),
            ("bytes=-", 11, Whole),
            ("bytes=x", 11, Whole),
            ("bytes=1", 11, Whole),
            ("bytes=2-1", 11, Whole),
            ("bytes=0-1,2-1", 11, Whole),
            ("bytes=0-1,x", 11, Whole),
            ("bytes=0-1-2", 11, Whole),
            ("bytes=--1", 11, Whole),
            ("bytes=+0-1", 11, Whole),
            ("bytes =0-1", 11, Whole),
            ("bytes= 0-1", 11, One(0..2)),
            ("bytes=0 -1", 11, Whole),
            ("items=0-1", 11, Whole),
            ("0-1", 11, Whole),
            // §14.2, §17.15: or where it asks too much
            (&seventeen, 100, Whole),
            (overlapping, 100, Whole),
            ("bytes=0-,0-", 11, Whole),
            ("bytes=0-9,1-", 11, Whole),
            ("bytes=0-3,2-5", 11, Many(vec![0..4, 2..6])),
        ];
        for (value, len, want) in rows {
            let got = ranges(value.as_bytes(), None, &selected(None), len, NOW);
            assert_eq!(got, want, "{value} of {len}");
        }
        let got = ranges(sixteen.as_bytes(), None, &selected(None), 100, NOW);
        assert!(matches!(got, Many(parts) if parts.len() == 16));
        // only of a 200
        let missing = Selected { status: StatusCode::NOT_FOUND, ..selected(None) };
        assert_eq!(ranges(b"bytes=0-1", None, &missing, 11, NOW), Whole);
    }

    #[test]
    fn if_range_by_rfc_9110_13_1_5() {
        let (same, later) = (at(-3000), at(-2999));
        let rows = [
            ("\"a\"", "\"a\"", true),
            ("\"a\"", " \"a\" ", true),
            ("\"a\"", "\"b\"", false),
            ("\"a\"", "W/\"a\"", false),
            ("W/\"a\"", "W/\"a\"", false),
            ("W/\"a\"", "\"a\"", false),
            ("\"a\"", "*", false),
            ("\"a\"", "a", false),
            ("\"a\"", "\"a\", \"b\"", false),
            ("\"a\"", "", false),
            ("\"a\"", same.as_str(), true),
            ("\"a\"", "Saturday, 28-Feb-26 23:10:00 GMT", true),
            ("\"a\"", later.as_str(), false),
            ("\"a\"", "yesterday", false),
        ];
        for (etag, value, want) in rows {
            let fields = [("range", "bytes=0-1"), ("if-range", value)];
            let got = requested(&map(&fields), &selected(Some(etag)), 11, NOW);
            assert_eq!(got == Ranges::One(0..2), want, "{etag} {value}");
        }
        // §8.8.2.2: a date is strong only if the response is younger than it
        for date in [None, Some(MODIFIED)] {
            let page = Selected { date, ..selected(None) };
            assert_eq!(ranges(b"bytes=0-1", Some(same.as_bytes()), &page, 11, NOW), Ranges::Whole);
        }
        let twice = [("range", "bytes=0-1"), ("range", "bytes=0-1")];
        assert_eq!(requested(&map(&twice), &selected(None), 11, NOW), Ranges::Whole);
        let twice = [("range", "bytes=0-1"), ("if-range", "\"a\""), ("if-range", "\"a\"")];
        assert_eq!(requested(&map(&twice), &selected(Some("\"a\"")), 11, NOW), Ranges::Whole);
        assert_eq!(requested(&HeaderMap::new(), &selected(None), 11, NOW), Ranges::Whole);
    }

    #[test]
    fn which_304s_update_by_rfc_9111_4_3_4() {
        const A: (&str, &str) = ("etag", "\"a\"");
        const B: (&str, &str) = ("etag", "\"b\"");
        const WEAK: (&str, &str) = ("etag", "W/\"a\"");
        const OLD: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        const SAME: (&str, &str) = ("last-modified", "Sunday, 06-Nov-94 08:49:37 GMT");
        const NEW: (&str, &str) = ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT");
        let rows: &[(Fields<'_>, Fields<'_>, bool)] = &[
            (&[A], &[A], true),
            (&[A], &[B], false),
            (&[WEAK], &[WEAK], true),
            (&[A], &[WEAK], true),
            (&[WEAK], &[A], true),
            (&[A, OLD], &[B, OLD], false),
            (&[A, OLD], &[A, NEW], true),
            (&[A, OLD], &[OLD], true),
            (&[A, OLD], &[NEW], false),
            (&[OLD], &[SAME], true),
            (&[OLD], &[NEW], false),
            (&[OLD], &[A, OLD], true),
            (&[OLD], &[A], false),
            (&[A], &[OLD], false),
            // the only one that was asked about
            (&[A], &[], true),
            (&[OLD], &[], true),
        ];
        for (stored, update, want) in rows {
            assert_eq!(selects(&map(stored), &map(update)), *want, "{stored:?} {update:?}");
        }
    }

    fn merge(stored: &HeaderMap, update: &HeaderMap) -> HeaderMap {
        merge_304(stored, update, &["x-cache-of-origin"])
    }

    #[test]
    fn a_304_updates_the_stored_fields() {
        // RFC 9111 §3.2; values as in cache-tests' update304
        let updated = [
            ("test-header", "a", "b"),
            ("content-foo", "a", "b"),
            ("cache-control", "max-age=1", "max-age=3600"),
            ("cdn-cache-control", "max-age=1", "max-age=3600"),
            ("content-location", "/foo", "/bar"),
            ("content-security-policy", "default-src 'self'", "default-src 'none'"),
            ("content-type", "text/plain", "text/plain;charset=utf-8"),
            ("expires", "Fri, 01 Jan 2038 01:01:01 GMT", "Mon, 11 Jan 2038 11:11:11 GMT"),
            ("date", "Fri, 01 Jan 2038 01:01:01 GMT", "Mon, 11 Jan 2038 11:11:11 GMT"),
            ("vary", "a", "b"),
            ("cache-tag", "a", "b, c"),
            ("age", "100", "3"),
            ("etag", "\"a\"", "W/\"a\""),
            ("x-cache-of-origin", "HIT", "STALE"),
        ];
        for (name, old, new) in updated {
            let merged = merge(&map(&[(name, old), ("x", "1")]), &map(&[(name, new)]));
            assert_eq!(merged, map(&[(name, new), ("x", "1")]), "{name}");
        }
        let kept = [
            ("content-length", "5", "10"),
            ("content-encoding", "gzip", "br"),
            ("content-range", "bytes 0-1/2", "bytes 0-2/3"),
            ("content-type", "application/json", "text/html"),
            ("etag", "W/\"a\"", "\"a\""),
        ];
        for (name, old, new) in kept {
            let merged = merge(&map(&[(name, old)]), &map(&[(name, new)]));
            assert_eq!(merged, map(&[(name, old)]), "{name}");
        }
        let never = [
            "set-cookie",
            "set-cookie2",
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "transfer-encoding",
            "te",
            "upgrade",
            "content-length",
            "nominated",
        ];
        for name in never {
            let update = map(&[("connection", "close, Nominated"), (name, "x")]);
            assert!(merge(&HeaderMap::new(), &update).is_empty(), "{name}");
        }
        // Those of one response go with it.
        for name in ["age", "date", "x-cache-of-origin"] {
            assert!(merge(&map(&[(name, "x")]), &HeaderMap::new()).is_empty(), "{name}");
        }
        // All lines of a name are replaced by all.
        let merged = merge(
            &map(&[("link", "1"), ("a", "1"), ("link", "2"), ("link", "3")]),
            &map(&[("link", "4"), ("link", "5")]),
        );
        assert_eq!(merged, map(&[("a", "1"), ("link", "4"), ("link", "5")]));
        let merged = merge(&HeaderMap::new(), &map(&[("content-type", "text/html")]));
        assert_eq!(merged, map(&[("content-type", "text/html")]));
    }

    const FIELDS: &[(&str, &str)] = &[
        ("etag", "\"a\""),
        ("etag", "W/\"a\""),
        ("etag", "\"b\""),
        ("content-type", "text/html"),
        ("content-type", "text/html; charset=utf-8"),
        ("content-type", "application/json"),
        ("content-length", "5"),
        ("cache-control", "max-age=1"),
        ("cache-control", "private"),
        ("connection", "x-a"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("age", "5"),
        ("date", "Fri, 01 Jan 2038 01:01:01 GMT"),
        ("set-cookie", "a=b"),
        ("x-cache-of-origin", "STALE"),
    ];

    fn some_fields() -> impl Strategy<Value = HeaderMap> {
        proptest::collection::vec(0..FIELDS.len(), 0..8)
            .prop_map(|picked| map(&picked.iter().map(|&i| FIELDS[i]).collect::<Vec<_>>()))
    }

    proptest! {
        #[test]
        fn merging_again_changes_nothing(stored in some_fields(), update in some_fields()) {
            let once = merge(&stored, &update);
            prop_assert_eq!(&merge(&once, &update), &once);
            // What a 304 forbids, the merged response forbids.
            let cc = |h: &HeaderMap| h.get_all("cache-control").iter().cloned().collect::<Vec<_>>();
            if update.contains_key("cache-control") {
                prop_assert_eq!(cc(&once), cc(&update));
            }
        }

        #[test]
        fn ranges_lie_inside(
            value in "bytes=([0-9]{0,3}-[0-9]{0,3}, ?){0,5}([0-9]{0,3}-[0-9]{0,3})?|[ -~]{0,30}",
            len in 0u64..500,
        ) {
            match ranges(value.as_bytes(), None, &selected(None), len, NOW) {
                Ranges::Whole | Ranges::Unsatisfiable => {}
                Ranges::One(r) => {
                    let inside = r.start < r.end && r.end <= len;
                    prop_assert!(inside);
                }
                Ranges::Many(parts) => {
                    prop_assert!(parts.len() > 1 && parts.len() <= MAX_RANGES);
                    let inside = parts.iter().all(|r| r.start < r.end && r.end <= len);
                    prop_assert!(inside);
                    prop_assert!(parts.iter().map(|r| r.end - r.start).sum::<u64>() <= len);
                }
            }
        }

        #[test]
        fn nothing_panics(value in proptest::collection::vec(any::<u8>(), 0..40), len: u64) {
            let page = selected(Some("\"a\""));
            let _ = ranges(&value, Some(&value), &page, len, NOW);
            let _ = parse_ranges(&value, len);
            for name in ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"] {
                let _ = evaluate(&[httparse::Header { name, value: &value }][..], &page, NOW);
            }
        }
    }
}
