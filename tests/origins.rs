//! What stands between fills and their origins: places, the breaker, several
//! servers and their health; and how all of it ends (semantics §3, §6).

use std::future::IntoFuture;
use std::time::Duration;

use perennial::{clock, rules::date};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::client::{self, Ask};
use crate::support::{Break, Edge, Origin, Response, eventually};

const ROUTES: &str = "
routes:
- path: /isr/**
  isr: { revalidate: 60s }
- path: /dsg/**
  dsg: {}
- path: /pass/**
  pass: {}
- path: /**
  ssr: {}
";

/// An edge in front of one origin with these options.
async fn edge(origin: &Origin, options: &str) -> Edge {
    let yaml = format!("origins:\n  web: {{ servers: [\"{{origin}}\"], {options} }}\n{ROUTES}");
    Edge::start(&yaml, origin).await
}

/// An edge in front of an origin of two servers.
async fn two(a: &Origin, b: &Origin, options: &str) -> Edge {
    let yaml =
        format!("origins:\n  web: {{ servers: [\"{{a}}\", \"{{b}}\"], {options} }}\n{ROUTES}");
    Edge::with(&yaml, &[("a", a), ("b", b)]).await
}

/// A page that is stale when it arrives, as far as `isr` is concerned.
fn stale(body: &'static str) -> Response {
    let then = clock::now().minus(Duration::from_secs(100));
    Response::html(body).header("Date", &date::format(then))
}

fn go(ask: Ask) -> JoinHandle<client::Response> {
    tokio::spawn(ask.into_future())
}

/// Waits until so many fills run, and so many wait for a place.
async fn until_fills(edge: &Edge, state: &str, n: usize) {
    let name = format!("perennial_origin_fills{{origin=\"web\",state=\"{state}\"}}");
    eventually(format!("{n} fills {state}"), async || {
        (edge.metric(&name).await == n as f64).then_some(())
    })
    .await;
}

/// A client's miss goes ahead of background regenerations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_go_ahead_of_regenerations() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "max_concurrent_fills: 1").await;
    let client = edge.client();
    origin.on("/isr/old").reply(stale("old"));
    client.get("/isr/old").await.is(200, "MISS", "old");
    let first = origin.on("/isr/first").hold(Response::html("first"));
    let visitor = go(client.get("/isr/first"));
    first.reached().await;
    // The regeneration waits first, and two clients after it.
    client.get("/isr/old").await.is(200, "STALE", "old");
    until_fills(&edge, "waiting", 1).await;
    let visitors = [go(client.get("/isr/a")), go(client.get("/isr/b"))];
    until_fills(&edge, "waiting", 3).await;
    for path in ["/isr/a", "/isr/b", "/isr/old"] {
        origin.on(path).reply(Response::html("page"));
    }
    first.release();
    visitor.await.unwrap().is(200, "MISS", "first");
    for visitor in visitors {
        visitor.await.unwrap().is(200, "MISS", "page");
    }
    let order: Vec<String> = {
        origin.wait_for(5).await;
        origin.requests()[2..].iter().map(|r| r.path().to_owned()).collect()
    };
    assert_eq!(order[2], "/isr/old", "{order:?}");
}

/// A regeneration that somebody has come for waits like a client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_background_fill_that_is_joined_waits_as_a_visitor() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "max_concurrent_fills: 1").await;
    let client = edge.client();
    let json = |path: &str| client.get(path).header("Accept", "application/json");
    // The page's JSON is asked for in the background, and finds no place.
    let page = origin.on("/dsg/a").with("accept", "html").stream(Response::html("page"));
    let visitor = go(client.get("/dsg/a"));
    page.reached().await;
    let held = origin.on("/isr/held").hold(Response::html("held"));
    let holder = go(client.get("/isr/held"));
    until_fills(&edge, "waiting", 1).await;
    page.finish().await;
    visitor.await.unwrap().is(200, "MISS", "page");
    held.reached().await;
    until_fills(&edge, "waiting", 1).await;
    // A client comes for it, and then one for something else.
    let data = origin.on("/dsg/a").with("accept", "json").hold(Response::json("{}"));
    let joined = go(json("/dsg/a"));
    eventually("the fill to be promoted", async || {
        (edge.metric("perennial_regenerations_queued").await == 0.0).then_some(())
    })
    .await;
    origin.on("/isr/b").reply(Response::html("b"));
    let other = go(client.get("/isr/b"));
    until_fills(&edge, "waiting", 2).await;
    held.release();
    data.reached().await;
    assert_eq!(origin.count("/isr/b"), 0, "first come, first served");
    data.release();
    joined.await.unwrap().is(200, "MISS", "{}");
    other.await.unwrap().is(200, "MISS", "b");
    holder.await.unwrap().is(200, "MISS", "held");
    assert_eq!(origin.total(), 4);
}

/// Semantics §6: too many waiting is 503 with `Retry-After`; what is stored is
/// served all the same, and followers take no place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_queue_is_503() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "max_concurrent_fills: 1, max_waiting_fills: 1").await;
    let client = edge.client().ssr();
    origin.on("/isr/old").reply(stale("old"));
    client.get("/isr/old").await.is(200, "MISS", "old");
    let first = origin.on("/isr/first").hold(Response::html("first"));
    let one = go(client.get("/isr/first"));
    first.reached().await;
    let second = origin.on("/isr/second").hold(Response::html("second"));
    let two = go(client.get("/isr/second"));
    until_fills(&edge, "waiting", 1).await;
    for path in ["/isr/third", "/third"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.cache_status()), (503, "perennial; detail=busy"));
        assert!(answer.header("retry-after").is_some_and(|s| s.parse::<u32>().is_ok()), "{answer}");
    }
    // Who wants what is being rendered needs no place.
    let followers: Vec<_> = (0..10).map(|_| go(client.get("/isr/second"))).collect();
    // Nor does who wants what is stored; its regeneration is put off.
    for _ in 0..3 {
        client.get("/isr/old").await.is(200, "STALE", "old");
    }
    first.release();
    one.await.unwrap().is(200, "MISS", "first");
    second.reached().await;
    second.release();
    two.await.unwrap().is(200, "MISS", "second");
    for follower in followers {
        assert_eq!(follower.await.unwrap().text(), "second");
    }
    origin.forgive();
}

/// Waits until the origin's gauge of this name and these labels has this value.
async fn until(edge: &Edge, gauge: &str, n: usize) {
    let name = format!("perennial_origin_{gauge}");
    eventually(format!("{n} {gauge}"), async || {
        (edge.metric(&name).await == n as f64).then_some(())
    })
    .await;
}

const PASSES: &str = "passes{origin=\"web\",state=\"running\"}";
const PASSES_WAITING: &str = "passes{origin=\"web\",state=\"waiting\"}";
const WEBSOCKETS: &str = "websockets{origin=\"web\"}";

/// What is passed through has places of its own: who finds none waits, and what
/// comes on top is 503. A client who leaves waits no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_beyond_their_limit_wait_or_are_503() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "max_concurrent_passes: 1, max_waiting_passes: 1").await;
    let client = edge.client().ssr();
    let first = origin.on("/pass/first").hold(Response::html("first"));
    let one = go(client.post("/pass/first", "body"));
    first.reached().await;
    until(&edge, PASSES, 1).await;
    let mut leaves = edge.client().connect().await;
    leaves.send("GET /pass/leaves HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until(&edge, PASSES_WAITING, 1).await;
    for ask in [client.get("/pass/third"), client.post("/pass/third", "body")] {
        let answer = ask.await;
        assert_eq!((answer.status, answer.cache_status()), (503, "perennial; detail=busy"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    leaves.reset();
    until(&edge, PASSES_WAITING, 0).await;
    let second = origin.on("/pass/second").stream(Response::html("sec"));
    let two = tokio::spawn(client.get("/pass/second").stream());
    until(&edge, PASSES_WAITING, 1).await;
    // Pages need none of these places.
    origin.on("/isr/a").reply(Response::html("page"));
    client.get("/isr/a").await.is(200, "MISS", "page");
    first.release();
    one.await.unwrap().is(200, "BYPASS", "first");
    // What is being answered takes no place, however long it lasts.
    let mut two = two.await.unwrap();
    two.expect("sec").await;
    until(&edge, PASSES, 0).await;
    origin.on("/pass/fourth").reply(Response::html("fourth"));
    client.get("/pass/fourth").await.is(200, "BYPASS", "fourth");
    second.send("ond").await;
    second.finish().await;
    assert_eq!(two.rest().await.unwrap(), "ond");
    until(&edge, PASSES, 0).await;
}

/// WebSockets hold a place as long as they last, and keep nobody else away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_hold_their_places_as_long_as_they_last() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "max_websockets: 2, max_concurrent_passes: 1").await;
    let client = edge.client().ssr();
    let ask = || {
        let ask = edge.client().ssr().get("/pass/socket").header("Connection", "upgrade");
        ask.header("Upgrade", "websocket").header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
    };
    let open = async |places: usize| {
        let switch = Response::status(101).header("Connection", "upgrade");
        let turn = origin.on("/pass/socket").hold(switch.header("Upgrade", "websocket"));
        let socket = tokio::spawn(ask().stream());
        turn.reached().await;
        until(&edge, WEBSOCKETS, places).await;
        turn.release();
        let socket = socket.await.unwrap();
        assert_eq!(socket.status, 101);
        until(&edge, WEBSOCKETS, places).await;
        socket
    };
    let first = open(1).await;
    let second = open(2).await;
    let answer = ask().await;
    assert_eq!((answer.status, answer.cache_status()), (503, "perennial; detail=busy"));
    origin.on("/pass/a").reply(Response::html("page"));
    client.get("/pass/a").await.is(200, "BYPASS", "page");
    drop(second);
    until(&edge, WEBSOCKETS, 1).await;
    let third = open(2).await;
    drop((first, third));
    until(&edge, WEBSOCKETS, 0).await;
}

/// The connections that requests with this method came over, in order.
fn connections(origin: &Origin, method: &str) -> Vec<u64> {
    let requests = origin.requests();
    requests.iter().filter(|r| r.method == method).map(|r| r.connection).collect()
}

/// What is passed through goes over no connection that its server is about to
/// close: it says when, or the connection is fresh.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_meet_no_connection_that_is_being_closed() {
    // It closes them after a second: none can be used again.
    let origin = Origin::start().await;
    let edge = edge(&origin, "").await;
    let client = edge.client().ssr();
    let page = || Response::html("page").header("Keep-Alive", "timeout=1");
    origin.on("/pass/a").always().reply(page());
    origin.on("/isr/a").reply(page());
    // Fills teach it, too.
    client.get("/isr/a").await.is(200, "MISS", "page");
    for _ in 0..12 {
        client.get("/pass/a").await.is(200, "BYPASS", "page");
        client.post("/pass/a", "body").await.is(200, "BYPASS", "page");
    }
    let mut all = [connections(&origin, "GET"), connections(&origin, "POST")].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), origin.total());

    // It keeps them for long enough: they are used again, but those of a GET, which
    // may have been idle for long, never for a POST.
    let origin = Origin::start().await;
    let edge = self::edge(&origin, "").await;
    let client = edge.client().ssr();
    origin.on("/pass/a").always().reply(Response::html("page").header("Keep-Alive", "timeout=600"));
    for _ in 0..12 {
        client.get("/pass/a").await.is(200, "BYPASS", "page");
        client.post("/pass/a", "body").await.is(200, "BYPASS", "page");
    }
    let (gets, posts) = (connections(&origin, "GET"), connections(&origin, "POST"));
    assert!(gets.iter().all(|get| !posts.contains(get)), "{gets:?} {posts:?}");
    assert!(gets.windows(2).any(|two| two[0] == two[1]), "{gets:?}");
}

/// A POST that may have been carried out is never repeated; a GET is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_was_sent_is_never_repeated() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "").await;
    let client = edge.client().ssr();
    for method in ["GET", "POST"] {
        let path = format!("/pass/{method}");
        let ask = || client.ask(method, &path).body(if method == "POST" { "body" } else { "" });
        origin.on(&path).method(method).reply(Response::html("first"));
        ask().await.is(200, "BYPASS", "first");
        origin.on(&path).method(method).break_off(Break::Fin);
        if method == "GET" {
            origin.on(&path).method(method).reply(Response::html("second"));
            ask().await.is(200, "BYPASS", "second");
        } else {
            let answer = ask().await;
            assert_eq!((answer.status, answer.cache_status()), (502, "perennial; detail=reset"));
        }
    }
    let (gets, posts) = (connections(&origin, "GET"), connections(&origin, "POST"));
    assert_eq!((gets.len(), posts.len()), (3, 2));
    assert_eq!(gets[0], gets[1], "over a connection that was used before");
}

/// Fills that end, however they end, give their places back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_place_is_lost() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "max_concurrent_fills: 2, fill_timeout: 300ms").await;
    let client = edge.client().ssr();
    let page = || Response::html("0123456789").cache("s-maxage=60");
    for round in 0..3 {
        for (n, broken) in [
            page(),
            page().break_after(5, Break::Fin),
            page().cache("private"),
            page().with_status(404),
            page().chunked().break_after(5, Break::Rst),
        ]
        .into_iter()
        .enumerate()
        {
            let path = format!("/{round}/{n}");
            origin.on(&path).reply(broken);
            let _ = client.get(&path).outcome().await;
        }
        let path = format!("/{round}/left");
        let turn = origin.on(&path).stream(Response::html("").cache("no-store"));
        drop(client.get(&path).stream().await);
        turn.ended().await;
        let path = format!("/{round}/silent");
        origin.on(&path).silence();
        assert_eq!(client.get(&path).await.status, 504);
    }
    until_fills(&edge, "running", 0).await;
    until_fills(&edge, "waiting", 0).await;
}

/// Servers take turns.
#[tokio::test]
async fn round_robin() {
    let (a, b) = (Origin::serve(|_| Response::html("a")).await, {
        Origin::serve(|_| Response::html("b")).await
    });
    let edge = two(&a, &b, "").await;
    let client = edge.client().ssr();
    for n in 0..10 {
        client.get(&format!("/isr/{n}")).await;
        client.get(&format!("/pass/{n}")).await;
    }
    assert_eq!((a.total(), b.total()), (10, 10));
}

/// When connecting to one server fails another is asked: for fills and for what
/// is passed through, with a body or without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_is_tried_when_connecting_fails() {
    let a = Origin::serve(|_| Response::html("a")).await;
    let b = Origin::serve(|request| {
        Response::html(if request.body.is_empty() { "b".into() } else { request.body.clone() })
    })
    .await;
    for route in ["/isr", "/ssr", "/pass", "POST"] {
        // A new edge has not learned yet that it is down.
        a.accept().await;
        let edge = two(&a, &b, "").await;
        a.refuse().await;
        let client = edge.client().ssr();
        let before = b.total();
        for n in 0..6 {
            if route == "POST" {
                let answer = client.post(&format!("/pass/{n}"), format!("body {n}")).await;
                answer.is(200, "BYPASS", &format!("body {n}"));
            } else {
                let answer = client.get(&format!("{route}/{n}")).await;
                assert_eq!((answer.status, answer.text()), (200, "b"), "{route}");
            }
        }
        assert_eq!(b.total() - before, 6);
    }
    assert_eq!(a.total(), 0);
    // None is left.
    let edge = two(&a, &b, "").await;
    b.refuse().await;
    for path in ["/isr/x", "/x", "/pass/x"] {
        let answer = edge.client().ssr().get(path).await;
        assert_eq!((answer.status, answer.cache_status()), (502, "perennial; detail=connect"));
    }
}

/// A server that fails its health check is left out, and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_checks_take_a_server_out_and_back() {
    let (a, b) = (Origin::start().await, Origin::start().await);
    a.on("/healthz").always().reply(Response::status(204));
    b.on("/healthz").always().reply(Response::status(204));
    let page = |r: &crate::support::origin::Request| r.path() != "/healthz";
    a.any().when("page", page).always().reply(Response::html("a"));
    b.any().when("page", page).always().reply(Response::html("b"));
    let edge = two(&a, &b, "health: { path: /healthz, interval: 20ms }").await;
    let client = edge.client().ssr();
    let healthy = async |n: f64| {
        eventually(format!("{n} healthy servers"), async || {
            let name = "perennial_origin_servers{origin=\"web\",state=\"healthy\"}";
            (edge.metric(name).await == n).then_some(())
        })
        .await;
    };
    healthy(2.0).await;
    a.on("/healthz").always().reply(Response::status(503));
    healthy(1.0).await;
    for n in 0..6 {
        for route in ["isr", "ssr", "pass"] {
            let answer = client.get(&format!("/{route}/{n}")).await;
            assert_eq!((answer.status, answer.text()), (200, "b"));
        }
    }
    a.on("/healthz").always().reply(Response::status(204));
    healthy(2.0).await;
    let mut seen = Vec::new();
    for n in 6..10 {
        seen.push(client.get(&format!("/isr/{n}")).await.text().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["a", "a", "b", "b"]);
    // With none healthy, trying is better than giving up.
    for origin in [&a, &b] {
        origin.on("/healthz").always().reply(Response::status(503));
    }
    healthy(0.0).await;
    assert_eq!(client.get("/isr/last").await.status, 200);
}

/// An idle edge stops at once, whatever connections are open, and takes no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_edge_stops_at_once() {
    let origin = Origin::start().await;
    let yaml = format!("shutdown_timeout: 1h\norigins:\n  web: \"{{origin}}\"\n{ROUTES}");
    let edge = Edge::start(&yaml, &origin).await;
    origin.on("/isr/a").reply(Response::html("page"));
    edge.client().get("/isr/a").await.is(200, "MISS", "page");
    let _idle = edge.client().connect().await;
    let addr = edge.addr();
    edge.shutdown();
    let ended = edge.ended().await;
    assert_eq!((ended.cut_off, ended.fills_cut_off), (0, false));
    assert!(TcpStream::connect(addr).await.is_err(), "it accepts no more");
}

/// Requests and fills in flight end, those included that nobody waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_ends_before_the_edge() {
    let origin = Origin::start().await;
    let yaml = format!("shutdown_timeout: 1h\norigins:\n  web: \"{{origin}}\"\n{ROUTES}");
    let edge = Edge::start(&yaml, &origin).await;
    let client = edge.client().ssr();
    origin.on("/isr/old").reply(stale("old"));
    client.get("/isr/old").await.is(200, "MISS", "old");
    let background = origin.on("/isr/old").hold(Response::html("new"));
    client.get("/isr/old").await.is(200, "STALE", "old");
    background.reached().await;
    let mut turns = Vec::new();
    for path in ["/isr/a", "/b", "/pass/c"] {
        let turn = origin.on(path).stream(Response::html("one "));
        let mut visitor = client.get(path).stream().await;
        visitor.expect("one ").await;
        turns.push((turn, visitor));
    }
    let left = origin.on("/isr/left").hold(Response::html("nobody waits for it"));
    let visitor = tokio::spawn(client.get("/isr/left").outcome());
    left.reached().await;
    visitor.abort();
    let addr = edge.addr();
    edge.shutdown();
    let ended = tokio::spawn(edge.ended());
    eventually("the port to close", async || TcpStream::connect(addr).await.err()).await;
    for (turn, visitor) in turns {
        turn.send("two").await;
        turn.finish().await;
        assert_eq!(visitor.rest().await.unwrap(), "two");
    }
    assert!(!ended.is_finished());
    background.release();
    assert_eq!(background.ended().await, crate::support::origin::End::Done);
    assert!(!ended.is_finished(), "one fill is left");
    left.release();
    let ended = ended.await.unwrap();
    assert_eq!((ended.cut_off, ended.fills_cut_off), (0, false));
}

/// What does not end is cut off when `shutdown_timeout` is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stop_has_a_bound() {
    for visitor_stays in [true, false] {
        let origin = Origin::start().await;
        let yaml = format!("shutdown_timeout: 200ms\norigins:\n  web: \"{{origin}}\"\n{ROUTES}");
        let edge = Edge::start(&yaml, &origin).await;
        let turn = origin.on("/isr/a").hold(Response::html("page"));
        let visitor = tokio::spawn(edge.client().get("/isr/a").outcome());
        turn.reached().await;
        if !visitor_stays {
            visitor.abort();
        }
        edge.shutdown();
        let ended = edge.ended().await;
        assert!(ended.fills_cut_off);
        if visitor_stays {
            assert_eq!(ended.cut_off, 1);
            assert!(visitor.await.unwrap().is_err());
        }
    }
}
