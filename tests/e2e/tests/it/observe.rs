//! Looking at a node from outside, as stories do.

use std::time::{Duration, Instant};

use aegis_e2e::{Node, Output};
use serde_json::Value;

/// How long a condition may take to hold; generous, since tests share two cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "in vain waited until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What this machine lacks so that no execution of `manifest` can run on it: isolation, or mounts for its volumes.
const LACKS: [&str; 2] = ["this machine cannot isolate a process", "a volume cannot be mounted here"];

/// Whether executions of `manifest` can run on this machine; says so where not.
pub(crate) fn can_run(node: &Node, manifest: &str, test: &str) -> bool {
    let path = node.file("probe.yaml", manifest);
    let deployed = node.run(&["agent", "deploy", &path, "--validate-only", "--output", "json"]).ok().json();
    let warnings = deployed["warnings"].as_array().cloned().unwrap_or_default();
    let lacking = warnings
        .iter()
        .filter_map(Value::as_str)
        .find(|warning| LACKS.iter().any(|lack| warning.contains(lack)));
    if let Some(reason) = lacking {
        eprintln!("SKIP {test}: {}", reason.replace('\n', " "));
    }
    lacking.is_none()
}

/// Follow lines without their times.
pub(crate) fn told(follow: &str) -> Vec<&str> {
    follow.lines().map(|line| line.split_once("] ").map_or(line, |(_, words)| words)).collect()
}

/// Follow lines between the run's first and its last.
pub(crate) fn told_between(follow: &str) -> Vec<&str> {
    let mut lines = told(follow);
    lines.pop();
    lines.into_iter().skip(1).collect()
}

/// The id of the node's newest execution, once there is one.
pub(crate) fn newest_execution(node: &Node) -> String {
    let mut found = None;
    until("an execution is listed", || {
        let listed = node.run(&["task", "list", "--output", "json"]).ok().json();
        found = listed["items"][0]["execution_id"].as_str().map(str::to_owned);
        found.is_some()
    });
    found.expect("an execution")
}

/// Deploys `manifest` and runs it to its end with `--follow`, whatever its end.
pub(crate) fn follow(node: &Node, manifest: &str) -> Output {
    let id = node.deploy(manifest);
    node.run(&["task", "execute", &id, "--input", "{}", "--follow"])
}

/// The texts of the tool results in the last request the model was sent.
pub(crate) fn tool_results(node: &Node) -> Vec<String> {
    let requests = node.model.requests();
    let messages = requests.last().expect("the model was asked").body["messages"].clone();
    let results = messages.as_array().expect("messages").iter().filter(|message| message["role"] == "tool");
    results.map(|message| message["content"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The prompt of every request the model was sent, without repetitions.
pub(crate) fn prompts(node: &Node) -> Vec<String> {
    let mut prompts: Vec<String> = node
        .model
        .requests()
        .iter()
        .filter_map(|request| request.body["messages"][0]["content"].as_str().map(str::to_owned))
        .collect();
    prompts.dedup();
    prompts
}

/// Events of the record of one kind, oldest first.
pub(crate) fn events(node: &Node, kind: &str) -> Vec<Value> {
    let found =
        node.run(&["audit", "query", "--kind", kind, "--limit", "200", "--output", "json"]).ok().json();
    found["items"].as_array().cloned().unwrap_or_default()
}
