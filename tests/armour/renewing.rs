//! Whose fields decide when a stale page of an `ssr` route is renewed. A client may
//! send what the origin chokes on, in a field that the page does not vary on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::edge;
use crate::support::client::Client;
use crate::support::origin::Act;
use crate::support::{Break, Edge, Origin, Response, eventually};

/// Fields that are no part of what the page is, and their values.
const ODD: [(&str, &str); 2] = [("User-Agent", "odd"), ("X-Debug", "odd")];

/// What the origin does to whoever sends one of them.
fn refusals() -> Vec<(&'static str, Act)> {
    let page = || Response::html("for you alone");
    vec![
        ("500", Act::Reply(Response::status(500))),
        ("a page not found", Act::Reply(Response::status(404))),
        ("a bad request", Act::Reply(Response::status(400).cache("no-store"))),
        ("forbidden", Act::Reply(Response::status(403))),
        ("private", Act::Reply(page().cache("private, max-age=60"))),
        ("a cookie", Act::Reply(page().cache("max-age=60").header("Set-Cookie", "id=1"))),
        ("nothing", Act::Break(Break::Rst)),
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

async fn until_new(what: &str, client: &Client) {
    eventually(format!("the new page, in spite of {what}"), || async {
        let page = client.get("/p").await;
        assert!(matches!(page.x_cache(), "HIT" | "STALE"), "{what}: {page}");
        (page.x_cache() == "HIT" && page.text() == "new").then_some(())
    })
    .await;
}

/// In the background the origin is asked without them, too, and that decides: no
/// back-off, no page taken out.
#[tokio::test]
async fn a_background_renewal_is_not_one_clients_doing() {
    for (name, value) in ODD {
        for (what, refusal) in refusals() {
            let origin = origin("max-age=60, stale-while-revalidate=600", refusal).await;
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            client.get("/p").await.is(200, "MISS", "old");
            client.get("/p").header(name, value).await.is(200, "STALE", "old");
            until_new(&format!("{name}, {what}"), &client).await;
            // A connection that breaks is no answer: the request goes out once more.
            let asked = if what == "nothing" { 3..=4 } else { 3..=3 };
            assert!(asked.contains(&origin.total()), "{name}, {what}: {}", origin.total());
            let last = origin.requests().pop().expect("three");
            assert!(last.header("user-agent").is_some_and(|agent| agent.contains("Perennial")));
            assert_eq!(last.header("x-debug"), None);
            edge.stop().await;
        }
    }
}

/// Nor does one who makes the origin hang keep the old page there for long.
#[tokio::test]
async fn a_client_who_makes_the_origin_hang_delays_a_renewal_a_little() {
    let origin = origin("max-age=60, stale-while-revalidate=600", Act::Silent).await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    client.get("/p").await.is(200, "MISS", "old");
    client.get("/p").header("User-Agent", "odd").await.is(200, "STALE", "old");
    until_new("silence", &client).await;
    client.get("/p").await.is(200, "HIT", "new");
}

/// What an odd client gets is said of that client alone.
async fn is_for_the_odd_one_alone(edge: &Edge, name: &str, value: &str, what: &str) {
    let client = edge.client().ssr();
    client.get("/p").await.is(200, "MISS", "old");
    let odd = || client.get("/p").header(name, value);
    odd().await.is(200, "STALE", "old");
    let again = odd().await;
    assert!(again.cache_status().ends_with("detail=backoff"), "{what}: {again}");
    client.get("/p").await.is(200, "MISS", "new");
    client.get("/p").await.is(200, "HIT", "new");
}

/// In the foreground a failure holds back who caused it, and nobody else.
#[tokio::test]
async fn a_failed_validation_holds_back_one_client() {
    for (name, value) in ODD {
        for (what, refusal) in
            [("500", Act::Reply(Response::status(500))), ("nothing", Act::Break(Break::Rst))]
        {
            let origin = origin("max-age=60, stale-if-error=600", refusal).await;
            let edge = edge(&origin).await;
            is_for_the_odd_one_alone(&edge, name, value, what).await;
            edge.stop().await;
        }
    }
}

/// What forbids storing, said to credentials that somebody made up, takes no page out
/// that is fresh; nor, to a field that browsers do not send, one that is stale.
#[tokio::test]
async fn what_is_said_to_made_up_fields_takes_no_page_out() {
    let refuse = Arc::new(AtomicBool::new(true));
    for (what, refusal) in [
        ("401", Response::status(401)),
        ("private", Response::html("x").cache("private")),
        ("no-store", Response::html("x").cache("no-store")),
    ] {
        for (name, cache) in [
            ("Authorization", "max-age=600"),
            ("X-Debug", "no-cache"),
            ("Authorization", "no-cache"),
        ] {
            let (refusal, refuse) = (refusal.clone(), Arc::clone(&refuse));
            let origin = Origin::act(move |request| {
                let public = Response::html("public").cache(cache).header("ETag", "\"1\"");
                match (request.header(name), request.header("if-none-match")) {
                    (Some(_), _) if refuse.load(Ordering::SeqCst) => Act::Reply(refusal.clone()),
                    (_, Some("\"1\"")) => Act::Reply(Response::status(304).cache(cache)),
                    _ => Act::Reply(public),
                }
            })
            .await;
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            client.get("/p").await.is(200, "MISS", "public");
            let asked = client.get("/p").header(name, "odd").await;
            assert_ne!(asked.text(), "public", "{what}");
            let stored = if cache == "no-cache" { "REVALIDATED" } else { "HIT" };
            client.get("/p").await.is(200, stored, "public");
            edge.stop().await;
        }
    }
}

/// Where all clients send such a field, what one of them is told counts.
#[tokio::test]
async fn what_is_not_public_any_more_goes() {
    for name in ["X-Api-Key", "Accept"] {
        let origin = Origin::start().await;
        let edge = edge(&origin).await;
        let client = edge.client().ssr();
        let ask = || client.get("/p").header(name, "mine");
        let page = Response::html("public").cache("no-cache").header("ETag", "\"1\"");
        origin.on("/p").reply(page.clone());
        ask().await.is(200, "MISS", "public");
        origin.on("/p").reply(Response::html("mine").cache("private"));
        ask().await.is(200, "MISS", "mine");
        let turn = origin.on("/p").reply(page);
        ask().await.is(200, "MISS", "public");
        assert_eq!(turn.reached().await.header("if-none-match"), None, "{name}");
        edge.stop().await;
    }
}
