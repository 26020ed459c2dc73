//! The presets of SvelteKit, React Router, Nuxt and Astro: pages and data that say a
//! lifetime are hits, and what is for one client stays theirs. `tests/frameworks` has
//! real sites.

use crate::support::{Edge, Origin, Response, eventually};

const MINUTE: &str = "s-maxage=60";

/// No looking for builds: these origins expect every request.
fn yaml(framework: &str, routes: &str) -> String {
    format!("framework: {framework}\ndeployment: {{ probe: off, settle: 0s }}\n{routes}")
}

fn data(text: &'static str) -> Response {
    Response::json(text).cache(MINUTE)
}

fn kit(build: &str, text: &str) -> Response {
    Response::html(format!(
        "<p>{text}</p><script>\n{{\n__sveltekit_{build} = {{ base: \"\" }};\n\
         data: [{{type:\"data\",data:{{}}}}]\n}}</script>"
    ))
}

fn router(version: &str, text: &str) -> Response {
    Response::html(format!(
        "<p>{text}</p><script>window.__reactRouterContext = {{\"basename\":\"/\"}};</script>\
         <script type=\"module\">import * as r from \"/x.js\";window.__reactRouterManifest = \
         {{\"version\":\"{version}\"}};</script>"
    ))
}

fn turbo(text: &'static str) -> Response {
    Response::status(200).header("Content-Type", "text/x-script").body(text)
}

fn nuxt(build: &str, text: &str) -> Response {
    Response::html(format!(
        "<p>{text}</p><script data-src=\"/p/_payload.json?{build}\">[]</script>\
         <script>window.__NUXT__={{}};window.__NUXT__.config={{app:{{buildId:\"{build}\"}}}}</script>"
    ))
}

#[tokio::test]
async fn pages_and_data_of_sveltekit() {
    let origin = Origin::start().await;
    let edge = Edge::start(&yaml("sveltekit", ""), &origin).await;
    let client = edge.client().ssr();
    let page = kit("b1", "one").cache(MINUTE);
    origin.on("/p").reply(page);
    assert_eq!(client.get("/p").await.x_cache(), "MISS");
    assert_eq!(client.get("/p").await.x_cache(), "HIT");
    // Which loaders ran is a matter of its own, and so is where the client came from.
    for bits in ["01", "11"] {
        let target = format!("/p/__data.json?x-sveltekit-invalidated={bits}");
        origin.on(&target).reply(data("{1}"));
        client.get(&target).await.is(200, "MISS", "{1}");
        client.get(&target).await.is(200, "HIT", "{1}");
    }
    // A form's post renews the page and its data.
    origin.on("/p?/save").method("POST").reply(Response::json("{}"));
    let post = client.post("/p?/save", "a=1").await;
    assert_eq!((post.status, post.x_cache()), (200, "BYPASS"));
    origin.on("/p").reply(kit("b1", "two").cache(MINUTE));
    origin.on("/p/__data.json?x-sveltekit-invalidated=01").reply(data("{2}"));
    assert_eq!(client.get("/p").await.x_cache(), "MISS");
    let again = client.get("/p/__data.json?x-sveltekit-invalidated=01").await;
    again.is(200, "MISS", "{2}");
    // A redirect in data, as SvelteKit says it, is nobody else's.
    let away = r#"{"type":"redirect","location":"/login"}"#;
    let redirect = || Response::json(away).cache("private, no-store");
    origin.on("/q/__data.json?x-sveltekit-invalidated=01").times(2).reply(redirect());
    for _ in 0..2 {
        let answer = client.get("/q/__data.json?x-sveltekit-invalidated=01").await;
        answer.is(200, "MISS", away);
    }
    edge.stop().await;
}

