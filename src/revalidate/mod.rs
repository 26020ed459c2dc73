//! `/__revalidate`: authenticate, parse, apply, reply (semantics §5).
//!
//! Whatever is answered with success is recorded in the invalidation sequence
//! first. What is said here beside that, which pages matched and how their
//! renders went, is for people.

mod apply;
mod args;
mod render;
mod secret;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde_json::{Value, json};

pub use secret::Strangers;

use crate::answer::cache_fields;
use crate::engine::Engine;
use crate::live::Live;
use crate::proxy::{invite, left};
use crate::request::Request;
use crate::rules::{Lines, Outcome};
use apply::Call;
use args::Args;
use secret::authentic;

/// Serves a call.
///
/// # Errors
/// The caller's connection broke.
pub(crate) async fn serve(
    engine: &Arc<Engine>,
    live: &Arc<Live>,
    session: &mut Session,
    request: &Request<'_>,
) -> pingora::Result<()> {
    let Some(hook) = &live.config.revalidate else {
        let why = "revalidation is off: set revalidate.secret in the configuration";
        return reply(session, 404, &json!({ "message": why })).await;
    };
    if !matches!(request.method, "GET" | "POST") {
        return reply(session, 405, &json!({ "message": "use GET or POST" })).await;
    }
    // The body is read before the secret: it may be in there.
    invite(session).await?;
    let Some(body) = read_body(session, hook.max_body).await? else {
        let why = format!("the body is larger than {} bytes", hook.max_body);
        return reply(session, 413, &json!({ "message": why })).await;
    };
    let kind = request.lines("content-type").next().unwrap_or_default();
    let (args, wrong) = Args::parse(request.query(), kind, &body);
    if !authentic(&hook.secret, request, args.secret.as_deref()) {
        let delay = engine.strangers.bad(request.peer);
        tracing::warn!(peer = %request.peer, "revalidation refused: invalid token");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            gone = left(session) => return Err(gone),
        }
        return reply(session, 401, &json!({ "message": "Invalid token" })).await;
    }
    if let Some(e) = wrong {
        let message = format!("{} {}", e.name, e.why);
        let body = json!({ "message": message, "argument": e.name });
        return reply(session, 400, &body).await;
    }
    if !args.names_something() {
        let why = "name what to revalidate: path, prefix, tag or all=1 (or deployment)";
        return reply(session, 400, &json!({ "message": why, "argument": "path" })).await;
    }
    let call = Call { engine, live, hook, request, args: &args };
    let (status, body) = call.apply().await;
    reply(session, status, &body).await
}

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

async fn reply(session: &mut Session, status: u16, body: &Value) -> pingora::Result<()> {
    let text = Bytes::from(format!("{body}\n"));
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header("Content-Type", "application/json")?;
    head.insert_header("Cache-Control", "no-store")?;
    head.insert_header("Content-Length", text.len())?;
    if status == 405 {
        head.insert_header("Allow", "GET, POST")?;
    }
    cache_fields(Outcome::Own, None, &mut |name, value| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            // Names and values of ours are valid.
            let _ = head.append_header(name.to_owned(), value);
        }
    });
    let bodiless = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), bodiless).await?;
    if bodiless {
        return Ok(());
    }
    session.write_response_body(Some(text), true).await
}
