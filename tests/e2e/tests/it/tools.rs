//! Tools through a real run, and the rules that hold for them.

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script, Turn};
use serde_json::{Value, json};

use crate::manifests::worker;
use crate::observe::{events, follow, told, tool_results};

/// A model that makes these calls one turn after another, then answers.
pub(crate) fn calling(calls: Vec<(&'static str, Value)>) -> Script {
    let count = calls.len();
    let mut rules: Vec<Rule> = calls
        .into_iter()
        .enumerate()
        .map(|(done, (tool, arguments))| Rule::always(Reply::call(tool, &arguments)).when_tool_results(done))
        .collect();
    rules.push(Rule::always(Reply::text("done")).when_tool_results(count));
    Script::rules(rules)
}

/// The lines that tell of tools.
pub(crate) fn tool_lines(follow: &str) -> Vec<&str> {
    told(follow).into_iter().filter_map(|line| line.strip_prefix("Tool: ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_file_tools_work_on_what_commands_and_people_see() {
    let calls = vec![
        ("fs.create_dir", json!({"path": "/workspace/src/deep"})),
        ("fs.write", json!({"path": "/workspace/src/a.txt", "content": "one\ntwo\nthree\n"})),
        ("fs.write", json!({"path": "src/deep/b.txt", "content": "nothing\n"})),
        ("fs.edit", json!({"path": "/workspace/src/a.txt", "old_string": "two", "new_string": "zwei"})),
        (
            "fs.multi_edit",
            json!({"path": "/workspace/src/a.txt", "edits": [
                {"old_string": "one", "new_string": "eins"}, {"old_string": "three", "new_string": "drei"}]}),
        ),
        ("fs.read", json!({"path": "/workspace/src/a.txt", "offset": 2, "limit": 1})),
        ("fs.list", json!({"path": "/workspace", "recursive": true})),
        ("fs.grep", json!({"pattern": "^z.ei$", "glob": "*.txt"})),
        ("fs.glob", json!({"pattern": "**/*.txt"})),
        ("fs.delete", json!({"path": "/workspace/src/deep", "recursive": true})),
        ("cmd.run", json!({"command": "cat", "args": ["src/a.txt"]})),
        ("cmd.run", json!({"command": "sh", "args": ["-c", "ls src && echo from-inside > src/c.txt"]})),
        ("fs.read", json!({"path": "/workspace/src/c.txt"})),
    ];
    let node = Node::with(calling(calls)).start().await;
    let run = follow(&node, &worker("filer", "")).ok();
    let results = tool_results(&node);
    assert_eq!(results.len(), 13, "{results:#?}");
    let expected = [
        (5, "zwei\n"),
        (6, "src/deep/b.txt (8 bytes)"),
        (7, "/workspace/src/a.txt:2:zwei"),
        (8, "src/deep/b.txt"),
        (10, "eins\nzwei\ndrei"),
        (11, "a.txt"),
        (12, "from-inside"),
    ];
    for (index, text) in expected {
        assert!(results[index].contains(text), "result {index}: {}", results[index]);
    }
    assert!(!results[11].contains("deep"), "deleted is deleted for commands too: {}", results[11]);
    let lines = tool_lines(&run.stdout);
    assert_eq!(lines[1], "fs.write /workspace/src/a.txt (14 bytes)");
    assert_eq!(lines[10], "cmd.run cat src/a.txt");
    assert!(!run.stdout.contains("DENIED"), "{}", run.stdout);

    let volumes = node.run(&["volume", "list", "--output", "json"]).ok().json();
    let volume = volumes["items"][0]["id"].as_str().unwrap().to_owned();
    let files = node.run(&["volume", "files", &volume, "--output", "json"]).ok().json();
    let files = files["items"].to_string();
    assert!(
        files.contains("src/a.txt") && files.contains("src/c.txt") && !files.contains("b.txt"),
        "{files}"
    );
    assert_eq!(node.run(&["volume", "get", &volume, "src/a.txt"]).ok().stdout, "eins\nzwei\ndrei\n");
    assert_eq!(node.run(&["volume", "get", &volume, "src/c.txt"]).ok().stdout, "from-inside\n");
    node.run(&["volume", "get", &volume, "../../token"]).expect_code(3);
    let shown = node.run(&["volume", "show", &volume]).ok();
    assert!(shown.stdout.contains("ephemeral"), "{}", shown.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_outside_the_rules_are_denied_to_tools_and_commands() {
    let calls = vec![
        ("fs.write", json!({"path": "/workspace/output/x.txt", "content": "allowed"})),
        ("fs.write", json!({"path": "/workspace/other.txt", "content": "not"})),
        ("fs.read", json!({"path": "/etc/passwd"})),
        ("fs.read", json!({"path": "/workspace/../etc/passwd"})),
        ("cmd.run", json!({"command": "sh", "args": ["-c", "echo x > /workspace/other.txt"]})),
        ("cmd.run", json!({"command": "sh", "args": ["-c", "echo y > /workspace/output/y.txt"]})),
    ];
    let node = Node::with(calling(calls)).start().await;
    let manifest = worker("narrow", "").replace("write: [/workspace]", "write: [/workspace/output]");
    let run = follow(&node, &manifest).ok();
    let lines = tool_lines(&run.stdout);
    assert_eq!(lines[0], "fs.write /workspace/output/x.txt (7 bytes)");
    assert_eq!(lines[1], "fs.write /workspace/other.txt DENIED (PATH_NOT_ALLOWED)");
    assert_eq!(lines[2], "fs.read /etc/passwd DENIED (PATH_NOT_ALLOWED)");
    assert!(lines[3].ends_with("DENIED (PATH_NOT_ALLOWED)"), "{}", lines[3]);
    let results = tool_results(&node);
    assert!(results[1].contains("spec.security.filesystem"), "the remedy is told: {}", results[1]);
    assert!(!results[4].starts_with("exit_code: 0"), "{}", results[4]);
    assert!(results[5].starts_with("exit_code: 0"), "{}", results[5]);
    assert_eq!(events(&node, "action.denied").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_security_context_holds() {
    let context = "  security_contexts:
    - name: strict
      capabilities:
        - {tool_pattern: fs.write, path_allowlist: [/workspace/reports]}
        - {tool_pattern: fs.read, max_response_size: 64}
        - {tool_pattern: fs.list, rate_limit: {calls: 2, per_seconds: 3600}}
        - {tool_pattern: cmd.run, command_allowlist: [python3, git], subcommand_allowlist: {git: [status], python3: [/workspace/reports]}}
      deny_list: [fs.delete]";
    let long = "x".repeat(65);
    let calls = vec![
        ("fs.write", json!({"path": "/workspace/reports/a.py", "content": "print('ran')"})),
        ("fs.write", json!({"path": "/workspace/elsewhere.txt", "content": "x"})),
        ("fs.delete", json!({"path": "/workspace/reports/a.py"})),
        ("fs.grep", json!({"pattern": "x"})),
        ("cmd.run", json!({"command": "python3", "args": ["/workspace/reports/a.py"]})),
        ("cmd.run", json!({"command": "python3", "args": ["-c", "print(1)"]})),
        ("cmd.run", json!({"command": "git", "args": ["push"]})),
        ("cmd.run", json!({"command": "sh", "args": ["-c", "git status"]})),
        ("fs.read", json!({"path": "/workspace/reports/a.py"})),
        ("fs.write", json!({"path": "/workspace/reports/long.txt", "content": long})),
        ("fs.read", json!({"path": "/workspace/reports/long.txt"})),
        ("fs.list", json!({})),
        ("fs.list", json!({})),
        ("fs.list", json!({})),
    ];
    let node = Node::with(calling(calls)).config(context).start().await;
    let run = follow(&node, &worker("strict", "  security_context: strict\n")).ok();
    let lines = tool_lines(&run.stdout);
    let denied =
        |line: &str| line.rsplit_once("DENIED ").map(|(_, code)| code.trim_matches(['(', ')']).to_owned());
    let codes: Vec<Option<String>> = lines.iter().map(|line| denied(line)).collect();
    let codes: Vec<Option<&str>> = codes.iter().map(Option::as_deref).collect();
    assert_eq!(
        codes,
        [
            None,
            Some("PATH_NOT_ALLOWED"),
            Some("TOOL_EXPLICITLY_DENIED"),
            Some("TOOL_NOT_ALLOWED"),
            None,
            Some("COMMAND_NOT_ALLOWED"),
            Some("COMMAND_NOT_ALLOWED"),
            Some("COMMAND_NOT_ALLOWED"),
            None,
            None,
            Some("OUTPUT_SIZE_EXCEEDED"),
            None,
            None,
            Some("RATE_LIMIT_EXCEEDED"),
        ],
        "{lines:#?}"
    );
    let results = tool_results(&node);
    assert!(results[4].contains("ran"), "{}", results[4]);
    assert!(!results[10].contains("xxx"), "what is withheld is not told: {}", results[10]);
    for (index, result) in results.iter().enumerate().filter(|(index, _)| codes[*index].is_some()) {
        assert!(result.contains("context:strict"), "denial {index} does not name its rule: {result}");
    }
    let unknown = node.file("unknown.yaml", &worker("other", "  security_context: nowhere\n"));
    let refused = node.run(&["agent", "deploy", &unknown]).expect_code(2);
    assert!(refused.stderr.contains("`nowhere`"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_tools_or_volume_can_do_nothing() {
    let node = Node::with(calling(vec![
        ("fs.read", json!({"path": "/workspace/a"})),
        ("cmd.run", json!({"command": "id"})),
    ]))
    .start()
    .await;
    let bare = "apiVersion: 100monkeys.ai/v1
kind: Agent
metadata: {name: bare, version: \"1.0.0\"}
spec:
  runtime: {language: python, isolation: process}
  task: {instruction: Try.}
";
    let run = follow(&node, bare).ok();
    assert_eq!(
        tool_lines(&run.stdout),
        ["fs.read /workspace/a DENIED (TOOL_NOT_ALLOWED)", "cmd.run id DENIED (TOOL_NOT_ALLOWED)"]
    );
    assert_eq!(node.model.requests()[0].body.get("tools"), None, "nothing is offered");
    node.model.set_script(calling(vec![("fs.write", json!({"path": "/workspace/a", "content": "x"}))]));
    let run = follow(&node, &bare.replace("spec:\n", "spec:\n  tools: [fs.write]\n")).ok();
    assert_eq!(tool_lines(&run.stdout), ["fs.write /workspace/a DENIED (PATH_NOT_ALLOWED)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_only_shows_what_went_wrong() {
    let turn = Turn::call("fs.read", &json!({"path": "/etc/shadow"}))
        .and_call("fs.list", &json!({}))
        .and_call("cmd.run", &json!({"command": "false"}));
    let script = Script::rules(vec![
        Rule::always(Reply::Turn(turn)).when_tool_results(0),
        Rule::always(Reply::text("done")),
    ]);
    let node = Node::with(script).start().await;
    follow(&node, &worker("reader", "")).ok();
    let execution = crate::observe::newest_execution(&node);
    let errors = node.run(&["task", "logs", &execution, "--errors-only"]).ok();
    assert_eq!(
        tool_lines(&errors.stdout),
        ["fs.read /etc/shadow DENIED (PATH_NOT_ALLOWED)", "cmd.run false"]
    );
    let verbose = node.run(&["task", "logs", &execution, "--verbose"]).ok();
    assert!(verbose.stdout.contains("refused by manifest:security.filesystem"), "{}", verbose.stdout);
    assert!(verbose.stdout.contains("exit code 1"), "{}", verbose.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_which_nothing_is_permitted_is_there_and_empty() {
    let script = Script::new(|seen| match seen.tool_results() {
        0 => Reply::call("cmd.run", &json!({"command": "ls", "args": ["-a", "/workspace"]})),
        1 => Reply::call("fs.write", &json!({"path": "/workspace/a", "content": "x"})),
        _ => Reply::text("done"),
    });
    let node = Node::with(script).start().await;
    let manifest = worker("shut-out", "")
        .replace("filesystem: {read: [/workspace], write: [/workspace]}", "filesystem: {}");
    node.deploy(&manifest);
    let run = node.run(&["task", "execute", "shut-out", "--input", "{}", "--follow"]).ok();
    assert!(run.stdout.contains("Tool: cmd.run ls -a /workspace"), "{}", run.stdout);
    let listed = &tool_results(&node)[0];
    let names: Vec<&str> =
        listed.lines().filter(|line| line.starts_with('.') || line.contains('/')).collect();
    assert!(listed.contains("exit_code: 0") && names == [".", ".."], "{listed}");
    assert!(run.stdout.contains("DENIED (PATH_NOT_ALLOWED)"), "{}", run.stdout);
}
