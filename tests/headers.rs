//! Header fields in both directions: what of a visitor's request reaches the
//! origin, and what of an origin's response reaches visitors.

use crate::support::http1::Broken;
use crate::support::{Break, Edge, Origin, Response, client, origin};

const ROUTES: &str = "
- path: /isr/**
  isr: { revalidate: 60s }
- path: /noted/**
  isr: { revalidate: origin }
- path: /pass/**
  pass: {}
- path: /**
  ssr: {}
";

async fn edge(origin: &Origin) -> Edge {
    Edge::start(ROUTES.trim_start(), origin).await
}

/// An edge with these lines of configuration, and [`ROUTES`].
async fn edge_with(origin: &Origin, lines: &str) -> Edge {
    Edge::start(&format!("{}\nroutes:{ROUTES}", lines.trim()), origin).await
}

// 13. What is not keyed is not sent.

/// What the origin renders shows the query that it was sent.
async fn echo_of_the_query() -> Origin {
    Origin::serve(|request: &origin::Request| {
        let payload = request.header("rsc") == Some("1");
        let body = format!("asked for {}", request.target);
        if payload {
            Response::status(200).header("Content-Type", "text/x-component").body(body)
        } else {
            Response::html(body)
        }
        .cache("s-maxage=60")
        .header("Vary", "RSC")
    })
    .await
}

#[tokio::test]
async fn a_visitors_rsc_value_reaches_no_stored_page() {
    for path in ["/ssr", "/isr/a", "/noted/a"] {
        for name in ["_rsc", "%5Frsc", "_%72s%63", "%5frsc"] {
            for payload in [false, true] {
                let origin = echo_of_the_query().await;
                let edge = edge_with(&origin, "framework: nextjs").await;
                let client = edge.client().ssr();
                let ask = |target: &str| {
                    let ask = client.get(target);
                    if payload { ask.header("RSC", "1") } else { ask }
                };
                for target in [
                    format!("{path}?{name}=PWNED%22"),
                    format!("{path}?a=1&{name}=PWNED&b=2&{name}"),
                ] {
                    let answer = ask(&target).await;
                    assert!(!answer.text().contains("PWNED"), "{answer}");
                }
                let answer = ask(&format!("{path}?_rsc=my-own")).await;
                assert_eq!(answer.x_cache(), "HIT", "it is the same page: {answer}");
                assert!(!answer.text().contains("PWNED"), "{answer}");
                for request in origin.requests() {
                    let target = request.target.to_ascii_lowercase();
                    assert!(!target.contains("pwned") && !target.contains("%5f"), "{target}");
                }
            }
        }
    }
}

/// A path that counts as server-rendered is asked for with all of the query but
/// that.
#[tokio::test]
async fn a_visitors_rsc_value_is_not_sent_to_a_noted_path() {
    let origin = Origin::serve(|request: &origin::Request| {
        Response::html(format!("asked for {}", request.target)).cache("private")
    })
    .await;
    let edge = edge_with(&origin, "framework: nextjs").await;
    let client = edge.client().ssr();
    for _ in 0..3 {
        let answer = client.get("/noted/a?q=1&%5Frsc=PWNED&_rsc=PWNED").await;
        assert!(answer.cache_status().contains("detail=server-rendered"), "{answer}");
        assert_eq!(answer.text(), "asked for /noted/a?q=1");
    }
}

/// Where the origin insists on its own value it is learnt, once for what it is of.
#[tokio::test]
async fn payloads_on_ssr_are_asked_for_with_the_learnt_value() {
    let origin = Origin::serve(|request: &origin::Request| {
        let mark = format!("of-{}", request.header("next-router-state-tree").unwrap_or("none"));
        if request.target != format!("/p?a=1&_rsc={mark}") {
            let location = format!("/p?a=1&_rsc={mark}");
            return Response::status(307).header("Location", &location);
        }
        let payload = Response::status(200).header("Content-Type", "text/x-component");
        payload.body(mark).cache("no-store")
    })
    .await;
    let edge = edge_with(&origin, "framework: nextjs").await;
    let client = edge.client().ssr();
    for (tree, requests) in [("one", 2), ("one", 3), ("two", 5), ("one", 6), ("two", 7)] {
        let ask = client.get("/p?_rsc=made-up&a=1").header("RSC", "1");
        let answer = ask.header("Next-Router-State-Tree", tree).await;
        answer.is(200, "MISS", &format!("of-{tree}"));
        assert_eq!(origin.total(), requests, "{tree}");
    }
}

// 14. Fields that no visitor should send.

const SPOOFED: &[&str] = &[
    "CF-Connecting-IP",
    "Forwarded",
    "Front-End-Https",
    "Proxy",
    "Surrogate-Capability",
    "True-Client-IP",
    "X-Envoy-Original-Path",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Path",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X-Forwarded-Scheme",
    "X-Forwarded-Uri",
    "X-HTTP-Method",
    "X-HTTP-Method-Override",
    "X-Host",
    "X-Middleware-Subrequest",
    "X-Original-URI",
    "X-Original-URL",
    "X-Real-IP",
    "X-Rewrite-URL",
    "X-Scheme",
    "X-Script-Name",
    "X-Url-Scheme",
    "X_Forwarded_Host",
    "X_FORWARDED_PROTO",
    "x.forwarded.host",
];

fn spoofed(mut ask: client::Ask) -> client::Ask {
    for name in SPOOFED {
        ask = ask.header(name, "spoofed");
    }
    ask
}

/// On every way to the origin: pages, server-rendered ones, what is passed
/// through, and what passes by the cache.
#[tokio::test]
async fn no_visitor_says_what_only_proxies_say() {
    let origin = Origin::serve(|_| Response::html("page").cache("no-store")).await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let custom = |ask: client::Ask| {
        spoofed(ask)
            .header("Cookie", "me=1")
            .header("X-Custom", "1")
            .header("Accept-Encoding", "br")
    };
    for path in ["/isr/a", "/a", "/pass/a", "/noted/a"] {
        custom(client.get(path)).await;
    }
    custom(client.post("/isr/a", "body")).header("Content-Type", "text/plain").await;
    custom(client.post("/pass/a", "body")).header("Content-Type", "text/plain").await;
    custom(client.get("/isr/a")).header("Authorization", "Basic x").await;
    custom(client.ask("HEAD", "/pass/a")).await;
    let requests = origin.requests();
    assert!(requests.len() >= 8);
    for request in &requests {
        let sent = format!("{request}");
        assert!(!sent.contains("spoofed"), "{sent}");
        assert_eq!(request.header("x-forwarded-host"), Some("example.com"), "{sent}");
        assert_eq!(request.header("x-forwarded-proto"), Some("http"), "{sent}");
    }
    // What the application needs is there.
    let posts: Vec<_> = requests.iter().filter(|request| request.method == "POST").collect();
    assert_eq!(posts.len(), 2);
    for post in posts {
        assert_eq!(&*post.body, b"body");
        for (name, value) in [("cookie", "me=1"), ("x-custom", "1"), ("content-type", "text/plain")]
        {
            assert_eq!(post.header(name), Some(value), "{post}");
        }
        assert_eq!(post.header("x-forwarded-for"), Some("127.0.0.1"), "{post}");
        assert_eq!(post.header("accept-encoding"), Some("br"), "{post}");
    }
}

/// An origin that answers ESI to who says that it can do it: nobody can here.
#[tokio::test]
async fn what_a_visitor_says_of_proxies_is_in_no_stored_page() {
    let origin = Origin::serve(|request: &origin::Request| {
        let esi = request.fields.has("surrogate-capability");
        let cgi = |name: &str| name.replace(['-', '.'], "_").to_ascii_uppercase();
        let host = request
            .fields
            .iter()
            .filter(|(name, _)| cgi(name) == "X_FORWARDED_HOST")
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .last();
        let body = if esi { "<esi:include/>" } else { "page" };
        Response::html(format!("{body} at {}", host.unwrap_or_default())).cache("s-maxage=60")
    })
    .await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for path in ["/a", "/isr/a"] {
        spoofed(client.get(path)).await.is(200, "MISS", "page at example.com");
        client.get(path).await.is(200, "HIT", "page at example.com");
    }
}

#[tokio::test]
async fn the_configuration_lets_fields_through_and_takes_others_away() {
    let origin = Origin::serve(|_| Response::html("page").cache("no-store")).await;
    let lines = "
trusted_proxies: [127.0.0.1/32]
request_fields: { allow: [X-HTTP-Method-Override, My_Field], trust: [X-Forwarded-For, X-User], drop: [X-Debug] }";
    let trusting = edge_with(&origin, lines).await;
    let strange = edge_with(&origin, &lines.replace("127.0.0.1/32", "192.0.2.0/24")).await;
    for (edge, trusted) in [(&trusting, true), (&strange, false)] {
        for path in ["/a", "/pass/a"] {
            let ask = edge.client().ssr().get(path);
            ask.header("X-HTTP-Method-Override", "PATCH")
                .header("My_Field", "1")
                .header("Other_Field", "1")
                .header("X-User", "bob")
                .header("X-Real-IP", "1.1.1.1")
                .header("X-Debug", "1")
                .header("X-Forwarded-For", "1.1.1.1, 2.2.2.2")
                .await;
            let request = origin.requests().pop().unwrap();
            assert_eq!(request.header("x-http-method-override"), Some("PATCH"), "{request}");
            assert_eq!(request.header("my_field"), Some("1"), "{request}");
            assert_eq!(request.header("x-user"), trusted.then_some("bob"), "{request}");
            for name in ["other_field", "x-debug", "x-real-ip"] {
                assert_eq!(request.header(name), None, "{request}");
            }
            let addresses = if trusted { "1.1.1.1, 2.2.2.2, 127.0.0.1" } else { "127.0.0.1" };
            assert_eq!(request.header("x-forwarded-for"), Some(addresses), "{request}");
        }
    }
}

/// Whoever comes past the proxies could say the same as they do.
#[tokio::test]
async fn what_varies_on_the_word_of_proxies_is_for_one_visitor() {
    let origin = Origin::serve(|request: &origin::Request| {
        let whose = request.header("x-forwarded-for").unwrap_or("nobody").to_owned();
        Response::html(whose).cache("max-age=60").header("Vary", "X-Forwarded-For")
    })
    .await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for _ in 0..2 {
        let answer = client.get("/a").await;
        answer.is(200, "MISS", "127.0.0.1");
        assert!(answer.cache_status().contains("detail=vary-star"), "{answer}");
    }
    client.get("/a").header("X-Forwarded-For", "127.0.0.1").await.is(200, "MISS", "127.0.0.1");
    // What is in the key chooses nothing more, and what is not sent chooses nothing.
    let vary = "X-Forwarded-Proto, X-Forwarded-Host, Host, X-Real-IP, X_Foo, Accept-Encoding";
    let page = Response::html("page").cache("max-age=60").header("Vary", vary);
    origin.on("/b").reply(page);
    client.get("/b").await.is(200, "MISS", "page");
    let ask = client.get("/b").header("X-Forwarded-Proto", "https").header("X-Real-IP", "1.1.1.1");
    ask.header("X_Foo", "1").header("Accept-Encoding", "made-up").await.is(200, "HIT", "page");
}

/// A visitor cannot have a field dropped by which their request is keyed.
#[tokio::test]
async fn connection_drops_nothing_that_is_keyed() {
    let origin = Origin::serve(|request: &origin::Request| {
        let language = request.header("accept-language").unwrap_or("none").to_owned();
        Response::html(language).cache("s-maxage=60")
    })
    .await;
    let edge = Edge::start("- path: /**\n  ssr: {}\n  vary: [accept-language]\n", &origin).await;
    let client = edge.client().ssr();
    let ask = client.get("/a").header("Accept-Language", "de");
    ask.header("Connection", "Accept-Language").await.is(200, "MISS", "de");
    client.get("/a").header("Accept-Language", "DE").await.is(200, "HIT", "de");
}

// 16. What is passed through is cleaned.

/// The test's client checks on every answer that nothing of one hop is there.
#[tokio::test]
async fn what_is_passed_through_is_cleaned() {
    let rows: &[(&str, &str)] = &[
        (
            "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Authenticate: Basic\r\nTrailer: X-T\r\nContent-Length: 5\r\n\r\nhello",
            "hello",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", "hello"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nhello", "hello"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", ""),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: gzip\r\nETag: \"x\"\r\n\r\n", ""),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nTransfer-Encoding: chunked\r\n\
             Content-Length: 5\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "hello",
        ),
    ];
    for (raw, body) in rows {
        let origin = Origin::start().await;
        let edge = edge(&origin).await;
        let client = edge.client().ssr();
        origin.on("/pass/a").raw(*raw);
        // A connection of its own: its bytes are looked at below.
        let mut wire = client.connect().await;
        wire.send("GET /pass/a HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
        let answer = wire.answer("GET").await.unwrap_or_else(|e| panic!("{raw:?}: {e:?}"));
        assert_eq!(answer.text(), *body, "{raw:?}");
        for name in ["x-hop", "keep-alive", "trailer", "proxy-authenticate"] {
            assert_eq!(answer.header(name), None, "{raw:?}");
        }
        if matches!(answer.status, 204 | 304) {
            assert!(!answer.fields.has("transfer-encoding"), "{answer}");
        }
        for (_, fields) in &answer.interim {
            let names: Vec<_> = fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
            assert_eq!(names, ["link"], "{raw:?}");
        }
        origin.on("/pass/b").raw(*raw);
        wire.send("GET /pass/b HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n").await;
        let bytes = wire.until_closed().await;
        let head = String::from_utf8_lossy(&bytes);
        assert!(head.starts_with("HTTP/1.1 "), "{raw:?} became {head}");
    }
}

#[tokio::test]
async fn a_response_whose_end_is_uncertain_is_not_passed_on() {
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 9\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        for path in ["/pass/a", "/a", "/isr/a"] {
            let origin = Origin::start().await;
            let edge = edge(&origin).await;
            origin.on(path).raw(raw);
            let answer = edge.client().ssr().get(path).await;
            assert_eq!(answer.status, 502, "{raw:?} on {path}: {answer}");
            assert!(!answer.text().contains("hello"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_101_is_for_who_asked_for_a_websocket() {
    let accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: x\r\n\r\n";
    let other = accept.replace("Upgrade: websocket", "Upgrade: h2c");
    let old = accept.replace("HTTP/1.1", "HTTP/1.0");
    for (raw, status) in [(accept, 101), (&*other, 502), (&*old, 502)] {
        let origin = Origin::start().await;
        let edge = edge(&origin).await;
        origin.on("/pass/a").raw(raw.to_owned());
        let ask = edge.client().ssr().get("/pass/a").header("Upgrade", "websocket");
        let answer = ask.header("Connection", "Upgrade").stream().await;
        assert_eq!(answer.status, status, "{raw:?}");
        if status == 101 {
            assert_eq!(answer.header("upgrade"), Some("websocket"));
            assert_eq!(answer.fields.list("connection"), ["upgrade"]);
            assert_eq!(answer.header("sec-websocket-accept"), Some("x"));
        }
    }
}

/// `TE` is of one hop, and what breaks off never looks whole.
#[tokio::test]
async fn what_breaks_off_never_looks_whole_whatever_te_says() {
    for path in ["/pass/a", "/a"] {
        for te in ["identity", "trailers", "chunked;q=0", "gzip, identity;q=0"] {
            for response in [
                Response::html("0123456789").cache("no-store"),
                Response::html("0123456789").cache("no-store").chunked(),
            ] {
                let origin = Origin::start().await;
                let edge = edge(&origin).await;
                origin.on(path).reply(response.break_after(5, Break::Fin));
                let ask = edge.client().ssr().get(path).header("TE", te);
                let outcome = ask.header("Connection", "TE").outcome().await;
                let broken = matches!(outcome, Err(Broken::Short | Broken::Failed(_)));
                assert!(broken, "{path} {te}: {outcome:?}");
                assert_eq!(origin.requests()[0].header("te"), None);
            }
        }
    }
}

/// One function makes what visitors see: whichever way a response takes, fields
/// for this cache end here, and fields for other caches go on.
#[tokio::test]
async fn fields_for_other_caches_go_on_whichever_way_a_response_takes() {
    let origin = Origin::serve(|request: &origin::Request| {
        let cache = if request.path().ends_with("private") { "private" } else { "max-age=60" };
        Response::html("x")
            .cache(cache)
            .header("CDN-Cache-Control", cache)
            .header("Cache-Groups", "\"a\"")
            .header("Surrogate-Key", "a")
            .header("Cache-Tag", "a")
            .header("X-Cache", "HIT from origin")
            .header("X-Custom", "1")
    })
    .await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for path in ["/a", "/a", "/private", "/pass/a", "/pass/private"] {
        let answer = client.get(path).await;
        for (name, there) in [
            ("cache-control", true),
            ("cdn-cache-control", true),
            ("cache-groups", true),
            ("x-custom", true),
            ("surrogate-key", false),
            ("cache-tag", false),
        ] {
            assert_eq!(answer.fields.has(name), there, "{name}: {answer}");
        }
        assert_eq!(answer.fields.all("x-cache").count(), 1, "{answer}");
    }
    // On a page route they are for nobody else.
    for path in ["/isr/a", "/isr/a", "/isr/private"] {
        let answer = client.get(path).await;
        for name in ["cache-groups", "surrogate-key", "cache-tag"] {
            assert!(!answer.fields.has(name), "{name}: {answer}");
        }
    }
}

/// Informational responses of a fill are cleaned like those that are passed on.
#[tokio::test]
async fn early_hints_of_a_fill_are_cleaned() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let hop = [("Link", "</a>"), ("Connection", "X-Hop"), ("X-Hop", "1"), ("Content-Length", "5")];
    origin.on("/a").reply(Response::html("page").cache("no-store").after_interim(103, &hop));
    let answer = edge.client().ssr().get("/a").await;
    answer.is(200, "MISS", "page");
    let [(103, fields)] = &answer.interim[..] else { panic!("{:?}", answer.interim) };
    let names: Vec<_> = fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert_eq!(names, ["link"]);
}
