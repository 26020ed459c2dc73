//! Next.js, pages and app router. A page has a document, and as its data either
//! JSON at a URL of its own that names the build (pages router) or an RSC payload
//! at the same URL, chosen by request fields (app router).

use std::borrow::Cow;

use http::HeaderMap;
use memchr::memmem;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::{Place, Told, below, split};
use crate::config;
use crate::page::Form;
use crate::request::{Facts, Request};
use crate::rules::Lines;
use crate::rules::vary::{self, Vary};

/// A Next.js site.
#[derive(Debug)]
pub struct Nextjs {
    site: config::Nextjs,
    /// `BASE/_next/data/`
    data: String,
    /// `BASE/_next/static/`
    assets: String,
}

/// A fill asks as a crawler: with `fallback: true` a browser gets a loading
/// shell and a crawler the page.
pub(super) const AGENT: &str =
    concat!("Perennial/", env!("CARGO_PKG_VERSION"), " (like Googlebot)");

/// The query parameter by which browsers' own caches tell RSC payloads apart.
pub(super) const RSC_PARAMETER: &str = "_rsc";

/// What a client sends to say which payload of a page it wants.
pub(super) const RSC_FIELDS: &[&str] =
    &["next-router-prefetch", "next-router-segment-prefetch", "next-url"];

/// For `Vary`: what chooses between a page and its payloads.
pub(super) const VARY: &[&str] =
    &["RSC", "Next-Router-Prefetch", "Next-Router-Segment-Prefetch", "Next-Url"];

impl Nextjs {
    pub(super) fn new(site: &config::Nextjs) -> Nextjs {
        let base = &site.base_path;
        Nextjs {
            data: format!("{base}/_next/data/"),
            assets: format!("{base}/_next/static/"),
            site: site.clone(),
        }
    }

    pub(super) fn build(&self) -> Option<&str> {
        self.site.build_id.as_deref()
    }

    /// A path that no site has: the 404 page is rendered once, and tells the build.
    pub(super) fn probe(&self) -> String {
        format!("{}/_next/perennial-looks-for-a-new-build", self.site.base_path)
    }

    pub(super) fn anew(&self) -> Option<(&'static str, &str)> {
        Some(("x-prerender-revalidate", self.site.preview_mode_id.as_deref()?))
    }

    pub(super) fn locate<'a>(&self, path: &'a str, request: &Request<'_>) -> Place<'a> {
        if let Some((build, file)) = path.strip_prefix(&*self.data).and_then(|p| p.split_once('/'))
            && let Some(page) = file.strip_suffix(".json")
            && !build.is_empty()
        {
            return Place {
                path: Cow::Owned(self.page_of(page)),
                form: Form::Data,
                build: Some(build),
            };
        }
        let form = if is_rsc(request) { Form::Rsc } else { Form::Document };
        Place { path: Cow::Borrowed(path), form, build: None }
    }

    /// The page whose data is `NAME.json`.
    fn page_of(&self, name: &str) -> String {
        let name = match &self.site.default_locale {
            // The default locale's pages carry no prefix, their data does.
            Some(locale) if name == locale => "",
            Some(locale) => {
                name.strip_prefix(&**locale).and_then(|n| n.strip_prefix('/')).unwrap_or(name)
            }
            None => name,
        };
        let name = match name {
            "index" => "",
            name => name.strip_prefix("index/").unwrap_or(name),
        };
        let base = &self.site.base_path;
        match (name, self.site.trailing_slash) {
            ("", false) if !base.is_empty() => base.clone(),
            ("", _) => format!("{base}/"),
            (name, true) => format!("{base}/{name}/"),
            (name, false) => format!("{base}/{name}"),
        }
    }

