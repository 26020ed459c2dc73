//! pingora's `ProxyHttp`, in phase order: each phase a few lines that call the
//! rooms. Requests that the front did not answer itself come through here.

mod invalidate;
mod page;
mod pass;
mod write;

pub(crate) use write::left;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use http::StatusCode;
use http::header::HOST;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use crate::answer::{cache_fields, failure};
use crate::engine::Engine;
use crate::live::Live;
use crate::log::AccessLine;
use crate::origin::connect_failure;
use crate::page::{KeyBuf, canonical_path};
use crate::plan::{Plan, plan};
use crate::request::{Facts, Request};
use crate::route::Route;
use crate::rules::cache_status::Failure;
use crate::rules::{Outcome, hop};
use crate::server::suit_http10;

use pass::{NoServer, Passage};

/// The proxy behind the front.
pub struct Proxy {
    engine: Arc<Engine>,
}

/// What is known of a request on its way.
pub struct Ctx {
    live: Arc<Live>,
    began: Instant,
    first_byte: Option<Instant>,
    route: Option<Arc<Route>>,
    outcome: Outcome,
    age: Option<u64>,
    /// Its way to the origin, where the cache has no part in it.
    passage: Passage,
    /// The head as the visitor sent it.
    head: Option<Box<RequestHeader>>,
}

impl Ctx {
    fn set(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Proxy {
    /// A proxy over the rooms of an edge.
    pub(crate) fn new(engine: Arc<Engine>) -> Proxy {
        Proxy { engine }
    }

    fn peer(session: &Session) -> IpAddr {
        session
            .client_addr()
            .and_then(|addr| addr.as_inet())
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), SocketAddr::ip)
    }
}

/// The fields of a pingora head as the cache reads them.
fn fields(head: &RequestHeader) -> Vec<httparse::Header<'_>> {
    head.headers
        .iter()
        .map(|(name, value)| httparse::Header { name: name.as_str(), value: value.as_bytes() })
        .collect()
}

/// Path and query as sent, in origin form.
fn target(head: &RequestHeader) -> &str {
    head.uri.path_and_query().map_or("/", |target| target.as_str())
}

/// The host that the request names.
fn host(head: &RequestHeader) -> &str {
    let authority = head.uri.authority().map(|a| a.as_str());
    authority.or_else(|| head.headers.get(HOST).and_then(|v| v.to_str().ok())).unwrap_or("")
}

