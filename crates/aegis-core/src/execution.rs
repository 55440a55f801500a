//! The execution: its loop, its states, and what may follow what.

mod plan;

pub use plan::{FailureReason, LoopPlan};
