//! Perennial (draft of the map).
pub mod clock;
pub mod page;
pub mod rules;
