//! The loop: what is next, do it, record it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aegis_core::execution::{FailureReason, Input, Next, next};
use aegis_core::{BlobRef, Body, Durability, ExitStatus, Message, Role, StreamId};
use tokio::time::Instant;

use super::generation::Generation;
use super::workspace::Rooms;
use super::{Blueprint, Signals, StopReason, Stopper};
use crate::door::{Doors, OpenDoor};
use crate::egress::OpenOutlet;
use crate::kernel::Ports;
use crate::monitor::{Authority, Monitor};
use crate::port::ToolServers;
use crate::record::{Ledger, RecordError};
use crate::redaction::Redactions;
use crate::tools::Router;

/// What every driver of the node shares.
pub(crate) struct Services {
    pub(crate) ports: Ports,
    pub(crate) monitor: Monitor,
    pub(crate) router: Router,
    pub(crate) redactions: Redactions,
    /// Tool servers, if the node has any.
    pub(crate) servers: OnceLock<Arc<dyn ToolServers>>,
    pub(crate) bootstrap: Arc<str>,
    pub(crate) doors: Arc<Doors>,
}

/// Why a step did not come to its end.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The iteration failed; another may do better.
    Iteration(FailureReason, String),
    /// The execution failed.
    Execution(FailureReason, String),
    /// Something else has to happen first.
    Stopped(StopReason),
    /// The record cannot be written: the driver gives up, and a later start resumes.
    Record(RecordError),
}

impl From<RecordError> for Halt {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

impl From<crate::port::JournalError> for Halt {
    fn from(error: crate::port::JournalError) -> Self {
        Self::Record(error.into())
    }
}

/// One execution under way.
pub(crate) struct Driver {
    pub(crate) services: Arc<Services>,
    pub(crate) ledger: Ledger,
    pub(crate) blueprint: Blueprint,
    pub(crate) authority: Authority,
    pub(crate) stopper: Stopper,
    /// Whether this daemon has driven the execution before.
    pub(crate) same_daemon: bool,
    pub(crate) rooms: Option<Rooms>,
    pub(crate) generation: Option<Generation>,
    /// Where programs that sign their calls find the execution, while they may.
    pub(crate) door: Option<OpenDoor>,
    /// Where connections of its programs leave, while they may.
    pub(crate) outlet: Option<OpenOutlet>,
    /// The conversation after the prompt, as far as it was built from the record.
    pub(crate) conversation: Vec<Arc<Message>>,
    /// How many turns of the record the conversation holds.
    pub(crate) turns_held: usize,
    /// The rendered prompt of the current iteration, once it was read.
    pub(crate) prompt: Arc<Message>,
}

impl Driver {
    pub(crate) fn new(
        services: Arc<Services>,
        ledger: Ledger,
        blueprint: Blueprint,
        authority: Authority,
        (signals, same_daemon): (Signals, bool),
    ) -> Self {
        Self {
            services,
            ledger,
            blueprint,
            authority,
            stopper: Stopper::new(signals),
            same_daemon,
            rooms: None,
            generation: None,
            door: None,
            outlet: None,
            conversation: Vec::new(),
            turns_held: 0,
            prompt: Arc::new(Message::text(Role::User, "")),
        }
    }

    /// Drives the execution to its end, or until the daemon stops.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub(crate) async fn run(mut self) -> Result<(), RecordError> {
        let outcome = self.run_to_end().await;
        let ended = self.end_generation(true).await;
        // Whatever the record says, volumes do not stay mounted.
        let closed = match self.rooms.take() {
            Some(rooms) => rooms.close().await,
            None => Ok(()),
        };
        outcome.and(ended.map(drop)).and(closed)
    }

