//! What is the answer to this request, given this stored page? One function
//! over a small view of the request, for the front and for `HttpProxy` alike.

pub mod failure;
pub mod head;

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arc_swap::Guard;
use bytes::Bytes;
use http::StatusCode;

use crate::page::{Body, Coding, Fields, Form, Judgement, Page, Representation, Standing};
use crate::request::{Facts, Request};
use crate::rules::cache_control::governing;
use crate::rules::cache_status::Fwd;
use crate::rules::conditional::{self, Precondition, Ranges, Selected};
use crate::rules::freshness::{State, Terms};
use crate::rules::{Lines, Outcome, Time, negotiate};
use crate::terms::Judge;

/// What the store has for a request.
#[derive(Debug)]
pub enum Choice {
    /// Serve this. A stale one wants a regeneration, unless a prefetch asks.
    Serve {
        /// What to serve.
        rep: Arc<Representation>,
        /// Seconds of freshness left.
        ttl: Option<i64>,
        /// It is stale, and may be served while it is regenerated.
        stale: bool,
    },
    /// Ask the origin.
    Fetch {
        /// Why.
        fwd: Fwd,
        /// What is stored and may serve if the origin fails.
        stale: Option<Stale>,
    },
}

impl Choice {
    /// The same where nothing goes to anybody without the origin's word.
    #[must_use]
    pub fn asked_first(self) -> Choice {
        let (rep, ttl) = match self {
            Choice::Serve { rep, ttl, .. } => (rep, ttl),
            Choice::Fetch { stale: Some(Stale { rep, ttl, .. }), .. } => (rep, ttl),
            Choice::Fetch { .. } => return self,
        };
        let stale = Some(Stale { rep, ttl, if_error: false, if_unreachable: false });
        Choice::Fetch { fwd: Fwd::Stale, stale }
    }
}

/// A stale representation, and when it may be served.
#[derive(Clone, Debug)]
pub struct Stale {
    /// The representation.
    pub rep: Arc<Representation>,
    /// Seconds of freshness left: zero or less.
    pub ttl: Option<i64>,
    /// When the origin answers with an error.
    pub if_error: bool,
    /// When no response head arrives.
    pub if_unreachable: bool,
}

/// Chooses among the members of a page: the newest of that form that RFC 9111
/// §4.1 selects, if it is fresh or may be served stale (§4.2.4, RFC 5861 §3).
#[must_use]
pub fn choose(
    page: Option<&Page>,
    form: Form,
    request: &Request<'_>,
    facts: &Facts,
    now: Time,
    judge: &Judge<'_>,
    standing: impl Fn(&Page, &Representation) -> Standing,
) -> Choice {
    let Some(page) = page else { return Choice::Fetch { fwd: Fwd::UriMiss, stale: None } };
    let mut best: Option<(&Arc<Representation>, Standing, Terms)> = None;
    let mut missed = Fwd::VaryMiss;
    for rep in page.members.iter().filter(|rep| rep.form == form) {
        if !rep.is_selected_by(request)
            || best.is_some_and(|(other, ..)| other.generated > rep.generated)
        {
            continue;
        }
        let standing = standing(page, rep);
        match judge.of(rep).terms {
            Some(terms) if standing != Standing::Dead => best = Some((rep, standing, terms)),
            // Gone, though its memory is not free yet; or of no use under its route.
            _ => missed = Fwd::UriMiss,
        }
    }
    let Some((rep, standing, terms)) = best else {
        return Choice::Fetch { fwd: missed, stale: None };
    };
    if facts.authorization && !shareable(rep) {
        // RFC 9111 §3.5, read strictly: what was stored for anybody is not for
        // somebody, unless the origin says so.
        return Choice::Fetch { fwd: Fwd::Request, stale: None };
    }
    let rep = Arc::clone(rep);
    match terms.state(now.since(rep.generated), standing == Standing::Stale) {
        State::Fresh { ttl } => Choice::Serve { rep, ttl, stale: false },
        State::Stale { ttl, while_revalidating: true, .. } => {
            Choice::Serve { rep, ttl, stale: true }
        }
        State::Stale { ttl, if_error, if_unreachable, .. } => Choice::Fetch {
            fwd: Fwd::Stale,
            stale: Some(Stale { rep, ttl, if_error, if_unreachable }),
        },
    }
}

