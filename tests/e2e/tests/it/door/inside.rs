//! SMCP from inside a sandbox: what the client of `sdk/python` does there, and what it may not.

use std::collections::BTreeMap;
use std::path::Path;

use aegis_e2e::Node;
use aegis_security::signature::SigningKey;
use aegis_security::smcp::{Envelope, Protocol};
use aegis_testkit::scripted_model::Script;
use serde_json::{Value, json};

use super::{make_key, now, send};
use crate::manifests::worker;
use crate::observe::{can_run, events, follow, tool_results, until};
use crate::tools::calling;

const PROGRAM: &str = include_str!("inside.py");

/// A model that puts the client and the program into the workspace, and runs it.
fn script() -> Script {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/python/src/aegis_smcp");
    let mut calls: Vec<(&'static str, Value)> = std::fs::read_dir(sdk)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "py"))
        .map(|path| {
            let content = std::fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            ("fs.write", json!({"path": format!("/workspace/sdk/aegis_smcp/{name}"), "content": content}))
        })
        .collect();
    calls.push(("fs.write", json!({"path": "/workspace/inside.py", "content": PROGRAM})));
    calls.push(("cmd.run", json!({"command": "python3", "args": ["/workspace/inside.py"]})));
    calling(calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_inside_signs_its_calls_and_is_nobody_else() {
    let manifest =
        worker("signer", "").replace("isolation: process}", "isolation: process, inner_api: true}");
    let node = Node::with(script()).start().await;
    if !can_run(&node, &manifest, "a_program_inside_signs_its_calls_and_is_nobody_else") {
        return;
    }
    follow(&node, &manifest).ok();
    let result = tool_results(&node).pop().unwrap();
    let found: BTreeMap<&str, &str> = result.lines().filter_map(|line| line.split_once('=')).collect();
    for (what, expected) in [
        ("written", "False"),
        ("seen", "signed"),
        ("read", "True"),
        ("tools", "True"),
        ("over-tcp", "True"),
        ("second-attestation", "3002 WORKLOAD_VERIFICATION_FAILED"),
        ("scope", "3001 SCOPE_NOT_FOUND"),
        ("other-execution", "3000 UNKNOWN_WORKLOAD"),
        ("command", "2000 CAPABILITY_MISSING"),
        ("not-listed", "2000 TOOL_NOT_ALLOWED"),
        ("path", "2002 PATH_NOT_ALLOWED"),
        ("agents", "404 not_found"),
        ("executions", "404 not_found"),
        ("keys", "404 not_found"),
        ("gateway", "404 not_found"),
        ("headers", "200 None"),
    ] {
        assert_eq!(found.get(what), Some(&expected), "{what}: {result}");
    }
    assert!(found["models"].ends_with("capability_missing"), "{result}");

    let intents = events(&node, "action.intended");
    let of_kind = |kind: &str| -> Vec<Value> {
        let body = |event: &Value| event["body"]["intent"].clone();
        intents.iter().map(body).filter(|intent| intent["kind"] == kind).collect()
    };
    assert_eq!(of_kind("external").len(), 2, "{intents:#?}");
    let inner = of_kind("tool");
    assert!(
        !inner.is_empty() && inner.iter().all(|intent| intent["envelope"]["text"].is_object()),
        "{inner:#?}"
    );
    envelopes_are_on_record(&node, intents.len());
    let opened = events(&node, "session.opened");
    assert_eq!(opened.len(), 1);
    let at = opened[0]["at"].as_str().and_then(aegis_core::Timestamp::parse).unwrap();
    let expires = aegis_core::Timestamp::from_micros(opened[0]["body"]["expires_at"].as_i64().unwrap());
    let seconds = expires.millis_since(at).div_ceil(1000);
    assert!((200..=301).contains(&seconds), "as long as the iteration may take: {seconds}");
    until("what was tried at the door is on record", || {
        let refused = events(&node, "access.refused");
        let at_the_door = refused.iter().filter(|event| event["body"]["door"] == "api");
        at_the_door.filter_map(|event| event["body"]["count"].as_u64()).sum::<u64>() == 4
    });

    // A token that left its sandbox is of no use: not on this socket, and not after its generation.
    let (_, key) = make_key(&node, "signer", "agent", Some("signer"));
    let payload = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let signed =
        Envelope::sign(Protocol::Smcp, found["token"], payload, now(), &SigningKey::from_seed(&[1; 32]))
            .unwrap();
    let (status, answer) =
        send(&node, ("POST", "/v1/smcp/invoke"), &key, signed.to_json().to_string().as_bytes());
    assert_eq!((status, &answer["error"]["code"]), (401, &json!(1003)), "{answer}");
    node.run(&["audit", "verify"]).ok();
}

/// Each call is there with its whole envelope, which holds against the key of the session it names.
fn envelopes_are_on_record(node: &Node, count: usize) {
    let query =
        ["audit", "query", "--kind", "action.intended", "--envelopes", "--limit", "500", "--output", "json"];
    let shown = node.run(&query).ok().json();
    let envelopes: Vec<&Value> = shown["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["body"]["intent"]["envelope"]["text"])
        .collect();
    let of_models = |envelope: &&&Value| envelope["payload"]["params"]["_meta"]["aegis/signer"] == "kernel";
    let signed: Vec<&&Value> =
        envelopes.iter().filter(|envelope| envelope["signature"].is_string()).collect();
    assert_eq!(signed.iter().filter(|envelope| !of_models(envelope)).count(), 2, "{shown}");
    assert!(signed.iter().filter(|envelope| of_models(envelope)).count() > 2, "{shown}");
    assert!(signed.len() <= count);
    let report = node.run(&["audit", "verify", "--output", "json"]).ok().json();
    assert_eq!(report["envelopes"], signed.len(), "{report}");
    assert_eq!(report["envelopes_unchecked"], 0, "{report}");
}
