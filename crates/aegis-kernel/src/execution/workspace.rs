//! The volumes of an execution: made, granted, recorded, released.

use std::sync::Arc;

use aegis_core::execution::FailureReason;
use aegis_core::{Actor, Body, Durability, ExecutionId, SpanContext, StreamId, Tenant, VolumeId};
use aegis_security::commitment;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::driver::{Driver, Halt};
use crate::port::{
    EventQuery, FileRecords, Files, Grant, Mount, NewBlob, Tree, VolumeError, VolumeSpec, Workspace,
};
use crate::record::{Ledger, RecordError, Scribe};

/// How often file operations are recorded while they go on.
const RECORD_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// An execution's open volumes. What happens under their grants is recorded each second while they are open.
pub(crate) struct Rooms {
    pub(crate) workspace: Arc<Workspace>,
    notes: Notes,
    stop: DropGuard,
    recorder: JoinHandle<()>,
}

impl Rooms {
    fn open(workspace: Arc<Workspace>, notes: Notes) -> Self {
        let stop = CancellationToken::new();
        let (watched, pen, stopped) = (Arc::clone(&workspace), notes.clone(), stop.clone());
        let recorder = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    () = tokio::time::sleep(RECORD_EVERY) => {}
                }
                if let Err(error) = pen.record(&watched).await {
                    tracing::warn!(%error, "file operations were not recorded");
                }
            }
        });
        Self { workspace, notes, stop: stop.drop_guard(), recorder }
    }

    /// Volumes as a sandbox sees them.
    pub(crate) fn mounts(&self, read_only: bool) -> Vec<Mount> {
        let mounted = |files: &Arc<dyn Files>| {
            let grant = files.grant();
            Some(Mount {
                source: files.mount_point()?,
                target: grant.mount_path.clone(),
                read_only: read_only || grant.read_only,
            })
        };
        self.workspace.volumes().iter().filter_map(mounted).collect()
    }

    /// Records the rest and unmounts.
    pub(crate) async fn close(self) -> Result<(), RecordError> {
        drop(self.stop);
        if let Err(error) = self.recorder.await {
            tracing::warn!(%error, "the recorder of file operations ended early");
        }
        let workspace = Arc::clone(&self.workspace);
        let unmounted = tokio::task::spawn_blocking(move || {
            for files in workspace.volumes() {
                files.close();
            }
        });
        if let Err(error) = unmounted.await {
            tracing::warn!(%error, "a volume was not unmounted in good order");
        }
        self.notes.record(&self.workspace).await
    }
}

/// Writes on the streams of an execution's volumes.
#[derive(Clone)]
struct Notes {
    scribe: Scribe,
    tenant: Tenant,
    actor: Actor,
    execution: ExecutionId,
    span: SpanContext,
}

impl Notes {
    fn of(ledger: &Ledger) -> Self {
        // In the trace of the iteration that causes it.
        let span = SpanContext {
            trace_id: ledger.state.root.trace_id,
            span_id: ledger.state.iteration_span,
            parent_span_id: Some(ledger.state.root.span_id),
        };
        Self {
            scribe: ledger.scribe.clone(),
            tenant: ledger.tenant.clone(),
            actor: ledger.actor.clone(),
            execution: ledger.execution,
            span,
        }
    }

    /// Records what happened under the grants since last asked.
    async fn record(&self, workspace: &Workspace) -> Result<(), RecordError> {
        for files in workspace.volumes() {
            if let Some(records) = files.take_records() {
                self.note_records(files.grant().volume, records).await?;
            }
        }
        Ok(())
    }

    async fn note_records(&self, volume: VolumeId, records: FileRecords) -> Result<(), RecordError> {
        let mut blobs = Vec::new();
        let ranges = serde_json::json!(records.ranges).to_string();
        let body = Body::VolumeRecorded {
            execution: self.execution,
            reads: records.reads,
            writes: records.writes,
            read_bytes: records.read_bytes,
            written_bytes: records.written_bytes,
            refused: records.refused,
            refusals: records.refusals,
            ranges: self.scribe.blob(ranges, &mut blobs),
        };
        self.note(volume, body, blobs).await
    }

    async fn note(&self, volume: VolumeId, body: Body, blobs: Vec<NewBlob>) -> Result<(), RecordError> {
        let stream = StreamId::Volume(volume);
        let note = self.scribe.note(
            &self.tenant,
            stream,
            &self.actor,
            self.span,
            (body, blobs),
            Durability::Process,
        );
        note.await?;
        Ok(())
    }
}

impl Driver {
    /// The execution's volumes, made and granted at first use.
    pub(crate) async fn rooms(&mut self) -> Result<&Rooms, Halt> {
        if self.rooms.is_none() {
            let rooms = self.open_rooms().await?;
            self.rooms = Some(rooms);
        }
        self.rooms.as_ref().ok_or_else(|| Halt::Execution(FailureReason::Internal, "no workspace".to_owned()))
    }

