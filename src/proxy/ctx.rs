//! What the phases of a request share, and pingora's heads as the cache reads them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::pass::Passage;
use crate::engine::Engine;
use crate::live::Live;
use crate::origin::ProbeSite;
use crate::request::Request;
use crate::revalidate::Throttle;
use crate::rules::Outcome;
use crate::serve::{Conditions, Record};

/// The proxy behind the front.
pub struct Proxy {
    pub(super) engine: Arc<Engine>,
    pub(super) throttle: Throttle,
}

/// What is known of a request on its way.
pub struct Ctx {
    pub(super) record: Record,
    /// Its way to the origin, where the cache has no part in it.
    pub(super) passage: Passage,
    /// What the origin is asked.
    pub(super) asked: Conditions,
    /// The head as the visitor sent it.
    pub(super) head: Option<Box<RequestHeader>>,
    /// How the visitor asked: `http` or `https`.
    pub(super) scheme: &'static str,
    /// The beginning of an answer that may send its client to a page that it changed.
    pub(super) sends: Option<Vec<u8>>,
}

impl Ctx {
    pub(super) fn set(&mut self, outcome: Outcome) {
        self.record.outcome = outcome;
    }
}

impl Proxy {
    /// A proxy over the rooms of an edge.
    pub(crate) fn new(engine: Arc<Engine>) -> Proxy {
        Proxy { engine, throttle: Throttle::default() }
    }

    pub(super) fn peer(session: &Session) -> IpAddr {
        session
            .client_addr()
            .and_then(|addr| addr.as_inet())
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), SocketAddr::ip)
    }
}

/// The fields of a pingora head as the cache reads them.
pub(super) fn fields(head: &RequestHeader) -> Vec<httparse::Header<'_>> {
    head.headers
        .iter()
        .map(|(name, value)| httparse::Header { name: name.as_str(), value: value.as_bytes() })
        .collect()
}

/// Path and query as sent, in origin form.
pub(super) fn target(head: &RequestHeader) -> &str {
    head.uri.path_and_query().map_or("/", |target| target.as_str())
}

/// The host that the request names.
pub(super) fn host(head: &RequestHeader) -> &str {
    let authority = head.uri.authority().map(|a| a.as_str());
    authority.or_else(|| head.headers.get(HOST).and_then(|v| v.to_str().ok())).unwrap_or("")
}

/// The site that was asked.
pub(super) fn site<'a>(
    live: &'a Live,
    head: &'a RequestHeader,
    scheme: &'static str,
) -> ProbeSite<'a> {
    ProbeSite { host: host(head), scheme, via: &live.via }
}

/// A pingora head as the cache sees it.
pub(super) fn request<'a>(
    live: &Live,
    head: &'a RequestHeader,
    fields: &'a [httparse::Header<'a>],
    peer: IpAddr,
) -> Request<'a> {
    Request {
        method: head.method.as_str(),
        target: target(head),
        host: host(head),
        scheme: live.scheme(peer, fields),
        fields,
        peer,
    }
}
