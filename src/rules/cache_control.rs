//! `Cache-Control` (RFC 9111 §5.2) and `CDN-Cache-Control` (RFC 9213).

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

use super::scan::{self, Quotes};

/// The directives of a message that we know. Lifetimes that are malformed or
/// occur twice are zero: stale (RFC 9111 §4.2.1). Unknown directives are
/// ignored (§5.2.3).
///
/// It holds no text and is made without allocating: requests are parsed on the
/// way of a hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `max-age` (§5.2.1.1, §5.2.2.1).
    pub max_age: Option<Duration>,
    /// `s-maxage` (§5.2.2.10).
    pub s_maxage: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861 §3); unbounded where it has no value,
    /// as Next.js sends it.
    pub stale_while_revalidate: Window,
    /// `stale-if-error` (RFC 5861 §4); unbounded where it has no value.
    pub stale_if_error: Window,
    /// `max-stale` of a request (§5.2.1.2); unbounded where it has no value.
    pub max_stale: Window,
    /// `min-fresh` of a request (§5.2.1.3).
    pub min_fresh: Option<Duration>,
    /// `no-store` (§5.2.1.5, §5.2.2.5).
    pub no_store: bool,
    /// `no-cache` (§5.2.1.4, §5.2.2.4). The qualified form, `no-cache="x"`,
    /// counts as the plain one, which forbids more.
    pub no_cache: bool,
    /// `private` (§5.2.2.7), the qualified form likewise.
    pub private: bool,
    /// `public` (§5.2.2.9).
    pub public: bool,
    /// `must-revalidate` (§5.2.2.2).
    pub must_revalidate: bool,
    /// `proxy-revalidate` (§5.2.2.8).
    pub proxy_revalidate: bool,
    /// `must-understand` (§5.2.2.3).
    pub must_understand: bool,
    /// `no-transform` (§5.2.1.6, §5.2.2.6).
    pub no_transform: bool,
    /// `only-if-cached` of a request (§5.2.1.7).
    pub only_if_cached: bool,
}

/// How long past its freshness a response may be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// Not at all.
    #[default]
    None,
    /// For this long.
    For(Duration),
    /// As long as it is stored.
    Unbounded,
}

impl Window {
    /// A window of that length; an empty one is none.
    #[must_use]
    pub const fn of(length: Duration) -> Window {
        if length.is_zero() { Window::None } else { Window::For(length) }
    }

    /// Whether a response that has been stale for `staleness` is inside.
    #[must_use]
    pub fn covers(self, staleness: Duration) -> bool {
        match self {
            Self::None => false,
            Self::For(length) => staleness < length,
            Self::Unbounded => true,
        }
    }

    /// The wider of two.
    #[must_use]
    pub fn or(self, other: Window) -> Window {
        match (self, other) {
            (Self::Unbounded, _) | (_, Self::Unbounded) => Self::Unbounded,
            (Self::For(a), Self::For(b)) => Self::For(a.max(b)),
            (Self::None, w) | (w, Self::None) => w,
        }
    }
}

/// The directives that govern how a response is stored, and where they come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Governing {
    /// The directives.
    pub directives: Directives,
    /// They are those of `CDN-Cache-Control`, so that `Cache-Control` and
    /// `Expires` do not count (RFC 9213 §2.2).
    pub targeted: bool,
}

/// What governs a response: `CDN-Cache-Control` where it is valid, else
/// `Cache-Control` (RFC 9213 §2.2).
#[must_use]
pub fn governing(headers: &HeaderMap) -> Governing {
    match targeted(headers) {
        Some(directives) => Governing { directives, targeted: true },
        None => Governing { directives: Directives::of(headers), targeted: false },
    }
}

