//! HTTP dates (RFC 9110 §5.6.7): the three formats, in any case (RFC 9111
//! §4.2), GMT only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Time;
use super::scan::trim;

const DAYS: [(&[u8; 3], &[u8]); 7] = [
    (b"Mon", b"day"),
    (b"Tue", b"sday"),
    (b"Wed", b"nesday"),
    (b"Thu", b"rsday"),
    (b"Fri", b"day"),
    (b"Sat", b"urday"),
    (b"Sun", b"day"),
];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
/// The last second that a date with four digits of year can name.
const LAST: u64 = 253_402_300_799;

/// Parses a date. `now` decides the century of the obsolete format with two
/// digits of year: more than 50 years ahead is the past (RFC 9110 §5.6.7).
///
/// A date before 1970, with the wrong day of the week, or in any other format
/// is no date. A leap second counts as the second before it.
#[must_use]
pub fn parse(value: &[u8], now: Time) -> Option<Time> {
    let value = trim(value);
    let parts = match value.get(3)? {
        b',' => imf(value),
        b' ' => asctime(value),
        _ => rfc850(value, now),
    }?;
    let text = parts.canonical();
    // The calendar is the library's; ours is only what it is strict about.
    httpdate::parse_http_date(std::str::from_utf8(&text).ok()?).ok().map(Time::from)
}

/// The time as an IMF-fixdate, the format to send (RFC 9110 §5.6.7).
#[must_use]
pub fn format(t: Time) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_secs(t.secs().min(LAST));
    httpdate::fmt_http_date(time)
}

/// The parts of a date, as they will be written.
struct Parts<'a> {
    weekday: &'static [u8; 3],
    day: [u8; 2],
    month: &'static [u8; 3],
    year: [u8; 4],
    time: &'a [u8; 8],
}

impl Parts<'_> {
    fn canonical(&self) -> [u8; 29] {
        let mut text = *b"Www, 00 Mmm 0000 00:00:00 GMT";
        text[..3].copy_from_slice(self.weekday);
        text[5..7].copy_from_slice(&self.day);
        text[8..11].copy_from_slice(self.month);
        text[12..16].copy_from_slice(&self.year);
        text[17..25].copy_from_slice(self.time);
        if &text[23..25] == b"60" {
            text[23..25].copy_from_slice(b"59");
        }
        text
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf(s: &[u8]) -> Option<Parts<'_>> {
    let s: &[u8; 29] = s.try_into().ok()?;
    let shape = s[3..5] == *b", "
        && s[7] == b' '
        && s[11] == b' '
        && s[16] == b' '
        && s[25..].eq_ignore_ascii_case(b" GMT");
    shape.then_some(())?;
    Some(Parts {
        weekday: weekday(&s[..3])?.0,
        day: s[5..7].try_into().ok()?,
        month: month(&s[8..11])?,
        year: s[12..16].try_into().ok()?,
        time: s[17..25].try_into().ok()?,
    })
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(s: &[u8], now: Time) -> Option<Parts<'_>> {
    let (short, rest) = weekday(s.get(..3)?)?;
    let (name, s) = s[3..].split_at_checked(rest.len())?;
    let s: &[u8; 24] = s.try_into().ok()?;
    let shape = name.eq_ignore_ascii_case(rest)
        && s[..2] == *b", "
        && s[4] == b'-'
        && s[8] == b'-'
        && s[11] == b' '
        && s[20..].eq_ignore_ascii_case(b" GMT")
        && s[9].is_ascii_digit()
        && s[10].is_ascii_digit();
    shape.then_some(())?;
    let this = year(now);
    let mut full = this - this % 100 + u64::from(s[9] - b'0') * 10 + u64::from(s[10] - b'0');
    // The year nearest to now that ends so; 50 years ahead is still ahead.
    if full > this + 50 {
        full -= 100;
    } else if full + 50 < this {
        full += 100;
    }
    let digit = |place: u64| b'0' + (full / place % 10) as u8;
    Some(Parts {
        weekday: short,
        day: s[2..4].try_into().ok()?,
        month: month(&s[5..8])?,
        year: [digit(1000), digit(100), digit(10), digit(1)],
        time: s[12..20].try_into().ok()?,
    })
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(s: &[u8]) -> Option<Parts<'_>> {
    let s: &[u8; 24] = s.try_into().ok()?;
    let shape = s[3] == b' ' && s[7] == b' ' && s[10] == b' ' && s[19] == b' ';
    shape.then_some(())?;
    Some(Parts {
        weekday: weekday(&s[..3])?.0,
        day: [if s[8] == b' ' { b'0' } else { s[8] }, s[9]],
        month: month(&s[4..7])?,
        year: s[20..24].try_into().ok()?,
        time: s[11..19].try_into().ok()?,
    })
}

fn weekday(name: &[u8]) -> Option<(&'static [u8; 3], &'static [u8])> {
    DAYS.iter().find(|(short, _)| short.eq_ignore_ascii_case(name)).copied()
}

fn month(name: &[u8]) -> Option<&'static [u8; 3]> {
    MONTHS.iter().find(|short| short.eq_ignore_ascii_case(name)).copied()
}

