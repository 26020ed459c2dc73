//! Isolation (semantics §§1 to 3): whatever the origin says and whatever clients
//! send, nobody sees what was rendered for another one, unless RFC 9111 and the
//! route let it; and a public page that nobody invalidated stays a hit for who
//! selects it.
//!
//! Cases come from seeds: a script of pages and visits ([`script`]), played
//! against an origin that names in everything whom it made it for ([`site`]), and
//! judged afterwards by a small model ([`oracle`]). Who asks for what, and what is
//! answered, is determined by the seed; which of several requests that are there
//! at once comes first is not. What fails is made smaller before it is shown.
//!
//! `PERENNIAL_SEED=7 PERENNIAL_CASES=1000` tries others than usual.

mod maker;
mod oracle;
mod script;
mod shrink;
mod site;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinHandle;

use crate::support::client::{Ask, Client, Stream};
use crate::support::http1::Broken;
use crate::support::origin::Gate;
use crate::support::{Edge, Origin, client, patient};
use maker::Maker;
use oracle::{Case, Sight, Violation};
use script::{Leaves, Mode, Page, Preset, ROUTES, Round, Script, Sends, Visit};
use shrink::smaller;
use site::Site;

/// Requests that break off in a storm: enough to open the breaker, whatever was
/// answered well before.
const STORM: usize = 40;

/// Tries to make a failing case smaller, where `PERENNIAL_TRIES` says nothing.
const TRIES: u64 = 200;

/// How often a public page is asked for before it must be a hit: what belongs to it
/// may still be on its way.
const PRIMING: usize = 20;

/// An edge and the site behind it.
struct World {
    edge: Edge,
    site: Site,
    _origin: Origin,
}

/// How the edge is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    /// With room for everybody.
    Ample,
    /// One render at once, and one waits.
    Narrow,
}

impl World {
    async fn new(preset: Preset, setup: Setup) -> Self {
        let site = Site::default();
        let origin = site.origin().await;
        let places = match setup {
            Setup::Ample => "",
            Setup::Narrow => ", max_concurrent_fills: 1, max_waiting_fills: 1",
        };
        let rest = match preset {
            Preset::Generic => "",
            Preset::Nextjs => "framework: nextjs\ndeployment: { probe: off, settle: 1h }\n",
        };
        // One thread: what it is sent first it reads first, very nearly.
        let yaml = format!(
            "threads: 1\norigins:\n  web: {{ servers: [\"{{origin}}\"]{places} }}\n{rest}routes:{ROUTES}"
        );
        let edge = Edge::start(&yaml, &origin).await;
        Self { edge, site, _origin: origin }
    }

    /// Comes back when the edge has read what it was sent before: it has answered
    /// what came after, and needed no origin for it.
    async fn settle(&self) {
        for _ in 0..2 {
            self.edge.revalidate("tag=nobody-has-this").await;
        }
    }
}

/// What became of a visit.
enum Went {
    Whole(Box<client::Response>),
    Head(Box<Stream>),
    /// It left before, or the answer broke off.
    Away,
}

/// A visit under way.
struct Visiting {
    number: usize,
    visit: Visit,
    task: JoinHandle<Result<Went, Broken>>,
}

/// A case at play.
struct Play<'a> {
    world: &'a World,
    script: &'a Script,
    /// One for each client, who keep their connections.
    clients: Vec<Client>,
    sights: Vec<Sight>,
    wrong: Vec<Violation>,
    visits: usize,
}

/// Numbers cases, so that each has pages of its own.
static CASES: AtomicU64 = AtomicU64::new(0);

/// Plays a case, and says what must not have happened.
async fn play(world: &World, script: &Script) -> Vec<Violation> {
    world.site.begin(CASES.fetch_add(1, Ordering::Relaxed), &script.pages);
    let client = || world.edge.client().ssr();
    let mut play = Play {
        world,
        script,
        clients: (0..6).map(|_| client()).collect(),
        sights: Vec::new(),
        wrong: Vec::new(),
        visits: 0,
    };
    play.prime().await;
    for round in &script.rounds {
        play.round(round).await;
        play.public_pages().await;
    }
    let log = world.site.log();
    let case =
        Case { preset: script.preset, pages: &script.pages, log: &log, sights: &play.sights };
    let mut wrong = play.wrong;
    wrong.extend(case.judge());
    wrong
}

