//! OpenAI's chat completions, as OpenAI, Ollama, vLLM, LM Studio and llama.cpp speak it.
//! Protocol: <https://platform.openai.com/docs/api-reference/chat>.

use aegis_core::{FinishReason, Message, ModelRequest, ResponseFormat, Role};
use serde_json::{Map, Value, json};

use super::{event_value, label, list, temperature, text};
use crate::draft::Draft;
use crate::fault::Fault;
use crate::names::Names;

pub(super) fn body(
    request: &ModelRequest,
    model: &str,
    names: &Names,
    vendor: bool,
    ask_usage: bool,
) -> Value {
    let mut body = Map::new();
    let mut set = |field: &str, value: Value| body.insert(field.to_owned(), value);
    set("model", json!(model));
    set("messages", request.messages.iter().map(|one| message(one, names)).collect());
    set("stream", json!(true));
    if ask_usage {
        set("stream_options", json!({"include_usage": true}));
    }
    if vendor {
        set("store", json!(false));
    }
    if let Some(temperature) = temperature(request) {
        set("temperature", json!(temperature));
    }
    if let Some(tokens) = request.max_output_tokens {
        set(if vendor { "max_completion_tokens" } else { "max_tokens" }, json!(tokens));
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            let function = json!({
                "name": names.wire(&tool.name),
                "description": tool.description,
                "parameters": tool.parameters,
            });
            json!({"type": "function", "function": function})
        });
        set("tools", tools.collect());
    }
    if let Some(ResponseFormat::JsonSchema { name, schema }) = &request.response_format {
        set(
            "response_format",
            json!({"type": "json_schema", "json_schema": {"name": name, "schema": schema}}),
        );
    }
    Value::Object(body)
}

fn message(message: &Message, names: &Names) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut out = json!({"role": role, "content": message.content});
    let Some(fields) = out.as_object_mut() else { return out };
    if let Some(id) = &message.tool_call_id {
        fields.insert("tool_call_id".to_owned(), json!(id));
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            let arguments = call.arguments.as_str().map_or_else(|| call.arguments.to_string(), str::to_owned);
            let function = json!({"name": names.wire(&call.name), "arguments": arguments});
            json!({"id": call.id, "type": "function", "function": function})
        });
        fields.insert("tool_calls".to_owned(), calls.collect());
        if message.content.is_empty() {
            fields.insert("content".to_owned(), Value::Null);
        }
    }
    out
}

/// Reads a stream of `chat.completion.chunk`.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    draft: Draft,
    done: bool,
}

impl Reader {
    pub(super) fn event(&mut self, data: &str) -> Result<bool, Fault> {
        if data.trim() == "[DONE]" {
            self.done = true;
            return Ok(true);
        }
        let chunk = event_value(data)?;
        facts(&mut self.draft, &chunk);
        if let Some(choice) = list(&chunk, "choices").next() {
            if let Some(delta) = choice.get("delta") {
                part(&mut self.draft, delta)?;
            }
            finish(&mut self.draft, choice);
        }
        Ok(false)
    }
    pub(super) fn end(self) -> Result<Draft, Fault> {
        if self.done || self.draft.finish.is_some() { Ok(self.draft) } else { Err(Fault::Broken) }
    }
}

pub(super) fn whole(value: &Value) -> Result<Draft, Fault> {
    let mut draft = Draft::default();
    facts(&mut draft, value);
    let Some(choice) = list(value, "choices").next() else {
        return Err(Fault::Malformed("a completion without `choices`".to_owned()));
    };
    let Some(message) = choice.get("message").filter(|message| message.is_object()) else {
        return Err(Fault::Malformed("a completion without `message`".to_owned()));
    };
    part(&mut draft, message)?;
    finish(&mut draft, choice);
    Ok(draft)
}

fn facts(draft: &mut Draft, value: &Value) {
    draft.request_id = draft.request_id.take().or_else(|| label(value, "id"));
    draft.model = draft.model.take().or_else(|| label(value, "model"));
    draft.fingerprint = draft.fingerprint.take().or_else(|| label(value, "system_fingerprint"));
    if let Some(usage) = value.get("usage") {
        // Some servers send running totals with each chunk: the last one counts.
        let tokens = |field: &str| usage.get(field).and_then(Value::as_u64);
        draft.input_tokens = tokens("prompt_tokens").or(draft.input_tokens);
        draft.output_tokens = tokens("completion_tokens").or(draft.output_tokens);
    }
}

/// Text and calls of a message or of a part of one.
fn part(draft: &mut Draft, message: &Value) -> Result<(), Fault> {
    draft.add_content(text(message, "content"))?;
    draft.add_content(text(message, "refusal"))?;
    for (position, call) in list(message, "tool_calls").enumerate() {
        let index = call.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
        let function = call.get("function").unwrap_or(&Value::Null);
        // Arguments are text by the protocol; some servers send the object itself.
        match function.get("arguments") {
            Some(arguments @ Value::Object(_)) => {
                draft.add_call(index, text(call, "id"), text(function, "name"), &arguments.to_string())?;
            }
            _ => draft.add_call(
                index,
                text(call, "id"),
                text(function, "name"),
                text(function, "arguments"),
            )?,
        }
    }
    Ok(())
}

fn finish(draft: &mut Draft, choice: &Value) {
    draft.finish = match text(choice, "finish_reason") {
        "" => draft.finish,
        "tool_calls" | "function_call" => Some(FinishReason::ToolCalls),
        "length" => Some(FinishReason::Length),
        "content_filter" => Some(FinishReason::ContentFilter),
        _ => Some(FinishReason::Stop),
    };
}
