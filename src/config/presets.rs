//! The routes that a preset brings come after those of the file; and what changes once the
//! origin has told its framework.

use super::pattern::{HostPattern, PathPattern};
use super::root::{Auto, Config};
use super::routes::Route;
use super::site::Deployment;
use crate::framework::{Known, Preset};

/// Those of the file, and after them those of the framework of which the file has not said
/// already what is to be done. The last one matches everything.
pub(super) fn join(mut routes: Vec<Route>, framework: Vec<Route>) -> Vec<Route> {
    let pattern = |route: &Route| {
        let host = HostPattern::new(route.host.as_deref()).ok()?;
        Some((host, PathPattern::new(&route.path).ok()?))
    };
    let of_file: Vec<_> = routes.iter().filter_map(pattern).collect();
    for route in framework {
        let Ok(path) = PathPattern::new(&route.path) else { continue };
        if !of_file.iter().any(|(h, p)| h.covers(&HostPattern::Any) && p.covers(&path)) {
            routes.push(route);
        }
    }
    if !routes.last().is_some_and(|last| last.host.is_none() && last.path == "/**") {
        routes.push(Route::catch_all());
    }
    routes
}

/// The name of the deployment as long as the framework is not known. What is stored under
/// it is of no other: one preset may take for the data of a page what another one takes
/// for a page.
const UNKNOWN: &str = "(the framework is not known yet)";

impl Auto {
    /// How the deployment is known before the framework is.
    pub(super) fn before(&self) -> Deployment {
        let by_build = self.by_build.clone();
        Deployment { id: Some(UNKNOWN.to_owned()), fields: Vec::new(), cookie: None, ..by_build }
    }
}

impl Config {
    /// Whether the origin is still to tell its framework.
    #[must_use]
    pub fn is_untold(&self) -> bool {
        self.auto.as_ref().is_some_and(|auto| !auto.told)
    }

    /// This configuration, once the origin has told its framework. Unchanged where the file
    /// names one.
    #[must_use]
    pub fn told(mut self, framework: Known) -> Config {
        let Some(auto) = &mut self.auto else { return self };
        auto.told = true;
        self.routes = join(auto.routes.clone(), framework.routes());
        self.deployment = match Preset::new(&framework).tells_build() {
            true => auto.by_build.clone(),
            false => auto.generic.clone(),
        };
        self.framework = framework;
        self
    }
}
