//! A reload: the options of a route are applied when a page is read (semantics §6).

use std::time::Duration;

use perennial::clock;
use perennial::rules::date;

use crate::support::{Edge, Origin, Response, eventually};

/// A page that says who asked for it.
fn named(request: &crate::support::origin::Request) -> Response {
    let who = request.header("cookie").unwrap_or("nobody");
    Response::html(format!("for {who}")).cache("s-maxage=600")
}

fn route(options: &str) -> String {
    format!("- path: /**\n  {options}\n")
}

/// What was stored without the client's fields is not what they get on `ssr`, and
/// what was rendered with a client's fields is for nobody else on a page route.
#[tokio::test]
async fn a_changed_mode_is_true_for_the_next_request() {
    let origin = Origin::serve(named).await;
    let edge = Edge::start(&route("dsg: {}"), &origin).await;
    let client = edge.client();
    client.get("/account").await.is(200, "MISS", "for nobody");
    client.get("/account").header("Cookie", "user=a").await.is(200, "HIT", "for nobody");

    edge.reload(&route("ssr: {}"), &origin);
    let client = edge.client().ssr();
    client.get("/account").header("Cookie", "user=b").await.is(200, "MISS", "for user=b");
    client.get("/other").header("Cookie", "user=c").await.is(200, "MISS", "for user=c");

    edge.reload(&route("isr: { revalidate: 1h }"), &origin);
    let client = edge.client();
    client.get("/other").header("Cookie", "user=d").await.is(200, "MISS", "for nobody");
    client.get("/account").await.is(200, "MISS", "for nobody");
    client.get("/account").await.is(200, "HIT", "for nobody");

    edge.reload(&route("pass: {}"), &origin);
    let client = edge.client().ssr();
    client.get("/account").header("Cookie", "user=e").await.is(200, "BYPASS", "for user=e");
}

#[tokio::test]
async fn a_changed_lifetime_counts_for_what_is_stored() {
    let origin = Origin::start().await;
    let edge = Edge::start(&route("isr: { revalidate: 1h }"), &origin).await;
    let ago = date::format(clock::now().minus(Duration::from_secs(100)));
    origin.on("/p").reply(Response::html("one").header("Date", &ago));
    let client = edge.client();
    client.get("/p").await.is(200, "MISS", "one");
    client.get("/p").await.is(200, "HIT", "one");

    edge.reload(&route("isr: { revalidate: 10s }"), &origin);
    origin.on("/p").reply(Response::html("two"));
    client.get("/p").await.is(200, "STALE", "one");
    eventually("the new page", || async { (client.get("/p").await.text() == "two").then_some(()) })
        .await;

    // And one that the origin says nothing about is not for `revalidate: origin`.
    edge.reload(&route("isr: { revalidate: origin }"), &origin);
    // Once for all, and then with all that the client sent.
    origin.on("/p").reply(Response::html("three"));
    origin.on("/p").reply(Response::html("three"));
    let answer = edge.client().ssr().get("/p").await;
    assert_eq!((answer.status, answer.text()), (200, "three"), "{answer}");
}

#[tokio::test]
async fn changed_browser_fields_and_tags_count_for_what_is_stored() {
    let origin = Origin::start().await;
    let edge = Edge::start(&route("isr: { revalidate: 1d }"), &origin).await;
    origin.on("/p").reply(Response::html("one"));
    edge.client().get("/p").await.is(200, "MISS", "one");

    edge.reload(&route("isr: { revalidate: 1d }\n  browser: 'max-age=7'\n  tags: [new]"), &origin);
    let client = edge.client().browser_route();
    let answer = client.get("/p").await;
    answer.is(200, "HIT", "one");
    assert_eq!(answer.header("cache-control"), Some("max-age=7"));

    // It was stored before its route had that tag.
    assert_eq!(edge.revalidate("tag=new&mode=expire").await.status, 200);
    origin.on("/p").reply(Response::html("two"));
    client.get("/p").await.is(200, "MISS", "two");
}
