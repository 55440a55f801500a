//! Traces: everything that followed from one request, as spans made of the log's events.

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_api::{Page, Span, Trace, TraceSummary};
use aegis_core::{Body, Diagnosis, Event, ExecutionId, Intent, Outcome, SpanId, TraceId};
use aegis_kernel::Caller;
use aegis_kernel::port::{EventQuery, ExecutionQuery};
use axum::Extension;
use axum::extract::{Path, State};
use http::Uri;
use serde::Deserialize;
use serde_json::{Value, json as value};

use super::{executions, page_size, query};
use crate::answer::{Answer, Refused, json};
use crate::app::App;

/// Most events of a trace that are read.
const EVENTS_MAX: usize = 10_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// The traces of executions, newest first. An execution that another asked for is part of that one's trace.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Answer {
    let Listing { limit, cursor } = query(&uri)?;
    let listing = ExecutionQuery {
        tenant: Some(caller.tenant),
        cursor,
        limit: page_size(limit),
        ..ExecutionQuery::default()
    };
    let page = app.journal().executions(&listing).await?;
    let now = app.clock.now();
    let roots = page.items.iter().filter(|record| record.parent.is_none());
    let items = roots
        .map(|record| TraceSummary {
            trace_id: record.trace_id.to_string(),
            name: format!("execute {}@{}", record.name, record.version),
            execution_id: record.id.to_string(),
            status: record.status.name().to_owned(),
            started_at: record.started_at.unwrap_or(record.created_at).to_string(),
            duration_ms: record.started_at.map(|at| record.ended_at.unwrap_or(now).millis_since(at)),
        })
        .collect();
    Ok(json(&Page { items, next_cursor: page.next_cursor }))
}

/// By trace id, or by the id of an execution.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(wanted): Path<String>,
) -> Answer {
    let trace_id = match (wanted.parse::<TraceId>(), wanted.parse::<ExecutionId>()) {
        (_, Ok(execution)) if wanted.contains('-') => {
            executions::visible(&app, &caller, execution).await?.trace_id
        }
        (Ok(trace), _) => trace,
        _ => return Err(missing(&wanted)),
    };
    let wanted_events = EventQuery {
        trace_id: Some(trace_id),
        tenant: Some(caller.tenant),
        limit: EVENTS_MAX,
        ..EventQuery::default()
    };
    let events = app.journal().events(&wanted_events).await?;
    if events.is_empty() {
        return Err(missing(&wanted));
    }
    let truncated = events.len() == EVENTS_MAX;
    Ok(json(&Trace { trace_id: trace_id.to_string(), spans: spans(&events), truncated }))
}

fn missing(wanted: &str) -> Refused {
    Diagnosis::not_found("trace", wanted)
        .hint("give an execution's id, or a trace's id from `aegis trace list`")
        .into()
}

/// Events grouped by span, spans by the time they began.
fn spans(events: &[Event]) -> Vec<Span> {
    let mut groups: BTreeMap<SpanId, Vec<&Event>> = BTreeMap::new();
    for event in events {
        groups.entry(event.span.span_id).or_default().push(event);
    }
    let mut spans: Vec<(u64, Span)> =
        groups.into_values().filter_map(|group| Some((group.first()?.seq, span(&group)?))).collect();
    spans.sort_by_key(|(seq, _)| *seq);
    spans.into_iter().map(|(_, span)| span).collect()
}

fn span(events: &[&Event]) -> Option<Span> {
    let (first, last) = (events.first()?, events.last()?);
    let mut attributes = BTreeMap::new();
    for event in events {
        facts(&event.body, &mut attributes);
    }
    Some(Span {
        span_id: first.span.span_id.to_string(),
        parent_span_id: first.span.parent_span_id.map(|parent| parent.to_string()),
        name: name(&first.body),
        stream: first.stream.to_string(),
        started_at: first.at.to_string(),
        ended_at: last.at.to_string(),
        duration_ms: last.at.millis_since(first.at),
        events: events.iter().map(|event| event.body.kind().to_owned()).collect(),
        attributes,
    })
}

/// A span is called after what its first event begins.
fn name(first: &Body) -> String {
    match first {
        Body::ExecutionCreated { name, version, .. } => format!("execute {name}@{version}"),
        Body::IterationStarted { iteration } => format!("iteration {iteration}"),
        Body::GenerationStarted { generation, .. } => format!("sandbox generation {generation}"),
        Body::ActionIntended { intent, .. } => match intent {
            Intent::Model { alias, .. } => format!("model {alias}"),
            Intent::Tool { tool, .. } | Intent::External { tool, .. } => format!("tool {tool}"),
            Intent::Judge { alias, .. } => format!("judge {alias}"),
            Intent::Connect { host, port, .. } => format!("connect {host}:{port}"),
        },
        Body::ActionDenied { name, .. } => format!("denied {name}"),
        Body::ValidatorCompleted { verdict, .. } => format!("validator {}", verdict.validator),
        other => other.kind().to_owned(),
    }
}

fn facts(body: &Body, into: &mut BTreeMap<String, Value>) {
    let mut add = |name: &str, fact: Value| {
        into.insert(name.to_owned(), fact);
    };
    match body {
        Body::ActionCompleted { outcome, duration_ms, .. } => {
            add("duration_ms", value!(duration_ms));
            match outcome {
                Outcome::Model { usage, provider, model, fingerprint, attempts, .. } => {
                    add("provider", value!(provider));
                    add("model", value!(model));
                    add("fingerprint", value!(fingerprint));
                    add("attempts", value!(attempts));
                    add("input_tokens", value!(usage.input_tokens));
                    add("output_tokens", value!(usage.output_tokens));
                    add("cost_usd", value!(usage.cost.as_usd()));
                }
                Outcome::ModelFailed { failure, attempts, .. } => {
                    add("failure", value!(failure));
                    add("attempts", value!(attempts));
                }
                Outcome::Connection { end, bytes_sent, bytes_received, .. } => {
                    add("end", value!(end));
                    add("bytes_sent", value!(bytes_sent));
                    add("bytes_received", value!(bytes_received));
                }
                Outcome::Tool { is_error, exit_code, size, .. } => {
                    add("is_error", value!(is_error));
                    add("exit_code", value!(exit_code));
                    add("bytes", value!(size));
                }
            }
        }
        Body::ActionDenied { code, rule, .. } => {
            add("code", value!(code.name()));
            add("rule", value!(rule));
        }
        Body::IterationCompleted { score, passed, .. } => {
            add("score", value!(score.as_f64()));
            add("passed", value!(passed));
        }
        Body::ValidatorCompleted { verdict, .. } => {
            add(&format!("{}.passed", verdict.validator), value!(verdict.passed));
            add(&format!("{}.score", verdict.validator), value!(verdict.score.as_f64()));
        }
        Body::IterationFailed { reason, .. } | Body::ExecutionFailed { reason, .. } => {
            add("failure", value!(reason));
        }
        _ => {}
    }
}
