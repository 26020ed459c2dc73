//! pingora's `ProxyHttp`, in phase order: each phase a few lines that call the
//! rooms. Requests that the front did not answer itself come through here.

mod ctx;
mod fate;
mod hops;
mod invalidate;
mod pass;
mod tunnel;
mod webhook;
mod write;

#[cfg(test)]
pub(crate) use tunnel::may_open;

pub use ctx::{Ctx, Proxy};

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::MAX_FORWARDS;
use http::{StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use self::ctx::{fields, host, request, site, target};
use self::fate::{Answer, Body, Fate, fate};
use self::hops::{Hops, set_upgrade, upgrades};
use crate::answer::{cache_fields, failure};
use crate::origin::connect_failure;
use crate::page::KeyBuf;
use crate::plan::{Plan, plan};
use crate::request::Facts;
use crate::rules::cache_status::{Bypass, Failure};
use crate::rules::{Outcome, date};
use crate::serve::{
    self, Asked, Client, Conditions, Ended, Record, passing_shape, request_head, response_head,
};
use crate::server::{stream_of, suit_http10};

use pass::{NoServer, Passage};

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx {
            record: Record::new(self.engine.live()),
            passage: Passage::new(),
            asked: Conditions::default(),
            head: None,
            scheme: "http",
            sends: None,
        }
    }

    /// None of pingora's: bodies are compressed once, when they are stored.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<bool> {
        let live = Arc::clone(&ctx.record.live);
        let limits = &live.config.limits;
        session.set_write_timeout(Some(limits.write_timeout));
        let head = Box::new(session.req_header().clone());
        let fields = fields(&head);
        let peer = Proxy::peer(session);
        let request = request(&live, &head, &fields, peer);
        ctx.scheme = request.scheme;
        let mut facts = Facts::of(&request);
        // RFC 9110 §7.8: HTTP/1.0 has no such field.
        facts.websocket &= head.version == Version::HTTP_11;
        if facts.via && live.via.is_in(&request) {
            ctx.set(Outcome::Failed { why: Failure::Loop });
            session.failure(Failure::Loop).await?;
            return Ok(true);
        }
        match Hops::of(&request) {
            Hops::Any => {}
            Hops::Left(hops) => session.req_header_mut().insert_header(MAX_FORWARDS, hops)?,
            Hops::None => {
                ctx.set(Outcome::Hop);
                write::options(session).await?;
                return Ok(true);
            }
        }
        // Given back where the connection may go on as something else.
        set_upgrade(session.req_header_mut(), false)?;
        let mut key = KeyBuf::default();
        let (route, why) = match plan(&live, self.engine.fills.notes(), &request, &facts, &mut key)
        {
            Plan::Webhook => {
                ctx.set(Outcome::Own);
                webhook::serve(self, &live, session, &request).await?;
                return Ok(true);
            }
            Plan::Bypass(route, why) => (route, why),
            Plan::Page(wanted) => {
                self.engine.to_build_of_client(&live, &request, &mut key);
                let bypass = serve::page(
                    &self.engine,
                    session,
                    &mut ctx.record,
                    (&request, &facts),
                    key,
                    wanted,
                )
                .await?;
                let Some(bypass) = bypass else { return Ok(true) };
                bypass
            }
        };
        set_upgrade(session.req_header_mut(), upgrades(&facts, why))?;
        ctx.record.route = Some(route);
        ctx.set(Outcome::Bypass { why });
        drop(fields);
        ctx.head = Some(head);
        Ok(false)
    }

    /// A body that is read to its end leaves a client that is half-closed one that waits.
    async fn request_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        _ctx: &mut Ctx,
    ) -> pingora::Result<()> {
        if end_of_stream && let Some(stream) = stream_of(session) {
            stream.body_is_read();
        }
        Ok(())
    }

    /// What an action changed is invalidated before its client hears of it.
    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> pingora::Result<Option<Duration>> {
        self.invalidate_by_body(session, ctx, body.as_deref(), end_of_stream);
        Ok(None)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
    ) -> pingora::Result<Box<HttpPeer>> {
        let (Some(route), Some(head)) = (&ctx.record.route, &ctx.head) else {
            return Error::e_explain(ErrorType::InternalError, "a request without a route");
        };
        let origin = ctx.record.live.origin(route);
        let site = site(&ctx.record.live, head, ctx.scheme);
        match ctx.passage.server(session, origin, head, &site).await {
            Ok(mut peer) => {
                if session.is_upgrade_req() {
                    tunnel::may_open(&mut peer, origin.config().connect_timeout);
                }
                Ok(peer)
            }
            Err(NoServer::Left(gone)) => Err(gone),
            Err(NoServer::Failed(why)) => {
                ctx.set(Outcome::Failed { why });
                Error::e_explain(ErrorType::ConnectNoRoute, <&str>::from(why))
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
        let (Some(head), Some(route)) = (&ctx.head, &ctx.record.route) else { return Ok(()) };
        let fields = fields(head);
        request_head(
            upstream,
            &request(&ctx.record.live, head, &fields, peer),
            &ctx.record.live,
            route,
        )?;
        ctx.asked = Conditions::by(upstream);
        Ok(())
    }

    /// Before pingora looks at it: what it finds decides how the body is framed.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> pingora::Result<()> {
        let (Some(head), Some(route)) = (&ctx.head, &ctx.record.route) else { return Ok(()) };
        let switched = response.status == StatusCode::SWITCHING_PROTOCOLS;
        let mut expected = Ok(());
        if switched || !response.status.is_informational() {
            // As it came: what it says of its connection counts here.
            let body = pass::request_body(session);
            let site = site(&ctx.record.live, head, ctx.scheme);
            ctx.passage.answered(ctx.record.live.origin(route), response, body, &site);
        } else {
            expected = ctx.passage.interim();
        }
        let received = date::format(crate::clock::now());
        let why = match ctx.record.outcome {
            Outcome::Bypass { why } => why,
            _ => Bypass::Pass,
        };
        let shape = passing_shape(&ctx.record.live, route, why, response.status, &received);
        let passed = expected.and_then(|()| response_head(response, ctx.asked, &shape));
        passed.map_err(|why| {
            let origin = &ctx.record.live.origin(route).config().name;
            tracing::warn!(%origin, why, "the origin's response cannot be passed on");
            let mut error = Error::explain(ErrorType::InvalidHTTPHeader, why);
            error.as_up();
            error
        })
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> pingora::Result<()> {
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            ctx.record.first_byte = Some(Instant::now());
        }
        if response.status.is_informational() {
            return Ok(());
        }
        ctx.record.first_byte = Some(Instant::now());
        write::keep_date(session, response.headers.get(http::header::DATE).map(|v| v.as_bytes()));
        let also = ctx.record.live.preset.cache_field();
        if let Some(route) = &ctx.record.route {
            let deployments = ctx.record.live.deployments(route);
            if let Some(deployment) = deployments.learn_from(&response.headers, None) {
                deployments.seen(&deployment);
            }
        }
        self.invalidate_by_method(session, ctx, response);
        ctx.sends = invalidate::may_send(ctx, response).then(Vec::new);
        self.renew_what_changed(session, ctx, response).await;
        suit_http10(session, response);
        let mut result = Ok(());
        cache_fields(ctx.record.outcome, also, &mut |name, value| {
            let value = http::HeaderValue::from_bytes(value);
            if let (Ok(value), true) = (value, result.is_ok()) {
                result = response.append_header(name.to_owned(), value).map(|_| ());
            }
        });
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
        let retry = match &ctx.record.route {
            Some(route) => ctx.passage.not_connected(ctx.record.live.origin(route), &e),
            None => false,
        };
        e.set_retry(retry);
        e
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
        let fate = fate_of(session, e, ctx);
        let tunnel = session.was_upgraded();
        if let (ErrorSource::Upstream, Fate::Failed(why)) = (e.esource(), fate)
            && !tunnel
            && why != Failure::BodyTimeout
            && let (Some(head), Some(route)) = (&ctx.head, &ctx.record.route)
        {
            if *e.etype() == ErrorType::InvalidHTTPHeader {
                ctx.passage.malformed();
            }
            let body = pass::request_body(session);
            let site = site(&ctx.record.live, head, ctx.scheme);
            ctx.passage.failed(ctx.record.live.origin(route), why, body, &site);
        }
        let why = match fate {
            Fate::CutOff => return FailToProxy { error_code: 0, can_reuse_downstream: false },
            Fate::Left => {
                ctx.set(Outcome::Left);
                return FailToProxy { error_code: 0, can_reuse_downstream: false };
            }
            Fate::Failed(why) => why,
        };
        ctx.set(Outcome::Failed { why });
        // A broken connection has nobody to tell.
        let told = session.failure(why).await.is_ok();
        if told && let Some(stream) = stream_of(session) {
            stream.response_is_whole();
        }
        FailToProxy { error_code: failure::status(why), can_reuse_downstream: told }
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Ctx) {
        let head = ctx.head.as_deref().unwrap_or_else(|| session.req_header());
        let asked = Asked {
            method: head.method.as_str(),
            host: host(head),
            target: target(head),
            peer: Proxy::peer(session),
        };
        let ended = Ended {
            status: session.response_written().map(|response| response.status),
            bytes: session.body_bytes_sent() as u64,
            // A tunnel has no other end.
            broke_off: e.is_some() && !session.was_upgraded(),
        };
        ctx.record.done(&self.engine, asked, ended);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }
}

/// What becomes of a request with this error.
fn fate_of(session: &mut Session, e: &Error, ctx: &Ctx) -> Fate {
    let begun = session.was_upgraded()
        || session.response_written().is_some_and(|r| !r.status.is_informational());
    let answer = if begun { Answer::Begun } else { Answer::None };
    let body = if session.is_body_done() {
        Body::Whole
    } else if write::waits_to_be_invited(session) {
        Body::Uninvited
    } else {
        Body::Unfinished
    };
    let known = match ctx.record.outcome {
        Outcome::Failed { why } => Some(why),
        // What this machine has run out of is nobody's failure but its own.
        _ => Some(connect_failure(e)).filter(|why| *why == Failure::Unavailable),
    };
    fate((e.esource(), e.etype()), answer, body, known)
}
