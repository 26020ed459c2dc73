//! One render for all who ask at once.

use std::time::Duration;

use crate::support::client::Stream;
use crate::support::origin::End;
use crate::support::{Edge, Origin, Response, eventually, patient};

use super::{dated, edge, edge_with, go, go_stream};

/// Semantics §3: however many first requests for a page are one render, and all
/// of them stream the bytes as they arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_requests_are_one_render_that_all_stream() {
    for path in ["/isr/a", "/dsg/a", "/a"] {
        let origin = Origin::start().await;
        let edge = edge(&origin).await;
        // The JSON of a `dsg` page is asked for behind everybody's back.
        origin.on(path).with("accept", "json").always().reply(Response::html("none"));
        let turn = origin.on(path).stream(Response::html("first, ").cache("s-maxage=60"));
        let client = edge.client().ssr();
        let visitors: Vec<_> = (0..1000).map(|_| go_stream(client.get(path))).collect();
        let mut streams = Vec::new();
        for visitor in visitors {
            let mut stream = visitor.await.unwrap();
            // The origin is half-way: all see what it has sent.
            stream.expect("first, ").await;
            streams.push(stream);
        }
        assert_eq!(origin.total(), 1);
        let led = |s: &&Stream| !s.header("cache-status").unwrap().contains("collapsed");
        assert_eq!(streams.iter().filter(led).count(), 1, "one leads, the others follow");
        turn.send("second").await;
        turn.finish().await;
        for stream in streams {
            assert_eq!(stream.header("x-cache"), Some("MISS"));
            assert_eq!(stream.rest().await.unwrap(), "second");
        }
        client.get(path).await.is(200, "HIT", "first, second");
        edge.stop().await;
    }
}

/// Between the commit of a page and the end of its fill there is no moment in
/// which a request begins another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_falls_between_a_fill_and_the_store() {
    let origin = Origin::serve(|_| Response::html("page").cache("s-maxage=60")).await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for round in 0..150 {
        let path = format!("/{}/{round}", if round % 2 == 0 { "isr" } else { "ssr" });
        let visitors: Vec<_> = (0..8)
            .map(|_| {
                let (client, path) = (client.clone(), path.clone());
                tokio::spawn(async move {
                    for _ in 0..3 {
                        let page = client.get(&path).await;
                        assert_eq!((page.status, page.text()), (200, "page"));
                    }
                })
            })
            .collect();
        for visitor in visitors {
            visitor.await.unwrap();
        }
        assert_eq!(origin.count(&path), 1, "{path}");
    }
}

/// Who has seen the end of a page gets the next one from the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_page_is_told_when_it_is_stored() {
    let origin = Origin::serve(|_| Response::html("page").cache("s-maxage=60")).await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for round in 0..200 {
        let path = format!("/{}/{round}", ["isr", "ssr"][round % 2]);
        client.get(&path).await.is(200, "MISS", "page");
        client.get(&path).await.is(200, "HIT", "page");
    }
}

#[tokio::test]
async fn a_visitor_who_leaves_cancels_nothing() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for (path, reset) in [("/isr/a", false), ("/isr/b", true), ("/c", false), ("/d", true)] {
        let turn = origin.on(path).stream(Response::html("one ").cache("s-maxage=60"));
        let mut leader = client.get(path).stream().await;
        leader.expect("one ").await;
        let mut follower = client.get(path).stream().await;
        follower.expect("one ").await;
        if reset {
            leader.reset()
        } else {
            drop(leader)
        }
        turn.send("two ").await;
        follower.expect("two ").await;
        drop(follower);
        // Nobody reads it any more, and still it goes on, and is stored.
        turn.send("three").await;
        turn.finish().await;
        assert_eq!(turn.ended().await, End::Done);
        eventually("the page to be stored", async || {
            let page = client.get(path).header("Cache-Control", "only-if-cached").await;
            (page.status == 200).then(|| page.is(200, "HIT", "one two three").clone())
        })
        .await;
        assert_eq!(origin.count(path), 1);
    }
}

