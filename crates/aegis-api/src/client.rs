//! The typed client: one method a route, errors as diagnoses with their stable code.

mod mcp;
mod secrets;
mod servers;
mod stream;

use std::net::IpAddr;
use std::time::Duration;

use aegis_core::{Diagnosis, ErrorCode};
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Agent, AgentVersion, ApiKey, AuditEvent, Checkpoint, CreatedKey, Deployed, ExecuteRequest, Execution,
    File, Health, LogHead, NewKey, Page, PolicyComparison, PolicyDiff, PolicyDocument, PolicyExplanation,
    PolicyQuestion, PolicyTested, Problem, RotatedKey, Started, Status, Trace, TraceSummary, Volume, header,
};

pub use mcp::{McpReply, McpStream, McpTerms};
pub use servers::{ToolCallEvent, ToolCalls};
pub use stream::{EventStream, StreamItem};

/// Time to make a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole request that is no stream.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a daemon is and as whom to speak to it.
#[derive(Clone, Default)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The bearer token.
    pub token: Option<String>,
    /// The tenant; `default` if none.
    pub tenant: Option<String>,
}

impl Endpoint {
    /// `http://host:port`, with brackets around an IPv6 address.
    pub fn url(&self) -> String {
        if self.host.contains(':') && !self.host.starts_with('[') {
            format!("http://[{}]:{}", self.host, self.port)
        } else {
            format!("http://{}:{}", self.host, self.port)
        }
    }
}

/// True for names and addresses of this very machine.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A call that was refused or could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .diagnosis.message)]
pub struct CallError {
    /// What happened, with code and remedy.
    pub diagnosis: Diagnosis,
    /// All problems, where there are several.
    pub problems: Vec<Diagnosis>,
    /// The problems with the document's lines, for a terminal.
    pub rendered: Option<String>,
}

impl From<Diagnosis> for CallError {
    fn from(diagnosis: Diagnosis) -> Self {
        Self { diagnosis, problems: Vec::new(), rendered: None }
    }
}

impl From<Problem> for CallError {
    fn from(mut problem: Problem) -> Self {
        let problems = std::mem::take(&mut problem.problems);
        let rendered = problem.rendered.take();
        Self { diagnosis: problem.into(), problems, rendered }
    }
}

/// Speaks to a daemon. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
}

type Query<'a> = [(&'a str, String)];

