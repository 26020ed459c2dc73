//! Freshness (RFC 9111 §4.2) and stale serving (§4.2.4, RFC 5861).

use std::time::Duration;

use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, HeaderName};

use super::cache_control::{Governing, Window};
use super::{Time, date, scan};

/// The longest lifetime that is guessed (RFC 9111 §4.2.2).
const MAX_HEURISTIC: Duration = Duration::from_secs(24 * 60 * 60);

/// Under which terms a response is stored: what policy and directives came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The freshness lifetime; none: fresh until revalidated.
    pub fresh_for: Option<Duration>,
    /// Served stale while one regeneration runs.
    pub while_revalidating: Window,
    /// Served stale when the origin answers with an error (5xx).
    pub if_error: Window,
    /// Served stale when no response head arrives (RFC 9111 §4.2.4).
    pub if_unreachable: Window,
}

/// What a stored response is good for at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is fresh.
    Fresh {
        /// Seconds of freshness left; none where it is fresh until revalidated.
        ttl: Option<i64>,
    },
    /// It is stale, and may be served where a flag says so.
    Stale {
        /// Seconds of freshness left, zero or less; none where an invalidation
        /// made it stale before its time.
        ttl: Option<i64>,
        /// While one regeneration runs (RFC 5861 §3).
        while_revalidating: bool,
        /// When the origin answers with an error (RFC 5861 §4).
        if_error: bool,
        /// When no response head arrives (RFC 9111 §4.2.4).
        if_unreachable: bool,
    },
}

impl State {
    /// Seconds of freshness left, where they are counted.
    #[must_use]
    pub const fn ttl(self) -> Option<i64> {
        match self {
            Self::Fresh { ttl } | Self::Stale { ttl, .. } => ttl,
        }
    }

    /// Whether a response in this state may be used without asking the origin
    /// first: it is fresh, or stale inside `stale-while-revalidate`.
    #[must_use]
    pub const fn without_validation(self) -> bool {
        matches!(self, Self::Fresh { .. } | Self::Stale { while_revalidating: true, .. })
    }
}

impl Terms {
    /// Whether a cache can never use it without asking the origin first, however
    /// young it is: the lifetime is zero and nothing allows to serve it stale.
    #[must_use]
    pub fn always_validate(&self) -> bool {
        self.fresh_for == Some(Duration::ZERO) && self.while_revalidating == Window::None
    }

    /// The state at an age (RFC 9111 §4.2). `soft_invalidated`: an invalidation
    /// has marked it stale, so that its staleness begins now if its lifetime is
    /// not over yet.
    #[must_use]
    pub fn state(&self, age: Duration, soft_invalidated: bool) -> State {
        // §4.2: fresh is `lifetime > age`. In whole seconds `ttl` and the `Age`
        // that is sent add up to the lifetime.
        let ttl = |lifetime: Duration| whole(lifetime) - whole(age);
        let (ttl, staleness) = match self.fresh_for {
            Some(lifetime) if age >= lifetime => (Some(ttl(lifetime)), age - lifetime),
            _ if soft_invalidated => (None, Duration::ZERO),
            lifetime => return State::Fresh { ttl: lifetime.map(ttl) },
        };
        State::Stale {
            ttl,
            while_revalidating: self.while_revalidating.covers(staleness),
            if_error: self.if_error.covers(staleness),
            if_unreachable: self.if_unreachable.covers(staleness),
        }
    }
}

fn whole(d: Duration) -> i64 {
    i64::try_from(d.as_secs()).unwrap_or(i64::MAX)
}

/// Where an explicit lifetime came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// `s-maxage`, or anything in `CDN-Cache-Control`: meant for us.
    Shared,
    /// `max-age` or `Expires`: meant for browsers as much as for us.
    Anyone,
}

/// The explicit freshness lifetime (RFC 9111 §4.2.1): `s-maxage`, `max-age`,
/// or `Expires` less `Date`, the first that is there. Where the targeted field
/// governs, `Expires` does not count (RFC 9213 §2.2). `response_time` stands in
/// for a `Date` that is absent or invalid.
#[must_use]
pub fn explicit_lifetime(
    governing: &Governing,
    headers: &HeaderMap,
    response_time: Time,
) -> Option<Duration> {
    explicit(governing, headers, response_time).map(|(lifetime, _)| lifetime)
}