/// A leader who leaves before the head has come.
#[tokio::test]
async fn a_leader_who_leaves_early_cancels_nothing() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client();
    let turn = origin.on("/isr/a").hold(Response::html("page"));
    let leader = tokio::spawn(client.get("/isr/a").outcome());
    turn.reached().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    turn.release();
    eventually("the page to be stored", async || {
        let page = client.get("/isr/a").header("Cache-Control", "only-if-cached").await;
        (page.status == 200).then_some(())
    })
    .await;
    assert_eq!(origin.total(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_who_reads_a_byte_a_second_delays_nobody() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let body = "0123456789abcdef".repeat(512 * 1024); // 8 MiB
    for path in ["/isr/a", "/b"] {
        let page = Response::html(body.clone()).cache("s-maxage=60");
        let turn = origin.on(path).hold(page);
        let slow = go_stream(edge.client().ssr().get(path).narrow());
        let asleep = go_stream(edge.client().ssr().get(path).narrow());
        turn.reached().await;
        turn.release();
        let mut slow = slow.await.unwrap();
        assert_eq!(slow.byte().await, Some(b'0'));
        // Nobody waits for them: not the origin, not another client.
        assert_eq!(turn.ended().await, End::Done);
        let quick = edge.client().ssr().get(path).await;
        assert_eq!(quick.body.len(), body.len());
        assert_eq!(slow.byte().await, Some(b'1'));
        drop(asleep.await.unwrap());
        assert_eq!(origin.count(path), 1);
    }
}

/// Conditions, ranges and HEAD on a miss are answered from the page that is
/// being stored (semantics §6), and the origin is asked for the whole page.
#[tokio::test]
async fn conditions_ranges_and_head_on_a_miss() {
    type Row = (&'static str, &'static str, &'static str, u16, &'static str);
    let rows: [Row; 8] = [
        ("HEAD", "", "", 200, ""),
        ("GET", "If-None-Match", "\"v1\"", 304, ""),
        ("GET", "If-None-Match", "\"v0\"", 200, "0123456789"),
        ("GET", "If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT", 304, ""),
        ("GET", "Range", "bytes=2-4", 206, "234"),
        ("GET", "Range", "bytes=90-", 416, ""),
        ("HEAD", "If-None-Match", "\"v1\"", 304, ""),
        ("GET", "If-Match", "\"v0\"", 412, ""),
    ];
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for kind in ["isr", "ssr"] {
        for (n, (method, name, value, status, body)) in rows.into_iter().enumerate() {
            let path = format!("/{kind}/{n}");
            let page = Response::html("01234")
                .cache("s-maxage=60")
                .header("ETag", "\"v1\"")
                .header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
            let turn = origin.on(&path).method("GET").stream(page);
            let ask = client.ask(method, &path);
            let ask = if name.is_empty() { ask } else { ask.header(name, value) };
            let visitor = go(ask);
            let request = turn.reached().await;
            for field in ["range", "if-none-match", "if-modified-since", "if-match"] {
                assert_eq!(request.header(field), None, "{kind}, {name}: {value}");
            }
            // A plain client meanwhile does not wait for the end.
            let mut other = client.get(&path).stream().await;
            other.expect("01234").await;
            turn.send("56789").await;
            turn.finish().await;
            let answer = visitor.await.unwrap();
            assert_eq!((answer.status, answer.text()), (status, body), "{answer}");
            if (method, status) == ("HEAD", 200) {
                assert_eq!(answer.header("content-length"), Some("10"));
            }
            assert_eq!(other.rest().await.unwrap(), "56789");
            client.get(&path).await.is(200, "HIT", "0123456789");
            assert_eq!(origin.count(&path), 1);
        }
    }
}

/// RFC 9110 §15.2 and semantics §3: 1xx are relayed to the leader alone, for whom the
/// response is going to be is not known yet; and never stored.
#[tokio::test]
async fn early_hints_are_relayed_to_the_leader_and_not_stored() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for path in ["/isr/a", "/b", "/pass/c"] {
        let link = ("Link", "</style.css>; rel=preload; as=style");
        let page = Response::html("page").cache("s-maxage=60").after_interim(103, &[link]);
        let turn = origin.on(path).stream(page);
        let mut leader = client.get(path).stream().await;
        if path != "/pass/c" {
            let mut follower = client.get(path).stream().await;
            follower.expect("page").await;
            assert!(follower.interim.is_empty(), "{path}");
        }
        leader.expect("page").await;
        assert_eq!(leader.interim.len(), 1, "{path}");
        let (status, fields) = &leader.interim[0];
        assert_eq!((*status, fields.get("link")), (103, Some(link.1)), "{path}");
        turn.finish().await;
        leader.rest().await.unwrap();
        if path != "/pass/c" {
            let hit = client.get(path).await;
            assert!(hit.is(200, "HIT", "page").interim.is_empty());
            assert_eq!(hit.header("link"), None);
        }
    }
}

