//! Perennial: a caching reverse proxy that stands in front of any page renderer
//! and gives it incremental static regeneration (ISR), deferred static
//! generation (DSG) and server-side rendering (SSR), renewed on demand.
//!
//! # The rooms
//!
//! | room | what is done there |
//! | --- | --- |
//! | [`config`] | YAML as written → a resolved configuration, with the routes of the preset |
//! | [`rules`] | HTTP caching rules, pure: no I/O, no clock, nothing of ours |
//! | [`page`] | what is stored: key, page, representation, tags |
//! | [`request`] | a request head as the cache sees it |
//! | [`host`] | which hosts are valid, and their one form; a leaf |
//! | [`route`] | host and path → the route and its policy |
//! | [`framework`] | presets: which page and form a URL means, what the build says, which one it is |
//! | [`deployment`] | which deployment of the site is the current one |
//! | [`store`] | pages at rest, and the sequence of invalidations |
//! | [`origin`] | servers, pools, health, limits: asking the renderer |
//! | [`fill`] | single flight, the shared stream, back-off, compression |
//! | [`assets`] | bundles that stored pages name, fetched before a deploy takes them away |
//! | [`terms`] | what a response is good for under its route, asked when a page is read |
//! | [`answer`] | request + stored page → the answer |
//! | [`plan`] | request → webhook, bypass, or a form of a page under a key |
//! | [`cookies`] | which cookies of a client count, and how they are taken out |
//! | [`live`], [`reload`] | what a reload replaces, and how one ended |
//! | [`via`] | the name of an edge, and how it knows its own requests |
//! | [`relief`] | a shortage of descriptors: who asks for some, and who gives them up; a leaf |
//! | `serve` | serving a page to a client: from the store, from a fill, or with an error |
//! | [`server`] | accept, read heads under limits, the plain case, drain |
//! | [`proxy`] | pingora's phases, each a few lines that call the rooms |
//! | [`revalidate`] | `/__revalidate` |
//! | [`admin`], [`metrics`], [`log`] | what operators see |
//! | `engine` | what all requests share: store, fills, the configuration at work |
//! | `errands` | what an edge does unasked: assets, new builds, which framework it is |
//! | `front` | plain requests, answered on the connection's own task |
//! | [`edge`] | the rooms put together |
//! | [`demo`] | a small renderer to try it all with |
//!
//! Arrows point down: `edge → {front, proxy, errands} → {serve, revalidate} → engine → {plan,
//! answer} → fill → {assets, terms, store, origin, route, framework, deployment} →
//! page → rules`; `server` and `admin` know nothing of pages, and are told by traits.
//!
//! # The way of a request
//!
//! 0. [`server`] accepts and reads the head under its limits. A plain GET or
//!    HEAD is served on the connection's own task: by the front at once where
//!    nothing needs to be waited for, otherwise by `serve`. Whatever is not
//!    plain (bodies, upgrades, odd requests) takes the same steps in [`proxy`].
//! 1. [`plan`] finds the route and makes the key; the webhook and what the
//!    route does not cache part ways here.
//! 2. [`store`] looks the page up, and says how it stands to the invalidations.
//! 3. [`answer`] chooses among its representations. Fresh, or stale and
//!    servable: it is written. If stale, [`fill`] is told and nobody waits.
//! 4. Otherwise the request joins the [`fill`] that runs for the page, or
//!    begins one, and streams what it brings.
//! 5. One [`rules::Outcome`] makes `Cache-Status`, the metric and the log line.
//!
//! # What always holds
//!
//! - [`rules`] and [`page`] do no I/O and read no clock; [`clock`] is the one
//!   place that does.
//! - The key is made before anything is rewritten. What is not in the key does
//!   not reach the origin on page routes.
//! - What no visitor should send ([`rules::request_fields`]) reaches no origin, and
//!   [`answer::head`] makes what visitors see, whichever way a response takes.
//! - A page is replaced whole or not at all; a failed fill leaves the stored
//!   page as it was.
//! - Members of a page are of one generation and one deployment.
//! - A response that is not storable, or that a cache may not use without asking
//!   first, never reaches a second client, but for an error on a page route.
//! - Where middleware runs before a page, nobody gets it without the origin's word for
//!   this very request.
//! - What a client makes up takes no public page out of the cache: an answer counts
//!   for what its request selected, and what clients can make grow has a bound in
//!   bytes and a lifetime.
//! - The store keeps what the origin said; the options of a route are applied when
//!   a page is read.
//! - An invalidation is recorded before it is acknowledged, and beats every
//!   render that began before it.
//! - Nothing blocks a worker; every wait has a deadline, every buffer and queue
//!   a bound that the configuration or a constant names.
//! - No `unwrap` on data from outside. No `unsafe`.
//!
//! # What is deliberately absent
//!
//! pingora's own cache, `Server` and `Service`: its proxy is used as a library.
//! A request's `Cache-Control` from a browser does not force a render
//! (`only-if-cached` and, on `ssr`, `no-store` are obeyed): the origin and the
//! routes say what may be reused.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "this page is for who works on the crate: only main.rs, tests/ and benches/ use it"
)]

mod admin;
mod answer;
mod assets;
pub mod clock;
pub mod config;
mod cookies;
pub mod demo;
mod deployment;
pub mod edge;
mod engine;
mod errands;
mod fill;
pub mod framework;
mod front;
mod host;
#[cfg(test)]
#[path = "../tests/kit/mod.rs"]
#[expect(dead_code, reason = "tests/ uses the rest of it")]
mod kit;
mod live;
pub mod log;
mod metrics;
mod origin;
mod page;
mod plan;
mod proxy;
mod relief;
pub mod reload;
mod request;
mod revalidate;
mod route;
pub mod rules;
mod serve;
pub mod server;
mod store;
mod terms;
mod via;

/// What `benches/micro` measures, and no interface for anybody else.
#[doc(hidden)]
pub mod bench {
    pub use crate::answer::{Answer, Choice, choose};
    pub use crate::deployment::Deployments;
    pub use crate::fill::Notes;
    pub use crate::framework::Preset;
    pub use crate::live::Live;
    pub use crate::log::AccessLog;
    pub use crate::metrics::Metrics;
    pub use crate::origin::Origins;
    pub use crate::page::{
        Asked, Body, Born, Coding, Compress, Fields, FieldsBuf, Form, Judged, Judgement, KeyBuf,
        Page, Representation, Tags, Uses, canonical_path,
    };
    pub use crate::plan::{Plan, plan};
    pub use crate::request::{Facts, Request};
    pub use crate::route::Routes;
    pub use crate::rules::{Outcome, Time};
    pub use crate::store::{Hardness, Name, Store};
    pub use crate::terms::Judge;
    pub use crate::via::Via;
}
