//! Presets: which page and form a URL means, which URLs a page has, and what
//! else is particular to a framework (semantics §§1, 4, 6).
//!
//! Nothing outside this room knows a framework by name, but the configuration
//! that chooses one.

mod astro;
mod gatsby;
mod generic;
mod html;
mod nextjs;
mod nuxt;
mod react_router;
mod sveltekit;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use http::HeaderMap;

use crate::config;
use crate::page::{Fields, Form, canonical_path};
use crate::request::{Facts, Request};

/// A preset: a framework with what is known of the site. Cloning is cheap.
///
/// A new one is a file in this folder with a [`Framework`] and a function that recognises
/// it, each named in a list below, and what the configuration says of it: a variant of
/// [`config::Framework`] and the routes that it brings.
#[derive(Clone, Debug)]
pub struct Preset(Arc<dyn Framework>);

impl Preset {
    /// The preset that the configuration names.
    #[must_use]
    pub fn new(framework: &config::Framework) -> Preset {
        Preset(match framework {
            config::Framework::Generic => Arc::new(generic::Generic),
            config::Framework::Nextjs(site) => Arc::new(nextjs::Nextjs::new(site)),
            config::Framework::Gatsby(site) => Arc::new(gatsby::Gatsby::new(site)),
            config::Framework::Sveltekit(site) => Arc::new(sveltekit::Sveltekit::new(site)),
            config::Framework::ReactRouter(site) => Arc::new(react_router::ReactRouter::new(site)),
            config::Framework::Nuxt(site) => Arc::new(nuxt::Nuxt::new(site)),
            config::Framework::Astro(site) => Arc::new(astro::Astro::new(site)),
        })
    }

    /// The one for any renderer.
    #[must_use]
    pub fn generic() -> Preset {
        Preset::new(&config::Framework::Generic)
    }
}

impl Deref for Preset {
    type Target = dyn Framework;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// How to tell a framework by a page that it rendered: the page's path, the response's
/// fields, and its body.
type Recognise = fn(&str, &HeaderMap, &[u8]) -> Option<Found>;

/// In this order: what only one of them prints comes first.
const RECOGNISE: [Recognise; 6] = [
    nextjs::recognise,
    gatsby::recognise,
    sveltekit::recognise,
    react_router::recognise,
    nuxt::recognise,
    astro::recognise,
];

/// A framework that was told by a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The framework, with what the page tells of the site.
    pub framework: config::Framework,
    /// What told it.
    pub because: &'static str,
}

/// The framework that rendered the page at `path`, if it is one of those that there are
/// presets for.
#[must_use]
pub fn recognise(path: &str, headers: &HeaderMap, body: &[u8]) -> Option<Found> {
    RECOGNISE.iter().find_map(|recognise| recognise(path, headers, body))
}

/// What a URL means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The page, by the path of its document.
    pub path: Cow<'a, str>,
    /// Which form of it.
    pub form: Form,
    /// The build that the URL names.
    pub build: Option<&'a str>,
}

/// What a stored body tells of its page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The build that rendered it.
    pub build: Option<Box<str>>,
    /// The other form that the page surely has.
    pub pair: Option<Form>,
}

/// What the site's build says of a page: for whom it is rendered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rendering {
    /// Nothing: no build is at hand, or it does not know the path.
    #[default]
    Unknown,
    /// Without any request's fields: it is the same for all.
    ForAll,
    /// For each visitor.
    ForEach,
    /// Middleware runs before it, whose answer is for who asked alone.
    Guarded {
        /// What it lets through may be the same for all.
        for_all: bool,
    },
}

impl Rendering {
    /// Whether middleware runs before the page: nothing is given to anybody of which the
    /// origin was not asked for them.
    #[must_use]
    pub const fn is_guarded(self) -> bool {
        matches!(self, Self::Guarded { .. })
    }
}

/// An answer says that pages were changed by its request: the one that was asked, at
/// least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Where its client goes from there, as a reference.
    pub next: Option<String>,
}

