//! Programs outside: the client of `sdk/python`, and how long a session lasts.

use std::path::Path;
use std::process::Command;

use aegis_e2e::Node;
use aegis_security::signature::SigningKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{LIMITS, Peer, expect, make_key, outside, read, send, silent};
use crate::observe::{can_run, events, until};

const PROGRAM: &str = r#"
import sys
if sys.argv[1] == "fallback":
    sys.modules["cryptography"] = None
from aegis_smcp import Client, SmcpError, keys
client = Client.from_environment()
print("signs with", "cryptography" if keys.Ed25519PrivateKey else "RFC 8032")
print("isError", client.invoke("fs.write", {"path": "/workspace/a.txt", "content": "übrigens 1.50"})["isError"])
print(client.invoke("fs.read", {"path": "/workspace/a.txt"})["content"][0]["text"])
print(sorted(tool["name"] for tool in client.tools())[0])
for tool, arguments in [("fs.delete", {"path": "/workspace/a.txt"}), ("fs.read", {"path": "/etc/passwd"})]:
    try:
        print("taken", client.invoke(tool, arguments))
    except SmcpError as error:
        print(error.code, error.name)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_speaks_from_outside_with_either_signer() {
    let node = Node::with(silent()).config(LIMITS).start().await;
    let manifest = outside("peer");
    if !can_run(&node, &manifest, "the_python_client_speaks_from_outside_with_either_signer") {
        return;
    }
    node.deploy(&manifest);
    let (_, key) = make_key(&node, "peer", "agent", Some("peer"));
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/python/src");
    for signer in ["fallback", "default"] {
        let said = Command::new("python3")
            .args(["-c", PROGRAM, signer])
            .env("PYTHONPATH", &sdk)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("AEGIS_ORCHESTRATOR_URL", format!("http://127.0.0.1:{}", node.port()))
            .env("AEGIS_TOKEN", &key)
            .env_remove("AEGIS_API_SOCKET")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}{}", String::from_utf8_lossy(&said.stderr));
        assert!(signer == "default" || lines[0] == "signs with RFC 8032", "{text}");
        assert_eq!(lines[1], "isError False");
        assert!(lines[2].contains("übrigens 1.50"), "{text}");
        assert_eq!(lines[4..], ["2001 TOOL_EXPLICITLY_DENIED", "2002 PATH_NOT_ALLOWED"], "{text}");
    }
    let opened = events(&node, "session.opened");
    assert_eq!(opened.len(), 2, "{opened:#?}");
    let report = node.run(&["audit", "verify", "--output", "json"]).ok().json();
    assert_eq!((&report["envelopes"], &report["envelopes_unchecked"]), (&json!(4), &json!(0)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_over_when_its_token_is() {
    let config = format!("  smcp: {{token_ttl_seconds: 2}}\n{LIMITS}");
    let node = Node::with(silent()).config(&config).start().await;
    let manifest = outside("peer");
    if !can_run(&node, &manifest, "a_session_is_over_when_its_token_is") {
        return;
    }
    node.deploy(&manifest);
    let (_, key) = make_key(&node, "peer", "agent", Some("peer"));
    let peer = Peer::attest(&node, &key, 1);
    let mut id = 0;
    until("the token expires", || {
        id += 1;
        peer.call(&node, id, "fs.read", read()).0 != 200
    });
    expect("expired", peer.call(&node, 100_000, "fs.read", read()), (401, 1002, "EXPIRED_TOKEN"));
    assert_eq!(node.wait(&peer.session)["status"], "completed", "and its run ended with it");
    // The agent may be spoken for anew.
    assert_eq!(Peer::attest(&node, &key, 2).call(&node, 1, "fs.list", json!({})).0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_no_attestations_says_so() {
    let config = format!("  smcp: {{enabled: false}}\n{LIMITS}");
    let node = Node::with(silent()).config(&config).start().await;
    node.deploy(&outside("peer"));
    let (_, key) = make_key(&node, "peer", "agent", Some("peer"));
    let public_key = STANDARD.encode(SigningKey::from_seed(&[1; 32]).public_key());
    let body = json!({"public_key": public_key}).to_string();
    let answer = send(&node, ("POST", "/v1/smcp/attest"), &key, body.as_bytes());
    expect("switched off", answer, (403, 3000, "UNKNOWN_WORKLOAD"));
    assert_eq!(events(&node, "session.opened").len(), 0);
}
