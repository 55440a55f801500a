//! Journal events of one execution as the events of its stream. Pure: texts come in as values, so that server-sent
//! events, `task logs` and later gRPC tell the same story, and a reconnect tells it again word for word.

use std::collections::{BTreeMap, HashMap};

use aegis_api::{Denied, EventError, ExecutionEvent, ValidationResult};
use aegis_core::execution::FailureReason;
use aegis_core::{
    ActionId, ActionKind, BlobId, BlobRef, Body, DenialCode, Event, Intent, Outcome, Timestamp, Verdict,
};
use serde_json::Value;

/// Longest first argument told, in characters.
const FIRST_ARGUMENT_CHARS_MAX: usize = 200;
/// Arguments that say best what a tool was called on, best first.
const TELLING_ARGUMENTS: [&str; 7] = ["command", "host", "path", "pattern", "url", "query", "name"];

/// The plain texts behind references.
pub(crate) type Texts = HashMap<BlobId, String>;

/// What must be remembered of earlier events to tell later ones.
#[derive(Debug, Default)]
pub(crate) struct Follow {
    /// Whether results of tools, sizes of prompts and what models were asked are told too.
    verbose: bool,
    models: BTreeMap<ActionId, (u32, String)>,
    agent_id: String,
    started_at: Option<Timestamp>,
    tools: BTreeMap<ActionId, Called>,
    answer: Option<BlobRef>,
    verdicts: Vec<(Verdict, BlobRef)>,
}

#[derive(Debug, Clone)]
struct Called {
    tool: String,
    iteration: u32,
    arguments: BlobRef,
}

impl Follow {
    /// Nothing is known yet.
    pub(crate) fn new(verbose: bool) -> Self {
        Self { verbose, ..Self::default() }
    }

    /// The texts that telling `event` needs: answers as they were, while that is kept, all others as the evidence holds
    /// them.
    pub(crate) fn wanted(&self, event: &Event) -> Vec<BlobRef> {
        let answers = self.answers(event);
        let others = self.others(event);
        answers.into_iter().chain(others.into_iter().map(BlobRef::evidence)).collect()
    }

    fn answers(&self, event: &Event) -> Option<BlobRef> {
        match &event.body {
            Body::IterationAnswered { answer, .. } | Body::ExecutionCompleted { answer, .. } => Some(*answer),
            Body::IterationCompleted { .. } => self.answer,
            _ => None,
        }
    }

    fn others(&self, event: &Event) -> Vec<BlobRef> {
        match &event.body {
            Body::ActionCompleted { action, outcome: Outcome::Tool { result, .. }, .. } => {
                let arguments = self.tools.get(action).map(|called| called.arguments);
                arguments.into_iter().chain(self.verbose.then_some(*result)).collect()
            }
            Body::ActionUnknown { action, retry: false, .. } => {
                self.tools.get(action).map(|called| called.arguments).into_iter().collect()
            }
            Body::ActionDenied { target: ActionKind::Tool | ActionKind::Connect, arguments, .. } => {
                vec![*arguments]
            }
            Body::IterationCompleted { .. } => {
                self.verdicts.iter().map(|(_, reasoning)| *reasoning).collect()
            }
            Body::IterationFailed { detail, .. } | Body::ExecutionFailed { detail, .. } => vec![*detail],
            Body::RefinementApplied { previous_error, .. } => vec![*previous_error],
            _ => Vec::new(),
        }
    }

    /// What `event` is on the stream: nothing, one event or two.
    pub(crate) fn tell(&mut self, event: &Event, texts: &Texts) -> Vec<ExecutionEvent> {
        let execution_id = match event.stream {
            aegis_core::StreamId::Execution(id) => id.to_string(),
            _ => return Vec::new(),
        };
        let at = event.at;
        match &event.body {
            Body::ExecutionCreated { agent, .. } => {
                self.agent_id = agent.to_string();
                Vec::new()
            }
            Body::ExecutionStarted {} => {
                self.started_at = Some(at);
                vec![ExecutionEvent::ExecutionStarted {
                    execution_id,
                    agent_id: self.agent_id.clone(),
                    started_at: at.to_string(),
                }]
            }
            Body::ExecutionCompleted { .. }
            | Body::ExecutionFailed { .. }
            | Body::ExecutionCancelled { .. } => self.ending(execution_id, at, &event.body, texts),
            Body::ActionIntended { intent: Intent::Model { .. }, .. }
            | Body::ActionCompleted { outcome: Outcome::Model { .. }, .. } => {
                self.model(execution_id, at, &event.body)
            }
            Body::ActionIntended { .. }
            | Body::ActionCompleted { .. }
            | Body::ActionDenied { .. }
            | Body::ActionUnknown { .. } => self.action(execution_id, at, &event.body, texts),
            _ => self.iteration(execution_id, at, &event.body, texts),
        }
    }

