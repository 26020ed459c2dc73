//! Who may share a response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{NAME, by, edge, gated, go, name, narrow, settle};
use crate::support::origin::{Act, Gate};
use crate::support::{Break, Client, Edge, Origin, Response};

/// Semantics §3: what a cache may not reuse without validation is for who asked for
/// it, whatever the first client sent.
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
    let gates: Vec<Gate> = (0..rows.len() * sends.len()).map(|_| Gate::default()).collect();
    let origin = {
        let gates = gates.clone();
        Origin::act(move |request| {
            let case: usize = request.path()[1..].parse().expect("a case");
            let (cache, etag) = rows[case / sends.len()];
            let mut page = Response::html(format!("for {}", name(request)));
            for (name, value) in [("Cache-Control", cache), ("ETag", etag)] {
                if !value.is_empty() {
                    page = page.header(name, value);
                }
            }
            Act::Gated(gates[case].clone(), Box::new(Act::Reply(page)))
        })
        .await
    };
    let edge = edge(&origin).await;
    for (case, gate) in gates.iter().enumerate() {
        let ((cache, _), (field, value)) = (rows[case / sends.len()], sends[case % sends.len()]);
        let path = format!("/{case}");
        let ask = |who: &str| by(who, edge.client().ssr().get(&path));
        let alice = ask("alice");
        let alice = go(if field.is_empty() { alice } else { alice.header(field, value) });
        settle(&edge).await;
        let others = ["bob", "carl"].map(|who| (who, go(ask(who))));
        settle(&edge).await;
        gate.open();
        assert_eq!(alice.await.unwrap().text(), "for alice");
        for (who, other) in others {
            let page = other.await.unwrap();
            assert_eq!(page.text(), format!("for {who}"), "[{cache}] {field}: {page}");
        }
        assert_eq!(origin.count(&path), 3, "[{cache}] {field}: one fetch for each");
    }
    edge.stop().await;
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

/// RFC 9111 §5.2.2.4: what was validated for one client was validated for that one.
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