/// HTTP/1.0 knows neither 1xx nor chunks.
#[tokio::test]
async fn a_stream_to_http10() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    for path in ["/isr/a", "/b", "/c?private"] {
        let cache = if path == "/c?private" { "private" } else { "s-maxage=60" };
        let page = Response::html("one ").cache(cache).after_interim(103, &[("Link", "</a>")]);
        let turn = origin.on(path).stream(page);
        let mut visitor = edge.client().connect().await;
        visitor.send(format!("GET {path} HTTP/1.0\r\nHost: example.com\r\n\r\n")).await;
        turn.reached().await;
        turn.send("two").await;
        turn.finish().await;
        let bytes = visitor.until_closed().await;
        let text = std::str::from_utf8(&bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "one two", "{text}");
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{text}");
    }
}

/// `memory: 0` is no memory tier: it collapses and streams, and stores nothing.
#[tokio::test]
async fn without_memory() {
    let origin = Origin::start().await;
    let edge = edge_with(&origin, "", "memory: 0").await;
    let client = edge.client().ssr();
    for path in ["/isr/a", "/dsg/b", "/c"] {
        let turn = origin.on(path).stream(Response::html("one ").cache("s-maxage=60"));
        let mut visitors = Vec::new();
        for _ in 0..5 {
            visitors.push(client.get(path).stream().await);
        }
        for visitor in &mut visitors {
            visitor.expect("one ").await;
            let status = visitor.header("cache-status").unwrap();
            assert!(status.contains("detail=") && !status.contains("stored"), "{status}");
        }
        let head = go(client.head(path));
        let range = go(client.get(path).header("Range", "bytes=4-"));
        // These two may come too late, and then they are renders of their own.
        origin.on(path).always().reply(Response::html("one two").cache("s-maxage=60"));
        turn.send("two").await;
        turn.finish().await;
        for visitor in visitors {
            assert_eq!(visitor.rest().await.unwrap(), "two");
        }
        assert_eq!(head.await.unwrap().header("content-length"), Some("7"));
        assert_eq!(range.await.unwrap().text(), "two");
        let before = origin.count(path);
        client.get(path).await.is(200, "MISS", "one two");
        client.get(path).await.is(200, "MISS", "one two");
        assert_eq!(origin.count(path), before + 2);
    }
    assert_eq!(edge.revalidate("all=1&mode=expire").await.status, 200);
}

/// A page and its JSON on `dsg`: a first request for either brings the other,
/// once, whoever asks meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pair_of_a_page_is_rendered_once_each() {
    let origin = Origin::serve(|request| {
        let json = request.header("accept").is_some_and(|a| a.contains("json"));
        if json { Response::json("{}") } else { Response::html("page") }
    })
    .await;
    let edge = edge(&origin).await;
    let client = edge.client();
    for round in 0..100 {
        let path = format!("/dsg/{round}");
        let visitors: Vec<_> = (0..6)
            .map(|n| {
                let accept = if (n + round) % 2 == 0 { "text/html" } else { "application/json" };
                go(client.get(&path).header("Accept", accept))
            })
            .collect();
        for visitor in visitors {
            assert_eq!(visitor.await.unwrap().status, 200);
        }
        for (accept, body) in [("text/html", "page"), ("application/json", "{}")] {
            let page = client.get(&path).header("Accept", accept).await;
            assert_eq!(page.text(), body);
        }
    }
    patient("the fills to end", edge.stop()).await;
    for round in 0..100 {
        assert_eq!(origin.count(&format!("/dsg/{round}")), 2, "round {round}");
    }
}

/// A `dsg` page asked for once: its other form is brought behind the client's back.
#[tokio::test]
async fn the_first_request_for_either_form_brings_the_other() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client();
    for (path, first, second) in
        [("/dsg/a", "text/html", "application/json"), ("/dsg/b", "application/json", "text/html")]
    {
        let body = |accept: &str| match accept {
            "text/html" => Response::html("page"),
            _ => Response::json("{}"),
        };
        origin.on(path).with("accept", first).reply(body(first));
        let other = origin.on(path).with("accept", second).reply(body(second));
        assert_eq!(client.get(path).header("Accept", first).await.x_cache(), "MISS");
        other.reached().await;
        eventually("the other form", async || {
            let page = client
                .get(path)
                .header("Accept", second)
                .header("Cache-Control", "only-if-cached")
                .await;
            (page.status == 200).then_some(())
        })
        .await;
        assert_eq!(client.get(path).header("Accept", second).await.x_cache(), "HIT");
        assert_eq!(origin.count(path), 2);
    }
}

