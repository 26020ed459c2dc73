//! The keys of the top level, as they are written ([`Raw`]) and as the program runs with
//! them ([`Config`]).
//!
//! The doc comments of the keys, here and in the sections, *are* the reference:
//! `perennial schema` and `config/reference.yaml` are made from them, and the defaults
//! beside them are what a file goes by that does not say otherwise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use super::forms::{As, OneOrMany, Or, Short};
use super::origins::{Origin, Origins};
use super::routes::Route;
use super::sections::{Backoff, Cache, Limits, Log, RequestFields, Revalidate};
use super::site::{Deployment, DeploymentKeys, GatsbyKeys, NextjsKeys, Site};
use super::values::{Address, Count, Network, Off, Span};
use crate::framework::{Known, Name};

/// The configuration of Perennial. Strings may hold `${VAR}` and
/// `${VAR:-default}` from the environment; `$$` is one dollar sign. Durations
/// are written `10s`, `5m`, `30d`, sizes `512MiB`.
///
/// SIGHUP reads the file again between two requests. A file that is wrong changes
/// nothing, nor does one with another `framework`. What cannot change while the
/// process runs (it is said of those keys) stays as it was until the next start,
/// while the rest takes effect. The log, `/readyz` and the metrics
/// `perennial_config_last_reload_successful` and
/// `perennial_config_last_reload_timestamp_seconds` tell how it ended.
#[derive(Debug, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of a configuration")]
#[schemars(title = "Perennial", extend("required" = ["origins"]))]
pub(super) struct Raw {
    /// Where clients connect: an address and a port, or a list of them. Port 0
    /// picks a free one. Changes take effect at the next start.
    #[default(vec![([0, 0, 0, 0], 8080).into()])]
    #[serde(with = "As::<OneOrMany<Address>>")]
    pub(super) listen: Vec<SocketAddr>,
    /// Where health (`/healthz`, `/readyz`) and metrics (`/metrics`) are served,
    /// or `off`. Whoever reaches this address can read the names of your routes;
    /// keep it off the internet. Changes take effect at the next start.
    #[default(Some(([127, 0, 0, 1], 9900).into()))]
    #[serde(with = "As::<Or<Off, Address>>")]
    pub(super) admin: Option<SocketAddr>,
    /// Proxies in front of Perennial that are believed, by address or network: whether
    /// the client came by `https`, which is part of every page's key, is read from their
    /// `X-Forwarded-Proto`, and the fields that `request_fields.trust` names go on from
    /// them. What others send in these fields does not count. Default: none.
    #[serde(with = "As::<Vec<Network>>")]
    #[schemars(example = ["10.0.0.0/8"])]
    pub(super) trusted_proxies: Vec<IpNet>,
    /// Worker threads, 1 to 1024. Changes take effect at the next start. Default: one per core.
    #[serde(with = "As::<Option<Count<1, 1024>>>")]
    #[schemars(example = 2)]
    pub(super) threads: Option<usize>,
    /// The renderers behind Perennial, by name. The first one is where a route
    /// goes that names none. Either the URL of the one server, or its servers and
    /// options. Names show up in metrics and logs.
    #[serde(with = "As::<Origins>")]
    pub(super) origins: Vec<Origin>,
    /// The store of pages.
    pub(super) cache: Cache,
    /// Which preset maps URLs to pages and their data. A preset brings routes of its own, which
    /// come after those of this file: `perennial check` shows them. It decides what a stored
    /// page is, so a change needs a new start: a reload with another framework is refused, with
    /// everything else in the file. With `auto` the origin is asked for `/`, again while it
    /// does not answer, and the framework is recognised by its answer; what was stored until
    /// then is dropped. Name the framework if `/` is made with another one than the other
    /// pages.
    pub(super) framework: Name,
    /// What `framework: nextjs` knows of the site. Default: nothing.
    pub(super) nextjs: Option<NextjsKeys>,
    /// What `framework: gatsby` knows of the site. Default: nothing.
    pub(super) gatsby: Option<GatsbyKeys>,
    /// What `framework: sveltekit`, `react-router`, `nuxt` and `astro` know of the site.
    /// Default: nothing.
    pub(super) site: Option<Site>,
    /// The deployment, a release number or a commit, for example. It is part of every page's
    /// key, so that a new one does not mix with the one before. Either its name, or how it is
    /// noticed. Default: with a preset the build that rendered a page is noticed, otherwise
    /// none.
    #[serde(with = "As::<Option<Short<DeploymentKeys>>>")]
    pub(super) deployment: Option<DeploymentKeys>,
    /// Logging, to standard error; standard output is for the answers of commands,
    /// such as `perennial check`.
    pub(super) log: Log,
    /// The webhook by which a CMS renews pages on demand.
    pub(super) revalidate: Option<Revalidate>,
    /// Which request fields go on to the origins. Some fields say what only a proxy may
    /// say of the client: its host, path, method, scheme, address or user. These are
    /// `Forwarded`, `X-Forwarded-*`, `X-Original-*`, `X-Rewrite-*`, `X-Real-IP`,
    /// `X-Script-Name`, `X-HTTP-Method-Override`, `Surrogate-Capability` and the like, and
    /// every field whose name has other characters than letters, digits and hyphens.
    /// Origins render by them, so they are dropped on every route, unless the route
    /// declares them as `vary`. `X-Forwarded-Host` and `X-Forwarded-Proto` are sent anew,
    /// and, except on `isr` and `dsg`, `X-Forwarded-For`.
    pub(super) request_fields: RequestFields,
    /// Limits of the public listeners.
    pub(super) limits: Limits,
    /// How long to wait after a failed regeneration before the next one; the wait
    /// doubles with every further failure.
    pub(super) backoff: Backoff,
    /// How long requests and fills in flight may take to end once the process
    /// was told to stop. An idle one stops at once.
    #[default(Duration::from_secs(30))]
    #[serde(with = "As::<Span>")]
    pub(super) shutdown_timeout: Duration,
    /// What is done with which page: the first route that matches decides. What
    /// none matches is `ssr: {}` with the first origin. A route has exactly one
    /// of the modes `isr`, `dsg`, `ssr` and `pass`.
    pub(super) routes: Vec<Route>,
}

