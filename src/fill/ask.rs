//! What a fill asks for, and the request that it sends (semantics §3).

use std::borrow::Cow;
use std::sync::Arc;

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;

use super::notes::{Notes, Subject};
use crate::config::{Cookies, Encoding, RequestFields};
use crate::deployment::Deployments;
use crate::framework::{Preset, Rendering};
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::page::{Asked, Fields, FieldsBuf, Form, Page, PageKey, Representation};
use crate::route::Route;
use crate::rules::request_fields::{Passing, Sender};
use crate::rules::vary::{self, Vary};
use crate::rules::{Lines, hop};
use crate::terms::Judge;
use crate::via::Via;

/// Everything a fill needs to know. Owned, because a fill outlives the request
/// that began it.
#[derive(Clone)]
pub struct Ask {
    /// The route.
    pub route: Arc<Route>,
    /// Under the terms of `isr` and `dsg`; otherwise of `ssr`.
    pub page: bool,
    /// What its route would make of the URL, were it not server-rendered for now.
    pub server_rendered: Option<Subject>,
    /// What the site's build says of the page, where that counts.
    pub rendering: Rendering,
    /// Where to ask, and how.
    pub upstream: Upstream,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// The build that the URLs of the page's data name, if it is known.
    pub build: Option<Arc<str>>,
    /// The renderer is told to render, whatever it has in a cache of its own.
    pub anew: bool,
    /// The page.
    pub key: PageKey,
    /// Which form of it.
    pub form: Form,
    /// What the origin is asked for: path and query.
    pub target: Box<str>,
    /// On page routes the declared variants with their normalised values, and what
    /// selects a representation; on `ssr` the end-to-end fields of the client's
    /// request.
    pub fields: Fields,
    /// What the client's request carries that makes its answer the client's own, perhaps.
    pub carries: Carries,
    /// It carries fields of a client beyond those that select what it asks for. How
    /// the origin answers it may be that client's doing.
    pub of_a_client: bool,
    /// On page routes: its leader carries nothing that it leaves out, and gets what it
    /// brings, whatever that is.
    pub is_whole: bool,
}

/// The site behind a route, and how it is asked.
#[derive(Clone)]
pub struct Upstream {
    /// Its servers.
    pub origin: Arc<Origin>,
    /// How the framework names the forms of a page.
    pub preset: Preset,
    /// What the request is marked with.
    pub via: Via,
    /// Which of a client's fields are sent.
    pub request_fields: Arc<RequestFields>,
    /// The deployments of the site, to tell which one answers.
    pub deployments: Arc<Deployments>,
}

/// What a request on `ssr` carries of its client. On page routes none of it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carries {
    /// `Authorization` (RFC 9111 §3.5).
    pub authorization: bool,
    /// A cookie, and it is sent.
    pub cookie: bool,
    /// `no-store` (RFC 9111 §5.2.1.5), and the route obeys it.
    pub no_store: bool,
    /// It is a prefetch, and the origin is told.
    pub prefetch: bool,
}

/// Fields that belong to the client's request and not to a fill: conditions and
/// ranges, framing, and the codings that the client takes. Which fields no
/// client should send at all, [`crate::rules::request_fields`] says.
const NOT_OF_A_FILL: &[&str] = &[
    "accept-encoding",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "via",
];

/// Fields that browsers send with any request: they tell no two kinds of clients apart.
const ORDINARY: &[&str] = &[
    "accept",
    "accept-language",
    "cache-control",
    "cookie",
    "dnt",
    "pragma",
    "priority",
    "purpose",
    "referer",
    "save-data",
    "sec-gpc",
    "sec-purpose",
    "upgrade-insecure-requests",
    "user-agent",
];

/// Beginnings of the names of such fields: client hints, and fetch metadata.
const ORDINARY_STARTS: &[&str] = &["sec-ch-", "sec-fetch-"];

