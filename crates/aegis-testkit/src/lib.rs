//! Fakes, virtual clock, scripted model, and one conformance suite per port.

mod clock;
pub mod conformance;
pub mod oauth;
pub mod scripted_model;
pub mod vault;

pub use clock::{SeededIds, TestClock};
