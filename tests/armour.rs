//! Nothing that one client sends turns the cache against others: who may share a
//! response, and what takes a public page out of the cache (semantics §§1 to 4 and
//! 6). Each fault that there once was, by name; `isolation` and `hostile` look for
//! more.

mod keeping;
mod renewing;
mod sharing;

use std::future::IntoFuture;

use tokio::task::JoinHandle;

use crate::support::client::{self, Ask};
use crate::support::origin::{Act, Gate, Request};
use crate::support::{Edge, Origin, Response};

/// A route of each mode, and one that is told by its answers.
const ROUTES: &str = "
- path: /isr/**
  isr: { revalidate: 1h }
- path: /dsg/**
  dsg: {}
- path: /lang/**
  isr: { revalidate: origin }
  vary: [accept-language]
- path: /origin/**
  isr: { revalidate: origin }
- path: /**
  ssr: {}
";

/// What a client calls itself; only a renderer that is sent it can know.
const NAME: &str = "x-name";

/// Asks on a task of its own.
fn go(ask: Ask) -> JoinHandle<client::Response> {
    tokio::spawn(ask.into_future())
}

/// The same, as somebody.
fn by(name: &str, ask: Ask) -> Ask {
    ask.header(NAME, name)
}

/// For whom a request was made.
fn name(request: &Request) -> &str {
    request.header(NAME).unwrap_or("anybody")
}

/// Comes back when the edge has read what it was sent before.
async fn settle(edge: &Edge) {
    for _ in 0..2 {
        edge.revalidate("tag=nobody-has-this").await;
    }
}

/// An edge with [`ROUTES`] that reads what it is sent in the order in which it comes.
async fn edge(origin: &Origin) -> Edge {
    narrow(origin, "").await
}

/// The same with these options for its origin.
async fn narrow(origin: &Origin, options: &str) -> Edge {
    let yaml = format!(
        "threads: 1\norigins:\n  web: {{ servers: [\"{{origin}}\"]{options} }}\nroutes:{ROUTES}"
    );
    Edge::start(&yaml, origin).await
}

/// An origin that holds all its answers until the gate opens.
async fn gated(
    gate: &Gate,
    answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> Origin {
    let gate = gate.clone();
    Origin::act(move |request| Act::Gated(gate.clone(), Box::new(Act::Reply(answer(request)))))
        .await
}
