//! What becomes of a request that failed: whose doing it was, and whether
//! anybody can still be told.

use pingora::ErrorSource as Source;
use pingora::ErrorType::{self, *};

use crate::rules::cache_status::Failure;

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// A response had begun, or the connection is a tunnel (101): all that can be said is that it
    /// is over.
    CutOff,
    /// The client left before there was an answer.
    Left,
    /// It is answered with an error page.
    Failed(Failure),
}

/// What the client was sent so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing, or informational responses.
    None,
    /// The head of the response, or 101.
    Begun,
}

/// What came of the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// All of it; there may be none.
    Whole,
    /// A part, and the client owes the rest.
    Unfinished,
    /// Nothing yet: the client waits to be told to go on (`Expect: 100-continue`).
    Uninvited,
}

/// What becomes of a request with this error. `known`: what went wrong, if that was found out
/// before pingora was told.
pub(super) fn fate(
    (source, error): (&Source, &ErrorType),
    answer: Answer,
    body: Body,
    known: Option<Failure>,
) -> Fate {
    let clients = !matches!(source, Source::Upstream | Source::Internal);
    match (error, known) {
        _ if answer == Answer::Begun => Fate::CutOff,
        (WriteError | ReadError | ConnectionClosed | WriteTimedout, _) if clients => Fate::Left,
        (_, Some(why)) => Fate::Failed(why),
        // The origin waits for what the client does not send, or this edge does.
        (ReadTimedout, None) if body == Body::Unfinished => Fate::Failed(Failure::BodyTimeout),
        (_, None) => Fate::Failed(failure(error, clients)),
    }
}

fn failure(error: &ErrorType, clients: bool) -> Failure {
    match error {
        ConnectTimedout | ReadTimedout | WriteTimedout | TLSHandshakeTimedout => Failure::Timeout,
        TLSHandshakeFailure | InvalidCert | HandshakeError | TLSWantX509Lookup => Failure::Tls,
        ConnectRefused | ConnectNoRoute | ConnectError | SocketError | BindError
        | ConnectProxyFailure => Failure::Connect,
        InternalError => Failure::Reset,
        _ if clients => Failure::BadRequest,
        _ => Failure::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_doing_it_was() {
        use Body::{Unfinished, Uninvited, Whole};
        use Source::{Downstream, Internal, Unset, Upstream};
        let failed = Fate::Failed;
        let chunk = ErrorType::new("InvalidChunk");
        for (source, error, body, known, expected) in [
            // The client left: pingora says so with or without a source.
            (Downstream, ConnectionClosed, Whole, None, Fate::Left),
            (Unset, ConnectionClosed, Whole, None, Fate::Left),
            (Unset, ReadError, Whole, None, Fate::Left),
            (Downstream, WriteError, Whole, None, Fate::Left),
            (Downstream, WriteTimedout, Whole, None, Fate::Left),
            (Unset, WriteError, Whole, Some(Failure::Timeout), Fate::Left),
            (Downstream, ConnectionClosed, Unfinished, None, Fate::Left),
            // The client sent something that is no request.
            (Downstream, InvalidHTTPHeader, Whole, None, failed(Failure::BadRequest)),
            (Downstream, chunk, Unfinished, None, failed(Failure::BadRequest)),
            // The client stalled: this edge saw it, or the origin waited for it.
            (Downstream, ReadTimedout, Unfinished, None, failed(Failure::BodyTimeout)),
            (Unset, ReadTimedout, Unfinished, None, failed(Failure::BodyTimeout)),
            (Upstream, ReadTimedout, Unfinished, None, failed(Failure::BodyTimeout)),
            // It waits for a word of the origin.
            (Upstream, ReadTimedout, Uninvited, None, failed(Failure::Timeout)),
            (Downstream, ReadTimedout, Uninvited, None, failed(Failure::Timeout)),
            // The origin.
            (Upstream, ReadTimedout, Whole, None, failed(Failure::Timeout)),
            (Upstream, WriteTimedout, Unfinished, None, failed(Failure::Timeout)),
            (Upstream, ConnectRefused, Whole, None, failed(Failure::Connect)),
            (Upstream, TLSHandshakeFailure, Whole, None, failed(Failure::Tls)),
            (Upstream, ConnectionClosed, Whole, None, failed(Failure::Reset)),
            (Upstream, InvalidHTTPHeader, Whole, None, failed(Failure::Reset)),
            (Internal, WriteError, Whole, None, failed(Failure::Reset)),
            (Unset, InternalError, Whole, None, failed(Failure::Reset)),
            // What is known already.
            (Unset, ConnectNoRoute, Whole, Some(Failure::Breaker), failed(Failure::Breaker)),
            (Upstream, ReadTimedout, Whole, Some(Failure::Busy), failed(Failure::Busy)),
        ] {
            let e = (&source, &error);
            assert_eq!(fate(e, Answer::None, body, known), expected, "{e:?} {body:?} {known:?}");
            // Never a page into a response or a tunnel.
            assert_eq!(fate(e, Answer::Begun, body, known), Fate::CutOff, "{e:?}");
        }
    }
}
