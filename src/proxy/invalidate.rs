//! What unsafe methods invalidate (RFC 9111 §4.4).

use http::header::{CONTENT_LOCATION, LOCATION};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::{Ctx, Proxy, fields, host, request};
use crate::host;
use crate::metrics::Invalidation;
use crate::page::{PageKey, canonical_path};
use crate::rules::Outcome;
use crate::rules::cache_status::Bypass;

impl Proxy {
    /// A non-error answer to an unsafe method invalidates its target, `Location` and
    /// `Content-Location`, of the same origin. Hosts and paths are those of keys: a
    /// target that is a data URL is its page.
    pub(super) fn invalidate_by_method(
        &self,
        session: &Session,
        ctx: &Ctx,
        response: &ResponseHeader,
    ) {
        let (Some(head), Some(route)) = (&ctx.head, &ctx.route) else { return };
        let bypass = matches!(ctx.outcome, Outcome::Bypass { why: Bypass::Method });
        let safe = matches!(head.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE");
        let obeys = !route.mode.is_page() || route.unsafe_invalidates;
        if !bypass || safe || !obeys || response.status.as_u16() >= 400 {
            return;
        }
        let live = &ctx.live;
        let fields = fields(head);
        let request = request(live, head, &fields, Proxy::peer(session));
        let host = host::canonical(host(head), request.scheme);
        let invalidate = |path: &str| {
            let path = canonical_path(path);
            let page = live.preset.locate(&path, &request).path;
            let deployments = live.deployments(live.routes.find(&host, &page)).load();
            let key = PageKey::new(deployments.current(), request.scheme, &host, &page);
            self.engine.store.invalidate_unsafe(&key);
            live.metrics.invalidation(Invalidation::Unsafe);
        };
        let target = head.uri.path();
        invalidate(target);
        for name in [LOCATION, CONTENT_LOCATION] {
            let value = response.headers.get(name).and_then(|value| value.to_str().ok());
            let path = value.and_then(|value| same_origin(request.scheme, &host, target, value));
            if let Some(path) = path {
                invalidate(&path);
            }
        }
    }
}

/// The path of a reference, if that is of this origin: the canonical `host` by
/// whichever scheme, because who ends TLS in front of us may not say so. A relative
/// one is resolved against `base` (RFC 3986 §5.2).
fn same_origin(scheme: &str, host: &str, base: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or(reference);
    let absolute = match reference.split_once("://") {
        Some((named @ ("http" | "https"), rest)) => Some((named, rest)),
        Some((named, rest)) if named.eq_ignore_ascii_case("http") => Some(("http", rest)),
        Some((named, rest)) if named.eq_ignore_ascii_case("https") => Some(("https", rest)),
        _ => reference.strip_prefix("//").map(|rest| (scheme, rest)),
    };
    if let Some((scheme, rest)) = absolute {
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = rest.split('?').next().unwrap_or(rest);
        let same = host::canonical(authority, scheme) == host;
        return same.then(|| if path.is_empty() { "/".to_owned() } else { path.to_owned() });
    }
    let path = reference.split('?').next().unwrap_or(reference);
    if path.is_empty() {
        return Some(base.to_owned());
    }
    if path.starts_with('/') {
        return Some(path.to_owned());
    }
    // `mailto:a@b`
    if path.split('/').next().is_some_and(|first| first.contains(':')) {
        return None;
    }
    let folder = base.rfind('/').map_or("/", |slash| &base[..=slash]);
    Some(format!("{folder}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_references_are_of_the_same_origin() {
        for (scheme, host, reference, path) in [
            ("http", "a.test", "/x", Some("/x")),
            ("http", "a.test", "/x?y#z", Some("/x")),
            ("http", "a.test", "http://a.test/x", Some("/x")),
            ("http", "a.test", "HTTP://A.Test.:80/x", Some("/x")),
            ("https", "a.test", "https://a.test:443/x", Some("/x")),
            ("https", "a.test", "//a.test/x", Some("/x")),
            ("https", "a.test", "//a.test:443", Some("/")),
            ("https", "a.test", "https://a.test?y", Some("/")),
            // TLS may end in front of us.
            ("http", "a.test", "https://a.test/x", Some("/x")),
            ("http", "a.test:8080", "http://a.test:8080/x", Some("/x")),
            ("http", "a.test:8080", "http://a.test/x", None),
            ("http", "a.test", "http://b.test/x", None),
            ("http", "a.test", "http://a.test@b.test/x", None),
            ("http", "a.test", "//b.test/x", None),
            ("http", "a.test", "ftp://a.test/x", None),
            ("http", "a.test", "mailto:a@a.test", None),
            // Relative to /p/q.
            ("http", "a.test", "x", Some("/p/x")),
            ("http", "a.test", "../x", Some("/p/../x")),
            ("http", "a.test", "?y", Some("/p/q")),
            ("http", "a.test", "", Some("/p/q")),
        ] {
            let found = same_origin(scheme, host, "/p/q", reference);
            assert_eq!(found.as_deref(), path, "{reference} of {scheme}://{host}");
        }
    }
}
