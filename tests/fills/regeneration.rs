//! A stale page is served at once while one regeneration runs, and stays when
//! that fails.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::origin::Request;
use crate::support::{Break, Edge, Origin, Response, eventually};

use super::{dated, edge, edge_with, go, stale};

/// Asks until `Cache-Status` says this.
async fn until(client: &Client, path: &str, detail: &str) -> crate::support::client::Response {
    eventually(format!("{detail:?} on {path}"), async || {
        let page = client.get(path).await;
        page.cache_status().contains(detail).then_some(page)
    })
    .await
}

/// However many ask for a stale page, they are answered at once, and one
/// regeneration runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_page_is_served_at_once_and_regenerated_once() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for (path, cache) in [("/isr/a", "public"), ("/b", "s-maxage=60, stale-while-revalidate=600")] {
        let page = |body: &'static str| Response::html(body).cache(cache);
        origin.on(path).reply(dated(page("old"), Duration::from_secs(100)));
        client.get(path).await.is(200, "MISS", "old");
        let render = origin.on(path).hold(page("new"));
        let visitors: Vec<_> = (0..200).map(|_| go(client.get(path))).collect();
        for visitor in visitors {
            let page = visitor.await.unwrap();
            page.is(200, "STALE", "old");
            assert!(page.cache_status().ends_with("; detail=regenerating"), "{page}");
        }
        render.reached().await;
        client.get(path).await.is(200, "STALE", "old");
        render.release();
        until(&client, path, "hit; ttl=").await;
        eventually("the new page", async || {
            (client.get(path).await.x_cache() == "HIT").then_some(())
        })
        .await;
        client.get(path).await.is(200, "HIT", "new");
        assert_eq!(origin.count(path), 2);
    }
}

/// At no moment between the end of a regeneration and the store is there room
/// for a second one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_second_regeneration_falls_between_the_first_and_the_store() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    for round in 0..200 {
        let path = format!("/isr/{round}");
        origin.on(&path).reply(stale("old"));
        origin.on(&path).reply(Response::html("new"));
        edge.client().get(&path).await.is(200, "MISS", "old");
        let visitors: Vec<_> = (0..6)
            .map(|_| {
                let (client, path) = (edge.client(), path.clone());
                tokio::spawn(async move { while client.get(&path).await.x_cache() != "HIT" {} })
            })
            .collect();
        for visitor in visitors {
            visitor.await.unwrap();
        }
        assert_eq!(origin.count(&path), 2, "{path}");
    }
}

/// Each way in which a regeneration fails.
fn failures() -> Vec<(&'static str, Response)> {
    let page = || Response::html("0123456789");
    let big = || Response::html("x".repeat(3000));
    vec![
        ("500", page().with_status(500)),
        ("503-no-store", page().with_status(503).cache("no-store")),
        ("500-cookie", page().with_status(500).header("Set-Cookie", "a=b")),
        ("429", page().with_status(429)),
        ("206", page().with_status(206).header("Content-Range", "bytes 0-9/20")),
        ("204", Response::status(204)),
        ("fin", page().break_after(5, Break::Fin)),
        ("rst", page().break_after(5, Break::Rst)),
        ("short", page().claim_length(20).header("Connection", "close")),
        ("chunked-fin", page().chunked().break_after(5, Break::Fin)),
        ("chunked-rst", page().chunked().break_after(5, Break::Rst)),
        ("type", Response::status(200).header("Content-Type", "text/x-component").body("0")),
        ("large", big()),
        ("large-chunked", big().chunked()),
        ("large-until-close", big().until_close()),
    ]
}

