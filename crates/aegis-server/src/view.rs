//! Records of the journal as the API shows them.

use aegis_api::{Agent, AgentRef, AuditEvent, Execution, Iteration, Usage, Volume};
use aegis_core::{Event, StreamId, Timestamp};
use aegis_kernel::port::{
    AgentRecord, AgentState, ExecutionRecord, IterationRecord, Journal, JournalError, VolumeRecord,
};
use serde_json::Value;

use crate::app::App;
use crate::follow::{failure, finding};
use crate::texts::{exact_text, text};

/// An agent, with its document if `whole`.
pub(crate) async fn agent(app: &App, record: &AgentRecord, whole: bool) -> Agent {
    let document = text(app.journal(), StreamId::Agent(record.id), &record.document).await;
    let isolation = app.configured(|configured| configured.default_isolation.clone());
    let facts = (app.read_manifest)(&document, &isolation);
    let status = match record.state {
        AgentState::Deployed => "deployed",
        AgentState::Paused => "paused",
        AgentState::Removed => "removed",
    };
    Agent {
        id: record.id.to_string(),
        name: record.name.to_string(),
        version: record.version.clone(),
        status: status.to_owned(),
        runtime: facts.runtime,
        labels: facts.labels,
        description: facts.description,
        tenant: record.tenant.to_string(),
        digest: record.digest.to_string(),
        created_at: record.created_at.to_string(),
        updated_at: record.updated_at.to_string(),
        document: whole.then_some(document),
    }
}

/// An execution as lists show it.
pub(crate) async fn execution(journal: &dyn Journal, record: &ExecutionRecord, now: Timestamp) -> Execution {
    let stream = StreamId::Execution(record.id);
    let error = match &record.failure {
        Some((reason, detail)) => Some(failure(*reason, text(journal, stream, detail).await)),
        None => None,
    };
    let until = record.ended_at.unwrap_or(now);
    Execution {
        execution_id: record.id.to_string(),
        agent: AgentRef {
            id: record.agent.to_string(),
            name: record.name.to_string(),
            version: record.version.clone(),
        },
        status: record.status.name().to_owned(),
        input: None,
        created_at: record.created_at.to_string(),
        started_at: record.started_at.map(|at| at.to_string()),
        ended_at: record.ended_at.map(|at| at.to_string()),
        duration_ms: record.started_at.map(|at| until.millis_since(at)),
        total_iterations: record.total_iterations,
        iterations: None,
        final_output: None,
        error,
        usage: Usage {
            input_tokens: record.usage.input_tokens,
            output_tokens: record.usage.output_tokens,
            cost_usd: record.usage.cost.as_usd(),
            estimated: record.usage.estimated,
        },
        trace_id: record.trace_id.to_string(),
        parent_execution_id: record.parent.map(|parent| parent.to_string()),
        depth: record.depth,
        waiting_for: None,
    }
}

/// An execution with its texts and iterations.
pub(crate) async fn whole_execution(
    journal: &dyn Journal,
    record: &ExecutionRecord,
    now: Timestamp,
) -> Result<Execution, JournalError> {
    let stream = StreamId::Execution(record.id);
    let mut view = execution(journal, record, now).await;
    let input = text(journal, stream, &record.input).await;
    view.input = Some(serde_json::from_str(&input).unwrap_or(Value::String(input)));
    if let Some(answer) = &record.answer {
        view.final_output = Some(exact_text(journal, stream, answer).await);
    }
    let mut iterations = Vec::new();
    for record in journal.iterations(record.id).await? {
        iterations.push(iteration(journal, stream, &record).await);
    }
    view.iterations = Some(iterations);
    Ok(view)
}

async fn iteration(journal: &dyn Journal, stream: StreamId, record: &IterationRecord) -> Iteration {
    let output = match &record.output {
        Some(output) => Some(exact_text(journal, stream, output).await),
        None => None,
    };
    let error = match &record.error {
        Some((reason, detail)) => Some(failure(*reason, text(journal, stream, detail).await)),
        None => None,
    };
    let mut validation = Vec::with_capacity(record.validation.len());
    for (verdict, reasoning) in &record.validation {
        validation.push(finding(verdict, text(journal, stream, reasoning).await));
    }
    Iteration {
        number: record.number,
        status: record.status.clone(),
        started_at: record.started_at.to_string(),
        ended_at: record.ended_at.map(|at| at.to_string()),
        output,
        score: record.score.map(aegis_core::Score::as_f64),
        confidence: record.confidence.map(aegis_core::Score::as_f64),
        validation,
        error,
    }
}

/// A volume.
pub(crate) fn volume(record: &VolumeRecord) -> Volume {
    Volume {
        id: record.id.to_string(),
        name: record.name.clone(),
        storage_class: if record.execution.is_some() { "ephemeral" } else { "persistent" }.to_owned(),
        status: if record.removed { "removed" } else { "present" }.to_owned(),
        execution_id: record.execution.map(|id| id.to_string()),
        size_limit: record.size_limit,
        files: record.last_tree.map(|(files, _)| files),
        bytes: record.last_tree.map(|(_, bytes)| bytes),
        created_at: record.created_at.to_string(),
        expires_at: record.expires_at.map(|at| at.to_string()),
    }
}

/// An event of the log.
pub(crate) fn event(event: &Event) -> AuditEvent {
    // The body's own form is `{kind, body}`; the kind stands beside it here.
    let body =
        serde_json::to_value(&event.body).ok().and_then(|mut value| value.get_mut("body").map(Value::take));
    AuditEvent {
        seq: event.seq,
        id: event.id.to_string(),
        at: event.at.to_string(),
        tenant: event.tenant.to_string(),
        stream: event.stream.to_string(),
        stream_seq: event.stream_seq,
        trace_id: event.span.trace_id.to_string(),
        span_id: event.span.span_id.to_string(),
        actor: serde_json::to_value(&event.actor).unwrap_or_default(),
        kind: event.body.kind().to_owned(),
        body: body.unwrap_or_default(),
    }
}