/// The argument of a directive.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument<'a> {
    /// There is none.
    None,
    /// A token, or the inside of a quoted string: recipients accept both forms
    /// (RFC 9111 §5.2).
    Text(&'a [u8]),
    /// Neither; the bytes that follow the name.
    Malformed(&'a [u8]),
}

impl Directives {
    /// Parses field lines of `Cache-Control` (RFC 9111 §5.2): several count as
    /// one list.
    #[must_use]
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Directives {
        let mut directives = Directives::default();
        let mut seen = Seen::default();
        for line in lines {
            for (name, argument) in members(line) {
                directives.set(name, argument, &mut seen);
                if let Argument::Malformed(rest) = argument {
                    directives.salvage(rest);
                }
            }
        }
        directives
    }

    /// Those of a message's `Cache-Control`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Directives {
        Directives::parse(headers.get_all(CACHE_CONTROL).iter().map(http::HeaderValue::as_bytes))
    }

    /// Whether a response with these directives must not be stored for being
    /// `no-store`. `must-understand` cancels it where the status is understood
    /// (§5.2.2.3).
    #[must_use]
    pub const fn forbids_store(&self, status_understood: bool) -> bool {
        self.no_store && !(self.must_understand && status_understood)
    }

    /// Whether a stale response must not be used without successful validation,
    /// whatever else is said (§5.2.2.2, §5.2.2.4, §5.2.2.8).
    #[must_use]
    pub const fn must_validate(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.no_cache
    }

    fn set(&mut self, name: &[u8], argument: Argument<'_>, seen: &mut Seen) {
        let lifetime = |field: &mut Option<Duration>, again: bool| {
            *field = Some(if again { Duration::ZERO } else { seconds(argument) });
        };
        let window = |field: &mut Window, again: bool| {
            *field = match argument {
                _ if again => Window::None,
                Argument::None => Window::Unbounded,
                _ => Window::of(seconds(argument)),
            };
        };
        if is(name, "max-age") {
            lifetime(&mut self.max_age, seen.again(0));
        } else if is(name, "s-maxage") {
            lifetime(&mut self.s_maxage, seen.again(1));
        } else if is(name, "stale-while-revalidate") {
            window(&mut self.stale_while_revalidate, seen.again(2));
        } else if is(name, "stale-if-error") {
            window(&mut self.stale_if_error, seen.again(3));
        } else if is(name, "max-stale") {
            window(&mut self.max_stale, seen.again(4));
        } else if is(name, "min-fresh") {
            // The longest is the strictest; a malformed one asks for nothing.
            let value = self.min_fresh.unwrap_or_default().max(seconds(argument));
            self.min_fresh = Some(value);
        } else if is(name, "only-if-cached") {
            self.only_if_cached = true;
        } else if is(name, "public") {
            self.public |= !matches!(argument, Argument::Malformed(_));
        } else if is(name, "must-understand") {
            self.must_understand |= !matches!(argument, Argument::Malformed(_));
        } else {
            self.restrict(name);
        }
    }

    /// Sets a directive that only ever forbids.
    fn restrict(&mut self, name: &[u8]) {
        if is(name, "no-store") {
            self.no_store = true;
        } else if is(name, "no-cache") {
            self.no_cache = true;
        } else if is(name, "private") {
            self.private = true;
        } else if is(name, "must-revalidate") {
            self.must_revalidate = true;
        } else if is(name, "proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is(name, "no-transform") {
            self.no_transform = true;
        }
    }

    /// What a malformed member may have meant to forbid is forbidden: an origin
    /// that writes `no-cache; no-store` wants privacy, not grammar.
    fn salvage(&mut self, rest: &[u8]) {
        for word in rest.split(|&b| !scan::is_token(b)) {
            self.restrict(word);
        }
    }
}

/// Which lifetimes have occurred: a second one makes them stale (RFC 9111 §4.2.1).
#[derive(Default)]
struct Seen(u8);

impl Seen {
    fn again(&mut self, which: u8) -> bool {
        let bit = 1 << which;
        let again = self.0 & bit != 0;
        self.0 |= bit;
        again
    }
}

fn is(name: &[u8], known: &str) -> bool {
    name.eq_ignore_ascii_case(known.as_bytes())
}

