//! Presets and deployments, with what a real site would hardly do on demand:
//! `tests/frameworks` has the real ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::support::origin::Request;
use crate::support::{Edge, Origin, Response, eventually};

const ISR: &str = "s-maxage=60, stale-while-revalidate=600";
const PRIVATE: &str = "private, no-cache, no-store, max-age=0, must-revalidate";

/// No looking for builds: these origins expect every request.
const NEXTJS: &str = "framework: nextjs\nnextjs: { preview_mode_id: true-id }\n\
                      deployment: { probe: off, settle: 1h }\n";
const GATSBY: &str = "framework: gatsby\ndeployment: { probe: off, settle: 1h }\n\
                      gatsby: { server_rendered: [/server/] }\n";

/// A document of the pages router.
fn pages(build: &str, text: &str) -> Response {
    Response::html(pages_text(build, text)).cache(ISR)
}

fn pages_text(build: &str, text: &str) -> String {
    format!(
        "<p>{text}</p><script id=\"__NEXT_DATA__\" type=\"application/json\">\
         {{\"props\":{{}},\"buildId\":\"{build}\",\"gsp\":true}}</script>"
    )
}

/// A document of the app router.
fn app(build: &str, text: &str) -> Response {
    Response::html(app_text(build, text)).cache(ISR)
}

fn app_text(build: &str, text: &str) -> String {
    let row = format!("0:{{\"P\":null,\"b\":\"{build}\"}}\n");
    let piece = serde_json::to_string(&row).expect("a string is JSON");
    format!("<p>{text}</p><script>self.__next_f.push([1,{piece}])</script>")
}

/// A payload of the app router.
fn rsc(build: &str, text: &str) -> Response {
    Response::status(200)
        .header("Content-Type", "text/x-component")
        .body(rsc_text(build, text))
        .cache(ISR)
}

fn rsc_text(build: &str, text: &str) -> String {
    format!("1:\"{text}\"\n0:{{\"P\":null,\"b\":\"{build}\"}}\n")
}

/// A document of Gatsby's.
fn gatsby_text(build: &str) -> String {
    format!("<script>window.___webpackCompilationHash=\"{build}\";</script>")
}

/// A page of any renderer that says which deployment it is of.
fn of(deployment: &str, text: &str) -> Response {
    Response::html(text.to_owned()).header("X-Deployment-Id", deployment)
}

// --- deployments ------------------------------------------------------------------

#[tokio::test]
async fn a_rolling_deploy_does_not_flap() {
    let origin = Origin::start().await;
    let yaml = "deployment: { field: x-deployment-id, settle: 1h }\n\
                routes: [ { path: /**, isr: { revalidate: 1h } } ]\n";
    let edge = Edge::start(yaml, &origin).await;
    let client = edge.client();
    origin.on("/p").reply(of("v1", "one"));
    client.get("/p").await.is(200, "MISS", "one");
    client.get("/p").await.is(200, "HIT", "one");
    // A server of the next deployment answers for a page that nobody has: it is
    // kept, and served as what there is.
    origin.on("/q").reply(of("v2", "two"));
    client.get("/q").await.is(200, "MISS", "two");
    client.get("/q").await.is(200, "HIT", "two");
    // A page of the current one stays as it is when the next one renders it.
    origin.on("/p").reply(of("v2", "two"));
    edge.revalidate("path=/p&mode=stale").await;
    client.get("/p").await.is(200, "STALE", "one");
    eventually("the back-off", || async {
        let answer = client.get("/p").await;
        answer.is(200, "STALE", "one");
        answer.cache_status().ends_with("detail=backoff").then_some(())
    })
    .await;
    // Until it is said to be the current one: then it is there already.
    assert_eq!(edge.revalidate("deployment=v2").await.status, 200);
    client.get("/p").await.is(200, "HIT", "two");
    client.get("/q").await.is(200, "HIT", "two");
    // And back again: a page that only the other one has is served, and rendered.
    origin.on("/q").reply(of("v1", "one"));
    edge.revalidate("deployment=v1").await;
    client.get("/q").await.is(200, "STALE", "two");
    eventually("its own", || async { (client.get("/q").await.text() == "one").then_some(()) })
        .await;
    edge.stop().await;
}

#[tokio::test]
async fn two_sites_behind_one_origin_keep_their_pages() {
    let origin = Origin::start().await;
    let edge = Edge::start("- { path: /**, isr: { revalidate: 1h } }", &origin).await;
    let client = edge.client();
    let sites = [("/a", "site-1"), ("/b", "site-2"), ("/c", "site-1"), ("/d", "site-2")];
    for (path, site) in sites {
        origin.on(path).reply(of(site, "one"));
        client.get(path).await.is(200, "MISS", "one");
    }
    for (path, site) in sites {
        client.get(path).await.is(200, "HIT", "one");
        edge.revalidate(&format!("path={path}&mode=stale")).await;
        origin.on(path).reply(of(site, "two"));
        client.get(path).await.is(200, "STALE", "one");
        eventually("the new page", || async {
            (client.get(path).await.text() == "two").then_some(())
        })
        .await;
        client.get(path).await.is(200, "HIT", "two");
    }
    assert_eq!(origin.total(), 8);
    edge.stop().await;
}

#[tokio::test]
async fn the_first_page_of_a_deployment_is_rendered_once() {
    let origin = Origin::start().await;
    let edge = Edge::start("- { path: /**, isr: { revalidate: 1h } }", &origin).await;
    let render = origin.on("/p").stream(of("v1", ""));
    let first = edge.client().get("/p").stream();
    let first = tokio::spawn(first);
    render.send("half, ").await;
    let mut first = first.await.expect("it came");
    first.expect("half, ").await;
    // Which deployment it is has been seen by now.
    let mut second = edge.client().get("/p").stream().await;
    second.expect("half, ").await;
    render.send("whole").await;
    render.finish().await;
    for stream in [first, second] {
        assert_eq!(stream.rest().await.expect("whole"), "whole");
    }
    edge.client().get("/p").await.is(200, "HIT", "half, whole");
    assert_eq!(origin.total(), 1);
    edge.stop().await;
}

