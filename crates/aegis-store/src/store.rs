//! The store: the `journal` port over one writer and a pool of readers.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use aegis_core::{
    Actor, AgentId, BlobRef, Body, Durability, Event, EventId, ExecutionId, MicroUsd, NewEvent, Sha256,
    SpanContext, SpanId, StreamId, Tenant, Timestamp, TraceId, VolumeId,
};
use aegis_kernel::port::{
    AgentPage, AgentRecord, AgentVersion, Append, Appended, EventQuery, ExecutionPage, ExecutionQuery,
    ExecutionRecord, Head, Ids, IterationRecord, Journal, JournalError, VolumeRecord,
};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sqlx::sqlite::SqlitePool;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::OpenError;
use crate::folder::Folder;
use crate::keys::KeyRing;
use crate::open::{self, LOG_STREAM, OpenOptions, Opening};
use crate::query;
use crate::writer::{Announced, Answer, Command, Idempotent, QUEUE_MAX, State, Writer, store_error};

/// The journal of one data folder. Closed by [`Store::close`]; the folder stays locked until then or until it is
/// dropped and its last batch is written.
pub struct Store {
    queue: mpsc::Sender<Command>,
    pub(crate) readers: SqlitePool,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) folder: Folder,
    pub(crate) public_key: [u8; 32],
    origin: String,
    committed: watch::Receiver<u64>,
    head: watch::Receiver<Head>,
}

impl Store {
    /// Opens a data folder, or makes one.
    ///
    /// # Errors
    /// See [`OpenError`]; a folder in use by another daemon and a journal that is behind its signed heads are refused.
    pub async fn open(options: OpenOptions) -> Result<Self, OpenError> {
        let folder = Folder::prepare(&options.folder)?;
        let lock = folder.lock()?;
        let opened = open::open(&options, &folder).await?;
        let keys = Arc::new(opened.keys);
        let frontier = opened.head.frontier;
        let (committed_tx, committed) = watch::channel(frontier.size());
        let (head_tx, head) = watch::channel(Head { size: frontier.size(), root: frontier.root() });
        let (queue, commands) = mpsc::channel(QUEUE_MAX);
        let public_key = opened.signer.public_key();
        let writer = Writer {
            connection: opened.connection,
            folder: folder.clone(),
            clock: Arc::clone(&options.clock),
            ids: Arc::clone(&options.ids),
            keys: Arc::clone(&keys),
            signer: opened.signer,
            origin: opened.head.origin.clone(),
            always_power: options.always_power,
            disk_floor_bytes: options.disk_floor_bytes,
            on_fatal: Arc::clone(&options.on_fatal),
            frontier,
            tiles: opened.tiles,
            file: opened.file,
            announced: Announced { committed: committed_tx, head: head_tx },
            state: State::fresh(),
        };
        tokio::spawn(run(writer, commands, lock));
        let origin = opened.head.origin;
        let store =
            Self { queue, readers: opened.readers, keys, folder, public_key, origin, committed, head };
        if let Some(opening) = opened.opening {
            let append = store.opening_event(&options, opened.head.epoch, &opening);
            store.append(append).await.map_err(|error| OpenError::Damaged(error.to_string()))?;
        }
        Ok(store)
    }

    fn opening_event(&self, options: &OpenOptions, epoch: u32, opening: &Opening) -> Append {
        let mut trace = [0u8; 16];
        let mut span = [0u8; 8];
        options.ids.fill(&mut trace);
        options.ids.fill(&mut span);
        let event = NewEvent {
            id: EventId::from_uuid(options.ids.uuid()),
            at: options.clock.now(),
            span: SpanContext {
                trace_id: TraceId::from_bytes(trace),
                span_id: SpanId::from_bytes(span),
                parent_span_id: None,
            },
            actor: Actor::daemon(),
            body: Body::LogOpened {
                origin: self.origin.clone(),
                public_key: STANDARD.encode(self.public_key),
                epoch,
                former_root: opening.former_root,
            },
        };
        Append {
            tenant: Tenant::default_tenant(),
            stream: LOG_STREAM,
            expected: None,
            events: vec![event],
            blobs: Vec::new(),
            durability: Durability::Power,
        }
    }

    /// The log's origin line: the name its heads are signed under.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The raw Ed25519 key that verifies the log's heads.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// The data folder's path of the journal database, for messages.
    pub fn journal_path(&self) -> impl AsRef<Path> + use<> {
        self.folder.journal()
    }

    /// Signs the head now, if it is not yet; answers with the newest signed note (C2SP tlog-checkpoint).
    ///
    /// # Errors
    /// If the journal has stopped.
    pub async fn checkpoint(&self) -> Result<Option<String>, JournalError> {
        self.ask(|answer| Command::Checkpoint { answer }).await
    }

    /// Makes all projections anew from the leaves; appends wait meanwhile.
    ///
    /// # Errors
    /// If a leaf cannot be read.
    pub async fn rebuild(&self) -> Result<(), JournalError> {
        self.ask(|answer| Command::Rebuild { answer }).await
    }

