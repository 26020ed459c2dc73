//! What takes a public page out of the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{edge, go, settle};
use crate::support::client::Ask;
use crate::support::origin::{Act, Gate, Request, Turn};
use crate::support::{Edge, Origin, Response, eventually, patient};

const NEXTJS: &str = "framework: nextjs\ndeployment: { probe: off, settle: 1h }\n";

/// Answers that forbid storing, or say that something is not public.
fn forbidding() -> Vec<(&'static str, Response)> {
    let page = || Response::html("not for all");
    vec![
        ("private", page().cache("private, max-age=60")),
        ("no-store", page().cache("no-store")),
        ("a cookie", page().cache("max-age=60").header("Set-Cookie", "id=1")),
        ("401", page().with_status(401)),
        ("403", page().with_status(403)),
        ("451", page().with_status(451).cache("no-store")),
    ]
}

/// Semantics §1: a request that selected nothing that is stored removes nothing, and
/// makes nothing uncollapsible but itself.
#[tokio::test]
async fn a_made_up_variant_takes_no_public_page_out() {
    for (field, value) in [("Cookie", "id=made-up"), ("Accept-Language", "xx-made-up")] {
        for (what, forbids) in forbidding() {
            let (gate, holds) = (Gate::default(), Arc::new(AtomicBool::new(false)));
            let origin = {
                let (gate, holds) = (gate.clone(), Arc::clone(&holds));
                Origin::act(move |request| {
                    let page = match request.header(field) {
                        Some(_) => forbids.clone(),
                        None => Response::html("public").cache("s-maxage=600"),
                    };
                    let reply = Act::Reply(page.header("Vary", field));
                    if holds.load(Ordering::SeqCst) {
                        Act::Gated(gate.clone(), Box::new(reply))
                    } else {
                        reply
                    }
                })
                .await
            };
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            client.get("/p").await.is(200, "MISS", "public");
            assert_eq!(client.get("/p").header(field, value).await.text(), "not for all");
            let page = client.get("/p").await;
            assert_eq!(page.x_cache(), "HIT", "{field}, {what}: {page}");
            // Rendered again, it is one render for all who come meanwhile.
            assert_eq!(edge.revalidate("path=/p&mode=expire").await.status, 200);
            holds.store(true, Ordering::SeqCst);
            let before = origin.total();
            let visitors: Vec<_> = (0..5).map(|_| go(client.get("/p"))).collect();
            settle(&edge).await;
            gate.open();
            for visitor in visitors {
                assert_eq!(visitor.await.unwrap().text(), "public");
            }
            assert_eq!(origin.total() - before, 1, "{field}, {what}: not collapsible");
            edge.stop().await;
        }
    }
}

/// The same by `Accept`: the page's JSON, which it may not have, says nothing of it.
#[tokio::test]
async fn a_probe_for_json_takes_no_page_out() {
    for path in ["/isr/p", "/dsg/p", "/origin/p"] {
        for (what, forbids) in forbidding() {
            let origin = {
                let forbids = forbids.clone();
                Origin::serve(move |request| {
                    if request.header("accept").is_some_and(|accept| accept.contains("json")) {
                        forbids.clone()
                    } else {
                        Response::html("public").cache("s-maxage=600")
                    }
                })
                .await
            };
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            client.get(path).await.is(200, "MISS", "public");
            for _ in 0..3 {
                let _ = client.get(path).header("Accept", "application/json").await;
                settle(&edge).await;
                let page = client.get(path).await;
                assert_eq!(
                    (page.x_cache(), page.text()),
                    ("HIT", "public"),
                    "{path}, {what}: {page}"
                );
            }
            edge.stop().await;
        }
    }
}

/// A document of the app router.
fn document() -> Response {
    let row = serde_json::to_string("0:{\"P\":null,\"b\":\"B1\"}\n").expect("a string is JSON");
    let body = format!("<p>page</p><script>self.__next_f.push([1,{row}])</script>");
    Response::html(body).cache("s-maxage=600, stale-while-revalidate=600")
}

