//! Heads of what is passed through, cleaned in both directions.

use http::header::{
    CONNECTION, CONTENT_LENGTH, ETAG, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, UPGRADE,
};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use pingora::http::{HeaderNameVariant, RequestHeader, ResponseHeader};

use crate::answer::head::{Audience, Shape};
use crate::fill::FORWARDED_FOR;
use crate::live::Live;
use crate::page::{Fields, FieldsBuf, canonical_path};
use crate::plan::forwarded_for;
use crate::request::Request;
use crate::route::Route;
use crate::rules::cache_status::Bypass;
use crate::rules::{Lines, framing, hop};

/// Makes of a client's request head the one that the origin gets. What is of one hop is not
/// there any more.
///
/// # Errors
/// A field cannot be sent.
pub(crate) fn request(
    upstream: &mut RequestHeader,
    visitor: &Request<'_>,
    live: &Live,
    route: &Route,
) -> pingora::Result<()> {
    let passing = live.passing(visitor.peer, route);
    let preset = &live.preset;
    let form = preset.locate(&canonical_path(visitor.path()), visitor).form;
    let addresses = forwarded_for(upstream.headers.lines(FORWARDED_FOR), visitor.peer, &passing);
    let kept = |name: &str| passing.passes(name) && !preset.strips(name, form);
    let dropped: Vec<HeaderName> =
        upstream.headers.keys().filter(|name| !kept(name.as_str())).cloned().collect();
    for name in dropped {
        upstream.remove_header(&name);
    }
    // What an action answers is read, see `Framework::sends_to`.
    if preset.sends_by().is_some() && !matches!(visitor.method, "GET" | "HEAD") {
        upstream.remove_header("accept-encoding");
    }
    if let Ok(addresses) = HeaderValue::from_bytes(&addresses) {
        upstream.insert_header("X-Forwarded-For", addresses)?;
    }
    upstream.insert_header("X-Forwarded-Host", visitor.host)?;
    upstream.insert_header("X-Forwarded-Proto", visitor.scheme)?;
    upstream.append_header("Via", live.via.member())?;
    upstream.insert_header(HOST, live.origin(route).host_field(visitor.host))?;
    Ok(())
}

/// What the origin was asked, as far as it says which responses may come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conditions {
    /// To switch protocols, which is to WebSocket.
    upgrade: bool,
    /// With conditions.
    conditional: bool,
}

impl Conditions {
    /// By the head that the origin gets.
    pub(crate) fn by(upstream: &RequestHeader) -> Conditions {
        let conditions =
            [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE, IF_RANGE];
        Conditions {
            upgrade: upstream.headers.contains_key(UPGRADE),
            conditional: conditions.iter().any(|name| upstream.headers.contains_key(name)),
        }
    }
}

/// How what is passed through looks to its client. `received`: the time of receipt, as a `Date`.
pub(crate) fn passing_shape<'a>(
    live: &'a Live,
    route: &'a Route,
    why: Bypass,
    status: StatusCode,
    received: &'a str,
) -> Shape<'a> {
    Shape {
        route,
        page: route.mode.is_page() && why != Bypass::ServerRendered,
        audience: Audience::One,
        preset: &live.preset,
        status,
        compressible: false,
        received,
    }
}

/// A response head as it is passed on.
pub(crate) struct Passed {
    /// The fields that go on, in the case they came in.
    pub(crate) fields: Fields,
    /// The length of the body, if the origin named it.
    pub(crate) length: Option<u64>,
}

/// What a client gets of an origin's response head.
///
/// # Errors
/// Why it cannot be passed on.
pub(crate) fn passed(
    head: &ResponseHeader,
    asked: Conditions,
    shape: &Shape<'_>,
) -> Result<Passed, &'static str> {
    let status = head.status;
    let length = framing::length(status, &head.headers)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        switches(head, asked.upgrade)?;
    }
    // Who sent no condition has nothing stored that it could be about (RFC 9110 §15.4.5).
    if status == StatusCode::NOT_MODIFIED && !asked.conditional {
        return Err("304 without having been asked under a condition");
    }
    let mut fields = end_to_end(head);
    if !status.is_informational() {
        fields = shape.visitor(&fields);
        if let Some(etag) = head.headers.get(ETAG) {
            let mut with_etag = FieldsBuf::from(fields);
            with_etag.push("ETag", etag.as_bytes());
            fields = with_etag.done();
        }
    }
    Ok(Passed { fields, length })
}

