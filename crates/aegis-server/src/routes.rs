//! The HTTP routes, one module a resource. Handlers parse, ask the kernel or the journal, and show; they decide nothing.

mod agents;
mod audit;
mod executions;
mod inside;
mod keys;
mod node;
mod person;
mod policy;
mod secrets;
mod servers;
mod smcp;
mod tool_calls;
mod tool_questions;
mod traces;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use aegis_core::limits::{JSON_DEPTH_MAX, REQUEST_BYTES_MAX};
use aegis_core::{Diagnosis, ErrorCode};
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post, put};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::answer::Refused;
use crate::app::App;
use crate::guard;

pub(crate) use inside::router as inside;
pub(crate) use node::notice;
pub(crate) use person::record as record_of_person;
pub(crate) use tool_questions::Questions;

/// Longest time for an answer that is no stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a client to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Items of a page, if the request does not say.
const PAGE_DEFAULT: usize = 50;
/// Most items of a page.
const PAGE_MAX: usize = 500;

/// All routes of the TCP port.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let answers = Router::new()
        .route("/v1/agents", get(agents::list).post(agents::deploy))
        .route("/v1/agents/lookup/{name}", get(agents::lookup))
        .route("/v1/agents/{id}", get(agents::show).delete(agents::remove))
        .route("/v1/agents/{id}/versions", get(agents::versions))
        .route("/v1/agents/{id}/pause", post(agents::pause))
        .route("/v1/agents/{id}/resume", post(agents::resume))
        .route("/v1/agents/{id}/execute", post(executions::execute_agent))
        .route("/v1/executions", get(executions::list).post(executions::execute))
        .route("/v1/executions/{id}", get(executions::show).delete(executions::remove))
        .route("/v1/executions/{id}/cancel", post(executions::cancel))
        .route("/v1/volumes", get(volumes::list))
        .route("/v1/volumes/{id}", get(volumes::show).delete(volumes::remove))
        .route("/v1/volumes/{id}/files", get(volumes::files))
        .route("/v1/volumes/{id}/get", get(volumes::get_file))
        .route("/v1/secrets", get(secrets::list))
        .route("/v1/secrets/{*name}", put(secrets::set).delete(secrets::delete))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/rotate", post(keys::rotate))
        .route("/v1/keys/{id}", axum::routing::delete(keys::revoke))
        .route("/v1/servers", get(servers::list).post(servers::add))
        .route("/v1/servers/{name}", get(servers::show).delete(servers::remove))
        .route("/v1/servers/{name}/accept", post(servers::accept))
        .route("/v1/servers/{name}/login", post(servers::login).delete(servers::logout))
        .route("/v1/servers/{name}/login/finish", post(servers::finish_login))
        .route("/v1/servers/{name}/logs", get(servers::logs))
        .route("/v1/tools", get(servers::tools))
        .route("/v1/executions/{id}/questions/{question}", post(tool_questions::answer))
        .route("/v1/traces", get(traces::list))
        .route("/v1/traces/{id}", get(traces::show))
        .route("/v1/audit/events", get(audit::events))
        .route("/v1/audit/head", get(audit::head))
        .route("/v1/audit/prove/{seq}", get(audit::prove))
        .route("/v1/audit/checkpoint", get(audit::checkpoint))
        .route("/v1/policy/check", post(policy::check))
        .route("/v1/policy/explain", post(policy::explain))
        .route("/v1/policy/test", post(policy::test))
        .route("/v1/policy/diff", post(policy::diff))
        .route("/v1/status", get(node::status))
        .route("/v1/config", get(node::config))
        .route("/health", get(node::health))
        .route("/health/live", get(node::live))
        .route("/health/ready", get(node::ready))
        .route("/", get(node::root))
        .layer(from_fn_with_state(app.clone(), finish));
    let streams = Router::new()
        .route("/v1/agents/{id}/events", get(agents::events))
        .route("/v1/executions/{id}/events", get(executions::events))
        .route("/v1/executions/{id}/stream", get(executions::events));
    // It may take longer than an answer; a stream it is not.
    let calls = Router::new()
        .route("/v1/tools/{name}/call", post(tool_calls::call))
        .layer(from_fn_with_state(app.clone(), finish_late));
    let inside = answers.merge(calls).merge(streams).merge(smcp::routes());
    let mcp = crate::mcp::service(app, inside.clone().with_state(app.clone()));
    inside
        .route("/mcp", any(move |request: Request| mcp.clone().serve(request)))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), guard::door))
        .with_state(app.clone())
}

