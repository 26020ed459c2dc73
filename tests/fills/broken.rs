//! A fill that fails with nothing stored: an error to everybody, and nothing
//! else.

use crate::support::http1::Broken;
use crate::support::{Break, Origin, Response};

use super::{edge, edge_with, go_stream};

/// Semantics §3: a fill that breaks off in the middle is an error to everyone
/// who streams it, never a clean end, and stores nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_off_fill_is_an_error_to_everyone() {
    for path in ["/isr/a", "/a"] {
        for how in [Break::Fin, Break::Rst] {
            for length in [None, Some(10)] {
                let origin = Origin::start().await;
                let edge = edge(&origin).await;
                let client = edge.client().ssr();
                let mut page = Response::html("01234").cache("s-maxage=60");
                if let Some(length) = length {
                    page = page.claim_length(length);
                }
                let turn = origin.on(path).stream(page);
                let mut visitors = Vec::new();
                for _ in 0..5 {
                    let mut visitor = client.get(path).stream().await;
                    visitor.expect("01234").await;
                    visitors.push(visitor);
                }
                let conditional = [
                    tokio::spawn(client.head(path).outcome()),
                    tokio::spawn(client.get(path).header("Range", "bytes=0-2").outcome()),
                ];
                // One whose request comes too late gets a page of its own.
                origin.on(path).times(3).reply(Response::html("whole").cache("no-store"));
                turn.break_off(how).await;
                for visitor in visitors {
                    let end = visitor.rest().await;
                    assert!(
                        matches!(end, Err(Broken::Short | Broken::Failed(_))),
                        "{path} {how:?} {length:?}: {end:?}"
                    );
                }
                for visitor in conditional {
                    let answer = visitor.await.unwrap().unwrap();
                    assert!(matches!(answer.status, 502 | 200), "{answer}");
                }
                let before = origin.total();
                client.get(path).await.is(200, "MISS", "whole");
                assert_eq!(origin.total(), before + 1, "nothing was stored");
                origin.forgive();
            }
        }
    }
}

/// The same without readers: nothing is stored.
#[tokio::test]
async fn a_broken_off_fill_stores_nothing() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let page = || Response::html("0123456789").cache("s-maxage=60");
    for (n, broken) in [
        page().break_after(5, Break::Fin),
        page().break_after(5, Break::Rst),
        page().chunked().break_after(5, Break::Fin),
        page().chunked().break_after(5, Break::Rst),
        page().chunked().break_after(10, Break::Fin),
        page().claim_length(11).header("Connection", "close"),
    ]
    .into_iter()
    .enumerate()
    {
        for kind in ["isr", "ssr"] {
            let path = format!("/{kind}/{n}");
            origin.on(&path).reply(broken.clone());
            let answer = client.get(&path).outcome().await;
            let error = matches!(&answer, Err(Broken::Short | Broken::Failed(_)))
                || matches!(&answer, Ok(answer) if answer.status == 502);
            assert!(error, "{path}: {answer:?}");
            origin.on(&path).reply(page());
            client.get(&path).await.is(200, "MISS", "0123456789");
            client.get(&path).await.is(200, "HIT", "0123456789");
        }
    }
}

/// What the origin ends by closing the connection is whole (RFC 9112 §6.3).
#[tokio::test]
async fn a_body_until_close_is_whole() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    origin.on("/isr/a").reply(Response::html("page").until_close());
    edge.client().get("/isr/a").await.is(200, "MISS", "page");
    edge.client().get("/isr/a").await.is(200, "HIT", "page");
}

