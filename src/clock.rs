//! The wall clock, in one place.

use crate::rules::Time;

/// The time now. The only place that asks the system; `rules` and `page` take
/// the time as an argument.
#[expect(clippy::disallowed_methods, reason = "this is the named place")]
#[must_use]
pub fn now() -> Time {
    std::time::SystemTime::now().into()
}
