//! Going on after a crash: what was under way is proved dead, what is unknown is recorded as such.

use aegis_core::{Body, Durability, ExitStatus, Intent};

use super::driver::{Driver, Halt};
use crate::port::{JournalError, Sandbox};
use crate::record::{Ledger, RecordError};

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
        recover(&mut self.ledger, self.services.ports.sandbox.as_ref(), self.same_daemon).await?;
        if self.ledger.state.cancel.is_some() {
            return Err(Halt::Stopped(super::StopReason::Cancel));
        }
        self.set_iteration_deadline();
        Ok(())
    }
}

/// Settles what a former driver left open. Nothing may be done for the execution before. The resume is recorded first:
/// one that ends the daemon counts too.
pub(crate) async fn recover(
    ledger: &mut Ledger,
    sandbox: &dyn Sandbox,
    same_daemon: bool,
) -> Result<(), RecordError> {
    if ledger.state.started_at.is_none() || ledger.state.phase.is_final() {
        return Ok(());
    }
    let crashes = ledger.state.crashes + 1;
    ledger.fact(Body::ExecutionResumed { crashes, same_daemon }, Vec::new(), Durability::Process).await?;
    bury_former_generation(ledger, sandbox).await?;
    settle_unknown(ledger).await
}

/// The former sandbox is proved dead before anything else happens.
async fn bury_former_generation(ledger: &mut Ledger, sandbox: &dyn Sandbox) -> Result<(), RecordError> {
    let Some(facts) = ledger.state.sandbox.clone() else { return Ok(()) };
    let generation = ledger.state.generation;
    sandbox
        .prove_dead(ledger.execution, generation, &facts)
        .await
        .map_err(|error| JournalError::Store(error.to_string()))?;
    let body = Body::GenerationEnded { generation, status: ExitStatus::Unknown, stdout: None, stderr: None };
    ledger.fact(body, Vec::new(), Durability::Process).await
}

/// An intent without an outcome is unknown: what is idempotent, and a model call, is asked again; anything else never,
/// and the model is told. A call from outside is its caller's to repeat. A validator's command only looks, and is run again; its sandbox, found by its label, was
/// removed before the daemon began to schedule.
pub(crate) async fn settle_unknown(ledger: &mut Ledger) -> Result<(), RecordError> {
    if let Some(index) = ledger.state.judging {
        let body = Body::ValidatorUnknown { iteration: ledger.state.iteration, index };
        ledger.fact(body, Vec::new(), Durability::Process).await?;
    }
    for (action, open) in ledger.state.open.clone() {
        let retry = match open.intent {
            Intent::Model { .. } | Intent::Judge { .. } => true,
            Intent::Tool { idempotent, .. } => idempotent,
            Intent::External { .. } | Intent::Connect { .. } => false,
        };
        let mut blobs = Vec::new();
        let result = (!retry).then(|| ledger.scribe.blob(INTERRUPTED, &mut blobs));
        ledger.fact(Body::ActionUnknown { action, retry, result }, blobs, Durability::Process).await?;
    }
    Ok(())
}
