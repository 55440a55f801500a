//! Removing volumes: on request and when their time has come.

use aegis_core::{Actor, Body, Diagnosis, Durability, ErrorCode, StreamId, VolumeId};

use super::{Caller, Kernel, unrecorded};
use crate::port::VolumeRecord;

/// Expired volumes removed in one sweep.
const SWEEP_MAX: usize = 100;

impl Kernel {
    /// Removes a volume and its files.
    ///
    /// # Errors
    /// Unknown volume, or one in use.
    pub async fn remove_volume(&self, caller: &Caller, id: VolumeId) -> Result<(), Diagnosis> {
        let volume = self.services.ports.journal.volume(id).await.map_err(unrecorded)?;
        let volume = volume
            .filter(|volume| volume.tenant == caller.tenant && !volume.removed)
            .ok_or_else(|| Diagnosis::not_found("volume", id))?;
        if volume.execution.is_some_and(|execution| self.scheduler.holds(execution)) {
            let message = format!("volume `{id}` is in use by a running execution");
            return Err(Diagnosis::new(ErrorCode::Conflict, message).hint("cancel the execution first"));
        }
        self.remove_files(&volume, &caller.actor, "requested").await
    }

    /// Removes ephemeral volumes whose time has come; returns how many. One that cannot be removed does not keep the
    /// others.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub async fn sweep_volumes(&self) -> Result<usize, Diagnosis> {
        let now = self.services.ports.clock.now();
        let expired =
            self.services.ports.journal.expired_volumes(now, SWEEP_MAX).await.map_err(unrecorded)?;
        let mut removed = 0;
        for volume in &expired {
            if volume.execution.is_some_and(|execution| self.scheduler.holds(execution)) {
                continue;
            }
            match self.remove_files(volume, &Actor::daemon(), "expired").await {
                Ok(()) => removed += 1,
                Err(error) => tracing::warn!(volume = %volume.id, %error, "an expired volume stays"),
            }
        }
        Ok(removed)
    }

    async fn remove_files(
        &self,
        volume: &VolumeRecord,
        actor: &Actor,
        reason: &str,
    ) -> Result<(), Diagnosis> {
        let failed = |error: crate::port::VolumeError| Diagnosis::internal(error.to_string());
        self.services.ports.volume.remove(volume.id).await.map_err(failed)?;
        let scribe = self.scribe();
        let body = Body::VolumeRemoved { reason: reason.to_owned() };
        let stream = StreamId::Volume(volume.id);
        // Before the record says that it is gone: what fails in between is done again.
        scribe.journal.destroy_working_copies(stream).await.map_err(unrecorded)?;
        scribe
            .note(&volume.tenant, stream, actor, scribe.root_span(), (body, Vec::new()), Durability::Process)
            .await
            .map_err(unrecorded)?;
        Ok(())
    }
}
