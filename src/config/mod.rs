//! The configuration: YAML as written → resolved, with no `Option` left that
//! means "default". A leaf: every room's constructor takes its own slice of it.

mod resolved;

pub use resolved::*;