    pub(super) fn target<'a>(
        &self,
        page: &'a str,
        form: Form,
        build: Option<&str>,
    ) -> Option<Cow<'a, str>> {
        match form {
            Form::Document => Some(Cow::Borrowed(page)),
            // Appended where a client puts it; what follows the sign is for `attempt`.
            Form::Rsc => Some(Cow::Borrowed(page)),
            Form::Data => {
                let (path, query) = split(page);
                let name = below(path, &self.site.base_path)?.trim_end_matches('/');
                let name = name.strip_prefix('/').unwrap_or(name);
                let first = name.split('/').next().unwrap_or(name);
                let (data, build) = (&self.data, build?);
                let name: Cow<'_, str> = match &self.site.default_locale {
                    Some(locale) if !self.site.locales.iter().any(|l| l == first) => {
                        if name.is_empty() {
                            Cow::Borrowed(locale)
                        } else {
                            Cow::Owned(format!("{locale}/{name}"))
                        }
                    }
                    _ if name.is_empty() => Cow::Borrowed("index"),
                    _ if first == "index" => Cow::Owned(format!("index/{name}")),
                    _ => Cow::Borrowed(name),
                };
                Some(Cow::Owned(format!("{data}{build}/{name}.json{query}")))
            }
        }
    }

    pub(super) fn is_asset(&self, path: &str) -> bool {
        path.starts_with(&*self.assets)
    }

    /// A draft cookie, the true one where that is known (`__next_preview_data`
    /// alone does nothing), or a server action.
    pub(super) fn draft(&self, request: &Request<'_>, facts: &Facts) -> bool {
        if request.lines("next-action").next().is_some() {
            return true;
        }
        if !facts.cookie {
            return false;
        }
        let mut cookies = request.lines("cookie").flat_map(|line| line.split(|b| *b == b';'));
        cookies.any(|cookie| {
            let Some(value) = cookie.trim_ascii().strip_prefix(b"__prerender_bypass=") else {
                return false;
            };
            match &self.site.preview_mode_id {
                Some(id) => bool::from(value.ct_eq(id.as_bytes())),
                None => !value.is_empty(),
            }
        })
    }

    /// The bundles, style sheets and fonts that a body names.
    pub(super) fn assets(&self, path: &str, body: &[u8]) -> Vec<String> {
        const MARK: &[u8] = b"static/";
        // As a browser encodes them, and as a canonical path is.
        const ESCAPED: &AsciiSet = &CONTROLS.add(b'[').add(b']').add(b' ');
        let mut found: Vec<String> = Vec::new();
        for at in memmem::find_iter(body, MARK) {
            let rest = &body[at + MARK.len()..];
            let end = rest
                .iter()
                .position(|b| {
                    !(b.is_ascii_alphanumeric()
                        || matches!(b, b'/' | b'-' | b'_' | b'.' | b'~' | b'%' | b'[' | b']')
                        || matches!(b, b'(' | b')' | b'@' | b'+'))
                })
                .unwrap_or(rest.len());
            let Ok(name) = std::str::from_utf8(&rest[..end]) else { continue };
            // A font in a style sheet is closed by the bracket of its `url(…)`.
            let name = name.strip_suffix(')').filter(|n| !n.contains('(')).unwrap_or(name);
            let kind = name.rsplit('.').next().unwrap_or("");
            let known = matches!(
                kind,
                "js" | "mjs"
                    | "css"
                    | "woff"
                    | "woff2"
                    | "ttf"
                    | "otf"
                    | "png"
                    | "jpg"
                    | "jpeg"
                    | "webp"
                    | "avif"
                    | "svg"
                    | "gif"
                    | "ico"
                    | "wasm"
                    | "json"
            );
            if !known || name.len() == kind.len() || name.contains("..") || name.starts_with('/') {
                continue;
            }
            let asset = format!("{}{}", self.assets, utf8_percent_encode(name, ESCAPED));
            if asset != path && !found.contains(&asset) {
                found.push(asset);
            }
        }
        found
    }
}

