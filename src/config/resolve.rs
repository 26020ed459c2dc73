//! From the YAML as it is written to what the program runs with: every default
//! filled in, every name looked up, every value held against its bounds.
//!
//! Nothing here stops at the first mistake: a wrong value is reported, another
//! stands in for it, and the whole is thrown away at the end.

mod browser;
mod doubts;
mod fields;
mod foreign;
mod report;
mod site;

use std::collections::HashSet;
use std::net::SocketAddr;

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use crate::page::canonical_path;

use super::de::nearest;
use super::level::check_level;
use super::machine::Memory;
use super::pattern::{HostPattern, PathPattern};
use super::presets;
use super::raw;
use super::resolved::{
    AccessLog, Backoff, Cache, Config, Cookies, Encoding, Health, Limits, Log, LogFormat, Mode,
    Origin, Query, Revalidate, Route,
};
use super::source::Path;
use super::values::server_url;

pub(super) use report::Report;
pub(super) use site::{as_base, is_locale, is_preview_id};

use foreign::Foreign;

/// Characters of a tag, and tags of a page, that the store keeps (semantics §5).
const MAX_TAG: usize = 256;
const MAX_TAGS: usize = 128;
/// Names in a route's `query`: each request is searched for each of them.
const MAX_QUERY_NAMES: usize = 64;
/// Names of cookies that a route may list.
const MAX_COOKIE_NAMES: usize = 64;
/// Declared variants of a route: the pages are as many as their product.
const MAX_VARY: usize = 8;
/// A secret shorter than this can be guessed.
const SHORT_SECRET: usize = 16;

/// Resolves everything. What it returns is good only if `report` has no errors.
/// `beside` is the folder of the file: paths in it are beside it. `memory`: what
/// there is of it, where that matters.
pub(super) fn resolve(
    raw: &raw::Raw,
    beside: &std::path::Path,
    memory: Option<Memory>,
    report: &mut Report,
) -> Config {
    let root = Path::default();
    let origins = origins(&raw.origins, &root.key("origins"), report);
    let cache = cache(&raw.cache, &root.key("cache"), report);
    let revalidate = revalidate(raw.revalidate.as_ref(), &root.key("revalidate"), report);
    let (framework, server_rendered) = site::framework(raw, beside, &root, report);
    let of_file = routes(raw, &root, &origins, report);
    let auto = site::auto(raw, &of_file, &root.key("deployment"), report);
    let config = Config {
        listen: raw.listen.as_slice().iter().map(|address| address.0).collect(),
        admin: raw.admin.0,
        trusted_proxies: raw.trusted_proxies.iter().map(|network| network.0).collect(),
        threads: match raw.threads {
            Some(count) => report.count(root.key("threads"), count, 1, 1024),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        },
        cache,
        deployment: match &auto {
            Some(auto) => auto.before(),
            None => {
                let by = site::Names::of(&framework);
                site::deployment(raw, by, &root.key("deployment"), report)
            }
        },
        auto,
        log: log(&raw.log, &root.key("log"), report),
        revalidate,
        routes: presets::join(of_file, presets::routes(&framework, server_rendered)),
        framework,
        request_fields: fields::request_fields(raw, &root.key("request_fields"), report).into(),
        limits: limits(&raw.limits, &root.key("limits"), report),
        shutdown_timeout: raw.shutdown_timeout.0,
        dev: false,
        origins,
    };
    listeners(&config, &root, report);
    doubts::doubts(raw, &config, memory, &root, report);
    config
}

fn listeners(config: &Config, root: &Path, report: &mut Report) {
    if config.listen.is_empty() {
        report.unfit(root.key("listen"), "at least one address is needed");
    }
    for (index, address) in config.listen.iter().enumerate() {
        let before = config.listen.iter().take(index).find(|before| clash(before, address));
        if let Some(before) = before {
            let place = report.item(&root.key("listen"), index);
            let message = match before == address {
                true => format!("{address} is there twice"),
                false => format!("{address} and {before} cannot both be listened on"),
            };
            report.error(place, message);
        }
    }
    let is_public = |admin| config.listen.iter().any(|public| clash(public, &admin));
    if config.admin.is_some_and(is_public) && !report.is_gone(&root.key("listen")) {
        report.error(root.key("admin"), "this is also a public address (`listen`)");
    }
}

