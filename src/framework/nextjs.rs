//! Next.js, pages and app router. A page has a document, and as its data either
//! JSON at a URL of its own that names the build (pages router) or an RSC payload
//! at the same URL, chosen by request fields (app router).

mod body;
mod build;
mod expression;
pub(super) mod files;

use std::borrow::Cow;
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use subtle::ConstantTimeEq;

use self::body::{PIECE, is_exported, next_data, page_hints};
use self::build::Build;
use self::expression::expression;
use super::html::{scripts, tags};
use super::preset::{Changed, Doubt, Framework, Located, PageHints, Recognised, Rendering};
use super::routes::{BY_ORIGIN, RENDERED, YEAR, immutable, route};
use super::urls::{base_before, below, split};
use crate::config::{self, Made, Mode, NextPages, Route};
use crate::page::{Fields, Form};
use crate::request::{Facts, Request};
use crate::rules::Lines;
use crate::rules::vary::{self, Vary};

/// A Next.js site.
#[derive(Debug)]
pub(super) struct Nextjs {
    site: config::Nextjs,
    /// `BASE/_next/data/`
    data: String,
    /// `BASE/_next/static/`
    assets: String,
    /// What its build says of its pages, where it is at hand.
    pages: Option<Build>,
}

/// A fill asks as a crawler: with `fallback: true` a browser gets a loading
/// shell and a crawler the page.
const AGENT: &str = concat!("Perennial/", env!("CARGO_PKG_VERSION"), " (like Googlebot)");

/// In which Next says how its own cache answered.
pub(super) const CACHE_FIELD: &str = "x-nextjs-cache";

/// The query parameter by which browsers' own caches tell RSC payloads apart.
const RSC_PARAMETER: &str = "_rsc";

/// What Next hashes to check that parameter.
const MARKED_BY: &[&str] =
    &["next-router-prefetch", "next-router-segment-prefetch", "next-router-state-tree", "next-url"];

/// What a client sends to say which payload of a page it wants.
const RSC_FIELDS: &[&str] = &["next-router-prefetch", "next-router-segment-prefetch", "next-url"];

/// For files that change, and that the origin says nothing of.
const RENEWED: Mode = Mode::Isr { revalidate: Some(Duration::from_secs(60)), stale_for: YEAR };
/// What Next makes of the files `sitemap`, `robots` and the like in `app`.
const METADATA: &str = "{sitemap.xml,robots.txt,favicon.ico,manifest.webmanifest}";
/// Its icons and the images that are shown where a page is shared.
const IMAGES: &str = "{icon,apple-icon,opengraph-image,twitter-image}*.{png,jpg,jpeg,gif,svg,ico}";

/// Characters of a pattern of a build that a warning shows.
const LONGEST_PATTERN: usize = 80;

/// For `Vary`: what chooses between a page and its payloads.
const VARY: &[&str] = &["RSC", "Next-Router-Prefetch", "Next-Router-Segment-Prefetch", "Next-Url"];

impl Nextjs {
    pub(super) fn new(site: &config::Nextjs) -> Nextjs {
        let base = &site.base_path;
        Nextjs {
            data: format!("{base}/_next/data/"),
            assets: format!("{base}/_next/static/"),
            pages: site.pages.as_ref().map(|pages| Build::new(site, pages)),
            site: site.clone(),
        }
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
}

impl Framework for Nextjs {
    fn knows_pages(&self) -> Option<bool> {
        Some(self.site.pages.is_some())
    }

    fn doubts(&self) -> Vec<Doubt> {
        match &self.site.pages {
            Some(pages) => unreadable(pages),
            None => {
                let message = "for whom a page is rendered is guessed from what the origin \
                               answers, and middleware that chooses a page is not noticed: name \
                               the build (`nextjs: { build: ./.next }`), or give such paths \
                               routes of their own (`pass: {}`)";
                vec![(vec!["framework"], message.to_owned())]
            }
        }
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.site.detects_locale {
            let base = &self.site.base_path;
            remarks.push(format!("   {base}/ passes: Next sends visitors to their language"));
        }
        remarks.extend(self.site.pages.iter().flat_map(|pages| of_build(pages)));
        remarks
    }

