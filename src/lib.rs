//! Perennial (draft of the map).
pub mod clock;
pub mod config;
pub mod origin;
pub mod page;
pub mod rules;
pub mod server;
