//! What a request is about: the webhook, something the cache has no part in, or
//! a form of a page under a key. The key is made here, before anything is
//! rewritten, and what is not in it does not reach the origin on page routes.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::ACCEPT;

use crate::config::Mode;
use crate::fill::{
    Ask, GUARDED, Notes, SERVER_RENDERED, Subject, end_to_end, selection, variant_field,
    variant_fields, without,
};
use crate::framework::{Place, Preset, Rendering};
use crate::host;
use crate::live::Live;
use crate::page::{Fields, FieldsBuf, Form, KeyBuf, PageKey, Representation, canonical_path};
use crate::request::{Facts, Request};
use crate::route::{Route, is_named};
use crate::rules::cache_status::Bypass;
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

/// A form of a page that somebody wants.
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
    let bypass = |why| Plan::Bypass(Arc::clone(route), why);
    let page = match route.mode {
        Mode::Pass => return bypass(Bypass::Pass),
        _ if live.config.dev => return bypass(Bypass::Dev),
        _ if !matches!(request.method, "GET" | "HEAD") => return bypass(Bypass::Method),
        Mode::Isr { .. } | Mode::Dsg { .. } if facts.authorization => {
            return bypass(Bypass::Authorization);
        }
        Mode::Isr { .. } | Mode::Dsg { .. } if live.preset.draft(request, facts) => {
            return bypass(Bypass::Draft);
        }
        Mode::Isr { .. } | Mode::Dsg { .. } if is_unknown(live, route, request, &place) => {
            return bypass(Bypass::Unknown);
        }
        Mode::Isr { .. } | Mode::Dsg { .. }
            if route.preset && live.preset.is_negotiated(&place) =>
        {
            return bypass(Bypass::Negotiated);
        }
        Mode::Isr { .. } | Mode::Dsg { .. } => true,
        Mode::Ssr { .. } if facts.websocket => return bypass(Bypass::Upgrade),
        // A fill carries no body.
        Mode::Ssr { .. } if facts.body => return bypass(Bypass::Method),
        Mode::Ssr { .. } => false,
    };
    let form = place.form;
    let query = keyed_of(&live.preset, request.query());
    let begin = |key: &mut KeyBuf| {
        let deployments = live.deployments(route).load();
        let deployment = match place.build {
            Some(build) => deployments.of_build(build),
            // Its name says what is in it, whatever is deployed.
            None if live.preset.is_asset(&path) => "",
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
    let noted = || {
        let subject = notes.form(key.as_str(), form, selection);
        notes.server_rendered(subject).then_some(subject)
    };
    // A route of the configuration's own says more than the build does.
    let rendering = match page && route.preset && !live.preset.is_asset(&path) {
        true => live.preset.rendering(&place.path, form),
        false => Rendering::Unknown,
    };
    let by_origin = route.mode.is_by_origin();
    let server_rendered = if by_origin && !rendering.is_guarded() { noted() } else { None };
    let each = by_origin && rendering == Rendering::ForEach;
    if server_rendered.is_some() || each || rendering.is_guarded() {
        if facts.websocket {
            return bypass(Bypass::Upgrade);
        }
        if facts.body {
            return bypass(Bypass::Method);
        }
        let wanted = Wanted {
            route: Arc::clone(route),
            page: false,
            form,
            selection,
            server_rendered,
            rendering,
        };
        if rendering.is_guarded() {
            // Apart from what anybody gets. A copy is the same whatever the query.
            key.variant(GUARDED, "");
            return Plan::Page(wanted);
        }
        // All of the query, and apart from the page that its route makes.
        begin(key);
        key.query(&query);
        variants(route, request, longest, |name, value| key.variant(name, value));
        key.variant(SERVER_RENDERED, "");
        return Plan::Page(wanted);
    }
    let route = Arc::clone(route);
    Plan::Page(Wanted { route, page, form, selection, server_rendered: None, rendering })
}

/// Whether a request names a form of a page that nobody has heard of: of a build
/// that is not known, or with values that no client of the framework sends. Anybody
/// can make those up, so nothing of them is stored.
fn is_unknown(live: &Live, route: &Route, request: &Request<'_>, place: &Place<'_>) -> bool {
    let unknown_build = |build| !live.deployments(route).load().knows_build(build);
    place.build.is_some_and(unknown_build) || live.preset.is_foreign(request, place.form)
}

/// A query less what says nothing of the page, however its name is written: what
/// is neither keyed nor sent.
fn keyed_of<'a>(preset: &Preset, query: &'a str) -> Cow<'a, str> {
    let Some(unkeyed) = preset.parameter() else { return Cow::Borrowed(query) };
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
    let path = canonical_path(request.path());
    let place = live.preset.locate(&path, request);
    let build = match place.build {
        Some(build) => Some(Arc::from(build)),
        None => live.deployments(&wanted.route).load().build_of(key.deployment()),
    };
    let page = wanted.page;
    let target = match live.preset.target(key.target(), wanted.form, build.as_deref()) {
        Some(target) if page => target.into(),
        _ => own_target(live, request, wanted, &path).into(),
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
        visitors_fields(live, request, wanted, &place)
    };
    Ask {
        origin: Arc::clone(live.origin(&wanted.route)),
        metrics: Arc::clone(&live.metrics),
        via: live.via.clone(),
        preset: live.preset.clone(),
        request_fields: Arc::clone(&live.config.request_fields),
        deployments: Arc::clone(live.deployments(&wanted.route)),
        build,
        anew: false,
        route: Arc::clone(&wanted.route),
        page,
        server_rendered: wanted.server_rendered,
        rendering: wanted.rendering,
        key: key.key(),
        form: wanted.form,
        target,
        // As it is keyed: how a visitor writes it must not reach the page of others.
        host: key.host().into(),
        scheme: request.scheme,
        fields,
        authorization: facts.authorization && !page,
        cookie: facts.cookie && !page,
        no_store: facts.no_store && !page,
        prefetch: facts.prefetch && !page,
        of_a_client: !page,
        is_whole: false,
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

/// Whether a page of which nothing is stored is unknown: the origin says whether it is for
/// all, and neither the build nor a name that is a hash says it before.
#[must_use]
pub fn is_unknown_path(live: &Live, wanted: &Wanted, key: &KeyBuf) -> bool {
    let path = key.target().split('?').next().unwrap_or_default();
    wanted.page
        && wanted.route.mode.is_isr_by_origin()
        && wanted.rendering == Rendering::Unknown
        && !live.preset.is_asset(path)
        && live.preset.rendering(path, wanted.form) != Rendering::ForAll
}

/// The target of a request on `ssr`: the visitor's own, less what its route does
/// not key.
fn own_target(live: &Live, request: &Request<'_>, wanted: &Wanted, path: &str) -> String {
    let keyed = keyed_of(&live.preset, request.query());
    let mut scratch = String::new();
    // What goes to the origin from the path of a page goes whole.
    let query = match wanted.route.mode.is_page() && !wanted.page {
        true => &keyed,
        false => wanted.route.keyed_query(&keyed, &mut scratch),
    };
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// The fields of a visitor that a fill on `ssr` carries; what is declared, as it
/// is keyed.
fn visitors_fields(
    live: &Live,
    request: &Request<'_>,
    wanted: &Wanted,
    place: &Place<'_>,
) -> Fields {
    let route = &wanted.route;
    let mut fields = FieldsBuf::default();
    let passing = live.passing(request.peer, route);
    for (name, value) in end_to_end(request, &passing, live.preset.vary()).iter() {
        let declared = route.vary.iter().any(|n| name.eq_ignore_ascii_case(n.as_str()));
        if !declared && !live.preset.strips(name, place.form) {
            fields.push(name, value);
        }
    }
    // What is in the key goes out as it is there.
    let longest = live.config.limits.max_variant;
    let each = |name: &str, value: &str| variant_field(&mut fields, name, value);
    variants(route, request, longest, each);
    fields.done()
}

/// What a background regeneration asks for first that a visitor's request triggered:
/// on `ssr` the visitor's fields without cookie and authorization, unless what
/// is stored varies on them (semantics §3).
#[must_use]
pub fn background_ask(ask: Ask, stale: &Representation) -> Ask {
    if ask.page {
        return ask;
    }
    // What a client says of caches is about its own request, not about this one.
    let mut drop = vec!["cache-control", "pragma", "cookie", "authorization"];
    drop.retain(|name| !stale.vary.iter().any(|field| field.name.eq_ignore_ascii_case(name)));
    Ask {
        fields: without(&ask.fields, &drop),
        authorization: ask.authorization && !drop.contains(&"authorization"),
        cookie: ask.cookie && !drop.contains(&"cookie"),
        no_store: false,
        prefetch: false,
        ..ask
    }
}

/// What a fill for a stored page asks for, without a request: for the webhook.
#[must_use]
pub fn ask_for_page(live: &Live, key: &PageKey, form: Form) -> Ask {
    let server_rendered = key.variants().any(|(name, _)| name == SERVER_RENDERED);
    let route = Arc::clone(live.routes.find(key.host(), key.path()));
    let build = live.deployments(&route).load().build_of(key.deployment());
    let target = live.preset.target(key.target(), form, build.as_deref());
    Ask {
        origin: Arc::clone(live.origin(&route)),
        metrics: Arc::clone(&live.metrics),
        via: live.via.clone(),
        preset: live.preset.clone(),
        request_fields: Arc::clone(&live.config.request_fields),
        deployments: Arc::clone(live.deployments(&route)),
        page: route.mode.is_page() && !server_rendered,
        server_rendered: None,
        rendering: Rendering::Unknown,
        key: key.clone(),
        form,
        target: target.map_or_else(|| key.target().into(), Into::into),
        build,
        anew: false,
        host: key.host().into(),
        scheme: key.scheme(),
        fields: variant_fields(key),
        authorization: false,
        cookie: false,
        no_store: false,
        prefetch: false,
        of_a_client: false,
        is_whole: false,
        route,
    }
}

#[cfg(test)]
mod tests;