    async fn run_to_end(&mut self) -> Result<(), RecordError> {
        if let Err(halt) = self.recover().await
            && self.halted(halt).await?
        {
            return Ok(());
        }
        loop {
            let step = match self.stopper.pending() {
                Some(reason) => Err(Halt::Stopped(reason)),
                // Requested before this driver began, or while the record was caught up.
                None if self.ledger.state.cancel.is_some() => Err(Halt::Stopped(StopReason::Cancel)),
                None => self.step().await,
            };
            match step {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(halt) => {
                    if self.halted(halt).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Does what is next. `false` when nothing is.
    async fn step(&mut self) -> Result<bool, Halt> {
        self.ledger.scribe.redaction.refresh().await.map_err(RecordError::from)?;
        match next(&self.ledger.state) {
            Next::Start => {
                self.ledger.fact(Body::ExecutionStarted {}, Vec::new(), Durability::Process).await?;
                self.set_total_deadline();
            }
            Next::BeginIteration(iteration) => self.begin_iteration(iteration).await?,
            Next::Prompt => self.render_prompt().await?,
            Next::AskModel(turn) => self.ask_model(turn).await?,
            Next::CallTool(call) => self.call_tool(call).await?,
            Next::Answer => self.record_answer().await?,
            Next::EndGeneration => self.finish_generation().await?,
            Next::Validate(index) => self.validate(index).await?,
            Next::Score => self.score().await?,
            Next::Conclude => self.conclude().await?,
            Next::TurnsExhausted => {
                let most = aegis_core::limits::TURNS_PER_ITERATION_MAX;
                return Err(Halt::Iteration(
                    FailureReason::TurnsExhausted,
                    format!("the model called tools in each of {most} turns and gave no answer"),
                ));
            }
            Next::ConversationTooLong => {
                let most = aegis_core::limits::CONVERSATION_BYTES_MAX >> 20;
                let reason = FailureReason::ConversationTooLong;
                return Err(Halt::Iteration(
                    reason,
                    format!(
                        "{}: prompt, answers and tool results have more than {most} MiB; let the agent read less at \
                         once, or do its task in smaller parts",
                        reason.words()
                    ),
                ));
            }
            Next::ResumesExhausted => {
                let most = aegis_core::limits::RESUMES_WITHOUT_PROGRESS_MAX;
                let reason = FailureReason::ResumesExhausted;
                return Err(Halt::Execution(
                    reason,
                    format!(
                        "{}: it was resumed more than {most} times and came no further; the daemon's log says why \
                         the daemon ended",
                        reason.words()
                    ),
                ));
            }
            Next::BootstrapFailed => {
                let status = self.ledger.state.current.exit.unwrap_or(ExitStatus::Unknown);
                let why = format!("the bootstrap ended with {}", super::words(status));
                return Err(Halt::Iteration(FailureReason::BootstrapFailed, why));
            }
            Next::Done => return Ok(false),
        }
        Ok(true)
    }

    async fn begin_iteration(&mut self, iteration: u32) -> Result<(), Halt> {
        self.conversation.clear();
        self.turns_held = 0;
        self.ledger.fact(Body::IterationStarted { iteration }, Vec::new(), Durability::Process).await?;
        self.set_iteration_deadline();
        self.record_files_here();
        Ok(())
    }

    /// Down time does not count: after a resume the iteration has its whole time again.
    pub(crate) fn set_iteration_deadline(&mut self) {
        let time = Duration::from_millis(self.ledger.state.plan.iteration_timeout_ms);
        self.stopper.set_iteration_deadline(Some(Instant::now() + time));
    }

    /// Down time counts: what is left is reckoned from the recorded start.
    pub(crate) fn set_total_deadline(&mut self) {
        let Some(started_at) = self.ledger.state.started_at else { return };
        let spent = self.ledger.scribe.clock.now().millis_since(started_at);
        let left = self.ledger.state.plan.total_timeout_ms.saturating_sub(spent);
        self.stopper.set_total_deadline(Instant::now() + Duration::from_millis(left));
    }

    async fn score(&mut self) -> Result<(), Halt> {
        self.stopper.set_iteration_deadline(None);
        self.record_tree().await?;
        self.ledger.record(Input::Score, Vec::new(), Durability::Process).await?;
        Ok(())
    }

    async fn conclude(&mut self) -> Result<(), Halt> {
        let mut blobs = Vec::new();
        let passed = self.ledger.state.current.score.is_some_and(|(_, passed)| passed);
        let error = if passed {
            None
        } else {
            Some(self.ledger.scribe.blob(self.previous_error_text().await?, &mut blobs))
        };
        self.ledger.record(Input::Conclude { error }, blobs, Durability::Power).await?;
        Ok(())
    }

    /// What the next iteration is told: which validator, score, reasoning and failing paths, or the error.
    async fn previous_error_text(&self) -> Result<String, Halt> {
        let state = &self.ledger.state;
        if let Some((_, detail)) = &state.current.failure {
            return Ok(self.text(detail).await?);
        }
        let mut lines = Vec::new();
        for (verdict, reasoning) in state.current.verdicts.iter().filter(|(verdict, _)| !verdict.passed) {
            let reasoning = self.text(reasoning).await?;
            lines.push(format!(
                "Validator {} failed with score {} (confidence {}): {reasoning}",
                verdict.validator, verdict.score, verdict.confidence
            ));
        }
        Ok(lines.join("\n"))
    }

    /// Records why a step did not come to its end. `true` if the driver is done.
    async fn halted(&mut self, halt: Halt) -> Result<bool, RecordError> {
        match halt {
            // A cancel came between the decision and the record: what was refused is what the cancel forbids.
            Halt::Record(RecordError::Refused(_)) if self.ledger.state.cancel.is_some() => {
                Box::pin(self.halted(Halt::Stopped(StopReason::Cancel))).await
            }
            Halt::Record(error) => Err(error),
            Halt::Stopped(StopReason::Park) => {
                self.end_generation(true).await?;
                Ok(true)
            }
            Halt::Stopped(StopReason::Cancel) => {
                self.end_generation(true).await?;
                // The signal may be faster than the fold of the request that sent it.
                self.ledger.catch_up().await?;
                self.ledger.record(Input::Cancelled, Vec::new(), Durability::Power).await?;
                Ok(true)
            }
            Halt::Stopped(StopReason::ExecutionTimeout) => {
                let reason = FailureReason::ExecutionTimeout;
                let limit = self.ledger.state.plan.total_timeout_ms;
                self.fail(reason, format!("{} ({})", reason.words(), in_words(limit))).await
            }
            Halt::Stopped(StopReason::IterationTimeout) => {
                let reason = FailureReason::IterationTimeout;
                let limit = self.ledger.state.plan.iteration_timeout_ms;
                self.fail_iteration(reason, format!("{} ({})", reason.words(), in_words(limit))).await
            }
            Halt::Iteration(reason, detail) => self.fail_iteration(reason, detail).await,
            Halt::Execution(reason, detail) => self.fail(reason, detail).await,
        }
    }

    async fn fail_iteration(&mut self, reason: FailureReason, detail: String) -> Result<bool, RecordError> {
        if !self.ledger.state.phase.is_within_iteration() {
            return self.fail(reason, detail).await;
        }
        self.end_generation(true).await?;
        self.stopper.set_iteration_deadline(None);
        if let Err(Halt::Record(error)) = self.record_tree().await {
            return Err(error);
        }
        let mut blobs = Vec::new();
        let detail = self.ledger.scribe.blob(detail, &mut blobs);
        self.ledger.record(Input::FailIteration { reason, detail }, blobs, Durability::Process).await?;
        Ok(false)
    }

    async fn fail(&mut self, reason: FailureReason, detail: String) -> Result<bool, RecordError> {
        self.end_generation(true).await?;
        if self.ledger.state.phase.is_within_iteration()
            && let Err(Halt::Record(error)) = self.record_tree().await
        {
            return Err(error);
        }
        let mut blobs = Vec::new();
        let detail = self.ledger.scribe.blob(detail, &mut blobs);
        self.ledger.record(Input::Fail { reason, detail }, blobs, Durability::Power).await?;
        Ok(true)
    }

    /// The text behind a reference of this execution.
    pub(crate) async fn text(&self, blob: &BlobRef) -> Result<String, RecordError> {
        Ok(self.ledger.scribe.text(StreamId::Execution(self.ledger.execution), blob).await?)
    }
}

/// A limit as manifests write it.
fn in_words(millis: u64) -> String {
    if millis.is_multiple_of(1_000) { format!("{} s", millis / 1_000) } else { format!("{millis} ms") }
}
