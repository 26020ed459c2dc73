//! pingora's session as a [`Client`].

use bytes::Bytes;
use futures::FutureExt;
use http::header::EXPECT;
use http::{HeaderValue, StatusCode, Version};
use pingora::Error;
use pingora::ErrorType;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::answer::Answer;
use crate::page::Fields;
use crate::rules::Outcome;
use crate::rules::cache_status::Failure;
use crate::serve::{Client, Follows, Head, failure_page, own_fields};
use crate::server::{ALLOWED, left, stream_of};

/// `Date` goes out as it was stored (pingora would write its own).
pub(super) fn keep_date(session: &Session, date: Option<&[u8]>) {
    if let (Some(stream), Some(date)) = (stream_of(session), date) {
        stream.keep_date(date);
    }
}

/// Whether the client can be sent chunks.
fn chunked(session: &Session) -> bool {
    session.req_header().version >= Version::HTTP_11
}

pub(super) fn append(head: &mut ResponseHeader, name: &str, value: &[u8]) {
    // What is stored was valid when it came.
    if let Ok(value) = HeaderValue::from_bytes(value) {
        let _ = head.append_header(name.to_owned(), value);
    }
}

impl Client for Session {
    type Gone = Box<Error>;

    async fn interim(&mut self, status: u16, fields: &Fields) -> pingora::Result<()> {
        // 100 answers an `Expect` that the client did not send; HTTP/1.0 knows none.
        if status == 100 || !chunked(self) || self.is_http2() {
            return Ok(());
        }
        let mut head = ResponseHeader::build(status, Some(4))?;
        fields.iter().for_each(|(name, value)| append(&mut head, name, value));
        self.write_response_header(Box::new(head), false).await
    }

    async fn answer(&mut self, answer: &Answer) -> pingora::Result<()> {
        let mut head = ResponseHeader::build(answer.status(), Some(20))?;
        answer.each_field(&mut |name, value| append(&mut head, name, value));
        let mut body = Vec::new();
        answer.each_body(&mut |part| body.push(part));
        keep_date(self, answer.date());
        let last = body.len();
        self.write_response_header(Box::new(head), last == 0).await?;
        for (at, part) in body.into_iter().enumerate() {
            self.write_response_body(Some(part), at + 1 == last).await?;
        }
        Ok(())
    }

    async fn begin(&mut self, head: &Head<'_>) -> pingora::Result<Follows> {
        let follows = head.follows(self.req_header().method.as_str());
        let mut out = ResponseHeader::build(head.status, Some(20))?;
        head.fields.iter().for_each(|(name, value)| append(&mut out, name, value));
        match head.content_length() {
            Some(length) => append(&mut out, "Content-Length", length.to_string().as_bytes()),
            // An HTTP/1.0 client gets the body up to the end of the connection.
            None if follows == Follows::Body && chunked(self) && !self.is_http2() => {
                append(&mut out, "Transfer-Encoding", b"chunked");
            }
            None => {}
        }
        head.each_own(&mut |name, value| append(&mut out, name, value));
        keep_date(self, head.date);
        self.write_response_header(Box::new(out), follows == Follows::Nothing).await?;
        Ok(follows)
    }

    async fn piece(&mut self, piece: Bytes) -> pingora::Result<()> {
        self.write_response_body(Some(piece), false).await
    }

    async fn end(&mut self) -> pingora::Result<()> {
        self.write_response_body(Some(Bytes::new()), true).await
    }

    async fn break_off(&mut self, why: &'static str) -> Box<Error> {
        self.set_keepalive(None);
        // What was written may still be held, and goes out when the
        // stream is asked for more: a page that breaks off can be seen,
        // a connection that closes without a word is asked again.
        let _ = left(self).now_or_never();
        Error::explain(ErrorType::ConnectionClosed, why)
    }

    async fn failure(&mut self, why: Failure) -> pingora::Result<()> {
        let mut fields = Vec::new();
        let (status, text) =
            failure_page(why, &mut |name, value| fields.push((name.to_owned(), value.to_vec())));
        let mut head = ResponseHeader::build(status, Some(8))?;
        fields.iter().for_each(|(name, value)| append(&mut head, name, value));
        own(self, head, Outcome::Failed { why }, text).await
    }

    async fn left(&mut self) -> Box<Error> {
        left(self).await
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
pub(super) async fn invite(session: &mut Session) -> pingora::Result<()> {
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
    own_fields(outcome, text, &mut |name, value| append(&mut head, name, value));
    drain(session).await;
    let bodiless = session.req_header().method == http::Method::HEAD || text.is_empty();
    session.write_response_header(Box::new(head), bodiless).await?;
    if bodiless {
        return Ok(());
    }
    session.write_response_body(Some(Bytes::from_static(text.as_bytes())), true).await
}
