//! What takes two hands: answers that stream, break off, or hang, with every
//! step of origin and client in its order.

use super::{Way, difference, fields, next};
use crate::support::client::Stream;
use crate::support::http1::Broken;
use crate::support::origin::Turn;
use crate::support::{Break, Origin, Response as Render};

const ROUTES: &str = "
- path: /isr/**
  isr: { revalidate: 1h }
- path: /noted/**
  isr: { revalidate: origin }
- path: /pass/**
  pass: {}
- path: /**
  ssr: {}
backoff: { min: 1h, max: 1h }
";

const KINDS: [&str; 4] = ["isr", "noted", "pass", "ssr"];

fn page() -> Render {
    Render::html("one ").cache("s-maxage=3600")
}

/// The head of a stream as a client sees it.
fn head(stream: &Stream) -> String {
    let interim: String =
        stream.interim.iter().map(|(status, f)| format!("{status}\n{}\n", fields(f))).collect();
    format!("{interim}{}\n{}", stream.status, fields(&stream.fields))
}

/// The end of a stream as a client sees it.
fn end(rest: Result<bytes::Bytes, Broken>) -> String {
    match rest {
        Ok(rest) => format!("ended after {rest:?}"),
        Err(Broken::Short | Broken::Failed(_)) => "broken off".to_owned(),
        Err(broken) => format!("{broken:?}"),
    }
}

/// Plays a script in both ways, on every kind of route, and compares what it wrote down.
async fn alike(script: impl AsyncFn(&Way, &str) -> Vec<String>) {
    let [front, proxy] = Way::both(ROUTES, Origin::start).await;
    for kind in KINDS {
        let path = format!("/{kind}/page");
        let one = script(&front, &path).await;
        let other = script(&proxy, &path).await;
        assert!(one == other, "{path}: the ways differ at {}", difference(&one, &other));
        front.settle().await;
        proxy.settle().await;
        assert_eq!(front.asked("/"), proxy.asked("/"), "{path}");
        assert_eq!(front.origin.total(), proxy.origin.total(), "{path}");
    }
    assert_eq!(front.counted().await, proxy.counted().await);
    front.edge.stop().await;
    proxy.edge.stop().await;
}

/// The origin sends head and first piece, the client reads them.
async fn begun(way: &Way, path: &str, render: Render) -> (Turn, Stream, String) {
    let turn = way.origin.on(path).stream(render);
    let mut stream = way.edge.client().plain().get(path).stream().await;
    let head = head(&stream);
    stream.expect("one ").await;
    (turn, stream, head)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream() {
    alike(async |way, path| {
        let (turn, mut stream, head) = begun(way, path, page()).await;
        for piece in ["two ", "three "] {
            turn.send(piece).await;
            // Before the next one is sent: nothing waits for the whole.
            stream.expect(piece).await;
        }
        turn.finish().await;
        let end = end(stream.rest().await);
        let (answer, _) = {
            way.settle().await;
            let again = way.origin.on(path).always().reply(page());
            let mut connection = way.edge.client().plain().connect().await;
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n")).await;
            let answer = next(connection, "GET").await;
            drop(again);
            answer
        };
        vec![head, end, answer]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_render_that_breaks_off_in_its_body() {
    for how in [Break::Fin, Break::Rst] {
        alike(async |way, path| {
            let (turn, stream, head) = begun(way, path, page()).await;
            turn.break_off(how).await;
            let first = end(stream.rest().await);
            way.settle().await;
            // Nothing was stored: the next one is a miss.
            way.origin.on(path).reply(page());
            let mut connection = way.edge.client().plain().connect().await;
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n")).await;
            let (second, _) = next(connection, "GET").await;
            vec![head, first, second]
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_shorter_than_its_length() {
    alike(async |way, path| {
        // Both after the head is read: what was read before is the kernel's business.
        let turn = way.origin.on(path).hold(page().claim_length(100).break_after(4, Break::Fin));
        let asked = tokio::spawn(way.edge.client().plain().get(path).begin());
        turn.reached().await;
        turn.release();
        let begun = asked.await.expect("it does not panic");
        let outcome = match begun {
            Ok(stream) => {
                let head = head(&stream);
                format!("{head}{}", end(stream.rest().await))
            }
            Err(broken) => format!("{broken:?}"),
        };
        vec![outcome]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_chunked_coding() {
    alike(async |way, path| {
        let (turn, stream, head) = begun(way, path, page()).await;
        turn.send_raw("nonsense\r\n").await;
        vec![head, end(stream.rest().await)]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_without_an_answer() {
    for raw in ["", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
        alike(async |way, path| {
            let on = way.origin.on(path).always();
            let turn = if raw.is_empty() { on.break_off(Break::Fin) } else { on.raw(raw) };
            let mut log = Vec::new();
            for method in ["GET", "HEAD"] {
                let mut connection = way.edge.client().plain().connect().await;
                let head = format!("{method} {path} HTTP/1.1\r\nHost: example.com\r\n\r\n");
                // Twice on one connection, where it stays.
                connection.send(&head).await;
                let (answer, after) = next(connection, method).await;
                log.push(answer);
                if let Some(mut connection) = after {
                    connection.send(&head).await;
                    log.push(next(connection, method).await.0);
                }
            }
            drop(turn);
            log
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_responses_come_before_the_head() {
    alike(async |way, path| {
        let hints = [("Link", "</a>; rel=preload")];
        let (turn, stream, head) = begun(way, path, page().after_interim(103, &hints)).await;
        turn.finish().await;
        vec![head, end(stream.rest().await)]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_alone_of_what_streams() {
    alike(async |way, path| {
        let render = if path.starts_with("/pass") { page().chunked() } else { page() };
        let on = way.origin.on(path);
        // A page is always fetched whole; what passes is asked as it was.
        let turn = if path.starts_with("/pass") { on.reply(render) } else { on.stream(render) };
        let mut connection = way.edge.client().plain().connect().await;
        connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: example.com\r\n\r\n")).await;
        turn.reached().await;
        if !path.starts_with("/pass") {
            turn.finish().await;
        }
        let (answer, after) = next(connection, "HEAD").await;
        let mut log = vec![answer];
        way.settle().await;
        // The connection carries the next one.
        way.origin.on(path).always().reply(page());
        if let Some(mut connection) = after {
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n")).await;
            log.push(next(connection, "GET").await.0);
        }
        log
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_the_same_page() {
    alike(async |way, path| {
        if path.starts_with("/pass") {
            return Vec::new();
        }
        let (turn, mut first, head_of_first) = begun(way, path, page()).await;
        let mut second = way.edge.client().plain().get(path).stream().await;
        second.expect("one ").await;
        turn.send("two").await;
        first.expect("two").await;
        second.expect("two").await;
        turn.finish().await;
        let head_of_second = head(&second);
        vec![head_of_first, head_of_second, end(first.rest().await), end(second.rest().await)]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_in_the_middle() {
    alike(async |way, path| {
        let (turn, stream, head) = begun(way, path, page()).await;
        stream.reset();
        let mut log = vec![head];
        if path.starts_with("/pass") {
            // It was theirs alone.
            log.push(format!("{:?}", turn.ended().await));
        } else {
            // The render goes on, and is stored.
            turn.send("two").await;
            turn.finish().await;
            way.settle().await;
            log.push(way.edge.client().plain().get(path).await.text().to_owned());
        }
        log
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_come_while_the_first_one_waits() {
    alike(async |way, path| {
        let turn = way.origin.on(path).hold(page());
        way.origin.on("/pass/next").reply(page());
        let mut connection = way.edge.client().plain().connect().await;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n");
        connection.send(get(path)).await;
        turn.reached().await;
        connection.send(get("/pass/next")).await;
        turn.release();
        let (first, after) = next(connection, "GET").await;
        let second = match after {
            Some(connection) => next(connection, "GET").await.0,
            None => "closed".to_owned(),
        };
        vec![first, second]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validation_that_waits() {
    alike(async |way, path| {
        let stale = || page().header("ETag", "\"v\"").cache("max-age=0, stale-if-error=60");
        way.origin.on(path).reply(stale());
        let first = way.edge.client().plain().get(path).await;
        way.settle().await;
        let turn = way.origin.on(path).always().reply_with(|request| {
            match request.header("if-none-match") {
                Some(_) => Render::status(304).header("ETag", "\"v\"").header("X-New", "1"),
                None => page().header("ETag", "\"v\"").header("X-Whole", "1"),
            }
        });
        let mut log = vec![format!("{}\n{}", first.status, fields(&first.fields))];
        for condition in ["", "If-None-Match: \"v\"\r\n", "If-None-Match: \"w\"\r\n"] {
            let mut connection = way.edge.client().plain().connect().await;
            let request = format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n{condition}\r\n");
            connection.send(request).await;
            log.push(next(connection, "GET").await.0);
            way.settle().await;
        }
        drop(turn);
        log
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_refuses() {
    alike(async |way, path| {
        way.origin.refuse().await;
        let mut connection = way.edge.client().plain().connect().await;
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n")).await;
        let (answer, _) = next(connection, "GET").await;
        way.origin.accept().await;
        vec![answer]
    })
    .await;
}
