//! What follows: the driver's next step, and the events an input leads to.

use super::{FailureReason, Next, OpenAction, Phase, State};
use crate::limits::{CONVERSATION_BYTES_MAX, RESUMES_WITHOUT_PROGRESS_MAX, TURNS_PER_ITERATION_MAX};
use crate::{BlobRef, Body, ExitStatus, Intent, Score};

/// What the driver does now. Pure: the same state always gives the same answer.
#[must_use]
pub fn next(state: &State) -> Next {
    if state.idle_resumes > RESUMES_WITHOUT_PROGRESS_MAX && !state.phase.is_final() {
        return Next::ResumesExhausted;
    }
    // Its driver only keeps its door open.
    if state.external && !state.phase.is_final() {
        return Next::Done;
    }
    match state.phase {
        Phase::Pending => Next::Start,
        Phase::Between => Next::BeginIteration(state.iteration + 1),
        Phase::Generating => next_in_loop(state),
        Phase::Answered => Next::EndGeneration,
        // Without validators success is an answer and exit code 0; a daemon that resumes decides it from the record.
        Phase::Validating
            if state.plan.validators == 0 && state.current.exit != Some(ExitStatus::Exited { code: 0 }) =>
        {
            Next::BootstrapFailed
        }
        Phase::Validating => {
            let done = u32::try_from(state.current.verdicts.len()).unwrap_or(u32::MAX);
            let failed = state.current.verdicts.iter().any(|(verdict, _)| !verdict.passed);
            if failed || done >= state.plan.validators { Next::Score } else { Next::Validate(done) }
        }
        Phase::Judged => Next::Conclude,
        Phase::Completed | Phase::Failed | Phase::Cancelled => Next::Done,
    }
}

fn next_in_loop(state: &State) -> Next {
    if state.current.prompt.is_none() {
        return Next::Prompt;
    }
    let asked = u32::try_from(state.current.turns.len()).unwrap_or(u32::MAX);
    let Some(last) = state.current.turns.last() else { return Next::AskModel(0) };
    if last.calls == 0 {
        return Next::Answer;
    }
    // Several calls of one turn are performed one after another, in order, and all answered before the next turn.
    match (0..last.calls).find(|index| !last.results.contains_key(index)) {
        Some(index) => Next::CallTool((asked - 1, index)),
        None if asked >= TURNS_PER_ITERATION_MAX => Next::TurnsExhausted,
        None if state.current.conversation_bytes() > CONVERSATION_BYTES_MAX => Next::ConversationTooLong,
        None => Next::AskModel(asked),
    }
}

/// Something the driver learned, to be turned into events.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A fact that the driver observed, as an event's body; refused if it cannot follow.
    Fact(Box<Body>),
    /// Every validator that had to ran.
    Score,
    /// The iteration cannot go on.
    FailIteration {
        /// Why.
        reason: FailureReason,
        /// Why, in words.
        detail: BlobRef,
    },
    /// The iteration is over: complete, refine or fail.
    Conclude {
        /// What the next iteration is told, or why the execution failed, in words; not needed after a success.
        error: Option<BlobRef>,
    },
    /// The execution cannot go on, whatever iterations are left.
    Fail {
        /// Why.
        reason: FailureReason,
        /// Why, in words.
        detail: BlobRef,
    },
    /// What ran is stopped; record the cancellation.
    Cancelled,
}

/// An input that cannot follow in this state. It is a fault of the driver, or of a forged record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{event}` cannot follow: {reason}")]
pub struct Refused {
    /// The event that would have been recorded.
    pub event: &'static str,
    /// Why not.
    pub reason: &'static str,
}

/// The events `input` leads to.
///
/// # Errors
/// If the input cannot follow in this state; then nothing is to be recorded or performed.
pub fn decide(state: &State, input: Input) -> Result<Vec<Body>, Refused> {
    match input {
        Input::Fact(body) => admissible(state, &body).map(|()| vec![*body]),
        Input::Score => Ok(vec![score(state)]),
        Input::FailIteration { reason, detail } => {
            let body = Body::IterationFailed { iteration: state.iteration, reason, detail };
            if state.phase.is_within_iteration() {
                Ok(vec![body])
            } else {
                Err(Refused { event: body.kind(), reason: "no iteration runs" })
            }
        }
        Input::Conclude { error } => conclude(state, error),
        Input::Fail { reason, detail } => {
            let iteration = state.iteration;
            let body = Body::ExecutionFailed { reason, detail, total_iterations: iteration };
            if state.phase.is_final() {
                return Err(Refused { event: body.kind(), reason: "the execution is over" });
            }
            // An iteration that is under way fails with the execution, and the record says so.
            let failed = state.phase.is_within_iteration();
            let failed = failed.then_some(Body::IterationFailed { iteration, reason, detail });
            Ok(failed.into_iter().chain([body]).collect())
        }
        Input::Cancelled => {
            let body = Body::ExecutionCancelled { total_iterations: state.iteration };
            if state.phase.is_final() {
                return Err(Refused { event: body.kind(), reason: "the execution is over" });
            }
            if state.cancel.is_none() {
                return Err(Refused { event: body.kind(), reason: "nobody asked for it" });
            }
            Ok(vec![body])
        }
    }
}

