//! SvelteKit 2: the data of `/p` are at `/p/__data.json`, and what the client knows
//! already is left out of them.

use std::borrow::Cow;

use http::HeaderMap;
use memchr::memmem;
use serde::Deserialize;

use super::html::{hashed_files, scripts, word};
use super::preset::{Framework, Located, PageHints, Recognised};
use super::routes::{BY_ORIGIN, folder, immutable, rest, route};
use super::urls::{MAX_NAME, base_path, resolve, split, without};
use crate::config::{self, Mode, Route};
use crate::page::Form;
use crate::request::Request;

/// A SvelteKit site.
#[derive(Debug)]
pub(super) struct Sveltekit {
    /// `/BASE/_app`
    app: String,
    /// `/BASE/_app/immutable/`
    assets: String,
    /// `/_app/immutable/`
    mark: String,
}

/// Where `appDir` is by default.
const APP: &str = "/_app";
const DATA: &str = "/__data.json";
/// What stands for it where a page's path ends with `.html`.
const HTML_DATA: &str = ".html__data.json";
/// Whether the page's path ends in a slash, which that of its data does not tell.
const SLASH: &str = "x-sveltekit-trailing-slash";
/// Which of its loaders are to run.
const LOADERS: &str = "x-sveltekit-invalidated";

impl Sveltekit {
    pub(super) fn new(site: &config::Site) -> Sveltekit {
        let folder = site.assets.as_deref().unwrap_or(APP);
        let app = format!("{}{folder}", site.base);
        Sveltekit { assets: format!("{app}/immutable/"), mark: format!("{folder}/immutable/"), app }
    }
}

impl Framework for Sveltekit {
    /// Which of a page's loaders are to run stays in the query ([`LOADERS`]):
    /// the client would take more than it asked for, but a layout that reads a cookie would
    /// run where it need not.
    fn locate<'a>(&self, path: &'a str, request: &Request<'_>) -> Located<'a> {
        let document = || Located { path: Cow::Borrowed(path), form: Form::Document, build: None };
        if !path.ends_with("__data.json") {
            return document();
        }
        let page = if let Some(page) = path.strip_suffix(HTML_DATA) {
            format!("{page}.html")
        } else if let Some(page) = path.strip_suffix(DATA) {
            let slash = page.is_empty() || is_slashed(request.query());
            format!("{page}{}", if slash { "/" } else { "" })
        } else {
            return document();
        };
        Located { path: Cow::Owned(page), form: Form::Data, build: None }
    }

    fn target<'a>(&self, page: &'a str, form: Form, _build: Option<&str>) -> Option<Cow<'a, str>> {
        let (path, query) = split(page);
        match form {
            Form::Document => Some(Cow::Borrowed(page)),
            Form::Payload => None,
            Form::Data if path.starts_with(&*self.app) => None,
            Form::Data => {
                if let Some(page) = path.strip_suffix(".html") {
                    return Some(Cow::Owned(format!("{page}{HTML_DATA}{query}")));
                }
                let Some(bare) = path.strip_suffix('/') else {
                    return Some(Cow::Owned(format!("{path}{DATA}{query}")));
                };
                let said = is_slashed(query.trim_start_matches('?'));
                Some(Cow::Owned(match (said, query.strip_prefix('?')) {
                    (true, _) => format!("{bare}{DATA}{query}"),
                    (false, Some(query)) => format!("{bare}{DATA}?{query}&{SLASH}=1"),
                    (false, None) => format!("{bare}{DATA}?{SLASH}=1"),
                }))
            }
        }
    }

    fn page_hints(&self, form: Form, body: &[u8]) -> PageHints {
        match form {
            Form::Document => {
                let Some(script) = start(body) else { return PageHints::default() };
                // The server's data of the page, which it goes on with; `null` without.
                let data = memmem::find(script, b"{type:\"data\"").map(|_| Form::Data);
                PageHints { build: build(script), pair: data }
            }
            Form::Data | Form::Payload => PageHints { build: None, pair: Some(Form::Document) },
        }
    }

    fn probe(&self) -> Option<String> {
        Some(format!("{}/version.json", self.app))
    }

    /// Documents name the version by its hash.
    fn probed(&self, body: &[u8]) -> Option<Box<str>> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        serde_json::from_slice::<Version>(body).ok().map(|file| hash(&file.version).into())
    }

    fn sends_by(&self) -> Option<&'static str> {
        Some("application/json")
    }

    fn sends_to(&self, body: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Action {
            #[serde(rename = "type")]
            kind: String,
            location: String,
        }
        let action: Action = serde_json::from_slice(body).ok()?;
        (action.kind == "redirect").then_some(action.location)
    }

    fn query_of_document(&self, query: &str) -> Option<String> {
        Some(without(query, |name| name == SLASH || name == LOADERS))
    }

    fn is_asset(&self, path: &str) -> bool {
        path.starts_with(&*self.assets)
    }

    fn assets(&self, path: &str, body: &[u8]) -> Vec<String> {
        hashed_files(&self.assets, &self.mark, path, body, |_| true)
    }
}

