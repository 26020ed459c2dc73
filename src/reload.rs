//! How reading the configuration again ended, and how operators hear of it.

use crate::metrics::Reload;
use crate::rules::Time;

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// All of the new configuration runs.
    Applied,
    /// It runs, but for these keys: they are as they were until the next start.
    Partly(Vec<&'static str>),
    /// Nothing has changed, and why.
    Refused(String),
}

impl Reloaded {
    /// Its label in the metrics.
    pub(crate) fn result(&self) -> Reload {
        match self {
            Reloaded::Applied => Reload::Applied,
            Reloaded::Partly(_) => Reload::Partly,
            Reloaded::Refused(_) => Reload::Refused,
        }
    }
}

/// The last reload.
#[derive(Debug)]
pub(crate) struct Last {
    pub(crate) at: Time,
    pub(crate) ended: Reloaded,
}

impl Last {
    /// What `/readyz` says of it; nothing if all is as the file says.
    pub(crate) fn degraded(&self) -> Option<String> {
        let since = std::time::Duration::from_secs(self.at.secs());
        let at = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since);
        match &self.ended {
            Reloaded::Applied => None,
            Reloaded::Partly(keys) => Some(format!(
                "configuration of {at}: {} take effect at the next start",
                keys.join(", ")
            )),
            Reloaded::Refused(why) => {
                Some(format!("configuration of {at}: refused, and the one before runs on: {why}"))
            }
        }
    }
}
