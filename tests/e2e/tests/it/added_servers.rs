//! Tool servers that a person adds to a running node.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aegis_e2e::Node;
use serde_json::{Value, json};

use crate::door::{make_key, send};
use crate::observe::{events, follow, tool_results, until};
use crate::restart::hang_up;
use crate::secrets::fed;
use crate::servers::{OWN, agent, context};
use crate::tools::{calling, tool_lines};

fn program() -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server.py"), OWN).unwrap();
    std::fs::write(folder.path().join("description.txt"), "Looks around").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (path, file) =
        (folder.path().display().to_string(), folder.path().join("server.py").display().to_string());
    (folder, path, file)
}

fn names(node: &Node) -> Vec<String> {
    let listed = node.run(&["server", "list", "--output", "json"]).ok().json();
    let items = listed["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Processes whose command line names the file.
fn running(file: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let command = |path: &Path| std::fs::read(path.join("cmdline")).unwrap_or_default();
    let named = |bytes: &[u8]| bytes.windows(file.len()).any(|part| part == file.as_bytes());
    processes.filter(|entry| named(&command(&entry.path()))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_added_to_a_running_node_outlives_a_kill_and_is_removed() {
    let (folder, path, file) = program();
    let node = Node::with(calling(vec![("look", json!({}))])).config(&context(&["look"], "")).start();
    let mut node = node.await;
    fed(&node, &["secret", "set", "own-key"], "its-credential-4711").ok();
    let words = ["server", "add", "own", "--env", "SERVER_KEY=secret:own-key", "--folder", &path];
    let add = [&words[..], &["--", "python3", &file]].concat();
    let told = node.run(&add).ok().stdout;
    assert!(told.contains("Added server own (ready, 1 tools)"), "{told}");

    let run = follow(&node, &agent("[look]")).ok();
    assert!(!run.stdout.contains("DENIED"), "{}", run.stdout);
    let seen: Value = serde_json::from_str(&tool_results(&node)[0]).unwrap();
    assert_eq!(seen["env"]["SERVER_KEY"], "[secret:own-key]");
    let shown = node.run(&["server", "show", "own", "--output", "json"]).ok().json();
    assert_eq!(shown["added"], true, "{shown}");
    let kept = node.home().join("servers/own.yaml");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);

    // The same again is no change; another under its name is refused.
    node.run(&add).ok();
    let other = [&words[..], &["--", "python3", "/usr/bin/other"]].concat();
    node.run(&other).expect_code(4);
    let added = events(&node, "server.added");
    assert_eq!(added.len(), 1, "{added:?}");
    assert!(added[0].to_string().contains("local"), "a person is on record: {added:?}");
    assert_eq!(added[0]["body"]["digest"].as_str().unwrap().len(), 64);

    node.kill_daemon();
    node.start_daemon();
    let run = follow(&node, &agent("[look]")).ok();
    assert!(!run.stdout.contains("DENIED"), "{}", run.stdout);
    // It is held like one of the configuration when it says something else of itself.
    std::fs::write(folder.path().join("description.txt"), "Looks around, and sends it away").unwrap();
    node.kill_daemon();
    node.start_daemon();
    until("it is held", || {
        node.run(&["server", "show", "own", "--output", "json"]).ok().json()["held"] == true
    });
    let run = follow(&node, &agent("[look]"));
    assert!(tool_lines(&run.stdout)[0].ends_with("look DENIED (APPROVAL_REQUIRED)"), "{}", run.stdout);

    assert!(running(&file) > 0);
    node.run(&["server", "remove", "own"]).ok();
    assert_eq!(running(&file), 0, "its process is ended");
    assert_eq!(names(&node), Vec::<String>::new());
    assert!(!kept.exists());
    assert_eq!(events(&node, "server.removed").len(), 1);
    node.run(&["server", "remove", "own"]).expect_code(1);
    node.kill_daemon();
    node.start_daemon();
    assert_eq!(names(&node), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_added_by_a_person_and_not_by_whoever_asks() {
    let (_folder, path, file) = program();
    let config = format!(
        "  mcp_servers:\n    - {{name: fixed, executable: python3, args: [{file}], folders: [{path}]}}\n{}",
        context(&["look"], "")
    );
    let node = Node::with(calling(vec![("look", json!({}))])).config(&config).start().await;
    node.deploy(&agent("[look]"));
    let section =
        json!({"name": "sly", "executable": "python3", "args": [file.as_str()], "folders": [path.as_str()]});
    let section = section.to_string();
    for (role, of) in [("viewer", None), ("operator", None), ("agent", Some("served"))] {
        let (_, key) = make_key(&node, role, role, of);
        let (code, answer) = send(&node, ("POST", "/v1/servers"), &key, section.as_bytes());
        assert_eq!(code, 403, "{role}: {answer}");
        let (code, answer) = send(&node, ("DELETE", "/v1/servers/fixed"), &key, b"");
        assert_eq!(code, 403, "{role}: {answer}");
    }
    // What a person gives is held to the rules of the configuration, each problem at its place.
    for (yaml, place) in [
        (format!("name: sly\nexecutible: {file}\n"), ":2:1"),
        ("name: sly\nexecutable: cat\nfolders: [/proc]\n".to_owned(), ":3:10"),
        (format!("name: sly\nexecutable: cat\nfolders: [{}]\n", node.home().display()), ":3:10"),
        ("name: sly\nexecutable: cat\nenv: {KEY: \"env:AEGIS_SECRET_KEY\"}\n".to_owned(), ":3:12"),
    ] {
        let section = node.file("sly.yaml", &yaml);
        let refused = node.run(&["server", "add", "-f", &section]).expect_code(2);
        assert!(refused.stderr.contains(&format!("sly.yaml{place}")), "{}", refused.stderr);
    }
    let refused = node.run(&["server", "add", "fixed", "--url", "https://mcp.example/mcp"]).expect_code(4);
    assert!(refused.stderr.contains("configuration has a server `fixed`"), "{}", refused.stderr);
    node.run(&["server", "remove", "fixed"]).expect_code(4);
    node.run(&["server", "remove", "../token"]).expect_code(1);
    assert_eq!(names(&node), ["fixed"]);
    assert_eq!(events(&node, "server.added").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_and_ends_servers_and_none_stands_twice() {
    let (_folder, path, file) = program();
    let node = Node::with(calling(vec![("look", json!({}))])).config(&context(&["look"], "")).start().await;
    let config = node.home().join("config.yaml");
    let without = std::fs::read_to_string(&config).unwrap();
    let named = |name: &str| {
        format!(
            "{without}  mcp_servers:\n    - {{name: {name}, executable: python3, args: [{file}], folders: [{path}]}}\n"
        )
    };
    std::fs::write(&config, named("own")).unwrap();
    hang_up(&node);
    until("it is taken", || names(&node) == ["own"]);
    follow(&node, &agent("[look]")).ok();
    assert!(running(&file) > 0);
    std::fs::write(&config, &without).unwrap();
    hang_up(&node);
    until("it is gone", || names(&node).is_empty() && running(&file) == 0);

    node.run(&["server", "add", "own", "--folder", &path, "--", "python3", &file]).ok();
    std::fs::write(&config, named("own")).unwrap();
    hang_up(&node);
    until("it is refused", || node.daemon_log().contains("stands in the configuration and was added too"));
    let shown = node.run(&["server", "show", "own", "--output", "json"]).ok().json();
    assert_eq!(shown["added"], true, "what was there goes on: {shown}");
}
