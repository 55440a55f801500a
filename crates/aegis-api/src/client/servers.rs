//! Tool servers and tools.

use std::time::Duration;

use aegis_core::Diagnosis;
use reqwest::Method;

use super::{CallError, Client, encode};
use crate::{
    AcceptServer, CallTool, FinishLogin, LoginServer, Page, Server, ServerDetail, ServerLine, ServerLogin,
    Tool, ToolCalled, header,
};

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

    /// `DELETE /v1/servers/{name}/login`: destroys its tokens.
    pub async fn logout_server(&self, name: &str) -> Result<(), CallError> {
        self.empty(Method::DELETE, &format!("/v1/servers/{}/login", encode(name)), &[]).await
    }

    /// `GET /v1/servers/{name}/logs`: the last lines of its standard error.
    pub async fn server_logs(&self, name: &str) -> Result<Page<ServerLine>, CallError> {
        self.get(&format!("/v1/servers/{}/logs", encode(name)), &[]).await
    }

    /// `POST /v1/tools/{name}/call`; asked again with the same key, it answers what the first call gave.
    pub async fn call_tool(
        &self,
        tool: &str,
        call: &CallTool,
        idempotency_key: Option<&str>,
    ) -> Result<ToolCalled, CallError> {
        let path = format!("/v1/tools/{}/call", encode(tool));
        let mut request = self.request(Method::POST, &path, &[]).json(call).timeout(CALL_TIMEOUT);
        if let Some(key) = idempotency_key {
            request = request.header(header::IDEMPOTENCY_KEY, key);
        }
        let answer = self.send(request).await?;
        let bytes = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| Diagnosis::internal(error.to_string()).into())
    }

    /// `GET /v1/tools`: the tools that agents may name.
    pub async fn tools(&self) -> Result<Page<Tool>, CallError> {
        self.get("/v1/tools", &[]).await
    }
}
