//! Secrets that a hostile model, tool or program says again are found nowhere: not in prompts, not in results, not in the
//! record, not in the log.

use std::path::Path;
use std::sync::Arc;

use aegis_core::{BlobRef, Body, StreamId, Timestamp};
use aegis_e2e::Node;
use aegis_kernel::port::{EventQuery, Journal as _};
use aegis_store::{OpenOptions, Store};
use aegis_testkit::scripted_model::{Reply, Rule, Script, Turn};
use aegis_testkit::{SeededIds, TestClock};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::manifests::worker;
use crate::observe::newest_execution;
use crate::secrets::{fed, files_with};

const PLAIN: &str = "sk-plain-8c1f2e77aa03";
const ENCODED: &str = "pass word/with+odd?signs=1";
const FETCHED: &str = "ghp_0123456789abcdefXYZ";

/// How programs write each of the secrets.
fn needles() -> Vec<String> {
    let percent: String = ENCODED
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || byte == b'-' {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    let mut needles = vec![percent];
    for value in [PLAIN, ENCODED, FETCHED] {
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        needles.extend([value.to_owned(), STANDARD.encode(value), hex]);
    }
    needles
}

fn found(text: &str) -> Vec<String> {
    needles().into_iter().filter(|needle| text.contains(needle.as_str())).collect()
}

/// A model that has learnt the secrets elsewhere and says them in every way it has.
fn hostile() -> Script {
    let all = needles().join(" ");
    let split = format!(
        "printf %s '{}'; printf %s '{}'; echo; printf %s '{}' >&2; printf %s '{}' >&2; cat /proc/self/environ",
        &PLAIN[..9],
        &PLAIN[9..],
        &FETCHED[..7],
        &FETCHED[7..]
    );
    let said = Turn { text: all.clone(), ..Turn::default() };
    Script::rules(vec![
        Rule::always(Reply::Turn(said.and_call("cmd.run", &json!({"command": "sh", "args": ["-c", split]}))))
            .when_tool_results(0),
        Rule::always(Reply::call("cmd.run", &json!({"command": "echo", "args": needles()})))
            .when_tool_results(1),
        Rule::always(Reply::call("fs.write", &json!({"path": "/workspace/a.txt", "content": all})))
            .when_tool_results(2),
        Rule::always(Reply::call(PLAIN, &json!({ENCODED: {"token": FETCHED}}))).when_tool_results(3),
        Rule::always(Reply::call("fs.read", &json!({"path": format!("/etc/{FETCHED}")})))
            .when_tool_results(4),
        Rule::always(Reply::text(all)),
    ])
}

/// The text of every event and every blob of a stopped node's journal, opened with the node's keys; of blobs that have two
/// copies, the one that `copy` takes.
pub(crate) async fn record(home: &Path, copy: fn(BlobRef) -> BlobRef) -> Vec<String> {
    let clock = Arc::new(TestClock::at(Timestamp::from_micros(2_000_000_000_000_000)));
    let store = Store::open(OpenOptions::new(home, clock, Arc::new(SeededIds::new(1)))).await.unwrap();
    let mut texts = Vec::new();
    let mut after = None;
    loop {
        let query = EventQuery { after, limit: 500, ..EventQuery::default() };
        let events = store.events(&query).await.unwrap();
        let Some(last) = events.last() else { break };
        after = Some(last.seq);
        for event in &events {
            let body = serde_json::to_value(&event.body).unwrap();
            texts.push(body.to_string());
            let mut blobs = Vec::new();
            references(&body, &mut blobs);
            for blob in blobs {
                // The document that an execution runs lies on its agent's stream.
                let pinned = match &event.body {
                    Body::ExecutionCreated { agent, document, .. } if document.id == blob.id => {
                        StreamId::Agent(*agent)
                    }
                    _ => event.stream,
                };
                texts.push(opened(&store, pinned, &copy(blob)).await);
            }
        }
    }
    store.close().await.unwrap();
    texts
}

async fn opened(store: &Store, stream: StreamId, blob: &BlobRef) -> String {
    let bytes = store.blob(stream, blob).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn references(value: &Value, blobs: &mut Vec<BlobRef>) {
    if let Ok(blob) = serde_json::from_value::<BlobRef>(value.clone()) {
        blobs.push(blob);
        return;
    }
    match value {
        Value::Object(map) => map.values().for_each(|inner| references(inner, blobs)),
        Value::Array(items) => items.iter().for_each(|inner| references(inner, blobs)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_are_said_again_are_found_nowhere() {
    let mut node = Node::with(hostile()).models("      api_key: secret:models/plain\n").start().await;
    for (name, value) in [("models/plain", PLAIN), ("odd", ENCODED), ("git", FETCHED)] {
        fed(&node, &["secret", "set", name], value).ok();
    }
    let validator = format!(
        "  execution:\n    mode: iterative\n    max_iterations: 1\n    validation:\n      - type: script\n        \
         command: [sh, -c, \"printf %s '{}'; printf %s '{}'; exit 1\"]\n",
        &PLAIN[..8],
        &PLAIN[8..]
    );
    // A manifest with a secret in it is not taken.
    let holding = node.file("holding.yaml", &worker("worker", &format!("  env: {{TOKEN: \"{FETCHED}\"}}\n")));
    let refused = node.run(&["agent", "deploy", &holding]).expect_code(2);
    assert!(!refused.stderr.contains(FETCHED) && refused.stderr.contains("secret"), "{}", refused.stderr);
    std::fs::remove_file(&holding).unwrap();

    let agent = node.deploy(&worker("worker", &validator));
    let input = json!({"token": FETCHED, "more": needles()}).to_string();
    let run = node.run(&["task", "execute", &agent, "--input", &input, "--follow"]);
    let execution = newest_execution(&node);
    let shown = [
        run.stdout,
        run.stderr,
        node.run(&["task", "logs", &execution, "--verbose"]).stdout,
        node.status(&execution).to_string(),
        node.run(&["audit", "query", "--limit", "500", "--output", "json"]).stdout,
        node.run(&["trace", "show", &execution, "--output", "json"]).stdout,
        node.daemon_log(),
    ];
    for text in &shown {
        assert_eq!(found(text), Vec::<String>::new(), "{text}");
    }
    assert!(shown.iter().any(|text| text.contains("[secret:models/plain]")), "{shown:#?}");
    // The far side is told nothing it has not said itself, but its own credential.
    let requests = node.model.requests();
    assert!(requests.len() >= 6, "{}", requests.len());
    for request in &requests {
        assert_eq!(found(&request.body.to_string()), Vec::<String>::new());
    }
    assert!(requests.iter().any(|request| request.body.to_string().contains("[secret:git]")));
    assert_eq!(node.stop_daemon(), Some(0));
    for text in record(node.home(), |blob| blob).await {
        assert_eq!(found(&text), Vec::<String>::new(), "{text}");
    }
    assert_eq!(files_with(node.home(), &needles()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_set_while_a_run_goes_on_is_left_out_from_then_on() {
    let script = Script::rules(vec![
        Rule::always(Reply::call("cmd.run", &json!({"command": "sh", "args": ["-c", "while [ ! -s /workspace/go ]; do sleep 0.1; done; cat /workspace/go"]})))
            .when_tool_results(0),
        Rule::always(Reply::text("done")),
    ]);
    let node = Node::with(script).start().await;
    let agent = node.deploy(&worker("worker", ""));
    let execution = node.execute(&agent, "{}");
    crate::observe::until("the command waits", || {
        node.run(&["task", "logs", &execution]).stdout.contains("Tool:")
            || node.run(&["volume", "list", "--output", "json"]).ok().json()["items"][0]["id"].is_string()
    });
    fed(&node, &["secret", "set", "late"], FETCHED).ok();
    let volume = node.run(&["volume", "list", "--output", "json"]).ok().json()["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    std::fs::write(node.home().join("volumes").join(&volume).join("root/go"), FETCHED).unwrap();
    assert_eq!(node.wait(&execution)["status"], "completed");
    let last = node.model.requests().last().expect("a request").body.to_string();
    assert!(last.contains("[secret:late]") && !last.contains(FETCHED), "{last}");
}