/// A payload of it.
fn payload() -> Response {
    Response::status(200)
        .header("Content-Type", "text/x-component")
        .body("1:\"page\"\n0:{\"P\":null,\"b\":\"B1\"}\n")
        .cache("s-maxage=600, stale-while-revalidate=600")
}

fn is_payload(request: &Request) -> bool {
    request.header("rsc").is_some()
}

/// Asks until it is a hit: the pair of a page comes behind its client's back.
async fn until_hit(what: &str, ask: impl Fn() -> Ask) {
    eventually(what, || async { (ask().await.x_cache() == "HIT").then_some(()) }).await;
}

/// Answers to a request for a part of a page that forbid storing, or do not allow it.
fn of_a_part() -> Vec<(&'static str, Response)> {
    let mut answers = forbidding();
    answers.push(("404", Response::status(404).cache("private, no-store")));
    answers.push(("no lifetime", payload_of_one()));
    answers.push(("private payload", payload_of_one().cache("private")));
    answers
}

/// A page by the preset's own route, and one by a route with a lifetime.
const PAGES: [&str; 2] = ["/p", "/isr/p"];

/// The preset, with a route that says itself how long pages live.
async fn next(origin: &Origin) -> Edge {
    let routes = "routes:\n- path: /isr/**\n  isr: { revalidate: 1h }\n";
    Edge::start(&format!("threads: 1\n{NEXTJS}{routes}"), origin).await
}

/// The same by `RSC` and a segment that no page has.
#[tokio::test]
async fn a_made_up_segment_takes_no_page_out() {
    for (what, forbids) in of_a_part() {
        let origin = Origin::serve(move |request| {
            let made_up = request
                .header("next-router-segment-prefetch")
                .is_some_and(|segment| segment.contains("made-up"));
            match (made_up, is_payload(request)) {
                (true, _) => forbids.clone(),
                (false, true) => payload(),
                (false, false) => document(),
            }
        })
        .await;
        let edge = next(&origin).await;
        let client = edge.client().ssr();
        for path in PAGES {
            let page = || client.get(path);
            let rsc = || client.get(path).header("RSC", "1");
            until_hit("the page", page).await;
            until_hit("its payload", rsc).await;
            for n in 0..4 {
                let segment = format!("/made-up-{n}");
                let ask = rsc().header("Next-Router-Segment-Prefetch", &segment);
                let _ =
                    if n % 2 == 0 { ask.header("Next-Router-Prefetch", "1") } else { ask }.await;
                settle(&edge).await;
                for answer in [page().await, rsc().await] {
                    let shown = (answer.status, answer.x_cache());
                    assert_eq!(shown, (200, "HIT"), "{path}, {what}: {answer}");
                }
            }
        }
        edge.stop().await;
    }
}

/// Semantics §4: what a payload or data URL answers concerns that form alone, unless
/// the document says the same.
#[tokio::test]
async fn what_a_payload_answers_concerns_the_payload_alone() {
    for (what, forbids) in of_a_part() {
        let origin = Origin::serve(move |request| {
            let data = request.path().starts_with("/_next/data/");
            if data || is_payload(request) { forbids.clone() } else { document() }
        })
        .await;
        let edge = next(&origin).await;
        let client = edge.client().ssr();
        for path in PAGES {
            client.get(path).await;
            let data = format!("/_next/data/B1{path}.json");
            for ask in [client.get(path).header("RSC", "1"), client.get(&data)] {
                let shown = ask.to_string();
                let _ = ask.await;
                settle(&edge).await;
                let page = client.get(path).await;
                let seen = (page.status, page.x_cache());
                assert_eq!(seen, (200, "HIT"), "{what} to {shown}: {page}");
            }
        }
        edge.stop().await;
    }
}

/// A payload that says nothing of its lifetime.
fn payload_of_one() -> Response {
    Response::status(200)
        .header("Content-Type", "text/x-component")
        .body("1:\"made up\"\n0:{\"P\":null,\"b\":\"B1\"}\n")
}

