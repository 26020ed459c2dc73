//! The resolved configuration for people: what `perennial check` prints.

use std::fmt::Write;

use super::origins::{HostField, Origin};
use super::root::Config;
use super::routes::{Cookies, Mode, Query, Route};
use super::values::{human_duration, human_size};
use crate::framework::{Known, Preset};

/// Routes, origins and cache as they were understood, aligned in columns. Shows
/// no secret.
#[must_use]
pub fn table(config: &Config) -> String {
    let preset = Preset::new(&config.framework);
    let mut out = String::new();
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    let admin = config.admin.map_or("off".to_owned(), |admin| admin.to_string());
    let _ = writeln!(out, "listen   {}    admin {admin}", listen.join(", "));
    let cache = &config.cache;
    let memory = if cache.memory == 0 { "none".to_owned() } else { human_size(cache.memory) };
    let _ = writeln!(out, "memory   {memory}, objects up to {}", human_size(cache.max_object));
    let webhook = match &config.revalidate {
        Some(revalidate) => revalidate.path.as_str(),
        None => "off",
    };
    let _ = writeln!(out, "webhook  {webhook}");
    let deployment = &config.deployment;
    let mut by: Vec<String> =
        deployment.fields.iter().map(|name| format!("field {name}")).collect();
    by.extend(deployment.cookie.iter().map(|name| format!("cookie {name}")));
    let deployment = match (&deployment.id, by.is_empty()) {
        (Some(id), _) => id.clone(),
        (None, true) => "by build".to_owned(),
        (None, false) => format!("by {}", by.join(", ")),
    };
    if config.is_untold() {
        let _ = writeln!(
            out,
            "preset   auto: told by the origin's `/` once it answers; until then, and if nothing \
             fits, generic, with the routes below"
        );
    } else if config.framework != Known::Generic || config.deployment.id.is_some() {
        let _ = writeln!(out, "deployed {deployment}");
    }
    if config.dev {
        let _ = writeln!(out, "dev      everything is passed through uncached");
    }
    out.push('\n');
    let mut rows = vec![row(["origin", "servers", "host", "render", "at once", "health"])];
    rows.extend(config.origins.iter().map(origin));
    align(&mut out, &rows);
    out.push('\n');
    let mut rows =
        vec![row(["#", "host", "path", "mode", "origin", "query", "vary", "tags", "options"])];
    for (index, route) in config.routes.iter().enumerate() {
        rows.push(self::route(config, &preset, index, route));
    }
    align(&mut out, &rows);
    if config.routes.iter().any(|route| route.preset) {
        let framework = &config.framework;
        let _ = writeln!(out, "\n*  brought by framework: {framework}");
        for remark in preset.remarks() {
            let _ = writeln!(out, "{remark}");
        }
    }
    out
}

/// Whether it is known for whom the pages of a preset's route are rendered, where that
/// makes a difference.
fn known(preset: &Preset, route: &Route) -> Option<&'static str> {
    if !(route.preset && route.mode.is_page() && route.path == "/**") {
        return None;
    }
    let known = preset.knows_pages()?;
    Some(if known { "pages known from the build" } else { "pages guessed" })
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn origin(origin: &Origin) -> Vec<String> {
    let servers: Vec<String> = origin.servers.iter().map(ToString::to_string).collect();
    let health = match &origin.health {
        Some(health) => format!("{} every {}", health.path, human_duration(health.interval)),
        None => "-".to_owned(),
    };
    vec![
        origin.name.clone(),
        servers.join(" "),
        match &origin.host {
            HostField::Preserve => "preserve".to_owned(),
            HostField::Name(name) => name.clone(),
        },
        human_duration(origin.fill_timeout),
        origin.max_concurrent_fills.to_string(),
        health,
    ]
}

fn route(config: &Config, preset: &Preset, index: usize, route: &Route) -> Vec<String> {
    let list = |items: &[&str]| if items.is_empty() { "-".to_owned() } else { items.join(",") };
    let query = match &route.query {
        Query::All => "all".to_owned(),
        Query::Names(names) => list(&names.iter().map(String::as_str).collect::<Vec<_>>()),
    };
    vec![
        format!("{index}{}", if route.preset { "*" } else { "" }),
        route.host.clone().unwrap_or_else(|| "any".to_owned()),
        route.path.clone(),
        mode(route.mode),
        config.origins.get(route.origin).map_or("?", |origin| origin.name.as_str()).to_owned(),
        query,
        list(&route.vary.iter().map(|name| name.as_str()).collect::<Vec<_>>()),
        list(&route.tags.iter().map(String::as_str).collect::<Vec<_>>()),
        options(route, known(preset, route)),
    ]
}

fn mode(mode: Mode) -> String {
    match mode {
        Mode::Isr { revalidate, stale_for } => {
            let fresh = revalidate.map_or("by origin".to_owned(), human_duration);
            format!("isr {fresh}, stale {}", human_duration(stale_for))
        }
        Mode::Dsg { origin: true } => "dsg, or by origin".to_owned(),
        Mode::Ssr { heuristic: true } => "ssr heuristic".to_owned(),
        other => other.to_string(),
    }
}

/// What else is set, where it has an effect.
fn options(route: &Route, known: Option<&str>) -> String {
    let mut options: Vec<String> = known.map(str::to_owned).into_iter().collect();
    if route.mode.is_page() {
        options.push(format!("not_found {}", human_duration(route.not_found)));
        if let Some(browser) = &route.browser {
            options.push(format!("browser {browser:?}"));
        }
    }
    match &route.cookies {
        Cookies::All => {}
        Cookies::Shared => options.push("cookies shared".to_owned()),
        Cookies::Names(names) if names.is_empty() => options.push("cookies none".to_owned()),
        Cookies::Names(names) => options.push(format!("cookies [{}]", names.join(", "))),
    }
    for (name, set) in [
        ("strip_set_cookie", route.strip_set_cookie),
        ("unsafe_invalidates", route.unsafe_invalidates),
        ("forward_tags", route.forward_tags),
    ] {
        if set {
            options.push(name.to_owned());
        }
    }
    if options.is_empty() { "-".to_owned() } else { options.join(", ") }
}

/// Columns as wide as their widest cell, two spaces apart.
fn align(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().filter_map(|row| row.get(c)).map(|v| v.chars().count()).max())
        .map(|width| width.unwrap_or(0))
        .collect();
    for row in rows {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}