/// Everything that is particular to a framework. What one does not say is as for a
/// renderer with documents and, for each of them, data at a URL of its own.
pub trait Framework: Debug + Send + Sync {
    /// What a canonical path means.
    fn locate<'a>(&self, path: &'a str, request: &Request<'_>) -> Place<'a>;

    /// The target to ask the origin for, to get a form of the page at `page`
    /// (path and keyed query); none if the page cannot have that form, or if the
    /// build is not known that its URL would name.
    fn target<'a>(&self, page: &'a str, form: Form, build: Option<&str>) -> Option<Cow<'a, str>>;

    /// What the body of a successful response tells of its page.
    fn told(&self, form: Form, body: &[u8]) -> Told;

    /// A path that is cheap to render and tells the build, to look for a new one.
    fn probe(&self) -> Option<String> {
        None
    }

    /// The build that the answer to this names.
    fn probed(&self, body: &[u8]) -> Option<Box<str>> {
        self.told(Form::Document, body).build
    }

    /// The build that was read from the site's files.
    fn build(&self) -> Option<&str> {
        None
    }

    /// What the site's build says of the page at a canonical path. It is asked for every
    /// request: one look into a table.
    fn rendering(&self, _path: &str, _form: Form) -> Rendering {
        Rendering::Unknown
    }

    /// Whether a response says that it was made without any request's fields, and so is the
    /// same for all whom the site lets have it.
    fn says_for_all(&self, _response: &HeaderMap) -> bool {
        false
    }

    /// The `Accept` field that asks the origin for a form.
    fn accept(&self, form: Form) -> &'static str {
        match form {
            Form::Document => DOCUMENTS,
            Form::Data | Form::Rsc => "*/*",
        }
    }

    /// The field by which a fill says which form it wants, where the URL alone does not.
    fn asks(&self, _form: Form) -> Option<(&'static str, &'static str)> {
        None
    }

    /// The field that a fill on a page route sends for a form where it sends none of
    /// [`marked_by`](Self::marked_by): one that has no say in what is static, so that there
    /// is a mark all the same.
    fn asks_plainly(&self, _form: Form) -> Option<(&'static str, &'static str)> {
        None
    }

    /// The paths that the origin has made of a request's own, one after the other, as it
    /// says in its answer.
    fn rewritten<'a>(&self, _response: &'a HeaderMap) -> Vec<&'a str> {
        Vec::new()
    }

    /// What a fill on a page route sends as `User-Agent`.
    fn agent(&self) -> &'static str {
        concat!("Perennial/", env!("CARGO_PKG_VERSION"))
    }

    /// The forms that a page may have, the document first.
    fn forms(&self) -> &'static [Form] {
        &[Form::Document, Form::Data]
    }

    /// Whether a form of a page can only be told by trying: its JSON, or the
    /// payload of a page of Next's other router, may not exist, and asking for it
    /// then brings something else.
    fn is_probe(&self, _form: Form) -> bool {
        false
    }

    /// Whether a page's document must be asked for before this form of it: the renderer
    /// makes both in one go, and the document for the URL that it was asked for.
    fn needs_document_first(&self, _form: Form) -> bool {
        false
    }

    /// Whether a fill with these fields asks for a part of a page only: that there
    /// is none, or that it is private, says nothing of the page.
    fn is_part(&self, _form: Form, _fields: &Fields) -> bool {
        false
    }

    /// The request fields that choose between representations of one form, on
    /// page routes. They are sent with a fill; whether they are part of what is
    /// stored, [`selecting`](Self::selecting) says.
    fn fields(&self, _form: Form) -> &'static [&'static str] {
        &[]
    }

    /// Whether a request has values in those fields that no client of the framework
    /// sends.
    fn is_foreign(&self, _request: &Request<'_>, _form: Form) -> bool {
        false
    }

    /// Those of [`fields`](Self::fields) that select what is stored, given the
    /// response.
    fn selecting(&self, _form: Form, _response: &HeaderMap) -> Vec<Box<str>> {
        Vec::new()
    }

    /// The request fields that choose between forms at one URL, for `Vary`.
    fn vary(&self) -> &'static [&'static str] {
        &[]
    }

    /// A query parameter that says nothing of the page: neither keyed nor sent as
    /// the visitor wrote it. Payloads are asked for with a value of the origin's
    /// choice, a *mark*, that is learnt from it.
    fn parameter(&self) -> Option<&'static str> {
        None
    }

    /// The request fields that such a mark is of.
    fn marked_by(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the request is an editor's: it carries a draft cookie, the true one
    /// where that is known, or calls an action, and bypasses the cache.
    fn draft(&self, _request: &Request<'_>, _facts: &Facts) -> bool {
        false
    }

    /// What the answer to a request that changes something tells of pages.
    fn changed(&self, _request: &Request<'_>, _response: &HeaderMap) -> Option<Changed> {
        None
    }

    /// The type of the answers to actions whose bodies may send their client to another
    /// page, which is not in their fields.
    fn sends_by(&self) -> Option<&'static str> {
        None
    }

    /// Where such a body sends its client; none if nowhere, or if it is not whole.
    fn sends_to(&self, _body: &[u8]) -> Option<String> {
        None
    }

    /// The query of a page's document, given that of its data, where those are pages of
    /// their own on `ssr`.
    fn query_of_document(&self, _query: &str) -> Option<String> {
        None
    }

    /// Whether the origin may send visitors of this place elsewhere, by what they say of
    /// themselves.
    fn is_negotiated(&self, _place: &Place<'_>) -> bool {
        false
    }

    /// Whether a visitor may not send this field: it would speak to the
    /// renderer's inside.
    fn strips(&self, _name: &str, _form: Form) -> bool {
        false
    }

    /// The field with which a fill tells the renderer to render anew, instead of
    /// answering from a cache of its own.
    fn anew(&self) -> Option<(&'static str, &str)> {
        None
    }

    /// Where `X-Cache` is said once more, in the framework's own field. The
    /// origin's field of that name does not go on.
    fn cache_field(&self) -> Option<&'static str> {
        None
    }

    /// Whether the build makes pages of which the origin says nothing: Next says of every
    /// other page how long it lives, or that it does not. So may others behind it, such
    /// as an older site that it rewrites to: see [`is_for_all`](Self::is_for_all).
    fn silent_is_static(&self) -> bool {
        false
    }

    /// Whether pages that are rendered for each visitor may say nothing of a lifetime, like
    /// those that are rendered for all: see [`is_for_all`](Self::is_for_all).
    fn renders_silently(&self) -> bool {
        false
    }

    /// Whether the body of a page says that it was rendered for all. Asked where the origin
    /// says nothing else of it.
    fn is_for_all(&self, _form: Form, _body: &[u8]) -> bool {
        false
    }

    /// Whether a path names its content by a hash: such a URL is the same in
    /// every deployment.
    fn is_asset(&self, _path: &str) -> bool {
        false
    }

    /// Whether what lies at a path is of one build, though neither its name nor what is in
    /// it says of which: it belongs to the pages of that build.
    fn is_of_build(&self, _path: &str) -> bool {
        false
    }

    /// Whether bodies name hashed assets.
    fn names_assets(&self) -> bool {
        true
    }

    /// The hashed assets that a body names, by path: the first [`MAX_NAMES`] of
    /// them. Takes time in proportion to the body's size, whatever is in it.
    fn assets(&self, _path: &str, _body: &[u8]) -> Vec<String> {
        Vec::new()
    }
}

