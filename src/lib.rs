//! Perennial (draft of the map).
pub mod clock;
pub mod config;
pub mod page;
pub mod rules;
