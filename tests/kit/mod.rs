//! What unit tests and end-to-end tests share: a scripted [`origin`], a
//! [`server`] below HTTP, and a connection that reads [`http1`] strictly. Of
//! Perennial it uses nothing: the crate includes it for its own tests, and
//! `tests/` for the others.
//!
//! Nothing here sleeps until something is probably true: a test waits for the
//! event, and every wait is bounded by [`PATIENCE`].

pub(crate) mod http1;
pub(crate) mod origin;
pub(crate) mod server;

use std::fmt::Display;
use std::time::Duration;

/// How long a test waits for anything before it fails and says for what.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `event`, and fails the test with `what` when it does not come.
pub(crate) async fn patient<T>(what: impl Display, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Asks again and again until `probe` gives a value: for what cannot be waited
/// for as an event, such as a page that was stored behind the client's back.
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
