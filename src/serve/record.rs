//! What is known of a request on its way, for its line in the log and the metrics.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::engine::Engine;
use crate::live::Live;
use crate::log::AccessLine;
use crate::route::Route;
use crate::rules::Outcome;
use crate::rules::cache_status::CLIENT_LEFT;

/// What is known of a request on its way, for its line in the log and the metrics.
pub(crate) struct Record {
    /// The configuration that it goes by.
    pub(crate) live: Arc<Live>,
    /// When it began.
    pub(crate) began: Instant,
    /// When the head of its response was written.
    pub(crate) first_byte: Option<Instant>,
    /// Its route.
    pub(crate) route: Option<Arc<Route>>,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// The `Age` that was sent.
    pub(crate) age: Option<u64>,
}

/// How a response ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// Its status, if one was written.
    pub(crate) status: Option<StatusCode>,
    /// Bytes of its body that were written.
    pub(crate) bytes: u64,
    /// Whether it broke off.
    pub(crate) broke_off: bool,
}

/// What a line of the access log says of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The method.
    pub(crate) method: &'a str,
    /// The host that the request names.
    pub(crate) host: &'a str,
    /// Path and query.
    pub(crate) target: &'a str,
    /// The client's address.
    pub(crate) peer: IpAddr,
}

impl Record {
    /// Of a request that begins now.
    pub(crate) fn new(live: Arc<Live>) -> Record {
        let began = Instant::now();
        Record { live, began, first_byte: None, route: None, outcome: Outcome::Own, age: None }
    }

    /// The head of its response goes out now.
    pub(super) fn answers(&mut self, outcome: Outcome) {
        self.outcome = outcome;
        self.first_byte = Some(Instant::now());
    }

    /// It is over.
    pub(crate) fn done(&self, engine: &Engine, asked: Asked<'_>, ended: Ended) {
        let since = |at: Instant| -> Duration { at - self.began };
        let first_byte = self.first_byte.map(since);
        let of_origin = matches!(
            self.outcome,
            Outcome::Miss { .. } | Outcome::Revalidated { .. } | Outcome::Bypass { .. }
        );
        let status = match self.outcome {
            Outcome::Left => CLIENT_LEFT,
            _ => ended.status.map_or(0, |status| status.as_u16()),
        };
        engine.done(
            &self.live,
            self.route.as_deref(),
            &AccessLine {
                method: asked.method,
                host: asked.host,
                target: asked.target,
                route: self.route.as_ref().map_or("", |route| &*route.label),
                status,
                outcome: self.outcome,
                age: self.age,
                bytes: ended.bytes,
                total: self.began.elapsed(),
                first_byte,
                origin: first_byte.filter(|_| of_origin),
                peer: Some(asked.peer),
                cut_off: ended.broke_off
                    && !matches!(self.outcome, Outcome::Failed { .. } | Outcome::Left),
            },
        );
    }
}
