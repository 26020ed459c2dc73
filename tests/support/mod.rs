//! The three actors of every integration test: a scripted [`Origin`], an
//! [`Edge`] started in the process, and a [`Client`] that checks
//! the invariants of every response it sees.
//!
//! Nothing here sleeps until something is probably true: a test waits for the
//! event, and every wait is bounded by [`PATIENCE`].

mod check;
pub(crate) mod client;
pub(crate) mod edge;
pub(crate) mod http1;
pub(crate) mod origin;

pub(crate) use client::Client;
pub(crate) use edge::Edge;
pub(crate) use origin::{Break, Origin, Response};

use std::fmt::Display;
use std::time::Duration;

/// How long a test waits for anything before it fails and says for what.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for `event`, and fails the test with `what` when it does not come.
pub(crate) async fn patient<T>(what: impl Display, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Asks again and again until `probe` gives a value: for what cannot be waited
/// for as an event, such as a page that was stored behind the visitor's back.
pub(crate) async fn eventually<T, F>(what: impl Display, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    patient(what, async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            // A pause between two questions, not a guess at when it is true.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}
