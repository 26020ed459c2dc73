//! The integration tests: one binary, a module per concern, three actors
//! (see `support`).

#[expect(dead_code, reason = "unit tests use the rest of it")]
mod kit;
mod support;

mod actors;
mod armour;
mod auto;
mod breaker;
mod cli;
mod connections;
mod cookies;
mod differential;
mod fills;
mod first_visits;
mod guarded;
mod headers;
mod hostile;
mod isolation;
mod operating;
mod origins;
mod presets;
mod promises;
mod reload;
mod shortage;
mod sites;
mod smoke;
mod webhook;
