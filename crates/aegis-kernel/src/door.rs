//! The door for programs that sign their calls (SMCP): which executions can be spoken for now, by whom, and how far a
//! call that passed the protocol's checks goes.
//!
//! What is asked for goes through the same monitor as the inner loop's, with the execution's authority, and onto its
//! stream, by a ledger of its own.

pub(crate) mod calls;
mod listening;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use aegis_core::{ApiKeyId, Denial, DenialCode, Diagnosis, ExecutionId, Name, Tenant, Timestamp};
use aegis_security::constraint::RateLimit;
use aegis_security::rate::Admission;
use aegis_security::signature::SigningKey;
use aegis_security::smcp::{KeyRing, SmcpError, TokenError, VerifyingKey};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::port::{DoorConnection, ServerTools, ToolFacts, WayOut, Workspace};
use crate::record::Scribe;
use crate::workers::Workers;

/// Calls of one execution that are performed at the same time; further ones wait.
pub(crate) const CALLS_MAX: usize = 8;
/// Calls of one execution that wait; further ones are refused.
pub(crate) const CALLS_WAITING_MAX: usize = 32;
/// Requests of one execution that programs sign themselves, of every kind: each is remembered until its token's time is
/// over. What the daemon signs for a caller leaves nothing to remember.
const REQUEST_RATE: RateLimit = RateLimit { calls: 1_000, per_seconds: 10 };
/// Executions that programs outside speak for at once: fewer than may run, so that others run too.
const OUTSIDE_MAX: usize = 64;
/// The same of one API key.
const OUTSIDE_BY_KEY_MAX: usize = 16;
/// How long calls under way are waited for when their door closes.
const CLOSE_PATIENCE: Duration = Duration::from_secs(8);

/// Who speaks, as the connection or the credential says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speaker {
    /// A program in a sandbox: its socket is the proof.
    Sandbox {
        /// The execution.
        execution: ExecutionId,
        /// Its generation.
        generation: u32,
    },
    /// A program outside, with an API key that may act as an agent.
    Key {
        /// The key's tenant.
        tenant: Tenant,
        /// The key.
        key: ApiKeyId,
        /// The agent it may act as.
        agent: Name,
    },
}

/// Serves connections that come through the doors of sandboxes.
pub trait Admits: Send + Sync {
    /// Takes the connection and returns at once; who speaks on it is what it says.
    fn admit(&self, connection: DoorConnection);
}

/// A refusal at the door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DoorRefusal {
    /// As the protocol has it.
    #[error(transparent)]
    Smcp(#[from] SmcpError),
    /// The node cannot, whoever asks.
    #[error("{}", .0.message)]
    Node(Diagnosis),
}

impl From<Diagnosis> for DoorRefusal {
    fn from(diagnosis: Diagnosis) -> Self {
        Self::Node(diagnosis)
    }
}

/// The workload that tokens name.
pub(crate) fn workload(execution: ExecutionId, generation: u32) -> String {
    format!("{execution}/{generation}")
}

/// The keys of security tokens, which may be exchanged while the node runs.
#[derive(Debug)]
pub struct TokenKeys(RwLock<KeyRing>);

impl TokenKeys {
    /// Over a ring.
    pub fn new(ring: KeyRing) -> Self {
        Self(RwLock::new(ring))
    }
    /// Looks at the ring.
    pub fn with<T>(&self, look: impl FnOnce(&KeyRing) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
    /// Signs with `next` from now on; `keep` stores it, and what it is told of the former key, before.
    ///
    /// # Errors
    /// If the ring does not take the key or `keep` fails; then nothing changed.
    pub fn rotate<E: From<TokenError>>(
        &self,
        (next, seed): (SigningKey, &[u8; 32]),
        now: Timestamp,
        keep: impl FnOnce(&[u8; 32], &VerifyingKey) -> Result<(), E>,
    ) -> Result<String, E> {
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut rotated = ring.clone();
        let former = rotated.rotate(next, now)?;
        keep(seed, &former)?;
        *ring = rotated;
        Ok(ring.key_id().to_owned())
    }
}

/// What an execution's driver says when it opens its door.
pub(crate) struct Opening {
    pub(crate) execution: ExecutionId,
    /// The sandbox generation; 0 outside one.
    pub(crate) generation: u32,
    pub(crate) agent: Name,
    pub(crate) scope: String,
    /// When its time is over: the generation's, or the execution's outside a sandbox.
    pub(crate) until: Timestamp,
    pub(crate) key: Option<ApiKeyId>,
    pub(crate) workers: Workers,
    pub(crate) tools: Vec<Arc<ToolFacts>>,
    pub(crate) served: Option<Arc<dyn ServerTools>>,
    pub(crate) workspace: Arc<Workspace>,
    pub(crate) way_out: Option<Arc<dyn WayOut>>,
    pub(crate) scribe: Scribe,
}

/// An execution that programs may speak for now.
pub(crate) struct Live {
    opening: Opening,
    /// Calls under way, and those that wait.
    queue: Arc<Semaphore>,
    places: Semaphore,
    asked: Mutex<Admission>,
    closed: CancellationToken,
    finished: CancellationToken,
    calls: TaskTracker,
}

impl std::ops::Deref for Live {
    type Target = Opening;

