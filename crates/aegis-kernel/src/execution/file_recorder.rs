//! File operations on their way to the record: nothing that was taken from a volume is forgotten before it is written.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aegis_core::{Actor, Body, Durability, ExecutionId, SpanContext, StreamId, Tenant, VolumeId};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::port::{FileRecords, NewBlob, Workspace};
use crate::record::{Ledger, RecordError, Scribe};

/// How often file operations are recorded while they go on.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// How often the last of them are tried before they are given up, and the pause between.
const LAST_TRIES: u32 = 5;
const LAST_PAUSE: Duration = Duration::from_millis(200);

/// Writes on the streams of an execution's volumes.
#[derive(Clone)]
pub(super) struct Notes {
    scribe: Scribe,
    tenant: Tenant,
    actor: Actor,
    execution: ExecutionId,
    span: SpanContext,
}

impl Notes {
    /// In the trace of the iteration that causes it.
    pub(super) fn of(ledger: &Ledger) -> Self {
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

    async fn note_records(&self, volume: VolumeId, records: &FileRecords) -> Result<(), RecordError> {
        let mut blobs = Vec::new();
        let ranges = serde_json::json!(records.ranges).to_string();
        let body = Body::VolumeRecorded {
            execution: self.execution,
            reads: records.reads,
            writes: records.writes,
            read_bytes: records.read_bytes,
            written_bytes: records.written_bytes,
            refused: records.refused,
            refusals: records.refusals.clone(),
            ranges: self.scribe.blob(ranges, &mut blobs),
        };
        self.note(volume, body, blobs).await
    }

    pub(super) async fn note(
        &self,
        volume: VolumeId,
        body: Body,
        blobs: Vec<NewBlob>,
    ) -> Result<(), RecordError> {
        let (stream, durability) = (StreamId::Volume(volume), Durability::Process);
        self.scribe.note(&self.tenant, stream, &self.actor, self.span, (body, blobs), durability).await?;
        Ok(())
    }
}

/// What the recorder's task and the driver share.
struct Desk {
    workspace: Arc<Workspace>,
    notes: RwLock<Notes>,
    /// Taken from a volume and not written yet.
    pending: Mutex<BTreeMap<VolumeId, FileRecords>>,
}

impl Desk {
    /// Records what happened under the grants since last asked; what could not be recorded comes first the next time.
    async fn record(&self) -> Result<(), RecordError> {
        let mut pending = self.pending.lock().await;
        let notes = self.notes.read().unwrap_or_else(PoisonError::into_inner).clone();
        for files in self.workspace.volumes() {
            let volume = files.grant().volume;
            if let Some(kept) = pending.get(&volume) {
                notes.note_records(volume, kept).await?;
                pending.remove(&volume);
            }
            if let Some(records) = files.take_records() {
                notes.note_records(volume, pending.entry(volume).or_insert(records)).await?;
                pending.remove(&volume);
            }
        }
        Ok(())
    }
}

/// Records what happens under the grants of a workspace, each second and whenever it is asked to.
pub(super) struct FileRecorder {
    desk: Arc<Desk>,
    stop: DropGuard,
    recording: JoinHandle<()>,
}

impl FileRecorder {
    pub(super) fn start(workspace: Arc<Workspace>, notes: Notes) -> Self {
        let desk = Arc::new(Desk { workspace, notes: RwLock::new(notes), pending: Mutex::default() });
        let stop = CancellationToken::new();
        let (pen, stopped) = (Arc::clone(&desk), stop.clone());
        let recording = tokio::spawn(async move {
            while stopped.run_until_cancelled(tokio::time::sleep(RECORD_EVERY)).await.is_some() {
                if let Err(error) = pen.record().await {
                    tracing::warn!(%error, "file operations were not recorded; they are tried again");
                }
            }
        });
        Self { desk, stop: stop.drop_guard(), recording }
    }

    /// Where what is recorded from now on belongs.
    pub(super) fn move_to(&self, notes: Notes) {
        *self.desk.notes.write().unwrap_or_else(PoisonError::into_inner) = notes;
    }

    pub(super) async fn record(&self) -> Result<(), RecordError> {
        self.desk.record().await
    }

