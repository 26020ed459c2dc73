//! Fields of one hop (RFC 9110 §7.6.1, RFC 9111 §3.1), and fields that are for
//! Perennial and not for visitors.

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName};

use super::scan;

/// Fields of one hop, lower case: neither stored nor passed on.
pub const HOP_BY_HOP: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that name the tags of a page, lower case. Visitors get them only where
/// the route says `forward_tags`; `Cache-Groups` is for other caches too.
pub const TAG_FIELDS: &[&str] =
    &["cache-groups", "cache-tag", "netlify-cache-tag", "surrogate-key", "x-next-cache-tags"];

/// Whether a field, in any case, is one of one hop.
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.iter().any(|hop| hop.eq_ignore_ascii_case(name))
}

/// Whether a field, in any case, is one of [`TAG_FIELDS`].
#[must_use]
pub fn is_tag_field(name: &str) -> bool {
    TAG_FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name))
}

/// Whether the message's `Connection` names the field (RFC 9110 §7.6.1).
#[must_use]
pub fn is_nominated(headers: &HeaderMap, name: &str) -> bool {
    nominated(headers).any(|nominated| nominated.eq_ignore_ascii_case(name.as_bytes()))
}

/// Removes the fields of one hop, and those that `Connection` names; `Host` and
/// `Content-Length` stay, or a message would lose its target or its end. Judge a
/// response before: what it says of caching counts either way.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        nominated(headers).filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
}

fn nominated(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    const NEVER: [&[u8]; 2] = [b"host", b"content-length"];
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| scan::members(line.as_bytes()))
        .filter(|name| !NEVER.iter().any(|never| never.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    #[test]
    fn fields_of_one_hop_are_removed() {
        // RFC 9110 §7.6.1, RFC 9111 §3.1
        let mut headers = map(&[
            ("connection", "a, B"),
            ("connection", "close, \u{e9}, x y, Host, Content-Length"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("cache-control", "max-age=1"),
            ("content-length", "5"),
        ]);
        for name in HOP_BY_HOP {
            headers.append(*name, "x".parse().expect("a value"));
        }
        assert!(is_nominated(&headers, "A"));
        assert!(!is_nominated(&headers, "c"));
        strip_hop_by_hop(&mut headers);
        assert_eq!(
            headers,
            map(&[("c", "3"), ("cache-control", "max-age=1"), ("content-length", "5")])
        );
    }

    #[test]
    fn names_are_known_in_any_case() {
        for name in ["Transfer-Encoding", "TE", "keep-alive", "Proxy-Connection"] {
            assert!(is_hop_by_hop(name), "{name}");
        }
        for name in ["Content-Length", "", "Via", "Host"] {
            assert!(!is_hop_by_hop(name), "{name}");
        }
        assert!(is_tag_field("Surrogate-Key"));
        assert!(!is_tag_field("Cache-Control"));
    }
}