/// What browsers accept who ask for a page.
const DOCUMENTS: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// Assets of one page that are looked at. A page of a large site names some dozens.
pub const MAX_NAMES: usize = 256;

/// The longest name of an asset, in bytes.
const MAX_NAME: usize = 256;

/// Names of assets that were found, each once, in order.
#[derive(Default)]
struct Names {
    list: Vec<String>,
    seen: HashSet<String>,
}

impl Names {
    fn add(&mut self, name: String) {
        if !self.is_full() && !self.seen.contains(&name) {
            self.seen.insert(name.clone());
            self.list.push(name);
        }
    }

    fn is_full(&self) -> bool {
        self.list.len() >= MAX_NAMES
    }
}

/// The other one of a document and its data.
fn other(form: Form) -> Form {
    if form == Form::Document { Form::Data } else { Form::Document }
}

/// A path below a prefix (empty, or `/docs`), beginning with a slash.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    match rest.as_bytes().first() {
        Some(b'/') => Some(rest),
        None => Some("/"),
        Some(_) => None,
    }
}

/// A path below which a site lies, as presets write it: empty, or as in `/docs`. Empty,
/// too, for what is none.
fn base(path: String) -> String {
    let path = match path.trim_end_matches('/') {
        path if path.starts_with('/') => canonical_path(path).into_owned(),
        _ => return String::new(),
    };
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"'<>?#*{[".contains(&b);
    let good = path.len() <= MAX_NAME && path.bytes().all(plain);
    if good && !path.starts_with("//") { path } else { String::new() }
}

