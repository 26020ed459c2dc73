//! One page through everything: the first thing to look at when much fails.

use crate::support::{Edge, Origin, Response};

const ROUTES: &str = "
- path: /blog/**
  isr: { revalidate: 60s }
- path: /**
  ssr: {}
";

#[tokio::test]
async fn a_page_is_rendered_once_served_from_memory_and_renewed() {
    let origin = Origin::start().await;
    let edge = Edge::start(ROUTES.trim_start(), &origin).await;
    let client = edge.client();

    let first = origin.on("/blog/a").hold(Response::html("one"));
    let answer = tokio::spawn(client.get("/blog/a").header("Cookie", "me=1").into_future());
    let request = first.reached().await;
    assert_eq!(request.header("cookie"), None, "no cookie reaches a page's renderer");
    first.release();
    answer.await.unwrap().is(200, "MISS", "one");
    client.get("/blog/a?utm_source=x").await.is(200, "HIT", "one");

    origin.on("/blog/a").reply(Response::html("two"));
    assert_eq!(edge.revalidate("path=/blog/a").await.status, 200);
    client.get("/blog/a").await.is(200, "HIT", "two");

    edge.reload("- path: /**\n  pass: {}\n", &origin);
    origin.on("/blog/a").reply(Response::html("three"));
    client.clone().ssr().get("/blog/a").await.is(200, "BYPASS", "three");

    let health = edge.admin().get("/healthz").await;
    assert_eq!(health.status, 200);
    edge.stop().await;
}