/// A regeneration that fails changes nothing stored and starts the back-off, in
/// each way in which it can fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_regeneration_changes_nothing_and_waits() {
    let origin = Origin::start().await;
    let edge = edge_with(&origin, "fill_timeout: 10s", "max_object: 2000").await;
    let client = edge.client();
    for kind in ["isr", "dsg"] {
        for (n, (what, failure)) in failures().into_iter().enumerate() {
            let path = format!("/{kind}/{what}");
            origin.on(&path).with("accept", "html").reply(stale("good"));
            // On `dsg` it is asked for JSON, too, and has none.
            let json = origin.on(&path).with("accept", "json").always();
            let json = json.reply(Response::html("no"));
            client.get(&path).await.is(200, "MISS", "good");
            if kind == "dsg" {
                json.ended().await;
                assert_eq!(edge.revalidate(&format!("path={path}&mode=stale")).await.status, 200);
            }
            origin.on(&path).with("accept", "html").reply(failure);
            client.get(&path).await.is(200, "STALE", "good");
            until(&client, &path, "detail=backoff").await.is(200, "STALE", "good");
            for _ in 0..5 {
                client.get(&path).await.is(200, "STALE", "good");
            }
            let html = |r: &&Request| r.path() == path && !is_json(r);
            assert_eq!(origin.requests().iter().filter(html).count(), 2, "{path}: it waits");
            // The breaker is another matter: a good render breaks the row.
            let other = format!("/{kind}/other-{n}");
            origin.on(&other).always().reply(Response::html("fine"));
            client.get(&other).await;
        }
    }
}

fn is_json(request: &Request) -> bool {
    request.header("accept").is_some_and(|accept| accept.contains("json"))
}

#[tokio::test]
async fn a_regeneration_that_does_not_end_fails_at_its_deadline() {
    let origin = Origin::start().await;
    let edge = edge_with(&origin, "fill_timeout: 100ms", "").await;
    let client = edge.client();
    for (path, half) in [("/isr/silent", false), ("/isr/half", true)] {
        origin.on(path).reply(stale("good"));
        client.get(path).await.is(200, "MISS", "good");
        let turn = if half {
            origin.on(path).stream(Response::html("half"))
        } else {
            origin.on(path).silence()
        };
        client.get(path).await.is(200, "STALE", "good");
        until(&client, path, "detail=backoff").await.is(200, "STALE", "good");
        turn.ended().await;
        assert_eq!(origin.count(path), 2);
    }
}

#[tokio::test]
async fn a_refused_regeneration_changes_nothing_and_waits() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client();
    origin.on("/isr/a").reply(stale("good"));
    client.get("/isr/a").await.is(200, "MISS", "good");
    origin.refuse().await;
    client.get("/isr/a").await.is(200, "STALE", "good");
    until(&client, "/isr/a", "detail=backoff").await.is(200, "STALE", "good");
    origin.accept().await;
    client.get("/isr/a").await.is(200, "STALE", "good");
    assert_eq!(origin.total(), 1, "it waits, though the origin is back");
}

/// After the wait the next regeneration runs, and one that succeeds ends the
/// back-off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_regeneration_comes_after_the_wait() {
    let origin = Origin::start().await;
    let yaml = "- path: /**\n  isr: { revalidate: 1s }\nbackoff: { min: 1ms, max: 20ms }\n";
    let edge = Edge::start(yaml, &origin).await;
    let client = edge.client();
    origin.on("/a").reply(stale("good"));
    client.get("/a").await.is(200, "MISS", "good");
    for _ in 0..3 {
        origin.on("/a").reply(Response::html("bad").with_status(500));
    }
    origin.on("/a").reply(Response::html("new"));
    eventually("the new page", async || {
        let page = client.get("/a").await;
        assert_eq!(page.status, 200);
        (page.text() == "new").then_some(())
    })
    .await;
    assert_eq!(origin.total(), 5);
}