/// The year, to a day or so: enough to choose a century by.
fn year(t: Time) -> u64 {
    1970 + t.secs().min(LAST) / 31_556_952
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-03-01
    const NOW: Time = Time(1_772_323_200_000);

    #[test]
    fn the_three_formats_and_nothing_else() {
        const OLD: Option<u64> = Some(784_111_777);
        const NEW: Option<u64> = Some(2_544_400_878);
        let rows = [
            // RFC 9110 §5.6.7
            ("Sun, 06 Nov 1994 08:49:37 GMT", OLD),
            ("Sunday, 06-Nov-94 08:49:37 GMT", OLD),
            ("Sun Nov  6 08:49:37 1994", OLD),
            (" \tSun, 06 Nov 1994 08:49:37 GMT ", OLD),
            ("Thu, 18 Aug 2050 02:01:18 GMT", NEW),
            ("Thursday, 18-Aug-50 02:01:18 GMT", NEW),
            ("Thu Aug 18 02:01:18 2050", NEW),
            // RFC 9111 §4.2: without regard to case
            ("THU, 18 Aug 2050 02:01:18 GMT", NEW),
            ("Thu, 18 AUG 2050 02:01:18 GMT", NEW),
            ("Thu, 18 Aug 2050 02:01:18 gMT", NEW),
            ("tHURSDAY, 18-aug-50 02:01:18 gmt", NEW),
            ("thu aug 18 02:01:18 2050", NEW),
            // RFC 9111 §4.2: GMT only
            ("Thu, 18 Aug 2050 02:01:18 UTC", None),
            ("Thu, 18 Aug 2050 02:01:18 EST", None),
            ("Thu, 18 Aug 2050 02:01:18 +0000", None),
            ("Thu, 18 Aug 2050 02:01:18", None),
            // cache-tests: expires-parse
            ("Thu, 18 Aug 50 02:01:18 GMT", None),
            ("Thu 18 Aug 2050 02:01:18 GMT", None),
            ("Thu, 18  Aug  2050 02:01:18 GMT", None),
            ("Thu, 18-Aug-2050 02:01:18 GMT", None),
            ("Thu, 18 Aug 2050 02.01.18 GMT", None),
            ("Thu, 18 Aug 2050 2:01:18 GMT", None),
            // not dates
            ("", None),
            ("0", None),
            ("-1", None),
            ("Sun", None),
            ("Sunday, 06-Nov-", None),
            ("2050-08-18T02:01:18Z", None),
            ("Fri, 18 Aug 2050 02:01:18 GMT", None), // a Thursday
            ("Thu, 32 Aug 2050 02:01:18 GMT", None),
            ("Thu, 18 Aug 2050 24:01:18 GMT", None),
            ("Thu, 18 Aug 2050 02:60:18 GMT", None),
            ("Thu, 18 Aug 2050 02:01:61 GMT", None),
            ("Thu, 01 Jan 1950 00:00:00 GMT", None),
            ("Thu, 1a Aug 2050 02:01:18 GMT", None),
            // RFC 9110 §5.6.7: a second may be 60
            ("Sat, 31 Dec 2016 23:59:60 GMT", Some(1_483_228_799)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(LAST)),
        ];
        for (text, want) in rows {
            let got = parse(text.as_bytes(), NOW).map(Time::secs);
            assert_eq!(got, want, "{text}");
        }
        assert_eq!(parse(b"Thu, 18 Aug 2050 02:01:18 GM\xd4", NOW), None);
    }

    #[test]
    fn two_digits_of_year_lie_within_fifty_years() {
        // RFC 9110 §5.6.7
        let rows = [
            ("Wednesday, 01-Jan-76 00:00:00 GMT", 2076), // 50 years ahead
            ("Saturday, 01-Jan-77 00:00:00 GMT", 1977),
            ("Friday, 01-Jan-99 00:00:00 GMT", 1999),
            ("Thursday, 01-Jan-26 00:00:00 GMT", 2026),
        ];
        for (text, want) in rows {
            let got = parse(text.as_bytes(), NOW).expect(text);
            assert!(format(got).contains(&want.to_string()), "{text}: {}", format(got));
        }
        // 2090-01-01: 20 is 2120, 60 is 2060.
        let late = Time(3_786_912_000_000);
        let got = parse(b"Monday, 01-Jan-20 00:00:00 GMT", late).expect("2120");
        assert_eq!(format(got), "Mon, 01 Jan 2120 00:00:00 GMT");
    }

    #[test]
    fn no_time_is_too_late_to_write() {
        assert_eq!(format(Time(u64::MAX)), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(secs in 0..LAST) {
            let t = Time(secs * 1000);
            prop_assert_eq!(parse(format(t).as_bytes(), NOW), Some(t));
            prop_assert_eq!(parse(format(t).to_uppercase().as_bytes(), NOW), Some(t));
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), now: u64) {
            let _ = parse(&bytes, Time(now));
        }

        #[test]
        fn near_misses_do_not_panic(
            text in "(Sun|Sunday|sun)[, ]{1,2}[0-9]{2}[- ][A-Za-z]{3}[- ][0-9]{2,4} [0-9:]{8}( GMT)?",
            now: u64,
        ) {
            let _ = parse(text.as_bytes(), Time(now));
        }
    }
}
