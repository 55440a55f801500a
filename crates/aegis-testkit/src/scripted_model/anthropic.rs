//! Anthropic's messages, from the server's side. Protocol: <https://docs.anthropic.com/en/api/messages>.

use serde_json::{Value, json};

use super::script::{Turn, UsageReport};
use super::seen::{Dialect, Seen, SeenMessage, list, string, text_of};

pub(super) fn read(body: Value) -> Seen {
    let mut messages = Vec::new();
    let system = text_of(&body["system"]);
    if !system.is_empty() {
        messages.push(SeenMessage { role: "system".to_owned(), text: system, tool_calls: Vec::new() });
    }
    for message in list(&body, "messages") {
        let results = list(message, "content").filter(|part| part["type"] == "tool_result");
        messages.extend(results.map(|result| SeenMessage {
            role: "tool".to_owned(),
            text: text_of(&result["content"]),
            tool_calls: Vec::new(),
        }));
        let calls = list(message, "content").filter(|part| part["type"] == "tool_use");
        let tool_calls: Vec<String> = calls.map(|call| string(call, "name")).collect();
        let text = text_of(&message["content"]);
        if !text.is_empty() || !tool_calls.is_empty() {
            messages.push(SeenMessage { role: string(message, "role"), text, tool_calls });
        }
    }
    Seen {
        dialect: Dialect::Anthropic,
        model: string(&body, "model"),
        stream: body["stream"] == true,
        messages,
        tools: list(&body, "tools").map(|tool| string(tool, "name")).collect(),
        ordinal: 0,
        times: 0,
        body,
    }
}

fn usage(seen: &Seen, turn: &Turn) -> Value {
    let (input, output) = match &turn.usage {
        UsageReport::Missing => return Value::Null,
        UsageReport::Raw(value) => return value.clone(),
        UsageReport::Tokens { input, output } => (*input, *output),
        UsageReport::Plausible => super::server::plausible_tokens(seen, turn),
    };
    json!({"input_tokens": input, "output_tokens": output})
}

fn stop_reason(turn: &Turn) -> String {
    let fitting = if turn.calls.is_empty() { "end_turn" } else { "tool_use" };
    turn.finish.clone().unwrap_or_else(|| fitting.to_owned())
}

fn envelope(seen: &Seen, content: Value) -> Value {
    json!({
        "id": format!("msg_{}", seen.ordinal),
        "type": "message",
        "role": "assistant",
        "model": seen.model,
        "content": content,
        "stop_reason": null,
        "stop_sequence": null,
    })
}

/// A whole answer.
pub(super) fn whole(seen: &Seen, turn: &Turn) -> String {
    let mut content = Vec::new();
    if !turn.text.is_empty() {
        content.push(json!({"type": "text", "text": turn.text}));
    }
    for (index, call) in turn.calls.iter().enumerate() {
        let input: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!(call.arguments));
        let id = format!("toolu_{}_{index}", seen.ordinal);
        content
            .push(json!({"type": "tool_use", "id": id, "name": seen.wire_name(&call.tool), "input": input}));
    }
    let mut answer = envelope(seen, Value::Array(content));
    answer["stop_reason"] = json!(stop_reason(turn));
    let usage = usage(seen, turn);
    if !usage.is_null() {
        answer["usage"] = usage;
    }
    answer.to_string()
}

fn event(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", string(value, "type"))
}

/// The events of a stream, each with its blank line.
pub(super) fn events(seen: &Seen, turn: &Turn) -> Vec<String> {
    let mut start = envelope(seen, json!([]));
    let usage = usage(seen, turn);
    if !usage.is_null() {
        start["usage"] = json!({"input_tokens": usage["input_tokens"], "output_tokens": 1});
    }
    let mut events = vec![event(&json!({"type": "message_start", "message": start}))];
    let mut blocks = Vec::new();
    if !turn.text.is_empty() {
        let deltas: Vec<Value> = (super::server::pieces(&turn.text).into_iter())
            .map(|piece| json!({"type": "text_delta", "text": piece}))
            .collect();
        blocks.push((json!({"type": "text", "text": ""}), deltas));
    }
    for (index, call) in turn.calls.iter().enumerate() {
        let id = format!("toolu_{}_{index}", seen.ordinal);
        let name = seen.wire_name(&call.tool);
        let deltas: Vec<Value> = (super::server::pieces(&call.arguments).into_iter())
            .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
            .collect();
        blocks.push((json!({"type": "tool_use", "id": id, "name": name, "input": {}}), deltas));
    }
    for (index, (block, deltas)) in blocks.into_iter().enumerate() {
        events.push(event(&json!({"type": "content_block_start", "index": index, "content_block": block})));
        events.push(event(&json!({"type": "ping"})));
        events.extend(
            deltas
                .into_iter()
                .map(|delta| event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))),
        );
        events.push(event(&json!({"type": "content_block_stop", "index": index})));
    }
    let mut end = json!({"type": "message_delta", "delta": {"stop_reason": stop_reason(turn)}});
    if !usage.is_null() {
        end["usage"] = json!({"output_tokens": usage["output_tokens"]});
    }
    events.push(event(&end));
    events.push(event(&json!({"type": "message_stop"})));
    events
}
