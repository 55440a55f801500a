//! For those who act beside an execution's driver, at its doors: a ledger and an authority each, used again and again.

use std::sync::{Arc, Mutex, PoisonError};

use aegis_core::ExecutionId;

use crate::monitor::{Authority, Monitor};
use crate::port::ToolFacts;
use crate::record::{Ledger, RecordError, Scribe};

/// What acts for an execution beside its driver: its own view of the record, and of the rules.
pub(crate) type Worker = (Ledger, Authority);

/// The workers of one door. There are never more than actions under way at once.
pub(crate) struct Workers {
    execution: ExecutionId,
    authority: Authority,
    tools: Vec<Arc<ToolFacts>>,
    scribe: Scribe,
    idle: Mutex<Vec<Worker>>,
}

impl Workers {
    pub(crate) fn new(
        execution: ExecutionId,
        authority: Authority,
        tools: Vec<Arc<ToolFacts>>,
        scribe: Scribe,
    ) -> Self {
        Self { execution, authority, tools, scribe, idle: Mutex::default() }
    }

    /// One of them; `None` if the rules that hold have no place for the execution. What was recorded since its last
    /// action it learns from the journal, which takes nothing from a ledger that is behind.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub(crate) async fn take(&self, monitor: &Monitor) -> Result<Option<Worker>, RecordError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(worker) = idle {
            return Ok(Some(worker));
        }
        let Ok(authority) = monitor.another(&self.authority, &self.tools) else { return Ok(None) };
        Ok(Some((Ledger::open(self.scribe.clone(), self.execution).await?, authority)))
    }

    /// Keeps one for the next action.
    pub(crate) fn give_back(&self, worker: Worker) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
    }
}
