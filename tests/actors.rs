//! The actors themselves, each against the other: what a test relies on when
//! it says that Perennial did something.

use std::sync::Arc;

use crate::support::http1::Broken;
use crate::support::origin::End;
use crate::support::{Break, Client, Origin, Response, eventually};

/// An origin and a client that asks it directly.
async fn pair() -> (Origin, Client) {
    let origin = Origin::start().await;
    let client = Client::new(origin.addr()).plain();
    (origin, client)
}

#[tokio::test]
async fn turns_are_taken_in_order_and_requests_recorded() {
    let (origin, client) = pair().await;
    origin.on("/p").method("POST").with("content-type", "TEXT").reply(Response::status(204));
    origin.on("/p").reply(Response::html("one").cache("s-maxage=60"));
    origin.on("/p").reply(Response::json("2").with_status(404));
    origin.on("/p?q=1").reply(Response::html("queried"));

    let one = client.get("/p").header("X-Who", "me").await;
    assert_eq!((one.status, one.text()), (200, "one"));
    assert_eq!(one.header("cache-control"), Some("s-maxage=60"));
    assert_eq!(client.post("/p", "form").header("Content-Type", "text/plain").await.status, 204);
    assert_eq!(client.get("/p").await.status, 404);
    assert_eq!(client.get("/p?q=1").await.text(), "queried");

    assert_eq!((origin.total(), origin.count("/p")), (4, 4));
    assert_eq!(origin.connections(), 1, "the client keeps its connection");
    let first = &origin.requests()[0];
    assert_eq!((first.header("x-who"), first.connection), (Some("me"), 0));
    assert_eq!(origin.wait_for(2).await.body, "form");
    origin.check();
}

#[tokio::test]
async fn an_unexpected_request_is_a_complaint() {
    let (origin, client) = pair().await;
    assert_eq!(client.get("/nobody").await.status, 500);
    let complaints = origin.forgive();
    assert!(complaints[0].contains("GET /nobody"), "{complaints:?}");
}

#[tokio::test]
#[should_panic(expected = "no request took the turn \"/p\" (2 left)")]
async fn a_turn_that_nobody_takes_fails_the_test() {
    let (origin, client) = pair().await;
    origin.on("/p").times(3).reply(Response::html("one"));
    client.get("/p").await;
}

#[tokio::test]
#[should_panic(expected = "unexpected request")]
async fn an_unexpected_request_fails_the_test() {
    let (_origin, client) = pair().await;
    client.get("/p").await;
}

#[tokio::test]
async fn what_always_stands_comes_after_what_is_counted() {
    let (origin, client) = pair().await;
    origin.any().always().reply(Response::html("old"));
    origin.any().always().reply_with(|request| Response::html(request.target.clone()));
    origin.on("/p").times(2).reply(Response::html("counted"));
    for expected in ["counted", "counted", "/p"] {
        assert_eq!(client.get("/p").await.text(), expected);
    }
}

#[tokio::test]
async fn an_answer_waits_for_its_release() {
    let (origin, client) = pair().await;
    let held = origin.on("/p").hold(Response::html("late"));
    assert!(!held.is_reached());
    let answer = tokio::spawn(client.get("/p").into_future());
    assert_eq!(held.reached().await.target, "/p");
    assert!(!answer.is_finished());
    held.release();
    assert_eq!(answer.await.unwrap().text(), "late");
    assert_eq!(held.ended().await, End::Done);
}

#[tokio::test]
async fn every_framing_is_read() {
    let (origin, client) = pair().await;
    let page = || Response::html("a page");
    origin.on("/length").reply(page());
    origin.on("/chunked").reply(page().chunked().trailer("X-End", "yes"));
    origin.on("/close").reply(page().until_close());
    origin.on("/none").reply(Response::status(304).header("ETag", "\"a\""));
    origin.on("/length").method("HEAD").reply(page());
    for path in ["/length", "/chunked", "/close"] {
        assert_eq!(client.get(path).await.text(), "a page");
    }
    assert_eq!(client.get("/none").await.status, 304);
    let head = client.head("/length").await;
    assert_eq!((head.text(), head.header("content-length")), ("", Some("6")));
    let upload = origin.on("/up").reply(Response::status(201));
    client.post("/up", vec![b'x'; 2500]).chunked().await;
    assert_eq!(upload.reached().await.body.len(), 2500);
}

