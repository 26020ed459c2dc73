//! The origins: their servers, connections, health, and how much they can take.
//!
//! An [`Origin`] is a group of interchangeable servers. It is asked in two
//! ways: fills [`fetch`](Origin::fetch) over a pool of our own, and requests
//! that are passed through take a [`Target`] for pingora's proxy. Both see the
//! same servers and the same health. What counts against the
//! [limit](Origin::acquire) is for the caller to say; what counts for the
//! [breaker](Origin::admit) says [`Liveness`].
//!
//! pingora's connector is used as a library, on whatever tokio runtime calls
//! it; nothing here needs pingora's `Server` or its runtimes. Its pool is not
//! used (see `pool`). Nothing blocks:
//! names are resolved by tasks in the background, again and again.

mod backend;
mod breaker;
mod connect;
mod exchange;
mod fetch;
mod health;
mod keepalive;
mod limit;
mod liveness;
mod pool;
mod probe;
mod resolve;
mod servers;
mod task;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use tokio::time::Instant;

pub use backend::Target;
pub use connect::{MAX_RELIEFS, connect_failure, lacks_descriptors};
pub use exchange::{Exchange, FetchError, Interims};
pub use limit::{Permit, Priority};
pub use liveness::{Liveness, RequestBody, Stage};
pub use probe::{ProbeSite, Sample};
pub use resolve::{Resolve, System};
pub use servers::ServerHealth;

use breaker::{Breaker, Change, Checks, PageId};
use limit::Limit;
use pool::Connector;
use probe::{Kept, Samples};
use servers::Servers;
use task::Task;

use crate::config::{self, HostField};
use crate::relief::Relief;
use crate::rules::cache_status::Failure;

/// All origins, in the order of the configuration.
///
/// Dropping it stops the background tasks of the origins that nobody else holds.
#[derive(Debug)]
pub struct Origins {
    list: Vec<Arc<Origin>>,
    connector: Arc<Connector>,
    resolver: Arc<dyn Resolve>,
}

/// A group of servers that are interchangeable.
pub struct Origin {
    config: Arc<config::Origin>,
    servers: Arc<Servers>,
    limit: Limit,
    passes: Limit,
    websockets: Limit,
    breaker: Mutex<Breaker>,
    /// Whether the breaker is open: a hit on a stale page asks that, and takes no
    /// lock for it. Written under the lock.
    breaker_open: AtomicBool,
    /// What the breaker asks for before it opens, and while it is open.
    samples: Mutex<Samples>,
    /// For the task that asks.
    this: Weak<Origin>,
    _resolving: Vec<Task>,
}

/// The longest that a request which is passed through waits for its place: who
/// waits longer has left, or would rather be told.
pub const MAX_PASS_WAIT: Duration = Duration::from_secs(10);

/// What is passed through, and takes a place among its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// A request: until its answer begins.
    Request,
    /// A WebSocket: as long as it lasts. They have places of their own, or those
    /// who open them could keep everybody else away.
    WebSocket,
}

/// What is passed through to an origin now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passes {
    /// Requests that wait for their answer.
    pub running: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// WebSockets.
    pub websockets: usize,
}

/// A request that the breaker let through: [`Origin::record`] wants to know how
/// it went.
#[derive(Clone, Copy, Debug)]
pub struct Attempt(PageId);

/// Checks that the certificates with which origins are verified can be loaded,
/// so that a broken store is an error before any port is bound.
///
/// pingora loads them whenever a connector is made, and panics where it cannot.
///
/// # Errors
///
/// What is wrong with the platform's store, or with `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`.
pub fn check_certificates() -> Result<(), String> {
    let mut store = pingora::tls::RootCertStore::empty();
    pingora::tls::load_platform_certs_incl_env_into_store(&mut store).map_err(|error| {
        format!("cannot load the certificates that origins are verified with: {error}")
    })
}

impl Origins {
    /// The origins as configured, with the system's resolver. Starts their
    /// background tasks, so it must be called on a tokio runtime. Reads the
    /// platform's certificates from disk.
    ///
    /// # Panics
    ///
    /// In pingora, when those cannot be loaded: see [`check_certificates`].
    #[must_use]
    pub fn new(configs: &[config::Origin]) -> Self {
        Self::with_resolver(configs, Arc::new(System))
    }