    /// Moves the leaves of events below `before` into one file in `archive/`; answers with its name, or `None` if there
    /// was nothing to move.
    ///
    /// # Errors
    /// If a leaf or the file cannot be read or written.
    pub async fn archive(&self, before: u64) -> Result<Option<String>, JournalError> {
        self.ask(|answer| Command::Archive { before, answer }).await
    }

    /// Syncs, signs the head and lets the folder go. Whoever still holds the store is then told that it has stopped.
    ///
    /// # Errors
    /// If the journal has stopped before.
    pub async fn close(&self) -> Result<(), JournalError> {
        let closed = self.ask(|answer| Command::Close { answer }).await;
        self.queue.closed().await;
        self.readers.close().await;
        self.keys.close().await;
        closed
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, JournalError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(command(answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => JournalError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        answered.await.map_err(|_| stopped())?
    }
}

fn stopped() -> JournalError {
    JournalError::Store("the journal has stopped".to_owned())
}

/// The writer's life; the folder is free only when it has ended.
async fn run(writer: Writer, mut commands: mpsc::Receiver<Command>, lock: File) {
    writer.run(&mut commands).await;
    drop(lock);
    drop(commands);
}

impl Store {
    /// The key by which equal personal data is told to be equal in the evidence; made at the first start, in no backup.
    ///
    /// # Errors
    /// If its file cannot be read or written.
    pub fn linkage_key(&self, ids: &dyn Ids) -> Result<zeroize::Zeroizing<[u8; 32]>, OpenError> {
        crate::folder::key_file(&self.folder.linkage_key(), |bytes| ids.fill(bytes))
    }
}

#[async_trait]
impl Journal for Store {
    async fn append(&self, append: Append) -> Result<Appended, JournalError> {
        self.ask(|answer| Command::Append { append, answer }).await
    }
    async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, JournalError> {
        query::events(&self.readers, &self.folder, query).await
    }
    async fn blob(&self, stream: StreamId, blob: &BlobRef) -> Result<Bytes, JournalError> {
        crate::blobs::read(&self.readers, &self.keys, stream, blob).await
    }
    async fn destroy_working_copies(&self, stream: StreamId) -> Result<(), JournalError> {
        self.ask(|answer| Command::DestroyWorking { stream, answer }).await
    }
    async fn ended_with_working_copies(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ExecutionRecord>, JournalError> {
        query::ended_with_working_copies(&self.readers, before, limit).await.map_err(store_error)
    }
    async fn head(&self) -> Result<Head, JournalError> {
        Ok(self.head.borrow().clone())
    }
    fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }
    async fn agents(
        &self,
        tenant: &Tenant,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<AgentPage, JournalError> {
        query::agents(&self.readers, tenant, cursor, limit).await.map_err(store_error)
    }
    async fn agent(&self, id: AgentId) -> Result<Option<AgentRecord>, JournalError> {
        query::agent(&self.readers, id).await.map_err(store_error)
    }
    async fn agent_versions(&self, id: AgentId) -> Result<Vec<AgentVersion>, JournalError> {
        query::agent_versions(&self.readers, id).await.map_err(store_error)
    }
    async fn executions(&self, query: &ExecutionQuery) -> Result<ExecutionPage, JournalError> {
        query::executions(&self.readers, query).await.map_err(store_error)
    }
    async fn execution(&self, id: ExecutionId) -> Result<Option<ExecutionRecord>, JournalError> {
        query::execution(&self.readers, id).await.map_err(store_error)
    }
    async fn iterations(&self, id: ExecutionId) -> Result<Vec<IterationRecord>, JournalError> {
        query::iterations(&self.readers, id).await.map_err(store_error)
    }
    async fn volumes(
        &self,
        tenant: &Tenant,
        removed: bool,
        limit: usize,
    ) -> Result<Vec<VolumeRecord>, JournalError> {
        query::volumes(&self.readers, tenant, removed, limit).await.map_err(store_error)
    }
    async fn volume(&self, id: VolumeId) -> Result<Option<VolumeRecord>, JournalError> {
        query::volume(&self.readers, id).await.map_err(store_error)
    }
    async fn expired_volumes(&self, now: Timestamp, limit: usize) -> Result<Vec<VolumeRecord>, JournalError> {
        query::expired_volumes(&self.readers, now, limit).await.map_err(store_error)
    }
    async fn cost_since(&self, tenant: &Tenant, since: Timestamp) -> Result<MicroUsd, JournalError> {
        query::cost_since(&self.readers, tenant, since).await.map_err(store_error)
    }
    async fn idempotent(
        &self,
        tenant: &Tenant,
        key: &str,
        request: Sha256,
        answer: &str,
        now: Timestamp,
    ) -> Result<Option<(Sha256, String)>, JournalError> {
        let entry = Idempotent {
            tenant: tenant.clone(),
            key: key.to_owned(),
            request,
            answer: answer.to_owned(),
            now,
        };
        self.ask(|answer| Command::Idempotent { entry, answer }).await
    }
}
