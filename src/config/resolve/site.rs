//! What is known of a site: its framework, and its deployments.

use std::time::Duration;

use http::HeaderName;

use super::Report;
use super::route::pattern;
use crate::config::forms::Scalar;
use crate::config::root::{Auto, Raw};
use crate::config::routes::Route;
use crate::config::site::{
    Deployment, DeploymentKeys, Gatsby, GatsbyKeys, Nextjs, NextjsKeys, TrailingSlash,
};
use crate::config::source::Path;
use crate::config::values::{Locale, is_preview_id};
use crate::framework::{Known, Name, Preset, gatsby_files, nextjs_files};

/// The framework with what is known of the site.
pub(super) fn framework(
    raw: &Raw,
    beside: &std::path::Path,
    root: &Path,
    report: &mut Report,
) -> Known {
    let mut site = raw.site.clone().unwrap_or_default();
    site.assets = site.assets.filter(|folder| !folder.is_empty());
    let of_site = raw.framework.of_site(site);
    for (key, idle, wanted) in [
        (
            "nextjs",
            raw.nextjs.is_some() && raw.framework != Name::Nextjs,
            "without `framework: nextjs`",
        ),
        (
            "gatsby",
            raw.gatsby.is_some() && raw.framework != Name::Gatsby,
            "without `framework: gatsby`",
        ),
        (
            "site",
            raw.site.is_some() && of_site.is_none(),
            "but with `framework: sveltekit`, `react-router`, `nuxt` or `astro`",
        ),
    ] {
        if idle {
            report.warn(root.key(key), format!("has no effect {wanted}"));
        }
    }
    match raw.framework {
        Name::Nextjs => {
            let (path, default) = (root.key("nextjs"), NextjsKeys::default());
            let keys = raw.nextjs.as_ref().unwrap_or(&default);
            Known::Nextjs(nextjs(keys, beside, &path, report))
        }
        Name::Gatsby => {
            let (path, default) = (root.key("gatsby"), GatsbyKeys::default());
            let keys = raw.gatsby.as_ref().unwrap_or(&default);
            Known::Gatsby(gatsby(keys, beside, &path, report))
        }
        _ => of_site.unwrap_or(Known::Generic),
    }
}

fn nextjs(keys: &NextjsKeys, beside: &std::path::Path, path: &Path, report: &mut Report) -> Nextjs {
    let mut site = Nextjs { detects_locale: true, ..Nextjs::default() };
    if let Some(build) = &keys.build {
        match nextjs_files(&beside.join(build)) {
            Ok(read) => site = read,
            Err(message) => report.error(path.key("build"), message),
        }
    }
    if let Some(id) = keys.preview_mode_id.as_ref().filter(|id| !id.is_empty()) {
        if !is_preview_id(id) {
            let message = "a field cannot carry this: expected hexadecimal digits";
            report.error(path.key("preview_mode_id"), message);
        }
        site.preview_mode_id = Some(id.clone());
    }
    if let Some(base) = &keys.base_path {
        site.base_path.clone_from(base);
    }
    site.trailing_slash = keys.trailing_slash.unwrap_or(site.trailing_slash);
    if let Some(locale) = keys.default_locale.as_ref().filter(|locale| !locale.is_empty()) {
        if let Err(message) = Locale::text(locale) {
            report.error(path.key("default_locale"), message);
        }
        site.default_locale = Some(locale.clone());
    }
    if !keys.locales.is_empty() {
        site.locales.clone_from(&keys.locales);
    }
    if let Some(locale) = &site.default_locale
        && !site.locales.contains(locale)
    {
        site.locales.push(locale.clone());
    }
    site.detects_locale = keys.locale_detection.unwrap_or(site.detects_locale);
    site.detects_locale &= site.locales.len() > 1;
    site
}

fn gatsby(keys: &GatsbyKeys, beside: &std::path::Path, path: &Path, report: &mut Report) -> Gatsby {
    let mut site = Gatsby::default();
    if let Some(build) = &keys.build {
        match gatsby_files(&beside.join(build)) {
            Ok(read) => site = read,
            Err(message) => report.error(path.key("build"), message),
        }
    }
    if let Some(prefix) = &keys.path_prefix {
        site.path_prefix.clone_from(prefix);
    }
    site.trailing_slash = keys.trailing_slash != Some(TrailingSlash::Never);
    for (index, written) in keys.server_rendered.iter().enumerate() {
        let place = report.item(&path.key("server_rendered"), index);
        if let Some(pattern) = pattern(written, place, report) {
            site.server_rendered.push(pattern.as_str().to_owned());
        }
    }
    site
}

/// What tells deployments apart where the file does not say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A field of the origin.
    Field,
    /// The build that rendered a page.
    Build,
}

/// How the deployment is known; and with `framework: auto` what it needs to go on once
/// the framework is told.
pub(super) fn deployments(
    raw: &Raw,
    framework: &Known,
    routes: &[Route],
    path: &Path,
    report: &mut Report,
) -> (Deployment, Option<Auto>) {
    let default = DeploymentKeys::default();
    let keys = raw.deployment.as_ref().unwrap_or(&default);
    if raw.framework != Name::Auto {
        let by = match Preset::new(framework).tells_build() {
            true => Source::Build,
            false => Source::Field,
        };
        return (deployment(keys, by, path, report), None);
    }
    let auto = Auto {
        told: false,
        routes: routes.to_vec(),
        // What is wrong with it is said once.
        generic: deployment(keys, Source::Field, path, &mut Report::default()),
        by_build: deployment(keys, Source::Build, path, report),
    };
    (auto.before(), Some(auto))
}

fn deployment(keys: &DeploymentKeys, by: Source, path: &Path, report: &mut Report) -> Deployment {
    const FIELDS: [&str; 2] = ["x-deployment-id", "x-nextjs-deployment-id"];
    let id = keys.id.clone().filter(|id| !id.is_empty());
    if id.as_ref().is_some_and(|id| id.len() > 128 || id.chars().any(char::is_control)) {
        report.error(path.key("id"), "at most 128 bytes, without control characters");
    }
    let mut fields = keys.field.clone();
    if id.is_some() && (!fields.is_empty() || keys.cookie.is_some()) {
        report.unfit(
            path.clone(),
            "either `id`, or `field` and `cookie`: what is named is not noticed",
        );
    }
    let token = |b: u8| b.is_ascii_graphic() && !b"=;,\"".contains(&b);
    if let Some(cookie) = &keys.cookie
        && (cookie.is_empty() || !cookie.bytes().all(token))
    {
        report.error(path.key("cookie"), format!("{cookie:?} is not the name of a cookie"));
    }
    let preset = by == Source::Build;
    if fields.is_empty() && keys.cookie.is_none() && !preset {
        fields = FIELDS.map(HeaderName::from_static).to_vec();
    }
    let probe = keys.probe.unwrap_or_else(|| preset.then_some(Duration::from_secs(10)));
    if probe.is_some() && !preset {
        report.warn(path.key("probe"), "has no effect without a preset that knows where to look");
    }
    let (cookie, settle) = (keys.cookie.clone(), keys.settle);
    Deployment { id, fields, cookie, settle, probe, assets_per_minute: keys.assets_per_minute }
}
