//! The resolved configuration: what the program runs with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use strum::{Display, IntoStaticStr};

/// Everything, resolved and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where visitors connect. Never empty. Port 0 picks a free one.
    pub listen: Vec<SocketAddr>,
    /// Where health and metrics are served; none: nowhere.
    pub admin: Option<SocketAddr>,
    /// Proxies whose `X-Forwarded-Proto`, and what [`RequestFields::trust`] names, is
    /// believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Worker threads.
    pub threads: usize,
    /// The origins. Never empty; the first one is the default.
    pub origins: Vec<Origin>,
    /// The store.
    pub cache: Cache,
    /// The preset that maps URLs to pages and their data.
    pub framework: Framework,
    /// `framework: auto`; none: the file names it.
    pub auto: Option<Auto>,
    /// How the deployment that is part of every page key is known.
    pub deployment: Deployment,
    /// Logging.
    pub log: Log,
    /// The webhook; none: off, its path is a page like any other.
    pub revalidate: Option<Revalidate>,
    /// The routes, first match wins. The last one matches everything.
    pub routes: Vec<Route>,
    /// Which request fields go on to origins.
    pub request_fields: Arc<RequestFields>,
    /// Limits of the front.
    pub limits: Limits,
    /// How long requests and fills in flight may take to end after SIGTERM.
    pub shutdown_timeout: Duration,
    /// Pass everything through uncached.
    pub dev: bool,
}

/// A group of origin servers that are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its name in routes, metrics and logs.
    pub name: String,
    /// The servers. Never empty.
    pub servers: Vec<Server>,
    /// Active health checks; none: a server counts as healthy until connecting fails.
    pub health: Option<Health>,
    /// How long connecting (TLS included) may take.
    pub connect_timeout: Duration,
    /// How long a whole fill may take, from connecting to the last byte.
    pub fill_timeout: Duration,
    /// How long a response that is not stored may stay silent between two reads.
    pub idle_timeout: Duration,
    /// Fills that may run at once against this origin.
    pub max_concurrent_fills: usize,
    /// Fills that may wait for a place; more are answered 503.
    pub max_waiting_fills: usize,
    /// Passed-through requests that may wait for their answer at once.
    pub max_concurrent_passes: usize,
    /// Passed-through requests that may wait for a place; more are answered 503.
    pub max_waiting_passes: usize,
    /// WebSockets that may be open at once; more are answered 503.
    pub max_websockets: usize,
    /// The `Host` the origin is sent.
    pub host: HostField,
    /// How renders are coded on their way from it.
    pub encoding: Encoding,
    /// How long an idle connection is kept for the next request.
    pub keepalive: Duration,
    /// How often the servers' names are resolved again.
    pub resolve_interval: Duration,
}

/// One origin server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// `https`.
    pub tls: bool,
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Active health checks: GET `path`; any status below 400 is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The path to ask for.
    pub path: String,
    /// Time between two checks of a server.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
}

/// Which `Host` an origin is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostField {
    /// The visitor's.
    Preserve,
    /// This one.
    Name(String),
}

/// How renders are coded on their way from the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all: no coding is asked for.
    Identity,
    /// `gzip` is asked for.
    Gzip,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Bytes of the memory tier; 0: no memory tier.
    pub memory: u64,
    /// The largest body that is stored, in bytes.
    pub max_object: u64,
    /// Variants (`Vary`) of one form of a page that are kept.
    pub max_variants: usize,
    /// Distinct invalidation names kept before the oldest are folded into a floor.
    pub max_invalidations: usize,
    /// Memory for notes about pages that are not stored, in bytes.
    pub max_notes: u64,
    /// Bodies of text smaller than this are not compressed, in bytes.
    pub compress_min: u64,
}

