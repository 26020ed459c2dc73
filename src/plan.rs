//! What a request is about: the webhook, something the cache has no part in, or
//! a form of a page under a key. The key is made here, before anything is
//! rewritten, and what is not in it does not reach the origin on page routes.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use http::header::ACCEPT;

use crate::config::Mode;
use crate::fill::{
    Ask, Carries, FORWARDED_FOR, GUARDED, Notes, SERVER_RENDERED, Subject, Upstream, may_be_sent,
    selection, variant_field, variant_fields, without,
};
use crate::framework::{Located, Preset, Rendering};
use crate::host;
use crate::live::Live;
use crate::page::{Fields, FieldsBuf, Form, KeyBuf, PageKey, Representation, canonical_path};
use crate::request::{Facts, Request};
use crate::route::{Route, is_named};
use crate::rules::cache_status::Bypass;
use crate::rules::request_fields::Passing;
use crate::rules::{Lines, negotiate, vary};

/// What is to be done with a request.
#[derive(Debug)]
pub enum Plan {
    /// The webhook.
    Webhook,
    /// To the origin, past the store.
    Bypass(Arc<Route>, Bypass),
    /// A form of a page; its key is in the buffer.
    Page(Wanted),
}

/// A form of a page that is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its route.
    pub route: Arc<Route>,
    /// Under the terms of `isr` and `dsg`; otherwise of `ssr`.
    pub page: bool,
    /// The form.
    pub form: Form,
    /// Which representation of it, as far as the preset tells (see [`selection`]).
    pub selection: u64,
    /// What its route would make of the URL, were it not server-rendered for now.
    pub server_rendered: Option<Subject>,
    /// What the site's build says of it, where that counts.
    pub rendering: Rendering,
    /// Where nothing is stored of it, only the origin can say whether it is for all.
    pub is_unknown: bool,
    url: Url,
}

/// What the URL of a request says, beside what its key does.
#[derive(Clone, Debug)]
struct Url {
    /// The canonical path, where it is another than the path as sent.
    path: Option<Box<str>>,
    /// Where in that path a build is named.
    build: Option<Range<u32>>,
    /// The form that it names.
    form: Form,
}

impl Url {
    fn new(path: Cow<'_, str>, build: Option<Range<u32>>, form: Form) -> Url {
        let path = match path {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(path.into()),
        };
        Url { path, build, form }
    }

    /// The canonical path of the request that it was made for.
    fn path<'a>(&'a self, request: &Request<'a>) -> &'a str {
        self.path.as_deref().unwrap_or(request.path())
    }

    fn build<'a>(&'a self, request: &Request<'a>) -> Option<&'a str> {
        let Range { start, end } = self.build.clone()?;
        self.path(request).get(start as usize..end as usize)
    }
}

/// Decides what a request is about, and makes the key of the page it names.
#[must_use]
pub fn plan(
    live: &Live,
    notes: &Notes,
    request: &Request<'_>,
    facts: &Facts,
    key: &mut KeyBuf,
) -> Plan {
    let path = canonical_path(request.path());
    if live.is_webhook(&path) {
        return Plan::Webhook;
    }
    let host = host::canonical(request.host, request.scheme);
    let place = live.preset.locate(&path, request);
    let route = live.routes.find(&host, &place.path);
    if let Some(why) = bypass(live, route, request, facts, &place) {
        return Plan::Bypass(Arc::clone(route), why);
    }
    let is_asset = live.preset.is_asset(&path);
    let form = place.form;
    let query = keyed_of(&live.preset, request.query());
    let begin = |key: &mut KeyBuf| {
        let deployments = live.deployments(route).load();
        let deployment = match place.build {
            Some(build) => deployments.of_build(build),
            // Its name says what is in it, whatever is deployed.
            None if is_asset => "",
            None => deployments.current(),
        };
        key.begin(deployment, request.scheme, &host, &place.path);
    };
    begin(key);
    if !query.is_empty() {
        let mut scratch = String::new();
        key.query(route.keyed_query(&query, &mut scratch));
    }
    let longest = live.config.limits.max_variant;
    variants(route, request, longest, |name, value| key.variant(name, value));
    let selection = selection(&live.preset, form, request);
    let Known { rendering, is_unknown } = known(live, route, &place, is_asset);
    let by_origin = route.mode.is_by_origin() && !rendering.is_guarded();
    let noted = || {
        let subject = notes.form(key.as_str(), form, selection);
        notes.server_rendered(subject).then_some(subject)
    };
    let server_rendered = if by_origin { noted() } else { None };
    let for_each = server_rendered.is_some() || (by_origin && rendering == Rendering::ForEach);
    if for_each || rendering.is_guarded() {
        // A fill carries neither.
        let why = match (facts.websocket, facts.body) {
            (true, _) => Some(Bypass::Upgrade),
            (false, true) => Some(Bypass::Method),
            (false, false) => None,
        };
        if let Some(why) = why {
            return Plan::Bypass(Arc::clone(route), why);
        }
    }
    if rendering.is_guarded() {
        // Apart from what is for all. A copy is the same whatever the query.
        key.variant(GUARDED, "");
    } else if for_each {
        // All of the query, and apart from the page that its route makes.
        begin(key);
        key.query(&query);
        variants(route, request, longest, |name, value| key.variant(name, value));
        key.variant(SERVER_RENDERED, "");
    }
    let build = place.build.and_then(|build| {
        let start = path.find(build)?;
        Some(u32::try_from(start).ok()?..u32::try_from(start + build.len()).ok()?)
    });
    let page = route.mode.is_page() && !for_each && !rendering.is_guarded();
    let (route, url) = (Arc::clone(route), Url::new(path, build, form));
    let is_unknown = is_unknown && page;
    Plan::Page(Wanted { route, page, form, selection, server_rendered, rendering, is_unknown, url })
}

