//! Nuxt 3 and 4: the payload of `/p`, where it has one, is at `/p/_payload.json?BUILD`.

use std::borrow::Cow;

use http::HeaderMap;
use serde::Deserialize;

use super::html::{hashed_files, last_in_code, scripts, tags, word};
use super::preset::{Framework, Located, PageHints, Recognised};
use super::routes::{BY_ORIGIN, folder, for_all, immutable, rest};
use super::urls::{base_path, split};
use crate::config::{self, Route};
use crate::page::Form;
use crate::request::Request;

/// A Nuxt site.
#[derive(Debug)]
pub(super) struct Nuxt {
    slash: bool,
    /// `/BASE/_nuxt/`
    assets: String,
    /// `/_nuxt/`
    mark: String,
    /// `/BASE/_nuxt/builds/`: what they hold changes, their names do not.
    builds: String,
}

/// Where `buildAssetsDir` is by default.
const ASSETS: &str = "/_nuxt";
const DATA: &str = "/_payload.json";

impl Nuxt {
    pub(super) fn new(site: &config::Site) -> Nuxt {
        let folder = site.assets.as_deref().unwrap_or(ASSETS);
        let assets = format!("{}{folder}/", site.base);
        Nuxt {
            slash: site.trailing_slash,
            builds: format!("{assets}builds/"),
            assets,
            mark: format!("{folder}/"),
        }
    }
}

impl Framework for Nuxt {
    /// The client says its build, less for the renderer than for caches on the way.
    fn locate<'a>(&self, path: &'a str, _request: &Request<'_>) -> Located<'a> {
        let Some(page) = path.strip_suffix(DATA) else {
            return Located { path: Cow::Borrowed(path), form: Form::Document, build: None };
        };
        let slash = if self.slash || page.is_empty() { "/" } else { "" };
        Located { path: Cow::Owned(format!("{page}{slash}")), form: Form::Data, build: None }
    }

    fn target<'a>(&self, page: &'a str, form: Form, build: Option<&str>) -> Option<Cow<'a, str>> {
        match form {
            Form::Document => Some(Cow::Borrowed(page)),
            Form::Payload => None,
            Form::Data => {
                let (path, query) = split(page);
                let bare = path.trim_end_matches('/');
                if path.starts_with(&*self.assets) {
                    return None;
                }
                Some(Cow::Owned(match (query, build) {
                    ("", Some(build)) => format!("{bare}{DATA}?{build}"),
                    (query, _) => format!("{bare}{DATA}{query}"),
                }))
            }
        }
    }

    fn page_hints(&self, form: Form, body: &[u8]) -> PageHints {
        match form {
            Form::Document => {
                // `data-src` of the element that stands for the payload.
                let sources = tags(body).filter(|tag| tag.is("script"));
                let mut sources = sources.filter_map(|tag| tag.get("data-src"));
                let data = sources.any(|url| url.contains("/_payload.json?"));
                PageHints { build: app(body).and_then(build), pair: data.then_some(Form::Data) }
            }
            Form::Data | Form::Payload => PageHints { build: None, pair: Some(Form::Document) },
        }
    }

    fn probe(&self) -> Option<String> {
        Some(format!("{}latest.json", self.builds))
    }

    fn probed(&self, body: &[u8]) -> Option<Box<str>> {
        #[derive(Deserialize)]
        struct Latest {
            id: String,
        }
        let latest: Latest = serde_json::from_slice(body).ok()?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        let good = (1..=128).contains(&latest.id.len()) && latest.id.bytes().all(plain);
        good.then(|| latest.id.into())
    }

    /// The build is a parameter without a value.
    fn query_of_document(&self, query: &str) -> Option<String> {
        Some(query.split('&').filter(|pair| pair.contains('=')).collect::<Vec<_>>().join("&"))
    }

    fn is_asset(&self, path: &str) -> bool {
        path.starts_with(&*self.assets) && !path.starts_with(&*self.builds)
    }

    fn assets(&self, path: &str, body: &[u8]) -> Vec<String> {
        hashed_files(&self.assets, &self.mark, path, body, |name| self.is_asset(name))
    }
}

/// The script that tells the client how the site is configured, from `app` on.
fn app(body: &[u8]) -> Option<&[u8]> {
    let script = scripts(body).find(|script| script.starts_with(b"window.__NUXT__"))?;
    // The payload may stand before it, with what clients wrote in strings.
    Some(&script[last_in_code(script, b"app:{")?..])
}

fn build(app: &[u8]) -> Option<Box<str>> {
    word(app, b"buildId:\"", b'"').map(Into::into)
}

/// The routes of a site, after those of the file.
pub(super) fn routes(site: &config::Site) -> Vec<Route> {
    let (base, assets) = (&site.base, folder(site, "/_nuxt"));
    vec![
        // `latest.json` changes with each deployment.
        for_all(format!("{base}{assets}/builds/**")),
        immutable(format!("{base}{assets}/**"), BY_ORIGIN),
        rest(),
    ]
}