    async fn open_rooms(&mut self) -> Result<Rooms, Halt> {
        let failed = |error: VolumeError| match error {
            VolumeError::CapabilityMissing(_) => {
                Halt::Execution(FailureReason::CapabilityMissing, error.to_string())
            }
            other => Halt::Execution(FailureReason::VolumeFailed, other.to_string()),
        };
        let execution = self.ledger.execution;
        let uid = self.services.ports.sandbox.uid_for(execution);
        let mut open: Vec<Arc<dyn Files>> = Vec::new();
        for plan in self.blueprint.volumes.clone() {
            let volume = VolumeId::of(execution, &plan.name);
            self.note_volume_created(volume, &plan).await?;
            let spec = VolumeSpec { id: volume, size_limit: plan.size_limit };
            self.services.ports.volume.create(&spec).await.map_err(failed)?;
            let grant = Grant {
                volume,
                execution,
                mount_path: plan.mount_path.clone(),
                read_only: plan.read_only,
                rules: self.blueprint.rules.clone(),
                size_limit: plan.size_limit,
                uid,
                mount: true,
            };
            self.note_granted(&grant).await?;
            let files = self.services.ports.volume.open(grant).await.map_err(failed)?;
            self.note_divergence(&files).await?;
            open.push(files);
        }
        Ok(Rooms::open(Arc::new(Workspace::new(open)), Notes::of(&self.ledger)))
    }

    async fn note_volume_created(
        &self,
        volume: VolumeId,
        plan: &super::blueprint::VolumePlan,
    ) -> Result<(), Halt> {
        if self.services.ports.journal.volume(volume).await?.is_some() {
            return Ok(());
        }
        let expires_at = self.ledger.scribe.clock.now().plus_millis(plan.ttl_ms);
        let body = Body::VolumeCreated {
            name: plan.name.clone(),
            execution: Some(self.ledger.execution),
            size_limit: plan.size_limit,
            expires_at: Some(expires_at),
        };
        Notes::of(&self.ledger).note(volume, body, Vec::new()).await?;
        Ok(())
    }

    /// The grant is durable before the first operation under it.
    async fn note_granted(&self, grant: &Grant) -> Result<(), Halt> {
        let mut blobs = Vec::new();
        let rules = serde_json::json!({"read": grant.rules.read, "write": grant.rules.write}).to_string();
        let body = Body::VolumeGranted {
            execution: grant.execution,
            mount_path: grant.mount_path.clone(),
            read_only: grant.read_only,
            rules: self.ledger.scribe.blob(rules, &mut blobs),
        };
        Notes::of(&self.ledger).note(grant.volume, body, blobs).await?;
        Ok(())
    }

    /// After a crash: what the last second's records did not say, the difference to the last recorded tree does.
    async fn note_divergence(&self, files: &Arc<dyn Files>) -> Result<(), Halt> {
        if self.ledger.state.crashes == 0 {
            return Ok(());
        }
        let volume = files.grant().volume;
        let query = EventQuery {
            stream: Some(StreamId::Volume(volume)),
            kinds: vec!["volume.tree_recorded".to_owned()],
            newest_first: true,
            limit: 1,
            ..EventQuery::default()
        };
        let mut before = Tree::default();
        if let Some(event) = self.services.ports.journal.events(&query).await?.first()
            && let Body::VolumeTreeRecorded { tree, .. } = &event.body
        {
            let text = self.ledger.scribe.text(StreamId::Volume(volume), tree).await?;
            before = serde_json::from_str(&text).unwrap_or_default();
        }
        let after = read_tree(Arc::clone(files)).await.map_err(volume_failed)?;
        let difference = difference(&before, &after);
        if difference.is_null() {
            return Ok(());
        }
        let mut blobs = Vec::new();
        let body = Body::VolumeDiverged {
            execution: self.ledger.execution,
            difference: self.ledger.scribe.blob(difference.to_string(), &mut blobs),
        };
        Notes::of(&self.ledger).note(volume, body, blobs).await?;
        Ok(())
    }

    /// Records the tree of every volume at an iteration's end.
    pub(crate) async fn record_tree(&mut self) -> Result<(), Halt> {
        let Some(rooms) = &self.rooms else { return Ok(()) };
        Notes::of(&self.ledger).record(&rooms.workspace).await?;
        for files in rooms.workspace.volumes() {
            let tree = read_tree(Arc::clone(files)).await.map_err(volume_failed)?;
            let text = serde_json::to_string(&tree)
                .map_err(|error| Halt::Execution(FailureReason::Internal, error.to_string()))?;
            let mut blobs = Vec::new();
            let body = Body::VolumeTreeRecorded {
                execution: self.ledger.execution,
                iteration: self.ledger.state.iteration,
                root: commitment::sha256(text.as_bytes()),
                files: tree.entries.len() as u64,
                bytes: tree.entries.iter().map(|entry| entry.size).sum(),
                tree: self.ledger.scribe.blob(text, &mut blobs),
            };
            Notes::of(&self.ledger).note(files.grant().volume, body, blobs).await?;
        }
        Ok(())
    }
}

fn volume_failed(error: VolumeError) -> Halt {
    Halt::Execution(FailureReason::VolumeFailed, error.to_string())
}

async fn read_tree(files: Arc<dyn Files>) -> Result<Tree, VolumeError> {
    tokio::task::spawn_blocking(move || files.tree())
        .await
        .map_err(|error| VolumeError::Io(error.to_string()))?
}

/// `{added, changed, removed}` by path; null if nothing differs.
fn difference(before: &Tree, after: &Tree) -> serde_json::Value {
    let index = |tree: &Tree| {
        tree.entries
            .iter()
            .map(|entry| (entry.path.clone(), entry.clone()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let (before, after) = (index(before), index(after));
    let added: Vec<_> = after.values().filter(|entry| !before.contains_key(&entry.path)).collect();
    let removed: Vec<_> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    let changed: Vec<_> =
        after.values().filter(|entry| before.get(&entry.path).is_some_and(|old| old != *entry)).collect();
    if added.is_empty() && removed.is_empty() && changed.is_empty() {
        return serde_json::Value::Null;
    }
    serde_json::json!({"added": added, "changed": changed, "removed": removed})
}