    /// As [`new`](Self::new), with another resolver.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub fn with_resolver(configs: &[config::Origin], resolver: Arc<dyn Resolve>) -> Self {
        Self::build(configs, Connector::new(None), resolver)
    }

    fn build(
        configs: &[config::Origin],
        connector: Arc<Connector>,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        let list = configs.iter().map(|config| Origin::new(config, &connector, &resolver));
        Self { list: list.collect(), connector, resolver }
    }

    /// The origins of a new configuration. One whose configuration is the same
    /// is carried over with its health, limit and breaker. Connections are
    /// carried over in any case: they belong to addresses, not to origins.
    #[must_use]
    pub fn reload(&self, configs: &[config::Origin]) -> Self {
        let carry = |config: &config::Origin| {
            let same = self.list.iter().find(|origin| *origin.config == *config);
            same.map_or_else(|| Origin::new(config, &self.connector, &self.resolver), Arc::clone)
        };
        Self {
            list: configs.iter().map(carry).collect(),
            connector: self.connector.clone(),
            resolver: self.resolver.clone(),
        }
    }

    /// The origin at `index` of the configuration.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Arc<Origin>> {
        self.list.get(index)
    }

    /// Where they ask for descriptors when there are none to connect with: for who has
    /// some to spare.
    #[must_use]
    pub fn relief(&self) -> &Relief {
        self.connector.relief()
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Origin>> {
        self.list.iter()
    }
}

impl Origin {
    fn new(
        config: &config::Origin,
        connector: &Arc<Connector>,
        resolver: &Arc<dyn Resolve>,
    ) -> Arc<Self> {
        let config = Arc::new(config.clone());
        let servers = Servers::new(config.clone(), connector.clone());
        let names = (0..config.servers.len()).filter(|&index| servers.is_name(index));
        let resolving = names
            .map(|index| resolve::keep(&servers, index, resolver.clone(), config.resolve_interval))
            .collect();
        let deadline = probe::deadline(&config);
        Arc::new_cyclic(|this| Self {
            limit: Limit::new(config.max_concurrent_fills, config.max_waiting_fills),
            passes: Limit::new(config.max_concurrent_passes, config.max_waiting_passes),
            websockets: Limit::new(config.max_websockets, 0),
            breaker: Mutex::new(Breaker::new()),
            breaker_open: AtomicBool::new(false),
            samples: Mutex::new(Samples::new(deadline)),
            this: this.clone(),
            _resolving: resolving,
            servers,
            config,
        })
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &config::Origin {
        &self.config
    }

    /// The `Host` it is sent for a client who asked for `client_host`.
    #[must_use]
    pub fn host_field<'a>(&'a self, client_host: &'a str) -> &'a str {
        match &self.config.host {
            HostField::Preserve => client_host,
            HostField::Name(name) => name,
        }
    }

    /// The next server: round robin over the healthy ones, without those in
    /// `not` (which failed already for this request). When none is healthy an
    /// unhealthy one is tried all the same.
    ///
    /// # Errors
    ///
    /// [`Failure::Dns`] while no address is known, [`Failure::Unhealthy`] when
    /// all of them are in `not`.
    #[cfg(test)]
    pub(crate) fn pick(&self, not: &[SocketAddr]) -> Result<Target, Failure> {
        let backend = self.servers.pick(not, Instant::now())?;
        Ok(Target { backend, keepalive: self.config.keepalive })
    }

    /// As [`pick`](Self::pick), but just after the start waits until the names
    /// were asked for once: for pingora's `upstream_peer`.
    ///
    /// # Errors
    ///
    /// As [`pick`](Self::pick), and [`Failure::Timeout`] when `deadline` comes first.
    pub async fn target(&self, not: &[SocketAddr], deadline: Instant) -> Result<Target, Failure> {
        self.servers.target(not, deadline).await
    }

    /// Asks the origin: [`fetch_with`](Self::fetch_with), ignoring 1xx.
    ///
    /// # Errors
    ///
    /// See [`fetch_with`](Self::fetch_with).
    pub async fn fetch(
        &self,
        request: Box<RequestHeader>,
        deadline: Instant,
    ) -> Result<Exchange, FetchError> {
        self.fetch_with(request, deadline, &mut |_interim| {}).await
    }

    /// Sends `request`, a `GET`, to the next server and reads the final
    /// response head. 1xx responses are handed to `interim` as they arrive.
    /// The deadline goes on to hold for the body.
    ///
    /// When connecting fails another server is tried, at most three in all.
    /// When a connection from the pool turns out to be dead, one new
    /// connection to the same server is tried: `GET` is idempotent, so that
    /// is allowed however far the first one got (RFC 9110 §9.2.2), unless a
    /// 1xx was already handed on.
    ///
    /// Fields that would frame a request body or switch protocols are
    /// removed: a fill has none, and the next fill on the connection must not
    /// pay for what a client sent.
    ///
    /// # Errors
    ///
    /// [`Failure::Dns`] when no server's name resolves, [`Failure::Connect`]
    /// or [`Failure::Tls`] when connecting failed, [`Failure::Unavailable`] when
    /// we had no means to connect, [`Failure::Reset`] when the connection broke
    /// or what came was no HTTP, and [`Failure::Timeout`] when `connect_timeout`
    /// or the deadline passed.
    pub async fn fetch_with(
        &self,
        request: Box<RequestHeader>,
        deadline: Instant,
        interim: &mut (dyn FnMut(ResponseHeader) + Send),
    ) -> Result<Exchange, FetchError> {
        fetch::fetch(&self.servers, request, deadline, interim).await
    }

    /// Waits for a place among the fills that may run at once against this
    /// origin. Clients go ahead of background fills. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Failure::Busy`] when too many wait already, [`Failure::Timeout`] when
    /// `deadline` comes first.
    pub async fn acquire(&self, priority: Priority, deadline: Instant) -> Result<Permit, Failure> {
        self.limit.acquire(priority, deadline).await
    }

    /// Fills that hold a [`Permit`] now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.limit.running()
    }

