//! What an agent wants to do, who is behind it, and how it is refused.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ApiKeyId, ExecutionId, Name};

/// One link of the chain of those on whose behalf something happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ActorLink {
    /// The daemon itself.
    Daemon,
    /// A person, by the name they signed in with.
    Person {
        /// `local` for the bearer of the node's own token.
        name: String,
    },
    /// A program outside, by the API key it presented.
    Key {
        /// The key's id.
        key: ApiKeyId,
    },
    /// A program that speaks MCP, on behalf of the link before. No person, whoever's credential it was given.
    Mcp,
    /// An agent at a version, in an execution.
    Agent {
        /// Its name.
        name: Name,
        /// Its version.
        version: String,
        /// The execution it acts in.
        execution: ExecutionId,
    },
    /// A tool server that asks of its own accord.
    Server {
        /// Its name in the node's configuration.
        name: Name,
    },
}

/// The principal of an action: the person or trigger first, then each agent down to the caller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(Vec<ActorLink>);

impl Actor {
    /// The daemon, acting for itself.
    pub fn daemon() -> Self {
        Self(vec![ActorLink::Daemon])
    }
    /// A person.
    pub fn person(name: impl Into<String>) -> Self {
        Self(vec![ActorLink::Person { name: name.into() }])
    }
    /// The same chain with one more link at its end.
    #[must_use]
    pub fn then(mut self, link: ActorLink) -> Self {
        self.0.push(link);
        self
    }
    /// The links, outermost first.
    pub fn links(&self) -> &[ActorLink] {
        &self.0
    }
    /// True if a person acts by themselves, with no agent between.
    pub fn is_person(&self) -> bool {
        matches!(self.0.as_slice(), [ActorLink::Person { .. }])
    }
}

/// The kinds of action the monitor knows. A new way to touch the world is a new variant here, or it does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Ask a model.
    Model,
    /// Call a tool.
    Tool,
    /// Ask a model to judge a candidate.
    Judge,
    /// Call a tool from outside the inner loop: a program signed it.
    External,
    /// Connect to a host outside.
    Connect,
}

/// A tool as it is offered to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSchema {
    /// The AEGIS name, such as `fs.read`.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema (2020-12) of its arguments.
    pub parameters: Value,
}

/// A model's wish to call a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The id the model gave the call.
    pub id: String,
    /// The AEGIS name of the tool.
    pub name: String,
    /// The arguments, a JSON object; what was not JSON is kept as a string.
    pub arguments: Value,
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// The text given to the model.
    pub content: String,
    /// True if the tool says it failed.
    pub is_error: bool,
    /// Bytes written or read, shown after the tool's first argument in follow lines: `(234 bytes)`.
    pub size: Option<u64>,
    /// Exit code, for commands.
    pub exit_code: Option<i32>,
}

impl ToolResult {
    /// A success.
    pub fn ok(content: impl Into<String>) -> Self {
        Self { content: content.into(), is_error: false, size: None, exit_code: None }
    }
    /// A failure the model may learn from.
    pub fn error(content: impl Into<String>) -> Self {
        Self { content: content.into(), is_error: true, size: None, exit_code: None }
    }
}

/// Stable codes of refusals (contract, section 5, and `security.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DenialCode {
    /// No rule permits the tool.
    ToolNotAllowed,
    /// A deny list names the tool.
    ToolExplicitlyDenied,
    /// A path argument lies outside what is permitted.
    PathNotAllowed,
    /// A domain is not permitted.
    DomainNotAllowed,
    /// A command, or its first argument, is not permitted.
    CommandNotAllowed,
    /// Too many calls in the window, or too many at once.
    RateLimitExceeded,
    /// The result is larger than permitted.
    OutputSizeExceeded,
    /// The arguments do not satisfy the schema.
    InvalidArguments,
    /// A person must decide, and approvals do not stand on this node.
    ApprovalRequired,
    /// The part exists in the manifest but not on this node.
    CapabilityMissing,
    /// The execution was cancelled, or is over.
    ExecutionNotActive,
}

impl DenialCode {
    /// The numeric code on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Self::ToolExplicitlyDenied => 2001,
            Self::PathNotAllowed => 2002,
            Self::DomainNotAllowed => 2003,
            Self::CommandNotAllowed => 2004,
            Self::RateLimitExceeded => 2005,
            Self::OutputSizeExceeded => 2006,
            Self::ToolNotAllowed
            | Self::InvalidArguments
            | Self::ApprovalRequired
            | Self::CapabilityMissing
            | Self::ExecutionNotActive => 2000,
        }
    }
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ToolNotAllowed => "TOOL_NOT_ALLOWED",
            Self::ToolExplicitlyDenied => "TOOL_EXPLICITLY_DENIED",
            Self::PathNotAllowed => "PATH_NOT_ALLOWED",
            Self::DomainNotAllowed => "DOMAIN_NOT_ALLOWED",
            Self::CommandNotAllowed => "COMMAND_NOT_ALLOWED",
            Self::RateLimitExceeded => "RATE_LIMIT_EXCEEDED",
            Self::OutputSizeExceeded => "OUTPUT_SIZE_EXCEEDED",
            Self::InvalidArguments => "INVALID_ARGUMENTS",
            Self::ApprovalRequired => "APPROVAL_REQUIRED",
            Self::CapabilityMissing => "CAPABILITY_MISSING",
            Self::ExecutionNotActive => "EXECUTION_NOT_ACTIVE",
        }
    }
}

impl fmt::Display for DenialCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refusal: by which rule, why, and how to ask for the permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Denial {
    /// The stable code.
    pub code: DenialCode,
    /// The rule, by its place: `manifest:tools`, `context:default/deny_list:0`, `context:ci/capability:2`.
    pub rule: String,
    /// The condition that failed, for people and models.
    pub message: String,
    /// What would permit it.
    pub remedy: String,
}
