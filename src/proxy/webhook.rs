//! Calls of the webhook that come through pingora.

use std::sync::Arc;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::ctx::Proxy;
use super::write::{append, invite};
use crate::answer::cache_fields;
use crate::live::Live;
use crate::request::Request;
use crate::revalidate::{self, Reply};
use crate::rules::Outcome;
use crate::server::left;

/// Serves a call.
///
/// # Errors
/// The client's connection broke.
pub(super) async fn serve(
    proxy: &Proxy,
    live: &Arc<Live>,
    session: &mut Session,
    request: &Request<'_>,
) -> pingora::Result<()> {
    let hook = match revalidate::open(live, request.method) {
        Ok(hook) => hook,
        Err(why) => return reply(session, why).await,
    };
    // The body is read before the secret is checked: it may be in there.
    invite(session).await?;
    let Some(body) = read_body(session, hook.max_body).await? else {
        return reply(session, Reply::too_large(hook.max_body)).await;
    };
    let throttle = &proxy.throttle;
    let called = revalidate::call(&proxy.engine, live, throttle, hook, request, &body).await;
    if !called.delay.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(called.delay) => {}
            gone = left(session) => return Err(gone),
        }
    }
    reply(session, called).await
}

/// The body of a request, unless it is of more than `max` bytes.
async fn read_body(session: &mut Session, max: usize) -> pingora::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = session.read_request_body().await? {
        if body.len() + chunk.len() > max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

async fn reply(session: &mut Session, reply: Reply) -> pingora::Result<()> {
    let text = Bytes::from(format!("{}\n", reply.body));
    let mut head = ResponseHeader::build(reply.status, Some(8))?;
    append(&mut head, "Content-Type", b"application/json");
    append(&mut head, "Cache-Control", b"no-store");
    append(&mut head, "Content-Length", text.len().to_string().as_bytes());
    if reply.status == 405 {
        append(&mut head, "Allow", b"GET, POST");
    }
    cache_fields(Outcome::Own, None, &mut |name, value| append(&mut head, name, value));
    let bodiless = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), bodiless).await?;
    if bodiless {
        return Ok(());
    }
    session.write_response_body(Some(text), true).await
}
