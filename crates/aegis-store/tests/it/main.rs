//! Integration tests of the store: real SQLite, real files, real processes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a step that fails is a test that fails")]

mod conformance;
mod crash;
mod folder;
mod lifecycle;
mod tamper;