#[tokio::test]
async fn pages_of_the_deployment_before_are_served_until_they_are_rendered() {
    let origin = Origin::start().await;
    let yaml = "deployment: { cookie: release, settle: 0s }\n\
                routes: [ { path: /**, dsg: {} } ]\n";
    let edge = Edge::start(yaml, &origin).await;
    let client = edge.client();
    let page = |release: &str, text: &str| {
        Response::html(text.to_owned()).header("Set-Cookie", &format!("release={release}; Path=/"))
    };
    let json = |release: &str, text: &str| {
        Response::json(text.to_owned()).header("Set-Cookie", &format!("release={release}; Path=/"))
    };
    // Its cookie is of no client, another one is.
    origin.on("/own").times(2).reply(page("1", "own").header("Set-Cookie", "session=1"));
    for _ in 0..2 {
        let own = client.clone().ssr().get("/own").await;
        assert_eq!((own.x_cache(), own.header("set-cookie")), ("MISS", Some("session=1")));
    }
    for path in ["/a", "/b", "/c"] {
        origin.on(path).with("accept", "html").reply(page("1", "one"));
        origin.on(path).with("accept", "json").reply(json("1", "{}"));
        client.get(path).await.is(200, "MISS", "one");
        eventually("its JSON", || async {
            let answer = client.get(path).header("Accept", "application/json").await;
            (answer.header("x-cache") == Some("HIT")).then_some(())
        })
        .await;
    }
    origin.on("/new").with("accept", "html").reply(page("2", "two"));
    origin.on("/new").with("accept", "json").reply(json("2", "{}"));
    client.get("/new").await.is(200, "MISS", "two");
    // It settles at once. What was there is served while the new one is rendered,
    // both forms of it together …
    let render = origin.on("/a").with("accept", "html").hold(page("2", "two"));
    origin.on("/a").with("accept", "json").reply(json("2", "{2}"));
    client.get("/a").await.is(200, "STALE", "one");
    render.reached().await;
    let data = client.get("/a").header("Accept", "application/json").await;
    data.is(200, "STALE", "{}");
    render.release();
    eventually("the new page", || async { (client.get("/a").await.text() == "two").then_some(()) })
        .await;
    client.get("/a").header("Accept", "application/json").await.is(200, "HIT", "{2}");
    // … a render that fails changes nothing …
    origin.on("/b").reply(Response::status(500));
    client.get("/b").await.is(200, "STALE", "one");
    eventually("the back-off", || async {
        let answer = client.get("/b").await;
        answer.is(200, "STALE", "one");
        answer.cache_status().ends_with("detail=backoff").then_some(())
    })
    .await;
    // … and a page that is not public any more is gone, in every deployment.
    origin.on("/c").reply(Response::status(403));
    client.get("/c").await.is(200, "STALE", "one");
    origin.on("/c").always().reply(Response::status(403));
    eventually("it to be gone", || async { (client.get("/c").await.status == 403).then_some(()) })
        .await;
    edge.stop().await;
}

#[tokio::test]
async fn a_named_deployment_has_its_own_pages() {
    let origin = Origin::start().await;
    let yaml = |id: &str| format!("deployment: {id}\nroutes: [ {{ path: /**, dsg: {{}} }} ]\n");
    let edge = Edge::start(&yaml("v1"), &origin).await;
    let client = edge.client();
    origin.on("/p").with("accept", "html").reply(of("x", "one"));
    origin.on("/p").with("accept", "json").reply(Response::status(404));
    client.get("/p").await.is(200, "MISS", "one");
    origin.wait_for(2).await;
    edge.reload(&yaml("v2"), &origin);
    origin.on("/p").with("accept", "html").reply(of("y", "two"));
    origin.on("/p").with("accept", "json").always().reply(Response::status(404));
    client.get("/p").await.is(200, "STALE", "one");
    eventually("the new page", || async { (client.get("/p").await.text() == "two").then_some(()) })
        .await;
    // Rolling back finds the old pages.
    edge.reload(&yaml("v1"), &origin);
    client.get("/p").await.is(200, "HIT", "one");
    edge.stop().await;
}

// --- Next.js ------------------------------------------------------------------------

#[tokio::test]
async fn a_page_and_its_data_are_regenerated_in_one_render() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client();
    let data = "/_next/data/B1/p.json";
    let json = |text: &'static str| Response::json(text).cache(ISR);
    origin.on("/p").reply(pages("B1", "one"));
    origin.on(data).reply(json("{1}"));
    client.get("/p").await.is(200, "MISS", &pages_text("B1", "one"));
    eventually("its data", || async {
        (client.get(data).await.header("x-cache") == Some("HIT")).then_some(())
    })
    .await;
    let first = origin.wait_for(1).await;
    assert!(first.header("user-agent").unwrap().contains("Googlebot"), "{first}");
    assert_eq!(first.header("x-prerender-revalidate"), None, "Next may have it");
    // A client with that field is nobody; what renews the page says it once.
    origin.on("/p").reply(pages("B1", "two"));
    origin.on(data).reply(json("{2}"));
    assert_eq!(edge.revalidate("path=/p").await.status, 200);
    let [document, json_request] = [origin.wait_for(3).await, origin.wait_for(4).await];
    assert_eq!(document.header("x-prerender-revalidate"), Some("true-id"));
    assert_eq!(json_request.header("x-prerender-revalidate"), None);
    assert_eq!(client.get(data).header("X-Prerender-Revalidate", "x").await.text(), "{2}");
    // What is gone for good does not come back out of a cache of Next's.
    origin.on("/p").reply(pages("B1", "three"));
    origin.on(data).reply(json("{3}"));
    edge.revalidate("path=/p&mode=delete").await;
    client.get("/p").await.is(200, "MISS", &pages_text("B1", "three"));
    assert_eq!(origin.wait_for(5).await.header("x-prerender-revalidate"), Some("true-id"));
    origin.wait_for(6).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_page_is_not_mixed_of_two_renders() {
    let origin = Origin::start().await;
    let yaml = "framework: nextjs\ndeployment: { probe: off }\n";
    let edge = Edge::start(yaml, &origin).await;
    let client = edge.client();
    let data = "/_next/data/B1/p.json";
    let json = |text: &'static str| Response::json(text).cache(ISR);
    let stale = |response: Response| response.header("x-nextjs-cache", "STALE");
    origin.on("/p").reply(pages("B1", "one"));
    origin.on(data).reply(json("{1}"));
    client.get("/p").await;
    eventually("its data", || async {
        (client.get(data).await.header("x-cache") == Some("HIT")).then_some(())
    })
    .await;
    // Next answers with its old document, renders, and has new data by then: the
    // document is asked for once more.
    origin.on("/p").reply(stale(pages("B1", "one")));
    origin.on(data).reply(json("{2}"));
    origin.on("/p").reply(pages("B1", "two"));
    edge.revalidate("path=/p").await;
    client.get("/p").await.is(200, "HIT", &pages_text("B1", "two"));
    client.get(data).await.is(200, "HIT", "{2}");
    // If that is old, too, nothing is replaced.
    origin.on("/p").reply(stale(pages("B1", "two")));
    origin.on(data).reply(json("{3}"));
    origin.on("/p").reply(stale(pages("B1", "two")));
    assert_eq!(edge.revalidate("path=/p").await.status, 500);
    origin.on("/p").always().reply(Response::status(500));
    client.get(data).await.is(200, "STALE", "{2}");
    edge.stop().await;
}

