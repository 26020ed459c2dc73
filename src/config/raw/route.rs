//! `routes`.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::secs;
use crate::config::values::{CookieRule, Flag, Lifetime, QueryRule, Span};

/// A route.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "the keys of a route")]
#[schemars(
    inline,
    extend("oneOf" = [
        { "required": ["isr"] }, { "required": ["dsg"] }, { "required": ["ssr"] }, { "required": ["pass"] }
    ])
)]
pub(in crate::config) struct Route {
    /// The host it is for, without port; `*.example.com` is any subdomain.
    /// Default: any host.
    #[schemars(example = &"shop.example.com")]
    pub(in crate::config) host: Option<String>,
    /// The paths it is for, as a glob: `*` is anything within a segment (nothing,
    /// too), `**` any depth, `{a,b}` and `[ab]` are alternatives. `/blog/**` is
    /// also `/blog` itself. A trailing slash counts: `/p/*` is `/p/x`, neither
    /// `/p/x/` nor `/p/x/y`.
    #[schemars(example = &"/blog/**", example = &"/docs/**", example = &"/account/**", example = &"/api/**")]
    pub(in crate::config) path: String,
    /// Incremental static regeneration: pages are served from the cache at once,
    /// and renewed behind the visitor's back when their time is up.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) isr: Option<Isr>,
    /// Deferred static generation: pages are rendered at the first request for
    /// them, and static until they are revalidated or a new deployment arrives.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) dsg: Option<Dsg>,
    /// Server-side rendering: requests go to the origin, and its `Cache-Control`
    /// decides what is reused.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) ssr: Option<Ssr>,
    /// Pass through: nothing is stored.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) pass: Option<Nothing>,
    /// The origin, by name. Default: the first one.
    #[schemars(example = &"web")]
    pub(in crate::config) origin: Option<String>,
    /// The query parameters that make pages different, or `all`; on `isr` and
    /// `dsg` the origin is not sent the others. Default: none on `isr` and `dsg`,
    /// `all` on `ssr` and `pass`.
    #[schemars(example = ["page"])]
    pub(in crate::config) query: Option<QueryRule>,
    /// Which cookies of a visitor the origin is sent, where it renders for one visitor:
    /// on `ssr`, and where `isr: { revalidate: origin }` turns a path into that.
    /// `all`: all of them; what is rendered for a request with cookies is then stored
    /// only where its `Vary` names `Cookie`, and a render without cookies is what
    /// others get. A list: those of these names, the same way, as if there were no
    /// others. `none`: none. `shared`: all, and they make no difference, so that a
    /// page with one visitor's name is everybody's unless the origin says `private`
    /// or `Vary: Cookie`. Default: `all`.
    #[schemars(example = ["session"])]
    pub(in crate::config) cookies: Option<CookieRule>,
    /// Request fields that make pages different: they are normalised, sent to the
    /// origin and part of the page's key. Every value is a page of its own, so
    /// name only fields with few. Of `accept` it counts which of the image formats
    /// AVIF, WebP and JPEG XL it names. Default: none.
    #[serde(default)]
    #[schemars(example = ["accept-language"])]
    pub(in crate::config) vary: Vec<String>,
    /// Tags of every page of the route, on top of those that the origin sends:
    /// the webhook purges by them. At most 128 of 256 characters. Default: none.
    #[serde(default)]
    #[schemars(example = ["blog"])]
    pub(in crate::config) tags: Vec<String>,
    /// How long 404, 410, 302 and 307 live at most, on `isr` and `dsg`.
    #[serde(default = "not_found")]
    pub(in crate::config) not_found: Span,
    /// The `Cache-Control` that browsers get on `isr` and `dsg`. Default: `public,
    /// max-age=0, must-revalidate`, which costs them a 304.
    #[schemars(example = &"public, max-age=60")]
    pub(in crate::config) browser: Option<String>,
    /// Drop `Set-Cookie` from responses and store them; otherwise a response with
    /// one is delivered and not stored. Only for cookies nobody needs.
    #[serde(default)]
    pub(in crate::config) strip_set_cookie: Flag,
    /// POST, PUT, PATCH and DELETE to a page make it stale also on `isr` and
    /// `dsg` (on `ssr` they always do, RFC 9111 §4.4).
    #[serde(default)]
    pub(in crate::config) unsafe_invalidates: Flag,
    /// Send the origin's tag fields (`Cache-Tag`, `Surrogate-Key` …) on to
    /// visitors, for a cache in front of this one.
    #[serde(default)]
    pub(in crate::config) forward_tags: Flag,
    /// How long to wait after a failed regeneration; it doubles with every further
    /// failure.
    #[serde(default)]
    pub(in crate::config) backoff: Backoff,
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
            cookies: None,
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
pub(in crate::config) struct Isr {
    /// How long a page is fresh: a duration, or `origin` for what the origin's
    /// `Cache-Control` says; a page of which it says nothing is then not cached,
    /// as on `ssr`.
    #[schemars(example = &"60s")]
    pub(in crate::config) revalidate: Lifetime,
    /// How long after that it may be served while one regeneration runs; who
    /// comes later waits for the new page.
    #[serde(default = "stale_for")]
    pub(in crate::config) stale_for: Span,
}

fn stale_for() -> Span {
    secs(365 * 86_400)
}

/// `ssr`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `ssr`; without any, `{}`")]
#[schemars(inline)]
pub(in crate::config) struct Ssr {
    /// Also store responses that say nothing about their lifetime but carry a
    /// `Last-Modified`, for a tenth of their age then (RFC 9111 §4.2.2).
    pub(in crate::config) heuristic: Flag,
}

/// `dsg`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `dsg`; without any, `{}`")]
#[schemars(inline)]
pub(in crate::config) struct Dsg {
    /// `origin`: a page for which the origin names a lifetime above zero has that
    /// one, and its `stale-while-revalidate`. Default: pages are static whatever
    /// the origin says.
    pub(in crate::config) revalidate: Option<ByOrigin>,
}

/// `origin`, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum ByOrigin {
    /// as the origin says
    Origin,
}

/// `pass` has no options.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`{}`: this mode has no options")]
#[schemars(inline)]
pub(in crate::config) struct Nothing {}

/// Waiting after a failed regeneration.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`min` and `max`")]
#[schemars(inline)]
pub(in crate::config) struct Backoff {
    /// The first wait is as long as the page lives, at least this and at most 30s.
    pub(in crate::config) min: Span,
    /// The longest wait.
    pub(in crate::config) max: Span,
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