/// Whether what is stored may answer a request with `Authorization` (RFC 9111 §3.5).
fn shareable(rep: &Representation) -> bool {
    let directives = governing(&rep.origin.to_map()).directives;
    directives.public || directives.must_revalidate || directives.s_maxage.is_some()
}

/// The answer to a request from a stored representation: its status, fields and
/// body, to be written in whatever way.
#[derive(Debug)]
pub struct Answer {
    rep: Arc<Representation>,
    judgement: Guard<Arc<Judgement>>,
    outcome: Outcome,
    age: Option<u64>,
    part: Part,
    body: usize,
    head_only: bool,
    /// Fields for this request alone, such as the cookies of a 304.
    extra: Fields,
    /// Where `X-Cache` is said once more.
    cache_field: Option<&'static str>,
}

#[derive(Debug)]
enum Part {
    Whole,
    NotModified,
    PreconditionFailed,
    One(Range<u64>),
    Many(Vec<Range<u64>>, Box<str>),
    Unsatisfiable,
}

/// The codings in the order in which they are preferred on a tie.
const CODINGS: [Coding; 4] = [Coding::Zstd, Coding::Brotli, Coding::Gzip, Coding::Identity];

impl Answer {
    /// Makes it.
    #[must_use]
    pub fn new(
        rep: Arc<Representation>,
        judge: &Judge<'_>,
        request: &Request<'_>,
        facts: &Facts,
        outcome: Outcome,
        now: Time,
    ) -> Answer {
        rep.uses.add();
        let judgement = judge.of(&rep);
        // Semantics §2: not where the route sets a lifetime for browsers.
        let age_sent = !(judge.page && judge.route.browser.is_some());
        let mut body = select_body(&rep.bodies, request);
        let part = if facts.conditional {
            conditional_part(&rep, request, now, &mut body)
        } else {
            Part::Whole
        };
        let age = age_sent.then(|| now.since(rep.generated).as_secs());
        Answer {
            rep,
            judgement,
            outcome,
            age,
            part,
            body,
            head_only: request.method == "HEAD",
            extra: Fields::default(),
            cache_field: judge.preset.cache_field(),
        }
    }

    /// With these fields beside.
    #[must_use]
    pub fn with_extra(mut self, extra: Fields) -> Answer {
        self.extra = extra;
        self
    }

    /// What became of the request.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The age that is sent, in seconds.
    #[must_use]
    pub fn age(&self) -> Option<u64> {
        self.age
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.part {
            Part::Whole => self.rep.status,
            Part::NotModified => StatusCode::NOT_MODIFIED,
            Part::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Part::One(_) | Part::Many(..) => StatusCode::PARTIAL_CONTENT,
            Part::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        }
    }

    /// `Date` of the stored response, as it goes out.
    #[must_use]
    pub fn date(&self) -> Option<&[u8]> {
        self.head().get("date")
    }

    fn head(&self) -> &Fields {
        &self.judgement.head
    }

    fn body_of(&self) -> &Body {
        &self.rep.bodies[self.body]
    }

    /// The whole response head but the empty line at its end, appended to
    /// `out` as HTTP/1.1 writes it.
    pub fn write_head(&self, out: &mut Vec<u8>) {
        status_line(out, self.status());
        if matches!(self.part, Part::Whole) {
            out.extend_from_slice(self.head().as_bytes());
        } else {
            self.each_stored(&mut |name, value| line(out, name, value));
        }
        self.each_made(&mut |name, value| line(out, name, value));
    }

