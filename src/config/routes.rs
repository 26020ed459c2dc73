//! `routes`.

use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use smart_default::SmartDefault;
use strum::{Display, IntoStaticStr};

use super::forms::{As, Names, Or, WordOrNames};
use super::values::{ByOrigin, Field, Flag, Span};

/// A route. The keys that only say what [`mode`](Self::mode), [`origin`](Self::origin),
/// [`query`](Self::query) and [`cookies`](Self::cookies) are do not outlive the reading.
#[derive(Clone, Debug, PartialEq, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of a route")]
#[schemars(
    inline,
    extend(
        "required" = ["path"],
        "oneOf" = [
            { "required": ["isr"] }, { "required": ["dsg"] },
            { "required": ["ssr"] }, { "required": ["pass"] }
        ]
    )
)]
pub struct Route {
    /// The host it is for, without port; `*.example.com` is any subdomain.
    /// Default: any host.
    #[schemars(example = &"shop.example.com")]
    pub host: Option<String>,
    /// The paths it is for, as a glob: `*` is anything within a segment (nothing,
    /// too), `**` any depth, `{a,b}` and `[ab]` are alternatives. `/blog/**` is
    /// also `/blog` itself. A trailing slash counts: `/p/*` is `/p/x`, neither
    /// `/p/x/` nor `/p/x/y`.
    #[schemars(example = &"/blog/**", example = &"/docs/**", example = &"/account/**", example = &"/api/**")]
    pub path: String,
    /// Incremental static regeneration: pages are served from the cache at once,
    /// and rendered anew in the background when their time is up.
    #[serde(deserialize_with = "present")]
    pub(super) isr: Option<Isr>,
    /// Deferred static generation: pages are rendered at the first request for
    /// them, and static until they are revalidated or a new deployment arrives.
    #[serde(deserialize_with = "present")]
    pub(super) dsg: Option<Dsg>,
    /// Server-side rendering: requests go to the origin, and its `Cache-Control`
    /// decides what is reused.
    #[serde(deserialize_with = "present")]
    pub(super) ssr: Option<Ssr>,
    /// Pass through: nothing is stored.
    #[serde(deserialize_with = "present")]
    pub(super) pass: Option<Pass>,
    /// The origin, by name. Default: the first one.
    #[serde(rename = "origin")]
    #[schemars(example = &"web")]
    pub(super) to: Option<String>,
    /// The query parameters that make pages different, or `all`; on `isr` and
    /// `dsg` the origin is not sent the others. Default: none on `isr` and `dsg`,
    /// `all` on `ssr` and `pass`.
    #[serde(rename = "query", with = "As::<Option<WordOrNames<Query>>>")]
    #[schemars(example = ["page"])]
    pub(super) parameters: Option<Query>,
    /// Which cookies of a client the origin is sent, where it renders for one client
    /// alone: on `ssr`, and where `isr: { revalidate: origin }` turns a path into that.
    /// `all`: all of them; what is rendered for a request with cookies is then stored
    /// only where its `Vary` names `Cookie`, and clients without cookies get a render
    /// that was made without any. A list: only the cookies of these names are sent and
    /// count. `none`: none. `shared`: all are sent, and they make no difference, so that
    /// a page with one client's name is everybody's unless the origin says `private` or
    /// `Vary: Cookie`. Default: `all`.
    #[serde(rename = "cookies", with = "As::<Option<WordOrNames<Cookies>>>")]
    #[schemars(example = ["session"])]
    pub(super) named_cookies: Option<Cookies>,
    /// Request fields that make pages different: they are normalised, sent to the origin and
    /// part of the page's key. Every value is a page of its own, so name only fields with few
    /// values. Of `accept` only counts which of the image formats AVIF, WebP and JPEG XL it
    /// names. Default: none.
    #[serde(with = "As::<Vec<Field>>")]
    #[schemars(example = ["accept-language"])]
    pub vary: Vec<HeaderName>,
    /// Tags of every page of the route, in addition to those that the origin sends. The webhook
    /// purges by them. At most 128 of 256 characters. Default: none.
    #[schemars(example = ["blog"])]
    pub tags: Vec<String>,
    /// How long 404, 410, 302 and 307 live at most, on `isr` and `dsg`.
    #[default(Duration::from_secs(60))]
    #[serde(with = "As::<Span>")]
    pub not_found: Duration,
    /// The `Cache-Control` that browsers get on `isr` and `dsg`. Default: `public,
    /// max-age=0, must-revalidate`, which costs them a 304.
    #[schemars(example = &"public, max-age=60")]
    pub browser: Option<String>,
    /// Drop `Set-Cookie` from responses and store them; otherwise a response with
    /// one is delivered and not stored. Only for cookies nobody needs.
    #[serde(with = "As::<Flag>")]
    pub strip_set_cookie: bool,
    /// POST, PUT, PATCH and DELETE to a page make it stale also on `isr` and
    /// `dsg` (on `ssr` they always do, RFC 9111 §4.4).
    #[serde(with = "As::<Flag>")]
    pub unsafe_invalidates: bool,
    /// Send the origin's tag fields (`Cache-Tag`, `Surrogate-Key` …) on to
    /// clients, for a cache in front of this one.
    #[serde(with = "As::<Flag>")]
    pub forward_tags: bool,
    /// The mode and its options.
    #[serde(skip)]
    pub mode: Mode,
    /// Index into [`Config::origins`](super::Config::origins).
    #[serde(skip)]
    pub origin: usize,
    /// Which part of the query is keyed and sent.
    #[serde(skip)]
    pub query: Query,
    /// Which cookies of a client are sent and count, where a path is server-rendered.
    #[serde(skip)]
    pub cookies: Cookies,
    /// The framework brought it; it is not in the file.
    #[serde(skip)]
    pub preset: bool,
}

