//! What all requests share: the store, the fills, and the configuration at work.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::admin::Readiness;
use crate::answer::{Answer, Choice, choose};
use crate::assets::{Assets, Search};
use crate::config::{self, Config};
use crate::deployment::Deployments;
use crate::fill::{Ask, Fills};
use crate::framework::Preset;
use crate::host;
use crate::live::Live;
use crate::log::{AccessLine, AccessLog};
use crate::metrics::{MemoryState, Metrics, OriginState};
use crate::origin::Origins;
use crate::page::{Form, KeyBuf, Page, PageKey, Representation, Standing};
use crate::plan::{Wanted, background_ask, page_at};
use crate::reload::{Last, Reloaded};
use crate::request::{Facts, Request};
use crate::route::{Route, Routes};
use crate::rules::cache_status::StaleWhy;
use crate::rules::{Lines, Outcome, Time};
use crate::store::{RouteTags, Store};
use crate::terms::Judge;
use crate::via::Via;

/// What all requests share.
pub(crate) struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) fills: Fills,
    pub(crate) live: ArcSwap<Live>,
    /// Locked while the configuration is replaced.
    reloading: Mutex<()>,
    reloaded: Mutex<Option<Last>>,
    pub(crate) limits: Arc<ArcSwap<config::Limits>>,
    pub(crate) draining: watch::Sender<bool>,
    /// When the graceful stop began.
    pub(crate) drained: OnceLock<Instant>,
    /// Whether the front answers plain requests itself.
    pub(crate) plain: AtomicBool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.live.load().config).finish_non_exhaustive()
    }
}

fn labels(config: &Config, routes: &Routes) -> (Vec<String>, Vec<String>) {
    let routes = routes.iter().map(|route| route.label.to_string()).collect();
    (routes, config.origins.iter().map(|origin| origin.name.clone()).collect())
}

/// The deployments of the site behind each origin, as they were where `old` knows
/// the origin. A preset is of the first one.
fn deployments(
    config: &Config,
    preset: &Preset,
    old: impl Fn(&str) -> Option<Arc<Deployments>>,
) -> Box<[Arc<Deployments>]> {
    let of = |(index, origin): (usize, &config::Origin)| {
        let build = preset.build().filter(|_| index == 0);
        match old(&origin.name) {
            Some(old) => {
                old.configure(&config.deployment, build);
                old
            }
            None => Arc::new(Deployments::new(&config.deployment, build)),
        }
    };
    config.origins.iter().enumerate().map(of).collect()
}

impl Engine {
    /// An engine, and its pages as they will be stored: what they name is to be
    /// searched for.
    pub(crate) fn new(config: Config) -> (Arc<Engine>, mpsc::Receiver<Search>) {
        let store = Arc::new(Store::new(&config.cache));
        let preset = Preset::new(&config.framework);
        let (assets, searches) = Assets::new();
        let routes = Routes::new(&config);
        let (route_labels, origin_labels) = labels(&config, &routes);
        let metrics = Arc::new(Metrics::new(&route_labels, &origin_labels));
        metrics.started(crate::clock::now().secs());
        let engine = Arc::new(Engine {
            fills: Fills::new(Arc::clone(&store), assets, &config.cache),
            limits: Arc::new(ArcSwap::from_pointee(config.limits.clone())),
            draining: watch::Sender::new(false),
            drained: OnceLock::new(),
            plain: AtomicBool::new(true),
            reloading: Mutex::default(),
            reloaded: Mutex::default(),
            live: ArcSwap::from_pointee(Live {
                routes,
                origins: Origins::new(&config.origins),
                deployments: deployments(&config, &preset, |_| None),
                preset,
                access: AccessLog::new(&config.log),
                metrics: Arc::clone(&metrics),
                via: Via::default(),
                config,
            }),
            store,
        });
        let weak = Arc::downgrade(&engine);
        metrics
            .watch_memory(move || weak.upgrade().map_or_else(MemoryState::default, |c| c.memory()));
        let weak = Arc::downgrade(&engine);
        metrics.watch_origins(move || weak.upgrade().map_or_else(Vec::new, |c| c.origins()));
        (engine, searches)
    }

