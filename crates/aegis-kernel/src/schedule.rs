//! The scheduler: bounded, first come first served, and the place where running executions can be reached.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::ExecutionId;
use aegis_core::limits::{EXECUTIONS_PENDING_MAX, EXECUTIONS_RUNNING_MAX};
use aegis_core::{Diagnosis, ErrorCode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::execution::Signals;

/// An execution's place among those known; given up however its driver ends.
struct Held {
    scheduler: Scheduler,
    execution: ExecutionId,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.scheduler.lock().remove(&self.execution);
    }
}

/// Executions that wait or run on this node.
#[derive(Clone)]
pub(crate) struct Scheduler {
    slots: Arc<Semaphore>,
    known: Arc<Mutex<HashMap<ExecutionId, Signals>>>,
    tasks: TaskTracker,
    park: CancellationToken,
}

impl Scheduler {
    pub(crate) fn new() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(EXECUTIONS_RUNNING_MAX)),
            known: Arc::default(),
            tasks: TaskTracker::new(),
            park: CancellationToken::new(),
        }
    }

    /// Refuses, before anything is recorded, what would not fit the queue.
    pub(crate) fn admit(&self) -> Result<(), Diagnosis> {
        if self.park.is_cancelled() {
            return Err(
                Diagnosis::new(ErrorCode::Overloaded, "the daemon is stopping").hint("try again in a moment")
            );
        }
        if self.len() >= EXECUTIONS_PENDING_MAX {
            let message = format!("{EXECUTIONS_PENDING_MAX} executions wait or run already");
            return Err(Diagnosis::new(ErrorCode::Overloaded, message).hint("try again later"));
        }
        Ok(())
    }

    /// Runs `work` once a slot is free, in the order of calls.
    pub(crate) fn run<F, Fut>(&self, execution: ExecutionId, work: F)
    where
        F: FnOnce(Signals) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let signals = Signals { park: self.park.clone(), ..Signals::default() };
        match self.lock().entry(execution) {
            // One execution has one driver.
            Entry::Occupied(_) => return,
            Entry::Vacant(place) => place.insert(signals.clone()),
        };
        let scheduler = self.clone();
        let held = Held { scheduler: self.clone(), execution };
        self.tasks.spawn(async move {
            let _held = held;
            let slot = tokio::select! {
                slot = scheduler.slots.acquire() => slot.ok(),
                // A cancelled execution does not wait for a slot to be told so; a parked one stays pending.
                () = signals.cancel.cancelled() => None,
                () = signals.park.cancelled() => return,
            };
            work(signals).await;
            drop(slot);
        });
    }

    /// Passes a cancel on to an execution of this node. `false` if it is not here.
    pub(crate) fn cancel(&self, execution: ExecutionId, forced: bool) -> bool {
        let known = self.lock();
        let Some(signals) = known.get(&execution) else { return false };
        signals.cancel.cancel();
        if forced {
            signals.kill.cancel();
        }
        true
    }

    /// Whether an execution of this node was told to stop already, as urgently as asked.
    pub(crate) fn is_cancelled(&self, execution: ExecutionId, forced: bool) -> bool {
        let known = self.lock();
        known
            .get(&execution)
            .is_some_and(|signals| signals.cancel.is_cancelled() && (!forced || signals.kill.is_cancelled()))
    }

    /// Whether the execution waits or runs here.
    pub(crate) fn holds(&self, execution: ExecutionId) -> bool {
        self.lock().contains_key(&execution)
    }

    /// Executions that run, and that wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let running = EXECUTIONS_RUNNING_MAX - self.slots.available_permits();
        (running, self.len().saturating_sub(running))
    }

    /// Parks everything; returns when all have stopped or `grace` is over.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.park.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                "some executions did not reach a recorded point in time; they resume at the next start"
            );
        }
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ExecutionId, Signals>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use uuid::Uuid;

    use super::*;

    fn execution(number: usize) -> ExecutionId {
        ExecutionId::from_uuid(Uuid::from_u128(number as u128 + 1))
    }

    /// A scheduler whose every slot is taken by work that never ends.
    async fn full() -> Scheduler {
        let scheduler = Scheduler::new();
        for number in 0..EXECUTIONS_RUNNING_MAX {
            let (begun, beginning) = oneshot::channel();
            scheduler.run(execution(number), move |signals| async move {
                begun.send(()).unwrap();
                signals.kill.cancelled().await;
            });
            beginning.await.unwrap();
        }
        scheduler
    }

    #[tokio::test]
    async fn one_more_waits_for_a_slot() {
        let scheduler = full().await;
        let (begun, mut beginning) = oneshot::channel();
        scheduler.run(execution(EXECUTIONS_RUNNING_MAX), |_| async move { begun.send(()).unwrap() });
        tokio::task::yield_now().await;
        assert_eq!(scheduler.counts(), (EXECUTIONS_RUNNING_MAX, 1));
        assert!(beginning.try_recv().is_err());
        assert!(scheduler.cancel(execution(0), true));
        beginning.await.unwrap();
    }

    #[tokio::test]
    async fn a_cancelled_one_is_told_without_a_slot() {
        let scheduler = full().await;
        let waiting = execution(EXECUTIONS_RUNNING_MAX);
        let (told, telling) = oneshot::channel();
        scheduler.run(waiting, |signals| async move { told.send(signals.cancel.is_cancelled()).unwrap() });
        assert!(scheduler.cancel(waiting, false));
        assert!(telling.await.unwrap(), "it runs only to record the cancel");
        assert_eq!(scheduler.counts().0, EXECUTIONS_RUNNING_MAX);
        assert!(!scheduler.cancel(execution(EXECUTIONS_RUNNING_MAX + 1), false), "it is not here");
    }

    #[tokio::test]
    async fn nothing_is_taken_once_the_daemon_stops_and_what_waits_stays_pending() {
        let scheduler = full().await;
        let waiting = execution(EXECUTIONS_RUNNING_MAX);
        let (begun, beginning) = oneshot::channel();
        scheduler.run(waiting, |_| async move { begun.send(()).unwrap() });
        scheduler.stop(Duration::from_millis(1)).await;
        assert!(beginning.await.is_err(), "it never began");
        assert!(!scheduler.holds(waiting));
        assert!(scheduler.admit().is_err());
    }
}
