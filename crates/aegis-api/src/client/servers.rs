//! Tool servers and tools.

use std::time::Duration;

use aegis_core::{Diagnosis, ErrorCode};
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use sse_stream::SseStream;

use super::stream::Connection;
use super::{CallError, Client, encode, named};
use crate::{
    AcceptServer, AnswerQuestion, CallTool, FinishLogin, LoginServer, Page, Problem, Server, ServerDetail,
    ServerLine, ServerLogin, ServerLogout, Tool, ToolCalled, ToolQuestion, header,
};

/// A call whose caller may be asked.
pub struct ToolCalls(Connection);

/// What comes of such a call.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolCallEvent {
    /// The tool's server asks something; see [`Client::answer_question`].
    Asked(ToolQuestion),
    /// The tool answered. Nothing follows.
    Called(ToolCalled),
}

impl ToolCalls {
    /// What comes next.
    ///
    /// # Errors
    /// If the call was refused, or the connection broke: then the call is given up.
    pub async fn next(&mut self) -> Result<ToolCallEvent, CallError> {
        let broken = || Diagnosis::new(ErrorCode::Unreachable, "the connection broke during the call");
        let unreadable = |error: serde_json::Error| Diagnosis::internal(error.to_string());
        loop {
            let event = match tokio::time::timeout(CALL_TIMEOUT, self.0.next()).await {
                Ok(Some(Ok(event))) => event,
                _ => return Err(broken().into()),
            };
            let data = event.data.unwrap_or_default();
            match event.event.as_deref() {
                Some("asked") => {
                    return Ok(ToolCallEvent::Asked(serde_json::from_str(&data).map_err(unreadable)?));
                }
                Some("called") => {
                    return Ok(ToolCallEvent::Called(serde_json::from_str(&data).map_err(unreadable)?));
                }
                Some("refused") => {
                    return Err(serde_json::from_str::<Problem>(&data).map_err(unreadable)?.into());
                }
                // Signs of life, and what a later version may tell.
                _ => {}
            }
        }
    }
}

/// Longer than a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(330);

impl Client {
    /// `GET /v1/servers`
    pub async fn servers(&self) -> Result<Page<Server>, CallError> {
        self.get("/v1/servers", &[]).await
    }

    /// `GET /v1/servers/{name}`
    pub async fn server(&self, name: &str) -> Result<ServerDetail, CallError> {
        self.get(&format!("/v1/servers/{}", encode(name)), &[]).await
    }

    /// `POST /v1/servers`: adds the server of a section, YAML or JSON. Problems are told with the name of the file that it
    /// was read from, if given.
    pub async fn add_server(&self, section: String, file: Option<&str>) -> Result<Server, CallError> {
        let request = self.request(Method::POST, "/v1/servers", &[]);
        self.json(named(request, file).header("content-type", "application/yaml").body(section)).await
    }

    /// `DELETE /v1/servers/{name}`: removes one that was added.
    pub async fn remove_server(&self, name: &str) -> Result<(), CallError> {
        self.empty(Method::DELETE, &format!("/v1/servers/{}", encode(name)), &[]).await
    }

    /// `POST /v1/servers/{name}/accept`
    pub async fn accept_server(&self, name: &str, digest: &str) -> Result<Server, CallError> {
        let path = format!("/v1/servers/{}/accept", encode(name));
        let body = AcceptServer { digest: digest.to_owned() };
        self.json(self.request(Method::POST, &path, &[]).json(&body)).await
    }

    /// `POST /v1/servers/{name}/login`: begins a sign-in that comes back to `redirect_uri`.
    pub async fn login_server(&self, name: &str, redirect_uri: &str) -> Result<ServerLogin, CallError> {
        let path = format!("/v1/servers/{}/login", encode(name));
        let body = LoginServer { redirect_uri: redirect_uri.to_owned() };
        self.json(self.request(Method::POST, &path, &[]).json(&body)).await
    }

    /// `POST /v1/servers/{name}/login/finish`: ends it with the address that the browser came back to.
    pub async fn finish_login(&self, name: &str, callback: &str) -> Result<Server, CallError> {
        let path = format!("/v1/servers/{}/login/finish", encode(name));
        let body = FinishLogin { callback: callback.to_owned() };
        self.json(self.request(Method::POST, &path, &[]).json(&body)).await
    }

    /// `DELETE /v1/servers/{name}/login`: destroys its tokens, and has them revoked where that can be had.
    pub async fn logout_server(&self, name: &str) -> Result<ServerLogout, CallError> {
        self.json(self.request(Method::DELETE, &format!("/v1/servers/{}/login", encode(name)), &[])).await
    }

    /// `GET /v1/servers/{name}/logs`: the last lines of its standard error.
    pub async fn server_logs(&self, name: &str) -> Result<Page<ServerLine>, CallError> {
        self.get(&format!("/v1/servers/{}/logs", encode(name)), &[]).await
    }

    /// `POST /v1/tools/{name}/call`, as one who answers what the tool's server asks; asked again with the same key, it
    /// answers what the first call gave.
    pub async fn call_tool(
        &self,
        tool: &str,
        call: &CallTool,
        idempotency_key: Option<&str>,
    ) -> Result<ToolCalls, CallError> {
        let path = format!("/v1/tools/{}/call", encode(tool));
        let call = CallTool { questions: true, ..call.clone() };
        let mut request = self.request(Method::POST, &path, &[]).json(&call);
        if let Some(key) = idempotency_key {
            request = request.header(header::IDEMPOTENCY_KEY, key);
        }
        let answer = self.send(request).await?;
        Ok(ToolCalls(Box::pin(SseStream::from_bytes_stream(answer.bytes_stream()))))
    }

    /// `POST /v1/executions/{id}/questions/{question}`
    pub async fn answer_question(&self, asked: &ToolQuestion, answer: Value) -> Result<(), CallError> {
        let path = format!("/v1/executions/{}/questions/{}", encode(&asked.execution_id), asked.question);
        let request = self.request(Method::POST, &path, &[]).json(&AnswerQuestion { answer });
        self.send(request).await.map(drop)
    }

    /// `GET /v1/tools`: the tools that agents may name.
    pub async fn tools(&self) -> Result<Page<Tool>, CallError> {
        self.get("/v1/tools", &[]).await
    }
}
