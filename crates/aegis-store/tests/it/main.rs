//! Integration tests of the store: real SQLite, real files, real processes.

mod conformance;
mod crash;
mod folder;
mod lifecycle;
mod tamper;