/// Ends an answer that takes too long, and puts the log's head on it.
async fn finish(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let evident = request.uri().path().starts_with("/v1/");
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await;
    let response = answered.unwrap_or_else(|_| {
        Refused::from(Diagnosis::new(ErrorCode::Overloaded, "the answer took too long")).into_response()
    });
    ended(&app, response, evident).await
}

/// Ends an answer that has a limit of its own.
async fn finish_late(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    ended(&app, next.run(request).await, true).await
}

/// The answer with the log's head, if it is `evident`, and kept by nobody on its way.
async fn ended(app: &App, mut response: Response, evident: bool) -> Response {
    if evident && let Ok(head) = app.journal().head().await {
        let headers = response.headers_mut();
        headers.insert(aegis_api::header::CHECKPOINT_SIZE, HeaderValue::from(head.size));
        if let Ok(root) = HeaderValue::from_str(&head.root.to_string()) {
            headers.insert(aegis_api::header::CHECKPOINT_ROOT, root);
        }
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn unknown(uri: Uri) -> Refused {
    Diagnosis::new(ErrorCode::NotFound, format!("no route `{}`", uri.path())).into()
}

async fn wrong_method(uri: Uri) -> Refused {
    let what = Diagnosis::new(ErrorCode::InvalidInput, format!("`{}` does not take this method", uri.path()));
    Refused::with_status(what, StatusCode::METHOD_NOT_ALLOWED)
}

/// The query as `T`.
fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refused> {
    Query::<T>::try_from_uri(uri).map(|Query(value)| value).map_err(|error| {
        Diagnosis::new(ErrorCode::InvalidInput, format!("query: {}", error.body_text())).into()
    })
}

/// Does `work` on a task of its own: a client that goes away in between leaves nothing half done or unrecorded.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refused>> + Send + 'static,
) -> Result<T, Refused> {
    tokio::spawn(work).await.map_err(|error| Diagnosis::internal(error.to_string()))?
}

/// The body's bytes.
async fn bytes(body: Body) -> Result<Bytes, Refused> {
    bytes_within(BODY_TIMEOUT, body).await
}

async fn bytes_within(time: Duration, body: Body) -> Result<Bytes, Refused> {
    let whole = tokio::time::timeout(time, axum::body::to_bytes(body, REQUEST_BYTES_MAX));
    let whole = whole.await.map_err(|_| {
        let what = format!("the body did not come within {} s", time.as_secs());
        Refused::with_status(Diagnosis::new(ErrorCode::InvalidInput, what), StatusCode::REQUEST_TIMEOUT)
    })?;
    whole.map_err(|_| {
        let what = format!("the body is larger than {REQUEST_BYTES_MAX} bytes, or broke off");
        Refused::with_status(Diagnosis::new(ErrorCode::InvalidInput, what), StatusCode::PAYLOAD_TOO_LARGE)
    })
}

/// A JSON body as `T`.
fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    let wrong = |what: String| Diagnosis::new(ErrorCode::InvalidInput, what);
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| wrong(format!("the body is not JSON: {error}")))?;
    if depth(&value) > JSON_DEPTH_MAX {
        return Err(wrong(format!("the body is nested deeper than {JSON_DEPTH_MAX}")).into());
    }
    serde_json::from_value(value).map_err(|error| wrong(format!("body: {error}")).into())
}

/// How deep `value` is nested; the parser has bounded it already, so recursion is safe.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// An id in the path: what is no id names nothing.
fn id<T: std::str::FromStr>(kind: &str, text: &str) -> Result<T, Refused> {
    text.parse().map_err(|_| {
        let hint = match kind {
            "event" => "a place in the log is a number; see `aegis audit query`".to_owned(),
            "agent" => {
                "see `aegis agent list`; routes take an agent's id, or its name at `/v1/agents/lookup/`"
                    .to_owned()
            }
            "execution" => "an execution's id is a UUID; see `aegis task list`".to_owned(),
            kind => format!("a {kind}'s id is a UUID; see `aegis {kind} list`"),
        };
        Diagnosis::not_found(kind, text).hint(hint).into()
    })
}

fn page_size(limit: Option<usize>) -> usize {
    limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let silent = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let refused = bytes_within(Duration::from_millis(20), silent).await.unwrap_err();
        assert_eq!(refused.0.status, 408, "{refused:?}");
    }
}
