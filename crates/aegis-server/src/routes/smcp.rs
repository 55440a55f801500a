//! SMCP: the same three routes for programs inside sandboxes and outside. Who speaks is known before.

use std::sync::Arc;

use aegis_core::{Diagnosis, ErrorCode};
use aegis_kernel::{DoorRefusal, Speaker};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use http::StatusCode;

use super::bytes;
use crate::answer::{Refused, json, json_with};
use crate::app::App;

/// The routes, under both names of the protocol.
pub(super) fn routes() -> Router<Arc<App>> {
    let mut router = Router::new();
    for name in ["smcp", "seal"] {
        router = router
            .route(&format!("/v1/{name}/attest"), post(attest))
            .route(&format!("/v1/{name}/invoke"), post(invoke))
            .route(&format!("/v1/{name}/tools"), get(tools));
    }
    router
}

async fn attest(State(app): State<Arc<App>>, speaker: Option<Extension<Speaker>>, body: Body) -> Response {
    let (speaker, body) = match asked(speaker, body).await {
        Ok(asked) => asked,
        Err(refused) => return refused.into_response(),
    };
    answer(app.kernel.attest(&speaker, &body).await)
}

async fn invoke(State(app): State<Arc<App>>, speaker: Option<Extension<Speaker>>, body: Body) -> Response {
    let (speaker, body) = match asked(speaker, body).await {
        Ok(asked) => asked,
        Err(refused) => return refused.into_response(),
    };
    answer(app.kernel.invoke(&speaker, &body).await)
}

async fn tools(State(app): State<Arc<App>>, speaker: Option<Extension<Speaker>>) -> Response {
    match speaker {
        Some(Extension(speaker)) => answer(app.kernel.callable_tools(&speaker).await),
        None => nobody().into_response(),
    }
}

async fn asked(speaker: Option<Extension<Speaker>>, body: Body) -> Result<(Speaker, Bytes), Refused> {
    let Some(Extension(speaker)) = speaker else { return Err(nobody()) };
    Ok((speaker, bytes(body).await?))
}

/// The node's own token is a person's, and a person does not act as an agent.
fn nobody() -> Refused {
    Diagnosis::new(ErrorCode::PermissionDenied, "this credential acts as no agent")
        .hint("make a key with `aegis key create NAME --role agent --agent AGENT` and present it")
        .into()
}

fn answer(result: Result<serde_json::Value, DoorRefusal>) -> Response {
    match result {
        Ok(value) => json(&value),
        Err(DoorRefusal::Smcp(error)) => {
            let status = StatusCode::from_u16(error.code.http_status());
            json_with(status.unwrap_or(StatusCode::FORBIDDEN), &error.to_json())
        }
        Err(DoorRefusal::Node(diagnosis)) => Refused::from(diagnosis).into_response(),
    }
}
