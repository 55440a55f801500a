//! The ports: traits at I/O seams.
//!
//! `Journal`, `Model`, `Sandbox`, `Volume` and `ToolHost` each have a conformance suite in `aegis-testkit`, which every
//! implementation passes; `Clock`, `Ids` and `Secrets` have none.

mod clock;
mod egress;
mod journal;
mod listening;
mod model;
mod sandbox;
mod secrets;
mod sessions;
mod tool;
mod volume;

pub use clock::{Clock, Ids};
pub use egress::{
    Egress, EgressEnd, EgressGrant, EgressLimits, EgressOutcome, EgressPolicy, EgressRequest, EgressWay,
};
pub use journal::{
    AgentPage, AgentRecord, AgentState, AgentVersion, Append, Appended, BlobCopy, EventQuery, ExecutionPage,
    ExecutionQuery, ExecutionRecord, ExecutionStatus, Head, IterationRecord, Journal, JournalError, NewBlob,
    VolumeRecord,
};
pub use listening::{Given, Listener, LogEntry, LogLevel, Question, QuestionKind, Unanswered};
pub use model::{Model, ModelFacts};
pub use sandbox::{
    API_PORT, API_SOCKET, ControlConnection, Door, DoorConnection, DoorStream, Doors, EGRESS_PORT, Ended,
    HostFile, Mount, Pipes, Role, Sandbox, SandboxCapabilities, SandboxError, SandboxLimits, SandboxSpec,
    Sandboxed, Violation,
};
pub use secrets::{
    KnownSecret, Resolved, SECRET_BYTES_MAX, SECRET_BYTES_MIN, SecretError, SecretName, SecretRecord,
    SecretReference, SecretStore, Secrets, StoredSecret, check_secret_value,
};
pub use sessions::{Claimed, SessionError, Sessions, SmcpSession};
pub use tool::{
    Access, CallRecord, Governed, GovernedKind, PushBinding, ServerTools, ToolContext, ToolError, ToolFacts,
    ToolHost, ToolServers, WayOut,
};
pub use volume::{
    DirectoryEntry, FileKind, FileMeta, FileRange, FileRecords, Files, Grant, PathRules, Tree, TreeEntry,
    Volume, VolumeError, VolumeSpec, Workspace,
};