    fn deref(&self) -> &Opening {
        &self.opening
    }
}

type Known = Arc<Mutex<HashMap<ExecutionId, Arc<Live>>>>;

/// The open doors of the node.
#[derive(Default)]
pub(crate) struct Doors {
    known: Known,
    /// Runs of programs outside that were asked for and whose doors are not open yet.
    coming: Mutex<HashMap<ExecutionId, Option<ApiKeyId>>>,
    /// Runs of callers that the daemon signs for, each with its caller's API key. They end with this daemon.
    expected: Mutex<HashMap<ExecutionId, Option<ApiKeyId>>>,
    /// Keys that were revoked; none comes back.
    ended: Mutex<HashSet<ApiKeyId>>,
    admits: OnceLock<Arc<dyn Admits>>,
}

impl Doors {
    pub(crate) fn attend(&self, admits: Arc<dyn Admits>) {
        let _ = self.admits.set(admits);
    }

    pub(crate) fn admits(&self) -> Option<Arc<dyn Admits>> {
        self.admits.get().map(Arc::clone)
    }

    /// Lets programs speak for an execution until the answer is closed or dropped.
    pub(crate) fn open(&self, opening: Opening) -> OpenDoor {
        let execution = opening.execution;
        let live = Arc::new(Live {
            opening,
            queue: Arc::new(Semaphore::new(CALLS_MAX + CALLS_WAITING_MAX)),
            places: Semaphore::new(CALLS_MAX),
            asked: Mutex::new(Admission::new(Some(REQUEST_RATE), None)),
            closed: CancellationToken::new(),
            finished: CancellationToken::new(),
            calls: TaskTracker::new(),
        });
        lock(&self.known).insert(execution, Arc::clone(&live));
        if live.key.is_some_and(|key| self.is_ended(key)) {
            // Its key was revoked while it began.
            live.closed.cancel();
            live.finished.cancel();
        }
        OpenDoor { known: Arc::clone(&self.known), live, accepting: None }
    }

    /// The execution, if this generation of it may speak now.
    pub(crate) fn live(&self, execution: ExecutionId, generation: u32) -> Option<Arc<Live>> {
        let known = lock(&self.known);
        known.get(&execution).filter(|live| live.generation == generation).map(Arc::clone)
    }

    fn is_ended(&self, key: ApiKeyId) -> bool {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    /// Takes nothing more for an API key, and gives the executions that it speaks for. What begins meanwhile opens no
    /// door.
    pub(crate) fn end_key(&self, key: ApiKeyId) -> Vec<ExecutionId> {
        // Before the open doors are looked at: one that opens later finds it.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        let known = lock(&self.known);
        known.values().filter(|live| live.key == Some(key)).map(|live| live.execution).collect()
    }

    /// Says that the daemon signs for a caller in this run, before it begins.
    pub(crate) fn expect(&self, execution: ExecutionId, key: Option<ApiKeyId>) {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).insert(execution, key);
    }

    /// Whether the daemon signs for a caller in this run, and the caller's API key. Asked once, by its driver.
    pub(crate) fn is_expected(&self, execution: ExecutionId) -> Option<Option<ApiKeyId>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).remove(&execution)
    }

    /// Keeps a place for a run of a program outside until its door is open; `None` if there are too many, or
    /// the key was revoked.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        execution: ExecutionId,
        key: Option<ApiKeyId>,
    ) -> Option<Reserved> {
        if key.is_some_and(|key| self.is_ended(key)) {
            return None;
        }
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outside = coming.clone();
        let known = lock(&self.known);
        let open = known.values().filter(|live| live.generation == 0);
        outside.extend(open.map(|live| (live.execution, live.key)));
        let by_key = outside.values().filter(|other| key.is_some() && **other == key).count();
        if outside.len() >= OUTSIDE_MAX || by_key >= OUTSIDE_BY_KEY_MAX {
            return None;
        }
        coming.insert(execution, key);
        Some(Reserved { doors: Arc::clone(self), execution })
    }
}

