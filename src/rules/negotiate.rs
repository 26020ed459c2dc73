//! Content negotiation (RFC 9110 §12.5): which coding of a body, and whether
//! JSON is preferred, or which image formats.

use super::scan::{self, Lines};

/// More codings than this are not told apart; the store has four.
const MAX_CODINGS: usize = 8;

/// Chooses among the codings that are there (RFC 9110 §12.5.3): the one with the
/// greatest weight, and of equals the first. `available` is in the server's order
/// of preference and has `identity` where the body may go uncoded. Returns the
/// index; none if nothing that is there is acceptable.
///
/// Takes the lines of `Accept-Encoding`: `Some(value)` for one, `None` for none.
/// Without the field, and where nothing else is listed, that is identity.
#[must_use]
pub fn coding<'a>(
    accept_encoding: impl IntoIterator<Item = &'a [u8]>,
    available: &[&str],
) -> Option<usize> {
    let available = &available[..available.len().min(MAX_CODINGS)];
    let mut listed: [Option<u16>; MAX_CODINGS] = [None; MAX_CODINGS];
    let mut star = None;
    let mut given = false;
    // Listed twice, the lesser weight counts.
    let note = |entry: &mut Option<u16>, q: u16| *entry = Some(entry.map_or(q, |e| e.min(q)));
    for line in accept_encoding {
        given = true;
        for weighted in scan::members(line).filter_map(scan::weighted) {
            // §8.4.1.3
            let name = match weighted.name {
                x if x.eq_ignore_ascii_case(b"x-gzip") => b"gzip",
                name => name,
            };
            if name == b"*" {
                note(&mut star, weighted.q);
            } else if let Some(i) =
                available.iter().position(|a| a.as_bytes().eq_ignore_ascii_case(name))
            {
                note(&mut listed[i], weighted.q);
            }
        }
    }
    let weight = |i: usize| {
        let identity = available[i].eq_ignore_ascii_case("identity");
        match listed[i].or(star) {
            // In thousandths and a half: identity that nobody mentions is
            // acceptable, and comes after all that is.
            Some(q) => q * 2,
            None if identity => 1,
            // Without the field anything is, but nothing was asked for.
            None => 0,
        }
    };
    // The first of the greatest: `max_by_key` takes the last.
    let best = (0..available.len()).rev().max_by_key(|&i| weight(i))?;
    match weight(best) {
        0 if !given => Some(best),
        0 => None,
        _ => Some(best),
    }
}

/// Whether a request accepts every one of these codings, a list (RFC 9110 §12.5.3):
/// listed, or covered by `*`, with a weight above zero. Without the field none is:
/// who says nothing can be trusted to understand identity alone.
#[must_use]
pub fn accepts<L: Lines + ?Sized>(request: &L, codings: &str) -> bool {
    codings.split(',').map(str::trim).all(|coding| {
        let (mut listed, mut star) = (None, None);
        let members = request.lines("accept-encoding").flat_map(scan::members);
        for weighted in members.filter_map(scan::weighted) {
            let entry = match weighted.name {
                b"*" => &mut star,
                name if name.eq_ignore_ascii_case(coding.as_bytes()) => &mut listed,
                _ => continue,
            };
            // Listed twice, the lesser weight counts.
            *entry = Some(entry.map_or(weighted.q, |q: u16| q.min(weighted.q)));
        }
        listed.or(star).is_some_and(|q| q > 0)
    })
}

