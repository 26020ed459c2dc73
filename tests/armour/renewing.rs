//! Whose fields decide when a stale page of an `ssr` route is renewed. A client may
//! send what the origin chokes on, in a field that the page does not vary on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{edge, go};
use crate::support::client::{Ask, Client};
use crate::support::origin::Act;
use crate::support::{Break, Origin, Response, eventually};

/// Fields that are no part of what the page is, and their values.
const ODD: [(&str, &str); 2] = [("User-Agent", "odd"), ("X-Debug", "odd")];

/// What the origin does to whoever sends one of them.
fn refusals() -> Vec<(&'static str, Act)> {
    let page = || Response::html("for you alone");
    let redirect = Response::status(301).header("Location", "/elsewhere").cache("max-age=60");
    vec![
        ("500", Act::Reply(Response::status(500))),
        ("a page not found", Act::Reply(Response::status(404))),
        ("a bad request", Act::Reply(Response::status(400).cache("no-store"))),
        ("forbidden", Act::Reply(Response::status(403))),
        ("private", Act::Reply(page().cache("private, max-age=60"))),
        ("a cookie", Act::Reply(page().cache("max-age=60").header("Set-Cookie", "id=1"))),
        ("nothing", Act::Break(Break::Rst)),
        ("an error for all", Act::Reply(Response::status(404).cache("max-age=60"))),
        ("a server error for all", Act::Reply(Response::status(503).cache("max-age=60"))),
        ("a redirect for all", Act::Reply(redirect)),
    ]
}

/// An origin whose page says `cache` and is stale when it is stored first; `refusal`
/// is for who is odd, but for the first request.
async fn origin(cache: &'static str, refusal: Act) -> Origin {
    let stored = AtomicBool::new(false);
    Origin::act(move |request| {
        if !stored.swap(true, Ordering::SeqCst) {
            return Act::Reply(crate::fills::dated(page("old", cache), Duration::from_secs(100)));
        }
        if ODD.iter().any(|(name, value)| request.header(name) == Some(value)) {
            return refusal.clone();
        }
        Act::Reply(page("new", cache))
    })
    .await
}

fn page(body: &'static str, cache: &'static str) -> Response {
    Response::html(body).cache(cache)
}

/// What browsers send.
fn browser(client: &Client) -> Ask {
    client.get("/p").header("User-Agent", "browser").header("Accept-Language", "en")
}

/// The same from somebody odd.
fn odd(client: &Client, name: &str, value: &str) -> Ask {
    match name {
        "User-Agent" => client.get("/p").header(name, value).header("Accept-Language", "en"),
        _ => browser(client).header(name, value),
    }
}

async fn until_new(what: &str, client: &Client) {
    eventually(format!("the new page, in spite of {what}"), || async {
        let page = browser(client).await;
        assert!(matches!(page.x_cache(), "HIT" | "STALE"), "{what}: {page}");
        (page.x_cache() == "HIT" && page.text() == "new").then_some(())
    })
    .await;
}

/// In the background the origin is asked as for what is stored, too, and that decides:
/// no back-off, no page taken out, no error in its place.
#[tokio::test]
async fn a_background_renewal_is_not_one_clients_doing() {
    for (name, value) in ODD {
        for (what, refusal) in refusals() {
            let origin = origin("max-age=60, stale-while-revalidate=600", refusal).await;
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            browser(&client).await.is(200, "MISS", "old");
            odd(&client, name, value).await.is(200, "STALE", "old");
            until_new(&format!("{name}, {what}"), &client).await;
            // A connection that breaks is no answer: the request goes out once more.
            let asked = if what == "nothing" { 3..=4 } else { 3..=3 };
            assert!(asked.contains(&origin.total()), "{name}, {what}: {}", origin.total());
            let last = origin.requests().pop().expect("three");
            assert_eq!(last.header("user-agent"), Some("browser"));
            assert_eq!((last.header("x-debug"), last.header("x-forwarded-for")), (None, None));
            edge.stop().await;
        }
    }
}

