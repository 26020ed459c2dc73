//! The YAML as it is written.
//!
//! The doc comments of the fields *are* the reference: `perennial schema` and
//! `config/reference.yaml` are made from them, the defaults from the `Default`
//! impls, which are also what [`super::resolve`] goes by.

mod origin;
mod route;
mod site;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Address, AdminAddress, Count, Network, OneOrMany, Secret, Size, Span};

pub(super) use origin::{Encoding, Origin, OriginOptions, Origins};
pub(super) use route::Route;
pub(super) use site::{Deployment, DeploymentOptions, Gatsby, Nextjs, Site, TrailingSlash};

const fn secs(secs: u64) -> Span {
    Span(Duration::from_secs(secs))
}

/// The configuration of Perennial. Strings may hold `${VAR}` and
/// `${VAR:-default}` from the environment; `$$` is one dollar sign. Durations
/// are written `10s`, `5m`, `30d`, sizes `512MiB`.
///
/// SIGHUP reads the file again between two requests. A file that is wrong changes
/// nothing, nor does one with another `framework`. What cannot change while the
/// process runs (it is said of those keys) stays as it was until the next start,
/// while the rest takes effect. The log, `/readyz` and the metrics
/// `perennial_config_last_reload_successful` and
/// `perennial_config_last_reload_timestamp_seconds` tell how it ended.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of a configuration")]
#[schemars(title = "Perennial", extend("required" = ["origins"]))]
pub(super) struct Raw {
    /// Where visitors connect: an address and a port, or a list of them. Port 0
    /// picks a free one. Changes take effect at the next start.
    pub(super) listen: OneOrMany<Address>,
    /// Where health (`/healthz`, `/readyz`) and metrics (`/metrics`) are served,
    /// or `off`. Whoever reaches this address can read the names of your routes;
    /// keep it off the internet. Changes take effect at the next start.
    pub(super) admin: AdminAddress,
    /// Proxies in front of Perennial, by address or network, that are believed:
    /// their `X-Forwarded-Proto`, for whether the visitor came by `https` is part of
    /// every page's key, and what `request_fields.trust` names. Nobody else's word
    /// is taken. Default: none.
    #[schemars(example = ["10.0.0.0/8"])]
    pub(super) trusted_proxies: Vec<Network>,
    /// Worker threads, 1 to 1024. Changes take effect at the next start. Default: one
    /// per core.
    #[schemars(example = 2)]
    pub(super) threads: Option<Count>,
    /// The renderers behind Perennial, by name. The first one is where a route
    /// goes that names none. Either the URL of the one server, or its servers and
    /// options. Names show up in metrics and logs.
    pub(super) origins: Origins,
    /// The store of pages.
    pub(super) cache: Cache,
    /// Which preset maps URLs to pages and their data. A preset brings routes of
    /// its own, which come after those of this file: `perennial check` shows them. It
    /// says what a stored page is, so it takes a new start to change it: a reload
    /// with another one is refused, with all else in the file. With `auto` the origin
    /// is asked for `/`, again while it does not answer, and what it prints tells the
    /// framework; what was stored until then is dropped. A site whose `/` is made with
    /// another framework than its other pages names it.
    pub(super) framework: Framework,
    /// What `framework: nextjs` knows of the site. Default: nothing.
    pub(super) nextjs: Option<Nextjs>,
    /// What `framework: gatsby` knows of the site. Default: nothing.
    pub(super) gatsby: Option<Gatsby>,
    /// What `framework: sveltekit`, `react-router`, `nuxt` and `astro` know of the site.
    /// Default: nothing.
    pub(super) site: Option<Site>,
    /// The deployment, a release number or commit, say: it is part of every
    /// page's key, so that a new one does not mix with the one before. Either its
    /// name, or how it is noticed. Default: with a preset the build that pages
    /// are of is noticed, otherwise none.
    pub(super) deployment: Option<Deployment>,
    /// Logging, to standard error; standard output is for the answers of commands,
    /// such as `perennial check`.
    pub(super) log: Log,
    /// The webhook by which a CMS renews pages on demand.
    pub(super) revalidate: Option<Revalidate>,
    /// Which request fields go on to the origins. Some name the visitor's host,
    /// path, method, scheme, address or user in a proxy's stead: `Forwarded`,
    /// `X-Forwarded-*`, `X-Original-*`, `X-Rewrite-*`, `X-Real-IP`, `X-Script-Name`,
    /// `X-HTTP-Method-Override`, `Surrogate-Capability` and the like, and every
    /// field whose name has another character than letters, digits and hyphens.
    /// Origins render by them, so they are dropped on every route, unless a route
    /// declares them as `vary`. `X-Forwarded-Host`, `X-Forwarded-Proto` and, but for
    /// `isr` and `dsg`, `X-Forwarded-For` are sent anew.
    pub(super) request_fields: RequestFields,
    /// Limits of the public listeners.
    pub(super) limits: Limits,
    /// How long requests and fills in flight may take to end once the process
    /// was told to stop. An idle one stops at once.
    pub(super) shutdown_timeout: Span,
    /// What is done with which page: the first route that matches decides. What
    /// none matches is `ssr: {}` with the first origin. A route has exactly one
    /// of the modes `isr`, `dsg`, `ssr` and `pass`.
    pub(super) routes: Vec<Route>,
}