    /// Records the rest. What a journal that stays closed does not take, the difference of the trees tells after a
    /// resume.
    pub(super) async fn finish(self) -> Result<(), RecordError> {
        drop(self.stop);
        if let Err(error) = self.recording.await {
            tracing::warn!(%error, "the recorder of file operations ended early");
        }
        for _ in 1..LAST_TRIES {
            if self.desk.record().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(LAST_PAUSE).await;
        }
        self.desk.record().await
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::Ordering;

    use aegis_core::{SpanId, TraceId};

    use super::*;
    use crate::port::{DirectoryEntry, FileMeta, Files, Grant, PathRules, Tree, VolumeError};
    use crate::test_journal::{TestJournal, scribe};

    /// A volume under whose grant each look finds one more read.
    struct Busy(Grant);

    fn nothing<T>() -> Result<T, VolumeError> {
        Err(VolumeError::NotFound("anything".to_owned()))
    }

    impl Files for Busy {
        fn grant(&self) -> &Grant {
            &self.0
        }
        fn mount_point(&self) -> Option<PathBuf> {
            None
        }
        fn stat(&self, _: &str) -> Result<FileMeta, VolumeError> {
            nothing()
        }
        fn read(&self, _: &str, _: u64, _: usize) -> Result<Vec<u8>, VolumeError> {
            nothing()
        }
        fn write(&self, _: &str, _: &[u8]) -> Result<(), VolumeError> {
            nothing()
        }
        fn list(&self, _: &str) -> Result<Vec<DirectoryEntry>, VolumeError> {
            nothing()
        }
        fn create_dir(&self, _: &str) -> Result<(), VolumeError> {
            nothing()
        }
        fn remove(&self, _: &str, _: bool) -> Result<(), VolumeError> {
            nothing()
        }
        fn take_records(&self) -> Option<FileRecords> {
            Some(FileRecords { reads: 1, ..FileRecords::default() })
        }
        fn tree(&self) -> Result<Tree, VolumeError> {
            nothing()
        }
        fn close(&self) {}
    }

    fn notes(journal: &Arc<TestJournal>, span: u8) -> Notes {
        Notes {
            scribe: scribe(journal),
            tenant: Tenant::default_tenant(),
            actor: Actor::daemon(),
            execution: ExecutionId::from_uuid(uuid::Uuid::nil()),
            span: SpanContext {
                trace_id: TraceId::from_bytes([1; 16]),
                span_id: SpanId::from_bytes([span; 8]),
                parent_span_id: None,
            },
        }
    }

    fn workspace() -> Arc<Workspace> {
        let execution = ExecutionId::from_uuid(uuid::Uuid::nil());
        let grant = Grant {
            volume: VolumeId::of(execution, "w"),
            execution,
            mount_path: "/workspace".to_owned(),
            read_only: false,
            rules: PathRules::default(),
            size_limit: 1,
            uid: 1,
            mount: false,
        };
        Arc::new(Workspace::new(vec![Arc::new(Busy(grant))]))
    }

    #[tokio::test]
    async fn what_the_journal_did_not_take_is_recorded_later() {
        let journal = Arc::new(TestJournal::default());
        let recorder = FileRecorder::start(workspace(), notes(&journal, 1));
        journal.refusals.store(2, Ordering::Relaxed);
        assert!(recorder.record().await.is_err());
        assert!(recorder.record().await.is_err(), "nothing more is taken while something waits");
        recorder.record().await.unwrap();
        let reads: Vec<u64> = journal
            .bodies()
            .iter()
            .map(|body| match body {
                Body::VolumeRecorded { reads, .. } => *reads,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(reads, [1, 1], "what was kept, then what was new");
    }

    #[tokio::test]
    async fn the_last_records_wait_for_a_busy_journal() {
        let journal = Arc::new(TestJournal::default());
        let recorder = FileRecorder::start(workspace(), notes(&journal, 1));
        journal.refusals.store(3, Ordering::Relaxed);
        recorder.finish().await.unwrap();
        assert!(!journal.bodies().is_empty());
    }

    #[tokio::test]
    async fn records_belong_to_the_iteration_that_runs() {
        let journal = Arc::new(TestJournal::default());
        let recorder = FileRecorder::start(workspace(), notes(&journal, 1));
        recorder.record().await.unwrap();
        recorder.move_to(notes(&journal, 2));
        recorder.record().await.unwrap();
        let spans: Vec<SpanId> = journal.events().iter().map(|event| event.span.span_id).collect();
        assert_eq!(spans, [SpanId::from_bytes([1; 8]), SpanId::from_bytes([2; 8])]);
    }
}
