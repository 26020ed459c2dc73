//! The YAML of what is known of a site: its framework and its deployments.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::secs;
use crate::config::values::{Count, Flag, OneOrMany, Probe, Secret, Span};

/// What `framework: nextjs` knows of the site.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `nextjs`")]
#[schemars(inline)]
pub(in crate::config) struct Nextjs {
    /// The folder that `next build` made, where it is at hand: everything below is
    /// read from it, the build id, for whom each page is rendered, and the paths that
    /// middleware runs on: the origin is asked each time there. A path beside this
    /// file, or absolute. It is read again at a reload.
    #[schemars(example = &"./.next")]
    pub(in crate::config) build: Option<String>,
    /// `preview.previewModeId` of the build's `prerender-manifest.json`: with it
    /// only a true draft cookie passes by the cache, and a page that is renewed is
    /// rendered anew instead of coming out of a cache of Next's own.
    #[schemars(example = &"${PREVIEW_MODE_ID:-}")]
    pub(in crate::config) preview_mode_id: Option<Secret>,
    /// `basePath` of the site.
    #[schemars(example = &"/docs")]
    pub(in crate::config) base_path: Option<String>,
    /// `trailingSlash` of the site.
    #[schemars(example = true)]
    pub(in crate::config) trailing_slash: Option<Flag>,
    /// `i18n.defaultLocale` of the site: its pages carry no prefix, their data do.
    #[schemars(example = &"en")]
    pub(in crate::config) default_locale: Option<String>,
    /// `i18n.locales` of the site.
    #[schemars(example = ["en", "fr"])]
    pub(in crate::config) locales: Vec<String>,
    /// `i18n.localeDetection` of the site. Where there are several locales and it is not
    /// `false`, Next sends visitors from `/` to their language, so that `/` is asked for
    /// each visitor, unless a route of this file names it. Its data are a page's like
    /// others.
    #[schemars(example = false)]
    pub(in crate::config) locale_detection: Option<Flag>,
}

/// What `framework: gatsby` knows of the site.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `gatsby`")]
#[schemars(inline)]
pub(in crate::config) struct Gatsby {
    /// The folder of the site after `gatsby build`, where it is at hand: which
    /// pages are rendered on the server is read from it, and the build. A path
    /// beside this file, or absolute. It is read again at a reload.
    #[schemars(example = &".")]
    pub(in crate::config) build: Option<String>,
    /// `pathPrefix` of the site.
    #[schemars(example = &"/blog")]
    pub(in crate::config) path_prefix: Option<String>,
    /// `trailingSlash` of the site. Default: `always`.
    #[schemars(example = &"always")]
    pub(in crate::config) trailing_slash: Option<TrailingSlash>,
    /// Paths of pages with `getServerData`, as globs, on top of those that are
    /// read from the build: they are rendered for every visitor, as far as their
    /// own `Cache-Control` does not say otherwise.
    #[schemars(example = ["/account/**"])]
    pub(in crate::config) server_rendered: Vec<String>,
}

/// What `framework: sveltekit`, `react-router`, `nuxt` and `astro` know of the site.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the keys of `site`")]
#[schemars(inline)]
pub(in crate::config) struct Site {
    /// Below which path it lies: `paths.base` of SvelteKit, `basename` of React Router,
    /// `app.baseURL` of Nuxt, `base` of Astro.
    #[schemars(example = &"/docs")]
    pub(in crate::config) base: Option<String>,
    /// The folder of the files that the build makes: `appDir` of SvelteKit (default
    /// `/_app`), `build.assetsDir` of the bundler for React Router (`/assets`),
    /// `app.buildAssetsDir` of Nuxt (`/_nuxt`), `build.assets` of Astro (`/_astro`).
    #[schemars(example = &"/_app")]
    pub(in crate::config) assets: Option<String>,
    /// Whether pages end in a slash, where the URLs of their data do not tell: with
    /// React Router and Nuxt.
    #[schemars(example = true)]
    pub(in crate::config) trailing_slash: Flag,
}

/// `trailingSlash` of a Gatsby site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum TrailingSlash {
    /// pages end in a slash
    Always,
    /// they do not
    Never,
    /// either way
    Ignore,
    /// as written
    Legacy,
}

/// The deployment: its name, or how it is noticed.
#[derive(Debug, PartialEq, Serialize)]
pub(in crate::config) struct Deployment(pub(in crate::config) DeploymentOptions);

impl<'de> Deserialize<'de> for Deployment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Deployment, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Deployment;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name in quotes such as \"v42\", or how deployments are noticed")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Deployment, E> {
                let id = Some(v.to_owned());
                Ok(Deployment(DeploymentOptions { id, ..DeploymentOptions::default() }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Deployment, A::Error> {
                DeploymentOptions::deserialize(MapAccessDeserializer::new(map)).map(Deployment)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Deployment {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Deployment".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "examples": ["${DEPLOYMENT:-}"] },
            generator.subschema_for::<DeploymentOptions>()
        ] })
    }
}

/// How deployments are told apart.
#[derive(Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "how deployments are noticed")]
#[schemars(inline)]
pub(in crate::config) struct DeploymentOptions {
    /// The name of the current one; then nothing is noticed.
    #[schemars(example = &"${DEPLOYMENT:-}")]
    pub(in crate::config) id: Option<String>,
    /// The response fields by which the origin names its deployment; the first
    /// that is there counts. Default: `x-deployment-id` and
    /// `x-nextjs-deployment-id` without a preset, with one none: it tells the
    /// build.
    #[schemars(example = ["x-deployment-id"])]
    pub(in crate::config) field: OneOrMany<String>,
    /// The cookie by which the origin names its deployment. On `isr` and `dsg` it
    /// does not go on to visitors, and does not keep a page from being stored.
    #[schemars(example = &"deployment")]
    pub(in crate::config) cookie: Option<String>,
    /// How long a new deployment must have been seen, and no other beside, before
    /// it becomes the current one: while a rolling deploy answers with both, the
    /// old one stays.
    pub(in crate::config) settle: Span,
    /// How often the renderer is asked for its build, or `off`; pages that are
    /// fresh for a year would never tell. Next.js and React Router are asked for a page
    /// that no site has, Gatsby for `app-data.json`, SvelteKit for `version.json`, Nuxt
    /// for `builds/latest.json`. Default: `10s` with a preset that tells builds, which
    /// that of Astro does not.
    #[schemars(example = &"10s")]
    pub(in crate::config) probe: Option<Probe>,
    /// How many hashed assets that stored pages name are fetched in a minute, so
    /// that who opened a page before a deploy gets them after it. With a preset,
    /// which knows the names. 0: none.
    pub(in crate::config) assets_per_minute: Count,
}

impl Default for DeploymentOptions {
    fn default() -> DeploymentOptions {
        DeploymentOptions {
            id: None,
            field: OneOrMany::Many(Vec::new()),
            cookie: None,
            settle: secs(60),
            probe: None,
            assets_per_minute: Count(600),
        }
    }
}
