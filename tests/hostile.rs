//! A hostile client: 24 requests a second for ten seconds, to the worst URLs of a
//! site and with whatever a request can carry. The site's other clients get what
//! they get without it: the same statuses, bodies and cache statuses, for as many
//! renders. Both runs are made at the same time, each with an edge and an origin of
//! its own.
//!
//! The clock is the real one, and nothing here asks how long anything took.

mod attack;

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::support::client::{Ask, Client};
use crate::support::origin::{Act, Request};
use crate::support::{Break, Edge, Origin, Response, eventually};

/// How long it goes on.
const LASTS: Duration = Duration::from_secs(10);
/// Time between two rounds of what ordinary clients do.
const ROUND: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preset {
    Generic,
    Nextjs,
}

/// Few places and short deadlines, so that ten seconds are enough for all that goes
/// wrong when they are not given back.
const SETUP: &str = "
origins:
  web:
    servers: [\"{origin}\"]
    max_concurrent_fills: 16
    max_waiting_fills: 8
    fill_timeout: 1s
    idle_timeout: 500ms
cache: { max_variants: 8 }
";

const ROUTES: &str = "
routes:
- path: /isr/**
  isr: { revalidate: 1h }
- path: /lang/**
  isr: { revalidate: 1h }
  vary: [accept-language]
- path: /dsg/**
  dsg: {}
- path: /api/**
  pass: {}
- path: /ssr/**
  ssr: {}
";

impl Preset {
    fn yaml(self) -> String {
        let framework = match self {
            Self::Generic => "",
            Self::Nextjs => "framework: nextjs\ndeployment: { probe: off, settle: 1h }\n",
        };
        format!("{}{framework}{}", SETUP.trim_start(), ROUTES.trim_start())
    }
}

/// The site: it says how often it rendered what it sends.
#[derive(Clone, Default)]
struct Site(Arc<Mutex<BTreeMap<String, usize>>>);

impl Site {
    fn renders(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn origin(&self) -> Origin {
        let site = self.clone();
        Origin::act(move |request| site.act(request)).await
    }

    fn act(&self, request: &Request) -> Act {
        match request.path() {
            "/ssr/gone" => Act::Reply(Response::html("gone").with_status(502)),
            "/ssr/busy" => Act::Reply(Response::html("busy").with_status(503)),
            "/ssr/silent" => Act::Silent,
            "/api/broken" => Act::Break(Break::Rst),
            "/api/socket" => Act::Echo(
                Response::status(101)
                    .header("Connection", "upgrade")
                    .header("Upgrade", "websocket"),
            ),
            path if path.contains("/error") => {
                Act::Reply(Response::html("it fails").with_status(500))
            }
            _ => Act::Reply(self.page(request)),
        }
    }

    /// A page, and which render of it this is.
    fn page(&self, request: &Request) -> Response {
        let what = selected(request);
        let mut renders = self.renders();
        let count = renders.entry(what.clone()).or_default();
        *count += 1;
        let body = format!("{what}, render {count}");
        drop(renders);
        let sent = |name: &str| request.header(name).unwrap_or_default();
        if request.method != "GET" && request.method != "HEAD" {
            // What is only read says so: nothing is invalidated by that.
            let status = if request.path().starts_with("/ssr/") { 405 } else { 200 };
            return Response::html(body).with_status(status).cache("no-store");
        }
        let made_up = ["cookie", "next-router-segment-prefetch", "next-router-prefetch"]
            .iter()
            .any(|name| sent(name).contains("made-up"));
        if made_up || request.path().contains("MADEUP") {
            return refusal(body).header("Vary", "Cookie");
        }
        let json = sent("accept") == "application/json";
        match request.path() {
            "/ssr/public" => Response::html(body).cache("s-maxage=600").header("Vary", "Cookie"),
            "/ssr/words" => Response::html(body)
                .cache("s-maxage=600")
                .header("Vary", "Accept-Language, Accept-Encoding"),
            "/ssr/account" => Response::html(body).cache("private, no-cache"),
            "/dsg/doc" if json => Response::json(format!("\"{body}\"")),
            _ if json => refusal(body),
            _ if request.header("rsc").is_some() => Response::status(200)
                .header("Content-Type", "text/x-component")
                .body(format!("1:\"{body}\"\n0:{{\"P\":null,\"b\":\"B1\"}}\n"))
                .cache("s-maxage=600"),
            "/app/page" => {
                let row = "0:{\\\"P\\\":null,\\\"b\\\":\\\"B1\\\"}\\n";
                let script = format!("<script>self.__next_f.push([1,\"{row}\"])</script>");
                Response::html(body + &script).cache("s-maxage=600")
            }
            _ => Response::html(body).cache("s-maxage=600"),
        }
    }
}

/// What is not for sharing, in one way or another.
fn refusal(body: String) -> Response {
    match body.len() % 5 {
        0 => Response::html(body).cache("private, max-age=60"),
        1 => Response::html(body).cache("s-maxage=60").header("Set-Cookie", "id=1"),
        2 => Response::html(body).with_status(403),
        3 => Response::html(body).with_status(401).cache("no-store"),
        _ => Response::html(body).with_status(404).cache("private, no-store"),
    }
}

/// What of a request makes it another one for this site.
fn selected(request: &Request) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let query: Vec<_> = query.split('&').filter(|p| !p.starts_with("_rsc")).collect();
    let mut what = format!("{} {path}?{}", request.method, query.join("&"));
    let names = [
        "cookie",
        "authorization",
        "accept-language",
        "rsc",
        "next-router-prefetch",
        "next-router-segment-prefetch",
    ];
    for name in names {
        if let Some(value) = request.header(name) {
            what.push_str(&format!(" [{name}: {value}]"));
        }
    }
    if request.header("accept") == Some("application/json") {
        what.push_str(" as JSON");
    }
    what
}

/// What ordinary clients got.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    what: String,
    status: u16,
    x_cache: String,
    body: String,
}

/// What came of a run.
struct Report {
    /// And of which kind the blows were at the time.
    seen: Vec<(Seen, u32)>,
    renders: BTreeMap<String, usize>,
}

/// The ordinary clients.
struct Ordinary<'a> {
    edge: &'a Edge,
    client: Client,
    preset: Preset,
    blows: Arc<AtomicU32>,
    seen: Vec<(Seen, u32)>,
}

impl Ordinary<'_> {
    fn saw(&mut self, round: usize, what: &str, status: u16, x_cache: &str, body: &[u8]) {
        let what = format!("round {round}: {what}");
        let body = String::from_utf8_lossy(body).into_owned();
        let seen = Seen { what, status, x_cache: x_cache.to_owned(), body };
        self.seen.push((seen, self.blows.load(Ordering::Relaxed)));
    }

    async fn ask(&mut self, round: usize, ask: Ask) {
        let what = ask.to_string();
        let answer = ask.await;
        self.saw(round, &what, answer.status, answer.x_cache(), &answer.body);
    }

    /// What everybody reads.
    fn public(&self) -> Vec<Ask> {
        let get = |path: &str| self.client.get(path);
        // What tells the build first, so that all pages are of one.
        let mut asks = match self.preset {
            Preset::Generic => vec![get("/dsg/doc").header("Accept", "application/json")],
            Preset::Nextjs => vec![
                get("/app/page"),
                get("/app/page").header("RSC", "1"),
                get("/app/page").header("RSC", "1").header("Next-Router-Prefetch", "1"),
            ],
        };
        asks.extend([
            get("/dsg/doc"),
            get("/isr/home"),
            get("/isr/news"),
            get("/ssr/public"),
            get("/ssr/words").header("Accept-Language", "de"),
            get("/lang/home").header("Accept-Language", "de"),
            get("/lang/home").header("Accept-Language", "en"),
        ]);
        asks
    }

    /// Until all of it is stored.
    async fn prime(&self) {
        for ask in self.public() {
            eventually(format!("a hit: {ask}"), || async {
                (ask.clone().await.x_cache() == "HIT").then_some(())
            })
            .await;
        }
    }

    async fn round(&mut self, round: usize) {
        for ask in self.public() {
            self.ask(round, ask).await;
        }
        let client = self.client.clone();
        // Pages that are new, and then known.
        let new = format!("/isr/new-{round}");
        for _ in 0..2 {
            self.ask(round, client.get(&new)).await;
        }
        self.ask(round, client.get(&format!("/ssr/new-{round}"))).await;
        // One that several ask for at once: one render, whoever waits for it.
        let burst = format!("/isr/burst-{round}");
        let all: Vec<_> = (0..4).map(|_| tokio::spawn(client.get(&burst).into_future())).collect();
        for one in all {
            let answer = one.await.expect("an answer");
            self.saw(round, "one of a burst", answer.status, "", &answer.body);
        }
        // What is one client's own.
        self.ask(round, client.get("/ssr/account").header("Cookie", "me=ordinary")).await;
        self.ask(round, client.post("/api/send", "words")).await;
        if round % 4 == 1 {
            self.renewed(round).await;
        }
    }

    /// An editor changes a page, in two ways: one of which the hostile client knows
    /// nothing, for whoever comes to a stale page has it renewed.
    async fn renewed(&mut self, round: usize) {
        let news = self.client.get("/isr/news");
        for arguments in ["path=/isr/news", "path=/isr/news&mode=stale"] {
            let answer = self.edge.revalidate(arguments).await;
            self.saw(round, "the webhook", answer.status, "", b"");
            self.ask(round, news.clone()).await;
        }
        eventually("the new page", || async {
            (news.clone().await.x_cache() == "HIT").then_some(())
        })
        .await;
        self.ask(round, news).await;
    }
}

/// Ten seconds of ordinary clients, with or without the hostile one.
async fn run(preset: Preset, hostile: bool) -> Report {
    let site = Site::default();
    let origin = site.origin().await;
    let edge = Edge::start(&preset.yaml(), &origin).await;
    let client = edge.client().ssr();
    let blows = Arc::new(AtomicU32::new(0));
    let mut ordinary =
        Ordinary { edge: &edge, client, preset, blows: Arc::clone(&blows), seen: Vec::new() };
    ordinary.prime().await;
    let attack = hostile.then(|| tokio::spawn(attack::attack(edge.addr(), blows)));
    let mut tick = interval(ROUND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0..usize::try_from(LASTS.as_millis() / ROUND.as_millis()).expect("a few") {
        tick.tick().await;
        ordinary.round(round).await;
    }
    let seen = ordinary.seen;
    if let Some(attack) = attack {
        attack.abort();
    }
    edge.stop().await;
    let renders = site.renders().clone();
    Report { seen, renders }
}

/// Both runs, and what differs.
async fn compare(preset: Preset) {
    // `none` compares two runs without it: what differs then is this test's fault.
    let comes = std::env::var("PERENNIAL_BLOWS").as_deref() != Ok("none");
    let (control, hostile) =
        tokio::join!(tokio::spawn(run(preset, false)), tokio::spawn(run(preset, comes)));
    let (control, hostile) = (control.expect("a report"), hostile.expect("a report"));
    let mut differs = Vec::new();
    for ((without, _), (with, blows)) in control.seen.iter().zip(&hostile.seen) {
        if without != with {
            let during = attack::NAMES[*blows as usize];
            differs.push(format!("{with:?}\n  instead of {without:?}\n  during: {during}"));
        }
    }
    for (what, count) in &control.renders {
        let with = hostile.renders.get(what).copied().unwrap_or_default();
        if with != *count {
            differs.push(format!("{with} renders instead of {count}: {what}"));
        }
    }
    assert_eq!(control.seen.len(), hostile.seen.len(), "both do the same");
    let shown: Vec<_> = differs.iter().take(40).cloned().collect();
    assert!(
        differs.is_empty(),
        "{} of {} differ for others because of one visitor:\n{}",
        differs.len(),
        control.seen.len() + control.renders.len(),
        shown.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_visitor_harms_nobody() {
    compare(Preset::Generic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_with_the_preset_of_next() {
    compare(Preset::Nextjs).await;
}
