//! What `next build` wrote down: the site, its pages, and what runs before them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::files::{Object, check_build_id, fault, json, text};
use crate::config::{Made, Matcher, NextPages, Nextjs, base, is_locale, is_preview_id};

const CURE: &str = "next build";
const PRERENDER: &str = "prerender-manifest.json";
const REQUIRED: &str = "required-server-files.json";

/// What `.next` tells of a Next.js site.
///
/// # Errors
/// A file cannot be read, or is not what Next writes: its name, why, and the cure.
pub(crate) fn nextjs(build: &Path) -> Result<Nextjs, String> {
    let file = |name: &str| build.join(name);
    let fault = |name: &str, why: &str| fault(&file(name), &why, CURE);
    let build_id = text(&file("BUILD_ID"), CURE)?.trim().to_owned();
    check_build_id(&build_id).map_err(|why| fault("BUILD_ID", why))?;
    let prerender: Prerender = json(&file(PRERENDER), CURE)?;
    let preview = &prerender.preview.0.id;
    if preview.is_empty() || !is_preview_id(preview) {
        return Err(fault(PRERENDER, "`previewModeId`: a field cannot carry this"));
    }
    let required: Required = json(&file(REQUIRED), CURE)?;
    let site = required.config.0;
    let Ok(base_path) = base(&site.base_path) else {
        return Err(fault(REQUIRED, "`basePath`: expected a path such as `/docs`"));
    };
    let i18n = site.i18n.map(|i18n| i18n.0).unwrap_or_default();
    if !i18n.locales.iter().chain(&i18n.default).all(|locale| is_locale(locale)) {
        return Err(fault(REQUIRED, "`i18n`: expected locales such as `en` or `en-GB`"));
    }
    let pages = pages(build, &prerender, &i18n.locales)?;
    Ok(Nextjs {
        preview_mode_id: Some(prerender.preview.0.id),
        base_path,
        trailing_slash: site.trailing_slash,
        default_locale: i18n.default,
        locales: i18n.locales,
        detects_locale: i18n.detection,
        build_id: Some(build_id),
        pages: Some(Arc::new(pages)),
    })
}

/// `prerender-manifest.json`
#[derive(Deserialize)]
struct Prerender {
    preview: Object<Preview>,
    /// The pages that the build made, by path.
    #[serde(default)]
    routes: BTreeMap<String, Object<Prerendered>>,
    /// The pages with parameters of which it made some, or that are made when somebody
    /// asks for them, by their path as in the source.
    #[serde(rename = "dynamicRoutes", default)]
    with_parameters: BTreeMap<String, Object<Prerendered>>,
    /// Paths that are not found, as `getStaticProps` said.
    #[serde(rename = "notFoundRoutes", default)]
    not_found: Vec<String>,
}

#[derive(Deserialize)]
struct Preview {
    #[serde(rename = "previewModeId")]
    id: String,
}

#[derive(Deserialize)]
struct Prerendered {
    /// It may have parts that are rendered for each client.
    #[serde(rename = "experimentalPPR", default)]
    partial: bool,
    /// Newer builds say how much of it there is: `complete`, `initial` or `empty`.
    #[serde(default)]
    response: Option<String>,
    /// What is answered while a page is made that the build did not make: false: it is
    /// not found.
    #[serde(default)]
    fallback: Option<serde_json::Value>,
}

impl Prerendered {
    /// Of a page that the build made.
    fn made(&self) -> Made {
        match self.response.as_deref() {
            Some("complete") => Made::ForAll,
            Some("initial") => Made::Partly,
            _ if self.partial => Made::Partly,
            _ => Made::ForAll,
        }
    }

    /// Of a page that is made when somebody asks for it. What may have parts for each
    /// client is only known then, and what is not found may be rewritten.
    fn made_later(&self) -> Option<Made> {
        let never = self.fallback == Some(serde_json::Value::Bool(false));
        (!self.partial && !never).then_some(Made::ForAll)
    }
}

/// `required-server-files.json`
#[derive(Deserialize)]
struct Required {
    config: Object<Site>,
}

