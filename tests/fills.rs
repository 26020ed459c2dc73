//! Fills (semantics §3): one render for however many ask, streamed to all of
//! them; what a failure changes, and what is never shared.

mod broken;
mod fence;
mod leaving;
mod private;
mod regeneration;
mod sharing;
mod size;

use std::future::IntoFuture;
use std::time::Duration;

use perennial::{clock, rules::date};
use tokio::task::JoinHandle;

use crate::support::client::{self, Ask, Stream};
use crate::support::{Edge, Origin, Response};

/// A route of each mode.
const ROUTES: &str = "
- path: /isr/**
  isr: { revalidate: 60s }
- path: /dsg/**
  dsg: {}
- path: /pass/**
  pass: {}
- path: /**
  ssr: {}
";

async fn edge(origin: &Origin) -> Edge {
    Edge::start(ROUTES.trim_start(), origin).await
}

/// An edge with these lines for its origin and its cache, and [`ROUTES`].
async fn edge_with(origin: &Origin, options: &str, cache: &str) -> Edge {
    let routes = ROUTES.trim_start();
    let yaml = format!(
        "origins:\n  web: {{ servers: [\"{{origin}}\"], {options} }}\ncache: {{ {cache} }}\nroutes:\n{routes}"
    );
    Edge::start(&yaml, origin).await
}

/// The response as it was rendered so long ago: time travel. (An `Age` would
/// say that the origin sent a stale copy of its own.)
pub(crate) fn dated(response: Response, ago: Duration) -> Response {
    response.header("Date", &date::format(clock::now().minus(ago)))
}

/// A page that is stale when it arrives, as far as `isr` is concerned.
fn stale(body: &'static str) -> Response {
    dated(Response::html(body), Duration::from_secs(100))
}

/// Asks on a task of its own.
fn go(ask: Ask) -> JoinHandle<client::Response> {
    tokio::spawn(ask.into_future())
}

/// Asks on a task of its own and reads the head of the answer.
fn go_stream(ask: Ask) -> JoinHandle<Stream> {
    tokio::spawn(ask.stream())
}
