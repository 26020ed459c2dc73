//! Pages over `max_object`.

use bytes::Bytes;

use crate::support::{Origin, Response};

use super::{edge_with, go, go_stream};

/// Past `max_object` nobody joins any more, the quick get all of it, who lags
/// too far behind is cut off, and nothing is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_outgrows_max_object_mid_stream() {
    const PIECE: usize = 1 << 20;
    for path in ["/isr/a", "/b"] {
        let origin = Origin::start().await;
        let edge = edge_with(&origin, "", "max_object: 2MiB").await;
        let client = edge.client().ssr();
        let piece = Bytes::from(vec![b'x'; PIECE]);
        let turn = origin.on(path).stream(Response::html("").cache("s-maxage=60"));
        let laggard = go_stream(client.get(path).narrow());
        let mut quick = client.get(path).stream().await;
        let laggard = laggard.await.unwrap();
        for n in 0..64 {
            turn.send(piece.clone()).await;
            quick.expect(&piece).await;
            if n == 8 {
                // Too late to join: a render of its own.
                origin.on(path).reply(Response::html("another").cache("no-store"));
                client.get(path).await.is(200, "MISS", "another");
            }
        }
        turn.finish().await;
        assert_eq!(quick.rest().await.unwrap(), "");
        assert!(laggard.rest().await.is_err(), "{path}: who lags is cut off");
        origin.on(path).reply(Response::html("small").cache("s-maxage=60"));
        client.get(path).await.is(200, "MISS", "small");
        client.get(path).await.is(200, "HIT", "small");
    }
}

/// All of it in one go, so that it outgrows `max_object` before its clients
/// have read a byte: the fastest is not cut off, and paces it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fastest_visitor_is_never_cut_off() {
    for path in ["/isr/a", "/b"] {
        for size in [300 << 10, 1 << 20, 16 << 20] {
            let origin = Origin::start().await;
            let edge = edge_with(&origin, "", "max_object: 16KiB").await;
            let body = Bytes::from(vec![b'x'; size]);
            let page = Response::html(body).cache("s-maxage=60").chunked();
            origin.on(path).reply(page);
            let answer = edge.client().ssr().get(path).await;
            assert_eq!((answer.status, answer.body.len()), (200, size));
        }
    }
}

/// What the client does not read is not fetched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_page_is_paced_by_its_visitor() {
    /// More than the kernel holds in the buffers of two connections.
    const SLACK: u64 = 24 << 20;
    for path in ["/isr/a", "/b"] {
        let origin = Origin::start().await;
        let edge = edge_with(&origin, "", "max_object: 1MiB").await;
        let page = Response::html("").cache("s-maxage=60");
        let turn = origin.on(path).endless(page, vec![b'x'; 65536]);
        let mut visitor = edge.client().ssr().get(path).stream().await;
        let mut read = 0;
        while read < 64 << 20 {
            read += visitor.next().await.unwrap().expect("it is endless").len() as u64;
            let written = turn.written();
            assert!(written < read + SLACK, "{path}: {written} fetched, {read} read");
        }
        drop(visitor);
        turn.ended().await;
    }
}

/// HEAD, conditions and ranges wait for the page to be stored. When it turns out
/// too large for that they do not wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_on_a_page_that_is_too_large() {
    let size = 4 << 20;
    for kind in ["isr", "ssr"] {
        for (n, (method, name, value)) in [
            ("HEAD", "", ""),
            ("GET", "Range", "bytes=0-9"),
            ("GET", "If-None-Match", "\"x\""),
            ("GET", "If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ]
        .into_iter()
        .enumerate()
        {
            for length in [false, true] {
                let origin = Origin::start().await;
                let edge = edge_with(&origin, "", "max_object: 16KiB").await;
                let client = edge.client().ssr();
                let path = format!("/{kind}/{n}");
                let page = Response::html(vec![b'x'; size]).cache("s-maxage=60");
                let page = if length { page } else { page.chunked() };
                origin.on(&path).always().reply(page);
                let ask = client.ask(method, &path);
                let answer =
                    if name.is_empty() { ask.await } else { ask.header(name, value).await };
                assert_eq!((answer.status, answer.x_cache()), (200, "MISS"));
                let expected = if method == "HEAD" { 0 } else { size };
                assert_eq!(answer.body.len(), expected, "{answer}");
            }
        }
    }
}

/// With a `Content-Length` it is known at once, and nobody waits for it.
#[tokio::test]
async fn a_page_that_says_it_is_too_large() {
    let origin = Origin::start().await;
    let edge = edge_with(&origin, "", "max_object: 16KiB").await;
    let client = edge.client().ssr();
    let body = "x".repeat(100 << 10);
    for path in ["/isr/a", "/b"] {
        let page = || Response::html(body.clone()).cache("s-maxage=60");
        let first = origin.on(path).hold(page());
        let one = go(client.get(path));
        first.reached().await;
        let two = go(client.get(path));
        origin.on(path).reply(page());
        first.release();
        for visitor in [one, two] {
            let answer = visitor.await.unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, body.len()));
            assert!(answer.cache_status().ends_with("detail=too-large"), "{answer}");
        }
        assert_eq!(origin.count(path), 2);
    }
}
