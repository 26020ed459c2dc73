//! Sections that the program runs with as they are written: `cache`, `log`,
//! `revalidate`, `request_fields`, `limits`, `backoff`.

use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use super::forms::As;
use super::values::{Count, Field, Secret, Size, Span, Time};

/// The store of pages.
#[derive(Clone, Debug, PartialEq, Eq, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `cache`")]
#[schemars(inline)]
pub struct Cache {
    /// Memory for pages; the least recently used go first. 0: no memory tier,
    /// nothing is kept. Changes take effect at the next start.
    #[default(512 << 20)]
    #[serde(with = "As::<Size>")]
    pub memory: u64,
    /// The largest body that is stored. What is larger is passed through.
    #[default(32 << 20)]
    #[serde(with = "As::<Size>")]
    pub max_object: u64,
    /// How many variants (by the origin's `Vary`) of one form of a page are kept.
    #[default(16)]
    #[serde(with = "As::<Count<1, 1024>>")]
    pub max_variants: usize,
    /// How many distinct invalidated names (tags, paths, prefixes) are remembered
    /// before the oldest are folded into one that invalidates everything older.
    /// Changes take effect at the next start.
    #[default(100_000)]
    #[serde(with = "As::<Count<1, 100_000_000>>")]
    pub max_invalidations: usize,
    /// Memory for notes about pages that are not stored: that they are not storable,
    /// server-rendered, or without JSON. A page whose note was dropped costs one more
    /// request to the origin.
    #[default(32 << 20)]
    #[serde(with = "As::<Size>")]
    pub max_notes: u64,
    /// Text smaller than this is not compressed.
    #[default(1 << 10)]
    #[serde(with = "As::<Size>")]
    pub compress_min: u64,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `log`")]
#[schemars(inline)]
pub struct Log {
    /// Which requests get an access line.
    pub access: AccessLog,
    /// The format of all lines. Changes take effect at the next start.
    pub format: LogFormat,
    /// What else is logged: `off`, `error`, `warn`, `info`, `debug` or `trace`, also by module,
    /// as in `info,perennial::fill=debug`. The environment variable `PERENNIAL_LOG`, if it is
    /// set, takes precedence.
    #[default("info".to_owned())]
    pub level: String,
}

/// Which requests get an access line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum AccessLog {
    /// every one
    #[default]
    On,
    /// none
    Off,
    /// those answered with 5xx, or cut off
    Errors,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogFormat {
    /// text on a terminal, JSON otherwise
    #[default]
    Auto,
    /// for people
    Text,
    /// one JSON object a line
    Json,
}

/// The webhook.
#[derive(Clone, PartialEq, Eq, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `revalidate`")]
#[schemars(inline)]
pub struct Revalidate {
    /// Its path on the public listeners.
    #[default("/__revalidate".to_owned())]
    pub path: String,
    /// The secret that callers must know. Without one, or with an empty one, the
    /// webhook is off: `/__revalidate` answers 404, and another `path` is a page like
    /// any other.
    #[serde(with = "As::<Secret>")]
    #[schemars(example = &"${PERENNIAL_SECRET:-}")]
    pub secret: String,
    /// The largest body, JSON or a form, that is read.
    #[default(64 << 10)]
    #[serde(with = "As::<Size<usize, 1, 0x100_0000>>")]
    pub max_body: usize,
    /// How many paths are rendered before the answer. If a call names more, the rest is marked
    /// stale and rendered in the background.
    #[default(16)]
    #[serde(with = "As::<Count<1, 1000>>")]
    pub max_paths: usize,
    /// How many pages of one path are rendered. Queries, hosts and declared variants can make
    /// many, and clients make up queries. Rendered are the page without a query and those that
    /// were used most recently. The other pages, and those with a query that nobody asked for
    /// since they were stored, are marked stale, and rendered when they are asked for.
    #[default(8)]
    #[serde(with = "As::<Count<1, 1000>>")]
    pub pages_per_path: usize,
    /// How long the answer waits for these renders. What is not done by then goes on in the
    /// background.
    #[default(Duration::from_secs(10))]
    #[serde(with = "As::<Time>")]
    pub timeout: Duration,
}

impl std::fmt::Debug for Revalidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revalidate").field("path", &self.path).field("secret", &"***").finish()
    }
}

