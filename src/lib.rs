//! Perennial (draft of the map).
pub mod admin;
pub mod clock;
pub mod config;
pub mod demo;
pub mod log;
pub mod metrics;
pub mod origin;
pub mod page;
pub mod route;
pub mod rules;
pub mod server;
