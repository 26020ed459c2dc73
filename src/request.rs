//! A request as the cache sees it: a small view over the head, made by the
//! front from the bytes and by `proxy` from a pingora session, so that both ask
//! the same functions.

use std::net::IpAddr;

use httparse::Header;

use crate::rules::Lines;
use crate::rules::cache_control::Directives;

/// A request head. Borrowed; making one allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// Path and query, as sent (origin form).
    pub target: &'a str,
    /// The host, lower case, with its port if one was named.
    pub host: &'a str,
    /// `https` or `http`: how the client asked, by the connection or by a trusted proxy.
    pub scheme: &'static str,
    /// The fields: names in any case, values as sent.
    pub fields: &'a [Header<'a>],
    /// The address of the client, or of the proxy before this edge.
    pub peer: IpAddr,
}

impl<'a> Request<'a> {
    /// The path, as sent.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// The query, as sent, without its question mark; empty if there is none.
    #[must_use]
    pub fn query(&self) -> &'a str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

impl Lines for Request<'_> {
    fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.lines(name)
    }
}

/// What a head says that decides the way of a request, found in one pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `Authorization` is there.
    pub authorization: bool,
    /// `Cookie` is there.
    pub cookie: bool,
    /// The request carries a body.
    pub body: bool,
    /// The request asks to go on as a WebSocket (RFC 6455 §4.1): a GET with
    /// `Upgrade: websocket` and `Connection: upgrade`.
    pub websocket: bool,
    /// `Via` is there.
    pub via: bool,
    /// `Purpose: prefetch` or `Sec-Purpose: prefetch`.
    pub prefetch: bool,
    /// There is a precondition or a range: the answer is made from a stored
    /// page and not from a stream.
    pub conditional: bool,
    /// What the request's `Cache-Control` says, of what is obeyed:
    /// `only-if-cached` (RFC 9111 §5.2.1.7) …
    pub only_if_cached: bool,
    /// … and `no-store` (§5.2.1.5).
    pub no_store: bool,
}

impl Facts {
    /// Reads them.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Facts {
        let mut facts = Facts::default();
        let mut websocket = false;
        for field in request.fields {
            match field.name.len() {
                3 if is(field, "via") => facts.via = true,
                5 if is(field, "range") => facts.conditional = true,
                6 if is(field, "cookie") => facts.cookie = true,
                7 if is(field, "upgrade") => websocket |= names(field.value, b"websocket"),
                7 if is(field, "purpose") => facts.prefetch |= is_prefetch(field.value),
                8 if is(field, "if-match") => facts.conditional = true,
                11 if is(field, "sec-purpose") => facts.prefetch |= is_prefetch(field.value),
                13 if is(field, "if-none-match") => facts.conditional = true,
                13 if is(field, "authorization") => facts.authorization = true,
                13 if is(field, "cache-control") => {
                    let directives = Directives::parse([field.value]);
                    facts.only_if_cached |= directives.only_if_cached;
                    facts.no_store |= directives.no_store;
                }
                14 if is(field, "content-length") => {
                    facts.body |= field.value.trim_ascii() != b"0";
                }
                17 if is(field, "if-modified-since") => facts.conditional = true,
                17 if is(field, "transfer-encoding") => facts.body = true,
                19 if is(field, "if-unmodified-since") => facts.conditional = true,
                _ => {}
            }
        }
        // RFC 9110 §7.8: without `Connection: upgrade` it is of an earlier hop, and means nothing.
        facts.websocket = websocket
            && request.method == "GET"
            && request.lines("connection").any(|value| names(value, b"upgrade"));
        facts
    }
}

/// Whether a list has this member, in any case.
fn names(list: &[u8], member: &[u8]) -> bool {
    list.split(|b| *b == b',').any(|m| m.trim_ascii().eq_ignore_ascii_case(member))
}

fn is(field: &Header<'_>, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name)
}

/// `prefetch`, alone or with parameters (`prefetch;prerender`).
fn is_prefetch(value: &[u8]) -> bool {
    value.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"prefetch"))
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::testing::{fields, get};
    use super::*;

    fn facts(list: &[(&'static str, &'static str)]) -> Facts {
        Facts::of(&get("/", &fields(list)))
    }

    #[test]
    fn reads_what_decides_the_way_of_a_request() {
        let none = Facts::default();
        for (name, value, expected) in [
            ("X-Cookie", "a=1", none),
            ("COOKIE", "a=1", Facts { cookie: true, ..none }),
            ("authorization", "Basic x", Facts { authorization: true, ..none }),
            ("Sec-Purpose", "prefetch;prerender", Facts { prefetch: true, ..none }),
            ("Purpose", "Prefetch", Facts { prefetch: true, ..none }),
            ("Next-Router-Prefetch", "1", none),
            ("Upgrade", "websocket", none),
            ("Connection", "upgrade", none),
            ("VIA", "1.1 cdn", Facts { via: true, ..none }),
            ("Content-Length", "0", none),
            ("Content-Length", "1", Facts { body: true, ..none }),
            ("Transfer-Encoding", "chunked", Facts { body: true, ..none }),
            ("If-None-Match", "*", Facts { conditional: true, ..none }),
            ("Range", "bytes=0-", Facts { conditional: true, ..none }),
            ("Cache-Control", "no-cache", none),
            ("Cache-Control", "only-if-cached", Facts { only_if_cached: true, ..none }),
            ("Cache-Control", "no-store", Facts { no_store: true, ..none }),
        ] {
            assert_eq!(facts(&[(name, value)]), expected, "{name}: {value}");
        }
    }

    /// RFC 6455 §4.1, RFC 9110 §7.8.
    #[test]
    fn what_asks_for_a_websocket() {
        for (method, upgrade, connection, asks) in [
            ("GET", "websocket", "upgrade", true),
            ("GET", "h2c, WebSocket", "keep-alive, Upgrade", true),
            ("GET", "websocket", "keep-alive", false),
            ("GET", "websocket", "", false),
            ("GET", "h2c", "upgrade", false),
            ("GET", "websocket/13", "upgrade", false),
            ("GET", "x-websocket", "upgrade", false),
            ("GET", "", "upgrade", false),
            ("POST", "websocket", "upgrade", false),
            ("HEAD", "websocket", "upgrade", false),
        ] {
            let fields = fields(&[("Upgrade", upgrade), ("Connection", connection)]);
            let facts = Facts::of(&Request { method, ..get("/", &fields) });
            assert_eq!(facts.websocket, asks, "{method} {upgrade} {connection}");
        }
    }

    #[test]
    fn splits_the_target() {
        let request = get("/a?b=c?d", &[]);
        assert_eq!((request.path(), request.query()), ("/a", "b=c?d"));
    }
}
