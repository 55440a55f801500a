//! `aegis mcp serve`: the daemon's `/mcp` on standard input and output.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_api::{Client, McpTerms};
use aegis_core::Diagnosis;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Stdout};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use crate::args::{Global, Mcp};
use crate::failure::Failure;

/// Longest message that is read.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Requests under way at the same time; further ones wait unread.
const REQUESTS_MAX: usize = 64;
/// How long closing a session may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// JSON-RPC's code of a failure that is nobody's.
const INTERNAL_ERROR: i64 = -32_603;

pub(super) async fn run(global: &Global, command: Mcp) -> Result<(), Failure> {
    let Mcp::Serve { agent } = command;
    let client = global.client()?;
    // Not reachable, or not permitted: told at once, not with the first request.
    client.status().await?;
    serve(client, agent).await
}

/// What is under way, and what was agreed.
#[derive(Default)]
struct Bridge {
    under_way: Mutex<HashMap<String, AbortHandle>>,
    /// The agent, and what a handshake came to: the revision and the session.
    agreed: Mutex<McpTerms>,
}

async fn serve(client: Client, agent: Option<String>) -> Result<(), Failure> {
    let agreed = Mutex::new(McpTerms { agent, ..McpTerms::default() });
    let bridge = Arc::new(Bridge { agreed, ..Bridge::default() });
    let out = Arc::new(tokio::sync::Mutex::new(tokio::io::stdout()));
    let mut lines = BufReader::new(tokio::io::stdin());
    let mut tasks = JoinSet::new();
    let mut line = Vec::new();
    let mut beside: Option<JoinHandle<()>> = None;
    loop {
        line.clear();
        // One byte more than permitted tells a message that is too long, of whatever length.
        let mut bounded = (&mut lines).take(MESSAGE_BYTES_MAX as u64 + 1);
        if bounded.read_until(b'\n', &mut line).await? == 0 {
            break;
        }
        if line.len() > MESSAGE_BYTES_MAX {
            return Err(Diagnosis::new(aegis_core::ErrorCode::InvalidInput, "a message is too large").into());
        }
        let Ok(message) = serde_json::from_slice::<Value>(&line) else { continue };
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
        if method == "notifications/cancelled" {
            bridge.cancel(message.pointer("/params/requestId"));
        }
        let id = message.get("id").filter(|_| !method.is_empty()).cloned();
        let (passed, bridge_, out_) = (client.clone(), bridge.clone(), out.clone());
        let passing = async move { pass(&passed, &bridge_, &message, &out_).await };
        if method == "initialize" {
            // What follows depends on what is agreed here.
            passing.await?;
            continue;
        }
        if method == "notifications/initialized" {
            passing.await?;
            beside = Some(tokio::spawn(session(client.clone(), bridge.terms(), out.clone())));
            continue;
        }
        while tasks.len() >= REQUESTS_MAX {
            finished(tasks.join_next().await)?;
        }
        let handle = tasks.spawn(passing);
        if let Some(id) = id {
            bridge.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_string(), handle);
        }
        while let Some(done) = tasks.try_join_next() {
            finished(Some(done))?;
        }
    }
    while let Some(done) = tasks.join_next().await {
        finished(Some(done))?;
    }
    if let Some(beside) = beside {
        beside.abort();
    }
    let terms = bridge.terms();
    if terms.session.is_some() {
        // One that is not closed ends by itself.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, client.close_mcp_session(&terms)).await;
    }
    Ok(())
}

/// Writes what the daemon says in the session beside its answers.
async fn session(client: Client, terms: McpTerms, out: Arc<tokio::sync::Mutex<Stdout>>) {
    if terms.session.is_none() {
        return;
    }
    let Ok(mut stream) = client.mcp_session(&terms).await else { return };
    while let Some(message) = stream.next().await {
        if write(&out, &message).await.is_err() {
            return;
        }
    }
}

fn finished(done: Option<Result<Result<(), Failure>, tokio::task::JoinError>>) -> Result<(), Failure> {
    match done {
        Some(Ok(done)) => done,
        Some(Err(error)) if error.is_panic() => Err(Diagnosis::internal(error.to_string()).into()),
        _ => Ok(()),
    }
}

impl Bridge {
    fn cancel(&self, id: Option<&Value>) {
        let Some(id) = id else { return };
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(request) = under_way.remove(&id.to_string()) {
            // Its connection closes, which tells the daemon.
            request.abort();
        }
    }
    fn terms(&self) -> McpTerms {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// The terms of one message: it may name its own revision, which has no sessions.
    fn terms_of(&self, message: &Value) -> McpTerms {
        let agreed = self.terms();
        let own = message.pointer("/params/_meta/io.modelcontextprotocol~1protocolVersion");
        match own.and_then(Value::as_str) {
            Some(own) => McpTerms { revision: Some(own.to_owned()), session: None, ..agreed },
            None => agreed,
        }
    }
}

/// Passes one message on, and writes what is answered.
async fn pass(
    client: &Client,
    bridge: &Bridge,
    message: &Value,
    out: &tokio::sync::Mutex<Stdout>,
) -> Result<(), Failure> {
    let id = message.get("id").filter(|_| message.get("method").is_some());
    match client.mcp(message, &bridge.terms_of(message)).await {
        Ok(mut reply) => {
            while let Some(answer) = reply.next().await {
                let agreed = answer.pointer("/result/protocolVersion").and_then(Value::as_str);
                if let Some(agreed) = agreed {
                    let mut terms = bridge.agreed.lock().unwrap_or_else(PoisonError::into_inner);
                    terms.revision = Some(agreed.to_owned());
                    terms.session = reply.session.clone();
                }
                write(out, &answer).await?;
            }
        }
        Err(error) => {
            if let Some(id) = id {
                let Diagnosis { message, hint, .. } = error.diagnosis;
                let message = hint.map_or_else(|| message.clone(), |hint| format!("{message}; {hint}"));
                let error = json!({"code": INTERNAL_ERROR, "message": message});
                write(out, &json!({"jsonrpc": "2.0", "id": id, "error": error})).await?;
            }
        }
    }
    if let Some(id) = id {
        bridge.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.to_string());
    }
    Ok(())
}

async fn write(out: &tokio::sync::Mutex<Stdout>, message: &Value) -> Result<(), Failure> {
    let mut out = out.lock().await;
    out.write_all(format!("{message}\n").as_bytes()).await?;
    out.flush().await?;
    Ok(())
}
