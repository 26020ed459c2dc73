//! What unsafe methods invalidate (RFC 9111 §4.4), and what else their answers say was
//! changed.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use http::Method;
use http::header::{CONTENT_LOCATION, CONTENT_TYPE, LOCATION};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::ctx::{Ctx, Proxy, fields, host, request};
use crate::host;
use crate::metrics::Invalidation;
use crate::page::Form;
use crate::plan::{ask_for_page, page_at, page_for};
use crate::rules::Outcome;
use crate::rules::cache_status::Bypass;

/// How long an answer waits for the pages that it says were changed.
const WAIT_FOR_RENEWAL: Duration = Duration::from_secs(5);

/// Bytes of the answer to an action in which it is looked for where its client is sent.
const MAX_SENDS: usize = 8 << 10;

impl Proxy {
    /// A non-error answer to an unsafe method invalidates its target, `Location` and
    /// `Content-Location`, of the same origin. Hosts and paths are those of keys: a
    /// target that is a data URL is its page.
    pub(super) fn invalidate_by_method(
        &self,
        session: &Session,
        ctx: &Ctx,
        response: &ResponseHeader,
    ) {
        let (Some(head), Some(route)) = (&ctx.head, &ctx.record.route) else { return };
        let bypass = matches!(ctx.record.outcome, Outcome::Bypass { why: Bypass::Method });
        let safe = is_safe(&head.method);
        let obeys = !route.mode.is_page() || route.unsafe_invalidates;
        if !bypass || safe || !obeys || response.status.as_u16() >= 400 {
            return;
        }
        let target = head.uri.path();
        self.invalidate(session, ctx, head, target);
        for name in [LOCATION, CONTENT_LOCATION] {
            let value = response.headers.get(name).and_then(|value| value.to_str().ok());
            if let Some(value) = value {
                self.invalidate(session, ctx, head, value);
            }
        }
    }

    /// Invalidates what a reference names, if that is of this origin.
    fn invalidate(&self, session: &Session, ctx: &Ctx, head: &RequestHeader, reference: &str) {
        let live = &ctx.record.live;
        let fields = fields(head);
        let request = request(live, head, &fields, Proxy::peer(session));
        let host = host::canonical(request.host, request.scheme);
        let path = host::same_origin(request.scheme, &host, head.uri.path(), reference);
        let Some(path) = path else { return };
        let (key, _) = page_at(live, &request, &path);
        self.engine.store.invalidate_unsafe(&key);
        live.metrics.invalidation(Invalidation::Unsafe);
    }

    /// The same for the page to which the body of such an answer sends its client, which
    /// is a `Location` to it.
    pub(super) fn invalidate_by_body(
        &self,
        session: &Session,
        ctx: &mut Ctx,
        chunk: Option<&[u8]>,
        last: bool,
    ) {
        let Some(mut body) = ctx.sends.take() else { return };
        body.extend_from_slice(chunk.unwrap_or_default());
        let to = ctx.record.live.preset.sends_to(&body);
        if let (Some(to), Some(head)) = (&to, &ctx.head) {
            self.invalidate(session, ctx, head, to);
        } else if !last && body.len() <= MAX_SENDS {
            ctx.sends = Some(body);
        }
    }
}

/// Whether the body of an answer may send its client to another page: that of an action.
pub(super) fn may_send(ctx: &Ctx, response: &ResponseHeader) -> bool {
    let (Some(head), Some(route)) = (&ctx.head, &ctx.record.route) else { return false };
    let Some(kind) = ctx.record.live.preset.sends_by() else { return false };
    let is_kind = |value: &http::HeaderValue| value.as_bytes().starts_with(kind.as_bytes());
    let obeys = !route.mode.is_page() || route.unsafe_invalidates;
    obeys
        && !is_safe(&head.method)
        && response.status.is_success()
        && response.headers.get(CONTENT_TYPE).is_some_and(is_kind)
}

impl Proxy {
    /// What an answer says was changed, where the framework does (see
    /// [`Framework::changed`]): the page that was asked and the one that its client goes
    /// to are rendered anew before it hears of it, so that it sees what it did.
    ///
    /// Anybody may call such a request. So the pages are only marked stale, and recorded
    /// apart like those of unsafe methods: others get what is stored as long as the render
    /// takes, or if it fails.
    ///
    /// [`Framework::changed`]: crate::framework::Framework::changed
    pub(super) async fn renew_what_changed(
        &self,
        session: &Session,
        ctx: &Ctx,
        response: &ResponseHeader,
    ) {
        let Some(head) = &ctx.head else { return };
        if is_safe(&head.method) || response.status.as_u16() >= 400 || ctx.record.live.config.dev {
            return;
        }
        let live = &ctx.record.live;
        let fields = fields(head);
        let request = request(live, head, &fields, Proxy::peer(session));
        let Some(changed) = live.preset.changed(&request, &response.headers) else { return };
        let host = host::canonical(host(head), request.scheme);
        let next = changed.next.as_deref();
        let next =
            next.and_then(|next| host::same_origin(request.scheme, &host, head.uri.path(), next));
        let mut renewals = Vec::new();
        for target in [Some(request.target), next.as_deref()].into_iter().flatten() {
            let notes = self.engine.fills.notes();
            let Some((key, route)) = page_for(live, notes, &request, target) else { continue };
            live.metrics.invalidation(Invalidation::Unsafe);
            if !route.mode.is_page() {
                self.engine.store.invalidate_unsafe(&key);
                continue;
            }
            self.engine.store.outdate_unsafe(&key);
            let (engine, live) = (Arc::clone(&self.engine), Arc::clone(live));
            // A task of its own: it goes to its end if the client leaves.
            renewals.push(tokio::spawn(async move {
                engine.fills.renew_changed(&ask_for_page(&live, &key, Form::Document)).await;
            }));
        }
        // What takes longer is stale until it is there.
        let _ = tokio::time::timeout(WAIT_FOR_RENEWAL, join_all(renewals)).await;
    }
}

/// Whether a method changes nothing (RFC 9110 §9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE")
}
