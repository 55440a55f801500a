//! Tools for models that cannot call them: the answer itself is constrained to be a call or an answer.

use std::sync::Arc;

use aegis_core::{FinishReason, Message, ModelRequest, ResponseFormat, Role, ToolSchema};
use serde_json::{Value, json};

use crate::draft::{Draft, DraftCall};

/// The request without tools, asking for `{"tool", "arguments"}` or `{"answer"}` instead.
pub(crate) fn constrain(request: &ModelRequest) -> ModelRequest {
    let answer = match &request.response_format {
        Some(ResponseFormat::JsonSchema { schema, .. }) => schema.clone(),
        None => json!({"type": "string"}),
    };
    let mut choices: Vec<Value> = request.tools.iter().map(call_schema).collect();
    choices.push(object(json!({"answer": answer}), &["answer"]));
    let mut messages: Vec<Message> = request.messages.iter().map(|message| retell(message)).collect();
    let instructions = instructions(&request.tools);
    match messages.first_mut().filter(|first| first.role == Role::System) {
        Some(system) => system.content = format!("{}\n\n{instructions}", system.content),
        None => messages.insert(0, Message::text(Role::System, instructions)),
    }
    ModelRequest {
        messages: messages.into_iter().map(Arc::new).collect(),
        tools: Vec::new(),
        response_format: Some(ResponseFormat::JsonSchema {
            name: "next_step".to_owned(),
            schema: json!({"oneOf": choices}),
        }),
        ..request.clone()
    }
}

fn call_schema(tool: &ToolSchema) -> Value {
    object(json!({"tool": {"const": tool.name}, "arguments": tool.parameters}), &["tool", "arguments"])
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn instructions(tools: &[ToolSchema]) -> String {
    let mut text = String::from(
        "Answer with one JSON object and nothing else. To use a tool: {\"tool\": NAME, \"arguments\": {…}}; you \
         will be given its result. When you are done: {\"answer\": …}. The tools, with the schema of their arguments:",
    );
    for tool in tools {
        text.push_str(&format!("\n- {}: {} {}", tool.name, tool.description, tool.parameters));
    }
    text
}

/// A message of the conversation in the words the model itself was taught to use.
fn retell(message: &Message) -> Message {
    if message.role == Role::Tool {
        return Message::text(Role::User, format!("Result of the tool:\n{}", message.content));
    }
    let calls = message.tool_calls.iter();
    let calls: Vec<String> =
        calls.map(|call| json!({"tool": call.name, "arguments": call.arguments}).to_string()).collect();
    if calls.is_empty() {
        return Message::text(message.role, message.content.clone());
    }
    Message::text(message.role, calls.join("\n"))
}

/// Finds the call or the answer in what the model wrote. What is neither stays the answer as it is.
pub(crate) fn interpret(mut draft: Draft, tools: &[ToolSchema]) -> Draft {
    let Some(step) = json_in(&draft.content) else { return draft };
    if let Some((name, arguments)) = call_in(&step, tools) {
        let call = DraftCall { id: String::new(), name, arguments: arguments.to_string() };
        draft.calls = vec![(0, call)];
        draft.content = String::new();
        draft.finish = Some(FinishReason::ToolCalls);
    } else if let Some(answer) =
        step.get("answer").filter(|_| step.as_object().is_some_and(|map| map.len() == 1))
    {
        draft.content = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
    }
    draft
}

/// A call by the form asked for, or by the `name` that models trained on calls use for a tool that is offered.
fn call_in(step: &Value, tools: &[ToolSchema]) -> Option<(String, Value)> {
    let by_name = || {
        let name = step.get("name")?.as_str()?;
        tools.iter().find(|tool| tool.name == name || tool.name.replace('.', "_") == name)
    };
    let name = match step.get("tool").and_then(Value::as_str) {
        Some(name) => name.to_owned(),
        None => by_name()?.name.clone(),
    };
    Some((name, step.get("arguments").or(step.get("parameters")).cloned().unwrap_or_else(|| json!({}))))
}

/// The whole text as JSON, or its first fenced block.
fn json_in(text: &str) -> Option<Value> {
    let whole = serde_json::from_str(text.trim()).ok();
    whole.or_else(|| {
        let (_, rest) = text.split_once("```")?;
        let (block, _) = rest.split_once("```")?;
        let block = block.strip_prefix("json").unwrap_or(block);
        serde_json::from_str(block.trim()).ok()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tool() -> ToolSchema {
        let parameters = json!({"type": "object", "properties": {"path": {"type": "string"}}});
        ToolSchema { name: "fs.read".to_owned(), description: "Reads a file.".to_owned(), parameters }
    }

    fn said(text: &str) -> (String, Vec<String>) {
        let mut draft = Draft::default();
        draft.add_content(text).unwrap();
        let draft = interpret(draft, &[tool()]);
        (draft.content, draft.calls.iter().map(|(_, c)| format!("{} {}", c.name, c.arguments)).collect())
    }

    #[test]
    fn calls_and_answers_are_found() {
        let call = (String::new(), vec![r#"fs.read {"path":"a"}"#.to_owned()]);
        assert_eq!(said(r#"{"tool":"fs.read","arguments":{"path":"a"}}"#), call);
        assert_eq!(
            said("Sure:\n```json\n{\"name\": \"fs_read\", \"arguments\": {\"path\": \"a\"}}\n```\n"),
            call
        );
        assert_eq!(said(r#"{"tool":"no.such","arguments":{}}"#).1, ["no.such {}"]);
        assert_eq!(said(r#"{"answer":"done"}"#), ("done".to_owned(), vec![]));
        assert_eq!(said(r#"{"answer":{"n":1}}"#), (r#"{"n":1}"#.to_owned(), vec![]));
        for plain in ["hello", r#"{"name":"Ada","age":36}"#, "```\nnot json\n```", "[1]", ""] {
            assert_eq!(said(plain), (plain.to_owned(), vec![]));
        }
    }

    #[test]
    fn the_request_offers_each_tool_as_an_answer() {
        let mut call = Message::text(Role::Assistant, "");
        call.tool_calls = vec![aegis_core::ToolCall {
            id: "1".into(),
            name: "fs.read".into(),
            arguments: json!({"path": "a"}),
        }];
        let request = ModelRequest {
            alias: "a".to_owned(),
            messages: [
                Message::text(Role::System, "Be brief."),
                call,
                Message::text(Role::Tool, "text of a"),
            ]
            .map(Arc::new)
            .into(),
            tools: vec![tool()],
            response_format: None,
            temperature_milli: None,
            max_output_tokens: None,
            timeout_ms: 1,
            jitter_seed: 1,
        };
        let constrained = constrain(&request);
        assert!(constrained.tools.is_empty());
        let texts: Vec<&str> = constrained.messages.iter().map(|message| message.content.as_str()).collect();
        assert!(
            texts[0].starts_with("Be brief.\n\nAnswer with one JSON object")
                && texts[0].contains("- fs.read: Reads a file.")
        );
        assert_eq!(
            texts[1..],
            [r#"{"tool":"fs.read","arguments":{"path":"a"}}"#, "Result of the tool:\ntext of a"]
        );
        let Some(ResponseFormat::JsonSchema { schema, .. }) = constrained.response_format else { panic!() };
        assert_eq!(schema["oneOf"][0]["properties"]["tool"]["const"], "fs.read");
        assert_eq!(schema["oneOf"][1]["properties"]["answer"]["type"], "string");
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "[`{}\"a-z:, \njson]{0,200}") {
            let _ = said(&text);
        }
    }
}
