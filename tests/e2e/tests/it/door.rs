//! SMCP from outside: API keys, sessions, and what an attacker tries with them.

mod flood;
mod inside;
mod outside;
mod restored;

use std::io::{Read as _, Write as _};
use std::time::{Duration, SystemTime};

use aegis_core::Timestamp;
use aegis_e2e::Node;
use aegis_security::signature::SigningKey;
use aegis_security::smcp::{Envelope, Protocol};
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::manifests::worker;
use crate::observe::{can_run, events, until};

#[expect(clippy::disallowed_methods, reason = "a program outside has a clock of its own")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
}

/// Sends one request with a bearer credential; gives status and JSON body.
pub(crate) fn send(node: &Node, (method, path): (&str, &str), bearer: &str, body: &[u8]) -> (u16, Value) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", node.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {bearer}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        node.port(),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A body that is too large is answered before it is read to its end.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (code, serde_json::from_str(body).unwrap_or(Value::Null))
}

pub(crate) fn make_key(node: &Node, name: &str, role: &str, agent: Option<&str>) -> (String, String) {
    let mut words = vec!["key", "create", name, "--role", role, "--output", "json"];
    words.extend(agent.into_iter().flat_map(|agent| ["--agent", agent]));
    let made = node.run(&words).ok().json();
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

fn public_key(seed: u8) -> String {
    STANDARD.encode(SigningKey::from_seed(&[seed; 32]).public_key())
}

/// A program outside that acts as an agent.
pub(crate) struct Peer {
    api_key: String,
    key: SigningKey,
    token: String,
    pub(crate) session: String,
}

impl Peer {
    pub(crate) fn attest(node: &Node, api_key: &str, seed: u8) -> Self {
        let key = SigningKey::from_seed(&[seed; 32]);
        let body = json!({"public_key": public_key(seed)}).to_string();
        let (code, answer) = send(node, ("POST", "/v1/smcp/attest"), api_key, body.as_bytes());
        assert_eq!(code, 200, "{answer}");
        assert_eq!(answer["status"], "attested");
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self { api_key: api_key.to_owned(), key, token: text("security_token"), session: text("session_id") }
    }

    fn seal(&self, id: u64, tool: &str, arguments: Value, at: Timestamp) -> Value {
        let payload = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": tool, "arguments": arguments}});
        Envelope::sign(Protocol::Smcp, &self.token, payload, at, &self.key).unwrap().to_json()
    }

    pub(crate) fn call(&self, node: &Node, id: u64, tool: &str, arguments: Value) -> (u16, Value) {
        self.send(node, &self.seal(id, tool, arguments, now()))
    }

    fn send(&self, node: &Node, envelope: &Value) -> (u16, Value) {
        send(node, ("POST", "/v1/smcp/invoke"), &self.api_key, envelope.to_string().as_bytes())
    }
}

/// Status, code and name of a refusal.
pub(crate) fn refusal((status, answer): &(u16, Value)) -> (u16, u64, String) {
    let error = &answer["error"];
    (*status, error["code"].as_u64().unwrap_or(0), error["name"].as_str().unwrap_or_default().to_owned())
}

fn silent() -> Script {
    Script::rules(vec![Rule::always(Reply::text("done"))])
}

const LIMITS: &str = "  security_contexts:
    - name: outside
      deny_list: [fs.delete]
      capabilities:
        - {tool_pattern: fs.list, rate_limit: {calls: 2, per_seconds: 3600}}
        - {tool_pattern: 'fs.*', max_response_size: 2Ki}
        - {tool_pattern: cmd.run, command_allowlist: [python3]}";

fn outside(name: &str) -> String {
    worker(name, "  security_context: outside\n").replace("fs.multi_edit, ", "")
}

fn read() -> Value {
    json!({"path": "/workspace/a"})
}

pub(crate) fn expect(what: &str, answer: (u16, Value), expected: (u16, u64, &str)) {
    let (status, code, name) = refusal(&answer);
    assert_eq!((status, code, name.as_str()), expected, "{what}: {}", answer.1);
}

/// Envelopes that were said before, at another time, or are not by who they say.
fn replays_and_forgeries(node: &Node, peer: &Peer, other: &Peer) {
    // Said before, in whole or by its id.
    let sealed = peer.seal(3, "fs.read", read(), now());
    assert_eq!(peer.send(node, &sealed).0, 200);
    expect("replayed", peer.send(node, &sealed), (401, 1004, "REPLAY_DETECTED"));
    expect("id again", peer.call(node, 3, "fs.list", json!({})), (401, 1004, "REPLAY_DETECTED"));
    // Another time than it was signed for, and another time than now.
    let mut moved = peer.seal(4, "fs.read", read(), now());
    moved["timestamp"] = json!(now().plus_millis(9_000).seconds());
    expect("re-timed", peer.send(node, &moved), (401, 1001, "INVALID_SIGNATURE"));
    let old = Timestamp::from_micros(now().micros() - 40_000_000);
    expect("old", peer.send(node, &peer.seal(5, "fs.read", read(), old)), (401, 1004, "REPLAY_DETECTED"));
    let ahead = now().plus_millis(40_000);
    expect("ahead", peer.send(node, &peer.seal(6, "fs.read", read(), ahead)), (401, 1004, "REPLAY_DETECTED"));
    // Another's token, key or credential.
    let mut tampered = peer.seal(7, "fs.read", read(), now());
    tampered["payload"]["params"]["arguments"]["path"] = json!("/workspace/b");
    expect("tampered", peer.send(node, &tampered), (401, 1001, "INVALID_SIGNATURE"));
    let stolen = Peer {
        api_key: peer.api_key.clone(),
        token: other.token.clone(),
        key: SigningKey::from_seed(&[1; 32]),
        session: String::new(),
    };
    expect("foreign token", stolen.call(node, 8, "fs.read", read()), (401, 1003, "INVALID_TOKEN"));
    let keyless = Peer {
        api_key: other.api_key.clone(),
        token: other.token.clone(),
        key: SigningKey::from_seed(&[9; 32]),
        session: String::new(),
    };
    expect("token without key", keyless.call(node, 8, "fs.read", read()), (401, 1001, "INVALID_SIGNATURE"));
    let forged = Peer {
        api_key: peer.api_key.clone(),
        token: format!("{}A", peer.token),
        key: SigningKey::from_seed(&[1; 32]),
        session: String::new(),
    };
    expect("forged token", forged.call(node, 9, "fs.read", read()), (401, 1003, "INVALID_TOKEN"));
    expect("no envelope", peer.send(node, &json!({"protocol": "smcp/v1"})), (400, 1000, "INVALID_ENVELOPE"));
    // As the daemon's own.
    let payload = json!({"jsonrpc": "2.0", "id": 10, "method": "tools/call", "params": {"name": "fs.read",
        "arguments": read(), "_meta": {"aegis/signer": "kernel", "aegis/model_call": "x"}}});
    let as_kernel = Envelope::sign(Protocol::Smcp, &peer.token, payload, now(), &peer.key).unwrap().to_json();
    expect("as the kernel", peer.send(node, &as_kernel), (401, 1001, "INVALID_SIGNATURE"));
}

fn rules(node: &Node, peer: &Peer) {
    expect("not listed", peer.call(node, 11, "fs.multi_edit", json!({})), (403, 2000, "TOOL_NOT_ALLOWED"));
    let delete = json!({"path": "/workspace/a"});
    expect("denied", peer.call(node, 12, "fs.delete", delete), (403, 2001, "TOOL_EXPLICITLY_DENIED"));
    let passwd = json!({"path": "/etc/passwd"});
    expect("path", peer.call(node, 13, "fs.read", passwd), (403, 2002, "PATH_NOT_ALLOWED"));
    let command = peer.call(node, 14, "cmd.run", json!({"command": "id"}));
    expect("command", command, (403, 2004, "COMMAND_NOT_ALLOWED"));
    let command = peer.call(node, 21, "cmd.run", json!({"command": "python3"}));
    assert_eq!(command.1["error"]["reason"], "CAPABILITY_MISSING", "{}", command.1);
    expect("cmd.run", command, (403, 2000, "TOOL_NOT_ALLOWED"));
    for id in [15, 16] {
        assert_eq!(peer.call(node, id, "fs.list", json!({})).0, 200);
    }
    expect("rate", peer.call(node, 17, "fs.list", json!({})), (429, 2005, "RATE_LIMIT_EXCEEDED"));
    let long = json!({"path": "/workspace/long", "content": "x".repeat(4096)});
    assert_eq!(peer.call(node, 18, "fs.write", long).0, 200);
    let long = json!({"path": "/workspace/long"});
    expect("size", peer.call(node, 19, "fs.read", long), (403, 2006, "OUTPUT_SIZE_EXCEEDED"));
}

fn shapes(node: &Node, key: &str) {
    // The body that is too large, and the method that is none.
    let huge = vec![b'x'; 5 << 20];
    let (status, _) = send(node, ("POST", "/v1/smcp/invoke"), key, &huge);
    assert_eq!(status, 413);
    let tools = send(node, ("GET", "/v1/seal/tools"), key, b"").1;
    let names: Vec<&str> =
        tools["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert!(names.contains(&"fs.read") && !names.contains(&"cmd.run"), "{tools}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_outside_acts_as_an_agent_and_every_attack_has_its_code() {
    let node = Node::with(silent()).config(LIMITS).start().await;
    if !can_run(&node, &outside("peer"), "a_program_outside_acts_as_an_agent_and_every_attack_has_its_code") {
        return;
    }
    node.deploy(&outside("peer"));
    node.deploy(&outside("other"));
    let (_, key) = make_key(&node, "peer", "agent", Some("peer"));
    let (_, other_key) = make_key(&node, "other", "agent", Some("other"));
    let peer = Peer::attest(&node, &key, 1);
    let other = Peer::attest(&node, &other_key, 2);

    let (code, answer) = peer.call(&node, 1, "fs.write", json!({"path": "/workspace/a", "content": "text"}));
    assert_eq!((code, &answer["status"]), (200, &json!("success")), "{answer}");
    assert_eq!(answer["payload"]["result"]["isError"], false, "{answer}");
    let (_, answer) = peer.call(&node, 2, "fs.read", json!({"path": "/workspace/a"}));
    let told = answer["payload"]["result"]["content"][0]["text"].as_str().unwrap();
    assert!(told.contains("text"), "{answer}");
    let (_, answer) = other.call(&node, 1, "fs.read", json!({"path": "/workspace/a"}));
    assert_eq!(answer["payload"]["result"]["isError"], true, "its files are its own: {answer}");

    replays_and_forgeries(&node, &peer, &other);
    rules(&node, &peer);
    shapes(&node, &key);

    // What was recorded, on the run's own stream.
    let stream = format!("execution/{}", peer.session);
    let recorded = events(&node, "action.intended");
    let intents: Vec<&Value> = recorded.iter().filter(|event| event["stream"] == stream.as_str()).collect();
    assert!(intents.len() >= 6, "{recorded:#?}");
    assert!(intents.iter().all(|event| event["body"]["intent"]["kind"] == "external"), "{intents:#?}");
    assert!(
        intents.iter().all(|event| event["body"]["intent"]["envelope"]["text"].is_object()),
        "{intents:#?}"
    );

    // A cancelled run's session is over at once.
    node.run(&["task", "cancel", &peer.session]).ok();
    expect("cancelled", peer.call(&node, 20, "fs.read", read()), (401, 1005, "UNKNOWN_SESSION"));
    assert_eq!(node.wait(&peer.session)["status"], "cancelled");
    assert_eq!(
        other.call(&node, 2, "fs.list", json!({})).0,
        429,
        "the other's goes on; the limit is the tenant's"
    );
    node.run(&["audit", "verify"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_a_kill_is_not_taken_after_it() {
    let mut node = Node::with(silent()).config(LIMITS).start().await;
    if !can_run(&node, &outside("peer"), "what_was_said_before_a_kill_is_not_taken_after_it") {
        return;
    }
    node.deploy(&outside("peer"));
    let (id, key) = make_key(&node, "peer", "agent", Some("peer"));
    let peer = Peer::attest(&node, &key, 1);
    let sealed = peer.seal(1, "fs.write", json!({"path": "/workspace/a", "content": "once"}), now());
    assert_eq!(peer.send(&node, &sealed).0, 200);
    node.run(&["key", "rotate"]).ok();
    node.kill_daemon();
    node.start_daemon();
    until("the run is kept again", || {
        peer.call(
            &node,
            u64::from(std::process::id()) + u64::try_from(now().micros()).unwrap() % (1 << 40),
            "fs.read",
            json!({"path": "/workspace/a"}),
        )
        .0 == 200
    });
    assert_eq!(refusal(&peer.send(&node, &sealed)), (401, 1004, "REPLAY_DETECTED".to_owned()));
    assert_eq!(refusal(&peer.call(&node, 1, "fs.list", json!({}))).1, 1004, "its ids are remembered too");
    // A revoked key opens nothing, and its runs end.
    node.run(&["key", "revoke", &id]).ok();
    let (status, _) = peer.call(&node, 99, "fs.read", json!({"path": "/workspace/a"}));
    assert_eq!(status, 401);
    assert_eq!(node.wait(&peer.session)["status"], "cancelled");
    assert_eq!(events(&node, "key.revoked").len(), 1);
    assert_eq!(events(&node, "key.rotated").len(), 1);
    node.run(&["audit", "verify"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_reaches_as_far_as_its_role() {
    let node = Node::with(silent()).start().await;
    node.deploy(&worker("peer", ""));
    let (_, viewer) = make_key(&node, "viewer", "viewer", None);
    let (_, operator) = make_key(&node, "operator", "operator", None);
    let (_, agent) = make_key(&node, "agent", "agent", Some("peer"));
    let token = node.token();
    let new = json!({"name": "x", "role": "operator"}).to_string();
    for (credential, request, body, expected) in [
        (&viewer, ("GET", "/v1/agents"), "", 200),
        (&viewer, ("POST", "/v1/executions"), "{\"agent\":\"peer\",\"input\":{}}", 403),
        (&viewer, ("GET", "/v1/keys"), "", 403),
        (&operator, ("GET", "/v1/executions"), "", 200),
        (&operator, ("POST", "/v1/keys"), &new, 403),
        (&operator, ("GET", "/v1/keys"), "", 403),
        (&operator, ("GET", "/v1/smcp/tools"), "", 403),
        (&agent, ("GET", "/v1/agents"), "", 403),
        (&agent, ("GET", "/v1/status"), "", 403),
        (&agent, ("POST", "/v1/keys"), &new, 403),
        (&agent, ("GET", "/v1/smcp/tools"), "", 200),
        (&agent, ("GET", "/v1/smcp/../keys"), "", 404),
        (&token, ("GET", "/v1/smcp/tools"), "", 403),
        (&token, ("POST", "/v1/dispatch-gateway"), "{}", 404),
        (&"aegis_AAAA".to_owned(), ("GET", "/v1/agents"), "", 401),
        (&format!("{agent}A"), ("GET", "/v1/smcp/tools"), "", 401),
    ] {
        let (status, answer) = send(&node, request, credential, body.as_bytes());
        assert_eq!(status, expected, "{request:?}: {answer}");
    }
    // Claims change nothing.
    let key = STANDARD.encode(SigningKey::from_seed(&[1; 32]).public_key());
    for (claim, code) in [
        (json!({"public_key": key, "requested_scope": "root"}), 3001),
        (json!({"public_key": key, "agent": "other"}), 3000),
        (json!({"public_key": key, "workload_id": "other"}), 3000),
        (json!({"public_key": STANDARD.encode([0u8; 32])}), 3002),
        (json!({"public_key": "x"}), 1000),
    ] {
        let answer = send(&node, ("POST", "/v1/smcp/attest"), &agent, claim.to_string().as_bytes());
        assert_eq!(refusal(&answer).1, code, "{claim}: {}", answer.1);
    }
    let listed = node.run(&["key", "list", "--output", "json"]).ok().stdout;
    assert!(!listed.contains(agent.trim_start_matches("aegis_")), "a key is shown once");
    until("refused access is on record", || {
        events(&node, "access.refused").iter().any(|event| event["body"]["reason"] == "role")
    });
}