/// Which preset maps URLs to pages, and what it knows of the site. Its name is that in YAML.
#[derive(Clone, Debug, PartialEq, Eq, Display, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
pub enum Framework {
    /// Any renderer: HTML and JSON at one URL, by `Accept`.
    Generic,
    /// Next.js, pages and app router.
    Nextjs(Nextjs),
    /// Gatsby.
    Gatsby(Gatsby),
    /// SvelteKit.
    Sveltekit(Site),
    /// React Router as a framework, and Remix.
    ReactRouter(Site),
    /// Nuxt.
    Nuxt(Site),
    /// Astro.
    Astro(Site),
}

impl Framework {
    /// Whether what it renders tells the build.
    #[must_use]
    pub const fn tells_build(&self) -> bool {
        !matches!(self, Self::Generic | Self::Astro(_))
    }
}

/// `framework: auto`: the framework is told by what the origin prints. Until it is, it
/// counts as [`Framework::Generic`].
#[derive(Clone, Debug)]
pub struct Auto {
    /// Whether it has been told which one it is, or that it is none that is known.
    pub told: bool,
    /// The routes of the file.
    pub routes: Vec<Route>,
    /// How the deployment is known if what is rendered does not tell the build.
    pub generic: Deployment,
    /// How it is known if it does.
    pub by_build: Deployment,
}

/// A Next.js site.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Nextjs {
    /// The secret that a true draft cookie carries, and with which the renderer
    /// is told to render anew. Never logged: `Debug` shows `***`.
    pub preview_mode_id: Option<String>,
    /// `basePath`: empty, or a path such as `/docs`.
    pub base_path: String,
    /// Whether the site's pages end in a slash (`trailingSlash`).
    pub trailing_slash: bool,
    /// The locale whose pages carry no prefix (`i18n.defaultLocale`).
    pub default_locale: Option<String>,
    /// All locales (`i18n.locales`); empty without internationalised routing.
    pub locales: Vec<String>,
    /// Whether `/` sends each visitor to a language of theirs (`i18n.localeDetection`).
    pub detects_locale: bool,
    /// The build id, if it was read from the build.
    pub build_id: Option<String>,
    /// What the build says of its pages, if it was read.
    pub pages: Option<Arc<NextPages>>,
}

/// What the build of a Next.js site says of its pages. Patterns are JavaScript's regular
/// expressions, as Next writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextPages {
    /// Pages whose path has no parameters, and those that the build has made, by their
    /// path below `basePath`. It begins with the locale where the build says so.
    pub named: BTreeMap<String, Made>,
    /// Pages whose path has parameters, in the order in which Next tries them: a pattern
    /// of the path below `basePath` and locale. None: nothing is known of it.
    pub with_parameters: Vec<(String, Option<Made>)>,
    /// Redirects, and rewrites that come before any page: patterns of whole paths.
    pub before: Vec<String>,
    /// Rewrites that come before pages with parameters.
    pub between: Vec<String>,
    /// The paths that middleware runs on, whatever else it asks of a request.
    pub middleware: Vec<Matcher>,
}

/// Paths that middleware runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// As the site says it, such as `/member/:path*`; empty: it says nothing.
    pub source: String,
    /// As Next looks for it.
    pub pattern: String,
}

/// For whom a page is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// For all alike: by the build, or later without any request's fields.
    ForAll,
    /// For each visitor.
    ForEach,
    /// Its shell for all, the rest for each visitor.
    Partly,
}

impl std::fmt::Debug for Nextjs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nextjs")
            .field("preview_mode_id", &self.preview_mode_id.as_ref().map(|_| "***"))
            .field("base_path", &self.base_path)
            .field("trailing_slash", &self.trailing_slash)
            .field("default_locale", &self.default_locale)
            .field("locales", &self.locales)
            .field("detects_locale", &self.detects_locale)
            .field("build_id", &self.build_id)
            .field("pages", &self.pages.is_some())
            .finish()
    }
}

/// A Gatsby site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gatsby {
    /// `pathPrefix`: empty, or a path such as `/blog`.
    pub path_prefix: String,
    /// Whether the site's pages end in a slash (`trailingSlash`).
    pub trailing_slash: bool,
    /// The build's hash (`webpackCompilationHash`), if it was read from the build.
    pub build_id: Option<String>,
}

