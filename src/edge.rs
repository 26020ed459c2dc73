//! An edge: the rooms put together, from a configuration to a running server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::admin::{Admin, Readiness};
use crate::config::Config;
use crate::engine::Engine;
use crate::errands;
use crate::front::Front;
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::reload::Reloaded;
use crate::server::{self, BindError, Listeners, Trigger};

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
    engine: Arc<Engine>,
    trigger: Trigger,
    served: Option<JoinHandle<Ended>>,
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
        let (engine, searches) = Engine::new(config);
        tokio::spawn(errands::fetch_assets(Arc::downgrade(&engine), searches));
        tokio::spawn(errands::look_for_builds(Arc::clone(&engine)));
        tokio::spawn(errands::find_framework(Arc::clone(&engine)));
        let (trigger, shutdown) = server::shutdown();
        let admin_addr = admin.as_ref().map(Admin::local_addr);
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        if let Some(admin) = admin {
            let metrics = Metrics::clone(&engine.live.load().metrics);
            let health = Arc::clone(&engine) as Arc<dyn Readiness>;
            tokio::spawn(admin.serve(metrics, health, async {
                // Dropped or told: either way it is over.
                let _ = end.await;
            }));
        }
        let conf = ServerConf::default();
        let mut proxy = http_proxy(&Arc::new(conf), Proxy::new(Arc::clone(&engine)));
        proxy.server_options = None;
        let front = Arc::new(Front { engine: Arc::clone(&engine), proxy: Arc::new(proxy) });
        let limits = Arc::clone(&engine.limits);
        // Origins are replaced at a reload, and where they ask stays the same.
        let relief = engine.live.load().origins.relief().clone();
        let served = {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                let patience = || engine.live.load().config.shutdown_timeout;
                let summary =
                    server::run(listeners, front, limits, relief, shutdown, patience).await;
                let cut_off = match summary {
                    Ok(summary) => summary.cut_off,
                    Err(error) => {
                        tracing::error!(%error, "the listeners could not be served");
                        0
                    }
                };
                // One bound for both: what connections took of it, fills have not.
                let took = engine.drained.get().map_or(Duration::ZERO, Instant::elapsed);
                let left = patience().saturating_sub(took);
                let idle = tokio::time::timeout(left, engine.fills.idle()).await;
                drop(ended);
                Ended { cut_off, fills_cut_off: idle.is_err() }
            })
        };
        Ok(Edge { addrs, admin: admin_addr, engine, trigger, served: Some(served) })
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

    /// Replaces the configuration between two requests, as far as a running edge
    /// can (see [`Config::succeed`]). `/readyz` and the metrics tell how it ended.
    pub fn reload(&self, config: Config) -> Reloaded {
        self.engine.reload(config)
    }

    /// Tells of a reload that was refused before there was a configuration.
    pub fn reload_refused(&self, why: String) {
        self.engine.reload_refused(why);
    }

    /// Whether the front answers plain requests itself. Off, everything takes the
    /// way through `HttpProxy`: for the test that holds the two against each other.
    #[doc(hidden)]
    pub fn answer_plain(&self, plain: bool) {
        self.engine.plain.store(plain, Ordering::Relaxed);
    }

    /// Begins a graceful stop: nothing new is accepted, what is in flight ends.
    pub fn shutdown(&self) {
        self.engine.drained.get_or_init(Instant::now);
        self.engine.draining.send_replace(true);
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