    /// Fills that wait for a [`Permit`] now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.limit.waiting()
    }

    /// Waits for a place among the requests that are passed through to this origin.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Failure::Busy`] when too many wait already, or none became free within
    /// [`MAX_PASS_WAIT`].
    pub async fn enter(&self, pass: Pass) -> Result<Permit, Failure> {
        let limit = match pass {
            Pass::Request => &self.passes,
            Pass::WebSocket => &self.websockets,
        };
        let deadline = Instant::now() + MAX_PASS_WAIT;
        limit.acquire(Priority::Client, deadline).await.map_err(|_| Failure::Busy)
    }

    /// What is passed through now.
    #[must_use]
    pub fn passes(&self) -> Passes {
        Passes {
            running: self.passes.running(),
            waiting: self.passes.waiting(),
            websockets: self.websockets.running(),
        }
    }

    /// Whether the breaker lets a request for `target` (path, perhaps with a query)
    /// through now. Ask last, just before the request: while the breaker is open
    /// an `Ok` is the one of this second. Whoever gets an `Ok` should
    /// [`record`](Self::record) how it went. Must be called on a tokio runtime, as that:
    /// the breaker may ask the origin something, for the site that was asked.
    ///
    /// # Errors
    ///
    /// [`Failure::Breaker`] when it does not.
    pub fn admit(&self, target: &str, site: &ProbeSite<'_>) -> Result<Attempt, Failure> {
        let page = PageId::of(target);
        if !self.breaker_open() {
            return Ok(Attempt(page));
        }
        let checks = self.servers.checks();
        let turn = self.breaker.lock().admit(page, checks, Instant::now());
        if let Some(nth) = turn.probe {
            let pages = self.samples.lock().pick(site);
            self.try_one(&pages[nth % pages.len()]);
        }
        if turn.admitted { Ok(Attempt(page)) } else { Err(Failure::Breaker) }
    }

    /// Tells the breaker how a request went; none: nothing that would count.
    pub fn record(&self, attempt: Attempt, liveness: Option<Liveness>, site: &ProbeSite<'_>) {
        let Some(liveness) = liveness else { return };
        if liveness == Liveness::Served {
            self.samples.lock().know(site, Instant::now());
        }
        let checks = self.servers.checks();
        let changed = self.change(|breaker, now| breaker.record(attempt.0, liveness, checks, now));
        if changed == Change::Ask {
            let pages = self.samples.lock().pick(site);
            self.settle(pages);
        }
    }

    /// A fill was served this page, and anybody may have it: the breaker may ask for it
    /// again one day.
    pub fn served(&self, attempt: Attempt, sample: &Sample<'_>) {
        self.samples.lock().add(attempt.0, sample, Instant::now());
    }

    /// Tells the breaker how the probe went that it wanted.
    fn probed(&self, probe: Option<(PageId, Liveness)>) {
        let checks = self.servers.checks();
        self.change(|breaker, now| breaker.probed(probe, checks, now));
    }

    /// Asks for these pages, in the background, until one is answered, and tells the breaker.
    /// Ends when nobody has the origin any more.
    fn settle(&self, pages: Vec<Arc<Kept>>) {
        let mut report = Report { origin: self.this.clone(), found: None };
        tokio::spawn(async move {
            for (nth, kept) in pages.iter().enumerate() {
                let Some(origin) = report.origin.upgrade() else { return };
                if let Some(silent) = nth.checked_sub(1).map(|last| &pages[last]) {
                    // Not the last one, so it counts like any other request.
                    origin.record(Attempt(silent.page), Some(Liveness::Silent), &silent.site());
                }
                let liveness = origin.ask(kept).await;
                report.found = liveness.map(|liveness| (kept.page, liveness));
                match liveness {
                    Some(Liveness::Silent) => {}
                    Some(Liveness::Served | Liveness::Answered) => {
                        origin.samples.lock().forget(&pages[..nth]);
                        return;
                    }
                    Some(Liveness::Unreachable) | None => return,
                }
            }
        });
    }

    /// Asks for one page, in the background, while the breaker is open. That counts like any
    /// other request.
    fn try_one(&self, kept: &Arc<Kept>) {
        let (origin, kept) = (self.this.clone(), Arc::clone(kept));
        tokio::spawn(async move {
            let Some(origin) = origin.upgrade() else { return };
            let liveness = origin.ask(&kept).await;
            origin.record(Attempt(kept.page), liveness, &kept.site());
        });
    }

    /// Asks for a page. The body is not read.
    async fn ask(&self, kept: &Kept) -> Option<Liveness> {
        let request = kept.request(self.host_field(&kept.host)).ok()?;
        let deadline = Instant::now() + probe::deadline(&self.config);
        match self.fetch(request, deadline).await {
            Ok(exchange) => Liveness::of_status(exchange.head.status, RequestBody::None),
            Err(error) => {
                let server = error.server.map(|server| server.to_string());
                tracing::warn!(
                    origin = %self.config.name, server, detail = error.detail, "the probe failed"
                );
                Liveness::of_failure(error.failure, error.stage, RequestBody::None)
            }
        }
    }

    /// Whether the breaker has no turn for a request for `target` now: then
    /// [`admit`](Self::admit) would neither let it through nor ask anything in its
    /// place. Asking takes no turn.
    #[must_use]
    pub fn breaker_rejects(&self, target: &str) -> bool {
        if !self.breaker_open() {
            return false;
        }
        let checks = self.servers.checks();
        !self.breaker.lock().has_turn(PageId::of(target), checks, Instant::now())
    }

    /// Whether the breaker is open.
    #[must_use]
    pub fn breaker_open(&self) -> bool {
        let open = || self.breaker_open.load(Ordering::Acquire);
        if open() && self.servers.checks() == Checks::Pass {
            // The health checks decide, and they say that it answers.
            self.change(Breaker::close);
        }
        open()
    }

    /// Changes the breaker, and says so.
    fn change(&self, change: impl FnOnce(&mut Breaker, Instant) -> Change) -> Change {
        let mut breaker = self.breaker.lock();
        let changed = change(&mut breaker, Instant::now());
        self.breaker_open.store(breaker.is_open(), Ordering::Release);
        drop(breaker);
        let origin = &self.config.name;
        match changed {
            Change::None => {}
            Change::Ask => {
                tracing::info!(%origin, "many pages fail: asking for others");
            }
            Change::Refuted => {
                tracing::info!(%origin, "the origin answers: the breaker stays closed");
            }
            Change::Opened => {
                tracing::warn!(%origin, "breaker opened: the origin does not answer");
            }
            Change::Closed => tracing::info!(%origin, "breaker closed: the origin answers"),
        }
        changed
    }

    /// The addresses of its servers and their health, for `/readyz` and metrics.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerHealth> {
        self.servers.health(Instant::now())
    }

    /// Where a request that is passed through asks for descriptors when there are none
    /// to connect with, at most [`MAX_RELIEFS`] times.
    #[must_use]
    pub fn relief(&self) -> &Relief {
        self.connector().relief()
    }

    fn connector(&self) -> &Arc<Connector> {
        self.servers.connector()
    }
}

/// Tells the breaker, however the task ends: it waits for that.
struct Report {
    origin: Weak<Origin>,
    found: Option<(PageId, Liveness)>,
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(origin) = self.origin.upgrade() {
            origin.probed(self.found);
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("name", &self.config.name)
            .field("servers", &self.servers())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