pub(super) fn explicit(
    governing: &Governing,
    headers: &HeaderMap,
    response_time: Time,
) -> Option<(Duration, Source)> {
    let directives = &governing.directives;
    if let Some(lifetime) = directives.s_maxage {
        return Some((lifetime, Source::Shared));
    }
    if let Some(lifetime) = directives.max_age {
        return Some((lifetime, if governing.targeted { Source::Shared } else { Source::Anyone }));
    }
    if governing.targeted || !headers.contains_key(EXPIRES) {
        return None;
    }
    // §5.3: an invalid date, "0" above all, is in the past. So are two (§4.2.1).
    let lifetime = match single_date(headers, &EXPIRES, response_time) {
        Some(expires) => expires.since(date_of(headers, response_time)),
        None => Duration::ZERO,
    };
    Some((lifetime, Source::Anyone))
}

/// The lifetime to guess where none is explicit (RFC 9111 §4.2.2): a tenth of
/// the time since `Last-Modified`, at most a day. None without a valid
/// `Last-Modified` before `Date`.
#[must_use]
pub fn heuristic_lifetime(headers: &HeaderMap, response_time: Time) -> Option<Duration> {
    let modified = single_date(headers, &LAST_MODIFIED, response_time)?;
    let date = date_of(headers, response_time);
    (modified < date)
        .then(|| Duration::from_secs(date.since(modified).as_secs() / 10).min(MAX_HEURISTIC))
}

/// The age at receipt, `corrected_initial_age` (RFC 9111 §4.2.3): the greater
/// of what `Date` implies and what `Age` says plus the time the request took.
/// The page was generated at `response_time` less this.
#[must_use]
pub fn initial_age(headers: &HeaderMap, request_time: Time, response_time: Time) -> Duration {
    // `Date` has whole seconds only; so has the difference.
    let date = date_of(headers, response_time).secs();
    let apparent_age = Duration::from_secs(response_time.secs().saturating_sub(date));
    let response_delay = response_time.since(request_time);
    let corrected_age_value = age_value(headers).unwrap_or_default() + response_delay;
    apparent_age.max(corrected_age_value)
}

/// What the `Age` field says (RFC 9111 §5.1): of a list the first member
/// counts, and what is no number is ignored.
#[must_use]
pub fn age_value(headers: &HeaderMap) -> Option<Duration> {
    let line = headers.get(AGE)?.as_bytes();
    let first = line.split(|&b| b == b',').next().unwrap_or_default();
    scan::delta_seconds(scan::trim(first)).map(Duration::from_secs)
}

/// `Date`; absent or invalid, the time of receipt (RFC 9110 §6.6.1).
#[must_use]
pub fn date_of(headers: &HeaderMap, response_time: Time) -> Time {
    single_date(headers, &DATE, response_time).unwrap_or(response_time)
}

/// `Last-Modified`, where it is there and valid (RFC 9110 §8.8.2).
#[must_use]
pub fn last_modified(headers: &HeaderMap, response_time: Time) -> Option<Time> {
    single_date(headers, &LAST_MODIFIED, response_time)
}

/// The date in a field that occurs once.
fn single_date(headers: &HeaderMap, name: &HeaderName, now: Time) -> Option<Time> {
    let mut lines = headers.get_all(name).iter();
    let value = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    date::parse(value.as_bytes(), now)
}

#[cfg(test)]
mod tests {
    use super::super::cache_control::governing;
    use super::super::tests::{Fields, map};
    use super::*;

    /// Sun, 01 Mar 2026 00:00:00 GMT
    const NOW: Time = Time(1_772_323_200_000);

    fn at(offset: i64) -> String {
        date::format(Time(NOW.0.saturating_add_signed(offset * 1000)))
    }

    fn lifetime(fields: &[(&str, &str)]) -> Option<u64> {
        let headers = map(fields);
        explicit_lifetime(&governing(&headers), &headers, NOW).map(|d| d.as_secs())
    }

