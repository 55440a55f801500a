//! Executions and their iterations.

use aegis_core::{Body, Event, ExecutionId, Outcome, Timestamp, Usage};
use aegis_kernel::port::ExecutionStatus;

use super::{ExecutionRow, IterationRow, Projections};

/// The iteration whose record an event reads.
pub(super) fn iteration_of(body: &Body) -> Option<u32> {
    match body {
        Body::IterationStarted { iteration }
        | Body::IterationAnswered { iteration, .. }
        | Body::ValidatorCompleted { iteration, .. }
        | Body::IterationCompleted { iteration, .. }
        | Body::IterationFailed { iteration, .. } => Some(*iteration),
        // The iteration that is under way, if one is, ends with the execution.
        Body::ExecutionFailed { total_iterations, .. } | Body::ExecutionCancelled { total_iterations } => {
            Some(*total_iterations)
        }
        _ => None,
    }
}

pub(super) fn iteration_key(execution: &str, number: u32) -> String {
    format!("{execution}/{number:010}")
}

pub(super) fn apply(projections: &mut Projections, id: ExecutionId, event: &Event) {
    let key = id.to_string();
    if let Some(number) = iteration_of(&event.body) {
        apply_iteration(projections, id, &iteration_key(&key, number), number, event);
    }
    match &event.body {
        Body::ExecutionCreated { .. } => {
            if let Some(row) = created(event) {
                projections.executions.put(key, row);
            }
        }
        Body::ExecutionStarted {} | Body::ExecutionResumed { .. } => {
            projections.executions.change(&key, |execution| {
                execution.status = ExecutionStatus::Running;
                execution.started_at = execution.started_at.or(Some(event.at));
            });
        }
        Body::IterationStarted { iteration } => projections.executions.change(&key, |execution| {
            execution.total_iterations = execution.total_iterations.max(*iteration);
        }),
        Body::ActionCompleted { outcome: Outcome::Model { usage, .. }, .. } => {
            projections.executions.change(&key, |execution| execution.usage = execution.usage.plus(*usage));
        }
        Body::ExecutionCompleted { answer, total_iterations } => {
            projections.executions.change(&key, |execution| {
                end(execution, ExecutionStatus::Completed, *total_iterations, event.at);
                execution.answer = Some(*answer);
            });
        }
        Body::ExecutionFailed { reason, detail, total_iterations } => {
            projections.executions.change(&key, |execution| {
                end(execution, ExecutionStatus::Failed, *total_iterations, event.at);
                execution.failure = Some((*reason, *detail));
            });
            end_iteration(projections, &key, *total_iterations, "failed", event.at);
        }
        Body::ExecutionCancelled { total_iterations } => {
            projections.executions.change(&key, |execution| {
                end(execution, ExecutionStatus::Cancelled, *total_iterations, event.at);
            });
            end_iteration(projections, &key, *total_iterations, "cancelled", event.at);
        }
        Body::ExecutionRemoved {} => {
            projections.executions.change(&key, |execution| execution.removed = true);
        }
        _ => {}
    }
}

fn created(event: &Event) -> Option<ExecutionRow> {
    let Body::ExecutionCreated { agent, name, version, document, input, plan, parent, depth, .. } =
        &event.body
    else {
        return None;
    };
    Some(ExecutionRow {
        tenant: event.tenant.clone(),
        agent: *agent,
        name: name.clone(),
        version: version.clone(),
        document: *document,
        input: *input,
        plan: *plan,
        status: ExecutionStatus::Pending,
        created_at: event.at,
        created_seq: event.seq,
        started_at: None,
        ended_at: None,
        total_iterations: 0,
        answer: None,
        failure: None,
        usage: Usage::default(),
        trace_id: event.span.trace_id,
        parent: *parent,
        depth: *depth,
        removed: false,
    })
}

fn end(execution: &mut ExecutionRow, status: ExecutionStatus, total_iterations: u32, at: Timestamp) {
    execution.status = status;
    execution.total_iterations = total_iterations;
    execution.ended_at = Some(at);
}

/// An iteration that was under way ends with its execution.
fn end_iteration(projections: &mut Projections, execution: &str, number: u32, status: &str, at: Timestamp) {
    projections.iterations.change(&iteration_key(execution, number), |iteration| {
        if iteration.ended_at.is_none() {
            status.clone_into(&mut iteration.status);
            iteration.ended_at = Some(at);
        }
    });
}

fn apply_iteration(projections: &mut Projections, id: ExecutionId, key: &str, number: u32, event: &Event) {
    let iterations = &mut projections.iterations;
    match &event.body {
        Body::IterationStarted { .. } => {
            let row = IterationRow {
                execution: id,
                number,
                status: "running".to_owned(),
                started_at: event.at,
                ended_at: None,
                output: None,
                score: None,
                confidence: None,
                validation: Vec::new(),
                error: None,
            };
            iterations.put(key.to_owned(), row);
        }
        Body::IterationAnswered { answer, .. } => {
            iterations.change(key, |iteration| iteration.output = Some(*answer));
        }
        Body::ValidatorCompleted { index, verdict, reasoning, .. } => iterations.change(key, |iteration| {
            // A validator that ran again after a crash replaces its former finding.
            iteration.validation.retain(|(place, ..)| place != index);
            iteration.validation.push((*index, verdict.clone(), *reasoning));
            iteration.validation.sort_by_key(|(place, ..)| *place);
        }),
        Body::IterationCompleted { score, confidence, .. } => iterations.change(key, |iteration| {
            "completed".clone_into(&mut iteration.status);
            iteration.ended_at = Some(event.at);
            iteration.score = Some(*score);
            iteration.confidence = Some(*confidence);
        }),
        Body::IterationFailed { reason, detail, .. } => iterations.change(key, |iteration| {
            "failed".clone_into(&mut iteration.status);
            iteration.ended_at = Some(event.at);
            iteration.error = Some((*reason, *detail));
        }),
        _ => {}
    }
}