/// Everything, resolved and checked: no `Option` is left that means "default".
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect. Never empty. Port 0 picks a free one.
    pub listen: Vec<SocketAddr>,
    /// Where health and metrics are served; none: nowhere.
    pub admin: Option<SocketAddr>,
    /// Proxies whose `X-Forwarded-Proto`, and what [`RequestFields::trust`] names, is
    /// believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Worker threads.
    pub threads: usize,
    /// The origins. Never empty; the first one is the default.
    pub origins: Vec<Origin>,
    /// The store.
    pub cache: Cache,
    /// The preset that maps URLs to pages and their data.
    pub framework: Known,
    /// `framework: auto`; none: the file names it.
    pub auto: Option<Auto>,
    /// How the deployment that is part of every page key is known.
    pub deployment: Deployment,
    /// Logging.
    pub log: Log,
    /// The webhook; none: off.
    pub revalidate: Option<Revalidate>,
    /// The routes, first match wins. The last one matches everything.
    pub routes: Vec<Route>,
    /// Which request fields go on to origins.
    pub request_fields: Arc<RequestFields>,
    /// Limits of the front.
    pub limits: Limits,
    /// Waiting after failed regenerations.
    pub backoff: Backoff,
    /// How long requests and fills in flight may take to end after SIGTERM.
    pub shutdown_timeout: Duration,
    /// Pass everything through uncached.
    pub dev: bool,
}

/// `framework: auto`: the framework is told by what the origin prints. Until it is, it
/// counts as [`Known::Generic`].
#[derive(Clone, Debug)]
pub struct Auto {
    /// Whether it has been told which one it is, or that it is none that is known.
    pub told: bool,
    /// The routes of the file.
    pub routes: Vec<Route>,
    /// How the deployment is known if what is rendered does not tell the build.
    pub generic: Deployment,
    /// How it is known if it does.
    pub by_build: Deployment,
}
