//! Decisions and proofs of AEGIS.
//!
//! Invariant: no I/O, no clock and no randomness in this crate. Salts, seeds and times come in as values, so that a
//! decision can be explained, replayed and tested by tables, and a proof checked from an export and a public key alone.

pub mod canonical;
pub mod checkpoint;
pub mod commitment;
pub mod constraint;
pub mod egress;
pub mod label;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod rate;
pub mod redact;
pub mod signature;
pub mod smcp;