/// On page routes an error is shared by all who waited: or all would retry it
/// at once. It is not stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_page_routes_an_error_is_shared() {
    for path in ["/isr/a", "/dsg/a"] {
        let origin = Origin::start().await;
        let edge = edge(&origin).await;
        let client = edge.client();
        // On `dsg` it is asked for JSON, too, when it is stored at last.
        origin.on(path).with("accept", "json").always().reply(Response::html("none"));
        let error = Response::html("it fails").with_status(500).cache("no-store");
        let turn = origin.on(path).stream(error);
        let visitors: Vec<_> = (0..100).map(|_| go_stream(client.get(path))).collect();
        let mut streams = Vec::new();
        for visitor in visitors {
            let mut stream = visitor.await.unwrap();
            stream.expect("it fails").await;
            let status = stream.header("cache-status").unwrap();
            assert!(stream.status == 500 && status.contains("detail=server-error"), "{status}");
            streams.push(stream);
        }
        assert_eq!(origin.total(), 1);
        turn.finish().await;
        for stream in streams {
            assert_eq!(stream.rest().await.unwrap(), "");
        }
        origin.on(path).reply(Response::html("page"));
        client.get(path).await.is(200, "MISS", "page");
    }
}

/// On `ssr` an error that is not storable is its leader's alone.
#[tokio::test]
async fn on_ssr_an_error_is_not_shared() {
    let origin = Origin::start().await;
    let edge = edge(&origin).await;
    let client = edge.client().ssr();
    let turn = origin.on("/a").stream(Response::html("it fails").with_status(500));
    let leader = client.get("/a").stream().await;
    origin.on("/a").reply(Response::html("page").cache("s-maxage=60"));
    client.get("/a").await.is(200, "MISS", "page");
    turn.finish().await;
    assert_eq!((leader.status, leader.rest().await.unwrap().as_ref()), (500, &b"it fails"[..]));
    client.get("/a").await.is(200, "HIT", "page");
}

/// Semantics §6, RFC 9110 §15.6: what clients get when no page came.
#[tokio::test]
async fn what_no_answer_means() {
    let refused = Origin::start().await;
    let origin = Origin::start().await;
    let edge = edge_with(&origin, "fill_timeout: 150ms", "").await;
    let gone = super::edge(&refused).await;
    refused.refuse().await;
    for path in ["/isr", "/dsg", "/ssr"] {
        let client = edge.client().ssr();
        let check = async |path: &str, status, detail: &str| {
            let answer = client.get(path).await;
            let shown = answer.cache_status();
            assert_eq!((answer.status, shown), (status, &*format!("perennial; detail={detail}")));
            assert_eq!(
                (answer.x_cache(), answer.header("cache-control")),
                ("MISS", Some("no-store"))
            );
        };
        origin.on(&format!("{path}/silent")).silence();
        check(&format!("{path}/silent"), 504, "timeout").await;
        origin.on(&format!("{path}/fin")).break_off(Break::Fin);
        check(&format!("{path}/fin"), 502, "reset").await;
        origin.on(&format!("{path}/rst")).break_off(Break::Rst);
        check(&format!("{path}/rst"), 502, "reset").await;
        origin.on(&format!("{path}/garbage")).raw("this is no HTTP\r\n\r\n");
        check(&format!("{path}/garbage"), 502, "reset").await;
        // A render that ends breaks the row of failures, and the breaker stays shut.
        origin.on(&format!("{path}/good")).always().reply(Response::html("page"));
        client.get(&format!("{path}/good")).await;
        origin.on(&format!("{path}/head")).silence();
        assert_eq!(client.head(&format!("{path}/head")).await.status, 504);
        let answer = gone.client().ssr().get(&format!("{path}/a")).await;
        assert_eq!((answer.status, answer.cache_status()), (502, "perennial; detail=connect"));
    }
    // What is passed through fails in the same words.
    let client = edge.client().ssr();
    origin.on("/pass/a").break_off(Break::Fin);
    let answer = client.get("/pass/a").await;
    assert_eq!((answer.status, answer.cache_status()), (502, "perennial; detail=reset"));
    let answer = gone.client().ssr().get("/pass/a").await;
    assert_eq!((answer.status, answer.cache_status()), (502, "perennial; detail=connect"));
    // The whole render has the deadline, not each part of it.
    let turn = origin.on("/isr/slow").stream(Response::html("one "));
    let visitor = go_stream(edge.client().get("/isr/slow"));
    turn.reached().await;
    let mut visitor = visitor.await.unwrap();
    visitor.expect("one ").await;
    assert!(matches!(visitor.rest().await, Err(Broken::Short | Broken::Failed(_))));
}
