//! What is known of a site: its framework, and its deployments.

use std::time::Duration;

use http::HeaderName;

use super::{Report, is_path};
use crate::config::resolved::{Auto, Deployment, Framework, Gatsby, Nextjs, Route, Site};
use crate::config::source::Path;
use crate::config::values::Span;
use crate::config::{raw, sites};
use crate::page::canonical_path;

/// The framework with what is known of the site, and for Gatsby the patterns of
/// its server-rendered pages.
pub(super) fn framework(
    raw: &raw::Raw,
    beside: &std::path::Path,
    root: &Path,
    report: &mut Report,
) -> (Framework, Vec<String>) {
    for (key, given, wanted) in [
        ("nextjs", raw.nextjs.is_some(), matches!(raw.framework, raw::Framework::Nextjs)),
        ("gatsby", raw.gatsby.is_some(), matches!(raw.framework, raw::Framework::Gatsby)),
    ] {
        if given && !wanted {
            report.warn(root.key(key), format!("has no effect without `framework: {key}`"));
        }
    }
    if raw.site.is_some()
        && matches!(
            raw.framework,
            raw::Framework::Auto
                | raw::Framework::Generic
                | raw::Framework::Nextjs
                | raw::Framework::Gatsby
        )
    {
        let message = "has no effect but with `framework: sveltekit`, `react-router`, `nuxt` or \
                       `astro`";
        report.warn(root.key("site"), message);
    }
    let nothing = Vec::new();
    let path = root.key("site");
    let mut known = |framework: fn(Site) -> Framework| {
        let site = raw.site.as_ref().map(|raw| site(raw, &path, report));
        (framework(site.unwrap_or_default()), Vec::new())
    };
    match raw.framework {
        raw::Framework::Sveltekit => known(Framework::Sveltekit),
        raw::Framework::ReactRouter => known(Framework::ReactRouter),
        raw::Framework::Nuxt => known(Framework::Nuxt),
        raw::Framework::Astro => known(Framework::Astro),
        raw::Framework::Auto | raw::Framework::Generic => (Framework::Generic, nothing),
        raw::Framework::Nextjs => {
            let default = raw::Nextjs::default();
            let site = raw.nextjs.as_ref().unwrap_or(&default);
            (Framework::Nextjs(nextjs(site, beside, &root.key("nextjs"), report)), nothing)
        }
        raw::Framework::Gatsby => {
            let default = raw::Gatsby::default();
            let site = raw.gatsby.as_ref().unwrap_or(&default);
            let (gatsby, patterns) = gatsby(site, beside, &root.key("gatsby"), report);
            (Framework::Gatsby(gatsby), patterns)
        }
    }
}

fn nextjs(raw: &raw::Nextjs, beside: &std::path::Path, path: &Path, report: &mut Report) -> Nextjs {
    let mut site = Nextjs { detects_locale: true, ..Nextjs::default() };
    if let Some(build) = &raw.build {
        match sites::nextjs(&beside.join(build)) {
            Ok(read) => site = read,
            Err(message) => report.error(path.key("build"), message),
        }
    }
    if let Some(id) = raw.preview_mode_id.as_ref().filter(|id| !id.0.is_empty()) {
        if !is_preview_id(&id.0) {
            let message = "a field cannot carry this: expected hexadecimal digits";
            report.error(path.key("preview_mode_id"), message);
        }
        site.preview_mode_id = Some(id.0.clone());
    }
    if let Some(base) = &raw.base_path {
        site.base_path = self::base(base, &path.key("base_path"), report);
    }
    if let Some(slash) = raw.trailing_slash {
        site.trailing_slash = slash.0;
    }
    const EXPECTED: &str = "expected a locale such as `en` or `en-GB`";
    if let Some(locale) = raw.default_locale.as_ref().filter(|locale| !locale.is_empty()) {
        if !is_locale(locale) {
            report.error(path.key("default_locale"), EXPECTED);
        }
        site.default_locale = Some(locale.clone());
    }
    for (index, _) in raw.locales.iter().enumerate().filter(|(_, locale)| !is_locale(locale)) {
        let place = report.item(&path.key("locales"), index);
        report.error(place, EXPECTED);
    }
    if !raw.locales.is_empty() {
        site.locales.clone_from(&raw.locales);
    }
    if let Some(locale) = &site.default_locale
        && !site.locales.contains(locale)
    {
        site.locales.push(locale.clone());
    }
    if let Some(detects) = raw.locale_detection {
        site.detects_locale = detects.0;
    }
    site.detects_locale &= site.locales.len() > 1;
    site
}

