//! Facts of one tool call under way, recorded beside whoever waits for it.

use aegis_core::{ActionId, Body, Durability, ExecutionId, SecretUser};
use async_trait::async_trait;

use crate::port::{CallRecord, PushBinding};
use crate::record::{Ledger, RecordError, Scribe};

/// Records on the stream of the call's execution, by a ledger of its own.
pub(crate) struct CallNotes {
    scribe: Scribe,
    execution: ExecutionId,
    action: ActionId,
    tool: String,
}

impl CallNotes {
    /// For the call of `tool` that was intended as `action`.
    pub(crate) fn new(scribe: Scribe, execution: ExecutionId, action: ActionId, tool: &str) -> Self {
        Self { scribe, execution, action, tool: tool.to_owned() }
    }

    async fn ledger(&self) -> Result<Ledger, RecordError> {
        Ledger::open(self.scribe.clone(), self.execution).await
    }
}

#[async_trait]
impl CallRecord for CallNotes {
    async fn secret_used(&self, reference: String, version: Option<u64>) -> Result<(), String> {
        let by = SecretUser::Tool { tool: self.tool.clone() };
        let body = Body::SecretUsed { reference, version, by, action: Some(self.action) };
        let recorded = async { self.ledger().await?.fact(body, Vec::new(), Durability::Power).await };
        recorded.await.map_err(|error: RecordError| error.to_string())
    }

    async fn push_bound(&self, binding: PushBinding) -> Result<(), String> {
        let mut blobs = Vec::new();
        let PushBinding { remote, reference, commit, former } = binding;
        let reference = self.scribe.blob(reference, &mut blobs);
        let body = Body::PushBound { action: self.action, remote, commit, former, reference };
        let recorded = async { self.ledger().await?.fact(body, blobs, Durability::Power).await };
        recorded.await.map_err(|error: RecordError| error.to_string())
    }
}
