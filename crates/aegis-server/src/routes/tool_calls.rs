//! Calls of tools by people and programs, each in a run of its own that acts as an agent.

use std::sync::Arc;

use aegis_api::{CallTool, ToolCalled};
use aegis_core::{Diagnosis, ErrorCode};
use aegis_kernel::port::Listener;
use aegis_kernel::{Act, Acted, Caller};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{bytes, from_json};
use crate::answer::{Answer, Refused, json as answer};
use crate::app::App;
use crate::mcp::denied;

pub(super) async fn call(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer {
    let asked: CallTool = from_json(&bytes(body).await?)?;
    if !asked.arguments.is_object() {
        let what = "`arguments` is not a JSON object";
        return Err(Diagnosis::new(ErrorCode::InvalidInput, what).into());
    }
    // A client that goes away gives the call up; the run is ended all the same.
    let gone = CancellationToken::new();
    let _gone = gone.clone().drop_guard();
    let called = tokio::spawn(async move { called(&app, &caller, &name, asked, gone).await });
    let called = called.await.map_err(|error| Diagnosis::internal(error.to_string()))??;
    Ok(answer(&called))
}

async fn called(
    app: &App,
    caller: &Caller,
    tool: &str,
    asked: CallTool,
    cancel: CancellationToken,
) -> Result<ToolCalled, Refused> {
    let acting = app.kernel.act(caller, &asked.agent).await?;
    let act = Act { id: "1", tool, arguments: asked.arguments, listener: Arc::new(Silent), cancel };
    let acted = app.kernel.act_by(&acting, act).await;
    app.kernel.act_no_more(&acting);
    let result = match acted? {
        Acted::Whole(mut whole) => match whole.get_mut("result").map(Value::take) {
            Some(result) => result,
            None => return Err(refused(&whole).into()),
        },
        Acted::Answered(result) => {
            json!({"content": [{"type": "text", "text": result.content}], "isError": result.is_error})
        }
        Acted::Denied(denial) => {
            return Err(Diagnosis::new(ErrorCode::PermissionDenied, denied(&denial)).into());
        }
        Acted::Interrupted => {
            let what = "interrupted: it is not known whether this call took effect";
            return Err(Diagnosis::new(ErrorCode::Internal, what).into());
        }
    };
    Ok(ToolCalled { execution_id: acting.execution().to_string(), result })
}

/// An error of the server's own, as the protocol writes it.
fn refused(whole: &Value) -> Diagnosis {
    let of = |name: &str| whole.pointer(&format!("/error/{name}"));
    let message = of("message").and_then(Value::as_str).unwrap_or("it did not say why");
    let code = of("code").and_then(Value::as_i64).unwrap_or_default();
    let kind = if code == INVALID_PARAMS { ErrorCode::InvalidInput } else { ErrorCode::Internal };
    Diagnosis::new(kind, format!("the server answered with error {code}: {message}"))
}

/// JSON-RPC's code of parameters that are wrong.
const INVALID_PARAMS: i64 = -32_602;

struct Silent;

impl Listener for Silent {
    fn progressed(&self, _: f64, _: Option<f64>, _: Option<String>) {}
}