/// Fields that identify the client, or say what one request wants of caches.
const OF_ONE_REQUEST: &[&str] =
    &["authorization", "cache-control", "cookie", "pragma", "purpose", "sec-purpose"];

/// Fields that proxies and tracers add, new ones for each request.
const OF_THE_WAY: &[&str] = &[
    "b3",
    "baggage",
    "cf-ray",
    "cf-worker",
    "cdn-loop",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "x-amz-cf-id",
    "x-amzn-trace-id",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-forwarded-for",
    "x-request-id",
    "x-request-start",
];

/// What Perennial says itself, by what is in every key.
const SAID_BY_KEY: &[&str] = &["host", "x-forwarded-host", "x-forwarded-proto"];

/// The field with the addresses of clients and proxies, lower case.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whether a fill may send this field of a client at all.
#[must_use]
pub fn may_be_sent(name: &str) -> bool {
    !(hop::is_hop_by_hop(name) || listed(NOT_OF_A_FILL, name) || listed(SAID_BY_KEY, name))
}

/// Fields less those of these names.
#[must_use]
pub fn without(fields: &Fields, names: &[&str]) -> Fields {
    let mut out = FieldsBuf::default();
    for (name, value) in fields.iter() {
        if !listed(names, name) {
            out.push(name, value);
        }
    }
    out.done()
}

/// Marks the key of a page that is server-rendered for now: it must not meet
/// the page that its route makes of the same URL. No field has such a name.
pub const SERVER_RENDERED: &str = "~server-rendered";

/// Marks the key of a page that middleware runs before: what is stored there is served only
/// after the origin has confirmed it.
pub const GUARDED: &str = "~guarded";

/// The field that is sent for a declared variant.
pub fn variant_field(fields: &mut FieldsBuf, name: &str, value: &str) {
    match (name, value) {
        ("accept", "") => fields.push(name, b"*/*"),
        ("accept", formats) => fields.push(name, format!("{formats},*/*").as_bytes()),
        (_, "") => {}
        _ => fields.push(name, value.as_bytes()),
    }
}

/// The fields that bring a page's declared variants.
#[must_use]
pub fn variant_fields(key: &PageKey) -> Fields {
    let mut fields = FieldsBuf::default();
    let is_mark = |name: &str| matches!(name, SERVER_RENDERED | GUARDED);
    for (name, value) in key.variants().filter(|(name, _)| !is_mark(name)) {
        variant_field(&mut fields, name, value);
    }
    fields.done()
}

