//! Paths of which nothing is known (semantics §1): the client's own request goes to the
//! origin first, whole, and nothing is rendered twice that works once.

use std::collections::HashMap;
use std::future::IntoFuture;
use std::sync::Mutex;

use tokio::task::JoinHandle;

use crate::support::client::{self, Ask, Client};
use crate::support::origin::Request;
use crate::support::{Break, Edge, Origin, Response, eventually};

const BY_ORIGIN: &str = "routes: [ { path: /**, isr: { revalidate: origin } } ]";
const NEXTJS: &str = "framework: nextjs\ndeployment: { probe: off }";

/// A request as a browser sends it.
fn browser(client: &Client, target: &str) -> Ask {
    let ask = client.get(target).header("User-Agent", "Mozilla/5.0");
    ask.header("Accept", "text/html,*/*;q=0.8").header("Accept-Language", "de")
}

/// A page that is for all; who asks with a name is greeted.
fn greets(request: &Request) -> Response {
    greeting(request.header("cookie").unwrap_or("everybody"))
}

fn greeting(name: &str) -> Response {
    Response::html(format!("hello {name}")).cache("s-maxage=60")
}

/// Asks on a task of its own.
fn go(ask: Ask) -> JoinHandle<client::Response> {
    tokio::spawn(ask.into_future())
}

async fn hit(client: &Client, path: &str) -> client::Response {
    eventually(format!("a hit on {path}"), async || {
        Some(client.get(path).await).filter(|page| page.x_cache() == "HIT")
    })
    .await
}

/// A link that works once works at its first visit, whatever the client carries and however
/// the origin says that it is not for all: with a preset also where it says nothing at all.
#[tokio::test]
async fn a_link_that_works_once_is_rendered_once() {
    let used = Mutex::new(HashMap::new());
    let origin = Origin::serve(move |request| {
        let mut used = used.lock().unwrap();
        let times = used.entry(request.path().to_owned()).or_insert(0);
        *times += 1;
        let text = if *times == 1 { "verified" } else { "token already used" };
        let page = Response::html(text);
        match request.path().rsplit('/').next() {
            Some("silent") => page.header("ETag", "\"v\""),
            Some("private") => page.cache("private, no-cache, no-store"),
            _ => page,
        }
    })
    .await;
    for (n, config) in [BY_ORIGIN, NEXTJS].into_iter().enumerate() {
        let edge = Edge::start(config, &origin).await;
        let client = edge.client().ssr();
        for kind in ["silent", "private", "nothing"] {
            let path = |who: &str| format!("/verify/{n}/{who}/{kind}");
            let asks = [
                client.get(&path("nobody")),
                client.get(&format!("{}?from=mail", path("query"))),
                client.get(&path("cookie")).header("Cookie", "a=1"),
                browser(&client, &path("browser")),
                browser(&client, &path("prefetch")).header("Sec-Purpose", "prefetch"),
                browser(&client, &path("key")).header("X-Api-Key", "k"),
                client.get(&path("json")).header("Accept", "application/json"),
                client.get(&path("payload")).header("RSC", "1"),
                client.get(&path("empty")).body(""),
            ];
            for ask in asks {
                ask.await.is(200, "MISS", "verified");
            }
            let with_body = client.get(&path("body")).body("x").await;
            with_body.is(200, "BYPASS", "verified");
        }
        edge.stop().await;
    }
    assert_eq!(origin.total(), 2 * 3 * 10);
}

/// What the first client gets is that one's; behind it a page begins that is for all, and
/// who asks meanwhile gets that one, after two renders, however many they are.
#[tokio::test]
async fn behind_the_first_visit_a_page_for_all_begins() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client().ssr();
    let first = origin.on("/p").with("cookie", "alice").hold(greeting("alice"));
    let whole = go(browser(&client, "/p?utm=mail").header("Cookie", "alice"));
    first.reached().await;
    let page = origin.on("/p").always().reply_with(greets);
    let others: Vec<_> = (0..10)
        .map(|n| go(browser(&client, "/p").header("Cookie", &format!("visitor {n}"))))
        .collect();
    let bare = go(client.get("/p"));
    first.release();
    let whole = whole.await.unwrap();
    whole.is(200, "MISS", "hello alice");
    assert!(whole.cache_status().contains("detail=first-visit"), "{whole}");
    for other in others.into_iter().chain([bare]) {
        assert_eq!(other.await.unwrap().text(), "hello everybody");
    }
    let request = page.reached().await;
    for name in ["cookie", "accept-language"] {
        assert_eq!(request.header(name), None, "{request}");
    }
    assert_eq!(origin.total(), 2);
    hit(&client, "/p").await;
}

