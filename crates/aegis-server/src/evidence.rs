//! Proofs over the log, as the API gives them. A seam of this crate alone: handlers are tested without a store.

use aegis_core::Diagnosis;
use async_trait::async_trait;
use serde_json::Value;

/// What gives proofs and signed heads.
#[async_trait]
pub(crate) trait Evidence: Send + Sync {
    /// The log's head, signed: a C2SP tlog-checkpoint.
    async fn checkpoint(&self) -> Result<String, Diagnosis>;
    /// The event at `seq`, with a proof that it is in the log under a signed head.
    async fn prove(&self, seq: u64) -> Result<Value, Diagnosis>;
}
