//! `/__revalidate` (semantics §5).

use crate::support::client::Response as Answer;
use crate::support::edge::SECRET;
use crate::support::{Break, Edge, Origin, Response, eventually};

/// The body of an answer.
fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

/// Each path that an answer names, and what became of it.
fn paths(body: &serde_json::Value) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let paths = body["paths"].as_array().expect("a list of paths");
    paths.iter().map(|path| (text(&path["path"]), text(&path["result"]))).collect()
}

const ROUTES: &str = "- path: /news/**
  isr: { revalidate: 1h }
  tags: [news]
- path: /docs/**
  dsg: {}
- path: /ssr/**
  ssr: {}
- path: /**
  isr: { revalidate: 1h }
  query: [page]
";

/// An origin whose every answer counts up, so that each render can be told.
async fn counting() -> Origin {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Origin::serve(move |request| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let page = if request.header("accept") == Some("application/json") {
            Response::json(format!("{n}"))
        } else {
            Response::html(format!("{n}"))
        };
        match request.target.as_str() {
            "/t/cache-tag" => page.header("Cache-Tag", "one, two"),
            "/t/surrogate" => page.header("Surrogate-Key", "one two"),
            "/t/next" => page.header("x-next-cache-tags", "one,two"),
            "/t/netlify" => page.header("Netlify-Cache-Tag", "one,two"),
            "/t/groups" => page.header("Cache-Groups", "\"one\", \"two\""),
            "/t/number" => page.header("Cache-Tag", "1.10"),
            target if target.starts_with("/ssr") => page.cache("s-maxage=3600"),
            _ => page,
        }
    })
    .await
}

#[tokio::test]
async fn the_secret_is_taken_in_its_places_and_from_nobody_else() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client().ssr();
    let call = |target: &str| client.get(target);
    let body = format!("{{\"secret\":\"{SECRET}\",\"tag\":\"x\"}}");
    for asked in [
        call(&format!("/__revalidate?secret={SECRET}&tag=x")),
        call("/__revalidate?tag=x").header("Authorization", &format!("Bearer {SECRET}")),
        call("/__revalidate?tag=x").header("Authorization", &format!("bearer {SECRET}")),
        call("/__revalidate?tag=x").header("X-Revalidate-Secret", SECRET),
        client.post("/__revalidate", body).header("Content-Type", "application/json"),
        // cms:open-sesame
        call("/__revalidate?tag=x").header("Authorization", "Basic Y21zOm9wZW4tc2VzYW1l"),
        client
            .post("/__revalidate", format!("secret={SECRET}&tag=x"))
            .header("Content-Type", "application/x-www-form-urlencoded"),
    ] {
        let answer = asked.await;
        assert_eq!(answer.status, 200, "{answer}");
        assert!(answer.text().contains("\"revalidated\":true"), "{answer}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(!answer.text().contains(SECRET), "{answer}");
    }
    for asked in [
        call("/__revalidate?tag=x"),
        call("/__revalidate?tag=x&secret=open"),
        call("/__revalidate?tag=x").header("Authorization", &format!("Basic {SECRET}")),
        // open-sesame:cms
        call("/__revalidate?tag=x").header("Authorization", "Basic b3Blbi1zZXNhbWU6Y21z"),
    ] {
        let answer = asked.await;
        assert_eq!(answer.status, 401, "{answer}");
        assert_eq!(answer.text().trim(), "{\"message\":\"Invalid token\"}");
    }
    assert_eq!(origin.total(), 0, "the renderer hears of none of it");
    edge.stop().await;
}

#[tokio::test]
async fn bad_calls_are_told_what_is_bad() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    for (arguments, status, part) in [
        ("", 400, "path, prefix, tag or all"),
        ("path=blog", 400, "path"),
        ("mode=purge&path=/a", 400, "mode"),
        ("pth=/a", 400, "pth"),
        ("tag=", 400, "tag"),
        ("tag=%20", 400, "tag"),
        ("path=/blog/*", 400, "prefix=/blog"),
        ("path=/blog/**&mode=stale", 400, "prefix=/blog"),
        ("prefix=/blog/*", 400, "prefix=/blog"),
        ("tag=x&path=/*", 400, "prefix=/"),
        ("path=/%ff", 400, "/%25FF is the page at /%FF"),
        ("tag=%C3", 400, "tag is not UTF-8"),
        ("path=/a&host=a.example&host=b.example", 400, "host is given twice"),
        ("tag=x&host=%ff", 400, "host is not UTF-8"),
    ] {
        let answer = edge.revalidate(arguments).await;
        assert_eq!(answer.status, status, "{arguments}: {answer}");
        assert!(answer.text().contains(part), "{arguments}: {answer}");
    }
    let client = edge.client().ssr();
    let asked = client.ask("PUT", &format!("/__revalidate?secret={SECRET}&tag=x")).await;
    assert_eq!(asked.status, 405);
    let asked = client.post(&format!("/__revalidate?secret={SECRET}"), "x".repeat(70_000)).await;
    assert_eq!(asked.status, 413);
    edge.stop().await;
}

/// JSON lets a name come twice. Everything that is acknowledged is invalidated.
#[tokio::test]
async fn a_body_that_names_a_key_twice_loses_nothing() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let (client, hook) = (edge.client(), edge.client().ssr());
    let call = async |body: &str| {
        let ask = hook.post("/__revalidate", body.to_owned());
        ask.header("X-Revalidate-Secret", SECRET).header("Content-Type", "application/json").await
    };
    client.get("/a").await.is(200, "MISS", "0");
    client.get("/b").await.is(200, "MISS", "1");
    let answer = call(r#"{"path":"/a","path":"/b","mode":"delete"}"#).await;
    assert_eq!(answer.status, 200, "{answer}");
    client.get("/a").await.is(200, "MISS", "2");
    client.get("/b").await.is(200, "MISS", "3");
    let answer = call(r#"{"path":"/a","mode":"stale","mode":"delete"}"#).await;
    assert_eq!((answer.status, &json(&answer)["argument"]), (400, &"mode".into()), "{answer}");
    client.get("/a").await.is(200, "HIT", "2");
    edge.stop().await;
}

/// Nothing is acknowledged that was not meant, and nothing that does not happen.
#[tokio::test]
async fn a_json_body_means_what_is_written_in_it() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let (client, hook) = (edge.client(), edge.client().ssr());
    let call = async |query: &str, body: &str| {
        let ask = hook.post(&format!("/__revalidate{query}"), body.to_owned());
        ask.header("X-Revalidate-Secret", SECRET).header("Content-Type", "application/json").await
    };
    client.get("/t/number").await.is(200, "MISS", "0");
    let answer = call("", r#"{"all":""}"#).await;
    assert_eq!((answer.status, &json(&answer)["argument"]), (400, &"all".into()), "{answer}");
    let answer = call("?path=/b&mode=delete", r#"{"all":"","if_cached":""}"#).await;
    assert_eq!((answer.status, &json(&answer)["all"]), (200, &false.into()), "{answer}");
    client.get("/t/number").await.is(200, "HIT", "0");
    let answer = call("", r#"{"tag":1.10,"mode":"delete"}"#).await;
    assert_eq!((answer.status, &json(&answer)["freed"]), (200, &1.into()), "{answer}");
    client.get("/t/number").await.is(200, "MISS", "1");
    edge.stop().await;
}

/// A page whose URL has bytes that are not UTF-8 has a name all the same.
#[tokio::test]
async fn a_page_whose_url_is_not_utf8_is_named_with_its_percent_signs_encoded() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client();
    for (url, named) in [("/%FF", "/%25FF"), ("/caf%C3%A9", "/caf%25C3%25A9")] {
        let before = client.get(url).await;
        client.get(url).await.is(200, "HIT", before.text());
        assert_eq!(edge.revalidate(&format!("path={named}&mode=delete")).await.status, 200);
        let after = client.get(url).await;
        assert_eq!(after.x_cache(), "MISS", "{url}: {after}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn without_a_secret_it_is_off_and_no_page() {
    let origin = Origin::start().await;
    let edge = Edge::start("revalidate: { path: /__revalidate }\nroutes: []\n", &origin).await;
    let answer = edge.client().ssr().get("/__revalidate?tag=x").await;
    assert_eq!(answer.status, 404, "{answer}");
    edge.stop().await;
}

#[tokio::test]
async fn a_path_is_rendered_before_the_answer_with_every_query_and_form() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client();
    client.get("/p").await.is(200, "MISS", "0");
    client.get("/p?page=2").await.is(200, "MISS", "1");
    client.get("/p?page=2").await.is(200, "HIT", "1");
    client.get("/p").header("Accept", "application/json").await.is(200, "MISS", "2");
    client.get("/q").await.is(200, "MISS", "3");
    let answer = edge.revalidate("path=/x/../p").await;
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(origin.count("/p"), 6, "three representations, each once more");
    let bodies = [
        client.get("/p").await.text().to_owned(),
        client.get("/p?page=2").await.text().to_owned(),
        client.get("/p").header("Accept", "application/json").await.text().to_owned(),
    ];
    assert!(bodies.iter().all(|body| body.parse::<usize>().is_ok_and(|n| n > 3)), "{bodies:?}");
    client.get("/q").await.is(200, "HIT", "3");
    assert_eq!(origin.total(), 7, "all of them hits");
    edge.stop().await;
}

#[tokio::test]
async fn a_path_that_is_not_stored_is_rendered_unless_only_the_stored_are_meant() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    assert_eq!(edge.revalidate("path=/a&if_cached=1").await.status, 200);
    assert_eq!(origin.total(), 0);
    assert_eq!(edge.revalidate("path=/a").await.status, 200);
    assert_eq!(origin.total(), 1);
    edge.client().get("/a").await.is(200, "HIT", "0");
    edge.stop().await;
}

#[tokio::test]
async fn a_render_that_fails_keeps_the_old_page_and_the_next_request_tries_again() {
    let origin = Origin::start().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client();
    origin.on("/a").reply(Response::html("old"));
    client.get("/a").await.is(200, "MISS", "old");
    for _ in 0..2 {
        origin.on("/a").break_off(Break::Fin);
    }
    let answer = edge.revalidate("path=/a").await;
    assert_eq!(answer.status, 500, "{answer}");
    assert!(answer.text().contains("\"revalidated\":false"), "{answer}");
    origin.forgive();
    let render = origin.on("/a").hold(Response::html("new"));
    client.get("/a").await.is(200, "STALE", "old");
    render.reached().await;
    render.release();
    eventually("the new page", || async {
        let answer = client.get("/a").await;
        (answer.text() == "new").then_some(())
    })
    .await;
    edge.stop().await;
}

#[tokio::test]
async fn stale_serves_and_renews_expire_waits_delete_forgets() {
    let origin = Origin::start().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client();
    origin.on("/a").reply(Response::html("1"));
    client.get("/a").await.is(200, "MISS", "1");

    assert_eq!(edge.revalidate("path=/a&mode=stale").await.status, 200);
    let render = origin.on("/a").hold(Response::html("2"));
    client.get("/a").await.is(200, "STALE", "1");
    render.reached().await;
    render.release();
    eventually("the page to be renewed", || async {
        (client.get("/a").await.text() == "2").then_some(())
    })
    .await;

    for (mode, body) in [("expire", "3"), ("delete", "4")] {
        assert_eq!(edge.revalidate(&format!("path=/a&mode={mode}")).await.status, 200);
        origin.on("/a").reply(Response::html(body));
        client.get("/a").await.is(200, "MISS", body);
        client.get("/a").await.is(200, "HIT", body);
    }
    edge.stop().await;
}

#[tokio::test]
async fn tags_come_from_routes_and_from_each_field_and_stay_inside() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client();
    let pages = ["/t/cache-tag", "/t/surrogate", "/t/next", "/t/netlify", "/t/groups", "/news/a"];
    for page in pages {
        client.get(page).await; // the client checks that no tag field comes out
    }
    client.get("/other").await;
    assert_eq!(edge.revalidate("tag=%20two%20&mode=expire").await.status, 200);
    for page in pages {
        let expected = if page == "/news/a" { "HIT" } else { "MISS" };
        assert_eq!(client.get(page).await.x_cache(), expected, "{page}");
    }
    assert_eq!(edge.revalidate("tag=news&mode=expire").await.status, 200);
    assert_eq!(client.get("/news/a").await.x_cache(), "MISS");
    assert_eq!(client.get("/other").await.x_cache(), "HIT");
    edge.stop().await;
}

#[tokio::test]
async fn a_purge_by_a_tag_of_one_form_renews_the_other() {
    let origin = Origin::start().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client();
    let json = || client.get("/a").header("Accept", "application/json");
    origin.on("/a").with("accept", "text/html").reply(Response::html("h").header("Cache-Tag", "x"));
    origin.on("/a").with("accept", "application/json").reply(Response::json("1"));
    client.get("/a").await.is(200, "MISS", "h");
    json().await.is(200, "MISS", "1");
    assert_eq!(edge.revalidate("tag=x&mode=expire").await.status, 200);
    origin.on("/a").with("accept", "application/json").reply(Response::json("2"));
    json().await.is(200, "MISS", "2");
    edge.stop().await;
}

#[tokio::test]
async fn prefixes_go_by_segments_and_hosts_limit_everything() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let a = edge.client().host("a.example");
    let b = edge.client().host("b.example:8080");
    for client in [&a, &b] {
        for page in ["/blog", "/blog/x", "/blogger"] {
            client.get(page).await;
        }
    }
    assert_eq!(edge.revalidate("prefix=/blog&mode=expire&host=a.example").await.status, 200);
    for (client, page, outcome) in [
        (&a, "/blog", "MISS"),
        (&a, "/blog/x", "MISS"),
        (&a, "/blogger", "HIT"),
        (&b, "/blog/x", "HIT"),
    ] {
        assert_eq!(client.get(page).await.x_cache(), outcome, "{page}");
    }
    assert_eq!(edge.revalidate("all=1&mode=expire&host=b.example").await.status, 200);
    assert_eq!(b.get("/blog/x").await.x_cache(), "MISS", "on every port");
    assert_eq!(a.get("/blogger").await.x_cache(), "HIT");
    assert_eq!(edge.revalidate("all=1&mode=expire").await.status, 200);
    assert_eq!(a.get("/blogger").await.x_cache(), "MISS");
    edge.stop().await;
}

#[tokio::test]
async fn many_paths_and_slow_ones_go_on_in_the_background() {
    let origin = Origin::start().await;
    let yaml = format!(
        "revalidate: {{ secret: {SECRET}, timeout: 100ms, max_paths: 2 }}\nroutes:\n{ROUTES}"
    );
    let edge = Edge::start(&yaml, &origin).await;
    origin.any().times(2).reply(Response::html("x"));
    let third = origin.on("/3").hold(Response::html("x"));
    let answer = edge.revalidate("path=/1&path=/2&path=/3&path=/1").await;
    assert_eq!(answer.status, 202, "{answer}");
    let said = paths(&json(&answer));
    let results: Vec<_> = said.iter().map(|(path, result)| (&**path, &**result)).collect();
    let follows = "marked stale; rendered in the background";
    assert_eq!(results, [("/1", "stored"), ("/2", "stored"), ("/3", follows)]);
    third.reached().await;
    third.release();

    let render = origin.on("/slow").hold(Response::html("slow"));
    let answer = edge.revalidate("path=/slow").await;
    assert_eq!(answer.status, 202, "{answer}");
    render.release();
    let client = edge.client();
    eventually("the slow page", || async {
        (client.get("/slow").await.x_cache() == "HIT").then_some(())
    })
    .await;
    edge.stop().await;
}

#[tokio::test]
async fn bad_secrets_are_slowed_down_and_a_right_one_is_not() {
    let origin = Origin::start().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client().ssr();
    let wrong = || client.get("/__revalidate?secret=wrong&tag=x").into_future();
    for _ in 0..3 {
        assert_eq!(wrong().await.status, 401);
    }
    // Twelve more take seconds in all; a right secret comes before the last of them.
    let slow: Vec<_> = (0..12).map(|_| tokio::spawn(wrong())).collect();
    assert_eq!(edge.revalidate("tag=x").await.status, 200);
    assert!(slow.iter().any(|call| !call.is_finished()), "nobody was slowed down");
    for call in slow {
        call.abort();
    }
    edge.stop().await;
}

#[tokio::test]
async fn server_rendered_pages_are_renewed_too() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client().ssr();
    client.get("/ssr/a?x=1").await.is(200, "MISS", "0");
    client.get("/ssr/a?x=1").await.is(200, "HIT", "0");
    assert_eq!(edge.revalidate("path=/ssr/a").await.status, 200);
    client.get("/ssr/a?x=1").await.is(200, "HIT", "1");
    edge.stop().await;
}

/// The arguments of a call, encoded as a form has them.
fn arguments(named: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(named).finish()
}

#[tokio::test]
async fn a_purge_names_what_browsers_send() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client();
    for (named, sent) in [
        ("/a{b}", "/a%7Bb%7D"),
        ("/a{b}", "/a{b}"),
        ("/a%7bb%7d", "/a{b}"),
        ("/a^b", "/a%5Eb"),
        ("/a^b", "/a^b"),
        ("/a|b", "/a|b"),
        ("/a|b", "/a%7Cb"),
        ("/[x]", "/[x]"),
        ("/[x]", "/%5Bx%5D"),
        ("/a\"b", "/a%22b"),
        ("/a\\b", "/a\\b"),
        ("/a b", "/a%20b"),
        ("/caf\u{e9}", "/caf%C3%A9"),
        ("/%7Euser", "/~user"),
        ("/x/../a,b", "/a,b"),
    ] {
        client.get(sent).await;
        assert_eq!(client.get(sent).await.x_cache(), "HIT", "{sent}");
        let answer = edge.revalidate(&arguments(&[("path", named), ("mode", "expire")])).await;
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(client.get(sent).await.x_cache(), "MISS", "{named} is {sent}");
        let answer = edge.revalidate(&arguments(&[("prefix", named), ("mode", "expire")])).await;
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(client.get(sent).await.x_cache(), "MISS", "{named} is {sent}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn routes_match_what_browsers_send() {
    let origin = counting().await;
    let routes = "- path: \"/caf\u{e9}|^/**\"\n  dsg: {}\n- path: '/[\u{e9}|]/*'\n  dsg: {}\n";
    let edge = Edge::start(routes, &origin).await;
    let client = edge.client();
    for (path, again) in
        [("/caf%C3%A9|%5E/a", "/caf%c3%a9%7C^/a"), ("/%C3%A9/a", "/%c3%a9/a"), ("/|/a", "/%7c/a")]
    {
        assert_eq!(client.get(path).await.x_cache(), "MISS", "{path}");
        assert_eq!(client.get(again).await.x_cache(), "HIT", "{path} is {again}");
    }
    edge.stop().await;
}

const BEHIND_TLS: &str = "trusted_proxies: [127.0.0.0/8]\nroutes:\n- path: /ssr/**\n  ssr: {}\n\
                          - path: /**\n  isr: { revalidate: 1h }\n";

#[tokio::test]
async fn a_host_is_named_as_requests_name_it() {
    let origin = counting().await;
    let edge = Edge::start(BEHIND_TLS, &origin).await;
    let client = edge.client();
    let get = |scheme: &str, host: &str| {
        client.get("/a").header("X-Forwarded-Proto", scheme).header("Host", host).into_future()
    };
    // One page for every way to name its host.
    for (scheme, host) in [
        ("http", "a.test"),
        ("http", "A.test."),
        ("http", "a.test:80"),
        ("http", "a.test:"),
        ("https", "a.test"),
        ("https", "a.test.:443"),
        ("http", "a.test:443"),
        ("http", "a.test:8080"),
    ] {
        get(scheme, host).await;
    }
    assert_eq!(origin.count("/a"), 4);
    // Plain http, https, and two other ports by http.
    let pages = [("http", "a.test"), ("https", "a.test"), ("http", "a.test:443")];
    for (named, gone) in [
        ("a.test", [true, true, true]),
        ("A.Test.", [true, true, true]),
        ("a.test:443", [false, true, true]),
        ("a.test.:443", [false, true, true]),
        ("a.test:80", [true, false, false]),
        ("a.test:8080", [false, false, false]),
        ("b.test", [false, false, false]),
    ] {
        for what in ["path=/a", "prefix=/", "all=1"] {
            for (scheme, host) in pages {
                get(scheme, host).await;
            }
            let answer = edge.revalidate(&format!("host={named}&{what}&mode=expire")).await;
            assert_eq!(answer.status, 200, "{answer}");
            for ((scheme, host), gone) in pages.into_iter().zip(gone) {
                let expected = if gone { "MISS" } else { "HIT" };
                let answer = get(scheme, host).await;
                assert_eq!(answer.x_cache(), expected, "{named} {what}: {scheme}://{host}");
            }
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_host_that_is_none_is_refused() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    for host in
        ["evil/x", "a b", "u@a.test", "*.a.test", "a.test:x", "a.test:65536", "caf\u{e9}", ""]
    {
        let answer = edge.revalidate(&arguments(&[("host", host), ("path", "/a")])).await;
        assert_eq!(answer.status, 400, "{host}: {answer}");
        assert!(answer.text().contains("\"argument\":\"host\""), "{host}: {answer}");
    }
    assert_eq!(origin.total(), 0, "and nothing is rendered for it");
    edge.stop().await;
}

#[tokio::test]
async fn unsafe_methods_invalidate_by_either_scheme() {
    let origin = Origin::start().await;
    let edge = Edge::start(BEHIND_TLS, &origin).await;
    let client = edge.client().ssr();
    for (scheme, host, location) in [
        ("https", "a.test:443", "https://A.test./ssr/{b}"),
        ("https", "a.test", "/ssr/%7Bb%7D"),
        ("http", "a.test:80", "http://a.test/ssr/{b}"),
        ("http", "a.test.", "{b}"),
        ("http", "a.test:8080", "//a.test:8080/ssr/x/../{b}"),
    ] {
        let paths = ["/ssr/a%5E", "/ssr/{b}"];
        let ask = |method: &str, path: &str| {
            let ask = client.ask(method, path).header("Host", host);
            ask.header("X-Forwarded-Proto", scheme).into_future()
        };
        for path in paths {
            origin.any().reply(Response::html("x").cache("s-maxage=600"));
            ask("GET", path).await;
            ask("GET", path).await.is(200, "HIT", "x");
        }
        origin.any().method("POST").reply(Response::status(303).header("Location", location));
        assert_eq!(ask("POST", "/ssr/a^").await.status, 303);
        for path in paths {
            origin.any().reply(Response::html("y").cache("s-maxage=1"));
            assert_eq!(ask("GET", path).await.x_cache(), "MISS", "{path} {location}");
            assert_eq!(edge.revalidate("all=1&mode=delete").await.status, 200);
        }
    }
    edge.stop().await;
}

/// Whatever clients made up: few pages are rendered, and those that matter.
#[tokio::test]
async fn made_up_queries_are_not_rendered_by_a_purge_of_their_path() {
    let origin = counting().await;
    let yaml = format!(
        "revalidate: {{ secret: {SECRET}, pages_per_path: 4 }}\nroutes:\n- path: /**\n  isr: {{ revalidate: 1h }}\n  query: all\n"
    );
    let edge = Edge::start(&yaml, &origin).await;
    let client = edge.client();
    client.get("/").await;
    for n in 0..600 {
        client.get(&format!("/?x={n}")).await;
    }
    for _ in 0..3 {
        client.get("/?page=2").await;
        client.get("/?page=3").await;
    }
    let before = origin.total();
    let answer = edge.revalidate("path=/").await;
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(
        origin.total() - before,
        3,
        "those that were asked for once more, and the plain one"
    );
    let body = json(&answer);
    assert_eq!(paths(&body), [("/".to_owned(), "stored".to_owned())]);
    assert_eq!(
        (&body["paths"][0]["rendered"], &body["paths"][0]["left_stale"]),
        (&3.into(), &600.into())
    );
    assert_eq!(body["pages"].as_array().map(Vec::len), Some(3));
    for page in ["/", "/?page=2", "/?page=3"] {
        assert_eq!(client.get(page).await.x_cache(), "HIT", "{page}");
    }
    let stale = client.get("/?x=599").await;
    assert_eq!(stale.x_cache(), "STALE", "and is renewed by who asks for it");
    edge.stop().await;
}

/// The same goes for variants: those that were asked for again are rendered side by
/// side, and what nobody came back for is left to who does.
#[tokio::test]
async fn variants_that_nobody_asks_for_are_not_rendered() {
    let origin = Origin::start().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client().ssr();
    let page = |body: &str| {
        Response::html(body.to_owned())
            .cache("s-maxage=3600, stale-while-revalidate=3600")
            .header("Vary", "Cookie")
    };
    const COOKIES: [&str; 12] =
        ["n=a", "n=b", "n=c", "n=d", "n=e", "n=f", "n=g", "n=h", "n=i", "n=j", "n=k", "n=l"];
    let (asked, made_up) = COOKIES.split_at(4);
    let get = |cookie| client.get("/ssr/p").header("Cookie", cookie);
    origin.on("/ssr/p").reply(page("old"));
    client.get("/ssr/p").await.is(200, "MISS", "old");
    for cookie in COOKIES {
        origin.on("/ssr/p").with("cookie", cookie).reply(page("old"));
        get(cookie).await.is(200, "MISS", "old");
    }
    for cookie in asked {
        get(cookie).await.is(200, "HIT", "old");
    }
    let mut renders = vec![
        origin
            .on("/ssr/p")
            .when("without a cookie", |asked| asked.header("cookie").is_none())
            .hold(page("new")),
    ];
    renders.extend(asked.iter().map(|c| origin.on("/ssr/p").with("cookie", c).hold(page("new"))));
    let call = async {
        let answer = edge.revalidate("path=/ssr/p").await;
        assert_eq!(answer.status, 200, "{answer}");
        let body = json(&answer);
        for said in [&body["paths"][0], &body["pages"][0]] {
            assert_eq!(said["result"], "stored", "{answer}");
            assert_eq!(said["variants_left_stale"], made_up.len(), "{answer}");
        }
    };
    let side_by_side = async {
        for render in &renders {
            render.reached().await;
        }
        renders.iter().for_each(crate::support::origin::Turn::release);
    };
    tokio::join!(call, side_by_side);
    assert_eq!(origin.total(), 1 + COOKIES.len() + 1 + asked.len());
    client.get("/ssr/p").await.is(200, "HIT", "new");
    for cookie in asked {
        get(cookie).await.is(200, "HIT", "new");
    }
    let renewal = origin.on("/ssr/p").with("cookie", made_up[0]).hold(page("new"));
    get(made_up[0]).await.is(200, "STALE", "old");
    renewal.reached().await;
    renewal.release();
    edge.stop().await;
}

/// Something of a page is rendered, though nobody asked for any of it again.
#[tokio::test]
async fn one_variant_is_rendered_in_any_case() {
    let origin = Origin::start().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client().ssr();
    let page = |body: &str| {
        Response::html(body.to_owned()).cache("s-maxage=3600").header("Vary", "Accept-Language")
    };
    for language in ["de", "en"] {
        origin.on("/ssr/p").with("accept-language", language).reply(page("old"));
        client.get("/ssr/p").header("Accept-Language", language).await.is(200, "MISS", "old");
    }
    origin.on("/ssr/p").with("accept-language", "en").reply(page("new"));
    let answer = edge.revalidate("path=/ssr/p").await;
    assert_eq!(
        (answer.status, &json(&answer)["paths"][0]["variants_left_stale"]),
        (200, &1.into())
    );
    client.get("/ssr/p").header("Accept-Language", "en").await.is(200, "HIT", "new");
    edge.stop().await;
}

#[tokio::test]
async fn what_is_deleted_is_freed_at_once() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client();
    let entries = || edge.metric("perennial_memory_entries");
    for (what, left) in [
        ("path=/news/1", 9.0),
        ("prefix=/news/a", 8.0),
        ("path=/t/cache-tag&path=/news/2", 8.0),
        ("tag=two", 9.0),
        ("tag=news&path=/p", 3.0),
        ("host=example.com&all=1", 0.0),
        ("host=a.test&all=1", 10.0),
        ("all=1", 0.0),
    ] {
        for page in ["/news/1", "/news/2", "/news/3", "/news/4", "/news/a/1", "/news/a/2"] {
            client.get(page).await;
        }
        for page in ["/p", "/q", "/t/cache-tag", "/s"] {
            client.get(page).await;
        }
        assert_eq!(entries().await, 10.0);
        let answer = edge.revalidate(&format!("{what}&mode=delete")).await;
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(entries().await, left, "{what}");
        assert_eq!(json(&answer)["freed"], 10 - left as u64, "{answer}");
    }
    edge.stop().await;
}

/// The time is the answer's, not the work's; and each path is named.
#[tokio::test]
async fn many_pages_and_many_paths_keep_the_time() {
    let origin = counting().await;
    let yaml = format!("revalidate: {{ secret: {SECRET}, timeout: 50ms }}\nroutes:\n{ROUTES}");
    let edge = Edge::start(&yaml, &origin).await;
    let client = edge.client();
    for n in 0..200 {
        client.get(&format!("/{n}")).await;
    }
    let renders = origin.any().always().hold(Response::html("new"));
    let named: Vec<String> = (0..5_000).map(|n| format!("\"/{n}\"")).collect();
    let body = format!("{{\"if_cached\":true,\"path\":[{}]}}", named.join(","));
    let hook = format!("/__revalidate?secret={SECRET}");
    let answer = edge.client().ssr().post(&hook, body).await;
    assert_eq!(answer.status, 202, "{answer}");
    let said = paths(&json(&answer));
    assert_eq!(said.len(), 5_000);
    for (n, (path, result)) in said.iter().enumerate() {
        assert_eq!(*path, format!("/{n}"));
        let follows = result.starts_with("marked stale; ");
        // The store may not have been searched by then.
        assert!(follows || (n >= 200 && result == "invalidated only: not stored"), "{result}");
    }
    renders.release();
    for page in ["/0", "/100", "/199"] {
        eventually("the new page", || async {
            (client.get(page).await.text() == "new").then_some(())
        })
        .await;
    }
    edge.stop().await;
}

/// A purge asks for a render now, whatever failed before.
#[tokio::test]
async fn a_soft_purge_ends_the_back_off() {
    let origin = Origin::start().await;
    let routes = "- path: /**\n  isr: { revalidate: 1h }\n  tags: [t]\nbackoff: { min: 5m }\n";
    let edge = Edge::start(routes, &origin).await;
    let client = edge.client();
    origin.on("/a").reply(Response::html("old"));
    client.get("/a").await.is(200, "MISS", "old");
    for what in ["path=/a&mode=stale", "tag=t", "prefix=/", "all=1"] {
        assert_eq!(edge.revalidate(what).await.status, 200);
        let failing = origin.on("/a").reply(Response::status(500));
        client.get("/a").await.is(200, "STALE", "old");
        failing.reached().await;
        eventually("the back-off", || async {
            client.get("/a").await.cache_status().contains("backoff").then_some(())
        })
        .await;
    }
    assert_eq!(edge.revalidate("path=/a&mode=stale").await.status, 200);
    origin.on("/a").reply(Response::html("new"));
    client.get("/a").await.is(200, "STALE", "old");
    eventually("the new page", || async { (client.get("/a").await.text() == "new").then_some(()) })
        .await;
    edge.stop().await;
}

/// What is answered and counted is what the store did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_render_that_another_purge_overtakes_is_not_said_to_be_stored() {
    let origin = Origin::start().await;
    let edge = Edge::start(ROUTES, &origin).await;
    for (mode, result) in [
        ("stale", "stored, and stale again: another revalidation came meanwhile"),
        ("expire", "not stored: invalidated"),
    ] {
        let render = origin.on("/a").hold(Response::html("x"));
        let first = tokio::spawn({
            let client = edge.client().ssr();
            async move { client.get(&format!("/__revalidate?secret={SECRET}&path=/a")).await }
        });
        render.reached().await;
        assert_eq!(edge.revalidate(&format!("path=/a&mode={mode}")).await.status, 200);
        render.release();
        let answer = first.await.unwrap();
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(paths(&json(&answer)), [("/a".to_owned(), result.to_owned())]);
    }
    let fills = "perennial_fills_total{reason=\"\",result=\"stored\"}";
    let dropped = "perennial_fills_total{reason=\"invalidated\",result=\"refused\"}";
    assert_eq!((edge.metric(fills).await, edge.metric(dropped).await), (1.0, 1.0));
    edge.stop().await;
}

#[tokio::test]
async fn paths_that_are_not_rendered_say_why() {
    let origin = counting().await;
    let routes = "- path: /pass/**\n  pass: {}\n- path: /vary/**\n  dsg: {}\n  \
                  vary: [accept-language]\n- path: /**\n  isr: { revalidate: 1h }\n";
    let edge = Edge::start(routes, &origin).await;
    let answer = edge.revalidate("path=/pass/a&path=/vary/a&path=/a").await;
    assert_eq!(answer.status, 200, "{answer}");
    let results: Vec<_> = paths(&json(&answer)).into_iter().map(|(_, result)| result).collect();
    assert!(results[0].starts_with("invalidated only: its route stores nothing"), "{results:?}");
    assert!(results[1].starts_with("invalidated only: not stored"), "{results:?}");
    assert_eq!(results[2], "stored");
    let answer = edge.revalidate("path=/b&if_cached=1").await;
    assert_eq!(paths(&json(&answer))[0].1, "invalidated only: not stored");
    assert_eq!(origin.total(), 1);
    for (mode, result) in [("stale", "marked stale"), ("expire", "expired"), ("delete", "deleted")]
    {
        let answer = edge.revalidate(&format!("path=/a&path=/b&mode={mode}")).await;
        let said = paths(&json(&answer));
        assert_eq!(said, ["/a", "/b"].map(|path| (path.to_owned(), result.to_owned())));
    }
    edge.stop().await;
}

/// An asterisk that is meant, as browsers send it and as others do.
#[tokio::test]
async fn a_path_with_an_asterisk_can_be_named() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client();
    for named in [arguments(&[("path", "/a%2Ab")]), arguments(&[("path", "/a%2ab")])] {
        for sent in ["/a*b", "/a%2Ab"] {
            client.get(sent).await;
            assert_eq!(client.get(sent).await.x_cache(), "HIT");
        }
        assert_eq!(edge.revalidate(&format!("{named}&mode=expire")).await.status, 200);
        for sent in ["/a*b", "/a%2Ab"] {
            assert_eq!(client.get(sent).await.x_cache(), "MISS", "{sent}");
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn the_body_of_a_cms_is_ignored_where_the_query_names_the_targets() {
    let origin = counting().await;
    let edge = Edge::start(ROUTES, &origin).await;
    let client = edge.client();
    let hook = |arguments: &str| format!("/__revalidate?secret={SECRET}&{arguments}");
    let body = r#"{"event":"publish","path":{"de":"/x"},"host":"cms.internal","mode":"live",
        "entry":{"id":7,"tags":["a"]}}"#;
    for (kind, body) in [("application/json", body), ("text/xml", "<entry/>"), ("text/plain", "{")]
    {
        client.get("/a").await;
        assert_eq!(client.get("/a").await.x_cache(), "HIT");
        let post = edge.client().ssr().post(&hook("path=/a&mode=expire"), body);
        let answer = post.header("Content-Type", kind).await;
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(client.get("/a").await.x_cache(), "MISS");
    }
    // Where it does not, the body must say it, and nothing else.
    let answer = edge.client().ssr().post(&hook(""), body).await;
    assert_eq!(answer.status, 400, "{answer}");
    assert!(answer.text().contains("\"argument\":\"e"), "{answer}");
    edge.stop().await;
}

/// A data URL is the page whose data it is.
#[tokio::test]
async fn a_data_url_names_its_page() {
    for (preset, data, page) in [
        ("framework: nextjs\n", "/_next/data/B/p.json", "/p"),
        ("framework: gatsby\n", "/page-data/p/page-data.json", "/p/"),
    ] {
        let origin = counting().await;
        let routes = "routes:\n- path: /**\n  dsg: {}\ndeployment: { id: B, probe: off }\n";
        let edge = Edge::start(&format!("{preset}{routes}"), &origin).await;
        let client = edge.client();
        client.get(page).await;
        assert_eq!(client.get(page).await.x_cache(), "HIT", "{page}");
        for mode in ["expire", "delete"] {
            let answer = edge.revalidate(&format!("path={data}&mode={mode}")).await;
            assert_eq!(paths(&json(&answer))[0].0, page, "{answer}");
            assert_eq!(client.get(page).await.x_cache(), "MISS", "{page}");
        }
        let answer = edge.revalidate(&format!("path={data}")).await;
        assert_eq!((answer.status, &*paths(&json(&answer))[0].1), (200, "stored"), "{answer}");
        assert_eq!(client.get(page).await.x_cache(), "HIT", "{page}");
        assert_eq!(edge.revalidate(&format!("path={page}&mode=delete")).await.status, 200);
        // Not stored: it is the page that is rendered, under a key that clients have.
        let answer = edge.revalidate(&format!("path={data}")).await;
        assert_eq!((answer.status, &*paths(&json(&answer))[0].1), (200, "stored"), "{answer}");
        assert_eq!(client.get(page).await.x_cache(), "HIT", "{page}");
        edge.stop().await;
    }
}