impl Default for Raw {
    fn default() -> Raw {
        Raw {
            listen: OneOrMany::One(Address(([0, 0, 0, 0], 8080).into())),
            admin: AdminAddress(Some(([127, 0, 0, 1], 9900).into())),
            trusted_proxies: Vec::new(),
            threads: None,
            origins: Origins(Vec::new()),
            cache: Cache::default(),
            framework: Framework::Generic,
            nextjs: None,
            gatsby: None,
            site: None,
            deployment: None,
            log: Log::default(),
            revalidate: None,
            request_fields: RequestFields::default(),
            limits: Limits::default(),
            shutdown_timeout: secs(30),
            routes: Vec::new(),
        }
    }
}

/// The store of pages.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `cache`")]
#[schemars(inline)]
pub(super) struct Cache {
    /// Memory for pages; the least recently used go first. 0: no memory tier,
    /// nothing is kept. Changes take effect at the next start.
    pub(super) memory: Size,
    /// The largest body that is stored. What is larger is passed through.
    pub(super) max_object: Size,
    /// How many variants (by the origin's `Vary`) of one form of a page are kept.
    pub(super) max_variants: Count,
    /// How many distinct invalidated names (tags, paths, prefixes) are remembered
    /// before the oldest are folded into one that invalidates everything older.
    /// Changes take effect at the next start.
    pub(super) max_invalidations: Count,
    /// Memory for notes about pages that are not stored: that they are not storable,
    /// server-rendered, or without JSON. Without its note a page costs a request to
    /// the origin more.
    pub(super) max_notes: Size,
    /// Text smaller than this is not compressed.
    pub(super) compress_min: Size,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache {
            memory: Size(512 << 20),
            max_object: Size(32 << 20),
            max_variants: Count(16),
            max_invalidations: Count(100_000),
            max_notes: Size(32 << 20),
            compress_min: Size(1 << 10),
        }
    }
}

/// Which preset maps URLs to pages and their data.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Framework {
    /// the one that `/` is made with: one of those below, else `generic`
    Auto,
    /// any renderer: HTML and JSON at one URL, chosen by `Accept`
    Generic,
    /// Next.js 14 and newer, pages and app router
    Nextjs,
    /// Gatsby 5
    Gatsby,
    /// SvelteKit 2
    Sveltekit,
    /// React Router 7 as a framework, Remix 2 with single fetch
    #[serde(rename = "react-router")]
    ReactRouter,
    /// Nuxt 3 and 4
    Nuxt,
    /// Astro 5 and newer
    Astro,
}

/// Logging.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `log`")]
#[schemars(inline)]
pub(super) struct Log {
    /// Which requests get an access line.
    pub(super) access: AccessLog,
    /// The format of all lines. Changes take effect at the next start.
    pub(super) format: LogFormat,
    /// What else is logged: `off`, `error`, `warn`, `info`, `debug` or `trace`, also
    /// by module, as in `info,perennial::fill=debug`. The environment variable
    /// `PERENNIAL_LOG` counts in its place where it is set.
    pub(super) level: String,
}

