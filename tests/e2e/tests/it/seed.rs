//! The published guide, word for word: its manifest, its script, its messages and tables.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use aegis_e2e::{Node, Output};
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::json;

use crate::manifests::worker;

/// The guide's example manifest, unchanged.
const MANIFEST: &str = include_str!("seed/pr-reviewer.yaml");
/// The guide's shell script, unchanged.
const SCRIPT: &str = include_str!("seed/script.sh");

/// The guide's manifest for a node without containers: process isolation; and without connections: an empty allowlist.
fn process_copy() -> String {
    let copy = MANIFEST.replace("isolation: docker", "isolation: process");
    if is_root() { copy } else { copy.replace("allowlist:\n        - api.github.com", "allowlist: []") }
}

/// Whether connections can be given here.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn answering(text: &str) -> Script {
    Script::rules(vec![Rule::always(Reply::text(text))])
}

/// What this machine lacks to enforce the limits the guide's manifest states, if it lacks something.
fn limits_missing(node: &Node) -> bool {
    let path = node.file("probe.yaml", &process_copy());
    let deployed = node.run(&["agent", "deploy", &path, "--validate-only", "--output", "json"]).ok().json();
    let warnings = deployed["warnings"].as_array().unwrap();
    warnings.iter().any(|warning| warning.as_str().unwrap().starts_with("spec.security.resources"))
}

fn skip(test: &str) {
    eprintln!("SKIP {test}: no writable cgroup, so stated limits are refused");
}