/// A place for a run of a program outside. Given up once its door is open, or will never be.
pub(crate) struct Reserved {
    doors: Arc<Doors>,
    execution: ExecutionId,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.doors.coming.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.execution);
    }
}

/// A door that is open; dropped, it is shut.
pub(crate) struct OpenDoor {
    known: Known,
    live: Arc<Live>,
    accepting: Option<AbortHandle>,
}

impl OpenDoor {
    /// Waits until whoever speaks says that nothing more comes.
    pub(crate) async fn finished(&self) {
        self.live.finished.cancelled().await;
    }

    /// The task that takes connections; it ends with the door.
    pub(crate) fn accepts(&mut self, task: AbortHandle) {
        self.accepting = Some(task);
    }

    /// Takes no more calls and waits for those under way.
    pub(crate) async fn close(self) {
        let live = Arc::clone(&self.live);
        drop(self);
        live.calls.close();
        if tokio::time::timeout(CLOSE_PATIENCE, live.calls.wait()).await.is_err() {
            tracing::warn!(execution = %live.execution, "a signed call is still under way; its outcome stays unknown");
        }
    }
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        if let Some(task) = &self.accepting {
            task.abort();
        }
        self.live.closed.cancel();
        let mut known = lock(&self.known);
        if known.get(&self.live.execution).is_some_and(|live| Arc::ptr_eq(live, &self.live)) {
            known.remove(&self.live.execution);
        }
    }
}

fn lock(known: &Known) -> std::sync::MutexGuard<'_, HashMap<ExecutionId, Arc<Live>>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is answered once nothing is taken any more.
pub(crate) fn over() -> Denial {
    Denial {
        code: DenialCode::ExecutionNotActive,
        rule: "node:execution".to_owned(),
        message: "the execution is over or being cancelled".to_owned(),
        remedy: "start a new execution".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn execution(number: usize) -> ExecutionId {
        ExecutionId::from_uuid(Uuid::from_u128(number as u128 + 1))
    }

    #[test]
    fn a_key_that_cannot_be_kept_signs_nothing() {
        let key = |seed: u8| SigningKey::from_seed(&[seed; 32]);
        let keys = TokenKeys::new(KeyRing::new("node", key(1), []).unwrap());
        let before = keys.with(|ring| ring.key_id().to_owned());
        let rotate = |kept: Result<(), TokenError>| {
            keys.rotate((key(2), &[2; 32]), Timestamp::from_micros(0), |_, _| kept)
        };
        assert!(rotate(Err(TokenError::TooManyKeys)).is_err());
        assert_eq!(keys.with(|ring| ring.key_id().to_owned()), before);
        let after = rotate(Ok(())).unwrap();
        assert_ne!(after, before);
    }

    #[test]
    fn places_for_programs_outside_are_counted_before_their_doors_open() {
        let doors = Arc::new(Doors::default());
        let key = |number: u128| Some(ApiKeyId::from_uuid(Uuid::from_u128(number)));
        let mut kept: Vec<_> =
            (0..OUTSIDE_BY_KEY_MAX).map(|number| doors.reserve(execution(number), key(1)).unwrap()).collect();
        assert!(doors.reserve(execution(100), key(1)).is_none(), "one key has only so many");
        kept.pop();
        kept.push(doors.reserve(execution(100), key(1)).unwrap());
        // Whoever has the node's token counts among all, not by key.
        let rest = OUTSIDE_MAX - kept.len();
        kept.extend((0..rest).map(|number| doors.reserve(execution(200 + number), None).unwrap()));
        assert!(
            doors.reserve(execution(300), None).is_none() && doors.reserve(execution(300), key(2)).is_none()
        );
        kept.clear();
        assert!(doors.reserve(execution(300), key(1)).is_some());
        assert!(doors.end_key(key(1).unwrap()).is_empty());
        assert!(doors.reserve(execution(301), key(1)).is_none(), "a revoked key opens nothing more");
        assert!(doors.reserve(execution(302), key(2)).is_some());
    }
}