    /// Each field of the head, for writers that take fields.
    pub fn each_field(&self, each: &mut dyn FnMut(&str, &[u8])) {
        self.each_stored(each);
        self.each_made(each);
    }

    /// The stored fields that this answer carries.
    fn each_stored(&self, each: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self.head().iter() {
            let dropped = match &self.part {
                Part::Whole | Part::One(_) => false,
                // RFC 9110 §15.4.5: no metadata of a body that is not sent.
                Part::NotModified => {
                    is(name, "content-type")
                        || is(name, "content-encoding")
                        || is(name, "content-language")
                        || is(name, "last-modified")
                        || is(name, "accept-ranges")
                }
                Part::Many(..) => is(name, "content-type"),
                Part::PreconditionFailed | Part::Unsatisfiable => {
                    !(is(name, "date") || is(name, "vary") || is(name, "cache-control"))
                }
            };
            if !dropped {
                each(name, value);
            }
        }
    }

    /// The fields that are made for this answer.
    fn each_made(&self, each: &mut dyn FnMut(&str, &[u8])) {
        let body = self.body_of();
        let mut digits = itoa::Buffer::new();
        match &self.part {
            Part::PreconditionFailed => {}
            Part::Unsatisfiable => {
                each("Content-Range", format!("bytes */{}", body.bytes.len()).as_bytes());
            }
            _ => each("ETag", body.etag.as_bytes()),
        }
        if let (Part::Whole, true) = (&self.part, body.coding != Coding::Identity) {
            each("Content-Encoding", <&str>::from(body.coding).as_bytes());
        }
        match &self.part {
            Part::One(range) => {
                let total = body.bytes.len();
                let value = format!("bytes {}-{}/{total}", range.start, range.end - 1);
                each("Content-Range", value.as_bytes());
            }
            Part::Many(_, boundary) => {
                let value = format!("multipart/byteranges; boundary={boundary}");
                each("Content-Type", value.as_bytes());
            }
            _ => {}
        }
        // RFC 9110 §8.6: no length where there is never a body. A 412 of a stored 204 has one.
        if !matches!(self.status(), StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT) {
            each("Content-Length", digits.format(self.length()).as_bytes());
        }
        if let Some(age) = self.age {
            each("Age", digits.format(age).as_bytes());
        }
        for (name, value) in self.extra.iter() {
            each(name, value);
        }
        cache_fields(self.outcome, self.cache_field, each);
    }

    /// The length of the body that a GET gets.
    fn length(&self) -> u64 {
        match &self.part {
            Part::Whole => self.body_of().bytes.len() as u64,
            Part::One(range) => range.end - range.start,
            Part::Many(..) => self.parts().iter().map(|part| part.len() as u64).sum(),
            Part::NotModified | Part::PreconditionFailed | Part::Unsatisfiable => 0,
        }
    }

    /// The body, in parts; none for HEAD and wherever there is none.
    pub fn each_body(&self, each: &mut dyn FnMut(Bytes)) {
        if self.head_only {
            return;
        }
        let bytes = &self.body_of().bytes;
        match &self.part {
            Part::Whole if bytes.is_empty() => {}
            Part::Whole => each(bytes.clone()),
            Part::One(range) => each(bytes.slice(range.start as usize..range.end as usize)),
            Part::Many(..) => self.parts().into_iter().for_each(each),
            Part::NotModified | Part::PreconditionFailed | Part::Unsatisfiable => {}
        }
    }

    /// A `multipart/byteranges` body (RFC 9110 §14.6).
    fn parts(&self) -> Vec<Bytes> {
        let Part::Many(ranges, boundary) = &self.part else { return Vec::new() };
        let bytes = &self.body_of().bytes;
        let kind = self.head().get("content-type").map(String::from_utf8_lossy);
        let mut parts = Vec::with_capacity(ranges.len() * 2 + 1);
        for (at, range) in ranges.iter().enumerate() {
            let mut head = String::new();
            head.push_str(if at == 0 { "--" } else { "\r\n--" });
            head.push_str(boundary);
            if let Some(kind) = &kind {
                head.push_str("\r\nContent-Type: ");
                head.push_str(kind);
            }
            let (first, last) = (range.start, range.end - 1);
            head.push_str(&format!(
                "\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n",
                bytes.len()
            ));
            parts.push(Bytes::from(head));
            parts.push(bytes.slice(range.start as usize..range.end as usize));
        }
        parts.push(Bytes::from(format!("\r\n--{boundary}--\r\n")));
        parts
    }
}

