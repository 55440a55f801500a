//! Anthropic's messages. Protocol: <https://docs.anthropic.com/en/api/messages>.

use std::sync::Arc;

use aegis_core::{FinishReason, Message, ModelRequest, ResponseFormat, Role};
use serde_json::{Map, Value, json};

use super::{event_value, label, list, temperature, text};
use crate::draft::Draft;
use crate::fault::Fault;
use crate::names::Names;

/// Revision of the protocol.
pub(super) const VERSION: &str = "2023-06-01";
/// The protocol demands a limit; this one where the request has none.
const MAX_TOKENS_DEFAULT: u32 = 8192;

pub(super) fn body(request: &ModelRequest, model: &str, names: &Names) -> Value {
    let mut body = Map::new();
    let mut set = |field: &str, value: Value| body.insert(field.to_owned(), value);
    set("model", json!(model));
    set("max_tokens", json!(request.max_output_tokens.unwrap_or(MAX_TOKENS_DEFAULT)));
    set("stream", json!(true));
    let system: Vec<&str> = (request.messages.iter())
        .filter(|message| message.role == Role::System)
        .map(|message| message.content.as_str())
        .collect();
    if !system.is_empty() {
        set("system", json!(system.join("\n\n")));
    }
    set("messages", messages(&request.messages, names));
    if let Some(temperature) = temperature(request) {
        // The protocol's range ends at 1, others' at 2.
        set("temperature", json!(temperature.min(1.0)));
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({
                "name": names.wire(&tool.name),
                "description": tool.description,
                "input_schema": tool.parameters,
            })
        });
        set("tools", tools.collect());
    }
    if let Some(ResponseFormat::JsonSchema { schema, .. }) = &request.response_format {
        set("output_config", json!({"format": {"type": "json_schema", "schema": schema}}));
    }
    Value::Object(body)
}

/// The conversation in turns: neighbours of one role are one message, tool results are the user's.
fn messages(messages: &[Arc<Message>], names: &Names) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, parts) = match message.role {
            Role::System => continue,
            Role::User => ("user", text_part(&message.content)),
            Role::Assistant => ("assistant", assistant_parts(message, names)),
            Role::Tool => {
                let id = message.tool_call_id.as_deref().unwrap_or_default();
                let result = json!({"type": "tool_result", "tool_use_id": id, "content": message.content});
                ("user", vec![result])
            }
        };
        match turns.last_mut() {
            Some((last, held)) if *last == role => held.extend(parts),
            _ => turns.push((role, parts)),
        }
    }
    let filled = turns.into_iter().filter(|(_, parts)| !parts.is_empty());
    filled.map(|(role, parts)| json!({"role": role, "content": parts})).collect()
}

/// A text part; none for no text, which the protocol refuses.
fn text_part(text: &str) -> Vec<Value> {
    if text.is_empty() { Vec::new() } else { vec![json!({"type": "text", "text": text})] }
}

fn assistant_parts(message: &Message, names: &Names) -> Vec<Value> {
    let mut parts = text_part(&message.content);
    parts.extend(message.tool_calls.iter().map(|call| {
        let input = match &call.arguments {
            object @ Value::Object(_) => object.clone(),
            other => json!({"arguments": other}),
        };
        json!({"type": "tool_use", "id": call.id, "name": names.wire(&call.name), "input": input})
    }));
    parts
}

/// Reads a stream of message events.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    draft: Draft,
    stopped: bool,
}

impl Reader {
    pub(super) fn event(&mut self, data: &str) -> Result<bool, Fault> {
        let event = event_value(data)?;
        let index = event.get("index").and_then(Value::as_u64).unwrap_or_default();
        match text(&event, "type") {
            "message_start" => {
                if let Some(message) = event.get("message") {
                    facts(&mut self.draft, message);
                }
            }
            "content_block_start" => {
                let block = event.get("content_block").unwrap_or(&Value::Null);
                match text(block, "type") {
                    "text" => self.draft.add_content(text(block, "text"))?,
                    "tool_use" => self.draft.add_call(index, text(block, "id"), text(block, "name"), "")?,
                    _ => {}
                }
            }
            "content_block_delta" => {
                let delta = event.get("delta").unwrap_or(&Value::Null);
                match text(delta, "type") {
                    "text_delta" => self.draft.add_content(text(delta, "text"))?,
                    "input_json_delta" => self.draft.add_call(index, "", "", text(delta, "partial_json"))?,
                    _ => {}
                }
            }
            "message_delta" => {
                usage(&mut self.draft, &event);
                finish(&mut self.draft, event.get("delta").unwrap_or(&Value::Null));
            }
            "message_stop" => {
                self.stopped = true;
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }
    pub(super) fn end(self) -> Result<Draft, Fault> {
        if self.stopped || self.draft.finish.is_some() { Ok(self.draft) } else { Err(Fault::Broken) }
    }
}

pub(super) fn whole(value: &Value) -> Result<Draft, Fault> {
    if !value.get("content").is_some_and(Value::is_array) {
        return Err(Fault::Malformed("a message without `content`".to_owned()));
    }
    let mut draft = Draft::default();
    facts(&mut draft, value);
    for (index, block) in list(value, "content").enumerate() {
        match text(block, "type") {
            "text" => draft.add_content(text(block, "text"))?,
            "tool_use" => {
                let input = block.get("input").map(Value::to_string).unwrap_or_default();
                draft.add_call(index as u64, text(block, "id"), text(block, "name"), &input)?;
            }
            _ => {}
        }
    }
    finish(&mut draft, value);
    Ok(draft)
}

fn facts(draft: &mut Draft, message: &Value) {
    draft.request_id = label(message, "id");
    draft.model = label(message, "model");
    usage(draft, message);
}

fn usage(draft: &mut Draft, holder: &Value) {
    let Some(usage) = holder.get("usage") else { return };
    let tokens = |field: &str| usage.get(field).and_then(Value::as_u64);
    if let Some(fresh) = tokens("input_tokens") {
        // Tokens read from or written to the provider's cache are counted apart, but are part of the request.
        let cached =
            ["cache_creation_input_tokens", "cache_read_input_tokens"].into_iter().filter_map(tokens);
        draft.input_tokens = Some(cached.fold(fresh, u64::saturating_add));
    }
    draft.output_tokens = tokens("output_tokens").or(draft.output_tokens);
}

fn finish(draft: &mut Draft, holder: &Value) {
    draft.finish = match text(holder, "stop_reason") {
        "" => draft.finish,
        "tool_use" => Some(FinishReason::ToolCalls),
        "max_tokens" | "model_context_window_exceeded" => Some(FinishReason::Length),
        "refusal" => Some(FinishReason::ContentFilter),
        _ => Some(FinishReason::Stop),
    };
}
