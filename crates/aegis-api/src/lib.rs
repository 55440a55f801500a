//! The wire contract: HTTP types, problem documents, event streams and the typed client.
//!
//! Both sides of the wire use these types, so that a field exists in one place. Nothing here knows the kernel.

mod client;
mod event;
mod policy;
mod problem;
mod secret;
mod server;
mod terminal;
mod wire;

pub use client::{
    CallError, Client, Endpoint, EventStream, McpReply, McpStream, McpTerms, StreamItem, ToolCallEvent,
    ToolCalls, is_loopback,
};
pub use event::{Denied, EventError, ExecutionEvent, ValidationResult};
pub use policy::{
    PolicyChange, PolicyComparison, PolicyDiff, PolicyDocument, PolicyExplanation, PolicyLayer, PolicyLine,
    PolicyProblem, PolicyQuestion, PolicyReport, PolicyRow, PolicyTested, PolicyUnmet, PolicyVerdictChange,
};
pub use problem::Problem;
pub use secret::{Secret, SetSecret};
pub use server::{
    AcceptServer, AnswerQuestion, CallTool, FinishLogin, LoginServer, Server, ServerDetail, ServerLine,
    ServerLogin, ServerLogout, ServerState, Tool, ToolCalled, ToolQuestion,
};
pub use terminal::{printable_json, printable_line, printable_text};
pub use wire::{
    Agent, AgentRef, AgentVersion, ApiKey, AuditEvent, Checkpoint, CreatedKey, Deployed, ExecuteRequest,
    Execution, File, Health, Iteration, LogHead, ModelStatus, NewKey, Page, RotatedKey, Span, Started,
    Status, Trace, TraceSummary, Usage, Volume,
};

/// Names of HTTP headers of our own.
pub mod header {
    /// The tenant a request is made for; `default` without it.
    pub const TENANT: &str = "x-aegis-tenant";
    /// The agent whose tools a request at `/mcp` is about.
    pub const AGENT: &str = "x-aegis-agent";
    /// Makes a repeated POST answer what the first one answered, for 24 hours.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    /// The name of the file that a deployed document was read from; problems are told with it.
    pub const FILE: &str = "x-aegis-file";
    /// How many events the log holds, with every answer of the API.
    pub const CHECKPOINT_SIZE: &str = "x-aegis-checkpoint-size";
    /// The log's RFC 6962 root hash at that size, hexadecimal.
    pub const CHECKPOINT_ROOT: &str = "x-aegis-checkpoint-root";
}
