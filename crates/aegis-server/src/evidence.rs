//! Proofs over the log, as the API gives them.

use std::sync::Arc;

use aegis_core::{Diagnosis, ErrorCode};
use aegis_kernel::port::Journal as _;
use aegis_store::Store;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Gives proofs and signed heads.
pub(crate) struct StoreEvidence(pub(crate) Arc<Store>);

impl StoreEvidence {
    /// The log's head, signed: a C2SP tlog-checkpoint.
    pub(crate) async fn checkpoint(&self) -> Result<String, Diagnosis> {
        let note = self.0.checkpoint().await.map_err(|error| Diagnosis::internal(error.to_string()))?;
        note.ok_or_else(|| {
            Diagnosis::new(ErrorCode::NotFound, "the log is empty: there is no head to sign yet")
        })
    }

    /// The key that verifies signed heads, base64.
    pub(crate) fn public_key(&self) -> String {
        STANDARD.encode(self.0.public_key())
    }

    /// The event at `seq`, with a proof that it is in the log under a signed head.
    pub(crate) async fn prove(&self, seq: u64) -> Result<Value, Diagnosis> {
        let head = self.0.head().await.map_err(|error| Diagnosis::internal(error.to_string()))?;
        if seq >= head.size {
            return Err(
                Diagnosis::not_found("event", seq).hint(format!("the log holds {} events", head.size))
            );
        }
        let proof = self.0.prove(seq).await.map_err(|error| Diagnosis::internal(error.to_string()))?;
        serde_json::to_value(proof).map_err(|error| Diagnosis::internal(error.to_string()))
    }
}
