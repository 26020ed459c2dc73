//! From a response to what is stored: judging the head, building the
//! representation, and RFC 9111 §4.1.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AGE, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use super::ask::{Ask, without};
use super::classify::Fate;
use super::decode::Coded;
use super::stream::{Fill, Preview};
use crate::answer::head::{Audience, compressible};
use crate::config;
use crate::framework::{self, PageHints};
use crate::origin::Exchange;
use crate::page::{
    Asked, Body, Born, Coding, Compress, Fields, FieldsBuf, Form, Judged, Representation, Tags,
    Uses, VaryField,
};
use crate::rules::cache_control::governing;
use crate::rules::freshness::{Terms, initial_age, last_modified};
use crate::rules::storable::{Class, Verdict};
use crate::rules::vary::{self, Vary};
use crate::rules::{Reason, Time, conditional, framing, hop, media, status, tags};
use crate::terms::Response;

/// Asked without a client's fields: what is kept of a page behind middleware does not
/// depend on any.
pub(super) const NOBODY: Asked =
    Asked::Client { authorization: false, cookie: false, no_store: false };

/// A response head, with what the rules need beside it.
pub(super) struct Arrived {
    pub(super) status: StatusCode,
    /// The fields as they came: what they say of caching counts, of one hop or not.
    pub(super) headers: HeaderMap,
    /// Those that go on from here, `Set-Cookie` included.
    fields: Fields,
    /// The length of the body as it is handed on, if the origin named it.
    pub(super) length: Option<u64>,
    /// How the body came.
    pub(super) coded: Coded,
    request_time: Time,
    response_time: Time,
    born: Born,
}

impl Arrived {
    pub(super) fn new(exchange: &Exchange, born: Born) -> Arrived {
        let mut headers = exchange.head.headers.clone();
        let status = exchange.head.status;
        let coded = Coded::of(status, &headers);
        match coded {
            Coded::Known(_) => OF_CODED_BYTES.iter().for_each(|name| drop(headers.remove(*name))),
            // It says identity, if anything (RFC 9110 §8.4: it should not).
            Coded::Not => drop(headers.remove(CONTENT_ENCODING)),
            Coded::Unknown(_) => {}
        }
        let mut fields = FieldsBuf::default();
        for (name, value) in hop::end_to_end(&headers) {
            fields.push(name.as_str(), value.as_bytes());
        }
        Arrived {
            status,
            fields: fields.done(),
            // Checked when the head came.
            length: framing::length(status, &headers).unwrap_or(None),
            headers,
            coded,
            request_time: exchange.request_time,
            response_time: exchange.response_time,
            born,
        }
    }

    /// The entity tag that clients get. One of coded bytes is not one of the
    /// decoded, but what they say is the same: a weak tag (RFC 9110 §8.8.1).
    fn etag(&self) -> Option<Box<str>> {
        let etag = self.headers.get(ETAG)?.to_str().ok()?;
        let weaken = matches!(self.coded, Coded::Known(_)) && !etag.starts_with("W/");
        Some(if weaken { format!("W/{etag}").into() } else { etag.into() })
    }

    /// Takes away the cookies of which this holds: they are of no client, and do
    /// not make the page one's own.
    pub(super) fn drop_cookies(&mut self, ours: impl Fn(&[u8]) -> bool) {
        let all = self.cookies();
        if !all.iter().any(|line| ours(line.as_bytes())) {
            return;
        }
        self.headers.remove(SET_COOKIE);
        for line in all.into_iter().filter(|line| !ours(line.as_bytes())) {
            self.headers.append(SET_COOKIE, line);
        }
        let mut fields = FieldsBuf::default();
        for (name, value) in self.fields.iter() {
            if !(name.eq_ignore_ascii_case("set-cookie") && ours(value)) {
                fields.push(name, value);
            }
        }
        self.fields = fields.done();
    }

    /// The same response with no other fields than these.
    pub(super) fn with_fields(&self, keeps: impl Fn(&HeaderName) -> bool) -> Arrived {
        let mut headers = HeaderMap::new();
        let mut fields = FieldsBuf::default();
        for (name, value) in self.headers.iter().filter(|(name, _)| keeps(name)) {
            headers.append(name.clone(), value.clone());
            fields.push(name.as_str(), value.as_bytes());
        }
        Arrived { headers, fields: fields.done(), coded: self.coded.clone(), ..*self }
    }

    /// Adds a field.
    pub(super) fn add(&mut self, name: HeaderName, value: HeaderValue) {
        let mut fields = FieldsBuf::default();
        self.fields.iter().for_each(|(name, value)| fields.push(name, value));
        fields.push(name.as_str(), value.as_bytes());
        self.fields = fields.done();
        self.headers.append(name, value);
    }

