//! The inner loop: model and tools take turns, each an action through the monitor, until the model has an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aegis_core::execution::{Call, FailureReason};
use aegis_core::limits::{COMMAND_OUTPUT_BYTES_MAX, TOOL_CALLS_PER_TURN_MAX};
use aegis_core::{
    ActionId, Body, Durability, Message, ModelAnswer, ModelFailure, ModelFailureKind, ModelRequest, Role,
    ToolCall, ToolResult,
};
use tokio_util::sync::CancellationToken;

use super::Stopper;
use super::call_record::CallNotes;
use super::driver::{Driver, Halt};
use super::generation::{Generation, command_environment};
use crate::dispatch::Down;
use crate::egress::OpenOutlet;
use crate::monitor::{Action, Performed, Proof, Settled, Target};
use crate::port::{ToolContext, ToolError};
use crate::redaction;
use crate::tools::{self, Found, Home, performed};

/// What a model is told after a crash of the daemon in the middle of its work.
const RESUMED_NOTICE: &str = "Notice: the sandbox was restarted. Files in the volumes are as you left them; \
/tmp and running processes are gone.";
/// How long a tool that was told to stop may take to do so.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// How long after its own timeout a command's result is still waited for.
const COMMAND_SLACK: Duration = Duration::from_secs(10);

impl Driver {
    /// Asks the model for turn `turn`.
    pub(crate) async fn ask_model(&mut self, turn: u32) -> Result<(), Halt> {
        self.ensure_generation().await?;
        self.catch_up_conversation().await?;
        let model = self.services.ports.model.as_ref();
        let request = self.ledger.scribe.redaction.for_model(model, self.model_request());
        let generation = self.ledger.state.generation;
        let action = Action { target: Target::Model { alias: &request.alias, turn }, generation };
        let (model, stopper) = (self.services.ports.model.clone(), self.stopper.clone());
        let (live, asked) = (&mut self.generation, &request);
        let perform = move |_: ActionId| async move {
            let cancel = CancellationToken::new();
            tokio::select! {
                answered = model.ask(asked, &cancel) => Performed::Model(answered.map(bounded)),
                _ = stopper.stopped() => { cancel.cancel(); Performed::Interrupted }
                // Nobody is left to be given an answer: waiting for it would cost time and money.
                () = gone(live) => { cancel.cancel(); Performed::Interrupted }
            }
        };
        let services = self.services.clone();
        match services.monitor.pass(&mut self.ledger, &mut self.authority, &action, perform).await? {
            Settled::Model(answer) => {
                self.conversation.push(Arc::new(assistant(answer)));
                self.turns_held += 1;
                Ok(())
            }
            Settled::ModelFailed(failure) => Err(model_failed(&failure)),
            Settled::Denied(denial) => Err(Halt::Execution(FailureReason::ModelRefused, denial.to_string())),
            Settled::Interrupted | Settled::Connection | Settled::Tool { .. } => match self.stopper.pending()
            {
                Some(reason) => Err(Halt::Stopped(reason)),
                // The bootstrap went away: its end says why.
                None => self.receive(COMMAND_SLACK).await.and(Err(protocol("a message nobody asked for"))),
            },
        }
    }

    /// Performs, or refuses, one tool call of the last turn.
    pub(crate) async fn call_tool(&mut self, (turn, index): Call) -> Result<(), Halt> {
        self.ensure_generation().await?;
        self.catch_up_conversation().await?;
        let Some(mut call) = self.pending_call(index) else {
            return Err(Halt::Execution(
                FailureReason::Internal,
                "the record names a call it does not hold".to_owned(),
            ));
        };
        // What was recorded before a secret was set may hold it.
        redaction::call(&self.ledger.scribe.redaction.redactor(), &mut call);
        let services = self.services.clone();
        let found = Found { router: &services.router, served: self.blueprint.served.as_ref() };
        let home = found.find(&call.name);
        let facts = home.as_ref().map(Home::facts);
        let generation = self.ledger.state.generation;
        let (signed, session) = self.sign(&call)?;
        let proof = Proof::Kernel { envelope: signed.as_ref(), session: &session };
        let action = Action { target: Target::Tool { turn, index, call: &call, facts, proof }, generation };
        let context = ToolContext {
            execution: self.ledger.execution,
            workspace: Arc::clone(&self.rooms().await?.workspace),
            listener: None,
            way_out: self.outlet.as_ref().map(OpenOutlet::way_out),
            tenant: self.ledger.tenant.clone(),
            record: None,
        };
        let beside = self.ledger.clone();
        let environment = command_environment(&self.blueprint.env).collect();
        let (live, stopper) = (&mut self.generation, self.stopper.clone());
        let (home, context, wanted) = (&home, &context, &call);
        let perform = move |id: ActionId| async move {
            match home {
                Some(Home::Sandbox(_)) => run_command(live, &stopper, id, (wanted, environment)).await,
                Some(Home::Host(host, _)) => {
                    let cancel = CancellationToken::new();
                    let notes = CallNotes::new(beside, id, &wanted.name);
                    let context = &ToolContext { record: Some(Arc::new(notes)), ..context.clone() };
                    let mut call = host.call(context, wanted, &cancel);
                    tokio::select! {
                        result = &mut call => return performed(result),
                        _ = stopper.stopped() => cancel.cancel(),
                    }
                    // A change under way is waited for: an effect after its record would be a lie.
                    match tokio::time::timeout(CANCEL_PATIENCE, call).await {
                        Ok(Ok(result)) => Performed::Tool(Ok(result)),
                        _ => Performed::Interrupted,
                    }
                }
                None => Performed::Tool(Err(ToolError::Internal(format!("no tool `{}`", wanted.name)))),
            }
        };
        let settled = services.monitor.pass(&mut self.ledger, &mut self.authority, &action, perform).await?;
        let silent = self.generation.as_ref().is_some_and(|generation| generation.waiting.is_none());
        match (settled, self.stopper.pending()) {
            (Settled::Interrupted, Some(reason)) => Err(Halt::Stopped(reason)),
            _ if silent => {
                // The bootstrap went away while it ran the command: its end says why.
                self.receive(COMMAND_SLACK).await.and(Err(protocol("a message nobody asked for")))
            }
            _ => Ok(()),
        }
    }

