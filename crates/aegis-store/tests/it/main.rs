//! Integration tests of the store: real SQLite, real files, real processes.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a step that fails is a test that fails; what is skipped says why"
)]

mod conformance;
mod copies;
mod crash;
mod door;
mod folder;
mod full_disk;
mod lifecycle;
mod openbao;
mod power;
mod secret;
mod tamper;