/// Whether two addresses cannot both be listened on.
fn clash(a: &SocketAddr, b: &SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && (any || a.ip() == b.ip())
}

fn origins(raw: &raw::Origins, path: &Path, report: &mut Report) -> Vec<Origin> {
    if raw.0.is_empty() {
        report.unfit(
            path.clone(),
            "at least one origin is needed, such as `web: http://127.0.0.1:3000`",
        );
    }
    raw.0.iter().map(|(name, raw)| origin(name, &raw.0, &path.key(name), report)).collect()
}

fn origin(name: &str, raw: &raw::OriginOptions, path: &Path, report: &mut Report) -> Origin {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        report.error(
            path.clone(),
            "the name of an origin has at most 64 letters, digits, dots, hyphens and underscores",
        );
    }
    let servers: Vec<_> = raw.servers.as_slice().iter().map(|url| url.0.clone()).collect();
    if servers.is_empty() {
        report.unfit(
            path.key("servers"),
            "at least one server is needed, such as `servers: http://127.0.0.1:3000`",
        );
    }
    let mut seen = HashSet::new();
    for (index, server) in servers.iter().enumerate() {
        if !seen.insert(server) {
            let message = format!("{} is there twice", server_url(server));
            let place = report.item(&path.key("servers"), index);
            report.error(place, message);
        }
    }
    let health = raw.health.as_ref().map(|raw| {
        let path = path.key("health");
        if !is_path(&raw.path, true) {
            report.error(path.key("path"), "expected a path such as `/healthz`");
        }
        Health {
            path: raw.path.clone(),
            interval: report.time(path.key("interval"), raw.interval),
            timeout: report.time(path.key("timeout"), raw.timeout),
        }
    });
    Origin {
        name: name.to_owned(),
        servers,
        health,
        connect_timeout: report.time(path.key("connect_timeout"), raw.connect_timeout),
        fill_timeout: report.time(path.key("fill_timeout"), raw.fill_timeout),
        idle_timeout: report.time(path.key("idle_timeout"), raw.idle_timeout),
        max_concurrent_fills: report.count(
            path.key("max_concurrent_fills"),
            raw.max_concurrent_fills,
            1,
            1 << 20,
        ),
        max_waiting_fills: report.count(
            path.key("max_waiting_fills"),
            raw.max_waiting_fills,
            0,
            1 << 20,
        ),
        max_concurrent_passes: report.count(
            path.key("max_concurrent_passes"),
            raw.max_concurrent_passes,
            1,
            1 << 20,
        ),
        max_waiting_passes: report.count(
            path.key("max_waiting_passes"),
            raw.max_waiting_passes,
            0,
            1 << 20,
        ),
        max_websockets: report.count(path.key("max_websockets"), raw.max_websockets, 1, 1 << 20),
        host: raw.host.0.clone(),
        encoding: match raw.encoding {
            raw::Encoding::Identity => Encoding::Identity,
            raw::Encoding::Gzip => Encoding::Gzip,
        },
        keepalive: raw.keepalive.0,
        resolve_interval: report.time(path.key("resolve_interval"), raw.resolve_interval),
    }
}

/// Whether it can stand in a request line.
fn is_path(path: &str, query: bool) -> bool {
    path.starts_with('/')
        && path.len() <= 1024
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && (query || b != b'?'))
}

