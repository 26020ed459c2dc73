//! The head that visitors get: one function makes it, of what is stored, of what
//! is streamed, and of what is passed through.

use http::StatusCode;

use crate::framework::Preset;
use crate::page::{Fields, FieldsBuf};
use crate::route::{BROWSER_DEFAULT, Route};
use crate::rules::cache_control::Directives;
use crate::rules::hop;

/// Who gets a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everybody it fits: it is stored, or is being stored.
    All,
    /// All who waited for it, and nobody later: an error on a page route.
    Waiting,
    /// One visitor, as the origin meant it: it is not stored, or passed through.
    One,
}

/// What shapes the head of a response.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// The route, for what it says to browsers and about tags.
    pub route: &'a Route,
    /// Whether the terms of `isr` or `dsg` hold.
    pub page: bool,
    /// Who gets it.
    pub audience: Audience,
    /// The preset, for the fields by which it tells forms at one URL apart.
    pub preset: &'a Preset,
    /// The status.
    pub status: StatusCode,
    /// Whether the body is compressed after storing.
    pub compressible: bool,
    /// The time of receipt as an HTTP date, for a response without a valid `Date`.
    pub received: &'a str,
}

impl Shape<'_> {
    /// The visitor's fields: the origin's, less what is of one hop or for caches,
    /// plus what the route says (semantics §§2, 5, 6). What belongs to the bytes
    /// of a body is for whoever sends them: its length, and its entity tag.
    #[must_use]
    pub fn visitor(&self, origin: &Fields) -> Fields {
        let mut out = FieldsBuf::default();
        let mut has_date = false;
        let mut has_ranges = false;
        for (name, value) in origin.iter() {
            if self.drops(name) {
                continue;
            }
            has_date |= name.eq_ignore_ascii_case("date");
            has_ranges |= name.eq_ignore_ascii_case("accept-ranges");
            out.push(name, value);
        }
        if !has_date {
            out.push("Date", self.received.as_bytes());
        }
        if self.audience == Audience::All {
            if !has_ranges {
                out.push("Accept-Ranges", b"bytes");
            }
            if self.page {
                // A lifetime for browsers is for pages, not for the lack of one.
                let browser = self.route.browser.clone().filter(|_| !self.status.is_client_error());
                let browser = browser.unwrap_or(BROWSER_DEFAULT);
                out.push("Cache-Control", browser.as_bytes());
            }
        }
        let vary = self.vary(origin);
        if !vary.is_empty() {
            out.push("Vary", vary.as_bytes());
        }
        out.done()
    }

    fn drops(&self, name: &str) -> bool {
        let always = ["content-length", "etag", "x-cache", "vary"];
        let of_one_answer = ["age", "set-cookie"];
        let for_caches =
            ["cache-control", "expires", "pragma", "cdn-cache-control", "surrogate-control"];
        let listed = |list: &[&str]| list.iter().any(|n| name.eq_ignore_ascii_case(n));
        listed(&always)
            || hop::is_hop_by_hop(name)
            || self.preset.cache_field().is_some_and(|n| name.eq_ignore_ascii_case(n))
            || (self.audience != Audience::One && listed(&of_one_answer))
            || (self.page && self.audience == Audience::All && listed(&for_caches))
            || (!self.route.forward_tags && hop::is_tag_field(name)
                // Other caches may use the groups of a server-rendered response.
                && (self.page || !name.eq_ignore_ascii_case("cache-groups")))
    }

    /// A response varies on what the origin says. A page varies on what its route
    /// declares and on what chooses its form, and a stored one on nothing else:
    /// nothing else was sent.
    fn vary(&self, origin: &Fields) -> String {
        let mut names: Vec<String> = Vec::new();
        let mut add = |name: &str| {
            if !name.is_empty() && !names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
                names.push(name.to_owned());
            }
        };
        if self.page {
            for name in &self.route.vary {
                add(name.as_str());
            }
            self.preset.vary().iter().for_each(|name| add(name));
        }
        if !self.page || self.audience != Audience::All {
            for (_, value) in origin.iter().filter(|(n, _)| n.eq_ignore_ascii_case("vary")) {
                String::from_utf8_lossy(value).split(',').for_each(|name| add(name.trim()));
            }
        }
        if self.compressible {
            add("Accept-Encoding");
        }
        names.join(", ")
    }
}

/// Whether a body of this type and size is compressed after storing: text, not
/// coded already, not forbidden by `no-transform` (RFC 9110 §7.7), and large
/// enough (`min` bytes) for that to be worth it.
#[must_use]
pub fn compressible(origin: &Fields, directives: &Directives, size: u64, min: u64) -> bool {
    if size < min || directives.no_transform || origin.get("content-encoding").is_some() {
        return false;
    }
    let Some(kind) = origin.get("content-type").and_then(|v| std::str::from_utf8(v).ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind.as_str(),
            "application/json"
                | "application/javascript"
                | "application/x-javascript"
                | "application/xml"
                | "application/manifest+json"
                | "application/wasm"
                | "font/ttf"
                | "font/otf"
                | "application/vnd.ms-fontobject"
        )
}

