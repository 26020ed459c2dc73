//! The YAML as it is written.
//!
//! The doc comments of the fields *are* the reference: `perennial schema` and
//! `config/reference.yaml` are made from them, the defaults from the `Default`
//! impls, which are also what [`super::resolve`] goes by.

mod site;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::resolved::HostField;
use super::values::{
    Address, AdminAddress, Count, Flag, HostRule, Lifetime, Network, OneOrMany, QueryRule, Secret,
    ServerUrl, Size, Span,
};

pub(super) use site::{Deployment, DeploymentOptions, Gatsby, Nextjs, TrailingSlash};

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
    /// with another one is refused, with all else in the file.
    pub(super) framework: Framework,
    /// What `framework: nextjs` knows of the site. Default: nothing.
    pub(super) nextjs: Option<Nextjs>,
    /// What `framework: gatsby` knows of the site. Default: nothing.
    pub(super) gatsby: Option<Gatsby>,
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

/// The origins, in the order of the file.
#[derive(Debug, PartialEq)]
pub(super) struct Origins(pub(super) Vec<(String, Origin)>);

impl<'de> Deserialize<'de> for Origins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Origins, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Origins;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("origins by name, such as `web: http://127.0.0.1:3000`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Origins, A::Error> {
                let mut origins = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    origins.push(entry);
                }
                Ok(Origins(origins))
            }
        }
        deserializer.deserialize_any(Named)
    }
}

impl Serialize for Origins {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, origin) in &self.0 {
            map.serialize_entry(name, origin)?;
        }
        map.end()
    }
}

impl JsonSchema for Origins {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Origins".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": generator.subschema_for::<Origin>(),
            "propertyNames": { "pattern": "^[A-Za-z0-9._-]{1,64}$", "examples": ["web", "api"] },
            "minProperties": 1
        })
    }
}

/// An origin: a URL, or servers and options.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Origin(pub(super) OriginOptions);

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Origin, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Origin;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL such as http://127.0.0.1:3000, or `servers` and options")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Origin, E> {
                let server = ServerUrl::deserialize(de::value::StrDeserializer::new(v))?;
                Ok(Origin::of(server))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Origin, A::Error> {
                OriginOptions::deserialize(MapAccessDeserializer::new(map)).map(Origin)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Origin {
    /// One server, everything else by default.
    pub(super) fn of(server: ServerUrl) -> Origin {
        Origin(OriginOptions { servers: OneOrMany::One(server), ..OriginOptions::default() })
    }
}

impl JsonSchema for Origin {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Origin".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut url = ServerUrl::json_schema(generator);
        url.insert("examples".to_owned(), serde_json::json!(["http://127.0.0.1:3000"]));
        json_schema!({ "anyOf": [url, generator.subschema_for::<OriginOptions>()] })
    }
}

/// An origin with options.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`servers` and options of an origin")]
#[schemars(inline, extend("required" = ["servers"]))]
pub(super) struct OriginOptions {
    /// The servers, `http://` or `https://` with host and port, one or a list.
    /// They are asked in turn. A name that resolves to several addresses is as
    /// many servers.
    #[schemars(example = ["http://10.0.0.5:4000", "http://10.0.0.6:4000"])]
    pub(super) servers: OneOrMany<ServerUrl>,
    /// Active health checks of the servers. Default: none; a server counts as
    /// healthy until connecting to it fails.
    pub(super) health: Option<Health>,
    /// How long connecting may take, TLS included.
    pub(super) connect_timeout: Span,
    /// How long the whole render of a page may take, from connecting to its last
    /// byte.
    pub(super) fill_timeout: Span,
    /// How long a response that is not stored (an event stream, a download) may
    /// stay silent.
    pub(super) idle_timeout: Span,
    /// How many renders for the cache may run at once.
    pub(super) max_concurrent_fills: Count,
    /// How many more may wait for one of those places; what comes on top is
    /// answered 503, or from a stored page. 0: none waits.
    pub(super) max_waiting_fills: Count,
    /// How many requests that are passed through may wait for the origin's answer
    /// at once. Once it has begun to answer (a download, an event stream), a
    /// request takes no place any more.
    pub(super) max_concurrent_passes: Count,
    /// How many more may wait, for ten seconds at most, for one of those places;
    /// what comes on top is answered 503. 0: none waits.
    pub(super) max_waiting_passes: Count,
    /// How many WebSockets may be open at once; what comes on top is answered 503.
    pub(super) max_websockets: Count,
    /// The `Host` that is sent: `preserve` for the visitor's, or a name.
    #[schemars(example = &"preserve")]
    pub(super) host: HostRule,
    /// How renders for the cache are coded on their way here: `gzip` where the
    /// network between is worth it. Visitors get them in a coding of their own
    /// choice either way.
    pub(super) encoding: Encoding,
    /// How long an idle connection is kept for the next request; less where the
    /// origin says that it closes it earlier (`Keep-Alive: timeout=5`), and a second
    /// for what must not be repeated (POST). Less than the origin keeps it where it
    /// does not say so, or requests meet a connection that is being closed.
    pub(super) keepalive: Span,
    /// How often the servers' names are resolved again.
    pub(super) resolve_interval: Span,
}