/// What comes before `mark` in the first of these URLs that is a path with it.
fn base_before<'a>(mut urls: impl Iterator<Item = &'a str>, mark: &str) -> String {
    let before = urls.find_map(|url| {
        let path = url.starts_with('/') && !url.starts_with("//");
        path.then(|| url.split_once(mark))?
    });
    before.map_or_else(String::new, |(before, _)| base(before.to_owned()))
}

/// A path by its way from the page at `page`: `./a`, `../a`, or all of it.
fn resolve(page: &str, way: &str) -> Option<String> {
    if way.starts_with('/') {
        return Some(way.to_owned());
    }
    let mut folder = &page[..page.rfind('/')?];
    let mut way = way.strip_prefix("./").unwrap_or(way);
    while let Some(rest) = way.strip_prefix("../") {
        (folder, way) = (&folder[..folder.rfind('/')?], rest);
    }
    Some(format!("{folder}/{way}"))
}

/// A query without some of its parameters.
fn without(query: &str, is_one: impl Fn(&str) -> bool) -> String {
    let named = |parameter: &&str| !is_one(parameter.split('=').next().unwrap_or(parameter));
    query.split('&').filter(named).collect::<Vec<_>>().join("&")
}

/// Path and query of a target.
fn split(target: &str) -> (&str, &str) {
    target.find('?').map_or((target, ""), |at| target.split_at(at))
}

#[cfg(test)]
mod testing {
    use crate::request::Request;

    /// A plain request for a target.
    pub(super) fn get(target: &str) -> Request<'_> {
        Request {
            method: "GET",
            target,
            host: "a.test",
            scheme: "http",
            fields: &[],
            peer: [127, 0, 0, 1].into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Framework::*, Gatsby as G, Nextjs as N, Site};