/// Whether a query says that the page's path ends in a slash.
fn is_slashed(query: &str) -> bool {
    query.split('&').any(|pair| pair.split_once('=') == Some((SLASH, "1")))
}

/// The script by which a document starts its client: `{ __sveltekit_HASH = {base: … `
fn start(body: &[u8]) -> Option<&[u8]> {
    // Data that the server fetched begin with `{"`, and may hold what clients wrote. So may
    // a site's own JSON, which has a quote before any such text.
    let is_block = |script: &&[u8]| {
        script.first() == Some(&b'{') && script.get(1).is_some_and(u8::is_ascii_whitespace)
    };
    scripts(body).filter(is_block).find(|script| build(script).is_some())
}

fn build(script: &[u8]) -> Option<Box<str>> {
    named(script).map(|(name, _)| name.into())
}

/// The build that a block names, and what follows.
fn named(script: &[u8]) -> Option<(&str, &[u8])> {
    const NAME: &[u8] = b"__sveltekit_";
    /// What may come before it is a line.
    const NEAR: usize = 256;
    let near = script.get(..NEAR).unwrap_or(script);
    let at = memmem::find(near, NAME)?;
    if near[..at].iter().any(|b| b"\"'`".contains(b)) {
        return None;
    }
    let at = at + NAME.len();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let length = near[at..].iter().position(|b| !plain(b))?;
    let name = std::str::from_utf8(&near[at..at + length]).ok()?;
    (1..=7).contains(&length).then(|| (name, &script[at + length..]))
}

/// The folder of the files that a start script imports, by its way from the page:
/// `./_app` of `import("./_app/immutable/entry/start.x.js")`. No string in the script's data
/// can look like that: its quotes are escaped, and after its end comes no dot or slash.
fn imports_from(script: &[u8]) -> Option<&str> {
    const IMPORT: &[u8] = b"import(\"";
    memmem::find_iter(script, IMPORT).find_map(|at| {
        let url = script.get(at + IMPORT.len()..)?;
        let url = url.get(..MAX_NAME).unwrap_or(url);
        let url = std::str::from_utf8(&url[..memchr::memchr(b'"', url)?]).ok()?;
        let (way, _) = url.split_once("/immutable/")?;
        (way.starts_with(['.', '/']) && !way.starts_with("//")).then_some(way)
    })
}

/// The `base` with which a start script begins.
fn base_in(after_name: &[u8]) -> Option<&str> {
    let object = after_name.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let first = object.strip_prefix(b"{")?.trim_ascii_start();
    if first.starts_with(b"base: \"") { word(first, b"base: \"", b'"') } else { None }
}

/// As SvelteKit hashes the name of its version (djb2, from the end, in base 36).
fn hash(version: &str) -> String {
    let units: Vec<u16> = version.encode_utf16().collect();
    let step = |hash: u32, unit: &u16| hash.wrapping_mul(33) ^ u32::from(*unit);
    let mut hash = units.iter().rev().fold(5381, step);
    let mut digits = Vec::new();
    loop {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(hash % 36) as usize]);
        hash /= 36;
        if hash == 0 {
            break;
        }
    }
    digits.iter().rev().map(|&digit| char::from(digit)).collect()
}

/// The routes of a site, after those of the file.
pub(super) fn routes(site: &config::Site) -> Vec<Route> {
    let (base, app) = (&site.base, folder(site, "/_app"));
    vec![
        immutable(format!("{base}{app}/immutable/**"), BY_ORIGIN),
        // Remote functions: they may go by the page that a field names.
        route(format!("{base}{app}/remote/**"), Mode::Pass),
        rest(),
    ]
}

