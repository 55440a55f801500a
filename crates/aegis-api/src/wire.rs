//! Bodies of requests and answers. Times are RFC 3339, UTC, with microseconds; money is in US dollars.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{EventError, ValidationResult};

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to pass as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// An agent as registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The version deployed last.
    pub version: String,
    /// `deployed`, `paused` or `removed`.
    pub status: String,
    /// What it runs in: `process`, `docker` and so on.
    pub runtime: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What the manifest says it is.
    pub description: Option<String>,
    /// Whose.
    pub tenant: String,
    /// SHA-256 of the current document.
    pub digest: String,
    /// First deployed.
    pub created_at: String,
    /// Last changed.
    pub updated_at: String,
    /// The document as deployed; only when one agent is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
}

/// One version of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentVersion {
    /// The version.
    pub version: String,
    /// SHA-256 of its document.
    pub digest: String,
    /// When it was deployed, last if by force.
    pub deployed_at: String,
}

/// The answer of a deploy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployed {
    /// The agent's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The version.
    pub version: String,
    /// `deployed`, or `valid` if only validated.
    pub status: String,
    /// What this node cannot enforce yet, each with its remedy.
    pub warnings: Vec<String>,
    /// False if the identical document was deployed already.
    pub changed: bool,
}

/// A run to start. `agent_id` or `agent` (name or name@version), unless the path names the agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecuteRequest {
    /// The agent's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The agent's id, name or name@version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The input; null if absent.
    #[serde(default)]
    pub input: Value,
    /// More names for the template; an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_overrides: Option<Value>,
}

/// The answer of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The execution.
    pub execution_id: String,
    /// `pending`.
    pub status: String,
}

/// An agent at a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRef {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The version that runs.
    pub version: String,
}

/// An execution. Lists leave out `input`, `iterations` and `final_output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// Its id.
    pub execution_id: String,
    /// What it runs.
    pub agent: AgentRef,
    /// `pending`, `running`, `waiting`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// The input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// When it was asked for.
    pub created_at: String,
    /// When it began to run.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// From start to end, or until now.
    pub duration_ms: Option<u64>,
    /// Iterations begun.
    pub total_iterations: u32,
    /// The iterations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<Vec<Iteration>>,
    /// The final answer.
    #[serde(default)]
    pub final_output: Option<String>,
    /// Why it failed.
    pub error: Option<EventError>,
    /// Tokens and cost.
    pub usage: Usage,
    /// Its trace.
    pub trace_id: String,
    /// The execution that asked for it.
    pub parent_execution_id: Option<String>,
    /// How deep in a chain of executions.
    pub depth: u32,
    /// What it waits for.
    pub waiting_for: Option<String>,
}

/// One iteration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Iteration {
    /// From 1.
    pub number: u32,
    /// `running`, `completed` or `failed`.
    pub status: String,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Its answer.
    pub output: Option<String>,
    /// 0 to 1.
    pub score: Option<f64>,
    /// 0 to 1.
    pub confidence: Option<f64>,
    /// The validators' findings.
    pub validation: Vec<ValidationResult>,
    /// Why it failed.
    pub error: Option<EventError>,
}

/// Tokens and money.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the requests.
    pub input_tokens: u64,
    /// Tokens of the answers.
    pub output_tokens: u64,
    /// Price by the node's configuration.
    pub cost_usd: f64,
    /// True when some of it is our estimate.
    #[serde(default)]
    pub estimated: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its id.
    pub id: String,
    /// Its name in the manifest.
    pub name: String,
    /// `ephemeral` or `persistent`.
    pub storage_class: String,
    /// `present` or `removed`.
    pub status: String,
    /// The execution it was made for.
    pub execution_id: Option<String>,
    /// Most bytes it may hold.
    pub size_limit: u64,
    /// Files when its tree was last recorded.
    pub files: Option<u64>,
    /// Bytes when its tree was last recorded.
    pub bytes: Option<u64>,
    /// When it was made.
    pub created_at: String,
    /// When it is removed.
    pub expires_at: Option<String>,
}