#[derive(Deserialize)]
struct Site {
    #[serde(rename = "basePath", default)]
    base_path: String,
    #[serde(rename = "trailingSlash", default)]
    trailing_slash: bool,
    #[serde(default)]
    i18n: Option<Object<I18n>>,
}

#[derive(Deserialize)]
struct I18n {
    #[serde(rename = "defaultLocale")]
    default: Option<String>,
    #[serde(default)]
    locales: Vec<String>,
    #[serde(rename = "localeDetection", default = "detection")]
    detection: bool,
}

impl Default for I18n {
    fn default() -> Self {
        I18n { default: None, locales: Vec::new(), detection: detection() }
    }
}

/// What Next does where the site does not say otherwise.
fn detection() -> bool {
    true
}

/// `routes-manifest.json`
#[derive(Default, Deserialize)]
#[serde(default)]
struct Routes {
    redirects: Vec<Object<Custom>>,
    rewrites: Rewrites,
    #[serde(rename = "staticRoutes")]
    named: Vec<Object<Page>>,
    #[serde(rename = "dynamicRoutes")]
    with_parameters: Vec<Object<Page>>,
}

#[derive(Deserialize)]
struct Custom {
    regex: String,
    /// Next's own, for slashes at the end.
    #[serde(default)]
    internal: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Rewrites {
    Staged {
        #[serde(rename = "beforeFiles", default)]
        before: Vec<Object<Custom>>,
        #[serde(rename = "afterFiles", default)]
        after: Vec<Object<Custom>>,
    },
    /// Older builds: all of them come after files.
    Plain(Vec<Object<Custom>>),
}

impl Default for Rewrites {
    fn default() -> Rewrites {
        Rewrites::Plain(Vec::new())
    }
}

#[derive(Deserialize)]
struct Page {
    page: String,
    regex: String,
}

/// `server/middleware-manifest.json`
#[derive(Default, Deserialize)]
struct Edge {
    #[serde(default)]
    middleware: BTreeMap<String, Object<Matched>>,
}

/// `server/functions-config-manifest.json`, where middleware is that Node.js runs.
#[derive(Default, Deserialize)]
struct Functions {
    #[serde(default)]
    functions: BTreeMap<String, Object<Matched>>,
}

#[derive(Deserialize)]
struct Matched {
    /// None: every path.
    matchers: Option<Vec<Object<Where>>>,
}

#[derive(Deserialize)]
struct Where {
    regexp: String,
    #[serde(rename = "originalSource", default)]
    source: String,
}

impl Matched {
    fn matchers(self) -> Vec<Matcher> {
        let everywhere = || Object(Where { regexp: ".*".to_owned(), source: "/:path*".to_owned() });
        let all = self.matchers.unwrap_or_else(|| vec![everywhere()]);
        all.into_iter()
            .map(|Object(Where { regexp, source })| Matcher { source, pattern: regexp })
            .collect()
    }
}

fn pages(build: &Path, prerender: &Prerender, locales: &[String]) -> Result<NextPages, String> {
    let routes: Routes = json(&build.join("routes-manifest.json"), CURE)?;
    // A site of the app router alone may lack the files of the other.
    let files: BTreeMap<String, String> = maybe(&build.join("server/pages-manifest.json"))?;
    let patterns = |customs: Vec<Object<Custom>>| {
        customs.into_iter().filter(|custom| !custom.0.internal).map(|custom| custom.0.regex)
    };
    let (first, between) = match routes.rewrites {
        Rewrites::Staged { before, after } => (before, after),
        Rewrites::Plain(after) => (Vec::new(), after),
    };
    let mut named: BTreeMap<String, Made> =
        prerender.routes.iter().map(|(path, page)| (path.clone(), page.0.made())).collect();
    named.extend(prerender.not_found.iter().map(|path| (path.clone(), Made::ForAll)));
    let made_as_files = files.iter().filter(|(_, file)| file.ends_with(".html"));
    named.extend(made_as_files.map(|(path, _)| (path.clone(), Made::ForAll)));
    for Object(Page { page, .. }) in routes.named {
        let made = |path: &str| named.contains_key(path);
        if !made(&page) && !locales.iter().any(|locale| made(&format!("/{locale}{page}"))) {
            named.insert(page, Made::ForEach);
        }
    }
    let with_parameters = routes.with_parameters.into_iter().map(|Object(Page { page, regex })| {
        let made = match prerender.with_parameters.get(&page) {
            Some(page) => page.0.made_later(),
            None => Some(Made::ForEach),
        };
        (regex, made)
    });
    Ok(NextPages {
        named,
        with_parameters: with_parameters.collect(),
        before: patterns(routes.redirects).chain(patterns(first)).collect(),
        between: patterns(between).collect(),
        middleware: middleware(build)?,
    })
}

fn middleware(build: &Path) -> Result<Vec<Matcher>, String> {
    let edge: Edge = maybe(&build.join("server/middleware-manifest.json"))?;
    let mut functions: Functions = maybe(&build.join("server/functions-config-manifest.json"))?;
    let node = functions.functions.remove("/_middleware");
    Ok(edge.middleware.into_values().chain(node).flat_map(|m| m.0.matchers()).collect())
}

/// What a file tells that not every build has.
fn maybe<T: DeserializeOwned + Default>(path: &Path) -> Result<T, String> {
    if path.try_exists().is_ok_and(|there| !there) {
        return Ok(T::default());
    }
    json(path, CURE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(build: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(build.join("server")).unwrap();
        for (name, text) in files {
            fs::write(build.join(name), text).unwrap();
        }
    }

    /// The files that every build has.
    const LEAST: [(&str, &str); 4] = [
        ("BUILD_ID", "b1\n"),
        ("prerender-manifest.json", r#"{"version":4,"preview":{"previewModeId":"id","x":1}}"#),
        ("required-server-files.json", r#"{"config":{"i18n":null}}"#),
        ("routes-manifest.json", r#"{"version":3}"#),
    ];

    #[test]
    fn a_build() {
        let build = tempfile::tempdir().unwrap();
        let missing = nextjs(build.path()).unwrap_err();
        assert!(
            missing.contains("BUILD_ID") && missing.ends_with("run `next build` first"),
            "{missing}"
        );
        write(build.path(), &LEAST);
        assert_eq!(
            nextjs(build.path()).unwrap(),
            Nextjs {
                preview_mode_id: Some("id".to_owned()),
                build_id: Some("b1".to_owned()),
                detects_locale: true,
                pages: Some(Arc::default()),
                ..Nextjs::default()
            }
        );
        let config = r#"{"config":{"basePath":"/docs","trailingSlash":true,
            "i18n":{"locales":["en","fr"],"defaultLocale":"en"}}}"#;
        write(build.path(), &[("required-server-files.json", config)]);
        let site = nextjs(build.path()).unwrap();
        assert_eq!((&*site.base_path, site.trailing_slash), ("/docs", true));
        assert_eq!((site.default_locale.as_deref(), site.locales.len()), (Some("en"), 2));
        assert!(site.detects_locale);
        write(build.path(), &[("prerender-manifest.json", "{")]);
        assert!(nextjs(build.path()).unwrap_err().contains("prerender-manifest.json: EOF"));
    }

    /// What is no file of Next's is an error that names the file and the cure; it never
    /// means that the site has no middleware, say.
    #[test]
    fn odd_files() {
        let middleware = "server/middleware-manifest.json";
        let functions = "server/functions-config-manifest.json";
        for (name, text, why) in [
            (middleware, "[]", "expected an object"),
            (middleware, "null", "expected an object"),
            (middleware, "[{}]", "expected an object"),
            (middleware, r#"{"middleware":[]}"#, "expected a map"),
            (middleware, r#"{"middleware":{"/":[[]]}}"#, "expected an object"),
            (middleware, r#"{"middleware":{"/":{"matchers":[["^/$"]]}}}"#, "expected an object"),
            (functions, "[]", "expected an object"),
            ("server/pages-manifest.json", "[]", "expected an object"),
            ("routes-manifest.json", "[]", "expected an object"),
            (PRERENDER, "[]", "expected an object"),
            (PRERENDER, r#"{"preview":["id"]}"#, "expected an object"),
            (PRERENDER, r#"{"preview":{"previewModeId":""}}"#, "`previewModeId`: a field"),
            (PRERENDER, r#"{"preview":{"previewModeId":"a\r\nX: y"}}"#, "`previewModeId`: a field"),
            (REQUIRED, "[]", "expected an object"),
            (REQUIRED, r#"{"config":[]}"#, "expected an object"),
            (REQUIRED, r#"{"config":{"basePath":"docs"}}"#, "`basePath`: expected a path"),
            (REQUIRED, r#"{"config":{"basePath":"/d\u0000\r\nX: y"}}"#, "`basePath`: expected"),
            (REQUIRED, r#"{"config":{"basePath":"/d?x"}}"#, "`basePath`: expected a path"),
            (REQUIRED, r#"{"config":{"i18n":[]}}"#, "expected an object"),
            (REQUIRED, r#"{"config":{"i18n":{"locales":["a/b"]}}}"#, "`i18n`: expected locales"),
            (REQUIRED, r#"{"config":{"i18n":{"defaultLocale":""}}}"#, "`i18n`: expected locales"),
            ("BUILD_ID", "", "the id of the build"),
            ("BUILD_ID", " \n", "the id of the build"),
            ("BUILD_ID", "a/b\r\nX: y", "the id of the build"),
        ] {
            let build = tempfile::tempdir().unwrap();
            write(build.path(), &LEAST);
            write(build.path(), &[(name, text)]);
            let said = nextjs(build.path()).expect_err(text);
            assert!(said.contains(name) && said.contains(why), "{text}: {said}");
            assert!(said.ends_with("; run `next build` first"), "{said}");
        }
    }

    fn read(files: &[(&str, &str)]) -> NextPages {
        let build = tempfile::tempdir().unwrap();
        write(build.path(), &LEAST);
        write(build.path(), files);
        (*nextjs(build.path()).unwrap().pages.unwrap()).clone()
    }

    /// As Next 16 writes them.
    #[test]
    fn pages_of_both_routers() {
        let prerender = r#"{"version":4,"preview":{"previewModeId":"id"},
            "routes":{
              "/about":{"routeType":"page","response":"complete","compute":"static",
                "initialRevalidateSeconds":900,"srcRoute":"/about","dataRoute":"/about.rsc"},
              "/shell":{"renderingMode":"PARTIALLY_STATIC","response":"initial",
                "compute":"resuming","experimentalPPR":true,"dataRoute":"/shell.rsc"},
              "/whole":{"renderingMode":"PARTIALLY_STATIC","response":"complete",
                "compute":"static","experimentalPPR":true},
              "/older":{"experimentalPPR":true},
              "/c/1":{"response":"complete","srcRoute":"/c/[id]"}},
            "dynamicRoutes":{
              "/c/[id]":{"response":"empty","compute":"blocking","fallback":null,
                "routeRegex":"^/c/([^/]+?)(?:/)?$"},
              "/only/[id]":{"fallback":false},
              "/p/[id]":{"experimentalPPR":true,"fallback":"/p/[id].html"}},
            "notFoundRoutes":["/gone"]}"#;
        let routes = r#"{"version":3,"basePath":"",
            "redirects":[
              {"source":"/:path+/","internal":true,"regex":"^(?:/((?:[^/]+?)(?:/(?:[^/]+?))*))/$"},
              {"source":"/r","destination":"/about","regex":"^(?!/_next)/r(?:/)?$"}],
            "headers":[],
            "rewrites":{"beforeFiles":[{"source":"/bf","regex":"^/bf(?:/)?$"}],
              "afterFiles":[{"source":"/af","regex":"^/af(?:/)?$"}],
              "fallback":[{"source":"/old/:p*","regex":"^/old"}]},
            "dynamicRoutes":[
              {"page":"/c/[id]","regex":"^/c/([^/]+?)(?:/)?$","routeKeys":{"nxtPid":"nxtPid"}},
              {"page":"/only/[id]","regex":"^/only/([^/]+?)(?:/)?$"},
              {"page":"/p/[id]","regex":"^/p/([^/]+?)(?:/)?$"},
              {"page":"/u/[id]","regex":"^/u/([^/]+?)(?:/)?$"}],
            "staticRoutes":[{"page":"/about","regex":"^/about(?:/)?$"},
              {"page":"/account","regex":"^/account(?:/)?$"},
              {"page":"/plain","regex":"^/plain(?:/)?$"}]}"#;
        let pages = r#"{"/_app":"pages/_app.js","/plain":"pages/plain.html"}"#;
        let read = read(&[
            ("prerender-manifest.json", prerender),
            ("routes-manifest.json", routes),
            ("server/pages-manifest.json", pages),
        ]);
        use Made::{ForAll, ForEach, Partly};
        let named = [
            ("/about", ForAll),
            ("/account", ForEach),
            ("/c/1", ForAll),
            ("/gone", ForAll),
            ("/older", Partly),
            ("/plain", ForAll),
            ("/shell", Partly),
            ("/whole", ForAll),
        ];
        assert_eq!(read.named, named.map(|(path, made)| (path.to_owned(), made)).into());
        let made: Vec<_> = read.with_parameters.iter().map(|(_, made)| *made).collect();
        assert_eq!(made, [Some(ForAll), None, None, Some(ForEach)]);
        assert_eq!(read.before, ["^(?!/_next)/r(?:/)?$", "^/bf(?:/)?$"]);
        assert_eq!(read.between, ["^/af(?:/)?$"]);
        assert_eq!(read.middleware, Vec::new());
    }

    /// Pages of other locales are listed by them, those for each client are not.
    #[test]
    fn pages_of_locales() {
        let read = read(&[
            (
                "required-server-files.json",
                r#"{"config":{"i18n":{"locales":["en","fr"],"defaultLocale":"en"}}}"#,
            ),
            (
                "prerender-manifest.json",
                r#"{"preview":{"previewModeId":"id"},"routes":{"/fr/a":{"srcRoute":null}}}"#,
            ),
            (
                "routes-manifest.json",
                r#"{"rewrites":[{"source":"/af","regex":"^/af$"}],
                "staticRoutes":[{"page":"/a","regex":"^/a$"},{"page":"/s","regex":"^/s$"}]}"#,
            ),
        ]);
        let named = [("/fr/a", Made::ForAll), ("/s", Made::ForEach)];
        assert_eq!(read.named, named.map(|(path, made)| (path.to_owned(), made)).into());
        assert_eq!(read.between, ["^/af$"]);
    }

    #[test]
    fn middleware_of_either_runtime() {
        let edge = r#"{"version":3,"middleware":{"/":{"files":[],"name":"middleware",
            "matchers":[{"regexp":"^/member$","originalSource":"/member"},
              {"has":[{"type":"cookie","key":"x"}],"regexp":"^/has$"}]}},"functions":{}}"#;
        let none = r#"{"version":3,"middleware":{},"sortedMiddleware":[],"functions":{}}"#;
        let node = r#"{"version":1,"functions":{"/api":{},"/_middleware":{"runtime":"nodejs",
            "matchers":[{"regexp":"^/p$","originalSource":"/p"}]}}}"#;
        let everywhere = r#"{"version":1,"functions":{"/_middleware":{"runtime":"nodejs"}}}"#;
        let (middleware, functions) =
            ("server/middleware-manifest.json", "server/functions-config-manifest.json");
        for (files, patterns) in [
            (&[][..], &[][..]),
            (&[(middleware, none)], &[]),
            (&[(middleware, edge)], &["^/member$", "^/has$"]),
            (&[(middleware, none), (functions, node)], &["^/p$"]),
            (&[(functions, everywhere)], &[".*"]),
        ] {
            let read = read(files).middleware;
            let found: Vec<_> = read.iter().map(|matcher| &*matcher.pattern).collect();
            assert_eq!(found, patterns, "{files:?}");
        }
    }
}