impl Default for Log {
    fn default() -> Log {
        Log { access: AccessLog::On, format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// Which requests get an access line.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum AccessLog {
    /// every one
    On,
    /// none
    Off,
    /// those answered with 5xx, or cut off
    Errors,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum LogFormat {
    /// text on a terminal, JSON otherwise
    Auto,
    /// for people
    Text,
    /// one JSON object a line
    Json,
}

/// The webhook.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `revalidate`")]
#[schemars(inline)]
pub(super) struct Revalidate {
    /// Its path on the public listeners.
    pub(super) path: String,
    /// The secret that callers must know. Without one, or with an empty one, the
    /// webhook is off, and `/__revalidate` answers 404.
    #[schemars(example = &"${PERENNIAL_SECRET:-}")]
    pub(super) secret: Option<Secret>,
    /// The largest body, JSON or a form, that is read.
    pub(super) max_body: Size,
    /// How many paths are rendered before the answer; of a call with more, the
    /// rest is marked stale and follows in the background.
    pub(super) max_paths: Count,
    /// How many pages of one path are rendered, where queries, hosts or declared
    /// variants make several: the one without a query, and those that were used
    /// most lately. Visitors make up queries; the other pages, and those with a
    /// query that were stored and not asked for again, are marked stale, and
    /// rendered when they are asked for.
    pub(super) pages_per_path: Count,
    /// How long the answer waits for all of it; what is not done by then goes on
    /// in the background.
    pub(super) timeout: Span,
}

impl Default for Revalidate {
    fn default() -> Revalidate {
        Revalidate {
            path: "/__revalidate".to_owned(),
            secret: None,
            max_body: Size(64 << 10),
            max_paths: Count(16),
            pages_per_path: Count(8),
            timeout: secs(10),
        }
    }
}

/// Which request fields go on to the origins.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `request_fields`")]
#[schemars(inline)]
pub(super) struct RequestFields {
    /// Fields that go on all the same, whoever sends them.
    #[schemars(example = ["X-HTTP-Method-Override"])]
    pub(super) allow: Vec<String>,
    /// Fields that go on where a proxy of `trusted_proxies` sends them, and from
    /// nobody else: name those that it sets itself, whatever its visitors send.
    pub(super) trust: Vec<String>,
    /// More fields that are dropped.
    #[schemars(example = ["X-Debug"])]
    pub(super) drop: Vec<String>,
}

impl Default for RequestFields {
    fn default() -> RequestFields {
        let trust = vec!["X-Forwarded-For".to_owned()];
        RequestFields { allow: Vec::new(), trust, drop: Vec::new() }
    }
}

/// Limits of the public listeners.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `limits`")]
#[schemars(inline)]
pub(super) struct Limits {
    /// How long a request head may take, from its first byte to its last; and how long
    /// a new connection may say nothing at all.
    pub(super) head_timeout: Span,
    /// The largest request head, 1KiB to 1MiB.
    pub(super) max_head: Size,
    /// The most fields a request head may have, 1 to 256.
    pub(super) max_fields: Count,
    /// The longest request target (path and query).
    pub(super) max_uri: Size,
    /// How long an idle connection is kept after a request.
    pub(super) keepalive: Span,
    /// How long a visitor may read nothing of a response.
    pub(super) write_timeout: Span,
    /// How long a visitor may send nothing of a request body.
    pub(super) body_timeout: Span,
    /// Connections at once. Above that the one that idles longest is closed for the next;
    /// where all have a request in flight, more wait to be accepted.
    pub(super) max_connections: Count,
    /// The longest value of a request field that a route names in `vary`, 16B to
    /// 64KiB, after it was normalised. A longer one counts as absent: the field is
    /// neither sent to the origin nor part of the page's key.
    pub(super) max_variant: Size,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_timeout: secs(10),
            max_head: Size(32 << 10),
            max_fields: Count(100),
            max_uri: Size(8 << 10),
            keepalive: secs(75),
            write_timeout: secs(60),
            body_timeout: secs(60),
            max_connections: Count(16_384),
            max_variant: Size(256),
        }
    }
}
