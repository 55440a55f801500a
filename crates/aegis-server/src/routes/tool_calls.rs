//! Calls of tools by people and programs, each in a run of its own that acts as an agent.

use std::sync::Arc;

use aegis_api::{CallTool, ToolCalled};
use aegis_core::{Body as Event, DenialCode, Diagnosis, ErrorCode, ExecutionId, Outcome, Sha256, StreamId};
use aegis_kernel::port::{EventQuery, Listener};
use aegis_kernel::{Act, Acted, Caller};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{bytes, from_json, to_its_end, tool_questions};
use crate::answer::{Answer, Refused, json as answer};
use crate::app::App;
use crate::idempotency;
use crate::mcp::denied;
use crate::texts::exact_text;

/// A call that was made: all that is remembered under an `Idempotency-Key`. What it gave lies in the record alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Made {
    execution: ExecutionId,
    /// Whether a server answered, whole.
    whole: bool,
}

/// A call that is asked for.
pub(super) struct Call {
    name: String,
    asked: CallTool,
    headers: HeaderMap,
    /// What the whole request is, for its idempotency key.
    request: Sha256,
}

pub(super) async fn call(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let bytes = bytes(body).await?;
    let asked: CallTool = from_json(&bytes)?;
    if !asked.arguments.is_object() {
        let what = "`arguments` is not a JSON object";
        return Err(Diagnosis::new(ErrorCode::InvalidInput, what).into());
    }
    let request = crate::digest(&[b"tools/call", name.as_bytes(), &bytes]);
    let call = Call { name, asked, headers, request };
    if call.asked.questions {
        return tool_questions::stream(app, caller, call);
    }
    // A client that goes away gives the call up; the run is ended all the same.
    let gone = CancellationToken::new();
    let _gone = gone.clone().drop_guard();
    let called = to_its_end(async move { made(&app, &caller, call, |_| Arc::new(Silent), gone).await });
    Ok(answer(&called.await?))
}

/// Makes the call, unless one of the same idempotency key was made; gives what it gave.
pub(super) async fn made(
    app: &App,
    caller: &Caller,
    call: Call,
    listener: impl FnOnce(ExecutionId) -> Arc<dyn Listener> + Send,
    gone: CancellationToken,
) -> Result<ToolCalled, Refused> {
    let Call { name, asked, headers, request } = call;
    let mut given = None;
    let work = async {
        let (made, result) = called(app, caller, &name, asked, listener, gone).await?;
        given = Some(result);
        Ok(made)
    };
    let made = idempotency::once(app, caller, &headers, request, work).await?;
    let result = match given {
        Some(result) => result?,
        None => recorded(app, &made).await?,
    };
    Ok(ToolCalled { execution_id: made.execution.to_string(), result })
}

/// Makes the call. What was refused before it began is tried anew where that can help; what was made, or refused for what
/// it gave, is made, whatever came of it.
async fn called(
    app: &App,
    caller: &Caller,
    tool: &str,
    asked: CallTool,
    listener: impl FnOnce(ExecutionId) -> Arc<dyn Listener> + Send,
    cancel: CancellationToken,
) -> Result<(Made, Result<Value, Diagnosis>), Refused> {
    let acting = app.kernel.act(caller, &asked.agent).await?;
    let listener = listener(acting.execution());
    let act = Act { id: "1", tool, arguments: asked.arguments, listener, cancel };
    let acted = app.kernel.act_by(&acting, act).await;
    app.kernel.act_no_more(&acting);
    let made = Made { execution: acting.execution(), whole: matches!(acted, Ok(Acted::Whole(_))) };
    let result = match acted {
        Ok(Acted::Whole(whole)) => result_of(whole),
        Ok(Acted::Answered(result)) => Ok(text_result(&result.content, result.is_error)),
        Ok(Acted::Denied(denial)) => {
            // What may be tried again later is not remembered as refused for good.
            let code = match denial.code {
                DenialCode::RateLimitExceeded | DenialCode::ExecutionNotActive => ErrorCode::Overloaded,
                _ => ErrorCode::PermissionDenied,
            };
            return Err(Diagnosis::new(code, denied(&denial)).into());
        }
        Ok(Acted::Withheld(denial)) => {
            let told = format!("the call was made, and its answer is withheld: {}", denied(&denial));
            Err(Diagnosis::new(ErrorCode::PermissionDenied, told)
                .hint("look at what it did before you call it again"))
        }
        Ok(Acted::Interrupted) => Err(interrupted()),
        Err(error) => Err(error),
    };
    Ok((made, result))
}

/// What a call gave that was made before, as the record has it.
async fn recorded(app: &App, made: &Made) -> Result<Value, Diagnosis> {
    let stream = StreamId::Execution(made.execution);
    let wanted = EventQuery {
        stream: Some(stream),
        kinds: ["action.completed", "action.unknown"].map(str::to_owned).to_vec(),
        limit: 1,
        ..EventQuery::default()
    };
    let found = app.journal().events(&wanted).await;
    let found = found.map_err(|error| Diagnosis::internal(error.to_string()))?;
    let Some(Event::ActionCompleted { outcome: Outcome::Tool { result, is_error, .. }, .. }) =
        found.first().map(|event| &event.body)
    else {
        return Err(interrupted());
    };
    let text = exact_text(app.journal(), stream, result).await;
    match serde_json::from_str(&text) {
        Ok(whole @ Value::Object(_)) if made.whole => result_of(whole),
        _ => Ok(text_result(&text, *is_error)),
    }
}

fn text_result(text: &str, is_error: bool) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": is_error})
}

fn result_of(mut whole: Value) -> Result<Value, Diagnosis> {
    whole.get_mut("result").map(Value::take).ok_or_else(|| refused(&whole))
}

fn interrupted() -> Diagnosis {
    let what = "interrupted: it is not known whether this call took effect";
    Diagnosis::new(ErrorCode::Internal, what)
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
