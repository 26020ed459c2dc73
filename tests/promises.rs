//! What Perennial promises on its first page, each with a test that would fail
//! without it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Break, Edge, Origin, Response, eventually, patient};

const ISR: &str = "- path: /**\n  isr: { revalidate: 1h }\n";
const SSR: &str = "- path: /**\n  ssr: {}\n";

/// A page that was rendered longer ago than it is fresh.
fn old(body: &'static str) -> Response {
    Response::html(body).header("Age", "7200")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_requests_are_one_render_streamed_to_all() {
    let origin = Origin::start().await;
    let edge = Edge::start(ISR, &origin).await;
    let render = origin.on("/p").stream(Response::html("").chunked());
    let visitors: Vec<_> = (0..1000)
        .map(|_| {
            let client = edge.client();
            tokio::spawn(async move {
                let mut stream = client.get("/p").stream().await;
                stream.expect("first half, ").await;
                stream
            })
        })
        .collect();
    render.reached().await;
    render.send("first half, ").await;
    let mut streams = Vec::new();
    for visitor in visitors {
        // All of them read the first half while the second is not there yet.
        streams.push(patient("the first half", visitor).await.unwrap());
    }
    render.send("second half").await;
    render.finish().await;
    for stream in streams {
        assert_eq!(stream.rest().await.unwrap(), "second half");
    }
    assert_eq!(origin.total(), 1);
    edge.client().get("/p").await.is(200, "HIT", "first half, second half");
    edge.stop().await;
}

#[tokio::test]
async fn a_stale_hit_waits_for_nobody_and_starts_one_regeneration() {
    let origin = Origin::start().await;
    let edge = Edge::start(ISR, &origin).await;
    let client = edge.client();
    // `Age` past the lifetime is a stale copy of the origin's own: asked for again
    // after the back-off, so the staleness here comes from a purge.
    origin.on("/p").reply(Response::html("one"));
    client.get("/p").await.is(200, "MISS", "one");
    assert_eq!(edge.revalidate("tag=none&path=/p&mode=stale").await.status, 200);
    let render = origin.on("/p").hold(Response::html("two"));
    for _ in 0..50 {
        let answer = client.get("/p").await;
        answer.is(200, "STALE", "one");
        assert!(answer.cache_status().ends_with("detail=regenerating"), "{answer}");
    }
    render.reached().await;
    assert_eq!(origin.total(), 2, "one regeneration");
    render.release();
    eventually("the new page", || async { (client.get("/p").await.text() == "two").then_some(()) })
        .await;
    assert_eq!(origin.total(), 2);
    edge.stop().await;
}

#[tokio::test]
async fn a_regeneration_that_fails_changes_nothing_and_backs_off() {
    let yaml = "origins:\n  origin: { servers: ['{origin}'], fill_timeout: 300ms }\n\
                cache: { max_object: 1KiB }\n\
                routes:\n- path: /**\n  isr: { revalidate: 1h }\nbackoff: { min: 1h, max: 1h }\n";
    let big = "x".repeat(4000);
    for (what, failure) in [
        ("5xx", Some(Response::status(503))),
        ("broken off", Some(Response::html("0123456789").break_after(4, Break::Fin))),
        ("reset", Some(Response::html("0123456789").break_after(4, Break::Rst))),
        (
            "unfinished chunks",
            Some(Response::html("0123456789").chunked().break_after(4, Break::Fin)),
        ),
        ("too large", Some(Response::html(big.clone()))),
        ("too large, chunked", Some(Response::html(big.clone()).chunked())),
        ("ill-typed", Some(Response::html("x").header("Content-Type", "text/x-component"))),
        ("silent", None),
    ] {
        let origin = Origin::start().await;
        let edge = Edge::start(yaml, &origin).await;
        let client = edge.client();
        origin.on("/p").reply(Response::html("good"));
        client.get("/p").await.is(200, "MISS", "good");
        edge.revalidate("path=/p&mode=stale").await;
        match failure {
            Some(Response { .. }) if what == "ill-typed" => {
                let rsc = Response::status(200).header("Content-Type", "text/x-component");
                drop(origin.on("/p").reply(rsc.body("0:{}")));
            }
            Some(failure) => drop(origin.on("/p").reply(failure)),
            None => drop(origin.on("/p").silence()),
        }
        client.get("/p").await.is(200, "STALE", "good");
        eventually(format!("the back-off after {what}"), || async {
            let answer = client.get("/p").await;
            answer.is(200, "STALE", "good");
            answer.cache_status().contains("detail=backoff").then_some(())
        })
        .await;
        assert_eq!(origin.total(), 2, "{what}");
        origin.forgive();
        edge.stop().await;
    }
}

#[tokio::test]
async fn a_visitor_who_leaves_ends_no_fill() {
    let origin = Origin::start().await;
    let edge = Edge::start(ISR, &origin).await;
    let render = origin.on("/p").stream(Response::html("").chunked());
    let leader = edge.client().get("/p");
    let leader = tokio::spawn(leader.stream());
    render.reached().await;
    render.send("half ").await;
    let mut leader = patient("the head", leader).await.unwrap();
    leader.expect("half ").await;
    leader.reset();
    render.send("whole").await;
    render.finish().await;
    let client = edge.client();
    eventually("the page to be stored", || async {
        (client.get("/p").await.x_cache() == "HIT").then_some(())
    })
    .await;
    client.get("/p").await.is(200, "HIT", "half whole");
    assert_eq!(origin.total(), 1);
    edge.stop().await;
}

#[tokio::test]
async fn a_fill_that_breaks_off_is_an_error_to_all_and_is_not_stored() {
    for chunked in [true, false] {
        let origin = Origin::start().await;
        let edge = Edge::start(ISR, &origin).await;
        let page = Response::html("").chunked();
        let page = if chunked { page } else { Response::html("").claim_length(100) };
        let render = origin.on("/p").stream(page);
        let readers: Vec<_> =
            (0..5).map(|_| tokio::spawn(edge.client().get("/p").outcome())).collect();
        render.reached().await;
        render.send("only half").await;
        render.break_off(Break::Fin).await;
        for reader in readers {
            let outcome = patient("the end", reader).await.unwrap();
            assert!(outcome.is_err(), "ended as if it were complete: {outcome:?}");
        }
        origin.forgive();
        origin.on("/p").reply(Response::html("whole"));
        edge.client().get("/p").await.is(200, "MISS", "whole");
        edge.stop().await;
    }
}

#[tokio::test]
async fn private_pages_reach_no_follower_and_do_not_queue() {
    let origin = Origin::start().await;
    let edge = Edge::start(ISR, &origin).await;
    let first = origin.on("/me").hold(Response::html("for one").cache("private"));
    let leader = tokio::spawn(edge.client().get("/me").into_future());
    first.reached().await;
    let followers: Vec<_> =
        (0..3).map(|_| tokio::spawn(edge.client().get("/me").into_future())).collect();
    let count = AtomicUsize::new(0);
    origin.on("/me").always().reply_with(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        Response::html(format!("another {n}")).cache("private")
    });
    first.release();
    assert_eq!(leader.await.unwrap().text(), "for one");
    let mut bodies = Vec::new();
    for follower in followers {
        bodies.push(patient("a follower", follower).await.unwrap().text().to_owned());
    }
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 3, "each got a page of their own: {bodies:?}");
    assert!(bodies.iter().all(|body| body.starts_with("another")), "{bodies:?}");
    edge.stop().await;
}

