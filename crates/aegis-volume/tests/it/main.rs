//! Volumes through the port and through mounted fronts.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking, and say what they skip"
)]

mod attack;
mod conformance;
mod crash;
mod entries;
mod front;
mod setting;