/// Why the cache has no part in a request, if it has none.
fn bypass(
    live: &Live,
    route: &Route,
    request: &Request<'_>,
    facts: &Facts,
    place: &Located<'_>,
) -> Option<Bypass> {
    let preset = &live.preset;
    Some(match route.mode {
        Mode::Pass => Bypass::Pass,
        _ if live.config.dev => Bypass::Dev,
        _ if !matches!(request.method, "GET" | "HEAD") => Bypass::Method,
        Mode::Isr { .. } | Mode::Dsg { .. } => {
            if facts.authorization {
                Bypass::Authorization
            } else if preset.draft(request, facts) {
                Bypass::Draft
            } else if is_unknown(live, route, request, place) {
                Bypass::Unknown
            } else if route.preset && preset.is_negotiated(place) {
                Bypass::Negotiated
            } else {
                return None;
            }
        }
        Mode::Ssr { .. } if facts.websocket => Bypass::Upgrade,
        // A fill carries no body.
        Mode::Ssr { .. } if facts.body => Bypass::Method,
        Mode::Ssr { .. } => return None,
    })
}

/// What is known of a page before it is asked for.
struct Known {
    /// What the build says of it, where that counts.
    rendering: Rendering,
    /// Neither the build nor a name that is a hash says whether it is for all, and the
    /// origin is to say it.
    is_unknown: bool,
}

fn known(live: &Live, route: &Route, place: &Located<'_>, is_asset: bool) -> Known {
    let by_origin = route.mode.is_isr_by_origin();
    let asks = route.mode.is_page() && !is_asset && (route.preset || by_origin);
    let by_build = match asks {
        true => live.preset.rendering(&place.path, place.form),
        false => Rendering::Unknown,
    };
    // A route of the configuration's own says more than the build does.
    let rendering = if route.preset { by_build } else { Rendering::Unknown };
    let is_unknown =
        by_origin && rendering == Rendering::Unknown && !is_asset && by_build != Rendering::ForAll;
    Known { rendering, is_unknown }
}

/// Whether a request names a form of a page that is not known: of a build
/// that is not known, or with values that no client of the framework sends. Anybody
/// can make those up, so nothing of them is stored.
fn is_unknown(live: &Live, route: &Route, request: &Request<'_>, place: &Located<'_>) -> bool {
    let unknown_build = |build| !live.deployments(route).load().knows_build(build);
    place.build.is_some_and(unknown_build) || live.preset.is_foreign(request, place.form)
}

/// A query less what says nothing of the page, however its name is written: what
/// is neither keyed nor sent.
fn keyed_of<'a>(preset: &Preset, query: &'a str) -> Cow<'a, str> {
    let Some(unkeyed) = preset.cache_buster() else { return Cow::Borrowed(query) };
    let (bytes, name) = (query.as_bytes(), unkeyed.as_bytes());
    if memchr::memchr(b'%', bytes).is_none() && memchr::memmem::find(bytes, name).is_none() {
        return Cow::Borrowed(query);
    }
    let parameters =
        || query.split('&').map(|parameter| (parameter, is_parameter(parameter, unkeyed)));
    if !parameters().any(|(_, unkeyed)| unkeyed) {
        return Cow::Borrowed(query);
    }
    let kept = parameters().filter(|(_, unkeyed)| !unkeyed).map(|(parameter, _)| parameter);
    Cow::Owned(kept.collect::<Vec<_>>().join("&"))
}

fn is_parameter(parameter: &str, name: &str) -> bool {
    is_named(parameter.split('=').next().unwrap_or(parameter), name)
}