/// Those who wait for the first one's verdict, and hear that the page is not for all, ask for
/// themselves at once, and so does who comes later.
#[tokio::test]
async fn a_page_for_one_keeps_nobody_waiting() {
    let origin = Origin::start().await;
    let edge = Edge::start(BY_ORIGIN, &origin).await;
    let client = edge.client().ssr();
    let greet = |request: &Request| greets(request).cache("private");
    let first = origin.on("/p").with("cookie", "alice").hold(Response::html("a").cache("private"));
    let alice = go(browser(&client, "/p").header("Cookie", "alice"));
    first.reached().await;
    origin.on("/p").always().reply_with(greet);
    let names: Vec<_> = (0..5).map(|n| format!("visitor {n}")).collect();
    let others: Vec<_> =
        names.iter().map(|name| go(browser(&client, "/p").header("Cookie", name))).collect();
    first.release();
    alice.await.unwrap().is(200, "MISS", "a");
    for (name, other) in names.iter().zip(others) {
        other.await.unwrap().is(200, "MISS", &format!("hello {name}"));
    }
    browser(&client, "/p").header("Cookie", "late").await.is(200, "MISS", "hello late");
    assert_eq!(origin.total(), 7, "one for each");
}

/// What the first client's request came to is that client's: an error, a broken
/// connection, a page that only it may see. Others get the page.
#[tokio::test]
async fn the_first_visitors_failure_is_nobody_elses() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client().ssr();
    for (n, status) in [(0, 500), (1, 403), (2, 200), (3, 0)] {
        let path = format!("/{n}");
        let first = origin.on(&path).with("x-api-key", "k");
        let first = match status {
            0 => first.always().break_off(Break::Rst),
            status => first.hold(Response::status(status).cache("private").body("no")),
        };
        let odd = go(browser(&client, &path).header("X-Api-Key", "k"));
        first.reached().await;
        let keyless = |request: &Request| request.header("x-api-key").is_none();
        origin.on(&path).when("without a key", keyless).always().reply_with(greets);
        let others: Vec<_> = (0..5).map(|_| go(browser(&client, &path))).collect();
        if status > 0 {
            first.release();
        }
        let expected = if status == 0 { 502 } else { status };
        assert_eq!(odd.await.unwrap().status, expected);
        for other in others {
            other.await.unwrap();
        }
        browser(&client, &path).await;
        hit(&client, &path).await;
    }
}

/// What one client's cookie, query or language makes of a page that is for all says nothing
/// of the path: others get the page, and soon from the store.
#[tokio::test]
async fn what_a_visitor_carries_notes_no_path() {
    let origin = Origin::serve(|request| match request.header("cookie") {
        Some("session=garbage") => Response::html("log in").cache("private"),
        _ if request.target.contains("broken") => Response::status(404),
        _ => Response::html("page").cache("s-maxage=60"),
    })
    .await;
    for config in [BY_ORIGIN, NEXTJS] {
        let edge = Edge::start(config, &origin).await;
        let client = edge.client().ssr();
        for n in 0..2 {
            let path = format!("/{n}");
            let evil = browser(&client, &path).header("Cookie", "session=garbage");
            evil.await.is(200, "MISS", "log in");
            browser(&client, &format!("{path}?broken")).await;
            let visit =
                || browser(&client, &format!("{path}?utm=1")).header("Cookie", "analytics=1");
            eventually("a hit", async || {
                let page = visit().await;
                assert_eq!(page.text(), "page");
                (page.x_cache() == "HIT").then_some(())
            })
            .await;
        }
        edge.stop().await;
    }
}

/// A page whose body would tell for whom it is, and that does not end, is its client's all
/// the same.
#[tokio::test]
async fn a_silent_page_that_does_not_end_is_streamed() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client().ssr();
    for ask in [client.get("/a"), browser(&client, "/b")] {
        let turn = origin.any().stream(Response::html("one ").header("ETag", "\"v\""));
        let mut page = ask.stream().await;
        page.expect("one ").await;
        turn.send("two").await;
        turn.finish().await;
        assert_eq!(page.rest().await.unwrap(), "two");
    }
}

/// A client who leaves before the origin answers takes nobody along.
#[tokio::test]
async fn a_first_visitor_who_leaves_takes_nobody_along() {
    let origin = Origin::start().await;
    let edge = Edge::start(BY_ORIGIN, &origin).await;
    let client = edge.client().ssr();
    let first = origin.on("/p").with("cookie", "alice").silence();
    let alice = go(browser(&client, "/p").header("Cookie", "alice"));
    first.reached().await;
    origin.on("/p").always().reply_with(greets);
    let other = go(client.get("/p"));
    alice.abort();
    assert_eq!(other.await.unwrap().text(), "hello everybody");
    hit(&client, "/p").await;
}

/// What the build names by its content is known beforehand.
#[tokio::test]
async fn hashed_assets_are_asked_for_once() {
    let origin = Origin::serve(|_| Response::html("x").cache("public, max-age=31536000")).await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client().browser_route();
    let path = "/_next/static/chunks/a-1.js";
    browser(&client, path).header("Cookie", "alice").await.is(200, "MISS", "x");
    browser(&client, path).header("Cookie", "bob").await.is(200, "HIT", "x");
    assert_eq!(origin.count(path), 1);
}