/// Back-off is for failures in a row: a success ends it.
#[tokio::test]
async fn a_success_ends_the_back_off() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client();
    origin.on("/isr/a").reply(stale("one"));
    client.get("/isr/a").await.is(200, "MISS", "one");
    origin.on("/isr/a").reply(Response::status(500));
    client.get("/isr/a").await.is(200, "STALE", "one");
    until(&client, "/isr/a", "detail=backoff").await;
    // The webhook asks for it at once, and this time it works.
    origin.on("/isr/a").reply(Response::html("two"));
    assert_eq!(edge.revalidate("path=/isr/a").await.status, 200);
    client.get("/isr/a").await.is(200, "HIT", "two");
    // So the next regeneration waits for nothing.
    assert_eq!(edge.revalidate("path=/isr/a&mode=stale").await.status, 200);
    origin.on("/isr/a").reply(Response::html("three"));
    let page = client.get("/isr/a").await;
    assert!(page.cache_status().ends_with("detail=regenerating"), "{page}");
    until(&client, "/isr/a", "hit; ttl=").await;
    eventually("the third page", async || {
        (client.get("/isr/a").await.text() == "three").then_some(())
    })
    .await;
}

/// A complete answer that forbids storing, or withdraws the page, removes it.
#[tokio::test]
async fn a_complete_answer_that_forbids_storing_removes_the_page() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client();
    let answers = [
        Response::html("mine").cache("private"),
        Response::html("none").cache("no-store"),
        Response::html("cookie").header("Set-Cookie", "a=b"),
        Response::html("login").with_status(401).header("WWW-Authenticate", "Basic"),
        Response::html("no").with_status(403),
        Response::html("law").with_status(451),
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        let path = format!("/isr/{n}");
        origin.on(&path).reply(stale("public"));
        client.get(&path).await.is(200, "MISS", "public");
        let turn = origin.on(&path).reply(answer);
        client.get(&path).await.is(200, "STALE", "public");
        turn.ended().await;
        // The next one finds nothing stored.
        eventually("the page to be gone", async || {
            let page = client.get(&path).header("Cache-Control", "only-if-cached").await;
            (page.status == 504).then_some(())
        })
        .await;
        origin.on(&path).reply(Response::html("again"));
        client.get(&path).await.is(200, "MISS", "again");
    }
}

/// But not if it breaks off: then it is a failed render like any other.
#[tokio::test]
async fn a_forbidding_answer_that_breaks_off_removes_nothing() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client();
    origin.on("/isr/a").reply(stale("public"));
    client.get("/isr/a").await.is(200, "MISS", "public");
    let private = Response::html("0123456789").cache("private");
    origin.on("/isr/a").reply(private.break_after(5, Break::Fin));
    client.get("/isr/a").await.is(200, "STALE", "public");
    until(&client, "/isr/a", "detail=backoff").await.is(200, "STALE", "public");
}

/// A 304 refreshes what is stored, keeps the origin's connection, and says
/// nothing of the cookies of others.
#[tokio::test]
async fn a_304_refreshes() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let old = || {
        let page = Response::html("page").cache("max-age=60, stale-while-revalidate=600");
        dated(page.header("ETag", "\"v1\""), Duration::from_secs(100))
    };
    let unchanged = || {
        let head = Response::status(304).header("ETag", "\"v1\"").header("Set-Cookie", "a=b");
        head.cache("max-age=60, stale-while-revalidate=600").header("X-New", "1")
    };
    for path in ["/isr/a", "/b"] {
        origin.on(path).reply(old());
        client.get(path).await.is(200, "MISS", "page");
        let turn = origin.on(path).reply(unchanged());
        client.get(path).await.is(200, "STALE", "page");
        assert_eq!(turn.reached().await.header("if-none-match"), Some("\"v1\""));
        let page = eventually("the refreshed page", async || {
            let page = client.get(path).await;
            (page.x_cache() == "HIT").then_some(page)
        })
        .await;
        page.is(200, "HIT", "page");
        assert_eq!((page.header("x-new"), page.header("set-cookie")), (Some("1"), None));
    }
    assert_eq!(origin.connections(), 1, "a 304 leaves the connection open");
}

