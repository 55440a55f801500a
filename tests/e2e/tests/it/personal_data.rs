//! Personal data: whoever works with it is given it exactly; what stays as evidence holds tokens in its place.

use aegis_core::BlobRef;
use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::{Value, json};

use crate::manifests::worker;
use crate::observe::{events, newest_execution, tool_results, until};
use crate::redaction::record;
use crate::restart::hang_up;

const EMAIL: &str = "ada.lovelace@mail.example.org";
const PHONE: &str = "+49 30 901820";
const CARD: &str = "4111 1111 1111 1111";
const ADDRESS: &str = "192.0.2.77";

/// How programs write them.
fn needles() -> Vec<String> {
    let mut needles: Vec<String> = [EMAIL, PHONE, CARD, ADDRESS].map(str::to_owned).into();
    needles.push(EMAIL.replace('@', "%40"));
    needles.push(EMAIL.replace('@', "\\u0040"));
    needles.push(EMAIL.replace('@', "\u{ff20}"));
    needles.push(EMAIL.replace('@', "\u{200b}@"));
    needles
}

fn found(text: &str) -> Vec<String> {
    needles().into_iter().filter(|needle| text.contains(needle.as_str())).collect()
}

/// An agent that works with people's data, in pieces and in all the ways it is written.
fn clerk() -> Script {
    let split = format!(
        "printf %s '{}'; printf '%s\\n' '{}'; echo '{{\"to\": \"{}\"}}'; echo '{ADDRESS}' >&2",
        &EMAIL[..7],
        &EMAIL[7..],
        EMAIL.replace('@', "\\u0040")
    );
    let content = needles().join("\n");
    Script::rules(vec![
        Rule::always(Reply::call("fs.write", &json!({"path": "/workspace/a.txt", "content": content})))
            .when_tool_results(0),
        Rule::always(Reply::call("fs.read", &json!({"path": "/workspace/a.txt"}))).when_tool_results(1),
        Rule::always(Reply::call("cmd.run", &json!({"command": "sh", "args": ["-c", split]})))
            .when_tool_results(2),
        Rule::always(Reply::call("fs.read", &json!({"path": format!("/workspace/{EMAIL}")})))
            .when_tool_results(3),
        Rule::always(Reply::text(format!("write to {EMAIL}, call {PHONE}, charge {CARD}"))),
    ])
}

