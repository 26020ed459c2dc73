//! What clients do with their connections, and what they are told of them:
//! half-closed and stalled ones, tunnels, error pages, loops; and how all of it
//! is counted.

use crate::support::edge::SECRET;
use crate::support::origin::End;
use crate::support::{Client, Edge, Origin, Response, eventually};

const ROUTES: &str = "
routes:
- path: /isr/**
  isr: { revalidate: 60s }
- path: /noted/**
  isr: { revalidate: origin }
- path: /pass/**
  pass: {}
- path: /**
  ssr: {}
";

/// An edge in front of one origin, with these options of the origin and these keys.
async fn edge(origin: &Origin, options: &str, keys: &str) -> Edge {
    let yaml =
        format!("origins:\n  web: {{ servers: [\"{{origin}}\"], {options} }}\n{keys}\n{ROUTES}");
    Edge::start(&yaml, origin).await
}

/// How many requests were counted on a route.
async fn counted(edge: &Edge, route: &str, outcome: &str, class: &str) -> f64 {
    let labels = format!("outcome=\"{outcome}\",route=\"{route}\",status=\"{class}\"");
    edge.metric(&format!("perennial_requests_total{{{labels}}}")).await
}

/// Waits until so many were.
async fn until_counted(edge: &Edge, route: &str, outcome: &str, class: &str, n: f64) {
    eventually(format!("{n} {outcome} {class} on {route}"), async || {
        (counted(edge, route, outcome, class).await == n).then_some(())
    })
    .await;
}

const SWITCH: &str = "websocket";

fn switching() -> Response {
    Response::status(101).header("Connection", "upgrade").header("Upgrade", SWITCH)
}

fn websocket(client: &Client, path: &str) -> crate::support::client::Ask {
    client.get(path).header("Connection", "Upgrade").header("Upgrade", SWITCH)
}

/// After 101 nothing of HTTP goes through a tunnel: it is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_idles_is_closed_without_a_word() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "idle_timeout: 1s", "").await;
    for path in ["/pass/ws", "/ws"] {
        let turn = origin.on(path).with("upgrade", "websocket").echo(switching());
        let mut socket = websocket(&edge.client().ssr(), path).stream().await;
        assert_eq!(socket.status, 101);
        socket.write(b"hello").await;
        socket.expect("hello").await;
        assert_eq!(socket.rest().await.unwrap(), "", "no error page, and no reset");
        assert_eq!(turn.ended().await, End::PeerLeft);
    }
    assert_eq!(counted(&edge, "/**", "failed", "5xx").await, 0.0);
    until_counted(&edge, "/**", "bypass", "1xx", 1.0).await;
    until_counted(&edge, "/pass/**", "bypass", "1xx", 1.0).await;
}

/// `Upgrade` is passed on for WebSockets alone, and not on page routes; whatever else asks for
/// one is served as if it did not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_websockets_upgrade() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "", "").await;
    let client = edge.client().ssr();
    // On the noted ones the lifetime is what makes a page of them.
    let page = || Response::html("page").cache("s-maxage=60");
    let asks = [
        ("GET", "websocket", "Upgrade"),
        ("GET", "h2c, websocket", "keep-alive, Upgrade"),
        ("GET", "websocket", "keep-alive"),
        ("GET", "h2c", "Upgrade"),
        ("GET", "TLS/1.0", "Upgrade"),
        ("POST", "websocket", "Upgrade"),
    ];
    for (n, (method, upgrade, connection)) in asks.into_iter().enumerate() {
        for (route, may) in [("/pass", true), ("", true), ("/isr", false), ("/noted", false)] {
            let path = format!("{route}/{n}");
            let turn = origin.on(&path).reply(page());
            let ask = client.ask(method, &path);
            let answer = ask.header("Upgrade", upgrade).header("Connection", connection).await;
            assert_eq!((answer.status, answer.text()), (200, "page"), "{method} {path} {upgrade}");
            let passed = may && n < 2;
            let request = turn.reached().await;
            assert_eq!(request.header("upgrade"), passed.then_some("websocket"), "{request}");
            let asked = request.fields.list("connection").contains(&"upgrade".to_owned());
            assert_eq!(asked, passed, "{request}");
        }
    }
    // HTTP/1.0 has no such field.
    let turn = origin.on("/pass/old").reply(page());
    let mut old = client.connect().await;
    old.send("GET /pass/old HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await;
    assert_eq!(old.answer("GET").await.unwrap().text(), "page");
    assert!(!turn.reached().await.fields.has("upgrade"));
}

/// RFC 9112 §9.6: a client that sends no more may still read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_ends_the_sending_side_is_served() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "", "").await;
    let client = edge.client().ssr();
    for (path, x_cache) in [("/isr/a", "MISS"), ("/b", "MISS"), ("/pass/c", "BYPASS")] {
        let turn = origin.on(path).hold(Response::html("page").cache("s-maxage=60"));
        let mut half = client.connect().await;
        half.send(client.get(path).to_bytes()).await;
        turn.reached().await;
        half.half_close().await;
        // The edge asks whether it is still there; a client that left would be out by now.
        let left = client.connect().await;
        drop(left);
        turn.release();
        half.answer("GET").await.unwrap().is(200, x_cache, "page");
        assert_eq!(half.until_closed().await, "");
    }
    // A hit, and one that comes with its body and in chunks.
    let mut half = client.connect().await;
    half.send(client.get("/isr/a").to_bytes()).await;
    half.half_close().await;
    half.answer("GET").await.unwrap().is(200, "HIT", "page");
    for (n, chunked) in [false, true].into_iter().enumerate() {
        let path = format!("/pass/post/{n}");
        let turn = origin.on(&path).hold(Response::html("taken"));
        let post = client.post(&path, "body");
        let post = if chunked { post.chunked() } else { post };
        let mut half = client.connect().await;
        half.send(post.to_bytes()).await;
        assert_eq!(turn.reached().await.body, "body");
        half.half_close().await;
        turn.release();
        half.answer("POST").await.unwrap().is(200, "BYPASS", "taken");
    }
    assert_eq!(counted(&edge, "/**", "left", "4xx").await, 0.0);
}

/// A stream goes on to who only ended the sending side, and ends for who left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_for_who_left_and_for_nobody_else() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "", "").await;
    let client = edge.client().ssr();
    let events = || Response::status(200).header("Content-Type", "text/event-stream");
    for path in ["/events", "/pass/events"] {
        let turn = origin.on(path).stream(events().body("zero "));
        let mut half = client.connect().await;
        half.send(client.get(path).to_bytes()).await;
        turn.reached().await;
        half.half_close().await;
        for piece in ["one ", "two "] {
            turn.send(piece).await;
        }
        turn.finish().await;
        assert_eq!(half.answer("GET").await.unwrap().text(), "zero one two ");

        let turn = origin.on(path).stream(events().body("zero "));
        let mut leaves = client.get(path).stream().await;
        leaves.expect("zero ").await;
        drop(leaves);
        assert_eq!(turn.ended().await, End::PeerLeft, "nothing more is sent, and it ends");
    }
}

/// A client that leaves is no failure of anybody: 499, and an outcome of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_before_the_answer_is_counted_as_that() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "", "").await;
    let client = edge.client().ssr();
    for (path, route) in [("/isr/a", "/isr/**"), ("/b", "/**"), ("/pass/c", "/pass/**")] {
        for (n, resets) in [(1.0, false), (2.0, true)] {
            let turn = origin.on(path).hold(Response::html("page"));
            let mut leaves = client.connect().await;
            leaves.send(client.get(path).header("Cookie", "a=b").to_bytes()).await;
            turn.reached().await;
            if resets {
                leaves.reset();
            } else {
                drop(leaves);
            }
            until_counted(&edge, route, "left", "4xx", n).await;
            turn.release();
            turn.ended().await;
            if path == "/isr/a" {
                // What was rendered is stored all the same: forget it for the next one.
                eventually("the page", async || {
                    (edge.revalidate("path=/isr/a&mode=delete").await.status == 200).then_some(())
                })
                .await;
            }
        }
        for class in ["1xx", "4xx", "5xx"] {
            assert_eq!(counted(&edge, route, "failed", class).await, 0.0, "{route}");
        }
    }
    // In the middle of its own body.
    let mut leaves = client.connect().await;
    leaves.send("POST /pass/d HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nbody").await;
    drop(leaves);
    until_counted(&edge, "/pass/**", "left", "4xx", 3.0).await;
}

/// A body that stalls is the client's doing, whoever finds out first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stalls_is_408() {
    let origin = Origin::start().await;
    for (options, limits) in
        [("", "limits: { body_timeout: 100ms }"), ("idle_timeout: 100ms", "limits: {}")]
    {
        let edge = edge(&origin, options, limits).await;
        let client = edge.client().ssr();
        let heads = [
            "Content-Length: 9\r\n\r\nbody",
            "Content-Length: 9\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n4\r\nbo",
        ];
        for (n, head) in heads.into_iter().enumerate() {
            let mut stalls = client.connect().await;
            stalls.send(format!("POST /pass/a HTTP/1.1\r\nHost: h\r\n{head}")).await;
            let answer = stalls.answer("POST").await.unwrap();
            assert_eq!(
                (answer.status, answer.cache_status(), answer.header("connection")),
                (408, "perennial; detail=body-timeout", Some("close")),
                "{head} {answer}"
            );
            assert_eq!(stalls.until_closed().await, "");
            until_counted(&edge, "/pass/**", "failed", "4xx", (n + 1) as f64).await;
        }
        let open = "perennial_origin_breaker_open{origin=\"web\"}";
        assert_eq!(edge.metric(open).await, 0.0);
    }
    // The webhook reads a body of its own.
    let edge = edge(&origin, "", "limits: { body_timeout: 100ms }").await;
    let mut stalls = edge.client().ssr().connect().await;
    stalls.send("POST /__revalidate HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n").await;
    assert_eq!(stalls.answer("POST").await.unwrap().status, 408);
}

/// Error pages say what becomes of the connection, and keep it where they can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_pages_keep_the_connection_or_say_that_they_close() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "", "").await;
    origin.refuse().await;
    let client = edge.client().ssr();
    let large = format!("Content-Length: 100000\r\n\r\n{}", "x".repeat(1000));
    for (request, keeps) in [
        ("GET /isr/a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), true),
        ("GET /b HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), true),
        ("GET /pass/c HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), true),
        ("GET /pass/c HTTP/1.0\r\n\r\n".to_owned(), false),
        ("GET /pass/c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_owned(), false),
        ("POST /pass/d HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody".to_owned(), true),
        // What is left of the body would be taken for the next request.
        (format!("POST /pass/e HTTP/1.1\r\nHost: h\r\n{large}"), false),
    ] {
        let method = request.split(' ').next().unwrap().to_owned();
        let mut connection = client.connect().await;
        connection.send(&request).await;
        let answer = connection.answer(&method).await.unwrap();
        // The breaker may have opened meanwhile.
        assert!(matches!(answer.status, 502 | 503), "{answer}");
        let said = if keeps { "keep-alive" } else { "close" };
        assert_eq!(answer.header("connection"), Some(said), "{request}");
        if !keeps {
            assert_eq!(connection.until_closed().await, "");
            continue;
        }
        // And it is true.
        connection.send("GET /pass/again HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let again = connection.answer("GET").await.unwrap();
        assert!(matches!(again.status, 502 | 503), "{request} {again}");
    }
}

/// RFC 9112 §9.3: an HTTP/1.0 client that wants to keep the connection is told when it cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_to_http10_says_that_it_closes() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "", "").await;
    let client = edge.client().ssr();
    for path in ["/isr/a", "/b", "/pass/c"] {
        origin.on(path).reply(Response::html("page").chunked());
        let mut old = client.connect().await;
        let keep = "Connection: keep-alive\r\n\r\n";
        old.send(format!("GET {path} HTTP/1.0\r\nHost: h\r\n{keep}")).await;
        let answer = old.answer("GET").await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "page"));
        assert_eq!(answer.header("connection"), Some("close"), "{path}");
        assert_eq!(answer.header("transfer-encoding"), None);
    }
    // With a length it is kept.
    let mut old = client.connect().await;
    for _ in 0..2 {
        old.send("GET /isr/a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n").await;
        let answer = old.answer("GET").await.unwrap();
        assert_eq!(answer.header("connection"), Some("keep-alive"), "{answer}");
    }
}

/// RFC 9110 §10.1.1
#[tokio::test]
async fn the_webhook_invites_a_body_that_waits_to_be() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "", "").await;
    let body = format!("{{\"secret\":\"{SECRET}\",\"tag\":\"x\"}}");
    let head = format!(
        "POST /__revalidate HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut waits = edge.client().ssr().connect().await;
    waits.send(&head).await;
    waits.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    waits.send(&body).await;
    let answer = waits.answer("POST").await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")), "{answer}");
}

/// TRACE would show who asks what is added on the way; and a request may be told how far to go.
#[tokio::test]
async fn trace_goes_nowhere_and_options_as_far_as_it_may() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "", "").await;
    let client = edge.client().ssr();
    for path in ["/isr/a", "/b", "/pass/c", "/__revalidate"] {
        for method in ["TRACE", "trace"] {
            let answer = client.ask(method, path).header("Cookie", "secret=1").await;
            assert_eq!(answer.status, 405, "{answer}");
            assert!(answer.header("allow").is_some_and(|allow| !allow.contains("TRACE")));
        }
    }
    assert_eq!(origin.total(), 0);
    for path in ["/isr/a", "/b", "/pass/c"] {
        let here = client.ask("OPTIONS", path).header("Max-Forwards", "0").await;
        assert_eq!((here.status, here.text()), (200, ""), "{here}");
        assert!(here.header("allow").is_some_and(|allow| allow.contains("OPTIONS")), "{here}");
        assert_eq!(here.cache_status(), "perennial; detail=max-forwards");
        for (sent, passed) in [(Some("5"), Some("4")), (Some("1"), Some("0")), (None, None)] {
            let turn = origin.on(path).method("OPTIONS").reply(Response::status(204));
            let mut ask = client.ask("OPTIONS", path);
            if let Some(sent) = sent {
                ask = ask.header("Max-Forwards", sent);
            }
            assert_eq!(ask.await.status, 204);
            assert_eq!(turn.reached().await.header("max-forwards"), passed);
        }
    }
}

/// RFC 9111 §5.2.1.7: the 504 is what was asked for.
#[tokio::test]
async fn only_if_cached_is_no_failure_of_ours() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "", "").await;
    for (path, route) in [("/isr/a", "/isr/**"), ("/b", "/**")] {
        let ask = edge.client().ssr().get(path).header("Cache-Control", "only-if-cached");
        let answer = ask.await;
        assert_eq!(
            (answer.status, answer.cache_status()),
            (504, "perennial; detail=only-if-cached")
        );
        until_counted(&edge, route, "miss", "4xx", 1.0).await;
        assert_eq!(counted(&edge, route, "failed", "5xx").await, 0.0);
        assert_eq!(counted(&edge, route, "miss", "5xx").await, 0.0);
    }
}

/// An edge that is its own origin says so at the first round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_is_told_at_once() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "", "").await;
    let itself = format!("origins:\n  web: \"http://{}\"\n{ROUTES}", edge.addr());
    edge.reload(&itself, &origin);
    let client = edge.client().ssr();
    for path in ["/isr/a", "/noted/a", "/b", "/pass/c"] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, 508, "{answer}");
        assert!(answer.text().contains("Loop Detected"), "{answer}");
        let post = client.post(path, "body").await;
        assert_eq!(post.status, 508, "{post}");
    }
    // The inner requests; what the outer ones got is the origin's.
    until_counted(&edge, "", "failed", "5xx", 8.0).await;
    // What is stored is served to whoever asks, this edge included.
    edge.reload(&format!("origins:\n  web: \"{}\"\n{ROUTES}", origin.url()), &origin);
    let turn = origin.on("/pass/d").reply(Response::html("page"));
    client.get("/pass/d").await.is(200, "BYPASS", "page");
    let via = turn.reached().await.header("via").unwrap().to_owned();
    assert!(via.starts_with("1.1 perennial-"), "{via}");
    let looped = client.get("/isr/e").header("Via", &format!("1.0 cdn, {via}")).await;
    assert_eq!((looped.status, looped.cache_status()), (508, "perennial; detail=loop"));
}

/// One Perennial in front of another is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_edges_in_a_row_are_no_loop() {
    let origin = Origin::start().await;
    let inner = edge(&origin, "", "").await;
    let yaml = format!("origins:\n  web: \"http://{}\"\n{ROUTES}", inner.addr());
    let outer = Edge::start(&yaml, &origin).await;
    for path in ["/isr/a", "/noted/a", "/b", "/pass/c"] {
        // On a path of which it knows nothing, what the outer one sends goes first.
        let page = || Response::html("page").cache("s-maxage=60");
        let turn = origin.on(path).always().reply_with(move |_| page());
        let answer = outer.client().ssr().get(path).await;
        assert_eq!((answer.status, answer.text()), (200, "page"), "{answer}");
        let request = turn.reached().await;
        assert!(request.fields.all("via").all(|via| via.contains("perennial-")), "{request}");
    }
}

/// A probe for a new build that meets its own edge ends at once, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_of_the_build_does_not_loop() {
    let origin = Origin::serve(|_| Response::status(404)).await;
    let keys = "framework: nextjs\ndeployment: { probe: 50ms }";
    let edge = edge(&origin, "", keys).await;
    let itself = format!("origins:\n  web: \"http://{}\"\n{keys}\n{ROUTES}", edge.addr());
    edge.reload(&itself, &origin);
    eventually("two probes that end", async || {
        (counted(&edge, "", "failed", "5xx").await >= 2.0).then_some(())
    })
    .await;
}

/// The word of the origin may be there before pingora has seen the end of the request's body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_opens_however_fast_the_origin_is() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "", "").await;
    let client = edge.client().ssr();
    origin.any().always().echo(switching());
    let mut early = 0;
    for _ in 0..100 {
        let mut socket = websocket(&client, "/pass/ws").stream().await;
        socket.write(b"x").await;
        early += usize::from(!matches!(socket.next().await, Ok(Some(_))));
    }
    assert_eq!(early, 0);
}