#[tokio::test]
async fn payloads_follow_the_one_redirect_that_says_nothing_else() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client();
    let moved = |to: &str| Response::status(307).header("Location", to);
    let prefetch =
        |path: &str| client.get(path).header("RSC", "1").header("Next-Router-Prefetch", "1");
    origin.on("/p?_rsc=").reply(moved("/p?_rsc=&_rsc=mark"));
    origin.on("/p?_rsc=mark").reply(rsc("B1", "one"));
    origin.on("/p").reply(app("B1", "one"));
    // Whatever the client's own says.
    let payload = prefetch("/p?_rsc=own").await;
    payload.is(200, "MISS", &rsc_text("B1", "one"));
    let asked = origin.wait_for(2).await;
    assert_eq!((asked.header("rsc"), asked.header("next-router-prefetch")), (Some("1"), Some("1")));
    prefetch("/p?_rsc=other").await.is(200, "HIT", &rsc_text("B1", "one"));
    eventually("the document", || async {
        (client.get("/p").await.header("x-cache") == Some("HIT")).then_some(())
    })
    .await;
    // The value is remembered, for every page.
    origin.on("/q?_rsc=mark").reply(rsc("B1", "two"));
    origin.on("/q").reply(app("B1", "two"));
    prefetch("/q").await.is(200, "MISS", &rsc_text("B1", "two"));
    // A redirect that leads elsewhere is the page's.
    origin.on("/r?_rsc=mark").reply(moved("/login?_rsc=mark").cache(ISR));
    let away = prefetch("/r").await;
    assert_eq!((away.status, away.header("location")), (307, Some("/login?_rsc=mark")));
    // One that never ends is an error.
    origin.on("/s?_rsc=mark").reply(moved("/s?_rsc=1"));
    origin.on("/s?_rsc=1").reply(moved("/s?_rsc=2"));
    assert_eq!(prefetch("/s").await.status, 502);
    edge.stop().await;
}

/// Next 16 redirects a payload whose URL middleware rewrites to where it was rewritten to:
/// that asks for another mark and leads nowhere else, and the page is no less static.
#[tokio::test]
async fn payloads_of_rewritten_pages_are_pages() {
    // What Next hashes of such a request; an empty mark is lost where a URL is rewritten.
    let mark = |request: &Request| match request.header("next-router-prefetch") {
        Some(_) => "prefetch",
        None if request.header("next-router-state-tree").is_some() => "tree",
        None => "",
    };
    let origin = Origin::serve(move |request| {
        let path = request.path().to_owned();
        let sent = request.target.split_once("_rsc=").map(|(_, mark)| mark.to_owned());
        let wanted = mark(request);
        let within = format!("/docs/en{}", path.trim_start_matches("/docs"));
        let answer = match request.header("rsc") {
            None => app("B1", &path),
            Some(_) if path == "/docs/login" => {
                Response::status(307).header("Location", "/docs/start?_rsc=").cache(PRIVATE)
            }
            Some(_) if sent.as_deref() != Some(wanted) || wanted.is_empty() => {
                Response::status(307).header("Location", &format!("{within}?_rsc={wanted}"))
            }
            Some(_) => rsc("B1", &path),
        };
        // Within, a route may be intercepted that the redirect does not tell of.
        let last = if path == "/docs/b" { "/en/(.)b" } else { within.trim_start_matches("/docs") };
        answer
            .header("x-middleware-rewrite", &format!("http://localhost:3000{within}?_rsc=x"))
            .header("x-nextjs-rewritten-path", last)
    })
    .await;
    let yaml = NEXTJS.replace("true-id", "true-id, base_path: /docs");
    let edge = Edge::start(&yaml, &origin).await;
    let client = edge.client();
    for page in ["/docs/a", "/docs/b"] {
        client.get(page).await.is(200, "MISS", &app_text("B1", page));
        eventually("its payload", || async {
            let payload = client.get(page).header("RSC", "1").await;
            assert_eq!(payload.status, 200, "{payload}");
            (payload.header("x-cache") == Some("HIT")).then_some(())
        })
        .await;
        let prefetch = client.get(page).header("RSC", "1").header("Next-Router-Prefetch", "1");
        prefetch.await.is(200, "MISS", &rsc_text("B1", page));
        client.get(page).await.is(200, "HIT", &app_text("B1", page));
    }
    // Each mark is learnt once.
    assert_eq!(origin.total(), 2 * 3 + 2);
    let away = client.ssr().get("/docs/login").header("RSC", "1").await;
    assert_eq!((away.status, away.header("location")), (307, Some("/docs/start?_rsc=")));
    edge.stop().await;
}

#[tokio::test]
async fn intercepted_routes_have_payloads_by_the_page_they_are_seen_from() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client();
    let seen_from = |path: &'static str, page: &'static str| {
        client.get(path).header("RSC", "1").header("Next-Url", page)
    };
    let vary = "rsc, next-router-state-tree, next-router-prefetch, next-url";
    // Where the response says so …
    origin.on("/photo").always().reply(app("B1", "photo"));
    for (page, text) in [("/feed", "modal"), ("/", "page")] {
        origin
            .on("/photo?_rsc=")
            .with("next-url", page)
            .reply(rsc("B1", text).header("Vary", vary));
        seen_from("/photo?_rsc=x", page).await.is(200, "MISS", &rsc_text("B1", text));
    }
    seen_from("/photo?_rsc=y", "/feed").await.is(200, "HIT", &rsc_text("B1", "modal"));
    seen_from("/photo?_rsc=y", "/").await.is(200, "HIT", &rsc_text("B1", "page"));
    // … and nowhere else: a page that nothing intercepts has one for all.
    origin.on("/about").always().reply(app("B1", "about"));
    origin.on("/about?_rsc=").reply(rsc("B1", "about").header("Vary", "rsc"));
    seen_from("/about?_rsc=x", "/feed").await.is(200, "MISS", &rsc_text("B1", "about"));
    seen_from("/about?_rsc=y", "/").await.is(200, "HIT", &rsc_text("B1", "about"));
    // Renewed, each of them is asked for as it was.
    for (page, text) in [("/feed", "modal 2"), ("/", "page 2")] {
        origin
            .on("/photo?_rsc=")
            .with("next-url", page)
            .reply(rsc("B1", text).header("Vary", vary));
    }
    eventually("the document", || async {
        (client.get("/photo").await.header("x-cache") == Some("HIT")).then_some(())
    })
    .await;
    assert_eq!(edge.revalidate("path=/photo").await.status, 200);
    seen_from("/photo", "/feed").await.is(200, "HIT", &rsc_text("B1", "modal 2"));
    seen_from("/photo", "/").await.is(200, "HIT", &rsc_text("B1", "page 2"));
    edge.stop().await;
}