fn rejecting() -> String {
    format!(
        "  execution:\n    mode: iterative\n    max_iterations: 1\n    validation:\n      - type: script\n        \
         command: [sh, -c, \"printf '%s' '{EMAIL}'; exit 1\"]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_evidence_holds_tokens_and_the_exact_text_goes_with_its_time() {
    let mut node = Node::with(clerk()).start().await;
    let agent = node.deploy(&worker("clerk", ""));
    let input = json!({"customer": EMAIL, "phones": [PHONE], "card": 4_111_111_111_111_111_u64}).to_string();
    let execution = node.execute(&agent, &input);
    let status = node.wait(&execution);
    assert_eq!(status["status"], "completed", "{status}");

    // Who works with it is given it exactly: the model, and who asked for the run.
    let told = tool_results(&node).join("\n");
    for needle in needles() {
        assert!(told.contains(&needle), "{needle} is missing in {told}");
    }
    assert!(node.model.requests().iter().all(|request| !request.body.to_string().contains("[email:")));
    let answer = format!("write to {EMAIL}, call {PHONE}, charge {CARD}");
    assert_eq!(status["final_output"], answer);

    // All else that is shown is evidence.
    let mut evidence = node.status(&execution);
    evidence["final_output"] = Value::Null;
    evidence["iterations"][0]["output"] = Value::Null;
    let logs = node.run(&["task", "logs", &execution, "--verbose"]).ok().stdout;
    let export = node.home().join("export.jsonl");
    node.run(&["audit", "export", "--to", export.to_str().unwrap()]).ok();
    let shown = [
        evidence.to_string(),
        logs.replace(&answer, ""),
        node.run(&["audit", "query", "--limit", "500", "--output", "json"]).ok().stdout,
        node.run(&["trace", "show", &execution, "--output", "json"]).ok().stdout,
        std::fs::read_to_string(&export).unwrap(),
        node.daemon_log(),
    ];
    for text in &shown {
        assert_eq!(found(text), Vec::<String>::new(), "{text}");
    }
    let token = evidence["input"]["customer"].as_str().unwrap().to_owned();
    assert!(token.starts_with("[email:"), "{token}");
    assert!(logs.contains(&format!("/workspace/{token}")), "the same value has the same token: {logs}");

    // Once its time is over the exact text is gone, on record, and the record is sound.
    let path = node.home().join("config.yaml");
    let config = std::fs::read_to_string(&path).unwrap();
    let short = format!("{config}\n  governance:\n    redaction:\n      working_copy_grace: 1s\n");
    std::fs::write(&path, short).unwrap();
    hang_up(&node);
    until("the exact copies are destroyed", || {
        events(&node, "execution.working_copies_destroyed").len() == 1
            && node.status(&execution)["final_output"] != answer
    });
    let status = node.status(&execution);
    assert_eq!(found(&status.to_string()), Vec::<String>::new(), "{status}");
    assert!(status["final_output"].as_str().unwrap().contains(&token), "{status}");
    assert_eq!(node.stop_daemon(), Some(0));
    node.run(&["audit", "verify"]).ok();
    let texts = record(node.home(), |blob| blob).await;
    assert!(texts.iter().any(|text| text.contains(&token)));
    // A volume's exact paths go with the volume.
    for text in texts.iter().filter(|text| !text.contains("\"entries\"") && !text.contains("\"ranges\"")) {
        assert_eq!(found(text), Vec::<String>::new(), "{text}");
    }
    for text in record(node.home(), BlobRef::evidence).await {
        assert_eq!(found(&text), Vec::<String>::new(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_validators_and_failures_say_is_redacted_too() {
    let mut node = Node::with(clerk()).start().await;
    let agent = node.deploy(&worker("clerk", &rejecting()));
    let shown = node.run(&["task", "execute", &agent, "--follow"]);
    let execution = newest_execution(&node);
    let mut status = node.status(&execution);
    assert_eq!(status["status"], "failed", "{status}");
    status["iterations"][0]["output"] = Value::Null;
    assert_eq!(found(&status.to_string()), Vec::<String>::new(), "{status}");
    let answer = format!("write to {EMAIL}, call {PHONE}, charge {CARD}");
    assert_eq!(found(&shown.stdout.replace(&answer, "")), Vec::<String>::new(), "{}", shown.stdout);
    assert_eq!(node.stop_daemon(), Some(0));
    for text in record(node.home(), BlobRef::evidence).await {
        // The manifest is recorded as it was deployed.
        if !text.contains("kind: Agent") {
            assert_eq!(found(&text), Vec::<String>::new(), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_exactly_after_a_crash() {
    let waiting = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = waiting.clone();
    let script = Script::new(move |asked| match asked.tool_results() {
        0 => Reply::call("cmd.run", &json!({"command": "echo", "args": [EMAIL, PHONE]})),
        1 if !seen.swap(true, std::sync::atomic::Ordering::SeqCst) => {
            Reply::After(std::time::Duration::from_secs(120), Box::new(Reply::text("too late")))
        }
        _ => Reply::text("done"),
    });
    let mut node = Node::with(script).start().await;
    let agent = node.deploy(&worker("clerk", ""));
    let execution = node.execute(&agent, &json!({"customer": EMAIL}).to_string());
    until("the model is asked again", || waiting.load(std::sync::atomic::Ordering::SeqCst));
    node.kill_daemon();
    node.start_daemon();
    assert_eq!(node.wait(&execution)["status"], "completed");
    let last = node.model.requests().last().expect("a request").body.to_string();
    assert!(last.contains(EMAIL) && last.contains(PHONE) && !last.contains("[email:"), "{last}");
    assert_eq!(node.status(&execution)["input"]["customer"].as_str().map(|text| &text[..7]), Some("[email:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_trusted_with_it_is_given_tokens() {
    let guest = "        - alias: guest\n          model: scripted-guest\n          trusted_with: []\n";
    let node = Node::with(clerk()).models(guest).start().await;
    let manifest = worker("clerk", "").replace("isolation: process}", "isolation: process, model: guest}");
    assert!(manifest.contains("model: guest"), "{manifest}");
    let agent = node.deploy(&manifest);
    let status = node.wait(&node.execute(&agent, &json!({"customer": EMAIL}).to_string()));
    assert_eq!(status["status"], "completed", "{status}");
    for request in node.model.requests() {
        let body = request.body.to_string();
        assert!(body.contains("[email:"), "{body}");
        assert_eq!(found(&body), Vec::<String>::new(), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_switched_off_by_name_and_on_record() {
    let off = "  governance:\n    redaction:\n      personal_data_rules: {ipv4: false}";
    let script = Script::rules(vec![Rule::always(Reply::text("done"))]);
    let node = Node::with(script).config(off).start().await;
    let started = events(&node, "daemon.started");
    assert_eq!(started[0]["body"]["personal_data_rules_off"], json!(["ipv4"]), "{started:?}");
    let agent = node.deploy(&worker("clerk", ""));
    let execution = node.execute(&agent, &json!({"host": ADDRESS, "customer": EMAIL}).to_string());
    let input = node.wait(&execution)["input"].clone();
    assert_eq!(input["host"], ADDRESS);
    assert_ne!(input["customer"], EMAIL);
    let path = node.home().join("config.yaml");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace("ipv4", "ipv5")).unwrap();
    let refused = node.run(&["config", "validate"]).expect_code(2);
    assert!(refused.stderr.contains("ipv5") && refused.stderr.contains("`ipv6`"), "{}", refused.stderr);
}