#[tokio::test]
async fn events_pass_at_once_and_end_with_their_visitor() {
    let origin = Origin::start().await;
    let yaml = "origins:\n  origin: { servers: ['{origin}'], fill_timeout: 500ms, \
                max_concurrent_fills: 1 }\nroutes:\n- path: /**\n  ssr: {}\n";
    let edge = Edge::start(yaml, &origin).await;
    let events = Response::status(200).header("Content-Type", "text/event-stream").chunked();
    let source = origin.on("/events").stream(events.cache("no-store"));
    let visitor = tokio::spawn(edge.client().ssr().get("/events").stream());
    source.reached().await;
    source.send("data: 1\n\n").await;
    let mut visitor = patient("the head", visitor).await.unwrap();
    visitor.expect("data: 1\n\n").await;
    // It holds no place: another fill runs beside it. And when one that began later
    // has met its deadline, it lives on.
    for n in 0..2 {
        let page = format!("/page/{n}");
        origin.on(&page).reply(Response::html("page").cache("s-maxage=60"));
        edge.client().ssr().get(&page).await.is(200, "MISS", "page");
        let silent = format!("/silent/{n}");
        origin.on(&silent).silence();
        assert_eq!(edge.client().ssr().get(&silent).await.status, 504);
        source.send(format!("data: {n}\n\n")).await;
        visitor.expect(format!("data: {n}\n\n")).await;
    }
    visitor.reset();
    source.ended().await;
    origin.forgive();
    edge.stop().await;
}