/// A site of a framework that needs to know little of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Below which path it lies: empty, or a path such as `/docs`.
    pub base: String,
    /// The folder of the files that the build names by their content, below `base`, such
    /// as `/_app`; none: the framework's own.
    pub assets: Option<String>,
    /// Whether its pages end in a slash.
    pub trailing_slash: bool,
}

/// How the deployment is known that a page is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The deployment by name; none: the one that is noticed.
    pub id: Option<String>,
    /// Response fields by which the origin names it; the first that is there counts.
    pub fields: Vec<HeaderName>,
    /// The cookie by which the origin names it.
    pub cookie: Option<String>,
    /// How long a new deployment must have been seen alone to become the current one.
    pub settle: Duration,
    /// Time between two looks at the renderer, for a build that nobody asked for
    /// yet; none: it is not looked at.
    pub probe: Option<Duration>,
    /// Assets that stored pages name and that are fetched in a minute.
    pub assets_per_minute: usize,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Which requests get an access line.
    pub access: AccessLog,
    /// The format of all lines.
    pub format: LogFormat,
    /// Filter directives, for example `info` (see [`check_level`](super::check_level)).
    pub level: String,
}

/// Which requests get an access line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Every one.
    On,
    /// None.
    Off,
    /// Those answered with 5xx, or cut off.
    Errors,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The webhook.
#[derive(Clone, PartialEq, Eq)]
pub struct Revalidate {
    /// Its path on the public listeners.
    pub path: String,
    /// The secret. Never logged: `Debug` shows `***`.
    pub secret: String,
    /// Bytes of a body that are read.
    pub max_body: usize,
    /// Paths regenerated before the answer; more are marked stale and follow in the background.
    pub max_paths: usize,
    /// Pages of one path that are regenerated; the others are marked stale.
    pub pages_per_path: usize,
    /// How long the answer waits for regenerations.
    pub timeout: Duration,
}

impl std::fmt::Debug for Revalidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revalidate").field("path", &self.path).field("secret", &"***").finish()
    }
}

/// Which request fields go on to origins, beside what
/// [`request_fields`](crate::rules::request_fields) says of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFields {
    /// Go on whoever sends them.
    pub allow: Vec<HeaderName>,
    /// Go on where a proxy of [`Config::trusted_proxies`] sends them, and only then.
    pub trust: Vec<HeaderName>,
    /// Never go on.
    pub drop: Vec<HeaderName>,
}

/// Limits of the front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a request head may take from its first byte, and how long a connection may say
    /// nothing at first.
    pub head_timeout: Duration,
    /// Bytes of a request head.
    pub max_head: usize,
    /// Fields of a request head; at most 256.
    pub max_fields: usize,
    /// Bytes of a request target.
    pub max_uri: usize,
    /// How long an idle connection is kept after a request.
    pub keepalive: Duration,
    /// How long writing to a visitor may stall.
    pub write_timeout: Duration,
    /// How long reading a request body may stall.
    pub body_timeout: Duration,
    /// Connections at once; above that the one that idles longest gives way.
    pub max_connections: usize,
    /// Bytes of the normalised value of a declared variant; a longer one counts as absent.
    pub max_variant: usize,
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Host to match, lower case, without port; none: any. A leading `*.` matches any subdomain.
    pub host: Option<String>,
    /// Path pattern: a glob where `*` stays within a segment and `**` does not.
    pub path: String,
    /// The mode and its options.
    pub mode: Mode,
    /// Index into [`Config::origins`].
    pub origin: usize,
    /// Which part of the query is keyed and sent.
    pub query: Query,
    /// Declared variants: request fields that are part of the page key.
    pub vary: Vec<HeaderName>,
    /// Tags of every page of the route.
    pub tags: Vec<String>,
    /// Longest lifetime of 404, 410, 302 and 307 on `isr` and `dsg`.
    pub not_found: Duration,
    /// `Cache-Control` for browsers on `isr` and `dsg`; none: `public, max-age=0, must-revalidate`.
    pub browser: Option<String>,
    /// Which cookies of a visitor are sent and count, where a path is server-rendered.
    pub cookies: Cookies,
    /// Drop `Set-Cookie` instead of refusing to store.
    pub strip_set_cookie: bool,
    /// Unsafe methods invalidate the page also on `isr` and `dsg`.
    pub unsafe_invalidates: bool,
    /// Send the tag fields on to visitors.
    pub forward_tags: bool,
    /// Waiting after failed regenerations.
    pub backoff: Backoff,
    /// The framework brought it; it is not in the file.
    pub preset: bool,
}

