//! What does not stay: the exact copies of texts that the evidence holds redacted.

use aegis_core::{Actor, Body, Diagnosis, Durability, StreamId};

use super::{Kernel, unrecorded};

/// Executions whose copies are destroyed in one sweep.
const SWEEP_MAX: usize = 100;

impl Kernel {
    /// Destroys the exact copies of runs that ended long enough ago, and says so in the record; returns of how many.
    ///
    /// # Errors
    /// If the record cannot be read or written.
    pub async fn sweep_working_copies(&self) -> Result<usize, Diagnosis> {
        let (journal, scribe) = (self.journal(), self.scribe());
        let grace = self.settings().config.spec.working_copy_grace();
        let before = scribe.clock.now().minus_millis(grace.millis());
        let ended = journal.ended_with_working_copies(before, SWEEP_MAX).await.map_err(unrecorded)?;
        let over = ended.iter().filter(|execution| !self.scheduler.holds(execution.id));
        let mut destroyed = 0;
        for execution in over {
            let stream = StreamId::Execution(execution.id);
            let span = scribe.child_span(execution.trace_id, None);
            let said = (Body::WorkingCopiesDestroyed {}, Vec::new());
            // Said first: what is destroyed and not on record would look like tampering.
            scribe
                .note(&execution.tenant, stream, &Actor::daemon(), span, said, Durability::Power)
                .await
                .map_err(unrecorded)?;
            journal.destroy_working_copies(stream).await.map_err(unrecorded)?;
            destroyed += 1;
        }
        Ok(destroyed)
    }
}