#[tokio::test]
async fn html_and_json_are_one_deferred_page() {
    let origin = Origin::serve(|request| {
        if request.header("accept") == Some("application/json") {
            Response::json("{}")
        } else {
            Response::html("html")
        }
    })
    .await;
    let edge = Edge::start("- path: /**\n  dsg: {}\n", &origin).await;
    let client = edge.client();
    client.get("/p").header("Accept", "text/html").await.is(200, "MISS", "html");
    origin.wait_for(2).await;
    let json = || client.get("/p").header("Accept", "application/json");
    eventually("the pair", || async { (json().await.x_cache() == "HIT").then_some(()) }).await;
    json().await.is(200, "HIT", "{}");
    client.get("/p").header("Accept", "*/*").await.is(200, "HIT", "html");
    assert_eq!(origin.total(), 2);
    edge.stop().await;
}

#[tokio::test]
async fn a_page_without_json_answers_any_accept_with_its_html() {
    let origin = Origin::serve(|_| Response::html("html")).await;
    let edge = Edge::start("- path: /**\n  dsg: {}\n", &origin).await;
    let client = edge.client();
    client.get("/p").header("Accept", "application/json").await.is(200, "MISS", "html");
    for _ in 0..5 {
        client.get("/p").header("Accept", "application/json").await.is(200, "HIT", "html");
    }
    assert_eq!(origin.total(), 2, "one probe, one page");
    edge.stop().await;
}