    fn secret(&self) -> Option<&str> {
        self.site.preview_mode_id.as_deref()
    }

    fn build(&self) -> Option<&str> {
        self.site.build_id.as_deref()
    }

    fn rendering(&self, path: &str, form: Form) -> Rendering {
        self.pages.as_ref().map_or(Rendering::Unknown, |pages| pages.rendering(path, form))
    }

    /// Next says so of what comes out of its own cache of pages, or goes into it. What
    /// middleware answers itself, or a page for one client, does not.
    fn says_for_all(&self, response: &HeaderMap) -> bool {
        let known = |value: &HeaderValue| matches!(value.as_bytes(), b"HIT" | b"STALE" | b"MISS");
        response.get(CACHE_FIELD).is_some_and(known)
    }

    /// A path that no site has: the 404 page is rendered once, and tells the build.
    fn probe(&self) -> Option<String> {
        Some(format!("{}/_next/perennial-looks-for-a-new-build", self.site.base_path))
    }

    fn force_render(&self) -> Option<(&'static str, &str)> {
        Some(("x-prerender-revalidate", self.site.preview_mode_id.as_deref()?))
    }

    fn locate<'a>(&self, path: &'a str, request: &Request<'_>) -> Located<'a> {
        if let Some((build, file)) = path.strip_prefix(&*self.data).and_then(|p| p.split_once('/'))
            && let Some(page) = file.strip_suffix(".json")
            && !build.is_empty()
        {
            return Located {
                path: Cow::Owned(self.page_of(page)),
                form: Form::Data,
                build: Some(build),
            };
        }
        let form = if is_rsc(request) { Form::Payload } else { Form::Document };
        Located { path: Cow::Borrowed(path), form, build: None }
    }

    fn target<'a>(&self, page: &'a str, form: Form, build: Option<&str>) -> Option<Cow<'a, str>> {
        match form {
            Form::Document => Some(Cow::Borrowed(page)),
            // Appended where a client puts it; what follows the sign is for `attempt`.
            Form::Payload => Some(Cow::Borrowed(page)),
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

    /// Next tells the client that called an action, and nobody else, that `updateTag`,
    /// `revalidateTag` or `revalidatePath` was called, not for what: its router throws away
    /// all that it has.
    fn changed(&self, request: &Request<'_>, response: &HeaderMap) -> Option<Changed> {
        request.lines("next-action").next()?;
        let said = response.get("x-action-revalidated")?;
        if !is_revalidated(said.as_bytes()) {
            return None;
        }
        let redirect = response.get("x-action-redirect").and_then(|value| value.to_str().ok());
        // `/path;push`, and without the site's base path, which the router adds.
        let next = redirect.and_then(|redirect| redirect.split(';').next()).map(|next| {
            let base = if next.starts_with('/') { self.site.base_path.as_str() } else { "" };
            format!("{base}{next}")
        });
        Some(Changed { next })
    }

    /// With several locales Next redirects from `/` by the cookie `NEXT_LOCALE`, by
    /// `Accept-Language`, and to other domains; from no other path, and not for data.
    fn is_negotiated(&self, place: &Located<'_>) -> bool {
        let root = || below(&place.path, &self.site.base_path) == Some("/");
        self.site.detects_locale && place.form == Form::Document && root()
    }

    /// From version 15 on Next renders a page for the URL of the request that made it do
    /// so. That of data carries no slash at its end: with `trailingSlash` the document then
    /// shows another path than the browser, and React refuses it (errors 418 and 425).
    fn needs_document_first(&self, form: Form) -> bool {
        self.site.trailing_slash && form == Form::Data
    }

    fn is_asset(&self, path: &str) -> bool {
        path.starts_with(&*self.assets)
    }

    /// A draft cookie, the true one where that is known (`__next_preview_data`
    /// alone does nothing), or a server action.
    fn draft(&self, request: &Request<'_>, facts: &Facts) -> bool {
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

    fn assets(&self, path: &str, body: &[u8]) -> Vec<String> {
        body::assets(&self.assets, path, body)
    }

    fn page_hints(&self, form: Form, body: &[u8]) -> PageHints {
        page_hints(form, body)
    }

    /// Middleware that rewrites loses an empty mark, and Next 16 redirects to a URL without
    /// the rewriting then. This is the tree of a router that has nothing yet; what Next has
    /// stored or stores it renders without.
    fn asks_plainly(&self, form: Form) -> Option<(&'static str, &'static str)> {
        (form == Form::Payload)
            .then_some(("Next-Router-State-Tree", "%5B%22%22%2C%7B%7D%2Cnull%2C%22refetch%22%5D"))
    }

    /// By middleware, and then within: an intercepted route is another path again.
    fn rewritten<'a>(&self, response: &'a HeaderMap) -> Vec<&'a str> {
        let path = |said: &'a str| {
            let after = said
                .split_once("://")
                .map_or(said, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
            after.split('?').next().unwrap_or(after)
        };
        ["x-middleware-rewrite", "x-nextjs-rewritten-path"]
            .iter()
            .filter_map(|name| Some(path(response.get(*name)?.to_str().ok()?)))
            .filter(|path| path.starts_with('/'))
            .collect()
    }

