//! The connection to a client, as those see it who serve one.

use bytes::Bytes;
use http::StatusCode;

use crate::answer::{Answer, cache_fields, failure};
use crate::fill::{Broken, Preview, Subscriber};
use crate::page::Fields;
use crate::rules::Outcome;
use crate::rules::cache_status::Failure;

/// The connection to a client, for one response.
///
/// An error means that the client can be sent no more: its connection broke, or it left.
pub(crate) trait Client: Send {
    /// Why it can be sent no more.
    type Gone: Send;

    /// Relays an informational response (RFC 9110 §15.2) where the client knows such.
    fn interim(
        &mut self,
        status: u16,
        fields: &Fields,
    ) -> impl Future<Output = Result<(), Self::Gone>> + Send;

    /// Writes an answer from the store, whole.
    fn answer(&mut self, answer: &Answer) -> impl Future<Output = Result<(), Self::Gone>> + Send;

    /// Begins a response whose body follows in pieces.
    fn begin(
        &mut self,
        head: &Head<'_>,
    ) -> impl Future<Output = Result<Follows, Self::Gone>> + Send;

    /// Writes a piece of the body. It may be kept until the next one comes, the body ends, or
    /// somebody waits for [`left`](Self::left).
    fn piece(&mut self, piece: Bytes) -> impl Future<Output = Result<(), Self::Gone>> + Send;

    /// The body is complete.
    fn end(&mut self) -> impl Future<Output = Result<(), Self::Gone>> + Send;

    /// The body broke off: it must not look complete, so the connection ends.
    fn break_off(&mut self, why: &'static str) -> impl Future<Output = Self::Gone> + Send;

    /// Writes an error page of ours.
    fn failure(&mut self, why: Failure) -> impl Future<Output = Result<(), Self::Gone>> + Send;

    /// Resolves when the client has left, not when it only ends its sending side. What was
    /// written so far goes out meanwhile. Cancel-safe.
    fn left(&mut self) -> impl Future<Output = Self::Gone> + Send;
}

/// Whether a body follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// None: HEAD, or a status without content.
    Nothing,
    /// A body.
    Body,
}

/// The head of a response that is streamed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    /// The status.
    pub(crate) status: StatusCode,
    /// The fields, those that belong to the body included, but for its framing.
    pub(crate) fields: &'a Fields,
    /// The value of `Date`.
    pub(crate) date: Option<&'a [u8]>,
    /// The length of the body, if it is known.
    pub(crate) length: Option<u64>,
    /// What became of the request.
    pub(crate) outcome: Outcome,
    /// Where `X-Cache` is said once more.
    pub(crate) cache_field: Option<&'static str>,
}

impl<'a> Head<'a> {
    /// Of what a fill brings.
    pub(super) fn of(
        preview: &'a Preview,
        outcome: Outcome,
        cache_field: Option<&'static str>,
    ) -> Head<'a> {
        Head {
            status: StatusCode::from_u16(preview.status).unwrap_or(StatusCode::BAD_GATEWAY),
            fields: &preview.fields,
            date: preview.date.as_deref(),
            length: preview.length,
            outcome,
            cache_field,
        }
    }

    /// Whether a body follows, where the request has this method.
    pub(crate) fn follows(&self, method: &str) -> Follows {
        match self.status {
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Follows::Nothing,
            _ if method == "HEAD" => Follows::Nothing,
            _ => Follows::Body,
        }
    }

    /// The value of `Content-Length`, where it is sent.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.length.filter(|_| self.status != StatusCode::NO_CONTENT)
    }

    /// The fields behind those of the response: what this cache did.
    pub(crate) fn each_own(&self, each: &mut dyn FnMut(&str, &[u8])) {
        cache_fields(self.outcome, self.cache_field, each);
    }
}

/// The fields that an error page has beside [`own_fields`]; its status and its text.
pub(crate) fn failure_page(
    why: Failure,
    each: &mut dyn FnMut(&str, &[u8]),
) -> (StatusCode, &'static str) {
    each("Content-Type", b"text/plain; charset=utf-8");
    if let Some(seconds) = failure::retry_after(why) {
        each("Retry-After", seconds.as_bytes());
    }
    let status = StatusCode::from_u16(failure::status(why));
    (status.unwrap_or(StatusCode::BAD_GATEWAY), failure::text(why))
}

/// The fields of any answer of ours with this text.
pub(crate) fn own_fields(outcome: Outcome, text: &str, each: &mut dyn FnMut(&str, &[u8])) {
    each("Content-Length", text.len().to_string().as_bytes());
    each("Cache-Control", b"no-store");
    cache_fields(outcome, None, each);
}

/// Streams what a fill brings.
pub(super) async fn stream<C: Client>(
    client: &mut C,
    head: &Head<'_>,
    subscriber: &mut Subscriber,
) -> Result<(), C::Gone> {
    if client.begin(head).await? == Follows::Nothing {
        return Ok(());
    }
    loop {
        // Nothing is kept that was written, so that the client sees each part of the render
        // when it is there.
        let next = tokio::select! {
            biased;
            next = subscriber.chunk() => next,
            gone = client.left() => return Err(gone),
        };
        match next {
            Ok(Some(piece)) => client.piece(piece).await?,
            Ok(None) => return client.end().await,
            Err(Broken::Origin) => return Err(client.break_off("the origin broke off").await),
            Err(Broken::Lagging) => {
                let why = "the client was too slow for what can be kept";
                return Err(client.break_off(why).await);
            }
        }
    }
}
