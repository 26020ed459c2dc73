//! How many descriptors the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open descriptors to the hard one, and gives the limit that holds
/// then; none: there is none. A shell's soft limit is often 1,024, for the sake of programs that
/// use `select`, and a connection needs one descriptor, or two while its request is passed on.
///
/// To be called once, at the start of the process.
pub fn raise_descriptor_limit() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    if before.current == before.maximum {
        return before.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before }) {
        Ok(()) => before.maximum,
        Err(error) => {
            tracing::warn!(%error, limit = before.current, "the limit of descriptors can't be raised");
            before.current
        }
    }
}
