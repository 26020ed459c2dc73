//! Gatsby 5: a page's data is a file of its own, and every page is rendered from
//! the same build.

pub(super) mod files;

use std::borrow::Cow;

use http::HeaderMap;
use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::html::{scripts, tags};
use super::preset::{Doubt, Framework, Located, PageHints, Recognised, other};
use super::routes::{RENDERED, immutable, route};
use super::urls::{MAX_NAME, Names, base_before, below, split};
use crate::config::{self, Mode, Route};
use crate::page::Form;
use crate::request::Request;

/// A Gatsby site.
#[derive(Debug)]
pub(super) struct Gatsby {
    site: config::Gatsby,
}

const STATIC: Mode = Mode::Dsg { origin: false };
const STATIC_UNLESS: Mode = Mode::Dsg { origin: true };

const DATA: &str = "/page-data/";
const DATA_FILE: &str = "/page-data.json";
/// How a document names the build.
const HASH: &[u8] = b"window.___webpackCompilationHash=\"";
/// How the script begins that says which page this is, and where it holds the data of a
/// page that is rendered for each client.
const PAGE_PATH: &[u8] = b"/*<![CDATA[*/window.pagePath=";
const PAGE_DATA: &[u8] = b";window.pageData={";

impl Gatsby {
    pub(super) fn new(site: &config::Gatsby) -> Gatsby {
        Gatsby { site: site.clone() }
    }
}

impl Framework for Gatsby {
    fn knows_pages(&self) -> Option<bool> {
        Some(self.site.build_id.is_some())
    }

    fn doubts(&self) -> Vec<Doubt> {
        if self.site.build_id.is_some() || !self.site.server_rendered.is_empty() {
            return Vec::new();
        }
        let message = "it is guessed that no page is rendered on the server, unless it says \
                       `private`: name the site's folder (`gatsby: { build: . }`), or such \
                       pages (`server_rendered:`)";
        vec![(vec!["framework"], message.to_owned())]
    }

    fn build(&self) -> Option<&str> {
        self.site.build_id.as_deref()
    }

    fn probe(&self) -> Option<String> {
        Some(format!("{}/page-data/app-data.json", self.site.path_prefix))
    }

    /// `/page-data/p/page-data.json` is the data of `/p/`, and `index` stands for
    /// the root.
    fn locate<'a>(&self, path: &'a str, _request: &Request<'_>) -> Located<'a> {
        let page = below(path, &self.site.path_prefix)
            .and_then(|rest| rest.strip_prefix(DATA))
            .and_then(|rest| rest.strip_suffix(DATA_FILE));
        let Some(page) = page else {
            return Located { path: Cow::Borrowed(path), form: Form::Document, build: None };
        };
        let prefix = &self.site.path_prefix;
        let slash = if self.site.trailing_slash { "/" } else { "" };
        let path = match page {
            "index" => format!("{prefix}/"),
            page => format!("{prefix}/{page}{slash}"),
        };
        Located { path: Cow::Owned(path), form: Form::Data, build: None }
    }

