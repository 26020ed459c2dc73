//! One request and its response over one connection, whole or an error.
//!
//! pingora's HTTP/1 codec does the work. What is added here are deadlines over the whole
//! exchange, and that a body which breaks off never looks complete.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{BError, ErrorType};
use tokio::time::{Instant, timeout_at};

use super::backend::Target;
use super::connect::is_local;
use super::keepalive;
use super::liveness::Stage;
use super::pool::Connector;
use crate::clock;
use crate::rules::cache_status::Failure;
use crate::rules::{Time, framing};

/// 1xx responses before the final one; more are no HTTP but an attack or a loop.
const MAX_INTERIM: usize = 16;

/// Counts the interim responses to one request.
#[derive(Debug, Default)]
pub struct Interims(usize);

impl Interims {
    /// One more, with any status below 200 but 101.
    ///
    /// # Errors
    /// It is one too many: the exchange is to end as one with a malformed head does.
    pub const fn another(&mut self) -> Result<(), &'static str> {
        self.0 += 1;
        if self.0 > MAX_INTERIM { Err("too many interim responses") } else { Ok(()) }
    }
}

/// Bytes of an error's detail that are kept for the log.
const MAX_DETAIL: usize = 200;

/// Why a fetch failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{failure}: {detail}")]
pub struct FetchError {
    /// What clients, metrics and `Cache-Status` are told.
    pub failure: Failure,
    /// How far the exchange had come.
    pub stage: Stage,
    /// The server that was asked last, if any was.
    pub server: Option<SocketAddr>,
    /// For the log: what happened, in pingora's or the system's words.
    pub detail: String,
}

/// A response whose head has arrived and whose body is being read.
///
/// Dropping it closes the connection; [`finish`](Self::finish) keeps it.
pub struct Exchange {
    /// The final head, field names in the case they came in. A
    /// `Content-Length` next to a `Transfer-Encoding` is gone (RFC 9112 §6.3).
    pub head: ResponseHeader,
    /// Who answered.
    pub server: SocketAddr,
    /// When the request was sent (`request_time`, RFC 9111 §4.2.3).
    pub request_time: Time,
    /// When the head had arrived (`response_time`, RFC 9111 §4.2.3).
    pub response_time: Time,
    /// Boxed: it is large, and an exchange is handed on from future to future.
    session: Box<HttpSession>,
    target: Target,
    connector: Arc<Connector>,
    body: Body,
    deadline: Option<Instant>,
    idle: Option<Duration>,
    /// How long the connection may be kept; none: not at all.
    keep: Option<Duration>,
}

#[derive(Debug)]
enum Body {
    Reading,
    Complete,
    Broken(FetchError),
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("status", &self.head.status)
            .field("server", &self.server)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl Exchange {
    /// The next piece of the body, never empty; none: it is complete.
    ///
    /// Complete means that `Content-Length` bytes were read, that the last
    /// chunk was, or, where there is neither, that the server closed the
    /// connection in an orderly way (RFC 9112 §6.3), or that the status has no
    /// content: then nothing is read. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`Failure::Reset`] when the body broke off or is no HTTP,
    /// [`Failure::Timeout`] when the deadline or the idle timeout came first.
    /// Once it failed it fails for ever.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        match &self.body {
            Body::Reading => {}
            Body::Complete => return Ok(None),
            Body::Broken(error) => return Err(error.clone()),
        }
        let idle = self.idle.map(|idle| Instant::now() + idle);
        let until = match (self.deadline, idle) {
            (Some(deadline), Some(idle)) => Some(deadline.min(idle)),
            (until, None) | (None, until) => until,
        };
        let read = async {
            loop {
                match self.session.read_body_bytes().await {
                    // Nothing but framing was read.
                    Ok(Some(piece)) if piece.is_empty() => {}
                    other => return other,
                }
            }
        };
        let read = match until {
            Some(until) => timeout_at(until, read).await,
            None => Ok(read.await),
        };
        let (failure, detail) = match read {
            Ok(Ok(Some(piece))) => return Ok(Some(piece)),
            Ok(Ok(None)) => {
                self.body = Body::Complete;
                return Ok(None);
            }
            Ok(Err(error)) => (Failure::Reset, detail(&error)),
            Err(_elapsed) => (Failure::Timeout, "while reading the body".to_owned()),
        };
        let server = Some(self.server);
        let error = FetchError { failure, stage: Stage::Body, server, detail };
        self.body = Body::Broken(error.clone());
        Err(error)
    }

    /// Until when the body has to be complete; none: however long it takes.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// How long the body may stay silent between two reads.
    pub fn set_idle(&mut self, idle: Duration) {
        self.idle = Some(idle);
    }

    /// Gives the connection back to the pool if the body was read to its end
    /// and the server keeps it open; closes it otherwise.
    pub async fn finish(self) {
        let Self { session, connector, target, body: Body::Complete, keep: Some(keep), .. } = self
        else {
            return;
        };
        let mut session = session;
        session.respect_keepalive();
        // Where it is not kept, dropping closes it; `reuse` would wait for TLS to say goodbye.
        if session.will_keepalive()
            && let Some(stream) = session.reuse().await
        {
            connector.release(target.http_peer(), stream, keep);
        }
    }
}

