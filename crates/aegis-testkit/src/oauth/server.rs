//! The routes of both servers.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::grants::{Fields, Grants};

/// What the server does otherwise than an honest one.
#[derive(Debug, Clone, Default)]
pub struct OauthTricks {
    /// Seconds a token lives; an hour without it.
    pub life_seconds: Option<u64>,
    /// Registered clients get a secret.
    pub confidential: bool,
    /// The person does not agree.
    pub refuses: bool,
    /// The answer names this issuer.
    pub issuer_of_answer: Option<String>,
    /// The metadata names this token endpoint.
    pub token_endpoint: Option<String>,
    /// The server names this authorization server.
    pub authorization_server: Option<String>,
    /// The authorization server does not say where it revokes tokens.
    pub no_revocation: bool,
    /// The metadata names this revocation endpoint.
    pub revocation_endpoint: Option<String>,
    /// The authorization server answers 503 where it revokes tokens.
    pub revocation_fails: bool,
}

struct Shared {
    base: String,
    grants: Grants,
    tricks: OauthTricks,
    /// What was asked for: method and path, in order.
    requests: Vec<String>,
}

/// A running server. Stops when dropped.
pub struct OauthServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl Drop for OauthServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OauthServer {
    /// A client that was registered by hand.
    pub const CLIENT_ID: &'static str = "client-by-hand";
    /// Its secret.
    pub const CLIENT_SECRET: &'static str = "secret-of-the-client-by-hand";