/// Whether an RSC payload is asked for.
fn is_rsc(request: &Request<'_>) -> bool {
    request.lines("rsc").any(|value| value.trim_ascii() == b"1")
}

/// Which of the fields that were sent select the payload: the kinds of prefetch
/// always, the page that the visitor is on only where the response says so (it
/// tells intercepted routes apart, and few pages have those).
pub(super) fn selecting(response: &HeaderMap) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = RSC_FIELDS[..2].iter().map(|name| (*name).into()).collect();
    let says = match vary::parse(response) {
        Vary::Names(names) => names.iter().any(|name| name == "next-url"),
        Vary::Star => true,
        Vary::None => false,
    };
    if says {
        names.push("next-url".into());
    }
    names
}

/// Fields that speak to the inside of Next, from middleware to renderer, and
/// that a visitor could use to pass by the one or to mislead the other.
pub(super) fn strips(name: &str, form: Form) -> bool {
    const PREFIXES: &[&str] = &["x-middleware-", "x-invoke-"];
    const NAMES: &[&str] = &[
        "next-resume",
        "x-matched-path",
        "x-now-route-matches",
        "x-prerender-revalidate",
        "x-prerender-revalidate-if-generated",
    ];
    let starts = |prefix: &&str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    PREFIXES.iter().any(starts)
        || NAMES.iter().any(|n| name.eq_ignore_ascii_case(n))
        || (form != Form::Data && name.eq_ignore_ascii_case("x-nextjs-data"))
}

/// What the pages router writes at the end of a document.
#[derive(Deserialize)]
struct NextData<'a> {
    #[serde(rename = "buildId", borrow)]
    build: Option<Cow<'a, str>>,
    /// Rendered by `getStaticProps`: there is data.
    #[serde(default)]
    gsp: bool,
    /// A loading shell.
    #[serde(rename = "isFallback", default)]
    fallback: bool,
}

/// What a document tells.
pub(super) fn told(form: Form, body: &[u8]) -> Told {
    match form {
        Form::Document => of_document(body),
        Form::Rsc => Told { build: in_flight(body, b"\""), pair: Some(Form::Document) },
        Form::Data => Told { build: None, pair: Some(Form::Document) },
    }
}

fn of_document(body: &[u8]) -> Told {
    const DATA: &[u8] = b"<script id=\"__NEXT_DATA__\" type=\"application/json\"";
    if let Some(at) = memmem::rfind(body, DATA)
        && let Some(begin) = memchr::memchr(b'>', &body[at..])
        && let Some(end) = memmem::find(&body[at..], b"</script>")
        && let Ok(data) = serde_json::from_slice::<NextData<'_>>(&body[at + begin + 1..at + end])
    {
        let pair = (data.gsp && !data.fallback).then_some(Form::Data);
        return Told { build: data.build.as_deref().and_then(plain), pair };
    }
    const FLIGHT: &[u8] = b"self.__next_f.push(";
    if memmem::find(body, FLIGHT).is_none() {
        return Told::default();
    }
    Told { build: in_flight(body, b"\\\""), pair: Some(Form::Rsc) }
}

/// The build that the first row of a payload names; `quote` is how a quotation
/// mark is written there.
fn in_flight(body: &[u8], quote: &[u8]) -> Option<Box<str>> {
    for name in [&b"b"[..], b"buildId"] {
        let mark = [quote, name, quote, b":", quote].concat();
        let Some(at) = memmem::find(body, &mark) else { continue };
        let start = at + mark.len();
        let Some(end) = memmem::find(&body[start..], quote) else { continue };
        if let Some(build) = std::str::from_utf8(&body[start..start + end]).ok().and_then(plain) {
            return Some(build);
        }
    }
    None
}

/// A build id as Next allows it in a URL.
fn plain(id: &str) -> Option<Box<str>> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    ((1..=128).contains(&id.len()) && id.bytes().all(good)).then(|| id.into())
}