    /// The configuration at work.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// See `Edge::reload`.
    pub(crate) fn reload(&self, config: Config) -> Reloaded {
        let _one_at_a_time = self.reloading.lock();
        let ended = match config.succeed(&self.live.load().config) {
            Ok(done) => {
                self.replace(done.config);
                if done.kept.is_empty() { Reloaded::Applied } else { Reloaded::Partly(done.kept) }
            }
            Err(why) => Reloaded::Refused(why),
        };
        self.told(ended.clone());
        ended
    }

    /// See `Edge::reload_refused`.
    pub(crate) fn reload_refused(&self, why: String) {
        self.told(Reloaded::Refused(why));
    }

    fn told(&self, ended: Reloaded) {
        let at = crate::clock::now();
        self.live.load().metrics.reload(ended.result(), at.secs());
        *self.reloaded.lock() = Some(Last { at, ended });
    }

    /// The origin told its framework: all that comes from now on goes by it. What is in
    /// flight goes on as it began, and what it stores is under a deployment that is none any
    /// more.
    pub(crate) fn told_framework(&self, framework: config::Framework) {
        let _one_at_a_time = self.reloading.lock();
        let config = self.live.load().config.clone();
        if config.is_untold() {
            self.replace(config.told(framework));
        }
    }

    /// Runs on with another configuration.
    fn replace(&self, config: Config) {
        let old = self.live.load();
        let preset = Preset::new(&config.framework);
        let same = old.config.is_untold() == config.is_untold();
        let deployments = deployments(&config, &preset, |name| {
            if !same {
                return None;
            }
            let place = old.config.origins.iter().position(|origin| origin.name == name)?;
            old.deployments.get(place).cloned()
        });
        let routes = Routes::new(&config);
        let (route_labels, origin_labels) = labels(&config, &routes);
        let metrics = Arc::new(old.metrics.relabel(&route_labels, &origin_labels));
        self.limits.store(Arc::new(config.limits.clone()));
        self.fills.configure(&config.cache);
        let cache = config.cache.clone();
        self.live.store(Arc::new(Live {
            routes,
            origins: old.origins.reload(&config.origins),
            preset,
            deployments,
            access: AccessLog::new(&config.log),
            via: old.via.clone(),
            metrics,
            config,
        }));
        // Last: what is remembered under it goes by the new routes.
        self.store.configure(&cache);
    }

    /// Tells the tags of the route of a page, as the store asks for them.
    pub(crate) fn route_tags(live: &Arc<Live>) -> impl RouteTags {
        let live = Arc::clone(live);
        move |key: &PageKey| Arc::clone(&live.routes.find(key.host(), key.path()).tags)
    }

    fn memory(&self) -> MemoryState {
        let stats = self.store.stats();
        MemoryState {
            bytes: stats.bytes,
            limit: self.live.load().config.cache.memory,
            entries: stats.entries,
            evictions: stats.evictions,
        }
    }

    fn origins(&self) -> Vec<OriginState> {
        let live = self.live.load();
        live.origins
            .iter()
            .map(|origin| {
                let servers = origin.servers();
                let passes = origin.passes();
                let healthy = servers.iter().filter(|s| s.healthy).count();
                OriginState {
                    name: origin.config().name.clone(),
                    healthy: healthy as u64,
                    unhealthy: (servers.len() - healthy) as u64,
                    breaker_open: origin.breaker_open(),
                    running: origin.running() as u64,
                    waiting: origin.waiting() as u64,
                    passes: passes.running as u64,
                    passes_waiting: passes.waiting as u64,
                    websockets: passes.websockets as u64,
                }
            })
            .collect()
    }

    /// A stale page was asked for: what its regeneration is doing. `key` is where
    /// the new one goes (see [`Fills::refresh`]).
    #[expect(clippy::too_many_arguments, reason = "all of them are of one request")]
    pub(crate) fn regenerate(
        &self,
        live: &Live,
        key: &PageKey,
        page: &Arc<Page>,
        rep: &Arc<Representation>,
        wanted: &Wanted,
        facts: &Facts,
        ask: impl FnOnce() -> Ask,
    ) -> StaleWhy {
        if facts.prefetch {
            return StaleWhy::Prefetch;
        }
        // A tab of the deployment before may still want it; nobody renders it any more.
        if live.deployments(&wanted.route).load().is_before(key.deployment()) {
            return StaleWhy::Superseded;
        }
        let shut = live.origin(&wanted.route).breaker_rejects(key.path());
        let ask = || background_ask(ask(), rep);
        self.fills.refresh(key, page, rep, &wanted.route.tags, wanted.page, shut, ask)
    }

