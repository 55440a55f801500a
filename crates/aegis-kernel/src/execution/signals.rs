//! Why running work stops before its time.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a graceful cancel, or a daemon that is stopping, waits for the action under way.
const GRACE: Duration = Duration::from_secs(10);

/// What others may ask of a running execution.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    /// Stop after the action under way.
    pub(crate) cancel: CancellationToken,
    /// Stop at once.
    pub(crate) kill: CancellationToken,
    /// The daemon is stopping: stop after the action under way, record nothing final, resume at the next start.
    pub(crate) park: CancellationToken,
}

/// Why something stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The iteration's time is over.
    IterationTimeout,
    /// The execution's time is over.
    ExecutionTimeout,
    /// Somebody asked for it.
    Cancel,
    /// The daemon is stopping.
    Park,
}

/// Tells when, and why, the work under way has to stop.
#[derive(Debug, Clone)]
pub(crate) struct Stopper {
    signals: Signals,
    iteration_deadline: Option<Instant>,
    total_deadline: Option<Instant>,
}

impl Stopper {
    pub(crate) fn new(signals: Signals) -> Self {
        Self { signals, iteration_deadline: None, total_deadline: None }
    }

    /// Sets when the iteration's time is over.
    pub(crate) fn set_iteration_deadline(&mut self, deadline: Option<Instant>) {
        self.iteration_deadline = deadline;
    }

    /// Sets when the execution's time is over.
    pub(crate) fn set_total_deadline(&mut self, deadline: Instant) {
        self.total_deadline = Some(deadline);
    }

    /// Why the driver should not begin anything new, if it should not.
    pub(crate) fn pending(&self) -> Option<StopReason> {
        let now = Instant::now();
        let over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if self.signals.kill.is_cancelled() || self.signals.cancel.is_cancelled() {
            Some(StopReason::Cancel)
        } else if self.signals.park.is_cancelled() {
            Some(StopReason::Park)
        } else if over(self.total_deadline) {
            Some(StopReason::ExecutionTimeout)
        } else if over(self.iteration_deadline) {
            Some(StopReason::IterationTimeout)
        } else {
            None
        }
    }

    /// Returns when an action under way has to be given up, and why. Never returns if nothing stops it.
    pub(crate) async fn stopped(&self) -> StopReason {
        tokio::select! {
            () = self.signals.kill.cancelled() => StopReason::Cancel,
            () = after_grace(&self.signals.cancel) => StopReason::Cancel,
            () = after_grace(&self.signals.park) => StopReason::Park,
            () = until(self.total_deadline) => StopReason::ExecutionTimeout,
            () = until(self.iteration_deadline) => StopReason::IterationTimeout,
        }
    }

    /// Returns when waiting, with no action under way, has to end: cancel and park count at once.
    pub(crate) async fn interrupted(&self) -> StopReason {
        tokio::select! {
            () = self.signals.kill.cancelled() => StopReason::Cancel,
            () = self.signals.cancel.cancelled() => StopReason::Cancel,
            () = self.signals.park.cancelled() => StopReason::Park,
            () = until(self.total_deadline) => StopReason::ExecutionTimeout,
            () = until(self.iteration_deadline) => StopReason::IterationTimeout,
        }
    }
}

async fn after_grace(token: &CancellationToken) {
    token.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
