//! The server: takes requests, writes them down, and does what the script says.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::limits;
use aws_lc_rs::digest;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::script::{Reply, Script, Turn};
use super::seen::{Dialect, Seen};
use super::{anthropic, openai};

/// Characters of text or arguments sent in one event of a stream.
const PIECE_CHARS: usize = 12;

/// How the server runs.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// The loopback port; one that is free if `None`.
    pub port: Option<u16>,
    /// A file each request is appended to, one [`LogLine`] each, before it is answered.
    pub log: Option<PathBuf>,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// The path asked for.
    pub path: String,
    /// The headers, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The key it is counted under: SHA-256 of model, messages, tools and response format, in hex.
    pub key: String,
    /// The body.
    pub body: Value,
}

/// One line of the log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The key the request is counted under.
    pub key: String,
    /// The model asked for.
    pub model: String,
    /// Messages in the request.
    pub messages: usize,
    /// Tool results among them.
    pub tool_results: usize,
    /// The last message of a user.
    pub last_user: String,
}

/// Reads a log file. A line cut by a crash is left out.
///
/// # Errors
/// If the file cannot be read.
pub fn read_log(path: &Path) -> io::Result<Vec<LogLine>> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[derive(Default)]
struct Record {
    requests: Vec<RecordedRequest>,
    counts: BTreeMap<String, u64>,
}

struct Shared {
    script: Mutex<Script>,
    record: Mutex<Record>,
    log: Option<PathBuf>,
    arrived: Notify,
}

/// A running server. Stops when dropped.
pub struct ScriptedModel {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl ScriptedModel {
    /// Starts on a free loopback port.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::start_with(script, ServerOptions::default()).await
    }
    /// Starts as `options` say.
    ///
    /// # Errors
    /// If the port cannot be bound.
    pub async fn start_with(script: Script, options: ServerOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", options.port.unwrap_or(0))).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            record: Mutex::default(),
            log: options.log,
            arrived: Notify::new(),
        });
        let router = Router::new()
            .route("/health", get(|| async { "ok" }))
            .route("/v1/models", get(|| async { json!({"object": "list", "data": []}).to_string() }))
            .route("/v1/chat/completions", post(chat_completions))
            .route("/v1/messages", post(messages))
            .layer(DefaultBodyLimit::max(limits::PROMPT_BYTES_MAX * 4))
            .with_state(Arc::clone(&shared));
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true)));
        let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, shared, task })
    }
    /// The root of its address, such as `http://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
    /// What came so far, oldest first.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.record.lock().unwrap_or_else(PoisonError::into_inner).requests.clone()
    }
    /// How often each request was seen, by key.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.shared.record.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }
    /// Waits until `count` requests came. False if they did not within `patience`.
    pub async fn wait_for_requests(&self, count: usize, patience: Duration) -> bool {
        tokio::time::timeout(patience, async {
            loop {
                let arrived = self.shared.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                if self.shared.record.lock().unwrap_or_else(PoisonError::into_inner).requests.len() >= count {
                    return;
                }
                arrived.await;
            }
        })
        .await
        .is_ok()
    }
    /// From now on answers by another script; counts go on.
    pub fn set_script(&self, script: Script) {
        *self.shared.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn chat_completions(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    serve(&shared, Dialect::OpenAi, &headers, &body).await
}

async fn messages(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    serve(&shared, Dialect::Anthropic, &headers, &body).await
}

async fn serve(shared: &Shared, dialect: Dialect, headers: &HeaderMap, body: &[u8]) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return (StatusCode::BAD_REQUEST, r#"{"error":{"message":"the body is not JSON"}}"#).into_response();
    };
    let (path, mut seen) = match dialect {
        Dialect::OpenAi => ("/v1/chat/completions", openai::read(body)),
        Dialect::Anthropic => ("/v1/messages", anthropic::read(body)),
    };
    if let Err(error) = write_down(shared, path, headers, &mut seen) {
        let message = format!("the request could not be logged: {error}");
        return (StatusCode::INSUFFICIENT_STORAGE, message).into_response();
    }
    let script = shared.script.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut reply = script.decide(&seen);
    loop {
        reply = match reply {
            Reply::After(wait, next) => {
                tokio::time::sleep(wait).await;
                *next
            }
            Reply::Behind(gate, next) => {
                gate.passed().await;
                *next
            }
            other => return perform(&seen, other).await,
        }
    }
}