    fn target<'a>(&self, page: &'a str, form: Form, _build: Option<&str>) -> Option<Cow<'a, str>> {
        let (path, query) = split(page);
        match form {
            Form::Document => Some(Cow::Borrowed(page)),
            Form::Payload => None,
            Form::Data => {
                let prefix = &self.site.path_prefix;
                let page = match below(path, prefix)?.trim_matches('/') {
                    "" => "index",
                    page => page,
                };
                (!is_file(path))
                    .then(|| Cow::Owned(format!("{prefix}{DATA}{page}{DATA_FILE}{query}")))
            }
        }
    }

    /// What a document or `app-data.json` tells.
    fn page_hints(&self, form: Form, body: &[u8]) -> PageHints {
        let build = match form {
            Form::Document if body.trim_ascii_start().starts_with(b"{") => in_app_data(body),
            Form::Document => scripts(body).find_map(in_script),
            Form::Data | Form::Payload => None,
        };
        PageHints { build, pair: Some(other(form)) }
    }

    /// What `getServerData` gave is in the page and in its data, and with deferred pages there
    /// is nothing of the kind.
    fn renders_silently(&self) -> bool {
        true
    }

    fn is_for_all(&self, form: Form, body: &[u8]) -> bool {
        match form {
            Form::Document => !inlines_data(body),
            Form::Data | Form::Payload => !has_server_data(body),
        }
    }

    /// Bundles carry a hash in their names; `/static` files lie in a folder
    /// that is one, or carry one.
    fn is_asset(&self, path: &str) -> bool {
        let Some(path) = below(path, &self.site.path_prefix) else { return false };
        if path.starts_with("/static/") {
            return true;
        }
        let Some((stem, kind)) = path[1..].rsplit_once('.') else { return false };
        let hashed = stem.rsplit_once('-').is_some_and(|(_, hash)| {
            hash.len() >= 16 && hash.bytes().all(|b| b.is_ascii_hexdigit())
        });
        !stem.contains('/') && matches!(kind, "js" | "css") && hashed
    }

    /// Results of static queries and slices, which many pages share: the pages that were
    /// rendered with them must get these, or React finds other text than it expects.
    fn is_of_build(&self, path: &str) -> bool {
        let Some(path) = below(path, &self.site.path_prefix) else { return false };
        let shared = path.starts_with("/slice-data/") || path.starts_with("/page-data/sq/d/");
        shared && path.ends_with(".json")
    }

    /// The bundles that a document names, in its tags and in its chunk map.
    fn assets(&self, path: &str, body: &[u8]) -> Vec<String> {
        let prefix = &self.site.path_prefix;
        let mut found = Names::default();
        if self.is_asset(path) {
            return found.list;
        }
        let in_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        // Where the name begins that is looked at, and up to where that is known.
        let (mut before, mut known) = (None, 0);
        for at in memmem::find_iter(body, b".js") {
            if found.is_full() {
                break;
            }
            if let Some(last) = body[known..at].iter().rposition(|b| !in_name(b)) {
                before = Some(known + last);
            }
            known = at;
            let Some(start) = before.filter(|start| at - start <= MAX_NAME) else { continue };
            let end = at + 3;
            let whole = body.get(end).is_none_or(|b| !b.is_ascii_alphanumeric());
            let Ok(name) = std::str::from_utf8(&body[start + 1..end]) else { continue };
            if body[start] == b'/' && whole {
                let path = format!("{prefix}/{name}");
                if self.is_asset(&path) {
                    found.add(path);
                }
            }
        }
        found.list
    }
}

/// Whether a document holds the data of a page that is rendered for each client. What looks
/// like it is taken for it, wherever it stands: it costs a hit at most.
fn inlines_data(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = memmem::find(rest, PAGE_PATH) {
        rest = &rest[at + PAGE_PATH.len()..];
        let end = memmem::find(rest, b"</script").unwrap_or(rest.len());
        if memmem::find(&rest[..end], PAGE_DATA).is_some() {
            return true;
        }
        rest = &rest[end..];
    }
    false
}

/// The build that a script names, if it begins as Gatsby's: with the page's path, which a
/// client may have chosen, or with the build itself.
fn in_script(script: &[u8]) -> Option<Box<str>> {
    let mut script = script.strip_prefix(b"/*<![CDATA[*/").unwrap_or(script);
    if let Some(path) = script.strip_prefix(b"window.pagePath=") {
        let mut paths = serde_json::Deserializer::from_slice(path).into_iter::<Cow<'_, str>>();
        paths.next()?.ok()?;
        script = path.get(paths.byte_offset()..)?.strip_prefix(b";")?;
    }
    let hash = script.strip_prefix(HASH)?;
    plain(std::str::from_utf8(&hash[..memchr::memchr(b'"', hash)?]).ok()?)
}

