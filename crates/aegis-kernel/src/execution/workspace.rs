//! The volumes of an execution: made, granted, recorded, released.

use std::sync::Arc;

use aegis_core::execution::FailureReason;
use aegis_core::{Body, StreamId, VolumeId};
use aegis_security::commitment;

use super::driver::{Driver, Halt};
use super::file_recorder::{FileRecorder, Notes};
use crate::port::{EventQuery, Files, Grant, Mount, Tree, VolumeError, VolumeSpec, Workspace};
use crate::record::RecordError;

/// An execution's open volumes. What happens under their grants is recorded each second while they are open.
pub(crate) struct Rooms {
    pub(crate) workspace: Arc<Workspace>,
    recorder: FileRecorder,
}

impl Rooms {
    fn open(workspace: Arc<Workspace>, notes: Notes) -> Self {
        Self { recorder: FileRecorder::start(Arc::clone(&workspace), notes), workspace }
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
        let workspace = Arc::clone(&self.workspace);
        let unmounted = tokio::task::spawn_blocking(move || {
            for files in workspace.volumes() {
                files.close();
            }
        });
        if let Err(error) = unmounted.await {
            tracing::warn!(%error, "a volume was not unmounted in good order");
        }
        self.recorder.finish().await
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
                mount: !self.ledger.state.external,
            };
            self.note_granted(&grant).await?;
            let files = self.services.ports.volume.open(grant).await.map_err(failed)?;
            self.note_divergence(&files).await?;
            open.push(files);
        }
        Ok(Rooms::open(Arc::new(Workspace::new(open)), Notes::of(&self.ledger)))
    }

    /// What happens from now on is the current iteration's.
    pub(crate) fn record_files_here(&self) {
        if let Some(rooms) = &self.rooms {
            rooms.recorder.move_to(Notes::of(&self.ledger));
        }
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
        rooms.recorder.record().await?;
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