/// Semantics §4: 429 and its like say nothing about a page's JSON.
#[tokio::test]
async fn a_429_in_plain_text_drops_no_json() {
    for status in [408, 421, 425, 429, 431, 500, 503] {
        let ill = Arc::new(AtomicUsize::new(0));
        let origin = {
            let ill = Arc::clone(&ill);
            Origin::serve(move |request| {
                let json = request.header("accept") == Some("application/json");
                match json {
                    true if ill.load(Ordering::SeqCst) > 0 => Response::status(status)
                        .header("Content-Type", "text/plain")
                        .body("slow down"),
                    true => Response::json("{}"),
                    false => Response::html("page"),
                }
            })
            .await
        };
        let edge = edge(&origin).await;
        let client = edge.client();
        let json = |path: &str| client.get(path).header("Accept", "application/json");
        client.get("/isr/p").await.is(200, "MISS", "page");
        json("/isr/p").await.is(200, "MISS", "{}");
        // While it is renewed …
        ill.store(1, Ordering::SeqCst);
        assert_eq!(edge.revalidate("path=/isr/p").await.status, 500, "{status}");
        let answer = json("/isr/p").await;
        assert_eq!((answer.status, answer.text()), (200, "{}"), "{status}: {answer}");
        // … and where it was never asked for.
        client.get("/isr/q").await.is(200, "MISS", "page");
        let _ = json("/isr/q").await;
        ill.store(0, Ordering::SeqCst);
        let answer = json("/isr/q").await;
        assert_eq!((answer.status, answer.text()), (200, "{}"), "{status}: {answer}");
        edge.stop().await;
    }
}

/// Semantics §4: a data URL that names a build which is not a known one is passed
/// through and never stored; a deployment's name is not that of a build.
#[tokio::test]
async fn a_data_url_that_names_the_deployment_stores_nothing() {
    let own = "/_next/data/B1/p.json";
    let origin = Origin::serve(move |request| match request.path() {
        "/p" => Response::html(
            "<p>page</p><script id=\"__NEXT_DATA__\" type=\"application/json\">\
             {\"props\":{},\"buildId\":\"B1\",\"gsp\":true}</script>",
        )
        .cache("s-maxage=600"),
        "/q" => Response::html(
            "<p>page</p><script id=\"__NEXT_DATA__\" type=\"application/json\">\
             {\"props\":{},\"buildId\":\"B1\"}</script>",
        )
        .cache("s-maxage=600"),
        "/_next/data/B1/q.json" => Response::json("{\"page\":2}").cache("s-maxage=600"),
        path if path == own => Response::json("{\"page\":1}").cache("s-maxage=600"),
        _ => Response::json("{\"notFound\":true}").with_status(404).cache("s-maxage=600"),
    })
    .await;
    let yaml = "threads: 1\nframework: nextjs\ndeployment: { id: v1, probe: off }\n";
    let edge = Edge::start(yaml, &origin).await;
    let client = edge.client().ssr();
    // Where nobody has asked for the page's data yet …
    client.get("/q").await;
    let answer = client.get("/_next/data/v1/q.json").await;
    assert_eq!(answer.status, 404, "{answer}");
    let data = client.get("/_next/data/B1/q.json").await;
    assert_eq!((data.status, data.text()), (200, "{\"page\":2}"), "{data}");
    // … and where they are stored.
    client.get("/p").await;
    until_hit("its data", || client.get(own)).await;
    for made_up in ["/_next/data/v1/p.json", "/_next/data/B0/p.json"] {
        let before = origin.count(made_up);
        for _ in 0..2 {
            let answer = client.get(made_up).await;
            assert_eq!(answer.status, 404, "{made_up}: {answer}");
            client.get(own).await.is(200, "HIT", "{\"page\":1}");
        }
        assert_eq!(origin.count(made_up) - before, 2, "{made_up} is stored");
        assert_eq!(client.get("/p").await.x_cache(), "HIT");
    }
    edge.stop().await;
}

