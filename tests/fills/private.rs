//! What is not storable: it is its client's alone, and nobody waits for it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::origin::End;
use crate::support::{Break, Edge, Origin, Response, eventually};

use super::{edge, edge_with, go, go_stream};

/// Semantics §3: a follower never receives a response that was not storable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_is_not_storable_never_reaches_a_follower() {
    let count = AtomicUsize::new(0);
    let origin = Origin::serve(move |request| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        let page = Response::html(format!("for visitor {n}"));
        match request.target.split('?').nth(1).unwrap() {
            "private" => page.cache("private, max-age=60"),
            "no-store" => page.cache("no-store"),
            "cookie" => page.cache("s-maxage=60").header("Set-Cookie", "id=1"),
            "vary" => page.cache("s-maxage=60").header("Vary", "*"),
            "none" => page,
            _ => page.with_status(404),
        }
    })
    .await;
    let edge = edge(&origin).await;
    for why in ["private", "no-store", "cookie", "vary", "none", "status"] {
        for round in 0..5 {
            let path = format!("/{round}?{why}");
            let client = edge.client().ssr();
            let visitors: Vec<_> = (0..40).map(|_| go(client.get(&path))).collect();
            let mut bodies = HashSet::new();
            for visitor in visitors {
                let page = visitor.await.unwrap();
                assert_eq!(page.x_cache(), "MISS");
                assert!(!page.cache_status().contains("collapsed"), "{page}");
                assert!(bodies.insert(page.body.clone()), "{why}: seen by two: {page}");
            }
        }
    }
    assert_eq!(origin.total(), 6 * 5 * 40);
}

/// On a page route, too: what sets a cookie is delivered to who caused it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_on_a_page_route() {
    let count = AtomicUsize::new(0);
    let origin = Origin::serve(move |request| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        let page = Response::html(format!("for visitor {n}"));
        if request.path().ends_with('c') {
            page.header("Set-Cookie", "id=1")
        } else {
            page.cache("private")
        }
    })
    .await;
    let edge = edge(&origin).await;
    for path in ["/isr/c", "/isr/p", "/dsg/c", "/dsg/p"] {
        let client = edge.client();
        let visitors: Vec<_> =
            (0..30).map(|_| go(client.get(path).header("Accept", "text/html"))).collect();
        let mut bodies = HashSet::new();
        for visitor in visitors {
            assert!(bodies.insert(visitor.await.unwrap().body), "{path}");
        }
    }
}

/// Followers go when the head says that it is private, not when its body ends;
/// and after that nobody waits for anybody.
#[tokio::test]
async fn private_pages_queue_for_the_first_head_only() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let private = |body: &'static str| Response::html(body).cache("private");
    let first = origin.on("/a").stream(private("first"));
    let mut leader = client.get("/a").stream().await;
    leader.expect("first").await;

    // Its body is not at its end, and the others are served.
    origin.on("/a").reply(private("second"));
    client.get("/a").await.is(200, "MISS", "second");
    // Now that it is known, two renders at once without a head are no queue.
    let third = origin.on("/a").hold(private("third"));
    let c = go(client.get("/a"));
    third.reached().await;
    origin.on("/a").reply(private("fourth"));
    let fourth = client.get("/a").await;
    fourth.is(200, "MISS", "fourth");
    assert!(fourth.cache_status().contains("fwd=miss"), "{fourth}");
    third.release();
    c.await.unwrap().is(200, "MISS", "third");
    first.finish().await;
    assert_eq!(leader.rest().await.unwrap(), "");

    // What is storable is still stored, and from then on they collapse again.
    origin.on("/a").reply(Response::html("public").cache("s-maxage=60"));
    client.get("/a").await.is(200, "MISS", "public");
    client.get("/a").await.is(200, "HIT", "public");
    assert_eq!(edge.revalidate("path=/a&mode=expire").await.status, 200);
    let turn = origin.on("/a").stream(Response::html("again").cache("s-maxage=60"));
    let mut visitors = Vec::new();
    for _ in 0..3 {
        let mut visitor = client.get("/a").stream().await;
        visitor.expect("again").await;
        visitors.push(visitor);
    }
    turn.finish().await;
}

