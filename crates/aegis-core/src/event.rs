//! Journal events: the only thing written as truth. Bodies hold ids, names, numbers, enums and commitments;
//! text that an agent, a model or a user wrote lies in sealed blobs that the body refers to.

mod bodies;
mod body;
mod parts;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use body::Body;
pub use parts::{
    ConnectionEnd, ExitStatus, Intent, KernelSession, KeyRole, LateDenial, Outcome, QuestionEnd,
    SandboxFacts, SecretChange, SecretUser, ServerEnd, SignIn, SignOut, SignedCall,
};

use crate::{
    Actor, AgentId, BlobId, EventId, ExecutionId, LeafNonce, Sha256, SpanId, Tenant, Timestamp, TraceId,
    VolumeId,
};

/// A reference to a sealed blob: a random id and a commitment to its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    /// Where it lies.
    pub id: BlobId,
    /// HMAC-SHA-256 keyed by the blob's own 32-byte salt over its bytes.
    pub commitment: Sha256,
    /// Length of the plain bytes.
    pub bytes: u64,
    /// The exact copy, where redaction changed the evidence copy above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working: Option<WorkingCopy>,
}

impl BlobRef {
    /// The redacted copy, even while the exact one is still there.
    #[must_use]
    pub const fn evidence(self) -> Self {
        Self { working: None, ..self }
    }
}

/// The exact copy of a redacted blob; gone once the run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkingCopy {
    /// Where it lies.
    pub id: BlobId,
    /// HMAC-SHA-256 keyed by the blob's own salt over its bytes.
    pub commitment: Sha256,
}

/// The entity an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StreamId {
    /// `agent/ID`
    Agent(AgentId),
    /// `execution/ID`
    Execution(ExecutionId),
    /// `volume/ID`
    Volume(VolumeId),
    /// `fleet`: the node and the log themselves.
    Fleet,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "agent/{id}"),
            Self::Execution(id) => write!(f, "execution/{id}"),
            Self::Volume(id) => write!(f, "volume/{id}"),
            Self::Fleet => f.write_str("fleet"),
        }
    }
}

impl FromStr for StreamId {
    type Err = EventError;
    fn from_str(text: &str) -> Result<Self, EventError> {
        let wrong = || EventError::Stream(text.to_owned());
        if text == "fleet" {
            return Ok(Self::Fleet);
        }
        let (kind, id) = text.split_once('/').ok_or_else(wrong)?;
        match kind {
            "agent" => id.parse().map(Self::Agent).map_err(|_| wrong()),
            "execution" => id.parse().map(Self::Execution).map_err(|_| wrong()),
            "volume" => id.parse().map(Self::Volume).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}
impl TryFrom<String> for StreamId {
    type Error = EventError;
    fn try_from(text: String) -> Result<Self, EventError> {
        text.parse()
    }
}
impl From<StreamId> for String {
    fn from(stream: StreamId) -> Self {
        stream.to_string()
    }
}

/// Where in a trace an event stands (W3C Trace Context).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span the event belongs to.
    pub span_id: SpanId,
    /// That span's parent.
    pub parent_span_id: Option<SpanId>,
}

/// How safe an event is when its append returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// In the write-ahead log: survives `kill -9`, synced within 50 ms.
    Process,
    /// Synced before the answer: survives loss of power.
    Power,
}

/// An event before the journal gave it a place.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// When it happened.
    pub at: Timestamp,
    /// Its place in the trace.
    pub span: SpanContext,
    /// On whose behalf.
    pub actor: Actor,
    /// What happened.
    pub body: Body,
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Place in the log: dense, from 0; also the Merkle leaf index.
    pub seq: u64,
    /// Its id.
    pub id: EventId,
    /// When it happened.
    pub at: Timestamp,
    /// Whose it is.
    pub tenant: Tenant,
    /// The entity it belongs to.
    pub stream: StreamId,
    /// Place in the stream: dense, from 1.
    pub stream_seq: u64,
    /// Its place in the trace.
    pub span: SpanContext,
    /// On whose behalf.
    pub actor: Actor,
    /// What happened.
    pub body: Body,
}

/// Bytes or names that are not an event's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not a stream's name.
    #[error("`{0}` is not a stream: expected `agent/ID`, `execution/ID`, `volume/ID` or `fleet`")]
    Stream(String),
    /// A stored leaf that does not decode.
    #[error("event does not decode: {0}")]
    Decode(String),
}

/// The stored form. Field order does not matter: the leaf is RFC 8785 JSON.
#[derive(Serialize, Deserialize)]
struct Leaf {
    seq: u64,
    id: EventId,
    at: Timestamp,
    tenant: Tenant,
    stream: StreamId,
    stream_seq: u64,
    span: SpanContext,
    actor: Actor,
    #[serde(flatten)]
    body: Body,
    nonce: LeafNonce,
}

impl Event {
    /// The JSON that becomes the leaf, with 16 random bytes so that equal events have unequal hashes.
    ///
    /// # Errors
    /// If a body does not serialise, which no body here does.
    pub fn to_leaf(&self, nonce: [u8; 16]) -> Result<Value, EventError> {
        let leaf = Leaf {
            seq: self.seq,
            id: self.id,
            at: self.at,
            tenant: self.tenant.clone(),
            stream: self.stream,
            stream_seq: self.stream_seq,
            span: self.span,
            actor: self.actor.clone(),
            body: self.body.clone(),
            nonce: LeafNonce::from_bytes(nonce),
        };
        serde_json::to_value(leaf).map_err(|error| EventError::Decode(error.to_string()))
    }

    /// Reads a stored leaf.
    ///
    /// # Errors
    /// If the bytes are not an event this version knows.
    pub fn from_leaf(bytes: &[u8]) -> Result<Self, EventError> {
        let leaf: Leaf =
            serde_json::from_slice(bytes).map_err(|error| EventError::Decode(error.to_string()))?;
        Ok(Self {
            seq: leaf.seq,
            id: leaf.id,
            at: leaf.at,
            tenant: leaf.tenant,
            stream: leaf.stream,
            stream_seq: leaf.stream_seq,
            span: leaf.span,
            actor: leaf.actor,
            body: leaf.body,
        })
    }
}
