//! The three actors of every integration test: a scripted [`Origin`], an
//! [`Edge`] started in the process, and a [`Client`] that checks
//! the invariants of every response it sees.

mod check;
pub(crate) mod client;
pub(crate) mod edge;

pub(crate) use client::Client;
pub(crate) use edge::Edge;

pub(crate) use crate::kit::origin::{Break, Origin, Response};
pub(crate) use crate::kit::{eventually, http1, origin, patient};
