//! Facts of one tool call under way, recorded beside whoever waits for it.

use aegis_core::{ActionId, BlobRef, Body, Durability, SecretUser};
use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::port::{CallRecord, NewBlob, PushBinding};
use crate::record::{Ledger, RecordError};

/// Records on the stream of the call's execution, by a ledger of its own.
pub(crate) struct CallNotes {
    ledger: Mutex<Ledger>,
    action: ActionId,
    tool: String,
}

impl CallNotes {
    /// For the call of `tool` that was intended as `action`; `ledger` may be behind.
    pub(crate) fn new(ledger: Ledger, action: ActionId, tool: &str) -> Self {
        Self { ledger: Mutex::new(ledger), action, tool: tool.to_owned() }
    }

    async fn note(&self, body: Body, blobs: Vec<NewBlob>) -> Result<(), String> {
        let recorded = self.ledger.lock().await.fact(body, blobs, Durability::Power).await;
        recorded.map_err(|error: RecordError| error.to_string())
    }

    async fn blob(&self, text: String, blobs: &mut Vec<NewBlob>) -> BlobRef {
        self.ledger.lock().await.scribe.blob(text, blobs)
    }
}

#[async_trait]
impl CallRecord for CallNotes {
    async fn secret_used(&self, reference: String, version: Option<u64>) -> Result<(), String> {
        let by = SecretUser::Tool { tool: self.tool.clone() };
        let body = Body::SecretUsed { reference, version, by, action: Some(self.action) };
        self.note(body, Vec::new()).await
    }

    async fn push_bound(&self, binding: PushBinding) -> Result<(), String> {
        let mut blobs = Vec::new();
        let PushBinding { remote, reference, commit, former } = binding;
        let reference = self.blob(reference, &mut blobs).await;
        self.note(Body::PushBound { action: self.action, remote, commit, former, reference }, blobs).await
    }
}
