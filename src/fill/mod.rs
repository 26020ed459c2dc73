//! Fills: the detached tasks that ask the origin for pages and commit the
//! answers (semantics §3).
//!
//! A fill belongs to no client. A request that needs a page follows the fill that runs for
//! it or leads one; leaving ends nothing, but a fill that no other may join and
//! that the origin has not answered yet. What a fill brings is judged when the
//! response head arrives: storable, and everyone it fits streams it; or not, and
//! then its leader alone gets it and the others are told to ask for themselves.

//!
//! The layers, each of which knows only those below it: [`Fills`] (what a request joins or
//! begins, when a stored page is renewed, and how long the next attempt waits),
//! `generation` (the members of a page that are brought and stored together), `fetch` (one
//! request to the origin), which asks `classify` what becomes of the response and has
//! `pump` move its body. `registry` knows what is under way, `follow` what else an answer
//! makes worth asking for, `arrived` makes a response what is stored, `stream` is what
//! readers share, `ask` what is asked for.

mod arrived;
mod ask;
mod classify;
mod compress;
mod context;
mod decode;
mod fetch;
mod fills;
mod follow;
mod generation;
mod guarded;
mod notes;
mod pump;
mod registry;
mod stream;
#[cfg(test)]
mod tests;

pub use ask::{
    Ask, Carries, FORWARDED_FOR, GUARDED, SERVER_RENDERED, Upstream, may_be_sent, selection,
    variant_field, variant_fields, without,
};
pub use fills::{Fills, Renewal};
pub use generation::Renewed;
pub use notes::{Notes, Subject};
pub use stream::{Broken, Fill, Lead, Next, Preview, Subscriber};
