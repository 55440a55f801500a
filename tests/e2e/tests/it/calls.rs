//! Calls of tools by people and programs: once for each key, and through a bridge that bounds what it reads.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Stdio};

use aegis_e2e::{Node, Output};
use aegis_testkit::scripted_model::Script;
use serde_json::{Value, json};

use crate::observe::{events, until};
use crate::servers::{agent, context, program_folder};

/// A server that counts how often it was called; `fail` counts too, and answers with an error of the
/// protocol's; `leave` ends it without an answer.
const COUNTING: &str = r#"
import json, sys
count = 0
for line in sys.stdin:
    message = json.loads(line)
    if 'id' not in message:
        continue
    method, answer = message.get('method'), {'jsonrpc': '2.0', 'id': message['id']}
    if method == 'initialize':
        answer['result'] = {'protocolVersion': '2025-11-25', 'capabilities': {'tools': {}},
                            'serverInfo': {'name': 'counting', 'version': '1'}}
    elif method == 'tools/list':
        answer['result'] = {'tools': [{'name': name, 'inputSchema': {'type': 'object'}} for name in ['count', 'fail', 'leave']]}
    elif method == 'tools/call':
        count += 1
        if message['params']['name'] == 'leave':
            sys.exit()
        if message['params']['name'] == 'fail':
            answer['error'] = {'code': -32000, 'message': 'failed at %d' % count}
        else:
            answer['result'] = {'content': [{'type': 'text', 'text': str(count)}], 'structuredContent': {'n': count}}
    elif method == 'ping':
        answer['result'] = {}
    else:
        answer['error'] = {'code': -32601, 'message': 'unknown'}
    print(json.dumps(answer), flush=True)
"#;

async fn counting() -> (Node, tempfile::TempDir) {
    let folder = program_folder(COUNTING);
    let path = folder.path().display();
    let config = format!(
        "  mcp_servers:\n    - name: counting\n      executable: python3\n      args: [{path}/server.py]\n      folders: [{path}]\n{}",
        context(&["count", "fail", "leave"], "")
    );
    let node = Node::with(Script::sequence(Vec::new())).config(&config).start().await;
    node.deploy(&agent("[count, fail, leave]"));
    (node, folder)
}

fn call(node: &Node, tool: &str, more: &[&str]) -> Output {
    let words = ["tool", "call", tool, "--agent", "served", "--output", "json"];
    node.run(&words.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_is_called_once_for_each_key_however_often_it_is_asked_for() {
    let (mut node, _folder) = counting().await;
    let first = call(&node, "count", &["--idempotency-key", "one"]).ok().json();
    assert_eq!(first["result"]["structuredContent"]["n"], 1, "{first}");
    let failed = call(&node, "fail", &["--idempotency-key", "two"]).expect_code(10);
    assert!(failed.stderr.contains("failed at 2"), "{}", failed.stderr);
    let again = |node: &Node| {
        assert_eq!(call(node, "count", &["--idempotency-key", "one"]).ok().json(), first);
        let refused = call(node, "fail", &["--idempotency-key", "two"]).expect_code(10);
        assert_eq!(refused.stderr, failed.stderr, "an error after the call is no reason to call again");
    };
    again(&node);
    assert_eq!(call(&node, "count", &[]).ok().json()["result"]["structuredContent"]["n"], 3, "without a key");
    let other = call(&node, "count", &["--idempotency-key", "one", "--arguments", r#"{"other": 1}"#]);
    assert!(other.expect_code(4).stderr.contains("was used for another request"));
    node.stop_daemon();
    node.start_daemon();
    again(&node);
    assert_eq!(events(&node, "action.intended").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_sent_and_not_answered_is_on_record_as_unknown() {
    let (node, _folder) = counting().await;
    for _ in 0..2 {
        let left = call(&node, "leave", &["--idempotency-key", "one"]).expect_code(10);
        assert!(left.stderr.contains("it is not known whether this call took effect"), "{}", left.stderr);
    }
    let recorded = |kind: &str| events(&node, kind).len();
    assert_eq!((recorded("action.intended"), recorded("action.unknown")), (1, 1), "it is called once");
    assert_eq!(recorded("action.completed"), 0);
}

/// `aegis mcp serve` over a node, with its standard input.
fn bridge(node: &Node) -> (Child, ChildStdin) {
    let mut command = node.command(&["mcp", "serve", "--agent", "served"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    (child, stdin)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_end_does_not_fill_the_bridge() {
    let node = Node::with(Script::sequence(Vec::new())).start().await;
    let (mut child, mut stdin) = bridge(&node);
    // No line ends here, and the input stays open.
    let _ = stdin.write_all(&vec![b'x'; (4 << 20) + 1]);
    until("it gives up", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("a message is too large"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bridge_cannot_pass_on_is_told_with_its_remedy() {
    let mut node = Node::with(Script::sequence(Vec::new())).start().await;
    let (mut child, mut stdin) = bridge(&node);
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    writeln!(stdin, "{ping}").unwrap();
    let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(answer["error"], Value::Null, "{answer}");
    node.stop_daemon();
    writeln!(stdin, "{ping}").unwrap();
    let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let told = answer["error"]["message"].as_str().unwrap();
    assert!(told.contains("aegis up"), "{told}");
    drop(stdin);
    child.wait().unwrap();
}
