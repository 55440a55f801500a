//! The journal: the log, its blobs, and the projections the monitor and the machines read.

use aegis_core::execution::LoopPlan;
use aegis_core::{
    AgentId, BlobId, BlobRef, Durability, Event, ExecutionId, MicroUsd, Name, NewEvent, Score, Sha256,
    StreamId, Tenant, Timestamp, TraceId, Usage, Verdict, VolumeId,
};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Which copy of sensitive text a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobCopy {
    /// Redacted; stays.
    Evidence,
    /// Exact; its key is destroyed when the run is over.
    Working,
}

/// A blob to be stored with the events that refer to it.
#[derive(Debug, Clone)]
pub struct NewBlob {
    /// Its random id.
    pub id: BlobId,
    /// The salt of its commitment.
    pub salt: [u8; 32],
    /// The plain bytes; sealed by the journal under the stream's key.
    pub bytes: Bytes,
    /// Which copy.
    pub copy: BlobCopy,
}

/// Events of one stream, to be stored together or not at all.
#[derive(Debug, Clone)]
pub struct Append {
    /// Whose.
    pub tenant: Tenant,
    /// The stream.
    pub stream: StreamId,
    /// The stream's last `stream_seq` the writer knows; `None` if the writer does not mind. An append whose
    /// expectation is wrong fails alone with [`JournalError::Conflict`].
    pub expected: Option<u64>,
    /// The events, in order.
    pub events: Vec<NewEvent>,
    /// Blobs they refer to.
    pub blobs: Vec<NewBlob>,
    /// How safe they must be when the append returns.
    pub durability: Durability,
}

/// Where appended events went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// `seq` of the last event.
    pub seq: u64,
    /// `stream_seq` of the last event.
    pub stream_seq: u64,
}

/// A journal that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Somebody else appended to the stream first.
    #[error("stream `{stream}` is at {actual}, not at {expected}")]
    Conflict {
        /// The stream.
        stream: String,
        /// What the writer knew.
        expected: u64,
        /// What is.
        actual: u64,
    },
    /// A blob whose key or bytes were destroyed by retention, as recorded.
    #[error("blob `{0}` was destroyed by retention")]
    BlobDestroyed(BlobId),
    /// A blob that is not there or does not open.
    #[error("blob `{0}` is missing or damaged")]
    BlobDamaged(BlobId),
    /// Too little disk is left for new actions.
    #[error("less than {0} bytes of disk are free: new actions are refused")]
    DiskFull(u64),
    /// The queue is full.
    #[error("the journal cannot keep up; try again")]
    Overloaded,
    /// The store below failed.
    #[error("{0}")]
    Store(String),
}

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only with a greater `seq`.
    pub after: Option<u64>,
    /// Only with a `seq` below this.
    pub before: Option<u64>,
    /// Only of this tenant.
    pub tenant: Option<Tenant>,
    /// Only of this stream.
    pub stream: Option<StreamId>,
    /// Only with a greater `stream_seq`. For one stream alone: without [`EventQuery::stream`] it means nothing.
    pub past: Option<u64>,
    /// Only of this trace.
    pub trace_id: Option<TraceId>,
    /// Only of these kinds; a kind that ends in `.*` means all that begin so. Empty means all.
    pub kinds: Vec<String>,
    /// Only at or after this time.
    pub since: Option<Timestamp>,
    /// Only before this time.
    pub until: Option<Timestamp>,
    /// Newest first.
    pub newest_first: bool,
    /// Most events to return.
    pub limit: usize,
}

/// The log's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How many events.
    pub size: u64,
    /// RFC 6962 root hash over them.
    pub root: Sha256,
}

/// Whether an agent takes executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It does.
    Deployed,
    /// It is paused.
    Paused,
    /// Its registration is gone.
    Removed,
}

/// An agent as registered now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    /// Its id.
    pub id: AgentId,
    /// Whose.
    pub tenant: Tenant,
    /// Its name.
    pub name: Name,
    /// The version deployed last.
    pub version: String,
    /// Whether it takes executions.
    pub state: AgentState,
    /// SHA-256 of the current document.
    pub digest: Sha256,
    /// The current document.
    pub document: BlobRef,
    /// First deployed.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
    /// Its stream's position.
    pub stream_seq: u64,
}

/// One deployed version of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentVersion {
    /// The version.
    pub version: String,
    /// SHA-256 of its document.
    pub digest: Sha256,
    /// Its document.
    pub document: BlobRef,
    /// When it was deployed, last if by force.
    pub deployed_at: Timestamp,
}

/// A page of agents.
#[derive(Debug, Clone, Default)]
pub struct AgentPage {
    /// The agents, by name.
    pub items: Vec<AgentRecord>,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

/// Where an execution stands (contract, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionStatus {
    /// Waits for the scheduler.
    Pending,
    /// Runs.
    Running,
    /// Waits for a person or another execution.
    Waiting,
    /// Reached its goal.
    Completed,
    /// Did not.
    Failed,
    /// Was stopped on request.
    Cancelled,
}

impl ExecutionStatus {
    /// True once nothing can follow.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An execution, as the lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionRecord {
    /// Its id.
    pub id: ExecutionId,
    /// Whose.
    pub tenant: Tenant,
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub name: Name,
    /// The version it runs.
    pub version: String,
    /// The document it runs.
    pub document: BlobRef,
    /// The input.
    pub input: BlobRef,
    /// The loop's limits.
    pub plan: LoopPlan,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it began to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Iterations begun.
    pub total_iterations: u32,
    /// The final answer.
    pub answer: Option<BlobRef>,
    /// Why it failed.
    pub failure: Option<(aegis_core::execution::FailureReason, BlobRef)>,
    /// Tokens and cost so far.
    pub usage: Usage,
    /// Its trace.
    pub trace_id: TraceId,
    /// The execution that asked for it.
    pub parent: Option<ExecutionId>,
    /// How deep in a chain.
    pub depth: u32,
    /// Whether it was taken from the lists.
    pub removed: bool,
    /// Its stream's position.
    pub stream_seq: u64,
}