#[tokio::test]
async fn what_visitors_make_up_harms_no_page() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client();
    let payload = |path: &'static str| client.get(path).header("RSC", "1");
    // A page of the pages router has no payload: its document is what Next sends.
    origin.on("/p").always().reply(pages("B1", "page"));
    origin.on("/_next/data/B1/p.json").reply(Response::json("{}").cache(ISR));
    client.get("/p").await;
    for answer in [payload("/p").await, payload("/p?_rsc=1").await, payload("/p?_rsc=2").await] {
        answer.is(200, "HIT", &pages_text("B1", "page"));
    }
    assert_eq!(origin.count("/p"), 2, "it was tried once");
    // A segment that no page has, and one that is nobody else's.
    origin.on("/a").always().reply(app("B1", "page"));
    origin.on("/a?_rsc=").reply(rsc("B1", "page"));
    client.get("/a").await;
    eventually("its payload", || async {
        (payload("/a").await.header("x-cache") == Some("HIT")).then_some(())
    })
    .await;
    // What is private is asked for once more, with all that its client sent.
    for (cache, times) in [(ISR, 1), (PRIVATE, 2), (ISR, 1)] {
        origin.on("/a?_rsc=").times(times).reply(Response::status(404).cache(cache));
        let made_up = client.clone().ssr().get("/a").header("RSC", "1");
        let made_up = made_up.header("Next-Router-Segment-Prefetch", "/made-up").await;
        assert_eq!((made_up.status, made_up.x_cache()), (404, "MISS"));
    }
    payload("/a").await.is(200, "HIT", &rsc_text("B1", "page"));
    assert_eq!(client.get("/a").await.x_cache(), "HIT");
    edge.stop().await;
}

#[tokio::test]
async fn a_page_with_data_of_an_unknown_build_is_unharmed() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client();
    origin.on("/p").reply(pages("B1", "one"));
    origin.on("/_next/data/B1/p.json").reply(Response::json("{1}").cache(ISR));
    client.get("/p").await;
    origin.wait_for(2).await;
    let other = "/_next/data/B0/p.json";
    origin.on(other).times(2).reply(Response::status(404).cache(PRIVATE));
    for _ in 0..2 {
        assert_eq!(client.clone().ssr().get(other).await.status, 404);
    }
    client.get("/p").await.is(200, "HIT", &pages_text("B1", "one"));
    edge.stop().await;
}

#[tokio::test]
async fn a_new_build_is_noticed_in_what_it_renders() {
    let origin = Origin::start().await;
    let yaml = "framework: nextjs\ndeployment: { probe: off, settle: 0s }\n";
    let edge = Edge::start(yaml, &origin).await;
    let client = edge.client();
    let data = |build: &str, page: &str| format!("/_next/data/{build}/{page}.json");
    for page in ["a", "b"] {
        origin.on(&format!("/{page}")).reply(pages("B1", "one"));
        origin.on(&data("B1", page)).reply(Response::json("{1}").cache(ISR));
        client.get(&format!("/{page}")).await;
        eventually("its data", || async {
            (client.get(&data("B1", page)).await.header("x-cache") == Some("HIT")).then_some(())
        })
        .await;
    }
    // A regeneration of one page brings the new build, and its data by its name.
    origin.on("/a").reply(pages("B2", "two"));
    origin.on(&data("B2", "a")).reply(Response::json("{2}").cache(ISR));
    edge.revalidate("path=/a").await;
    client.get("/a").await.is(200, "HIT", &pages_text("B2", "two"));
    client.get(&data("B2", "a")).await.is(200, "HIT", "{2}");
    // A tab that was open before has the data of its own build.
    client.get(&data("B1", "a")).await.is(200, "STALE", "{1}");
    client.get(&data("B1", "b")).await.is(200, "HIT", "{1}");
    edge.stop().await;
}

#[tokio::test]
async fn assets_are_fetched_before_a_deploy_takes_them_away() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client();
    let script = "/_next/static/chunks/a-1.js";
    let js = |text: &'static str| {
        Response::status(200)
            .body(text)
            .header("Content-Type", "application/javascript")
            .cache("public, max-age=31536000, immutable")
    };
    let body = format!("<script src=\"{script}\"></script>");
    origin.on("/p").reply(Response::html(body).cache(ISR));
    // What a bundle names is fetched, too.
    origin.on(script).reply(js("load(\"static/chunks/b-2.js\")"));
    origin.on("/_next/static/chunks/b-2.js").reply(js("b"));
    client.get("/p").await;
    origin.wait_for(3).await;
    eventually("both to be stored", || async {
        let client = client.clone().browser_route();
        let stored =
            client.get("/_next/static/chunks/b-2.js").header("Cache-Control", "only-if-cached");
        (stored.await.status == 200).then_some(())
    })
    .await;
    origin.any().always().reply(Response::status(404).cache(PRIVATE));
    edge.revalidate("deployment=B2").await;
    for path in [script, "/_next/static/chunks/b-2.js"] {
        let answer = client.clone().browser_route().get(path).await;
        assert_eq!((answer.status, answer.header("x-cache")), (200, Some("HIT")));
        assert!(answer.header("cache-control").unwrap().ends_with("immutable"));
    }
    let lost = client.clone().ssr().get("/_next/static/chunks/c-3.js").await;
    assert_eq!(lost.status, 404);
    assert_eq!(lost.header("cache-control"), Some(PRIVATE), "and no browser keeps that");
    edge.stop().await;
}