/// `Cache-Status`, and `X-Cache`, which is said once more in the field `also`.
pub fn cache_fields(
    outcome: Outcome,
    also: Option<&'static str>,
    each: &mut dyn FnMut(&str, &[u8]),
) {
    let mut text = [0u8; 160];
    let left = {
        let mut rest = &mut text[..];
        // Every outcome fits: the longest names are far shorter.
        let _ = write!(rest, "{outcome}");
        rest.len()
    };
    each("Cache-Status", &text[..text.len() - left]);
    for name in ["X-Cache"].into_iter().chain(also) {
        each(name, outcome.x_cache().as_bytes());
    }
}

/// Writes a status line (RFC 9112 §4).
pub(crate) fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        // Writing into a Vec cannot fail.
        let reason = status.canonical_reason().unwrap_or("");
        let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
    }
}

/// Writes a field line (RFC 9112 §5).
pub(crate) fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn is(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

/// The body that the visitor's `Accept-Encoding` prefers (RFC 9110 §12.5.3).
fn select_body(bodies: &[Body], request: &Request<'_>) -> usize {
    if bodies.len() == 1 {
        return 0;
    }
    let mut names = [""; CODINGS.len()];
    let mut at = [0; CODINGS.len()];
    let mut n = 0;
    for coding in CODINGS {
        if let Some(index) = bodies.iter().position(|body| body.coding == coding) {
            (names[n], at[n]) = (coding.into(), index);
            n += 1;
        }
    }
    // Nothing acceptable is no reason for an error: identity it is (§12.5.3).
    negotiate::coding(request.lines("accept-encoding"), &names[..n]).map_or(0, |chosen| at[chosen])
}

/// Preconditions and ranges (RFC 9110 §13.2.2, §14.2) of a request for a stored
/// representation. The entity tag of any coding tells that the visitor has the
/// page: the codings of a page come and go while its content is the same.
fn conditional_part(
    rep: &Representation,
    request: &Request<'_>,
    now: Time,
    body: &mut usize,
) -> Part {
    let of = |body: &Body| conditional::evaluate(request, &selected(rep, body), now);
    if of(&rep.bodies[*body]) == Precondition::NotModified {
        return Part::NotModified;
    }
    if let Some(had) = rep.bodies.iter().position(|b| of(b) == Precondition::NotModified) {
        *body = had;
        return Part::NotModified;
    }
    if rep.bodies.iter().all(|b| of(b) == Precondition::Failed) {
        return Part::PreconditionFailed;
    }
    if request.method != "GET" || rep.status != StatusCode::OK {
        return Part::Whole;
    }
    // Of the identity body: coded bytes may differ between two storings.
    let plain = &rep.bodies[0];
    let length = plain.bytes.len() as u64;
    let part = match conditional::requested(request, &selected(rep, plain), length, now) {
        Ranges::Whole => return Part::Whole,
        Ranges::One(range) => Part::One(range),
        Ranges::Many(ranges) => Part::Many(ranges, format!("{:032x}", fastrand::u128(..)).into()),
        Ranges::Unsatisfiable => Part::Unsatisfiable,
    };
    *body = 0;
    part
}

fn selected<'a>(rep: &'a Representation, body: &'a Body) -> Selected<'a> {
    Selected {
        status: rep.status,
        etag: Some(body.etag.as_bytes()),
        last_modified: rep.last_modified,
        date: None,
    }
}

#[cfg(test)]
mod tests;
