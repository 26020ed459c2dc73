//! Writing answers and streams to a pingora session.

use bytes::Bytes;
use futures::FutureExt;
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
use crate::server::stream_of;

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

/// Resolves when the visitor has left.
pub(crate) async fn left(session: &mut Session) -> Box<Error> {
    if !session.is_body_done() {
        // Its request body is still to come: that says nothing.
        return std::future::pending().await;
    }
    match session.read_body_or_idle(true).await {
        Err(e) => e,
        Ok(_) => std::future::pending().await,
    }
}

/// Writes a plain error page.
pub(super) async fn failure(session: &mut Session, why: Failure) -> pingora::Result<()> {
    let text = failure::text(why);
    let mut head = ResponseHeader::build(failure::status(why), Some(8))?;
    append(&mut head, "Content-Type", b"text/plain; charset=utf-8");
    append(&mut head, "Content-Length", text.len().to_string().as_bytes());
    append(&mut head, "Cache-Control", b"no-store");
    if let Some(seconds) = failure::retry_after(why) {
        append(&mut head, "Retry-After", seconds.as_bytes());
    }
    cache_fields(Outcome::Failed { why }, None, &mut |name, value| append(&mut head, name, value));
    let bodiless = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), bodiless).await?;
    if bodiless {
        return Ok(());
    }
    session.write_response_body(Some(Bytes::from_static(text.as_bytes())), true).await
}