/// Whether a document is SvelteKit's.
pub(super) fn recognise(
    page: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<Recognised<config::Site>> {
    let start = start(body);
    let because = match start {
        Some(_) => "the page starts with `__sveltekit_…`",
        None if headers.contains_key("x-sveltekit-page") => "the field `x-sveltekit-page`",
        None => return None,
    };
    let mut site = config::Site::default();
    // From the page's folder, or from the root.
    let folder = start.and_then(imports_from).and_then(|way| resolve(page, way));
    if let Some((base, app)) = folder.as_deref().and_then(|folder| folder.rsplit_once('/')) {
        let app = base_path(format!("/{app}"));
        site.base = base_path(base.to_owned());
        site.assets = (!app.is_empty()).then_some(app);
    } else if let Some(base) = start.and_then(named).and_then(|(_, after)| base_in(after)) {
        site.base = base_path(base.to_owned());
    }
    Some(Recognised { site, because })
}

#[cfg(test)]
mod tests {
    use super::super::testing::get;
    use super::*;

    fn site(base: &str) -> Sveltekit {
        Sveltekit::new(&config::Site { base: base.to_owned(), ..config::Site::default() })
    }

    /// A document as SvelteKit writes it.
    fn page(block: &str) -> String {
        format!(
            "<p>{{ __sveltekit_text = {{}}</p><link href=\"/_app/immutable/entry/start.a.js\">\
             <script type=\"application/json\" data-sveltekit-fetched>{{\"body\":\"{{ \
             __sveltekit_evil = \"}}</script><script>\n\t{{\n\t\t{block}\n\t}}\n</script>"
        )
    }

    #[test]
    fn pages_and_their_data() {
        let kit = site("");
        for (page, data) in [
            ("/", "/__data.json?x-sveltekit-trailing-slash=1"),
            ("/p", "/p/__data.json"),
            ("/p/", "/p/__data.json?x-sveltekit-trailing-slash=1"),
            ("/a/b", "/a/b/__data.json"),
            ("/p.html", "/p.html__data.json"),
            ("/caf%C3%A9", "/caf%C3%A9/__data.json"),
        ] {
            assert_eq!(kit.target(page, Form::Data, None).as_deref(), Some(data), "{page}");
            let request = get(data);
            let place = kit.locate(request.path(), &request);
            assert_eq!((&*place.path, place.form), (page, Form::Data), "{data}");
            assert_eq!(kit.locate(page, &get(page)).form, Form::Document, "{page}");
        }
        for (page, data) in [
            ("/p?a=1", "/p/__data.json?a=1"),
            ("/p/?a=1", "/p/__data.json?a=1&x-sveltekit-trailing-slash=1"),
            (
                "/p/?x-sveltekit-trailing-slash=1&x-sveltekit-invalidated=01",
                "/p/__data.json?x-sveltekit-trailing-slash=1&x-sveltekit-invalidated=01",
            ),
        ] {
            assert_eq!(kit.target(page, Form::Data, None).as_deref(), Some(data), "{page}");
        }
        let bare = get("/__data.json");
        assert_eq!(&*kit.locate(bare.path(), &bare).path, "/");
        for path in ["/x__data.json", "/__data.json/", "/data.json"] {
            assert_eq!(kit.locate(path, &get(path)).form, Form::Document, "{path}");
        }
        assert_eq!(site("/docs").target("/docs/_app/env.js", Form::Data, None), None);
    }

    #[test]
    fn hashed_assets() {
        let kit = site("/docs");
        for (path, asset) in [
            ("/docs/_app/immutable/entry/start.a.js", true),
            ("/docs/_app/version.json", false),
            ("/_app/immutable/entry/start.a.js", false),
        ] {
            assert_eq!(kit.is_asset(path), asset, "{path}");
        }
        let page =
            br#"<link href="./_app/immutable/entry/a.js">import("/docs/_app/immutable/b.js")"#;
        assert_eq!(
            kit.assets("/docs", page),
            ["/docs/_app/immutable/entry/a.js", "/docs/_app/immutable/b.js"]
        );
        let script = br#"import"../chunks/c.js";import"./d.js""#;
        assert_eq!(
            kit.assets("/docs/_app/immutable/entry/a.js", script),
            ["/docs/_app/immutable/chunks/c.js", "/docs/_app/immutable/entry/d.js"]
        );
    }

    #[test]
    fn what_documents_tell() {
        let kit = site("");
        for (block, build, pair) in [
            ("__sveltekit_1nq2k3 = { base: \"\" }; data: [null,null]", Some("1nq2k3"), None),
            (
                "const deferred = new Map();\n\n__sveltekit_0 = {};\
                 data: [{type:\"data\",data:{a:1},uses:{}},null]",
                Some("0"),
                Some(Form::Data),
            ),
            ("other()", None, None),
            ("\"name\": \"__sveltekit_evil = \"", None, None),
        ] {
            let told = kit.page_hints(Form::Document, page(block).as_bytes());
            assert_eq!((told.build.as_deref(), told.pair), (build, pair), "{block}");
        }
        assert_eq!(kit.page_hints(Form::Data, b"{}").pair, Some(Form::Document));
    }

    #[test]
    fn what_actions_and_data_lead_to() {
        let kit = site("");
        for (body, to) in [
            (r#"{"type":"redirect","status":303,"location":"/notes"}"#, Some("/notes")),
            (r#"{"type":"success","status":200,"location":"/notes"}"#, None),
            (r#"{"type":"redirect","status":303,"location":"/no"#, None),
            (r#"{"type":"failure","status":400,"data":"[]"}"#, None),
        ] {
            assert_eq!(kit.sends_to(body.as_bytes()).as_deref(), to, "{body}");
        }
        let query = "a=1&x-sveltekit-trailing-slash=1&x-sveltekit-invalidated=01&b";
        assert_eq!(kit.query_of_document(query).as_deref(), Some("a=1&b"));
    }

    /// The hashes are those that SvelteKit's own function gives.
    #[test]
    fn versions() {
        let kit = site("");
        assert_eq!(kit.probe().as_deref(), Some("/_app/version.json"));
        for (file, build) in [
            (r#"{"version":"1763762400000"}"#, Some("kl2vrl")),
            (r#"{"version":"v1-é中"}"#, Some("1wyuq4r")),
            (r#"{"version":""}"#, Some("45h")),
            ("<p>", None),
        ] {
            assert_eq!(kit.probed(file.as_bytes()).as_deref(), build, "{file}");
        }
    }
}
