//! Drives the real binary; one file per story under `tests/it`.
//!
//! A [`Node`] is a data folder of its own, a free port and a scripted model at the far side. Commands run as a user
//! would run them: as processes, judged by exit code, standard output and standard error.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a harness of tests: what is missing fails the test"
)]

pub mod example;
mod node;
mod output;

pub use node::{Node, NodeBuilder, User, binary};
pub use output::Output;
