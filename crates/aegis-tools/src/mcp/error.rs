//! Why a request to a server gave no result.

use std::time::Duration;

use aegis_core::{Denial, DenialCode, ToolResult};
use aegis_kernel::port::ToolError;

/// A request that gave no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum McpError {
    /// No server of that name is configured or enabled.
    #[error("no tool server is called `{0}`: see `aegis server list`")]
    UnknownServer(String),
    /// The server is there, and has no such tool.
    #[error("no tool is called `{0}`")]
    UnknownTool(String),
    /// The server describes itself otherwise than was accepted.
    #[error("the server `{server}` has changed since it was accepted: see `aegis server show {server}`")]
    Held {
        /// The server.
        server: String,
    },
    /// The server does not run, or cannot be reached.
    #[error("the server `{server}` does not answer: {reason}")]
    Down {
        /// The server.
        server: String,
        /// Why, and when it is started again.
        reason: String,
        /// Whether it may have been given the request.
        sent: bool,
    },
    /// As many requests as permitted are running and waiting.
    #[error("the server `{server}` has {waiting} requests waiting already")]
    Busy {
        /// The server.
        server: String,
        /// How many wait.
        waiting: usize,
    },
    /// It took too long; the server was told to stop.
    #[error("the server `{server}` gave no answer in {} s", after.as_secs_f32())]
    TimedOut {
        /// The server.
        server: String,
        /// The time it had.
        after: Duration,
        /// Whether it may have been given the request.
        sent: bool,
    },
    /// The answer is larger than permitted.
    #[error("the server `{server}` answered with more than {max} bytes")]
    TooLarge {
        /// The server.
        server: String,
        /// The limit, in bytes.
        max: usize,
    },
    /// The caller cancelled; the server was told.
    #[error("the call was cancelled")]
    Cancelled,
    /// The server asked for something that is not granted to it before it would answer.
    #[error("the server `{server}` asks for `{method}`, which is not granted to it")]
    NotGranted {
        /// The server.
        server: String,
        /// The method.
        method: String,
    },
    /// The server asked for something that nobody answered, before it would answer.
    #[error("the server `{server}` asks for `{method}`: {reason}")]
    Unanswered {
        /// The server.
        server: String,
        /// The method.
        method: String,
        /// Why there is no answer.
        reason: String,
    },
    /// The server's questions, as the protocol writes them, for a caller who takes them as the answer of the call.
    #[error("the server asks something before it answers")]
    Asks(serde_json::Value),
    /// The server answered with a JSON-RPC error.
    #[error("{message}")]
    Protocol {
        /// The code.
        code: i32,
        /// The server's message.
        message: String,
        /// The server's data.
        data: Option<serde_json::Value>,
    },
    /// The server answered with something else than was asked for.
    #[error("the server `{server}` does not keep to the protocol: {reason}")]
    Malformed {
        /// The server.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// A sign-in that was not begun or not ended.
    #[error("signing in at `{server}`: {reason}")]
    SignIn {
        /// The server.
        server: String,
        /// Why.
        reason: String,
    },
    /// Pins could not be read or written.
    #[error("the pins of `{server}` are not to be had: {reason}")]
    Pins {
        /// The server.
        server: String,
        /// The store's reason.
        reason: String,
    },
    /// The given hash is not that of the description that waits to be accepted.
    #[error("`{given}` is not what `{server}` shows: see `aegis server show {server}`")]
    NotShown {
        /// The server.
        server: String,
        /// The given hash.
        given: String,
    },
}

impl McpError {
    /// What the kernel does with it: refusals by name, results the model may learn from, and the end of the call. Of a tool
    /// that is not `idempotent` it is not known what came of a request without an answer.
    pub(super) fn into_outcome(self, idempotent: bool) -> Result<ToolResult, ToolError> {
        let denial = |code, rule: String, message: String, remedy: String| {
            Err(ToolError::Denied(Denial { code, rule, message, remedy }))
        };
        let message = self.to_string();
        match self {
            Self::Cancelled => Err(ToolError::Cancelled),
            Self::Held { server } => denial(
                DenialCode::ApprovalRequired,
                format!("node/mcp_server:{server}/pin"),
                message,
                format!("a person accepts it: aegis server accept {server} HASH"),
            ),
            Self::NotGranted { server, method } => denial(
                DenialCode::ToolNotAllowed,
                format!("node/mcp_server:{server}/grants"),
                message,
                format!("grant it to the server in `mcp_servers`: {method}"),
            ),
            Self::Unanswered { server, .. } => denial(
                DenialCode::ToolNotAllowed,
                format!("node/mcp_server:{server}/grants"),
                message,
                "call it through `/mcp`, or by `aegis tool call`, as a caller who answers".to_owned(),
            ),
            Self::Busy { server, .. } => denial(
                DenialCode::RateLimitExceeded,
                format!("node/mcp_server:{server}/limits.queue_max"),
                message,
                "call again when others have ended".to_owned(),
            ),
            Self::TooLarge { server, .. } => denial(
                DenialCode::OutputSizeExceeded,
                format!("node/mcp_server:{server}/limits.response_bytes_max"),
                message,
                "ask for less, or raise the limit".to_owned(),
            ),
            Self::Asks(_) => Err(ToolError::Internal(message)),
            Self::UnknownTool(_) | Self::UnknownServer(_) => Err(ToolError::Arguments(message)),
            Self::Pins { .. } | Self::NotShown { .. } => Err(ToolError::Internal(message)),
            Self::Down { sent: true, .. } | Self::TimedOut { sent: true, .. } if !idempotent => {
                Err(ToolError::Unanswered(message))
            }
            Self::Down { .. }
            | Self::TimedOut { .. }
            | Self::Protocol { .. }
            | Self::Malformed { .. }
            | Self::SignIn { .. } => Ok(ToolResult::error(message)),
        }
    }
}
