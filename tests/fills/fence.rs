//! The fence (semantics §5): an invalidation beats every render that began
//! before it.

use std::time::Duration;

use crate::support::{Origin, Response, eventually};

use super::{dated, edge, go};

const SOFT: [&str; 4] =
    ["path=PATH&mode=stale", "tag=t&mode=stale", "prefix=/&mode=stale", "all=1&mode=stale"];
const HARD: [&str; 7] = [
    "path=PATH&mode=expire",
    "path=PATH&mode=delete",
    "tag=t&mode=expire",
    "tag=t&mode=delete",
    "prefix=/isr&mode=expire",
    "all=1&mode=expire",
    "host=example.com&all=1&mode=delete",
];

fn tagged(body: &'static str) -> Response {
    Response::html(body).header("Cache-Tag", "t").cache("s-maxage=600, stale-while-revalidate=600")
}

/// In flight when a soft revalidation comes: delivered to who waits, and what
/// it stores is stale.
#[tokio::test]
async fn what_a_soft_revalidation_overtakes_is_stale_when_it_is_stored() {
    for head_first in [false, true] {
        for (n, what) in SOFT.into_iter().enumerate() {
            let origin = Origin::start().await;
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            for path in [format!("/isr/{n}"), format!("/{n}")] {
                let turn = if head_first {
                    origin.on(&path).stream(tagged("old"))
                } else {
                    origin.on(&path).hold(tagged("old"))
                };
                let visitor = go(client.get(&path));
                turn.reached().await;
                assert_eq!(edge.revalidate(&what.replace("PATH", &path)).await.status, 200);
                if head_first {
                    turn.finish().await
                } else {
                    turn.release()
                }
                visitor.await.unwrap().is(200, "MISS", "old");
                let render = origin.on(&path).hold(tagged("new"));
                client.get(&path).await.is(200, "STALE", "old");
                render.reached().await;
                render.release();
                eventually("the new page", async || {
                    (client.get(&path).await.text() == "new").then_some(())
                })
                .await;
                client.get(&path).await.is(200, "HIT", "new");
                assert_eq!(origin.count(&path), 2, "{what}");
            }
        }
    }
}

/// In flight when an `expire` or `delete` comes: delivered to who waits, never
/// joined by who comes later, and what it would store is dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hard_revalidation_overtakes_is_dead() {
    for head_first in [false, true] {
        for (n, what) in HARD.into_iter().enumerate() {
            let origin = Origin::start().await;
            let edge = edge(&origin).await;
            let client = edge.client().ssr();
            for path in [format!("/isr/{n}"), format!("/isr/b{n}")] {
                let first = if head_first {
                    origin.on(&path).stream(tagged("old"))
                } else {
                    origin.on(&path).hold(tagged("old"))
                };
                let waiting = go(client.get(&path));
                first.reached().await;
                let mut streaming = None;
                if head_first {
                    let mut stream = client.get(&path).stream().await;
                    stream.expect("old").await;
                    streaming = Some(stream);
                }
                assert_eq!(edge.revalidate(&what.replace("PATH", &path)).await.status, 200);
                // From here on nobody sees the old page who has not waited for it.
                let second = origin.on(&path).hold(tagged("new"));
                let later = go(client.get(&path));
                if head_first || !what.starts_with("tag") {
                    // It begins a render of its own at once. The tags of the
                    // first one are known only when its head has come.
                    second.reached().await;
                }
                if head_first {
                    first.finish().await
                } else {
                    first.release()
                }
                waiting.await.unwrap().is(200, "MISS", "old");
                if let Some(stream) = streaming {
                    assert_eq!(stream.rest().await.unwrap(), "");
                }
                second.reached().await;
                second.release();
                later.await.unwrap().is(200, "MISS", "new");
                client.get(&path).await.is(200, "HIT", "new");
                assert_eq!(origin.count(&path), 2, "{what}");
            }
        }
    }
}

/// The old render ends last: it replaces nothing.
#[tokio::test]
async fn an_old_render_that_ends_last_replaces_nothing() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    for (n, what) in HARD.into_iter().chain(SOFT).enumerate() {
        let path = format!("/isr/{n}");
        let first = origin.on(&path).stream(tagged("old"));
        let mut waiting = client.get(&path).stream().await;
        waiting.expect("old").await;
        assert_eq!(edge.revalidate(&what.replace("PATH", &path)).await.status, 200);
        if what.contains("mode=stale") {
            // A soft one does not keep anybody from joining; the webhook's own
            // render does not wait for it either.
            origin.on(&path).reply(tagged("new"));
            assert_eq!(edge.revalidate(&format!("path={path}")).await.status, 200);
        } else {
            origin.on(&path).reply(tagged("new"));
            client.get(&path).await.is(200, "MISS", "new");
        }
        client.get(&path).await.is(200, "HIT", "new");
        first.finish().await;
        assert_eq!(waiting.rest().await.unwrap(), "");
        client.get(&path).await.is(200, "HIT", "new");
        assert_eq!(origin.count(&path), 2);
    }
}