/// Whether `application/json` is preferred over `text/html` (RFC 9110 §12.5.1):
/// by weight, and of equal weights by the more specific range, as the usual
/// negotiators do it. A tie, as of `*/*`, is no preference.
///
/// Takes the lines of `Accept`: `Some(value)` for one, `None` for none.
#[must_use]
pub fn prefers_json<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> bool {
    // Specificity and weight of the most specific range for each.
    let mut json: Option<(u8, u16)> = None;
    let mut html: Option<(u8, u16)> = None;
    for line in accept {
        // What browsers send, and nothing is preferred to that.
        if let Some(b"" | [b',', ..]) = line.strip_prefix(b"text/html") {
            return false;
        }
        for range in scan::members(line).filter_map(scan::weighted) {
            let name = range.name;
            let note = |entry: &mut Option<(u8, u16)>, specificity| {
                *entry = (*entry).max(Some((specificity, range.q)));
            };
            if name.eq_ignore_ascii_case(b"application/json") {
                note(&mut json, 2);
            } else if name.eq_ignore_ascii_case(b"application/*") {
                note(&mut json, 1);
            } else if name.eq_ignore_ascii_case(b"text/html") {
                note(&mut html, 2);
            } else if name.eq_ignore_ascii_case(b"text/*") {
                note(&mut html, 1);
            } else if name == b"*/*" || name == b"*" {
                note(&mut json, 0);
                note(&mut html, 0);
            }
        }
    }
    let rank = |entry: Option<(u8, u16)>| match entry {
        Some((_, 0)) | None => (0, 0),
        Some((specificity, q)) => (q, specificity),
    };
    rank(json) > rank(html)
}

