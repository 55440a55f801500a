//! The life of an agent: versions, pausing, removal, tenants, and what is refused before anything is spent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::json;

use crate::manifests::worker;
use crate::observe::{events, newest_execution, prompts, until};

fn answering(text: &str) -> Script {
    Script::rules(vec![Rule::always(Reply::text(text))])
}

fn version(number: &str, instruction: &str, more: &str) -> String {
    worker("coder", more)
        .replace("version: \"1.0.0\"", &format!("version: \"{number}\""))
        .replace("Do the work.", instruction)
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_kept_and_can_be_named() {
    let node = Node::with(answering("done")).start().await;
    let first = node.deploy(&version("1.0.0", "First words.", ""));
    let second = node.deploy(&version("1.1.0", "Second words.", ""));
    assert_eq!(first, second, "the id belongs to tenant and name");
    let versions = node.run(&["agent", "versions", "coder", "--output", "json"]).ok().json();
    let mut numbers: Vec<_> = versions["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|known| known["version"].as_str().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["1.0.0", "1.1.0"]);
    let shown = node.run(&["agent", "show", "coder@1.0.0"]).ok();
    assert!(shown.stdout.contains("First words."), "{}", shown.stdout);
    for (named, ran, words) in [
        ("coder", "1.1.0", "Second words."),
        ("coder@1.0.0", "1.0.0", "First words."),
        (&first, "1.1.0", "Second"),
    ] {
        let status = node.wait(&node.execute(named, "{}"));
        assert_eq!(status["agent"]["version"], ran, "{named}");
        assert!(prompts(&node).last().unwrap().contains(words), "{named}");
    }
    node.run(&["task", "execute", "coder@9.9.9"]).expect_code(1);
    node.run(&["task", "execute", "nobody"]).expect_code(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deploying_the_identical_document_changes_nothing() {
    let node = Node::with(answering("done")).start().await;
    let path = node.file("agent.yaml", &version("1.0.0", "First words.", ""));
    let deploy = || node.run(&["agent", "deploy", &path, "--output", "json"]).ok().json();
    let (first, again) = (deploy(), deploy());
    assert_eq!((&first["changed"], &again["changed"]), (&json!(true), &json!(false)));
    assert_eq!(events(&node, "agent.deployed").len(), 1);
    let other = node.file("other.yaml", &version("1.0.0", "Other words.", ""));
    node.run(&["agent", "deploy", &other]).expect_code(4);
    assert!(node.run(&["agent", "show", "coder"]).ok().stdout.contains("First words."));
    node.run(&["agent", "deploy", &other, "--force"]).ok();
    assert!(node.run(&["agent", "show", "coder"]).ok().stdout.contains("Other words."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_is_refused_until_it_is_resumed() {
    let node = Node::with(answering("done")).start().await;
    let id = node.deploy(&worker("coder", ""));
    let paused = node.run(&["agent", "pause", "coder"]).ok();
    assert_eq!(paused.stdout.trim(), format!("Paused agent \"coder\" (id: {id})"));
    assert!(node.run(&["agent", "list"]).ok().stdout.contains("  paused  "));
    let refused = node.run(&["task", "execute", "coder"]).expect_code(4);
    assert!(refused.stderr.contains("aegis agent resume coder"), "{}", refused.stderr);
    node.run(&["agent", "pause", "coder"]).ok();
    node.run(&["agent", "resume", &id]).ok();
    assert_eq!(node.wait(&node.execute("coder", "{}"))["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_keeps_history_and_the_name_can_be_used_again() {
    let node = Node::with(answering("done")).start().await;
    let id = node.deploy(&worker("coder", ""));
    let execution = node.execute("coder", r#"{"n": 1}"#);
    node.wait(&execution);
    node.run(&["agent", "remove", "coder"]).ok();
    node.run(&["agent", "show", "coder"]).expect_code(1);
    node.run(&["task", "execute", &id]).expect_code(1);
    let status = node.status(&execution);
    assert_eq!((&status["status"], &status["input"]), (&json!("completed"), &json!({"n": 1})));
    let listed = node.run(&["task", "list", "--agent-id", &id, "--output", "json"]).ok().json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(node.deploy(&worker("coder", "")), id, "the id is stable");
    assert_eq!(node.wait(&node.execute("coder", "{}"))["status"], "completed");

    let removed = node.run(&["task", "remove", &execution]).ok();
    assert_eq!(removed.stdout.trim(), format!("Removed execution {execution}; its evidence stays"));
    let listed = node.run(&["task", "list", "--output", "json"]).ok().json();
    assert!(!listed.to_string().contains(&execution), "{listed}");
    let evidence = node.run(&["audit", "query", "--stream", &format!("execution/{execution}")]).ok();
    assert!(evidence.stdout.contains("execution.completed"), "{}", evidence.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_execution_keeps_the_version_it_started_with() {
    let released = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&released);
    // The first attempt goes on until the other definition is deployed, and fails; so there is a second prompt.
    let script = Script::new(move |seen| match open.load(Ordering::Acquire) {
        false => Reply::After(Duration::from_millis(50), Box::new(Reply::call("fs.list", &json!({})))),
        true if seen.mentions("Your previous attempt failed") => Reply::text("good"),
        true => Reply::text("bad"),
    });
    let node = Node::with(script).start().await;
    let validation = "  execution: {validation: [{type: regex, pattern: good}]}\n";
    node.deploy(&version("1.0.0", "First words.", validation));
    let execution = node.execute("coder", "{}");
    until("the model was asked", || !node.model.requests().is_empty());
    node.deploy(&version("1.0.0", "Other words.", validation));
    node.run(&["agent", "remove", "coder"]).ok();
    released.store(true, Ordering::Release);
    let status = node.wait(&execution);
    assert_eq!((&status["status"], &status["total_iterations"]), (&json!("completed"), &json!(2)));
    let prompts = prompts(&node);
    assert_eq!(prompts.len(), 2);
    assert!(prompts.iter().all(|prompt| prompt.contains("First words.")), "{prompts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_sees_nothing() {
    let node = Node::with(answering("done")).start().await;
    let id = node.deploy(&worker("coder", ""));
    let execution = node.execute("coder", "{}");
    node.wait(&execution);
    let volume = node.run(&["volume", "list", "--output", "json"]).ok().json()["items"][0]["id"].clone();
    let volume = volume.as_str().unwrap();
    let trace = node.status(&execution)["trace_id"].clone();
    let stream = format!("execution/{execution}");
    let other = |arguments: &[&str]| {
        let mut all = vec!["--tenant", "other", "--output", "json"];
        all.extend(arguments);
        node.run(&all)
    };
    for list in [
        &["agent", "list"] as &[&str],
        &["task", "list"],
        &["volume", "list"],
        &["audit", "query", "--stream", &stream],
        &["trace", "list"],
    ] {
        let listed = other(list);
        // A list that a tenant may not see at all is as good as an empty one.
        assert!(listed.code != 0 || listed.json()["items"] == json!([]), "{list:?}: {}", listed.stdout);
    }
    for named in [
        &["agent", "show", "coder"] as &[&str],
        &["agent", "show", &id],
        &["agent", "versions", &id],
        &["agent", "pause", &id],
        &["agent", "remove", &id],
        &["agent", "logs", &id],
        &["task", "execute", &id],
        &["task", "execute", "coder"],
        &["task", "status", &execution],
        &["task", "logs", &execution],
        &["task", "cancel", &execution],
        &["task", "remove", &execution],
        &["volume", "show", volume],
        &["volume", "files", volume],
        &["volume", "remove", volume],
        &["trace", "show", trace.as_str().unwrap()],
        &["trace", "show", &execution],
    ] {
        let said = other(named);
        assert_eq!(said.code, 1, "{named:?}: {}{}", said.stdout, said.stderr);
    }
    let path = node.file("own.yaml", &worker("coder", ""));
    let own = other(&["agent", "deploy", &path]).ok().json();
    assert_ne!(own["id"], json!(id), "the same name in another tenant is another agent");
    assert_eq!(node.run(&["agent", "list"]).ok().stdout.lines().count(), 2);
    node.run(&["--tenant", "platform", "agent", "deploy", &path]).expect_code(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_starts_once() {
    let node = Node::with(answering("done")).start().await;
    node.deploy(&worker("coder", ""));
    let start = |input: &str| {
        node.run(&[
            "task",
            "execute",
            "coder",
            "--input",
            input,
            "--idempotency-key",
            "k-1",
            "--output",
            "json",
        ])
    };
    let first = start(r#"{"n": 1}"#).ok().json();
    node.wait(first["execution_id"].as_str().unwrap());
    assert_eq!(start(r#"{"n": 1}"#).ok().json(), first, "the same answer");
    let other = start(r#"{"n": 2}"#).expect_code(4);
    assert!(other.stderr.contains("k-1"), "{}", other.stderr);
    let listed = node.run(&["task", "list", "--output", "json"]).ok().json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_is_refused_before_anything_is_spent() {
    let node = Node::with(answering("done")).start().await;
    node.deploy(&worker(
        "coder",
        "  input_schema: {type: object, required: [pr], properties: {pr: {type: integer}}}\n",
    ));
    for input in ["{}", r#"{"pr": "x"}"#, "null"] {
        let refused = node.run(&["task", "execute", "coder", "--input", input]).expect_code(2);
        assert!(refused.stderr.contains("spec.input_schema"), "{}", refused.stderr);
    }
    let text = node.run(&["task", "execute", "coder", "--input", "plain words"]).expect_code(2);
    assert!(text.stderr.contains("`--input` is not JSON"), "{}", text.stderr);
    assert!(events(&node, "execution.*").is_empty() && node.model.requests().is_empty());
    let file = node.file("input.json", r#"{"pr": 42}"#);
    let status = node.wait(&node.execute("coder", &format!("@{file}")));
    assert_eq!((&status["status"], &status["input"]), (&json!("completed"), &json!({"pr": 42})));
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_reach_the_template_and_may_not_shadow_it() {
    let node = Node::with(answering("done")).start().await;
    node.deploy(&worker("coder", "").replace("User: {{input}}", "Tone: {{tone}}\n      User: {{input}}"));
    let run = |context: &str| {
        let file = node.file("context.json", context);
        let at = format!("@{file}");
        node.run(&[
            "task",
            "execute",
            "coder",
            "--input",
            "{}",
            "--context",
            &at,
            "--wait",
            "--output",
            "json",
        ])
    };
    run(r#"{"tone": "dry {{instruction}}"}"#).ok();
    let prompts = prompts(&node);
    assert!(prompts[0].contains("Tone: dry {{instruction}}\n"), "values are never parsed again: {prompts:?}");
    let refused = run(r#"{"previous_error": "x"}"#).expect_code(2);
    assert!(refused.stderr.contains("`previous_error`"), "{}", refused.stderr);
    run("[1]").expect_code(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_template_forms_render_the_same() {
    let script = Script::new(|seen| Reply::text(if seen.mentions("Fix:") { "good" } else { "bad" }));
    let node = Node::with(script).start().await;
    let validation = "  execution: {validation: [{type: regex, pattern: good}]}\n";
    let (begin, end) =
        ("{% if previous_error %}Your previous attempt failed: {{previous_error}}{% endif %}", "{{/if}}");
    let minijinja = "{{iteration_number}} {% if previous_error %}Fix: {{previous_error}}{% endif %}";
    let handlebars =
        format!("{{{{iteration_number}}}} {{{{#if previous_error}}}}Fix: {{{{previous_error}}}}{end}");
    for (name, form) in [("jinja", minijinja), ("handlebars", &handlebars)] {
        node.deploy(&worker(name, validation).replace(begin, form));
        node.wait(&node.execute(name, r#"{"a": "<b> & 'c'"}"#));
    }
    let prompts = prompts(&node);
    assert_eq!(prompts.len(), 4, "{prompts:#?}");
    assert_eq!(prompts[..2], prompts[2..]);
    assert!(prompts[0].contains(r#"User: {"a":"<b> & 'c'"}"#), "no HTML escaping: {}", prompts[0]);
    assert!(prompts[1].contains("2 Fix: Validator regex failed with score 0.0"), "{}", prompts[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_file_is_deployed_and_executed_at_once() {
    let node = Node::with(answering("done")).start().await;
    let path = node.file("coder.yaml", &worker("coder", ""));
    let run = node.run(&["task", "execute", &path, "--wait"]).ok();
    assert!(run.stderr.contains("Deployed agent \"coder\" (id: "), "{}", run.stderr);
    assert!(run.stdout.contains("status      completed"), "{}", run.stdout);
    assert_eq!(node.status(&newest_execution(&node))["agent"]["name"], "coder");
}