/// The declared variants of a page with their normalised values: of `Accept` the
/// image formats it names. A value of more than `longest` bytes counts as absent.
fn variants(
    route: &Route,
    request: &Request<'_>,
    longest: usize,
    mut each: impl FnMut(&str, &str),
) {
    for name in &route.vary {
        if name == ACCEPT {
            each(name.as_str(), &negotiate::image_formats(request.lines("accept")));
            continue;
        }
        let value = vary::value(name.as_str(), request);
        let value = value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        each(name.as_str(), if value.len() <= longest { &value } else { "" });
    }
}

/// What a fill for this request asks for.
#[must_use]
pub fn ask(
    live: &Live,
    request: &Request<'_>,
    facts: &Facts,
    key: &KeyBuf,
    wanted: &Wanted,
) -> Ask {
    let build = match wanted.url.build(request) {
        Some(build) => Some(Arc::from(build)),
        None => live.deployments(&wanted.route).load().build_of(key.deployment()),
    };
    let page = wanted.page;
    let target = match live.preset.target(key.target(), wanted.form, build.as_deref()) {
        Some(target) if page => target.into(),
        _ => own_target(live, request, wanted).into(),
    };
    let fields = if page {
        let mut fields = FieldsBuf::default();
        let longest = live.config.limits.max_variant;
        let each = |name: &str, value: &str| variant_field(&mut fields, name, value);
        variants(&wanted.route, request, longest, each);
        for name in live.preset.fields(wanted.form) {
            if let Some(value) = request.lines(name).next() {
                fields.push(name, value);
            }
        }
        fields.done()
    } else {
        client_fields(live, request, wanted)
    };
    let carries = match page {
        true => Carries::default(),
        false => {
            let &Facts { authorization, cookie, no_store, prefetch, .. } = facts;
            Carries { authorization, cookie, no_store, prefetch }
        }
    };
    Ask {
        upstream: upstream(live, &wanted.route),
        metrics: Arc::clone(&live.metrics),
        build,
        anew: false,
        route: Arc::clone(&wanted.route),
        page,
        server_rendered: wanted.server_rendered,
        rendering: wanted.rendering,
        key: key.key(),
        form: wanted.form,
        target,
        fields,
        carries,
        of_a_client: !page,
        is_whole: false,
    }
}

fn upstream(live: &Live, route: &Route) -> Upstream {
    Upstream {
        origin: Arc::clone(live.origin(route)),
        preset: live.preset.clone(),
        via: live.via.clone(),
        request_fields: Arc::clone(&live.config.request_fields),
        deployments: Arc::clone(live.deployments(route)),
    }
}

/// The same request as it goes to the origin where the client's own is asked first: whole,
/// as on `ssr` (semantics §1).
#[must_use]
pub fn whole(
    live: &Live,
    request: &Request<'_>,
    facts: &Facts,
    key: &KeyBuf,
    wanted: &Wanted,
) -> Ask {
    ask(live, request, facts, key, &Wanted { page: false, ..wanted.clone() })
}