/// The entity tag of one coding of a body: `"x"` → `"x-br"`. Each coding is a
/// representation of its own (RFC 9110 §8.8.3.3).
#[must_use]
pub fn coded_etag(etag: &str, coding: &str) -> Box<str> {
    match etag.strip_suffix('"') {
        Some(start) => format!("{start}-{coding}\"").into(),
        None => etag.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::route::Routes;

    /// The response of an origin that says all there is to say.
    const SAID: &[(&str, &str)] = &[
        ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Content-Type", "text/html"),
        ("Content-Length", "5"),
        ("ETag", "\"e\""),
        ("Age", "7"),
        ("X-Cache", "HIT from origin"),
        ("x-nextjs-cache", "STALE"),
        ("Set-Cookie", "a=1"),
        ("Vary", "Accept-Language, accept"),
        ("Vary", "X-A"),
        ("Cache-Control", "max-age=60"),
        ("Expires", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Pragma", "no-cache"),
        ("CDN-Cache-Control", "max-age=61"),
        ("Surrogate-Control", "max-age=62"),
        ("Surrogate-Key", "a b"),
        ("Cache-Tag", "a,b"),
        ("Cache-Groups", "\"a\""),
        ("Cache-Status", "origin; hit"),
        ("Connection", "keep-alive"),
        ("Keep-Alive", "timeout=5"),
        ("Transfer-Encoding", "chunked"),
        ("Trailer", "X-T"),
        ("Upgrade", "h2c"),
        ("Proxy-Authenticate", "Basic"),
        ("X-Custom", "kept"),
    ];

    const OPTIONS: &str = "vary: [x-declared]";

    struct Case {
        /// What it is about.
        name: &'static str,
        route: &'static str,
        preset: &'static str,
        page: bool,
        audience: Audience,
        status: u16,
        compressible: bool,
        origin: &'static [(&'static str, &'static str)],
        /// What visitors get.
        visitor: &'static [&'static str],
    }

    const ISR: Case = Case {
        name: "a page that is stored",
        route: OPTIONS,
        preset: "generic",
        page: true,
        audience: Audience::All,
        status: 200,
        compressible: false,
        origin: SAID,
        visitor: &[
            "Date: Sun, 06 Nov 1994 08:49:37 GMT",
            "Content-Type: text/html",
            "x-nextjs-cache: STALE",
            "Cache-Status: origin; hit",
            "X-Custom: kept",
            "Accept-Ranges: bytes",
            "Cache-Control: public, max-age=0, must-revalidate",
            "Vary: x-declared, Accept",
        ],
    };

    const SSR: Case = Case {
        name: "a stored response on ssr",
        page: false,
        visitor: &[
            "Date: Sun, 06 Nov 1994 08:49:37 GMT",
            "Content-Type: text/html",
            "x-nextjs-cache: STALE",
            "Cache-Control: max-age=60",
            "Expires: Sun, 06 Nov 1994 08:49:37 GMT",
            "Pragma: no-cache",
            "CDN-Cache-Control: max-age=61",
            "Surrogate-Control: max-age=62",
            "Cache-Groups: \"a\"",
            "Cache-Status: origin; hit",
            "X-Custom: kept",
            "Accept-Ranges: bytes",
            "Vary: Accept-Language, accept, X-A",
        ],
        ..ISR
    };

    const PASS: Case = Case {
        name: "a response for one visitor, on ssr and pass",
        audience: Audience::One,
        visitor: &[
            "Date: Sun, 06 Nov 1994 08:49:37 GMT",
            "Content-Type: text/html",
            "Age: 7",
            "x-nextjs-cache: STALE",
            "Set-Cookie: a=1",
            "Cache-Control: max-age=60",
            "Expires: Sun, 06 Nov 1994 08:49:37 GMT",
            "Pragma: no-cache",
            "CDN-Cache-Control: max-age=61",
            "Surrogate-Control: max-age=62",
            "Cache-Groups: \"a\"",
            "Cache-Status: origin; hit",
            "X-Custom: kept",
            "Vary: Accept-Language, accept, X-A",
        ],
        ..SSR
    };

    const CASES: &[Case] = &[
        ISR,
        SSR,
        PASS,
        Case {
            name: "a page that is for one visitor: no lifetime for browsers, no groups",
            page: true,
            visitor: &[
                "Date: Sun, 06 Nov 1994 08:49:37 GMT",
                "Content-Type: text/html",
                "Age: 7",
                "x-nextjs-cache: STALE",
                "Set-Cookie: a=1",
                "Cache-Control: max-age=60",
                "Expires: Sun, 06 Nov 1994 08:49:37 GMT",
                "Pragma: no-cache",
                "CDN-Cache-Control: max-age=61",
                "Surrogate-Control: max-age=62",
                "Cache-Status: origin; hit",
                "X-Custom: kept",
                "Vary: x-declared, Accept, Accept-Language, X-A",
            ],
            ..PASS
        },
        Case {
            name: "an error that all who wait share: nobody's cookies",
            status: 500,
            audience: Audience::Waiting,
            visitor: &[
                "Date: Sun, 06 Nov 1994 08:49:37 GMT",
                "Content-Type: text/html",
                "x-nextjs-cache: STALE",
                "Cache-Control: max-age=60",
                "Expires: Sun, 06 Nov 1994 08:49:37 GMT",
                "Pragma: no-cache",
                "CDN-Cache-Control: max-age=61",
                "Surrogate-Control: max-age=62",
                "Cache-Status: origin; hit",
                "X-Custom: kept",
                "Vary: x-declared, Accept, Accept-Language, X-A",
            ],
            ..ISR
        },
        Case {
            name: "what is missing is added",
            origin: &[("Content-Type", "text/html")],
            visitor: &[
                "Content-Type: text/html",
                "Date: RECEIVED",
                "Accept-Ranges: bytes",
                "Cache-Control: public, max-age=0, must-revalidate",
                "Vary: x-declared, Accept",
            ],
            ..ISR
        },
        Case {
            name: "nothing is added for one visitor but the date",
            origin: &[("Content-Type", "text/html")],
            visitor: &["Content-Type: text/html", "Date: RECEIVED"],
            ..PASS
        },
        Case {
            name: "ranges are as the origin says where it says so",
            origin: &[("Date", "x"), ("Accept-Ranges", "none")],
            visitor: &["Date: x", "Accept-Ranges: none"],
            ..SSR
        },
        Case {
            name: "browsers get what the route says",
            route: "browser: 'max-age=9'",
            origin: &[("Date", "x"), ("Cache-Control", "s-maxage=60")],
            visitor: &[
                "Date: x",
                "Accept-Ranges: bytes",
                "Cache-Control: max-age=9",
                "Vary: Accept",
            ],
            ..ISR
        },
        Case {
            name: "but not for an error",
            route: "browser: 'max-age=9'",
            status: 404,
            origin: &[("Date", "x")],
            visitor: &[
                "Date: x",
                "Accept-Ranges: bytes",
                "Cache-Control: public, max-age=0, must-revalidate",
                "Vary: Accept",
            ],
            ..ISR
        },
        Case {
            name: "tags go on where the route says so",
            route: "forward_tags: true",
            origin: &[("Date", "x"), ("Surrogate-Key", "a"), ("Cache-Groups", "\"a\"")],
            visitor: &[
                "Date: x",
                "Surrogate-Key: a",
                "Cache-Groups: \"a\"",
                "Accept-Ranges: bytes",
                "Cache-Control: public, max-age=0, must-revalidate",
                "Vary: Accept",
            ],
            ..ISR
        },
        Case {
            name: "a body that is compressed here varies on it",
            compressible: true,
            origin: &[("Date", "x"), ("Vary", "accept-encoding")],
            visitor: &["Date: x", "Accept-Ranges: bytes", "Vary: accept-encoding"],
            ..SSR
        },
        Case {
            name: "a compressed page, too",
            compressible: true,
            origin: &[("Date", "x")],
            visitor: &[
                "Date: x",
                "Accept-Ranges: bytes",
                "Cache-Control: public, max-age=0, must-revalidate",
                "Vary: x-declared, Accept, Accept-Encoding",
            ],
            ..ISR
        },
        Case {
            name: "the preset's own field is ours to say, and its fields choose the form",
            preset: "nextjs",
            origin: &[("Date", "x"), ("x-nextjs-cache", "HIT"), ("X-Nextjs-Cache", "HIT")],
            visitor: &[
                "Date: x",
                "Accept-Ranges: bytes",
                "Cache-Control: public, max-age=0, must-revalidate",
                "Vary: x-declared, RSC, Next-Router-Prefetch, Next-Router-Segment-Prefetch, Next-Url",
            ],
            ..ISR
        },
        Case {
            name: "the preset's own field is ours to say on pass, too",
            preset: "nextjs",
            origin: &[("Date", "x"), ("x-nextjs-cache", "HIT")],
            visitor: &["Date: x"],
            ..PASS
        },
    ];

    #[test]
    fn the_visitors_head() {
        for case in CASES {
            let yaml = format!(
                "origins: {{ web: 'http://127.0.0.1:1' }}\nframework: {}\n\
                 routes: [ {{ path: /**, isr: {{ revalidate: 60s }}, {} }} ]\n",
                case.preset, case.route
            );
            let (config, _) = Config::from_yaml(&yaml, "test.yaml", &|_| None).unwrap();
            let route = Arc::clone(Routes::new(&config).find("a", "/a"));
            let mut origin = FieldsBuf::default();
            case.origin.iter().for_each(|(name, value)| origin.push(name, value.as_bytes()));
            let head = Shape {
                route: &route,
                page: case.page,
                audience: case.audience,
                preset: &Preset::new(&config.framework),
                status: StatusCode::from_u16(case.status).unwrap(),
                compressible: case.compressible,
                received: "RECEIVED",
            }
            .visitor(&origin.done());
            let head: Vec<String> = head
                .iter()
                .map(|(name, value)| format!("{name}: {}", std::str::from_utf8(value).unwrap()))
                .collect();
            assert_eq!(head, case.visitor, "{}", case.name);
        }
    }
}
