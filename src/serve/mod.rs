//! Serving a page to a client, however the client is connected.
//!
//! A connection is a [`Client`]: the front implements it for HTTP/1.1, `proxy` for what
//! comes through pingora. What is served, and in which order of preference, is decided
//! here alone (semantics §3).

mod client;
mod heads;
mod page;
mod pass;
mod record;

pub(crate) use client::{Client, Follows, Head, failure_page, own_fields};
pub(crate) use heads::{
    Conditions, passing_shape, request as request_head, response as response_head,
};
pub(crate) use page::serve as page;
pub(crate) use pass::serve as pass;
pub(crate) use record::{Asked, Ended, Record};