/// One iteration, as the details show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IterationRecord {
    /// From 1.
    pub number: u32,
    /// `running`, `completed`, `failed`, or `cancelled` with its execution.
    pub status: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its answer.
    pub output: Option<BlobRef>,
    /// Its score.
    pub score: Option<Score>,
    /// The confidence of the lowest.
    pub confidence: Option<Score>,
    /// The validators' findings with their reasoning.
    pub validation: Vec<(Verdict, BlobRef)>,
    /// Why it failed.
    pub error: Option<(aegis_core::execution::FailureReason, BlobRef)>,
}

/// Which executions.
#[derive(Debug, Clone, Default)]
pub struct ExecutionQuery {
    /// Only of this tenant.
    pub tenant: Option<Tenant>,
    /// Only of this agent.
    pub agent: Option<AgentId>,
    /// Only in these states; empty means all.
    pub statuses: Vec<ExecutionStatus>,
    /// Where to begin: a `next_cursor`.
    pub cursor: Option<String>,
    /// Most to return.
    pub limit: usize,
}

/// A page of executions, newest first.
#[derive(Debug, Clone, Default)]
pub struct ExecutionPage {
    /// The executions.
    pub items: Vec<ExecutionRecord>,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

/// A volume, as the lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its id.
    pub id: VolumeId,
    /// Whose.
    pub tenant: Tenant,
    /// Its name in the manifest.
    pub name: String,
    /// The execution it was made for.
    pub execution: Option<ExecutionId>,
    /// Most bytes it may hold.
    pub size_limit: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it is removed.
    pub expires_at: Option<Timestamp>,
    /// Whether it is gone.
    pub removed: bool,
    /// Files and bytes when its tree was last recorded.
    pub last_tree: Option<(u64, u64)>,
    /// Its stream's position.
    pub stream_seq: u64,
}

/// The log and what is read from it.
///
/// Projections answered here (agents, executions, iterations, volumes) are updated in the transaction of the append
/// that changes them: who appended reads its own write.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Stores events; returns when they are as safe as asked.
    async fn append(&self, append: Append) -> Result<Appended, JournalError>;
    /// Events that match, by `seq`.
    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, JournalError>;
    /// The plain bytes behind a reference: the working copy if it is still there, else the evidence copy. The
    /// commitment is verified.
    async fn blob(&self, stream: StreamId, blob: &BlobRef) -> Result<Bytes, JournalError>;
    /// Destroys an ended execution's, or a removed volume's, working key: only evidence copies remain.
    async fn destroy_working_copies(&self, stream: StreamId) -> Result<(), JournalError>;
    /// Executions that ended at or before a time and still have working copies, and their tenants and traces.
    async fn ended_with_working_copies(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ExecutionRecord>, JournalError>;
    /// The head of the log.
    async fn head(&self) -> Result<Head, JournalError>;
    /// Wakes up with the highest committed `seq` plus one. Only a wake-up: read by `seq` for the truth.
    fn committed(&self) -> watch::Receiver<u64>;

    /// Agents of a tenant (and of `platform`), by name; removed ones are left out. `cursor` is a name.
    async fn agents(
        &self,
        tenant: &Tenant,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<AgentPage, JournalError>;
    /// One agent, removed ones too.
    async fn agent(&self, id: AgentId) -> Result<Option<AgentRecord>, JournalError>;
    /// The versions of an agent, newest first.
    async fn agent_versions(&self, id: AgentId) -> Result<Vec<AgentVersion>, JournalError>;
    /// Executions that match, newest first; removed ones are left out.
    async fn executions(&self, query: &ExecutionQuery) -> Result<ExecutionPage, JournalError>;
    /// One execution, removed ones too.
    async fn execution(&self, id: ExecutionId) -> Result<Option<ExecutionRecord>, JournalError>;
    /// The iterations of an execution, in order.
    async fn iterations(&self, id: ExecutionId) -> Result<Vec<IterationRecord>, JournalError>;
    /// Volumes of a tenant, newest first; removed ones only if asked.
    async fn volumes(
        &self,
        tenant: &Tenant,
        removed: bool,
        limit: usize,
    ) -> Result<Vec<VolumeRecord>, JournalError>;
    /// One volume.
    async fn volume(&self, id: VolumeId) -> Result<Option<VolumeRecord>, JournalError>;
    /// Ephemeral volumes whose time has come and whose execution is over.
    async fn expired_volumes(&self, now: Timestamp, limit: usize) -> Result<Vec<VolumeRecord>, JournalError>;
    /// Cost of a tenant since a time.
    async fn cost_since(&self, tenant: &Tenant, since: Timestamp) -> Result<MicroUsd, JournalError>;
    /// Remembers the answer of an idempotency key for 24 hours. `Ok(None)` if it is new; the stored digest of the
    /// request and the answer if it is known.
    async fn idempotent(
        &self,
        tenant: &Tenant,
        key: &str,
        request: Sha256,
        answer: &str,
        now: Timestamp,
    ) -> Result<Option<(Sha256, String)>, JournalError>;
}