/// What the origin said of the age of a page holds for who gets it first, too
/// (semantics §2: a true `Age` is sent).
#[tokio::test]
async fn an_age_from_the_origin_is_sent_on() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for path in ["/isr/a", "/b"] {
        let page = Response::html("page").cache("s-maxage=60").header("Age", "30");
        let turn = origin.on(path).stream(page);
        for _ in 0..2 {
            let visitor = client.get(path).stream().await;
            let age: u64 = visitor.header("age").expect("an age").parse().unwrap();
            assert!((30..60).contains(&age), "{age}");
        }
        turn.finish().await;
    }
}

/// Semantics §3: requests with cookies collapse where the last answer was
/// storable, and not before anything is known.
#[tokio::test]
async fn cookies_collapse_when_the_last_answer_was_storable() {
    let origin = Origin::start().await;
    let shared = "routes: [ { path: /**, ssr: {}, cookies: shared } ]\n";
    let edge = Edge::start(shared, &origin).await;
    let client = edge.client().ssr();
    let me = |name: &str| client.get("/a").header("Cookie", &format!("me={name}"));

    // Nothing is known of the page: each for itself.
    let page = || Response::html("page").cache("max-age=10");
    let old = || dated(page(), Duration::from_secs(100));
    let first = origin.on("/a").with("cookie", "me=a").hold(old());
    let second = origin.on("/a").with("cookie", "me=b").hold(old());
    let (a, b) = (go(me("a")), go(me("b")));
    first.reached().await;
    second.reached().await;
    first.release();
    second.release();
    a.await.unwrap().is(200, "MISS", "page");
    b.await.unwrap().is(200, "MISS", "page");

    // It was storable (and is stale): now they wait for one another.
    let third = origin.on("/a").stream(Response::html("new").cache("max-age=10"));
    let mut visitors = Vec::new();
    for name in ["a", "b", "c"] {
        let mut visitor = me(name).stream().await;
        visitor.expect("new").await;
        visitors.push(visitor);
    }
    third.finish().await;
    assert_eq!(origin.total(), 3);
}

/// RFC 9111 §3.5: what somebody's credentials brought is theirs, and what is
/// rendered for nobody in particular is not waited for by who has credentials.
#[tokio::test]
async fn authorization_neither_leads_nor_follows() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let anybody = origin
        .on("/a")
        .when("without", |r| r.header("authorization").is_none())
        .hold(Response::html("for anybody").cache("max-age=60"));
    let own = origin.on("/a").with("authorization", "x").times(2);
    let own = own.hold(Response::html("for x").cache("max-age=60"));
    let b = go(client.get("/a").header("Authorization", "x"));
    own.reached().await;
    let a = go(client.get("/a"));
    anybody.reached().await;
    let c = go(client.get("/a").header("Authorization", "x"));
    origin.wait_for(3).await;
    own.release();
    b.await.unwrap().is(200, "MISS", "for x");
    c.await.unwrap().is(200, "MISS", "for x");
    anybody.release();
    a.await.unwrap().is(200, "MISS", "for anybody");
    client.get("/a").await.is(200, "HIT", "for anybody");

    // On a page route a request with credentials has no part in the cache.
    let held = origin.on("/isr/a").hold(Response::html("page"));
    let page = go(client.get("/isr/a"));
    held.reached().await;
    origin.on("/isr/a").with("authorization", "x").reply(Response::html("mine"));
    client.get("/isr/a").header("Authorization", "x").await.is(200, "BYPASS", "mine");
    held.release();
    page.await.unwrap().is(200, "MISS", "page");
    drop(edge);
}