    /// Starts on a free loopback port.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(tricks: OauthTricks) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut grants = Grants::default();
        grants.add_client(Self::CLIENT_ID, Some(Self::CLIENT_SECRET));
        let base = format!("http://{address}");
        let shared = Arc::new(Mutex::new(Shared { base, grants, tricks, requests: Vec::new() }));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, shared, task })
    }
    /// The root of its address.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }
    /// The address of the tool server.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
    /// What a person's browser does with the address of a sign-in: agrees, and is sent back. Nothing if it is not sent
    /// anywhere.
    pub fn browse(&self, url: &str) -> Option<String> {
        let uri: Uri = url.parse().ok()?;
        let mut shared = self.lock();
        let answer = authorize(&mut shared, &fields(uri.query().unwrap_or_default()));
        answer.headers().get(LOCATION)?.to_str().ok().map(str::to_owned)
    }
    /// From now on every access token that was given is refused.
    pub fn end_access(&self) {
        self.lock().grants.end_access();
    }
    /// From now on every refresh token that was given is refused.
    pub fn end_refresh(&self) {
        self.lock().grants.end_refresh();
    }
    /// From now on it does this.
    pub fn turn(&self, tricks: OauthTricks) {
        self.lock().tricks = tricks;
    }
    /// All tokens, codes and secrets that it ever gave.
    pub fn issued(&self) -> Vec<String> {
        self.lock().grants.issued.iter().cloned().collect()
    }
    /// The kinds of grants that were exchanged for tokens, in order.
    pub fn exchanges(&self) -> Vec<String> {
        self.lock().grants.exchanges.clone()
    }
    /// The kinds of tokens that were revoked, in order.
    pub fn revoked(&self) -> Vec<String> {
        self.lock().grants.revoked.clone()
    }
    /// Whether it takes any token that it gave.
    pub fn has_live_tokens(&self) -> bool {
        self.lock().grants.has_live_tokens()
    }
    /// What was asked for: method and path, in order.
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(
    State(shared): State<Arc<Mutex<Shared>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    shared.requests.push(format!("{method} {}", uri.path()));
    let base = shared.base.clone();
    match (method.as_str(), uri.path()) {
        ("GET", "/.well-known/oauth-protected-resource/mcp") => {
            let issuer = shared.tricks.authorization_server.clone().unwrap_or(base.clone());
            json_answer(
                200,
                &json!({"resource": format!("{base}/mcp"), "authorization_servers": [issuer],
                        "scopes_supported": ["read"]}),
            )
        }
        ("GET", "/.well-known/oauth-authorization-server") => {
            let token = shared.tricks.token_endpoint.clone().unwrap_or(format!("{base}/token"));
            let revocation = shared.tricks.revocation_endpoint.clone().unwrap_or(format!("{base}/revoke"));
            let mut metadata = json!({"issuer": base, "authorization_endpoint": format!("{base}/authorize"),
                        "token_endpoint": token, "registration_endpoint": format!("{base}/register"),
                        "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"],
                        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
                        "scopes_supported": ["read", "write", "offline_access"],
                        "authorization_response_iss_parameter_supported": true});
            if let Some(metadata) = metadata.as_object_mut().filter(|_| !shared.tricks.no_revocation) {
                metadata.insert("revocation_endpoint".to_owned(), revocation.into());
            }
            json_answer(200, &metadata)
        }
        ("POST", "/register") => {
            let request: Value = serde_json::from_slice(&body).unwrap_or_default();
            let confidential = shared.tricks.confidential;
            let (status, answer) = shared.grants.register(&request, confidential);
            json_answer(status, &answer)
        }
        ("GET", "/authorize") => authorize(&mut shared, &fields(uri.query().unwrap_or_default())),
        ("POST", "/token") => {
            let form = fields(&String::from_utf8_lossy(&body));
            let life = shared.tricks.life_seconds.unwrap_or(3600);
            let (status, answer) = shared.grants.exchange(&form, basic(&headers), life);
            json_answer(status, &answer)
        }
        ("POST", "/revoke") if shared.tricks.revocation_fails => {
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        ("POST", "/revoke") => {
            let form = fields(&String::from_utf8_lossy(&body));
            let (status, answer) = shared.grants.revoke(&form, basic(&headers));
            json_answer(status, &answer)
        }
        ("POST", "/mcp") => tools(&shared, &headers, &body),
        ("GET", "/mcp") => match granted(&shared, &headers) {
            Ok(_) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
            Err(refusal) => *refusal,
        },
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn authorize(shared: &mut Shared, query: &Fields) -> Response {
    let field = |name: &str| query.get(name).cloned().unwrap_or_default();
    let resource = format!("{}/mcp", shared.base);
    let issuer = shared.tricks.issuer_of_answer.clone().unwrap_or(shared.base.clone());
    let answer = if shared.tricks.refuses {
        "error=access_denied".to_owned()
    } else {
        match shared.grants.agree(query, &resource) {
            Ok(code) => format!("code={code}"),
            Err(why) => return json_answer(400, &json!({"error": why})),
        }
    };
    let to = format!("{}?{answer}&state={}&iss={}", field("redirect_uri"), field("state"), encode(&issuer));
    (StatusCode::FOUND, [(LOCATION, to)]).into_response()
}

/// The scopes of the request's token, or the refusal.
fn granted(shared: &Shared, headers: &HeaderMap) -> Result<Vec<String>, Box<Response>> {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    token
        .and_then(|token| shared.grants.scopes(token))
        .ok_or_else(|| Box::new(challenge(shared, 401, "read")))
}

fn challenge(shared: &Shared, status: u16, scope: &str) -> Response {
    let metadata = format!("{}/.well-known/oauth-protected-resource/mcp", shared.base);
    let error = if status == 403 { "error=\"insufficient_scope\", " } else { "" };
    let challenge = format!("Bearer {error}resource_metadata=\"{metadata}\", scope=\"{scope}\"");
    let status = StatusCode::from_u16(status).unwrap_or_default();
    (status, [(WWW_AUTHENTICATE, challenge)]).into_response()
}

fn tools(shared: &Shared, headers: &HeaderMap, body: &Bytes) -> Response {
    let scopes = match granted(shared, headers) {
        Ok(scopes) => scopes,
        Err(refusal) => return *refusal,
    };
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(id) = message.get("id") else { return StatusCode::ACCEPTED.into_response() };
    let called = message.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
    let result = match message.get("method").and_then(Value::as_str).unwrap_or_default() {
        "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                               "serverInfo": {"name": "guarded", "version": "1"}}),
        "tools/list" => {
            let tool =
                |name: &str| json!({"name": name, "description": name, "inputSchema": {"type": "object"}});
            json!({"tools": [tool("scopes"), tool("write"), tool("echo_token")]})
        }
        "tools/call" if called == "write" && !scopes.iter().any(|scope| scope == "write") => {
            return challenge(shared, 403, "write");
        }
        "tools/call" if called == "echo_token" => {
            let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            json!({"content": [{"type": "text", "text": token.unwrap_or_default()}]})
        }
        "tools/call" => json!({"content": [{"type": "text", "text": scopes.join(" ")}]}),
        "ping" => json!({}),
        _ => {
            let error = json!({"code": -32601, "message": "no such method"});
            return json_answer(200, &json!({"jsonrpc": "2.0", "id": id, "error": error}));
        }
    };
    json_answer(200, &json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

fn json_answer(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or_default();
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let given = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(given).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((decode(id), decode(secret)))
}

/// The fields of a query or a form.
fn fields(text: &str) -> Fields {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| {
                    digit
                        .and_then(|digit| char::from(digit).to_digit(16))
                        .and_then(|digit| u8::try_from(digit).ok())
                });
                match digits {
                    [Some(high), Some(low)] => high << 4 | low,
                    _ => b'?',
                }
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
