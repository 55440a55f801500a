//! The one writer: drains its queue into batches, one transaction each.
//!
//! A lone append is committed at once; while a commit is under way others queue up and share the next one.

mod batch;
mod head;
mod script;
mod settle;
mod stage;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aegis_core::{Sha256, StreamId, Tenant, Timestamp};
use aegis_kernel::port::{Append, Appended, Clock, Head, Ids, JournalError};
use aegis_security::merkle::Frontier;
use aegis_security::signature::SigningKey;
use sqlx::SqliteConnection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::checkpoint_file::CheckpointFile;
use crate::folder::Folder;
use crate::keys::KeyRing;
use crate::projection::Projections;
use crate::tree::TileBuffer;

pub(crate) use head::StoredHead;

/// Commands that may wait.
pub(crate) const QUEUE_MAX: usize = 1024;
/// Commands that share one transaction at most.
const BATCH_COMMANDS_MAX: usize = 256;
/// Blob bytes after which a batch is closed.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Process-durable events are synced within this time.
const MARKER_DELAY: Duration = Duration::from_millis(40);
/// Commits are under a signed head after this time.
const CHECKPOINT_DELAY: Duration = Duration::from_millis(500);
/// Numbers of the two copies in columns named `copy`.
pub(crate) const EVIDENCE: i64 = 0;
/// See [`EVIDENCE`].
pub(crate) const WORKING: i64 = 1;
/// Streams whose position is kept in memory.
const POSITIONS_MAX: usize = 16_384;
/// Records of each projection kept in memory.
const RECORDS_MAX: usize = 4096;

pub(crate) type Answer<T> = oneshot::Sender<Result<T, JournalError>>;

/// What the writer can be asked.
pub(crate) enum Command {
    Append { append: Append, answer: Answer<Appended> },
    Idempotent { entry: Idempotent, answer: Answer<Option<(Sha256, String)>> },
    DestroyWorking { stream: StreamId, answer: Answer<()> },
    Checkpoint { answer: Answer<Option<String>> },
    Rebuild { answer: Answer<()> },
    Archive { before: u64, answer: Answer<Option<String>> },
    Close { answer: Answer<()> },
}

pub(crate) struct Idempotent {
    pub(crate) tenant: Tenant,
    pub(crate) key: String,
    pub(crate) request: Sha256,
    pub(crate) answer: String,
    pub(crate) now: Timestamp,
}

/// What the writer tells everybody.
pub(crate) struct Announced {
    /// Highest committed `seq` plus one.
    pub(crate) committed: watch::Sender<u64>,
    /// The last synced head.
    pub(crate) head: watch::Sender<Head>,
}

pub(crate) type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

pub(crate) struct Writer {
    pub(crate) connection: SqliteConnection,
    pub(crate) folder: Folder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) signer: SigningKey,
    pub(crate) origin: String,
    pub(crate) always_power: bool,
    pub(crate) disk_floor_bytes: u64,
    pub(crate) on_fatal: OnFatal,
    pub(crate) frontier: Frontier,
    pub(crate) tiles: TileBuffer,
    pub(crate) file: CheckpointFile,
    pub(crate) announced: Announced,
    pub(crate) state: State,
}

/// What the writer keeps between batches; all of it can be read again from the database.
#[derive(Default)]
pub(crate) struct State {
    positions: HashMap<StreamId, u64>,
    projections: Projections,
    stream_keys: HashMap<(StreamId, i64), i64>,
    /// The next data key nobody has; 0 before it was looked up.
    next_key: i64,
    /// The last data key in stock.
    last_key: i64,
    /// When a marker must follow; `None` if all is synced.
    marker_due: Option<Instant>,
    /// When a head must be signed; `None` if the newest is.
    checkpoint_due: Option<Instant>,
    /// The newest signed head.
    note: Option<String>,
    disk_checked: Option<Instant>,
    disk_low: bool,
    /// Whether the ballast was given back and is to be set aside again.
    ballast_gone: bool,
}

/// The writer cannot go on.
struct Stop;

impl Writer {
    /// Serves until asked to close, until nobody can ask any more, or until a sync fails.
    pub(crate) async fn run(mut self, queue: &mut mpsc::Receiver<Command>) {
        // A head that was committed but not signed when the last daemon died is signed soon.
        self.state.checkpoint_due = Some(Instant::now());
        loop {
            let first = match self.next_due() {
                Some(due) => match tokio::time::timeout_at(due, queue.recv()).await {
                    Ok(first) => first,
                    Err(_elapsed) => {
                        if self.settle_due().await.is_err() {
                            return;
                        }
                        continue;
                    }
                },
                None => queue.recv().await,
            };
            let Some(first) = first else { break };
            if self.serve(first, queue).await.is_err() {
                return;
            }
            // Under steady load the timeout above never fires.
            if self.settle_due().await.is_err() {
                return;
            }
        }
        let _ = self.settle().await;
    }

    fn next_due(&self) -> Option<Instant> {
        match (self.state.marker_due, self.state.checkpoint_due) {
            (Some(marker), Some(checkpoint)) => Some(marker.min(checkpoint)),
            (marker, checkpoint) => marker.or(checkpoint),
        }
    }

    async fn settle_due(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        if self.state.checkpoint_due.is_some_and(|due| due <= now) {
            self.settle().await
        } else if self.state.marker_due.is_some_and(|due| due <= now) {
            self.sync().await
        } else {
            Ok(())
        }
    }

    /// Serves one command, or a batch that begins with it.
    async fn serve(&mut self, first: Command, queue: &mut mpsc::Receiver<Command>) -> Result<(), Stop> {
        let mut batch = batch::Batch::default();
        let mut next = Some(first);
        while let Some(command) = next.take() {
            match batch.take(command) {
                Ok(()) => {
                    if !batch.is_full() {
                        next = queue.try_recv().ok();
                    }
                }
                Err(other) => {
                    self.commit(std::mem::take(&mut batch)).await?;
                    self.serve_alone(*other).await?;
                }
            }
        }
        self.commit(batch).await
    }

    async fn serve_alone(&mut self, command: Command) -> Result<(), Stop> {
        match command {
            Command::Checkpoint { answer } => {
                self.settle().await?;
                let _ = answer.send(Ok(self.state.note.clone()));
            }
            Command::DestroyWorking { stream, answer } => {
                let _ = answer.send(self.destroy_working(stream).await);
            }
            Command::Rebuild { answer } => {
                let _ = answer.send(self.rebuild().await);
            }
            Command::Archive { before, answer } => {
                let _ = answer.send(self.archive(before).await);
            }
            Command::Close { answer } => {
                let settled = self.settle().await;
                let _ = answer.send(Ok(()));
                settled?;
                return Err(Stop);
            }
            Command::Append { .. } | Command::Idempotent { .. } => {}
        }
        Ok(())
    }

    /// Ends the journal: what the disk holds is no longer known. The daemon exits and recovers on its next start.
    fn fail(&self, action: &str, error: &dyn std::fmt::Display) -> Stop {
        let message = format!("the journal could not {action}: {error}");
        tracing::error!("{message}");
        (self.on_fatal)(&message);
        Stop
    }
}

/// A database error as the port tells it.
pub(crate) fn store_error(error: impl std::fmt::Display) -> JournalError {
    JournalError::Store(error.to_string())
}