    /// Moves the key of what belongs to the pages of one build without saying so
    /// (see [`Framework::is_of_build`]) to the deployment of the page that the client is on.
    ///
    /// While one deployment takes the place of another, pages of both are served: of the
    /// current one where it has the page, but for a page that nobody got yet and that
    /// another one has, too.
    ///
    /// [`Framework::is_of_build`]: crate::framework::Framework::is_of_build
    pub(crate) fn to_build_of_client(&self, live: &Live, request: &Request<'_>, key: &mut KeyBuf) {
        if !live.preset.is_of_build(key.path()) {
            return;
        }
        let state = live.deployments(live.routes.find(key.host(), key.path())).load();
        if state.others().next().is_none() {
            return;
        }
        let referer = request.lines("referer").next().and_then(|r| std::str::from_utf8(r).ok());
        let path = referer.and_then(|r| host::same_origin(request.scheme, key.host(), "/", r));
        let Some(path) = path else { return };
        let (page, route) = page_at(live, request, &path);
        // Whether a deployment has the page, and whether anybody got it.
        let document = |deployment: &str| {
            let page = self.store.get(page.in_deployment(deployment).as_str())?;
            let document = page.members.iter().find(|rep| rep.form == Form::Document)?;
            let dead = self.store.standing(&page, document, &route.tags) == Standing::Dead;
            (!dead).then(|| document.uses.any())
        };
        let current = document(state.current());
        if current == Some(true) {
            return;
        }
        let other = state.others().find(|other| document(other).is_some());
        let deployment = match other {
            Some(other) => other,
            None if current.is_some() => return,
            // Rendered for each visitor, by what answers now.
            None => state.newest(),
        };
        if !deployment.is_empty() {
            key.move_to(deployment);
        }
    }

    /// Chooses among what is stored of a page (see [`choose`]).
    pub(crate) fn choose(
        &self,
        live: &Live,
        wanted: &Wanted,
        page: Option<&Page>,
        request: &Request<'_>,
        facts: &Facts,
        now: Time,
    ) -> Choice {
        let tags = &wanted.route.tags;
        let standing = |page: &Page, rep: &Representation| self.store.standing(page, rep, tags);
        let choice = choose(page, wanted.form, request, facts, now, &judge(live, wanted), standing);
        if wanted.rendering.is_guarded() { choice.asked_first() } else { choice }
    }

    /// The answer from a stored representation.
    pub(crate) fn answer(
        &self,
        live: &Live,
        wanted: &Wanted,
        rep: Arc<Representation>,
        request: &Request<'_>,
        facts: &Facts,
        outcome: Outcome,
    ) -> Answer {
        let now = crate::clock::now();
        Answer::new(rep, &judge(live, wanted), request, facts, outcome, now)
    }

    /// A request is over: one line and the metrics.
    pub(crate) fn done(&self, live: &Live, route: Option<&Route>, line: &AccessLine<'_>) {
        let route = route.map_or(usize::MAX, |route| route.index);
        // An event stream took as long as its first byte took.
        let duration = line.first_byte.unwrap_or(line.total);
        live.metrics.request(route, line.outcome, line.status, duration);
        live.access.access(line);
    }
}

/// What judges the pages that a request wants.
fn judge<'a>(live: &'a Live, wanted: &'a Wanted) -> Judge<'a> {
    Judge { route: &wanted.route, page: wanted.page, preset: &live.preset }
}

impl Readiness for Engine {
    fn degraded(&self) -> Vec<String> {
        let mut all = Vec::new();
        for origin in self.origins() {
            if origin.breaker_open {
                let name = &origin.name;
                all.push(format!("origin {name}: it does not answer, the breaker is open"));
            }
            if origin.healthy == 0 {
                all.push(format!("origin {}: no server is healthy", origin.name));
            } else if origin.unhealthy > 0 {
                let (down, of) = (origin.unhealthy, origin.unhealthy + origin.healthy);
                all.push(format!("origin {}: {down} of {of} servers are down", origin.name));
            }
        }
        all.extend(self.reloaded.lock().as_ref().and_then(Last::degraded));
        all
    }

    fn draining(&self) -> bool {
        *self.draining.borrow()
    }
}
