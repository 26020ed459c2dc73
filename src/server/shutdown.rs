//! The stop signal of the front, and how connections hear it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pingora::server::ShutdownWatch;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};

/// Starts the graceful stop. Clones start the same one.
#[derive(Clone, Debug)]
pub struct Trigger(Arc<Inner>);

/// Hears the graceful stop.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// A bare flag beside the wake-up: a request asks it once, which must cost
    /// a load and nothing else.
    draining: AtomicBool,
    /// Wakes the tasks of all connections, so that idle ones end at once.
    wake: Notify,
    /// The same news in the form `HttpProxy` wants it.
    watch: watch::Sender<bool>,
}

/// A graceful stop that has not begun: the handle that begins it, and the one
/// that [`run`](super::run) is given.
#[must_use]
pub fn shutdown() -> (Trigger, Shutdown) {
    let inner = Arc::new(Inner {
        draining: AtomicBool::new(false),
        wake: Notify::new(),
        watch: watch::Sender::new(false),
    });
    (Trigger(Arc::clone(&inner)), Shutdown(inner))
}

impl Trigger {
    /// Begins the graceful stop. Doing it again changes nothing.
    pub fn drain(&self) {
        // The flag first: who wakes, or comes to wait only now, finds it set.
        self.0.draining.store(true, Ordering::SeqCst);
        self.0.watch.send_replace(true);
        self.0.wake.notify_waiters();
    }
}

impl Shutdown {
    /// Whether the stop has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Ends when the stop begins, or at once if it has begun.
    pub async fn begun(&self) {
        let wake = self.0.wake.notified();
        tokio::pin!(wake);
        // Registered before the flag is read, so that neither is missed.
        wake.as_mut().enable();
        if !self.0.draining.load(Ordering::SeqCst) {
            wake.await;
        }
    }

    /// The signal as pingora wants it.
    #[must_use]
    pub fn watch(&self) -> ShutdownWatch {
        self.0.watch.subscribe()
    }

    /// A place among those to be woken, for a task that polls it once and then
    /// only asks [`Shutdown::is_draining`] whenever it wakes.
    pub(super) fn wake(&self) -> Notified<'_> {
        self.0.wake.notified()
    }
}