/// RFC 9111 §4.1: a follower gets what its own fields select, or a fill of its
/// own, however many variants are asked for at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_get_the_variant_that_they_select() {
    let origin = Origin::serve(|request| {
        let language = request.header("accept-language").unwrap_or("none").to_owned();
        Response::html(language).cache("s-maxage=60").header("Vary", "Accept-Language")
    })
    .await;
    let edge = edge_with(&origin, "", "max_variants: 100").await;
    let client = edge.client().ssr();
    for round in 0..10 {
        let path = format!("/{round}");
        let visitors: Vec<_> = (0..60)
            .map(|n| {
                let language = format!("x-{}", n % 20);
                (language.clone(), go(client.get(&path).header("Accept-Language", &language)))
            })
            .collect();
        for (language, visitor) in visitors {
            let page = visitor.await.unwrap();
            assert_eq!((page.status, page.text()), (200, &*language), "{page}");
        }
    }
}

/// And those whose variants differ do not queue behind one another for longer
/// than the first.
#[tokio::test]
async fn variants_queue_for_the_first_head_only() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let ask = |language: &str| client.get("/a").header("Accept-Language", language);
    let page = |body: &'static str| {
        Response::html(body).cache("s-maxage=60").header("Vary", "Accept-Language")
    };
    origin.on("/a").with("accept-language", "de").reply(page("de"));
    ask("de").await.is(200, "MISS", "de");
    // The page is known to vary: who asks for another variant waits for nobody.
    let fr = origin.on("/a").with("accept-language", "fr").hold(page("fr"));
    let slow = go(ask("fr"));
    fr.reached().await;
    origin.on("/a").with("accept-language", "en").reply(page("en"));
    ask("en").await.is(200, "MISS", "en");
    fr.release();
    slow.await.unwrap().is(200, "MISS", "fr");
    assert_eq!(origin.total(), 3);
}

/// Event streams pass through chunk by chunk, without end, deadline or place,
/// and end at the origin when their client leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_streams_pass_through() {
    let events = || Response::status(200).header("Content-Type", "text/event-stream");
    for path in ["/events", "/pass/events"] {
        for how in ["leave", "reset", "end", "break"] {
            let origin = Origin::start().await;
            let edge = edge_with(&origin, "fill_timeout: 100ms, max_concurrent_fills: 1", "").await;
            let client = edge.client().ssr();
            let turn = origin.on(path).stream(events().cache("no-cache"));
            let mut visitor = client.get(path).stream().await;
            for n in 0..20 {
                let event = format!("data: {n}\n\n");
                turn.send(event.clone()).await;
                visitor.expect(event).await;
            }
            // It holds no place: others are rendered meanwhile. And when a
            // render that begins after it has met the deadline, it lives on.
            origin.on("/a").reply(Response::html("page").cache("s-maxage=60"));
            client.get("/a").await.is(200, "MISS", "page");
            origin.on("/isr/silent").silence();
            assert_eq!(client.get("/isr/silent").await.status, 504);
            turn.send("data: late\n\n").await;
            visitor.expect("data: late\n\n").await;
            match how {
                "leave" => drop(visitor),
                "reset" => visitor.reset(),
                "end" => {
                    turn.finish().await;
                    assert_eq!(visitor.rest().await.unwrap(), "");
                    assert_eq!(turn.ended().await, End::Done);
                    continue;
                }
                _ => {
                    turn.break_off(Break::Fin).await;
                    assert!(visitor.rest().await.is_err(), "never ended as if it were complete");
                    continue;
                }
            }
            assert_eq!(turn.ended().await, End::PeerLeft, "{path}, {how}");
        }
    }
}

/// Two clients of one event stream have a stream each.
#[tokio::test]
async fn each_visitor_has_an_event_stream() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let events = || Response::status(200).header("Content-Type", "text/event-stream");
    let first = origin.on("/events").stream(events());
    let one = client.get("/events").stream().await;
    let second = origin.on("/events").stream(events());
    let mut two = client.get("/events").stream().await;
    second.send("data: two\n\n").await;
    two.expect("data: two\n\n").await;
    drop(one);
    assert_eq!(first.ended().await, End::PeerLeft);
    second.send("data: three\n\n").await;
    two.expect("data: three\n\n").await;
    drop(two);
    assert_eq!(second.ended().await, End::PeerLeft);
}

