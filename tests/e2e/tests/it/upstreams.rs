//! More official servers behind a node: what they answer is what they answer with nothing between.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::mcp::{alike, direct};
use crate::observe::until;
use crate::servers::{package, server};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_official_memory_server_answers_comes_through_as_it_is() {
    let Some(memory) =
        package("what_the_official_memory_server_answers_comes_through_as_it_is", "server-memory")
    else {
        return;
    };
    let entity = json!({"name": "aegis", "entityType": "shield", "observations": ["round", "übrigens 1.50"]});
    let relation = json!({"from": "aegis", "to": "aegis", "relationType": "knows"});
    let calls = [
        ("create_entities", json!({"entities": [entity]})),
        ("create_relations", json!({"relations": [relation]})),
        ("read_graph", json!({})),
        ("search_nodes", json!({"query": "round"})),
        ("open_nodes", json!({"names": ["aegis", "nobody"]})),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.json").display().to_string();
    let expected = direct("node", &[memory.display().to_string()], &[("MEMORY_FILE_PATH", &file)], &calls);
    let config = server("memory", &memory, "", "      env: {MEMORY_FILE_PATH: /tmp/memory.json}\n");
    let tools = "[create_entities, create_relations, read_graph, search_nodes, open_nodes]";
    alike(&config, tools, expected, &calls).await;
}

/// A program that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends one message over streamable HTTP; gives the session and the answer.
fn post(port: u16, session: &str, message: &Value) -> (String, Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let body = message.to_string();
    let session = if session.is_empty() { String::new() } else { format!("Mcp-Session-Id: {session}\r\n") };
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Accept: application/json, text/event-stream\r\n{session}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("mcp-session-id").then(|| value.to_owned())
    };
    let session = answer.lines().find_map(header).unwrap_or_default();
    let data =
        answer.lines().find_map(|line| line.strip_prefix("data: ").filter(|data| data.starts_with('{')));
    (session, data.map_or(Value::Null, |data| serde_json::from_str(data).unwrap()))
}

/// What the server at this port answers to these calls with nothing between.
fn direct_by_http(port: u16, calls: &[(&str, Value)]) -> Vec<Value> {
    let client = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let ask = |id: usize, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let (session, _) = post(port, "", &ask(0, "initialize", client));
    post(port, &session, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let answer = |(id, (tool, arguments)): (usize, &(&str, Value))| {
        let params = json!({"name": tool, "arguments": arguments});
        post(port, &session, &ask(id + 1, "tools/call", params)).1["result"].clone()
    };
    calls.iter().enumerate().map(answer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_official_server_answers_over_http_comes_through_as_it_is() {
    let test = "what_an_official_server_answers_over_http_comes_through_as_it_is";
    let Some(everything) = package(test, "server-everything") else { return };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("/usr/bin/node");
    command.arg(&everything).arg("streamableHttp").env("PORT", port.to_string());
    let _running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let calls = [
        ("echo", json!({"message": "hello"})),
        ("get-sum", json!({"a": 2, "b": 3.5})),
        ("get-tiny-image", json!({})),
        ("get-structured-content", json!({"location": "New York"})),
        ("get-annotated-message", json!({"messageType": "error", "includeImage": true})),
    ];
    let expected = direct_by_http(port, &calls);
    assert!(expected.iter().all(Value::is_object), "{expected:#?}");
    let config = format!("    - {{name: far, url: \"http://127.0.0.1:{port}/mcp\"}}\n");
    let tools = "[echo, get-sum, get-tiny-image, get-structured-content, get-annotated-message]";
    alike(&config, tools, expected, &calls).await;
}