/// An action that leads to another page renews that, too, before its client hears of it.
#[tokio::test]
async fn an_action_renews_the_page_that_it_leads_to() {
    let redirect = r#"{"type":"redirect","status":303,"location":"/notes"}"#;
    let turbo_redirect = r#"[{"_1":2},"redirect","/notes","status",302]"#;
    for (framework, data, action, answer) in [
        (
            "sveltekit",
            "/notes/__data.json?x-sveltekit-invalidated=01",
            "/write",
            Response::json(redirect),
        ),
        (
            "react-router",
            "/notes.data",
            "/write.data",
            turbo("").with_status(202).body(turbo_redirect),
        ),
    ] {
        let origin = Origin::start().await;
        let edge = Edge::start(&yaml(framework, ""), &origin).await;
        let client = edge.client().ssr();
        origin.on("/notes").always().reply(Response::html("a page").cache(MINUTE));
        origin.on(data).reply(self::data("{1}"));
        client.get(data).await.is(200, "MISS", "{1}");
        client.get(data).await.is(200, "HIT", "{1}");
        origin.on(action).method("POST").reply(answer.chunked());
        let post = client.post(action, "note=1").header("Accept-Encoding", "gzip").await;
        assert_eq!(post.x_cache(), "BYPASS");
        let asked = origin.requests().into_iter().find(|request| request.path() == action);
        let asked = asked.expect("it was asked");
        assert_eq!(asked.header("accept-encoding"), None, "it is read");
        origin.on(data).reply(self::data("{2}"));
        client.get(data).await.is(200, "MISS", "{2}");
        edge.stop().await;
    }
}

/// Who comes by a link brings the document, too, for who does not.
#[tokio::test]
async fn data_bring_their_document() {
    for (framework, data, document) in [
        ("sveltekit", "/p/__data.json?a=1&x-sveltekit-invalidated=01", "/p?a=1"),
        (
            "sveltekit",
            "/s/__data.json?x-sveltekit-trailing-slash=1&x-sveltekit-invalidated=01",
            "/s/",
        ),
        ("react-router", "/p.data?a=1&_routes=routes%2Fp", "/p?a=1"),
        ("nuxt", "/p/_payload.json?b1", "/p"),
    ] {
        let origin = Origin::start().await;
        let edge = Edge::start(&yaml(framework, ""), &origin).await;
        let client = edge.client().ssr();
        origin.on(data).times(2).reply(self::data("{}"));
        let page = origin
            .on(document)
            .with("accept", "text/html")
            .reply(Response::html("a page").cache(MINUTE));
        client.get(data).header("Cookie", "user=alice").header("Accept", "*/*").await;
        let asked = page.reached().await;
        assert_eq!(asked.header("cookie"), None, "{framework}");
        eventually("the document", || async {
            let answer = client.get(document).header("Cookie", "user=bob").await;
            (answer.x_cache() == "HIT").then_some(())
        })
        .await;
        edge.stop().await;
    }
    // What is for one client brings nothing.
    let origin = Origin::start().await;
    let edge = Edge::start(&yaml("react-router", ""), &origin).await;
    let client = edge.client().ssr();
    origin.on("/p.data").reply(data("{}").cache("private"));
    client.get("/p.data").await.is(200, "MISS", "{}");
    edge.stop().await;
    assert_eq!(origin.total(), 1);
}

#[tokio::test]
async fn a_loader_that_reads_a_cookie_is_for_its_visitor() {
    for (framework, target) in [
        ("sveltekit", "/p/__data.json?x-sveltekit-invalidated=01"),
        ("react-router", "/p.data"),
        ("nuxt", "/p/_payload.json?b"),
        ("astro", "/_server-islands/Name?e=e&p=p&s="),
    ] {
        let origin = Origin::serve(|request| {
            let who = request.header("cookie").unwrap_or("nobody").to_owned();
            Response::json(who).cache(MINUTE)
        })
        .await;
        let edge = Edge::start(&yaml(framework, ""), &origin).await;
        let client = edge.client().ssr();
        for target in ["/p", target] {
            for who in ["user=alice", "user=bob"] {
                let answer = client.get(target).header("Cookie", who).await;
                assert_ne!(
                    answer.text(),
                    if who == "user=bob" { "user=alice" } else { "user=bob" }
                );
            }
            eventually("one for all", || async {
                let answer = client.get(target).await;
                assert_eq!(answer.text(), "nobody", "{framework} {target}");
                (answer.x_cache() == "HIT").then_some(())
            })
            .await;
        }
        edge.stop().await;
    }
}

