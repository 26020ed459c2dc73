//! Header fields in both directions: what of a client's request reaches the
//! origin, and what of an origin's response reaches clients.

use std::io::Write as _;
use std::time::Duration;

use perennial::{clock, rules::date};

use crate::support::http1::Broken;
use crate::support::{Break, Edge, Origin, Response, client, eventually, origin};

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

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(plain).expect("a Vec takes it");
    out.finish().expect("a Vec takes it")
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(plain).expect("a Vec takes it");
    out.finish().expect("a Vec takes it")
}

fn br(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let params = brotli::enc::BrotliEncoderParams { quality: 4, ..Default::default() };
    brotli::BrotliCompress(&mut &*plain, &mut out, &params).expect("a Vec takes it");
    out
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 3).expect("it fits")
}

fn coded(coding: &str, body: Vec<u8>) -> Response {
    Response::html(body).header("Content-Encoding", coding)
}

/// A page of some length.
fn page() -> String {
    (0..400).map(|n| format!("<p>paragraph {n}</p>")).collect()
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
    let edge = edge_with(&origin, "framework: nextjs\ndeployment: { probe: off }").await;
    let client = edge.client().ssr();
    for (tree, requests) in [("one", 2), ("one", 3), ("two", 5), ("one", 6), ("two", 7)] {
        let ask = client.get("/p?_rsc=made-up&a=1").header("RSC", "1");
        let answer = ask.header("Next-Router-State-Tree", tree).await;
        answer.is(200, "MISS", &format!("of-{tree}"));
        assert_eq!(origin.total(), requests, "{tree}");
    }
}

// 14. Fields that no client should send.

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

/// A client cannot have a field dropped by which their request is keyed.
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

// 15. Codings.

/// An origin that codes for who takes it, as most do.
fn negotiating(request: &origin::Request) -> Response {
    let gzipped = request.fields.list("accept-encoding").iter().any(|coding| coding == "gzip");
    let response =
        if gzipped { coded("gzip", gzip(page().as_bytes())) } else { Response::html(page()) };
    response.header("Vary", "Accept-Encoding").cache("s-maxage=60")
}

#[tokio::test]
async fn six_browsers_are_one_render() {
    for path in ["/a", "/isr/a"] {
        let origin = Origin::serve(negotiating).await;
        let edge = edge(&origin).await;
        let client = edge.client().ssr();
        for (n, codings) in [
            "gzip, deflate, br, zstd",
            "gzip, deflate, br",
            "gzip, deflate",
            "br;q=1.0, gzip;q=0.8, *;q=0.1",
            "identity",
            "",
        ]
        .into_iter()
        .enumerate()
        {
            let answer = client.get(path).header("Accept-Encoding", codings).await;
            assert_eq!(answer.x_cache(), if n == 0 { "MISS" } else { "HIT" }, "{answer}");
        }
        client.get(path).await.is(200, "HIT", &page());
        assert_eq!(origin.total(), 1);
        assert_eq!(origin.requests()[0].header("accept-encoding"), None);
    }
}

#[tokio::test]
async fn made_up_codings_evict_nothing() {
    let origin = Origin::serve(negotiating).await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    client.get("/a").await.is(200, "MISS", &page());
    for n in 0..40 {
        let codings = format!("made-up-{n}, x{n};q=0.{n}");
        client.get("/a").header("Accept-Encoding", &codings).await.is(200, "HIT", &page());
    }
    assert_eq!(origin.total(), 1);
}

#[tokio::test]
async fn the_origin_is_asked_for_gzip_where_the_configuration_says_so() {
    let origin = Origin::serve(negotiating).await;
    let lines = "origins:\n  web: { servers: ['{origin}'], encoding: gzip }";
    let edge = edge_with(&origin, lines).await;
    let client = edge.client().ssr();
    for path in ["/a", "/isr/a", "/noted/a"] {
        let answer = client.get(path).header("Accept-Encoding", "br;q=0, zstd").await;
        answer.is(200, "MISS", &page());
        client.get(path).await.is(200, "HIT", &page());
        let request = origin.requests().pop().unwrap();
        assert_eq!(request.header("accept-encoding"), Some("gzip"), "{request}");
    }
    assert_eq!(origin.total(), 3);
    // Passed through, the client and the origin agree on it among themselves.
    let answer = client.get("/pass/a").header("Accept-Encoding", "x, gzip").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.header("accept-encoding"), Some("x, gzip"), "{request}");
    let answer = client.get("/pass/a").await;
    assert_eq!((answer.header("content-encoding"), answer.text()), (None, &*page()));
}