/// An endless stream is paced by its client: what nobody reads is not fetched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_stream_does_not_grow() {
    /// More than the kernel holds in the buffers of two connections.
    const SLACK: u64 = 24 << 20;
    for path in ["/endless", "/pass/endless"] {
        let origin = Origin::start().await;
        let edge = edge_with(&origin, "", "max_object: 1MiB").await;
        let turn = origin.on(path).endless(Response::html("").cache("no-store"), vec![b'x'; 65536]);
        let mut visitor = edge.client().ssr().get(path).stream().await;
        let mut read = 0;
        while read < 64 << 20 {
            read += visitor.next().await.unwrap().expect("it is endless").len() as u64;
            let written = turn.written();
            assert!(written < read + SLACK, "{path}: {written} fetched, {read} read");
        }
        drop(visitor);
        assert_eq!(turn.ended().await, End::PeerLeft);
    }
}

/// `isr: { revalidate: origin }` with an answer that has no lifetime: the whole
/// request goes to the origin as on `ssr`, for all who waited. Nothing is rendered
/// without what its client sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_turns_out_server_rendered() {
    let origin = Origin::serve(|request| match request.header("cookie") {
        // Rendered without what the client sent: nobody may see it.
        None => Response::html("log in, please").cache("private"),
        Some(cookie) => Response::html(format!("hello, {cookie}")).cache("private"),
    })
    .await;
    let edge = Edge::start("- path: /**\n  isr: { revalidate: origin }\n", &origin).await;
    let client = edge.client().ssr();
    for round in 0..20 {
        let path = format!("/{round}");
        let visitors: Vec<_> = (0..10)
            .map(|n| (n, go(client.get(&path).header("Cookie", &format!("visitor {n}")))))
            .collect();
        for (n, visitor) in visitors {
            visitor.await.unwrap().is(200, "MISS", &format!("hello, visitor {n}"));
        }
        assert_eq!(origin.count(&path), 10, "{path}: one for each");
    }
}

/// A page whose JSON probe brings something else has none, and all who asked
/// for it get its HTML after one probe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_without_json_is_probed_once() {
    let origin = Origin::serve(|_| Response::html("page")).await;
    let edge = edge(&origin).await;
    let client = edge.client();
    for round in 0..50 {
        let path = format!("/isr/{round}");
        let visitors: Vec<_> =
            (0..10).map(|_| go(client.get(&path).header("Accept", "application/json"))).collect();
        for visitor in visitors {
            assert_eq!(visitor.await.unwrap().text(), "page");
        }
        let page = client.get(&path).header("Accept", "application/json").await;
        page.is(200, "HIT", "page");
        assert_eq!(origin.count(&path), 2, "one probe and one document");
    }
}

/// A client of a private page who leaves ends the render for nobody else.
#[tokio::test]
async fn a_private_response_ends_with_its_visitor() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let turn = origin.on("/a").stream(Response::html("one").cache("private"));
    let visitor = go_stream(client.get("/a"));
    turn.reached().await;
    drop(visitor.await.unwrap());
    assert_eq!(turn.ended().await, End::PeerLeft);
    // A HEAD wants none of the body.
    let turn = origin.on("/a").stream(Response::html("one").cache("private"));
    let head = client.head("/a").await;
    assert_eq!((head.status, head.x_cache()), (200, "MISS"));
    assert_eq!(turn.ended().await, End::PeerLeft);
    origin.on("/a").reply(Response::html("two").cache("s-maxage=60"));
    client.get("/a").await.is(200, "MISS", "two");
    eventually("the hit", async || (client.get("/a").await.x_cache() == "HIT").then_some(())).await;
}

/// A private answer to a field that browsers do not send says nothing of those who
/// don't send it: they go on waiting for one another.
#[tokio::test]
async fn one_private_answer_does_not_end_the_waiting_of_others() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    origin.on("/a").with("x-api-key", "k").reply(Response::html("private").cache("private"));
    client.get("/a").header("X-Api-Key", "k").await.is(200, "MISS", "private");
    let turn = origin.on("/a").stream(Response::html("page").cache("s-maxage=60"));
    let mut visitors = Vec::new();
    for _ in 0..3 {
        let mut visitor = client.get("/a").stream().await;
        visitor.expect("page").await;
        visitors.push(visitor);
    }
    turn.finish().await;
    assert_eq!(origin.total(), 2);
}
