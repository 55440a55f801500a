//! The api door of sandboxes: a closed list. The connection says who speaks; no header does.

use std::sync::Arc;

use aegis_core::{Diagnosis, ErrorCode};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use http::{HeaderValue, StatusCode, header};

use super::smcp;
use crate::answer::Refused;
use crate::app::App;
use crate::guard::{Foreign, has_known_body_type};

/// Where model clients ask. Known, so that a program is told what is missing.
const MODELS: [&str; 5] =
    ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/models", "/v1/messages"];

/// All routes of the api door.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let mut router = smcp::routes();
    for path in MODELS {
        router = router.route(path, any(models));
    }
    router
        .fallback(foreign)
        .method_not_allowed_fallback(foreign)
        .layer(from_fn(plain))
        .layer(from_fn_with_state(app.clone(), ready))
        .with_state(app.clone())
}

async fn models() -> Refused {
    Diagnosis::capability_missing(
        "models for programs inside the sandbox are not in this build",
        "let the manifest's `runtime.model` speak, and call tools by SMCP",
    )
    .into()
}

/// What is on no list was tried, and is on record.
async fn foreign(State(app): State<Arc<App>>) -> Refused {
    app.refusals.count(Foreign::Route);
    Diagnosis::new(ErrorCode::NotFound, "no such route inside a sandbox").into()
}

async fn ready(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if !app.is_ready() {
        let what = Diagnosis::new(ErrorCode::Overloaded, "the daemon is stopping").hint("try again soon");
        return Refused::from(what).into_response();
    }
    next.run(request).await
}

async fn plain(request: Request, next: Next) -> Response {
    if !has_known_body_type(request.method(), request.headers()) {
        let what = Diagnosis::new(ErrorCode::InvalidInput, "the body's type is not JSON")
            .hint("send `Content-Type: application/json`");
        return Refused::with_status(what, StatusCode::UNSUPPORTED_MEDIA_TYPE).into_response();
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