/// Which of the image formats `avif`, `webp` and `jxl` are named as acceptable,
/// as an `Accept` of its own that lists them in that order: what an image
/// optimizer chooses by. Empty if none is.
///
/// Takes the lines of `Accept`.
#[must_use]
pub fn image_formats<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> String {
    const FORMATS: [&str; 3] = ["image/avif", "image/webp", "image/jxl"];
    let mut named = [false; FORMATS.len()];
    for line in accept {
        for range in scan::members(line).filter_map(scan::weighted) {
            let at = FORMATS.iter().position(|f| range.name.eq_ignore_ascii_case(f.as_bytes()));
            if let (Some(at), true) = (at, range.q > 0) {
                named[at] = true;
            }
        }
    }
    let named = FORMATS.iter().zip(named).filter_map(|(format, named)| named.then_some(*format));
    named.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;
    use proptest::prelude::*;

    const ALL: &[&str] = &["zstd", "br", "gzip", "identity"];

    #[test]
    fn codings_that_are_accepted() {
        for (lines, codings, accepted) in [
            (&[][..], "x", false),
            (&[""][..], "x", false),
            (&["gzip, br"][..], "x", false),
            (&["gzip, X;q=0.5"][..], "x", true),
            (&["gzip", "x"][..], "x", true),
            (&["x;q=0"][..], "x", false),
            (&["*"][..], "x", true),
            (&["*, x;q=0"][..], "x", false),
            (&["*;q=0, x"][..], "x", true),
            (&["x;q=1, x;q=0"][..], "x", false),
            (&["x"][..], "x, gzip", false),
            (&["x, gzip"][..], "x, gzip", true),
        ] {
            let request = map(&lines.iter().map(|l| ("accept-encoding", *l)).collect::<Vec<_>>());
            assert_eq!(accepts(&request, codings), accepted, "{codings}: {lines:?}");
        }
    }

    #[test]
    fn formats_of_images() {
        for (accept, formats) in [
            (&["image/avif,image/webp,image/apng,*/*;q=0.8"][..], "image/avif,image/webp"),
            (&["image/WEBP;q=0.5", "image/avif"][..], "image/avif,image/webp"),
            (&["image/webp;q=0, image/jxl"][..], "image/jxl"),
            (&["image/*", "*/*"][..], ""),
            (&[][..], ""),
        ] {
            assert_eq!(image_formats(accept.iter().map(|a| a.as_bytes())), formats, "{accept:?}");
        }
    }

    fn choose(accept: Option<&str>, available: &[&str]) -> Option<String> {
        coding(accept.map(str::as_bytes), available).map(|i| available[i].to_owned())
    }

    #[test]
    fn codings_by_rfc_9110_12_5_3() {
        let rows = [
            (None, Some("identity")),
            (Some(""), Some("identity")),
            (Some("gzip"), Some("gzip")),
            (Some("GZIP"), Some("gzip")),
            (Some("x-gzip"), Some("gzip")),
            (Some("gzip, deflate, br, zstd"), Some("zstd")),
            (Some("gzip, deflate, br"), Some("br")),
            (Some("deflate"), Some("identity")),
            (Some("*"), Some("zstd")),
            (Some("gzip;q=1.0, br;q=0.5"), Some("gzip")),
            (Some("gzip; Q=0.9 , br;q=0.901"), Some("br")),
            (Some("gzip;q=0.001"), Some("gzip")),
            (Some("gzip;q=0"), Some("identity")),
            (Some("gzip;q=0, *"), Some("zstd")),
            (Some("gzip;q=0.5, *;q=0"), Some("gzip")),
            (Some("zstd;q=0, br;q=0, *;q=0.1"), Some("gzip")),
            (Some("identity, gzip;q=0.5"), Some("identity")),
            (Some("identity;q=0.5, gzip;q=0.5"), Some("gzip")),
            (Some("identity;q=0, gzip"), Some("gzip")),
            (Some("identity;q=0"), None),
            (Some("*;q=0"), None),
            (Some("identity;q=0.1, *;q=0"), Some("identity")),
            (Some("gzip;q=2"), Some("identity")),
            (Some("gzip;q=abc, br"), Some("br")),
            (Some("gzip, gzip;q=0"), Some("identity")),
            (Some("gzip;q=0, gzip"), Some("identity")),
            (Some(",,gzip ,"), Some("gzip")),
        ];
        for (accept, want) in rows {
            assert_eq!(choose(accept, ALL).as_deref(), want, "{accept:?}");
        }
        let identity = &["identity"][..];
        assert_eq!(choose(Some("gzip"), identity).as_deref(), Some("identity"));
        assert_eq!(choose(Some("gzip, identity;q=0"), identity), None);
        // What the origin coded and cannot be undone here.
        let coded = &["br"][..];
        assert_eq!(choose(None, coded).as_deref(), Some("br"));
        assert_eq!(choose(Some("gzip"), coded), None);
        assert_eq!(choose(Some("gzip"), &[]), None);
        assert_eq!(choose(None, &[]), None);
        // Lines are one list.
        assert_eq!(coding([&b"gzip;q=0.1"[..], b"br"], ALL), Some(1));
    }

    #[test]
    fn json_or_html() {
        let rows = [
            ("", false),
            ("*/*", false),
            ("text/html", false),
            // what browsers send
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", false),
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json, text/html;q=0.9", true),
            ("application/json;q=0.9, text/html", false),
            // a tie is no preference
            ("application/json, text/html", false),
            ("text/html, application/json", false),
            ("application/json;q=0.5, text/html;q=0.5", false),
            ("application/json;q=0", false),
            ("application/json;q=0, */*", false),
            ("text/html;q=0, */*;q=0.1", true),
            // the more specific range (§12.5.1), as what fetch libraries send
            ("application/json, text/plain, */*", true),
            ("application/json, */*;q=0.8", true),
            ("application/json;q=0.5, */*;q=0.8", false),
            ("application/*, text/html", false),
            ("application/*", true),
            ("text/*, application/json", true),
            ("text/*;q=0.5, application/json;q=0.4", false),
            ("application/ld+json", false),
            ("application/json;q=x", false),
            ("text/plain", false),
            ("text/html", false),
            ("text/html,application/json", false),
            ("text/htmlx,application/json", true),
            ("text/html;q=0.9,application/json", true),
        ];
        for (accept, want) in rows {
            assert_eq!(prefers_json(Some(accept.as_bytes())), want, "{accept}");
        }
        assert!(!prefers_json(None));
        assert!(prefers_json([&b"text/html;q=0.1"[..], b"application/json"]));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_chosen_is_acceptable(
            line in "[ ,;=.*a-z01qQ-]{0,60}|((gzip|br|identity|\\*)(;q=(0|1|0\\.[0-9]{1,3}))?, ?){0,5}",
        ) {
            let chosen = coding(Some(line.as_bytes()), ALL);
            let forbidden = |name: &str| line.split(',').any(|m| m.trim() == format!("{name};q=0"));
            if let Some(i) = chosen {
                prop_assert!(!forbidden(ALL[i]));
            }
            let _ = prefers_json(Some(line.as_bytes()));
        }

        #[test]
        fn bytes_do_not_panic(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = coding(Some(&line[..]), ALL);
            let _ = prefers_json(Some(&line[..]));
        }
    }
}
