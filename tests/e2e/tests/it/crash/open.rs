//! `kill -9` while a connection is open and while a tool server is asked: nothing of either is left, and neither is
//! asked for again.

use std::time::Duration;

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::leftovers::Marks;
use crate::manifests::worker;
use crate::observe::{can_run, events, until};
use crate::servers::context;

/// A tool server whose one tool takes its time, and says in its log that it was called.
const PROGRAM: &str = r#"
import json, sys, time
for line in sys.stdin:
    message = json.loads(line)
    if 'id' not in message: continue
    method, answer = message.get('method'), {'jsonrpc': '2.0', 'id': message['id']}
    if method == 'initialize':
        answer['result'] = {'protocolVersion': '2025-11-25', 'capabilities': {'tools': {}},
                            'serverInfo': {'name': 'slow', 'version': '1'}}
    elif method == 'tools/list':
        answer['result'] = {'tools': [{'name': 'wait', 'description': 'Waits', 'inputSchema': {'type': 'object'}}]}
    elif method == 'tools/call':
        print('was called', file=sys.stderr, flush=True)
        time.sleep(45)
        answer['result'] = {'content': []}
    elif method == 'ping': answer['result'] = {}
    else: answer['error'] = {'code': -32601, 'message': 'unknown'}
    print(json.dumps(answer), flush=True)
"#;

/// Holds a connection through the proxy.
const HOLD: &str = "import socket, sys
s = socket.create_connection(('127.0.0.1', 3128))
s.sendall(('GET http://localhost:%s/ HTTP/1.1\\r\\nHost: localhost:%s\\r\\n\\r\\n' % (sys.argv[1], sys.argv[1])).encode())
s.settimeout(60)
while s.recv(4096): pass";

/// A far side that never answers: tells when a connection is there, and when it is gone.
async fn silent() -> (u16, tokio::sync::mpsc::Receiver<&'static str>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                let _ = stream.read(&mut bytes).await;
                let _ = tell.send("there").await;
                while !matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)) {}
                let _ = tell.send("gone").await;
            });
        }
    });
    (port, told)
}

fn model(port: u16) -> Script {
    let hold = json!({"command": "python3", "args": ["-c", HOLD, port.to_string()], "timeout_secs": 60});
    Script::rules(vec![
        Rule::always(Reply::call("cmd.run", &hold))
            .when_tool_results(0)
            .when_last_user_contains("by-connection"),
        Rule::always(Reply::call("wait", &json!({}))).when_tool_results(0).when_last_user_contains("by-call"),
        Rule::always(Reply::text("done")),
    ])
}

fn agent(port: u16) -> String {
    let list = format!("[\"localhost:{port}\", \"127.0.0.1/32:{port}\", \"[::1/128]:{port}\"]");
    let manifest = worker("open", "  security_context: served\n")
        .replace("  security:\n", &format!("  security:\n    network: {{mode: allow, allowlist: {list}}}\n"));
    let tools = manifest.lines().find(|line| line.starts_with("  tools:")).unwrap().to_owned();
    manifest.replace(&tools, "  tools: [cmd.run, wait]")
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_leaves_no_open_connection_and_no_open_call() {
    let test = "kill_9_leaves_no_open_connection_and_no_open_call";
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP {test}: only a daemon that is root can listen in a sandbox's network");
        return;
    }
    let (port, mut far) = silent().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server.py"), PROGRAM).unwrap();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), readable).unwrap();
    let path = folder.path().display();
    let config = format!(
        "  governance:\n    network: {{private: [\"127.0.0.1/32:{port}\", \"[::1/128]:{port}\"]}}\n  mcp_servers:\n    \
         - {{name: slow, executable: python3, args: [{path}/server.py], folders: [{path}]}}\n{}",
        context(&["cmd.run", "wait"], "")
    );
    let mut node = Node::with(model(port)).config(&config).start().await;
    if !can_run(&node, &agent(port), test) {
        return;
    }
    let id = node.deploy(&agent(port));
    let runs = [r#"{"do": "by-connection"}"#, r#"{"do": "by-call"}"#].map(|input| node.execute(&id, input));
    let there = tokio::time::timeout(Duration::from_secs(60), far.recv()).await;
    assert_eq!(there, Ok(Some("there")));
    until("the server is asked", || node.run(&["server", "logs", "slow"]).ok().stdout.contains("was called"));
    let marks = Marks::of(node.home(), &path.to_string());
    let before = marks.look();
    assert!(before.processes.len() >= 2 && !before.mounts.is_empty(), "the kill meets nothing: {before:?}");

    node.kill_daemon();
    let gone = tokio::time::timeout(Duration::from_secs(20), far.recv()).await;
    assert_eq!(gone, Ok(Some("gone")), "the connection ends with the daemon");
    node.start_daemon();
    for run in &runs {
        assert_eq!(node.wait(run)["status"], "completed", "{}", node.daemon_log());
    }
    let unknown = events(&node, "action.unknown");
    let intended = events(&node, "action.intended");
    let of = |kind: &str| {
        intended.iter().filter(|event| event["body"]["intent"].to_string().contains(kind)).count()
    };
    assert_eq!(unknown.len(), 3, "the command, its connection and the call: {unknown:#?}");
    assert_eq!((of("\"connect\""), of("\"wait\"")), (1, 1), "none is asked for again: {intended:#?}");
    let alive = marks.processes();
    let left: Vec<_> = before.processes.iter().filter(|process| alive.contains(*process)).collect();
    assert!(left.is_empty(), "{left:?}");
    let results: Vec<Value> = node.model.requests().iter().map(|request| request.body.clone()).collect();
    assert!(results.iter().any(|body| body.to_string().contains("interrupted")), "{results:#?}");
    assert!(node.run(&["audit", "verify"]).ok().stdout.contains("whole"));
    assert_eq!(node.stop_daemon(), Some(0));
    until("nothing is left", || marks.look().is_empty());
}
