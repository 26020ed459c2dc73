//! Routes: what each key may hold, and what belongs together.

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::foreign::{Foreign, foreign};
use super::{Report, browser};
use crate::config::de::nearest;
use crate::config::origins::Origin;
use crate::config::pattern::{HostPattern, PathPattern};
use crate::config::routes::{Cookies, Mode, Query, Route};
use crate::config::sections::RequestFields;
use crate::config::source::Path;

/// Characters of a tag, and tags of a page, that the store keeps (semantics §5).
const MAX_TAG: usize = 256;
const MAX_TAGS: usize = 128;
/// Names in a route's `query`: each request is searched for each of them.
const MAX_QUERY_NAMES: usize = 64;
/// Names of cookies that a route may list.
const MAX_COOKIE_NAMES: usize = 64;
/// Declared variants of a route: the pages are as many as their product.
const MAX_VARY: usize = 8;

/// A route that was read before: its place, and its patterns.
type Earlier = (Path, HostPattern, PathPattern);

/// Those of the file.
pub(super) fn routes(
    mut routes: Vec<Route>,
    origins: &[Origin],
    fields: &RequestFields,
    path: &Path,
    report: &mut Report,
) -> Vec<Route> {
    let mut earlier: Vec<Earlier> = Vec::new();
    for (index, route) in routes.iter_mut().enumerate() {
        let path = report.item(path, index);
        if let Some((host, pattern)) = resolve(route, &path, origins, fields, report) {
            unreachable_route(&earlier, &host, &pattern, &path, report);
            earlier.push((path, host, pattern));
        }
    }
    routes
}

/// Reports a route that never gets a request because an earlier one takes all.
fn unreachable_route(
    earlier: &[Earlier],
    host: &HostPattern,
    pattern: &PathPattern,
    path: &Path,
    report: &mut Report,
) {
    let taker = earlier.iter().find(|(_, h, p)| h.covers(host) && p.covers(pattern));
    let Some((place, h, p)) = taker else { return };
    if h == host && p.as_str() == pattern.as_str() {
        let message = format!("{place} is for the same pages: remove one of the two");
        report.error(path.key("path"), message);
    } else {
        let message = format!(
            "this route never matches: {place} (`{}`) comes first and takes all of it; move it up",
            p.as_str()
        );
        report.warn(path.key("path"), message);
    }
}

fn resolve(
    route: &mut Route,
    path: &Path,
    origins: &[Origin],
    fields: &RequestFields,
    report: &mut Report,
) -> Option<(HostPattern, PathPattern)> {
    route.mode = mode(route, path, report);
    without_effect(route, path, report);
    let host = HostPattern::new(route.host.as_deref())
        .map_err(|message| report.error(path.key("host"), message));
    route.host = route.host.take().map(|host| host.to_ascii_lowercase());
    let pattern = match route.path.is_empty() {
        true => {
            report.missing(path, "path");
            None
        }
        false => pattern(&route.path, path.key("path"), report),
    };
    if let Some(pattern) = &pattern {
        pattern.as_str().clone_into(&mut route.path);
    }
    route.origin = origin(route.to.take(), origins, path, report);
    if let Some(text) = &mut route.browser {
        let path = path.key("browser");
        match HeaderValue::from_str(text) {
            Ok(_) => browser::check(text, &path, report),
            Err(_) => report.error(path, "a field cannot hold control characters"),
        }
        *text = text.trim().to_owned();
    }
    let default = route.mode.query();
    route.query = query(route.parameters.take().unwrap_or(default), &path.key("query"), report);
    let cookies = route.named_cookies.take().unwrap_or_default();
    route.cookies = self::cookies(cookies, &path.key("cookies"), report);
    vary(&mut route.vary, fields, &path.key("vary"), report);
    tags(&mut route.tags, &path.key("tags"), report);
    // Without its host it would take what is for others.
    let host = host.ok().filter(|_| !report.is_gone(&path.key("host")));
    host.zip(pattern)
}

