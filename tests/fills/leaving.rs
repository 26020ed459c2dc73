//! Clients who leave: what they asked for ends with them where nobody else may
//! have it, and waits behind everybody else otherwise.

use super::*;
use crate::support::client::Connection;
use crate::support::eventually;
use crate::support::origin::End;

/// Waits until so many fills run or wait.
async fn until(edge: &Edge, state: &str, n: usize) {
    let name = format!("perennial_origin_fills{{origin=\"web\",state=\"{state}\"}}");
    eventually(format!("{n} fills {state}"), async || {
        (edge.metric(&name).await == n as f64).then_some(())
    })
    .await;
}

/// A client who has asked for this and waits.
async fn asks(edge: &Edge, path: &str, fields: &str) -> Connection {
    let mut visitor = edge.client().ssr().connect().await;
    visitor.send(format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n")).await;
    visitor
}

/// Forty clients ask for what is for nobody else, and leave: they keep no place,
/// neither at the origin nor in the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fills_that_nobody_may_join_end_with_their_visitors() {
    for fields in
        ["Cookie: a=b\r\n", "Authorization: Basic YTpi\r\n", "Cache-Control: no-store\r\n"]
    {
        let origin = Origin::start().await;
        let options = "max_concurrent_fills: 2, max_waiting_fills: 40";
        let edge = edge_with(&origin, options, "").await;
        let silent = [origin.on("/0").silence(), origin.on("/1").silence()];
        let mut visitors = Vec::new();
        for n in 0..40 {
            visitors.push(asks(&edge, &format!("/{n}"), fields).await);
            until(&edge, "running", (n + 1).min(2)).await;
            until(&edge, "waiting", (n + 1).saturating_sub(2)).await;
        }
        visitors.into_iter().for_each(Connection::reset);
        for turn in &silent {
            assert_eq!(turn.ended().await, End::PeerLeft, "{fields}");
        }
        until(&edge, "running", 0).await;
        until(&edge, "waiting", 0).await;
        origin.on("/next").always().reply(Response::html("page").cache("s-maxage=60"));
        for _ in 0..3 {
            assert_eq!(edge.client().ssr().get("/next").header("Cookie", "a=b").await.status, 200);
        }
        origin.forgive();
    }
}

/// The same of a page that turned out not to be collapsible.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_pages_end_with_their_visitors() {
    let origin = Origin::start().await;
    let edge = edge_with(&origin, "max_concurrent_fills: 1", "").await;
    let client = edge.client().ssr();
    origin.on("/account").reply(Response::html("mine").cache("private"));
    client.get("/account").await.is(200, "MISS", "mine");
    let turn = origin.on("/account").silence();
    let visitor = asks(&edge, "/account", "").await;
    turn.reached().await;
    visitor.reset();
    assert_eq!(turn.ended().await, End::PeerLeft);
    until(&edge, "running", 0).await;
    // One whose head has come is stored all the same.
    let turn = origin.on("/account").stream(Response::html("pub").cache("s-maxage=60"));
    drop(client.get("/account").stream().await);
    turn.send("lic").await;
    turn.finish().await;
    until(&edge, "running", 0).await;
    assert_eq!(turn.ended().await, End::Done);
}

/// Forty clients ask for forty pages, and leave. Their fills go on, but behind
/// those that somebody waits for, and they are the first to go where the queue is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fills_that_nobody_waits_for_keep_nobody_away() {
    let origin = Origin::start().await;
    let options = "max_concurrent_fills: 1, max_waiting_fills: 40";
    let edge = edge_with(&origin, options, "").await;
    let client = edge.client();
    let held = origin.on("/isr/held").hold(Response::html("held"));
    let holder = go(client.get("/isr/held"));
    held.reached().await;
    let mut visitors = Vec::new();
    for n in 0..40 {
        visitors.push(asks(&edge, &format!("/isr/left/{n}"), "").await);
        until(&edge, "waiting", n + 1).await;
    }
    let busy = client.get("/isr/full").await;
    assert_eq!((busy.status, busy.cache_status()), (503, "perennial; detail=busy"));
    // One stays, and one is asked for again.
    let stays = visitors.pop();
    visitors.into_iter().for_each(Connection::reset);
    let mut served = Vec::new();
    for n in 0..10 {
        // As long as they have not all left it may be refused.
        let path = format!("/isr/next/{n}");
        served.push(
            eventually("a place in the queue", async || {
                let asked = go(client.get(&path));
                let name = "perennial_origin_fills{origin=\"web\",state=\"waiting\"}";
                let full = edge.metric(name).await == 40.0;
                (full && !asked.is_finished()).then_some(asked)
            })
            .await,
        );
    }
    origin.any().always().reply(Response::html("page"));
    held.release();
    holder.await.unwrap().is(200, "MISS", "held");
    for visitor in served {
        assert_eq!(visitor.await.unwrap().status, 200);
    }
    stays.expect("one").answer("GET").await.expect("an answer").is(200, "MISS", "page");
    until(&edge, "waiting", 0).await;
    let order: Vec<String> = origin.requests().iter().map(|r| r.path().to_owned()).collect();
    // The one who stayed came first, and then the ten, before those who left.
    assert_eq!(order[1], "/isr/left/39", "{order:?}");
    let next = order.iter().filter(|path| path.starts_with("/isr/next/")).count();
    assert_eq!(next, 10);
    let last = order.iter().rposition(|path| path.starts_with("/isr/next/")).expect("ten");
    assert!(last <= 12, "at most one in seventeen goes to the others: {order:?}");
    // Fills that were not displaced have brought their pages.
    assert!(order.len() > 12 && order.len() <= 12 + 29 + 1, "{}", order.len());
}
