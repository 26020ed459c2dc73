//! Pages that middleware runs before (semantics §1): every request goes to the origin with
//! its client's own fields, on the condition that what is stored is not what it would get.
//! A 304 means that middleware let this client through to that very page.
//!
//! What is stored is the body, and what describes it. Whatever else a response says, it
//! says to the client that asked.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::arrived::Arrived;
use super::ask::Ask;
use crate::answer::head::Audience;
use crate::framework::Rendering;
use crate::page::{Compress, Fields, FieldsBuf, Judged, Judgement, Representation, Uses};
use crate::rules::cache_control::governing;
use crate::rules::storable::{Class, Verdict};
use crate::rules::{Reason, conditional, hop};
use crate::terms::says_nothing_of_caching;

/// What describes a body, in a response that says nothing of it.
const OF_THE_BODY: [http::HeaderName; 2] = [CONTENT_TYPE, CONTENT_LANGUAGE];

/// What may be kept of a response that middleware let through.
pub(super) struct Kept {
    /// Its body, described.
    pub(super) page: Arrived,
    /// Only the body tells whether the build made it.
    pub(super) if_exported: bool,
}

/// What may be kept of a response, or why not. The build must not say that the
/// page is made for each client, and the response must say that it is made for all: it is
/// not middleware's own answer then. And it must have a tag, to ask with.
pub(super) fn kept(ask: &Ask, arrived: &Arrived) -> Result<Kept, Verdict> {
    let refuse = || Verdict::Refuse { reason: Reason::Middleware, class: Class::Unshared };
    let headers = &arrived.headers;
    let silent = ask.upstream.preset.silent_is_static() && says_nothing_of_caching(headers);
    let says = ask.upstream.preset.says_for_all(headers);
    if ask.rendering != (Rendering::Guarded { for_all: true })
        || arrived.status != StatusCode::OK
        || !headers.contains_key(ETAG)
        || !(says || silent)
        || forbids(headers)
    {
        return Err(refuse());
    }
    let mut page = arrived.with_fields(|name| {
        OF_THE_BODY.iter().any(|n| n == name)
            || hop::is_tag_field(name.as_str())
            || matches!(name.as_str(), "etag" | "vary" | "date")
    });
    // It is served only after the origin has confirmed it.
    page.add(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(Kept { page, if_exported: !says })
}

/// Whether a response says that it is not for all.
fn forbids(headers: &HeaderMap) -> bool {
    let said = governing(headers).directives;
    said.private || said.no_store || said.no_cache
}

/// The page for one client of whom the origin said with a 304 that they may have it: what
/// is stored, under the head of that answer. None if the answer is about something else.
pub(super) fn confirmed(
    ask: &Ask,
    prior: &Representation,
    update: &Arrived,
) -> Option<Arc<Representation>> {
    let stored = prior.origin.to_map();
    if !update.headers.contains_key(ETAG)
        || !conditional::selects(&stored, &update.headers)
        || forbids(&update.headers)
    {
        return None;
    }
    let mut fields = FieldsBuf::default();
    for (name, value) in update.fields().iter() {
        if !(name.eq_ignore_ascii_case("set-cookie") || name.eq_ignore_ascii_case("content-length"))
        {
            fields.push(name, value);
        }
    }
    for name in OF_THE_BODY.iter().filter(|name| !update.headers.contains_key(*name)) {
        if let Some(value) = stored.get(name) {
            fields.push(name.as_str(), value.as_bytes());
        }
    }
    let origin = fields.done();
    let (judge, coded) = (ask.judge(), prior.bodies.len() > 1);
    let head = judge.head(&origin, Audience::All, prior.status, coded, update.received());
    Some(Arc::new(Representation {
        form: prior.form,
        vary: prior.vary.clone(),
        status: prior.status,
        origin,
        set_cookie: false,
        asked: prior.asked,
        request: Fields::default(),
        origin_etag: prior.origin_etag,
        last_modified: None,
        bodies: prior.bodies.clone(),
        compress: Compress::new(coded).done(),
        judged: Judged::new(Judgement { stamp: judge.stamp(), terms: None, head }),
        uses: Uses::default(),
        request_time: update.received(),
        response_time: update.received(),
        generated: update.generated(),
        born: prior.born,
        tags: Arc::clone(&prior.tags),
    }))
}
