//! `/mcp`, message by message.

use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use sse_stream::SseStream;

use super::stream::Connection;
use super::{CallError, Client, refusal};
use crate::header;

/// The header that names a session.
const SESSION: &str = "mcp-session-id";

/// The methods whose subject goes into a header, and where it is found.
const SUBJECTS: [(&str, &str); 5] = [
    ("tools/call", "name"),
    ("prompts/get", "name"),
    ("resources/read", "uri"),
    ("resources/subscribe", "uri"),
    ("resources/unsubscribe", "uri"),
];

/// On whose behalf a message is sent, and as part of what.
#[derive(Debug, Clone, Default)]
pub struct McpTerms {
    /// The agent.
    pub agent: Option<String>,
    /// The protocol's revision, if it is known.
    pub revision: Option<String>,
    /// The session, if one was opened.
    pub session: Option<String>,
}

/// The messages that answer one.
pub struct McpReply {
    /// The session that was opened.
    pub session: Option<String>,
    messages: McpMessages,
}

enum McpMessages {
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
        match &mut self.messages {
            McpMessages::One(one) => one.take(),
            McpMessages::Stream(stream) => stream.next().await,
        }
    }
}

impl McpStream {
    /// The next message; none after the last, or when the connection breaks.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            // Signs of life have no data.
            let data = self.0.next().await?.ok()?.data.unwrap_or_default();
            if let Ok(message) = serde_json::from_str(&data) {
                return Some(message);
            }
        }
    }
}

impl Client {
    /// `POST /mcp`: one message.
    ///
    /// # Errors
    /// If the daemon cannot be reached, or does not let the caller in.
    pub async fn mcp(&self, message: &Value, terms: &McpTerms) -> Result<McpReply, CallError> {
        let mut request = self
            .mcp_request(Method::POST, terms)
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json")
            .body(message.to_string());
        let method = message.get("method").and_then(Value::as_str);
        if let (Some(revision), Some(method)) = (&terms.revision, method) {
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
        let session = answer.headers().get(SESSION).and_then(|name| name.to_str().ok()).map(str::to_owned);
        if kind.starts_with("text/event-stream") {
            let stream = SseStream::from_bytes_stream(answer.bytes_stream());
            let messages = McpMessages::Stream(McpStream(Box::pin(stream)));
            return Ok(McpReply { session, messages });
        }
        // Errors of the protocol come with statuses of their own.
        if !answer.status().is_success() && kind != "application/json" {
            return Err(refusal(answer).await);
        }
        let bytes = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        let messages = McpMessages::One(serde_json::from_slice(&bytes).ok());
        Ok(McpReply { session, messages })
    }

    /// `GET /mcp`: what the daemon says in a session beside its answers.
    ///
    /// # Errors
    /// If the daemon cannot be reached, or the session is over.
    pub async fn mcp_session(&self, terms: &McpTerms) -> Result<McpStream, CallError> {
        let request = self.mcp_request(Method::GET, terms).header(ACCEPT, "text/event-stream");
        let answer = self.send(request).await?;
        Ok(McpStream(Box::pin(SseStream::from_bytes_stream(answer.bytes_stream()))))
    }

    /// `DELETE /mcp`: closes a session.
    ///
    /// # Errors
    /// If the daemon cannot be reached.
    pub async fn close_mcp_session(&self, terms: &McpTerms) -> Result<(), CallError> {
        self.send(self.mcp_request(Method::DELETE, terms)).await.map(drop)
    }

    fn mcp_request(&self, method: Method, terms: &McpTerms) -> RequestBuilder {
        let mut request = self.request(method, "/mcp", &[]);
        if let Some(agent) = &terms.agent {
            request = request.header(header::AGENT, agent);
        }
        if let Some(session) = &terms.session {
            request = request.header(SESSION, session);
        }
        request
    }
}