/// It is stored as it is, under a tag of its own, and the origin is asked with
/// the tag that is the origin's.
#[tokio::test]
async fn what_comes_coded_unasked_is_decoded() {
    let long_ago = date::format(clock::now().minus(Duration::from_secs(100)));
    for (coding, encode) in [
        ("gzip", gzip as fn(&[u8]) -> Vec<u8>),
        ("X-GZip", gzip),
        ("deflate", deflate),
        ("br", br),
        ("zstd", zstd),
    ] {
        for path in ["/a", "/isr/a"] {
            for chunked in [false, true] {
                let origin = Origin::start().await;
                let edge = edge(&origin).await;
                let client = edge.client().ssr();
                let body = encode(page().as_bytes());
                let render = coded(coding, body)
                    .header("ETag", "\"of-coded-bytes\"")
                    .header("Content-Digest", "sha-256=:AAAA:")
                    .header("Accept-Ranges", "bytes")
                    .header("Date", &long_ago)
                    .cache("s-maxage=50, stale-while-revalidate=600");
                origin.on(path).reply(if chunked { render.chunked() } else { render });
                let first = client.get(path).await;
                first.is(200, "MISS", &page());
                assert_eq!(first.header("content-encoding"), None, "{first}");
                assert_eq!(first.header("content-digest"), None, "{first}");
                assert_eq!(first.header("etag"), Some("W/\"of-coded-bytes\""), "{first}");
                // Stale: the origin is asked whether it still holds.
                let fresh = Response::status(304).header("ETag", "\"of-coded-bytes\"");
                let again = origin
                    .on(path)
                    .when("with the origin's own tag", |request| {
                        request.header("if-none-match") == Some("\"of-coded-bytes\"")
                    })
                    .reply(fresh.header("Content-Encoding", coding).cache("s-maxage=60"));
                client.get(path).await.is(200, "STALE", &page());
                again.reached().await;
                let known = eventually("the renewed page", || async {
                    let answer = client.get(path).await;
                    (answer.x_cache() == "HIT").then_some(answer)
                })
                .await;
                known.is(200, "HIT", &page());
                assert_eq!(known.header("content-encoding"), None, "{known}");
                let etag = known.header("etag").unwrap();
                assert!(etag.starts_with("W/\"of-coded-bytes"), "{etag}");
                let asked = client.get(path).header("If-None-Match", etag).await;
                assert_eq!(asked.status, 304, "{asked}");
                // A weak tag is no ground for a part (RFC 9110 §13.1.5).
                let ask = client.get(path).header("Range", "bytes=0-3");
                let whole = ask.header("If-Range", "\"of-coded-bytes\"").await;
                assert_eq!(whole.status, 200, "{whole}");
                // And it is coded anew, for who takes that.
                eventually("the compressed page", || async {
                    let ask = client.get(path).header("Accept-Encoding", "gzip");
                    ask.await.header("content-encoding").is_some().then_some(())
                })
                .await;
                assert_eq!(origin.total(), 2);
            }
        }
    }
}

/// What is not stored is decoded while it comes, too.
#[tokio::test]
async fn a_private_response_that_comes_coded_is_decoded_as_it_comes() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let head = coded("gzip", Vec::new()).cache("no-store").header("ETag", "W/\"x\"");
    let turn = origin.on("/a").stream(head);
    let visitor = tokio::spawn(edge.client().ssr().get("/a").stream());
    turn.reached().await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut sent = 0;
    let mut piece = |encoder: &mut flate2::write::GzEncoder<Vec<u8>>| {
        let new = encoder.get_ref()[sent..].to_vec();
        sent += new.len();
        new
    };
    encoder.write_all(b"first, ").unwrap();
    encoder.flush().unwrap();
    turn.send(piece(&mut encoder)).await;
    let mut stream = visitor.await.unwrap();
    assert_eq!((stream.header("content-encoding"), stream.header("etag")), (None, Some("W/\"x\"")));
    stream.expect("first, ").await;
    encoder.write_all(b"second").unwrap();
    encoder.try_finish().unwrap();
    turn.send(piece(&mut encoder)).await;
    stream.expect("second").await;
    turn.finish().await;
    assert_eq!(stream.rest().await.unwrap(), "");
}