    /// The fields that go on from here, `Set-Cookie` included.
    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// When its head had arrived.
    pub(super) fn received(&self) -> Time {
        self.response_time
    }

    /// The cookies that it sets.
    pub(super) fn cookies(&self) -> Vec<HeaderValue> {
        self.headers.get_all(SET_COOKIE).iter().cloned().collect()
    }

    /// Whether asking for a form that the page may not have brought something else
    /// (semantics §4). A failed render says nothing about that.
    pub(super) fn brought_no_data(&self, form: Form) -> bool {
        if form == Form::Payload {
            return self.status.is_success() && !media::is(&self.headers, framework::PAYLOAD_TYPE);
        }
        !media::is_json(&self.headers) && status::meaning(self.status).is_of_the_page()
    }

    /// What the origin wants as the mark of a request for a payload, if this is a redirect
    /// that says nothing else.
    pub(super) fn marked(&self, ask: &Ask) -> Option<Box<str>> {
        let name = ask.upstream.preset.cache_buster()?;
        if ask.form != Form::Payload || !self.status.is_redirection() {
            return None;
        }
        let location = self.headers.get(LOCATION)?.to_str().ok()?;
        // Absolute, or without a host.
        let target = match location.parse::<http::Uri>() {
            Ok(uri) => uri.path_and_query()?.as_str().to_owned(),
            Err(_) => location.to_owned(),
        };
        let (path, query) = target.split_once('?')?;
        let mut mark = None;
        let mut rest = Vec::new();
        for parameter in query.split('&') {
            match parameter.split_once('=') {
                // It appends: the last one counts.
                Some((n, value)) if n == name => mark = Some(value),
                _ if parameter == name => mark = Some(""),
                _ => rest.push(parameter),
            }
        }
        let rest = rest.join("&");
        let (own_path, own_query) = ask.target.split_once('?').unwrap_or((&ask.target, ""));
        // To what the origin made of it within is nowhere else, either. Its query is its own.
        let rewritten =
            || ask.upstream.preset.rewritten(&self.headers).iter().any(|made| path.ends_with(made));
        let same = (path == own_path && rest == own_query) || (mark.is_some() && rewritten());
        same.then(|| mark.unwrap_or("").into())
    }

    /// What the body of a complete response tells of its page.
    pub(super) fn page_hints(&self, ask: &Ask, body: &[u8]) -> PageHints {
        if !self.status.is_success() {
            return PageHints::default();
        }
        let mut hints = ask.upstream.preset.page_hints(ask.form, body);
        if ask.form == Form::Data {
            hints.build = ask.build.as_deref().map(Into::into);
        }
        hints
    }

    pub(super) fn judge(&self, ask: &Ask) -> Verdict {
        self.judge_as(ask, ask.asked())
    }

    /// Whether, but for the cookies, a cache could use it for others as it arrived.
    pub(super) fn is_reusable_without_cookies(&self, ask: &Ask) -> bool {
        let Asked::Client { authorization, no_store, .. } = ask.asked() else {
            return false;
        };
        let asked = Asked::Client { authorization, cookie: false, no_store };
        match self.judge_as(ask, asked) {
            Verdict::Store { terms, .. } => self.without_validation(&terms),
            Verdict::Refuse { .. } => false,
        }
    }

    /// The same where the body was asked for with other fields.
    pub(super) fn judge_as(&self, ask: &Ask, asked: Asked) -> Verdict {
        let verdict = ask.judge().response(&self.response(ask, asked));
        let Verdict::Store { .. } = verdict else { return verdict };
        let refuse = |reason| Verdict::Refuse { reason, class: Class::Unshared };
        if matches!(self.coded, Coded::Unknown(_)) {
            return refuse(Reason::ContentEncoding);
        }
        // A client that bypasses the proxies can send what they say of clients.
        if !ask.page && ask.is_of_proxies(&self.headers) {
            return refuse(Reason::VaryStar);
        }
        verdict
    }

    /// Whether only its body tells for whom it was rendered.
    pub(super) fn tells_by_body(&self, ask: &Ask) -> bool {
        ask.judge().tells_by_body(&self.response(ask, ask.asked()))
    }

