//! The server and its state.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const TIME: &str = "2026-02-23T10:00:00.123456789Z";

/// How the server runs.
#[derive(Debug, Clone)]
pub struct VaultOptions {
    /// Lease of a token; the API speaks of whole seconds, zero is none.
    pub lease: Duration,
    /// How often a token can be renewed.
    pub renewals: u32,
    /// Demanded in `X-Vault-Namespace`.
    pub namespace: Option<String>,
}

impl Default for VaultOptions {
    fn default() -> Self {
        Self { lease: Duration::from_secs(3600), renewals: u32::MAX, namespace: None }
    }
}

struct Version {
    data: Option<Map<String, Value>>,
    deleted: bool,
    destroyed: bool,
}

struct Token {
    expires: Option<Instant>,
    renewals: u32,
}

#[derive(Default)]
struct Shared {
    options: VaultOptions,
    tokens: BTreeMap<String, Token>,
    secrets: BTreeMap<String, Vec<Version>>,
    logins: u32,
    renewals: u32,
    failures: Vec<Option<u16>>,
    flood: bool,
    requests: u32,
}

/// A running server. Stops when dropped.
pub struct VaultServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl VaultServer {
    /// The role that may log in.
    pub const ROLE_ID: &'static str = "role-of-the-node";
    /// Its secret.
    pub const SECRET_ID: &'static str = "secret-id-of-the-node";
    /// A token that never expires.
    pub const ROOT_TOKEN: &'static str = "root-token-of-the-tests";

    /// Starts on a free loopback port.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(options: VaultOptions) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut shared = Shared { options, ..Shared::default() };
        shared.tokens.insert(Self::ROOT_TOKEN.to_owned(), Token { expires: None, renewals: 0 });
        let shared = Arc::new(Mutex::new(shared));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, shared, task })
    }
    /// The root of its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
    /// From now on every token that was given is refused.
    pub fn expire_tokens(&self) {
        self.lock().tokens.retain(|token, _| token == Self::ROOT_TOKEN);
    }
    /// Deletes the newest version so that it could be undeleted, as `DELETE data/PATH` does.
    pub fn soft_delete(&self, path: &str) {
        if let Some(newest) = self.lock().secrets.get_mut(path).and_then(|versions| versions.last_mut()) {
            newest.deleted = true;
        }
    }
    /// Stores fields as another program would.
    pub fn store(&self, path: &str, data: &Value) {
        let version = Version { data: data.as_object().cloned(), deleted: false, destroyed: false };
        self.lock().secrets.entry(path.to_owned()).or_default().push(version);
    }
    /// The next requests are answered with these status codes; `None` is no answer at all.
    pub fn fail_next(&self, statuses: impl IntoIterator<Item = Option<u16>>) {
        self.lock().failures = statuses.into_iter().collect();
    }
    /// From now on answers are larger than anybody should read.
    pub fn flood(&self) {
        self.lock().flood = true;
    }
    /// Logins so far.
    pub fn logins(&self) -> u32 {
        self.lock().logins
    }
    /// Renewals so far.
    pub fn renewals(&self) -> u32 {
        self.lock().renewals
    }
    /// Requests so far.
    pub fn requests(&self) -> u32 {
        self.lock().requests
    }
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for VaultServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A refusal in the API's form.
fn refuse(status: u16, errors: &[&str]) -> (u16, Value) {
    (status, json!({ "errors": errors }))
}

async fn serve(
    State(shared): State<Arc<Mutex<Shared>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let decided = {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.requests += 1;
        match (shared.failures.is_empty(), shared.flood) {
            (false, _) => shared.failures.remove(0).map(|status| refuse(status, &["scripted failure"])),
            (true, true) => Some((200, json!({ "data": "x".repeat(4 << 20) }))),
            (true, false) => Some(shared.answer(&method, &uri, &headers, &body)),
        }
    };
    let Some((status, body)) = decided else { return std::future::pending().await };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if body.is_null() { status.into_response() } else { (status, axum::Json(body)).into_response() }
}