impl Route {
    /// What is done with pages that no route matches: `ssr: {}`, first origin.
    #[must_use]
    pub fn catch_all() -> Route {
        Route { path: "/**".to_owned(), ..Route::default() }
    }

    /// A route that a preset brings, with what follows from its mode.
    #[must_use]
    pub fn of_preset(path: String, mode: Mode) -> Route {
        Route { path, mode, query: mode.query(), preset: true, ..Route::default() }
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

/// `isr`.
#[derive(Clone, Debug, PartialEq, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `isr`, as in `{ revalidate: 60s }`")]
#[schemars(inline, extend("required" = ["revalidate"]))]
pub(super) struct Isr {
    /// How long a page is fresh: a duration, or `origin` for what the origin's
    /// `Cache-Control` says; a page of which it says nothing is then not cached,
    /// as on `ssr`.
    #[serde(with = "As::<Option<Or<ByOrigin, Span>>>")]
    #[schemars(example = &"60s")]
    pub(super) revalidate: Option<Option<Duration>>,
    /// How long after that the stale page may be served while it is rendered anew;
    /// whoever comes later waits for the new page.
    #[default(Duration::from_secs(365 * 86_400))]
    #[serde(with = "As::<Span>")]
    pub(super) stale_for: Duration,
}

/// `dsg`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `dsg`; without any, `{}`")]
#[schemars(inline)]
pub(super) struct Dsg {
    /// `origin`: a page for which the origin names a lifetime above zero has that
    /// lifetime, and the origin's `stale-while-revalidate`. Default: pages are static,
    /// whatever the origin says.
    pub(super) revalidate: Option<Static>,
}

/// `origin`, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Static {
    /// as the origin says
    Origin,
}

/// `ssr`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `ssr`; without any, `{}`")]
#[schemars(inline)]
pub(super) struct Ssr {
    /// Also store responses that say nothing about their lifetime but carry a
    /// `Last-Modified`, for a tenth of their age then (RFC 9111 §4.2.2).
    #[serde(with = "As::<Flag>")]
    pub(super) heuristic: bool,
}

/// `pass` has no options.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`{}`: this mode has no options")]
#[schemars(inline)]
pub(super) struct Pass {}

/// The mode of a route (semantics §1). Its name is that in YAML, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SmartDefault, Display, IntoStaticStr)]
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
    #[default]
    Ssr {
        /// Store responses without explicit lifetime by a heuristic (RFC 9111 §4.2.2).
        heuristic: bool,
    },
    /// Never stored.
    Pass,
}

impl Mode {
    /// Whether the origin may render for one client alone here and it be stored: on
    /// `ssr`, and where a path of a page route can turn into that.
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

    /// What of a query counts where the route does not say.
    pub(super) const fn query(self) -> Query {
        if self.is_page() { Query::Names(Vec::new()) } else { Query::All }
    }
}

/// Which part of the query is keyed and sent to the origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Query {
    /// All of it, as it came.
    #[default]
    All,
    /// The parameters of these names, sorted by name; empty: none.
    Names(Vec<String>),
}

impl Names for Query {
    const OF: &'static str = "parameter names";

    fn words() -> Vec<(&'static str, Query)> {
        vec![("all", Query::All)]
    }
    fn names(names: Vec<String>) -> Query {
        Query::Names(names)
    }
}

/// What a client's cookies mean on `ssr`, and on paths that count as that (semantics
/// §1). `isr` and `dsg` send none, `pass` all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cookies {
    /// They are sent, and what is rendered for a request with cookies is stored only
    /// where its `Vary` names `Cookie`.
    #[default]
    All,
    /// Those of these names are sent and count as with `All`; the others are not there.
    /// Sorted; none: no cookie is sent.
    Names(Vec<String>),
    /// They are sent, and make no difference: RFC 9111 to the letter.
    Shared,
}

impl Names for Cookies {
    const OF: &'static str = "names of cookies";

    fn words() -> Vec<(&'static str, Cookies)> {
        let none = Cookies::Names(Vec::new());
        vec![("all", Cookies::All), ("none", none), ("shared", Cookies::Shared)]
    }
    fn names(names: Vec<String>) -> Cookies {
        Cookies::Names(names)
    }
}
