//! What is asked of a model and what it answers, in no vendor's dialect.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{MicroUsd, ToolCall, ToolSchema};

/// Who speaks in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions of the operator or manifest.
    System,
    /// The prompt.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text; empty when an assistant only calls tools.
    pub content: String,
    /// Calls an assistant makes, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// For a tool's result: the call it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of text alone.
    pub fn text(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None }
    }
}

/// The form an answer must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// JSON that satisfies `schema`.
    JsonSchema {
        /// A name for the schema.
        name: String,
        /// The JSON Schema (2020-12).
        schema: Value,
    },
}

/// One call of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelRequest {
    /// The alias the manifest names.
    pub alias: String,
    /// The conversation so far, oldest first. Shared: the next request holds the same messages and some more.
    pub messages: Vec<Arc<Message>>,
    /// Tools offered, by their AEGIS names (`fs.read`).
    pub tools: Vec<ToolSchema>,
    /// The form the answer must have, if any.
    pub response_format: Option<ResponseFormat>,
    /// Sampling temperature in thousandths, if the manifest sets one.
    pub temperature_milli: Option<u32>,
    /// Most tokens to answer with.
    pub max_output_tokens: Option<u32>,
    /// Time allowed for the whole call, retries included, in milliseconds.
    pub timeout_ms: u64,
    /// Seed for whatever the caller wants to be repeatable, such as retry jitter.
    pub jitter_seed: u64,
}

/// Tokens and money of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Price by the node's configuration.
    pub cost: MicroUsd,
    /// True when the provider reported no usage and the numbers are our estimate.
    #[serde(default)]
    pub estimated: bool,
}

impl Usage {
    /// The sum of two usages.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cost: self.cost.saturating_add(other.cost),
            estimated: self.estimated || other.estimated,
        }
    }
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It said what it had to say.
    Stop,
    /// It calls tools.
    ToolCalls,
    /// The token limit cut it.
    Length,
    /// The provider's filter cut it.
    ContentFilter,
}

/// A model's answer with its provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelAnswer {
    /// The text.
    pub content: String,
    /// Calls it makes, in order, by AEGIS names.
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub finish: FinishReason,
    /// Tokens and cost.
    pub usage: Usage,
    /// Name of the provider in the node's configuration.
    pub provider: String,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// The provider's fingerprint or digest of the model, if it gives one.
    pub fingerprint: Option<String>,
    /// The provider's id of the call, if it gives one.
    pub request_id: Option<String>,
    /// Attempts made, the successful one included.
    pub attempts: u32,
}

/// What kind of failure a model call ended in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelFailureKind {
    /// The alias is not configured.
    UnknownAlias,
    /// The provider refused our credential.
    Authentication,
    /// The provider refused the request.
    BadRequest,
    /// Too many requests, also after retries.
    RateLimited,
    /// The provider answered with a server error, also after retries.
    ServerError,
    /// No answer in time.
    Timeout,
    /// The connection could not be made or broke.
    Connection,
    /// The answer was not what the protocol says.
    Malformed,
    /// The answer was larger than allowed.
    TooLarge,
    /// A replay provider has no recording of this request.
    NotRecorded,
    /// The call was cancelled.
    Cancelled,
}

/// A model call that gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ModelFailure {
    /// What kind of failure.
    pub kind: ModelFailureKind,
    /// A sentence for people: which provider, what happened, what to do. Never holds a credential.
    pub message: String,
    /// Attempts made.
    pub attempts: u32,
}