/// Sends the request and reads the final head.
pub(super) async fn exchange(
    connector: &Arc<Connector>,
    target: &Target,
    mut session: Box<HttpSession>,
    request: Box<RequestHeader>,
    deadline: Instant,
    interim: &mut (dyn FnMut(ResponseHeader) + Send),
) -> Result<Exchange, FetchError> {
    let fail = |failure, stage, detail| FetchError {
        failure,
        stage,
        server: Some(target.address()),
        detail,
    };
    let request_time = clock::now();
    let head = match timeout_at(deadline, head(&mut session, request, interim)).await {
        Ok(Ok(head)) => head,
        Ok(Err(NoHead { stage, detail })) => return Err(fail(Failure::Reset, stage, detail)),
        Err(_elapsed) => {
            let detail = "while waiting for the response".to_owned();
            return Err(fail(Failure::Timeout, Stage::Head, detail));
        }
    };
    // Also over a connection from the pool: whoever answers is up.
    target.connected();
    target.answered(&head.headers);
    let body = if framing::has_no_content(head.status) { Body::Complete } else { Body::Reading };
    Ok(Exchange {
        keep: keep(&session, &head, target.keepalive),
        head,
        server: target.address(),
        request_time,
        response_time: clock::now(),
        session,
        target: target.clone(),
        connector: connector.clone(),
        body,
        deadline: Some(deadline),
        idle: None,
    })
}

/// Why there is no final head.
struct NoHead {
    /// Whether nothing came, or something that is no head.
    stage: Stage,
    detail: String,
}

impl NoHead {
    /// An error of the connection.
    fn broken(error: &BError) -> NoHead {
        NoHead { stage: Stage::Head, detail: detail(error) }
    }

    /// What came is no head that can be used.
    fn malformed(why: impl Into<String>) -> NoHead {
        NoHead { stage: Stage::Malformed, detail: why.into() }
    }

    /// An error of reading a head.
    fn reading(error: &BError) -> NoHead {
        match error.etype() {
            ErrorType::InvalidHTTPHeader => NoHead::malformed(detail(error)),
            _ => NoHead::broken(error),
        }
    }
}

/// Writes the request and reads heads until the final one.
async fn head(
    session: &mut HttpSession,
    request: Box<RequestHeader>,
    interim: &mut (dyn FnMut(ResponseHeader) + Send),
) -> Result<ResponseHeader, NoHead> {
    session.write_request_header(request).await.map_err(|error| NoHead::broken(&error))?;
    let mut interims = Interims::default();
    loop {
        session.read_response().await.map_err(|error| NoHead::reading(&error))?;
        let head = session.resp_header().ok_or_else(|| NoHead::malformed("no response head"))?;
        match head.status.as_u16() {
            101 => {
                let why = "101 without having been asked to switch protocols";
                return Err(NoHead::malformed(why));
            }
            100..200 => {
                interims.another().map_err(NoHead::malformed)?;
                interim(head.clone());
            }
            _ => {
                framing::length(head.status, &head.headers).map_err(NoHead::malformed)?;
                return Ok(head.clone());
            }
        }
    }
}

/// How long the connection of this response may stay in the pool: as long as is
/// configured, or less where the server says that it closes earlier (see
/// `keepalive`). Not at all where a `Content-Length` came next to
/// `Transfer-Encoding`, which "ought to be handled as an error" (RFC 9112 §6.3), or
/// where a status without content came with the framing of some: it might come, too.
/// Of a 205 only `Content-Length: 0` says for sure that it does not.
fn keep(session: &HttpSession, head: &ResponseHeader, configured: Duration) -> Option<Duration> {
    if head.headers.contains_key(TRANSFER_ENCODING) && raw_has_length(session) {
        return None;
    }
    let framed = head.headers.contains_key(TRANSFER_ENCODING)
        || (head.status == 204
            && head.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0"));
    if matches!(head.status.as_u16(), 204 | 304) && framed {
        return None;
    }
    let empty = head.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
    if head.status == 205 && (framed || !empty) {
        return None;
    }
    keepalive::keep(keepalive::timeout(&head.headers), configured)
}

/// Whether the head as it came had a `Content-Length`: pingora has removed it.
fn raw_has_length(session: &HttpSession) -> bool {
    let raw = session.get_headers_raw_bytes();
    raw.split(|byte| *byte == b'\n').any(|line| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"content-length")
    })
}

/// One request on a connection of its own, for health checks: the status, or
/// what went wrong. None: the check could not be made, for want of something of
/// ours. The caller sets the deadline.
pub(super) async fn ask(
    connector: &Connector,
    peer: &HttpPeer,
    request: Box<RequestHeader>,
) -> Option<Result<u16, String>> {
    let stream = match connector.connect(peer).await {
        Ok(stream) => stream,
        Err(error) if is_local(&error) => return None,
        Err(error) => return Some(Err(detail(&error))),
    };
    let mut session = HttpSession::new_with_options(stream, peer);
    let head = head(&mut session, request, &mut |_interim| {}).await;
    Some(head.map(|head| head.status.as_u16()).map_err(|no_head| no_head.detail))
}

/// An error in few words. Not pingora's whole message, which may quote the
/// head of a response with its cookies.
pub(super) fn detail(error: &BError) -> String {
    use std::fmt::Write;
    let mut detail = error.etype().as_str().to_owned();
    if *error.etype() != ErrorType::InvalidHTTPHeader {
        if let Some(context) = &error.context {
            let _ = write!(detail, ", {}", context.as_str());
        }
        if let Some(cause) = &error.cause {
            let _ = write!(detail, ": {cause}");
        }
    }
    if detail.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|&at| detail.is_char_boundary(at)).unwrap_or(0);
        detail.truncate(end);
    }
    detail.replace(['\r', '\n'], " ")
}
