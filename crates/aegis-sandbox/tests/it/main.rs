//! The process sandbox, run for real: the port's suite and attacks from inside.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "functions that tests share: a failure ends the test, and a skipped one says so"
)]

mod attacks;
mod bootstrap;
mod conformance;
mod crash;
mod door;
mod egress;
mod fixture;