    fn response(&self, ask: &Ask, asked: Asked) -> Response<'_> {
        Response {
            form: ask.form,
            status: self.status,
            headers: &self.headers,
            asked,
            request_time: self.request_time,
            response_time: self.response_time,
        }
    }

    /// Whether a cache may use it as it arrived without asking the origin first.
    pub(super) fn without_validation(&self, terms: &Terms) -> bool {
        let age = self.response_time.since(self.generated());
        terms.state(age, false).without_validation()
    }

    /// What clients see of it while it is streamed. `keeps`: whether there is a store at all.
    pub(super) fn preview(
        &self,
        ask: &Ask,
        cache: &config::Cache,
        fate: Fate,
        keeps: bool,
    ) -> Preview {
        let stored = fate.stored(keeps);
        let failed = matches!(fate, Fate::SharedError(_));
        let reusable = match fate {
            Fate::Stored { terms, .. } => ask.page || self.without_validation(&terms),
            _ => ask.page,
        };
        let audience = match stored {
            Ok(()) if ask.rendering.is_guarded() => Audience::One,
            Ok(()) | Err(Reason::NoCache) => Audience::All,
            Err(_) if failed => Audience::Waiting,
            Err(_) => Audience::One,
        };
        let head = self.shape(ask, cache, audience, self.length.unwrap_or(u64::MAX));
        let date = head.get("date").map(Into::into);
        let mut fields = FieldsBuf::from(head);
        if let Some(etag) = self.etag() {
            fields.push("ETag", etag.as_bytes());
        }
        // The origin's `Age` counts for the first client, too.
        let age_sent = !(ask.page && ask.route.browser.is_some());
        if audience == Audience::All && age_sent && self.headers.contains_key(AGE) {
            let age = self.response_time.since(self.generated()).as_secs();
            fields.push("Age", age.to_string().as_bytes());
        }
        Preview {
            status: self.status.as_u16(),
            fields: fields.done(),
            date,
            length: self.length,
            coding: match &self.coded {
                Coded::Unknown(coding) => Some(coding.clone()),
                Coded::Not | Coded::Known(_) => None,
            },
            stored,
            reusable,
            failed,
            vary: self.vary_names(ask),
            tags: ask.route.tags.union(&sent_tags(&self.headers)),
        }
    }

    fn shape(&self, ask: &Ask, cache: &config::Cache, audience: Audience, size: u64) -> Fields {
        let compressible = audience == Audience::All && self.compressible(cache, size);
        let received = self.response_time;
        ask.judge().head(&self.fields, audience, self.status, compressible, received)
    }

    /// The names that select between stored representations: on page routes what
    /// the framework tells apart (anything else was not sent), elsewhere what the
    /// response says, less what is in the key or was not the client's to say.
    pub(super) fn vary_names(&self, ask: &Ask) -> Vec<Box<str>> {
        // What middleware goes by, it is asked each time.
        if ask.page || ask.rendering.is_guarded() {
            return ask.upstream.preset.selecting(ask.form, &self.headers);
        }
        match vary::parse(&self.headers) {
            Vary::Names(names) => {
                let selecting = names.iter().filter(|name| ask.selects_by(name));
                selecting.map(|n| n.as_str().into()).collect()
            }
            Vary::None | Vary::Star => Vec::new(),
        }
    }

    /// The representation that is stored.
    pub(super) fn store(&self, ask: &Ask, cache: &config::Cache, body: Vec<u8>) -> Representation {
        let size = body.len() as u64;
        let own = || format!("\"p{:032x}\"", xxhash_rust::xxh3::xxh3_128(&body)).into();
        let etag = self.etag().unwrap_or_else(own);
        let bytes = Bytes::from(body.into_boxed_slice());
        let vary = self.vary_names(ask);
        let is_for_all = ask.page || ask.rendering.is_guarded();
        Representation {
            request: if is_for_all { Fields::default() } else { ask.kept(&vary) },
            vary: vary.into_iter().map(|name| selected_by(name, ask)).collect(),
            bodies: Box::new([Body { coding: Coding::Identity, etag, bytes }]),
            ..self.without_body(ask, cache, size)
        }
    }

    /// What is stored of it, but for its body of `size` bytes and the fields that select it.
    fn without_body(&self, ask: &Ask, cache: &config::Cache, size: u64) -> Representation {
        Representation {
            form: ask.form,
            vary: Box::default(),
            status: self.status,
            origin: without(&self.fields, &["set-cookie"]),
            set_cookie: self.headers.contains_key(SET_COOKIE),
            asked: if ask.rendering.is_guarded() { NOBODY } else { ask.asked() },
            request: Fields::default(),
            origin_etag: self.etag().is_some(),
            last_modified: last_modified(&self.headers, self.response_time),
            bodies: Box::default(),
            compress: Compress::new(self.compressible(cache, size)),
            judged: Judged::default(),
            uses: Uses::default(),
            request_time: self.request_time,
            response_time: self.response_time,
            generated: self.generated(),
            born: self.born,
            tags: Arc::new(sent_tags(&self.headers)),
        }
    }

    fn compressible(&self, cache: &config::Cache, size: u64) -> bool {
        let directives = governing(&self.headers).directives;
        compressible(&self.fields, &directives, size, cache.compress_min)
    }

    /// When the response was generated, by its corrected initial age.
    pub(super) fn generated(&self) -> Time {
        let age = initial_age(&self.headers, self.request_time, self.response_time);
        Time(self.response_time.0.saturating_sub(age.as_millis() as u64))
    }
}

