//! React Router 7 as a framework, and Remix 2 with single fetch: the data of `/p` are at
//! `/p.data`, those of the root at `/_root.data`.

use std::borrow::Cow;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use super::html::{hashed_files, scripts, word};
use super::preset::{Framework, Located, PageHints, Recognised};
use super::routes::{BY_ORIGIN, folder, for_all, immutable, rest};
use super::urls::{base_path, below, split, without};
use crate::config::{self, Route};
use crate::page::Form;
use crate::request::Request;

/// A site of React Router or Remix.
#[derive(Debug)]
pub(super) struct ReactRouter {
    base: String,
    slash: bool,
    /// `/BASE/assets/`
    assets: String,
    /// `assets/`: scripts name others without the slash before it.
    mark: String,
}

/// Where the bundler's files are by default.
const ASSETS: &str = "/assets";
const DATA: &str = ".data";
/// What stands for the name of the root.
const ROOT: &str = "/_root";
/// What stands for the name of a page whose path ends in a slash, where data requests tell
/// that (`v8_trailingSlashAwareDataRequests`).
const SLASHED: &str = "/_";

impl ReactRouter {
    pub(super) fn new(site: &config::Site) -> ReactRouter {
        let folder = site.assets.as_deref().unwrap_or(ASSETS);
        ReactRouter {
            base: site.base.clone(),
            slash: site.trailing_slash,
            assets: format!("{}{folder}/", site.base),
            mark: format!("{}/", folder.trim_start_matches('/')),
        }
    }
}

impl Framework for ReactRouter {
    /// Which routes are to be loaded stays in the query (`_routes`): they may say
    /// different lifetimes.
    fn locate<'a>(&self, path: &'a str, _request: &Request<'_>) -> Located<'a> {
        let Some(page) = path.strip_suffix(DATA).filter(|page| !page.ends_with('/')) else {
            return Located { path: Cow::Borrowed(path), form: Form::Document, build: None };
        };
        let base = &self.base;
        let page = if below(page, base) == Some(ROOT) {
            match self.slash || base.is_empty() {
                true => format!("{base}/"),
                false => base.clone(),
            }
        } else if let Some(page) = page.strip_suffix(SLASHED) {
            format!("{page}/")
        } else {
            format!("{page}{}", if self.slash { "/" } else { "" })
        };
        Located { path: Cow::Owned(page), form: Form::Data, build: None }
    }

    fn target<'a>(&self, page: &'a str, form: Form, _build: Option<&str>) -> Option<Cow<'a, str>> {
        match form {
            Form::Document => Some(Cow::Borrowed(page)),
            Form::Payload => None,
            Form::Data => {
                let (path, query) = split(page);
                let rest = below(path, &self.base)?;
                if path.starts_with(&*self.assets) {
                    return None;
                }
                let base = &self.base;
                let name = match rest.trim_end_matches('/') {
                    "" => ROOT,
                    name => name,
                };
                Some(Cow::Owned(format!("{base}{name}{DATA}{query}")))
            }
        }
    }

    fn page_hints(&self, form: Form, body: &[u8]) -> PageHints {
        match form {
            Form::Document => {
                let starts = scripts(body).any(is_context);
                PageHints { build: build(body), pair: starts.then_some(Form::Data) }
            }
            Form::Data | Form::Payload => PageHints { build: None, pair: Some(Form::Document) },
        }
    }

    /// A path that no site has: what is rendered then tells the build. The manifest's
    /// URL does not, to who does not know it.
    fn probe(&self) -> Option<String> {
        Some(format!("{}/__perennial-looks-for-a-new-build", self.base))
    }

    fn sends_by(&self) -> Option<&'static str> {
        Some("text/x-script")
    }

    /// A list of which the first member says where in it keys and values are:
    /// `[{"_1":2,…},"redirect","/p",…]`
    fn sends_to(&self, body: &[u8]) -> Option<String> {
        let list: Vec<Value> =
            serde_json::Deserializer::from_slice(body).into_iter().next()?.ok()?;
        let mut pairs = list.windows(2).skip(1);
        let pair = pairs.find(|pair| pair[0] == "redirect" && pair[1].is_string())?;
        let to = pair[1].as_str()?;
        // Below `basename`, which it does not say.
        let absolute = to.contains("//") || below(to, &self.base).is_some();
        Some(if absolute { to.to_owned() } else { format!("{}{to}", self.base) })
    }

    fn query_of_document(&self, query: &str) -> Option<String> {
        Some(without(query, |name| name == "_routes"))
    }

    /// The bundler's folder may hold files of the site's own, whose names say nothing.
    fn is_asset(&self, path: &str) -> bool {
        path.starts_with(&*self.assets) && is_hashed(path)
    }

    fn assets(&self, path: &str, body: &[u8]) -> Vec<String> {
        hashed_files(&self.assets, &self.mark, path, body, |name| self.is_asset(name))
    }
}

