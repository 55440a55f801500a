//! Going on after a crash: what was under way is proved dead, what is unknown is recorded as such.

use aegis_core::{Body, Durability, ExitStatus, Intent};

use super::driver::{Driver, Halt};
use crate::record::RecordError;

/// What a model is told of a tool call that a crash cut.
const INTERRUPTED: &str = "interrupted: the daemon was restarted while this call ran, and it is not known whether it \
took effect. Look before you repeat it.";

impl Driver {
    /// Brings a found execution to a point where the loop can go on. Does nothing for one that has not started.
    pub(crate) async fn recover(&mut self) -> Result<(), Halt> {
        if self.ledger.state.started_at.is_none() {
            return Ok(());
        }
        self.set_total_deadline();
        self.bury_former_generation().await?;
        self.settle_unknown().await?;
        let crashes = self.ledger.state.crashes + 1;
        self.ledger.fact(Body::ExecutionResumed { crashes }, Vec::new(), Durability::Process).await?;
        if self.ledger.state.cancel.is_some() {
            return Err(Halt::Stopped(super::StopReason::Cancel));
        }
        self.set_iteration_deadline();
        Ok(())
    }

    /// The former sandbox is proved dead before anything else happens.
    async fn bury_former_generation(&mut self) -> Result<(), Halt> {
        let Some(facts) = self.ledger.state.sandbox.clone() else { return Ok(()) };
        let generation = self.ledger.state.generation;
        self.services
            .ports
            .sandbox
            .prove_dead(self.ledger.execution, generation, &facts)
            .await
            .map_err(|error| RecordError::from(crate::port::JournalError::Store(error.to_string())))?;
        let body =
            Body::GenerationEnded { generation, status: ExitStatus::Unknown, stdout: None, stderr: None };
        self.ledger.fact(body, Vec::new(), Durability::Process).await?;
        Ok(())
    }

    /// An intent without an outcome is unknown: what is idempotent, and a model call, is asked again; anything else
    /// never, and the model is told.
    async fn settle_unknown(&mut self) -> Result<(), Halt> {
        for (action, open) in self.ledger.state.open.clone() {
            let retry = match open.intent {
                Intent::Model { .. } | Intent::Judge { .. } => true,
                Intent::Tool { idempotent, .. } => idempotent,
            };
            let mut blobs = Vec::new();
            let result = (!retry).then(|| self.ledger.scribe.blob(INTERRUPTED, &mut blobs));
            self.ledger
                .fact(Body::ActionUnknown { action, retry, result }, blobs, Durability::Process)
                .await?;
        }
        Ok(())
    }
}
