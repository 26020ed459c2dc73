//! Fields of one hop (RFC 9110 §7.6.1, RFC 9111 §3.1), and fields that are for
//! Perennial and not for clients.

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue};

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

/// Fields that name the tags of a page, lower case. Clients get them only where
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

/// The fields of a message that go on from here: all but those of one hop, and
/// those that `Connection` names. `Content-Length` is about framing, and for
/// whoever writes the message. Judge a response before: what it says of caching
/// counts either way.
pub fn end_to_end(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    headers.iter().filter(|(name, _)| goes_on(headers, name.as_str()))
}

/// Whether a field of a message, its name in any case, is one of these.
#[must_use]
pub fn goes_on(headers: &HeaderMap, name: &str) -> bool {
    !name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str())
        && !is_hop_by_hop(name)
        && !is_nominated(headers, name)
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
    fn fields_of_one_hop_stay_here() {
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
        let names: Vec<&str> = end_to_end(&headers).map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["c", "cache-control"]);
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