fn cache(raw: &raw::Cache, path: &Path, report: &mut Report) -> Cache {
    let (memory, max_object) = (raw.memory.0, raw.max_object.0);
    if memory == 0 {
        report.warn(path.key("memory"), "no memory for pages: nothing is kept");
    } else if max_object > memory {
        report.warn(path.key("max_object"), "larger than `memory`: such an object is never kept");
    }
    Cache {
        memory,
        max_object,
        max_variants: report.count(path.key("max_variants"), raw.max_variants, 1, 1024),
        max_invalidations: report.count(
            path.key("max_invalidations"),
            raw.max_invalidations,
            1,
            100_000_000,
        ),
        max_notes: raw.max_notes.0,
        compress_min: raw.compress_min.0,
    }
}

fn log(raw: &raw::Log, path: &Path, report: &mut Report) -> Log {
    match check_level(&raw.level) {
        Ok(warnings) => warnings.into_iter().for_each(|why| report.warn(path.key("level"), why)),
        Err(why) => report.error(path.key("level"), why),
    }
    Log {
        access: match raw.access {
            raw::AccessLog::On => AccessLog::On,
            raw::AccessLog::Off => AccessLog::Off,
            raw::AccessLog::Errors => AccessLog::Errors,
        },
        format: match raw.format {
            raw::LogFormat::Auto => LogFormat::Auto,
            raw::LogFormat::Text => LogFormat::Text,
            raw::LogFormat::Json => LogFormat::Json,
        },
        level: raw.level.clone(),
    }
}

fn revalidate(
    raw: Option<&raw::Revalidate>,
    path: &Path,
    report: &mut Report,
) -> Option<Revalidate> {
    let raw = raw?;
    let canonical = canonical_path(&raw.path);
    if !is_path(&raw.path, false) || raw.path.contains('*') {
        report.error(path.key("path"), "expected a path such as `/__revalidate`");
    } else if raw.path == "/" {
        report.error(path.key("path"), "this is the home page; a path such as `/__revalidate`");
    } else if *canonical != *raw.path {
        let message = format!("requests for it are made to {canonical:?}: write that");
        report.error(path.key("path"), message);
    }
    let max_body = report.bytes(path.key("max_body"), raw.max_body, 1, 16 << 20);
    let max_paths = report.count(path.key("max_paths"), raw.max_paths, 1, 1000);
    let pages_per_path = report.count(path.key("pages_per_path"), raw.pages_per_path, 1, 1000);
    let timeout = report.time(path.key("timeout"), raw.timeout);
    let secret = raw.secret.as_ref().map_or("", |secret| secret.0.as_str());
    if secret.is_empty() {
        report.warn(path.key("secret"), "no secret: the webhook is off");
        return None;
    }
    if secret.chars().any(char::is_control) || secret.trim() != secret {
        report.error(
            path.key("secret"),
            "a secret with control characters, or with space around it, cannot be sent",
        );
    } else if secret.len() < SHORT_SECRET {
        let message = format!("short: a secret of fewer than {SHORT_SECRET} characters is guessed");
        report.warn(path.key("secret"), message);
    }
    let secret = secret.to_owned();
    // As requests are compared with it.
    let path = canonical_path(&raw.path).into_owned();
    Some(Revalidate { path, secret, max_body, max_paths, pages_per_path, timeout })
}

fn limits(raw: &raw::Limits, path: &Path, report: &mut Report) -> Limits {
    let max_head = report.bytes(path.key("max_head"), raw.max_head, 1 << 10, 1 << 20);
    let max_uri = report.bytes(path.key("max_uri"), raw.max_uri, 16, 1 << 20);
    if max_uri > max_head && !report.is_gone(&path.key("max_head")) {
        report.error(path.key("max_uri"), "larger than `max_head`, which it is part of");
    }
    Limits {
        head_timeout: report.time(path.key("head_timeout"), raw.head_timeout),
        max_head,
        max_fields: report.count(path.key("max_fields"), raw.max_fields, 1, 256),
        max_uri,
        keepalive: report.time(path.key("keepalive"), raw.keepalive),
        write_timeout: report.time(path.key("write_timeout"), raw.write_timeout),
        body_timeout: report.time(path.key("body_timeout"), raw.body_timeout),
        max_connections: report.count(path.key("max_connections"), raw.max_connections, 1, 1 << 24),
        max_variant: report.bytes(path.key("max_variant"), raw.max_variant, 16, 64 << 10),
    }
}

