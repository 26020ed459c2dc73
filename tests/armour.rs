//! Nothing that one visitor sends turns the cache against others: who may share a
//! response, and what takes a public page out of the cache (semantics §§1 to 4 and
//! 6). Each fault that there once was, by name; `isolation` and `hostile` look for
//! more.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinHandle;

use crate::support::client::{self, Ask};
use crate::support::origin::{Act, Gate, Request};
use crate::support::{Break, Client, Edge, Origin, Response, eventually, patient};

/// A route of each mode, and one that is told by its answers.
const ROUTES: &str = "
- path: /isr/**
  isr: { revalidate: 1h }
- path: /dsg/**
  dsg: {}
- path: /lang/**
  isr: { revalidate: origin }
  vary: [accept-language]
- path: /origin/**
  isr: { revalidate: origin }
- path: /**
  ssr: {}
";

const NEXTJS: &str = "framework: nextjs\ndeployment: { probe: off, settle: 1h }\n";

/// What a visitor calls itself; only a renderer that is sent it can know.
const NAME: &str = "x-name";

/// Asks on a task of its own.
fn go(ask: Ask) -> JoinHandle<client::Response> {
    tokio::spawn(ask.into_future())
}

/// The same, as somebody.
fn by(name: &str, ask: Ask) -> Ask {
    ask.header(NAME, name)
}

/// For whom a request was made.
fn name(request: &Request) -> &str {
    request.header(NAME).unwrap_or("anybody")
}

/// Comes back when the edge has read what it was sent before.
async fn settle(edge: &Edge) {
    for _ in 0..2 {
        edge.revalidate("tag=nobody-has-this").await;
    }
}

/// An edge with [`ROUTES`] that reads what it is sent in the order in which it comes.
async fn edge(origin: &Origin) -> Edge {
    narrow(origin, "").await
}

/// The same with these options for its origin.
async fn narrow(origin: &Origin, options: &str) -> Edge {
    let yaml = format!(
        "threads: 1\norigins:\n  web: {{ servers: [\"{{origin}}\"]{options} }}\nroutes:{ROUTES}"
    );
    Edge::start(&yaml, origin).await
}

/// An origin that holds all its answers until the gate opens.
async fn gated(
    gate: &Gate,
    answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> Origin {
    let gate = gate.clone();
    Origin::act(move |request| Act::Gated(gate.clone(), Box::new(Act::Reply(answer(request)))))
        .await
}

// --- who may share ------------------------------------------------------------------

/// Semantics §3: what a cache may not reuse without validation is for who asked for
/// it, whatever the first visitor sent.
#[tokio::test]
async fn what_needs_validation_reaches_no_follower() {
    let rows = [
        ("max-age=0", ""),
        ("max-age=0, must-revalidate", ""),
        ("max-age=0, public", ""),
        ("s-maxage=0, max-age=600", ""),
        ("no-cache", "\"v\""),
        ("no-cache, max-age=600", "\"v\""),
        ("max-age=0, must-revalidate", "\"v\""),
        ("must-revalidate", "\"v\""),
        ("public", ""),
        ("", "\"v\""),
    ];
    let sends = [("", ""), ("X-Api-Key", "alice's"), ("Cookie", "me=alice")];
    for (cache, etag) in rows {
        for (n, (field, value)) in sends.into_iter().enumerate() {
            let gate = Gate::default();
            let origin = gated(&gate, move |request| {
                let mut page = Response::html(format!("for {}", name(request)));
                for (name, value) in [("Cache-Control", cache), ("ETag", etag)] {
                    if !value.is_empty() {
                        page = page.header(name, value);
                    }
                }
                page
            })
            .await;
            let edge = edge(&origin).await;
            let path = format!("/{n}");
            let ask = |who: &str| by(who, edge.client().ssr().get(&path));
            let alice = ask("alice");
            let alice = go(if field.is_empty() { alice } else { alice.header(field, value) });
            settle(&edge).await;
            let others: Vec<_> = ["bob", "carl"].map(|who| (who, go(ask(who)))).into();
            settle(&edge).await;
            gate.open();
            assert_eq!(alice.await.unwrap().text(), "for alice");
            for (who, other) in others {
                let page = other.await.unwrap();
                assert_eq!(page.text(), format!("for {who}"), "[{cache}] {field}: {page}");
            }
            assert_eq!(origin.total(), 3, "[{cache}] {field}: one fetch for each");
            edge.stop().await;
        }
    }
}

/// The same of what is fresh no more when it arrives.
#[tokio::test]
async fn nor_does_what_is_stale_on_arrival_unless_the_origin_lets_it() {
    for (cache, shared) in [
        ("max-age=60", false),
        ("s-maxage=60", false),
        ("max-age=60, stale-while-revalidate=600", true),
        ("max-age=600", true),
    ] {
        let gate = Gate::default();
        let origin = gated(&gate, move |request| {
            let page = Response::html(format!("for {}", name(request))).cache(cache);
            page.header("Age", "100")
        })
        .await;
        let edge = edge(&origin).await;
        let ask = |who: &str| by(who, edge.client().ssr().get("/p"));
        let alice = go(ask("alice"));
        settle(&edge).await;
        let bob = go(ask("bob"));
        settle(&edge).await;
        gate.open();
        alice.await.unwrap();
        let expected = if shared { "for alice" } else { "for bob" };
        let bob = bob.await.unwrap();
        assert_eq!(bob.text(), expected, "[{cache}] {bob}");
        edge.stop().await;
    }
}

/// RFC 9111 §5.2.2.4: what was validated for one visitor was validated for that one.
#[tokio::test]
async fn a_leaders_304_is_for_the_leader() {
    for cache in ["no-cache", "max-age=0, must-revalidate", "max-age=0"] {
        for key in [false, true] {
            let gate = Gate::default();
            let asked = AtomicUsize::new(0);
            let origin = {
                let gate = gate.clone();
                // Alice's page has not changed; everybody else has another.
                Origin::act(move |request| {
                    let who = name(request);
                    let etag = format!("\"{who}\"");
                    let page = if request.header("if-none-match") == Some(&etag) {
                        Response::status(304)
                    } else {
                        Response::html(format!("for {who}"))
                    };
                    let reply = Act::Reply(page.cache(cache).header("ETag", &etag));
                    match asked.fetch_add(1, Ordering::SeqCst) {
                        0 => reply,
                        _ => Act::Gated(gate.clone(), Box::new(reply)),
                    }
                })
                .await
            };
            let edge = edge(&origin).await;
            let ask = |who: &str| {
                let ask = by(who, edge.client().ssr().get("/p"));
                if key { ask.header("X-Api-Key", who) } else { ask }
            };
            assert_eq!(ask("alice").await.text(), "for alice");
            let alice = go(ask("alice"));
            settle(&edge).await;
            let others = ["bob", "carl"].map(|who| (who, go(ask(who))));
            settle(&edge).await;
            gate.open();
            alice.await.unwrap().is(200, "REVALIDATED", "for alice");
            for (who, other) in others {
                let page = other.await.unwrap();
                assert_eq!(page.text(), format!("for {who}"), "[{cache}] {page}");
            }
            assert_eq!(origin.total(), 4, "[{cache}] one question for each");
            edge.stop().await;
        }
    }
}

/// Semantics §1: that Perennial declined to ask is not a disconnection, and what may
/// not be reused is not served because the queue is full.
#[tokio::test]
async fn a_full_queue_serves_nobody_anothers_stale_page() {
    let gate = Gate::default();
    let origin = {
        let gate = gate.clone();
        Origin::act(move |request| {
            let who = name(request).to_owned();
            let page = Response::html(format!("for {who}"));
            let page = match request.target.as_str() {
                "/held" => {
                    let held = Act::Reply(page.cache("no-store"));
                    return Act::Gated(gate.clone(), Box::new(held));
                }
                "/expired" => page.cache("max-age=60").header("Age", "100"),
                "/shared-expired" => page.cache("s-maxage=60").header("Age", "100"),
                "/zero" => page.cache("max-age=0").header("ETag", "\"v\""),
                "/no-cache" => page.cache("no-cache").header("ETag", "\"v\""),
                _ => page.cache("max-age=0, must-revalidate").header("ETag", "\"v\""),
            };
            Act::Reply(page)
        })
        .await
    };
    let edge = narrow(&origin, ", max_concurrent_fills: 1, max_waiting_fills: 0").await;
    let ask = |who: &str, path: &str| by(who, edge.client().ssr().get(path));
    let paths = ["/expired", "/shared-expired", "/zero", "/no-cache", "/must-revalidate"];
    for path in paths {
        ask("carl", path).await.is(200, "MISS", "for carl");
    }
    let holder = go(ask("holder", "/held"));
    origin.wait_for(paths.len() + 1).await;
    for path in paths {
        let answer = ask("bob", path).await;
        assert_eq!(
            (answer.status, answer.cache_status()),
            (503, "perennial; detail=busy"),
            "{path}"
        );
        assert!(answer.header("retry-after").is_some(), "{answer}");
    }
    gate.open();
    holder.await.unwrap().is(200, "MISS", "for holder");
    edge.stop().await;
}

/// The same of the breaker. One request a second may try whether the origin is back:
/// it learns that there is none, and that is a disconnection.
#[tokio::test]
async fn an_open_breaker_serves_nobody_anothers_stale_page() {
    let well = Arc::new(AtomicBool::new(true));
    let origin = {
        let well = Arc::clone(&well);
        Origin::act(move |request| {
            if !well.load(Ordering::SeqCst) {
                return Act::Break(Break::Rst);
            }
            let page = Response::html(format!("for {}", name(request)));
            Act::Reply(match request.path() {
                path if path.starts_with("/expired") => {
                    page.cache("max-age=60").header("Age", "100")
                }
                path if path.starts_with("/window") => {
                    page.cache("max-age=60, stale-if-error=600").header("Age", "100")
                }
                _ => page.cache("max-age=0").header("ETag", "\"v\""),
            })
        })
        .await
    };
    let edge = edge(&origin).await;
    let ask = |who: &str, path: &str| by(who, edge.client().ssr().get(path));
    let pages: Vec<String> = ["/expired", "/zero", "/window"]
        .iter()
        .flat_map(|kind| (0..6).map(move |n| format!("{kind}/{n}")))
        .collect();
    for path in &pages {
        ask("carl", path).await.is(200, "MISS", "for carl");
    }
    well.store(false, Ordering::SeqCst);
    for n in 0..60 {
        ask("somebody", &format!("/down/{n}")).await;
    }
    assert_eq!(edge.metric("perennial_origin_breaker_open{origin=\"web\"}").await, 1.0);
    for path in &pages {
        let before = origin.total();
        let answer = ask("bob", path).await;
        let asked = origin.total() > before;
        let kind = path.split('/').nth(1).unwrap();
        match (kind, asked) {
            // The origin says so itself (RFC 5861 §4).
            ("window", _) => drop(answer.is(200, "STALE", "for carl")),
            ("expired", true) => drop(answer.is(200, "STALE", "for carl")),
            (_, true) => assert_eq!(answer.status, 502, "{answer}"),
            (_, false) => {
                let shown = (answer.status, answer.cache_status());
                assert_eq!(shown, (503, "perennial; detail=breaker"), "{path}: {answer}");
            }
        }
    }
    edge.stop().await;
}

/// RFC 9111 §4.2.4: no response is served stale where its lifetime is zero, also when
/// the origin is gone.
#[tokio::test]
async fn without_an_origin_a_stale_page_is_served_where_it_may_be() {
    let rows = [
        ("max-age=60", true),
        ("max-age=60, must-revalidate", false),
        ("max-age=60, proxy-revalidate", false),
        ("s-maxage=60", false),
        ("max-age=0", false),
        ("no-cache", false),
        ("max-age=60, no-cache", false),
        ("max-age=60, stale-if-error=600", true),
    ];
    let origin = Origin::serve(move |request| {
        let n: usize = request.path()[1..].parse().expect("a row");
        let page = Response::html(format!("for {}", name(request))).cache(rows[n].0);
        page.header("Age", "100").header("ETag", "\"v\"")
    })
    .await;
    let edge = edge(&origin).await;
    let ask = |who: &str, n: usize| by(who, edge.client().ssr().get(&format!("/{n}")));
    for n in 0..rows.len() {
        ask("carl", n).await.is(200, "MISS", "for carl");
    }
    origin.refuse().await;
    for (n, (cache, served)) in rows.into_iter().enumerate() {
        let answer = ask("bob", n).await;
        let expected = if served { 200 } else { 502 };
        assert_eq!(answer.status, expected, "[{cache}] {answer}");
    }
    edge.stop().await;
}

/// Semantics §3: 1xx of a fill go to its leader alone, and they name whom they are for.
#[tokio::test]
async fn early_hints_reach_their_leader_alone() {
    for (path, cache) in [
        ("/private", "private"),
        ("/zero", "max-age=0"),
        ("/public", "s-maxage=60"),
        ("/isr/private", "private"),
        ("/isr/public", ""),
    ] {
        let gate = Gate::default();
        let count = AtomicUsize::new(0);
        let origin = gated(&gate, move |_| {
            let n = count.fetch_add(1, Ordering::SeqCst);
            let page = Response::html(format!("render {n}"));
            let page = if cache.is_empty() { page } else { page.cache(cache) };
            page.after_interim(103, &[("Link", &format!("</render/{n}>; rel=preload"))])
        })
        .await;
        let edge = edge(&origin).await;
        let client = edge.client().ssr();
        let leader = go(client.get(path));
        settle(&edge).await;
        let followers: Vec<_> = (0..3).map(|_| go(client.get(path))).collect();
        settle(&edge).await;
        gate.open();
        let mut answers = vec![leader.await.unwrap()];
        for follower in followers {
            answers.push(follower.await.unwrap());
        }
        assert_eq!(answers[0].interim.len(), 1, "{path}: the leader's own");
        let mut hinted = Vec::new();
        for answer in &answers {
            let own = answer.text().strip_prefix("render ").unwrap();
            let own = format!("</render/{own}>; rel=preload");
            for (status, fields) in &answer.interim {
                assert_eq!((*status, fields.get("link")), (103, Some(&*own)), "{path}: {answer}");
                hinted.push(own.clone());
            }
        }
        let all = hinted.len();
        hinted.sort();
        hinted.dedup();
        assert_eq!(hinted.len(), all, "{path}: a 103 that two have seen");
        edge.stop().await;
    }
}

/// Semantics §1: the declared variants of a path that counts as server-rendered stay
/// in its key.
#[tokio::test]
async fn a_noted_path_keeps_its_declared_variants() {
    let origin = Origin::serve(|request| {
        let language = request.header("accept-language").unwrap_or("none").to_owned();
        let page = Response::html(language);
        // Nothing of it is reusable at first; then it is, in each language.
        if request.header("x-later").is_some() { page.cache("s-maxage=60") } else { page }
    })
    .await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let ask = |language: &str| client.get("/lang/p").header("Accept-Language", language);
    for language in ["de", "en", "de"] {
        ask(language).await.is(200, "MISS", language);
    }
    for language in ["de", "en", "fr"] {
        let page = ask(language).header("X-Later", "1").await;
        assert_eq!((page.status, page.text()), (200, language), "{page}");
    }
    for language in ["de", "en", "fr"] {
        let page = ask(language).await;
        assert_eq!((page.status, page.text()), (200, language), "{page}");
    }
    edge.stop().await;
}

/// Nor do those who ask at once for different languages wait for one another.
#[tokio::test]
async fn followers_at_a_noted_path_get_their_language() {
    let gate = Gate::default();
    let origin = gated(&gate, |request| {
        let language = request.header("accept-language").unwrap_or("none").to_owned();
        let page = Response::html(language);
        if request.header(NAME).is_some() { page.cache("s-maxage=60") } else { page }
    })
    .await;
    let edge = edge(&origin).await;
    let ask = |language: &str| {
        by("me", edge.client().ssr().get("/lang/p")).header("Accept-Language", language)
    };
    let languages = ["de", "en", "fr"];
    let visitors = languages.map(|language| go(ask(language)));
    settle(&edge).await;
    gate.open();
    for (visitor, language) in visitors.into_iter().zip(languages) {
        let page = visitor.await.unwrap();
        assert_eq!((page.status, page.text()), (200, language), "{page}");
    }
    edge.stop().await;
}

// --- what takes a page out ------------------------------------------------------------

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

/// Asks until it is a hit: the pair of a page comes behind its visitor's back.
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

/// Semantics §4: members of a page are what its preset knows; values that visitors
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
    held.iter().for_each(crate::support::origin::Turn::release);
    assert_eq!(patient("the webhook", renewed).await.unwrap().status, 200);
    edge.stop().await;
}

// --- terms ------------------------------------------------------------------------------

/// Semantics §6: a route's terms are applied when a page is read.
#[tokio::test]
async fn a_reload_to_ssr_is_true_for_the_next_request() {
    for (from, cache) in [
        ("dsg: {}", "max-age=0, must-revalidate"),
        ("dsg: {}", ""),
        ("isr: { revalidate: 1h }", "max-age=0"),
        ("isr: { revalidate: 1h }", "no-cache"),
    ] {
        let origin = Origin::serve(move |request| {
            let cookie = request.header("cookie").unwrap_or("nobody");
            let page = Response::html(format!("for {cookie}")).header("ETag", "\"v\"");
            if cache.is_empty() { page } else { page.cache(cache) }
        })
        .await;
        let edge = Edge::start(&format!("- path: /**\n  {from}\n"), &origin).await;
        let client = edge.client().ssr();
        let ask = |client: &Client, who: &str| client.get("/p").header("Cookie", who);
        ask(&client, "me=alice").await.is(200, "MISS", "for nobody");
        ask(&client, "me=alice").await.is(200, "HIT", "for nobody");
        edge.reload("- path: /**\n  ssr: {}\n", &origin);
        for who in ["me=alice", "me=bob", "me=alice"] {
            let page = ask(&client, who).await;
            assert_eq!(page.text(), format!("for {who}"), "{from} [{cache}] {page}");
        }
        // And back: what was rendered for somebody is no page for all.
        edge.reload(&format!("- path: /**\n  {from}\n"), &origin);
        let page = ask(&client, "me=carl").await;
        assert_eq!(page.text(), "for nobody", "{from} [{cache}] {page}");
        edge.stop().await;
    }
}