/// A page that names thousands of assets costs the origin a bounded number of
/// requests, by page and by minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_names_thousands_of_assets_costs_few_requests() {
    let script = |name: &str| format!("<script src=\"/_next/static/chunks/{name}.js\"></script>");
    let many: String = (0..4000).map(|n| script(&n.to_string())).collect();
    let last = script("last");
    let yaml = |assets: usize| {
        NEXTJS.replace("settle: 1h", &format!("settle: 1h, assets_per_minute: {assets}"))
    };
    for (minute, by_page) in [(600, 256), (20, 20)] {
        let (many, last) = (many.clone(), last.clone());
        let origin = Origin::serve(move |request| match request.path() {
            "/many" => Response::html(many.clone()).cache(ISR),
            "/last" => Response::html(last.clone()).cache(ISR),
            _ => Response::status(200)
                .body("x")
                .header("Content-Type", "application/javascript")
                .cache("public, max-age=31536000, immutable"),
        })
        .await;
        let edge = Edge::start(&yaml(minute), &origin).await;
        edge.client().get("/many").await;
        origin.wait_for(1 + by_page).await;
        // They are searched in turn: when the last one has come, all others have.
        edge.reload(&yaml(minute + 1), &origin);
        edge.client().get("/last").await;
        eventually("the asset that is named last", async || {
            (origin.count("/_next/static/chunks/last.js") == 1).then_some(())
        })
        .await;
        origin.wait_for(by_page + 3).await;
        assert_eq!(origin.total(), by_page + 3, "two pages and their assets");
        edge.stop().await;
    }
}

/// Clients have a hand in what pages say. What they make a page name costs the origin
/// nothing where the URL holds it, and little otherwise, and the assets of real pages are
/// fetched all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_visitors_made_up_cost_little() {
    const REAL: usize = 30;
    let script = |name: &str| format!("<script src=\"/_next/static/chunks/{name}.js\"></script>");
    let origin = Origin::serve(move |request| match request.path() {
        // As if everything that it names came by another way than the URL.
        "/posted" => {
            let made_up: String = (0..250).map(|n| script(&format!("posted-{n}"))).collect();
            Response::html(format!("{made_up}{}", request.target)).cache(ISR)
        }
        "/real" => {
            let real: String = (0..REAL).map(|n| script(&format!("real-{n}"))).collect();
            Response::html(format!("{real}{}", script("gone"))).cache(ISR)
        }
        path if path.starts_with("/_next/static/chunks/real-") => Response::status(200)
            .body("x")
            .header("Content-Type", "application/javascript")
            .cache("public, max-age=31536000, immutable"),
        path if path.starts_with("/_next/static/") => Response::status(404).cache(PRIVATE),
        path => {
            let status = if path.starts_with("/lost") { 404 } else { 200 };
            let lost = if status == 404 { script("of-an-error-page") } else { String::new() };
            let target = request.target.replace("%2F", "/");
            let page = Response::status(status).body(format!("No {target}{lost}"));
            page.header("Content-Type", "text/html").cache(ISR)
        }
    })
    .await;
    // All of the real ones, what the pages below may cost, and not one more.
    let most = REAL + 1 + 4;
    let yaml = NEXTJS.replace("settle: 1h", &format!("settle: 1h, assets_per_minute: {most}"));
    let edge = Edge::start(&yaml, &origin).await;
    let client = edge.client();
    let names = |slash: &str| {
        let names = (0..100).map(|n| format!("static{slash}x-{n}.js"));
        names.collect::<Vec<_>>().join(",")
    };
    let pages = [
        format!("/search/{}", names("/")),
        format!("/search/{}", names("%2F")),
        format!("/lost/{}", names("/")),
        "/posted".to_owned(),
        "/real".to_owned(),
    ];
    for page in &pages {
        client.get(page).await;
    }
    // Pages are searched one after the other, and what they name is fetched in order.
    eventually("the assets of a page", || async {
        (origin.count("/_next/static/chunks/gone.js") == 1).then_some(())
    })
    .await;
    let all = pages.len() + most;
    origin.wait_for(all).await;
    let posted =
        (0..250).filter(|n| origin.count(&format!("/_next/static/chunks/posted-{n}.js")) > 0);
    assert_eq!(posted.collect::<Vec<_>>(), [0, 1, 2, 3]);
    for n in 0..REAL {
        assert_eq!(origin.count(&format!("/_next/static/chunks/real-{n}.js")), 1, "{n}");
    }
    assert_eq!(origin.total(), all, "nothing else");
    edge.stop().await;
}

#[tokio::test]
async fn images_differ_by_query_and_by_the_formats_that_are_taken() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client().ssr();
    let image = "/_next/image?url=x&w=64";
    let of_type = |kind: &str| {
        Response::status(200)
            .body("x")
            .header("Content-Type", kind)
            .header("Vary", "Accept")
            .cache("public, max-age=60, must-revalidate")
    };
    origin.on(image).with("accept", "image/webp,*/*").reply(of_type("image/webp"));
    origin.on(image).with("accept", "*/*").reply(of_type("image/png"));
    for (accept, kind) in [
        ("image/webp,image/apng,*/*", "image/webp"),
        ("image/webp;q=0.5, text/html", "image/webp"),
        ("*/*", "image/png"),
        ("image/png", "image/png"),
    ] {
        let answer = client.get(image).header("Accept", accept).await;
        assert_eq!(answer.header("content-type"), Some(kind), "{accept}");
    }
    assert_eq!(origin.total(), 2);
    edge.stop().await;
}

#[tokio::test]
async fn editors_pass_and_nobody_speaks_to_the_inside() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client();
    origin.on("/p").reply(Response::html("page").cache(ISR));
    client.get("/p").await.is(200, "MISS", "page");
    let editor = client.clone().ssr();
    origin.on("/p").with("cookie", "true-id").reply(Response::html("draft").cache(PRIVATE));
    let draft = editor.get("/p").header("Cookie", "__prerender_bypass=true-id").await;
    draft.is(200, "BYPASS", "draft");
    assert_eq!(draft.header("x-nextjs-cache"), Some("BYPASS"));
    client.get("/p").header("Cookie", "__prerender_bypass=guess").await.is(200, "HIT", "page");
    origin.on("/p").method("POST").reply(Response::html("done").cache(PRIVATE));
    let inside = [
        ("X-Middleware-Subrequest", "middleware"),
        ("X-Matched-Path", "/admin"),
        ("X-Prerender-Revalidate", "true-id"),
        ("X-Nextjs-Data", "1"),
    ];
    let mut action = editor.post("/p", "x").header("Next-Action", "abc");
    for (name, value) in inside {
        action = action.header(name, value);
    }
    action.await.is(200, "BYPASS", "done");
    let seen = origin.wait_for(3).await;
    assert_eq!(seen.header("next-action"), Some("abc"));
    assert!(inside.iter().all(|(name, _)| seen.header(name).is_none()), "{seen}");
    edge.stop().await;
}

