//! Header fields: what of a visitor's request reaches the origin.

use crate::support::{Edge, Origin, Response, origin};

const ROUTES: &str = "
- path: /isr/**
  isr: { revalidate: 60s }
- path: /noted/**
  isr: { revalidate: origin }
- path: /pass/**
  pass: {}
- path: /**
  ssr: {}
";

/// An edge with these lines of configuration, and [`ROUTES`].
async fn edge_with(origin: &Origin, lines: &str) -> Edge {
    Edge::start(&format!("{}\nroutes:{ROUTES}", lines.trim()), origin).await
}

// 13. What is not keyed is not sent.

/// What the origin renders shows the query that it was sent.
async fn echo_of_the_query() -> Origin {
    Origin::serve(|request: &origin::Request| {
        let payload = request.header("rsc") == Some("1");
        let body = format!("asked for {}", request.target);
        if payload {
            Response::status(200).header("Content-Type", "text/x-component").body(body)
        } else {
            Response::html(body)
        }
        .cache("s-maxage=60")
        .header("Vary", "RSC")
    })
    .await
}

#[tokio::test]
async fn a_visitors_rsc_value_reaches_no_stored_page() {
    for path in ["/ssr", "/isr/a", "/noted/a"] {
        for name in ["_rsc", "%5Frsc", "_%72s%63", "%5frsc"] {
            for payload in [false, true] {
                let origin = echo_of_the_query().await;
                let edge = edge_with(&origin, "framework: nextjs").await;
                let client = edge.client().ssr();
                let ask = |target: &str| {
                    let ask = client.get(target);
                    if payload { ask.header("RSC", "1") } else { ask }
                };
                for target in [
                    format!("{path}?{name}=PWNED%22"),
                    format!("{path}?a=1&{name}=PWNED&b=2&{name}"),
                ] {
                    let answer = ask(&target).await;
                    assert!(!answer.text().contains("PWNED"), "{answer}");
                }
                let answer = ask(&format!("{path}?_rsc=my-own")).await;
                assert_eq!(answer.x_cache(), "HIT", "it is the same page: {answer}");
                assert!(!answer.text().contains("PWNED"), "{answer}");
                for request in origin.requests() {
                    let target = request.target.to_ascii_lowercase();
                    assert!(!target.contains("pwned") && !target.contains("%5f"), "{target}");
                }
            }
        }
    }
}

/// A path that counts as server-rendered is asked for with all of the query but
/// that.
#[tokio::test]
async fn a_visitors_rsc_value_is_not_sent_to_a_noted_path() {
    let origin = Origin::serve(|request: &origin::Request| {
        Response::html(format!("asked for {}", request.target)).cache("private")
    })
    .await;
    let edge = edge_with(&origin, "framework: nextjs").await;
    let client = edge.client().ssr();
    for _ in 0..3 {
        let answer = client.get("/noted/a?q=1&%5Frsc=PWNED&_rsc=PWNED").await;
        assert!(answer.cache_status().contains("detail=server-rendered"), "{answer}");
        assert_eq!(answer.text(), "asked for /noted/a?q=1");
    }
}

/// Where the origin insists on its own value it is learnt, once for what it is of.
#[tokio::test]
async fn payloads_on_ssr_are_asked_for_with_the_learnt_value() {
    let origin = Origin::serve(|request: &origin::Request| {
        let mark = format!("of-{}", request.header("next-router-state-tree").unwrap_or("none"));
        if request.target != format!("/p?a=1&_rsc={mark}") {
            let location = format!("/p?a=1&_rsc={mark}");
            return Response::status(307).header("Location", &location);
        }
        let payload = Response::status(200).header("Content-Type", "text/x-component");
        payload.body(mark).cache("no-store")
    })
    .await;
    let edge = edge_with(&origin, "framework: nextjs").await;
    let client = edge.client().ssr();
    for (tree, requests) in [("one", 2), ("one", 3), ("two", 5), ("one", 6), ("two", 7)] {
        let ask = client.get("/p?_rsc=made-up&a=1").header("RSC", "1");
        let answer = ask.header("Next-Router-State-Tree", tree).await;
        answer.is(200, "MISS", &format!("of-{tree}"));
        assert_eq!(origin.total(), requests, "{tree}");
    }
}
