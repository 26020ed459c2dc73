//! The routes that a framework brings: they come after those of the file, and the
//! last one catches everything.

use std::time::Duration;

use http::header::ACCEPT;

use super::pattern::{HostPattern, PathPattern};
use super::root::{Auto, Config};
use super::routes::{Cookies, Mode, Route};
use super::site::{Deployment, Framework, Gatsby, Nextjs, Site};

/// For what carries a hash of its content in its name.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// For files that change, and that the origin says nothing of.
const RENEWED: Mode = Mode::Isr { revalidate: Some(Duration::from_secs(60)), stale_for: YEAR };
/// What Next makes of the files `sitemap`, `robots` and the like in `app`.
const METADATA: &str = "{sitemap.xml,robots.txt,favicon.ico,manifest.webmanifest}";
/// Its icons and the images that are shown where a page is shared.
const IMAGES: &str = "{icon,apple-icon,opengraph-image,twitter-image}*.{png,jpg,jpeg,gif,svg,ico}";
const BY_ORIGIN: Mode = Mode::Isr { revalidate: None, stale_for: YEAR };
const STATIC: Mode = Mode::Dsg { origin: false };
const STATIC_UNLESS: Mode = Mode::Dsg { origin: true };
const RENDERED: Mode = Mode::Ssr { heuristic: false };

/// Those of a framework; `server_rendered` are patterns of pages that are rendered
/// for every visitor.
pub(super) fn routes(framework: &Framework, server_rendered: Vec<String>) -> Vec<Route> {
    match framework {
        Framework::Generic => Vec::new(),
        Framework::Nextjs(site) => nextjs(site),
        Framework::Gatsby(site) => gatsby(site, server_rendered),
        Framework::Sveltekit(site) => sveltekit(site),
        Framework::ReactRouter(site) => react_router(site),
        Framework::Nuxt(site) => nuxt(site),
        Framework::Astro(site) => astro(site),
    }
}

/// Those of the file, and after them those of the framework of which the file has not said
/// already what is to be done. The last one matches everything.
pub(super) fn join(mut routes: Vec<Route>, framework: Vec<Route>) -> Vec<Route> {
    let pattern = |route: &Route| {
        let host = HostPattern::new(route.host.as_deref()).ok()?;
        Some((host, PathPattern::new(&route.path).ok()?))
    };
    let of_file: Vec<_> = routes.iter().filter_map(pattern).collect();
    for route in framework {
        let Ok(path) = PathPattern::new(&route.path) else { continue };
        if !of_file.iter().any(|(h, p)| h.covers(&HostPattern::Any) && p.covers(&path)) {
            routes.push(route);
        }
    }
    if !routes.last().is_some_and(|last| last.host.is_none() && last.path == "/**") {
        routes.push(Route::catch_all());
    }
    routes
}

/// The name of the deployment as long as the framework is not known. What is stored under
/// it is of no other: one preset may take for the data of a page what another one takes
/// for a page.
const UNKNOWN: &str = "(the framework is not known yet)";

impl Auto {
    /// How the deployment is known before the framework is.
    pub(super) fn before(&self) -> Deployment {
        let by_build = self.by_build.clone();
        Deployment { id: Some(UNKNOWN.to_owned()), fields: Vec::new(), cookie: None, ..by_build }
    }
}

impl Config {
    /// Whether the origin is still to tell its framework.
    #[must_use]
    pub fn is_untold(&self) -> bool {
        self.auto.as_ref().is_some_and(|auto| !auto.told)
    }

    /// This configuration, once the origin has told its framework. Unchanged where the file
    /// names one.
    #[must_use]
    pub fn told(mut self, framework: Framework) -> Config {
        let Some(auto) = &mut self.auto else { return self };
        auto.told = true;
        self.routes = join(auto.routes.clone(), routes(&framework, Vec::new()));
        self.deployment =
            if framework.tells_build() { auto.by_build.clone() } else { auto.generic.clone() };
        self.framework = framework;
        self
    }
}