/// Whether a document is Nuxt's.
pub(super) fn recognise(
    _page: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<Recognised<config::Site>> {
    let app = app(body);
    let powered = headers.get("x-powered-by").is_some_and(|value| value == "Nuxt");
    let because = match (app, powered) {
        (Some(_), _) => "the page sets `window.__NUXT__`",
        (None, true) => "the field `x-powered-by: Nuxt`",
        (None, false) => return None,
    };
    let said = |key: &[u8]| app.and_then(|app| word(app, key, b'"')).unwrap_or("").to_owned();
    let folder = base_path(said(b"buildAssetsDir:\""));
    let site = config::Site {
        base: base_path(said(b"baseURL:\"")),
        assets: (!folder.is_empty()).then_some(folder),
        ..config::Site::default()
    };
    Some(Recognised { site, because })
}

#[cfg(test)]
mod tests {
    use super::super::testing::get;
    use super::*;

    fn site(base: &str, trailing_slash: bool) -> Nuxt {
        let base = base.to_owned();
        Nuxt::new(&config::Site { base, trailing_slash, ..config::Site::default() })
    }

    #[test]
    fn pages_and_their_payloads() {
        for (slash, page, data) in [
            (false, "/", "/_payload.json"),
            (false, "/p", "/p/_payload.json"),
            (true, "/p/", "/p/_payload.json"),
            (false, "/a/b", "/a/b/_payload.json"),
        ] {
            let nuxt = site("", slash);
            assert_eq!(nuxt.target(page, Form::Data, None).as_deref(), Some(data), "{page}");
            let with = format!("{data}?b-1");
            assert_eq!(nuxt.target(page, Form::Data, Some("b-1")).as_deref(), Some(&*with));
            let place = nuxt.locate(data, &get(data));
            assert_eq!((&*place.path, place.form), (page, Form::Data), "{data}");
            assert_eq!(nuxt.locate(page, &get(page)).form, Form::Document, "{page}");
        }
        let nuxt = site("", false);
        let own = nuxt.target("/p?b-0", Form::Data, Some("b-1"));
        assert_eq!(own.as_deref(), Some("/p/_payload.json?b-0"));
        assert_eq!(nuxt.target("/_nuxt/a.js", Form::Data, None), None);
        assert_eq!(nuxt.query_of_document("b-1").as_deref(), Some(""));
        assert_eq!(nuxt.locate("/x_payload.json", &get("/")).form, Form::Document);
    }

    #[test]
    fn hashed_assets() {
        let nuxt = site("/docs", false);
        for (path, asset) in [
            ("/docs/_nuxt/a.js", true),
            ("/docs/_nuxt/builds/latest.json", false),
            ("/docs/_nuxt/builds/meta/b-1.json", false),
            ("/_nuxt/a.js", false),
        ] {
            assert_eq!(nuxt.is_asset(path), asset, "{path}");
        }
        let page = br#"<link href="/docs/_nuxt/a.css"><link href="/docs/_nuxt/builds/meta/b.json">
            <script type="module" src="/docs/_nuxt/b.js" crossorigin>"#;
        assert_eq!(nuxt.assets("/docs", page), ["/docs/_nuxt/a.css", "/docs/_nuxt/b.js"]);
    }

    #[test]
    fn what_documents_tell() {
        let nuxt = site("", false);
        let config = |app: &str| {
            format!(
                "<p>buildId:\"evil\"</p><script>window.__NUXT__={{}};window.__NUXT__.config=\
                 {{public:{{buildId:\"mine\"}},app:{{{app}}}}}</script>"
            )
        };
        let plain = config(r#"baseURL:"/",buildId:"e8b2-1",buildAssetsDir:"/_nuxt/",cdnURL:"""#);
        assert_eq!(
            nuxt.page_hints(Form::Document, plain.as_bytes()),
            PageHints { build: Some("e8b2-1".into()), pair: None }
        );
        let payload = format!("{plain}<script data-src=\"/p/_payload.json?e8b2-1\"></script>");
        assert_eq!(nuxt.page_hints(Form::Document, payload.as_bytes()).pair, Some(Form::Data));
        // What clients wrote, in text, in an attribute, and in the payload.
        for own in [
            format!("<p>data-src=\"/_payload.json?b\"</p>{plain}"),
            format!("<a title='<script data-src=\"/_payload.json?b\"></script>'>{plain}"),
            plain.replace("={};", r#"={data:{a:"app:{buildId:",b:"app:{"}};"#),
            plain.replace("}}<", r#"},a:"app:{",b:"buildId:\"evil\""}<"#),
        ] {
            let told = nuxt.page_hints(Form::Document, own.as_bytes());
            assert_eq!(told, PageHints { build: Some("e8b2-1".into()), pair: None }, "{own}");
        }
        for none in [config(r#"buildId:"""#), config(r#"buildId:"<x>""#), String::new()] {
            assert_eq!(nuxt.page_hints(Form::Document, none.as_bytes()).build, None, "{none}");
        }
        let latest = br#"{"id":"e8b2-1","timestamp":1}"#;
        assert_eq!(nuxt.probed(latest).as_deref(), Some("e8b2-1"));
        assert_eq!(nuxt.probed(b"{\"id\":\"\"}"), None);
        assert_eq!(nuxt.probe().as_deref(), Some("/_nuxt/builds/latest.json"));
    }
}