    /// Records the answer: the last turn called no tools.
    pub(crate) async fn record_answer(&mut self) -> Result<(), Halt> {
        self.catch_up_conversation().await?;
        let content = self.conversation.last().map(|message| message.content.clone()).unwrap_or_default();
        let mut blobs = Vec::new();
        let answer = self.ledger.scribe.blob(content, &mut blobs);
        let body = Body::IterationAnswered { iteration: self.ledger.state.iteration, answer };
        self.ledger.fact(body, blobs, Durability::Process).await?;
        Ok(())
    }

    /// Brings the conversation up to the record: each turn's answer, then the results of its calls, in order.
    async fn catch_up_conversation(&mut self) -> Result<(), Halt> {
        if self.turns_held == self.ledger.state.current.turns.len() && self.tail_is_complete() {
            return Ok(());
        }
        if self.turns_held < self.ledger.state.current.turns.len() {
            // After a resume: the record holds turns this driver has not seen.
            self.conversation.clear();
            self.turns_held = 0;
            for turn in self.ledger.state.current.turns.clone() {
                let text = self.text(&turn.answer).await?;
                let mut message: Message = serde_json::from_str::<StoredAnswer>(&text)
                    .map(StoredAnswer::into_message)
                    .map_err(|error| Halt::Execution(FailureReason::Internal, error.to_string()))?;
                message.role = Role::Assistant;
                self.conversation.push(Arc::new(message));
                self.turns_held += 1;
                self.append_results(self.turns_held).await?;
            }
            return Ok(());
        }
        self.append_results(self.turns_held).await
    }

    fn tail_is_complete(&self) -> bool {
        let Some(turn) = self.ledger.state.current.turns.last() else { return true };
        self.results_held() >= turn.results.len()
    }

    /// Results of the last turn that the conversation holds.
    fn results_held(&self) -> usize {
        self.conversation.iter().rev().take_while(|message| message.role == Role::Tool).count()
    }

    async fn append_results(&mut self, turns: usize) -> Result<(), Halt> {
        let Some(turn) = turns.checked_sub(1).and_then(|at| self.ledger.state.current.turns.get(at)).cloned()
        else {
            return Ok(());
        };
        let held = self.results_held();
        let asked = self.conversation.iter().rev().find(|message| message.role == Role::Assistant);
        let Some(asked) = asked.map(Arc::clone) else { return Ok(()) };
        for (index, call) in (0u32..).zip(&asked.tool_calls).skip(held) {
            let Some(result) = turn.results.get(&index) else { break };
            let mut message = Message::text(Role::Tool, self.text(&result.text).await?);
            message.tool_call_id = Some(call.id.clone());
            self.conversation.push(Arc::new(message));
        }
        Ok(())
    }

    fn pending_call(&self, index: u32) -> Option<ToolCall> {
        let asked = self.conversation.iter().rev().find(|message| message.role == Role::Assistant)?;
        asked.tool_calls.get(index as usize).cloned()
    }

