//! `/__revalidate` (semantics §5).

use crate::support::edge::SECRET;
use crate::support::{Break, Edge, Origin, Response, eventually};

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
            target if target.starts_with("/ssr") => page.cache("s-maxage=3600"),
            _ => page,
        }
    })
    .await
}

#[tokio::test]
async fn the_secret_is_taken_in_three_places_and_from_nobody_else() {
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
    assert_eq!(edge.revalidate("tag=two&mode=expire").await.status, 200);
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
    origin.any().times(3).reply(Response::html("x"));
    let answer = edge.revalidate("path=/1&path=/2&path=/3").await;
    assert_eq!(answer.status, 202, "{answer}");
    origin.wait_for(3).await;

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
