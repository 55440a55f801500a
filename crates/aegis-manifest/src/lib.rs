//! Text to domain and back: manifests and configuration with line-accurate diagnostics, JSON Schema, templates.
//!
//! Invariant: no I/O and no environment. What a document says is checked here; what this node can do about it comes in
//! as facts.

pub mod agent;
mod capability;
mod explain;
pub mod node;
mod quantity;
pub mod template;
mod yaml;

pub use agent::AgentManifest;
pub use capability::{NodeFacts, Unenforced};
pub use explain::{Explanation, FieldSummary, KINDS, explain, manifest_reference, schema};
pub use node::NodeConfig;
pub use quantity::{ByteSize, Millis, QuantityError};
pub use yaml::{
    Diagnostics, Parsed, Problem, ProblemCode, nearest, parse_agent, parse_data, parse_mcp_server,
    parse_node_config,
};