/// Runs `script` by bash in a folder with `agent.yaml`, `aegis` on the PATH and a `sleep` that sleeps shorter.
fn bash(node: &Node, script: &str) -> Output {
    let folder = node.home().join("shell");
    let programs = folder.join("bin");
    std::fs::create_dir_all(&programs).unwrap();
    let aegis = node.command(&[]).get_program().to_owned();
    symlink(aegis, programs.join("aegis")).unwrap();
    std::fs::write(programs.join("sleep"), "#!/bin/sh\nexec /bin/sleep 0.2\n").unwrap();
    std::fs::set_permissions(programs.join("sleep"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("agent.yaml"), process_copy()).unwrap();
    std::fs::write(folder.join("script.sh"), script).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg("script.sh")
        .current_dir(&folder)
        .env("PATH", path)
        .env("AEGIS_HOME", node.home())
        .env("AEGIS_PORT", node.port().to_string())
        .env_remove("AEGIS_TOKEN")
        .env_remove("AEGIS_CONFIG_PATH")
        .output()
        .expect("bash runs");
    Output {
        code: output.status.code().unwrap_or(128),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_script_runs_unchanged() {
    if Command::new("jq").arg("--version").output().is_err() {
        return eprintln!("SKIP the_guides_script_runs_unchanged: no jq");
    }
    let node = Node::with(answering("Looks good.")).start().await;
    if limits_missing(&node) {
        return skip("the_guides_script_runs_unchanged");
    }
    let said = bash(&node, SCRIPT).ok();
    let lines: Vec<&str> = said.stdout.lines().collect();
    let (last, polled) = lines.split_last().expect("lines");
    assert_eq!(*last, "Final status: completed", "{}{}", said.stdout, said.stderr);
    let known = ["Status: pending", "Status: running", "Status: completed"];
    assert!(polled.iter().all(|line| known.contains(line)), "{}", said.stdout);
    assert_eq!(polled.last(), Some(&"Status: completed"));
    let asked = &node.model.requests()[0].body;
    let prompt = asked["messages"][0]["content"].as_str().unwrap();
    assert!(prompt.starts_with("Review the provided code diff"), "{prompt}");
    assert!(prompt.contains("User: {\"task\":\"...\"}"), "{prompt}");
    assert!(prompt.trim_end().ends_with("Reviewer:"), "{prompt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_manifest_deploys_with_warnings_and_is_refused_at_execute() {
    let node = Node::with(answering("never asked")).start().await;
    let path = node.file("pr-reviewer.yaml", MANIFEST);
    let deployed = node.run(&["agent", "deploy", &path]).ok();
    assert!(deployed.stdout.starts_with("Deployed agent \"pr-reviewer\" (id: "), "{}", deployed.stdout);
    let warned: Vec<&str> = deployed.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    let fields = ["spec.runtime.isolation", "spec.security.network"];
    for field in fields.into_iter().take(if is_root() { 1 } else { 2 }) {
        let of_field = warned.iter().find(|line| line.contains(field));
        let warning = of_field.unwrap_or_else(|| panic!("no warning of {field}: {}", deployed.stderr));
        assert!(warning.contains("; write "), "no remedy: {warning}");
    }
    let refused = node.run(&["task", "execute", "pr-reviewer", "--input", "{}"]).expect_code(2);
    assert!(refused.stderr.contains("isolation `docker`"), "{}", refused.stderr);
    let refused =
        node.run(&["task", "execute", "pr-reviewer", "--input", "{}", "--output", "json"]).expect_code(2);
    let error: serde_json::Value = serde_json::from_str(&refused.stderr).expect("a JSON object");
    assert_eq!((&error["code"], &error["exit_code"]), (&json!("capability_missing"), &json!(2)));
    assert!(error["hint"].as_str().unwrap().contains("isolation: process"), "{error}");
    assert_eq!(node.run(&["task", "list", "--output", "json"]).ok().json()["items"], json!([]));
    assert!(node.model.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_tables_are_the_guides() {
    let node = Node::with(answering("done")).start().await;
    let labelled = worker("python-coder", "")
        .replace("  version: \"1.0.0\"\n", "  version: \"1.0.0\"\n  labels: {type: developer, team: core}\n");
    let path = node.file("agent.yaml", &labelled);
    let deployed = node.run(&["agent", "deploy", &path]).ok();
    let id = deployed.stdout.trim().strip_prefix("Deployed agent \"python-coder\" (id: ");
    let id = id.and_then(|rest| rest.strip_suffix(')')).unwrap_or_else(|| panic!("{}", deployed.stdout));
    assert_eq!(id.len(), 36, "ids print in full: {id}");

    let listed = node.run(&["agent", "list"]).ok();
    let rows: Vec<Vec<&str>> = listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "NAME", "STATUS", "RUNTIME", "LABELS"]);
    assert_eq!(rows[1], [id, "python-coder", "deployed", "process", "team=core,type=developer"]);
    assert!(listed.stdout.lines().nth(1).unwrap().contains("python-coder  deployed"), "{}", listed.stdout);
    let items = node.run(&["agent", "list", "--output", "json"]).ok().json();
    assert_eq!((&items["items"][0]["id"], &items["items"][0]["status"]), (&json!(id), &json!("deployed")));

    assert_eq!(node.run(&["agent", "show", id]).ok().stdout, labelled, "the document as deployed");
    assert_eq!(node.run(&["agent", "show", "python-coder", "--output", "yaml"]).ok().stdout, labelled);

    let started = node.run(&["task", "execute", id, "--input", r#"{"task": "reverse"}"#]).ok();
    let execution = started.stdout.trim().strip_prefix("Execution started: ").expect("the guide's message");
    assert_eq!(execution.len(), 36);
    node.wait(execution);

    let tasks = node.run(&["task", "list", "--agent-id", id, "--limit", "20"]).ok();
    assert!(tasks.stdout.contains(execution) && tasks.stdout.contains("completed"), "{}", tasks.stdout);
    let shown = node.run(&["task", "status", execution]).ok();
    for fact in
        ["status      completed", "agent       python-coder@1.0.0", "iteration 1: completed", "output:\ndone"]
    {
        assert!(shown.stdout.contains(fact), "no `{fact}` in:\n{}", shown.stdout);
    }
    let logs = node.run(&["task", "logs", execution]).ok();
    assert_eq!(logs.stdout.lines().count(), 4, "{}", logs.stdout);
    assert!(
        logs.stdout.lines().all(|line| line.starts_with("[20") && line.contains("Z] ")),
        "{}",
        logs.stdout
    );
    assert!(logs.stdout.trim_end().contains("Completed (1 iteration, "), "{}", logs.stdout);
    assert_eq!(node.run(&["task", "logs", execution, "--errors-only"]).ok().stdout, "");
    assert_eq!(node.run(&["agent", "logs", id]).ok().stdout, logs.stdout);

    let over = node.run(&["task", "cancel", execution]).expect_code(4);
    assert!(over.stderr.contains("is completed already"), "{}", over.stderr);
    let removed = node.run(&["agent", "remove", id]).ok();
    assert_eq!(removed.stdout.trim(), format!("Removed agent \"python-coder\" (id: {id})"));
    assert_eq!(node.run(&["agent", "list"]).ok().stdout.lines().count(), 1);
    assert_eq!(node.status(execution)["status"], "completed", "history outlives removal");
}

#[tokio::test(flavor = "multi_thread")]
async fn validating_persists_nothing_and_force_overwrites() {
    let node = Node::with(answering("done")).start().await;
    let path = node.file("agent.yaml", &worker("draft", ""));
    let valid = node.run(&["agent", "deploy", &path, "--validate-only"]).ok();
    assert_eq!(valid.stdout.trim(), "Valid agent \"draft\" (version 1.0.0)");
    node.run(&["agent", "show", "draft"]).expect_code(1);

    let wrong = node.file("wrong.yaml", &worker("draft", "").replace("instruction:", "instructions:"));
    let refused = node.run(&["agent", "deploy", &wrong, "--validate-only"]).expect_code(2);
    assert!(refused.stderr.contains("instructions: Do the work."), "no line shown: {}", refused.stderr);
    assert!(refused.stderr.contains("`instruction`"), "no nearest name: {}", refused.stderr);

    let first = node.run(&["agent", "deploy", &path]).ok();
    let again = node.run(&["agent", "deploy", &path]).ok();
    assert_eq!(first.stdout, again.stdout, "the identical document changes nothing");
    let other = node.file("other.yaml", &worker("draft", "").replace("Do the work.", "Do it better."));
    let conflict = node.run(&["agent", "deploy", &other]).expect_code(4);
    assert!(conflict.stderr.contains("--force"), "{}", conflict.stderr);
    let forced = node.run(&["agent", "deploy", &other, "--force"]).ok();
    assert_eq!(first.stdout, forced.stdout, "the id stays");
    assert!(node.run(&["agent", "show", "draft"]).ok().stdout.contains("Do it better."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_followed_in_the_guides_lines() {
    let script = Script::rules(vec![
        Rule::always(Reply::call(
            "fs.write",
            &json!({"path": "/workspace/solution.py", "content": "print('{\"ok\": true}')\n"}),
        ))
        .when_tool_results(0),
        Rule::always(Reply::call(
            "cmd.run",
            &json!({"command": "python3", "args": ["/workspace/solution.py"]}),
        ))
        .when_tool_results(1),
        Rule::always(Reply::text("{\"ok\": true}")),
    ]);
    let node = Node::with(script).start().await;
    let validation = "  execution:
    validation:
      - type: exit_code
      - type: json_schema
        schema: {type: object, required: [ok]}
";
    node.deploy(&worker("python-coder", validation));
    let run = node.run(&["task", "execute", "python-coder", "--input", "{}", "--follow"]).ok();
    let lines: Vec<(&str, &str)> =
        run.stdout.lines().map(|line| line.split_once("] ").expect("a time")).collect();
    for (time, line) in &lines {
        assert!(time.len() == "[2026-02-23T10:00:01Z".len() && time.ends_with('Z'), "{time}] {line}");
    }
    let lines: Vec<&str> = lines.into_iter().map(|(_, line)| line).collect();
    assert_eq!(
        lines[1..6],
        [
            "Iteration 1 Started",
            "Tool: fs.write /workspace/solution.py (22 bytes)",
            "Tool: cmd.run python3 /workspace/solution.py",
            "Iteration 1 Completed",
            "Validation: exit_code=PASS json_schema=PASS (score=1.0)",
        ]
    );
    assert!(
        lines[6].starts_with("Execution ") && lines[6].contains(" Completed (1 iteration, "),
        "{}",
        lines[6]
    );
    let as_json =
        node.run(&["task", "execute", "python-coder", "--input", "{}", "--follow", "--output", "json"]).ok();
    let kinds: Vec<serde_json::Value> =
        as_json.stdout.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    assert!(kinds.len() >= 7 && kinds.iter().all(serde_json::Value::is_object), "{}", as_json.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_speaks_json_and_yaml() {
    let node = Node::with(answering("done")).start().await;
    let id = node.deploy(&worker("coder", ""));
    let execution = node.execute("coder", "{}");
    node.wait(&execution);
    let path = node.file("agent.yaml", &worker("coder", ""));
    let volumes = node.run(&["volume", "list", "--output", "json"]).ok().json();
    let volume = volumes["items"][0]["id"].as_str().unwrap();
    for command in [
        &["status"] as &[&str],
        &["agent", "deploy", &path],
        &["agent", "deploy", &path, "--validate-only"],
        &["agent", "list"],
        &["agent", "versions", &id],
        &["agent", "pause", &id],
        &["agent", "resume", &id],
        &["task", "execute", &id, "--wait"],
        &["task", "list"],
        &["task", "status", &execution],
        &["volume", "list"],
        &["volume", "show", volume],
        &["volume", "files", volume],
        &["trace", "list"],
        &["trace", "show", &execution],
        &["audit", "query"],
        &["audit", "verify"],
        &["config", "show"],
        &["config", "validate"],
    ] {
        let with = |form: &str| node.run(&[command, &["--output", form]].concat()).ok();
        assert!(with("json").json().is_object(), "{command:?}");
        let yaml = with("yaml").stdout;
        let first = yaml.lines().next().unwrap_or_default();
        assert!(first.contains(':') && !first.starts_with('{'), "{command:?}: {yaml}");
        // A document is its own best text.
        assert!(with("table").stdout != yaml || *command == ["config", "show"], "{command:?}");
    }
    let schema = node.run(&["schema", "agent"]).ok().json();
    assert!(schema["properties"]["spec"].is_object(), "{schema}");
    let explained = node.run(&["explain", "agent.spec.security.network"]).ok();
    assert!(explained.stdout.contains("allowlist"), "{}", explained.stdout);
}