/// Which request fields go on to origins, beside what
/// [`request_fields`](crate::rules::request_fields) says of them.
#[derive(Clone, Debug, PartialEq, Eq, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `request_fields`")]
#[schemars(inline)]
pub struct RequestFields {
    /// Fields that go on all the same, whoever sends them.
    #[serde(with = "As::<Vec<Field>>")]
    #[schemars(example = ["X-HTTP-Method-Override"])]
    pub allow: Vec<HeaderName>,
    /// Fields that go on if a proxy of `trusted_proxies` sends them, and from nobody else. Name
    /// fields that the proxy sets itself, whatever its clients send.
    #[default(vec![HeaderName::from_static("x-forwarded-for")])]
    #[serde(with = "As::<Vec<Field>>")]
    pub trust: Vec<HeaderName>,
    /// More fields that are dropped.
    #[serde(with = "As::<Vec<Field>>")]
    #[schemars(example = ["X-Debug"])]
    pub drop: Vec<HeaderName>,
}

/// Limits of the public listeners.
#[derive(Clone, Debug, PartialEq, Eq, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `limits`")]
#[schemars(inline)]
pub struct Limits {
    /// How long a request head may take, from its first byte to its last; and how long
    /// a new connection may say nothing at all.
    #[default(Duration::from_secs(10))]
    #[serde(with = "As::<Time>")]
    pub head_timeout: Duration,
    /// The largest request head, 1KiB to 1MiB.
    #[default(32 << 10)]
    #[serde(with = "As::<Size<usize, 0x400, 0x10_0000>>")]
    pub max_head: usize,
    /// The most fields a request head may have, 1 to 256.
    #[default(100)]
    #[serde(with = "As::<Count<1, 256>>")]
    pub max_fields: usize,
    /// The longest request target (path and query).
    #[default(8 << 10)]
    #[serde(with = "As::<Size<usize, 16, 0x10_0000>>")]
    pub max_uri: usize,
    /// How long an idle connection is kept after a request.
    #[default(Duration::from_secs(75))]
    #[serde(with = "As::<Time>")]
    pub keepalive: Duration,
    /// How long a client may read nothing of a response.
    #[default(Duration::from_secs(60))]
    #[serde(with = "As::<Time>")]
    pub write_timeout: Duration,
    /// How long a client may send nothing of a request body.
    #[default(Duration::from_secs(60))]
    #[serde(with = "As::<Time>")]
    pub body_timeout: Duration,
    /// Connections at once. Above that the connection that has been idle longest is closed for
    /// the next one; if all have a request in flight, new ones wait to be accepted.
    #[default(16_384)]
    #[serde(with = "As::<Count<1, 0x100_0000>>")]
    pub max_connections: usize,
    /// The longest value of a request field that a route names in `vary`, 16B to
    /// 64KiB, after it was normalised. A longer one counts as absent: the field is
    /// neither sent to the origin nor part of the page's key.
    #[default(256)]
    #[serde(with = "As::<Size<usize, 16, 0x1_0000>>")]
    pub max_variant: usize,
}

/// Waiting after failed regenerations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`min` and `max`")]
#[schemars(inline)]
pub struct Backoff {
    /// The first wait is as long as the page lives, at least this and at most 30s.
    #[default(Duration::from_secs(3))]
    #[serde(with = "As::<Time>")]
    pub min: Duration,
    /// The longest wait.
    #[default(Duration::from_secs(300))]
    #[serde(with = "As::<Span>")]
    pub max: Duration,
}