/// A pingora head as the cache sees it.
fn request<'a>(
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

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx {
            live: self.engine.live(),
            began: Instant::now(),
            first_byte: None,
            route: None,
            outcome: Outcome::Own,
            age: None,
            passage: Passage::new(),
            head: None,
        }
    }

    /// None of pingora's: bodies are compressed once, when they are stored.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<bool> {
        let live = Arc::clone(&ctx.live);
        let limits = &live.config.limits;
        session.set_write_timeout(Some(limits.write_timeout));
        let head = Box::new(session.req_header().clone());
        let fields = fields(&head);
        let peer = Proxy::peer(session);
        let request = request(&live, &head, &fields, peer);
        let facts = Facts::of(&request);
        let mut key = KeyBuf::default();
        match plan(&live, self.engine.fills.notes(), &request, &facts, &mut key) {
            Plan::Webhook => {
                ctx.set(Outcome::Own);
                crate::revalidate::serve(&self.engine, &live, session, &request).await?;
                Ok(true)
            }
            Plan::Bypass(route, why) => {
                ctx.route = Some(route);
                ctx.set(Outcome::Bypass { why });
                drop(fields);
                ctx.head = Some(head);
                Ok(false)
            }
            Plan::Page(wanted) => {
                ctx.route = Some(Arc::clone(&wanted.route));
                let bypass =
                    page::serve(&self.engine, session, ctx, &request, &facts, key, wanted).await?;
                let Some((route, why)) = bypass else { return Ok(true) };
                ctx.route = Some(route);
                ctx.set(Outcome::Bypass { why });
                drop(fields);
                ctx.head = Some(head);
                Ok(false)
            }
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
    ) -> pingora::Result<Box<HttpPeer>> {
        let (Some(route), Some(head)) = (&ctx.route, &ctx.head) else {
            return Error::e_explain(ErrorType::InternalError, "a request without a route");
        };
        match ctx.passage.server(session, ctx.live.origin(route), head).await {
            Ok(peer) => Ok(peer),
            Err(NoServer::Left(gone)) => Err(gone),
            Err(NoServer::Failed(why)) => {
                ctx.set(Outcome::Failed { why });
                Error::e_explain(ErrorType::ConnectNoRoute, why.as_str())
            }
        }
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> pingora::Result<()> {
        let peer = Proxy::peer(session);
        let (Some(head), Some(route)) = (&ctx.head, &ctx.route) else { return Ok(()) };
        let host = host(head).to_owned();
        let chain = upstream
            .headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|v| v.to_str().ok())
            .chain([peer.to_string().as_str()])
            .collect::<Vec<_>>()
            .join(", ");
        upstream.insert_header("X-Forwarded-For", chain)?;
        let preset = &ctx.live.preset;
        let path = canonical_path(head.uri.path());
        let fields = fields(head);
        let form = preset.locate(&path, &request(&ctx.live, head, &fields, peer)).form;
        let stripped: Vec<_> = upstream
            .headers
            .keys()
            .filter(|name| preset.strips(name.as_str(), form))
            .cloned()
            .collect();
        for name in stripped {
            upstream.remove_header(&name);
        }
        upstream.insert_header("X-Forwarded-Host", host.as_str())?;
        upstream.insert_header("X-Forwarded-Proto", ctx.live.scheme(peer, &fields))?;
        upstream.append_header("Via", ctx.live.via.member())?;
        upstream.insert_header(HOST, ctx.live.origin(route).host_field(&host))?;
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> pingora::Result<()> {
        let ends = !response.status.is_informational()
            || response.status == StatusCode::SWITCHING_PROTOCOLS;
        if let (true, Some(route)) = (ends, &ctx.route) {
            let body = pass::request_body(session);
            ctx.passage.answered(ctx.live.origin(route), response.status, body);
        }
        if response.status.is_informational() {
            return Ok(());
        }
        ctx.first_byte = Some(Instant::now());
        write::keep_date(session, response.headers.get(http::header::DATE).map(|v| v.as_bytes()));
        let also = ctx.live.preset.cache_field();
        for name in ["x-cache"].into_iter().chain(also) {
            response.remove_header(name);
        }
        if let Some(route) = &ctx.route
            && !route.forward_tags
        {
            for name in hop::TAG_FIELDS {
                if *name != "cache-groups" {
                    response.remove_header(*name);
                }
            }
        }
        if let Some(route) = &ctx.route {
            let deployments = ctx.live.deployments(route);
            if let Some(deployment) = deployments.of(&response.headers, None) {
                deployments.seen(&deployment);
            }
        }
        self.invalidate_by_method(session, ctx, response);
        let mut result = Ok(());
        cache_fields(ctx.outcome, also, &mut |name, value| {
            let value = http::HeaderValue::from_bytes(value);
            if let (Ok(value), true) = (value, result.is_ok()) {
                result = response.append_header(name.to_owned(), value).map(|_| ());
            }
        });
        suit_http10(session, response);
        result
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        #[cfg(unix)] _fd: std::os::unix::io::RawFd,
        #[cfg(windows)] _sock: std::os::windows::io::RawSocket,
        _digest: Option<&pingora::protocols::Digest>,
        ctx: &mut Ctx,
    ) -> pingora::Result<()> {
        ctx.passage.connected();
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut e: Box<Error>,
    ) -> Box<Error> {
        let retry = match &ctx.route {
            Some(route) => ctx.passage.not_connected(ctx.live.origin(route), connect_failure(&e)),
            None => false,
        };
        e.set_retry(retry);
        e
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
        let why = match ctx.outcome {
            Outcome::Failed { why } => why,
            _ => failure_of(e),
        };
        if matches!(e.esource(), ErrorSource::Upstream)
            && let Some(route) = &ctx.route
        {
            let body = pass::request_body(session);
            ctx.passage.failed(ctx.live.origin(route), why, body);
        }
        let gone = matches!(e.esource(), ErrorSource::Downstream)
            && matches!(
                e.etype(),
                ErrorType::WriteError
                    | ErrorType::ReadError
                    | ErrorType::ConnectionClosed
                    | ErrorType::WriteTimedout
            );
        let written = session.response_written().is_some_and(|r| !r.status.is_informational());
        if gone || written {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        ctx.set(Outcome::Failed { why });
        // A broken connection has nobody to tell.
        let _ = write::failure(session, why).await;
        FailToProxy { error_code: failure::status(why), can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Ctx) {
        let head = ctx.head.as_deref().unwrap_or_else(|| session.req_header());
        let status = session.response_written().map_or(0, |r| r.status.as_u16());
        self.engine.done(
            &ctx.live,
            ctx.route.as_deref(),
            &AccessLine {
                method: head.method.as_str(),
                host: host(head),
                target: target(head),
                route: ctx.route.as_ref().map_or("", |r| &*r.label),
                status,
                outcome: ctx.outcome,
                age: ctx.age,
                bytes: session.body_bytes_sent() as u64,
                total: ctx.began.elapsed(),
                first_byte: ctx.first_byte.map(|at| at - ctx.began),
                origin: matches!(
                    ctx.outcome,
                    Outcome::Miss { .. } | Outcome::Revalidated { .. } | Outcome::Bypass { .. }
                )
                .then(|| ctx.first_byte.map(|at| at - ctx.began))
                .flatten(),
                peer: Some(Proxy::peer(session)),
                cut_off: e.is_some() && !matches!(ctx.outcome, Outcome::Failed { .. }),
            },
        );
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }
}

/// What a pingora error means for the visitor.
fn failure_of(e: &Error) -> Failure {
    if matches!(e.esource(), ErrorSource::Downstream) {
        return Failure::BadRequest;
    }
    match e.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Timeout,
        ErrorType::ConnectTimedout
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::TLSHandshakeFailure
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup
        | ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError
        | ErrorType::BindError
        | ErrorType::ConnectProxyFailure
        // A socket that could not even be made.
        | ErrorType::InternalError => connect_failure(e),
        _ => Failure::Reset,
    }
}