/// Makes of an origin's response head the client's, for pingora.
///
/// pingora frames the body by what is left: by its length, or in chunks.
///
/// # Errors
/// Why it cannot be passed on.
pub(crate) fn response(
    head: &mut ResponseHeader,
    asked: Conditions,
    shape: &Shape<'_>,
) -> Result<(), &'static str> {
    let Passed { fields, length } = passed(head, asked, shape)?;
    // An HTTP/1.1 server says that it is one, whatever its origin is (RFC 9110 §2.5).
    head.set_version(Version::HTTP_11);
    replace(head, &fields);
    let mut insert = |name: HeaderName, value: HeaderValue| {
        head.insert_header(name, value).map_err(|_| "a field cannot be sent")
    };
    if let Some(length) = length {
        insert(CONTENT_LENGTH, length.into())?;
    }
    if shape.status == StatusCode::SWITCHING_PROTOCOLS {
        insert(CONNECTION, HeaderValue::from_static("Upgrade"))?;
        insert(UPGRADE, HeaderValue::from_static("websocket"))?;
    }
    Ok(())
}

/// Whether this 101 is an answer to what was asked (RFC 9110 §15.2.2).
fn switches(head: &ResponseHeader, upgrade: bool) -> Result<(), &'static str> {
    let websocket =
        |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket");
    if !upgrade {
        Err("101 without having been asked to switch protocols")
    } else if head.version < Version::HTTP_11 {
        Err("101 in HTTP/1.0")
    } else if !head.headers.get_all(UPGRADE).iter().all(websocket) {
        Err("101 to another protocol than WebSocket")
    } else {
        Ok(())
    }
}

/// The fields that go on, in the case they came in.
pub(super) fn end_to_end(head: &ResponseHeader) -> Fields {
    let mut fields = FieldsBuf::default();
    // The closure fails nowhere.
    let _ = head.map(|name, value| {
        let name = match &name {
            HeaderNameVariant::Case(name) => std::str::from_utf8(name.as_slice()).unwrap_or(""),
            HeaderNameVariant::Titled(name) => name,
        };
        if !name.is_empty() && hop::goes_on(&head.headers, name) {
            fields.push(name, value.as_bytes());
        }
        Ok(())
    });
    fields.done()
}