    #[test]
    fn explicit_lifetimes_in_order() {
        let (now, past, soon) = (at(0), at(-7200), at(3600));
        let (slow, fast) = (at(-10), at(400));
        let rows: &[(Fields<'_>, Option<u64>)] = &[
            // RFC 9111 §4.2.1
            (&[], None),
            (&[("cache-control", "public")], None),
            (&[("cache-control", "max-age=60")], Some(60)),
            (&[("cache-control", "max-age=1, s-maxage=60")], Some(60)),
            (&[("cache-control", "s-maxage=1, max-age=60")], Some(1)),
            (&[("cache-control", "max-age=60"), ("cache-control", "s-maxage=1")], Some(1)),
            (&[("cache-control", "s-maxage=x, max-age=60")], Some(0)),
            (&[("cache-control", "max-age=60"), ("expires", &past), ("date", &now)], Some(60)),
            (&[("cache-control", "max-age=60"), ("expires", "0")], Some(60)),
            (&[("cache-control", "max-age=0"), ("expires", &soon), ("date", &now)], Some(0)),
            (&[("cache-control", "max-age=0, s-maxage=60"), ("expires", &past)], Some(60)),
            (&[("cache-control", "public"), ("expires", &soon), ("date", &now)], Some(3600)),
            // §5.3
            (&[("expires", &soon), ("date", &now)], Some(3600)),
            (&[("expires", &soon), ("date", &slow)], Some(3610)),
            (&[("expires", &soon), ("date", &fast)], Some(3200)),
            (&[("expires", &slow), ("date", &fast)], Some(0)),
            (&[("expires", &now), ("date", &now)], Some(0)),
            (&[("expires", &past), ("date", &now)], Some(0)),
            (&[("expires", "0"), ("date", &now)], Some(0)),
            (&[("expires", "-1")], Some(0)),
            (&[("expires", "")], Some(0)),
            (&[("expires", "Thu, 18 Aug 2050 02:01:18 UTC")], Some(0)),
            (&[("expires", &soon), ("expires", &soon)], Some(0)),
            // §4.2, RFC 9110 §6.6.1: without a date, the time of receipt
            (&[("expires", &soon)], Some(3600)),
            (&[("expires", &soon), ("date", "foo")], Some(3600)),
            // RFC 9213 §2.2
            (&[("cdn-cache-control", "max-age=60"), ("cache-control", "max-age=1")], Some(60)),
            (&[("cdn-cache-control", "max-age=1"), ("cache-control", "s-maxage=60")], Some(1)),
            (&[("cdn-cache-control", "max-age=60"), ("expires", "0")], Some(60)),
            (&[("cdn-cache-control", "max-age=0"), ("expires", &soon)], Some(0)),
            (&[("cdn-cache-control", "foo"), ("expires", &soon)], None),
            (&[("cdn-cache-control", "foo"), ("cache-control", "max-age=60")], None),
            (&[("cdn-cache-control", "s-maxage=9, max-age=60")], Some(9)),
            (&[("cdn-cache-control", "max-age=&"), ("cache-control", "max-age=60")], Some(60)),
        ];
        for (fields, want) in rows {
            assert_eq!(lifetime(fields), *want, "{fields:?}");
        }
    }

    #[test]
    fn initial_age_by_rfc_9111_4_2_3() {
        let (now, slow, fast) = (at(0), at(-90), at(90));
        let rows: &[(Fields<'_>, u64, u64)] = &[
            // fields, milliseconds that the request took, age in milliseconds
            (&[("date", &now)], 0, 0),
            (&[("date", &now)], 5000, 5000),
            (&[("date", &slow)], 0, 90_000),
            (&[("date", &slow)], 5000, 90_000),
            (&[("date", &fast)], 0, 0),
            (&[("date", &fast), ("age", "15")], 0, 15_000),
            (&[("date", &slow), ("age", "25")], 0, 90_000),
            (&[("date", &slow), ("age", "100")], 2500, 102_500),
            (&[("date", &now), ("age", "7200")], 0, 7_200_000),
            (&[("age", "61")], 0, 61_000),
            (&[("date", "foo"), ("age", "61")], 0, 61_000),
            (&[("date", &slow), ("date", &slow)], 0, 0),
            // §5.1: invalid is ignored, of a list the first member counts
            (&[("date", &now), ("age", "abc")], 0, 0),
            (&[("date", &now), ("age", "-7200")], 0, 0),
            (&[("date", &now), ("age", "7200.0")], 0, 0),
            (&[("date", &now), ("age", "")], 0, 0),
            (&[("date", &now), ("age", "7200,0")], 0, 7_200_000),
            (&[("date", &now), ("age", "7200"), ("age", "0")], 0, 7_200_000),
            (&[("date", &now), ("age", "0,7200")], 0, 0),
            (&[("date", &now), ("age", "0"), ("age", "7200")], 0, 0),
            (&[("date", &now), ("age", "7200, 7200")], 0, 7_200_000),
            (&[("date", &now), ("age", "x, 7200")], 0, 0),
            // §1.2.2
            (&[("date", &now), ("age", "99999999999999999999")], 0, (1 << 31) * 1000),
        ];
        for (fields, took, want) in rows {
            let age = initial_age(&map(fields), Time(NOW.0 - took), NOW);
            assert_eq!(age, Duration::from_millis(*want), "{fields:?}");
        }
        // A part of a second is not told apart by `Date`.
        let age = initial_age(&map(&[("date", &now)]), Time(NOW.0 + 900), Time(NOW.0 + 900));
        assert_eq!(age, Duration::ZERO);
    }

    #[test]
    fn heuristic_lifetimes_by_rfc_9111_4_2_2() {
        let (now, hour, ages, fast) = (at(0), at(-3600), at(-100 * 86_400), at(90));
        let rows: &[(Fields<'_>, Option<u64>)] = &[
            (&[("date", &now)], None),
            (&[("date", &now), ("last-modified", &hour)], Some(360)),
            (&[("last-modified", &hour)], Some(360)),
            (&[("date", &now), ("last-modified", &ages)], Some(86_400)),
            (&[("date", &now), ("last-modified", &now)], None),
            (&[("date", &now), ("last-modified", &fast)], None),
            (&[("date", &now), ("last-modified", "yesterday")], None),
        ];
        for (fields, want) in rows {
            let got = heuristic_lifetime(&map(fields), NOW).map(|d| d.as_secs());
            assert_eq!(got, *want, "{fields:?}");
        }
    }

    #[test]
    fn states_over_time() {
        let s = Duration::from_secs;
        let ms = Duration::from_millis;
        let fresh = |ttl| State::Fresh { ttl };
        let stale = |ttl, while_revalidating, if_error, if_unreachable| State::Stale {
            ttl,
            while_revalidating,
            if_error,
            if_unreachable,
        };
        let page = Terms {
            fresh_for: Some(s(60)),
            while_revalidating: Window::For(s(10)),
            if_error: Window::For(s(20)),
            if_unreachable: Window::Unbounded,
        };
        let strict = Terms {
            fresh_for: Some(s(60)),
            while_revalidating: Window::None,
            if_error: Window::None,
            if_unreachable: Window::None,
        };
        let forever = Terms { fresh_for: None, while_revalidating: Window::Unbounded, ..strict };
        let zero = Terms { fresh_for: Some(s(0)), ..page };
        let rows = [
            // RFC 9111 §4.2: fresh is `lifetime > age`
            (page, ms(0), false, fresh(Some(60))),
            (page, ms(59_999), false, fresh(Some(1))),
            (page, ms(60_000), false, stale(Some(0), true, true, true)),
            (page, ms(63_500), false, stale(Some(-3), true, true, true)),
            // RFC 5861 §3, §4
            (page, ms(69_999), false, stale(Some(-9), true, true, true)),
            (page, ms(70_000), false, stale(Some(-10), false, true, true)),
            (page, ms(80_000), false, stale(Some(-20), false, false, true)),
            (page, s(1 << 40), false, stale(Some(60 - (1 << 40)), false, false, true)),
            (strict, ms(60_000), false, stale(Some(0), false, false, false)),
            // soft invalidation: stale from now on
            (page, ms(5_000), true, stale(None, true, true, true)),
            (page, ms(63_500), true, stale(Some(-3), true, true, true)),
            (strict, ms(5_000), true, stale(None, false, false, false)),
            (forever, s(1 << 40), false, fresh(None)),
            (forever, ms(0), true, stale(None, true, false, false)),
            (zero, ms(0), false, stale(Some(0), true, true, true)),
        ];
        for (terms, age, soft, want) in rows {
            assert_eq!(terms.state(age, soft), want, "{terms:?} {age:?} {soft}");
        }
    }
}