/// Whether a file has a name as the bundler gives it to scripts and styles: `x-HASH.js`,
/// the hash being eight letters, digits, hyphens and underscores.
fn is_hashed(path: &str) -> bool {
    const HASH: usize = 8;
    let name = path.rsplit('/').next().unwrap_or(path).as_bytes();
    let Some(dot) = memchr::memrchr(b'.', name) else { return false };
    let (stem, kind) = name.split_at(dot);
    let Some(hyphen) = stem.len().checked_sub(HASH + 1) else { return false };
    let in_hash = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    stem[hyphen] == b'-'
        && stem[hyphen + 1..].iter().all(in_hash)
        && matches!(kind, b".js" | b".css")
}

/// Whether a script hands the server's state to the client.
fn is_context(script: &[u8]) -> bool {
    [&b"window.__reactRouterContext = "[..], b"window.__remixContext = "]
        .iter()
        .any(|start| script.starts_with(start))
}

/// The version of the manifest with which a document starts its client: that is part of
/// the document, or a file that is named by it.
fn build(body: &[u8]) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Manifest {
        version: String,
    }
    const MANIFESTS: [&[u8]; 2] =
        [b"window.__reactRouterManifest = ", b"window.__remixManifest = "];
    let version = |version: &str| {
        let plain = version.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        (plain && (1..=64).contains(&version.len())).then(|| version.into())
    };
    scripts(body).find_map(|script| {
        let (imports, rest) = imports(script);
        let here = MANIFESTS.iter().find_map(|start| {
            let json = rest.strip_prefix(*start).filter(|_| !imports.is_empty())?;
            let mut manifests = serde_json::Deserializer::from_slice(json).into_iter::<Manifest>();
            version(&manifests.next()?.ok()?.version)
        });
        here.or_else(|| version(word(imports, b"/manifest-", b'"')?.strip_suffix(".js")?))
    })
}

/// The statements with which a script begins that import modules, or put a module together
/// that was cut into several, and what follows them. What follows may hold what clients
/// wrote.
fn imports(script: &[u8]) -> (&[u8], &[u8]) {
    let is_between = |b: &u8| b.is_ascii_whitespace() || *b == b';';
    let mut end = 0;
    loop {
        let rest = &script[end..];
        let start = rest.iter().position(|b| !is_between(b)).unwrap_or(rest.len());
        let statement = &rest[start..];
        if !statement.starts_with(b"import ") && !statement.starts_with(b"const route") {
            return (&script[..end], statement);
        }
        let length = memchr::memchr(b';', statement).unwrap_or(statement.len());
        end += start + length;
    }
}

/// The routes of a site, after those of the file.
pub(super) fn routes(site: &config::Site) -> Vec<Route> {
    let (base, assets) = (&site.base, folder(site, "/assets"));
    // What the bundler puts into the names of scripts and styles.
    let hash = "[0-9A-Za-z_-]".repeat(8);
    vec![
        immutable(format!("{base}{assets}/**/*-{hash}.{{js,css}}"), BY_ORIGIN),
        // There may be files of the site's own among them: browsers keep them for as long
        // as the origin says.
        for_all(format!("{base}{assets}/**")),
        for_all(format!("{base}/__manifest")),
        rest(),
    ]
}

/// Whether a document is React Router's.
pub(super) fn recognise(
    _page: &str,
    _headers: &HeaderMap,
    body: &[u8],
) -> Option<Recognised<config::Site>> {
    let context = scripts(body).find(|script| is_context(script))?;
    let site = config::Site { base: base_path(basename(context)), ..config::Site::default() };
    let because = match context.starts_with(b"window.__remix") {
        true => "the page sets `window.__remixContext`",
        false => "the page sets `window.__reactRouterContext`",
    };
    Some(Recognised { site, because })
}