/// Gives a head these fields, and none that it had.
fn replace(head: &mut ResponseHeader, fields: &Fields) {
    let names: Vec<HeaderName> = head.headers.keys().cloned().collect();
    for name in names {
        head.remove_header(&name);
    }
    for (name, value) in fields.iter() {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            // It came as a field, so it is one.
            let _ = head.append_header(name.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::engine::Engine;
    use crate::page::KeyBuf;
    use crate::plan::{Plan, ask, plan};
    use crate::request::{Facts, testing};

    const CONFIG: &str = "
origins: { web: 'http://127.0.0.1:1' }
trusted_proxies: [10.0.0.0/8]
framework: nextjs
request_fields: { allow: [My_Field, X-HTTP-Method], trust: [X-Forwarded-For, X-User], drop: [X-Debug] }
routes:
- path: /page
  isr: { revalidate: 60s }
  vary: [accept-language, cf-ipcountry]
- path: /ssr
  ssr: {}
  vary: [accept-language, cf-ipcountry]
- path: /pass
  pass: {}
";

    fn live() -> Arc<Live> {
        let (config, _) = Config::from_yaml(CONFIG, "test.yaml", &|_| None).unwrap();
        Engine::new(config).0.live()
    }

    /// What the origin gets for a request: target and fields.
    fn sent(live: &Live, target: &str, fields: &[(&str, &str)], peer: &str) -> Vec<String> {
        let fields = testing::fields(fields);
        let visitor = Request {
            host: "Example.com",
            peer: peer.parse::<IpAddr>().unwrap(),
            ..testing::get(target, &fields)
        };
        let facts = Facts::of(&visitor);
        let mut key = KeyBuf::default();
        let notes = crate::fill::Notes::new(1 << 20);
        let head = match plan(live, &notes, &visitor, &facts, &mut key) {
            Plan::Page(wanted) => {
                *ask(live, &visitor, &facts, &key, &wanted).head(None, "learnt").unwrap()
            }
            Plan::Bypass(route, _) => {
                let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
                for field in &fields {
                    head.append_header(field.name.to_owned(), field.value.to_vec()).unwrap();
                }
                request(&mut head, &visitor, live, &route).unwrap();
                head
            }
            Plan::Webhook => panic!("it is none"),
        };
        let mut lines = vec![head.uri.to_string()];
        for (name, value) in &head.headers {
            lines.push(format!("{name}: {}", value.to_str().unwrap()));
        }
        lines[1..].sort();
        lines
    }

    /// A field of a visitor, and whether the origin gets it: for a page, on `ssr`,
    /// and on `pass`.
    const FIELDS: &[(&str, [bool; 3])] = &[
        // What applications need.
        ("Authorization", [false, true, true]),
        ("Content-Type", [false, true, true]),
        ("Cookie", [false, true, true]),
        ("Origin", [false, true, true]),
        ("User-Agent", [false, true, true]),
        ("X-Api-Key", [false, true, true]),
        ("X-Custom", [false, true, true]),
        // What is of this request, and not of a fill.
        ("Accept-Encoding", [false, false, true]),
        ("If-Match", [false, false, true]),
        ("If-Modified-Since", [false, false, true]),
        ("If-None-Match", [false, false, true]),
        ("If-Range", [false, false, true]),
        ("If-Unmodified-Since", [false, false, true]),
        ("Range", [false, false, true]),
        // What is declared.
        ("Accept-Language", [true, true, true]),
        ("CF-IPCountry", [true, true, false]),
        // What no visitor should send.
        ("CF-Connecting-IP", [false, false, false]),
        ("Client-IP", [false, false, false]),
        ("Fastly-Client-IP", [false, false, false]),
        ("Forwarded", [false, false, false]),
        ("Front-End-Https", [false, false, false]),
        ("Proxy", [false, false, false]),
        ("Surrogate-Capability", [false, false, false]),
        ("True-Client-IP", [false, false, false]),
        ("X-Envoy-Original-Path", [false, false, false]),
        ("X-Forwarded-Path", [false, false, false]),
        ("X-Forwarded-Port", [false, false, false]),
        ("X-Forwarded-Prefix", [false, false, false]),
        ("X-Forwarded-Scheme", [false, false, false]),
        ("X-Forwarded-Server", [false, false, false]),
        ("X-Forwarded-Ssl", [false, false, false]),
        ("X-Forwarded-Uri", [false, false, false]),
        ("X-HTTP-Host-Override", [false, false, false]),
        ("X-HTTP-Method-Override", [false, false, false]),
        ("X-Host", [false, false, false]),
        ("X-Matched-Path", [false, false, false]),
        ("X-Method-Override", [false, false, false]),
        ("X-Middleware-Subrequest", [false, false, false]),
        ("X-Original-Host", [false, false, false]),
        ("X-Original-URI", [false, false, false]),
        ("X-Original-URL", [false, false, false]),
        ("X-Real-IP", [false, false, false]),
        ("X-Rewrite-URL", [false, false, false]),
        ("X-Scheme", [false, false, false]),
        ("X-Script-Name", [false, false, false]),
        ("X-Url-Scheme", [false, false, false]),
        ("X.Forwarded.Host", [false, false, false]),
        ("X_Forwarded_Host", [false, false, false]),
        ("any_field", [false, false, false]),
        // What the configuration says.
        ("My_Field", [false, true, true]),
        ("X-Debug", [false, false, false]),
        ("X-HTTP-Method", [false, true, true]),
        ("X-User", [false, false, false]),
    ];

    #[tokio::test]
    async fn what_an_origin_is_sent() {
        let live = live();
        for (way, path) in ["/page", "/ssr", "/pass"].into_iter().enumerate() {
            for (name, passes) in FIELDS {
                // With it a page goes to its origin as on `pass`.
                if *name == "Authorization" && path == "/page" {
                    continue;
                }
                let sent = sent(&live, path, &[(name, "visitor-says")], "192.0.2.1");
                let there = sent.iter().any(|line| {
                    line.contains("visitor-says")
                        && line.starts_with(&format!("{}:", name.to_ascii_lowercase()))
                });
                assert_eq!(there, passes[way], "{name} to {path}: {sent:?}");
                let leaked = sent.iter().any(|line| line.contains("visitor-says"));
                assert_eq!(leaked, there, "{name} to {path}: {sent:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_set_here_is_set_here() {
        let live = live();
        let spoofed = [
            ("Host", "evil.example"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-For", "2.2.2.2"),
            ("X-Forwarded-Host", "evil.example"),
            ("X-Forwarded-Proto", "https"),
            ("X-User", "root"),
            ("Via", "1.1 other"),
        ];
        let ours = |host: &str, target: &str, more: &[&str]| {
            let mut lines = vec![
                format!("host: {host}"),
                format!("x-forwarded-host: {host}"),
                "x-forwarded-proto: http".to_owned(),
            ];
            lines.extend(more.iter().map(|line| (*line).to_owned()));
            lines.sort();
            lines.insert(0, target.to_owned());
            lines
        };
        let via = format!("via: {}", live.via.member());
        let via = via.as_str();
        let page = ["accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", via];
        let agent = format!("user-agent: {}", live.preset.agent());
        for (peer, addresses, user) in [
            // Of a stranger only the address is known.
            ("192.0.2.1", "x-forwarded-for: 192.0.2.1", None),
            // A trusted proxy is believed what the configuration names.
            ("10.0.0.1", "x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.1", Some("x-user: root")),
        ] {
            let wanted = ours("example.com", "/page", &[&page[..], &[&agent]].concat());
            assert_eq!(sent(&live, "/page", &spoofed, peer), wanted, "{peer}");
            let user: Vec<&str> = user.into_iter().collect();
            let wanted = ours("example.com", "/ssr", &[&[addresses, via], &*user].concat());
            assert_eq!(sent(&live, "/ssr", &spoofed, peer), wanted, "{peer}");
            let through = [addresses, "via: 1.1 other", via];
            let wanted = ours("Example.com", "/pass", &[&through, &*user].concat());
            assert_eq!(sent(&live, "/pass", &spoofed, peer), wanted, "{peer}");
        }
    }

    /// The parameter that no key has is sent as it was learnt, or not at all.
    #[tokio::test]
    async fn the_query_is_sent_as_it_is_keyed() {
        let live = live();
        let rsc = [("RSC", "1")];
        for (target, fields, origin) in [
            ("/page?_rsc=evil&a=1", &[][..], "/page"),
            ("/page?_rsc=evil", &rsc[..], "/page?_rsc=learnt"),
            ("/ssr?_rsc=evil&a=1&_rsc=evil", &[][..], "/ssr?a=1"),
            ("/ssr?%5Frsc=evil&_%72sc&_rsc", &[][..], "/ssr"),
            ("/ssr?%5Frsc=evil&a=%5Frsc", &[][..], "/ssr?a=%5Frsc"),
            ("/ssr?my_rsc=1&_rsc2=2&_RSC=3", &[][..], "/ssr?my_rsc=1&_rsc2=2&_RSC=3"),
            ("/ssr?a=1&%5frsc=evil", &rsc[..], "/ssr?a=1&_rsc=learnt"),
            ("/ssr?_rsc=evil", &rsc[..], "/ssr?_rsc=learnt"),
            ("/pass?_rsc=own&a=1", &rsc[..], "/pass?_rsc=own&a=1"),
        ] {
            assert_eq!(sent(&live, target, fields, "192.0.2.1")[0], origin, "{target}");
        }
    }

    /// `Connection` takes away what is of one hop, never what made the key.
    #[tokio::test]
    async fn connection_takes_nothing_away_that_is_keyed() {
        let live = live();
        let fields = [
            ("Connection", "X-Hop, Accept-Language, RSC, CF-IPCountry"),
            ("X-Hop", "1"),
            ("Accept-Language", "de,  en;q=0.50"),
            ("RSC", "1"),
        ];
        let sent = sent(&live, "/ssr", &fields, "192.0.2.1");
        assert!(sent.contains(&"accept-language: de, en;q=0.5".to_owned()), "{sent:?}");
        assert!(sent.contains(&"rsc: 1".to_owned()), "{sent:?}");
        assert!(!sent.iter().any(|line| line.contains("hop")), "{sent:?}");
    }

    /// A response as the origin sends it, whether it was asked for a WebSocket or under a
    /// condition, and what goes on, if anything does.
    type Passed = (&'static str, bool, Option<&'static str>);

    const RESPONSES: &[Passed] = &[
        (
            "HTTP/1.0 200 Fine\r\nDate: x\r\nX-A: 1\r\nContent-Length: 5",
            false,
            Some("HTTP/1.1 200\r\nDate: x\r\nX-A: 1\r\ncontent-length: 5"),
        ),
        (
            "HTTP/1.1 200 OK\r\nDate: x\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\nUpgrade: h2c\r\nProxy-Connection: close",
            false,
            Some("HTTP/1.1 200\r\nDate: x"),
        ),
        (
            "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\nContent-Length: 5",
            false,
            Some("HTTP/1.1 200\r\nDate: x\r\ncontent-length: 5"),
        ),
        (
            "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5, 5\r\nETag: \"e\"",
            false,
            Some("HTTP/1.1 200\r\nDate: x\r\netag: \"e\"\r\ncontent-length: 5"),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 6", false, None),
        ("HTTP/1.1 200 OK\r\nContent-Length: x", false, None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked", false, None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity", false, None),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            false,
            None,
        ),
        (
            "HTTP/1.1 204 No Content\r\nDate: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            false,
            Some("HTTP/1.1 204\r\nDate: x"),
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nDate: x\r\nContent-Length: 5\r\nTransfer-Encoding: gzip",
            true,
            Some("HTTP/1.1 304\r\nDate: x\r\ncontent-length: 5"),
        ),
        ("HTTP/1.1 304 Not Modified\r\nDate: x", false, None),
        (
            "HTTP/1.1 205 Reset Content\r\nDate: x\r\nContent-Length: 0",
            false,
            Some("HTTP/1.1 205\r\nDate: x\r\ncontent-length: 0"),
        ),
        (
            "HTTP/1.1 205 Reset Content\r\nDate: x\r\nContent-Length: 5",
            false,
            Some("HTTP/1.1 205\r\nDate: x\r\ncontent-length: 0"),
        ),
        (
            "HTTP/1.1 205 Reset Content\r\nDate: x\r\nTransfer-Encoding: chunked",
            false,
            Some("HTTP/1.1 205\r\nDate: x\r\ncontent-length: 0"),
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: X-A\r\nX-A: 1",
            false,
            Some("HTTP/1.1 103\r\nLink: </a>"),
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket", false, None),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c", true, None),
        ("HTTP/1.0 101 Switching Protocols\r\nUpgrade: websocket", true, None),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\nContent-Length: 0",
            true,
            Some(
                "HTTP/1.1 101\r\nSec-WebSocket-Accept: x\r\nconnection: Upgrade\r\nupgrade: websocket",
            ),
        ),
    ];

    #[test]
    fn what_was_asked() {
        for (name, upgrade, conditional) in [
            ("Accept", false, false),
            ("Range", false, false),
            ("Upgrade", true, false),
            ("If-None-Match", false, true),
            ("If-Modified-Since", false, true),
            ("If-Match", false, true),
            ("If-Unmodified-Since", false, true),
            ("If-Range", false, true),
        ] {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            head.append_header(name, "x").unwrap();
            let asked = Conditions::by(&head);
            assert_eq!((asked.upgrade, asked.conditional), (upgrade, conditional), "{name}");
        }
    }

    #[tokio::test]
    async fn what_a_visitor_is_passed() {
        let live = live();
        let route = Arc::clone(live.routes.find("a", "/pass"));
        for (came, asked, goes) in RESPONSES {
            let mut lines = came.split("\r\n");
            let status = lines.next().unwrap();
            let code = status.split(' ').nth(1).unwrap().parse::<u16>().unwrap();
            let mut head = ResponseHeader::build(code, None).unwrap();
            if status.starts_with("HTTP/1.0") {
                head.set_version(Version::HTTP_10);
            }
            for line in lines {
                let (name, value) = line.split_once(": ").unwrap();
                head.append_header(name.to_owned(), value).unwrap();
            }
            let shape = Shape {
                route: &route,
                page: false,
                audience: Audience::One,
                preset: &live.preset,
                status: head.status,
                compressible: false,
                received: "RECEIVED",
            };
            let asked = Conditions { upgrade: *asked, conditional: *asked };
            let got = response(&mut head, asked, &shape).ok().map(|()| {
                let mut out = format!("{:?} {}", head.version, head.status.as_u16()).into_bytes();
                out.extend_from_slice(b"\r\n");
                head.header_to_h1_wire(&mut out);
                out.truncate(out.len() - 2);
                String::from_utf8(out).unwrap()
            });
            let plain = |head: &str| head.to_ascii_lowercase();
            assert_eq!(got.as_deref().map(plain), goes.map(plain), "{came:?}");
        }
    }
}
