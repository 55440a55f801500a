//! The SOUL: why an agent exists, what it may do alone, and what happens when it fails (contract, section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A soul: the name of a `Soul` document, or the soul itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Soul {
    /// The name of a `Soul` document.
    Named(String),
    /// The soul itself.
    Inline(Box<SoulDocument>),
}

/// Why an agent exists, what it may do alone, and what happens when it fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SoulDocument {
    /// What the agent is for.
    pub intent: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// A JSON Schema of what it may be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "json-schema"))]
    pub inputs: Option<serde_json::Map<String, serde_json::Value>>,
    /// What it may do alone, what it asks for, what it never does.
    #[serde(default)]
    pub authority: Authority,
    /// What happens when it fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failure_modes: Vec<FailureMode>,
    /// When its work is accepted, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acceptance: Vec<String>,
    /// Checks before, during and after the work.
    #[serde(default)]
    pub gates: SoulGates,
    /// How it works when something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe_mode: Option<SafeMode>,
}

/// What an agent may do alone, what it asks for, what it never does. A tool in none of the lists asks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Authority {
    /// The role it acts in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Tools it may call alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub autonomous: Vec<String>,
    /// Tools it asks for first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub review: Vec<String>,
    /// Tools it never calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbidden: Vec<String>,
    /// The risk above which it asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_risk: Option<f64>,
    /// Who may approve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
}

/// What happens when something fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailureMode {
    /// What failed.
    pub when: FailureTrigger,
    /// What is done.
    pub then: FailureReaction,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureTrigger {
    /// No iteration passed its validators.
    ValidationExhausted,
    /// A tool call was denied.
    ToolDenied,
    /// The budget is spent.
    BudgetExceeded,
    /// It does the same thing over and over.
    Runaway,
    /// Foreign text seems to give orders.
    InjectionSuspected,
    /// The time is up.
    Timeout,
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureReaction {
    /// A person is asked.
    Escalate,
    /// Tried again.
    Retry,
    /// Stopped.
    Halt,
    /// Continued in safe mode.
    SafeMode,
    /// What was done is undone.
    Compensate,
}

/// Checks before, during and after the work.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SoulGates {
    /// Before it starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<serde_json::Value>,
    /// While it works.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub during: Vec<serde_json::Value>,
    /// Before its result counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<serde_json::Value>,
}

/// How an agent works when something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SafeMode {
    /// What it is told.
    pub instruction: String,
    /// The tools that are left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
}
