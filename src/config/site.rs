//! What is known of a site: its framework, and its deployments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use smart_default::SmartDefault;

use super::forms::{As, OneOrMany, Or, ShortForm};
use super::values::{Base, Count, Field, Flag, Locale, Off, Secret, Span, Time};

/// What `framework: nextjs` knows of the site.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `nextjs`")]
#[schemars(inline)]
pub(super) struct NextjsKeys {
    /// The folder that `next build` made, if it is at hand. All keys below are read from it,
    /// and the build id, for whom each page is rendered, and on which paths middleware runs:
    /// there the origin is asked each time. A path beside this file, or absolute. It is read
    /// again at a reload.
    #[schemars(example = &"./.next")]
    pub(super) build: Option<String>,
    /// `preview.previewModeId` of the build's `prerender-manifest.json`. With it only a cookie
    /// with this secret counts as a draft cookie, whose requests pass by the cache; and a page
    /// that is renewed is rendered anew, instead of coming out of a cache of Next's own.
    #[serde(with = "As::<Option<Secret>>")]
    #[schemars(example = &"${PREVIEW_MODE_ID:-}")]
    pub(super) preview_mode_id: Option<String>,
    /// `basePath` of the site.
    #[serde(with = "As::<Option<Base>>")]
    #[schemars(example = &"/docs")]
    pub(super) base_path: Option<String>,
    /// `trailingSlash` of the site.
    #[serde(with = "As::<Option<Flag>>")]
    #[schemars(example = true)]
    pub(super) trailing_slash: Option<bool>,
    /// `i18n.defaultLocale` of the site: its pages carry no prefix, their data do.
    #[schemars(example = &"en")]
    pub(super) default_locale: Option<String>,
    /// `i18n.locales` of the site.
    #[serde(with = "As::<Vec<Locale>>")]
    #[schemars(example = ["en", "fr"])]
    pub(super) locales: Vec<String>,
    /// `i18n.localeDetection` of the site. If there are several locales and this is not
    /// `false`, Next redirects clients from `/` to their language. So the origin is asked for
    /// `/` each time, unless a route of this file names it. The data of `/` are stored like
    /// those of other pages.
    #[serde(with = "As::<Option<Flag>>")]
    #[schemars(example = false)]
    pub(super) locale_detection: Option<bool>,
}

/// A Next.js site.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Nextjs {
    /// The secret that a true draft cookie carries, and with which the renderer
    /// is told to render anew. Never logged: `Debug` shows `***`.
    pub preview_mode_id: Option<String>,
    /// `basePath`: empty, or a path such as `/docs`.
    pub base_path: String,
    /// Whether the site's pages end in a slash (`trailingSlash`).
    pub trailing_slash: bool,
    /// The locale whose pages carry no prefix (`i18n.defaultLocale`).
    pub default_locale: Option<String>,
    /// All locales (`i18n.locales`); empty without internationalised routing.
    pub locales: Vec<String>,
    /// Whether `/` sends each client to a language of theirs (`i18n.localeDetection`).
    pub detects_locale: bool,
    /// The build id, if it was read from the build.
    pub build_id: Option<String>,
    /// What the build says of its pages, if it was read.
    pub pages: Option<Arc<NextPages>>,
}

impl std::fmt::Debug for Nextjs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nextjs")
            .field("preview_mode_id", &self.preview_mode_id.as_ref().map(|_| "***"))
            .field("base_path", &self.base_path)
            .field("trailing_slash", &self.trailing_slash)
            .field("default_locale", &self.default_locale)
            .field("locales", &self.locales)
            .field("detects_locale", &self.detects_locale)
            .field("build_id", &self.build_id)
            .field("pages", &self.pages.is_some())
            .finish()
    }
}

/// What the build of a Next.js site says of its pages. Patterns are JavaScript's regular
/// expressions, as Next writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextPages {
    /// Pages whose path has no parameters, and those that the build has made, by their
    /// path below `basePath`. It begins with the locale where the build says so.
    pub named: BTreeMap<String, Made>,
    /// Pages whose path has parameters, in the order in which Next tries them: a pattern
    /// of the path below `basePath` and locale. None: nothing is known of it.
    pub with_parameters: Vec<(String, Option<Made>)>,
    /// Redirects, and rewrites that come before any page: patterns of whole paths.
    pub before: Vec<String>,
    /// Rewrites that come before pages with parameters.
    pub between: Vec<String>,
    /// The paths that middleware runs on, whatever else it asks of a request.
    pub middleware: Vec<Matcher>,
}

/// Paths that middleware runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// As the site says it, such as `/member/:path*`; empty: it says nothing.
    pub source: String,
    /// As Next looks for it.
    pub pattern: String,
}

/// For whom a page is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// For all alike: by the build, or later without any request's fields.
    ForAll,
    /// For each client.
    ForEach,
    /// Its shell for all, the rest for each client.
    Partly,
}

