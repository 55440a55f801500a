//! What a server shows, held against what was accepted.

use std::sync::PoisonError;

use aegis_core::{Body, Sha256};

use super::super::error::McpError;
use super::super::handler::ListChanged;
use super::super::pin::{PinDocument, PinRecord};
use super::Upstream;

/// Most bytes of what a server says of itself.
const DOCUMENT_BYTES_MAX: usize = 2 << 20;

impl Upstream {
    /// Reads the pins once.
    pub(in super::super) async fn remember(&self) -> Result<(), McpError> {
        let mut read = self.judging.lock().await;
        if !*read {
            let loaded = (self.parts.pins.load)(self.tenant.clone(), self.settings.name.clone()).await;
            let loaded = loaded.map_err(|reason| self.pins(reason))?;
            *self.record.lock().unwrap_or_else(PoisonError::into_inner) = loaded.unwrap_or_default();
            *read = true;
        }
        Ok(())
    }

    /// Compares what the server shows with what was accepted. The first that is ever seen is accepted: the operator
    /// named the server. A server that is held stays so until a person accepts what it shows, or it shows again what was
    /// accepted.
    pub(super) async fn judge(&self, shown: PinDocument) -> Result<(), McpError> {
        let _judging = self.judging.lock().await;
        let size = serde_json::to_vec(&shown).map_or(usize::MAX, |bytes| bytes.len());
        if size > DOCUMENT_BYTES_MAX {
            return Err(
                self.malformed(format!("it describes itself in more than {DOCUMENT_BYTES_MAX} bytes"))
            );
        }
        let mut record = self.record();
        let server = self.settings.name.clone();
        match &record.accepted {
            None if record.shown.is_none() => {
                let digest = self.digest(&shown)?;
                record.accepted = Some(shown);
                self.keep(record).await?;
                self.tell(Body::ServerAccepted { server, digest, first: true });
            }
            Some(accepted) if *accepted == shown && record.shown.is_none() => {}
            // It shows again what was accepted: nothing waits for a person any more.
            Some(accepted) if *accepted == shown => {
                let digest = self.digest(&shown)?;
                record.shown = None;
                self.keep(record).await?;
                self.tell(Body::ServerReleased { server, digest });
                (self.on_change)(ListChanged::Tools);
            }
            accepted if record.shown.as_ref() != Some(&shown) => {
                let accepted = accepted.as_ref().map(|document| self.digest(document)).transpose()?;
                let digest = self.digest(&shown)?;
                record.shown = Some(shown);
                self.keep(record).await?;
                self.tell(Body::ServerHeld { server, accepted, shown: digest });
            }
            _ => {}
        }
        Ok(())
    }

    /// What was accepted of it, if it shows that still.
    pub(in super::super) fn accepted_now(&self) -> Result<PinDocument, McpError> {
        let PinRecord { accepted, shown } = self.record();
        match (accepted, shown) {
            (Some(accepted), None) => Ok(accepted),
            _ => Err(McpError::Held { server: self.settings.name.to_string() }),
        }
    }

    /// Accepts what the server shows, if it has the given hash and `record` puts it on record.
    pub(in super::super) async fn accept<E: From<McpError>>(
        &self,
        digest: Sha256,
        record: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        self.remember().await?;
        let _judging = self.judging.lock().await;
        let mut pins = self.record();
        let other =
            || McpError::NotShown { server: self.settings.name.to_string(), given: digest.to_string() };
        let shown = pins.shown.take().ok_or_else(other)?;
        if self.digest(&shown)? != digest {
            return Err(other().into());
        }
        record.await?;
        pins.accepted = Some(shown);
        self.keep(pins).await?;
        (self.on_change)(ListChanged::Tools);
        Ok(())
    }

    /// A hold is in force before it is stored; an acceptance only after.
    async fn keep(&self, record: PinRecord) -> Result<(), McpError> {
        let held = record.shown.is_some();
        let set = |record: PinRecord| {
            *self.record.lock().unwrap_or_else(PoisonError::into_inner) = record;
        };
        if held {
            set(record.clone());
        }
        let saved = (self.parts.pins.save)(self.tenant.clone(), self.settings.name.clone(), record.clone());
        saved.await.map_err(|reason| self.pins(reason))?;
        set(record);
        Ok(())
    }
}