    fn model_request(&self) -> ModelRequest {
        let mut messages = vec![Arc::clone(&self.prompt)];
        let notices = &self.ledger.state.current.notices;
        let mut turns = 0u32;
        let mut conversation = self.conversation.iter().peekable();
        while let Some(message) = conversation.next() {
            turns += u32::from(message.role == Role::Assistant);
            messages.push(Arc::clone(message));
            let ends_turn = conversation.peek().is_none_or(|next| next.role == Role::Assistant);
            if ends_turn && notices.contains(&turns) {
                messages.push(Arc::new(Message::text(Role::User, RESUMED_NOTICE)));
            }
        }
        ModelRequest {
            alias: self.blueprint.model.clone(),
            messages,
            tools: self.blueprint.tools.iter().map(|facts| facts.schema.clone()).collect(),
            response_format: self.blueprint.response_format.clone(),
            temperature_milli: self.blueprint.temperature_milli,
            max_output_tokens: None,
            timeout_ms: self.blueprint.model_timeout_ms,
            jitter_seed: self.ledger.state.position,
        }
    }

    /// Why an action under way was given up; the stopper knows.
    pub(crate) fn stop_reason(&self) -> Halt {
        let given_up = || Halt::Iteration(FailureReason::ModelFailed, "the call was given up".to_owned());
        self.stopper.pending().map_or_else(given_up, Halt::Stopped)
    }
}

/// The stored form of an answer.
#[derive(serde::Deserialize)]
struct StoredAnswer {
    content: String,
    tool_calls: Vec<ToolCall>,
}

impl StoredAnswer {
    fn into_message(self) -> Message {
        Message {
            role: Role::Assistant,
            content: self.content,
            tool_calls: self.tool_calls,
            tool_call_id: None,
        }
    }
}

fn assistant(answer: ModelAnswer) -> Message {
    Message {
        role: Role::Assistant,
        content: answer.content,
        tool_calls: answer.tool_calls,
        tool_call_id: None,
    }
}

/// No more calls than the limit are taken from one turn; what is left out was never promised a result.
fn bounded(mut answer: ModelAnswer) -> ModelAnswer {
    answer.tool_calls.truncate(TOOL_CALLS_PER_TURN_MAX);
    answer
}

/// A failure of a model, as the loop sees it: what configuration or request lacks does not mend itself.
pub(crate) fn model_failed(failure: &ModelFailure) -> Halt {
    match failure.kind {
        ModelFailureKind::UnknownAlias
        | ModelFailureKind::Authentication
        | ModelFailureKind::BadRequest
        | ModelFailureKind::NotRecorded => {
            Halt::Execution(FailureReason::ModelRefused, failure.message.clone())
        }
        _ => Halt::Iteration(FailureReason::ModelFailed, failure.message.clone()),
    }
}

fn protocol(what: &str) -> Halt {
    Halt::Iteration(FailureReason::ProtocolViolation, format!("the bootstrap sent {what}"))
}

/// Returns once the bootstrap that waits for an answer has hung up.
async fn gone(live: &mut Option<Generation>) {
    match live.as_mut().and_then(|generation| generation.waiting.as_mut()) {
        Some(exchange) => exchange.reply.closed().await,
        None => std::future::pending().await,
    }
}

/// Runs a command through the dispatch protocol: the answer to the bootstrap's waiting message.
async fn run_command(
    live: &mut Option<Generation>,
    stopper: &Stopper,
    id: ActionId,
    (call, env_additions): (&ToolCall, BTreeMap<String, String>),
) -> Performed {
    let Some(generation) = live else { return Performed::Interrupted };
    let command = match tools::Command::parse(&call.arguments) {
        Ok(command) => command,
        Err(error) => return Performed::Tool(Err(ToolError::Arguments(error))),
    };
    let Some(exchange) = generation.waiting.take() else { return Performed::Interrupted };
    let dispatch_id = id.to_string();
    let down = Down::Dispatch {
        dispatch_id: dispatch_id.clone(),
        action: "exec",
        command: command.program,
        args: command.args,
        cwd: command.cwd,
        env_additions,
        timeout_secs: command.timeout.as_secs(),
        max_output_bytes: COMMAND_OUTPUT_BYTES_MAX as u64,
    };
    if exchange.reply.send(down).is_err() {
        return Performed::Interrupted;
    }
    let answered = tokio::select! {
        answered = tokio::time::timeout(command.timeout + COMMAND_SLACK, generation.next_message()) => answered,
        _ = stopper.stopped() => return Performed::Interrupted,
    };
    let Ok(Some(exchange)) = answered else { return Performed::Interrupted };
    match tools::command_result(&exchange.up, &generation.execution, &dispatch_id) {
        Some(result) => {
            generation.waiting = Some(exchange);
            Performed::Tool(Ok(result))
        }
        None => {
            generation.wrong_answers += 1;
            Performed::Tool(Ok(ToolResult::error(
                "the sandbox answered with something else than the command's result",
            )))
        }
    }
}