/// The members of a field line, each with its name and argument.
pub(crate) fn members(line: &[u8]) -> impl Iterator<Item = (&[u8], Argument<'_>)> {
    scan::members(line).map(split)
}

/// Name and argument of a member. No whitespace is allowed around `=`.
fn split(member: &[u8]) -> (&[u8], Argument<'_>) {
    let end = member.iter().position(|&b| !scan::is_token(b)).unwrap_or(member.len());
    let (name, rest) = member.split_at(end);
    let argument = match rest {
        [] => Argument::None,
        [b'=', value @ ..] => match value {
            [b'"', ..] => match scan::quoted(value, Quotes::Strings) {
                Some(n) if n == value.len() => Argument::Text(&value[1..n - 1]),
                _ => Argument::Malformed(value),
            },
            [_, ..] if value.iter().all(|&b| scan::is_token(b)) => Argument::Text(value),
            _ => Argument::Malformed(value),
        },
        _ => Argument::Malformed(rest),
    };
    (name, argument)
}

/// A lifetime; zero where it is missing or malformed (RFC 9111 §4.2.1).
fn seconds(argument: Argument<'_>) -> Duration {
    match argument {
        Argument::Text(text) => Duration::from_secs(scan::delta_seconds(text).unwrap_or_default()),
        Argument::None | Argument::Malformed(_) => Duration::ZERO,
    }
}

