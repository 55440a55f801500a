//! Stories told to the real binary.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests: what is missing fails the test"
)]

mod first_run;
mod manifests;
