//! Text to domain and back: manifests and configuration with line-accurate diagnostics, JSON Schema, templates.

/// The node's configuration.
#[derive(Debug, Clone, Default)]
pub struct NodeConfig {}