fn gatsby(
    raw: &raw::Gatsby,
    beside: &std::path::Path,
    path: &Path,
    report: &mut Report,
) -> (Gatsby, Vec<String>) {
    let mut site = Gatsby::default();
    let mut patterns = Vec::new();
    if let Some(build) = &raw.build {
        match sites::gatsby(&beside.join(build)) {
            Ok((read, server_rendered)) => (site, patterns) = (read, server_rendered),
            Err(message) => report.error(path.key("build"), message),
        }
    }
    if let Some(prefix) = &raw.path_prefix {
        site.path_prefix = base(prefix, &path.key("path_prefix"), report);
    }
    site.trailing_slash = raw.trailing_slash != Some(raw::TrailingSlash::Never);
    for (index, pattern) in raw.server_rendered.iter().enumerate() {
        let place = report.item(&path.key("server_rendered"), index);
        if let Some(pattern) = super::pattern(pattern, place, report) {
            patterns.push(pattern.as_str().to_owned());
        }
    }
    (site, patterns)
}

fn site(raw: &raw::Site, path: &Path, report: &mut Report) -> Site {
    let mut read = |value: &Option<String>, key: &'static str| {
        value.as_ref().map(|value| base(value, &path.key(key), report))
    };
    let assets = read(&raw.assets, "assets").filter(|folder| !folder.is_empty());
    let base = read(&raw.base, "base").unwrap_or_default();
    Site { base, assets, trailing_slash: raw.trailing_slash.0 }
}

/// A path below which a site lies: none, or as in `/docs`.
fn base(base: &str, path: &Path, report: &mut Report) -> String {
    as_base(base).unwrap_or_else(|| {
        report.error(path.clone(), "expected a path such as `/docs`");
        String::new()
    })
}

/// The same; none for what is no such path.
pub(in crate::config) fn as_base(base: &str) -> Option<String> {
    let base = base.trim_end_matches('/');
    if base.is_empty() {
        return Some(String::new());
    }
    let plain = is_path(base, false) && !base.contains(['*', '{', '[']);
    plain.then(|| canonical_path(base).into_owned())
}

/// Whether a field can carry the secret of drafts.
pub(in crate::config) fn is_preview_id(id: &str) -> bool {
    id.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether it can be a locale, such as `en-GB`.
pub(in crate::config) fn is_locale(locale: &str) -> bool {
    !locale.is_empty() && locale.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// What tells deployments apart where the file does not say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// A field of the origin.
    Sent,
    /// The build that rendered a page.
    Builds,
}

impl Names {
    pub(super) fn of(framework: &Framework) -> Names {
        if framework.tells_build() { Names::Builds } else { Names::Sent }
    }
}

/// What `framework: auto` needs to go on once the framework is told.
pub(super) fn auto(
    raw: &raw::Raw,
    routes: &[Route],
    path: &Path,
    report: &mut Report,
) -> Option<Auto> {
    matches!(raw.framework, raw::Framework::Auto).then(|| Auto {
        told: false,
        routes: routes.to_vec(),
        // What is wrong with it is said once.
        generic: deployment(raw, Names::Sent, path, &mut Report::default()),
        by_build: deployment(raw, Names::Builds, path, report),
    })
}

pub(super) fn deployment(
    raw: &raw::Raw,
    by: Names,
    path: &Path,
    report: &mut Report,
) -> Deployment {
    const FIELDS: [&str; 2] = ["x-deployment-id", "x-nextjs-deployment-id"];
    let default = raw::DeploymentOptions::default();
    let raw = raw.deployment.as_ref().map_or(&default, |deployment| &deployment.0);
    let id = raw.id.clone().filter(|id| !id.is_empty());
    if id.as_ref().is_some_and(|id| id.len() > 128 || id.chars().any(char::is_control)) {
        report.error(path.key("id"), "at most 128 bytes, without control characters");
    }
    let written = raw.field.as_slice();
    if id.is_some() && (!written.is_empty() || raw.cookie.is_some()) {
        report.unfit(
            path.clone(),
            "either `id`, or `field` and `cookie`: what is named is not noticed",
        );
    }
    let mut fields = Vec::new();
    for (index, name) in written.iter().enumerate() {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => fields.push(name),
            Err(_) => {
                let message = format!("{name:?} is not the name of a field");
                let place = report.item(&path.key("field"), index);
                report.error(place, message);
            }
        }
    }
    if let Some(cookie) = &raw.cookie
        && (cookie.is_empty()
            || !cookie.bytes().all(|b| b.is_ascii_graphic() && !b"=;,\"".contains(&b)))
    {
        report.error(path.key("cookie"), format!("{cookie:?} is not the name of a cookie"));
    }
    let preset = by == Names::Builds;
    if fields.is_empty() && raw.cookie.is_none() && !preset {
        fields = FIELDS.map(HeaderName::from_static).to_vec();
    }
    let probe = match &raw.probe {
        Some(probe) => probe.0.map(|every| report.time(path.key("probe"), Span(every))),
        None => preset.then_some(Duration::from_secs(10)),
    };
    if probe.is_some() && !preset {
        report.warn(path.key("probe"), "has no effect without a preset that knows where to look");
    }
    let assets_per_minute =
        report.count(path.key("assets_per_minute"), raw.assets_per_minute, 0, 1 << 20);
    let (cookie, settle) = (raw.cookie.clone(), raw.settle.0);
    Deployment { id, fields, cookie, settle, probe, assets_per_minute }
}