fn nextjs(site: &Nextjs) -> Vec<Route> {
    let base = &site.base_path;
    vec![
        Route {
            browser: Some(IMMUTABLE.to_owned()),
            ..route(format!("{base}/_next/static/**"), BY_ORIGIN)
        },
        // By its query and by the formats that the browser takes.
        Route { vary: vec![ACCEPT], ..route(format!("{base}/_next/image"), RENDERED) },
        route(format!("{base}/_next/**"), RENDERED),
        route(format!("{base}/api/**"), Mode::Pass),
        // Next says `max-age=0` of these, whoever asks, and names them by their content.
        route(format!("{base}/**/{METADATA}"), RENEWED),
        route(format!("{base}/**/{IMAGES}"), RENEWED),
        route("/**".to_owned(), BY_ORIGIN),
    ]
}

fn gatsby(site: &Gatsby, server_rendered: Vec<String>) -> Vec<Route> {
    let prefix = &site.path_prefix;
    // What a bundle's name ends with.
    let hash = "[0-9a-f]".repeat(20);
    let immutable = |path: String| Route {
        browser: Some(IMMUTABLE.to_owned()),
        ..route(format!("{prefix}{path}"), STATIC)
    };
    let mut routes = vec![
        immutable(format!("/*-{hash}.js")),
        immutable(format!("/*.{hash}.css")),
        immutable("/static/**".to_owned()),
        route(format!("{prefix}/page-data/app-data.json"), RENDERED),
        route(format!("{prefix}/api/**"), Mode::Pass),
    ];
    for pattern in server_rendered {
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

// The pages of these four are `ssr`: any of them may read cookies and the query, and say a
// lifetime all the same.

fn sveltekit(site: &Site) -> Vec<Route> {
    let (base, app) = (&site.base, folder(site, "/_app"));
    vec![
        immutable(format!("{base}{app}/immutable/**")),
        // Remote functions: they may go by the page that a field names.
        route(format!("{base}{app}/remote/**"), Mode::Pass),
        route("/**".to_owned(), RENDERED),
    ]
}

fn react_router(site: &Site) -> Vec<Route> {
    let (base, assets) = (&site.base, folder(site, "/assets"));
    // What the bundler puts into the names of scripts and styles.
    let hash = "[0-9A-Za-z_-]".repeat(8);
    vec![
        immutable(format!("{base}{assets}/**/*-{hash}.{{js,css}}")),
        // There may be files of the site's own among them: browsers keep them for as long
        // as the origin says.
        for_all(format!("{base}{assets}/**")),
        for_all(format!("{base}/__manifest")),
        route("/**".to_owned(), RENDERED),
    ]
}

fn nuxt(site: &Site) -> Vec<Route> {
    let (base, assets) = (&site.base, folder(site, "/_nuxt"));
    vec![
        // `latest.json` changes with each deployment.
        for_all(format!("{base}{assets}/builds/**")),
        immutable(format!("{base}{assets}/**")),
        route("/**".to_owned(), RENDERED),
    ]
}

fn astro(site: &Site) -> Vec<Route> {
    let (base, assets) = (&site.base, folder(site, "/_astro"));
    vec![
        immutable(format!("{base}{assets}/**")),
        route(format!("{base}/_actions/**"), Mode::Pass),
        route("/**".to_owned(), RENDERED),
    ]
}

/// The folder of the files that a site's build makes.
fn folder<'a>(site: &'a Site, default: &'a str) -> &'a str {
    site.assets.as_deref().unwrap_or(default)
}

/// Files that carry a hash of their content in their names.
fn immutable(path: String) -> Route {
    Route { browser: Some(IMMUTABLE.to_owned()), ..route(path, BY_ORIGIN) }
}

/// What is the same for every visitor, for as long as the origin says.
fn for_all(path: String) -> Route {
    Route { cookies: Cookies::Names(Vec::new()), ..route(path, RENDERED) }
}

fn route(path: String, mode: Mode) -> Route {
    Route::of_preset(path, mode)
}
