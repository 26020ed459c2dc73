//! A request on its way through to the origin: which servers it was sent to, and
//! what its exchange tells of them.

use std::net::SocketAddr;

use http::StatusCode;
use http::header::UPGRADE;
use pingora::Error;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::Instant;

use crate::origin::{
    Attempt, Interims, Liveness, MAX_RELIEFS, Origin, Pass, Permit, ProbeSite, RequestBody, Stage,
    Target, connect_failure, lacks_descriptors,
};
use crate::rules::cache_status::Failure;
use crate::server::left;

/// What is known of the way to the origin.
pub(super) struct Passage {
    /// The server that was picked, and those that failed.
    target: Option<Target>,
    tried: Vec<SocketAddr>,
    /// How often there was no descriptor to connect with, and whether the last time was so.
    shortages: usize,
    is_short: bool,
    /// The breaker let it through and has not heard yet how it went.
    attempt: Option<Attempt>,
    /// How far the exchange came.
    stage: Stage,
    /// Of every server that was tried.
    interims: Interims,
    /// Its place among what is passed through to the origin.
    place: Option<Permit>,
}

/// Why there is no server to try.
pub(super) enum NoServer {
    /// None is to be had, or there are too many requests already.
    Failed(Failure),
    /// The visitor has left.
    Left(Box<Error>),
}

impl Passage {
    pub(super) fn new() -> Passage {
        Passage {
            target: None,
            tried: Vec::new(),
            shortages: 0,
            is_short: false,
            attempt: None,
            stage: Stage::Connect,
            interims: Interims::default(),
            place: None,
        }
    }

    /// The next server to try, for this request. Its place and the breaker's word
    /// it gets once, however many servers it tries.
    pub(super) async fn server(
        &mut self,
        session: &mut Session,
        origin: &Origin,
        head: &RequestHeader,
        site: &ProbeSite<'_>,
    ) -> Result<Box<HttpPeer>, NoServer> {
        if self.place.is_none() {
            let pass = if is_websocket(head) { Pass::WebSocket } else { Pass::Request };
            let place = tokio::select! {
                biased;
                place = origin.enter(pass) => place,
                gone = left(session) => return Err(NoServer::Left(gone.into_down())),
            };
            self.place = Some(place.map_err(NoServer::Failed)?);
        }
        if std::mem::take(&mut self.is_short) {
            tokio::select! {
                biased;
                () = origin.relief().ask() => {}
                gone = left(session) => return Err(NoServer::Left(gone.into_down())),
            }
        }
        self.try_server(origin, head, site).await.map_err(NoServer::Failed)
    }

    async fn try_server(
        &mut self,
        origin: &Origin,
        head: &RequestHeader,
        site: &ProbeSite<'_>,
    ) -> Result<Box<HttpPeer>, Failure> {
        if self.attempt.is_none() {
            self.attempt = Some(origin.admit(head.uri.path(), site)?);
        }
        self.stage = Stage::Connect;
        let deadline = Instant::now() + origin.config().connect_timeout;
        let target = origin.target(&self.tried, deadline).await?;
        let peer = target.peer(&head.method);
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

    /// Connecting failed: whether it is tried again, with another server or, where it was
    /// a descriptor that was missing, with the same. Nothing was sent.
    pub(super) fn not_connected(&mut self, origin: &Origin, error: &Error) -> bool {
        let target = self.target.take();
        if lacks_descriptors(error) && self.shortages < MAX_RELIEFS {
            self.shortages += 1;
            self.is_short = true;
            return true;
        }
        if let Some(target) = target {
            target.failed(connect_failure(error));
            self.tried.push(target.address());
        }
        self.tried.len() < origin.servers().len()
    }

    /// An interim response came.
    pub(super) const fn interim(&mut self) -> Result<(), &'static str> {
        self.interims.another()
    }

    /// The final head came, or the one that ends HTTP on this connection (101).
    pub(super) fn answered(
        &mut self,
        origin: &Origin,
        response: &ResponseHeader,
        body: RequestBody,
        site: &ProbeSite<'_>,
    ) {
        let status = response.status;
        self.stage = Stage::Body;
        if let Some(target) = &self.target {
            target.answered(&response.headers);
        }
        if status != StatusCode::SWITCHING_PROTOCOLS {
            // How long the rest takes is for the visitor to say.
            self.place = None;
        }
        if let Some(attempt) = self.attempt.take() {
            origin.record(attempt, Liveness::of_status(status, body), site);
        }
    }

    /// What the origin sent is no response.
    pub(super) fn malformed(&mut self) {
        self.stage = Stage::Malformed;
    }

    /// The origin failed it.
    pub(super) fn failed(
        &mut self,
        origin: &Origin,
        why: Failure,
        body: RequestBody,
        site: &ProbeSite<'_>,
    ) {
        if let Some(attempt) = self.attempt.take() {
            origin.record(attempt, Liveness::of_failure(why, self.stage, body), site);
        }
    }
}

/// Whether the connection is to become a WebSocket.
fn is_websocket(head: &RequestHeader) -> bool {
    let names =
        head.headers.get_all(UPGRADE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
    names.into_iter().any(|name| name.trim_ascii().eq_ignore_ascii_case(b"websocket"))
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