/// The directives of `CDN-Cache-Control`; none where the field is absent,
/// empty, no dictionary, or has a lifetime that is no integer: then it is as if
/// it were not there (RFC 9213 §2.1).
fn targeted(headers: &HeaderMap) -> Option<Directives> {
    let mut lines = headers.get_all("cdn-cache-control").iter();
    let first = lines.next()?.as_bytes();
    let mut joined: Vec<u8>;
    let text = match lines.next() {
        None => first,
        Some(second) => {
            joined = first.to_vec();
            for line in std::iter::once(second).chain(lines) {
                joined.extend_from_slice(b", ");
                joined.extend_from_slice(line.as_bytes());
            }
            &joined[..]
        }
    };
    let dictionary: sfv::Dictionary =
        sfv::Parser::new(text).with_version(sfv::Version::Rfc8941).parse().ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let mut directives = Directives::default();
    for (name, value) in &dictionary {
        let item = match value {
            sfv::ListEntry::Item(item) => Some(&item.bare_item),
            sfv::ListEntry::InnerList(_) => None,
        };
        let integer = || {
            let n = i64::from(item?.as_integer()?);
            let secs = u64::try_from(n).unwrap_or_default().min(scan::MAX_SECONDS);
            Some(Duration::from_secs(secs))
        };
        let window = || match item.and_then(|item| item.as_boolean()) {
            Some(true) => Some(Window::Unbounded),
            _ => integer().map(Window::of),
        };
        // `?0` says that the directive is not there.
        let set = item.and_then(|item| item.as_boolean()) != Some(false);
        match name.as_str() {
            "max-age" => directives.max_age = Some(integer()?),
            "s-maxage" => directives.s_maxage = Some(integer()?),
            "stale-while-revalidate" => directives.stale_while_revalidate = window()?,
            "stale-if-error" => directives.stale_if_error = window()?,
            "public" => directives.public = set,
            "must-understand" => directives.must_understand = set,
            other if set => directives.restrict(other.as_bytes()),
            _ => {}
        }
    }
    Some(directives)
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn parse(line: &str) -> Directives {
        Directives::parse([line.as_bytes()])
    }

    fn secs(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    #[test]
    fn max_age_by_the_grammar() {
        let rows = [
            // RFC 9111 §5.2
            ("max-age=3600", secs(3600)),
            ("MaX-aGe=3600", secs(3600)),
            ("max-age=\"3600\"", secs(3600)),
            ("foobar, max-age=3600", secs(3600)),
            ("foobar=baz, max-age=3600, x=\"y, z\"", secs(3600)),
            (",,max-age=3600,", secs(3600)),
            ("\tmax-age=3600 ", secs(3600)),
            ("max-age=003600", secs(3600)),
            ("max-age=0", secs(0)),
            ("", None),
            ("public", None),
            ("xmax-age=1", None),
            ("max-agex=1", None),
            // §1.2.2: what is too large is 2^31
            ("max-age=2147483647", secs(2_147_483_647)),
            ("max-age=2147483648", secs(1 << 31)),
            ("max-age=2147483649", secs(1 << 31)),
            ("max-age=99999999999", secs(1 << 31)),
            ("max-age=99999999999999999999999", secs(1 << 31)),
            // §5.2: not a directive but the text of another one
            ("extension=\"max-age=3600\", max-age=1", secs(1)),
            ("max-age=1, extension=\"max-age=3600\"", secs(1)),
            ("extension=\"\\\", max-age=3600\"", None),
            // §4.2.1: malformed or repeated is stale
            ("max-age", secs(0)),
            ("max-age=", secs(0)),
            ("max-age=\"\"", secs(0)),
            ("max-age =3600", secs(0)),
            ("max-age= 3600", secs(0)),
            ("max-age='3600'", secs(0)),
            ("max-age=-3600", secs(0)),
            ("max-age=3600.0", secs(0)),
            ("max-age=3600.5", secs(0)),
            ("max-age=a3600", secs(0)),
            ("max-age=3600a", secs(0)),
            ("max-age=\"3600", secs(0)),
            ("max-age=\"3600\"x", secs(0)),
            ("max-age=3600; public", secs(0)),
            ("max-age=1800, max-age=1", secs(0)),
            ("max-age=1, max-age=1800", secs(0)),
            ("max-age=1800, MAX-AGE=1800", secs(0)),
        ];
        for (line, want) in rows {
            assert_eq!(parse(line).max_age, want, "{line}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        // RFC 9110 §5.3
        let d = Directives::parse([&b"max-age=1800"[..], b"s-maxage=1", b"no-cache"]);
        assert_eq!((d.max_age, d.s_maxage, d.no_cache), (secs(1800), secs(1), true));
        let d = Directives::parse([&b"max-age=1800"[..], b"max-age=1"]);
        assert_eq!(d.max_age, secs(0));
    }

    #[test]
    fn flags() {
        let set = |f: fn(&mut Directives)| {
            let mut d = Directives::default();
            f(&mut d);
            d
        };
        let rows: &[(&str, Directives)] = &[
            ("no-store", set(|d| d.no_store = true)),
            ("No-StOrE", set(|d| d.no_store = true)),
            ("no-store=1", set(|d| d.no_store = true)),
            ("x-no-store", set(|_| ())),
            ("foo=no-store", set(|_| ())),
            ("foo=\"a, no-store\"", set(|_| ())),
            ("no-cache", set(|d| d.no_cache = true)),
            // §5.2.2.4, §5.2.2.7: the qualified forms forbid the whole
            ("no-cache=\"a, b\"", set(|d| d.no_cache = true)),
            ("private=\"set-cookie, x\"", set(|d| d.private = true)),
            ("private", set(|d| d.private = true)),
            ("public", set(|d| d.public = true)),
            ("must-revalidate", set(|d| d.must_revalidate = true)),
            ("proxy-revalidate", set(|d| d.proxy_revalidate = true)),
            ("must-understand", set(|d| d.must_understand = true)),
            ("no-transform", set(|d| d.no_transform = true)),
            ("only-if-cached", set(|d| d.only_if_cached = true)),
            ("immutable, foo, bar=\"baz\"", set(|_| ())),
            // What is malformed forbids, and permits nothing.
            ("no-store =1", set(|d| d.no_store = true)),
            ("private=\"x", set(|d| d.private = true)),
            ("foo=\"x, private", set(|d| d.private = true)),
            (
                "no-cache; no-store",
                set(|d| {
                    d.no_cache = true;
                    d.no_store = true;
                }),
            ),
            (
                "no-cache no-store",
                set(|d| {
                    d.no_cache = true;
                    d.no_store = true;
                }),
            ),
            ("public; foo", set(|_| ())),
        ];
        for (line, want) in rows {
            assert_eq!(parse(line), *want, "{line}");
        }
    }

    #[test]
    fn stale_windows() {
        let d = Duration::from_secs;
        let rows = [
            ("stale-while-revalidate=30", Window::For(d(30))),
            ("Stale-While-Revalidate=\"30\"", Window::For(d(30))),
            ("stale-while-revalidate", Window::Unbounded), // as Next.js sends it
            ("stale-while-revalidate=0", Window::None),
            ("stale-while-revalidate=x", Window::None),
            ("stale-while-revalidate=", Window::None),
            ("stale-while-revalidate=1, stale-while-revalidate=2", Window::None),
            ("stale-while-revalidate, stale-while-revalidate", Window::None),
            ("max-age=1", Window::None),
        ];
        for (line, want) in rows {
            assert_eq!(parse(line).stale_while_revalidate, want, "{line}");
            let line = line.to_lowercase().replace("while-revalidate", "if-error");
            assert_eq!(parse(&line).stale_if_error, want, "{line}");
        }
        assert_eq!(parse("max-stale").max_stale, Window::Unbounded);
        assert_eq!(parse("max-stale=5").max_stale, Window::For(d(5)));
        assert_eq!(parse("min-fresh=5, min-fresh=9").min_fresh, secs(9));
    }

    #[test]
    fn must_understand_cancels_no_store() {
        // RFC 9111 §5.2.2.3
        let rows = [
            ("no-store", true, true),
            ("no-store, must-understand", true, false),
            ("must-understand, no-store", true, false),
            ("no-store, must-understand", false, true),
            ("must-understand", false, false),
        ];
        for (line, understood, want) in rows {
            assert_eq!(parse(line).forbids_store(understood), want, "{line} {understood}");
        }
    }

    #[test]
    fn cdn_cache_control_governs_where_it_is_valid() {
        const CC: (&str, &str) = ("cache-control", "max-age=1");
        let rows: &[(&[&str], Option<Option<Duration>>)] = &[
            // RFC 9213 §2.2
            (&["max-age=3600"], Some(secs(3600))),
            (&["foobar, max-age=3600"], Some(secs(3600))),
            (&["max-age=3600;x=y"], Some(secs(3600))),
            (&["no-store"], Some(None)),
            (&["foo"], Some(None)),
            (&["max-age=2147483648"], Some(secs(1 << 31))),
            (&["max-age=99999999999"], Some(secs(1 << 31))),
            (&["max-age=-5"], Some(secs(0))),
            (&["stale-while-revalidate"], Some(None)),
            (&["stale-while-revalidate=5"], Some(None)),
            // RFC 8941 §4.2: lines are joined, of equal names the last counts
            (&["max-age=3600", "private"], Some(secs(3600))),
            (&["max-age=1, max-age=2"], Some(secs(2))),
            // RFC 9213 §2.1: empty or malformed is as if it were not there
            (&[], None),
            (&[""], None),
            (&["max-age=10000, &&&&&"], None),
            (&["max-age=10000,"], None),
            (&["max-age =100"], None),
            (&["max-age= 100"], None),
            (&["MaX-aGe=3600"], None),
            (&["max-age=10000", ""], None),
            (&["m\u{e4}x"], None),
            // lifetimes that are no integers
            (&["max-age=\"10000\""], None),
            (&["max-age=10.5"], None),
            (&["max-age=abc"], None),
            (&["max-age"], None),
            (&["max-age=(1 2)"], None),
            (&["max-age=?1"], None),
            (&["s-maxage=x, max-age=10"], None),
            (&["stale-while-revalidate=x"], None),
            (&["stale-if-error=?0"], None),
            // RFC 8941, not RFC 9651
            (&["max-age=10, x=@1659578233"], None),
        ];
        for (lines, want) in rows {
            let mut fields = vec![CC];
            fields.extend(lines.iter().map(|l| ("cdn-cache-control", *l)));
            let got = governing(&map(&fields));
            match want {
                Some(max_age) => {
                    assert!(got.targeted, "{lines:?}");
                    assert_eq!(got.directives.max_age, *max_age, "{lines:?}");
                }
                None => {
                    assert!(!got.targeted, "{lines:?}");
                    assert_eq!(got.directives.max_age, secs(1), "{lines:?}");
                }
            }
        }
    }

    #[test]
    fn cdn_cache_control_flags() {
        let of = |text| {
            let got = governing(&map(&[("cdn-cache-control", text), ("cache-control", "public")]));
            assert!(got.targeted, "{text}");
            got.directives
        };
        assert!(of("private").private);
        assert!(of("private=\"x\"").private);
        assert!(of("no-cache=(\"a\" \"b\")").no_cache);
        assert!(!of("no-store=?0, max-age=1").no_store);
        assert!(!of("max-age=1").public);
        assert_eq!(of("stale-while-revalidate").stale_while_revalidate, Window::Unbounded);
        let window = Window::For(Duration::from_secs(9));
        assert_eq!(of("stale-if-error=9").stale_if_error, window);
    }

    const MEMBERS: &[&str] = &[
        "max-age=5",
        "max-age=x",
        "max-age=\"7\"",
        "s-maxage=9",
        "stale-while-revalidate",
        "stale-while-revalidate=3",
        "stale-if-error=4",
        "no-store",
        "no-cache=\"a, b\"",
        "private",
        "public",
        "must-revalidate",
        "must-understand",
        "min-fresh=4",
        "max-stale",
        "foo=\"private, max-age=3\"",
        "bar",
    ];

    proptest! {
        #[test]
        fn order_and_lines_do_not_matter(
            picked in proptest::collection::vec(0..MEMBERS.len(), 0..8),
            seed: u64,
        ) {
            let members: Vec<&str> = picked.iter().map(|&i| MEMBERS[i]).collect();
            let mut shuffled = members.clone();
            let n = shuffled.len().max(1);
            shuffled.rotate_left(seed as usize % n);
            if seed & 64 != 0 {
                shuffled.reverse();
            }
            let joined = parse(&members.join(","));
            prop_assert_eq!(joined, parse(&shuffled.join(" ,\t")));
            prop_assert_eq!(joined, Directives::parse(shuffled.iter().map(|m| m.as_bytes())));
            prop_assert_eq!(joined, parse(&shuffled.join(",").to_uppercase()));
        }

        #[test]
        fn nothing_panics(lines in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..60), 0..4,
        )) {
            let _ = Directives::parse(lines.iter().map(Vec::as_slice));
            let mut headers = HeaderMap::new();
            for line in &lines {
                if let Ok(value) = HeaderValue::from_bytes(line) {
                    headers.append("cdn-cache-control", value.clone());
                    headers.append("cache-control", value);
                }
            }
            let _ = governing(&headers);
        }

        #[test]
        fn no_store_is_never_missed(junk in "[ !#-~]{0,30}") {
            // Whatever stands beside it, as long as no quoted string swallows it.
            for line in [format!("{junk}, no-store"), format!("no-store, {junk}")] {
                prop_assert!(parse(&line).no_store);
            }
        }
    }

    #[test]
    fn windows_compare() {
        let w = |n| Window::For(Duration::from_secs(n));
        assert_eq!(w(1).or(w(2)), w(2));
        assert_eq!(w(1).or(Window::None), w(1));
        assert_eq!(Window::None.or(w(1)), w(1));
        assert_eq!(w(1).or(Window::Unbounded), Window::Unbounded);
        assert!(!Window::For(Duration::ZERO).covers(Duration::ZERO));
    }
}