/// What `framework: gatsby` knows of the site.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `gatsby`")]
#[schemars(inline)]
pub(super) struct GatsbyKeys {
    /// The folder of the site after `gatsby build`, where it is at hand: which
    /// pages are rendered on the server is read from it, and the build. A path
    /// beside this file, or absolute. It is read again at a reload.
    #[schemars(example = &".")]
    pub(super) build: Option<String>,
    /// `pathPrefix` of the site.
    #[serde(with = "As::<Option<Base>>")]
    #[schemars(example = &"/blog")]
    pub(super) path_prefix: Option<String>,
    /// `trailingSlash` of the site. Default: `always`.
    #[schemars(example = &"always")]
    pub(super) trailing_slash: Option<TrailingSlash>,
    /// Paths of pages with `getServerData`, as globs, in addition to those that are read from
    /// the build. They are rendered for every client, unless their own `Cache-Control` says
    /// otherwise.
    #[schemars(example = ["/account/**"])]
    pub(super) server_rendered: Vec<String>,
}

/// `trailingSlash` of a Gatsby site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum TrailingSlash {
    /// pages end in a slash
    Always,
    /// they do not
    Never,
    /// either way
    Ignore,
    /// as written
    Legacy,
}

/// A Gatsby site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gatsby {
    /// `pathPrefix`: empty, or a path such as `/blog`.
    pub path_prefix: String,
    /// Whether the site's pages end in a slash (`trailingSlash`).
    pub trailing_slash: bool,
    /// The build's hash (`webpackCompilationHash`), if it was read from the build.
    pub build_id: Option<String>,
    /// Patterns of the paths of pages that are rendered for every client.
    pub server_rendered: Vec<String>,
}

/// A site of a framework that needs to know little of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `site`")]
#[schemars(inline)]
pub struct Site {
    /// The path below which the site lies: `paths.base` of SvelteKit, `basename` of React
    /// Router, `app.baseURL` of Nuxt, `base` of Astro.
    #[serde(with = "As::<Base>")]
    #[schemars(example = &"/docs")]
    pub base: String,
    /// The folder of the files that the build makes: `appDir` of SvelteKit (default
    /// `/_app`), `build.assetsDir` of the bundler for React Router (`/assets`),
    /// `app.buildAssetsDir` of Nuxt (`/_nuxt`), `build.assets` of Astro (`/_astro`).
    #[serde(with = "As::<Option<Base>>")]
    #[schemars(example = &"/_app")]
    pub assets: Option<String>,
    /// Whether pages end in a slash, where the URLs of their data do not tell: with
    /// React Router and Nuxt.
    #[serde(with = "As::<Flag>")]
    #[schemars(example = true)]
    pub trailing_slash: bool,
}

/// How deployments are told apart, as it is written.
#[derive(Debug, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "how deployments are noticed")]
#[schemars(inline)]
pub(super) struct DeploymentKeys {
    /// The name of the current one; then nothing is noticed.
    #[schemars(example = &"${DEPLOYMENT:-}")]
    pub(super) id: Option<String>,
    /// The response fields by which the origin names its deployment; the first that is there
    /// counts. Default: without a preset `x-deployment-id` and `x-nextjs-deployment-id`; with a
    /// preset none, because it tells the build.
    #[serde(with = "As::<OneOrMany<Field>>")]
    #[schemars(example = ["x-deployment-id"])]
    pub(super) field: Vec<HeaderName>,
    /// The cookie by which the origin names its deployment. On `isr` and `dsg` it
    /// does not go on to clients, and does not keep a page from being stored.
    #[schemars(example = &"deployment")]
    pub(super) cookie: Option<String>,
    /// How long a new deployment must have been seen, and no other beside it, before it becomes
    /// the current one. While a rolling deploy answers with both, the old one stays.
    #[default(Duration::from_secs(60))]
    #[serde(with = "As::<Span>")]
    pub(super) settle: Duration,
    /// How often the renderer is asked for its build, or `off`. Without it, pages that are
    /// fresh for a year would never tell of a new build. Next.js and React Router are asked for
    /// a page that no site has, Gatsby for `app-data.json`, SvelteKit for `version.json`, Nuxt
    /// for `builds/latest.json`. Default: `10s` with a preset that tells builds, which Astro's
    /// does not.
    #[serde(with = "As::<Option<Or<Off, Time>>>")]
    #[schemars(example = &"10s")]
    pub(super) probe: Option<Option<Duration>>,
    /// How many hashed assets that stored pages name are fetched in a minute, so that clients
    /// that opened a page before a deploy still get its assets afterwards. It needs a preset,
    /// which knows the names. 0: none.
    #[default(600)]
    #[serde(with = "As::<Count<0, 0x10_0000>>")]
    pub(super) assets_per_minute: usize,
}

impl ShortForm for DeploymentKeys {
    const EXPECTED: &'static str =
        "a name in quotes such as \"v42\", or how deployments are noticed";

    fn short(text: &str) -> Result<DeploymentKeys, String> {
        Ok(DeploymentKeys { id: Some(text.to_owned()), ..DeploymentKeys::default() })
    }
    fn schema() -> Json {
        json!({ "type": "string", "examples": ["${DEPLOYMENT:-}"] })
    }
}

/// How the deployment is known that a page is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The deployment by name; none: the one that is noticed.
    pub id: Option<String>,
    /// Response fields by which the origin names it; the first that is there counts.
    pub fields: Vec<HeaderName>,
    /// The cookie by which the origin names it.
    pub cookie: Option<String>,
    /// How long a new deployment must have been seen alone to become the current one.
    pub settle: Duration,
    /// Time between two looks at the renderer, for a build that nobody asked for
    /// yet; none: it is not looked at.
    pub probe: Option<Duration>,
    /// Assets that stored pages name and that are fetched in a minute.
    pub assets_per_minute: usize,
}