fn origin(name: Option<String>, origins: &[Origin], path: &Path, report: &mut Report) -> usize {
    let Some(name) = name else { return 0 };
    if let Some(index) = origins.iter().position(|origin| origin.name == name) {
        return index;
    }
    if !report.is_gone(&Path::default().key("origins").key(&name)) {
        let meant = nearest(&name, origins.iter().map(|origin| origin.name.as_str()))
            .map(|meant| format!("; did you mean {meant:?}?"))
            .unwrap_or_default();
        report.error(path.key("origin"), format!("there is no origin {name:?}{meant}"));
    }
    0
}

/// A pattern of paths, unless it is one of another program.
pub(super) fn pattern(written: &str, path: Path, report: &mut Report) -> Option<PathPattern> {
    match foreign(written) {
        Some(Foreign::Refused(message)) => {
            report.error(path, message);
            return None;
        }
        Some(Foreign::Doubtful(message)) => report.warn(path.clone(), message),
        None => {}
    }
    PathPattern::new(written).map_err(|message| report.error(path, message)).ok()
}

fn mode(route: &mut Route, path: &Path, report: &mut Report) -> Mode {
    let isr = route.isr.take().map(|isr| {
        match isr.revalidate {
            None => report.missing(&path.key("isr"), "revalidate"),
            Some(Some(lifetime)) if lifetime.is_zero() => report.error(
                path.key("isr").key("revalidate"),
                "must be longer than 0s; for pages rendered at every request say `ssr: {}`",
            ),
            Some(_) => {}
        }
        Mode::Isr { revalidate: isr.revalidate.flatten(), stale_for: isr.stale_for }
    });
    let dsg = route.dsg.take().map(|dsg| Mode::Dsg { origin: dsg.revalidate.is_some() });
    let ssr = route.ssr.take().map(|ssr| Mode::Ssr { heuristic: ssr.heuristic });
    let pass = route.pass.take().map(|_| Mode::Pass);
    let modes: Vec<Mode> = [isr, dsg, ssr, pass].into_iter().flatten().collect();
    match modes[..] {
        [mode] => mode,
        [] => {
            report.unfit(
                path.clone(),
                "a route needs a mode: \
                 `isr: { revalidate: 60s }`, `dsg: {}`, `ssr: {}` or `pass: {}`",
            );
            Mode::Pass
        }
        [first, second, ..] => {
            let (first, second): (&str, &str) = (first.into(), second.into());
            let message = format!("a route has one mode, and this one has `{first}` already");
            report.error(path.key(second), message);
            Mode::Pass
        }
    }
}

/// Options that are set and that the mode has no use for.
fn without_effect(route: &Route, path: &Path, report: &mut Report) {
    let mode = route.mode;
    let pass = mode == Mode::Pass;
    for (key, set, idle) in [
        ("query", route.parameters.is_some(), pass),
        ("cookies", route.named_cookies.is_some(), !mode.may_be_server_rendered()),
        ("vary", !route.vary.is_empty(), pass),
        ("tags", !route.tags.is_empty(), pass),
        ("not_found", route.not_found != Route::default().not_found, !mode.is_page()),
        ("browser", route.browser.is_some(), !mode.is_page()),
        ("strip_set_cookie", route.strip_set_cookie, pass),
        ("unsafe_invalidates", route.unsafe_invalidates, !mode.is_page()),
    ] {
        if set && idle {
            report.warn(path.key(key), format!("has no effect on a route with `{mode}`"));
        }
    }
}

/// In order, each once.
fn sorted(names: &mut Vec<String>) {
    names.sort_unstable();
    names.dedup();
}

fn query(query: Query, path: &Path, report: &mut Report) -> Query {
    let Query::Names(mut names) = query else { return query };
    if names.len() > MAX_QUERY_NAMES {
        report.error(path.clone(), format!("at most {MAX_QUERY_NAMES} names, or `all`"));
    }
    for (index, name) in names.iter().enumerate() {
        let place = report.item(path, index);
        let encoded = name.contains('%') && percent_decode_str(name).ne(name.bytes());
        if name.is_empty()
            || name.contains(['?', '&', '=', '#'])
            || name.chars().any(char::is_control)
        {
            report.error(place, format!("{name:?} is not the name of a parameter"));
        } else if encoded {
            let decoded = percent_decode_str(name).decode_utf8_lossy();
            report.error(place, format!("write the name as it reads decoded, {decoded:?}"));
        }
    }
    sorted(&mut names);
    Query::Names(names)
}

