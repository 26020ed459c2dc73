//! What a request is about: the webhook, something the cache has no part in, or
//! a form of a page under a key. The key is made here, before anything is
//! rewritten, and what is not in it does not reach the origin on page routes.

use std::borrow::Cow;
use std::sync::Arc;

use crate::config::Mode;
use crate::fill::{Ask, Notes, end_to_end, without};
use crate::live::Live;
use crate::page::{FieldsBuf, Form, KeyBuf, PageKey, Representation, canonical_path};
use crate::request::{Facts, Request};
use crate::route::Route;
use crate::rules::cache_status::Bypass;
use crate::rules::vary;

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
    /// The page that its route would make of the URL, were it not server-rendered
    /// for now.
    pub server_rendered: Option<PageKey>,
}

/// Marks the key of a page that is server-rendered for now: it must not meet
/// the page that its route makes of the same URL. No field has such a name.
const SERVER_RENDERED: &str = "~server-rendered";

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
    let host = canonical_host(request.host, request.scheme);
    let route = live.routes.find(&host, &path);
    let bypass = |why| Plan::Bypass(Arc::clone(route), why);
    let page = match route.mode {
        Mode::Pass => return bypass(Bypass::Pass),
        _ if live.config.dev => return bypass(Bypass::Dev),
        _ if !matches!(request.method, "GET" | "HEAD") => return bypass(Bypass::Method),
        Mode::Isr { .. } | Mode::Dsg { .. } if facts.authorization => {
            return bypass(Bypass::Authorization);
        }
        Mode::Isr { .. } | Mode::Dsg { .. } if live.preset.draft(request) => {
            return bypass(Bypass::Draft);
        }
        Mode::Isr { .. } | Mode::Dsg { .. } => true,
        Mode::Ssr { .. } if facts.websocket => return bypass(Bypass::Upgrade),
        // A fill carries no body.
        Mode::Ssr { .. } if facts.body => return bypass(Bypass::Method),
        Mode::Ssr { .. } => false,
    };
    let (page_path, form) = live.preset.locate(&path, request);
    key.begin(
        live.config.deployment.id.as_deref().unwrap_or(""),
        request.scheme,
        &host,
        &page_path,
    );
    if !request.query().is_empty() {
        let mut scratch = String::new();
        key.query(route.keyed_query(request.query(), &mut scratch));
    }
    variants(route, request, |name, value| key.variant(name, value));
    if matches!(route.mode, Mode::Isr { revalidate: None, .. })
        && notes.server_rendered(key.as_str())
    {
        if facts.websocket {
            return bypass(Bypass::Upgrade);
        }
        if facts.body {
            return bypass(Bypass::Method);
        }
        let server_rendered = Some(key.key());
        key_of_all(live, request, &host, &path, key);
        return Plan::Page(Wanted { route: Arc::clone(route), page: false, form, server_rendered });
    }
    Plan::Page(Wanted { route: Arc::clone(route), page, form, server_rendered: None })
}

/// The key of a page whose path is server-rendered for now: all of the query.
fn key_of_all(live: &Live, request: &Request<'_>, host: &str, path: &str, key: &mut KeyBuf) {
    key.begin(live.config.deployment.id.as_deref().unwrap_or(""), request.scheme, host, path);
    key.query(request.query());
    key.variant(SERVER_RENDERED, "");
}

/// The declared variants of a page with their normalised values.
fn variants(route: &Route, request: &Request<'_>, mut each: impl FnMut(&str, &str)) {
    for name in &route.vary {
        let value = vary::value(name.as_str(), request);
        let value = value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        each(name.as_str(), &value);
    }
}

/// A host in lower case, without the default port of its scheme.
#[must_use]
pub fn canonical_host<'a>(host: &'a str, scheme: &str) -> Cow<'a, str> {
    let default = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(default).unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
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
    let fields = if wanted.page {
        let mut fields = FieldsBuf::default();
        variants(&wanted.route, request, |name, value| {
            if !value.is_empty() {
                fields.push(name, value.as_bytes());
            }
        });
        fields.done()
    } else {
        end_to_end(request)
    };
    Ask {
        origin: Arc::clone(live.origin(&wanted.route)),
        metrics: Arc::clone(&live.metrics),
        route: Arc::clone(&wanted.route),
        page: wanted.page,
        server_rendered: wanted.server_rendered.clone(),
        key: key.key(),
        form: wanted.form,
        target: key.target().into(),
        // As it is keyed: how a visitor writes it must not reach the page of others.
        host: key.host().into(),
        scheme: request.scheme,
        fields,
        authorization: facts.authorization && !wanted.page,
        cookie: facts.cookie && !wanted.page,
        no_store: facts.no_store && !wanted.page,
    }
}

/// What a background regeneration asks for that a visitor's request triggered:
/// on `ssr` the visitor's fields without cookie and authorization, unless what
/// is stored varies on them (semantics §3).
#[must_use]
pub fn background_ask(ask: Ask, stale: &Representation) -> Ask {
    if ask.page {
        return ask;
    }
    let mut drop = vec!["cookie", "authorization"];
    drop.retain(|name| !stale.vary.iter().any(|field| field.name.eq_ignore_ascii_case(name)));
    Ask {
        fields: without(&ask.fields, &drop),
        authorization: ask.authorization && !drop.contains(&"authorization"),
        cookie: ask.cookie && !drop.contains(&"cookie"),
        no_store: false,
        ..ask
    }
}

/// What a fill for a stored page asks for, without a request: for the webhook.
#[must_use]
pub fn ask_for_page(live: &Live, key: &PageKey, form: Form) -> Ask {
    let server_rendered = key.variants().any(|(name, _)| name == SERVER_RENDERED);
    let route = Arc::clone(live.routes.find(key.host(), key.path()));
    let mut fields = FieldsBuf::default();
    for (name, value) in key.variants().filter(|(name, _)| *name != SERVER_RENDERED) {
        if !value.is_empty() {
            fields.push(name, value.as_bytes());
        }
    }
    Ask {
        origin: Arc::clone(live.origin(&route)),
        metrics: Arc::clone(&live.metrics),
        page: route.mode.is_page() && !server_rendered,
        server_rendered: None,
        key: key.clone(),
        form,
        target: key.target().into(),
        host: key.host().into(),
        scheme: key.scheme(),
        fields: fields.done(),
        authorization: false,
        cookie: false,
        no_store: false,
        route,
    }
}
