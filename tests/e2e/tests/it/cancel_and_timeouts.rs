//! Runs that stop before their time: on request, and by their limits.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use aegis_e2e::{Node, Output};
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::json;

use crate::manifests::worker;
use crate::observe::{events, follow, newest_execution, told, told_between, until};

/// Longest time a graceful cancel waits for the action under way; a forced one is far below it.
const GRACE: Duration = Duration::from_secs(10);

fn in_background(node: &Node, arguments: &[&str]) -> Child {
    node.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts")
}

fn end_of(child: Child) -> Output {
    let output = child.wait_with_output().expect("the command ends");
    Output {
        code: output.status.code().unwrap_or(128),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Whether a process of this machine has `argument` on its command line.
fn runs_with(argument: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    processes.into_iter().any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_cancel_lets_the_action_under_way_end_and_begins_nothing() {
    let call = Reply::call("fs.write", &json!({"path": "/workspace/late.txt", "content": "x"}));
    let script = Script::rules(vec![Rule::always(Reply::After(Duration::from_secs(1), Box::new(call)))]);
    let node = Node::with(script).start().await;
    node.deploy(&worker("slow", ""));
    let following = in_background(&node, &["task", "execute", "slow", "--input", "{}", "--follow"]);
    until("the model was asked", || !node.model.requests().is_empty());
    let execution = newest_execution(&node);
    let cancelled = node.run(&["task", "cancel", &execution]).ok();
    assert_eq!(cancelled.stdout.trim(), format!("Cancelling execution {execution}"));
    let followed = end_of(following).expect_code(7);
    assert_eq!(told(&followed.stdout).last(), Some(&format!("Execution {execution} Cancelled").as_str()));
    assert!(!followed.stdout.contains("fs.write"), "{}", followed.stdout);
    assert_eq!(node.status(&execution)["status"], "cancelled");
    assert_eq!(node.model.requests().len(), 1, "nothing new was begun");
    assert_eq!(events(&node, "action.completed").len(), 1, "the answer under way was taken");
    node.run(&["task", "cancel", &execution]).expect_code(4);
    node.run(&["task", "cancel", "a1b2c3d4-0000-4000-8000-000000000001"]).expect_code(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_cancel_does_not_wait_for_a_model_that_hangs() {
    let node = Node::with(Script::rules(vec![Rule::always(Reply::Hang)])).start().await;
    node.deploy(&worker("stuck", ""));
    let waiting = in_background(&node, &["task", "execute", "stuck", "--wait"]);
    until("the model was asked", || !node.model.requests().is_empty());
    let begun = Instant::now();
    node.run(&["task", "cancel", &newest_execution(&node), "--force"]).ok();
    let waited = end_of(waiting).expect_code(7);
    assert!(begun.elapsed() < GRACE, "{:?}", begun.elapsed());
    assert!(waited.stdout.contains("status      cancelled"), "{}", waited.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_cancel_kills_the_command_that_runs() {
    let seconds = "7357.25";
    let script = Script::rules(vec![Rule::always(Reply::call(
        "cmd.run",
        &json!({"command": "sleep", "args": [seconds], "timeout_secs": 600}),
    ))]);
    let node = Node::with(script).start().await;
    node.deploy(&worker("sleeper", ""));
    let execution = node.execute("sleeper", "{}");
    until("the command runs", || runs_with(seconds));
    let begun = Instant::now();
    node.run(&["task", "cancel", &execution, "--force"]).ok();
    assert_eq!(node.wait(&execution)["status"], "cancelled");
    assert!(begun.elapsed() < GRACE, "{:?}", begun.elapsed());
    assert!(!runs_with(seconds), "the process tree is dead once the run is over");
    assert_eq!(events(&node, "generation.ended").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_comes_at_once_is_heeded_wherever_the_run_stands() {
    let node = Node::with(Script::rules(vec![Rule::always(Reply::Hang)])).start().await;
    node.deploy(&worker("stuck", ""));
    for _ in 0..5 {
        let execution = node.execute("stuck", "{}");
        node.run(&["task", "cancel", &execution, "--force"]).ok();
        assert_eq!(node.wait(&execution)["status"], "cancelled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_iteration_that_takes_too_long_fails_and_the_next_is_told() {
    let script = Script::new(|seen| {
        if seen.mentions("Your previous attempt failed") { Reply::text("quick") } else { Reply::Hang }
    });
    let node = Node::with(script).start().await;
    let run =
        follow(&node, &worker("slow", "  execution: {max_iterations: 2, iteration_timeout: 2s}\n")).ok();
    let lines = told_between(&run.stdout);
    assert_eq!(lines[0], "Iteration 1 Started");
    assert_eq!(
        lines[1],
        "Iteration 1 Failed: the iteration took longer than `execution.iteration_timeout` (2 s)"
    );
    assert_eq!(lines[2..], ["Iteration 2 Started", "Iteration 2 Completed"]);
    let prompt = node.model.requests().last().unwrap().body["messages"][0]["content"].clone();
    assert!(prompt.as_str().unwrap().contains("took longer than"), "{prompt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_that_takes_too_long_fails_with_exit_code_6() {
    let node = Node::with(Script::rules(vec![Rule::always(Reply::Hang)])).start().await;
    let limited = worker("slow", "").replace("  security:\n", "  security:\n    resources: {timeout: 2s}\n");
    let run = follow(&node, &limited).expect_code(6);
    let sentence = "the execution took longer than `security.resources.timeout` (2 s)";
    let lines = told(&run.stdout);
    assert_eq!(lines[2], format!("Iteration 1 Failed: {sentence}"));
    assert!(lines[3].ends_with(&format!(" Failed: {sentence}")), "{}", lines[3]);
    assert!(run.stderr.contains("aegis task status"), "{}", run.stderr);
    let waited = node.run(&["task", "execute", "slow", "--wait", "--output", "json"]).expect_code(6);
    assert_eq!(waited.json()["error"]["message"], sentence);
    assert_eq!(waited.json()["iterations"][0]["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_ended_and_the_model_is_told() {
    let script = Script::rules(vec![
        Rule::always(Reply::call(
            "cmd.run",
            &json!({"command": "sleep", "args": ["7358.25"], "timeout_secs": 1}),
        ))
        .when_tool_results(0),
        Rule::always(Reply::text("gave up")),
    ]);
    let node = Node::with(script).start().await;
    follow(&node, &worker("sleeper", "")).ok();
    let result = crate::observe::tool_results(&node).pop().unwrap();
    assert!(result.starts_with("exit_code: 124"), "{result}");
    assert!(!runs_with("7358.25"));
}
