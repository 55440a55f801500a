//! What manifest and configuration say, and a run by them does.

use aegis_core::Timestamp;
use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::json;

use crate::manifests::worker;
use crate::observe::{follow, newest_execution, tool_results};

fn calls(calls: &[(&str, serde_json::Value)]) -> Script {
    let mut rules: Vec<Rule> = calls
        .iter()
        .enumerate()
        .map(|(done, (tool, arguments))| Rule::always(Reply::call(*tool, arguments)).when_tool_results(done))
        .collect();
    rules.push(Rule::always(Reply::text("done")).when_tool_results(calls.len()));
    Script::rules(rules)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_kept_as_long_and_written_as_far_as_its_manifest_says() {
    let touch = "import errno, sys
for path in sys.argv[1:]:
    try: open(path, 'w'); print(path, 'written')
    except OSError as error: print(path, errno.errorcode[error.errno])";
    let node = Node::with(calls(&[
        ("fs.write", json!({"path": "/in/a", "content": "x"})),
        ("fs.write", json!({"path": "/workspace/a", "content": "x"})),
        ("cmd.run", json!({"command": "python3", "args": ["-c", touch, "/in/b", "/workspace/b"]})),
    ]))
    .start()
    .await;
    // The rules of paths would let it write to both.
    let manifest =
        worker("keeper", "    - {name: in, mount_path: /in, access_mode: read-only, ttl_hours: 3}\n")
            .replace("isolation: process}", "isolation: process, temperature: 0.25}")
            .replace(
                "{read: [/workspace], write: [/workspace]}",
                "{read: [/workspace, /in], write: [/workspace, /in]}",
            );
    follow(&node, &manifest).ok();
    let said = tool_results(&node);
    assert!(said[0].contains("read-only") && !said[1].contains("read-only"), "{said:#?}");
    assert!(said[2].contains("/in/b EROFS") && said[2].contains("/workspace/b written"), "{said:#?}");
    for request in node.model.requests() {
        assert_eq!(request.body["temperature"], 0.25, "{}", request.body);
    }
    let listed = node.run(&["volume", "list", "--output", "json"]).ok().json();
    for (name, hours) in [("in", 3), ("workspace", 1)] {
        let volume = listed["items"].as_array().unwrap().iter().find(|item| item["name"] == name).unwrap();
        let at = |field: &str| Timestamp::parse(volume[field].as_str().unwrap()).unwrap().micros();
        let kept = at("expires_at") - at("created_at");
        let expected = hours * 3_600_000_000;
        assert!((kept - expected).abs() < 60_000_000, "{volume}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_may_not_complain_fails_by_what_it_writes_to_standard_error() {
    let node = Node::with(Script::rules(vec![Rule::always(Reply::text("done"))])).start().await;
    let validators = |name: &str, more: &str, program: &str| {
        let rule = format!("{{type: exit_code, command: [python3, -c, \"{program}\"]{more}}}");
        worker(name, &format!("  execution:\n    mode: one-shot\n    validation: [{rule}]\n"))
    };
    let complains = "import sys; print('odd', file=sys.stderr)";
    follow(&node, &validators("lenient", "", complains)).ok();
    follow(&node, &validators("silent", ", allow_stderr: false", "print('fine')")).ok();
    follow(&node, &validators("strict", ", allow_stderr: false", complains)).expect_code(6);
    let status = node.status(&newest_execution(&node));
    let reasoning = status["iterations"][0]["validation"][0]["reasoning"].as_str().unwrap();
    assert!(reasoning.contains("standard error") && reasoning.contains("odd"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_written_as_the_configuration_says() {
    let config = "  observability: {logging: {level: debug, format: json}}\n  network: {grpc_port: 50051}\n";
    let node =
        Node::with(Script::rules(vec![Rule::always(Reply::text("done"))])).config(config).start().await;
    let log = node.daemon_log();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{log}"))).collect();
    assert!(lines.iter().any(|line| line["fields"]["message"] == "ready"), "{log}");
    assert!(log.contains("spec.network.grpc_port"), "what is not in force is told: {log}");
}
