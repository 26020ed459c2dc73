//! Moves the body of a response from the origin to the readers of the fill, and decides
//! nothing but how far: within what may be kept, and as long as there are readers.

use std::time::Duration;

use bytes::Bytes;

use super::decode::{Body, Broken};
use super::stream::Fill;
use crate::origin::{Permit, Priority};

/// What is kept of a body while it is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// All of it, to be stored.
    Store,
    /// All of it, for all readers.
    Share,
    /// It was to be stored and is too large: a window, for the readers there are.
    Outgrown,
    /// As much as its reader is behind.
    Pipe,
}

/// How a body ended.
#[derive(Debug)]
pub(super) enum End {
    /// It is complete; with [`Keep::Store`] this is all of it.
    Complete(Vec<u8>),
    /// It is complete, and too large to be stored.
    Outgrown,
    /// It is too large to be stored, and has no readers, or to be decoded at all.
    TooLarge,
    /// It has no readers any more.
    Deserted,
    /// The origin broke off.
    BrokenOff,
}

/// Moves one body.
pub(super) struct Pump<'a> {
    pub(super) fill: &'a Fill,
    pub(super) body: Body,
    /// What was read of it before.
    pub(super) ahead: Option<Bytes>,
    pub(super) keep: Keep,
    /// Its length, if the origin named it.
    pub(super) length: Option<u64>,
    /// The largest body that is stored, in bytes.
    pub(super) max: u64,
    /// In the background it goes on without readers.
    pub(super) priority: Priority,
    /// How long the origin may pause in a body that has no deadline.
    pub(super) idle: Duration,
    /// Its place among the fills of the origin.
    pub(super) place: Option<Permit>,
}

impl Pump<'_> {
    /// What is not stored has no deadline and takes no place: event streams run for hours.
    pub(super) fn unbind(&mut self) {
        self.place = None;
        self.body.exchange.set_deadline(None);
        self.body.exchange.set_idle(self.idle);
    }

    /// Moves it to its end.
    pub(super) async fn run(mut self) -> End {
        let background = self.priority == Priority::Background;
        let mut body: Vec<u8> = Vec::new();
        let mut size = 0u64;
        loop {
            let is_kept = matches!(self.keep, Keep::Store | Keep::Share);
            let next = match self.ahead.take() {
                Some(ahead) => Ok(Some(ahead)),
                None if is_kept || background => self.body.chunk().await,
                // A pipe ends with its last reader.
                None => tokio::select! {
                    next = self.body.chunk() => next,
                    () = self.fill.deserted() => return self.deserted(),
                },
            };
            let chunk = match next {
                Ok(Some(chunk)) => chunk,
                Ok(None) => {
                    self.body.exchange.finish().await;
                    let outgrown = self.keep == Keep::Outgrown;
                    return if outgrown { End::Outgrown } else { End::Complete(body) };
                }
                Err(Broken::Bomb) => return End::TooLarge,
                Err(Broken::Off) => return End::BrokenOff,
            };
            size += chunk.len() as u64;
            if size > self.max && (is_kept || background) {
                if self.fill.readers() == 0 {
                    return if self.keep == Keep::Store { End::TooLarge } else { self.deserted() };
                }
                if is_kept {
                    body = Vec::new();
                    self.outgrow();
                }
            }
            if self.keep == Keep::Store {
                body.extend_from_slice(&chunk);
                // A reader that has all of it finds it stored.
                if self.length == Some(size) {
                    self.fill.hold(chunk);
                    continue;
                }
            }
            if !self.fill.push(chunk).await && !background {
                return self.deserted();
            }
        }
    }

    /// It cannot be kept any longer, and there are readers.
    fn outgrow(&mut self) {
        self.keep = if self.keep == Keep::Store { Keep::Outgrown } else { Keep::Pipe };
        self.fill.overflow(usize::try_from(self.max).unwrap_or(usize::MAX));
        self.unbind();
    }

    fn deserted(&self) -> End {
        if self.keep == Keep::Outgrown { End::TooLarge } else { End::Deserted }
    }
}