    fn asks(&self, form: Form) -> Option<(&'static str, &'static str)> {
        match form {
            Form::Document => None,
            // Middleware answers such a request with fields instead of a redirect.
            Form::Data => Some(("x-nextjs-data", "1")),
            Form::Payload => Some(("RSC", "1")),
        }
    }

    fn agent(&self) -> &'static str {
        AGENT
    }

    fn forms(&self) -> &'static [Form] {
        &[Form::Document, Form::Data, Form::Payload]
    }

    fn is_speculative(&self, form: Form) -> bool {
        form == Form::Payload
    }

    /// A segment of a payload, by its name.
    fn can_be_made_up(&self, form: Form, fields: &Fields) -> bool {
        form == Form::Payload && fields.get("next-router-segment-prefetch").is_some()
    }

    fn fields(&self, form: Form) -> &'static [&'static str] {
        if form == Form::Payload { RSC_FIELDS } else { &[] }
    }

    fn is_foreign(&self, request: &Request<'_>, form: Form) -> bool {
        form == Form::Payload && is_foreign(request)
    }

    fn selecting(&self, form: Form, response: &HeaderMap) -> Vec<Box<str>> {
        if form == Form::Payload { selecting(response) } else { Vec::new() }
    }

    fn vary(&self) -> &'static [&'static str] {
        VARY
    }

    fn cache_buster(&self) -> Option<&'static str> {
        Some(RSC_PARAMETER)
    }

    fn cache_buster_fields(&self) -> &'static [&'static str] {
        MARKED_BY
    }

    fn strips(&self, name: &str, form: Form) -> bool {
        strips(name, form)
    }

    fn cache_field(&self) -> Option<&'static str> {
        Some(CACHE_FIELD)
    }

    fn silent_is_static(&self) -> bool {
        true
    }

    /// The build made it.
    fn is_for_all(&self, _form: Form, body: &[u8]) -> bool {
        is_exported(body)
    }
}

/// Whether a request has values in the fields that choose a payload that Next's
/// router does not send: kinds of prefetch that there are not, or what is no path.
fn is_foreign(request: &Request<'_>) -> bool {
    /// No path of a page is longer.
    const MAX_PATH: usize = 2048;
    let path = |value: &[u8]| {
        value.starts_with(b"/") && value.len() <= MAX_PATH && value.iter().all(u8::is_ascii_graphic)
    };
    RSC_FIELDS.iter().any(|name| {
        let mut lines = request.lines(name);
        let (Some(value), more) = (lines.next(), lines.next()) else { return false };
        let known = match *name {
            // A whole prefetch, one of what is the same at run time, one up to its
            // loading states.
            "next-router-prefetch" => matches!(value, b"1" | b"2" | b"3"),
            _ => path(value),
        };
        !known || more.is_some()
    })
}