impl Shared {
    fn answer(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> (u16, Value) {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if header("x-vault-request") != Some("true")
            || header("x-vault-namespace") != self.options.namespace.as_deref()
        {
            return refuse(404, &["no handler for route"]);
        }
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let path = uri.path().strip_prefix("/v1/").unwrap_or_default();
        if path == "auth/approle/login" {
            return self.log_in(&body);
        }
        let token = header("x-vault-token").unwrap_or_default().to_owned();
        let live = |token: &Token| token.expires.is_none_or(|expires| Instant::now() < expires);
        if !self.tokens.get(&token).is_some_and(live) {
            // The API tells neither whether a token expired nor whether it ever was.
            return refuse(403, &["permission denied", &format!("invalid token {token}")]);
        }
        if let Some(action) = path.strip_prefix("auth/token/") {
            return self.token(action, &token);
        }
        let Some((part, name)) = path.strip_prefix("secret/").and_then(|rest| rest.split_once('/')) else {
            return refuse(404, &["no handler for route"]);
        };
        match (method.as_str(), part) {
            ("GET", "data") => self.read(name),
            ("POST" | "PUT", "data") => self.write(name, &body),
            ("GET", "metadata") if uri.query() == Some("list=true") => self.list(name),
            ("GET", "metadata") => self.metadata(name),
            ("DELETE", "metadata") => {
                self.secrets.remove(name);
                (204, Value::Null)
            }
            ("POST" | "PUT", "destroy") => self.destroy(name, &body),
            _ => refuse(405, &["unsupported operation"]),
        }
    }

    fn log_in(&mut self, body: &Value) -> (u16, Value) {
        let given = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        if given("role_id") != VaultServer::ROLE_ID || given("secret_id") != VaultServer::SECRET_ID {
            return refuse(400, &[&format!("invalid role or secret ID: {}", given("secret_id"))]);
        }
        self.logins += 1;
        let token = format!("token-number-{}", self.logins);
        self.tokens.insert(token.clone(), Token { expires: self.expiry(), renewals: 0 });
        (200, self.auth(&token))
    }

    fn expiry(&self) -> Option<Instant> {
        (!self.options.lease.is_zero()).then(|| Instant::now() + self.options.lease)
    }

    fn auth(&self, token: &str) -> Value {
        json!({
            "request_id": "0", "lease_id": "", "renewable": false, "lease_duration": 0, "data": null,
            "auth": {
                "client_token": token, "accessor": "a", "policies": ["default"], "token_type": "service",
                "lease_duration": self.options.lease.as_secs(), "renewable": self.options.renewals > 0,
            },
        })
    }

    fn token(&mut self, action: &str, token: &str) -> (u16, Value) {
        match action {
            "lookup-self" => {
                let renewable = token != VaultServer::ROOT_TOKEN;
                (200, json!({ "data": { "id": token, "ttl": 0, "renewable": renewable } }))
            }
            "renew-self" => {
                let (expires, most) = (self.expiry(), self.options.renewals);
                let Some(known) = self.tokens.get_mut(token).filter(|known| known.renewals < most) else {
                    return refuse(400, &["lease is not renewable"]);
                };
                known.renewals += 1;
                known.expires = expires;
                self.renewals += 1;
                (200, self.auth(token))
            }
            _ => refuse(404, &["no handler for route"]),
        }
    }

    fn read(&self, name: &str) -> (u16, Value) {
        let Some(versions) = self.secrets.get(name).filter(|versions| !versions.is_empty()) else {
            return refuse(404, &[]);
        };
        let Some(newest) = versions.last() else { return refuse(404, &[]) };
        let metadata = facts(versions.len(), newest);
        if newest.deleted || newest.destroyed {
            return (404, json!({ "data": { "data": null, "metadata": metadata } }));
        }
        (200, json!({ "data": { "data": newest.data, "metadata": metadata } }))
    }

    fn write(&mut self, name: &str, body: &Value) -> (u16, Value) {
        let Some(data) = body.get("data").and_then(Value::as_object) else {
            return refuse(400, &["no data provided"]);
        };
        let versions = self.secrets.entry(name.to_owned()).or_default();
        let demanded = body.pointer("/options/cas").and_then(Value::as_u64);
        if demanded.is_some_and(|demanded| demanded != versions.len() as u64) {
            return refuse(400, &["check-and-set parameter did not match the current version"]);
        }
        versions.push(Version { data: Some(data.clone()), deleted: false, destroyed: false });
        let written = versions.last().map(|newest| facts(versions.len(), newest));
        (200, json!({ "data": written }))
    }

    fn list(&self, folder: &str) -> (u16, Value) {
        let folder = format!("{folder}/");
        let below = self.secrets.keys().filter_map(|name| name.strip_prefix(&folder));
        let keys: BTreeSet<String> = below
            .map(|name| name.split_once('/').map_or(name.to_owned(), |(first, _)| format!("{first}/")))
            .collect();
        if keys.is_empty() { refuse(404, &[]) } else { (200, json!({ "data": { "keys": keys } })) }
    }

    fn metadata(&self, name: &str) -> (u16, Value) {
        let Some(versions) = self.secrets.get(name) else { return refuse(404, &[]) };
        let each = versions.iter().enumerate().map(|(at, version)| {
            let mut facts = facts(at + 1, version);
            if let Some(facts) = facts.as_object_mut() {
                facts.remove("version");
            }
            ((at + 1).to_string(), facts)
        });
        let each: Map<String, Value> = each.collect();
        (
            200,
            json!({ "data": {
                "created_time": TIME, "updated_time": TIME, "current_version": versions.len(), "oldest_version": 1,
                "max_versions": 0, "cas_required": false, "versions": each,
            }}),
        )
    }

    fn destroy(&mut self, name: &str, body: &Value) -> (u16, Value) {
        let listed: Vec<u64> = body
            .get("versions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect();
        for (at, version) in self.secrets.get_mut(name).into_iter().flatten().enumerate() {
            if listed.contains(&(at as u64 + 1)) {
                version.data = None;
                version.destroyed = true;
            }
        }
        (204, Value::Null)
    }
}

fn facts(number: usize, version: &Version) -> Value {
    let deleted = if version.deleted { TIME } else { "" };
    json!({ "created_time": TIME, "deletion_time": deleted, "destroyed": version.destroyed, "version": number })
}