/// In the foreground: who must wait for the validation gets its result and its
/// cookies, and the followers the result.
#[tokio::test]
async fn a_304_in_the_foreground() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let page = Response::html("page").cache("max-age=60, must-revalidate");
    origin.on("/a").reply(dated(page.header("ETag", "\"v1\""), Duration::from_secs(100)));
    client.get("/a").await.is(200, "MISS", "page");
    let unchanged = Response::status(304).header("ETag", "\"v1\"").header("Set-Cookie", "a=b");
    let turn = origin.on("/a").hold(unchanged.cache("max-age=60, must-revalidate"));
    let leader = go(client.get("/a"));
    turn.reached().await;
    let follower = go(client.get("/a"));
    turn.release();
    let leader = leader.await.unwrap();
    leader.is(200, "REVALIDATED", "page");
    assert_eq!(leader.header("set-cookie"), Some("a=b"));
    let follower = follower.await.unwrap();
    assert!(matches!(follower.x_cache(), "REVALIDATED" | "HIT"), "{follower}");
    assert_eq!((follower.text(), follower.header("set-cookie")), ("page", None));
    assert_eq!(origin.total(), 2);
}

/// Semantics §3: the `private` or `no-store` of a 304 removes the page.
#[tokio::test]
async fn a_304_that_forbids_storing_removes_the_page() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for (path, forbids) in
        [("/isr/a", "private"), ("/isr/b", "no-store"), ("/c", "private"), ("/d", "no-store")]
    {
        let page = Response::html("public").cache("max-age=60, stale-while-revalidate=600");
        origin.on(path).reply(dated(page.header("ETag", "\"v1\""), Duration::from_secs(100)));
        client.get(path).await.is(200, "MISS", "public");
        let head = Response::status(304).header("ETag", "\"v1\"").cache(forbids);
        let turn = origin.on(path).with("if-none-match", "v1").reply(head);
        // Asked again without conditions, it says the same.
        origin.on(path).always().reply(Response::html("mine").cache(forbids));
        client.get(path).await.is(200, "STALE", "public");
        turn.ended().await;
        eventually("the page to be gone", async || {
            let page = client.get(path).header("Cache-Control", "only-if-cached").await;
            (page.status == 504).then_some(())
        })
        .await;
        client.get(path).await.is(200, "MISS", "mine");
    }
}

/// An origin that sends a stale copy of its own has not regenerated: it is
/// asked again, after `backoff.min`, and no sooner.
#[tokio::test]
async fn a_stale_copy_from_the_origin_waits() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let cache = "s-maxage=60, stale-while-revalidate=600";
    for (path, how) in [("/isr/a", "age"), ("/b", "age"), ("/isr/c", "next"), ("/d", "304")] {
        let page = Response::html("page").cache(cache).header("ETag", "\"v1\"");
        let page = match how {
            "next" => page.header("x-nextjs-cache", "STALE"),
            "age" => page.header("Age", "90"),
            _ => dated(page, Duration::from_secs(100)),
        };
        origin.on(path).reply(page);
        client.get(path).await.is(200, "MISS", "page");
        if how == "304" {
            let head = Response::status(304).header("ETag", "\"v1\"").cache(cache);
            let turn = origin.on(path).reply(head.header("Age", "90"));
            client.get(path).await.is(200, "STALE", "page");
            turn.ended().await;
            until(&client, path, "detail=backoff").await;
        }
        let before = origin.total();
        for _ in 0..5 {
            let page = client.get(path).await;
            assert!(page.cache_status().ends_with("detail=backoff"), "{page}");
        }
        assert_eq!(origin.total(), before);
    }
}