#[tokio::test]
async fn a_deployment_of_sveltekit_is_noticed_by_its_version_file() {
    let origin = Origin::start().await;
    let yaml = "framework: sveltekit\ndeployment: { probe: 10ms, settle: 0s }\n";
    // What SvelteKit makes of the version "".
    origin.on("/_app/version.json").always().reply(Response::json(r#"{"version":""}"#));
    let edge = Edge::start(yaml, &origin).await;
    let client = edge.client().ssr();
    origin.on("/p").reply(kit("45h", "one").cache(MINUTE));
    eventually("its version", || async { (origin.total() > 0).then_some(()) }).await;
    client.get("/p").await;
    assert_eq!(client.get("/p").await.x_cache(), "HIT");
    origin.on("/p").reply(kit("kl2vrl", "two").cache(MINUTE));
    origin
        .on("/_app/version.json")
        .always()
        .reply(Response::json(r#"{"version":"1763762400000"}"#));
    eventually("the next one", || async {
        client.get("/p").await.text().contains("two").then_some(())
    })
    .await;
    edge.stop().await;
}

#[tokio::test]
async fn pages_and_data_of_react_router() {
    let origin = Origin::start().await;
    let edge = Edge::start(&yaml("react-router", ""), &origin).await;
    let client = edge.client().ssr();
    origin.on("/p").reply(router("v1", "one").cache(MINUTE));
    origin.on("/p.data").reply(turbo("[1]").cache(MINUTE));
    origin.on("/p.data?_routes=a").reply(turbo("[a]").cache(MINUTE));
    assert_eq!(client.get("/p").await.x_cache(), "MISS");
    assert_eq!(client.get("/p").await.x_cache(), "HIT");
    for (target, text) in [("/p.data", "[1]"), ("/p.data?_routes=a", "[a]")] {
        let first = client.get(target).await;
        first.is(200, "MISS", text);
        assert_eq!(first.header("content-type"), Some("text/x-script"));
        client.get(target).await.is(200, "HIT", text);
    }
    // An action is posted to the data, and renews the page with them.
    origin.on("/p.data").method("POST").reply(turbo("[done]"));
    let post = client.post("/p.data", "a=1").await;
    assert_eq!((post.status, post.x_cache()), (200, "BYPASS"));
    origin.on("/p").reply(router("v1", "two").cache(MINUTE));
    origin.on("/p.data").reply(turbo("[2]").cache(MINUTE));
    assert_eq!(client.get("/p").await.x_cache(), "MISS");
    client.get("/p.data").await.is(200, "MISS", "[2]");
    // A redirect in data, and a manifest of the deployment before.
    origin.on("/away.data").times(2).reply(turbo("[redirect]").with_status(202));
    for _ in 0..2 {
        client.get("/away.data").await.is(202, "MISS", "[redirect]");
    }
    let manifest = "/__manifest?paths=%2Fa&version=v1";
    origin.on(manifest).reply(Response::json("{}").cache("public, max-age=31536000, immutable"));
    for (who, cache) in [("a", "MISS"), ("b", "HIT")] {
        client.get(manifest).header("Cookie", who).await.is(200, cache, "{}");
    }
    edge.stop().await;
}

/// On a route of the file a page and its data are of one render.
#[tokio::test]
async fn a_page_without_a_lifetime_gets_one_from_a_route() {
    let origin = Origin::start().await;
    let routes = "routes: [ { path: /blog/**, isr: { revalidate: 1h } } ]\n";
    let edge = Edge::start(&yaml("react-router", routes), &origin).await;
    let client = edge.client();
    origin.on("/blog/p").reply(router("v1", "one"));
    origin.on("/blog/p.data").reply(turbo("[1]"));
    assert_eq!(client.get("/blog/p").await.x_cache(), "MISS");
    eventually("its data", || async {
        // What the client knows already is sent once more.
        let answer = client.get("/blog/p.data?_routes=a").header("Cookie", "user=a").await;
        (answer.x_cache() == "HIT").then(|| assert_eq!(answer.text(), "[1]"))
    })
    .await;
    origin.on("/blog/p").reply(router("v1", "two"));
    origin.on("/blog/p.data").reply(turbo("[2]"));
    assert_eq!(edge.revalidate("path=/blog/p.data").await.status, 200);
    client.get("/blog/p.data").await.is(200, "HIT", "[2]");
    assert!(client.get("/blog/p").await.text().contains("two"));
    edge.stop().await;
}

#[tokio::test]
async fn pages_and_payloads_of_nuxt() {
    let origin = Origin::start().await;
    let routes = "routes: [ { path: /blog/**, isr: { revalidate: 1h } } ]\n";
    let edge = Edge::start(&yaml("nuxt", routes), &origin).await;
    let client = edge.client().ssr();
    origin.on("/p").reply(nuxt("b1", "one").cache(MINUTE));
    origin.on("/p/_payload.json?b1").reply(data("[1]"));
    assert_eq!(client.get("/p").await.x_cache(), "MISS");
    assert_eq!(client.get("/p").await.x_cache(), "HIT");
    client.get("/p/_payload.json?b1").await.is(200, "MISS", "[1]");
    client.get("/p/_payload.json?b1").await.is(200, "HIT", "[1]");
    // A page without a lifetime, and its payload, by a route.
    origin.on("/blog/p").reply(nuxt("b1", "one"));
    origin.on("/blog/p/_payload.json?b1").reply(Response::json("[1]"));
    let pages = edge.client();
    pages.get("/blog/p").await;
    eventually("its payload", || async {
        (pages.get("/blog/p/_payload.json?b1").await.x_cache() == "HIT").then_some(())
    })
    .await;
    // Files by their names for good, what the builds are called as long as it says.
    let file = |text: &'static str| Response::json(text).cache("public, max-age=31536000");
    origin.on("/_nuxt/a.js").reply(file("a"));
    let files = edge.client().browser_route();
    files.get("/_nuxt/a.js").await.is(200, "MISS", "a");
    let hit = files.get("/_nuxt/a.js").await;
    hit.is(200, "HIT", "a");
    assert_eq!(hit.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let latest = Response::json("{}").cache("public, max-age=0");
    origin.on("/_nuxt/builds/latest.json").times(2).reply(latest);
    for _ in 0..2 {
        let answer = client.get("/_nuxt/builds/latest.json").await;
        assert_eq!(answer.header("cache-control"), Some("public, max-age=0"));
    }
    edge.stop().await;
}

#[tokio::test]
async fn pages_and_actions_of_astro() {
    let origin = Origin::start().await;
    let edge = Edge::start(&yaml("astro", ""), &origin).await;
    let client = edge.client().ssr();
    origin.on("/p?a=1").reply(Response::html("one").cache(MINUTE));
    client.get("/p?a=1").await.is(200, "MISS", "one");
    client.get("/p?a=1").await.is(200, "HIT", "one");
    // An action without a script posts to its page, one with a script to its own URL.
    origin
        .on("/p?_action=like")
        .method("POST")
        .reply(Response::status(303).header("Location", "/p"));
    let post = client.post("/p?_action=like", "a=1").await;
    assert_eq!(post.status, 303);
    origin.on("/p?a=1").reply(Response::html("two").cache(MINUTE));
    client.get("/p?a=1").await.is(200, "MISS", "two");
    origin.on("/_actions/like").times(2).reply(data("{}"));
    for _ in 0..2 {
        client.get("/_actions/like").await.is(200, "BYPASS", "{}");
    }
    let file = Response::json("a").cache("public, max-age=31536000, immutable");
    origin.on("/_astro/a.js").reply(file);
    let files = edge.client().browser_route();
    files.get("/_astro/a.js").await.is(200, "MISS", "a");
    files.get("/_astro/a.js").header("Cookie", "user=a").await.is(200, "HIT", "a");
    edge.stop().await;
}