/// Semantics §4: members of a page are what its preset knows; values that clients
/// make up are no members, and a regeneration does not render them.
#[tokio::test]
async fn made_up_prefetch_values_are_no_members_of_a_page() {
    let origin =
        Origin::serve(|request| if is_payload(request) { payload() } else { document() }).await;
    let edge = Edge::start(&format!("threads: 1\n{NEXTJS}"), &origin).await;
    let client = edge.client().ssr();
    let prefetch =
        |value: &str| client.get("/p").header("RSC", "1").header("Next-Router-Prefetch", value);
    let rsc = || client.get("/p").header("RSC", "1");
    until_hit("the page", || client.get("/p")).await;
    until_hit("its payload", rsc).await;
    until_hit("its prefetch", || prefetch("1")).await;
    for n in 0..20 {
        assert_eq!(prefetch(&format!("made-up-{n}")).await.status, 200);
    }
    for answer in [client.get("/p").await, rsc().await, prefetch("1").await] {
        assert_eq!((answer.status, answer.x_cache()), (200, "HIT"), "{answer}");
    }
    let before = origin.total();
    assert_eq!(edge.revalidate("path=/p").await.status, 200);
    let renders = &origin.requests()[before..];
    assert!(renders.len() <= 3, "{} renders", renders.len());
    let made_up = |r: &&Request| {
        r.header("next-router-prefetch").is_some_and(|value| value.contains("made-up"))
    };
    assert_eq!(renders.iter().filter(made_up).count(), 0);
    edge.stop().await;
}

/// A regeneration renders what somebody asked for since the last one.
#[tokio::test]
async fn a_regeneration_leaves_out_what_nobody_asks_for() {
    let origin =
        Origin::serve(|request| if is_payload(request) { payload() } else { document() }).await;
    let edge = Edge::start(&format!("threads: 1\n{NEXTJS}"), &origin).await;
    let client = edge.client().ssr();
    let rsc = || client.get("/p").header("RSC", "1");
    until_hit("the page", || client.get("/p")).await;
    until_hit("its payload", rsc).await;
    until_hit("its prefetch", || rsc().header("Next-Router-Prefetch", "1")).await;
    assert_eq!(edge.revalidate("path=/p").await.status, 200);
    let before = origin.total();
    assert_eq!(edge.revalidate("path=/p").await.status, 200);
    let renders = origin.total() - before;
    assert!(renders < 3, "{renders} renders of a page that nobody asked for meanwhile");
    edge.stop().await;
}

/// Members of a page do not wait for one another, but for the document: that tells
/// whether there is anything to render.
#[tokio::test]
async fn members_are_rendered_side_by_side() {
    let origin = Origin::start().await;
    let edge = Edge::start(&format!("threads: 1\n{NEXTJS}"), &origin).await;
    let client = edge.client().ssr();
    let prefetch = |request: &Request| request.header("next-router-prefetch").is_some();
    let whole = move |request: &Request| is_payload(request) && !prefetch(request);
    let rsc = || client.get("/p").header("RSC", "1");
    origin.on("/p").when("a document", |r| !is_payload(r)).times(2).reply(document());
    origin.any().when("a payload", whole).reply(payload());
    origin.any().when("a prefetch", prefetch).reply(payload());
    until_hit("the page", || client.get("/p")).await;
    until_hit("its payload", rsc).await;
    until_hit("its prefetch", || rsc().header("Next-Router-Prefetch", "1")).await;
    let held = [
        origin.any().when("a payload", whole).hold(payload()),
        origin.any().when("a prefetch", prefetch).hold(payload()),
    ];
    let target = format!("/__revalidate?secret={}&path=/p", crate::support::edge::SECRET);
    let renewed = go(edge.client().ssr().get(&target));
    for member in &held {
        member.reached().await;
    }
    held.iter().for_each(Turn::release);
    assert_eq!(patient("the webhook", renewed).await.unwrap().status, 200);
    edge.stop().await;
}
