//! The response head that visitors get, made once when a page is stored.

use http::StatusCode;

use crate::framework::Preset;
use crate::page::{Fields, FieldsBuf};
use crate::route::{BROWSER_DEFAULT, Route};
use crate::rules::cache_control::Directives;
use crate::rules::hop;

/// What shapes the head of a stored response.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// The route, for what it says to browsers and about tags.
    pub route: &'a Route,
    /// Whether the page was stored under the terms of `isr` or `dsg`.
    pub page: bool,
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
    /// The visitor's fields: the origin's, less what is of one hop, of the body
    /// or for caches, plus what the route says (semantics §§2, 5, 6).
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
        if !has_ranges {
            out.push("Accept-Ranges", b"bytes");
        }
        if self.page {
            // A lifetime for browsers is for pages, not for the lack of one.
            let browser = self.route.browser.clone().filter(|_| !self.status.is_client_error());
            let browser = browser.unwrap_or(BROWSER_DEFAULT);
            out.push("Cache-Control", browser.as_bytes());
        }
        let vary = self.vary(origin);
        if !vary.is_empty() {
            out.push("Vary", vary.as_bytes());
        }
        out.done()
    }

    fn drops(&self, name: &str) -> bool {
        let of_body = ["content-length", "etag"];
        let ours = ["age", "x-cache", "vary", "set-cookie"];
        let for_caches =
            ["cache-control", "expires", "pragma", "cdn-cache-control", "surrogate-control"];
        let listed = |list: &[&str]| list.iter().any(|n| name.eq_ignore_ascii_case(n));
        listed(&of_body)
            || listed(&ours)
            || self.preset.cache_field().is_some_and(|n| name.eq_ignore_ascii_case(n))
            || (self.page && listed(&for_caches))
            || (!self.route.forward_tags && hop::is_tag_field(name)
                // Other caches may use the groups of a server-rendered response.
                && (self.page || !name.eq_ignore_ascii_case("cache-groups")))
    }

    /// On page routes a response varies on what its route declares and on what
    /// chooses its form; elsewhere on what the origin says.
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
        } else {
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
