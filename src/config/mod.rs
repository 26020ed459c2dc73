//! The configuration: YAML as written → resolved, with no `Option` left that
//! means "default". A leaf: every room's constructor takes its own slice of it.
//!
//! ```text
//! text ──source──▶ tree ──env──▶ tree ──de──▶ raw ──resolve──▶ Config
//! ```
//!
//! - `source`: the YAML as a tree, and the line of a place in it
//! - `env`: `${VAR}`, replaced in the strings of the tree, never in the text
//! - `raw`, `values`: the types of the YAML, whose doc comments are the reference
//! - `sites`: what the files of a site's build tell
//! - `presets`: the routes that a framework brings
//! - `level`: what is logged
//! - `machine`: how much memory there is
//! - `resolve`: defaults, names, bounds, patterns; everything that is wrong at once
//! - `reload`: what of a configuration can take the place of one that runs
//! - `reference`: the JSON Schema and `config/reference.yaml`, made from `raw`
//! - `table`: what `perennial check` prints
//!
//! Reading a configuration never panics, whatever the text is.

mod de;
mod env;
mod errors;
mod level;
mod load;
mod machine;
mod pattern;
mod presets;
mod raw;
mod reference;
mod reload;
mod resolve;
mod resolved;
mod sites;
mod source;
mod table;
mod values;

#[cfg(test)]
mod tests;

pub use errors::{Errors, Note, Warning};
pub use level::check_level;
pub use load::Overrides;
pub use pattern::{HostPattern, PathPattern};
pub use reference::{reference, schema};
pub use reload::Succession;
pub use resolved::*;
pub(crate) use sites::expression;
pub use table::table;