    fn iteration(
        &mut self,
        execution_id: String,
        at: Timestamp,
        body: &Body,
        texts: &Texts,
    ) -> Vec<ExecutionEvent> {
        match body {
            Body::IterationStarted { iteration } => {
                self.answer = None;
                self.verdicts.clear();
                let action = if *iteration > 1 { "refine" } else { "generate" };
                vec![ExecutionEvent::IterationStarted {
                    execution_id,
                    iteration_number: *iteration,
                    action: action.to_owned(),
                    started_at: at.to_string(),
                }]
            }
            Body::IterationPrompted { iteration, prompt, .. } if self.verbose => {
                vec![ExecutionEvent::IterationPrompted {
                    execution_id,
                    iteration_number: *iteration,
                    prompt_bytes: prompt.bytes,
                    prompted_at: at.to_string(),
                }]
            }
            Body::IterationAnswered { iteration, answer } => {
                self.answer = Some(*answer);
                vec![ExecutionEvent::IterationOutput {
                    execution_id,
                    iteration_number: *iteration,
                    output: text_of(texts, answer),
                }]
            }
            Body::ValidatorCompleted { verdict, reasoning, .. } => {
                self.verdicts.push((verdict.clone(), *reasoning));
                Vec::new()
            }
            Body::IterationCompleted { iteration, score, confidence, passed } => self.scored(
                execution_id,
                at,
                *iteration,
                (score.as_f64(), confidence.as_f64(), *passed),
                texts,
            ),
            Body::IterationFailed { iteration, reason, detail } => vec![ExecutionEvent::IterationFailed {
                execution_id,
                iteration_number: *iteration,
                error: failure(*reason, text_of(texts, detail)),
                failed_at: at.to_string(),
            }],
            Body::RefinementApplied { iteration, previous_error } => {
                vec![ExecutionEvent::RefinementApplied {
                    execution_id,
                    iteration_number: *iteration,
                    code_diff: String::new(),
                    previous_error: text_of(texts, previous_error),
                    applied_at: at.to_string(),
                }]
            }
            _ => Vec::new(),
        }
    }

    /// The end of an iteration and, where validators ran, what they found.
    fn scored(
        &mut self,
        execution_id: String,
        at: Timestamp,
        iteration_number: u32,
        (score, confidence, passed): (f64, f64, bool),
        texts: &Texts,
    ) -> Vec<ExecutionEvent> {
        let completed_at = at.to_string();
        let output = self.answer.map(|answer| text_of(texts, &answer)).unwrap_or_default();
        let mut events = vec![ExecutionEvent::IterationCompleted {
            execution_id: execution_id.clone(),
            iteration_number,
            output,
            completed_at: completed_at.clone(),
        }];
        let verdicts = self.verdicts.drain(..);
        let results: Vec<_> =
            verdicts.map(|(verdict, why)| finding(&verdict, text_of(texts, &why))).collect();
        if !results.is_empty() {
            events.push(ExecutionEvent::ValidationCompleted {
                execution_id,
                iteration_number,
                results,
                score,
                confidence,
                passed,
                completed_at,
            });
        }
        events
    }

    /// Models are told of by a verbose stream alone.
    fn model(&mut self, execution_id: String, at: Timestamp, body: &Body) -> Vec<ExecutionEvent> {
        match body {
            Body::ActionIntended { action, iteration, intent: Intent::Model { alias, .. }, .. } => {
                if self.verbose {
                    self.models.insert(*action, (*iteration, alias.clone()));
                }
                Vec::new()
            }
            Body::ActionCompleted {
                action,
                outcome: Outcome::Model { tool_calls, usage, model, .. },
                duration_ms,
            } => {
                let Some((iteration, alias)) = self.models.remove(action) else { return Vec::new() };
                vec![ExecutionEvent::ModelAnswered {
                    execution_id,
                    iteration_number: iteration,
                    alias,
                    model: model.clone(),
                    input_tokens: usage.input_tokens,
                    output_tokens: usage.output_tokens,
                    tool_calls: *tool_calls,
                    duration_ms: *duration_ms,
                    answered_at: at.to_string(),
                }]
            }
            _ => Vec::new(),
        }
    }