/// A prefetch does not start a regeneration.
#[tokio::test]
async fn a_prefetch_gets_the_stale_page_and_starts_nothing() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client();
    origin.on("/isr/a").reply(stale("old"));
    client.get("/isr/a").await.is(200, "MISS", "old");
    for name in ["Purpose", "Sec-Purpose"] {
        let page = client.get("/isr/a").header(name, "prefetch").await;
        assert!(page.cache_status().ends_with("detail=prefetch"), "{page}");
    }
    // `Next-Router-Prefetch` is sent by every link.
    let render = origin.on("/isr/a").hold(Response::html("new"));
    let page = client.get("/isr/a").header("Next-Router-Prefetch", "1").await;
    assert!(page.cache_status().ends_with("detail=regenerating"), "{page}");
    render.reached().await;
    assert_eq!(origin.total(), 2);
    render.release();
}

/// A background regeneration on `ssr` asks as the client who triggered it did,
/// without cookie and credentials, unless what is stored varies on them.
#[tokio::test]
async fn whose_fields_a_background_regeneration_carries() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for (path, vary, cookie) in [("/a", "Accept-Language", None), ("/b", "Cookie", Some("me=1"))] {
        let plain = || client.get(path).header("Accept-Language", "de");
        let ask = || plain().header("Cookie", "me=1");
        let page = Response::html("page").cache("max-age=60, stale-while-revalidate=600");
        origin.on(path).reply(dated(page.header("Vary", vary), Duration::from_secs(100)));
        // Rendered for cookies it would be stored for these alone.
        let first = if cookie.is_some() { ask() } else { plain() };
        first.await.is(200, "MISS", "page");
        let turn = origin.on(path).hold(Response::html("new").cache("max-age=60"));
        ask().await.is(200, "STALE", "page");
        let request = turn.reached().await;
        assert_eq!(request.header("cookie"), cookie, "{path}");
        assert_eq!(request.header("accept-language"), Some("de"), "{path}");
        turn.release();
    }
}

/// A failed validation in the foreground is a failed regeneration like any
/// other: until the back-off is over the stale page is served at once where
/// `stale-if-error` lets it (semantics §§1, 3).
#[tokio::test]
async fn a_failed_validation_in_the_foreground_starts_the_back_off() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let page = Response::html("old").cache("max-age=60, stale-if-error=600");
    origin.on("/a").reply(dated(page, Duration::from_secs(100)));
    client.get("/a").await.is(200, "MISS", "old");
    origin.on("/a").reply(Response::status(500));
    let first = client.get("/a").await;
    assert!(first.is(200, "STALE", "old").cache_status().ends_with("detail=stale-if-error"));
    let next = until(&client, "/a", "detail=backoff").await;
    next.is(200, "STALE", "old");
}

/// While the webhook renders a page, who gets the stale one starts no second render.
#[tokio::test]
async fn a_client_during_a_webhooks_render_starts_none() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client();
    origin.on("/isr/p").reply(Response::html("one"));
    client.get("/isr/p").await.is(200, "MISS", "one");
    let render = origin.on("/isr/p").hold(Response::html("two"));
    let call = tokio::spawn({
        let hook = edge.client().ssr();
        async move { hook.get("/__revalidate?secret=open-sesame&path=/isr/p").await }
    });
    render.reached().await;
    client.get("/isr/p").await.is(200, "STALE", "one");
    render.release();
    assert_eq!(call.await.unwrap().status, 200);
    client.get("/isr/p").await.is(200, "HIT", "two");
    assert_eq!(origin.count("/isr/p"), 2);
}

/// What a client says of caches is not said in the regeneration that it starts.
#[tokio::test]
async fn a_regeneration_carries_no_clients_cache_control() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let cache = "max-age=10, stale-while-revalidate=600";
    let old = dated(Response::html("one").cache(cache), Duration::from_secs(100));
    origin.on("/p").reply(old);
    client.get("/p").await.is(200, "MISS", "one");
    let render = origin.on("/p").hold(Response::html("two").cache(cache));
    client.get("/p").header("Cache-Control", "no-store").await.is(200, "STALE", "one");
    assert_eq!(render.reached().await.header("cache-control"), None);
    render.release();
    eventually("the new page", || async { (client.get("/p").await.text() == "two").then_some(()) })
        .await;
}