/// Nor is it that of one who leaves out what browsers send.
#[tokio::test]
async fn who_leaves_fields_out_decides_for_nobody() {
    for status in [500, 403] {
        let first = AtomicBool::new(true);
        let origin = Origin::serve(move |request| {
            let cache = "max-age=60, stale-while-revalidate=600";
            match request.header("accept-language") {
                None => Response::status(status),
                Some(_) if first.swap(false, Ordering::SeqCst) => {
                    crate::fills::dated(page("old", cache), Duration::from_secs(100))
                }
                Some(_) => page("new", cache),
            }
        })
        .await;
        let edge = edge(&origin).await;
        let client = edge.client().ssr();
        browser(&client).await.is(200, "MISS", "old");
        client.get("/p").await.is(200, "STALE", "old");
        until_new("a bare request", &client).await;
        edge.stop().await;
    }
}

/// Nor does one who makes the origin hang keep the old page there for long.
#[tokio::test]
async fn a_client_who_makes_the_origin_hang_delays_a_renewal_a_little() {
    let origin = origin("max-age=60, stale-while-revalidate=600", Act::Silent).await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    browser(&client).await.is(200, "MISS", "old");
    odd(&client, "User-Agent", "odd").await.is(200, "STALE", "old");
    until_new("silence", &client).await;
}

/// Where a client has to wait for the origin, what it gets is its own, and others get
/// the page anew.
#[tokio::test]
async fn a_validation_in_the_foreground_is_not_one_clients_doing() {
    for (name, value) in ODD {
        for (what, refusal) in refusals() {
            let origin = origin("max-age=60, stale-if-error=600", refusal).await;
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            browser(&client).await.is(200, "MISS", "old");
            let own = odd(&client, name, value).await;
            assert_ne!(own.text(), "new", "{name}, {what}");
            eventually(format!("the new page, in spite of {name}, {what}"), || async {
                let page = browser(&client).await;
                assert_eq!((page.status, page.text()), (200, "new"), "{name}, {what}: {page}");
                (page.x_cache() == "HIT").then_some(())
            })
            .await;
            edge.stop().await;
        }
    }
}

/// Where the origin fails for everybody that is found out, and held back for everybody.
#[tokio::test]
async fn a_failure_for_all_holds_all_back() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let old = page("old", "max-age=60, stale-if-error=600");
    origin.on("/p").reply(crate::fills::dated(old, Duration::from_secs(100)));
    browser(&client).await.is(200, "MISS", "old");
    origin.on("/p").always().reply(Response::status(500));
    odd(&client, "User-Agent", "other").await.is(200, "STALE", "old");
    eventually("the back-off", || async {
        let page = odd(&client, "User-Agent", "third").await;
        page.is(200, "STALE", "old");
        page.cache_status().ends_with("detail=backoff").then_some(())
    })
    .await;
}

/// What forbids storing, said to fields that somebody made up, takes no page out.
#[tokio::test]
async fn what_is_said_to_made_up_fields_takes_no_page_out() {
    for (what, refusal) in [
        ("401", Response::status(401)),
        ("private", Response::html("x").cache("private")),
        ("no-store", Response::html("x").cache("no-store")),
    ] {
        for (name, cache) in [
            ("Authorization", "max-age=600"),
            ("Authorization", "no-cache"),
            ("X-Debug", "no-cache"),
            ("Referer", "no-cache"),
            ("Sec-Made-Up", "no-cache"),
        ] {
            let refusal = refusal.clone();
            let origin = Origin::act(move |request| {
                let public = Response::html("public").cache(cache).header("ETag", "\"1\"");
                match (request.header(name), request.header("if-none-match")) {
                    (Some(_), _) => Act::Reply(refusal.clone()),
                    (_, Some("\"1\"")) => Act::Reply(Response::status(304).cache(cache)),
                    _ => Act::Reply(public),
                }
            })
            .await;
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            browser(&client).await.is(200, "MISS", "public");
            let asked = odd(&client, name, "odd").await;
            assert_ne!(asked.text(), "public", "{what}");
            let stored = if cache == "no-cache" { "REVALIDATED" } else { "HIT" };
            browser(&client).await.is(200, stored, "public");
            edge.stop().await;
        }
    }
}