/// The target of a request on `ssr`: the client's own, less what its route does
/// not key.
fn own_target(live: &Live, request: &Request<'_>, wanted: &Wanted) -> String {
    let path = wanted.url.path(request);
    let keyed = keyed_of(&live.preset, request.query());
    let mut scratch = String::new();
    // What goes to the origin from the path of a page goes whole.
    let query = match wanted.route.mode.is_page() && !wanted.page {
        true => &keyed,
        false => wanted.route.keyed_query(&keyed, &mut scratch),
    };
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// The fields of a client that a fill on `ssr` carries; what is declared, as it
/// is keyed.
fn client_fields(live: &Live, request: &Request<'_>, wanted: &Wanted) -> Fields {
    let route = &wanted.route;
    let mut fields = FieldsBuf::default();
    let passing = live.passing(request.peer, route);
    for (name, value) in end_to_end(request, &passing, live.preset.vary()).iter() {
        let declared = route.vary.iter().any(|n| name.eq_ignore_ascii_case(n.as_str()));
        if !declared && !live.preset.strips(name, wanted.url.form) {
            fields.push(name, value);
        }
    }
    // What is in the key goes out as it is there.
    let longest = live.config.limits.max_variant;
    let each = |name: &str, value: &str| variant_field(&mut fields, name, value);
    variants(route, request, longest, each);
    fields.done()
}

/// The end-to-end fields of a request that a fill on `ssr` carries, with the
/// client's address added to `X-Forwarded-For`.
///
/// `deciding`: names of fields by which the request was understood. `Connection`
/// cannot take those away, or the page would be another than its key says.
fn end_to_end(request: &Request<'_>, passing: &Passing<'_>, deciding: &[&str]) -> Fields {
    let nominated = |name: &str| {
        request
            .lines("connection")
            .flat_map(|line| line.split(|b| *b == b','))
            .any(|n| n.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
            && !deciding.iter().any(|n| name.eq_ignore_ascii_case(n))
    };
    let mut out = FieldsBuf::default();
    for field in request.fields {
        let name = field.name;
        if may_be_sent(name)
            && !nominated(name)
            && !name.eq_ignore_ascii_case(FORWARDED_FOR)
            && passing.passes(name)
        {
            out.push(name, field.value);
        }
    }
    let lines = request.lines(FORWARDED_FOR);
    out.push("X-Forwarded-For", &forwarded_for(lines, request.peer, passing));
    out.done()
}

/// `X-Forwarded-For` as it goes on: the address of the peer, after what it says
/// of the proxies before it if it is trusted.
#[must_use]
pub fn forwarded_for<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    peer: IpAddr,
    passing: &Passing<'_>,
) -> Vec<u8> {
    let mut chain = Vec::new();
    for line in lines.filter(|line| !line.is_empty() && passing.passes(FORWARDED_FOR)) {
        chain.extend_from_slice(line);
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.to_string().as_bytes());
    chain
}

/// What a background regeneration asks for first that a client's request triggered:
/// on `ssr` the client's fields without cookie and authorization, unless what
/// is stored varies on them (semantics §3).
#[must_use]
pub fn background_ask(ask: Ask, stale: &Representation) -> Ask {
    if ask.page {
        return ask;
    }
    // What a client says of caches is about its own request, not about this one.
    let mut drop = vec!["cache-control", "pragma", "cookie", "authorization"];
    drop.retain(|name| !stale.vary.iter().any(|field| field.name.eq_ignore_ascii_case(name)));
    let carries = Carries {
        authorization: ask.carries.authorization && !drop.contains(&"authorization"),
        cookie: ask.carries.cookie && !drop.contains(&"cookie"),
        ..Carries::default()
    };
    Ask { fields: without(&ask.fields, &drop), carries, ..ask }
}

/// What a fill for a stored page asks for, without a request: for the webhook.
#[must_use]
pub fn ask_for_page(live: &Live, key: &PageKey, form: Form) -> Ask {
    let server_rendered = key.variants().any(|(name, _)| name == SERVER_RENDERED);
    let route = Arc::clone(live.routes.find(key.host(), key.path()));
    let build = live.deployments(&route).load().build_of(key.deployment());
    let target = live.preset.target(key.target(), form, build.as_deref());
    Ask {
        upstream: upstream(live, &route),
        metrics: Arc::clone(&live.metrics),
        page: route.mode.is_page() && !server_rendered,
        server_rendered: None,
        rendering: Rendering::Unknown,
        key: key.clone(),
        form,
        target: target.map_or_else(|| key.target().into(), Into::into),
        build,
        anew: false,
        fields: variant_fields(key),
        carries: Carries::default(),
        of_a_client: false,
        is_whole: false,
        route,
    }
}

/// The page of a path on the host of a request, under no query and no variant, and its
/// route.
#[must_use]
pub fn page_at<'a>(live: &'a Live, request: &Request<'_>, path: &str) -> (PageKey, &'a Arc<Route>) {
    let host = host::canonical(request.host, request.scheme);
    let path = canonical_path(path);
    let page = live.preset.locate(&path, request).path;
    let route = live.routes.find(&host, &page);
    let deployments = live.deployments(route).load();
    (PageKey::new(deployments.current(), request.scheme, &host, &page), route)
}

/// The page that the client of a request would get of a target with its browser, and its
/// route; none where nothing is stored of it.
#[must_use]
pub fn page_for(
    live: &Live,
    notes: &Notes,
    request: &Request<'_>,
    target: &str,
) -> Option<(PageKey, Arc<Route>)> {
    let (_, route) = page_at(live, request, target.split('?').next().unwrap_or(target));
    // As its browser asks for it, and as little as that.
    let declared = |name: &str| route.vary.iter().any(|n| name.eq_ignore_ascii_case(n.as_str()));
    let fields: Vec<_> = request.fields.iter().filter(|f| declared(f.name)).copied().collect();
    let request = Request { method: "GET", target, fields: &fields, ..*request };
    let mut key = KeyBuf::default();
    match plan(live, notes, &request, &Facts::of(&request), &mut key) {
        Plan::Page(wanted) => Some((key.key(), wanted.route)),
        Plan::Webhook | Plan::Bypass(..) => None,
    }
}

#[cfg(test)]
mod tests;