/// Fields that describe coded bytes (RFC 9110 §8.4, RFC 9530): of no use where
/// the body goes on decoded. The entity tag stays: the origin knows it.
const OF_CODED_BYTES: [&str; 7] = [
    "content-encoding",
    "content-length",
    "accept-ranges",
    "content-digest",
    "content-md5",
    "digest",
    "repr-digest",
];

/// Relays an informational response to the leader of the fill.
pub(super) fn relay(fill: &Fill, head: &ResponseHeader) {
    let mut fields = FieldsBuf::default();
    for (name, value) in hop::end_to_end(&head.headers) {
        fields.push(name.as_str(), value.as_bytes());
    }
    fill.interim(head.status.as_u16(), fields.done());
}

/// The stored response after a 304 (RFC 9111 §4.3.4), and whether it is a stale
/// copy of the origin's own all the same; none if the 304 is of
/// another response, or if what the origin says now forbids storing.
pub(super) fn refreshed(
    ask: &Ask,
    cache: &config::Cache,
    prior: &Representation,
    update: &Arrived,
) -> Option<(Representation, bool)> {
    let stored = prior.origin.to_map();
    if !conditional::selects(&stored, &update.headers) {
        return None;
    }
    let headers = conditional::merge_304(&stored, &update.headers, &framework::CACHE_FIELDS);
    let mut fields = FieldsBuf::default();
    for (name, value) in &headers {
        if name != CONTENT_LENGTH && name != SET_COOKIE {
            fields.push(name.as_str(), value.as_bytes());
        }
    }
    let merged = Arrived {
        status: prior.status,
        // The cookies of a 304 are for its requester and say nothing of the page.
        headers: {
            let mut headers = headers;
            headers.remove(SET_COOKIE);
            headers
        },
        fields: fields.done(),
        length: None,
        coded: Coded::Not,
        request_time: update.request_time,
        response_time: update.response_time,
        born: update.born,
    };
    // What was rendered without cookies does not depend on those of the client that had it
    // validated.
    let asked = match (ask.asked(), prior.asked) {
        (Asked::Client { authorization, no_store, .. }, Asked::Client { cookie, .. }) => {
            Asked::Client { authorization, cookie, no_store }
        }
        (asked, _) => asked,
    };
    let Verdict::Store { origin_stale, .. } = merged.judge_as(ask, asked) else { return None };
    let size = prior.identity().bytes.len() as u64;
    // It may vary on more than it did: then it is for requests like this one.
    let mut selected = prior.vary.to_vec();
    for name in merged.vary_names(ask) {
        if !selected.iter().any(|field| field.name == name) {
            selected.push(selected_by(name, ask));
        }
    }
    // Then it is not selected by what brought its body, either.
    let request = if selected.len() == prior.vary.len() {
        prior.request.clone()
    } else {
        let names: Vec<Box<str>> = selected.iter().map(|field| field.name.clone()).collect();
        ask.kept(&names)
    };
    let fresh = merged.without_body(ask, cache, size);
    let rep = Representation {
        form: prior.form,
        vary: selected.into(),
        set_cookie: prior.set_cookie,
        asked: prior.asked,
        request,
        origin_etag: prior.origin_etag,
        bodies: prior.bodies.clone(),
        // What was begun for the prior one may come too late to be attached.
        compress: match prior.bodies.len() {
            1 => fresh.compress.clone(),
            _ => Compress::new(true).done(),
        },
        ..fresh
    };
    Some((rep, origin_stale))
}

/// The tags that the origin sent.
fn sent_tags(headers: &HeaderMap) -> Tags {
    let (sent, overflow) = tags::tags(headers);
    Tags { names: sent.into(), overflow }
}

/// A field of what is asked for as one that selects its answer.
fn selected_by(name: Box<str>, ask: &Ask) -> VaryField {
    VaryField { value: vary::value(&name, &ask.fields), name }
}

/// Whether a response that varies on `names` and answered a request with the
/// fields `leader` may answer one with `follower` (RFC 9111 §4.1).
pub(super) fn selects(names: &[Box<str>], leader: &Fields, follower: &Fields) -> bool {
    names.iter().all(|name| vary::value(name, leader) == vary::value(name, follower))
}

/// Request fields that select this representation again.
pub(super) fn selecting(rep: &Representation) -> Fields {
    let mut fields = FieldsBuf::default();
    for field in &rep.vary {
        if let Some(value) = &field.value {
            fields.push(&field.name, value);
        }
    }
    fields.done()
}