/// A regeneration in flight when the page is invalidated again: what it brings
/// is stale, or dead, in its turn.
#[tokio::test]
async fn a_regeneration_that_is_overtaken() {
    for (what, served) in [("tag=t&mode=stale", "STALE"), ("tag=t&mode=expire", "MISS")] {
        let origin = Origin::start().await;
        let edge = edge(&origin).await;
        let client = edge.client().ssr();
        origin.on("/isr/a").reply(dated(tagged("one"), Duration::from_secs(100)));
        client.get("/isr/a").await.is(200, "MISS", "one");
        let render = origin.on("/isr/a").hold(tagged("two"));
        client.get("/isr/a").await.is(200, "STALE", "one");
        render.reached().await;
        assert_eq!(edge.revalidate(what).await.status, 200);
        if served == "MISS" {
            // Who comes now waits for a render that began later.
            let third = origin.on("/isr/a").hold(tagged("three"));
            let later = go(client.get("/isr/a"));
            // The regeneration's tags are known when its head has come.
            render.release();
            third.reached().await;
            third.release();
            later.await.unwrap().is(200, "MISS", "three");
        } else {
            client.get("/isr/a").await.is(200, "STALE", "one");
            let third = origin.on("/isr/a").hold(tagged("three"));
            render.release();
            // "two" is stored, and stale: the next client has it regenerated.
            eventually("another regeneration", async || {
                let page = client.get("/isr/a").await;
                assert_eq!(page.x_cache(), "STALE");
                third.is_reached().then_some(())
            })
            .await;
            client.get("/isr/a").await.is(200, "STALE", "two");
            third.release();
        }
        eventually("the third page", async || {
            (client.get("/isr/a").await.text() == "three").then_some(())
        })
        .await;
        assert_eq!(origin.total(), 3, "{what}");
    }
}

/// A validation in flight when the page expires by tag: its 304 says that what
/// is dead has not changed, and is for those only who waited before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_304_does_not_revive_what_expired_meanwhile() {
    for what in ["tag=t&mode=expire", "path=/a&mode=expire", "all=1&mode=delete"] {
        let origin = Origin::start().await;
        let edge = edge(&origin).await;
        let client = edge.client().ssr();
        let cache = "max-age=60, must-revalidate";
        let page = |body: &'static str| {
            Response::html(body).cache(cache).header("ETag", "\"v1\"").header("Cache-Tag", "t")
        };
        origin.on("/a").reply(dated(page("old"), Duration::from_secs(100)));
        client.get("/a").await.is(200, "MISS", "old");
        let unchanged = Response::status(304).cache(cache).header("ETag", "\"v1\"");
        let validation = origin.on("/a").with("if-none-match", "v1").hold(unchanged);
        let waiting = go(client.get("/a"));
        validation.reached().await;
        assert_eq!(edge.revalidate(what).await.status, 200);
        let unconditional =
            origin.on("/a").when("unconditional", |r| r.header("if-none-match").is_none());
        let render = unconditional.reply(page("new"));
        let later = go(client.get("/a"));
        if !what.starts_with("tag") {
            render.reached().await;
        }
        validation.release();
        waiting.await.unwrap().is(200, "REVALIDATED", "old");
        later.await.unwrap().is(200, "MISS", "new");
        client.get("/a").await.is(200, "HIT", "new");
        assert_eq!(origin.total(), 3, "{what}");
    }
}

/// After a hard revalidation, and for `mode=regenerate`, the origin is asked
/// without conditions: it must not answer that nothing has changed.
#[tokio::test]
async fn a_fill_after_a_hard_revalidation_is_unconditional() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client();
    for (n, what) in ["mode=expire", "mode=regenerate", "mode=stale"].into_iter().enumerate() {
        let path = format!("/isr/{n}");
        let page = |body: &'static str| {
            Response::html(body)
                .header("ETag", "\"v1\"")
                .header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
        };
        origin.on(&path).reply(page("one"));
        client.get(&path).await.is(200, "MISS", "one");
        let turn = origin.on(&path).reply(page("two"));
        assert_eq!(edge.revalidate(&format!("path={path}&{what}")).await.status, 200);
        let next = client.get(&path).await;
        let request = turn.reached().await;
        let conditions = ["if-none-match", "if-modified-since"].map(|name| request.header(name));
        match what {
            "mode=expire" => next.is(200, "MISS", "two"),
            "mode=regenerate" => next.is(200, "HIT", "two"),
            _ => next.is(200, "STALE", "one"),
        };
        if what == "mode=stale" {
            assert_eq!(conditions, [Some("\"v1\""), Some("Sun, 06 Nov 1994 08:49:37 GMT")]);
        } else {
            assert_eq!(conditions, [None, None]);
        }
    }
}

/// Revalidations and clients at random: what is served after an expire was
/// acknowledged was rendered after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_older_than_an_acknowledged_expire_is_ever_served() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    /// What the site's content is; renders show what it is when they begin.
    static CONTENT: AtomicU64 = AtomicU64::new(0);
    let origin = Origin::serve(|_| {
        let version = CONTENT.load(Ordering::SeqCst).to_string();
        Response::html(version).header("Cache-Tag", "t").cache("s-maxage=600")
    })
    .await;
    let edge = Arc::new(edge(&origin).await);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let editor = {
        let (edge, acknowledged) = (Arc::clone(&edge), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            for version in 1..=150u64 {
                CONTENT.store(version, Ordering::SeqCst);
                let what = match version % 4 {
                    0 => "tag=t&mode=expire",
                    1 => "path=/isr/a&path=/b&mode=expire",
                    2 => "prefix=/&mode=delete",
                    _ => "all=1&mode=expire",
                };
                assert_eq!(edge.revalidate(what).await.status, 200);
                acknowledged.store(version, Ordering::SeqCst);
            }
        })
    };
    let visitors: Vec<_> = (0..6)
        .map(|n| {
            let (edge, acknowledged) = (Arc::clone(&edge), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                let client = edge.client().ssr();
                while acknowledged.load(Ordering::SeqCst) < 150 {
                    let least = acknowledged.load(Ordering::SeqCst);
                    let page = client.get(["/isr/a", "/b"][n % 2]).await;
                    let version: u64 = page.text().parse().unwrap();
                    assert!(version >= least, "{version} after {least}: {page}");
                }
            })
        })
        .collect();
    editor.await.unwrap();
    for visitor in visitors {
        visitor.await.unwrap();
    }
}
