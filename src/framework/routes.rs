//! The routes that presets bring are made of these.

use std::time::Duration;

use crate::config::{Cookies, Mode, Route, Site};

/// For what carries a hash of its content in its name.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
pub(super) const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// For as long as the origin says.
pub(super) const BY_ORIGIN: Mode = Mode::Isr { revalidate: None, stale_for: YEAR };
pub(super) const RENDERED: Mode = Mode::Ssr { heuristic: false };

/// A route of a preset.
pub(super) fn route(path: String, mode: Mode) -> Route {
    Route::of_preset(path, mode)
}

/// Every other page of a site whose pages are `ssr`: any of them may read cookies and the
/// query, and name a lifetime all the same.
pub(super) fn rest() -> Route {
    route("/**".to_owned(), RENDERED)
}

/// Files that carry a hash of their content in their names.
pub(super) fn immutable(path: String, mode: Mode) -> Route {
    let mut route = route(path, mode);
    route.browser = Some(IMMUTABLE.to_owned());
    route
}

/// What is the same for every client, for as long as the origin says.
pub(super) fn for_all(path: String) -> Route {
    let mut route = route(path, RENDERED);
    route.cookies = Cookies::Names(Vec::new());
    route
}

/// The folder of the files that a site's build makes.
pub(super) fn folder<'a>(site: &'a Site, default: &'a str) -> &'a str {
    site.assets.as_deref().unwrap_or(default)
}
