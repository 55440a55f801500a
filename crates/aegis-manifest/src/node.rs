//! The `NodeConfig` kind: what a node offers, where it listens, which models it knows, what it permits.

pub(crate) mod git;
mod governance;
mod later;
mod llm;
mod mcp_server;
mod reference;
mod secrets;
mod sections;
mod security_context;
mod unenforced;

use std::collections::BTreeMap;

use aegis_core::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use git::{GitRemote, GitSection};
pub use governance::{Governance, NodeNetwork, Policy, RedactionSettings, ToolLabels};
pub use later::{Database, FirecrackerSettings, Iam, Metrics, Nats, Smcp, Temporal, Tls, Tracing};
pub use llm::{
    AliasTarget, LlmSection, LlmSelection, ModelEntry, Provider, ProviderProcess, ProviderType,
    SelectionStrategy, ToolCalling, Trust,
};
pub use mcp_server::{GovernedArgument, McpGrant, McpLimits, McpOauth, McpProtocol, McpServer, OauthGrant};
pub use reference::Reference;
pub use secrets::{AppRole, SecretsBackend, SecretsSection};
pub use sections::{
    JournalDurability, JournalSection, LogFormat, LogLevel, Logging, NetworkSection, NodeRole, NodeSection,
    Observability, RuntimeSection, StorageSection,
};
pub use security_context::{Capability, RateLimit, SecurityContext};

use crate::agent::ApiVersion;

/// The kind of a node's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum NodeConfigKind {
    /// `kind: NodeConfig`
    #[default]
    NodeConfig,
}

/// A node's configuration. With no file, `NodeConfig::default()` holds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// Always `100monkeys.ai/v1`.
    pub api_version: ApiVersion,
    /// Always `NodeConfig`.
    pub kind: NodeConfigKind,
    /// Name and labels.
    pub metadata: NodeMetadata,
    /// The configuration itself.
    pub spec: NodeSpec,
}

/// What identifies a node's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeMetadata {
    /// The node's name: 1 to 63 of `a-z`, `0-9` and `-`, not starting with `-`.
    #[schemars(with = "String", extend("format" = "name", "pattern" = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: Name,
    /// The version of the configuration, as semantic versioning writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "semver"))]
    pub version: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Labels, to select by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Notes for tools and people; not interpreted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Default for NodeMetadata {
    #[expect(clippy::expect_used, reason = "a constant; a test builds the default")]
    fn default() -> Self {
        Self {
            name: "aegis".parse().expect("`aegis` is a name"),
            version: None,
            description: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// The configuration itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSpec {
    /// What the node is.
    pub node: NodeSection,
    /// Where models come from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub llm_providers: Vec<Provider>,
    /// How a provider is chosen, and how often a call is tried again.
    pub llm_selection: LlmSelection,
    /// Shorthands for models.
    pub llm: LlmSection,
    /// Where agents run.
    pub runtime: RuntimeSection,
    /// Where the node listens.
    pub network: NetworkSection,
    /// Where the node keeps its data.
    pub storage: StorageSection,
    /// How the journal is written.
    pub journal: JournalSection,
    /// Tool servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<McpServer>,
    /// Git repositories outside that agents may clone from and push to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSection>,
    /// The signed tool protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smcp: Option<Smcp>,
    /// What agents may do, by name; `default` is built in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_contexts: Vec<SecurityContext>,
    /// Sign-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iam: Option<Iam>,
    /// Where secrets are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretsSection>,
    /// The database; SQLite in the data folder without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// The Temporal service that drives workflows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temporal: Option<Temporal>,
    /// The NATS service events are sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats: Option<Nats>,
    /// Logs, metrics and traces.
    pub observability: Observability,
    /// Policies, budgets and freezes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governance: Option<Governance>,
    /// Manifests of agents that are there for all tenants, by path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platform_agents: Vec<String>,
    /// Allows listening off loopback without TLS and sign-in.
    pub allow_insecure_bind: bool,
}