impl Ask {
    /// What judges its response.
    #[must_use]
    pub fn judge(&self) -> Judge<'_> {
        Judge { route: &self.route, page: self.page, preset: &self.upstream.preset }
    }

    /// Whose fields it carries.
    #[must_use]
    pub fn asked(&self) -> Asked {
        if self.page {
            return Asked::Route;
        }
        let Carries { authorization, cookie, no_store, .. } = self.carries;
        Asked::Client { authorization, cookie, no_store }
    }

    /// What is kept of its fields beside a response that varies on these names: what
    /// browsers say, less what proxies add and what identifies the client. Not what only this
    /// client may say, such as a key: it is not for us to say it again.
    pub(super) fn kept(&self, varies: &[Box<str>]) -> Fields {
        let selects = |name: &str| listed(varies, name) || self.decides_form(name);
        let of_one = |name: &str| {
            is_of_the_way(name) || listed(OF_ONE_REQUEST, name) || !self.is_common(name)
        };
        let mut fields = FieldsBuf::default();
        for (name, value) in self.fields.iter() {
            if selects(name) || !of_one(name) {
                fields.push(name, value);
            }
        }
        fields.done()
    }

    /// A field by which the form or a declared variant is chosen.
    fn decides_form(&self, name: &str) -> bool {
        listed(self.upstream.preset.vary(), name) || listed(&self.route.vary, name)
    }

    /// The same as it was asked when a stored representation was rendered. Whoever
    /// asks now has no say in it. None if the page cannot have that form.
    pub(super) fn as_stored(&self, rep: &Representation) -> Option<Ask> {
        let fields = rep.request.clone();
        let authorization = fields.get("authorization").is_some();
        let cookie = fields.get("cookie").is_some();
        let carries = Carries { authorization, cookie, ..Carries::default() };
        let ask = self.for_form(rep.form, fields)?;
        Some(Ask { carries, of_a_client: false, ..ask })
    }

    /// Whether it is [`as_stored`](Self::as_stored) already: how the origin answers is
    /// then no doing of this client's.
    pub(super) fn is_as_stored(&self, rep: &Representation) -> bool {
        let names = rep.names();
        let varies = |name: &str| listed(&names, name);
        let own = (self.carries.cookie && !varies("cookie"))
            || (self.carries.authorization && !varies("authorization"))
            || self.carries.no_store
            || self.carries.prefetch
            || self.uncommon(&self.fields).any(|(n, _)| !varies(n) && !self.decides_form(n));
        !self.of_a_client || (!own && self.kept(&names) == rep.request)
    }

    /// The same for no client in particular: no cookies, no credentials.
    pub(super) fn without_person(&self) -> Ask {
        Ask { fields: self.kept(&[]), carries: Carries::default(), ..self.clone() }
    }

    /// Whether what the origin renders is for this client alone: for its cookies, as
    /// far as is known. `varies`: names that the page is known to vary on.
    pub(super) fn is_personal(&self, varies: &[Box<str>]) -> bool {
        self.carries.cookie && self.route.cookies != Cookies::Shared && !listed(varies, "cookie")
    }

    /// Whether this fill, which is for all, leaves out something that a client carries:
    /// `whole` is the client's own request. Conditions and codings, what says how a request
    /// came, and what it wants of caches do not count.
    pub(crate) fn leaves_out(&self, whole: &Ask) -> bool {
        let query = |target: &str| target.split_once('?').map(|(_, query)| query.to_owned());
        let sent = |name: &str| self.fields.get(name).is_some();
        let own = |name: &str| listed(&["accept", "cache-control", "pragma"], name);
        query(&self.target) != query(&whole.target)
            || whole.fields.iter().any(|(name, _)| {
                !(own(name) || sent(name) || self.decides_form(name) || is_of_the_way(name))
            })
    }

    /// Fields that browsers do not send with any request, such as the key of an
    /// interface.
    fn uncommon<'a>(&'a self, fields: &'a Fields) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        fields.iter().filter(|(name, _)| !self.is_common(name))
    }

    fn is_common(&self, name: &str) -> bool {
        let starts =
            |start: &&str| name.get(..start.len()).is_some_and(|n| n.eq_ignore_ascii_case(start));
        listed(ORDINARY, name)
            || ORDINARY_STARTS.iter().any(starts)
            || is_of_the_way(name)
            || listed(&self.upstream.request_fields.trust, name)
    }

    /// Which clients may wait for one another's answer before its head is there: those that
    /// send the same beside what browsers send, hashed. That may make it slow, or fail.
    pub(super) fn kind(&self, fields: &Fields) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        if !self.page {
            self.uncommon(fields).for_each(|(name, value)| add_field(&mut hash, name, Some(value)));
        }
        hash.digest()
    }

    /// The client whose fields it carries, hashed: by what it says, not by where it
    /// comes from.
    pub(super) fn client(&self) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for (name, value) in self.fields.iter().filter(|(name, _)| !is_of_the_way(name)) {
            add_field(&mut hash, name, Some(value));
        }
        hash.digest()
    }

    /// The same for another form of the page, or another representation of this
    /// one; none if the page cannot have that form.
    #[must_use]
    pub fn for_form(&self, form: Form, fields: Fields) -> Option<Ask> {
        let own = form == self.form;
        let target = if own && !(self.page && form == Form::Data) {
            self.target.clone()
        } else {
            match self.upstream.preset.target(self.key.target(), form, self.build.as_deref()) {
                Some(target) => target.into(),
                // The preset does not know it, but a client asked for it.
                None if own => self.target.clone(),
                None => return None,
            }
        };
        let is_whole = self.is_whole && own;
        Some(Ask { form, fields, target, is_whole, ..self.clone() })
    }

    /// The fields that select among the representations of its form, hashed.
    #[must_use]
    pub fn selection(&self) -> u64 {
        self.selection_of(self.form, &self.fields)
    }

    /// Whose requests may wait for one another, hashed: on page routes those for the
    /// same representation; on `ssr` those that have the same in the fields on
    /// which the page is known to vary, and are alike in carrying a cookie and in
    /// being a prefetch. What is learnt from an answer counts for these alone.
    pub(super) fn crowd(&self, form: Form, fields: &Fields, seen: Option<&Page>) -> u64 {
        if self.page {
            return self.selection_of(form, fields);
        }
        let mut names: Vec<&str> = seen
            .into_iter()
            .flat_map(|page| page.members.iter())
            .filter(|rep| rep.form == form)
            .flat_map(|rep| rep.vary.iter().map(|field| &*field.name))
            .collect();
        names.sort_unstable();
        names.dedup();
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&self.kind(fields).to_le_bytes());
        hash.update(&[u8::from(self.carries.cookie), u8::from(self.carries.prefetch)]);
        for name in names {
            add_field(&mut hash, name, vary::value(name, fields).as_deref());
        }
        hash.digest()
    }

    /// The regenerations whose failures it is held back by, and adds to: those of its
    /// page, or, where it carries a client's fields, of that client there.
    pub(super) fn failures(&self, notes: &Notes) -> Subject {
        match self.of_a_client {
            true => notes.client(self.key.as_str(), self.client()),
            false => notes.page(self.key.as_str()),
        }
    }

    /// What is noted of a form of its page.
    pub(super) fn about(&self, notes: &Notes, form: Form, part: u64) -> Subject {
        notes.form(self.key.as_str(), form, part)
    }

    /// The same for another representation of the page.
    pub(super) fn selection_of(&self, form: Form, fields: &Fields) -> u64 {
        if !self.page {
            return 0;
        }
        selection(&self.upstream.preset, form, fields)
    }

    /// Whether requests that differ in this field, on which a response varies, may
    /// be answered differently. Not by what is in the key, nor by what no client
    /// has a say in.
    pub(super) fn selects_by(&self, name: &HeaderName) -> bool {
        let rules = &self.upstream.request_fields;
        let passing = Passing {
            allow: &rules.allow,
            trust: &rules.trust,
            drop: &rules.drop,
            declared: &[],
            sender: Sender::TrustedProxy,
        };
        !self.route.vary.contains(name)
            && may_be_sent(name.as_str())
            && passing.passes(name.as_str())
    }

    /// Whether a response varies on what is believed of proxies alone. A client
    /// that bypasses them could send the same, and select it.
    pub(super) fn is_of_proxies(&self, response: &HeaderMap) -> bool {
        let Vary::Names(names) = vary::parse(response) else { return false };
        let trusted = |name: &HeaderName| {
            name == FORWARDED_FOR || self.upstream.request_fields.trust.contains(name)
        };
        names.iter().any(trusted)
    }

    /// What it sends in place of the fields that a mark is of (see
    /// [`Framework::asks_plainly`](crate::framework::Framework::asks_plainly)).
    fn asks_plainly(&self) -> Option<(&'static str, &'static str)> {
        let none = || {
            self.upstream
                .preset
                .cache_buster_fields()
                .iter()
                .all(|name| self.fields.get(name).is_none())
        };
        if self.page && none() { self.upstream.preset.asks_plainly(self.form) } else { None }
    }

    /// What the cache buster of a request for a payload depends on (see [`head`](Self::head)), hashed.
    pub(super) fn cache_buster_subject(&self) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        if let Some((name, value)) = self.asks_plainly() {
            add_field(&mut hash, name, Some(value.as_bytes()));
        }
        for name in self.upstream.preset.cache_buster_fields() {
            for value in self.fields.lines(name) {
                hash.update(name.as_bytes());
                hash.update(&(value.len() as u64).to_le_bytes());
                hash.update(value);
            }
        }
        hash.digest()
    }

    /// The request head. `prior` is what is stored, if the origin may answer
    /// that it has not changed; `mark` the value of the parameter that such
    /// requests for payloads carry: never a client's own, for it is in no key.
    ///
    /// # Errors
    /// The target cannot be sent.
    pub fn head(
        &self,
        prior: Option<&Representation>,
        mark: &str,
    ) -> pingora::Result<Box<RequestHeader>> {
        let preset = &self.upstream.preset;
        let target = match preset.cache_buster() {
            Some(name) if self.form == Form::Payload => {
                let separator = if self.target.contains('?') { '&' } else { '?' };
                Cow::Owned(format!("{}{separator}{name}={mark}", self.target))
            }
            _ => Cow::Borrowed(&*self.target),
        };
        let mut head = RequestHeader::build("GET", target.as_bytes(), Some(16))?;
        head.insert_header("Host", self.upstream.origin.host_field(self.key.host()))?;
        if self.page {
            head.insert_header("User-Agent", preset.agent())?;
            if self.fields.get("accept").is_none() {
                head.insert_header("Accept", preset.accept(self.form))?;
            }
        }
        if let (true, Some((name, value))) = (self.page && self.anew, preset.force_render()) {
            head.insert_header(name, value)?;
        }
        let asks = [preset.asks(self.form).filter(|_| self.page), self.asks_plainly()];
        for (name, value) in asks.into_iter().flatten() {
            head.insert_header(name, value)?;
        }
        for (name, value) in self.fields.iter() {
            head.append_header(name.to_owned(), HeaderValue::from_bytes(value).unwrap_or(EMPTY))?;
        }
        if self.upstream.origin.config().encoding == Encoding::Gzip {
            head.insert_header(ACCEPT_ENCODING, "gzip")?;
        }
        head.insert_header("X-Forwarded-Host", self.key.host())?;
        head.insert_header("X-Forwarded-Proto", self.key.scheme())?;
        head.insert_header("Via", self.upstream.via.member())?;
        if let Some(prior) = prior {
            // As the origin said it: what clients get may have been weakened.
            if let (Some(etag), true) = (prior.origin.get("etag"), prior.origin_etag) {
                head.insert_header("If-None-Match", etag)?;
            }
            if let (Some(date), Some(_)) = (prior.origin.get("last-modified"), prior.last_modified)
            {
                head.insert_header("If-Modified-Since", date)?;
            }
        }
        Ok(Box::new(head))
    }
}

/// The fields of a request that select among the representations of a form on page
/// routes, hashed; 0: it has none of them.
#[must_use]
pub fn selection<L: Lines + ?Sized>(preset: &Preset, form: Form, request: &L) -> u64 {
    let names = preset.fields(form);
    if names.is_empty() {
        return 0;
    }
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut any = false;
    for name in names {
        if let Some(value) = request.lines(name).next() {
            any = true;
            for part in [name.as_bytes(), b"\0", value, b"\0"] {
                hash.update(part);
            }
        }
    }
    if any { hash.digest() | 1 } else { 0 }
}

/// Whether a list has this name, in any case.
fn listed(list: &[impl AsRef<str>], name: &str) -> bool {
    list.iter().any(|listed| name.eq_ignore_ascii_case(listed.as_ref()))
}

/// Whether proxies and tracers add this field, a new one for each request.
fn is_of_the_way(name: &str) -> bool {
    listed(OF_THE_WAY, name)
}

fn add_field(hash: &mut xxhash_rust::xxh3::Xxh3, name: &str, value: Option<&[u8]>) {
    for part in [name.to_ascii_lowercase().as_bytes(), b"\0", value.unwrap_or(b"\n"), b"\0"] {
        hash.update(part);
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");
