//! The configuration: YAML as written → resolved, with no `Option` left that
//! means "default". Every room's constructor takes its own part of it. It asks
//! [`framework`](crate::framework) for the names of presets and for the routes that they bring; the
//! sections are in files that know no other room but `page`, `host` and `rules`.
//!
//! ```text
//! text ──source──▶ tree ──env──▶ tree ──de──▶ keys as written ──resolve──▶ Config
//! ```
//!
//! - `source`: the YAML as a tree that knows its lines
//! - `env`: `${VAR}`, replaced in the strings of the tree, never in the text
//! - `root`, `sections`, `origins`, `routes`, `site`: the keys, each declared once with its
//!   type, form, bounds, default, and the doc comment that is its reference
//! - `forms`, `values`: the forms in which values are written
//! - `presets`: the routes that a preset brings join those of the file
//! - `level`: what is logged
//! - `machine`: how much memory there is
//! - `resolve`: names, patterns, what does not fit together; everything that is wrong at once
//! - `reload`: what of a configuration can take the place of one that runs
//! - `reference`: the JSON Schema and `config/reference.yaml`, made from the keys
//! - `table`: what `perennial check` prints
//!
//! Reading a configuration never panics, whatever the text is.

mod de;
mod env;
mod errors;
mod forms;
mod level;
mod load;
mod machine;
mod origins;
mod pattern;
mod presets;
mod reference;
mod reload;
mod resolve;
mod root;
mod routes;
mod sections;
mod site;
mod source;
mod table;
mod values;

#[cfg(test)]
mod tests;

pub use crate::framework::Known as Framework;
pub use errors::{Errors, Note};
pub use level::check_level;
pub use load::Overrides;
pub use origins::{Encoding, Health, HostField, Origin, Server};
pub use pattern::{HostPattern, PathPattern};
pub use reference::{reference, schema};
pub use reload::Succession;
pub use root::{Auto, Config};
pub use routes::{Cookies, Mode, Query, Route};
pub use sections::{AccessLog, Backoff, Cache, Limits, Log, LogFormat, RequestFields, Revalidate};
pub use site::{Deployment, Gatsby, Made, Matcher, NextPages, Nextjs, Site};
pub use table::table;
pub(crate) use values::{base, is_locale, is_preview_id};