/// Counts and logs a request, and tells `seen` its ordinal and how often it came.
fn write_down(shared: &Shared, path: &str, headers: &HeaderMap, seen: &mut Seen) -> io::Result<()> {
    let body = &seen.body;
    let identity = json!([
        body["model"],
        body["system"],
        body["messages"],
        body["tools"],
        body["response_format"],
        body["output_config"],
    ]);
    let hash = digest::digest(&digest::SHA256, identity.to_string().as_bytes());
    let key: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let request = RecordedRequest {
        path: path.to_owned(),
        headers: headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        key: key.clone(),
        body: body.clone(),
    };
    let mut record = shared.record.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(log) = &shared.log {
        let line = LogLine {
            key: key.clone(),
            model: seen.model.clone(),
            messages: seen.messages.len(),
            tool_results: seen.tool_results(),
            last_user: seen.last_user().to_owned(),
        };
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        std::fs::OpenOptions::new().create(true).append(true).open(log)?.write_all(text.as_bytes())?;
    }
    record.requests.push(request);
    seen.ordinal = record.requests.len() as u64;
    let count = record.counts.entry(key).or_default();
    *count += 1;
    seen.times = *count;
    drop(record);
    shared.arrived.notify_waiters();
    Ok(())
}

async fn perform(seen: &Seen, reply: Reply) -> Response {
    match reply {
        Reply::Turn(turn) => answer(seen, &turn, false),
        Reply::HangMidway(turn) => answer(seen, &turn, true),
        Reply::Flood { bytes } => answer(seen, &Turn::text("x".repeat(bytes)), false),
        Reply::Hang | Reply::After(..) | Reply::Behind(..) => std::future::pending().await,
        Reply::Drop => broken(),
        Reply::Status { status, retry_after, body } => {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() =
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            if let Some(Ok(value)) = retry_after.map(|text| text.parse()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
            response
        }
        Reply::Raw { content_type, body } => {
            ([(header::CONTENT_TYPE, content_type)], Body::from(body)).into_response()
        }
    }
}

/// A response that breaks at once, with no byte of its body sent.
fn broken() -> Response {
    Response::new(Body::from_stream(stream::iter([Err::<Bytes, _>(io::Error::other("scripted cut"))])))
}

fn answer(seen: &Seen, turn: &Turn, hang_after_first: bool) -> Response {
    let streamed = seen.stream && !turn.ignore_stream;
    let mut pieces: Vec<Bytes> = match (streamed, seen.dialect) {
        (true, Dialect::OpenAi) => openai::events(seen, turn).into_iter().map(Bytes::from).collect(),
        (true, Dialect::Anthropic) => anthropic::events(seen, turn).into_iter().map(Bytes::from).collect(),
        (false, Dialect::OpenAi) => vec![Bytes::from(openai::whole(seen, turn))],
        (false, Dialect::Anthropic) => vec![Bytes::from(anthropic::whole(seen, turn))],
    };
    let mut ending: Option<Result<Bytes, io::Error>> = None;
    if let Some(kept) = turn.cut_after {
        if streamed {
            pieces.truncate(kept);
        } else {
            pieces = pieces.iter().map(|piece| piece.slice(..kept.min(piece.len()))).collect();
        }
        ending = Some(Err(io::Error::other("scripted cut")));
    }
    if hang_after_first {
        pieces.truncate(1);
    }
    if let Some(size) = turn.chop_bytes {
        let all = pieces.concat();
        pieces = all.chunks(size.max(1)).map(Bytes::copy_from_slice).collect();
    }
    let pause = turn.pause;
    // A cut waits a moment, so that the pieces before it are on the wire when the connection breaks.
    let body = stream::iter(pieces.into_iter().map(Ok).chain(ending)).then(move |piece| async move {
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        } else if piece.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        piece
    });
    let content_type = if streamed { "text/event-stream" } else { "application/json" };
    let body = if hang_after_first {
        Body::from_stream(body.chain(stream::pending()))
    } else {
        Body::from_stream(body)
    };
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// Splits a text as a stream sends it.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let size = PIECE_CHARS.max(chars.len() / 2000);
    chars.chunks(size).map(|piece| piece.iter().collect()).collect()
}

/// Tokens of request and answer, a quarter of their characters each.
pub(super) fn plausible_tokens(seen: &Seen, turn: &Turn) -> (u64, u64) {
    let input: usize = seen.messages.iter().map(|message| message.text.len()).sum();
    let output: usize = turn.text.len() + turn.calls.iter().map(|call| call.arguments.len()).sum::<usize>();
    (input.div_ceil(4) as u64, output.div_ceil(4) as u64)
}