/// Next says nothing of a page that its build made, and the page itself says that it is one.
/// Whoever else says nothing (an older site that Next rewrites to) means nothing by it.
#[tokio::test]
async fn silence_means_something_only_of_what_next_has_exported() {
    let origin = Origin::serve(|request| {
        let body = match request.path() {
            "/exported" => "<html><script id=\"__NEXT_DATA__\" type=\"application/json\">\
                 {\"buildId\":\"B1\",\"nextExport\":true,\"autoExport\":true}</script></html>"
                .to_owned(),
            _ => format!("<p>{} for {:?}</p>", request.target, request.header("cookie")),
        };
        Response::html(body).header("ETag", "W/\"1\"")
    })
    .await;
    let edge = Edge::start("framework: nextjs\ndeployment: { probe: off }\n", &origin).await;
    let client = edge.client().ssr();
    assert_eq!(client.get("/exported").await.x_cache(), "MISS");
    assert_eq!(client.get("/exported").await.x_cache(), "HIT");
    for query in ["?q=1", "?q=2"] {
        let page = client.get(&format!("/legacy{query}")).header("Cookie", "me").await;
        assert_eq!(page.text(), format!("<p>/legacy{query} for Some(\"me\")</p>"), "{page}");
        assert_ne!(page.x_cache(), "HIT", "{page}");
    }
    edge.stop().await;
}

/// Next renders a page for the URL of the request that made it do so, and that of data
/// ends in no slash: where pages do, the document is asked for ahead of data.
#[tokio::test]
async fn data_are_not_what_makes_next_render_where_pages_end_in_a_slash() {
    let data = |page: &str| format!("/_next/data/B1/{page}.json");
    let origin = {
        // For which URL each page was rendered.
        let rendered = Mutex::new(HashMap::new());
        Origin::serve(move |request| {
            let path = request.path();
            let name = path.trim_start_matches("/_next/data/B1").trim_matches('/');
            let name = name.trim_end_matches(".json").to_owned();
            let url = if path.ends_with('/') { format!("/{name}/") } else { format!("/{name}") };
            if request.header("x-prerender-revalidate").is_some() {
                rendered.lock().remove(&name);
            }
            let url = rendered.lock().entry(name).or_insert(url).clone();
            match path.ends_with('/') {
                true if path == "/login/" => pages("B1", "you").cache(PRIVATE),
                true => pages("B1", &url),
                false if path.ends_with("/login.json") => Response::json("{}").cache(PRIVATE),
                false => Response::json("{}").cache(ISR),
            }
        })
        .await
    };
    let yaml = "framework: nextjs\n\
                nextjs: { preview_mode_id: true-id, trailing_slash: true }\n\
                deployment: { probe: off, settle: 1h }\n\
                routes: [ { path: /a/, isr: { revalidate: 1h } } ]\n";
    let edge = Edge::start(yaml, &origin).await;
    let client = edge.client();
    let hit = |path: String| {
        let client = client.clone();
        async move {
            eventually("a hit", || async {
                let answer = client.get(&path).await;
                (answer.header("x-cache") == Some("HIT")).then(|| answer.text().to_owned())
            })
            .await
        }
    };
    // The build is known from now on.
    client.get("/first/").await.is(200, "MISS", &pages_text("B1", "/first/"));
    client.get(&data("a")).await.is(200, "MISS", "{}");
    assert_eq!(hit("/a/".to_owned()).await, pages_text("B1", "/a/"));
    // Where the client's own request goes first, what it made Next render is not kept.
    let visitor = client.get(&data("b")).header("Accept-Language", "de").await;
    visitor.is(200, "MISS", "{}");
    assert_eq!(hit("/b/".to_owned()).await, pages_text("B1", "/b/"));
    // A page that nobody knows may be rendered for each client: nothing goes ahead.
    assert_eq!(client.get(&data("login")).await.status, 200);
    assert_eq!(origin.count("/login/"), 0);
    edge.stop().await;
}

/// Next redirects from `/` by language and by the cookie of a chosen one: it is asked each
/// time, the data of that page are not.
#[tokio::test]
async fn the_root_of_a_site_in_several_languages_is_its_visitors() {
    let site = |more: &str| {
        format!(
            "framework: nextjs\nnextjs: {{ base_path: /docs, locales: [en, de], \
             default_locale: en{more} }}\ndeployment: {{ probe: off, settle: 1h }}\n"
        )
    };
    let data = "/docs/_next/data/B1/en.json";
    for (yaml, negotiated) in [
        (site(""), true),
        (site(", locale_detection: false"), false),
        (format!("{}routes: [ {{ path: /docs, isr: {{ revalidate: 1h }} }} ]\n", site("")), false),
    ] {
        let origin = Origin::serve(move |request| match request.path() {
            "/docs" => match (request.header("accept-language"), request.header("cookie")) {
                (Some("de"), None) | (_, Some("NEXT_LOCALE=de")) => {
                    Response::status(307).header("Location", "/docs/de")
                }
                _ => pages("B1", "home"),
            },
            "/docs/p" => pages("B1", "p"),
            _ => Response::json("{}").cache(ISR),
        })
        .await;
        let edge = Edge::start(&yaml, &origin).await;
        let client = edge.client();
        let root = async |name: &'static str, value: &'static str| {
            client.get("/docs").header(name, value).await.status
        };
        client.get("/docs/p").await.is(200, "MISS", &pages_text("B1", "p"));
        assert_eq!(client.get("/docs").await.status, 200, "{yaml}");
        let german = if negotiated { 307 } else { 200 };
        assert_eq!(root("Accept-Language", "de").await, german, "{yaml}");
        assert_eq!(root("Accept-Language", "en").await, 200, "{yaml}");
        assert_eq!(root("Cookie", "NEXT_LOCALE=de").await, german, "{yaml}");
        eventually("its data", || async {
            (client.get(data).await.header("x-cache") == Some("HIT")).then_some(())
        })
        .await;
        edge.stop().await;
    }
}

