//! The node itself: health, status, configuration, and the page at `/`.

use std::sync::Arc;

use aegis_api::{Health, LogHead, ModelStatus, Status};
use aegis_kernel::port::Model as _;
use aegis_models::ProcessState;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};

use crate::VERSION;
use crate::answer::{Answer, json, json_with};
use crate::app::App;

/// Says what listens here. The console takes its place once it stands.
const NOTICE: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>AEGIS</title>\n\
<body style=\"font-family:sans-serif;max-width:40em;margin:4em auto\"><h1>AEGIS</h1>\n\
<p>This is an AEGIS daemon. Speak to it with the command line, <code>aegis --help</code>, or with the HTTP API below \
<code>/v1</code> and the token in <code>$AEGIS_HOME/token</code>.</p>\n\
<p>This version has no web console.</p></body></html>\n";

/// The one-page notice.
pub(crate) fn notice(status: StatusCode) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    (status, headers, NOTICE).into_response()
}

pub(super) async fn root() -> Response {
    notice(StatusCode::OK)
}

fn health_says(status: &str) -> Health {
    Health { status: status.to_owned(), version: VERSION.to_owned() }
}

pub(super) async fn live() -> Response {
    json(&health_says("ok"))
}

pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    ready(State(app)).await
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.is_ready() {
        return json(&health_says("ok"));
    }
    let why = if app.stop.is_cancelled() { "stopping" } else { "starting" };
    json_with(StatusCode::SERVICE_UNAVAILABLE, &health_says(why))
}

pub(super) async fn status(State(app): State<Arc<App>>) -> Answer {
    let info = app.kernel.info();
    let head = app.journal().head().await?;
    let uptime = app.clock.monotonic().saturating_sub(app.since).as_millis();
    let config =
        app.configured(|configured| configured.source.as_ref().map(|path| path.display().to_string()));
    Ok(json(&Status {
        status: "ready".to_owned(),
        version: VERSION.to_owned(),
        pid: std::process::id(),
        address: format!("http://{}", app.address),
        uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
        data: app.home.display().to_string(),
        config,
        executions_running: info.running,
        executions_pending: info.pending,
        models: models(&app),
        log: LogHead { size: head.size, root: head.root.to_string() },
        warnings: app.warnings(),
    }))
}

/// The aliases, what stands behind each, and how it is.
fn models(app: &App) -> Vec<ModelStatus> {
    let states = app.providers.states();
    let one = |alias: String| {
        let facts = app.router.facts(&alias);
        let (provider, model) = facts.map(|facts| (facts.provider, facts.model)).unwrap_or_default();
        let (state, detail) = match states.get(&provider) {
            None => ("configured", None),
            Some(ProcessState::Starting) => ("loading", None),
            Some(ProcessState::Ready) => ("ready", None),
            Some(ProcessState::Failed(why)) => ("failed", Some(why.clone())),
            Some(ProcessState::Stopped) => ("stopped", None),
        };
        ModelStatus { alias, provider, model, state: state.to_owned(), detail }
    };
    app.router.aliases().into_iter().map(one).collect()
}

pub(super) async fn config(State(app): State<Arc<App>>) -> Answer {
    Ok(app.configured(|configured| json(&configured.masked)))
}