#[tokio::test]
async fn a_coded_body_that_is_not_whole_is_an_error() {
    let whole = gzip(page().as_bytes());
    let half = whole[..whole.len() / 2].to_vec();
    for path in ["/a", "/isr/a"] {
        for body in [half.clone(), page().into_bytes()] {
            let origin = Origin::start().await;
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            origin.on(path).reply(coded("gzip", body).cache("s-maxage=60"));
            let outcome = client.get(path).outcome().await;
            assert!(matches!(outcome, Err(Broken::Short | Broken::Failed(_))), "{outcome:?}");
            origin.on(path).reply(coded("gzip", whole.clone()).cache("s-maxage=60"));
            client.get(path).await.is(200, "MISS", &page());
        }
    }
}

#[tokio::test]
async fn a_coding_that_nobody_knows_goes_to_who_takes_it_and_to_nobody_else() {
    for path in ["/a", "/isr/a"] {
        for (coding, accepted) in [("compress", "gzip, compress"), ("gzip, br", "gzip, br;q=0.1")] {
            let origin = Origin::start().await;
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            let odd = || coded(coding, b"odd".to_vec()).cache("s-maxage=60");
            origin.on(path).always().reply(odd());
            for codings in [None, Some(""), Some("gzip"), Some("compress;q=0, br, *;q=0")] {
                let mut ask = client.get(path);
                if let Some(codings) = codings {
                    ask = ask.header("Accept-Encoding", codings);
                }
                let answer = ask.await;
                assert_eq!((answer.status, answer.x_cache()), (502, "MISS"), "{answer}");
                assert!(answer.cache_status().contains("detail=coding"), "{answer}");
            }
            for _ in 0..2 {
                let answer = client.get(path).header("Accept-Encoding", accepted).await;
                answer.is(200, "MISS", "odd");
                assert_eq!(answer.header("content-encoding"), Some(coding), "{answer}");
                let status = answer.cache_status();
                assert!(status.contains("detail=content-encoding"), "{answer}");
            }
            // An error, too, which is otherwise for all who wait.
            origin.on(path).reply(odd().with_status(500));
            assert_eq!(client.get(path).await.status, 502);
        }
    }
}