/// The path of the site's root.
fn basename(context: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Context {
        basename: Option<String>,
    }
    let json = memchr::memchr(b'{', context).map_or(&[][..], |at| &context[at..]);
    let context = serde_json::Deserializer::from_slice(json).into_iter::<Context>().next();
    context.and_then(Result::ok).and_then(|context| context.basename).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::testing::get;
    use super::*;

    fn site(base: &str, trailing_slash: bool) -> ReactRouter {
        let base = base.to_owned();
        ReactRouter::new(&config::Site { base, trailing_slash, ..config::Site::default() })
    }

    #[test]
    fn pages_and_their_data() {
        for (base, slash, page, data) in [
            ("", false, "/", "/_root.data"),
            ("", false, "/p", "/p.data"),
            ("", false, "/a/b.c", "/a/b.c.data"),
            ("", true, "/", "/_root.data"),
            ("", true, "/p/", "/p.data"),
            ("/docs", false, "/docs", "/docs/_root.data"),
            ("/docs", true, "/docs/", "/docs/_root.data"),
            ("/docs", false, "/docs/p", "/docs/p.data"),
            ("", false, "/caf%C3%A9", "/caf%C3%A9.data"),
        ] {
            let router = site(base, slash);
            assert_eq!(router.target(page, Form::Data, None).as_deref(), Some(data), "{page}");
            let place = router.locate(data, &get(data));
            assert_eq!((&*place.path, place.form), (page, Form::Data), "{data}");
            assert_eq!(router.locate(page, &get(page)).form, Form::Document, "{page}");
        }
        let router = site("", false);
        let of = |page| router.target(page, Form::Data, None).map(Cow::into_owned);
        assert_eq!(of("/p?_routes=a&x=1").as_deref(), Some("/p.data?_routes=a&x=1"));
        assert_eq!(of("/p/").as_deref(), Some("/p.data"));
        assert_eq!(of("/assets/a-01234567.js"), None);
        assert_eq!(site("/docs", false).target("/p", Form::Data, None), None);
        // Where data requests tell whether the path ends in a slash.
        for (data, page) in [("/p/_.data", "/p/"), ("/_.data", "/"), ("/docs/_.data", "/docs/")] {
            assert_eq!(&*router.locate(data, &get(data)).path, page, "{data}");
        }
        for path in ["/.data", "/p/.data", "/data", "/p.data/"] {
            assert_eq!(router.locate(path, &get(path)).form, Form::Document, "{path}");
        }
    }

    #[test]
    fn hashed_assets() {
        let router = site("", false);
        for (path, asset) in [
            ("/assets/root-BkZ3lq1A.js", true),
            ("/assets/a.b-_-aZ09_-.css", true),
            ("/assets/x/root-BkZ3lq1A.js", true),
            ("/assets/logo-original.png", false),
            ("/assets/root.js", false),
            ("/assets/root-BkZ3lq1.js", false),
            ("/assets/-BkZ3lq1A.js.map", false),
            ("/root-BkZ3lq1A.js", false),
        ] {
            assert_eq!(router.is_asset(path), asset, "{path}");
        }
        let page = br#"<link href="/assets/root-BkZ3lq1A.css"><img src="/assets/logo.png">
            import "/assets/manifest-0a1b2c3d.js" ["assets/a-01234567.js"]"#;
        assert_eq!(
            router.assets("/p", page),
            ["/assets/root-BkZ3lq1A.css", "/assets/manifest-0a1b2c3d.js", "/assets/a-01234567.js"]
        );
        assert_eq!(
            router.assets("/assets/root-BkZ3lq1A.js", br#"import"./chunk-01234567.js""#),
            ["/assets/chunk-01234567.js"]
        );
    }

    #[test]
    fn what_actions_and_data_lead_to() {
        for (base, body, to) in [
            ("", r#"[{"_1":2,"_3":4},"redirect","/notes","status",302]"#, Some("/notes")),
            ("/docs", r#"[{"_1":2},"redirect","/notes"]\n"#, Some("/docs/notes")),
            ("", r#"[{"_1":2},"data",{"_3":4},"missing",true]"#, None),
            ("", r#"[{"_1":2},"redirect","/no"#, None),
            ("", r#"["redirect"]"#, None),
            ("", "<p>", None),
        ] {
            assert_eq!(site(base, false).sends_to(body.as_bytes()).as_deref(), to, "{body}");
        }
        let router = site("", false);
        assert_eq!(router.query_of_document("a=1&_routes=x").as_deref(), Some("a=1"));
    }

    #[test]
    fn what_documents_tell() {
        let router = site("", false);
        const CONTEXT: &str = r#"<script>window.__reactRouterContext = {"basename":"/"};</script>"#;
        for (script, build) in [
            (
                r#"import * as route0 from "/assets/root-1.js";
                   window.__reactRouterManifest = {"entry": {}, "version": "0a1b2c3d"};
                   import("/assets/entry.client-1.js");"#,
                Some("0a1b2c3d"),
            ),
            (
                r#"import "/assets/manifest-deadbeef.js"; import * as r from "/assets/r.js""#,
                Some("deadbeef"),
            ),
            (r#"import * as r from "x"; window.__remixManifest = {"version":"9"};"#, Some("9")),
            (r#"window.__reactRouterManifest = {"version":"evil"};"#, None),
            (r#"import "x"; window.__reactRouterManifest = {"version":"../x"};"#, None),
            (
                r#";import * as a from "/a.js"; const route0 = {...a};
                   window.__reactRouterManifest = {"version":"1"};"#,
                Some("1"),
            ),
            // A site's own script, with what clients wrote in it.
            (
                r#"import "x"; const a = '; window.__reactRouterManifest = {"version":"evil"}'"#,
                None,
            ),
            (r#"import "x"; const a = ["/manifest-evil.js"]"#, None),
        ] {
            let body = format!("{CONTEXT}<script type=\"module\" async=\"\">{script}</script>");
            let told = router.page_hints(Form::Document, body.as_bytes());
            assert_eq!((told.build.as_deref(), told.pair), (build, Some(Form::Data)), "{script}");
        }
        assert_eq!(router.page_hints(Form::Document, b"{}").pair, None);
    }
}
