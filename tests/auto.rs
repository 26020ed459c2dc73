//! `framework: auto`: the preset is chosen by what the origin's home page prints, asked
//! for by Perennial itself.

use perennial::reload::Reloaded;

use crate::support::origin::Request;
use crate::support::{Edge, Origin, Response, eventually};

/// No looking for builds: these origins expect every request.
const AUTO: &str = "framework: auto\ndeployment: { probe: off, settle: 1h }\n";

const KIT: &str = "<script>\n{\n\
                   __sveltekit_b1 = { base: \"\" };\n}\n</script>";

/// What browsers are told of files that carry a hash in their names.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// An origin with this home page, and with files that live a minute.
async fn site(home: Response) -> Origin {
    Origin::serve(move |request: &Request| match request.path() {
        "/" => home.clone(),
        _ => Response::html("a page").cache("s-maxage=60"),
    })
    .await
}

/// Waits until a hashed file is one to the edge.
async fn told(edge: &Edge, asset: &str) {
    eventually("the framework to be told", || async {
        let answer = edge.client().plain().get(asset).await;
        (answer.header("cache-control") == Some(IMMUTABLE)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_framework_tells_itself() {
    for (home, asset) in [
        (
            "<script src=\"/_next/static/a.js\"></script><script>self.__next_f.push([1,\"\"])</script>",
            "/_next/static/a.js",
        ),
        ("<div id=\"___gatsby\"></div>", "/static/a.png"),
        (KIT, "/_app/immutable/a.js"),
        (
            "<script>window.__reactRouterContext = {\"basename\":\"/docs\"};</script>",
            "/docs/assets/root-01234567.js",
        ),
        (
            "<script>window.__NUXT__={};window.__NUXT__.config={public:{},app:{baseURL:\"/docs/\",\
             buildId:\"b\",buildAssetsDir:\"/_files/\"}}</script>",
            "/docs/_files/a.js",
        ),
        ("<meta name=\"generator\" content=\"Astro v6.0.5\">", "/_astro/a.js"),
    ] {
        let origin = site(Response::html(home)).await;
        let edge = Edge::start(AUTO, &origin).await;
        told(&edge, asset).await;
        let own = origin.requests().into_iter().find(|request| request.path() == "/");
        let own = own.expect("it was asked for");
        assert_eq!((own.header("cookie"), own.header("accept-language")), (None, None), "{own}");
        assert_eq!(origin.count("/"), 1, "{home}");
        edge.stop().await;
    }
}

/// A client who has a page print something does not choose the preset.
#[tokio::test]
async fn what_visitors_ask_for_tells_nothing() {
    let origin = Origin::start().await;
    let home = origin.on("/").reply(Response::html("a site of its own"));
    let edge = Edge::start(AUTO, &origin).await;
    home.reached().await;
    origin.on("/p").always().reply(Response::html(KIT).cache("s-maxage=60"));
    origin.on("/_app/immutable/a.js").always().reply(Response::html("a").cache("s-maxage=60"));
    let client = edge.client().ssr();
    eventually("the page to be stored", || async {
        (client.get("/p").await.x_cache() == "HIT").then_some(())
    })
    .await;
    let file = client.get("/_app/immutable/a.js").await;
    assert_eq!(file.header("cache-control"), Some("s-maxage=60"), "it stays generic");
    edge.stop().await;
}

#[tokio::test]
async fn an_origin_that_is_not_ready_is_asked_again() {
    let origin = Origin::start().await;
    let first = origin.on("/").reply(Response::status(503));
    let edge = Edge::start(AUTO, &origin).await;
    first.reached().await;
    origin.on("/").reply(Response::html(KIT));
    origin.on("/_app/immutable/a.js").always().reply(Response::html("a").cache("s-maxage=60"));
    told(&edge, "/_app/immutable/a.js").await;
    edge.stop().await;
}

#[tokio::test]
async fn one_redirect_on_the_same_host_is_followed() {
    let moved = |to: &str| Response::status(307).header("Location", to);
    let origin = Origin::start().await;
    origin.on("/").reply(moved("/docs/"));
    let kit = "<script>\n{\n__sveltekit_b1 = {};import(\"./_kit/immutable/entry/a.js\")}</script>";
    origin.on("/docs/").reply(Response::html(kit));
    let file = "/docs/_kit/immutable/a.js";
    origin.on(file).always().reply(Response::html("a").cache("s-maxage=60"));
    let edge = Edge::start(AUTO, &origin).await;
    told(&edge, file).await;
    edge.stop().await;

    for (first, second) in [("/a", Some("/b")), ("http://elsewhere.test/", None)] {
        let origin = Origin::start().await;
        let mut last = origin.on("/").reply(moved(first));
        if let Some(second) = second {
            last = origin.on(first).reply(moved(second));
        }
        let edge = Edge::start(AUTO, &origin).await;
        last.reached().await;
        origin.on("/p").always().reply(Response::html("p").cache("s-maxage=60"));
        eventually("it to be answered as generic", || async {
            (edge.client().ssr().get("/p").await.x_cache() == "HIT").then_some(())
        })
        .await;
        edge.stop().await;
    }
}

/// What was stored before the framework was known is of another preset: it is dropped, and
/// what was in flight then is for those who asked.
#[tokio::test]
async fn what_was_stored_before_is_not_mixed_in() {
    let origin = Origin::start().await;
    let home = origin.on("/").hold(Response::html(KIT));
    let edge = Edge::start(AUTO, &origin).await;
    home.reached().await;
    let client = edge.client().ssr();
    let page = |text: &'static str| Response::html(text).cache("s-maxage=60");
    origin.on("/p").reply(page("one"));
    client.get("/p").await.is(200, "MISS", "one");
    client.get("/p").await.is(200, "HIT", "one");
    let slow = origin.on("/q").hold(page("old"));
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.get("/q").await }
    });
    slow.reached().await;
    home.release();
    origin.on("/_app/immutable/a.js").always().reply(page("a"));
    told(&edge, "/_app/immutable/a.js").await;
    origin.on("/p").reply(page("two"));
    client.get("/p").await.is(200, "MISS", "two");
    slow.release();
    asking.await.expect("it was answered").is(200, "MISS", "old");
    origin.on("/q").reply(page("new"));
    client.get("/q").await.is(200, "MISS", "new");
    client.get("/q").await.is(200, "HIT", "new");
    edge.stop().await;
}

#[tokio::test]
async fn a_reload_goes_on_with_what_was_told() {
    let origin = site(Response::html(KIT)).await;
    let edge = Edge::start(AUTO, &origin).await;
    told(&edge, "/_app/immutable/a.js").await;
    let routes = "routes: [ { path: /own/**, isr: { revalidate: 1h } } ]\n";
    assert_eq!(edge.reload(&format!("{AUTO}{routes}"), &origin), Reloaded::Applied);
    told(&edge, "/_app/immutable/b.js").await;
    let client = edge.client();
    client.get("/own/p").await.is(200, "MISS", "a page");
    assert_eq!(edge.reload("framework: sveltekit\n", &origin), Reloaded::Applied);
    let other = edge.reload("framework: nuxt\n", &origin);
    assert!(matches!(other, Reloaded::Refused(_)), "{other:?}");
    edge.stop().await;
}
