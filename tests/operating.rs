//! What operators do to a running Perennial, and what they hear of it.

use perennial::reload::Reloaded;

use crate::support::{Edge, Origin, Response, eventually};

/// What `/readyz` says: always that it is ready.
async fn ready(edge: &Edge) -> String {
    let answer = edge.admin().get("/readyz").await;
    assert_eq!(answer.status, 200, "{answer}");
    answer.text().to_owned()
}

/// The last reload as the metrics have it: whether it worked. It was within the
/// last minute.
async fn worked(edge: &Edge) -> bool {
    let at = edge.metric("perennial_config_last_reload_timestamp_seconds").await;
    let now = perennial::clock::now().secs() as f64;
    assert!((now - 60.0..=now).contains(&at), "{at} is not now, {now}");
    edge.metric("perennial_config_last_reload_successful").await == 1.0
}

async fn reloads(edge: &Edge, result: &str) -> f64 {
    edge.metric(&format!("perennial_reloads_total{{result=\"{result}\"}}")).await
}

/// Another framework makes other pages of the same URLs, and brings routes of its
/// own: neither may meet what is stored, so nothing of the file is taken.
#[tokio::test]
async fn a_reload_with_another_framework_changes_nothing() {
    let origin = Origin::start().await;
    let edge = Edge::start("routes: [ { path: /a, isr: { revalidate: 1h } } ]\n", &origin).await;
    let client = edge.client();
    origin.on("/a").reply(Response::html("one"));
    client.get("/a").await.is(200, "MISS", "one");
    assert_eq!((ready(&edge).await.as_str(), worked(&edge).await), ("ready\n", true));

    let nextjs = "framework: nextjs\nroutes: [ { path: /a, pass: {} } ]\n";
    let Reloaded::Refused(why) = edge.reload(nextjs, &origin) else { panic!("it was taken") };
    assert!(why.contains("`nextjs` instead of `generic` takes effect at the next start"), "{why}");
    let hit = client.get("/a").await;
    hit.is(200, "HIT", "one");
    assert_eq!(hit.header("x-nextjs-cache"), None);
    // What the preset's own routes would store stays with the origin.
    origin.on("/b").always().reply(Response::html("two"));
    client.clone().ssr().get("/b").await.is(200, "MISS", "two");
    client.clone().ssr().get("/b").await.is(200, "MISS", "two");
    let said = ready(&edge).await;
    assert!(said.starts_with("ready, degraded\nconfiguration of 20"), "{said}");
    assert!(said.contains("refused") && said.contains("framework: `nextjs`"), "{said}");
    assert!(!worked(&edge).await);
    assert_eq!((reloads(&edge, "refused").await, reloads(&edge, "applied").await), (1.0, 0.0));

    // The file that runs is no news, and a good one ends it.
    assert_eq!(edge.reload("routes: [ { path: /a, pass: {} } ]\n", &origin), Reloaded::Applied);
    origin.on("/a").reply(Response::html("three"));
    client.clone().ssr().get("/a").await.is(200, "BYPASS", "three");
    assert_eq!((ready(&edge).await.as_str(), worked(&edge).await), ("ready\n", true));
    assert_eq!(reloads(&edge, "applied").await, 1.0);
    edge.stop().await;
}

/// What is fixed at the start stays as it was, everywhere that it is shown; the
/// rest of the file runs.
#[tokio::test]
async fn a_reload_keeps_what_is_fixed_at_the_start_and_says_so() {
    const LIMIT: &str = "perennial_memory_limit_bytes";
    let origin = Origin::start().await;
    let edge = Edge::start("cache: { memory: 1MiB, max_object: 1KiB }\n", &origin).await;
    assert_eq!(edge.metric(LIMIT).await, 1_048_576.0);

    let changed = "cache: { memory: 2MiB, max_object: 1KiB }\nthreads: 3\nadmin: 127.0.0.1:1\n\
                   routes: [ { path: /a, isr: { revalidate: 1h } } ]\n";
    let kept = Reloaded::Partly(vec!["admin", "threads", "cache.memory"]);
    for _ in 0..2 {
        assert_eq!(edge.reload(changed, &origin), kept);
        let said = ready(&edge).await;
        let told = "admin, threads, cache.memory take effect at the next start\n";
        assert!(said.ends_with(told), "{said}");
        assert!(!worked(&edge).await);
        assert_eq!(edge.metric(LIMIT).await, 1_048_576.0);
    }
    assert_eq!(reloads(&edge, "partly").await, 2.0);
    let client = edge.client();
    origin.on("/a").reply(Response::html("one"));
    client.get("/a").await.is(200, "MISS", "one");
    client.get("/a").await.is(200, "HIT", "one");

    let back = "cache: { memory: 1MiB, max_object: 1KiB }\n";
    assert_eq!(edge.reload(back, &origin), Reloaded::Applied);
    assert_eq!((ready(&edge).await.as_str(), worked(&edge).await), ("ready\n", true));
    edge.stop().await;
}

/// What can change while it runs does, for what is stored from then on.
#[tokio::test]
async fn a_reload_applies_the_bounds_of_what_is_stored() {
    const ROUTES: &str = "routes: [ { path: /**, isr: { revalidate: 1h } } ]\n";
    let origin = Origin::start().await;
    let edge = Edge::start(&format!("cache: {{ max_object: 2KiB }}\n{ROUTES}"), &origin).await;
    let client = edge.client();
    let text = "x".repeat(4 << 10);
    for path in ["/a", "/a"] {
        origin.on(path).reply(Response::html(text.clone()));
        client.get(path).await.is(200, "MISS", &text);
    }
    let more = format!("cache: {{ compress_min: 8KiB }}\n{ROUTES}");
    assert_eq!(edge.reload(&more, &origin), Reloaded::Applied);
    for (path, x_cache) in [("/a", "MISS"), ("/a", "HIT")] {
        if x_cache == "MISS" {
            origin.on(path).reply(Response::html(text.clone()));
        }
        client.get(path).await.is(200, x_cache, &text);
    }
    let less = format!("cache: {{ compress_min: 1KiB }}\n{ROUTES}");
    assert_eq!(edge.reload(&less, &origin), Reloaded::Applied);
    origin.on("/b").reply(Response::html(text.clone()));
    client.get("/b").await.is(200, "MISS", &text);
    let coding = |path: &'static str| {
        let ask = client.get(path).header("Accept-Encoding", "gzip");
        async move { ask.await.header("content-encoding").map(str::to_owned) }
    };
    eventually("the compressed page", || coding("/b")).await;
    assert_eq!(coding("/a").await, None, "stored when it was too small for that");
    edge.stop().await;
}

/// How long the end may take is asked at the end.
#[tokio::test]
async fn a_reload_applies_how_long_the_end_may_take() {
    let origin = Origin::start().await;
    let edge = Edge::start("shutdown_timeout: 1h\n", &origin).await;
    let held = origin.on("/a").silence();
    let answer = tokio::spawn(edge.client().get("/a").outcome());
    held.reached().await;
    assert_eq!(edge.reload("shutdown_timeout: 0s\n", &origin), Reloaded::Applied);
    edge.shutdown();
    assert_eq!(edge.ended().await.cut_off, 1);
    assert!(answer.await.expect("the visitor").is_err());
}
