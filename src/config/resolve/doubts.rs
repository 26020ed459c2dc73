//! What is allowed, and probably not meant: looked for once all is resolved.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::Report;
use crate::config::machine::Memory;
use crate::config::origins::Server;
use crate::config::pattern::PathPattern;
use crate::config::root::Config;
use crate::config::routes::Mode;
use crate::config::site::DeploymentKeys;
use crate::config::source::Path;
use crate::config::values::human_duration;
use crate::framework::Preset;

/// Of the memory that there is, pages may take this part, in percent: renders in
/// flight, connections and the allocator take some, too.
const MOST: u64 = 80;

/// Warns of what is probably not meant. The first `of_file` routes are those of the file.
pub(super) fn doubts(
    given: Option<&DeploymentKeys>,
    config: &Config,
    of_file: usize,
    memory: Option<Memory>,
    root: &Path,
    report: &mut Report,
) {
    ports(config, root, report);
    for (index, network) in config.trusted_proxies.iter().enumerate() {
        if network.prefix_len() == 0 {
            let message = format!("{network} is everybody: each visitor would say how they came");
            let place = report.item(&root.key("trusted_proxies"), index);
            report.warn(place, message);
        }
    }
    origins(config, &root.key("origins"), report);
    if let Some(memory) = memory {
        fits(config, memory, &root.key("cache").key("memory"), report);
    }
    if config.cache.max_object == 0 {
        report.warn(root.key("cache").key("max_object"), "every page is larger: none is stored");
    }
    let path = &root.key("deployment");
    let settle = DeploymentKeys::default().settle;
    if config.deployment.id.is_some() && given.is_some_and(|given| given.settle != settle) {
        report.warn(path.key("settle"), "has no effect beside `id`: what is named is not noticed");
    }
    for (keys, message) in Preset::new(&config.framework).doubts() {
        let path = keys.iter().fold(root.clone(), |path, key| path.key(key));
        report.warn(path, message);
    }
    routes(of_file, config, &root.key("routes"), report);
}

/// A port that nobody knows is for tests, and those connect to loopback.
fn ports(config: &Config, root: &Path, report: &mut Report) {
    let unknown = |addr: &SocketAddr| addr.port() == 0 && !addr.ip().is_loopback();
    const SAID: &str = "port 0 is a free one, and another one at every start";
    for index in config.listen.iter().enumerate().filter(|(_, addr)| unknown(addr)).map(|(i, _)| i)
    {
        let place = report.item(&root.key("listen"), index);
        report.warn(place, SAID);
    }
    if config.admin.as_ref().is_some_and(unknown) {
        report.warn(root.key("admin"), SAID);
    }
}

fn origins(config: &Config, path: &Path, report: &mut Report) {
    let used: HashSet<usize> = config.routes.iter().map(|route| route.origin).collect();
    for (index, origin) in config.origins.iter().enumerate() {
        let path = path.key(&origin.name);
        // The first one is also where each route goes that names none.
        if index > 0 && !used.contains(&index) {
            report.warn(path.clone(), "no route goes there: none names it as its `origin`");
        }
        for (index, server) in origin.servers.iter().enumerate() {
            let place = report.item(&path.key("servers"), index);
            if config.listen.iter().any(|listen| is_at(server, listen)) {
                let message = format!(
                    "{} is where Perennial itself listens (`listen`): requests would go in circles",
                    server
                );
                report.warn(place, message);
            } else if (server.tls, server.port) == (false, 443) {
                report.warn(place, "port 443 mostly speaks TLS; did you mean https?");
            } else if (server.tls, server.port) == (true, 80) {
                report.warn(place, "port 80 mostly speaks no TLS; did you mean http?");
            }
        }
        if origin.connect_timeout > origin.fill_timeout {
            let whole = human_duration(origin.fill_timeout);
            let message = format!("has no effect: `fill_timeout` ends it all after {whole}");
            report.warn(path.key("connect_timeout"), message);
        }
    }
}

/// Whether a server is the one that listens there.
fn is_at(server: &Server, listen: &SocketAddr) -> bool {
    let ip = match server.host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) if server.host == "localhost" => IpAddr::from([127, 0, 0, 1]),
        // Where a name leads is not for this room to ask.
        Err(_) => return false,
    };
    let everywhere = listen.ip().is_unspecified() && (ip.is_loopback() || ip.is_unspecified());
    server.port == listen.port() && (ip == listen.ip() || everywhere)
}

fn fits(config: &Config, memory: Memory, path: &Path, report: &mut Report) {
    let wanted = config.cache.memory;
    let shown = |bytes: u64| bytesize::ByteSize(bytes).display().iec().to_string();
    let (has, who) = (shown(memory.bytes), memory.who);
    if wanted > memory.bytes {
        let message = format!(
            "{} is more than {who}, {has}: the process would be killed before it is full",
            shown(wanted)
        );
        report.warn(path.clone(), message);
    } else if wanted > memory.bytes / 100 * MOST {
        let message = format!(
            "{} is nearly all that {who}, {has}: leave a part for renders, connections and the rest",
            shown(wanted)
        );
        report.warn(path.clone(), message);
    }
}

fn routes(of_file: usize, config: &Config, path: &Path, report: &mut Report) {
    let hook = config.revalidate.as_ref().map(|hook| PathPattern::exactly(&hook.path));
    // Those of the file come first.
    for (index, route) in config.routes.iter().enumerate().take(of_file) {
        let path = report.item(path, index);
        if let Mode::Isr { revalidate, stale_for } = route.mode {
            let path = path.key("isr");
            if stale_for.is_zero() {
                let message = "every visitor who comes after `revalidate` waits for the render, \
                               and gets its error if it fails; leave it out to serve the stale page meanwhile";
                report.warn(path.key("stale_for"), message);
            }
            if let Some(fresh) =
                revalidate.filter(|fresh| !fresh.is_zero() && fresh.as_millis() < 1000)
            {
                let message = format!("{} is less than a second", human_duration(fresh));
                report.warn(path.key("revalidate"), message);
            }
        }
        if let (Some(hook), Ok(pattern)) = (&hook, PathPattern::new(&route.path))
            && hook.covers(&pattern)
        {
            report.warn(path.key("path"), "this route never matches: the webhook is there");
        }
    }
}
