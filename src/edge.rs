//! An edge: the rooms put together, from a configuration to a running server.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::{Admin, Health};
use crate::answer::head::Shape;
use crate::answer::{Answer, Choice, choose};
use crate::config::{self, Config};
use crate::fill::{Ask, Fills};
use crate::framework::Preset;
use crate::live::Live;
use crate::log::{AccessLine, AccessLog};
use crate::metrics::{Guard, MemoryState, Metrics, OriginState, Reload};
use crate::origin::Origins;
use crate::page::{Form, KeyBuf, Page, Representation};
use crate::plan::{Plan, Wanted, ask, background_ask, plan};
use crate::proxy::Proxy;
use crate::request::{Facts, Request};
use crate::revalidate::Strangers;
use crate::route::{Route, Routes};
use crate::rules::cache_status::{Failure, StaleWhy};
use crate::rules::{Outcome, date};
use crate::server::{self, BindError, Door, Listeners, Reply, Sent, Trigger, Withhold};
use crate::store::Store;

/// Why an edge cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A port for visitors cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The port for health and metrics cannot be had.
    #[error("cannot listen on {addr} for health and metrics: {source}")]
    BindAdmin {
        /// Where it was to listen.
        addr: SocketAddr,
        /// Why it cannot.
        source: io::Error,
    },
    /// The certificates with which origins are verified cannot be read.
    #[error("the certificates that https origins are verified with cannot be read: {0}")]
    Certificates(String),
}

/// How an edge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Connections that were cut off because time was up.
    pub cut_off: usize,
    /// Whether fills were still running when time was up.
    pub fills_cut_off: bool,
}

/// A running edge. It ends with [`Edge::shutdown`], or when it is dropped.
#[derive(Debug)]
pub struct Edge {
    addrs: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    core: Arc<Core>,
    trigger: Trigger,
    served: Option<JoinHandle<Ended>>,
}

/// What all requests share.
pub(crate) struct Core {
    pub(crate) store: Arc<Store>,
    pub(crate) fills: Fills,
    pub(crate) strangers: Strangers,
    live: ArcSwap<Live>,
    limits: Arc<ArcSwap<config::Limits>>,
    draining: watch::Sender<bool>,
    plain: AtomicBool,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("config", &self.live.load().config).finish_non_exhaustive()
    }
}

