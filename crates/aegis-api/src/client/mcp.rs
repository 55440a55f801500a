//! `/mcp`, message by message.

use futures_util::StreamExt as _;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::Value;
use sse_stream::SseStream;

use super::stream::Connection;
use super::{CallError, Client, refusal};
use crate::header;

/// The methods whose subject goes into a header, and where it is found.
const SUBJECTS: [(&str, &str); 5] = [
    ("tools/call", "name"),
    ("prompts/get", "name"),
    ("resources/read", "uri"),
    ("resources/subscribe", "uri"),
    ("resources/unsubscribe", "uri"),
];

/// The messages that answer one.
pub enum McpReply {
    /// At most one.
    One(Option<Value>),
    /// A stream that ends with the last.
    Stream(McpStream),
}

/// A stream of messages.
pub struct McpStream(Connection);

impl McpReply {
    /// The next message; none after the last, or when the connection breaks.
    pub async fn next(&mut self) -> Option<Value> {
        match self {
            Self::One(one) => one.take(),
            Self::Stream(McpStream(stream)) => loop {
                let data = stream.next().await?.ok()?.data?;
                if let Ok(message) = serde_json::from_str(&data) {
                    return Some(message);
                }
            },
        }
    }
}

impl Client {
    /// `POST /mcp`: one message, on behalf of `agent` if given, in the protocol's `revision` if it is known.
    ///
    /// # Errors
    /// If the daemon cannot be reached, or does not let the caller in.
    pub async fn mcp(
        &self,
        message: &Value,
        agent: Option<&str>,
        revision: Option<&str>,
    ) -> Result<McpReply, CallError> {
        let mut request = self
            .request(Method::POST, "/mcp", &[])
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json")
            .body(message.to_string());
        if let Some(agent) = agent {
            request = request.header(header::AGENT, agent);
        }
        let method = message.get("method").and_then(Value::as_str);
        if let (Some(revision), Some(method)) = (revision, method) {
            request = request.header("mcp-protocol-version", revision).header("mcp-method", method);
            let subject = SUBJECTS.iter().find(|(of, _)| *of == method);
            let subject = subject.and_then(|(_, place)| message.get("params")?.get(place)?.as_str());
            if let Some(subject) = subject.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic())) {
                request = request.header("mcp-name", subject);
            }
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        if kind.starts_with("text/event-stream") {
            let stream = SseStream::from_bytes_stream(answer.bytes_stream());
            return Ok(McpReply::Stream(McpStream(Box::pin(stream))));
        }
        // Errors of the protocol come with statuses of their own.
        if !answer.status().is_success() && kind != "application/json" {
            return Err(refusal(answer).await);
        }
        let bytes = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        Ok(McpReply::One(serde_json::from_slice(&bytes).ok()))
    }
}