impl Play<'_> {
    fn ask(&self, number: usize, visit: &Visit) -> Ask {
        let target = self.world.site.target(visit);
        let (name, value) = oracle::name_of(number);
        let mut ask = self.clients[visit.who].ask(visit.method, &target).header(name, &value);
        let names = [
            "cookie",
            "x-api-key",
            "authorization",
            "accept-language",
            "accept",
            "rsc",
            "next-router-prefetch",
            "next-router-segment-prefetch",
            "next-url",
            "cache-control",
            "sec-purpose",
            "range",
        ];
        for name in names {
            if let Some(value) = visit.field(name) {
                ask = ask.header(name, &value);
            }
        }
        if visit.sends.contains(&Sends::Condition)
            && let Some(etag) = self.world.site.last_etag(visit.page)
        {
            ask = ask.header("if-none-match", &etag);
        }
        ask
    }

    fn begin(&mut self, visit: &Visit) -> Visiting {
        let number = self.visits;
        self.visits += 1;
        let ask = self.ask(number, visit);
        let leaves = visit.leaves;
        let task = tokio::spawn(async move {
            Ok(match leaves {
                Some(Leaves::AfterTheHead) => Went::Head(Box::new(ask.begin().await?)),
                _ => Went::Whole(Box::new(ask.outcome().await?)),
            })
        });
        Visiting { number, visit: visit.clone(), task }
    }

    /// Waits for a visit, and remembers what was seen; those that leave early are
    /// gone by now.
    async fn end(&mut self, visiting: Visiting) {
        let Visiting { number, visit, task } = visiting;
        let early = visit.leaves == Some(Leaves::BeforeTheHead);
        if early {
            task.abort();
        }
        let went = match patient("a visit to end", task).await {
            Ok(Ok(went)) => went,
            Ok(Err(_)) => Went::Away,
            Err(error) if early && error.is_cancelled() => Went::Away,
            Err(_) => {
                let text = format!("visit {number} {visit:?}: see the panic above");
                self.wrong.push(Violation::new("an answer that is not as it must be", text));
                Went::Away
            }
        };
        let (status, fields, interim, body) = match went {
            Went::Whole(answer) => {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                (answer.status, answer.fields, answer.interim, body)
            }
            Went::Head(stream) => {
                (stream.status, stream.fields.clone(), stream.interim.clone(), String::new())
            }
            Went::Away => (0, Default::default(), Vec::new(), String::new()),
        };
        self.sights.push(Sight { number, visit, status, fields, interim, body });
    }

    async fn round(&mut self, round: &Round) {
        let world = self.world;
        match round {
            Round::InTurn(visits) => {
                for visit in visits {
                    let visiting = self.begin(visit);
                    if visit.leaves == Some(Leaves::BeforeTheHead) {
                        world.settle().await;
                    }
                    self.end(visiting).await;
                }
            }
            Round::Together(visits) => {
                let gate = Gate::default();
                world.site.hold(Some(gate.clone()));
                let mut all = Vec::new();
                for (n, visit) in visits.iter().enumerate() {
                    all.push(self.begin(visit));
                    if n == 0 || n + 1 == visits.len() {
                        world.settle().await;
                    }
                }
                let (early, late): (Vec<_>, Vec<_>) =
                    all.into_iter().partition(|v| v.visit.leaves == Some(Leaves::BeforeTheHead));
                for visiting in early {
                    self.end(visiting).await;
                }
                world.site.hold(None);
                gate.open();
                for visiting in late {
                    self.end(visiting).await;
                }
            }
            Round::Storm => self.storm().await,
        }
    }

    /// Opens the breaker.
    async fn storm(&mut self) {
        self.world.site.storm(true);
        for n in 0..STORM {
            let _ = self.clients[0].get(&format!("/ssr/storm/{n}")).outcome().await;
        }
        self.world.site.storm(false);
    }

    /// Every public page is stored before anybody else comes.
    async fn prime(&mut self) {
        for (page, ask) in public_asks(&self.script.pages) {
            let mut last = Ok(());
            for _ in 0..PRIMING {
                last = self.is_hit(&ask).await;
                if last.is_ok() {
                    break;
                }
                self.world.settle().await;
            }
            if let Err(why) = last {
                let text = format!("page {page} for {ask:?}: {why}");
                return self.wrong.push(Violation::new("a public page not stored", text));
            }
        }
    }

    /// And it stays a hit, whoever came.
    async fn public_pages(&mut self) {
        if self.wrong.iter().any(|wrong| wrong.kind == "a public page not stored") {
            return;
        }
        for (page, ask) in public_asks(&self.script.pages) {
            let Err(why) = self.is_hit(&ask).await else { continue };
            let payload = ask.sends.contains(&Sends::Rsc);
            let kind = match (self.script.pages[page].mode, payload) {
                (_, true) => "a public payload that is no hit any more",
                (Mode::Ssr, _) => "a public page on ssr that is no hit any more",
                (Mode::Origin | Mode::OriginLang, _) => {
                    "a public page on isr by origin that is no hit any more"
                }
                _ => "a public page on isr or dsg that is no hit any more",
            };
            self.wrong.push(Violation::new(kind, format!("page {page} for {ask:?}: {why}")));
        }
    }

    async fn is_hit(&mut self, visit: &Visit) -> Result<(), String> {
        let visiting = self.begin(visit);
        self.end(visiting).await;
        let Some(sight) = self.sights.last() else { return Err("nothing".into()) };
        if sight.status == 200 && sight.fields.get("x-cache") == Some("HIT") {
            return Ok(());
        }
        Err(format!("{}\n{}{}", sight.status, sight.fields, sight.body))
    }
}

