//! Event streams over HTTP, and who is turned away at the door.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Script};
use serde_json::{Value, json};

use crate::manifests::worker;
use crate::observe::{events, until};

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    id: Option<u64>,
    event: String,
    data: Value,
}

/// Sends a request with these headers and gives the open connection. HTTP/1.0: the answer ends with the connection.
fn ask(node: &Node, method: &str, path: &str, headers: &[(&str, &str)]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", node.port())).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut request = format!("{method} {path} HTTP/1.0\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).expect("the request is sent");
    stream
}

/// Status and body of an answer.
fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, text.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

/// The events in the body of a stream; one that is cut off is left out.
fn parse(body: &str) -> Vec<Told> {
    let whole = body.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    let field = |frame: &str, name: &str| {
        frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    };
    whole
        .split("\n\n")
        .filter_map(|frame| {
            Some(Told {
                id: field(frame, "id").map(|id| id.parse().expect("a number")),
                event: field(frame, "event")?,
                data: serde_json::from_str(&field(frame, "data")?).expect("JSON in one line"),
            })
        })
        .collect()
}

/// What a stream tells from behind `last` to its end.
fn told(node: &Node, path: &str, last: Option<u64>) -> Vec<Told> {
    let (token, last) = (format!("Bearer {}", node.token()), last.map(|last| last.to_string()));
    let host = format!("127.0.0.1:{}", node.port());
    let mut headers = vec![("Host", host.as_str()), ("Authorization", token.as_str())];
    headers.extend(last.as_deref().map(|last| ("Last-Event-ID", last)));
    let (status, body) = answer(ask(node, "GET", path, &headers));
    assert_eq!(status, 200, "{body}");
    parse(&body)
}