impl Client {
    /// Prepares a client; connects with the first call.
    ///
    /// # Errors
    /// If the machine's TLS settings cannot be loaded.
    pub fn new(endpoint: Endpoint) -> Result<Self, Diagnosis> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true);
        if is_loopback(&endpoint.host) {
            // A proxy from the environment would be given the token, and is the wrong machine. Without one there is no
            // TLS, and the machine's certificate authorities need not be read for each command.
            builder = builder.no_proxy().tls_certs_only([]);
        }
        let http = builder
            .build()
            .map_err(|error| Diagnosis::internal(format!("the HTTP client cannot be made: {error}")))?;
        Ok(Self { http, endpoint })
    }

    /// Where it speaks to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn request(&self, method: Method, path: &str, query: &Query<'_>) -> RequestBuilder {
        let mut url = format!("{}{path}", self.endpoint.url());
        for (index, (name, value)) in query.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.push_str(&encode(value));
        }
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.endpoint.token {
            request = request.bearer_auth(token);
        }
        if let Some(tenant) = &self.endpoint.tenant {
            request = request.header(header::TENANT, tenant);
        }
        request
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(answer).await) }
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        let address = self.endpoint.url();
        let (message, hint) = if error.is_connect() {
            (
                format!("no daemon answers at {address}"),
                "start one with `aegis up`, or name another with `--host` and `--port`",
            )
        } else if error.is_timeout() {
            (
                format!("the daemon at {address} did not answer in time"),
                "see `aegis status` and the daemon's log",
            )
        } else {
            (
                format!("the connection to the daemon at {address} broke"),
                "see whether it runs with `aegis status`",
            )
        };
        Diagnosis::new(ErrorCode::Unreachable, message).hint(hint).into()
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CallError> {
        let answer = self.send(request.timeout(REQUEST_TIMEOUT)).await?;
        let bytes = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Diagnosis::internal(format!("the daemon's answer is not what this version expects: {error}"))
                .hint("let `aegis` and the daemon be of the same version")
                .into()
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &Query<'_>) -> Result<T, CallError> {
        self.json(self.request(Method::GET, path, query)).await
    }

    async fn empty(&self, method: Method, path: &str, query: &Query<'_>) -> Result<(), CallError> {
        self.send(self.request(method, path, query).timeout(REQUEST_TIMEOUT)).await.map(drop)
    }

    /// `GET /health/ready`: whether the daemon takes requests.
    pub async fn ready(&self) -> Result<Health, CallError> {
        self.get("/health/ready", &[]).await
    }

    /// `GET /v1/status`
    pub async fn status(&self) -> Result<Status, CallError> {
        self.get("/v1/status", &[]).await
    }

    /// `GET /v1/config`: what the daemon works with, secrets masked.
    pub async fn config(&self) -> Result<Value, CallError> {
        self.get("/v1/config", &[]).await
    }

    /// `POST /v1/agents`. Problems are told with the name of the file that the document was read from, if given.
    pub async fn deploy(
        &self,
        document: String,
        file: Option<&str>,
        force: bool,
        validate_only: bool,
    ) -> Result<Deployed, CallError> {
        let query = [("force", force.to_string()), ("validate_only", validate_only.to_string())];
        let request = self
            .request(Method::POST, "/v1/agents", &query)
            .header("content-type", "application/yaml")
            .body(document);
        self.json(named(request, file)).await
    }

    /// `GET /v1/agents`
    pub async fn agents(&self, cursor: Option<&str>, limit: usize) -> Result<Page<Agent>, CallError> {
        self.get("/v1/agents", &page(cursor, limit)).await
    }

    /// The agent that an id, a name or name@version means, with its document.
    pub async fn agent(&self, id_or_name: &str) -> Result<Agent, CallError> {
        if id_or_name.parse::<aegis_core::AgentId>().is_ok() {
            return self.get(&format!("/v1/agents/{}", encode(id_or_name)), &[]).await;
        }
        self.get(&format!("/v1/agents/lookup/{}", encode(id_or_name)), &[]).await
    }

    /// `GET /v1/agents/{id}/versions`
    pub async fn agent_versions(&self, id: &str) -> Result<Page<AgentVersion>, CallError> {
        self.get(&format!("/v1/agents/{}/versions", encode(id)), &[]).await
    }

    /// `POST /v1/agents/{id}/pause`
    pub async fn pause_agent(&self, id: &str) -> Result<(), CallError> {
        self.empty(Method::POST, &format!("/v1/agents/{}/pause", encode(id)), &[]).await
    }

    /// `POST /v1/agents/{id}/resume`
    pub async fn resume_agent(&self, id: &str) -> Result<(), CallError> {
        self.empty(Method::POST, &format!("/v1/agents/{}/resume", encode(id)), &[]).await
    }

    /// `DELETE /v1/agents/{id}`
    pub async fn remove_agent(&self, id: &str) -> Result<(), CallError> {
        self.empty(Method::DELETE, &format!("/v1/agents/{}", encode(id)), &[]).await
    }

    /// `POST /v1/executions`. With a key, asking again answers the same.
    pub async fn execute(
        &self,
        body: &ExecuteRequest,
        idempotency_key: Option<&str>,
    ) -> Result<Started, CallError> {
        let mut request = self.request(Method::POST, "/v1/executions", &[]).json(body);
        if let Some(key) = idempotency_key {
            request = request.header(header::IDEMPOTENCY_KEY, key);
        }
        self.json(request).await
    }

    /// `GET /v1/executions`
    pub async fn executions(
        &self,
        agent_id: Option<&str>,
        status: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Execution>, CallError> {
        let mut query = page(cursor, limit);
        query.extend(agent_id.map(|id| ("agent_id", id.to_owned())));
        query.extend(status.map(|status| ("status", status.to_owned())));
        self.get("/v1/executions", &query).await
    }

    /// `GET /v1/executions/{id}`
    pub async fn execution(&self, id: &str) -> Result<Execution, CallError> {
        self.get(&format!("/v1/executions/{}", encode(id)), &[]).await
    }

    /// `POST /v1/executions/{id}/cancel`
    pub async fn cancel(&self, id: &str, force: bool) -> Result<(), CallError> {
        let path = format!("/v1/executions/{}/cancel", encode(id));
        self.empty(Method::POST, &path, &[("force", force.to_string())]).await
    }

    /// `DELETE /v1/executions/{id}`
    pub async fn remove_execution(&self, id: &str) -> Result<(), CallError> {
        self.empty(Method::DELETE, &format!("/v1/executions/{}", encode(id)), &[]).await
    }

    /// The events of an execution from the first; with `follow` until it is over.
    pub fn execution_events(&self, id: &str, follow: bool) -> EventStream {
        EventStream::new(self.clone(), format!("/v1/executions/{}/events", encode(id)), follow, true)
    }

    /// The events of an agent's executions; with `follow` until the caller stops.
    pub fn agent_events(&self, id: &str, follow: bool) -> EventStream {
        EventStream::new(self.clone(), format!("/v1/agents/{}/events", encode(id)), follow, false)
    }

    /// `GET /v1/volumes`
    pub async fn volumes(&self, removed: bool, limit: usize) -> Result<Page<Volume>, CallError> {
        let query = [("removed", removed.to_string()), ("limit", limit.to_string())];
        self.get("/v1/volumes", &query).await
    }

    /// `GET /v1/volumes/{id}`
    pub async fn volume(&self, id: &str) -> Result<Volume, CallError> {
        self.get(&format!("/v1/volumes/{}", encode(id)), &[]).await
    }

    /// `DELETE /v1/volumes/{id}`
    pub async fn remove_volume(&self, id: &str) -> Result<(), CallError> {
        self.empty(Method::DELETE, &format!("/v1/volumes/{}", encode(id)), &[]).await
    }

    /// `GET /v1/volumes/{id}/files`
    pub async fn volume_files(&self, id: &str) -> Result<Page<File>, CallError> {
        self.get(&format!("/v1/volumes/{}/files", encode(id)), &[]).await
    }

    /// `GET /v1/volumes/{id}/get`: the bytes of one file.
    pub async fn volume_file(&self, id: &str, path: &str) -> Result<Vec<u8>, CallError> {
        let route = format!("/v1/volumes/{}/get", encode(id));
        let request = self.request(Method::GET, &route, &[("path", path.to_owned())]);
        let answer = self.send(request.timeout(REQUEST_TIMEOUT)).await?;
        answer.bytes().await.map(|bytes| bytes.to_vec()).map_err(|error| self.unreachable(&error))
    }

    /// `POST /v1/policy/explain`
    pub async fn explain_policy(&self, question: &PolicyQuestion) -> Result<PolicyExplanation, CallError> {
        self.json(self.request(Method::POST, "/v1/policy/explain", &[]).json(question)).await
    }

    /// `POST /v1/policy/test`
    pub async fn test_policy(&self, table: &PolicyDocument) -> Result<PolicyTested, CallError> {
        self.json(self.request(Method::POST, "/v1/policy/test", &[]).json(table)).await
    }

    /// `POST /v1/policy/diff`
    pub async fn diff_policy(&self, comparison: &PolicyComparison) -> Result<PolicyDiff, CallError> {
        self.json(self.request(Method::POST, "/v1/policy/diff", &[]).json(comparison)).await
    }

    /// `POST /v1/keys`: the key is in the answer this once.
    pub async fn create_key(&self, key: &NewKey) -> Result<CreatedKey, CallError> {
        let request = self.request(Method::POST, "/v1/keys", &[]).json(key);
        self.json(request).await
    }

    /// `GET /v1/keys`
    pub async fn keys(&self) -> Result<Page<ApiKey>, CallError> {
        self.get("/v1/keys", &[]).await
    }

    /// `DELETE /v1/keys/{id}`: its sessions end.
    pub async fn revoke_key(&self, id: &str) -> Result<(), CallError> {
        self.empty(Method::DELETE, &format!("/v1/keys/{}", encode(id)), &[]).await
    }

    /// `POST /v1/keys/rotate`: changes the key that signs security tokens.
    pub async fn rotate_signing_key(&self) -> Result<RotatedKey, CallError> {
        self.json(self.request(Method::POST, "/v1/keys/rotate", &[])).await
    }

    /// `GET /v1/traces`: newest first.
    pub async fn traces(&self, cursor: Option<&str>, limit: usize) -> Result<Page<TraceSummary>, CallError> {
        self.get("/v1/traces", &page(cursor, limit)).await
    }

    /// `GET /v1/traces/{id}`: the trace itself, or the one of an execution.
    pub async fn trace(&self, id: &str) -> Result<Trace, CallError> {
        self.get(&format!("/v1/traces/{}", encode(id)), &[]).await
    }

    /// `GET /v1/audit/events`: filters as the route takes them.
    pub async fn audit_events(&self, filters: &[(&str, String)]) -> Result<Page<AuditEvent>, CallError> {
        self.get("/v1/audit/events", filters).await
    }

    /// `GET /v1/audit/head`
    pub async fn audit_head(&self) -> Result<LogHead, CallError> {
        self.get("/v1/audit/head", &[]).await
    }

    /// `GET /v1/audit/prove/{seq}`: a proof that the event is in the log under a signed head.
    pub async fn audit_prove(&self, seq: u64) -> Result<Value, CallError> {
        self.get(&format!("/v1/audit/prove/{seq}"), &[]).await
    }

    /// `GET /v1/audit/checkpoint`
    pub async fn audit_checkpoint(&self) -> Result<Checkpoint, CallError> {
        self.get("/v1/audit/checkpoint", &[]).await
    }
}

