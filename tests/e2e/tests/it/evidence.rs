//! What is done to the record after real runs is named, and what was exported can be checked without us.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::{Value, json};

use crate::manifests::worker;

/// Exit code of a record that contradicts what was signed.
const DAMAGED: i32 = 4;
/// Tables that are made from the events.
const PROJECTIONS: [&str; 6] = ["agents", "agent_versions", "executions", "iterations", "volumes", "costs"];

/// Ids of the blobs that events commit to.
const COMMITTED_BLOBS: &str = "SELECT hex(id) FROM blobs WHERE instr((SELECT group_concat(CAST(leaf AS TEXT)) FROM events), \
    lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-' || \
    substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)))";

/// A node that has run once, with tools, and is stopped.
async fn stopped() -> Node {
    let script = Script::rules(vec![
        Rule::always(Reply::call(
            "fs.write",
            &json!({"path": "/workspace/a", "content": "words of an agent"}),
        ))
        .when_tool_results(0),
        Rule::always(Reply::text("done")),
    ]);
    let mut node = Node::with(script).start().await;
    node.deploy(&worker("writer", ""));
    work(&node);
    assert_eq!(node.stop_daemon(), Some(0));
    node
}

fn work(node: &Node) -> String {
    let execution = node.execute("writer", "{}");
    assert_eq!(node.wait(&execution)["status"], "completed");
    execution
}

fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/evidence").join(name)
}

