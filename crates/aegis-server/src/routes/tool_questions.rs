//! Calls of tools by callers of the HTTP API who answer what the tool's server asks of a person: a stream of questions,
//! with the result at its end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aegis_api::{AnswerQuestion, ToolQuestion};
use aegis_core::{Diagnosis, ErrorCode, ExecutionId};
use aegis_kernel::Caller;
use aegis_kernel::port::{Listener, Question, QuestionKind, Unanswered};
use async_trait::async_trait;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::tool_calls::{self, Call};
use super::{bytes, from_json};
use crate::answer::{Answer, Refused, done};
use crate::app::App;

/// Events that wait to be sent to a caller.
const EVENTS_WAITING_MAX: usize = 32;
/// Between two signs of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// A question that waits: whose call it belongs to, and where its answer goes.
type Waiting = (Caller, oneshot::Sender<Value>);

/// The questions that wait for an answer.
#[derive(Default)]
pub(crate) struct Questions(Mutex<HashMap<(ExecutionId, u32), Waiting>>);

impl Questions {
    fn waiting(&self) -> MutexGuard<'_, HashMap<(ExecutionId, u32), Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an answer to the question of this caller's call.
    fn answer(&self, caller: &Caller, place: (ExecutionId, u32), answer: Value) -> Option<()> {
        let mut waiting = self.waiting();
        let (whose, _) = waiting.get(&place)?;
        if whose.tenant != caller.tenant || whose.actor != caller.actor {
            return None;
        }
        let (_, give) = waiting.remove(&place)?;
        drop(waiting);
        give.send(answer).ok()
    }
}

/// Makes the call; its stream is the answer.
pub(super) fn stream(app: Arc<App>, caller: Caller, call: Call) -> Answer {
    let permit = app.streams.clone().try_acquire_owned().map_err(|_| {
        Diagnosis::new(ErrorCode::Overloaded, "too many event streams are open")
            .hint("close some, or try later")
    })?;
    let (out, events) = mpsc::channel(EVENTS_WAITING_MAX);
    tokio::spawn(async move {
        let ended = match called(&app, &caller, call, &out).await {
            Ok(called) => frame("called", &called),
            Err(Refused(problem)) => frame("refused", &problem),
        };
        if let Some(ended) = ended {
            let _ = out.send(ended).await;
        }
        drop(permit);
    });
    let body = Body::from_stream(ReceiverStream::new(events).map(Ok::<_, Infallible>));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

async fn called(
    app: &Arc<App>,
    caller: &Caller,
    call: Call,
    out: &mpsc::Sender<Bytes>,
) -> Result<aegis_api::ToolCalled, Refused> {
    let cancel = CancellationToken::new();
    let asking = |execution| -> Arc<dyn Listener> {
        Arc::new(Asking {
            questions: Arc::clone(&app.questions),
            caller: caller.clone(),
            execution,
            asked: AtomicU32::new(0),
            out: out.clone(),
        })
    };
    let call = tool_calls::made(app, caller, call, asking, cancel.clone());
    tokio::pin!(call);
    let mut life = tokio::time::interval(SIGN_OF_LIFE);
    let mut gone = false;
    loop {
        tokio::select! {
            called = &mut call => return called,
            // A client that goes away, and a daemon that stops, give the call up; its end is recorded all the same.
            () = out.closed(), if !gone => {
                gone = true;
                cancel.cancel();
            }
            () = app.stop.cancelled(), if !gone => {
                gone = true;
                cancel.cancel();
            }
            _ = life.tick() => {
                let _ = out.try_send(Bytes::from_static(b": \n\n"));
            }
        }
    }
}

fn frame(name: &str, data: &impl Serialize) -> Option<Bytes> {
    // JSON has no line breaks of its own, so the data is one line.
    let data = serde_json::to_string(data).ok()?;
    Some(Bytes::from(format!("event: {name}\ndata: {data}\n\n")))
}

/// The caller of one call.
struct Asking {
    questions: Arc<Questions>,
    caller: Caller,
    execution: ExecutionId,
    asked: AtomicU32,
    out: mpsc::Sender<Bytes>,
}

/// A question that waits; dropped, it no longer does.
struct Place<'a>(&'a Questions, (ExecutionId, u32));

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(&self.1);
    }
}

#[async_trait]
impl Listener for Asking {
    fn progressed(&self, _: f64, _: Option<f64>, _: Option<String>) {}
    fn answers(&self, kind: QuestionKind) -> bool {
        kind == QuestionKind::Elicitation
    }

    async fn asked(&self, question: Question) -> Result<Value, Unanswered> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let place = (self.execution, number);
        let (give, given) = oneshot::channel();
        self.questions.waiting().insert(place, (self.caller.clone(), give));
        let _place = Place(&self.questions, place);
        let told = frame(
            "asked",
            &ToolQuestion {
                execution_id: self.execution.to_string(),
                question: number,
                server: question.server.to_string(),
                method: question.kind.method().to_owned(),
                params: question.params,
            },
        );
        let gone = || Unanswered::Refused("whoever called is gone".to_owned());
        self.out.send(told.ok_or_else(gone)?).await.map_err(|_| gone())?;
        tokio::select! {
            answer = given => answer.map_err(|_| gone()),
            () = self.out.closed() => Err(gone()),
        }
    }
}

/// `POST /v1/executions/{id}/questions/{question}`
pub(super) async fn answer(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((execution, question)): Path<(String, u32)>,
    body: Body,
) -> Answer {
    let AnswerQuestion { answer } = from_json(&bytes(body).await?)?;
    if !answer.is_object() {
        return Err(Diagnosis::new(ErrorCode::InvalidInput, "`answer` is not a JSON object").into());
    }
    let unknown = || Diagnosis::new(ErrorCode::NotFound, "no such question waits for an answer of yours");
    let execution: ExecutionId = execution.parse().map_err(|_| unknown())?;
    app.questions.answer(&caller, (execution, question), answer).ok_or_else(unknown)?;
    Ok(done())
}

#[cfg(test)]
mod tests {
    use aegis_core::{Actor, Tenant};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_question_is_answered_by_whoever_called_alone() {
        let questions = Questions::default();
        let caller = |tenant: &str, name: &str| Caller {
            tenant: tenant.parse::<Tenant>().unwrap(),
            actor: Actor::person(name),
        };
        let place = (ExecutionId::from_uuid(uuid::Uuid::nil()), 1);
        let (give, given) = oneshot::channel();
        questions.waiting().insert(place, (caller("default", "ann"), give));
        assert_eq!(questions.answer(&caller("default", "bob"), place, json!({})), None);
        assert_eq!(questions.answer(&caller("other", "ann"), place, json!({})), None);
        assert_eq!(questions.answer(&caller("default", "ann"), (place.0, 2), json!({})), None);
        assert_eq!(
            questions.answer(&caller("default", "ann"), place, json!({"action": "decline"})),
            Some(())
        );
        assert_eq!(given.await.unwrap(), json!({"action": "decline"}));
        assert_eq!(questions.answer(&caller("default", "ann"), place, json!({})), None, "once");
    }
}
