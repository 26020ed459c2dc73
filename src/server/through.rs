//! From a lent connection through pingora's `HttpProxy` and back.

use std::sync::Arc;

use pingora::apps::HttpServerApp;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::{HttpProxy, ProxyHttp};

use super::Withhold;

/// Gives one request to `proxy` and returns when its response is written. The stream comes back
/// if the connection can carry another request.
///
/// Sets on the session what the front knows: no timeout while there is no body to read (so that
/// an upgraded connection may be silent), the body's timeout otherwise; and no 1xx to HTTP/1.0.
/// Where the connection must end with this response, the stream itself says so in the head and
/// does not come back.
///
/// Runs on the runtime that polls it; pingora's own is not needed.
pub async fn through<P>(proxy: &Arc<HttpProxy<P>>, mut stream: Withhold) -> Option<Withhold>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    stream.prepare_digest();
    let shutdown = stream.shutdown_watch();
    let timeout = stream.has_body().then(|| stream.body_timeout());
    let (open_ended, http10) = (stream.is_open_ended(), stream.is_http10());
    let mut session = ServerSession::new_http1(Box::new(stream));
    session.set_read_timeout(timeout);
    session.set_total_drain_timeout(timeout);
    // RFC 9110 §15.2: HTTP/1.0 knows no 1xx.
    session.set_ignore_info_resp(http10);
    if open_ended {
        // What follows the body reaches pingora with it. It would break the request off for
        // that; with pipelining it lays it aside, and the connection ends anyway.
        session.set_pipelining_enabled(true);
    }
    let back = proxy.process_new_http(session, &shutdown).await?;
    let (stream, _) = back.consume();
    stream.into_any().downcast::<Withhold>().ok().map(|stream| *stream)
}

/// The stream below a session, for [`Withhold::keep_date`] and [`Withhold::received`]. None for
/// HTTP/2, and wherever the session did not come through [`through`].
#[must_use]
pub fn stream_of(session: &ServerSession) -> Option<&Withhold> {
    // `**`, or it would be the box that is asked for its type.
    (**session.stream()?).as_any().downcast_ref()
}

/// Resolves when the client of a session has left: not when it only ends its sending side (see
/// `departure`).
pub async fn left(session: &mut pingora::proxy::Session) -> Box<pingora::Error> {
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

/// Makes a response fit for an HTTP/1.0 visitor; nothing changes for others. pingora chunks what
/// has no length, which HTTP/1.0 does not know (RFC 9112 §6.1): such a body ends with the
/// connection instead. To be called in `response_filter`, before fields are added: removing one
/// puts the last one in its place.
pub fn suit_http10(session: &mut ServerSession, response: &mut ResponseHeader) {
    if session.req_header().version == http::Version::HTTP_10
        && response.remove_header(&http::header::TRANSFER_ENCODING).is_some()
    {
        session.set_keepalive(None);
    }
}