/// The public pages, and who selects them.
fn public_asks(pages: &[Page]) -> Vec<(usize, Visit)> {
    let public = pages.iter().enumerate().filter_map(|(n, page)| Some((n, page.public.as_ref()?)));
    public.flat_map(|(n, public)| public.asks.iter().map(move |ask| (n, ask.clone()))).collect()
}

/// The smallest script found that still goes wrong in this way, and how.
async fn shrunk(script: Script, text: String, kind: &str, setup: Setup) -> (Script, String) {
    let fails = async |script: &Script| {
        let world = World::new(script.preset, setup).await;
        let wrong = play(&world, script).await;
        world.edge.stop().await;
        wrong.into_iter().find(|wrong| wrong.kind == kind).map(|wrong| wrong.text)
    };
    let Some(mut text) = fails(&script).await else {
        return (script, format!("{text}\n(not again, on an edge of its own)"));
    };
    let mut smallest = script;
    let mut tries = 0;
    let most = from_env("PERENNIAL_TRIES", TRIES);
    'again: loop {
        for less in smaller(&smallest) {
            tries += 1;
            if tries > most {
                break 'again;
            }
            if let Some(found) = fails(&less).await {
                (smallest, text) = (less, found);
                continue 'again;
            }
        }
        break;
    }
    (smallest, text)
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Plays so many cases, and fails with the first of each kind that went wrong.
async fn property(preset: Preset, setup: Setup, storm: bool, cases: u64) {
    let first = from_env("PERENNIAL_SEED", 1);
    let cases = from_env("PERENNIAL_CASES", cases);
    let mut found: BTreeMap<&'static str, (Script, String, usize)> = BTreeMap::new();
    let mut world = World::new(preset, setup).await;
    for seed in first..first + cases {
        let script = Maker::new(seed, preset, setup == Setup::Narrow || storm).script(seed, storm);
        for wrong in play(&world, &script).await {
            let first = || (script.clone(), wrong.text, 0);
            found.entry(wrong.kind).or_insert_with(first).2 += 1;
        }
        if storm {
            // The breaker is open: the next one needs another edge.
            world.edge.stop().await;
            world = World::new(preset, setup).await;
        }
    }
    world.edge.stop().await;
    if found.is_empty() {
        return;
    }
    let mut report = String::new();
    for (kind, (script, text, times)) in found {
        let (script, text) = shrunk(script, text, kind, setup).await;
        let _ = writeln!(report, "=== {kind}, {times} times, as in:\n{script}{text}\n");
    }
    panic!("isolation does not hold\n{report}");
}

#[tokio::test]
async fn nobody_sees_what_was_rendered_for_another() {
    property(Preset::Generic, Setup::Ample, false, 200).await;
}

#[tokio::test]
async fn nor_with_the_preset_of_next() {
    property(Preset::Nextjs, Setup::Ample, false, 160).await;
}

#[tokio::test]
async fn nor_when_the_queue_is_full() {
    property(Preset::Generic, Setup::Narrow, false, 100).await;
}

#[tokio::test]
async fn nor_when_the_breaker_is_open() {
    property(Preset::Generic, Setup::Ample, true, 30).await;
}
