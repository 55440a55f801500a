//! Tools: what they are called, what they take, and which of their arguments are governed.

use std::sync::Arc;

use aegis_core::{Denial, ExecutionId, ToolCall, ToolResult, ToolSchema};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Workspace;

/// What a path argument is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    Read,
    /// Changed, made or removed.
    Write,
}

/// What a governed argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GovernedKind {
    /// A path inside the sandbox.
    Path(Access),
    /// A command: an array of strings, or a string that is its name.
    Command,
}

/// An argument whose value the monitor checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Governed {
    /// The argument's name at the top level of the arguments.
    pub argument: &'static str,
    /// What it names.
    pub kind: GovernedKind,
}

/// What a tool is.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolFacts {
    /// Name, description and argument schema.
    pub schema: ToolSchema,
    /// Whether it may be performed again after a crash. Said by us or the operator, never by a server.
    pub idempotent: bool,
    /// Arguments the monitor checks.
    pub governed: Vec<Governed>,
}

/// On whose behalf, and on which files, a tool works.
#[derive(Clone)]
pub struct ToolContext {
    /// The execution.
    pub execution: ExecutionId,
    /// Its volumes.
    pub workspace: Arc<Workspace>,
}

/// A call that gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// The file core refused, by its own rules.
    #[error("{0}")]
    Denied(Denial),
    /// The arguments are not what the schema says.
    #[error("{0}")]
    Arguments(String),
    /// The tool was cancelled or timed out.
    #[error("the tool was cancelled")]
    Cancelled,
    /// The tool itself broke.
    #[error("{0}")]
    Internal(String),
}

/// A place where tools live: the built-in ones, or a server's.
#[async_trait]
pub trait ToolHost: Send + Sync {
    /// The tools, in a fixed order.
    fn tools(&self) -> &[ToolFacts];
    /// Performs a call that passed the monitor. A failure of the tool's own making, such as a missing file, is a
    /// result with `is_error`; the model learns from it.
    async fn call(
        &self,
        context: &ToolContext,
        call: &ToolCall,
        cancel: &CancellationToken,
    ) -> Result<ToolResult, ToolError>;
}
