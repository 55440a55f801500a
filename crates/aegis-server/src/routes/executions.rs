//! Executions.

use std::sync::Arc;

use aegis_api::{ExecuteRequest, Page, Started};
use aegis_core::{AgentId, Diagnosis, ErrorCode, ExecutionId};
use aegis_kernel::port::{ExecutionQuery, ExecutionRecord, ExecutionStatus};
use aegis_kernel::{AgentSelector, Caller, Execute};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::Value;

use super::{bytes, from_json, id, page_size, query};
use crate::answer::{Answer, Refused, done, json, json_with};
use crate::app::App;
use crate::{idempotency, stream, view};

pub(super) async fn execute(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let bytes = bytes(body).await?;
    start(&app, &caller, &headers, None, &bytes).await
}

pub(super) async fn execute_agent(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let bytes = bytes(body).await?;
    start(&app, &caller, &headers, Some(agent), &bytes).await
}

async fn start(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    in_path: Option<String>,
    body: &[u8],
) -> Answer {
    let request: ExecuteRequest = if body.is_empty() { ExecuteRequest::default() } else { from_json(body)? };
    let named = [&in_path, &request.agent_id, &request.agent];
    let mut named = named.into_iter().flatten();
    let (Some(agent), None) = (named.next(), named.next()) else {
        return Err(
            Diagnosis::new(ErrorCode::InvalidInput, "name the agent once, by `agent_id` or `agent`").into()
        );
    };
    if request.context_overrides.as_ref().is_some_and(|overrides| !overrides.is_object()) {
        return Err(Diagnosis::new(ErrorCode::InvalidInput, "`context_overrides` is not an object").into());
    }
    let agent = selector(agent);
    let digest = crate::digest(&[agent_text(&agent).as_bytes(), body]);
    let input = request.input;
    let overrides = request.context_overrides;
    let work = run(app, caller, agent, input, overrides);
    let started = idempotency::once(app, caller, headers, digest, work).await?;
    Ok(json_with(StatusCode::CREATED, &started))
}

async fn run(
    app: &App,
    caller: &Caller,
    agent: AgentSelector,
    input: Value,
    context_overrides: Option<Value>,
) -> Result<Started, Refused> {
    let started = app.kernel.execute(caller, Execute { agent, input, context_overrides }).await?;
    Ok(Started { execution_id: started.execution_id.to_string(), status: started.status.to_owned() })
}

pub(super) fn selector(text: &str) -> AgentSelector {
    if let Ok(id) = text.parse::<AgentId>() {
        return AgentSelector::Id(id);
    }
    match text.split_once('@') {
        Some((name, version)) => {
            AgentSelector::Name { name: name.to_owned(), version: Some(version.to_owned()) }
        }
        None => AgentSelector::Name { name: text.to_owned(), version: None },
    }
}

fn agent_text(selector: &AgentSelector) -> String {
    match selector {
        AgentSelector::Id(id) => id.to_string(),
        AgentSelector::Name { name, version } => format!("{name}@{}", version.as_deref().unwrap_or_default()),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listing {
    agent_id: Option<String>,
    status: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Answer {
    let Listing { agent_id, status, limit, cursor } = query(&uri)?;
    let wrong = |what: String| Refused::from(Diagnosis::new(ErrorCode::InvalidInput, what));
    let agent =
        agent_id.map(|id| id.parse()).transpose().map_err(|error| wrong(format!("`agent_id`: {error}")))?;
    let statuses = status.iter().flat_map(|list| list.split(',')).map(status_of).collect::<Result<_, _>>()?;
    let listing =
        ExecutionQuery { tenant: Some(caller.tenant), agent, statuses, cursor, limit: page_size(limit) };
    let page = app.journal().executions(&listing).await?;
    let now = app.clock.now();
    let mut items = Vec::with_capacity(page.items.len());
    for record in &page.items {
        items.push(view::execution(app.journal(), record, now).await);
    }
    Ok(json(&Page { items, next_cursor: page.next_cursor }))
}

fn status_of(word: &str) -> Result<ExecutionStatus, Refused> {
    serde_json::from_value(Value::String(word.to_owned())).map_err(|_| {
        Diagnosis::new(ErrorCode::InvalidInput, format!("`{word}` is not a status"))
            .hint("use pending, running, waiting, completed, failed or cancelled")
            .into()
    })
}

/// The execution, if it is the caller's tenant's.
pub(super) async fn visible(
    app: &App,
    caller: &Caller,
    execution: ExecutionId,
) -> Result<ExecutionRecord, Refused> {
    let record = app.journal().execution(execution).await?;
    record
        .filter(|record| record.tenant == caller.tenant)
        .ok_or_else(|| Diagnosis::not_found("execution", execution).hint("see `aegis task list`").into())
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(execution): Path<String>,
) -> Answer {
    let record = visible(&app, &caller, id("execution", &execution)?).await?;
    Ok(json(&view::whole_execution(app.journal(), &record, app.clock.now()).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cancelling {
    force: bool,
}

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(execution): Path<String>,
    uri: Uri,
) -> Answer {
    let Cancelling { force } = query(&uri)?;
    app.kernel.cancel(&caller, id("execution", &execution)?, force).await?;
    Ok(done())
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(execution): Path<String>,
) -> Answer {
    app.kernel.remove_execution(&caller, id("execution", &execution)?).await?;
    Ok(done())
}

/// The execution's events, as server-sent events.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(execution): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refused> {
    let record = visible(&app, &caller, id("execution", &execution)?).await?;
    stream::of_execution(&app, record.id, &headers, &query(&uri)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_an_id_a_name_or_a_name_at_a_version() {
        let id = "a1b2c3d4-0000-4000-8000-000000000001";
        assert_eq!(selector(id), AgentSelector::Id(id.parse().unwrap()));
        assert_eq!(selector("coder"), AgentSelector::Name { name: "coder".to_owned(), version: None });
        assert_eq!(
            selector("coder@1.0.0"),
            AgentSelector::Name { name: "coder".to_owned(), version: Some("1.0.0".to_owned()) }
        );
    }

    #[test]
    fn statuses_are_the_contracts() {
        for word in ["pending", "running", "waiting", "completed", "failed", "cancelled"] {
            assert_eq!(status_of(word).unwrap().name(), word);
        }
        assert!(status_of("done").is_err());
    }
}
