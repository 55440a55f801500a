//! A sandbox whose first process ends at a bad moment: the run goes on or ends, and never hangs.

use std::time::{Duration, Instant};

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::manifests::worker;
use crate::observe::{events, until};

/// Far below every timeout of the run: what ends within it was noticed, not waited out.
const SOON: Duration = Duration::from_secs(15);

/// Kills the first process of the newest sandbox.
fn kill_bootstrap(node: &Node) {
    let started = events(node, "generation.started");
    let pid = started.last().expect("a sandbox was started")["body"]["sandbox"]["pid"].as_i64();
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("its process id");
    kill_process(pid, Signal::KILL).expect("the first process is killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_killed_while_the_model_thinks_costs_the_iteration_and_no_more() {
    let script = Script::new(|seen| {
        if seen.mentions("Your previous attempt failed") { Reply::text("done") } else { Reply::Hang }
    });
    let node = Node::with(script).start().await;
    node.deploy(&worker("victim", "  execution: {max_iterations: 2}\n"));
    let execution = node.execute("victim", "{}");
    until("the model was asked", || !node.model.requests().is_empty());
    let begun = Instant::now();
    kill_bootstrap(&node);
    let status = node.wait(&execution);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(status["status"], "completed", "{status}");
    assert_eq!(status["iterations"][0]["status"], "failed", "{status}");
    let reason = events(&node, "iteration.failed")[0]["body"]["reason"].clone();
    assert_eq!(reason, "bootstrap_failed");
    assert_eq!(events(&node, "action.unknown").len(), 1, "the call that was given up is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_killed_while_a_command_runs_ends_the_run() {
    let call = json!({"command": "sleep", "args": ["7359.25"], "timeout_secs": 600});
    let script = Script::rules(vec![Rule::always(Reply::call("cmd.run", &call))]);
    let node = Node::with(script).start().await;
    node.deploy(&worker("victim", "  execution: {max_iterations: 1}\n"));
    let execution = node.execute("victim", "{}");
    until("the command is under way", || events(&node, "action.intended").len() == 2);
    // The intent comes just before the dispatch; killed before or after it, the end is the same.
    let begun = Instant::now();
    kill_bootstrap(&node);
    let status = node.wait(&execution);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(status["status"], "failed", "{status}");
    let reason = events(&node, "iteration.failed")[0]["body"]["reason"].clone();
    assert_eq!(reason, "bootstrap_failed");
}