impl Default for OriginOptions {
    fn default() -> OriginOptions {
        OriginOptions {
            servers: OneOrMany::Many(Vec::new()),
            health: None,
            connect_timeout: secs(2),
            fill_timeout: secs(30),
            idle_timeout: secs(300),
            max_concurrent_fills: Count(64),
            max_waiting_fills: Count(1024),
            max_concurrent_passes: Count(1024),
            max_waiting_passes: Count(1024),
            max_websockets: Count(1024),
            host: HostRule(HostField::Preserve),
            encoding: Encoding::Identity,
            keepalive: secs(60),
            resolve_interval: secs(10),
        }
    }
}

/// How renders are coded on their way from the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Encoding {
    /// not at all
    Identity,
    /// the origin may send gzip
    Gzip,
}

/// Active health checks of the servers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`path` and options of health checks")]
#[schemars(inline)]
pub(super) struct Health {
    /// The path that is asked for with GET. A status below 400 is healthy.
    #[schemars(example = &"/healthz")]
    pub(super) path: String,
    /// Time between two checks of a server.
    pub(super) interval: Span,
    /// How long a check may take.
    pub(super) timeout: Span,
}

impl Default for Health {
    fn default() -> Health {
        Health { path: "/".to_owned(), interval: secs(5), timeout: secs(2) }
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
    /// any renderer: HTML and JSON at one URL, chosen by `Accept`
    Generic,
    /// Next.js 14 and newer, pages and app router
    Nextjs,
    /// Gatsby 5
    Gatsby,
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
    /// most lately. Visitors make up queries; the other pages are marked stale,
    /// and rendered when they are asked for.
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

/// A route.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "the keys of a route")]
#[schemars(
    inline,
    extend("oneOf" = [
        { "required": ["isr"] }, { "required": ["dsg"] }, { "required": ["ssr"] }, { "required": ["pass"] }
    ])
)]
pub(super) struct Route {
    /// The host it is for, without port; `*.example.com` is any subdomain.
    /// Default: any host.
    #[schemars(example = &"shop.example.com")]
    pub(super) host: Option<String>,
    /// The paths it is for, as a glob: `*` is anything within a segment (nothing,
    /// too), `**` any depth, `{a,b}` and `[ab]` are alternatives. `/blog/**` is
    /// also `/blog` itself. A trailing slash counts: `/p/*` is `/p/x`, neither
    /// `/p/x/` nor `/p/x/y`.
    #[schemars(example = &"/blog/**", example = &"/docs/**", example = &"/account/**", example = &"/api/**")]
    pub(super) path: String,
    /// Incremental static regeneration: pages are served from the cache at once,
    /// and renewed behind the visitor's back when their time is up.
    #[serde(default, deserialize_with = "present")]
    pub(super) isr: Option<Isr>,
    /// Deferred static generation: pages are rendered at the first request for
    /// them, and static until they are revalidated or a new deployment arrives.
    #[serde(default, deserialize_with = "present")]
    pub(super) dsg: Option<Dsg>,
    /// Server-side rendering: requests go to the origin, and its `Cache-Control`
    /// decides what is reused.
    #[serde(default, deserialize_with = "present")]
    pub(super) ssr: Option<Ssr>,
    /// Pass through: nothing is stored.
    #[serde(default, deserialize_with = "present")]
    pub(super) pass: Option<Nothing>,
    /// The origin, by name. Default: the first one.
    #[schemars(example = &"web")]
    pub(super) origin: Option<String>,
    /// The query parameters that make pages different, or `all`; on `isr` and
    /// `dsg` the origin is not sent the others. Default: none on `isr` and `dsg`,
    /// `all` on `ssr` and `pass`.
    #[schemars(example = ["page"])]
    pub(super) query: Option<QueryRule>,
    /// Request fields that make pages different: they are normalised, sent to the
    /// origin and part of the page's key. Every value is a page of its own, so
    /// name only fields with few. Of `accept` it counts which of the image formats
    /// AVIF, WebP and JPEG XL it names. Default: none.
    #[serde(default)]
    #[schemars(example = ["accept-language"])]
    pub(super) vary: Vec<String>,
    /// Tags of every page of the route, on top of those that the origin sends:
    /// the webhook purges by them. At most 128 of 256 characters. Default: none.
    #[serde(default)]
    #[schemars(example = ["blog"])]
    pub(super) tags: Vec<String>,
    /// How long 404, 410, 302 and 307 live at most, on `isr` and `dsg`.
    #[serde(default = "not_found")]
    pub(super) not_found: Span,
    /// The `Cache-Control` that browsers get on `isr` and `dsg`. Default: `public,
    /// max-age=0, must-revalidate`, which costs them a 304.
    #[schemars(example = &"public, max-age=60")]
    pub(super) browser: Option<String>,
    /// Drop `Set-Cookie` from responses and store them; otherwise a response with
    /// one is delivered and not stored. Only for cookies nobody needs.
    #[serde(default)]
    pub(super) strip_set_cookie: Flag,
    /// POST, PUT, PATCH and DELETE to a page make it stale also on `isr` and
    /// `dsg` (on `ssr` they always do, RFC 9111 §4.4).
    #[serde(default)]
    pub(super) unsafe_invalidates: Flag,
    /// Send the origin's tag fields (`Cache-Tag`, `Surrogate-Key` …) on to
    /// visitors, for a cache in front of this one.
    #[serde(default)]
    pub(super) forward_tags: Flag,
    /// How long to wait after a failed regeneration; it doubles with every further
    /// failure.
    #[serde(default)]
    pub(super) backoff: Backoff,
}

