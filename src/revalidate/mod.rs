//! `/__revalidate`: authenticate, parse, apply, reply (semantics §5).
//!
//! Whatever is answered with success is recorded in the invalidation sequence
//! first. What is said here beside that, which pages matched and how their
//! renders went, is for people.
//!
//! A call is a request and its body, and a reply is a status and a value: how they travel is
//! for the caller.

mod apply;
mod args;
mod render;
mod secret;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) use secret::Throttle;

use crate::config::Revalidate;
use crate::engine::Engine;
use crate::live::Live;
use crate::request::Request;
use crate::rules::Lines;
use apply::Call;
use args::Args;
use secret::authentic;

/// What a call is answered with.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Value,
    /// How long the answer waits: the throttle of bad secrets.
    pub(crate) delay: Duration,
}

impl Reply {
    fn new(status: u16, body: Value) -> Reply {
        Reply { status, body, delay: Duration::ZERO }
    }

    fn error(status: u16, message: impl Into<String>) -> Reply {
        Reply::new(status, json!({ "message": message.into() }))
    }

    /// To a body of more than `max` bytes.
    pub(crate) fn too_large(max: usize) -> Reply {
        Reply::error(413, format!("the body is larger than {max} bytes"))
    }
}

/// The webhook's configuration, if a call with this method may be made at all.
///
/// # Errors
/// What the call is answered with, whatever its body.
pub(crate) fn open<'a>(live: &'a Live, method: &str) -> Result<&'a Revalidate, Reply> {
    let Some(hook) = &live.config.revalidate else {
        let why = "revalidation is off: set revalidate.secret in the configuration";
        return Err(Reply::error(404, why));
    };
    if !matches!(method, "GET" | "POST") {
        return Err(Reply::error(405, "use GET or POST"));
    }
    Ok(hook)
}

/// Makes a call.
pub(crate) async fn call(
    engine: &Arc<Engine>,
    live: &Arc<Live>,
    throttle: &Throttle,
    hook: &Revalidate,
    request: &Request<'_>,
    body: &[u8],
) -> Reply {
    let kind = request.lines("content-type").next().unwrap_or_default();
    let (args, wrong) = Args::parse(request.query(), kind, body);
    if !authentic(&hook.secret, request, args.secret.as_deref()) {
        let delay = throttle.bad(request.peer);
        tracing::warn!(peer = %request.peer, "revalidation refused: invalid token");
        return Reply { delay, ..Reply::error(401, "Invalid token") };
    }
    if let Some(e) = wrong {
        let message = format!("{} {}", e.name, e.why);
        return Reply::new(400, json!({ "message": message, "argument": e.name }));
    }
    if !args.names_something() {
        let why = "name what to revalidate: path, prefix, tag or all=1 (or deployment)";
        return Reply::new(400, json!({ "message": why, "argument": "path" }));
    }
    let call = Call { engine, live, hook, request, args: &args };
    let (status, body) = call.apply().await;
    Reply::new(status, body)
}