    fn action(
        &mut self,
        execution_id: String,
        at: Timestamp,
        body: &Body,
        texts: &Texts,
    ) -> Vec<ExecutionEvent> {
        let told = |called: &Called, summary: String, is_error, exit_code, denied, result| {
            vec![ExecutionEvent::ToolInvoked {
                execution_id: execution_id.clone(),
                iteration_number: called.iteration,
                tool: called.tool.clone(),
                first_argument: first_argument(&text_of(texts, &called.arguments)),
                summary,
                is_error,
                exit_code,
                denied,
                result,
                invoked_at: at.to_string(),
            }]
        };
        match body {
            Body::ActionIntended {
                action, iteration, intent: Intent::Tool { tool, arguments, .. }, ..
            } => {
                let called = Called { tool: tool.clone(), iteration: *iteration, arguments: *arguments };
                self.tools.insert(*action, called);
                Vec::new()
            }
            Body::ActionCompleted {
                action,
                outcome: Outcome::Tool { result, is_error, exit_code, size, denied },
                ..
            } => {
                let Some(called) = self.tools.remove(action) else { return Vec::new() };
                let summary = size.map(|bytes| format!("({bytes} bytes)")).unwrap_or_default();
                let result = self.verbose.then(|| text_of(texts, result));
                let denied = denied.as_ref().map(|late| refusal(late.code, &late.rule));
                told(&called, summary, *is_error, *exit_code, denied, result)
            }
            Body::ActionUnknown { action, retry: false, .. } => {
                let Some(called) = self.tools.remove(action) else { return Vec::new() };
                told(&called, "(interrupted)".to_owned(), true, None, None, None)
            }
            Body::ActionDenied {
                iteration, target: ActionKind::Tool, name, arguments, code, rule, ..
            } => {
                let called = Called { tool: name.clone(), iteration: *iteration, arguments: *arguments };
                told(&called, String::new(), true, None, Some(refusal(*code, rule)), None)
            }
            Body::ActionDenied { iteration, target: ActionKind::Connect, arguments, code, rule, .. } => {
                let connect = "connect".to_owned();
                let called = Called { tool: connect, iteration: *iteration, arguments: *arguments };
                told(&called, String::new(), true, None, Some(refusal(*code, rule)), None)
            }
            _ => Vec::new(),
        }
    }

    fn ending(&self, execution_id: String, at: Timestamp, body: &Body, texts: &Texts) -> Vec<ExecutionEvent> {
        let ended_at = at.to_string();
        match body {
            Body::ExecutionCompleted { answer, total_iterations } => {
                vec![ExecutionEvent::ExecutionCompleted {
                    execution_id,
                    final_output: text_of(texts, answer),
                    total_iterations: *total_iterations,
                    completed_at: ended_at,
                    duration_ms: self.started_at.map_or(0, |started| at.millis_since(started)),
                }]
            }
            Body::ExecutionFailed { reason, detail, total_iterations } => {
                let error = failure(*reason, text_of(texts, detail));
                vec![ExecutionEvent::ExecutionFailed {
                    execution_id,
                    reason: error.message,
                    error_type: error.error_type,
                    total_iterations: *total_iterations,
                    failed_at: ended_at,
                }]
            }
            Body::ExecutionCancelled { total_iterations } => vec![ExecutionEvent::ExecutionCancelled {
                execution_id,
                total_iterations: *total_iterations,
                cancelled_at: ended_at,
            }],
            _ => Vec::new(),
        }
    }
}

/// One validator's finding as it goes on the wire.
pub(crate) fn finding(verdict: &Verdict, reasoning: String) -> ValidationResult {
    ValidationResult {
        validator: verdict.validator.clone(),
        passed: verdict.passed,
        score: verdict.score.as_f64(),
        confidence: verdict.confidence.as_f64(),
        reasoning,
    }
}

/// A failure as it goes on the wire: the detail, or the reason's own words where there is none.
pub(crate) fn failure(reason: FailureReason, detail: String) -> EventError {
    let error_type = serde_json::to_value(reason).ok().and_then(|name| name.as_str().map(str::to_owned));
    let message = if detail.is_empty() { reason.words().to_owned() } else { detail };
    EventError { error_type: error_type.unwrap_or_default(), message, stacktrace: String::new() }
}

fn refusal(code: DenialCode, rule: &str) -> Denied {
    Denied { code: code.name().to_owned(), rule: rule.to_owned() }
}

fn text_of(texts: &Texts, blob: &BlobRef) -> String {
    texts.get(&blob.id).cloned().unwrap_or_default()
}

/// What a tool was called on: a command as it would be typed, or the value of the argument that says most.
fn first_argument(arguments: &str) -> String {
    let told = match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(map)) if map.contains_key("command") => {
            let args = map.get("args").and_then(Value::as_array).into_iter().flatten();
            map.get("command").into_iter().map(as_typed).chain(args.map(word)).collect::<Vec<_>>().join(" ")
        }
        Ok(Value::Object(map)) => TELLING_ARGUMENTS
            .iter()
            .find_map(|name| map.get(*name))
            .or_else(|| map.values().find(|value| value.is_string()))
            .map(as_typed)
            .unwrap_or_default(),
        Ok(other) => as_typed(&other),
        Err(_) => arguments.to_owned(),
    };
    match told.char_indices().nth(FIRST_ARGUMENT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", told.get(..end).unwrap_or_default()),
        None => told,
    }
}

fn as_typed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(words) => words.iter().map(word).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A word of a command, quoted where a reader could take it for several.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