fn cookies(cookies: Cookies, path: &Path, report: &mut Report) -> Cookies {
    let Cookies::Names(mut names) = cookies else { return cookies };
    if names.len() > MAX_COOKIE_NAMES {
        report.error(path.clone(), format!("at most {MAX_COOKIE_NAMES} names"));
    }
    for (index, name) in names.iter().enumerate() {
        // RFC 6265 §4.1.1: a token, as the name of a field is.
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let place = report.item(path, index);
            report.error(place, format!("{name:?} is not the name of a cookie"));
        }
    }
    sorted(&mut names);
    Cookies::Names(names)
}

fn vary(names: &mut Vec<HeaderName>, fields: &RequestFields, path: &Path, report: &mut Report) {
    if names.len() > MAX_VARY {
        report.error(path.clone(), format!("at most {MAX_VARY} fields"));
    }
    for (index, name) in names.iter().enumerate() {
        let place = report.item(path, index);
        if let Some(why) = not_a_variant(name) {
            report.error(place, format!("`{name}` cannot be a variant: {why}"));
            continue;
        }
        // What is declared is keyed as a client says it, and sent so.
        let list = match fields {
            fields if fields.trust.contains(name) => "trust",
            fields if fields.drop.contains(name) => "drop",
            _ => continue,
        };
        let message = format!("`request_fields.{list}` keeps what clients say in it away");
        report.error(place, message);
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
}

/// Why pages cannot differ by this request field.
fn not_a_variant(name: &HeaderName) -> Option<&'static str> {
    Some(match name.as_str() {
        "*" => "name the fields",
        "cookie" => "every visitor would have pages of their own",
        "authorization" | "proxy-authorization" => {
            "requests with it are never cached on a page route"
        }
        "user-agent" | "referer" | "sec-ch-ua-full-version-list" => {
            "its values are countless, and each would be a page of its own; \
             have a proxy in front say what matters of it in a field of few values"
        }
        "cf-connecting-ip"
        | "true-client-ip"
        | "x-client-ip"
        | "client-ip"
        | "fastly-client-ip"
        | "x-cluster-client-ip" => "every visitor would have pages of their own",
        "traceparent" | "tracestate" | "baggage" | "x-request-id" | "x-correlation-id"
        | "x-amzn-trace-id" | "x-b3-traceid" | "cf-ray" => "every request has its own",
        "cache-control" | "pragma" => "what may be stored is said by the origin and the route",
        "set-cookie" | "content-language" | "content-encoding" | "etag" | "last-modified"
        | "location" | "vary" => "it is a field of responses",
        "host" => "it is part of every page's key",
        "accept-encoding" => "stored pages are compressed here, once",
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer"
        | "transfer-encoding" | "upgrade" => "it is of one connection only",
        "range"
        | "if-range"
        | "if-match"
        | "if-none-match"
        | "if-modified-since"
        | "if-unmodified-since" => "it is answered from the stored page",
        "content-length" | "content-type" | "expect" => "it is of a request with a body",
        "forwarded" | "via" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto"
        | "x-real-ip" => "it is set here",
        _ => return None,
    })
}

fn tags(tags: &mut Vec<String>, path: &Path, report: &mut Report) {
    if tags.len() > MAX_TAGS {
        report.error(path.clone(), format!("at most {MAX_TAGS} tags are kept of a page"));
    }
    for (index, tag) in tags.iter_mut().enumerate() {
        let place = report.item(path, index);
        *tag = tag.trim().to_owned();
        let length = tag.chars().count();
        if length == 0 {
            report.error(place, "a tag cannot be empty");
        } else if length > MAX_TAG {
            let message = format!("a tag has at most {MAX_TAG} characters, this one {length}");
            report.error(place, message);
        } else if tag.contains(',') || tag.chars().any(char::is_control) {
            report.error(place, "a tag has no commas and no control characters");
        }
    }
    sorted(tags);
}
