//! Astro: documents alone. Its islands and actions have URLs of their own, which are
//! pages like others; nothing that it prints tells the build.

use std::borrow::Cow;

use http::HeaderMap;

use super::html::{Tag, hashed_files, tags};
use super::preset::{Framework, Located, PageHints, Recognised};
use super::routes::{BY_ORIGIN, folder, immutable, rest, route};
use super::urls::base_before;
use crate::config::{self, Mode, Route};
use crate::page::Form;
use crate::request::Request;

/// An Astro site.
#[derive(Debug)]
pub(super) struct Astro {
    /// `/BASE/_astro/`
    assets: String,
    /// `/_astro/`
    mark: String,
}

/// Where `build.assets` is by default.
const ASSETS: &str = "/_astro";

impl Astro {
    pub(super) fn new(site: &config::Site) -> Astro {
        let folder = site.assets.as_deref().unwrap_or(ASSETS);
        Astro { assets: format!("{}{folder}/", site.base), mark: format!("{folder}/") }
    }
}

impl Framework for Astro {
    fn tells_build(&self) -> bool {
        false
    }

    fn locate<'a>(&self, path: &'a str, _request: &Request<'_>) -> Located<'a> {
        Located { path: Cow::Borrowed(path), form: Form::Document, build: None }
    }

    fn target<'a>(&self, page: &'a str, form: Form, _build: Option<&str>) -> Option<Cow<'a, str>> {
        (form == Form::Document).then_some(Cow::Borrowed(page))
    }

    fn page_hints(&self, _form: Form, _body: &[u8]) -> PageHints {
        PageHints::default()
    }

    fn forms(&self) -> &'static [Form] {
        &[Form::Document]
    }

    fn is_asset(&self, path: &str) -> bool {
        path.starts_with(&*self.assets)
    }

    fn assets(&self, path: &str, body: &[u8]) -> Vec<String> {
        hashed_files(&self.assets, &self.mark, path, body, |_| true)
    }
}

/// The routes of a site, after those of the file.
pub(super) fn routes(site: &config::Site) -> Vec<Route> {
    let (base, assets) = (&site.base, folder(site, "/_astro"));
    vec![
        immutable(format!("{base}{assets}/**"), BY_ORIGIN),
        route(format!("{base}/_actions/**"), Mode::Pass),
        rest(),
    ]
}

/// Whether a document is Astro's.
pub(super) fn recognise(
    _page: &str,
    _headers: &HeaderMap,
    body: &[u8],
) -> Option<Recognised<config::Site>> {
    let because = tags(body).find_map(|tag| sign(&tag))?;
    let files = tags(body).filter_map(|tag| match tag.is(ISLAND) {
        true => tag.get("component-url"),
        false => tag.loads(),
    });
    let site = config::Site { base: base_before(files, "/_astro/"), ..Default::default() };
    Some(Recognised { site, because })
}

const ISLAND: &str = "astro-island";

/// What tells Astro in a tag. Links and images are not looked at: clients may have chosen
/// their URLs.
fn sign(tag: &Tag<'_>) -> Option<&'static str> {
    let generator = || tag.is("meta") && tag.get("name") == Some("generator");
    let scoped = |(name, _): (&[u8], &[u8])| name.starts_with(b"data-astro-cid-");
    if tag.is(ISLAND) {
        Some("the page has an `astro-island`")
    } else if generator() && tag.get("content").is_some_and(|by| by.starts_with("Astro v")) {
        Some("the page says `generator: Astro`")
    } else if tag.loads().is_some_and(|url| url.starts_with("/_astro/")) {
        Some("the page loads files in `/_astro/`")
    } else if tag.attributes().any(scoped) {
        Some("the page has `data-astro-cid-…`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::get;
    use super::*;

    #[test]
    fn documents_alone() {
        let astro = Astro::new(&config::Site { base: "/docs".to_owned(), ..Default::default() });
        for path in ["/docs", "/docs/_server-islands/A", "/docs/x.json"] {
            let place = astro.locate(path, &get(path));
            assert_eq!((&*place.path, place.form), (path, Form::Document));
            assert_eq!(astro.target(path, Form::Document, None).as_deref(), Some(path));
            assert_eq!(astro.target(path, Form::Data, None), None);
        }
        assert!(astro.is_asset("/docs/_astro/a.css") && !astro.is_asset("/_astro/a.css"));
        let page = br#"<link href="/docs/_astro/a.css"><astro-island
            component-url="/docs/_astro/B.x.js" renderer-url="/docs/_astro/client.y.js">"#;
        assert_eq!(
            astro.assets("/docs/", page),
            ["/docs/_astro/a.css", "/docs/_astro/B.x.js", "/docs/_astro/client.y.js"]
        );
    }
}
