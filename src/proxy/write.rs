//! Writing answers and streams to a pingora session.

use bytes::Bytes;
use futures::FutureExt;
use http::header::EXPECT;
use http::{HeaderValue, StatusCode, Version};
use pingora::Error;
use pingora::ErrorType;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::answer::{Answer, cache_fields, failure};
use crate::fill::{Broken, Preview, Subscriber};
use crate::page::Fields;
use crate::rules::Outcome;
use crate::rules::cache_status::Failure;
use crate::server::{ALLOWED, stream_of};

/// `Date` goes out as it was stored (pingora would write its own).
pub(super) fn keep_date(session: &Session, date: Option<&[u8]>) {
    if let (Some(stream), Some(date)) = (stream_of(session), date) {
        stream.keep_date(date);
    }
}

/// Whether the visitor can be sent chunks.
fn chunked(session: &Session) -> bool {
    session.req_header().version >= Version::HTTP_11
}

fn append(head: &mut ResponseHeader, name: &str, value: &[u8]) {
    // What is stored was valid when it came.
    if let Ok(value) = HeaderValue::from_bytes(value) {
        let _ = head.append_header(name.to_owned(), value);
    }
}

/// Writes an answer from the store.
pub(super) async fn answer(session: &mut Session, answer: &Answer) -> pingora::Result<()> {
    let mut head = ResponseHeader::build(answer.status(), Some(20))?;
    answer.each_field(&mut |name, value| append(&mut head, name, value));
    let mut body = Vec::new();
    answer.each_body(&mut |part| body.push(part));
    keep_date(session, answer.date());
    let last = body.len();
    session.write_response_header(Box::new(head), last == 0).await?;
    for (at, part) in body.into_iter().enumerate() {
        session.write_response_body(Some(part), at + 1 == last).await?;
    }
    Ok(())
}

/// Relays an informational response (RFC 9110 §15.2) to a visitor that can take it.
pub(super) async fn interim(
    session: &mut Session,
    status: u16,
    fields: &Fields,
) -> pingora::Result<()> {
    // 100 answers an `Expect` that the visitor did not send; HTTP/1.0 knows none.
    if status == 100 || !chunked(session) || session.is_http2() {
        return Ok(());
    }
    let mut head = ResponseHeader::build(status, Some(4))?;
    fields.iter().for_each(|(name, value)| append(&mut head, name, value));
    session.write_response_header(Box::new(head), false).await
}

