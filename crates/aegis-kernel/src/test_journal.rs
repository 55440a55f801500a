//! A journal for tests: it keeps what it takes, and refuses when told to.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aegis_core::*;
use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::port::*;
use crate::record::Scribe;

/// What was appended, in order.
#[derive(Debug, Default)]
pub(crate) struct TestJournal {
    /// How many appends from now on are refused as overload.
    pub(crate) refusals: AtomicU32,
    /// How many appends after those find that somebody else came first.
    pub(crate) conflicts: AtomicU32,
    /// What others have appended to the stream that is asked for.
    pub(crate) others: Mutex<Vec<Event>>,
    taken: AtomicU64,
    kept: Mutex<Vec<NewEvent>>,
    blobs: Mutex<Vec<NewBlob>>,
}

impl TestJournal {
    /// A journal that holds so many events already.
    pub(crate) fn starting_at(events: u64) -> Self {
        Self { taken: AtomicU64::new(events), ..Self::default() }
    }
    /// How many events it holds.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
    /// The events it took.
    pub(crate) fn events(&self) -> Vec<NewEvent> {
        self.kept.lock().unwrap().clone()
    }
    /// Their bodies.
    pub(crate) fn bodies(&self) -> Vec<Body> {
        self.events().into_iter().map(|event| event.body).collect()
    }
    /// The text of a blob it took.
    pub(crate) fn text(&self, blob: &BlobRef) -> String {
        let blobs = self.blobs.lock().unwrap();
        let found = blobs.iter().find(|kept| kept.id == blob.id).expect("a blob that was appended");
        String::from_utf8(found.bytes.to_vec()).expect("text")
    }
}

/// Writes to the journal with the machine's time and ids that only differ.
pub(crate) fn scribe(journal: &Arc<TestJournal>) -> Scribe {
    let machine = Arc::new(Machine(Instant::now(), AtomicU64::new(1)));
    Scribe {
        journal: journal.clone(),
        clock: machine.clone(),
        ids: machine,
        redaction: crate::redaction::Redaction::none(),
    }
}

fn nothing<T>() -> Result<T, JournalError> {
    Err(JournalError::Store("this journal keeps nothing".to_owned()))
}

#[async_trait]
impl Journal for TestJournal {
    async fn append(&self, append: Append) -> Result<Appended, JournalError> {
        let one_less = |left: u32| left.checked_sub(1);
        if self.refusals.try_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            return Err(JournalError::Overloaded);
        }
        if self.conflicts.try_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            let expected = append.expected.unwrap_or_default();
            let stream = append.stream.to_string();
            return Err(JournalError::Conflict { stream, expected, actual: expected + 1 });
        }
        let count = append.events.len() as u64;
        let before = self.taken.fetch_add(count, Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap();
        kept.extend(append.events);
        self.blobs.lock().unwrap().extend(append.blobs);
        Ok(Appended { seq: before + count, stream_seq: append.expected.unwrap_or_default() + count })
    }
    /// What a ledger appended itself it has seen.
    async fn events(&self, wanted: &EventQuery) -> Result<Vec<Event>, JournalError> {
        let past = wanted.past.unwrap_or_default();
        Ok(self.others.lock().unwrap().iter().filter(|event| event.stream_seq > past).cloned().collect())
    }
    async fn blob(&self, _: StreamId, _: &BlobRef) -> Result<Bytes, JournalError> {
        nothing()
    }
    async fn ended_with_working_copies(
        &self,
        _: Timestamp,
        _: usize,
    ) -> Result<Vec<ExecutionRecord>, JournalError> {
        nothing()
    }
    async fn destroy_working_copies(&self, _: StreamId) -> Result<(), JournalError> {
        nothing()
    }
    async fn head(&self) -> Result<Head, JournalError> {
        nothing()
    }
    fn committed(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }
    async fn agents(&self, _: &Tenant, _: Option<&str>, _: usize) -> Result<AgentPage, JournalError> {
        nothing()
    }
    async fn agent(&self, _: AgentId) -> Result<Option<AgentRecord>, JournalError> {
        nothing()
    }
    async fn agent_versions(&self, _: AgentId) -> Result<Vec<AgentVersion>, JournalError> {
        nothing()
    }
    async fn executions(&self, _: &ExecutionQuery) -> Result<ExecutionPage, JournalError> {
        nothing()
    }
    async fn execution(&self, _: ExecutionId) -> Result<Option<ExecutionRecord>, JournalError> {
        nothing()
    }
    async fn iterations(&self, _: ExecutionId) -> Result<Vec<IterationRecord>, JournalError> {
        nothing()
    }
    async fn volumes(&self, _: &Tenant, _: bool, _: usize) -> Result<Vec<VolumeRecord>, JournalError> {
        nothing()
    }
    async fn volume(&self, _: VolumeId) -> Result<Option<VolumeRecord>, JournalError> {
        nothing()
    }
    async fn expired_volumes(&self, _: Timestamp, _: usize) -> Result<Vec<VolumeRecord>, JournalError> {
        nothing()
    }
    async fn cost_since(&self, _: &Tenant, _: Timestamp) -> Result<MicroUsd, JournalError> {
        nothing()
    }
    async fn idempotent(
        &self,
        _: &Tenant,
        _: &str,
        _: Sha256,
        _: &str,
        _: Timestamp,
    ) -> Result<Option<(Sha256, String)>, JournalError> {
        nothing()
    }
}

/// Time from the machine; ids that only differ.
struct Machine(Instant, AtomicU64);

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_999_999)
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Ids for Machine {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(self.1.fetch_add(1, Ordering::Relaxed).into())
    }
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.1.fetch_add(1, Ordering::Relaxed).to_le_bytes()[0]);
    }
}
