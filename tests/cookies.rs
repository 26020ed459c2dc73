//! Cookies where the origin renders for one client (semantics §1): what is rendered
//! with them is nobody else's, and pages that are for all are hits all the same.

use crate::support::client::Client;
use crate::support::{Edge, Origin, Response, eventually};

/// A page that greets by its cookie and says that it is for all, as middleware and
/// loaders make it.
fn greets(cache: &'static str) -> impl Fn(&crate::support::origin::Request) -> Response {
    move |request| {
        let name = request.header("cookie").unwrap_or("nobody");
        Response::html(format!("hello {name}")).cache(cache)
    }
}

async fn edge(origin: &Origin, route: &str) -> Edge {
    Edge::start(&format!("routes: [ {{ path: /**, {route} }} ]\n"), origin).await
}

async fn get(client: &Client, path: &str, cookie: &str) -> crate::support::client::Response {
    client.get(path).header("Cookie", cookie).await
}

/// The page, as soon as it is a hit for who has this cookie.
async fn hit(client: &Client, path: &str, cookie: &str) -> crate::support::client::Response {
    eventually(format!("a hit on {path}"), || async {
        Some(get(client, path, cookie).await).filter(|page| page.x_cache() == "HIT")
    })
    .await
}

/// On `ssr` and where a page route turns a path into that: what holds one client's
/// name is that one's, whatever the origin says of its lifetime.
#[tokio::test]
async fn what_is_rendered_for_cookies_is_nobody_elses() {
    // With cookies a page, without a redirect to the login: what middleware does.
    let origin = Origin::serve(|request| match request.header("cookie") {
        Some(_) => greets("s-maxage=900, stale-while-revalidate=31535100")(request),
        None => Response::status(307).header("Location", "/login"),
    })
    .await;
    for config in [
        "routes: [ { path: /**, ssr: {} } ]",
        "routes: [ { path: /**, isr: { revalidate: origin } } ]",
        "framework: nextjs\ndeployment: { probe: off }",
    ] {
        let edge = Edge::start(config, &origin).await;
        let client = edge.client().ssr();
        let before = origin.total();
        for round in 0..3 {
            for who in ["alice", "bob"] {
                for rsc in [false, true] {
                    let ask = client.get("/account").header("Cookie", who);
                    let ask = if rsc { ask.header("RSC", "1") } else { ask };
                    let page = ask.await;
                    if page.status == 200 {
                        assert_eq!(page.text(), format!("hello {who}"), "{config} {round}: {page}");
                    }
                    assert_ne!(page.x_cache(), "HIT", "{config}: {page}");
                }
            }
            let stranger = client.get("/account").await;
            assert_eq!(stranger.status, 307, "{config}: {stranger}");
        }
        // What the origin says to nobody in particular is asked for now and then, not
        // with every client.
        let asked = origin.total() - before;
        assert!(asked <= 3 * (2 * 2 + 1) + 6, "{config}: {asked} requests");
        edge.stop().await;
    }
}

/// The reason is seen.
#[tokio::test]
async fn why_it_is_not_stored_is_said() {
    let origin = Origin::serve(greets("s-maxage=60")).await;
    let edge = edge(&origin, "ssr: {}").await;
    let page = get(&edge.client().ssr(), "/", "alice").await;
    assert_eq!(page.cache_status(), "perennial; fwd=uri-miss; fwd-status=200; detail=cookie");
    let metric = "perennial_not_stored_total{reason=\"cookie\"}";
    eventually("the count", || async { (edge.metric(metric).await == 1.0).then_some(()) }).await;
}

/// Behind a client with cookies the origin is asked without, once, and that is what
/// everybody gets: a site on which all carry a cookie has hits.
#[tokio::test]
async fn a_site_on_which_everybody_has_a_cookie_has_hits() {
    let origin = Origin::serve(greets("s-maxage=60")).await;
    let edge = edge(&origin, "ssr: {}").await;
    let client = edge.client().ssr();
    get(&client, "/", "_ga=1").await.is(200, "MISS", "hello _ga=1");
    hit(&client, "/", "_ga=2").await.is(200, "HIT", "hello nobody");
    client.get("/").await.is(200, "HIT", "hello nobody");
    let nobody = origin.requests().into_iter().filter(|r| r.header("cookie").is_none());
    let nobody: Vec<_> = nobody.collect();
    assert_eq!(nobody.len(), 1);
    assert_eq!(nobody[0].header("x-forwarded-for"), None);
}

/// A stale page is renewed without them, and a validation with cookies takes nothing
/// away and puts nothing there.
#[tokio::test]
async fn a_stale_page_is_renewed_without_them() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "ssr: {}").await;
    let client = edge.client().ssr();
    let page =
        |body: &'static str| Response::html(body).cache("s-maxage=60").header("ETag", "\"1\"");
    let ago = std::time::Duration::from_secs(100);
    origin.on("/").reply(crate::fills::dated(page("old"), ago));
    client.get("/").await.is(200, "MISS", "old");
    origin.on("/").with("cookie", "me").always().reply(page("mine"));
    let renewal = origin.on("/").when("nobody", |r| r.header("cookie").is_none());
    renewal.reply(page("new"));
    get(&client, "/", "me").await.is(200, "MISS", "mine");
    hit(&client, "/", "me").await.is(200, "HIT", "new");
    assert_eq!(origin.requests().iter().filter(|r| r.header("cookie").is_none()).count(), 2);
}