/// Whether an action has changed what is cached: `1` (2: what is rendered for each
/// client), or up to Next 15 `[[path, …], tags, cookies]` with 1 for what was changed.
/// That cookies were set, Next 16 says by `1`, too.
fn is_revalidated(said: &[u8]) -> bool {
    match serde_json::from_slice(said) {
        Ok(Value::Number(kind)) => kind.as_u64() == Some(1),
        Ok(Value::Array(parts)) => {
            let paths = parts.first().and_then(Value::as_array);
            paths.is_some_and(|paths| !paths.is_empty())
                || parts.get(1).and_then(Value::as_u64) == Some(1)
        }
        _ => false,
    }
}

/// Whether an RSC payload is asked for.
fn is_rsc(request: &Request<'_>) -> bool {
    request.lines("rsc").any(|value| value.trim_ascii() == b"1")
}

/// Which of the fields that were sent select the payload: the kinds of prefetch
/// always, the page that the client is on only where the response says so (it
/// tells intercepted routes apart, and few pages have those).
fn selecting(response: &HeaderMap) -> Vec<Box<str>> {
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
/// that a client could use to pass by the one or to mislead the other.
fn strips(name: &str, form: Form) -> bool {
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

/// Patterns of a build that cannot be read: what they match is not known.
fn unreadable(pages: &NextPages) -> Vec<Doubt> {
    let middleware: Vec<&str> = pages.middleware.iter().map(|m| &*m.pattern).collect();
    let others = pages.before.iter().chain(&pages.between);
    let others: Vec<&str> =
        others.chain(pages.with_parameters.iter().map(|(p, _)| p)).map(|p| &**p).collect();
    let mut doubts = Vec::new();
    for (patterns, so) in [
        (middleware, "middleware is taken to run everywhere, so the origin is asked each time"),
        (others, "it is guessed for whom the pages that it may match are rendered"),
    ] {
        for pattern in patterns.into_iter().filter(|text| expression(text).is_none()) {
            let short: String = pattern.chars().take(LONGEST_PATTERN).collect();
            let cut = if short.len() < pattern.len() { "…" } else { "" };
            let message = format!("the pattern {short:?}{cut} of the build cannot be read: {so}");
            doubts.push((vec!["nextjs", "build"], message));
        }
    }
    doubts
}

/// What the build says of the pages, and where middleware runs.
fn of_build(pages: &NextPages) -> Vec<String> {
    let named = |made: Made| pages.named.values().filter(|other| **other == made).count();
    let several = |made: Option<Made>| {
        pages.with_parameters.iter().filter(|(_, other)| *other == made).count()
    };
    let each = named(Made::ForEach) + named(Made::Partly) + several(Some(Made::ForEach));
    let all = named(Made::ForAll) + several(Some(Made::ForAll));
    let mut lines = vec![
        format!("\nbuild    {all} pages and patterns of pages are made for all"),
        format!("         {each} are rendered for each visitor: ssr"),
    ];
    let source = |matcher: &config::Matcher| match &*matcher.source {
        "" => matcher.pattern.clone(),
        source => source.to_owned(),
    };
    let middleware: Vec<String> = pages.middleware.iter().map(source).collect();
    if !middleware.is_empty() {
        let paths = middleware.join("  ");
        lines.push(format!("         middleware runs, so the origin is asked each time: {paths}"));
    }
    lines
}

/// The routes of a site, after those of the file.
pub(super) fn routes(site: &config::Nextjs) -> Vec<Route> {
    let base = &site.base_path;
    // By its query and by the formats that the browser takes.
    let mut image = route(format!("{base}/_next/image"), RENDERED);
    image.vary = vec![ACCEPT];
    vec![
        immutable(format!("{base}/_next/static/**"), BY_ORIGIN),
        image,
        route(format!("{base}/_next/**"), RENDERED),
        route(format!("{base}/api/**"), Mode::Pass),
        // Next says `max-age=0` of these, whoever asks, and names them by their content.
        route(format!("{base}/**/{METADATA}"), RENEWED),
        route(format!("{base}/**/{IMAGES}"), RENEWED),
        route("/**".to_owned(), BY_ORIGIN),
    ]
}

/// Whether a document is Next's.
pub(super) fn recognise(
    _page: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<Recognised<config::Nextjs>> {
    let data = next_data(body);
    let powered = headers.get("x-powered-by").is_some_and(|value| value == "Next.js");
    let because = if data.is_some() {
        "the page has `__NEXT_DATA__`"
    } else if scripts(body).any(|script| script.starts_with(PIECE)) {
        "the page sets `__next_f`"
    } else if powered {
        "the field `x-powered-by: Next.js`"
    } else {
        return None;
    };
    // Not from other tags: a description holds any text, and images of other sites are named.
    let files = tags(body).filter(|tag| tag.is("script")).filter_map(|tag| tag.get("src"));
    let mut site = config::Nextjs {
        base_path: base_before(files, "/_next/static/"),
        ..config::Nextjs::default()
    };
    if let Some(data) = data {
        site.default_locale = data.default_locale.map(Cow::into_owned);
        site.locales = data.locales.into_iter().map(Cow::into_owned).collect();
    }
    Some(Recognised { site, because })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::testing;

    fn site(change: impl FnOnce(&mut config::Nextjs)) -> Nextjs {
        let mut site = config::Nextjs::default();
        change(&mut site);
        Nextjs::new(&site)
    }

    fn with<T>(fields: &[(&str, &str)], ask: impl FnOnce(&Request<'_>, &Facts) -> T) -> T {
        let fields = testing::fields(fields);
        let request = testing::get("/", &fields);
        ask(&request, &Facts::of(&request))
    }

    #[test]
    fn pages_and_their_data() {
        let plain = site(|_| ());
        let slashed = site(|site| site.trailing_slash = true);
        let based = site(|site| site.base_path = "/docs".to_owned());
        let languages = site(|site| {
            site.default_locale = Some("en".to_owned());
            site.locales = vec!["en".to_owned(), "fr".to_owned()];
        });
        for (next, page, data) in [
            (&plain, "/", "/_next/data/B/index.json"),
            (&plain, "/p", "/_next/data/B/p.json"),
            (&plain, "/a/b", "/_next/data/B/a/b.json"),
            (&plain, "/index", "/_next/data/B/index/index.json"),
            (&plain, "/index/a", "/_next/data/B/index/index/a.json"),
            (&plain, "/indexes", "/_next/data/B/indexes.json"),
            (&plain, "/p.json", "/_next/data/B/p.json.json"),
            (&plain, "/caf%C3%A9", "/_next/data/B/caf%C3%A9.json"),
            (&slashed, "/", "/_next/data/B/index.json"),
            (&slashed, "/p/", "/_next/data/B/p.json"),
            (&based, "/docs", "/docs/_next/data/B/index.json"),
            (&based, "/docs/p", "/docs/_next/data/B/p.json"),
            (&languages, "/", "/_next/data/B/en.json"),
            (&languages, "/p", "/_next/data/B/en/p.json"),
            (&languages, "/fr", "/_next/data/B/fr.json"),
            (&languages, "/fr/p", "/_next/data/B/fr/p.json"),
            (&languages, "/french", "/_next/data/B/en/french.json"),
        ] {
            assert_eq!(next.target(page, Form::Data, Some("B")).as_deref(), Some(data), "{page}");
            with(&[], |request, _| {
                let place = next.locate(data, request);
                assert_eq!(
                    (&*place.path, place.form, place.build),
                    (page, Form::Data, Some("B")),
                    "{data}"
                );
                assert_eq!(next.locate(page, request).form, Form::Document, "{page}");
            });
        }
        assert_eq!(
            plain.target("/p?q=1", Form::Data, Some("B")).as_deref(),
            Some("/_next/data/B/p.json?q=1")
        );
        assert_eq!(plain.target("/p", Form::Data, None), None, "no URL without a build");
        for path in
            ["/_next/data/B", "/_next/data/B/", "/_next/data//p.json", "/x/_next/data/B/p.json"]
        {
            with(&[], |request, _| {
                assert_eq!(plain.locate(path, request).form, Form::Document, "{path}");
            });
        }
    }

    #[test]
    fn payloads() {
        let next = site(|_| ());
        for (fields, form) in [
            (&[("RSC", "1")][..], Form::Payload),
            (&[("rsc", " 1 ")][..], Form::Payload),
            (&[("RSC", "0")][..], Form::Document),
            (&[("Next-Router-Prefetch", "1")][..], Form::Document),
        ] {
            with(fields, |request, _| {
                assert_eq!(next.locate("/p", request).form, form, "{fields:?}")
            });
        }
        let mut response = HeaderMap::new();
        assert_eq!(selecting(&response).len(), 2);
        response.insert("vary", "rsc, next-router-prefetch, Next-Url".parse().unwrap());
        assert_eq!(selecting(&response).last().map(|name| &**name), Some("next-url"));
    }

    #[test]
    fn editors() {
        let open = site(|_| ());
        let known = site(|site| site.preview_mode_id = Some("secret".to_owned()));
        for (fields, with_any, with_known) in [
            (&[("Cookie", "a=1; __prerender_bypass=secret")][..], true, true),
            (&[("Cookie", "__prerender_bypass=guess")][..], true, false),
            (&[("Cookie", "__prerender_bypass=")][..], false, false),
            (&[("Cookie", "x__prerender_bypass=secret")][..], false, false),
            (&[("Cookie", "__next_preview_data=x")][..], false, false),
            (&[("Next-Action", "abc")][..], true, true),
            (&[][..], false, false),
        ] {
            with(fields, |request, facts| {
                assert_eq!(open.draft(request, facts), with_any, "{fields:?}");
                assert_eq!(known.draft(request, facts), with_known, "{fields:?}");
            });
        }
        assert_eq!(known.force_render(), Some(("x-prerender-revalidate", "secret")));
        assert_eq!(open.force_render(), None);
    }

    #[test]
    fn what_clients_may_not_send() {
        for (name, form, stripped) in [
            ("X-Middleware-Subrequest", Form::Document, true),
            ("x-middleware-", Form::Document, true),
            ("x-middlewar", Form::Document, false),
            ("x-invoke-path", Form::Document, true),
            ("X-Now-Route-Matches", Form::Payload, true),
            ("x-matched-path", Form::Document, true),
            ("next-resume", Form::Document, true),
            ("x-prerender-revalidate", Form::Data, true),
            ("x-nextjs-data", Form::Document, true),
            ("x-nextjs-data", Form::Data, false),
            ("Next-Router-State-Tree", Form::Payload, false),
        ] {
            assert_eq!(strips(name, form), stripped, "{name}");
        }
    }

    #[test]
    fn what_documents_tell() {
        let pages = |data: &str| {
            format!(
                "<p>buildId&quot;</p><script id=\"__NEXT_DATA__\" type=\"application/json\">{data}</script>"
            )
        };
        let flight = |pieces: &[&str]| {
            let pieces = pieces.iter().map(|piece| {
                let piece = serde_json::to_string(piece).unwrap();
                format!("<script>self.__next_f.push([1,{piece}])</script>")
            });
            format!(
                "<script>(self.__next_f=self.__next_f||[]).push([0])</script>{}",
                pieces.collect::<String>()
            )
        };
        const EVIL: &str = r#"self.__next_f.push([1,"0:{\"b\":\"evil\"}\n"])"#;
        let long = "9:T10,\n0:{\"b\":\"evil\"}\n0:{\"P\":null,\"b\":\"B-3\"}\n";
        for (form, body, build, pair) in [
            (
                Form::Document,
                pages(r#"{"props":{"b":"x"},"buildId":"B_1","isFallback":false,"gsp":true}"#),
                Some("B_1"),
                Some(Form::Data),
            ),
            (Form::Document, pages(r#"{"buildId":"B1","nextExport":true}"#), Some("B1"), None),
            (
                Form::Document,
                pages(r#"{"buildId":"B1","isFallback":true,"gsp":true}"#),
                Some("B1"),
                None,
            ),
            (Form::Document, pages(r#"{"buildId":"../x"}"#), None, None),
            (
                Form::Document,
                flight(&[
                    "1:\"$Sreact.fragment\"\n0:{\"P\":null,",
                    "\"c\":[{\"b\":\"x\"}],\"b\":\"B2\"}\n",
                ]),
                Some("B2"),
                Some(Form::Payload),
            ),
            (
                Form::Document,
                flight(&["0:[\"$\",\"$L1\",null,{\"buildId\":\"B14\",\"b\":1}]\n"]),
                Some("B14"),
                Some(Form::Payload),
            ),
            (Form::Document, flight(&[long]), Some("B-3"), Some(Form::Payload)),
            (Form::Document, "<p>\"buildId\":\"evil\"</p>".to_owned(), None, None),
            // What clients wrote, in text, in an attribute, in a script's string.
            (
                Form::Document,
                format!("<p>{EVIL}</p>{}", flight(&["0:{\"b\":\"B\"}\n"])),
                Some("B"),
                Some(Form::Payload),
            ),
            (Form::Document, format!("<p title='<script>{EVIL}</script>'>"), None, None),
            (Form::Document, format!("<p title='{}'>", pages(r#"{"buildId":"evil"}"#)), None, None),
            (Form::Document, format!("<script>var a='{EVIL}'</script>"), None, None),
            // Rows of which a part is missing.
            (
                Form::Document,
                format!(
                    "{}<script>self.__next_f.push([3,\"AA==\"])</script>{}",
                    flight(&["1:T4,"]),
                    flight(&["0:{\"b\":\"evil\"}\n"])
                ),
                None,
                Some(Form::Payload),
            ),
            (Form::Payload, "1:Tff,a\n0:{\"b\":\"evil\"}\n".to_owned(), None, Some(Form::Document)),
            (
                Form::Payload,
                "2:I[1]\n0:[\"B14\",[[\"\"]]]\n".to_owned(),
                Some("B14"),
                Some(Form::Document),
            ),
            (Form::Payload, long.to_owned(), Some("B-3"), Some(Form::Document)),
            (Form::Data, "{\"b\":\"x\"}".to_owned(), None, Some(Form::Document)),
        ] {
            let told = page_hints(form, body.as_bytes());
            assert_eq!((told.build.as_deref(), told.pair), (build, pair), "{body}");
        }
    }

    #[test]
    fn assets_that_are_named() {
        let next = site(|_| ());
        let body = br#"<script src="/_next/static/chunks/a-1.js" async=""></script>
            I[1,["1","static/chunks/pages/blog/[slug]-2.js"],""] "static/chunks/a-1.js"
            url(/_next/static/media/f.woff2) "static/chunks/app/(shop)/page-3.js"
            "/static/x" "static/../../etc/passwd.js" "static/.js""#;
        assert_eq!(
            next.assets("/p", body),
            [
                "/_next/static/chunks/a-1.js",
                "/_next/static/chunks/pages/blog/%5Bslug%5D-2.js",
                "/_next/static/media/f.woff2",
                "/_next/static/chunks/app/(shop)/page-3.js",
            ]
        );
        assert!(next.is_asset("/_next/static/chunks/a-1.js") && !next.is_asset("/_next/image"));
    }

    /// Where the time were in proportion to the square of the size, this would take
    /// hours.
    #[test]
    fn pages_that_name_thousands_of_assets() {
        use super::super::urls::{MAX_NAME, MAX_NAMES};
        let next = site(|_| ());
        let many: String = (0..4000).map(|n| format!("\"static/chunks/{n}.js\" ")).collect();
        let names = next.assets("/p", many.as_bytes());
        assert_eq!(names.len(), MAX_NAMES);
        assert_eq!(names[MAX_NAMES - 1], format!("/_next/static/chunks/{}.js", MAX_NAMES - 1));
        let twice = "\"static/chunks/a.js\" ".repeat(10_000) + "static/chunks/b.js";
        assert_eq!(next.assets("/p", twice.as_bytes()).len(), 2);
        for bad in ["static/", "static/a", "static/.js", "static/a.js/"] {
            let body = bad.repeat((1 << 20) / bad.len());
            assert!(next.assets("/p", body.as_bytes()).len() <= 1, "{bad}");
        }
        let long = format!("static/{}.js", "x".repeat(MAX_NAME));
        assert!(next.assets("/p", long.as_bytes()).is_empty());
    }
}
