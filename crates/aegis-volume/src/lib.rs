//! The file core: path rules, quota, records; FUSE in front, local disk behind.
//!
//! Invariant: tools and fronts reach files through the core alone, which resolves every path beneath the volume's
//! root without following links, asks the grant's rules, counts bytes and records what happened.

mod core;
mod files;
mod front;
mod local;

pub use local::{LocalSettings, LocalVolumes};