/// A page that is private now goes, whoever finds out: at once where the request is the
/// one that brought it, and otherwise as soon as that one was asked again.
#[tokio::test]
async fn what_is_not_public_any_more_goes() {
    for agent in ["browser", "another one"] {
        let origin = Origin::start().await;
        let edge = edge(&origin).await;
        let client = edge.client().ssr();
        let public = page("public", "no-cache").header("ETag", "\"1\"");
        origin.on("/p").reply(public);
        browser(&client).await.is(200, "MISS", "public");
        let mine = origin.on("/p").always().reply(page("mine", "private"));
        odd(&client, "User-Agent", agent).await.is(200, "MISS", "mine");
        mine.ended().await;
        eventually("a request without a condition", || async {
            browser(&client).await.is(200, "MISS", "mine");
            let last = origin.requests().pop()?;
            last.header("if-none-match").is_none().then_some(())
        })
        .await;
        edge.stop().await;
    }
}

/// Who sends what browsers do not is not waited for long, and then they share a render.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_long_for_who_makes_the_origin_hang() {
    let origin = Origin::act(|request| match request.header("x-hang") {
        Some(_) => Act::Silent,
        None => Act::Reply(page("page", "max-age=600")),
    })
    .await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let hanging = go(client.get("/p").header("X-Hang", "1"));
    eventually("the request that hangs", || async { (origin.total() == 1).then_some(()) }).await;
    let visitors: Vec<_> = (0..30).map(|_| go(browser(&client))).collect();
    for visitor in visitors {
        assert_eq!(visitor.await.unwrap().text(), "page");
    }
    assert_eq!(origin.total(), 2, "one render for all of them");
    hanging.abort();
}

/// Those who gave up waiting for one of their own kind wait for one another again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_up_waiting_does_not_ask_alone() {
    let first = AtomicBool::new(true);
    let origin = Origin::act(move |_| match first.swap(false, Ordering::SeqCst) {
        true => Act::Silent,
        false => Act::Reply(page("page", "max-age=600")),
    })
    .await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let hanging = go(browser(&client));
    eventually("the request that hangs", || async { (origin.total() == 1).then_some(()) }).await;
    let visitors: Vec<_> = (0..30).map(|_| go(browser(&client))).collect();
    for visitor in visitors {
        assert_eq!(visitor.await.unwrap().text(), "page");
    }
    assert_eq!(origin.total(), 2, "one render for all of them");
    hanging.abort();
}

/// What a client has to show is not shown again for somebody else: whom the origin refuses
/// does not get what it brought, and what nobody may see any more goes.
#[tokio::test]
async fn a_key_is_not_said_again() {
    for cache in ["max-age=60", "max-age=60, stale-if-error=600"] {
        let origin = Origin::serve(move |request| match request.header("x-api-key") {
            Some(key) => {
                let body = format!("balance of {key}");
                crate::fills::dated(Response::html(body).cache(cache), Duration::from_secs(100))
            }
            None => Response::status(401),
        })
        .await;
        let edge = edge(&origin).await;
        let client = edge.client().ssr();
        odd(&client, "X-Api-Key", "alice").await.is(200, "MISS", "balance of alice");
        for _ in 0..5 {
            let page = browser(&client).await;
            assert_eq!(page.status, 401, "[{cache}] {page}");
        }
        let keys = origin.requests().iter().filter(|r| r.header("x-api-key").is_some()).count();
        assert_eq!(keys, 1, "[{cache}]");
        edge.stop().await;
    }
}
