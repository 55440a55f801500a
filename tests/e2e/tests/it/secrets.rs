//! Secrets: kept sealed, handed to providers by reference, and never shown again.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use aegis_e2e::{Node, Output};
use aegis_testkit::scripted_model::{Reply, Script};
use serde_json::json;

use crate::manifests::worker;
use crate::observe::follow;

const VALUE: &str = "sk-e2e-7f3a9c1d55e0";

/// Runs a command with this standard input.
pub(crate) fn fed(node: &Node, arguments: &[&str], input: &str) -> Output {
    let mut child = node
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    Output {
        code: output.status.code().unwrap_or(128),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Every file below `folder` that holds one of `needles`.
pub(crate) fn files_with(folder: &Path, needles: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(files_with(&path, needles));
        } else if kind.is_file() && entry.file_name() != "ballast" {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let holds = |needle: &String| bytes.windows(needle.len()).any(|part| part == needle.as_bytes());
            found.extend(
                needles
                    .iter()
                    .filter(|needle| holds(needle))
                    .map(|needle| format!("{}: {needle}", path.display())),
            );
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_key_is_set_used_rotated_and_deleted_without_being_shown() {
    let node = Node::with(Script::sequence(vec![Reply::text("done"); 4]))
        .models("      api_key: secret:models/scripted\n")
        .start()
        .await;
    let status = node.run(&["status"]).ok();
    assert!(status.stderr.contains("aegis secret set"), "{}", status.stderr);

    let set = fed(&node, &["secret", "set", "models/scripted"], &format!("{VALUE}\n")).ok();
    assert_eq!(set.stdout, "Set secret models/scripted (version 1)\n");
    assert!(!node.run(&["status"]).ok().stderr.contains("aegis secret set"));
    follow(&node, &worker("asker", "")).ok();
    let sent = |node: &Node| {
        let request = node.model.requests().last().cloned().expect("the model was asked");
        request.headers.get("authorization").cloned()
    };
    assert_eq!(sent(&node), Some(format!("Bearer {VALUE}")));

    let next = node.file("next", "sk-e2e-another-0001");
    node.run(&["secret", "rotate", "models/scripted", "--from-file", &next]).ok();
    std::fs::remove_file(&next).unwrap();
    follow(&node, &worker("asker", "")).ok();
    assert_eq!(sent(&node).as_deref(), Some("Bearer sk-e2e-another-0001"));

    let listed = node.run(&["secret", "list", "--output", "json"]).ok();
    assert_eq!(listed.json()["items"][0]["name"], "models/scripted");
    assert_eq!(listed.json()["items"][0]["version"], 2);
    node.run(&["secret", "delete", "models/scripted"]).ok();
    node.run(&["secret", "delete", "models/scripted"]).expect_code(1);
    fed(&node, &["secret", "rotate", "models/scripted"], "sk-e2e-yet-another").expect_code(1);

    let changes = node.run(&["audit", "query", "--kind", "secret.*", "--output", "json"]).ok();
    let kinds: Vec<String> = changes.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let body = &event["body"];
            format!(
                "{} {}",
                event["kind"].as_str().unwrap_or_default(),
                body["change"].as_str().unwrap_or("-")
            )
        })
        .collect();
    let expected = [
        "secret.changed set",
        "secret.used -",
        "secret.changed rotated",
        "secret.used -",
        "secret.changed deleted",
    ];
    assert_eq!(kinds, expected, "{}", changes.stdout);
    for said in [&changes.stdout, &listed.stdout, &set.stdout, &node.daemon_log()] {
        assert!(!said.contains(VALUE) && !said.contains("sk-e2e-another"), "{said}");
    }
    let kept = [VALUE.to_owned(), "sk-e2e-another-0001".to_owned()];
    assert_eq!(files_with(node.home(), &kept), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_refused_and_backups_hold_no_secrets() {
    let node = Node::with(Script::sequence(Vec::new())).start().await;
    // A value never stands on the command line.
    node.run(&["secret", "set", "name", VALUE]).expect_code(2);
    for (name, value) in [("../up", VALUE), ("short", "1234567"), ("empty", ""), ("mark", "x[secret:y]zzz")] {
        let refused = fed(&node, &["secret", "set", name], value).expect_code(2);
        assert!(value.len() < 9 || !refused.stderr.contains(value), "{}", refused.stderr);
    }
    fed(&node, &["secret", "set", "kept"], VALUE).ok();
    // The other tenant has secrets of its own.
    let other = node.run(&["secret", "list", "--tenant", "other", "--output", "json"]).ok();
    assert_eq!(other.json()["items"], json!([]));

    let copy = node.home().join("copy");
    let keys = node.home().join("copy-keys");
    let backup = ["journal", "backup", "--to", copy.to_str().unwrap(), "--keys", keys.to_str().unwrap()];
    node.run(&backup).ok();
    let names: Vec<String> = std::fs::read_dir(&copy)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!names.iter().any(|name| name.contains("secret")), "{names:?}");
    let sealing = std::fs::read(node.home().join("keys/secrets.key")).unwrap();
    for file in [keys.clone(), node.home().join("copy-keys.node-key")] {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(sealing.len()).any(|part| part == sealing), "{}", file.display());
    }
}