/// What a fill asks for on a page route is the route's, nothing of the client's.
#[tokio::test]
async fn what_a_fill_asks_for() {
    let origin = Origin::start().await;
    let edge = Edge::start(
        "- path: /isr/**\n  isr: { revalidate: 60s }\n  vary: [accept-language]\n- path: /**\n  ssr: {}\n",
        &origin,
    )
    .await;
    let client = edge.client().ssr();
    let visitor = |path: &str| {
        client
            .get(path)
            .header("Cookie", "me=1")
            .header("Accept-Language", "de")
            .header("X-Forwarded-Host", "evil.example")
            .header("X-Original-URL", "/admin")
            .header("X-Custom", "1")
            .header("If-None-Match", "\"x\"")
            .header("Range", "bytes=0-1")
            .header("Via", "1.1 other")
            .header("Connection", "X-Hop")
            .header("X-Hop", "1")
    };
    origin.on("/isr/a").reply(Response::html("page"));
    visitor("/isr/a?x=1").await;
    origin.on("/a").reply(Response::html("page").cache("no-store"));
    visitor("/a?x=1").await;
    let requests = origin.requests();
    let names = |n: usize| {
        let mut names: Vec<String> =
            requests[n].fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort_unstable();
        names
    };
    let page = [
        "accept",
        "accept-language",
        "host",
        "user-agent",
        "via",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    assert_eq!(
        (names(0), requests[0].target.as_str()),
        (page.map(String::from).to_vec(), "/isr/a")
    );
    let ssr = [
        "accept-language",
        "cookie",
        "host",
        "via",
        "x-custom",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    assert_eq!((names(1), requests[1].target.as_str()), (ssr.map(String::from).to_vec(), "/a?x=1"));
    for request in requests {
        assert_eq!(request.header("x-forwarded-host"), Some("example.com"));
        assert_eq!(request.header("x-forwarded-proto"), Some("http"));
        assert!(request.header("via").unwrap().starts_with("1.1 perennial-"));
    }
}

/// How a fill on `ssr` goes may be its client's doing: what it fails with is for nobody
/// else, and nobody waits for it when its client has left.
#[tokio::test]
async fn a_client_whose_request_hangs_or_fails_holds_up_nobody() {
    let origin = Origin::start().await;
    let edge = edge_with(&origin, "fill_timeout: 500ms", "").await;
    let client = edge.client().ssr();
    let hostile = |path: &str| client.get(path).header("X-Hostile", "1");
    let page = || Response::html("page").cache("max-age=60");

    // It gets no answer; who waited for it asks for itself.
    let silent = origin.on("/a").with("x-hostile", "1").silence();
    let leader = go(hostile("/a"));
    silent.reached().await;
    origin.on("/a").reply(page());
    client.get("/a").await.is(200, "MISS", "page");
    assert_eq!(leader.await.unwrap().status, 504);

    // It gets none, and its client leaves.
    let silent = origin.on("/b").with("x-hostile", "1").silence();
    let mut leader = client.connect().await;
    leader.send(hostile("/b").to_bytes()).await;
    silent.reached().await;
    let follower = go(client.get("/b"));
    assert_eq!(edge.revalidate("tag=nobody-has-this").await.status, 200);
    origin.on("/b").reply(page());
    leader.reset();
    follower.await.unwrap().is(200, "MISS", "page");
    // And who comes later waits for nobody.
    client.get("/b").await.is(200, "HIT", "page");
    origin.forgive();
}

/// RFC 9111 §4.3.4 and §4.1: a 304 may say that the page varies from now on.
#[tokio::test]
async fn a_304_that_varies_is_for_those_it_selects() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let old = dated(Response::html("page").cache("max-age=10"), Duration::from_secs(100));
    origin.on("/v").reply(old.header("ETag", "\"v\""));
    client.get("/v").await.is(200, "MISS", "page");
    let unchanged = Response::status(304).cache("max-age=60").header("ETag", "\"v\"");
    origin
        .on("/v")
        .with("accept-language", "de")
        .reply(unchanged.header("Vary", "Accept-Language"));
    client.get("/v").header("Accept-Language", "de").await.is(200, "REVALIDATED", "page");
    client.get("/v").header("Accept-Language", "de").await.is(200, "HIT", "page");
    origin.on("/v").with("accept-language", "en").reply(Response::html("en").cache("max-age=60"));
    client.get("/v").header("Accept-Language", "en").await.is(200, "MISS", "en");
}

/// A variant that is asked for again and again outlives those that are made up once,
/// even where they push it out before its first hit.
#[tokio::test]
async fn made_up_variants_push_out_one_another() {
    let origin = Origin::serve(|request| {
        let value = request.header("x-foo").unwrap_or("none").to_owned();
        Response::html(value).cache("max-age=60").header("Vary", "X-Foo")
    })
    .await;
    let edge = edge_with(&origin, "", "max_variants: 4").await;
    let client = edge.client().ssr();
    let mut made_up = 0..;
    let mut hits = 0;
    for _ in 0..10 {
        let page = client.get("/p").await;
        hits += usize::from(page.x_cache() == "HIT");
        for n in made_up.by_ref().take(8) {
            client.get("/p").header("X-Foo", &format!("m{n}")).await;
        }
    }
    assert!(hits >= 8, "{hits} of 10");
}
