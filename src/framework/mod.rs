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
mod preset;
mod react_router;
mod sveltekit;
mod urls;

use std::ops::Deref;
use std::sync::Arc;

use http::HeaderMap;

use crate::config;

pub use preset::{Changed, Found, Framework, Place, Rendering, Told};
pub use urls::MAX_NAMES;

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

/// The framework that rendered the page at `path`, if it is one of those that there are
/// presets for.
#[must_use]
pub fn recognise(path: &str, headers: &HeaderMap, body: &[u8]) -> Option<Found> {
    RECOGNISE.iter().find_map(|recognise| recognise(path, headers, body))
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
}
