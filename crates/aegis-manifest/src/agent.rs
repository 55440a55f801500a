//! The `Agent` kind: what an agent is, what it may do, and when its work is good enough.

mod command;
mod delivery;
mod execution;
mod security;
mod soul;
mod task;
mod tool;
mod validation;
mod volume;

use std::collections::BTreeMap;

use aegis_core::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use command::{CommandError, CommandLine};
pub use delivery::{Delivery, DeliveryCondition, Destination, DestinationType, Schedule, ScheduleType};
pub use execution::{ExecutionMode, ExecutionRules, ToolValidation, ToolValidationType};
pub use security::{Filesystem, Network, NetworkMode, ResourceLimits, Security};
pub use soul::{
    Authority, FailureMode, FailureReaction, FailureTrigger, SafeMode, Soul, SoulDocument, SoulGates,
};
pub use task::{ContextFile, ContextItem, Task};
pub use tool::ToolRef;
pub use validation::{
    ExitCodeValidator, JsonSchemaValidator, Judge, MultiJudgeValidator, RegexValidator, ScriptValidator,
    SemanticValidator, Target, TargetError, Validator,
};
pub use volume::{AccessMode, StorageClass, Volume, VolumeSource, VolumeType};

/// The version of all documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The first and only version.
    #[default]
    #[serde(rename = "100monkeys.ai/v1")]
    V1,
}

/// The kind of an agent's document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum AgentKind {
    /// `kind: Agent`
    #[default]
    Agent,
}

/// An agent: what it does, with what, under which limits, and when its answer is good enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentManifest {
    /// Always `100monkeys.ai/v1`.
    pub api_version: ApiVersion,
    /// Always `Agent`.
    pub kind: AgentKind,
    /// Name, version and labels.
    pub metadata: Metadata,
    /// The agent itself.
    pub spec: AgentSpec,
}

/// What identifies a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The name, unique within a tenant: 1 to 63 of `a-z`, `0-9` and `-`, not starting with `-`.
    #[schemars(with = "String", extend("format" = "name", "pattern" = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: Name,
    /// The version, as semantic versioning writes it: `1.0.0`.
    #[schemars(extend("format" = "semver"))]
    pub version: String,
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

/// The agent itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// What the agent runs on: a language or an image, and the model.
    pub runtime: Runtime,
    /// What the agent is told.
    #[serde(default)]
    pub task: Task,
    /// What is attached to the prompt as `{{context}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<ContextItem>,
    /// Iterations, timeouts and validators.
    #[serde(default)]
    pub execution: ExecutionRules,
    /// What the agent may reach and how much it may use; without it, nothing.
    #[serde(default)]
    pub security: Security,
    /// The `SecurityContext` it acts under, by name; the node's default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<String>,
    /// The SOUL it is governed by: the name of a `Soul` document, or the soul itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soul: Option<Soul>,
    /// The tools: only these are shown to the model, and only these may be called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolRef>,
    /// The volumes mounted into its sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Environment variables inside the sandbox; plain values only, never secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// When it runs by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// A JSON Schema that the input must satisfy before anything is spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "json-schema"))]
    pub input_schema: Option<serde_json::Map<String, serde_json::Value>>,
    /// Where results are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// What handles the final output: a mapping that depends on its `type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_handler: Option<serde_json::Map<String, serde_json::Value>>,
    /// Settings few agents need.
    #[serde(default)]
    pub advanced: Advanced,
}

/// What the agent runs on. Exactly one of `language` and `image` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The language of the stock runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// The least version of the language, within its major: `3.11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A container image, fully qualified: `ghcr.io/acme/agent:1.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How the agent is kept apart from the host; `inherit` takes the node's default.
    #[serde(default)]
    pub isolation: Isolation,
    /// The model, by an alias of the node's configuration.
    #[serde(default = "default_model")]
    pub model: String,
    /// The sampling temperature, 0 to 2; the provider's own without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// When the image is pulled.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// Opens models and SMCP to programs inside the sandbox.
    #[serde(default)]
    pub inner_api: bool,
}

fn default_model() -> String {
    "default".to_owned()
}

/// A language of the stock runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Python 3.
    Python,
    /// JavaScript.
    Javascript,
    /// TypeScript.
    Typescript,
    /// Rust.
    Rust,
    /// Go.
    Go,
}

impl Language {
    /// As the manifest writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Javascript => "javascript",
            Self::Typescript => "typescript",
            Self::Rust => "rust",
            Self::Go => "go",
        }
    }
}

/// How an agent is kept apart from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// The node's default.
    #[default]
    Inherit,
    /// A process sandbox.
    Process,
    /// A container of Docker or Podman.
    Docker,
    /// The best virtual machine monitor at hand.
    Microvm,
    /// A Firecracker micro-VM.
    Firecracker,
}

impl Isolation {
    /// As the manifest writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inherit => "inherit",
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Microvm => "microvm",
            Self::Firecracker => "firecracker",
        }
    }
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At each start.
    Always,
    /// When it is not there.
    #[default]
    IfNotPresent,
    /// Never.
    Never,
}

/// Settings few agents need.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Advanced {
    /// Sandboxes kept ready.
    pub warm_pool_size: u32,
    /// A script run before the bootstrap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_script: Option<String>,
    /// A bootstrap of the author's own, by its path on the author's machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_path: Option<String>,
    /// Whether the agent may form a swarm.
    pub swarm_enabled: bool,
}
