//! From the keys as they are written to what the program runs with: names looked up,
//! what belongs together held against each other, the presets' routes joined.
//!
//! Nothing here stops at the first mistake: a wrong value is reported, another
//! stands in for it, and the whole is thrown away at the end.

mod browser;
mod doubts;
mod foreign;
mod report;
mod route;
mod site;

use std::collections::HashSet;
use std::net::SocketAddr;

use http::HeaderName;

use crate::page::canonical_path;
use crate::rules::hop;

use super::level::check_level;
use super::machine::Memory;
use super::origins::Origin;
use super::presets;
use super::root::{Config, Raw};
use super::sections::{Cache, Limits, Log, RequestFields, Revalidate};
use super::source::Path;
use super::values::is_path;

pub(super) use report::Report;

/// A secret shorter than this can be guessed.
const SHORT_SECRET: usize = 16;
/// Names in one list of fields: every field of a request is compared with each.
const MAX_FIELD_NAMES: usize = 64;

/// Resolves everything. What it returns is good only if `report` has no errors.
/// `beside` is the folder of the file: paths in it are beside it. `memory`: what
/// there is of it, where that matters.
pub(super) fn resolve(
    mut raw: Raw,
    beside: &std::path::Path,
    memory: Option<Memory>,
    report: &mut Report,
) -> Config {
    let root = Path::default();
    origins(&raw.origins, &root.key("origins"), report);
    cache(&raw.cache, &root.key("cache"), report);
    log(&raw.log, &root.key("log"), report);
    limits(&raw.limits, &root.key("limits"), report);
    if raw.backoff.min > raw.backoff.max {
        report.unfit(root.key("backoff"), "`min` is longer than `max`");
    }
    let revalidate = revalidate(raw.revalidate.take(), &root.key("revalidate"), report);
    let framework = site::framework(&raw, beside, &root, report);
    let written = std::mem::take(&mut raw.routes);
    let path = root.key("routes");
    let of_file = route::routes(written, &raw.origins, &raw.request_fields, &path, report);
    request_fields(&raw.request_fields, &root.key("request_fields"), report);
    let (deployment, auto) =
        site::deployments(&raw, &framework, &of_file, &root.key("deployment"), report);
    let count = of_file.len();
    let config = Config {
        threads: raw
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        deployment,
        auto,
        revalidate,
        routes: presets::join(of_file, framework.routes()),
        framework,
        dev: false,
        listen: raw.listen,
        admin: raw.admin,
        trusted_proxies: raw.trusted_proxies,
        cache: raw.cache,
        log: raw.log,
        request_fields: raw.request_fields.into(),
        limits: raw.limits,
        backoff: raw.backoff,
        shutdown_timeout: raw.shutdown_timeout,
        origins: raw.origins,
    };
    listeners(&config, &root, report);
    doubts::doubts(raw.deployment.as_ref(), &config, count, memory, &root, report);
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

fn origins(origins: &[Origin], path: &Path, report: &mut Report) {
    if origins.is_empty() {
        report.unfit(
            path.clone(),
            "at least one origin is needed, such as `web: http://127.0.0.1:3000`",
        );
    }
    for origin in origins {
        let (name, path) = (&origin.name, path.key(&origin.name));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            report.error(
                path.clone(),
                "the name of an origin has at most 64 letters, digits, dots, hyphens and \
                 underscores",
            );
        }
        if origin.servers.is_empty() {
            report.unfit(
                path.key("servers"),
                "at least one server is needed, such as `servers: http://127.0.0.1:3000`",
            );
        }
        let mut seen = HashSet::new();
        for (index, server) in origin.servers.iter().enumerate() {
            if !seen.insert(server) {
                let place = report.item(&path.key("servers"), index);
                report.error(place, format!("{server} is there twice"));
            }
        }
        if origin.health.as_ref().is_some_and(|health| !is_path(&health.path, true)) {
            let message = "expected a path such as `/healthz`";
            report.error(path.key("health").key("path"), message);
        }
    }
}

fn cache(cache: &Cache, path: &Path, report: &mut Report) {
    if cache.memory == 0 {
        report.warn(path.key("memory"), "no memory for pages: nothing is kept");
    } else if cache.max_object > cache.memory {
        report.warn(path.key("max_object"), "larger than `memory`: such an object is never kept");
    }
}

fn log(log: &Log, path: &Path, report: &mut Report) {
    match check_level(&log.level) {
        Ok(warnings) => warnings.into_iter().for_each(|why| report.warn(path.key("level"), why)),
        Err(why) => report.error(path.key("level"), why),
    }
}

fn revalidate(hook: Option<Revalidate>, path: &Path, report: &mut Report) -> Option<Revalidate> {
    let hook = hook?;
    let canonical = canonical_path(&hook.path);
    if !is_path(&hook.path, false) || hook.path.contains('*') {
        report.error(path.key("path"), "expected a path such as `/__revalidate`");
    } else if hook.path == "/" {
        report.error(path.key("path"), "this is the home page; a path such as `/__revalidate`");
    } else if *canonical != *hook.path {
        let message = format!("requests for it are made to {canonical:?}: write that");
        report.error(path.key("path"), message);
    }
    let secret = hook.secret.as_str();
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
    Some(hook)
}

fn limits(limits: &Limits, path: &Path, report: &mut Report) {
    if limits.max_uri > limits.max_head && !report.is_gone(&path.key("max_head")) {
        report.error(path.key("max_uri"), "larger than `max_head`, which it is part of");
    }
}

fn request_fields(fields: &RequestFields, path: &Path, report: &mut Report) {
    for (key, list) in [("allow", &fields.allow), ("trust", &fields.trust), ("drop", &fields.drop)]
    {
        let path = path.key(key);
        if list.len() > MAX_FIELD_NAMES {
            report.error(path.clone(), format!("at most {MAX_FIELD_NAMES} fields"));
        }
        for (index, name) in list.iter().enumerate() {
            if let Some(why) = not_for_choice(name) {
                let place = report.item(&path, index);
                report.error(place, format!("`{name}`: {why}"));
            }
        }
    }
    for name in &fields.drop {
        if fields.allow.contains(name) || fields.trust.contains(name) {
            report.error(path.key("drop"), format!("`{name}` is in another list, too"));
        }
    }
    for name in fields.trust.iter().filter(|name| fields.allow.contains(name)) {
        let message = format!("`{name}` is in `allow`, too, which is for everybody");
        report.error(path.key("trust"), message);
    }
}

/// Why nobody has a choice of sending this field or not.
fn not_for_choice(name: &HeaderName) -> Option<&'static str> {
    Some(match name.as_str() {
        "host" | "via" | "x-forwarded-host" | "x-forwarded-proto" => "it is set here",
        "content-length" | "expect" => "it belongs to the request's body",
        hop if hop::is_hop_by_hop(hop) => "it is of one connection only",
        name if name.contains('*') => "name each field, there is no wildcard",
        _ => return None,
    })
}
