//! The HTTP side over a real TCP port, with the real adapters. Executions are written to the journal by hand: what an
//! execution does is the kernel's to test.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aegis_api::{Client, Endpoint, ExecutionEvent};
use aegis_core::execution::LoopPlan;
use aegis_core::{
    Actor, AgentId, BlobRef, Body, Durability, ErrorCode, EventId, ExecutionId, NewEvent, Score, Sha256,
    SpanContext, SpanId, StreamId, Tenant, TraceId,
};
use aegis_kernel::port::{Append, BlobCopy, NewBlob};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::folder::Folder;
use crate::{TOKEN_FILE, compose, listen, load_config, routes, serve};

mod acts;

struct Node {
    app: Arc<App>,
    home: tempfile::TempDir,
    _folder: Folder,
}

impl Node {
    async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = load_config(None).unwrap();
        let folder = Folder::take(home.path()).unwrap();
        let composed = compose::compose(home.path(), &config, false).await.unwrap();
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let app = Arc::new(serve::app(&config, &folder, address, &composed, &stop).unwrap());
        app.ready.store(true, Ordering::Release);
        tokio::spawn(listen::listen(listener, routes::router(&app), stop.clone()));
        tokio::spawn(crate::guard::record_refusals(app.clone(), stop));
        Self { app, home, _folder: folder }
    }

    fn token(&self) -> String {
        std::fs::read_to_string(self.home.path().join(TOKEN_FILE)).unwrap().trim().to_owned()
    }

    fn client(&self) -> Client {
        let (host, port) = (self.app.address.ip().to_string(), self.app.address.port());
        Client::new(Endpoint { host, port, token: Some(self.token()), tenant: None }).unwrap()
    }

    /// Sends raw bytes and gives the whole answer.
    async fn raw(&self, request: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.app.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        let host = self.app.address;
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n")).await
    }

    fn blob(&self, text: &str) -> (BlobRef, NewBlob) {
        let salt = [7u8; 32];
        let id = aegis_core::BlobId::from_uuid(self.app.ids.uuid());
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let commitment = aegis_security::commitment::commit(&salt, &bytes);
        let reference = BlobRef { id, commitment, bytes: bytes.len() as u64, working: None };
        (reference, NewBlob { id, salt, bytes, copy: BlobCopy::Evidence })
    }

    async fn write(&self, execution: ExecutionId, bodies: Vec<Body>, blobs: Vec<NewBlob>) {
        let events = bodies.into_iter().map(|body| NewEvent {
            id: EventId::from_uuid(self.app.ids.uuid()),
            at: self.app.clock.now(),
            span: SpanContext {
                trace_id: TraceId::from_bytes([3; 16]),
                span_id: SpanId::from_bytes([4; 8]),
                parent_span_id: None,
            },
            actor: Actor::person("local"),
            body,
        });
        let append = Append {
            tenant: Tenant::default_tenant(),
            stream: StreamId::Execution(execution),
            expected: None,
            events: events.collect(),
            blobs,
            durability: Durability::Process,
        };
        self.app.journal().append(append).await.unwrap();
    }

    /// An execution that runs, in its first iteration.
    async fn running(&self) -> ExecutionId {
        let execution = ExecutionId::from_uuid(self.app.ids.uuid());
        let (document, document_blob) = self.blob("kind: Agent");
        let (input, input_blob) = self.blob(r#"{"task":"x"}"#);
        let created = Body::ExecutionCreated {
            agent: AgentId::from_uuid(self.app.ids.uuid()),
            name: "coder".parse().unwrap(),
            version: "1.0.0".to_owned(),
            digest: Sha256::from_bytes([0; 32]),
            document,
            input,
            overrides: None,
            plan: LoopPlan { max_iterations: 3, iteration_timeout_ms: 1, total_timeout_ms: 1, validators: 0 },
            parent: None,
            depth: 0,
            external: false,
        };
        let bodies = vec![created, Body::ExecutionStarted {}, Body::IterationStarted { iteration: 1 }];
        self.write(execution, bodies, vec![document_blob, input_blob]).await;
        execution
    }

    async fn complete(&self, execution: ExecutionId) {
        let (answer, blob) = self.blob("the \u{1b}[31manswer");
        let bodies = vec![
            Body::IterationAnswered { iteration: 1, answer },
            Body::IterationCompleted {
                iteration: 1,
                score: Score::ONE,
                confidence: Score::ONE,
                passed: true,
            },
            Body::ExecutionCompleted { answer, total_iterations: 1 },
        ];
        self.write(execution, bodies, vec![blob]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_is_shut_to_strangers_and_open_for_health() {
    let node = Node::start().await;
    assert!(node.get("/health", "").await.starts_with("HTTP/1.1 200"));
    let stranger = node.get("/v1/agents", "").await;
    assert!(stranger.starts_with("HTTP/1.1 401"), "{stranger}");
    assert!(
        stranger.contains("application/problem+json") && stranger.contains("unauthenticated"),
        "{stranger}"
    );
    assert!(node.get("/v1/agents", "Authorization: Bearer wrong\r\n").await.starts_with("HTTP/1.1 401"));
    let token = format!("Authorization: Bearer {}\r\n", node.token());
    let foreign = node.get("/v1/agents", &format!("{token}Origin: http://evil.example\r\n")).await;
    assert!(foreign.starts_with("HTTP/1.1 403"), "{foreign}");
    let rebound =
        format!("GET /v1/agents HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n{token}\r\n");
    assert!(node.raw(&rebound).await.starts_with("HTTP/1.1 403"));
    let form = format!(
        "POST /v1/executions HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{token}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}",
        node.app.address
    );
    assert!(node.raw(&form).await.starts_with("HTTP/1.1 415"));
    let good = node.get("/v1/agents", &token).await;
    assert!(good.starts_with("HTTP/1.1 200") && good.contains("x-aegis-checkpoint-root"), "{good}");
    assert!(node.get("/", "").await.contains("This is an AEGIS daemon"));
    assert!(node.get("/v1/nowhere", &token).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_access_is_recorded_coalesced() {
    let node = Node::start().await;
    for _ in 0..20 {
        node.get("/v1/agents", "").await;
    }
    let client = node.client();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let page = client.audit_events(&[("kind", "access.refused".to_owned())]).await.unwrap();
        let counted: u64 = page.items.iter().filter_map(|event| event.body["count"].as_u64()).sum();
        if counted == 20 {
            assert!(page.items.len() < 20, "each refusal is an event of its own");
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{counted} of 20 are recorded");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_tells_an_execution_to_its_end_while_it_runs() {
    let node = Node::start().await;
    let execution = node.running().await;
    let mut stream = node.client().execution_events(&execution.to_string(), true);
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.name, "execution_started");
    assert_eq!(stream.next().await.unwrap().unwrap().name, "iteration_started");
    node.complete(execution).await;
    let mut rest = Vec::new();
    while let Some(item) = stream.next().await.unwrap() {
        rest.push(item);
    }
    let names: Vec<&str> = rest.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["iteration_output", "iteration_completed", "execution_completed"]);
    let last = rest.last().and_then(|item| item.event.clone());
    assert!(
        matches!(&last, Some(ExecutionEvent::ExecutionCompleted { final_output, .. }) if final_output == "the \u{1b}[31manswer"),
        "{last:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_event_is_told_at_once() {
    let node = Node::start().await;
    let execution = node.running().await;
    let mut stream = node.client().execution_events(&execution.to_string(), true);
    let mut quickest = std::time::Duration::MAX;
    for _ in 0..2 {
        stream.next().await.unwrap().unwrap();
    }
    for iteration in 2..30 {
        // Longer than events are gathered.
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        node.write(execution, vec![Body::IterationStarted { iteration }], Vec::new()).await;
        let written = tokio::time::Instant::now();
        stream.next().await.unwrap().unwrap();
        quickest = quickest.min(written.elapsed());
    }
    assert!(quickest < std::time::Duration::from_millis(8), "the quickest of 28 took {quickest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_behind_the_last_id() {
    let node = Node::start().await;
    let execution = node.running().await;
    node.complete(execution).await;
    let token = format!("Authorization: Bearer {}\r\n", node.token());
    let path = format!("/v1/executions/{execution}/stream?follow=false");
    let whole = node.get(&path, &token).await;
    let ids: Vec<&str> = whole.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids.len(), 5, "{whole}");
    let rest = node.get(&path, &format!("{token}Last-Event-ID: {}\r\n", ids[3])).await;
    let left: Vec<&str> = rest.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(left, ids[4..], "{rest}");
    assert!(node.get(&path, &format!("{token}Last-Event-ID: x\r\n")).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executions_are_shown_whole_and_only_to_their_tenant() {
    let node = Node::start().await;
    let execution = node.running().await.to_string();
    node.complete(execution.parse().unwrap()).await;
    let client = node.client();
    let shown = client.execution(&execution).await.unwrap();
    assert_eq!((shown.status.as_str(), shown.total_iterations), ("completed", 1));
    assert_eq!(shown.input.unwrap()["task"], "x");
    assert_eq!(shown.iterations.unwrap().len(), 1);
    assert_eq!(client.executions(None, Some("completed"), None, 20).await.unwrap().items.len(), 1);
    assert_eq!(client.trace(&execution).await.unwrap().spans.len(), 1);
    let mut other = client.endpoint().clone();
    other.tenant = Some("acme".to_owned());
    let other = Client::new(other).unwrap();
    assert_eq!(other.execution(&execution).await.unwrap_err().diagnosis.code, ErrorCode::NotFound);
    assert_eq!(other.trace(&execution).await.unwrap_err().diagnosis.code, ErrorCode::NotFound);
}
