//! Sections of a configuration that this build cannot put into force.

use aegis_core::Diagnosis;

use super::{NodeConfig, NodeRole, SelectionStrategy};
use crate::agent::Isolation;

impl NodeConfig {
    /// What is configured and not in force, one `capability_missing` each: told at start and by `aegis config validate`.
    pub fn unenforced(&self) -> Vec<Diagnosis> {
        let spec = &self.spec;
        let isolation = spec.runtime.default_isolation;
        let set = [
            (spec.node.id.is_some(), "node.id", "remove it: the node makes its own"),
            (spec.node.role != NodeRole::Hybrid, "node.type", "write `hybrid`: a node plans and runs"),
            (!spec.node.tags.is_empty(), "node.tags", "remove them: nothing selects by them"),
            (
                spec.llm_selection.strategy != SelectionStrategy::Static,
                "llm_selection.strategy",
                "write `static`, and order the providers",
            ),
            (spec.network.grpc_port.is_some(), "network.grpc_port", "remove it: use HTTP on `network.port`"),
            (spec.network.tls.is_some(), "network.tls", "put a TLS proxy before the node"),
            (spec.iam.is_some(), "iam", "sign in by the local token"),
            (spec.database.is_some(), "database", "remove it: SQLite in the data folder is used"),
            (spec.temporal.is_some(), "temporal", "remove it"),
            (spec.nats.is_some(), "nats", "remove it"),
            (
                spec.governance.as_ref().is_some_and(|governance| !governance.config.is_empty()),
                "governance.config",
                "remove it",
            ),
            (
                spec.mcp_servers.iter().any(|server| !server.config.is_empty()),
                "mcp_servers[].config",
                "remove it: give a server its settings by `args` and `env`",
            ),
            (spec.observability.metrics.is_some(), "observability.metrics", "remove it"),
            (spec.observability.tracing.is_some(), "observability.tracing", "remove it"),
            (
                !spec.storage.host_paths.is_empty(),
                "storage.host_paths",
                "remove them: there are no host volumes yet",
            ),
            (
                isolation != Isolation::Process && isolation != Isolation::Inherit,
                "runtime.default_isolation",
                "write `process`",
            ),
            (spec.runtime.container_socket_path.is_some(), "runtime.container_socket_path", "remove it"),
            (spec.runtime.firecracker.is_some(), "runtime.firecracker", "remove it"),
        ];
        set.into_iter()
            .filter(|(there, ..)| *there)
            .map(|(_, section, remedy)| {
                Diagnosis::capability_missing(format!("`spec.{section}` is not in this build"), remedy)
            })
            .collect()
    }
}