/// Next tells the client of an action alone that something was revalidated: the page that
/// it is on and the one it is sent to are new when it asks for them.
#[tokio::test]
async fn who_calls_an_action_sees_what_it_changed() {
    for (status, revalidated, redirect, renewed) in [
        (200, "1", None, &["/docs/posts"][..]),
        (303, "[[],1,0]", Some("/list"), &["/docs/posts", "/docs/list"]),
        (200, "1", Some("/list?page=1;push"), &["/docs/posts", "/docs/list"]),
        (200, "1", Some("http://perennial.test/docs/list;push"), &["/docs/posts", "/docs/list"]),
        (200, "1", Some("https://other.test/docs/list;push"), &["/docs/posts"]),
        // Cookies, or what is rendered for each client; and what nobody can read.
        (200, "[[],0,1]", Some("/list"), &[]),
        (200, "2", Some("/list;push"), &[]),
        (200, "0", Some("/list;push"), &[]),
        (200, "true", Some("/list;push"), &[]),
        (500, "1", Some("/list;push"), &[]),
    ] {
        let version = Arc::new(AtomicUsize::new(1));
        let origin = {
            let version = Arc::clone(&version);
            Origin::serve(move |request| {
                if request.method == "POST" {
                    version.fetch_add(1, Ordering::SeqCst);
                    let answer =
                        Response::status(status).header("X-Action-Revalidated", revalidated);
                    return match redirect {
                        Some(to) => answer.header("X-Action-Redirect", to),
                        None => answer,
                    };
                }
                let text = format!("{} {}", request.path(), version.load(Ordering::SeqCst));
                match request.header("rsc") {
                    Some(_) => rsc("B1", &text),
                    None => app("B1", &text),
                }
            })
            .await
        };
        let yaml = NEXTJS.replace("true-id", "true-id, base_path: /docs");
        let edge = Edge::start(&yaml, &origin).await;
        let client = edge.client().host("perennial.test");
        let pages = ["/docs/posts", "/docs/list", "/docs/other"];
        let hit = async |path: &str| {
            eventually("a hit", || async {
                let document = client.get(path).await;
                let payload = client.get(path).header("RSC", "1").await;
                let hits = [&document, &payload].map(|a| a.header("x-cache") == Some("HIT"));
                (hits == [true, true]).then_some((document, payload))
            })
            .await
        };
        for path in pages {
            hit(path).await;
        }
        let action = client.ssr().post("/docs/posts", "[]").header("Next-Action", "abc");
        assert_eq!(action.await.status, status);
        for path in pages {
            let text = format!("{path} {}", if renewed.contains(&path) { 2 } else { 1 });
            let client = edge.client().host("perennial.test");
            let document = client.get(path).await;
            let payload = client.get(path).header("RSC", "1").await;
            for answer in [&document, &payload] {
                assert_eq!(answer.header("x-cache"), Some("HIT"), "{path} after {revalidated}");
                assert!(answer.text().contains(&text), "{text}: {answer}");
            }
        }
        edge.stop().await;
    }
}

/// Whoever can call an action takes no page away: others get what is stored until the new
/// one is there, and if it cannot be rendered.
#[tokio::test]
async fn an_action_takes_no_page_away() {
    let origin = Origin::start().await;
    let edge = Edge::start(NEXTJS, &origin).await;
    let client = edge.client();
    origin.on("/p").reply(app("B1", "one"));
    origin.on("/p").with("rsc", "1").always().reply(rsc("B1", "one"));
    let action = client.clone().ssr().post("/p", "[]").header("Next-Action", "abc");
    let answer = Response::status(200).header("X-Action-Revalidated", "1");
    origin.on("/p").method("POST").always().reply(answer);
    assert!(client.get("/p").await.text().contains("one"));
    eventually("its payload", || async {
        let payload = client.get("/p").header("RSC", "1").await;
        (payload.header("x-cache") == Some("HIT")).then_some(())
    })
    .await;
    let turn = origin.on("/p").method("GET").hold(Response::status(500));
    origin.on("/p").method("GET").always().reply(Response::status(500));
    let caller = tokio::spawn(async move { action.await });
    turn.reached().await;
    // Nobody else waits for it.
    let others = client.get("/p").await;
    assert!(others.text().contains("one"), "{others}");
    assert_eq!(others.x_cache(), "STALE", "{others}");
    turn.release();
    assert_eq!(caller.await.expect("it ends").status, 200);
    let kept = client.get("/p").await;
    assert!(kept.text().contains("one"), "{kept}");
    edge.stop().await;
}

/// Files that Next makes of `app/sitemap.ts` and the like say `max-age=0` and have an
/// entity tag: they are hits, and asked for by that when a minute is over.
#[tokio::test]
async fn metadata_files_are_hits() {
    let origin = Origin::serve(|request| {
        let page = Response::html(request.path().to_owned());
        page.cache("public, max-age=0, must-revalidate").header("ETag", "\"1\"")
    })
    .await;
    let edge = Edge::start("framework: nextjs\ndeployment: { probe: off }\n", &origin).await;
    let client = edge.client();
    for path in [
        "/sitemap.xml",
        "/products/sitemap.xml",
        "/robots.txt",
        "/favicon.ico",
        "/manifest.webmanifest",
        "/icon.png",
        "/blog/a/opengraph-image-1h2k3j.png",
        "/apple-icon1.png",
    ] {
        client.get(path).await.is(200, "MISS", path);
        client.get(path).await.is(200, "HIT", path);
    }
    // What only looks like one is a page like others.
    let page = client.clone().ssr().get("/iconic").await;
    assert_ne!(page.x_cache(), "HIT", "{page}");
    edge.stop().await;
}

// --- Gatsby -------------------------------------------------------------------------

/// The page of what is not found, client routes, and slugs.
#[tokio::test]
async fn gatsby_pages_with_a_dot_in_their_name_have_data() {
    let origin = Origin::serve(|request| match request.path().ends_with(".json") {
        true => Response::json(format!("{{\"of\":\"{}\"}}", request.path())),
        false => Response::html("page"),
    })
    .await;
    let edge = Edge::start(GATSBY, &origin).await;
    let client = edge.client();
    for page in ["404.html", "v1.2", "cs/[...]", "posts/node.js"] {
        let path = format!("/page-data/{page}/page-data.json");
        let body = format!("{{\"of\":\"{}\"}}", path.replace('[', "%5B").replace(']', "%5D"));
        client.get(&path).await.is(200, "MISS", &body);
        client.get(&path).await.is(200, "HIT", &body);
    }
    // What is a file brings no data along.
    client.get("/robots.txt").await.is(200, "MISS", "page");
    client.get("/robots.txt").await.is(200, "HIT", "page");
    assert_eq!(origin.count("/page-data/robots.txt/page-data.json"), 0);
}

