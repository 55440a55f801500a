//! Folding events into the state.

use super::{CallResult, Iteration, OpenAction, Phase, State, Turn};
use crate::{ActionKind, Body, Event, ExitStatus, Intent, Outcome};

/// The state after `event`.
#[must_use]
pub fn evolve(mut state: State, event: &Event) -> State {
    apply(&mut state, event);
    state
}

/// Folds `event` in place: what [`evolve`] does, without moving a long conversation about.
pub fn apply(state: &mut State, event: &Event) {
    state.position = event.stream_seq;
    if is_progress(state, &event.body) {
        state.idle_resumes = 0;
    }
    apply_loop(state, event);
    apply_action(state, event);
}

/// Whether the next daemon finds the execution further than the last one did.
fn is_progress(state: &State, body: &Body) -> bool {
    // Calls from outside the loop bring it no further, and a crash between them must not count as a fresh start.
    match body {
        Body::ActionDenied { target: ActionKind::External | ActionKind::Connect, .. } => return false,
        Body::ActionCompleted { action, .. } => {
            let open = state.open.get(action);
            return !open.is_some_and(|open| open.intent.is_beside_the_loop());
        }
        _ => {}
    }
    matches!(
        body,
        Body::IterationStarted { .. }
            | Body::IterationPrompted { .. }
            | Body::IterationAnswered { .. }
            | Body::IterationCompleted { .. }
            | Body::IterationFailed { .. }
            | Body::ActionDenied { .. }
            | Body::ValidatorCompleted { .. }
            | Body::RefinementApplied { .. }
    )
}

fn apply_loop(state: &mut State, event: &Event) {
    match &event.body {
        Body::ExecutionStarted {} => {
            state.phase = Phase::Between;
            state.started_at = Some(event.at);
        }
        Body::ExecutionResumed { crashes, same_daemon } => {
            state.crashes = *crashes;
            state.idle_resumes += u32::from(!*same_daemon);
            if state.phase == Phase::Generating && !state.current.turns.is_empty() {
                state.current.notices.push(u32::try_from(state.current.turns.len()).unwrap_or(u32::MAX));
            }
        }
        Body::GenerationStarted { generation, sandbox, .. } => {
            state.generation = *generation;
            state.sandbox = Some(sandbox.clone());
        }
        Body::GenerationEnded { status, stdout, stderr, .. } => {
            state.sandbox = None;
            // An end that nobody saw says nothing of the answer's worth: the next generation is given it again.
            if state.phase == Phase::Answered && *status != ExitStatus::Unknown {
                state.current.exit = Some(*status);
                state.current.stdout = *stdout;
                state.current.stderr = *stderr;
                state.phase = Phase::Validating;
            }
        }
        Body::IterationStarted { iteration } => {
            state.phase = Phase::Generating;
            state.iteration = *iteration;
            state.iteration_span = event.span.span_id;
            state.current = Iteration::default();
            state.unknown_model_calls = 0;
            state.judgements.clear();
            state.judging = None;
        }
        Body::IterationPrompted { prompt, .. } => state.current.prompt = Some(*prompt),
        Body::IterationAnswered { answer, .. } => {
            state.current.answer = Some(*answer);
            state.phase = Phase::Answered;
        }
        Body::ValidatorStarted { index, .. } => state.judging = Some(*index),
        Body::ValidatorUnknown { .. } => state.judging = None,
        Body::ValidatorCompleted { verdict, reasoning, .. } => {
            state.judging = None;
            state.current.verdicts.push((verdict.clone(), *reasoning));
            state.judgements.clear();
        }
        Body::IterationCompleted { score, passed, .. } => {
            state.current.score = Some((*score, *passed));
            state.phase = Phase::Judged;
        }
        Body::IterationFailed { reason, detail, .. } => {
            state.current.failure = Some((*reason, *detail));
            state.phase = Phase::Judged;
        }
        Body::RefinementApplied { previous_error, .. } => {
            state.previous_error = Some(*previous_error);
            state.phase = Phase::Between;
        }
        Body::LabelsGrown { labels, .. } => state.labels.extend(labels.iter().cloned()),
        Body::CancelRequested { forced } => state.cancel = Some(state.cancel.unwrap_or(false) || *forced),
        Body::ExecutionCompleted { .. } => state.phase = Phase::Completed,
        Body::ExecutionFailed { .. } => state.phase = Phase::Failed,
        Body::ExecutionCancelled { .. } => state.phase = Phase::Cancelled,
        _ => {}
    }
}

fn apply_action(state: &mut State, event: &Event) {
    match &event.body {
        Body::ActionIntended { action, intent, .. } => {
            state.open.insert(*action, OpenAction { intent: intent.clone(), span: event.span });
        }
        Body::ActionCompleted { action, outcome, .. } => {
            if let Some(open) = state.open.remove(action) {
                settle(state, &open.intent, outcome);
            }
        }
        Body::ActionDenied { turn, index, result, target: ActionKind::Tool, .. } => {
            give_result(state, *turn, *index, CallResult { text: *result });
        }
        Body::ActionUnknown { action, result, .. } => {
            let Some(open) = state.open.remove(action) else { return };
            match (open.intent, result) {
                (Intent::Model { .. }, _) => state.unknown_model_calls += 1,
                (Intent::Tool { turn, index, .. }, Some(text)) => {
                    give_result(state, turn, index, CallResult { text: *text });
                }
                _ => {}
            }
        }
        _ => {}
    }
}

fn settle(state: &mut State, intent: &Intent, outcome: &Outcome) {
    if let Outcome::Model { usage, .. } = outcome {
        state.usage = state.usage.plus(*usage);
    }
    if let Outcome::Connection { bytes_sent, bytes_received, .. } = outcome {
        state.egress_bytes = state.egress_bytes.saturating_add(*bytes_sent).saturating_add(*bytes_received);
    }
    match (intent, outcome) {
        (Intent::Model { .. }, Outcome::Model { answer, tool_calls, .. }) => {
            state.unknown_model_calls = 0;
            state.current.turns.push(Turn {
                answer: *answer,
                calls: *tool_calls,
                results: std::collections::BTreeMap::new(),
            });
        }
        (Intent::Tool { turn, index, .. }, Outcome::Tool { result, .. }) => {
            give_result(state, *turn, *index, CallResult { text: *result });
        }
        (Intent::Judge { validator, judge, .. }, Outcome::Model { answer, .. }) => {
            state.judgements.insert((*validator, *judge), *answer);
        }
        _ => {}
    }
}

fn give_result(state: &mut State, turn: u32, index: u32, result: CallResult) {
    if let Some(turn) = state.current.turns.get_mut(turn as usize) {
        turn.results.entry(index).or_insert(result);
    }
}