/// Changes a journal as its holder could, past every door.
fn harm(folder: &Path, statements: &[&str]) -> String {
    let output = Command::new("python3")
        .arg(beside("harm.py"))
        .arg(folder.join("journal.db"))
        .args(statements)
        .output()
        .expect("python3 runs");
    assert!(output.status.success(), "{statements:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A copy of a data folder, without what only takes room.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "ballast" {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What `audit verify` finds in `folder`, and its exit code.
fn verify(node: &Node, folder: &Path, more: &[&str]) -> (i32, Vec<Value>) {
    let folder = folder.display().to_string();
    let mut asked = vec!["audit", "verify", "--data", &folder, "--output", "json"];
    asked.extend(more);
    let said = node.run(&asked);
    (said.code, said.json()["damage"].as_array().expect("findings").clone())
}

/// A stopped node's record, harmed again and again.
struct Bench {
    node: Node,
    events: u64,
}

impl Bench {
    async fn new() -> Self {
        let node = stopped().await;
        assert_eq!(verify(&node, node.home(), &[]), (0, vec![]));
        let events = harm(node.home(), &["SELECT count(*) FROM events"]).trim().parse().unwrap();
        Self { node, events }
    }

    /// What is found after `statements` were done to a copy.
    fn after(&self, statements: &[&str]) -> Vec<Value> {
        let folder = tempfile::tempdir().unwrap();
        let copied = folder.path().join("home");
        copy(self.node.home(), &copied);
        harm(&copied, statements);
        let (code, found) = verify(&self.node, &copied, &[]);
        assert_eq!(code, DAMAGED, "{statements:?}: {found:?}");
        found
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_in_any_event_is_named() {
    let bench = Bench::new().await;
    assert!(bench.events > 15, "{} events", bench.events);
    for seq in 0..bench.events {
        let found =
            bench.after(&[&format!("UPDATE events SET leaf = flip(leaf, {}) WHERE seq = {seq}", seq * 37)]);
        assert!(found.contains(&json!({"damage": "event_changed", "seq": seq})), "{seq}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_query_column_is_named() {
    let bench = Bench::new().await;
    let sets = [
        ("stream", "stream = 'agent/x'"),
        ("stream_seq", "stream_seq = stream_seq + 1000"),
        ("tenant", "tenant = 'other'"),
        ("kind", "kind = 'agent.paused'"),
        ("at", "at = at + 1"),
        ("trace_id", "trace_id = flip(trace_id, 3)"),
    ];
    for (place, (column, set)) in (1..).zip(sets) {
        let seq = bench.events * place / 7;
        let found = bench.after(&[&format!("UPDATE events SET {set} WHERE seq = {seq}")]);
        let wanted = json!({"damage": "column", "seq": seq, "column": column});
        assert!(found.contains(&wanted), "{column} of {seq}: {found:?}");
    }
    let found = bench.after(&["UPDATE events SET hash = flip(hash, 5) WHERE seq = 3"]);
    assert!(found.contains(&json!({"damage": "event_changed", "seq": 3})), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_in_any_blob_and_a_missing_blob_are_named() {
    let bench = Bench::new().await;
    let ids = harm(bench.node.home(), &[COMMITTED_BLOBS]);
    let ids: Vec<&str> = ids.lines().collect();
    assert!(ids.len() > 5, "{} blobs", ids.len());
    let named = |found: &[Value], damage: &str, id: &str| {
        found.iter().any(|one| {
            one["damage"] == damage
                && one["id"].as_str().unwrap_or_default().replace('-', "").eq_ignore_ascii_case(id)
        })
    };
    for (place, id) in ids.iter().enumerate() {
        let set = format!("UPDATE blobs SET sealed = flip(sealed, {}) WHERE hex(id) = '{id}'", place * 11);
        let found = bench.after(&[&set]);
        assert!(named(&found, "blob_changed", id), "{id}: {found:?}");
    }
    let found = bench.after(&[&format!("DELETE FROM blobs WHERE hex(id) = '{}'", ids[0])]);
    assert!(named(&found, "blob_missing", ids[0]), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_a_swapped_and_a_replaced_event_are_named() {
    let bench = Bench::new().await;
    for seq in [0, 4, bench.events - 1] {
        let found = bench.after(&[&format!("DELETE FROM events WHERE seq = {seq}")]);
        let wanted = json!({"damage": "events_missing", "first": seq, "last": seq});
        assert!(found.contains(&wanted), "{seq}: {found:?}");
    }
    let found = bench.after(&[
        "UPDATE events SET seq = 100000 WHERE seq = 5",
        "UPDATE events SET seq = 5 WHERE seq = 9",
        "UPDATE events SET seq = 9 WHERE seq = 100000",
    ]);
    for (seq, holds) in [(5, 9), (9, 5)] {
        assert!(found.contains(&json!({"damage": "event_moved", "seq": seq, "holds": holds})), "{found:?}");
    }
    // Bytes and hash of another event, complete in themselves.
    let found = bench.after(&["UPDATE events SET leaf = (SELECT leaf FROM events WHERE seq = 8), \
                               hash = (SELECT hash FROM events WHERE seq = 8) WHERE seq = 7"]);
    assert!(found.iter().any(|one| one["seq"] == 7), "{found:?}");
    let found = bench.after(&[&format!("DELETE FROM events WHERE seq >= {}", bench.events - 4)]);
    assert!(
        found.iter().any(|one| one["damage"] == "tail_cut" && one["place"] == "file"),
        "a clumsy cut: {found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_tail_is_named_by_the_file_or_by_a_copy_of_it_and_a_restore_must_be_accepted() {
    let mut node = stopped().await;
    let folder = tempfile::tempdir().unwrap();
    let earlier = folder.path().join("earlier");
    copy(node.home(), &earlier);
    node.start_daemon();
    work(&node);
    assert_eq!(node.stop_daemon(), Some(0));
    let newest = folder.path().join("checkpoints");
    std::fs::copy(node.home().join("checkpoints"), &newest).unwrap();
    let newest = newest.display().to_string();

    // A perfect cut: database and file are those of an earlier day. Only a head kept elsewhere tells.
    assert_eq!(verify(&node, &earlier, &[]), (0, vec![]));
    let (code, found) = verify(&node, &earlier, &["--checkpoint", &newest]);
    assert_eq!(code, DAMAGED);
    assert!(found.iter().any(|one| one["damage"] == "tail_cut" && one["place"] == "copy"), "{found:?}");

    // The file was left as it was: it names the cut by itself.
    std::fs::copy(&newest, earlier.join("checkpoints")).unwrap();
    let (code, found) = verify(&node, &earlier, &[]);
    assert_eq!(code, DAMAGED);
    assert!(found.iter().any(|one| one["damage"] == "tail_cut" && one["place"] == "file"), "{found:?}");

    // That is also what a restored backup looks like: the daemon does not go on by itself.
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(node.home().join(name));
        if earlier.join(name).exists() {
            std::fs::copy(earlier.join(name), node.home().join(name)).unwrap();
        }
    }
    let refused = node.run(&["daemon", "start"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("--accept-restored"), "{}", refused.stderr);
    accept_restored(&mut node);
    let opened = node.run(&["audit", "query", "--kind", "log.opened", "--output", "json"]).ok().json();
    let epochs: Vec<_> =
        opened["items"].as_array().unwrap().iter().map(|event| &event["body"]["epoch"]).collect();
    assert_eq!(epochs, [1, 2], "the log says that it goes on from a former head");
    assert!(!opened["items"][1]["body"]["former_root"].is_null());
    work(&node);
    node.run(&["audit", "verify"]).ok();
    assert_eq!(node.stop_daemon(), Some(0));
    node.start_daemon();
    node.run(&["audit", "verify"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_on_where_its_keys_are_brought_and_it_is_accepted() {
    let mut node = stopped().await;
    node.start_daemon();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (backup, keys) = (path("backup"), path("keys"));
    let copied = node.run(&["journal", "backup", "--to", &backup, "--keys", &keys]).ok();
    assert!(copied.stdout.contains("keep the three apart"), "{}", copied.stdout);
    assert!(copied.stdout.contains("keys/log.key"), "what is not copied is named: {}", copied.stdout);
    for (name, mode) in
        [("backup", 0o700), ("backup/journal.db", 0o600), ("keys", 0o600), ("keys.node-key", 0o600)]
    {
        let found = std::fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "`{name}` has mode {found:o}");
    }
    work(&node);
    assert_eq!(node.stop_daemon(), Some(0));

    // Without its keys the copy says what was not checked.
    let public = node.home().join("keys/log.key");
    std::fs::create_dir_all(path("backup/keys")).unwrap();
    std::fs::copy(&public, path("backup/keys/log.key")).unwrap();
    let said = node.run(&["journal", "verify", "--data", &backup]).ok().stdout;
    assert!(said.contains("NOT CHECKED: ") && said.contains("keys.db"), "{said}");
    let said = node.run(&["audit", "verify", "--data", &backup, "--output", "json"]).ok().json();
    assert!(said["blobs_unchecked"].as_u64().unwrap() > 5 && said["blobs"] == 0, "{said}");
    assert!(said["unchecked"].as_str().unwrap().contains("keys.db"), "{said}");
    std::fs::copy(&keys, path("backup/keys.db")).unwrap();
    std::fs::copy(path("keys.node-key"), path("backup/keys/node.key")).unwrap();
    let said = node.run(&["audit", "verify", "--data", &backup, "--output", "json"]).ok().json();
    assert!(said["blobs_unchecked"] == 0 && said["blobs"].as_u64().unwrap() > 5, "{said}");
    assert!(said["unchecked"].is_null(), "{said}");

    // The data folder of another machine: nothing runs in it before somebody says that it may.
    for name in ["journal.db", "journal.db-wal", "journal.db-shm", "keys.db", "keys.db-wal", "keys.db-shm"] {
        let _ = std::fs::remove_file(node.home().join(name));
    }
    for name in ["archive", "keys"] {
        std::fs::remove_dir_all(node.home().join(name)).unwrap();
    }
    copy(Path::new(&backup), node.home());
    let refused = node.run(&["daemon", "start"]).expect_code(DAMAGED);
    assert!(refused.stderr.contains("--accept-restored"), "{}", refused.stderr);
    accept_restored(&mut node);
    let listed = node.run(&["task", "list", "--output", "json"]).ok().json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "what came after the backup is not in it");
    work(&node);
    let verified = node.run(&["audit", "verify"]).ok().stdout;
    assert!(verified.contains("whole") && !verified.contains("NOT CHECKED"), "{verified}");
}

/// Accepts the restored journal in a daemon of its own, then goes on in the node's.
pub(crate) fn accept_restored(node: &mut Node) {
    let mut daemon =
        node.command(&["daemon", "start", "--accept-restored"]).spawn().expect("the daemon starts");
    let begun = std::time::Instant::now();
    while !node.ready() {
        let ended = daemon.try_wait().expect("a process");
        assert!(ended.is_none() && begun.elapsed().as_secs() < 60, "{ended:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    node.run(&["daemon", "stop"]).ok();
    daemon.wait().expect("the daemon ends");
    node.start_daemon();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_and_a_proof_are_checked_by_a_program_that_is_not_us() {
    let mut node = stopped().await;
    node.start_daemon();
    let opened = node.run(&["audit", "query", "--kind", "log.opened", "--output", "json"]).ok().json();
    let key = opened["items"][0]["body"]["public_key"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for seq in [0, 7, 12] {
        let proof = node.run(&["audit", "prove", &seq.to_string()]).ok().stdout;
        std::fs::write(path("proof"), &proof).unwrap();
        assert_eq!(check("proof", &path("proof"), &key), Ok(format!("event {seq} is in the log")));
        let moved = proof.replacen(&format!("\"seq\": {seq}"), &format!("\"seq\": {}", seq + 1), 1);
        assert_ne!(moved, proof, "{proof}");
        std::fs::write(path("proof"), moved).unwrap();
        assert!(check("proof", &path("proof"), &key).is_err());
    }
    assert_eq!(node.stop_daemon(), Some(0));
    let export = path("export");
    node.run(&["audit", "export", "--to", &export.display().to_string()]).ok();
    let said = check("export", &export, &key).unwrap();
    assert!(said.ends_with("unaltered and in this order"), "{said}");
    let whole = std::fs::read_to_string(&export).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let harms = [
        ("a changed byte", whole.replacen("agent.deployed", "agent.deploxed", 1)),
        (
            "a missing event",
            lines
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != 5)
                .map(|(_, line)| format!("{line}\n"))
                .collect(),
        ),
        ("a missing last event", lines[..lines.len() - 1].iter().map(|line| format!("{line}\n")).collect()),
        ("an event twice", format!("{whole}{}\n", lines[lines.len() - 1])),
        ("swapped events", {
            let mut swapped = lines.clone();
            swapped.swap(4, 5);
            swapped.iter().map(|line| format!("{line}\n")).collect()
        }),
    ];
    for (harm, text) in harms {
        assert_ne!(text, whole, "{harm}");
        std::fs::write(path("harmed"), text).unwrap();
        assert!(check("export", &path("harmed"), &key).is_err(), "{harm}");
    }
    // Another key: this log was not signed by it.
    let foreign = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    assert!(check("export", &export, foreign).is_err());
}

/// The verdict of the independent program, up to its first detail.
fn check(what: &str, path: &Path, key: &str) -> Result<String, String> {
    let output = Command::new("python3")
        .arg(beside("check.py"))
        .arg(what)
        .arg(path)
        .arg(key)
        .output()
        .expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        Ok(said.split(" under a head").next().unwrap_or_default().trim_end_matches(',').to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn projections_are_made_anew_from_the_events_as_they_were() {
    let node = stopped().await;
    let all: Vec<String> = PROJECTIONS
        .iter()
        .map(|table| format!("SELECT '{table}', id, record FROM {table} ORDER BY id"))
        .collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let before = harm(node.home(), &all);
    assert!(
        before.contains("executions|") && before.contains("iterations|") && before.contains("costs|"),
        "{before}"
    );
    harm(
        node.home(),
        &[
            "UPDATE executions SET record = json_set(record, '$.status', 'failed')",
            "DELETE FROM costs",
            "INSERT INTO volumes (id, record) SELECT '00000000-0000-0000-0000-000000000001', record FROM volumes LIMIT 1",
        ],
    );
    let (code, found) = verify(&node, node.home(), &[]);
    assert_eq!(code, DAMAGED);
    for table in ["executions", "costs", "volumes"] {
        assert!(
            found.iter().any(|one| one["damage"] == "projection" && one["table"] == table),
            "{table}: {found:?}"
        );
    }
    node.run(&["journal", "rebuild"]).ok();
    assert_eq!(harm(node.home(), &all), before);
    assert_eq!(verify(&node, node.home(), &[]), (0, vec![]));
}