/// An API key to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What it is called.
    pub name: String,
    /// `viewer`, `operator` or `agent`.
    pub role: String,
    /// The agent it may act as; exactly for the role `agent`.
    #[serde(default)]
    pub agent: Option<String>,
}

/// An API key, given this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedKey {
    /// Its id.
    pub id: String,
    /// What its holder presents.
    pub key: String,
}

impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What is known of an API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// The agent it may act as.
    pub agent: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it was last presented, to the minute.
    pub last_used: Option<String>,
    /// When it ceased to open.
    pub revoked_at: Option<String>,
}

/// The key that signs security tokens now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotatedKey {
    /// Its RFC 7638 thumbprint.
    pub key_id: String,
}

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Relative to the volume's root.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: String,
}

/// One span of a trace: what took time, and under what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Its id.
    pub span_id: String,
    /// The span it belongs to.
    pub parent_span_id: Option<String>,
    /// What it is, in a few words.
    pub name: String,
    /// The entity its events belong to.
    pub stream: String,
    /// Its first event.
    pub started_at: String,
    /// Its last event.
    pub ended_at: String,
    /// Between the two.
    pub duration_ms: u64,
    /// Kinds of its events, in order.
    pub events: Vec<String>,
    /// Facts of its events: tokens, exit codes, scores and so on.
    pub attributes: BTreeMap<String, Value>,
}

/// Everything that followed from one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Its id.
    pub trace_id: String,
    /// The spans, by the time they began.
    pub spans: Vec<Span>,
    /// True if the trace has more events than were read.
    pub truncated: bool,
}

/// A trace, as lists show it: what began it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceSummary {
    /// Its id.
    pub trace_id: String,
    /// What began it, such as `execute coder@1.0.0`.
    pub name: String,
    /// The execution that began it.
    pub execution_id: String,
    /// The execution's state.
    pub status: String,
    /// When it began.
    pub started_at: String,
    /// How long it took, or has taken; null before it runs.
    pub duration_ms: Option<u64>,
}

/// An event of the log, without the texts it refers to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Place in the log.
    pub seq: u64,
    /// Its id.
    pub id: String,
    /// When it happened.
    pub at: String,
    /// Whose it is.
    pub tenant: String,
    /// The entity it belongs to.
    pub stream: String,
    /// Place in the stream.
    pub stream_seq: u64,
    /// Its trace.
    pub trace_id: String,
    /// Its span.
    pub span_id: String,
    /// The chain of those on whose behalf.
    pub actor: Value,
    /// What happened.
    pub kind: String,
    /// Its facts.
    pub body: Value,
}

/// The log's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// How many events.
    pub size: u64,
    /// RFC 6962 root hash, hexadecimal.
    pub root: String,
}

/// A signed head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The signed note (C2SP tlog-checkpoint).
    pub checkpoint: String,
    /// The log's raw Ed25519 public key, base64: what proofs and exports are checked with elsewhere.
    #[serde(default)]
    pub public_key: String,
}

/// A model alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// What agents call it.
    pub alias: String,
    /// The provider that is asked first.
    pub provider: String,
    /// The model, as the provider names it.
    pub model: String,
    /// `configured` for what runs elsewhere and is met when it is asked; for a program of this node `loading`,
    /// `ready`, `failed` (it is started again) or `stopped`.
    pub state: String,
    /// What happened, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What `aegis status` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `ready`.
    pub status: String,
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Where it listens.
    pub address: String,
    /// How long it has served.
    pub uptime_ms: u64,
    /// Its data folder.
    pub data: String,
    /// The configuration file; null for the embedded defaults.
    pub config: Option<String>,
    /// Executions that run.
    pub executions_running: usize,
    /// Executions that wait for the scheduler.
    pub executions_pending: usize,
    /// Model aliases and what stands behind them.
    pub models: Vec<ModelStatus>,
    /// The log's head.
    pub log: LogHead,
    /// What this node cannot enforce, each with its remedy.
    pub warnings: Vec<String>,
}

/// The answer of the health routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, or `starting` and `stopping` with status 503.
    pub status: String,
    /// The daemon's version.
    pub version: String,
}