fn not_found() -> Span {
    secs(60)
}

impl Default for Route {
    /// `ssr: {}`, and what everything else is unless it is written.
    fn default() -> Route {
        Route {
            host: None,
            path: "/**".to_owned(),
            isr: None,
            dsg: None,
            ssr: Some(Ssr::default()),
            pass: None,
            origin: None,
            query: None,
            vary: Vec::new(),
            tags: Vec::new(),
            not_found: not_found(),
            browser: None,
            strip_set_cookie: Flag(false),
            unsafe_invalidates: Flag(false),
            forward_tags: Flag(false),
            backoff: Backoff::default(),
        }
    }
}

/// `isr`.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "the keys of `isr`, as in `{ revalidate: 60s }`")]
#[schemars(inline)]
pub(super) struct Isr {
    /// How long a page is fresh: a duration, or `origin` for what the origin's
    /// `Cache-Control` says; a page of which it says nothing is then not cached,
    /// as on `ssr`.
    #[schemars(example = &"60s")]
    pub(super) revalidate: Lifetime,
    /// How long after that it may be served while one regeneration runs; who
    /// comes later waits for the new page.
    #[serde(default = "stale_for")]
    pub(super) stale_for: Span,
}

fn stale_for() -> Span {
    secs(365 * 86_400)
}

/// `ssr`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `ssr`; without any, `{}`")]
#[schemars(inline)]
pub(super) struct Ssr {
    /// Also store responses that say nothing about their lifetime but carry a
    /// `Last-Modified`, for a tenth of their age then (RFC 9111 §4.2.2).
    pub(super) heuristic: Flag,
}

/// `dsg`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `dsg`; without any, `{}`")]
#[schemars(inline)]
pub(super) struct Dsg {
    /// `origin`: a page for which the origin names a lifetime above zero has that
    /// one, and its `stale-while-revalidate`. Default: pages are static whatever
    /// the origin says.
    pub(super) revalidate: Option<ByOrigin>,
}

/// `origin`, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum ByOrigin {
    /// as the origin says
    Origin,
}

/// `pass` has no options.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`{}`: this mode has no options")]
#[schemars(inline)]
pub(super) struct Nothing {}

/// Waiting after a failed regeneration.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`min` and `max`")]
#[schemars(inline)]
pub(super) struct Backoff {
    /// The first wait is as long as the page lives, at least this and at most 30s.
    pub(super) min: Span,
    /// The longest wait.
    pub(super) max: Span,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { min: secs(3), max: secs(300) }
    }
}

/// A key that is there, with or without a value: `ssr:` is `ssr: {}`.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}