/// Pages with `getServerData` that nobody has named: what they hold of a client tells them,
/// and each client gets their own, document and data, while deferred pages are rendered
/// once.
#[tokio::test]
async fn gatsby_pages_that_are_rendered_for_each_visitor_are_recognised() {
    let origin = Origin::serve(|request| {
        let name = request.header("cookie").unwrap_or("nobody");
        let data = format!("{{\"result\":{{\"serverData\":{{\"name\":\"{name}\"}}}}}}");
        let script = |data: &str| {
            format!(
                "<script>/*<![CDATA[*/window.pagePath=\"/\";window.x=\"\"{data}/*]]>*/</script>"
            )
        };
        match request.path() {
            "/me/" => Response::html(script(&format!(";window.pageData={data};"))),
            "/page-data/me/page-data.json" => Response::json(data),
            "/later/" => Response::html(script("")),
            _ => Response::json("{\"result\":{\"pageContext\":{}}}"),
        }
    })
    .await;
    let yaml = "framework: gatsby\ndeployment: { probe: off }";
    let edge = Edge::start(yaml, &origin).await;
    let client = edge.client().ssr();
    for path in ["/me/", "/page-data/me/page-data.json"] {
        for who in ["alice", "bob", "alice"] {
            let page = client.get(path).header("Cookie", who).await;
            assert!(page.text().contains(who), "{path}: {page}");
            assert_eq!(page.x_cache(), "MISS", "{path}: {page}");
        }
    }
    client.get("/later/").await;
    eventually("a hit", async || (client.get("/later/").await.x_cache() == "HIT").then_some(()))
        .await;
    assert_eq!(origin.count("/later/"), 1);
}

/// What pages of one build share, static queries and slices, is of that build, as long as
/// pages of two builds are served.
#[tokio::test]
async fn what_gatsbys_pages_share_is_of_their_build() {
    const SHARED: [&str; 2] = ["/slice-data/footer.json", "/page-data/sq/d/3649515864.json"];
    let build = Arc::new(Mutex::new("aaaaaaaa"));
    let origin = {
        let build = Arc::clone(&build);
        Origin::serve(move |request| {
            let build = *build.lock();
            match request.path() {
                path if SHARED.contains(&path) => Response::json(format!("{{\"{build}\":1}}")),
                path if path.ends_with(".json") => Response::json("{}"),
                _ => Response::html(gatsby_text(build)),
            }
        })
        .await
    };
    let edge = Edge::start(GATSBY, &origin).await;
    let client = edge.client();
    // What a client that got a page of a build gets of what that shares.
    let shared = async |page: &str, of: &str| {
        for path in SHARED {
            for host in ["http://perennial.test", "https://perennial.test"] {
                let client = edge.client().host("perennial.test");
                let answer = client.get(path).header("Referer", &format!("{host}{page}?q#f")).await;
                assert_eq!(answer.text(), format!("{{\"{of}\":1}}"), "{path} on {page}: {answer}");
            }
        }
    };
    let client = client.host("perennial.test");
    for page in ["/", "/p/"] {
        client.get(page).await.is(200, "MISS", &gatsby_text("aaaaaaaa"));
    }
    shared("/", "aaaaaaaa").await;
    *build.lock() = "bbbbbbbb";
    // While it is not certain which is the current one, both are.
    client.get("/new/").await.is(200, "MISS", &gatsby_text("bbbbbbbb"));
    client.clone().ssr().get("/server/").await.is(200, "MISS", &gatsby_text("bbbbbbbb"));
    for (page, of) in [("/", "aaaaaaaa"), ("/new/", "bbbbbbbb"), ("/server/", "bbbbbbbb")] {
        shared(page, of).await;
    }
    for path in SHARED {
        let known = client.get(path).header("Referer", "http://other.test/new/").await;
        assert_eq!(known.text(), "{\"aaaaaaaa\":1}", "who does not say where");
    }
    // Of the deployment before a page is served until it is rendered.
    assert_eq!(edge.revalidate("deployment=bbbbbbbb").await.status, 200);
    client.get("/").await.is(200, "STALE", &gatsby_text("aaaaaaaa"));
    shared("/", "aaaaaaaa").await;
    eventually("the new page", || async {
        (client.get("/").await.text() == gatsby_text("bbbbbbbb")).then_some(())
    })
    .await;
    for page in ["/", "/new/", "/server/"] {
        shared(page, "bbbbbbbb").await;
    }
    shared("/p/", "aaaaaaaa").await;
    assert_eq!(SHARED.map(|path| origin.count(path)), [2, 2]);
    edge.stop().await;
}

#[tokio::test]
async fn gatsby_pages_are_static_unless_they_say_how_long_they_live() {
    let renders = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&renders);
    let origin = Origin::serve(move |request| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        let json = request.path().starts_with("/page-data/");
        let body = format!("{{\"render\":{n}}}");
        let response = if json { Response::json(body) } else { Response::html(body) };
        match request.path() {
            path if path.contains("lived") => {
                response.cache("public, s-maxage=3, stale-while-revalidate=30").header("Age", "40")
            }
            _ => response.cache("public, max-age=0, must-revalidate"),
        }
    })
    .await;
    let edge = Edge::start(GATSBY, &origin).await;
    let client = edge.client();
    let data = |page: &str| format!("/page-data{page}page-data.json");
    let first = client.get("/deferred/").await;
    eventually("its data", || async { (origin.count(&data("/deferred/")) == 1).then_some(()) })
        .await;
    assert_eq!(client.get("/deferred/").await.text(), first.text());
    // Its time is up long ago: whoever comes waits for the next one.
    client.get("/lived/").await;
    eventually("it to be rendered again", || async {
        client.get("/lived/").await;
        (origin.count("/lived/") > 1).then_some(())
    })
    .await;
    // Rendered for each client, with the query.
    let visitor = client.clone().ssr();
    let twice = async |target: &str| {
        let (one, two) = (visitor.get(target).await, visitor.get(target).await);
        assert_ne!(one.text(), two.text(), "{target}");
    };
    twice("/server/?q=1").await;
    assert_eq!(origin.requests().last().unwrap().target, "/server/?q=1");
    // Its data have the route of their page.
    twice(&data("/server/")).await;
    edge.stop().await;
}