fn page<'a>(cursor: Option<&str>, limit: usize) -> Vec<(&'a str, String)> {
    let mut query = vec![("limit", limit.to_string())];
    query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
    query
}

async fn refusal(answer: Response) -> CallError {
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.unwrap_or_default();
    if let Ok(problem) = serde_json::from_slice::<Problem>(&bytes) {
        return problem.into();
    }
    let code = match status {
        401 => ErrorCode::Unauthenticated,
        403 => ErrorCode::PermissionDenied,
        404 => ErrorCode::NotFound,
        409 => ErrorCode::Conflict,
        429 | 503 => ErrorCode::Overloaded,
        400..=499 => ErrorCode::InvalidInput,
        _ => ErrorCode::Internal,
    };
    Diagnosis::new(code, format!("the answer was HTTP status {status} without a problem document"))
        .hint("is it an AEGIS daemon that listens there?")
        .into()
}

/// A request that says which file its document was read from. A name that cannot stand in a header is no reason to refuse
/// the document.
fn named(request: RequestBuilder, file: Option<&str>) -> RequestBuilder {
    match file.and_then(|file| reqwest::header::HeaderValue::from_bytes(file.as_bytes()).ok()) {
        Some(file) => request.header(header::FILE, file),
        None => request,
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3), so that a value is one segment.
fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_the_rest() {
        for host in ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "::1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["0.0.0.0", "localhost.example.com", "10.0.0.1", "example.com", "::"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn values_stay_one_segment() {
        assert_eq!(encode("a/b?c=d&é"), "a%2Fb%3Fc%3Dd%26%C3%A9");
        let endpoint = Endpoint { host: "::1".to_owned(), port: 8088, ..Endpoint::default() };
        assert_eq!(endpoint.url(), "http://[::1]:8088");
    }

    #[tokio::test]
    async fn an_absent_daemon_is_unreachable_with_the_remedy() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let client =
            Client::new(Endpoint { host: "127.0.0.1".to_owned(), port, ..Endpoint::default() }).unwrap();
        let error = client.status().await.unwrap_err();
        assert_eq!(error.diagnosis.code, ErrorCode::Unreachable);
        assert!(error.diagnosis.hint.unwrap().contains("aegis up"));
    }
}