impl Route {
    /// What is done with pages that no route matches: `ssr: {}`, first origin.
    #[must_use]
    pub fn catch_all() -> Route {
        Route {
            host: None,
            path: "/**".to_owned(),
            mode: Mode::Ssr { heuristic: false },
            origin: 0,
            query: Query::All,
            vary: Vec::new(),
            tags: Vec::new(),
            not_found: Duration::from_secs(60),
            browser: None,
            cookies: Cookies::All,
            strip_set_cookie: false,
            unsafe_invalidates: false,
            forward_tags: false,
            backoff: Backoff { min: Duration::from_secs(3), max: Duration::from_secs(300) },
            preset: false,
        }
    }
}

/// The mode of a route (semantics §1). Its name is that in YAML, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Mode {
    /// Incremental static regeneration.
    Isr {
        /// The freshness lifetime; none: the origin's (`revalidate: origin`).
        revalidate: Option<Duration>,
        /// How long a stale page is served while one regeneration runs.
        stale_for: Duration,
    },
    /// Deferred static generation.
    Dsg {
        /// An explicit lifetime above zero that the origin names is honoured
        /// (`revalidate: origin`).
        origin: bool,
    },
    /// Server-side rendering under the origin's `Cache-Control`.
    Ssr {
        /// Store responses without explicit lifetime by a heuristic (RFC 9111 §4.2.2).
        heuristic: bool,
    },
    /// Never stored.
    Pass,
}

impl Mode {
    /// Whether the origin may render for one visitor here and it be stored: on `ssr`, and
    /// where a path of a page route can turn into that.
    #[must_use]
    pub const fn may_be_server_rendered(self) -> bool {
        matches!(self, Self::Ssr { .. }) || self.is_by_origin()
    }

    /// Whether this is a page route on which the origin says of each page how long it lives,
    /// and with that whether it is for all.
    #[must_use]
    pub const fn is_by_origin(self) -> bool {
        self.is_isr_by_origin() || matches!(self, Self::Dsg { origin: true })
    }

    /// Whether this is `isr: { revalidate: origin }`: a page is for all only where the origin
    /// names a lifetime for it, and otherwise server-rendered.
    #[must_use]
    pub const fn is_isr_by_origin(self) -> bool {
        matches!(self, Self::Isr { revalidate: None, .. })
    }

    /// Whether this is a page route: `isr` or `dsg`.
    #[must_use]
    pub const fn is_page(self) -> bool {
        matches!(self, Self::Isr { .. } | Self::Dsg { .. })
    }
}

/// Which part of the query is keyed and sent to the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// All of it, as it came.
    All,
    /// The parameters of these names, sorted by name; empty: none.
    Names(Vec<String>),
}

/// What a visitor's cookies mean on `ssr`, and on paths that count as that (semantics
/// §1). `isr` and `dsg` send none, `pass` all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cookies {
    /// They are sent, and what is rendered for a request with cookies is stored only
    /// where its `Vary` names `Cookie`.
    All,
    /// Those of these names are sent and count as with `All`; the others are not there.
    /// Sorted; none: no cookie is sent.
    Names(Vec<String>),
    /// They are sent, and make no difference: RFC 9111 to the letter.
    Shared,
}

/// Waiting after failed regenerations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait is the page's lifetime, but at least this …
    pub min: Duration,
    /// … and at most 30 s; it doubles with every failure up to this.
    pub max: Duration,
}
