//! One call through an open door: a ledger for it, the monitor, the tool, the answer.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use aegis_core::{ActionId, Denial, DenialCode, Durability, ToolCall, ToolResult};
use aegis_security::smcp::checks::Admitted;
use aegis_security::smcp::{RequestId, SmcpCode, SmcpError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::listening::{QUESTIONS_MAX, Recorded};
use super::{CALLS_MAX, CALLS_WAITING_MAX, Live, over};
use crate::execution::{CallNotes, Services};
use crate::monitor::{Action, Performed, Proof, Settled, Target};
use crate::port::{Listener, ToolContext, ToolError};
use crate::record::{Ledger, RecordError};
use crate::tools::{COMMAND_RUN, Found, Home, performed};

/// Longest time for one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a tool that was told to stop may take to do so.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// How long a refusal holds its place: whoever tries a great many calls is on record, but not at any speed.
const REFUSAL_PAUSE: Duration = Duration::from_millis(50);

/// How a call is made.
#[derive(Clone, Default)]
pub(crate) struct Terms {
    /// Told of what happens meanwhile, and given a server's whole answer.
    pub(crate) listener: Option<Arc<dyn Listener>>,
    /// Gives the call up.
    pub(crate) cancel: CancellationToken,
}

/// What came of a call that passed the protocol.
pub(crate) enum Called {
    /// The tool answered.
    Answered(ToolResult),
    /// It was refused.
    Denied(Denial),
    /// It was made, and refused for what came of it.
    Withheld(Denial),
    /// It was given up; nobody knows whether it took effect.
    Interrupted,
}

impl Live {
    /// The tools that may be named, as MCP describes them.
    pub(crate) fn tools_json(&self) -> Value {
        tools_json(self.tools.iter().map(AsRef::as_ref))
    }

    /// The tools that may be named from outside the model's own turn.
    pub(crate) fn callable(&self) -> impl Iterator<Item = &crate::port::ToolFacts> {
        self.tools.iter().map(AsRef::as_ref).filter(|facts| facts.schema.name != COMMAND_RUN)
    }

    /// Whether nothing is taken any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled() || self.finished.is_cancelled()
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&self) {
        self.finished.cancel();
    }

    /// Counts a request: each is remembered, so nobody sends them at any speed.
    ///
    /// # Errors
    /// If there were too many of late.
    pub(crate) fn count(&self) -> Result<(), Denial> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = asked.admit(self.scribe.clock.monotonic());
        asked.finish();
        admitted.map_err(|exceeded| crowded(&exceeded.to_string()))
    }

    /// Performs, or refuses, the call of an admitted envelope. It goes on when its caller goes away.
    pub(crate) async fn call(
        self: &Arc<Self>,
        services: &Arc<Services>,
        admitted: Admitted,
        wanted: ToolCall,
        terms: Terms,
    ) -> Result<Called, RecordError> {
        let Ok(queued) = Arc::clone(&self.queue).try_acquire_owned() else {
            let message = format!("{CALLS_MAX} calls run already, and {CALLS_WAITING_MAX} wait");
            return Ok(Called::Denied(crowded(&message)));
        };
        let (live, services) = (Arc::clone(self), Arc::clone(services));
        let work = async move {
            let _queued = queued;
            let place = tokio::select! {
                place = live.places.acquire() => place.map_err(|_| over()),
                () = live.closed.cancelled() => Err(over()),
                () = terms.cancel.cancelled() => Err(given_up()),
                () = tokio::time::sleep(CALL_TIMEOUT) => Err(crowded("no call before it has ended in time")),
            };
            let _place = match place {
                Ok(place) if !live.closed.is_cancelled() => place,
                Ok(_) => return Ok(Called::Denied(over())),
                Err(denial) => return Ok(Called::Denied(denial)),
            };
            let called = live.pass(&services, &admitted, &wanted, &terms).await;
            if matches!(called, Ok(Called::Denied(_))) {
                tokio::time::sleep(REFUSAL_PAUSE).await;
            }
            called
        };
        let task = self.calls.spawn(work);
        task.await.unwrap_or(Ok(Called::Interrupted))
    }

    async fn pass(
        &self,
        services: &Services,
        admitted: &Admitted,
        wanted: &ToolCall,
        terms: &Terms,
    ) -> Result<Called, RecordError> {
        let found = Found { router: &services.router, served: self.served.as_ref() };
        let home = found.find(&wanted.name);
        let facts = home.as_ref().map(Home::facts);
        let target = Target::Tool { turn: 0, index: 0, call: wanted, facts, proof: Proof::Client(admitted) };
        let action = Action { target, generation: self.generation };
        let Some((mut ledger, mut authority)) = self.workers.take(&services.monitor).await? else {
            return Ok(Called::Denied(over()));
        };
        let listener = terms.listener.clone();
        let listener = listener.map(|inner| Arc::new(Recorded::new(inner, ledger.clone())));
        let context = ToolContext {
            execution: self.execution,
            workspace: Arc::clone(&self.workspace),
            listener: listener.clone().map(|listener| listener as Arc<dyn Listener>),
            way_out: self.way_out.clone(),
            tenant: ledger.tenant.clone(),
            record: None,
        };
        let (home, context, beside) = (&home, &context, ledger.clone());
        let perform = move |id: ActionId| async move {
            let Some(Home::Host(host, _)) = home else {
                return Performed::Tool(Err(ToolError::Internal(format!("no tool `{}`", wanted.name))));
            };
            if let Err(refused) = self.note_given(listener.as_deref(), wanted).await {
                return Performed::Tool(Err(refused));
            }
            let notes = CallNotes::new(beside, id, &wanted.name);
            let context = &ToolContext { record: Some(Arc::new(notes)), ..context.clone() };
            let cancel = CancellationToken::new();
            let mut call = host.call(context, wanted, &cancel);
            tokio::select! {
                result = &mut call => return performed(result),
                () = self.closed.cancelled() => cancel.cancel(),
                () = terms.cancel.cancelled() => cancel.cancel(),
                () = tokio::time::sleep(CALL_TIMEOUT) => cancel.cancel(),
            }
            match tokio::time::timeout(CANCEL_PATIENCE, call).await {
                Ok(Ok(result)) => Performed::Tool(Ok(result)),
                _ => Performed::Interrupted,
            }
        };
        let settled = services.monitor.pass(&mut ledger, &mut authority, &action, perform).await;
        let settled = match settled {
            // What ended the execution, or asked for its end, came in between.
            Err(RecordError::Refused(_)) => return Ok(Called::Denied(over())),
            settled => settled?,
        };
        self.workers.give_back((ledger, authority));
        Ok(match settled {
            Settled::Tool { denied: Some(denial), .. } => Called::Withheld(denial),
            Settled::Denied(denial) => Called::Denied(denial),
            Settled::Tool { result, .. } => Called::Answered(result),
            Settled::Interrupted | Settled::Connection | Settled::Model(_) | Settled::ModelFailed(_) => {
                Called::Interrupted
            }
        })
    }

    /// Records what the caller answers to a server's former questions, before the server is given it.
    async fn note_given(&self, listener: Option<&Recorded>, call: &ToolCall) -> Result<(), ToolError> {
        let Some((listener, given)) = listener.and_then(|it| Some((it, it.given()?))) else { return Ok(()) };
        if given.answers.len() > QUESTIONS_MAX {
            return Err(ToolError::Arguments("too many answers in one call".to_owned()));
        }
        let asker = self.served.as_ref().and_then(|served| served.asker(call));
        let asker = asker.and_then(|(server, method)| Some((server.parse().ok()?, method)));
        let Some((server, method)) = asker else {
            return Err(ToolError::Arguments(format!("`{}` asked nothing", call.name)));
        };
        let noted = listener.note_given(&server, method, &given).await;
        noted.map_err(|error| ToolError::Internal(error.to_string()))
    }

    /// Records a fact of the door's.
    pub(crate) async fn note(&self, body: aegis_core::Body) -> Result<(), RecordError> {
        let mut ledger = Ledger::open(self.scribe.clone(), self.execution).await?;
        ledger.fact(body, Vec::new(), Durability::Process).await
    }
}

