//! The records as they are stored, in JSON.

use aegis_core::execution::{FailureReason, LoopPlan};
use aegis_core::{
    AgentId, BlobRef, ExecutionId, Name, Score, Sha256, Tenant, Timestamp, TraceId, Usage, Verdict, VolumeId,
};
use aegis_kernel::port::{
    AgentRecord, AgentState, AgentVersion, ExecutionRecord, ExecutionStatus, IterationRecord, VolumeRecord,
};
use serde::{Deserialize, Serialize};

use super::table::rows;

rows! {
    AgentRow = "agents",
    VersionRow = "agent_versions",
    ExecutionRow = "executions",
    IterationRow = "iterations",
    VolumeRow = "volumes",
    CostRow = "costs",
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AgentRow {
    pub(crate) tenant: Tenant,
    pub(crate) name: Name,
    pub(crate) version: String,
    pub(crate) state: AgentState,
    pub(crate) digest: Sha256,
    pub(crate) document: BlobRef,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl AgentRow {
    pub(crate) fn record(self, id: AgentId, stream_seq: u64) -> AgentRecord {
        AgentRecord {
            id,
            tenant: self.tenant,
            name: self.name,
            version: self.version,
            state: self.state,
            digest: self.digest,
            document: self.document,
            created_at: self.created_at,
            updated_at: self.updated_at,
            stream_seq,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct VersionRow {
    pub(crate) agent: AgentId,
    pub(crate) version: String,
    pub(crate) digest: Sha256,
    pub(crate) document: BlobRef,
    pub(crate) deployed_at: Timestamp,
    pub(crate) deployed_seq: u64,
}

impl VersionRow {
    pub(crate) fn record(self) -> AgentVersion {
        AgentVersion {
            version: self.version,
            digest: self.digest,
            document: self.document,
            deployed_at: self.deployed_at,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExecutionRow {
    pub(crate) tenant: Tenant,
    pub(crate) agent: AgentId,
    pub(crate) name: Name,
    pub(crate) version: String,
    pub(crate) document: BlobRef,
    pub(crate) input: BlobRef,
    pub(crate) plan: LoopPlan,
    pub(crate) status: ExecutionStatus,
    pub(crate) created_at: Timestamp,
    pub(crate) created_seq: u64,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) total_iterations: u32,
    pub(crate) answer: Option<BlobRef>,
    pub(crate) failure: Option<(FailureReason, BlobRef)>,
    pub(crate) usage: Usage,
    pub(crate) trace_id: TraceId,
    pub(crate) parent: Option<ExecutionId>,
    pub(crate) depth: u32,
    pub(crate) removed: bool,
}

impl ExecutionRow {
    pub(crate) fn record(self, id: ExecutionId, stream_seq: u64) -> ExecutionRecord {
        ExecutionRecord {
            id,
            tenant: self.tenant,
            agent: self.agent,
            name: self.name,
            version: self.version,
            document: self.document,
            input: self.input,
            plan: self.plan,
            status: self.status,
            created_at: self.created_at,
            started_at: self.started_at,
            ended_at: self.ended_at,
            total_iterations: self.total_iterations,
            answer: self.answer,
            failure: self.failure,
            usage: self.usage,
            trace_id: self.trace_id,
            parent: self.parent,
            depth: self.depth,
            removed: self.removed,
            stream_seq,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct IterationRow {
    pub(crate) execution: ExecutionId,
    pub(crate) number: u32,
    pub(crate) status: String,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) output: Option<BlobRef>,
    pub(crate) score: Option<Score>,
    pub(crate) confidence: Option<Score>,
    /// By the validator's place.
    pub(crate) validation: Vec<(u32, Verdict, BlobRef)>,
    pub(crate) error: Option<(FailureReason, BlobRef)>,
}

impl IterationRow {
    pub(crate) fn record(self) -> IterationRecord {
        let validation =
            self.validation.into_iter().map(|(_, verdict, reasoning)| (verdict, reasoning)).collect();
        IterationRecord {
            number: self.number,
            status: self.status,
            started_at: self.started_at,
            ended_at: self.ended_at,
            output: self.output,
            score: self.score,
            confidence: self.confidence,
            validation,
            error: self.error,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct VolumeRow {
    pub(crate) tenant: Tenant,
    pub(crate) name: String,
    pub(crate) execution: Option<ExecutionId>,
    pub(crate) size_limit: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) created_seq: u64,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) removed: bool,
    pub(crate) last_tree: Option<(u64, u64)>,
}

impl VolumeRow {
    pub(crate) fn record(self, id: VolumeId, stream_seq: u64) -> VolumeRecord {
        VolumeRecord {
            id,
            tenant: self.tenant,
            name: self.name,
            execution: self.execution,
            size_limit: self.size_limit,
            created_at: self.created_at,
            expires_at: self.expires_at,
            removed: self.removed,
            last_tree: self.last_tree,
            stream_seq,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CostRow {
    pub(crate) tenant: Tenant,
    pub(crate) at: Timestamp,
    pub(crate) micros: u64,
}
