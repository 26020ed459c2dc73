//! What a reload replaces: the configuration with everything that is built from
//! it. A request takes one of these and keeps it to its end.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::deployment::Deployments;
use crate::framework::Preset;
use crate::log::AccessLog;
use crate::metrics::Metrics;
use crate::origin::{Origin, Origins};
use crate::route::{Route, Routes};
use crate::rules::request_fields::{Passing, Sender};
use crate::via::Via;

/// A configuration at work.
pub struct Live {
    /// As resolved.
    pub config: Config,
    /// The routes.
    pub routes: Routes,
    /// The origins.
    pub origins: Origins,
    /// The preset.
    pub preset: Preset,
    /// The deployments of the site behind each origin.
    pub deployments: Box<[Arc<Deployments>]>,
    /// The metrics, labelled with these routes and origins.
    pub metrics: Arc<Metrics>,
    /// The access log.
    pub access: AccessLog,
    /// What requests to origins are marked with. The same for as long as the edge runs.
    pub via: Via,
}

/// Where the webhook would be if it were on.
const WEBHOOK: &str = "/__revalidate";

impl Live {
    /// Whether a canonical path is the webhook's. Without a secret it is off,
    /// but its usual path is no page either: a hook that is called before the
    /// secret is configured must not reach, or be stored for, the renderer.
    #[must_use]
    pub fn is_webhook(&self, path: &str) -> bool {
        path == self.config.revalidate.as_ref().map_or(WEBHOOK, |hook| &hook.path)
    }

    /// The origin of a route.
    #[must_use]
    pub fn origin(&self, route: &Route) -> &Arc<Origin> {
        // The configuration was checked: a route's origin exists.
        self.origins.get(route.origin).expect("a route names an origin that there is")
    }

    /// The deployments of the site behind a route.
    #[must_use]
    pub fn deployments(&self, route: &Route) -> &Arc<Deployments> {
        // There are as many as origins.
        &self.deployments[route.origin]
    }

    /// Which of the fields of a request go on to the origin of its route.
    #[must_use]
    pub fn passing<'a>(&'a self, peer: IpAddr, route: &'a Route) -> Passing<'a> {
        let rules = &*self.config.request_fields;
        Passing {
            allow: &rules.allow,
            trust: &rules.trust,
            drop: &rules.drop,
            declared: &route.vary,
            sender: if self.trusts(peer) { Sender::TrustedProxy } else { Sender::Client },
        }
    }

    fn trusts(&self, peer: IpAddr) -> bool {
        self.config.trusted_proxies.iter().any(|net| net.contains(&peer))
    }

    /// How a client asked: by the connection, or as a trusted proxy says.
    #[must_use]
    pub fn scheme(&self, peer: IpAddr, fields: &[httparse::Header<'_>]) -> &'static str {
        if self.trusts(peer) {
            let proto = fields.iter().find(|f| f.name.eq_ignore_ascii_case("x-forwarded-proto"));
            if proto.is_some_and(|f| f.value.trim_ascii().eq_ignore_ascii_case(b"https")) {
                return "https";
            }
        }
        "http"
    }
}