    /// What each framework prints, as real sites did.
    #[test]
    fn frameworks_are_recognised_by_what_they_print() {
        let site = |base: &str, assets: Option<&str>| Site {
            base: base.to_owned(),
            assets: assets.map(str::to_owned),
            trailing_slash: false,
        };
        let next = |base: &str| N { base_path: base.to_owned(), ..N::default() };
        let gatsby = |prefix: &str| G {
            path_prefix: prefix.to_owned(),
            trailing_slash: true,
            build_id: None,
        };
        let text = "<p>self.__next_f.push([1,\"x\"]) __NEXT_DATA__ __sveltekit_1 = { \
                    window.__reactRouterContext = {} window.__NUXT__ ___gatsby /_astro/ \
                    <code>&lt;script>window.__NUXT__</code></p>";
        for (path, field, body, framework) in [
            ("/", None, text, None),
            ("/", None, "{\"version\":\"1\"}", None),
            (
                "/",
                None,
                r#"<script src="/docs/_next/static/a.js"></script><script>self.__next_f.push([1,"x"])</script>"#,
                Some(Nextjs(next("/docs"))),
            ),
            (
                "/",
                None,
                r#"<script src="/_next/static/a.js"></script><script id="__NEXT_DATA__" type="application/json">
                   {"buildId":"b","locale":"en","defaultLocale":"en","locales":["en","fr"]}</script>"#,
                Some(Nextjs(N {
                    default_locale: Some("en".to_owned()),
                    locales: vec!["en".to_owned(), "fr".to_owned()],
                    ..next("")
                })),
            ),
            ("/", Some(("x-powered-by", "Next.js")), "Not found", Some(Nextjs(next("")))),
            (
                "/",
                None,
                r#"<link as="fetch" href="/blog/page-data/app-data.json"/><div id="___gatsby">"#,
                Some(Gatsby(gatsby("/blog"))),
            ),
            ("/", None, r#"<div id="___gatsby">"#, Some(Gatsby(gatsby("")))),
            (
                "/docs/",
                Some(("x-sveltekit-page", "true")),
                "<script>{\n__sveltekit_a = {};import(\"./_kit/immutable/entry/start.a.js\")}</script>",
                Some(Sveltekit(site("/docs", Some("/_kit")))),
            ),
            (
                "/",
                None,
                "<script>\n{\n__sveltekit_1a = { base: \"\" };import(\"/_app/immutable/entry/a.js\")}</script>",
                Some(Sveltekit(site("", Some("/_app")))),
            ),
            ("/", Some(("x-sveltekit-page", "true")), "<p>", Some(Sveltekit(site("", None)))),
            (
                "/",
                None,
                r#"<script>window.__reactRouterContext = {"basename":"/docs/","ssr":true};x</script>"#,
                Some(ReactRouter(site("/docs", None))),
            ),
            (
                "/",
                None,
                r#"<script>window.__remixContext = {"basename":"/"};</script>"#,
                Some(ReactRouter(site("", None))),
            ),
            (
                "/",
                None,
                r#"<script>window.__NUXT__={};window.__NUXT__.config={public:{},app:{baseURL:"/docs/",buildId:"b",buildAssetsDir:"/_x/"}}</script>"#,
                Some(Nuxt(site("/docs", Some("/_x")))),
            ),
            ("/", Some(("x-powered-by", "Nuxt")), "", Some(Nuxt(site("", None)))),
            ("/", None, r#"<link href="/docs/_astro/a.css">"#, None),
            (
                "/",
                None,
                r#"<meta name="generator" content="Astro v5.1"><link rel="stylesheet" href="/docs/_astro/a.css">"#,
                Some(Astro(site("/docs", None))),
            ),
            (
                "/",
                None,
                r#"<link rel="stylesheet" href="/_astro/a.css">"#,
                Some(Astro(site("", None))),
            ),
            ("/", None, r#"<p data-astro-cid-x>"#, Some(Astro(site("", None)))),
            ("/", None, r#"<astro-island uid="x">"#, Some(Astro(site("", None)))),
        ] {
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = field {
                headers.insert(name, value.parse().unwrap());
            }
            let found = recognise(path, &headers, body.as_bytes());
            assert_eq!(found.map(|found| found.framework), framework, "{body}");
        }
    }

    /// Text that visitors wrote, wherever a page prints it, and the URLs of their links and
    /// images: each page is recognised as it is without them.
    #[test]
    fn visitors_have_no_say() {
        const TEXTS: &[&str] = &[
            "/evil/_next/static/ is my path",
            "src=\"/evil/_next/static/a.js\"",
            "self.__next_f.push([1,\"x\"])",
            "<script id=\"__NEXT_DATA__\" type=\"application/json\">{}</script>",
            "<script src=\"/evil/_next/static/a.js\">self.__next_f.push([1,\"x\"])</script>",
            "see \"../../../immutable/entry/ for fun",
            "/x/y/immutable/entry/",
            "import(\"/evil/_app/immutable/entry/start.js\") base: \"/evil\"",
            "<script>{ __sveltekit_evil = { base: \"/evil\" }}</script>",
            "__sveltekit_evil = {",
            "base: ",
            "import(",
            "data-astro-cid-x",
            "=\"/_astro/a.css\" /evil/_astro/",
            "<astro-island component-url=\"/evil/_astro/a.js\"><p data-astro-cid-x>",
            "<meta name=\"generator\" content=\"Astro v5\"><meta name=\"generator\" content=\"Gatsby 5\">",
            "<div id=\"___gatsby\"> \"/evil/page-data/app-data.json\"",
            "<link as=\"fetch\" href=\"/evil/page-data/app-data.json\">",
            "<script>window.__reactRouterContext = {\"basename\":\"/evil\"};</script>",
            "<script>window.__NUXT__={};window.__NUXT__.config={app:{baseURL:\"/evil\"}}</script>",
            "app:{baseURL:\"/evil\",buildAssetsDir:\"/evil/\"}",
            "app:{",
            "baseURL:",
        ];
        const PAGES: &[&str] = &[
            "<p>",
            r#"<script src="/docs/_next/static/a.js"></script><script>self.__next_f.push([1,"STRING"])</script>"#,
            r#"<script src="/_next/static/a.js"></script>
               <script id="__NEXT_DATA__" type="application/json">{"buildId":"b","props":["STRING"]}</script>"#,
            r#"<link as="fetch" href="/blog/page-data/app-data.json"/><div id="___gatsby">"#,
            "<script>{\n __sveltekit_a = {\n base: \"/b\" };\n const data = [\"STRING\",\"/evil\"];\
             import(\"/docs/_kit/immutable/entry/a.js\")}</script>",
            "<script>{\n __sveltekit_a = {\n base: \"/b\" };\n const data = [\"STRING\",\"/evil\"];}</script>",
            r#"<script>window.__reactRouterContext = {"basename":"/docs/","a":"STRING"};x</script>"#,
            r#"<script>window.__NUXT__={data:{a:"STRING",b:"/evil"}};window.__NUXT__.config={public:{},app:{baseURL:"/docs/",buildAssetsDir:"/_x/"},a:"STRING"}</script>"#,
            r#"<meta name="generator" content="Astro v5.1"><link rel="stylesheet" href="/docs/_astro/a.css">"#,
        ];
        let told = |html: &str| recognise("/a/b", &HeaderMap::new(), html.as_bytes());
        for page in PAGES {
            let own = told(&page.replace("STRING", ""));
            assert_eq!(own.is_some(), *page != "<p>", "{page}");
            for text in TEXTS {
                let node = text.replace('<', "&lt;");
                let value = text.replace('"', "&quot;");
                let json = serde_json::to_string(&text.replace('<', "\\u003c")).unwrap();
                let string = &json[1..json.len() - 1];
                let page = page.replace("STRING", string);
                for html in [
                    format!("<title>{node}</title>{page}<p>{node}</p>"),
                    format!("<meta content=\"{value}\">{page}<p title=\"{value}\">"),
                    format!("<meta content='{text}'>{page}<!-- {node} -->"),
                    format!("<script>let a = [{json}, '{string}']</script>{page}"),
                    format!("<script>{{\n  \"name\": {json}\n}}</script>{page}"),
                ] {
                    assert_eq!(told(&html), own, "{html}");
                }
            }
            for url in [
                "/_astro/a",
                "/evil/_astro/a",
                "/evil/_next/static/a",
                "/e/page-data/app-data.json",
            ] {
                let own_page = page.replace("STRING", "");
                let html = format!(
                    "<meta property=\"og:image\" content=\"{url}\"><link rel=\"canonical\" href=\"{url}\">\
                     <link rel=\"preload\" as=\"image\" href=\"{url}\"><a href=\"{url}\"><img src=\"{url}\"></a>{own_page}"
                );
                assert_eq!(told(&html), own, "{html}");
            }
        }
    }

    #[test]
    fn where_a_site_lies() {
        for (path, good) in
            [("/docs/", "/docs"), ("/", ""), ("", ""), ("//evil", ""), ("/a*", ""), ("x", "")]
        {
            assert_eq!(base(path.to_owned()), good, "{path}");
        }
        for (way, path) in [
            ("./_app", Some("/a/_app")),
            ("../_app", Some("/_app")),
            ("/_app", Some("/_app")),
            ("../../x", None),
        ] {
            assert_eq!(resolve("/a/b", way).as_deref(), path, "{way}");
        }
    }
}
