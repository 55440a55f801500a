//! The daemon's own process and what it must not give away.

use std::path::Path;
use std::process::Command;

use aegis_e2e::Node;
use aegis_testkit::scripted_model::Script;
use serde_json::json;

use super::{puppet, python, run};
use crate::manifests::worker;

/// A user without rights, as on most machines.
const NOBODY: &str = "65534";

#[tokio::test(flavor = "multi_thread")]
async fn other_users_can_read_neither_the_daemon_nor_its_folder() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let node = Node::with(puppet()).start().await;
    node.deploy(&worker("worker", ""));
    run(&node, "worker", &python("print(1)"));
    let process = format!("/proc/{}", node.pid());
    // A process that cannot be dumped: its files in /proc belong to root, whoever runs it.
    for name in ["environ", "mem", "maps", "fd"] {
        assert_eq!(std::fs::metadata(format!("{process}/{name}")).unwrap().uid(), 0, "{name}");
    }
    if rustix::process::geteuid().is_root() {
        let program = "
import os, sys
process, home = sys.argv[1:]
for path in [process + '/environ', process + '/mem', process + '/maps', home + '/token', home + '/journal.db', home + '/keys.db',
        home + '/keys/log.key', home + '/keys/node.key', home + '/checkpoints', home + '/config.yaml',
        home + '/secrets.db', home + '/keys/secrets.key']:
    try:
        open(path, 'rb').read(1); print('OPEN', path)
    except OSError: print('closed')
for path in [process + '/fd', process + '/task', home, home + '/volumes', home + '/keys']:
    try:
        os.listdir(path + '/' if path != process + '/task' else process + '/fd'); print('OPEN', path)
    except OSError: print('closed')
";
        let tried = Command::new("setpriv")
            .args([
                "--reuid",
                NOBODY,
                "--regid",
                NOBODY,
                "--clear-groups",
                "/usr/bin/python3",
                "-c",
                program,
                &process,
            ])
            .arg(node.home())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&tried.stdout).into_owned();
        assert_eq!(said.lines().count(), 17, "{said} {}", String::from_utf8_lossy(&tried.stderr));
        assert!(!said.contains("OPEN"), "{said}");
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(node.home()), 0o700);
    for name in ["token", "journal.db", "keys.db", "checkpoints", "keys/log.key", "keys/node.key"] {
        assert_eq!(mode(&node.home().join(name)), 0o600, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_key_is_nowhere_but_at_the_provider() {
    const KEY: &str = "sk-canary-7f3a9b2c5d8e1f40";
    let log = tempfile::tempdir().unwrap();
    let heard = log.path().join("heard");
    let mut node = with_key(puppet(), &heard, KEY).await;
    node.deploy(&worker("worker", ""));
    let done = run(
        &node,
        "worker",
        &python("import os; print(dict(os.environ)); print(open('/proc/self/environ').read())"),
    );
    assert_eq!(done.status["status"], "completed");
    let requests = node.model.requests();
    let sent = requests.last().unwrap().headers.get("authorization").cloned();
    assert_eq!(sent, Some(format!("Bearer {KEY}")), "the provider was given it");
    // A model nobody has: the provider's refusal is told, without the key.
    let seen: String = [
        node.run(&["config", "show"]),
        node.run(&["config", "show", "--output", "json"]),
        node.run(&["status", "--output", "json"]),
        node.run(&["task", "status", &done.execution, "--output", "json"]),
        node.run(&["task", "logs", &done.execution, "--verbose"]),
        node.run(&["trace", "show", &done.execution]),
        node.run(&["audit", "query", "--limit", "500", "--output", "json"]),
    ]
    .map(|output| output.stdout + &output.stderr)
    .concat();
    assert!(!seen.contains(KEY) && !seen.contains(&node.token()), "no answer holds a secret");
    assert!(!node.daemon_log().contains(KEY) && !node.daemon_log().contains(&node.token()), "nor the log");
    // What is redacted leaves its mark, so that there is none says that nothing was there.
    let inside = done.results.join("");
    assert!(inside.contains("PATH"), "{inside}");
    for part in [KEY, "[secret:", "AEGIS_E2E_PROVIDER_KEY"] {
        assert!(!inside.contains(part), "nor the sandbox: {inside}");
    }
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        assert!(!line.contains(KEY) && !line.contains(&node.token()), "nor a command line: {line}");
    }
    let request = std::fs::read_to_string(&heard).unwrap();
    assert!(!request.is_empty() && !request.contains(KEY), "nor a request's body");
    let token = node.token();
    node.stop_daemon();
    let record = crate::redaction::record(node.home(), |blob| blob).await;
    assert!(record.len() > 10, "{}", record.len());
    for text in record {
        assert!(!text.contains(KEY) && !text.contains(&token), "nor the record: {text}");
    }
    for file in ["journal.db", "keys.db", "checkpoints"] {
        let bytes = std::fs::read(node.home().join(file)).unwrap();
        assert!(!bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()), "nor `{file}`");
    }
}

/// A node whose provider's key comes from the environment.
async fn with_key(script: Script, log: &Path, key: &str) -> Node {
    Node::with(script)
        .model_log(log)
        .models("      api_key: env:AEGIS_E2E_PROVIDER_KEY\n")
        .env("AEGIS_E2E_PROVIDER_KEY", key)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_says_in_anger_does_not_give_the_key_away() {
    use aegis_testkit::scripted_model::Reply;
    const KEY: &str = "sk-canary-91c2d3e4f5a6b7c8";
    let log = tempfile::tempdir().unwrap();
    let angry = Script::new(|_| Reply::status(401, &format!("Incorrect API key provided: {KEY}")));
    let node = with_key(angry, &log.path().join("heard"), KEY).await;
    node.deploy(&worker("worker", "  execution: {max_iterations: 1}\n"));
    let execution = node.execute("worker", &json!({}).to_string());
    let status = node.wait(&execution);
    assert_eq!(status["status"], "failed");
    let logs = node.run(&["task", "logs", &execution, "--verbose"]);
    for (name, text) in
        [("status", status.to_string()), ("logs", logs.stdout + &logs.stderr), ("daemon", node.daemon_log())]
    {
        assert!(!text.contains(KEY), "{name}: {text}");
    }
}