#[tokio::test]
async fn nothing_of_a_visitor_reaches_a_page_routes_origin() {
    let poison = [
        ("Cookie", "session=secret"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Scheme", "nothttps"),
        ("X-Forwarded-Port", "1337"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("Forwarded", "host=evil.example"),
        ("X-Host", "evil.example"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("User-Agent", "poison"),
        ("Accept-Language", "xx"),
        ("Origin", "https://evil.example"),
        ("Range", "bytes=0-1"),
        ("If-None-Match", "\"evil\""),
        ("X-Anything", "poison"),
    ];
    let origin = Origin::start().await;
    let edge =
        Edge::start("- path: /**\n  isr: { revalidate: 1h }\n  query: [page]\n", &origin).await;
    let render = origin.on("/p?page=2").hold(Response::html("clean"));
    let mut ask = edge.client().host("good.example").get("/p?evil=1&page=2&utm=x;page=3");
    for (name, value) in poison {
        ask = ask.header(name, value);
    }
    let answer = tokio::spawn(ask.into_future());
    let request = render.reached().await;
    let sent = format!("{request:?}").to_lowercase();
    for word in [
        "evil",
        "poison",
        "secret",
        "1337",
        "6.6.6.6",
        "nothttps",
        "/admin",
        "delete",
        "127.0.0.1\"",
    ] {
        assert!(!sent.contains(word), "{word} in {sent}");
    }
    assert_eq!(request.header("x-forwarded-host"), Some("good.example"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    for name in ["cookie", "range", "if-none-match", "accept-language", "accept-encoding"] {
        assert_eq!(request.header(name), None, "{name}");
    }
    render.release();
    answer.await.unwrap();
    edge.client().host("GOOD.example:80").get("/p?page=2").await.is(200, "HIT", "clean");
    let render = origin.on("/q").hold(Response::html("clean"));
    let odd = tokio::spawn(edge.client().host("GOOD.example:80").get("/q").into_future());
    let request = render.reached().await;
    assert_eq!(request.header("host"), Some("good.example"), "as it is keyed");
    assert_eq!(request.header("x-forwarded-host"), Some("good.example"));
    render.release();
    odd.await.unwrap();
    edge.stop().await;
}

#[tokio::test]
async fn what_is_private_is_never_stored_whatever_the_route_says() {
    for (field, value, reason) in [
        ("Cache-Control", "private", "private"),
        ("Cache-Control", "no-store", "no-store"),
        ("Set-Cookie", "a=1", "set-cookie"),
        ("Vary", "*", "vary-star"),
        ("CDN-Cache-Control", "no-store", "no-store"),
    ] {
        let origin = Origin::start().await;
        let edge = Edge::start(ISR, &origin).await;
        origin.on("/p").times(2).reply(Response::html("x").header(field, value));
        for _ in 0..2 {
            let answer = edge.client().ssr().get("/p").await;
            answer.is(200, "MISS", "x");
            let detail = format!("detail={reason}");
            assert!(answer.cache_status().contains(&detail), "{answer}");
        }
        edge.stop().await;
    }
}

#[tokio::test]
async fn a_304_refreshes_what_is_stored() {
    let origin = Origin::start().await;
    let edge = Edge::start(SSR, &origin).await;
    let client = edge.client().ssr();
    let page = Response::html("body").header("ETag", "\"v1\"").cache("max-age=60");
    origin.on("/p").reply(page.header("Age", "61").header("X-Version", "1"));
    client.get("/p").await.is(200, "MISS", "body");
    let not_modified = Response::status(304).header("ETag", "\"v1\"").cache("max-age=60");
    origin
        .on("/p")
        .with("if-none-match", "\"v1\"")
        .reply(not_modified.header("X-Version", "2").header("Set-Cookie", "mine=1"));
    let answer = client.get("/p").await;
    answer.is(200, "REVALIDATED", "body");
    assert_eq!(answer.header("x-version"), Some("2"));
    assert_eq!(answer.header("set-cookie"), Some("mine=1"), "for its requester");
    let answer = client.get("/p").await;
    answer.is(200, "HIT", "body");
    assert_eq!(answer.header("set-cookie"), None, "and nobody else");
    edge.stop().await;
}

#[tokio::test]
async fn stored_pages_answer_conditions_ranges_and_head() {
    let origin = Origin::start().await;
    let edge = Edge::start(ISR, &origin).await;
    let client = edge.client();
    origin.on("/p").reply(Response::html("0123456789").header("ETag", "\"v\""));
    // Already on the miss: from the page that is being stored.
    let part = client.get("/p").header("Range", "bytes=2-4").await;
    assert_eq!((part.status, part.text()), (206, "234"));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    let same = client.get("/p").header("If-None-Match", "W/\"v\"").await;
    assert_eq!((same.status, same.text()), (304, ""));
    let many = client.get("/p").header("Range", "bytes=0-1,-2").await;
    assert_eq!(many.status, 206);
    assert!(many.header("content-type").unwrap().starts_with("multipart/byteranges"), "{many}");
    let beyond = client.get("/p").header("Range", "bytes=10-").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */10")));
    let other = client.get("/p").header("Range", "bytes=0-1").header("If-Range", "\"w\"").await;
    assert_eq!((other.status, other.text()), (200, "0123456789"));
    let head = client.head("/p").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    let failed = client.get("/p").header("If-Match", "\"w\"").await;
    assert_eq!(failed.status, 412);
    edge.stop().await;
}

#[tokio::test]
async fn compressed_once_after_storing() {
    let text = "the same words again and again, ".repeat(100);
    let origin = Origin::start().await;
    let edge = Edge::start(ISR, &origin).await;
    let client = edge.client();
    origin.on("/p").reply(Response::html(text.clone()));
    let first = client.get("/p").header("Accept-Encoding", "gzip, br, zstd").await;
    assert_eq!((first.header("content-encoding"), first.text()), (None, &*text));
    let mut etags = Vec::new();
    for (accept, coding) in [
        ("gzip", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip;q=0.5, br;q=0.9, zstd;q=0.1", "br"),
        ("br;q=0, zstd;q=0, *", "gzip"),
    ] {
        let answer = eventually(accept, || async {
            let answer = client.get("/p").header("Accept-Encoding", accept).await;
            (answer.header("content-encoding") == Some(coding)).then_some(answer)
        })
        .await;
        assert!(answer.body.len() < text.len() / 2);
        assert!(answer.header("vary").unwrap().contains("Accept-Encoding"));
        etags.push(answer.header("etag").unwrap().to_owned());
        let same =
            client.get("/p").header("Accept-Encoding", accept).header("If-None-Match", &etags[0]);
        assert_eq!(same.await.status, 304, "any coding's tag tells that the visitor has it");
    }
    assert_eq!(etags[1], etags[3]);
    etags.sort();
    etags.dedup();
    assert_eq!(etags.len(), 3, "a tag for each coding");
    client.get("/p").await.is(200, "HIT", &text);
    assert_eq!(origin.total(), 1);
    edge.stop().await;
}

#[tokio::test]
async fn another_server_takes_over_when_connecting_fails() {
    let (good, bad) = (Origin::start().await, Origin::start().await);
    bad.refuse().await;
    let yaml = "origins:\n  web: { servers: ['{bad}', '{good}'] }\nroutes:\n\
                - path: /pass/**\n  pass: {}\n- path: /**\n  isr: { revalidate: 1h }\n";
    let edge = Edge::with(yaml, &[("good", &good), ("bad", &bad)]).await;
    for n in 0..4 {
        let (page, passed) = (format!("/p{n}"), format!("/pass/{n}"));
        good.on(&page).reply(Response::html("page"));
        edge.client().get(&page).await.is(200, "MISS", "page");
        good.on(&passed).reply(Response::html("passed"));
        edge.client().ssr().get(&passed).await.is(200, "BYPASS", "passed");
    }
    good.refuse().await;
    let none = edge.client().get("/q").await;
    assert_eq!(none.status, 502, "{none}");
    assert!(none.cache_status().contains("detail=connect"), "{none}");
    edge.stop().await;
}

#[tokio::test]
async fn the_last_good_page_outlives_its_origin() {
    let origin = Origin::start().await;
    let edge = Edge::start(ISR, &origin).await;
    let client = edge.client();
    origin.on("/p").reply(old("good"));
    client.get("/p").await;
    origin.refuse().await;
    for _ in 0..20 {
        client.get("/p").await.is(200, "STALE", "good");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_stop_lets_what_is_in_flight_end() {
    let origin = Origin::start().await;
    let edge = Edge::start(ISR, &origin).await;
    let render = origin.on("/p").hold(Response::html("in time"));
    let visitor = tokio::spawn(edge.client().get("/p").into_future());
    render.reached().await;
    let stopped = tokio::spawn(edge.stop());
    assert!(!stopped.is_finished());
    render.release();
    patient("the page", visitor).await.unwrap().is(200, "MISS", "in time");
    patient("the stop", stopped).await.unwrap();
}

#[tokio::test]
async fn a_render_from_before_an_expire_is_for_nobody_after_it() {
    let origin = Origin::start().await;
    let edge = Edge::start(ISR, &origin).await;
    for arguments in ["path=/p", "tag=t", "prefix=/", "all=1"] {
        let page = |body: &'static str| Response::html(body).header("Cache-Tag", "t");
        let before = origin.on("/p").hold(page("before"));
        let waiting = tokio::spawn(edge.client().get("/p").into_future());
        before.reached().await;
        assert_eq!(edge.revalidate(&format!("{arguments}&mode=expire")).await.status, 200);
        let after = origin.on("/p").hold(page("after"));
        let late = tokio::spawn(edge.client().get("/p").into_future());
        if arguments != "tag=t" {
            // By a tag it can only be told when the first render's tags are known.
            after.reached().await;
        }
        before.release();
        assert_eq!(patient("who waited before", waiting).await.unwrap().text(), "before");
        after.reached().await;
        after.release();
        assert_eq!(patient("who came after", late).await.unwrap().text(), "after");
        edge.client().get("/p").await.is(200, "HIT", "after");
        edge.revalidate("path=/p&mode=delete").await;
    }
    edge.stop().await;
}

#[tokio::test]
async fn without_memory_everything_works_and_nothing_is_stored() {
    let origin = Origin::start().await;
    let yaml = "cache: { memory: 0 }\nroutes:\n- path: /**\n  isr: { revalidate: 1h }\n";
    let edge = Edge::start(yaml, &origin).await;
    for _ in 0..2 {
        origin.on("/p").reply(Response::html("page"));
        let answer = edge.client().get("/p").await;
        answer.is(200, "MISS", "page");
        assert!(answer.cache_status().contains("detail=no-cache"), "{answer}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_page_without_a_lifetime_gets_the_whole_request() {
    let origin = Origin::start().await;
    let edge = Edge::start("- path: /**\n  isr: { revalidate: origin }\n", &origin).await;
    let client = edge.client().ssr();
    origin
        .on("/account?tab=2")
        .with("cookie", "session=1")
        .times(3)
        .reply_with(|_| Response::html("yours").cache("private"));
    for _ in 0..3 {
        let answer = client.get("/account?tab=2").header("Cookie", "session=1").await;
        answer.is(200, "MISS", "yours");
    }
    assert_eq!(origin.total(), 3, "each of them whole");
    // A page beside it that has a lifetime is one for everybody: behind the first visit.
    origin.on("/about?x=1").reply(Response::html("yours").cache("s-maxage=60"));
    origin.on("/about").reply(Response::html("about").cache("s-maxage=60"));
    client.get("/about?x=1").header("Cookie", "session=1").await.is(200, "MISS", "yours");
    eventually("the page for all", async || {
        let answer = client.get("/about").await;
        assert_eq!(answer.text(), "about");
        (answer.x_cache() == "HIT").then_some(())
    })
    .await;
    edge.stop().await;
}

#[tokio::test]
async fn operators_see_what_happened() {
    let origin = Origin::start().await;
    let edge = Edge::start(ISR, &origin).await;
    origin.on("/p").reply(Response::html("page"));
    edge.client().get("/p").await;
    edge.client().get("/p").await;
    edge.revalidate("tag=x").await;
    let metrics = eventually("the metrics", || async {
        let metrics = edge.admin().get("/metrics").await.text().to_owned();
        metrics.contains("outcome=\"hit\"").then_some(metrics)
    })
    .await;
    for part in [
        "perennial_requests_total{outcome=\"hit\",route=\"/**\",status=\"2xx\"} 1",
        "perennial_requests_total{outcome=\"miss\",route=\"/**\",status=\"2xx\"} 1",
        "result=\"stored\"",
        "kind=\"tag\"} 1",
    ] {
        assert!(metrics.contains(part), "no {part} in\n{metrics}");
    }
    let ready = edge.admin().get("/readyz").await;
    assert_eq!(ready.status, 200);
    origin.refuse().await;
    edge.client().get("/q").await;
    let ready = edge.admin().get("/readyz").await;
    assert_eq!(ready.status, 200, "it still serves what it has");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_variants_at_once_each_get_their_own() {
    let origin = Origin::serve(|request| {
        let theme = request.header("x-theme").unwrap_or("none").to_owned();
        Response::html(theme).cache("s-maxage=60").header("Vary", "X-Theme")
    })
    .await;
    let edge = Edge::start(SSR, &origin).await;
    for round in 0..3 {
        let visitors: Vec<_> = (0..40)
            .map(|n| {
                let theme = format!("theme-{}", n % 20);
                let target = format!("/p{round}");
                let ask = edge.client().ssr().get(&target).header("X-Theme", &theme);
                (theme, tokio::spawn(ask.into_future()))
            })
            .collect();
        for (theme, visitor) in visitors {
            let answer = patient("a variant", visitor).await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, &*theme));
        }
    }
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outgrows_the_store_flows_to_who_keeps_up() {
    let origin = Origin::start().await;
    let yaml = "cache: { max_object: 8MiB }\nroutes:\n- path: /**\n  isr: { revalidate: 1h }\n";
    let edge = Edge::start(yaml, &origin).await;
    let render = origin.on("/big").stream(Response::html("").chunked());
    let fast = tokio::spawn(edge.client().get("/big").stream());
    render.reached().await;
    render.send("start").await;
    let mut fast = patient("the head", fast).await.unwrap();
    fast.expect("start").await;
    // Joins while it may still be stored, and then reads nothing.
    let slow = edge.client().get("/big").narrow().stream().await;
    // The kernel holds some MiB for who reads nothing: fewer than max_object, so
    // that who reads is never that far behind.
    let piece = "x".repeat(256 << 10);
    let pieces = 32 * 4;
    let reading = tokio::spawn(fast.rest());
    for _ in 0..pieces {
        render.send(piece.clone()).await;
    }
    render.finish().await;
    let body = patient("all of it", reading).await.unwrap().expect("it kept up");
    assert_eq!(body.len(), pieces * piece.len(), "32 MiB through a pipe");
    let cut_off = patient("the end of who was too slow", slow.rest()).await;
    assert!(cut_off.is_err(), "who read nothing cannot have had all of it");
    origin.on("/big").reply(Response::html("small again"));
    edge.client().get("/big").await.is(200, "MISS", "small again");
    edge.stop().await;
}

#[tokio::test]
async fn a_page_too_old_to_be_stale_still_outlives_its_origin() {
    let origin = Origin::start().await;
    let yaml = "- path: /**\n  isr: { revalidate: 1s, stale_for: 1s }\n\
                backoff: { min: 1h, max: 1h }\n";
    let edge = Edge::start(yaml, &origin).await;
    let client = edge.client();
    origin.on("/p").reply(old("good"));
    client.get("/p").await;
    // The origin's own copy was old, so it is asked for again only after the back-off.
    client.get("/p").await.is(200, "STALE", "good");
    edge.revalidate("path=/p&if_cached=1").await; // fails: nothing is expected
    origin.forgive();
    let failing = origin.on("/p").times(1).reply(Response::status(500));
    client.get("/p").await.is(200, "STALE", "good");
    failing.reached().await;
    let answer = client.get("/p").await;
    answer.is(200, "STALE", "good");
    assert!(answer.cache_status().ends_with("detail=backoff"), "{answer}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_when_a_render_ends_finds_it_stored() {
    let origin = Origin::serve(|_| Response::html("page")).await;
    let edge = Edge::start(ISR, &origin).await;
    const PAGES: usize = 200;
    for page in 0..PAGES {
        // They arrive while the render begins, runs, is stored and leaves.
        let visitors: Vec<_> = (0..12)
            .map(|_| tokio::spawn(edge.client().get(&format!("/{page}")).into_future()))
            .collect();
        for visitor in visitors {
            assert_eq!(patient("a page", visitor).await.unwrap().text(), "page");
        }
    }
    assert_eq!(origin.total(), PAGES, "one render for each page");
    edge.stop().await;
}

#[tokio::test]
async fn a_304_from_before_an_expire_is_for_nobody_after_it() {
    let origin = Origin::start().await;
    let edge = Edge::start(SSR, &origin).await;
    let page = |body: &'static str| {
        Response::html(body).cache("max-age=60").header("Cache-Tag", "t").header("ETag", "\"v1\"")
    };
    origin.on("/p").reply(page("old").header("Age", "61"));
    edge.client().ssr().get("/p").await.is(200, "MISS", "old");
    let not_modified = Response::status(304).cache("max-age=60").header("ETag", "\"v1\"");
    let before = origin.on("/p").with("if-none-match", "v1").hold(not_modified);
    let waiting = tokio::spawn(edge.client().ssr().get("/p").into_future());
    before.reached().await;
    assert_eq!(edge.revalidate("tag=t&mode=expire").await.status, 200);
    let late = tokio::spawn(edge.client().ssr().get("/p").into_future());
    origin.on("/p").reply(page("new"));
    before.release();
    patient("who waited before", waiting).await.unwrap().is(200, "REVALIDATED", "old");
    assert_eq!(patient("who came after", late).await.unwrap().text(), "new");
    edge.stop().await;
}