/// Tools as MCP describes them; what only the model's own turn can run is left out.
pub(crate) fn tools_json<'a>(tools: impl Iterator<Item = &'a crate::port::ToolFacts>) -> Value {
    let tools: Vec<Value> = tools
        .filter(|facts| facts.schema.name != COMMAND_RUN)
        .map(|facts| {
            let schema = &facts.schema;
            json!({"name": schema.name, "description": schema.description, "inputSchema": schema.parameters})
        })
        .collect();
    json!({ "tools": tools })
}

/// A call's result as MCP gives it.
pub(crate) fn result_json(result: &ToolResult) -> Value {
    json!({"content": [{"type": "text", "text": result.content}], "isError": result.is_error})
}

/// The call that an admitted request asks for.
pub(crate) fn wanted(admitted: &Admitted) -> Result<ToolCall, SmcpError> {
    let (name, arguments) = admitted.tool_call().ok_or_else(|| {
        SmcpError::new(SmcpCode::InvalidEnvelope, "`params` of tools/call are not {name, arguments}")
    })?;
    let id = match admitted.envelope.request_id() {
        RequestId::Text(text) => text.clone(),
        other => other.key(),
    };
    Ok(ToolCall { id, name: name.to_owned(), arguments })
}

fn crowded(message: &str) -> Denial {
    Denial {
        code: DenialCode::RateLimitExceeded,
        rule: "node:calls".to_owned(),
        message: message.to_owned(),
        remedy: "call again later, and fewer tools at once".to_owned(),
    }
}

fn given_up() -> Denial {
    Denial { message: "the call was given up before it began".to_owned(), ..over() }
}
