//! Programs outside that ask for more than there is room for, and that send what the node keeps.

use aegis_e2e::Node;
use serde_json::json;

use super::{Peer, expect, make_key, outside, read, refusal, send, silent};
use crate::manifests::worker;
use crate::observe::{can_run, events, until};
use crate::secrets::fed;
use crate::servers::{context, program_folder};

/// A server whose tool takes its time.
const SLOW: &str = r#"
import json, sys, threading, time
lock = threading.Lock()
def say(answer):
    with lock:
        print(json.dumps(answer), flush=True)
def nap(id):
    time.sleep(4)
    say({'jsonrpc': '2.0', 'id': id, 'result': {'content': [{'type': 'text', 'text': 'rested'}]}})
for line in sys.stdin:
    message = json.loads(line)
    if 'id' not in message:
        continue
    method, id = message.get('method'), message['id']
    if method == 'initialize':
        say({'jsonrpc': '2.0', 'id': id, 'result': {'protocolVersion': '2025-11-25', 'capabilities': {'tools': {}},
             'serverInfo': {'name': 'slow', 'version': '1'}}})
    elif method == 'tools/list':
        say({'jsonrpc': '2.0', 'id': id, 'result': {'tools': [{'name': 'nap', 'inputSchema': {'type': 'object'}}]}})
    elif method == 'tools/call':
        threading.Thread(target=nap, args=(id,), daemon=True).start()
    elif method == 'ping':
        say({'jsonrpc': '2.0', 'id': id, 'result': {}})
    else:
        say({'jsonrpc': '2.0', 'id': id, 'error': {'code': -32601, 'message': 'unknown'}})
"#;

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_those_that_may_wait_are_refused() {
    const CALLS: u64 = 64;
    let folder = program_folder(SLOW);
    let path = folder.path().display();
    let config = format!(
        "  mcp_servers:\n    - name: slow\n      executable: python3\n      args: [{path}/server.py]\n      folders: [{path}]\n      \
         limits: {{concurrent_max: 16}}\n{}",
        context(&["nap"], "")
    );
    let node = Node::with(silent()).config(&config).start().await;
    let manifest = worker("peer", "  security_context: served\n");
    let own = manifest.lines().find(|line| line.starts_with("  tools:")).unwrap();
    let manifest = manifest.replace(own, "  tools: [nap]");
    if !can_run(&node, &manifest, "calls_beyond_those_that_may_wait_are_refused") {
        return;
    }
    node.deploy(&manifest);
    until("the server answers", || node.run(&["tool", "list"]).ok().stdout.contains("nap"));
    let (_, key) = make_key(&node, "peer", "agent", Some("peer"));
    let peer = Peer::attest(&node, &key, 1);
    let answers: Vec<_> = std::thread::scope(|threads| {
        let (peer, node) = (&peer, &node);
        let asked: Vec<_> =
            (1..=CALLS).map(|id| threads.spawn(move || peer.call(node, id, "nap", json!({})))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let refused = answers.iter().filter(|(status, _)| *status != 200).count();
    // Eight run, thirty-two wait.
    assert!((1..=24).contains(&refused), "{refused}: {answers:#?}");
    for answer in answers.iter().filter(|(status, _)| *status != 200) {
        assert_eq!(refusal(answer), (429, 2005, "RATE_LIMIT_EXCEEDED".to_owned()), "{answer:?}");
    }
    let intended = events(&node, "action.intended").len();
    assert_eq!(intended, answers.len() - refused, "what was refused was not begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_opens_no_more_sessions_than_it_may_however_fast_it_asks() {
    let node = Node::with(silent()).start().await;
    let manifest = worker("peer", "");
    if !can_run(&node, &manifest, "one_key_opens_no_more_sessions_than_it_may_however_fast_it_asks") {
        return;
    }
    node.deploy(&manifest);
    let (_, key) = make_key(&node, "peer", "agent", Some("peer"));
    let answers: Vec<_> = std::thread::scope(|threads| {
        let (node, key) = (&node, &key);
        let attest = move |seed: u8| {
            let body = json!({"public_key": super::public_key(seed)}).to_string();
            send(node, ("POST", "/v1/smcp/attest"), key, body.as_bytes())
        };
        let asked: Vec<_> = (1..=40).map(|seed| threads.spawn(move || attest(seed))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let opened = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!(opened, 16, "{answers:#?}");
    for answer in answers.into_iter().filter(|(status, _)| *status != 200) {
        expect("too many", answer, (429, 2005, "RATE_LIMIT_EXCEEDED"));
    }
    assert_eq!(events(&node, "execution.created").len(), 16, "and no run is left that nobody speaks in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_a_signed_call_reaches_neither_tool_nor_record() {
    const VALUE: &str = "a-secret-of-the-node-93b1";
    let mut node = Node::with(silent()).start().await;
    let manifest = outside("peer").replace("  security_context: outside\n", "");
    if !can_run(&node, &manifest, "a_secret_in_a_signed_call_reaches_neither_tool_nor_record") {
        return;
    }
    node.deploy(&manifest);
    let (_, key) = make_key(&node, "peer", "agent", Some("peer"));
    let peer = Peer::attest(&node, &key, 1);
    let write = || json!({"path": "/workspace/a", "content": format!("the key is {VALUE}")});
    // Known only from now on: the session is older than the secret.
    fed(&node, &["secret", "set", "kept"], VALUE).ok();
    let (status, answer) = peer.call(&node, 1, "fs.write", write());
    assert_eq!((status, &answer["error"]["code"]), (403, &json!(2000)), "{answer}");
    assert!(answer.to_string().contains("INVALID_ARGUMENTS"), "{answer}");
    assert_ne!(peer.call(&node, 2, "fs.read", read()).1["result"]["isError"], false, "nothing was written");
    node.stop_daemon();
    let record = crate::redaction::record(node.home(), |blob| blob).await;
    assert!(record.iter().any(|text| text.contains("[secret:kept]")), "the refusal is on record");
    assert!(!record.iter().any(|text| text.contains(VALUE)));
}
