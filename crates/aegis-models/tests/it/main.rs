//! The router against a real server that answers by a script.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "what stands around the tests may fail them, and says when a test is skipped"
)]

mod conformance;
mod misbehaviour;
mod process;
mod replay;
mod retry;
mod setup;
mod wire;
