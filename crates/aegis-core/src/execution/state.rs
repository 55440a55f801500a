//! What the events of an execution add up to.

use std::collections::BTreeMap;

use super::{FailureReason, LoopPlan};
use crate::{
    ActionId, BlobRef, Body, Event, ExitStatus, Intent, SandboxFacts, Score, SpanContext, SpanId, Timestamp,
    Usage, Verdict,
};

/// Where an execution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waits for the scheduler.
    Pending,
    /// Between iterations.
    Between,
    /// In an iteration: prompt, inner loop.
    Generating,
    /// The inner loop has an answer; the sandbox may still be running.
    Answered,
    /// Validators give their verdicts.
    Validating,
    /// The iteration has a score or a failure; what follows is not yet recorded.
    Judged,
    /// Over.
    Completed,
    /// Over, without reaching the goal.
    Failed,
    /// Over, on request.
    Cancelled,
}

impl Phase {
    /// True once nothing can follow but removal from the lists.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
    /// True while an iteration runs that has neither a score nor a failure yet.
    pub const fn is_within_iteration(self) -> bool {
        matches!(self, Self::Generating | Self::Answered | Self::Validating)
    }
}

/// A tool call's place: the turn that made it and its index there.
pub type Call = (u32, u32);

/// What the model is told of one tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallResult {
    /// The text given to the model.
    pub text: BlobRef,
}

/// One answer of the model and the results of the tools it called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The answer: JSON of `{content, tool_calls}`.
    pub answer: BlobRef,
    /// How many tools it calls.
    pub calls: u32,
    /// Results so far, by index.
    pub results: BTreeMap<u32, CallResult>,
}

/// The iteration that runs now, or ran last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Iteration {
    /// The rendered prompt.
    pub prompt: Option<BlobRef>,
    /// The conversation after the prompt.
    pub turns: Vec<Turn>,
    /// After how many turns a crash was survived: there the model is told that /tmp and processes are gone.
    pub notices: Vec<u32>,
    /// The final answer's text.
    pub answer: Option<BlobRef>,
    /// How the sandbox that gave the answer ended.
    pub exit: Option<ExitStatus>,
    /// What it wrote to standard output.
    pub stdout: Option<BlobRef>,
    /// What it wrote to standard error.
    pub stderr: Option<BlobRef>,
    /// Verdicts so far, in order.
    pub verdicts: Vec<(Verdict, BlobRef)>,
    /// The score, once every validator that had to ran.
    pub score: Option<(Score, bool)>,
    /// Why it failed.
    pub failure: Option<(FailureReason, BlobRef)>,
}

impl Iteration {
    /// Bytes of the conversation as the next request carries it: the prompt, the answers with the calls they make, and
    /// the results.
    #[must_use]
    pub fn conversation_bytes(&self) -> u64 {
        let results = |turn: &Turn| turn.results.values().map(|result| result.text.bytes).sum::<u64>();
        let turns: u64 = self.turns.iter().map(|turn| turn.answer.bytes + results(turn)).sum();
        self.prompt.map_or(0, |prompt| prompt.bytes) + turns
    }
}

/// An intent without an outcome yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAction {
    /// What it asks for.
    pub intent: Intent,
    /// Its span.
    pub span: SpanContext,
}

/// The fold of an execution's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// The loop's limits.
    pub plan: LoopPlan,
    /// Whether a program outside acts as the agent: nothing is driven, the door alone writes.
    pub external: bool,
    /// The root span: the execution itself.
    pub root: SpanContext,
    /// The span of the current iteration.
    pub iteration_span: SpanId,
    /// When the scheduler let it run.
    pub started_at: Option<Timestamp>,
    /// The current iteration, from 1; 0 before the first.
    pub iteration: u32,
    /// Its details.
    pub current: Iteration,
    /// The last sandbox generation, from 1; 0 before the first.
    pub generation: u32,
    /// The sandbox that is, as far as the record says, alive.
    pub sandbox: Option<SandboxFacts>,
    /// Intents without an outcome.
    pub open: BTreeMap<ActionId, OpenAction>,
    /// Model calls of the current turn whose outcome a crash hid.
    pub unknown_model_calls: u32,
    /// Judges' answers of the current validator, by judge.
    pub judgements: BTreeMap<(u32, u32), BlobRef>,
    /// The validator whose command was started and has given no verdict.
    pub judging: Option<u32>,
    /// What the next prompt is told about the last attempt.
    pub previous_error: Option<BlobRef>,
    /// Whether, and how, somebody asked for the run to stop: `Some(forced)`.
    pub cancel: Option<bool>,
    /// How often a daemon found it unfinished.
    pub crashes: u32,
    /// How often in a row a daemon found it where the one before did.
    pub idle_resumes: u32,
    /// Bytes that passed through its connections, both ways together.
    pub egress_bytes: u64,
    /// What it has touched; only grows.
    pub labels: std::collections::BTreeSet<String>,
    /// Tokens and cost so far.
    pub usage: Usage,
    /// `stream_seq` of the last event folded in.
    pub position: u64,
}

impl State {
    /// The state right after an execution's first event; `None` if it is another.
    #[must_use]
    pub fn first(created: &Event) -> Option<Self> {
        let Body::ExecutionCreated { plan, external, .. } = &created.body else { return None };
        Some(Self {
            phase: Phase::Pending,
            plan: *plan,
            external: *external,
            root: created.span,
            iteration_span: created.span.span_id,
            started_at: None,
            iteration: 0,
            current: Iteration::default(),
            generation: 0,
            sandbox: None,
            open: BTreeMap::new(),
            unknown_model_calls: 0,
            judgements: BTreeMap::new(),
            judging: None,
            previous_error: None,
            cancel: None,
            crashes: 0,
            idle_resumes: 0,
            egress_bytes: 0,
            labels: std::collections::BTreeSet::new(),
            usage: Usage::default(),
            position: created.stream_seq,
        })
    }
}

/// What the driver does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait for the scheduler, then record the start.
    Start,
    /// Begin this iteration.
    BeginIteration(u32),
    /// Render the prompt of the current iteration.
    Prompt,
    /// Ask the model, for this turn.
    AskModel(u32),
    /// Perform, or refuse, this tool call.
    CallTool(Call),
    /// Record the answer: the last turn called no tools.
    Answer,
    /// Give the answer to the bootstrap and wait for the sandbox's end.
    EndGeneration,
    /// Run this validator, from 0.
    Validate(u32),
    /// Every validator that has to ran: score the iteration.
    Score,
    /// Record what follows from the iteration's end.
    Conclude,
    /// The model wants more turns than allowed.
    TurnsExhausted,
    /// The next request would be larger than allowed.
    ConversationTooLong,
    /// Too many daemons found it where the one before did.
    ResumesExhausted,
    /// Record that the bootstrap, whose exit nobody else judges, failed.
    BootstrapFailed,
    /// Nothing.
    Done,
}
