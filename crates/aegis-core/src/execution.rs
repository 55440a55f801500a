//! The execution: its loop, its states, and what may follow what.
//!
//! `evolve` folds events into a [`State`]; `next` says what the driver does now; `decide` turns an input into the
//! events that follow from it, or refuses. Recovery is the normal path: after a crash the driver folds the stream
//! and asks `next`, exactly as it does otherwise.

mod decide;
mod evolve;
mod plan;
mod state;

pub use decide::{Input, Refused, decide, next};
pub use evolve::{apply, evolve};
pub use plan::{FailureReason, LoopPlan};
pub use state::{Call, CallResult, Iteration, Next, OpenAction, Phase, State, Turn};
