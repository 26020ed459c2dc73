//! A request on its way through to the origin: which servers it was sent to, and
//! what its exchange tells of them.

use std::net::SocketAddr;

use http::StatusCode;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::Instant;

use crate::origin::{Attempt, Origin, RequestBody, Stage, Target, Verdict};
use crate::rules::cache_status::Failure;

/// What is known of the way to the origin.
pub(super) struct Passage {
    /// The server that was picked, and those that failed.
    target: Option<Target>,
    tried: Vec<SocketAddr>,
    /// The breaker let it through and has not heard yet how it went.
    attempt: Option<Attempt>,
    /// How far the exchange came.
    stage: Stage,
}

impl Passage {
    pub(super) const fn new() -> Passage {
        Passage { target: None, tried: Vec::new(), attempt: None, stage: Stage::Connect }
    }

    /// The next server to try, for a request to `path`.
    pub(super) async fn server(
        &mut self,
        origin: &Origin,
        path: &str,
    ) -> Result<Box<HttpPeer>, Failure> {
        // Once for a request, however many servers it tries.
        if self.attempt.is_none() {
            self.attempt = Some(origin.admit(path)?);
        }
        self.stage = Stage::Connect;
        let deadline = Instant::now() + origin.config().connect_timeout;
        let target = origin.target(&self.tried, deadline).await?;
        let peer = target.peer();
        self.target = Some(target);
        Ok(peer)
    }

    /// The server took the connection, or had taken it before.
    pub(super) fn connected(&mut self) {
        self.stage = Stage::Head;
        if let Some(target) = &self.target {
            target.connected();
        }
    }

    /// Connecting failed: whether another server may have it. Nothing was sent.
    pub(super) fn not_connected(&mut self, origin: &Origin, why: Failure) -> bool {
        if let Some(target) = self.target.take() {
            target.failed(why);
            self.tried.push(target.address());
        }
        self.tried.len() < origin.servers().len()
    }

    /// The final head came, or the one that ends HTTP on this connection (101).
    pub(super) fn answered(&mut self, origin: &Origin, status: StatusCode, body: RequestBody) {
        self.stage = Stage::Body;
        if let Some(attempt) = self.attempt.take() {
            origin.record(attempt, Verdict::of_status(status, body));
        }
    }

    /// The origin failed it.
    pub(super) fn failed(&mut self, origin: &Origin, why: Failure, body: RequestBody) {
        if let Some(attempt) = self.attempt.take() {
            origin.record(attempt, Verdict::of_failure(why, self.stage, body));
        }
    }
}

/// The body of the request, as far as the visitor has sent it.
pub(super) fn request_body(session: &mut Session) -> RequestBody {
    if session.is_body_empty() {
        RequestBody::None
    } else if session.is_body_done() {
        RequestBody::Whole
    } else {
        RequestBody::Unfinished
    }
}