/// What is stored stays where a regeneration brings what nobody can read.
#[tokio::test]
async fn an_unknown_coding_takes_no_page_away() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client();
    origin.on("/isr/a").reply(Response::html("page"));
    client.get("/isr/a").await.is(200, "MISS", "page");
    edge.revalidate("path=/isr/a&mode=stale").await;
    let odd = origin.on("/isr/a").reply(coded("compress", b"odd".to_vec()));
    client.get("/isr/a").await.is(200, "STALE", "page");
    odd.ended().await;
    eventually("the back-off", || async {
        let answer = client.get("/isr/a").await;
        answer.is(200, "STALE", "page");
        answer.cache_status().contains("detail=backoff").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_decompression_bomb_fails_as_too_large() {
    let zeros = vec![0; 8 << 20];
    for (coding, encode) in
        [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("deflate", deflate), ("br", br), ("zstd", zstd)]
    {
        let bomb = encode(&zeros);
        for (path, cache) in [("/a", "s-maxage=60"), ("/isr/a", "s-maxage=60"), ("/b", "no-store")]
        {
            let origin = Origin::start().await;
            let edge = edge_with(&origin, "cache: { max_object: 1MiB }").await;
            let client = edge.client().ssr();
            origin.on(path).reply(coded(coding, bomb.clone()).cache(cache));
            let mut stream = client.get(path).stream().await;
            let mut size = 0;
            let end = loop {
                match stream.next().await {
                    Ok(Some(piece)) => size += piece.len(),
                    end => break end,
                }
            };
            let broken = matches!(end, Err(Broken::Short | Broken::Failed(_)));
            assert!(broken && size <= 2 << 20, "{coding} {path}: {end:?} after {size}");
            eventually("the reason", || async {
                let metric = "perennial_not_stored_total{reason=\"too-large\"}";
                (edge.metric(metric).await == 1.0).then_some(())
            })
            .await;
            origin.on(path).reply(Response::html("page").cache("s-maxage=60"));
            client.get(path).await.is(200, "MISS", "page");
        }
    }
}

/// Text that outgrows what is stored goes through, as it does when it is not coded.
#[tokio::test]
async fn a_large_coded_page_is_passed_through() {
    let mut text = String::new();
    let mut n = 1u32;
    while text.len() < 3 << 20 {
        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(&format!("<p>{n}</p>"));
    }
    let origin = Origin::start().await;
    let edge = edge_with(&origin, "cache: { max_object: 1MiB }").await;
    origin.on("/isr/a").times(2).reply(coded("gzip", gzip(text.as_bytes())));
    for _ in 0..2 {
        edge.client().get("/isr/a").await.is(200, "MISS", &text);
    }
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
        let fields = "Host: example.com\r\nIf-None-Match: \"x\"";
        wire.send(format!("GET /pass/a HTTP/1.1\r\n{fields}\r\n\r\n")).await;
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
        wire.send(format!("GET /pass/b HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n")).await;
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

/// An origin that never comes to its final response.
#[tokio::test]
async fn interim_responses_have_an_end_whichever_way_they_take() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    for (path, method) in
        [("/pass/a", "GET"), ("/pass/a", "POST"), ("/a", "GET"), ("/isr/a", "GET")]
    {
        for (hints, status) in [(16, 200), (17, 502), (1000, 502)] {
            let origin = Origin::start().await;
            let edge = edge(&origin).await;
            origin.on(path).raw(format!("{}{page}", hint.repeat(hints)));
            let answer = edge.client().ssr().ask(method, path).await;
            assert_eq!(answer.status, status, "{hints} on {path}: {answer}");
            assert!(answer.interim.len() <= 16, "{hints} on {path}: {answer}");
            if status == 502 {
                assert_eq!(answer.cache_status(), "perennial; detail=reset");
            } else if path == "/pass/a" {
                assert_eq!(answer.interim.len(), hints);
            }
        }
    }
}

/// RFC 9110 §15.3.6. The client's connection goes on: nothing of the body is on it.
#[tokio::test]
async fn a_205_has_no_content_whichever_way_it_takes() {
    let head = "HTTP/1.1 205 Reset Content\r\nCache-Control: max-age=60\r\n";
    for (path, stored) in [("/pass/a", false), ("/a", true), ("/isr/a", false)] {
        for rest in [
            "Content-Length: 0\r\n\r\n",
            "Content-Length: 0\r\n\r\nhello",
            "Content-Length: 5\r\n\r\nhello",
            "Content-Length: 5\r\nContent-Encoding: gzip\r\n\r\nhello",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello",
            "\r\n",
        ] {
            let origin = Origin::start().await;
            let edge = edge(&origin).await;
            let mut wire = edge.client().ssr().connect().await;
            let ask = format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n");
            origin.on(path).raw(format!("{head}{rest}"));
            for n in 0..2 {
                wire.send(&ask).await;
                let answer = wire.answer("GET").await.unwrap_or_else(|e| panic!("{rest:?}: {e:?}"));
                assert_eq!(answer.status, 205, "{rest:?} on {path}: {answer}");
                assert_eq!(answer.header("content-length"), Some("0"), "{rest:?} on {path}");
                assert!(!answer.fields.has("transfer-encoding"), "{answer}");
                assert_eq!(answer.x_cache() == "HIT", n == 1 && stored, "{answer}");
                if n == 0 && !stored {
                    origin.on(path).raw(format!("{head}{rest}"));
                }
            }
        }
    }
}

/// Bytes after a 205 are not taken for the next response.
#[tokio::test]
async fn what_follows_a_205_is_no_response_to_the_next_request() {
    let late = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for path in ["/pass/", "/", "/isr/"] {
        // Where it is sure where the 205 ends, its connection may be used again.
        for (reset, closes) in [
            (Response::status(205), false),
            (Response::status(205).body(late).claim_length(0), true),
            (Response::status(205).body(late), path != "/pass/"),
            (Response::status(205).body(late).chunked(), path != "/pass/"),
        ] {
            let origin = Origin::start().await;
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            origin.on(&format!("{path}a")).reply(reset);
            let answer = client.get(&format!("{path}a")).await;
            assert_eq!((answer.status, answer.text()), (205, ""), "{answer}");
            for n in 0..3 {
                let path = format!("{path}{n}");
                origin.on(&path).reply(Response::html("page"));
                let answer = client.get(&path).await;
                assert_eq!((answer.status, answer.text()), (200, "page"), "{answer}");
            }
            assert!(!closes || origin.connections() > 1, "{path}");
        }
    }
}

/// Who sent no condition has nothing that a 304 could be about.
#[tokio::test]
async fn a_304_is_for_who_asked_under_a_condition() {
    let raw = "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n";
    for (method, path, name, status) in [
        ("GET", "/pass/a", "Accept", 502),
        ("HEAD", "/pass/a", "Accept", 502),
        ("POST", "/pass/a", "Accept", 502),
        ("GET", "/pass/a", "If-None-Match", 304),
        ("HEAD", "/pass/a", "If-None-Match", 304),
        ("GET", "/pass/a", "If-Modified-Since", 304),
        // Past the cache.
        ("GET", "/isr/a", "Authorization", 502),
        ("POST", "/a", "Accept", 502),
        // A fill sends no condition of a client's, and has none of its own here.
        ("GET", "/a", "Accept", 502),
        ("GET", "/a", "If-None-Match", 502),
        ("HEAD", "/a", "Accept", 502),
        ("GET", "/isr/a", "Accept", 502),
        ("GET", "/noted/a", "Accept", 502),
    ] {
        let origin = Origin::start().await;
        let edge = edge(&origin).await;
        origin.on(path).raw(raw);
        let answer = edge.client().ssr().ask(method, path).header(name, "\"x\"").await;
        assert_eq!(answer.status, status, "{method} {path} with {name}: {answer}");
        if status == 502 {
            assert_eq!(answer.cache_status(), "perennial; detail=reset", "{answer}");
        }
    }
    // Where the configuration takes the condition away, the origin was not asked under one.
    let origin = Origin::start().await;
    let edge = edge_with(&origin, "request_fields: { drop: [If-None-Match] }").await;
    origin.on("/pass/a").raw(raw);
    let ask = edge.client().ssr().get("/pass/a").header("If-None-Match", "\"x\"");
    assert_eq!(ask.await.status, 502);
}

/// A stored page that has no validator is not renewed by a 304: nothing was asked.
#[tokio::test]
async fn a_304_renews_no_page_that_was_asked_for_without_conditions() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client();
    origin.on("/isr/a").reply(Response::html("old"));
    client.get("/isr/a").await.is(200, "MISS", "old");
    origin.on("/isr/a").times(2).reply(Response::status(304));
    assert_eq!(edge.revalidate("path=/isr/a&mode=stale").await.status, 200);
    client.get("/isr/a").await.is(200, "STALE", "old");
    eventually("the back-off", || async {
        let answer = client.get("/isr/a").await;
        answer.is(200, "STALE", "old");
        answer.cache_status().contains("detail=backoff").then_some(())
    })
    .await;
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

/// One function makes what clients see: whichever way a response takes, fields
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

/// What fails a condition on a stored response without a body is itself one with a length: without
/// it, the client would wait for the connection to close.
#[tokio::test]
async fn a_failed_condition_on_a_stored_204_has_a_length() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    origin.on("/a").reply(Response::status(204).cache("s-maxage=60"));
    let client = edge.client().ssr();
    assert_eq!(client.get("/a").await.status, 204);
    for method in ["GET", "HEAD"] {
        let answer = client.ask(method, "/a").header("If-Match", "\"other\"").await;
        assert_eq!((answer.status, answer.header("content-length")), (412, Some("0")), "{answer}");
    }
}
