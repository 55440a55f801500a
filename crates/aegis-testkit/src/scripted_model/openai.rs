//! OpenAI's chat completions, from the server's side.
//! Protocol: <https://platform.openai.com/docs/api-reference/chat>.

use serde_json::{Value, json};

use super::script::{Turn, UsageReport};
use super::seen::{Dialect, Seen, SeenMessage, list, string, text_of};

pub(super) fn read(body: Value) -> Seen {
    let messages = list(&body, "messages")
        .map(|message| SeenMessage {
            role: string(message, "role"),
            text: text_of(&message["content"]),
            tool_calls: list(message, "tool_calls").map(|call| string(&call["function"], "name")).collect(),
        })
        .collect();
    Seen {
        dialect: Dialect::OpenAi,
        model: string(&body, "model"),
        stream: body["stream"] == true,
        messages,
        tools: list(&body, "tools").map(|tool| string(&tool["function"], "name")).collect(),
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
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input.saturating_add(output)})
}

fn finish(turn: &Turn) -> String {
    let fitting = if turn.calls.is_empty() { "stop" } else { "tool_calls" };
    turn.finish.clone().unwrap_or_else(|| fitting.to_owned())
}

fn envelope(seen: &Seen, object: &str) -> Value {
    json!({
        "id": format!("chatcmpl-{}", seen.ordinal),
        "object": object,
        "created": 1_700_000_000,
        "model": seen.model,
        "system_fingerprint": "fp_scripted",
    })
}

/// A whole answer.
pub(super) fn whole(seen: &Seen, turn: &Turn) -> String {
    let calls: Vec<Value> = (turn.calls.iter().enumerate())
        .map(|(index, call)| {
            json!({
                "id": format!("call_{}_{index}", seen.ordinal),
                "type": "function",
                "function": {"name": seen.wire_name(&call.tool), "arguments": call.arguments},
            })
        })
        .collect();
    let mut message = json!({"role": "assistant", "content": turn.text});
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    let mut answer = envelope(seen, "chat.completion");
    answer["choices"] = json!([{"index": 0, "message": message, "finish_reason": finish(turn)}]);
    let usage = usage(seen, turn);
    if !usage.is_null() {
        answer["usage"] = usage;
    }
    answer.to_string()
}

/// The events of a stream, each with its blank line.
pub(super) fn events(seen: &Seen, turn: &Turn) -> Vec<String> {
    let mut deltas = vec![json!({"role": "assistant", "content": ""})];
    deltas.extend(super::server::pieces(&turn.text).into_iter().map(|piece| json!({"content": piece})));
    for (index, call) in turn.calls.iter().enumerate() {
        deltas.push(json!({"tool_calls": [{
            "index": index,
            "id": format!("call_{}_{index}", seen.ordinal),
            "type": "function",
            "function": {"name": seen.wire_name(&call.tool), "arguments": ""},
        }]}));
        deltas.extend(
            super::server::pieces(&call.arguments)
                .into_iter()
                .map(|piece| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})),
        );
    }
    let chunk = |delta: Value, finish: Value| {
        let mut chunk = envelope(seen, "chat.completion.chunk");
        chunk["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        format!("data: {chunk}\n\n")
    };
    let mut events: Vec<String> = deltas.into_iter().map(|delta| chunk(delta, Value::Null)).collect();
    events.push(chunk(json!({}), Value::String(finish(turn))));
    let usage = usage(seen, turn);
    if seen.body["stream_options"]["include_usage"] == true && !usage.is_null() {
        let mut last = envelope(seen, "chat.completion.chunk");
        last["choices"] = json!([]);
        last["usage"] = usage;
        events.push(format!("data: {last}\n\n"));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}