/// A route that was read before: its place, and its patterns.
type Earlier = (Path, HostPattern, PathPattern);

/// Those of the file.
fn routes(raw: &raw::Raw, root: &Path, origins: &[Origin], report: &mut Report) -> Vec<Route> {
    let path = &root.key("routes");
    let mut earlier: Vec<Earlier> = Vec::new();
    let mut routes: Vec<Route> = Vec::new();
    for (index, raw) in raw.routes.iter().enumerate() {
        let path = report.item(path, index);
        let (route, patterns) = route(raw, &path, origins, report);
        if let Some((host, pattern)) = patterns {
            unreachable_route(&earlier, &host, &pattern, &path, report);
            earlier.push((path, host, pattern));
        }
        routes.push(route);
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

fn route(
    raw: &raw::Route,
    path: &Path,
    origins: &[Origin],
    report: &mut Report,
) -> (Route, Option<(HostPattern, PathPattern)>) {
    let host = HostPattern::new(raw.host.as_deref())
        .map_err(|message| report.error(path.key("host"), message));
    let pattern = pattern(&raw.path, path.key("path"), report);
    let mode = mode(raw, path, report);
    without_effect(raw, mode, path, report);
    let origin = raw.origin.as_deref().map_or(0, |name| {
        origins.iter().position(|origin| origin.name == name).unwrap_or_else(|| {
            if report.is_gone(&Path::default().key("origins").key(name)) {
                return 0;
            }
            let meant = nearest(name, origins.iter().map(|origin| origin.name.as_str()))
                .map(|meant| format!("; did you mean {meant:?}?"))
                .unwrap_or_default();
            report.error(path.key("origin"), format!("there is no origin {name:?}{meant}"));
            0
        })
    });
    match &raw.browser {
        Some(text) if HeaderValue::from_str(text).is_ok() => {
            browser::check(text, &path.key("browser"), report);
        }
        Some(_) => {
            report.error(path.key("browser"), "a field cannot hold control characters");
        }
        None => {}
    }
    let min = report.time(path.key("backoff").key("min"), raw.backoff.min);
    let max = raw.backoff.max.0;
    if min > max {
        report.unfit(path.key("backoff"), "`min` is longer than `max`");
    }
    let route = Route {
        host: raw.host.as_ref().map(|host| host.to_ascii_lowercase()),
        path: pattern.as_ref().map_or(raw.path.as_str(), PathPattern::as_str).to_owned(),
        mode,
        origin,
        query: query(raw, mode, &path.key("query"), report),
        cookies: cookies(raw, &path.key("cookies"), report),
        vary: vary(&raw.vary, &path.key("vary"), report),
        tags: tags(&raw.tags, &path.key("tags"), report),
        not_found: raw.not_found.0,
        browser: raw.browser.as_ref().map(|browser| browser.trim().to_owned()),
        strip_set_cookie: raw.strip_set_cookie.0,
        unsafe_invalidates: raw.unsafe_invalidates.0,
        forward_tags: raw.forward_tags.0,
        backoff: Backoff { min, max },
        preset: false,
    };
    // Without its host it would take what is for others.
    let host = host.ok().filter(|_| !report.is_gone(&path.key("host")));
    (route, host.zip(pattern))
}

/// A pattern of paths, unless it is one of another program.
fn pattern(written: &str, path: Path, report: &mut Report) -> Option<PathPattern> {
    match foreign::foreign(written) {
        Some(Foreign::Refused(message)) => {
            report.error(path, message);
            return None;
        }
        Some(Foreign::Doubtful(message)) => report.warn(path.clone(), message),
        None => {}
    }
    PathPattern::new(written).map_err(|message| report.error(path, message)).ok()
}

fn mode(raw: &raw::Route, path: &Path, report: &mut Report) -> Mode {
    let isr = raw.isr.as_ref().map(|isr| {
        if isr.revalidate.0.is_some_and(|lifetime| lifetime.is_zero()) {
            report.error(
                path.key("isr").key("revalidate"),
                "must be longer than 0s; for pages rendered at every request say `ssr: {}`",
            );
        }
        Mode::Isr { revalidate: isr.revalidate.0, stale_for: isr.stale_for.0 }
    });
    let dsg = raw.dsg.as_ref().map(|dsg| Mode::Dsg { origin: dsg.revalidate.is_some() });
    let ssr = raw.ssr.as_ref().map(|ssr| Mode::Ssr { heuristic: ssr.heuristic.0 });
    let pass = raw.pass.as_ref().map(|_| Mode::Pass);
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
fn without_effect(raw: &raw::Route, mode: Mode, path: &Path, report: &mut Report) {
    let default = raw::Route::default();
    let pass = mode == Mode::Pass;
    let backoff = (raw.backoff.min, raw.backoff.max);
    for (key, set, idle) in [
        ("query", raw.query.is_some(), pass),
        ("cookies", raw.cookies.is_some(), !mode.may_be_server_rendered()),
        ("vary", !raw.vary.is_empty(), pass),
        ("tags", !raw.tags.is_empty(), pass),
        ("not_found", raw.not_found != default.not_found, !mode.is_page()),
        ("browser", raw.browser.is_some(), !mode.is_page()),
        ("strip_set_cookie", raw.strip_set_cookie.0, pass),
        ("unsafe_invalidates", raw.unsafe_invalidates.0, !mode.is_page()),
        ("backoff", backoff != (default.backoff.min, default.backoff.max), pass),
    ] {
        if set && idle {
            report.warn(path.key(key), format!("has no effect on a route with `{mode}`"));
        }
    }
}

fn query(raw: &raw::Route, mode: Mode, path: &Path, report: &mut Report) -> Query {
    let Some(query) = &raw.query else {
        return if mode.is_page() { Query::Names(Vec::new()) } else { Query::All };
    };
    let Query::Names(names) = &query.0 else { return Query::All };
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
    let mut names = names.clone();
    names.sort_unstable();
    names.dedup();
    Query::Names(names)
}

fn cookies(raw: &raw::Route, path: &Path, report: &mut Report) -> Cookies {
    let Some(rule) = &raw.cookies else { return Cookies::All };
    let Cookies::Names(names) = &rule.0 else { return rule.0.clone() };
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
    let mut names = names.clone();
    names.sort_unstable();
    names.dedup();
    Cookies::Names(names)
}

fn vary(raw: &[String], path: &Path, report: &mut Report) -> Vec<HeaderName> {
    if raw.len() > MAX_VARY {
        report.error(path.clone(), format!("at most {MAX_VARY} fields"));
    }
    let mut names: Vec<HeaderName> = Vec::new();
    for (index, written) in raw.iter().enumerate() {
        let place = report.item(path, index);
        let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
            report.error(place, format!("{written:?} is not the name of a field"));
            continue;
        };
        if let Some(why) = not_a_variant(&name) {
            report.error(place, format!("`{name}` cannot be a variant: {why}"));
        } else if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names
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

fn tags(raw: &[String], path: &Path, report: &mut Report) -> Vec<String> {
    if raw.len() > MAX_TAGS {
        report.error(path.clone(), format!("at most {MAX_TAGS} tags are kept of a page"));
    }
    let mut tags: Vec<String> = Vec::new();
    for (index, written) in raw.iter().enumerate() {
        let place = report.item(path, index);
        let tag = written.trim();
        let length = tag.chars().count();
        if length == 0 {
            report.error(place, "a tag cannot be empty");
        } else if length > MAX_TAG {
            let message = format!("a tag has at most {MAX_TAG} characters, this one {length}");
            report.error(place, message);
        } else if tag.contains(',') || tag.chars().any(char::is_control) {
            report.error(place, "a tag has no commas and no control characters");
        } else {
            tags.push(tag.to_owned());
        }
    }
    tags.sort_unstable();
    tags.dedup();
    tags
}
