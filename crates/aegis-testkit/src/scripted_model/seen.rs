//! What a request looks like to a script, in no dialect.

use serde_json::Value;

/// The protocol a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `POST /v1/chat/completions`.
    OpenAi,
    /// `POST /v1/messages`.
    Anthropic,
}

/// One message of the conversation in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenMessage {
    /// `system`, `user`, `assistant` or `tool`, whatever the dialect calls it.
    pub role: String,
    /// Its text.
    pub text: String,
    /// Names of the tools an assistant calls in it, as they stand on the wire.
    pub tool_calls: Vec<String>,
}

/// A request as a script sees it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The protocol it came in.
    pub dialect: Dialect,
    /// The model asked for.
    pub model: String,
    /// True if a stream is asked for.
    pub stream: bool,
    /// The conversation; the results of several tool calls are one message each.
    pub messages: Vec<SeenMessage>,
    /// Names of the tools offered, as they stand on the wire.
    pub tools: Vec<String>,
    /// The number of this request, counted from 1 over the life of the server.
    pub ordinal: u64,
    /// How often this very request (by its key) was seen, this time included.
    pub times: u64,
    /// The body.
    pub body: Value,
}

impl Seen {
    /// Text of the last message a user wrote; empty if there is none.
    pub fn last_user(&self) -> &str {
        self.messages.iter().rev().find(|message| message.role == "user").map_or("", |message| &message.text)
    }
    /// Tool results in the whole conversation.
    pub fn tool_results(&self) -> usize {
        self.messages.iter().filter(|message| message.role == "tool").count()
    }
    /// Texts of the tool results, in order.
    pub fn tool_result_texts(&self) -> impl Iterator<Item = &str> {
        self.messages.iter().filter(|message| message.role == "tool").map(|message| message.text.as_str())
    }
    /// True if any message holds `text`.
    pub fn mentions(&self, text: &str) -> bool {
        self.messages.iter().any(|message| message.text.contains(text))
    }
    /// The name on the wire of the tool the script calls `name`: `fs.read` finds an offered `fs_read`.
    /// What is not offered stays as it is, so that a script can call what does not exist.
    pub(super) fn wire_name(&self, name: &str) -> String {
        let flat = name.replace('.', "_");
        if !self.tools.iter().any(|tool| tool == name) && self.tools.contains(&flat) {
            flat
        } else {
            name.to_owned()
        }
    }
}

/// The text of a `content`: a string, or the text parts of a list.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// A field as a string; empty if it is not one.
pub(super) fn string(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// Elements of a field that is a list.
pub(super) fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}
