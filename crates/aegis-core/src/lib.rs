//! The domain of AEGIS: ids, quantities, limits, events, actions and the pure state machines.
//!
//! Invariant: no I/O, no clock and no randomness in this crate. Time and ids come in as values, so that
//! everything here can be tested by tables and properties and replayed from the journal.

mod action;
mod diagnosis;
mod event;
pub mod execution;
mod id;
pub mod limits;
mod model;
mod quantity;
mod rule_names;
mod time;
mod verdict;

pub use action::{ActionKind, Actor, ActorLink, Denial, DenialCode, ToolCall, ToolResult, ToolSchema};
pub use diagnosis::{Diagnosis, ErrorCode};
pub use event::{
    BlobRef, Body, ConnectionEnd, Durability, Event, EventError, ExitStatus, Intent, KernelSession, KeyRole,
    LateDenial, NewEvent, Outcome, QuestionEnd, SandboxFacts, SecretChange, SecretUser, ServerEnd, SignIn,
    SignOut, SignedCall, SpanContext, StreamId, WorkingCopy,
};
pub use id::{
    ActionId, AgentId, ApiKeyId, BlobId, EventId, ExecutionId, IdError, LeafNonce, Name, Sha256, SpanId,
    Tenant, TraceId, VolumeId,
};
pub use model::{
    FinishReason, Message, ModelAnswer, ModelFailure, ModelFailureKind, ModelRequest, ResponseFormat, Role,
    Usage,
};
pub use quantity::{MicroUsd, Score};
pub use rule_names::{LABEL_RULES, PERSONAL_DATA_RULES, UNTRUSTED_SENSITIVE_EGRESS};
pub use time::Timestamp;
pub use verdict::{Consensus, Verdict};