/// The lowest score decides; without validators `next` has seen to exit code 0.
fn score(state: &State) -> Body {
    let lowest =
        state.current.verdicts.iter().map(|(verdict, _)| verdict).min_by_key(|verdict| verdict.score);
    Body::IterationCompleted {
        iteration: state.iteration,
        score: lowest.map_or(Score::ONE, |verdict| verdict.score),
        confidence: lowest.map_or(Score::ONE, |verdict| verdict.confidence),
        passed: state.current.verdicts.iter().all(|(verdict, _)| verdict.passed),
    }
}

fn conclude(state: &State, error: Option<BlobRef>) -> Result<Vec<Body>, Refused> {
    let refused = |event, reason| Err(Refused { event, reason });
    if state.phase != Phase::Judged {
        return refused("refinement.applied", "the iteration is not over");
    }
    let total_iterations = state.iteration;
    if let (Some((_, true)), Some(answer)) = (state.current.score, state.current.answer) {
        return Ok(vec![Body::ExecutionCompleted { answer, total_iterations }]);
    }
    let Some(error) = error else { return refused("refinement.applied", "nothing says what was wrong") };
    let failure = state.current.failure;
    let fatal = failure.is_some_and(|(reason, _)| !reason.may_be_retried());
    if !fatal && total_iterations < state.plan.max_iterations {
        return Ok(vec![Body::RefinementApplied { iteration: total_iterations + 1, previous_error: error }]);
    }
    let (reason, detail) = failure.unwrap_or((FailureReason::ValidationExhausted, error));
    Ok(vec![Body::ExecutionFailed { reason, detail, total_iterations }])
}

/// Whether a fact may be recorded now. This is where "a recorded outcome is never performed again" is decided.
fn admissible(state: &State, body: &Body) -> Result<(), Refused> {
    let wrong = |reason| Err(Refused { event: body.kind(), reason });
    if state.phase.is_final() {
        return if matches!(
            body,
            Body::ExecutionRemoved {} | Body::GenerationEnded { .. } | Body::WorkingCopiesDestroyed {}
        ) {
            Ok(())
        } else {
            wrong("the execution is over")
        };
    }
    match body {
        Body::ExecutionStarted {} if state.phase != Phase::Pending => wrong("it started before"),
        Body::ExecutionRemoved {} | Body::WorkingCopiesDestroyed {} => wrong("it is not over"),
        Body::IterationStarted { iteration } => match state.phase {
            Phase::Between
                if *iteration == state.iteration + 1 && *iteration <= state.plan.max_iterations =>
            {
                Ok(())
            }
            Phase::Between => wrong("it is not the next iteration"),
            _ => wrong("another iteration runs"),
        },
        Body::IterationPrompted { .. } if next(state) != Next::Prompt => wrong("the prompt is recorded"),
        Body::GenerationStarted { generation, .. } => {
            if state.sandbox.is_some() {
                wrong("the former generation is not proved dead")
            } else if *generation != state.generation + 1 {
                wrong("it is not the next generation")
            } else {
                Ok(())
            }
        }
        Body::ActionIntended { intent, .. } => intended(state, intent).or_else(wrong),
        Body::ActionDenied { turn, index, target: crate::ActionKind::Tool, .. }
            if next(state) != Next::CallTool((*turn, *index)) =>
        {
            wrong("it is not the next call")
        }
        Body::ActionCompleted { action, .. } | Body::ActionUnknown { action, .. }
            if !state.open.contains_key(action) =>
        {
            wrong("it has no open intent")
        }
        Body::IterationAnswered { .. } if next(state) != Next::Answer => wrong("the model has not answered"),
        Body::ValidatorStarted { .. } if state.cancel.is_some() => wrong("a cancel was requested"),
        Body::ValidatorStarted { index, .. }
            if next(state) != Next::Validate(*index) || state.judging.is_some() =>
        {
            wrong("it is not the next validator, or it runs already")
        }
        Body::ValidatorUnknown { index, .. } if state.judging != Some(*index) => {
            wrong("its command was not started")
        }
        Body::ValidatorCompleted { index, .. } if next(state) != Next::Validate(*index) => {
            wrong("it is not the next validator")
        }
        _ => Ok(()),
    }
}

fn intended(state: &State, intent: &Intent) -> Result<(), &'static str> {
    if state.cancel.is_some() {
        return Err("a cancel was requested");
    }
    let of_the_loop = |open: &OpenAction| !open.intent.is_beside_the_loop();
    if state.open.values().any(of_the_loop)
        && !(intent.is_beside_the_loop() || matches!(intent, Intent::Judge { .. }))
    {
        return Err("another action is open");
    }
    match intent {
        Intent::External { .. } if state.external || state.sandbox.is_some() => Ok(()),
        Intent::Connect { .. } if state.sandbox.is_some() => Ok(()),
        Intent::External { .. } | Intent::Connect { .. } => Err("no sandbox runs that could have asked"),
        Intent::Model { turn, .. } if next(state) == Next::AskModel(*turn) => Ok(()),
        Intent::Tool { turn, index, .. } if next(state) == Next::CallTool((*turn, *index)) => Ok(()),
        Intent::Judge { validator, judge, .. }
            if next(state) == Next::Validate(*validator)
                && !state.judgements.contains_key(&(*validator, *judge)) =>
        {
            Ok(())
        }
        _ => Err("its outcome is recorded, or it is not its turn"),
    }
}