/// Streams what a fill brings.
pub(super) async fn stream(
    session: &mut Session,
    subscriber: &mut Subscriber,
    preview: &Preview,
    outcome: Outcome,
    also: Option<&'static str>,
) -> pingora::Result<()> {
    let status = StatusCode::from_u16(preview.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut head = ResponseHeader::build(status, Some(20))?;
    preview.fields.iter().for_each(|(name, value)| append(&mut head, name, value));
    let bodiless = session.req_header().method == http::Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match preview.length {
        Some(length) if status != StatusCode::NO_CONTENT => {
            append(&mut head, "Content-Length", length.to_string().as_bytes());
        }
        // An HTTP/1.0 visitor gets the body up to the end of the connection.
        None if !bodiless && chunked(session) && !session.is_http2() => {
            append(&mut head, "Transfer-Encoding", b"chunked");
        }
        _ => {}
    }
    cache_fields(outcome, also, &mut |name, value| append(&mut head, name, value));
    keep_date(session, preview.date.as_deref());
    session.write_response_header(Box::new(head), bodiless).await?;
    if bodiless {
        return Ok(());
    }
    loop {
        // Nothing is buffered beyond what was written, so that the visitor sees
        // each part of the render when it is there.
        let next = tokio::select! {
            biased;
            next = subscriber.chunk() => next,
            gone = left(session) => return Err(gone),
        };
        match next {
            Ok(Some(chunk)) => session.write_response_body(Some(chunk), false).await?,
            Ok(None) => return session.write_response_body(Some(Bytes::new()), true).await,
            // Never ended as if it were complete.
            Err(broken) => {
                session.set_keepalive(None);
                // What was written may still be held, and goes out when the
                // stream is asked for more: a page that breaks off can be seen,
                // a connection that closes without a word is asked again.
                let _ = left(session).now_or_never();
                let why = match broken {
                    Broken::Origin => "the origin broke off",
                    Broken::Lagging => "the visitor was too slow for what can be kept",
                };
                return Error::e_explain(ErrorType::ConnectionClosed, why);
            }
        }
    }
}

/// Resolves when the client has left: not when it only ends its sending side (see the front's
/// `departure`).
pub(crate) async fn left(session: &mut Session) -> Box<Error> {
    if !session.is_body_done() {
        // Its request body is still to come: that says nothing.
        return std::future::pending().await;
    }
    if let Some(stream) = stream_of(session) {
        stream.body_is_read();
    }
    match session.read_body_or_idle(true).await {
        Err(e) => e,
        Ok(_) => std::future::pending().await,
    }
}

/// Whether the client keeps the body back until it is told to go on (RFC 9110 §10.1.1).
pub(super) fn waits_to_be_invited(session: &Session) -> bool {
    let head = session.req_header();
    head.version == Version::HTTP_11
        && head
            .headers
            .get(EXPECT)
            .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        && session.response_written().is_none()
        && session.body_bytes_read() == 0
}

/// Tells a client that waits to be told that its body is wanted here.
pub(crate) async fn invite(session: &mut Session) -> pingora::Result<()> {
    if waits_to_be_invited(session) && !session.is_body_done() {
        session.write_continue_response().await?;
        // pingora takes this for a response before the end of the body, after which it closes.
        session.set_keepalive(Some(0));
    }
    Ok(())
}

/// Bytes of a request body that are read only to keep its connection.
const MAX_DRAINED: usize = 64 * 1024;

/// Reads what is there already of a body that nobody wants. The connection can be kept if that is
/// all of it; otherwise the response says that it closes.
async fn drain(session: &mut Session) {
    let mut read = 0;
    while read <= MAX_DRAINED && !session.is_body_done() {
        match session.read_request_body().now_or_never() {
            Some(Ok(Some(part))) => read += part.len(),
            _ => return,
        }
    }
}

/// Writes a plain error page.
pub(super) async fn failure(session: &mut Session, why: Failure) -> pingora::Result<()> {
    let text = failure::text(why);
    let mut head = ResponseHeader::build(failure::status(why), Some(8))?;
    append(&mut head, "Content-Type", b"text/plain; charset=utf-8");
    if let Some(seconds) = failure::retry_after(why) {
        append(&mut head, "Retry-After", seconds.as_bytes());
    }
    own(session, head, Outcome::Failed { why }, text).await
}

/// Answers an OPTIONS that is to go no further (RFC 9110 §9.3.7).
pub(super) async fn options(session: &mut Session) -> pingora::Result<()> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(6))?;
    append(&mut head, "Allow", ALLOWED.as_bytes());
    own(session, head, Outcome::Hop, "").await
}

/// Writes an answer of ours.
async fn own(
    session: &mut Session,
    mut head: ResponseHeader,
    outcome: Outcome,
    text: &'static str,
) -> pingora::Result<()> {
    append(&mut head, "Content-Length", text.len().to_string().as_bytes());
    append(&mut head, "Cache-Control", b"no-store");
    cache_fields(outcome, None, &mut |name, value| append(&mut head, name, value));
    drain(session).await;
    let bodiless = session.req_header().method == http::Method::HEAD || text.is_empty();
    session.write_response_header(Box::new(head), bodiless).await?;
    if bodiless {
        return Ok(());
    }
    session.write_response_body(Some(Bytes::from_static(text.as_bytes())), true).await
}
