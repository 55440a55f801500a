//! Text to domain and back: manifests and configuration with line-accurate diagnostics, JSON Schema, templates.
//!
//! Invariant: no I/O and no environment. What a document says is checked here; what this node can do about it comes in
//! as facts.

pub mod agent;
pub mod node;
mod quantity;

pub use agent::AgentManifest;
pub use node::NodeConfig;
pub use quantity::{ByteSize, Millis, QuantityError};