/// A model that lists files until it is released, then answers.
fn gated() -> (Script, Arc<AtomicBool>) {
    let released = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&released);
    let script = Script::new(move |seen| match (open.load(Ordering::Acquire), seen.tool_results()) {
        (true, 1..) => Reply::text("done"),
        _ => Reply::After(Duration::from_millis(20), Box::new(Reply::call("fs.list", &json!({})))),
    });
    (script, released)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_behind_any_event_without_loss_or_repeat() {
    let script = Script::new(|seen| match (seen.tool_results(), seen.mentions("previous attempt failed")) {
        (0, _) => Reply::call("fs.write", &json!({"path": "/workspace/a", "content": "x"})),
        (_, false) => Reply::text("bad"),
        (_, true) => Reply::text("good"),
    });
    let node = Node::with(script).start().await;
    let agent = node.deploy(&worker("told", "  execution: {validation: [{type: regex, pattern: good}]}\n"));
    let execution = node.execute("told", "{}");
    node.wait(&execution);
    for path in [
        format!("/v1/executions/{execution}/events"),
        format!("/v1/executions/{execution}/stream"),
        format!("/v1/agents/{agent}/events?follow=false"),
    ] {
        let all = told(&node, &path, None);
        let names: Vec<&str> = all.iter().map(|told| told.event.as_str()).collect();
        assert_eq!(names.first(), Some(&"execution_started"), "{path}");
        assert_eq!(names.last(), Some(&"execution_completed"), "{path}");
        for expected in
            ["iteration_output", "iteration_completed", "validation_completed", "refinement_applied"]
        {
            assert!(names.contains(&expected), "{path}: no {expected} in {names:?}");
        }
        assert!(all.iter().all(|told| told.data["event"] == told.event), "the name stands in the data too");
        for (place, event) in all.iter().enumerate() {
            if let Some(id) = event.id {
                assert_eq!(told(&node, &path, Some(id)), all[place + 1..], "{path} behind {id}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_loses_its_connection_misses_nothing() {
    let (script, released) = gated();
    let node = Node::with(script).start().await;
    node.deploy(&worker("told", ""));
    let execution = node.execute("told", "{}");
    let path = format!("/v1/executions/{execution}/events");
    let (host, token) = (format!("127.0.0.1:{}", node.port()), format!("Bearer {}", node.token()));
    let mut seen: Vec<Told> = Vec::new();
    for _ in 0..3 {
        let last = seen.iter().rev().find_map(|told| told.id).map(|id| id.to_string());
        let mut headers = vec![("Host", host.as_str()), ("Authorization", token.as_str())];
        headers.extend(last.as_deref().map(|last| ("Last-Event-ID", last)));
        let mut stream = ask(&node, "GET", &path, &headers);
        let (mut text, mut piece) = (Vec::new(), [0u8; 512]);
        // Reads until some events have come, and goes away in the middle.
        while parse(&String::from_utf8_lossy(&text)).len() < 3 {
            let count = stream.read(&mut piece).expect("more of the stream");
            assert_ne!(count, 0, "the stream ended early");
            text.extend_from_slice(&piece[..count]);
        }
        drop(stream);
        let text = String::from_utf8_lossy(&text).into_owned();
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let frames = parse(body);
        // What has no id of its own is told again with the event that has; a reader keeps what an id covers.
        let covered = frames.iter().rposition(|told| told.id.is_some()).map_or(0, |place| place + 1);
        seen.extend_from_slice(&frames[..covered]);
    }
    released.store(true, Ordering::Release);
    let last = seen.iter().rev().find_map(|told| told.id);
    seen.extend(told(&node, &path, last));
    assert_eq!(seen, told(&node, &path, None));
    assert_eq!(seen.last().unwrap().event, "execution_completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_turned_away_and_recorded() {
    let node = Node::with(Script::rules(Vec::new())).start().await;
    let (host, token) = (format!("127.0.0.1:{}", node.port()), format!("Bearer {}", node.token()));
    let (own, known) = (("Host", host.as_str()), ("Authorization", token.as_str()));
    let same_origin = format!("http://{host}");
    for (headers, status) in [
        (vec![own, known], 200),
        (vec![own, known, ("Origin", same_origin.as_str())], 200),
        (vec![own], 401),
        (vec![own, ("Authorization", "Bearer wrong")], 401),
        (vec![own, ("Authorization", "Basic d3Jvbmc6")], 401),
        (vec![("Host", "evil.example"), known], 403),
        (vec![("Host", "127.0.0.1.evil.example"), known], 403),
        (vec![known], 403),
        (vec![own, known, ("Origin", "http://evil.example")], 403),
        (vec![own, known, ("Origin", "null")], 403),
    ] {
        let (answered, body) = answer(ask(&node, "GET", "/v1/agents", &headers));
        let shown: Vec<_> = headers.iter().filter(|header| **header != known).collect();
        assert_eq!(answered, status, "{shown:?}: {body}");
        if status != 200 {
            let problem: Value = serde_json::from_str(&body).expect("a problem document");
            assert!(problem["error"].is_string() && problem["code"].is_string(), "{body}");
        }
    }
    assert_eq!(answer(ask(&node, "GET", "/health/ready", &[own])).0, 200);
    assert_eq!(answer(ask(&node, "GET", "/health/live", &[("Host", "evil.example")])).0, 403);
    let reasons = || -> Vec<String> {
        let refused = events(&node, "access.refused");
        refused.iter().filter_map(|event| event["body"]["reason"].as_str().map(str::to_owned)).collect()
    };
    let all = ["no_credential", "wrong_credential", "foreign_host", "foreign_origin"];
    until("every refusal is recorded", || {
        let recorded = reasons();
        all.iter().all(|reason| recorded.iter().any(|known| known == reason))
    });
    let cli = node.command(&["agent", "list"]).env("AEGIS_TOKEN", "wrong").output().unwrap();
    assert_eq!(cli.status.code(), Some(3), "{}", String::from_utf8_lossy(&cli.stderr));
    assert!(String::from_utf8_lossy(&cli.stderr).contains("AEGIS_TOKEN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_what_is_not_there_are_refused() {
    let node = Node::with(Script::rules(Vec::new())).start().await;
    let (host, token) = (format!("127.0.0.1:{}", node.port()), format!("Bearer {}", node.token()));
    let known = [("Host", host.as_str()), ("Authorization", token.as_str())];
    let absent = "/v1/executions/a1b2c3d4-0000-4000-8000-000000000001/events";
    assert_eq!(answer(ask(&node, "GET", absent, &known)).0, 404);
    assert_eq!(answer(ask(&node, "GET", "/v1/executions/no-id/events", &known)).0, 404);
    let agent = node.deploy(&worker("told", ""));
    let path = format!("/v1/agents/{agent}/events?follow=false");
    let wrong = [known[0], known[1], ("Last-Event-ID", "yesterday")];
    let (status, body) = answer(ask(&node, "GET", &path, &wrong));
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("Last-Event-ID"), "{body}");
}
