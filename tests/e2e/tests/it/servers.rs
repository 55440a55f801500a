//! Tool servers behind a node: official ones in sandboxes of their own, governed like every tool.

use std::path::{Path, PathBuf};

use aegis_e2e::{Node, example};
use serde_json::{Value, json};

use crate::manifests::worker;
use crate::observe::{events, follow, tool_results};
use crate::tools::{calling, tool_lines};

/// Where `install_mcp_servers` of `xtask/install.sh` puts them.
fn installed() -> PathBuf {
    let folder = example::repository().join("target/mcp-servers");
    folder.canonicalize().unwrap_or(folder)
}

/// The package's program; a line that it is missing otherwise.
fn package(test: &str, name: &str) -> Option<PathBuf> {
    let file = installed().join("npm/node_modules/@modelcontextprotocol").join(name).join("dist/index.js");
    if !file.exists() || !Path::new("/usr/bin/node").exists() {
        eprintln!(
            "SKIP {test}: {name} is not installed (npm or /usr/bin/node is missing, or install_mcp_servers did not run)"
        );
        return None;
    }
    Some(file)
}

fn server(name: &str, file: &Path, arguments: &str, more: &str) -> String {
    let (folder, file) = (installed().join("npm"), file.display());
    format!(
        "    - name: {name}\n      executable: node\n      args: [{file}{arguments}]\n      folders: [{}]\n{more}",
        folder.display()
    )
}

/// A context that permits the tools of these patterns, paths below the workspace only.
fn context(patterns: &[&str]) -> String {
    let capabilities: String = patterns
        .iter()
        .map(|pattern| format!("        - {{tool_pattern: \"{pattern}\", path_allowlist: [/workspace]}}\n"))
        .collect();
    format!("  security_contexts:\n    - name: served\n      capabilities:\n{capabilities}")
}

fn agent(tools: &str) -> String {
    let manifest = worker("served", "  security_context: served\n");
    let own = manifest.lines().find(|line| line.starts_with("  tools:")).expect("the worker has tools");
    manifest.replace(own, &format!("  tools: {tools}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_calls_tools_of_official_servers() {
    let test = "an_agent_calls_tools_of_official_servers";
    let (Some(everything), Some(memory)) =
        (package(test, "server-everything"), package(test, "server-memory"))
    else {
        return;
    };
    let config = format!(
        "  mcp_servers:\n{}{}{}",
        server("everything", &everything, ", stdio", ""),
        server("memory", &memory, "", "      env: {MEMORY_FILE_PATH: /tmp/memory.json}\n"),
        context(&["echo", "get-sum", "create_entities", "read_graph"]),
    );
    let calls = vec![
        ("echo", json!({"message": "hello"})),
        ("get-sum", json!({"a": 2, "b": 3})),
        (
            "create_entities",
            json!({"entities": [{"name": "aegis", "entityType": "shield", "observations": ["round"]}]}),
        ),
        ("read_graph", json!({})),
        ("get-tiny-image", json!({})),
        ("get-sum", json!({"a": "two"})),
    ];
    let node = Node::with(calling(calls)).config(&config).start().await;
    let tools = "[{name: echo, server: everything}, get-sum, create_entities, {name: read_graph, server: memory}, get-tiny-image]";
    let run = follow(&node, &agent(tools)).ok();
    let results = tool_results(&node);
    assert_eq!(results[0], "Echo: hello", "{results:#?}");
    assert!(results[1].contains("The sum of 2 and 3 is 5"), "{}", results[1]);
    assert!(results[3].contains("round"), "{}", results[3]);
    let lines = tool_lines(&run.stdout);
    assert!(lines[4].ends_with("DENIED (TOOL_NOT_ALLOWED)"), "no capability permits it: {lines:?}");
    assert!(lines[5].ends_with("DENIED (INVALID_ARGUMENTS)"), "{lines:?}");

    let servers = node.run(&["server", "list", "--output", "json"]).ok().json();
    assert_eq!(servers["items"][0]["state"], "ready", "{servers}");
    let shown = node.run(&["server", "show", "everything"]).ok();
    assert!(shown.stdout.contains("  echo\n"), "{}", shown.stdout);
    let logs = node.run(&["server", "logs", "everything"]).ok();
    assert!(logs.stdout.contains("Starting default (STDIO) server"), "{}", logs.stdout);
    let tools = node.run(&["tool", "list", "--output", "json"]).ok().json();
    let named = |name: &str| {
        tools["items"].as_array().into_iter().flatten().find(|tool| tool["name"] == name).cloned()
    };
    assert_eq!(named("echo").unwrap()["server"], "everything");
    assert_eq!(named("cmd.run").unwrap()["server"], Value::Null);
    assert_eq!(events(&node, "server.accepted").len(), 2);
    assert_eq!(events(&node, "server.started").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_of_a_served_call_is_checked() {
    let Some(file) = package("every_path_of_a_served_call_is_checked", "server-filesystem") else { return };
    let config = format!(
        "  mcp_servers:\n{}{}",
        server("files", &file, ", /workspace, /usr", ""),
        context(&["write_file", "read_text_file", "read_multiple_files"]),
    );
    let calls = vec![
        ("write_file", json!({"path": "/workspace/a.txt", "content": "one"})),
        ("read_text_file", json!({"path": "/usr/lib/os-release"})),
        ("read_multiple_files", json!({"paths": ["/workspace/a.txt", "/usr/lib/os-release"]})),
        ("read_multiple_files", json!({"paths": ["/workspace/a.txt", "/workspace/../usr/lib/os-release"]})),
        ("read_multiple_files", json!({"paths": ["/workspace/a.txt"]})),
    ];
    let node = Node::with(calling(calls)).config(&config).start().await;
    let run = follow(&node, &agent("[write_file, read_text_file, read_multiple_files]")).ok();
    let lines = tool_lines(&run.stdout);
    for denied in [1, 2, 3] {
        assert!(lines[denied].ends_with("DENIED (PATH_NOT_ALLOWED)"), "{lines:?}");
    }
    let results = tool_results(&node);
    assert!(results[4].contains("one"), "{results:#?}");
    assert!(!results.iter().any(|result| result.contains("VERSION_ID")), "{results:#?}");
}