/// Where the origin says that it knows of cookies, what it renders is stored for each.
#[tokio::test]
async fn vary_cookie_is_the_origins_word() {
    let origin =
        Origin::serve(|request| greets("s-maxage=60")(request).header("Vary", "Cookie")).await;
    let edge = edge(&origin, "ssr: {}").await;
    let client = edge.client().ssr();
    for who in ["alice", "bob"] {
        get(&client, "/", who).await.is(200, "MISS", &format!("hello {who}"));
        get(&client, "/", who).await.is(200, "HIT", &format!("hello {who}"));
    }
    client.get("/").await.is(200, "MISS", "hello nobody");
    assert_eq!(origin.total(), 3);
}

/// Of a list only those count, and only those are sent.
#[tokio::test]
async fn only_the_cookies_that_a_route_lists_count() {
    let origin = Origin::serve(greets("s-maxage=60")).await;
    let edge = edge(&origin, "ssr: {}, cookies: [session]").await;
    let client = edge.client().ssr();
    get(&client, "/", "_ga=1; theme=dark").await.is(200, "MISS", "hello nobody");
    get(&client, "/", "_ga=2").await.is(200, "HIT", "hello nobody");
    // Others get what is stored for all; with the session a fresh page is for all, too.
    get(&client, "/", "session=a; _ga=3").await.is(200, "HIT", "hello nobody");
    get(&client, "/own", "_ga=3; session=a").await.is(200, "MISS", "hello session=a");
    hit(&client, "/own", "session=b").await.is(200, "HIT", "hello nobody");
}

/// With `Vary: Cookie` the variant is chosen by what is left of them.
#[tokio::test]
async fn variants_are_chosen_by_the_cookies_that_count() {
    let origin =
        Origin::serve(|request| greets("s-maxage=60")(request).header("Vary", "Cookie")).await;
    for (cookies, name) in [("none", "nobody"), ("[session]", "session=a")] {
        let edge = edge(&origin, &format!("ssr: {{}}, cookies: {cookies}")).await;
        let client = edge.client().ssr();
        let body = format!("hello {name}");
        get(&client, "/", "session=a; _ga=1").await.is(200, "MISS", &body);
        get(&client, "/", "_ga=2; session=a").await.is(200, "HIT", &body);
        edge.stop().await;
    }
}

/// RFC 9111 to the letter, for who wants it.
#[tokio::test]
async fn shared_is_rfc_9111() {
    let origin = Origin::serve(greets("s-maxage=60")).await;
    let edge = edge(&origin, "ssr: {}, cookies: shared").await;
    let client = edge.client().ssr();
    get(&client, "/", "alice").await.is(200, "MISS", "hello alice");
    get(&client, "/", "bob").await.is(200, "HIT", "hello alice");
}

/// What needs the cookies is not asked for again with every client.
#[tokio::test]
async fn where_nobody_gets_anything_that_is_asked_once() {
    for (what, plain) in [
        ("a redirect", Response::status(302).header("Location", "/login")),
        ("private", Response::html("log in").cache("private")),
        ("an error", Response::status(500)),
    ] {
        let origin = Origin::serve(move |request| match request.header("cookie") {
            Some(_) => greets("s-maxage=60")(request),
            None => plain.clone(),
        })
        .await;
        let edge = {
            let yaml = "- { path: /**, ssr: {} }\nbackoff: { min: 1h, max: 1h }\n";
            Edge::start(yaml, &origin).await
        };
        let client = edge.client().ssr();
        let nobodys = || origin.requests().iter().filter(|r| r.header("cookie").is_none()).count();
        get(&client, "/", "first").await.is(200, "MISS", "hello first");
        eventually("the render for all", || async { (nobodys() == 1).then_some(()) }).await;
        for n in 0..10 {
            let who = format!("n={n}");
            get(&client, "/", &who).await.is(200, "MISS", &format!("hello {who}"));
        }
        assert_eq!(nobodys(), 1, "{what}");
        edge.stop().await;
    }
}

/// What a 304 says to who has cookies it says to nobody else.
#[tokio::test]
async fn what_a_304_says_of_cookies_is_not_for_all() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "ssr: {}").await;
    let client = edge.client().ssr();
    let page = Response::html("page").cache("max-age=60").header("ETag", "\"1\"");
    let ago = std::time::Duration::from_secs(100);
    origin.on("/").reply(crate::fills::dated(page, ago));
    client.get("/").await.is(200, "MISS", "page");
    let unchanged = || Response::status(304).cache("max-age=60").header("ETag", "\"1\"");
    let mine = origin.on("/").with("cookie", "alice").always();
    mine.reply(unchanged().header("X-User", "alice"));
    let nobodys = origin.on("/").when("nobody", |r| r.header("cookie").is_none());
    let nobodys = nobodys.reply(unchanged());
    let own = get(&client, "/", "alice").await;
    assert_eq!(own.is(200, "REVALIDATED", "page").header("x-user"), Some("alice"));
    assert_eq!(nobodys.reached().await.header("if-none-match"), Some("\"1\""));
    for cookie in ["bob", "alice"] {
        let page = hit(&client, "/", cookie).await;
        assert_eq!(page.is(200, "HIT", "page").header("x-user"), None, "{page}");
    }
}

/// That it fails without cookies holds back nobody who has none.
#[tokio::test]
async fn a_failed_render_for_all_holds_back_nobody() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "ssr: {}").await;
    let client = edge.client().ssr();
    let page = |body: &'static str| Response::html(body).cache("max-age=60, stale-if-error=600");
    let ago = std::time::Duration::from_secs(100);
    origin.on("/").reply(crate::fills::dated(page("old"), ago));
    client.get("/").await.is(200, "MISS", "old");
    origin.on("/").with("cookie", "me").reply(page("mine"));
    let nobody = || origin.on("/").when("nobody", |r| r.header("cookie").is_none());
    let failing = nobody().reply(Response::status(500));
    get(&client, "/", "me").await.is(200, "MISS", "mine");
    failing.ended().await;
    nobody().reply(page("new"));
    client.get("/").await.is(200, "MISS", "new");
}