#[tokio::test]
async fn interim_responses_come_first() {
    let (origin, client) = pair().await;
    let hints = [("Link", "</a.css>; rel=preload")];
    origin.on("/p").reply(Response::html("x").after_interim(103, &hints));
    let page = client.get("/p").await;
    assert_eq!((page.status, page.interim[0].0), (200, 103));
    assert_eq!(page.interim[0].1.get("link"), Some(hints[0].1));
}

#[tokio::test]
async fn a_body_is_streamed_piece_by_piece() {
    let (origin, client) = pair().await;
    let sse = origin.on("/events").stream(Response::status(200).body("zero "));
    let mut events = client.get("/events").stream().await;
    assert_eq!(events.status, 200);
    events.expect("zero ").await;
    sse.send("one ").await;
    events.expect("one ").await;
    sse.send("two").await;
    assert_eq!(events.byte().await, Some(b't'));
    sse.finish().await;
    assert_eq!(events.rest().await.unwrap(), "wo");
    assert_eq!(sse.written(), 12);

    let last = origin.on("/last").stream(Response::status(200).until_close());
    let mut stream = client.get("/last").stream().await;
    assert_eq!(stream.header("connection"), Some("close"));
    last.send("x").await;
    last.finish().await;
    assert_eq!(stream.next().await.unwrap().unwrap(), "x");
    assert_eq!(stream.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_visitor_who_leaves_is_noticed() {
    let (origin, client) = pair().await;
    let held = origin.on("/held").hold(Response::html(""));
    let streamed = origin.on("/streamed").stream(Response::status(200));
    let silent = origin.on("/silent").silence();
    let waiting = tokio::spawn(client.get("/held").into_future());
    held.reached().await;
    waiting.abort();
    drop(client.get("/streamed").stream().await);
    let mut raw = client.connect().await;
    raw.send(client.get("/silent").to_bytes()).await;
    silent.reached().await;
    raw.reset();
    for turn in [held, streamed, silent] {
        assert_eq!(turn.ended().await, End::PeerLeft);
    }
    origin.wait_closed().await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_no_response() {
    let (origin, client) = pair().await;
    let page = || Response::html("0123456789");
    let length = page().break_after(4, Break::Fin);
    origin.on("/fin").reply(length.clone());
    origin.on("/fin").reply(length.chunked());
    origin.on("/rst").reply(page().claim_length(11).break_after(4, Break::Rst));
    origin.on("/nothing").break_off(Break::Fin);
    origin.on("/raw").raw("SSH-2.0-OpenSSH\r\n\r\n");
    origin.on("/lf").raw("HTTP/1.1 200 OK\nContent-Length: 0\n\n");
    origin
        .on("/both")
        .raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    for path in ["/fin", "/fin"] {
        assert_eq!(client.get(path).outcome().await.unwrap_err(), Broken::Short);
    }
    let reset = client.get("/rst").outcome().await.unwrap_err();
    assert_eq!(reset, Broken::Failed(std::io::ErrorKind::ConnectionReset));
    assert_eq!(client.get("/nothing").outcome().await.unwrap_err(), Broken::Nothing);
    for path in ["/raw", "/lf", "/both"] {
        let broken = client.get(path).outcome().await.unwrap_err();
        assert!(matches!(broken, Broken::Garbage(_)), "{path}: {broken:?}");
    }
    let streamed = origin.on("/stream").stream(Response::html("begun"));
    let mut stream = client.get("/stream").stream().await;
    stream.expect("begun").await;
    streamed.send_raw("5\r\nfir").await;
    streamed.break_off(Break::Fin).await;
    assert_eq!(stream.rest().await.unwrap_err(), Broken::Short);
}

#[tokio::test]
async fn connections_are_refused_and_accepted_on_the_same_port() {
    let (origin, client) = pair().await;
    origin.any().times(2).reply(Response::html("x"));
    client.get("/").await;
    origin.refuse().await;
    let refused = tokio::net::TcpStream::connect(origin.addr()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    origin.accept().await;
    // The connection that was idle was closed: the client makes another one.
    client.get("/").await;
    assert_eq!(origin.connections(), 2);
    assert!(origin.url().starts_with("http://127.0.0.1:"));
}

#[tokio::test]
async fn a_visitor_who_does_not_read_is_felt() {
    let (origin, client) = pair().await;
    let flood = origin.on("/flood").endless(Response::status(200), vec![0; 64 * 1024]);
    let mut slow = client.get("/flood").narrow().stream().await;
    assert_eq!(slow.byte().await, Some(0));
    // The origin stands still once the kernel's buffers are full.
    let mut before = u64::MAX;
    eventually("the origin to stand still", || {
        let now = flood.written();
        let still = now == std::mem::replace(&mut before, now) && now > 0;
        async move { still.then_some(()) }
    })
    .await;
    assert!(flood.written() < 32 * 1024 * 1024, "the kernel holds no more than that");
    slow.reset();
    assert_eq!(flood.ended().await, End::PeerLeft);
}

#[tokio::test]
async fn raw_connections_pipeline_and_half_close() {
    let origin = Origin::serve(|request| Response::html(request.target.clone())).await;
    let client = Client::new(origin.addr()).plain().host("a.example");
    let mut raw = client.connect().await;
    let mut both = client.get("/a").to_bytes();
    both.extend(client.get("/b").to_bytes());
    for byte in both {
        raw.send([byte]).await;
    }
    assert_eq!(raw.answer("GET").await.unwrap().text(), "/a");
    assert_eq!(raw.answer("GET").await.unwrap().text(), "/b");
    assert_eq!(origin.requests()[1].header("host"), Some("a.example"));
    raw.half_close().await;
    assert_eq!(raw.until_closed().await, "");
}

#[tokio::test]
async fn an_upgraded_connection_echoes() {
    let (origin, client) = pair().await;
    let switch = Response::status(101).header("Connection", "upgrade").header("Upgrade", "echo");
    origin.on("/ws").with("upgrade", "echo").echo(switch);
    let ask = client.get("/ws").header("Connection", "upgrade").header("Upgrade", "echo");
    let mut socket = ask.stream().await;
    assert_eq!((socket.status, socket.interim.len()), (101, 0));
    socket.write(b"hello").await;
    socket.expect("hello").await;
}

#[tokio::test]
async fn what_no_origin_should_get_is_a_complaint() {
    let (origin, client) = pair().await;
    origin.any().always().reply(Response::status(200));
    for (field, value, named) in [
        ("Keep-Alive", "timeout=5", "keep-alive"),
        ("Upgrade", "websocket", "upgrade"),
        ("Connection", "X-Hop", "x-hop"),
        ("Host", "twice", "Host"),
    ] {
        let host = ("Host", "once");
        client.get("/").header(host.0, host.1).header(field, value).header("X-Hop", "1").await;
        let complaints = origin.forgive();
        assert!(complaints.len() == 1 && complaints[0].contains(named), "{complaints:?}");
        origin.any().always().reply(Response::status(200));
    }
}

/// A response as Perennial sends it, for the rows below.
fn hit() -> Response {
    Response::html("x")
        .header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .header("Cache-Status", "perennial; hit; ttl=41")
        .header("X-Cache", "HIT")
        .header("Age", "19")
}

/// The same, but not from the store.
fn other(x_cache: &str, cache_status: &str) -> Response {
    Response::html("x")
        .header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .header("X-Cache", x_cache)
        .header("Cache-Status", cache_status)
}

/// Asks an origin that answers like Perennial, and gives what the checks say.
async fn verdict(answer: Response, ask: impl Fn(&Client) -> crate::support::client::Ask) -> String {
    let origin = Origin::serve(move |_| answer.clone()).await;
    let client = Client::new(origin.addr());
    let ask = ask(&client);
    match tokio::spawn(ask.into_future()).await {
        Ok(_) => String::new(),
        Err(panicked) => *panicked.into_panic().downcast::<String>().expect("a message"),
    }
}

#[tokio::test]
async fn the_client_accepts_what_perennial_may_send() {
    for answer in [
        hit(),
        hit().header("Server", "nginx"),
        other("MISS", "perennial; fwd=uri-miss; fwd-status=200; stored"),
        other("MISS", "perennial; fwd=uri-miss; fwd-status=200; collapsed; detail=private"),
        other("MISS", "upstream; hit, perennial; fwd=vary-miss; fwd-status=200; stored"),
        other("STALE", "perennial; hit; ttl=-3; detail=regenerating").header("Age", "63"),
        other("REVALIDATED", "perennial; fwd=stale; fwd-status=304; stored; ttl=60"),
        other("BYPASS", "perennial; fwd=bypass; detail=pass"),
        other("BYPASS", "perennial; fwd=method"),
        other("BYPASS", "perennial; detail=webhook"),
        other("MISS", "perennial; detail=timeout").with_status(504),
    ] {
        assert_eq!(verdict(answer, |client| client.get("/p")).await, "");
    }
    let leaky = hit().header("Cache-Tag", "a").header("CDN-Cache-Control", "max-age=1");
    let forgiving = |client: &Client| client.clone().ssr().tags_forwarded().get("/p");
    assert_eq!(verdict(leaky, forgiving).await, "");
    let coded = hit().header("Content-Encoding", "br").header("Vary", "Accept, Accept-Encoding");
    let accepts = |client: &Client| client.get("/p").header("Accept-Encoding", "gzip, br;q=0.5");
    assert_eq!(verdict(coded, accepts).await, "");
    let plain = other("HIT", "perennial; hit; ttl=9").header("Cache-Control", "max-age=9");
    assert_eq!(verdict(plain, |client| client.clone().browser_route().get("/p")).await, "");
}

#[tokio::test]
async fn a_response_says_what_perennial_said_of_it() {
    let origin = Origin::serve(|_| hit()).await;
    let page = Client::new(origin.addr()).get("/p").await;
    page.is(200, "HIT", "x");
    assert_eq!((page.x_cache(), page.age()), ("HIT", Some(19)));
    assert_eq!(page.cache_status(), "perennial; hit; ttl=41");
}

#[tokio::test]
async fn the_client_refuses_what_perennial_may_not_send() {
    let ranged = || hit().with_status(206);
    for (answer, complaint) in [
        (Response::html("x"), "no Cache-Status"),
        (hit().header("X-Cache", "HIT"), "several x-cache"),
        (hit().header("Age", "20"), "several age"),
        (hit().header("Keep-Alive", "timeout=5"), "hop-by-hop field keep-alive"),
        (hit().header("Connection", "x-hop"), "Connection: x-hop"),
        (hit().header("Surrogate-Key", "a b"), "surrogate-key leaked"),
        (hit().header("CDN-Cache-Control", "max-age=1"), "cdn-cache-control leaked"),
        (hit().header("Server", "Pingora"), "Server: Pingora"),
        (hit().header("ETag", "abc"), "an ETag without quotes"),
        (hit().header("Content-Encoding", "gzip"), "did not ask for"),
        (hit().with_status(416), "416 without Content-Range"),
        (ranged(), "206 of no range"),
        (ranged().header("Content-Range", "bytes 0-1/9"), "Content-Range and the body disagree"),
        (other("HIT", "perennial; hit; ttl=41"), "without Age"),
        (other("HIT", "perennial; fwd=stale").header("Age", "1"), "disagree"),
        (other("STALE", "perennial; hit; ttl=3; detail=backoff").header("Age", "1"), "disagree"),
        (other("MISS", "perennial; fwd=uri-miss"), "disagree"),
        (other("BYPASS", "nginx; fwd=bypass"), "no Cache-Status"),
        (other("MISS", "perennial; detail=timeout"), "disagree"),
        (other("MISS", "perennial; fwd=miss; stored").header("Age", "-1"), "Age is no number"),
        (hit().header("Content-Length", "1"), "ambiguous framing"),
        (hit().claim_length(0), "bytes beyond the answer"),
    ] {
        let verdict = verdict(answer, |client| client.get("/p")).await;
        assert!(verdict.contains(complaint), "expected {complaint:?}, got {verdict:?}");
    }
}

#[tokio::test]
async fn many_ask_at_once() {
    let origin = Origin::serve(|request| Response::html(request.path().to_owned())).await;
    let client = Arc::new(Client::new(origin.addr()).plain());
    let asked: Vec<_> =
        (0..300).map(|n| (n, tokio::spawn(client.get(&format!("/{n}")).into_future()))).collect();
    for (n, answer) in asked {
        assert_eq!(answer.await.unwrap().text(), format!("/{n}"));
    }
    assert_eq!(origin.total(), 300);
}