impl Edge {
    /// Starts an edge on the current tokio runtime. All ports are bound when
    /// this returns.
    ///
    /// # Errors
    /// A port is busy or not permitted, or certificates cannot be read.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: Config) -> Result<Edge, StartError> {
        crate::origin::check_certificates().map_err(StartError::Certificates)?;
        let listeners = Listeners::bind(&config.listen)?;
        let addrs = listeners.addrs();
        let admin = match config.admin {
            Some(addr) => {
                Some(Admin::bind(addr).map_err(|source| StartError::BindAdmin { addr, source })?)
            }
            None => None,
        };
        let patience = config.shutdown_timeout;
        let core = Core::new(config);
        let (trigger, shutdown) = server::shutdown();
        let admin_addr = admin.as_ref().map(Admin::local_addr);
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        if let Some(admin) = admin {
            let metrics = Metrics::clone(&core.live.load().metrics);
            let health = Arc::clone(&core) as Arc<dyn Health>;
            tokio::spawn(admin.serve(metrics, health, async {
                // Dropped or told: either way it is over.
                let _ = end.await;
            }));
        }
        let conf = ServerConf::default();
        let mut proxy = http_proxy(&Arc::new(conf), Proxy::new(Arc::clone(&core)));
        proxy.server_options = None;
        let front = Arc::new(Front { core: Arc::clone(&core), proxy: Arc::new(proxy) });
        let limits = Arc::clone(&core.limits);
        let served = {
            let core = Arc::clone(&core);
            tokio::spawn(async move {
                let summary = server::run(listeners, front, limits, shutdown, patience).await;
                let cut_off = match summary {
                    Ok(summary) => summary.cut_off,
                    Err(error) => {
                        tracing::error!(%error, "the listeners could not be served");
                        0
                    }
                };
                let patience = if cut_off > 0 { Duration::ZERO } else { patience };
                let idle = tokio::time::timeout(patience, core.fills.idle()).await;
                drop(ended);
                Ended { cut_off, fills_cut_off: idle.is_err() }
            })
        };
        Ok(Edge { addrs, admin: admin_addr, core, trigger, served: Some(served) })
    }

    /// Where visitors connect.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Where health and metrics are served.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Replaces the configuration between two requests: routes, origins, limits,
    /// log and secrets. What is bound at start stays as it is; the answer names
    /// the keys that need a restart to take effect.
    pub fn reload(&self, config: Config) -> Vec<&'static str> {
        self.core.reload(config)
    }

    /// Counts a reload that was refused because its file is bad.
    pub fn reload_refused(&self) {
        self.core.live.load().metrics.reload(Reload::Refused);
    }

    /// Whether the front answers plain requests itself. Off, everything takes the
    /// way through `HttpProxy`: for the test that holds the two against each other.
    #[doc(hidden)]
    pub fn answer_plain(&self, plain: bool) {
        self.core.plain.store(plain, Ordering::Relaxed);
    }

    /// Begins a graceful stop: nothing new is accepted, what is in flight ends.
    pub fn shutdown(&self) {
        self.core.draining.send_replace(true);
        self.trigger.drain();
    }

    /// Waits for the end, within the configured bound after [`Edge::shutdown`].
    pub async fn wait(&mut self) -> Ended {
        // Taken out only once it is done: a caller may drop this and wait again.
        let Some(served) = &mut self.served else {
            return Ended { cut_off: 0, fills_cut_off: false };
        };
        let ended = served.await.unwrap_or(Ended { cut_off: 0, fills_cut_off: true });
        self.served = None;
        ended
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn labels(config: &Config, routes: &Routes) -> (Vec<String>, Vec<String>) {
    let routes = routes.iter().map(|route| route.label.to_string()).collect();
    (routes, config.origins.iter().map(|origin| origin.name.clone()).collect())
}

impl Core {
    fn new(config: Config) -> Arc<Core> {
        let store = Arc::new(Store::new(&config.cache));
        let preset = Preset::new(config.framework);
        let routes = Routes::new(&config);
        let (route_labels, origin_labels) = labels(&config, &routes);
        let metrics = Arc::new(Metrics::new(&route_labels, &origin_labels));
        let core = Arc::new(Core {
            fills: Fills::new(Arc::clone(&store), preset, &config.cache),
            strangers: Strangers::default(),
            limits: Arc::new(ArcSwap::from_pointee(config.limits.clone())),
            draining: watch::Sender::new(false),
            plain: AtomicBool::new(true),
            live: ArcSwap::from_pointee(Live {
                routes,
                origins: Origins::new(&config.origins),
                preset,
                access: AccessLog::new(&config.log),
                metrics: Arc::clone(&metrics),
                config,
            }),
            store,
        });
        let weak = Arc::downgrade(&core);
        metrics
            .watch_memory(move || weak.upgrade().map_or_else(MemoryState::default, |c| c.memory()));
        let weak = Arc::downgrade(&core);
        metrics.watch_origins(move || weak.upgrade().map_or_else(Vec::new, |c| c.origins()));
        core
    }

    /// The configuration at work.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    fn reload(&self, config: Config) -> Vec<&'static str> {
        let old = self.live.load();
        let needs_restart: [(&'static str, bool); 5] = [
            ("listen", old.config.listen != config.listen),
            ("admin", old.config.admin != config.admin),
            ("threads", old.config.threads != config.threads),
            ("cache", old.config.cache != config.cache),
            ("framework", old.config.framework != config.framework),
        ];
        let routes = Routes::new(&config);
        let (route_labels, origin_labels) = labels(&config, &routes);
        let metrics = Arc::new(old.metrics.relabel(&route_labels, &origin_labels));
        metrics.reload(Reload::Applied);
        self.limits.store(Arc::new(config.limits.clone()));
        self.live.store(Arc::new(Live {
            routes,
            origins: old.origins.reload(&config.origins),
            preset: old.preset,
            access: AccessLog::new(&config.log),
            metrics,
            config,
        }));
        needs_restart.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
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
                let healthy = servers.iter().filter(|s| s.healthy).count();
                OriginState {
                    name: origin.config().name.clone(),
                    healthy: healthy as u64,
                    unhealthy: (servers.len() - healthy) as u64,
                    breaker_open: origin.breaker_open(),
                    running: origin.running() as u64,
                    waiting: origin.waiting() as u64,
                }
            })
            .collect()
    }

    /// A stale page was asked for: what its regeneration is doing.
    pub(crate) fn regenerate(
        &self,
        live: &Live,
        page: &Arc<Page>,
        rep: &Arc<Representation>,
        wanted: &Wanted,
        facts: &Facts,
        ask: impl FnOnce() -> Ask,
    ) -> StaleWhy {
        if facts.prefetch {
            return StaleWhy::Prefetch;
        }
        let open = live.origin(&wanted.route).breaker_open();
        self.fills.refresh(page, rep, open, || background_ask(ask(), rep))
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
        let route = &*wanted.route;
        let age = !(wanted.page && route.browser.is_some());
        // Stored under other options of its route: shaped again, until it is renewed.
        let head = (rep.head_stamp != route.stamp).then(|| {
            Shape {
                route,
                page: wanted.page,
                vary: live.preset.vary(),
                compressible: rep.bodies.len() > 1 || rep.compress.wanted(),
                received: &date::format(rep.generated),
            }
            .visitor(&rep.origin)
        });
        let answer = Answer::new(rep, request, facts, outcome, crate::clock::now(), age);
        match head {
            Some(head) => answer.with_head(head),
            None => answer,
        }
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

impl Health for Core {
    fn degraded(&self) -> Vec<String> {
        let mut all = Vec::new();
        for origin in self.origins() {
            if origin.breaker_open {
                all.push(format!("origin {}: breaker open, one probe a second", origin.name));
            }
            if origin.healthy == 0 {
                all.push(format!("origin {}: no server is healthy", origin.name));
            } else if origin.unhealthy > 0 {
                let (down, of) = (origin.unhealthy, origin.unhealthy + origin.healthy);
                all.push(format!("origin {}: {down} of {of} servers are down", origin.name));
            }
        }
        all
    }

    fn draining(&self) -> bool {
        *self.draining.borrow()
    }
}

/// What stands behind the front: the plain case, and the way to `HttpProxy`.
struct Front {
    core: Arc<Core>,
    proxy: Arc<HttpProxy<Proxy>>,
}

thread_local! {
    /// The key in the making: looking a page up allocates nothing.
    static KEY: RefCell<KeyBuf> = RefCell::default();
}

/// What is left to say of a plain request when its answer is written.
struct Token {
    live: Arc<Live>,
    route: usize,
    outcome: Outcome,
    status: u16,
    line: Option<Box<Line>>,
}

/// What the access line says, where there is one.
struct Line {
    method: &'static str,
    host: String,
    target: String,
    route: String,
    age: Option<u64>,
}

impl Door for Front {
    type Token = Token;
    type Open = Guard;

    fn opened(&self) -> Guard {
        self.core.live.load().metrics.connection()
    }

    fn plain(&self, request: &server::Request<'_>, reply: &mut Reply<'_>) -> Option<Token> {
        if !self.core.plain.load(Ordering::Relaxed) {
            return None;
        }
        KEY.with_borrow_mut(|key| self.answer(request, reply, key))
    }

    fn served(&self, token: Token, sent: Sent) {
        let Token { live, route, outcome, status, line } = token;
        live.metrics.request(route, outcome, status, sent.took);
        if let Some(line) = line {
            live.access.access(&AccessLine {
                method: line.method,
                host: &line.host,
                target: &line.target,
                route: &line.route,
                status,
                outcome,
                age: line.age,
                bytes: sent.body,
                total: sent.took,
                first_byte: None,
                origin: None,
                peer: Some(sent.peer.ip()),
                cut_off: sent.error.is_some(),
            });
        }
    }

    fn refused(&self, peer: SocketAddr, why: Failure, status: u16) {
        let live = self.core.live.load();
        self.core.done(
            &live,
            None,
            &AccessLine {
                method: "-",
                host: "",
                target: "-",
                route: "",
                status,
                outcome: Outcome::Failed { why },
                age: None,
                bytes: 0,
                total: Duration::ZERO,
                first_byte: None,
                origin: None,
                peer: Some(peer.ip()),
                cut_off: false,
            },
        );
    }

    async fn long_way(&self, stream: Withhold) -> Option<Withhold> {
        server::through(&self.proxy, stream).await
    }
}

impl Front {
    fn answer(
        &self,
        request: &server::Request<'_>,
        reply: &mut Reply<'_>,
        key: &mut KeyBuf,
    ) -> Option<Token> {
        let core = &*self.core;
        let live = core.live.load();
        let peer: IpAddr = request.peer.ip();
        let view = Request {
            method: request.method,
            target: request.target,
            host: request.host,
            scheme: live.scheme(peer, request.fields),
            fields: request.fields,
            peer,
        };
        let facts = Facts::of(&view);
        let Plan::Page(mut wanted) = plan(&live, core.fills.notes(), &view, &facts, key) else {
            return None;
        };
        let page = core.store.get(key.as_str())?;
        if wanted.form != Form::Document
            && core.fills.lacks_data(&page.key, wanted.form, Some(&page))
        {
            wanted.form = Form::Document;
        }
        let now = crate::clock::now();
        let standing = |page: &Page, rep: &Representation| core.store.standing(page, rep);
        let Choice::Serve { rep, ttl, stale } =
            choose(Some(&page), wanted.form, &view, &facts, now, standing)
        else {
            return None;
        };
        if rep.compress.wanted() {
            core.fills.compress(&live.metrics, &page.key, &rep);
        }
        let outcome = if stale {
            let why = core.regenerate(&live, &page, &rep, &wanted, &facts, || {
                ask(&live, &view, &facts, key, &wanted)
            });
            Outcome::Stale { ttl, why }
        } else {
            Outcome::Hit { ttl }
        };
        let answer = core.answer(&live, &wanted, rep, &view, &facts, outcome);
        answer.write_head(reply.head);
        answer.each_body(&mut |part| reply.body.push(part));
        let status = answer.status().as_u16();
        let line = live.access.wants(status, false).then(|| {
            Box::new(Line {
                method: if request.method == "HEAD" { "HEAD" } else { "GET" },
                host: request.host.to_owned(),
                target: request.target.to_owned(),
                route: wanted.route.label.to_string(),
                age: answer.age(),
            })
        });
        Some(Token { live: Arc::clone(&live), route: wanted.route.index, outcome, status, line })
    }
}
