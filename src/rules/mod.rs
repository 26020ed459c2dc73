//! The rules of HTTP caching as pure functions: no I/O, no clock (`now` is an
//! argument), and nothing of ours is imported. Each rule cites the section of
//! RFC 9110, 9111, 9211, 9213 or 5861 that it implements.
//!
//! On the way of a hit, without allocating: [`negotiate`] (which form, which
//! coding), [`vary::matches`], [`freshness::Terms::state`],
//! [`conditional::evaluate`] and [`conditional::requested`]. Once a fill:
//! [`storable::judge`], which asks [`cache_control`] and [`freshness`];
//! [`conditional::merge_304`], [`tags`] and [`hop`].

pub mod cache_control;
pub mod cache_status;
pub mod conditional;
pub mod date;
pub mod framing;
pub mod freshness;
pub mod hop;
pub mod media;
pub mod negotiate;
pub mod request_fields;
mod scan;
pub mod status;
pub mod storable;
pub mod tags;
pub mod time;
pub mod vary;

use strum::{Display, IntoStaticStr, VariantArray};

pub use cache_status::Outcome;
pub use scan::Lines;
pub use time::Time;

/// Why a response is not stored. Its name feeds `Cache-Status`, a metric label and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// `private`.
    Private,
    /// `no-store`.
    NoStore,
    /// The response sets a cookie.
    SetCookie,
    /// Middleware runs before the page: what it answers is for who asked.
    Middleware,
    /// The request carried cookies, and nothing says that the answer is for who has others, too.
    Cookie,
    /// `Vary: *`.
    VaryStar,
    /// The status is not storable on this route.
    Status,
    /// 401, 403 or 451 on a page route: the page is no longer public.
    Unauthorized,
    /// 206 or 304, which are no whole page.
    Partial,
    /// 204 or 205 where a page was asked for.
    NoContent,
    /// The content type is not the one that was asked for.
    ContentType,
    /// The body came in a coding that is not decoded here.
    ContentEncoding,
    /// The request carried `Authorization` and nothing allows to share the answer (RFC 9111 §3.5).
    Authorization,
    /// No explicit lifetime, and no heuristic allowed.
    NoLifetime,
    /// Larger than `max_object`.
    TooLarge,
    /// The body broke off.
    Truncated,
    /// 5xx on a page route: a failed render.
    ServerError,
    /// The path is server-rendered for now (`isr: { revalidate: origin }`).
    ServerRendered,
    /// Nothing was known of the path: the client's own request went first, and a fill for
    /// all begins behind it.
    FirstVisit,
    /// The request forbids it (RFC 9111 §5.2.1.5).
    RequestNoStore,
    /// An invalidation arrived while it was rendered.
    Invalidated,
    /// What is stored was rendered later.
    Superseded,
    /// The origin sent a stale copy of its own beside a new render.
    StaleCopy,
    /// There is no store, or the route passes everything through.
    NoCache,
}

#[cfg(test)]
pub(crate) mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    /// Names and values, as a table has them.
    pub(crate) type Fields<'a> = &'a [(&'a str, &'a str)];

    /// A header map of these fields.
    pub(crate) fn map(fields: Fields<'_>) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
            );
        }
        map
    }
}
