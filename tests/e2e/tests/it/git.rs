//! Repositories outside: cloned and pushed to with a credential that no process is given.

mod attacks;
mod server;

use aegis_e2e::Node;
use serde_json::{Value, json};

use crate::manifests::worker;
use crate::observe::{can_run, events, follow, newest_execution, tool_results, until};
use crate::redaction::record;
use crate::secrets::{fed, files_with};
use crate::tools::calling;
use server::{GitServer, PASSWORD, authority};

/// An agent with the tools of Git beside the usual ones.
fn pusher() -> String {
    worker("pusher", "").replace("cmd.run]", "cmd.run, git.clone, git.push]").replace("16Mi", "64Mi")
}

/// Configuration with these repositories, for agents that may use all of them.
fn config(remotes: &str) -> String {
    format!(
        "  security_contexts:
    - {{name: default, capabilities: [{{tool_pattern: \"fs.*\"}}, {{tool_pattern: cmd.run}}, {{tool_pattern: \"git.*\"}}]}}
  git:
    remotes:
{remotes}"
    )
}

/// A node that knows these repositories, and whose model makes these calls.
async fn node(remotes: &str, calls: Vec<(&'static str, Value)>) -> Node {
    let node =
        Node::with(calling(calls)).config(&config(remotes)).env("SSL_CERT_FILE", authority()).start().await;
    fed(&node, &["secret", "set", "git/site"], PASSWORD).ok();
    node
}

/// A shell command of the agent's own, in its clone.
fn shell(script: &str) -> (&'static str, Value) {
    let script = format!("cd /workspace/site && {script}");
    ("cmd.run", json!({"command": "sh", "args": ["-c", script], "timeout_secs": 60}))
}

const COMMIT: &str = "git -c user.name=a -c user.email=a@example.org commit -q";

fn clone() -> (&'static str, Value) {
    ("git.clone", json!({"repository": "site", "path": "/workspace/site"}))
}

fn push(branch: &str) -> (&'static str, Value) {
    ("git.push", json!({"repository": "site", "path": "/workspace/site", "branch": branch}))
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_cloned_changed_and_pushed_with_a_credential_nobody_is_given() {
    let test = "work_is_cloned_changed_and_pushed_with_a_credential_nobody_is_given";
    let Some(server) = GitServer::start(test) else { return };
    let look = "env; cat .git/config; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; \
                grep -r 'canar[y]' /workspace /run /tmp /etc 2>/dev/null; true";
    let calls = vec![
        clone(),
        shell(&format!(
            "git checkout -q -b agent/draft && echo Two. > pages/two.md && git add . && {COMMIT} -m Two"
        )),
        push("agent/draft"),
        push("agent/draft"),
        shell(&format!(
            "echo More. >> pages/two.md && {COMMIT} -a -m More && git gc -q && git rev-parse HEAD"
        )),
        push("agent/draft"),
        ("git.clone", json!({"repository": "site", "path": "/workspace/old", "ref": "refs/tags/v1"})),
        shell(look),
    ];
    let mut node = node(&server.remote("site", "git/site.git", ""), calls).await;
    if !can_run(&node, &pusher(), test) {
        return;
    }
    follow(&node, &pusher()).ok();
    let said = tool_results(&node);
    assert!(said[0].contains("cloned branch `main`") && said[0].contains("2 files"), "{said:#?}");
    assert!(said[2].contains("pushed") && said[2].contains("it is new there"), "{said:#?}");
    assert!(said[3].contains("already"), "{said:#?}");
    assert!(said[5].contains("pushed") && said[5].contains("it was at"), "{said:#?}");
    assert!(said[6].contains("cloned `refs/tags/v1`"), "{said:#?}");
    let commit = server.names("refs/heads/agent/draft").expect("the branch is there");
    assert!(said[4].contains(&commit) && said[5].contains(&commit), "{commit}: {said:#?}");
    assert_eq!(server.pushes(), 2);
    assert!(server.requests().iter().all(|request| request["signed_in"] == true), "{:?}", server.requests());

    // The credential's use and what is sent are on record before it is sent.
    let bound = events(&node, "push.bound");
    assert_eq!(bound.len(), 2, "{bound:#?}");
    assert_eq!(bound[1]["body"]["commit"], json!(commit));
    let used = events(&node, "secret.used");
    let of = |tool: &str| used.iter().filter(|event| event["body"]["by"]["tool"] == tool).count();
    assert_eq!((of("git.clone"), of("git.push")), (2, 3), "{used:#?}");
    assert!(used.iter().all(|event| event["body"]["action"].is_string()), "{used:#?}");
    let execution = newest_execution(&node);
    let policy = node.run(&["task", "logs", &execution]);
    assert!(!policy.stdout.contains(PASSWORD) && !policy.stderr.contains(PASSWORD));

    let looked = &said[7];
    for text in [&said.join("\n"), &node.daemon_log(), looked] {
        assert!(!text.contains(PASSWORD) && !text.contains("canary"), "{text}");
    }
    let needles = [PASSWORD.to_owned()];
    assert_eq!(files_with(node.home(), &needles), Vec::<String>::new());
    node.stop_daemon();
    let texts = record(node.home(), |blob| blob).await;
    assert!(texts.iter().all(|text| !text.contains(PASSWORD)), "in the record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_a_crash_cut_off_is_not_sent_again() {
    let test = "a_push_that_a_crash_cut_off_is_not_sent_again";
    let Some(server) = GitServer::start(test) else { return };
    let work =
        format!("git checkout -q -b agent/draft && echo Two. > two.md && git add . && {COMMIT} -m Two");
    let slow =
        ("git.push", json!({"repository": "slow", "path": "/workspace/site", "branch": "agent/draft"}));
    let remotes =
        [server.remote("site", "git/site.git", ""), server.remote("slow", "slow/site.git", "")].concat();
    let mut node = node(&remotes, vec![clone(), shell(&work), slow]).await;
    if !can_run(&node, &pusher(), test) {
        return;
    }
    let agent = node.deploy(&pusher());
    let execution = node.execute(&agent, "{}");
    until("the push is sent", || server.pushes() == 1);
    node.kill_daemon();
    node.start_daemon();
    let over = node.wait(&execution);
    assert_eq!(over["status"], "completed", "{over}");
    assert!(tool_results(&node)[2].contains("not known whether it took effect"), "{:?}", tool_results(&node));
    assert_eq!(server.pushes(), 1, "it was sent once");
    assert_eq!(events(&node, "push.bound").len(), 1);
    assert_eq!(events(&node, "action.unknown").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_come_and_go_with_the_configuration_and_a_missing_secret_is_told() {
    let test = "repositories_come_and_go_with_the_configuration_and_a_missing_secret_is_told";
    let Some(server) = GitServer::start(test) else { return };
    let remote = server.remote("site", "git/site.git", "").replace("git/site\"", "git/none\"");
    let unknown = ("git.clone", json!({"repository": "https://127.0.0.1/x", "path": "/workspace/x"}));
    let node = node(&remote, vec![clone(), unknown]).await;
    let status = node.run(&["status"]).ok();
    assert!(
        status.stderr.contains("Git repository `site`") && status.stderr.contains("aegis secret set"),
        "{}",
        status.stderr
    );
    if !can_run(&node, &pusher(), test) {
        return;
    }
    follow(&node, &pusher()).ok();
    let said = tool_results(&node);
    assert!(said[0].contains("no secret under `secret:git/none`"), "{said:?}");
    assert!(said[1].contains("no repository is called") && said[1].contains("`site`"), "{said:?}");
    assert!(server.requests().is_empty());

    let explained = node.run(&[
        "policy",
        "explain",
        "pusher",
        "git.push",
        r#"{"repository":"site","path":"/etc","branch":"a"}"#,
    ]);
    assert!(format!("{}{}", explained.stdout, explained.stderr).contains("/etc"), "{}", explained.stdout);
    // What cannot be put into force is refused at start.
    let wrong = node.file(
        "wrong.yaml",
        &std::fs::read_to_string(node.home().join("config.yaml"))
            .unwrap()
            .replace("https://127", "http://127"),
    );
    let refused = node.run(&["config", "validate", &wrong]);
    assert!(refused.code != 0 && refused.stderr.contains("not a plain https one"), "{}", refused.stderr);
}