/// The build that `app-data.json` names.
fn in_app_data(body: &[u8]) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct AppData<'a> {
        #[serde(rename = "webpackCompilationHash", borrow)]
        hash: Cow<'a, str>,
    }
    plain(&serde_json::from_slice::<AppData<'_>>(body).ok()?.hash)
}

/// A build's hash.
fn plain(hash: &str) -> Option<Box<str>> {
    let plain = hash.bytes().all(|b| b.is_ascii_alphanumeric());
    (plain && (8..=64).contains(&hash.len())).then(|| hash.into())
}

/// Whether the data of a page hold what `getServerData` gave.
fn has_server_data(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Data {
        #[serde(default)]
        result: Result,
    }
    #[derive(Default, Deserialize)]
    struct Result {
        #[serde(rename = "serverData")]
        given: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Data>(body).is_ok_and(|data| data.result.given.is_some())
}

/// Whether a path looks like that of a file, which has no data. Slugs may hold dots
/// (`/v1.2/`), client routes end with some (`/[...]/`), and the page of what is not found
/// is `/404.html`.
fn is_file(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or(path);
    let Some((_, kind)) = last.rsplit_once('.') else { return false };
    matches!(kind.len(), 2..=11)
        && kind.bytes().all(|b| b.is_ascii_alphanumeric())
        && kind.bytes().any(|b| b.is_ascii_alphabetic())
        && !matches!(kind, "html" | "htm")
}

/// The routes of a site, after those of the file.
pub(super) fn routes(site: &config::Gatsby) -> Vec<Route> {
    let prefix = &site.path_prefix;
    // What a bundle's name ends with.
    let hash = "[0-9a-f]".repeat(20);
    let immutable = |path: String| immutable(format!("{prefix}{path}"), STATIC);
    let mut routes = vec![
        immutable(format!("/*-{hash}.js")),
        immutable(format!("/*.{hash}.css")),
        immutable("/static/**".to_owned()),
        route(format!("{prefix}/page-data/app-data.json"), RENDERED),
        route(format!("{prefix}/api/**"), Mode::Pass),
    ];
    for pattern in &site.server_rendered {
        // With and without a slash at the end: one of the two redirects.
        let bare = pattern.trim_end_matches('/');
        if !bare.is_empty() && !bare.ends_with("/**") {
            routes.push(route(format!("{prefix}{bare}"), RENDERED));
            routes.push(route(format!("{prefix}{bare}/"), RENDERED));
        } else {
            routes.push(route(format!("{prefix}{pattern}"), RENDERED));
        }
    }
    routes.push(route("/**".to_owned(), STATIC_UNLESS));
    routes
}

/// Whether a document is Gatsby's.
pub(super) fn recognise(
    _page: &str,
    _headers: &HeaderMap,
    body: &[u8],
) -> Option<Recognised<config::Gatsby>> {
    let because = tags(body).find_map(|tag| {
        let generator = || tag.is("meta") && tag.get("name") == Some("generator");
        if tag.is("div") && tag.get("id") == Some("___gatsby") {
            Some("the page has an element `___gatsby`")
        } else if generator() && tag.get("content").is_some_and(|by| by.starts_with("Gatsby")) {
            Some("the page says `generator: Gatsby`")
        } else {
            None
        }
    })?;
    // Not from other links: a client may have chosen where they lead.
    let fetched = tags(body).filter(|tag| tag.is("link") && tag.get("as") == Some("fetch"));
    let path_prefix =
        base_before(fetched.filter_map(|tag| tag.get("href")), "/page-data/app-data.json");
    // As Gatsby's own default is.
    let site = config::Gatsby { path_prefix, trailing_slash: true, ..Default::default() };
    Some(Recognised { site, because })
}

#[cfg(test)]
mod tests {
    use super::super::testing::get;
    use super::*;

    fn site(prefix: &str, trailing_slash: bool) -> Gatsby {
        Gatsby::new(&config::Gatsby {
            path_prefix: prefix.to_owned(),
            trailing_slash,
            ..Default::default()
        })
    }

    #[test]
    fn pages_and_their_data() {
        for (prefix, slash, page, data) in [
            ("", true, "/", "/page-data/index/page-data.json"),
            ("", true, "/p/", "/page-data/p/page-data.json"),
            ("", true, "/a/b/", "/page-data/a/b/page-data.json"),
            ("", false, "/p", "/page-data/p/page-data.json"),
            ("/blog", true, "/blog/", "/blog/page-data/index/page-data.json"),
            ("/blog", true, "/blog/p/", "/blog/page-data/p/page-data.json"),
            ("", true, "/caf%C3%A9/", "/page-data/caf%C3%A9/page-data.json"),
            ("", true, "/404.html/", "/page-data/404.html/page-data.json"),
            ("", false, "/404.html", "/page-data/404.html/page-data.json"),
            ("", true, "/cs/%5B...%5D/", "/page-data/cs/%5B...%5D/page-data.json"),
            ("", false, "/cs/%5B...%5D", "/page-data/cs/%5B...%5D/page-data.json"),
            ("", true, "/posts/node.js/", "/page-data/posts/node.js/page-data.json"),
            ("", false, "/v1.2", "/page-data/v1.2/page-data.json"),
        ] {
            let gatsby = site(prefix, slash);
            assert_eq!(gatsby.target(page, Form::Data, None).as_deref(), Some(data), "{page}");
            let place = gatsby.locate(data, &get(data));
            assert_eq!((&*place.path, place.form), (page, Form::Data), "{data}");
            let place = gatsby.locate(page, &get(page));
            assert_eq!((&*place.path, place.form), (page, Form::Document), "{page}");
        }
    }

    #[test]
    fn what_is_not_a_page() {
        let gatsby = site("", true);
        for path in
            ["/page-data/app-data.json", "/page-data/sq/d/1.json", "/page-datax/p/page-data.json"]
        {
            assert_eq!(gatsby.locate(path, &get(path)).form, Form::Document, "{path}");
        }
        for file in ["/robots.txt", "/a/feed.xml", "/logo.png", "/site.webmanifest"] {
            assert_eq!(gatsby.target(file, Form::Data, None), None, "{file}");
        }
        assert_eq!(
            gatsby.target("/p/?a=1", Form::Data, None).as_deref(),
            Some("/page-data/p/page-data.json?a=1")
        );
    }

    #[test]
    fn hashed_assets() {
        let gatsby = site("", true);
        for (path, asset) in [
            ("/app-0123456789abcdef0123.js", true),
            ("/component---src-pages-index-js-0123456789abcdef0123.js", true),
            ("/styles.0123456789abcdef0123.css", false),
            ("/static/logo-0123456789abcdef.png", true),
            ("/sw.js", false),
            ("/a/app-0123456789abcdef0123.js", false),
            ("/page-data/app-data.json", false),
        ] {
            assert_eq!(gatsby.is_asset(path), asset, "{path}");
        }
        for (path, of_build) in [
            ("/slice-data/footer.json", true),
            ("/page-data/sq/d/3649515864.json", true),
            ("/page-data/index/page-data.json", false),
            ("/page-data/app-data.json", false),
            ("/slice-data/", false),
            ("/blog/slice-data/footer.json", false),
        ] {
            assert_eq!(gatsby.is_of_build(path), of_build, "{path}");
            assert_eq!(site("/b", true).is_of_build(&format!("/b{path}")), of_build, "{path}");
        }
        let page = br#"<script src="/app-0123456789abcdef0123.js"></script><script>
            window.___chunkMapping={"app":["/app-0123456789abcdef0123.js"],
            "component---b":["/component---b-fedcba98765432101234.js"]};</script><a href="/x.js">"#;
        assert_eq!(
            gatsby.assets("/", page),
            ["/app-0123456789abcdef0123.js", "/component---b-fedcba98765432101234.js"]
        );
    }

    /// Where the time were in proportion to the square of the size, this would take
    /// hours.
    #[test]
    fn pages_that_name_thousands_of_assets() {
        use super::super::urls::MAX_NAMES;
        let gatsby = site("", true);
        let many: String = (0..4000).map(|n| format!("\"/app-{n:020}.js\" ")).collect();
        let names = gatsby.assets("/", many.as_bytes());
        assert_eq!(names.len(), MAX_NAMES);
        assert_eq!(names[1], "/app-00000000000000000001.js");
        for bad in [".js", "a.js-", "/a.js/"] {
            let body = bad.repeat((1 << 20) / bad.len());
            assert!(gatsby.assets("/", body.as_bytes()).is_empty(), "{bad}");
        }
    }

    /// What Gatsby writes of a page that it renders for each client, and of a deferred one.
    #[test]
    fn for_whom_a_page_is() {
        let page = |data: &str| {
            let hash = "window.___webpackCompilationHash=\"0123456789abcdef\";";
            format!(
                "<p>window.pageData={{</p><script id=\"gatsby-script-loader\">\
                 /*<![CDATA[*/window.pagePath=\"/p/\";{hash}{data}/*]]>*/</script>"
            )
        };
        let gatsby = site("", true);
        for (form, body, for_all) in [
            (Form::Document, page(""), true),
            (Form::Document, page("window.pageData={\"result\":{\"serverData\":{}}};"), false),
            (Form::Data, r#"{"result":{"data":{},"pageContext":{}}}"#.to_owned(), true),
            (Form::Data, r#"{"result":{"pageContext":{},"serverData":{"a":1}}}"#.to_owned(), false),
            (Form::Data, r#"{"result":{"serverData":null}}"#.to_owned(), true),
            (Form::Data, "no JSON".to_owned(), true),
        ] {
            assert_eq!(gatsby.is_for_all(form, body.as_bytes()), for_all, "{body}");
        }
    }

    #[test]
    fn the_build() {
        let html = b"<script>/*<![CDATA[*/window.pagePath=\"/\";\
            window.___webpackCompilationHash=\"0123456789abcdef\";/*]]>*/</script>";
        let told_by = |form, body: &[u8]| site("", true).page_hints(form, body).build;
        assert_eq!(told_by(Form::Document, html).as_deref(), Some("0123456789abcdef"));
        let app = b"{\"webpackCompilationHash\":\"0123456789abcdef\"}\n";
        assert_eq!(told_by(Form::Document, app).as_deref(), Some("0123456789abcdef"));
        // Alone, as with slices; and after what clients wrote, or as their page's path.
        const HASH: &str = "window.___webpackCompilationHash=\"0123456789abcdef\";";
        const EVIL: &str = "window.___webpackCompilationHash=\"evil56789abcdef\";";
        let quoted = serde_json::to_string(EVIL).unwrap();
        for (html, build) in [
            (format!("<script>{HASH}</script>"), true),
            (format!("<p title='<script>{EVIL}</script>'>{EVIL}<script>{HASH}</script>"), true),
            (format!("<script>var a={quoted},b='{EVIL}'</script><script>{HASH}</script>"), true),
            (format!("<script>window.pagePath={quoted};{HASH}</script>"), true),
            (
                format!(
                    "<script>window.pagePath=\"window.___webpackCompilationHash=\";{HASH}</script>"
                ),
                true,
            ),
            ("<p>\"webpackCompilationHash\":\"evil56789abcdef\"</p>".to_owned(), false),
            (format!("<p>{EVIL}</p>"), false),
            ("<script>window.___webpackCompilationHash=\"\";</script>".to_owned(), false),
        ] {
            let told = told_by(Form::Document, html.as_bytes());
            assert_eq!(told.as_deref(), build.then_some("0123456789abcdef"), "{html}");
        }
        assert_eq!(told_by(Form::Data, app), None);
    }
}
