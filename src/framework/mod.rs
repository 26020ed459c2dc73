//! Presets: which page and form a URL means, which URLs a page has, and what
//! else is particular to a framework (semantics §§1, 4, 6).
//!
//! Nothing outside this room knows a framework by name, but the sections of the
//! configuration that say what is known of a site.

mod astro;
mod files;
mod gatsby;
mod generic;
mod html;
mod nextjs;
mod nuxt;
mod preset;
mod react_router;
mod routes;
mod sveltekit;
mod urls;

use std::ops::Deref;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use crate::config::{self, Route};

pub use preset::{Framework, Located, PAYLOAD_TYPE, PageHints, Rendering};

/// The presets. Each is a line here and a file beside this one, with a type of this name
/// that implements [`Framework`] and has `new`, and the functions `recognise` and `routes`.
/// Those of `site` are told of the site what the section `site` of the configuration
/// says; one with a section of its own names its type.
macro_rules! presets {
    (
        own { $($(#[$own_doc:meta])* $Own:ident in $own:ident,)* }
        site { $($(#[$doc:meta])* $Name:ident in $file:ident,)* }
    ) => {
        /// Which preset maps URLs to pages and their data.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        #[schemars(inline)]
        pub(crate) enum Name {
            /// the one that `/` is made with: one of those below, else `generic`
            Auto,
            /// any renderer: HTML and JSON at one URL, chosen by `Accept`
            #[default]
            Generic,
            $($(#[$own_doc])* $Own,)*
            $($(#[$doc])* $Name,)*
        }

        impl Name {
            /// The preset of this name with what the section `site` says; none if it has
            /// no use for that section.
            pub(crate) fn of_site(self, site: config::Site) -> Option<Known> {
                match self {
                    $(Name::$Name => Some(Known::$Name(site)),)*
                    _ => None,
                }
            }
        }

        /// Which preset maps URLs to pages, and what it knows of the site. Its name is that
        /// in YAML.
        #[derive(Clone, Debug, PartialEq, Eq, Display, IntoStaticStr)]
        #[strum(serialize_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Known {
            /// any renderer: HTML and JSON at one URL, chosen by `Accept`
            Generic,
            $($(#[$own_doc])* $Own(config::$Own),)*
            $($(#[$doc])* $Name(config::Site),)*
        }

        impl Known {
            /// The routes that the preset brings. The last one matches everything.
            #[must_use]
            pub fn routes(&self) -> Vec<Route> {
                match self {
                    Known::Generic => Vec::new(),
                    $(Known::$Own(site) => $own::routes(site),)*
                    $(Known::$Name(site) => $file::routes(site),)*
                }
            }
        }

        impl Preset {
            /// The preset that the configuration names.
            #[must_use]
            pub fn new(framework: &Known) -> Preset {
                Preset(match framework {
                    Known::Generic => Arc::new(generic::Generic),
                    $(Known::$Own(site) => Arc::new($own::$Own::new(site)),)*
                    $(Known::$Name(site) => Arc::new($file::$Name::new(site)),)*
                })
            }
        }

        /// In the order of the lines: what only one of them prints comes first.
        const RECOGNISE: &[Recognise] = &[
            $(|page, headers, body| {
                let found = $own::recognise(page, headers, body)?;
                Some(Found { framework: Known::$Own(found.site), because: found.because })
            },)*
            $(|page, headers, body| {
                let found = $file::recognise(page, headers, body)?;
                Some(Found { framework: Known::$Name(found.site), because: found.because })
            },)*
        ];
    };
}

presets! {
    own {
        /// Next.js 14 and newer, pages and app router
        Nextjs in nextjs,
        /// Gatsby 5
        Gatsby in gatsby,
    }
    site {
        /// SvelteKit 2
        Sveltekit in sveltekit,
        /// React Router 7 as a framework, Remix 2 with single fetch
        ReactRouter in react_router,
        /// Nuxt 3 and 4
        Nuxt in nuxt,
        /// Astro 5 and newer
        Astro in astro,
    }
}

/// A preset: a framework with what is known of the site. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Preset(Arc<dyn Framework>);

impl Preset {
    /// The one for any renderer.
    #[cfg(test)]
    pub fn generic() -> Preset {
        Preset::new(&Known::Generic)
    }
}

/// What the folder of a Gatsby site tells; see [`gatsby`].
pub(crate) use gatsby::files::gatsby as gatsby_files;
/// What the folder of a Next.js build tells; see [`nextjs`].
pub(crate) use nextjs::files::nextjs as nextjs_files;

impl Deref for Preset {
    type Target = dyn Framework;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// The fields in which frameworks say how caches of their own answered. They are read with
/// any preset: what is behind it may be a framework all the same.
pub const CACHE_FIELDS: [&str; 1] = [nextjs::CACHE_FIELD];

/// Whether the origin says that its response is a stale copy from a cache of its own.
#[must_use]
pub fn is_stale_copy(response: &HeaderMap) -> bool {
    let is_stale = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"STALE");
    CACHE_FIELDS.iter().any(|name| response.get(*name).is_some_and(is_stale))
}

/// How to tell a framework by a page that it rendered: the page's path, the response's
/// fields, and its body.
type Recognise = fn(&str, &HeaderMap, &[u8]) -> Option<Found>;

/// A framework that was told by a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The framework, with what the page tells of the site.
    pub framework: Known,
    /// What told it.
    pub because: &'static str,
}

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
        crate::request::testing::get(target, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Framework::*, Gatsby as G, Nextjs as N, Site};

    #[test]
    fn stale_copies_of_an_origin_of_its_own_cache() {
        for (value, stale) in [("STALE", true), ("stale", true), ("HIT", false), ("", false)] {
            let mut headers = HeaderMap::new();
            headers.insert("x-nextjs-cache", value.parse().unwrap());
            assert_eq!(is_stale_copy(&headers), stale, "{value}");
        }
        assert!(!is_stale_copy(&HeaderMap::new()));
    }

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
            ..G::default()
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

    /// Text that clients wrote, wherever a page prints it, and the URLs of their links and
    /// images: each page is recognised as it is without them.
    #[test]
    fn clients_have_no_say() {
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
