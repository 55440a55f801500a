//! What operators type: starting, looking, keeping copies, and being told what is wrong.

use std::time::{Duration, Instant};

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::json;

use crate::manifests::worker;

fn plain() -> Script {
    Script::rules(vec![Rule::always(Reply::text("hello"))])
}

/// Waits until `met`, or fails with `what`.
fn until(what: &str, mut met: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !met() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_knows_its_own_daemon_from_another() {
    let local = "    - name: local
      type: openai-compatible
      endpoint: http://127.0.0.1:9/v1
      process: {command: sleep, args: [\"600\"], ready_url: \"http://127.0.0.1:9/health\"}
      models: [{alias: slow, model: m}]
";
    let node = Node::with(plain()).models(local).start().await;
    let up = node.run(&["up"]).ok();
    assert!(up.stdout.contains("AEGIS is ready at"), "{}", up.stdout);
    assert!(up.stderr.contains("model `slow` of provider `local` is still loading"), "{}", up.stderr);
    let status = node.run(&["status"]).ok();
    assert!(status.stdout.contains("slow = local/m (loading)"), "{}", status.stdout);
    assert!(status.stdout.contains("default = scripted/scripted-1 (configured)"), "{}", status.stdout);

    let other = tempfile::tempdir().unwrap();
    let output = node.command(&["up"]).env("AEGIS_HOME", other.path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("is taken by another daemon"), "{told}");
    assert!(!other.path().join("daemon.pid").exists(), "nothing is started");
    let token = node.token();
    let output =
        node.command(&["up"]).env("AEGIS_HOME", other.path()).env("AEGIS_TOKEN", token).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(4) && told.contains("it works on"), "{told}");

    let elsewhere = node.run(&["up", "--port", "1"]).expect_code(4);
    assert!(elsewhere.stderr.contains(&format!("--port {}", node.port())), "{}", elsewhere.stderr);
}

fn reload(node: &Node) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(node.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn platform_agents_are_there_for_all_tenants_and_belong_to_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("helper.yaml");
    std::fs::write(&path, worker("helper", "")).unwrap();
    let config = format!("  platform_agents: [{}]", path.display());
    let node = Node::with(plain()).config(&config).start().await;
    let list =
        |tenant: &str| node.run(&["--tenant", tenant, "agent", "list", "--output", "json"]).ok().json();
    for tenant in ["default", "acme"] {
        assert_eq!(list(tenant)["items"][0]["tenant"], "platform");
    }
    let refused = node.run(&["--tenant", "acme", "agent", "remove", "helper"]).expect_code(3);
    assert!(refused.stderr.contains("platform agent"), "{}", refused.stderr);
    node.run(&["--tenant", "acme", "task", "execute", "helper", "--wait"]).ok();
    let own = node.file("own.yaml", &worker("helper", "  schedule: {type: manual}\n"));
    node.run(&["--tenant", "acme", "agent", "deploy", &own]).ok();
    let shadowed = list("acme");
    assert_eq!(shadowed["items"].as_array().unwrap().len(), 1, "{shadowed}");
    assert_eq!(shadowed["items"][0]["tenant"], "acme");
    node.run(&["--tenant", "platform", "agent", "deploy", &own]).expect_code(3);

    let file = node.home().join("config.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&config, "")).unwrap();
    reload(&node);
    until("the agent is still there", || list("default")["items"].as_array().unwrap().is_empty());
    assert_eq!(list("acme")["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_leaves_a_running_daemon_and_is_checked_elsewhere() {
    let mut node = Node::with(plain()).start().await;
    node.deploy(&worker("plain", ""));
    node.run(&["task", "execute", "plain", "--wait"]).ok();
    let traces = node.run(&["trace", "list", "--output", "json"]).ok().json();
    assert_eq!(traces["items"][0]["name"], "execute plain@1.0.0");
    node.run(&["trace", "show", traces["items"][0]["trace_id"].as_str().unwrap()]).ok();

    let key = node.run(&["audit", "checkpoint", "--output", "json"]).ok().json()["public_key"].clone();
    let key = key.as_str().unwrap();
    let (export, copy) = (node.home().join("log.jsonl"), node.home().join("copy"));
    let (export, copy) = (export.to_str().unwrap(), copy.to_str().unwrap());
    node.run(&["audit", "export", "--to", export]).ok();
    let whole = node.run(&["audit", "verify", "--export", export, "--public-key", key]).ok();
    assert!(whole.stdout.contains("The export is whole"), "{}", whole.stdout);
    let text = std::fs::read_to_string(export).unwrap().replace("execution.completed", "execution.cancelled");
    let changed = node.file("changed.jsonl", &text);
    let refused = node.run(&["audit", "verify", "--export", &changed, "--public-key", key]).expect_code(4);
    assert!(refused.stderr.contains("something in it was changed"), "{}", refused.stderr);
    node.run(&["audit", "verify", "--export", export, "--public-key", "nonsense"]).expect_code(2);
    node.run(&["audit", "verify", "--export", export]).expect_code(2);

    let keys = node.home().join("copy-keys");
    node.run(&["journal", "backup", "--to", copy, "--keys", keys.to_str().unwrap()]).ok();
    assert!(keys.exists() && node.home().join("copy-keys.node-key").exists());
    let checked = node.run(&["journal", "verify", "--data", copy, "--public-key", key]).ok();
    assert!(checked.stdout.contains("whole"), "{}", checked.stdout);
    node.run(&["journal", "backup", "--to", copy]).expect_code(2);

    // A stop signs what was written last.
    assert_eq!(node.stop_daemon(), Some(0));
    let heads = std::fs::read_to_string(node.home().join("checkpoints")).unwrap();
    let signed = heads.lines().filter_map(|line| line.parse::<u64>().ok()).max().unwrap();
    let report = node.run(&["audit", "verify", "--output", "json"]).ok().json();
    assert_eq!(report["events"], json!(signed));
    let last = node.run(&["audit", "export", "--to", node.home().join("end.jsonl").to_str().unwrap()]).ok();
    assert!(last.stdout.contains(&format!("{signed} events")), "{}", last.stdout);
    let end = std::fs::read_to_string(node.home().join("end.jsonl")).unwrap();
    assert!(end.lines().last().unwrap().contains("daemon.stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_its_place_and_remedy() {
    let node = Node::with(plain()).config("  nats: {url: \"nats://127.0.0.1:4222\"}").start().await;
    let file = node.file("bad.yaml", &worker("bad", "  exection: {}"));
    for arguments in [&["agent", "deploy", &file][..], &["task", "execute", &file]] {
        let told = node.run(arguments).expect_code(2);
        let place = told.stderr.split("bad.yaml:").nth(1).unwrap_or_default();
        assert!(place.starts_with(|first: char| first.is_ascii_digit()), "{}", told.stderr);
        assert!(told.stderr.contains("exection"), "{}", told.stderr);
    }
    let unknown = "01890000-0000-7000-8000-000000000000";
    for id in [unknown, "nonsense"] {
        let cases: [(&[&str], &str); 5] = [
            (&["agent", "show", id], "agent list"),
            (&["task", "status", id], "task list"),
            (&["task", "logs", id], "task list"),
            (&["task", "cancel", id], ""),
            (&["trace", "show", id], ""),
        ];
        for (arguments, remedy) in cases {
            let told = node.run(arguments).expect_code(1).stderr;
            assert!(told.contains(&format!("`{id}`")) && told.contains(remedy), "{arguments:?}: {told}");
        }
    }
    node.deploy(&worker("named", ""));
    assert!(node.run(&["agent", "show", "named"]).ok().stdout.contains("name: named"));
    for arguments in [&["status"][..], &["config", "validate"]] {
        let told = node.run(arguments).ok().stderr;
        assert!(told.contains("`spec.nats` is not in this build"), "{arguments:?}: {told}");
    }
    assert!(node.daemon_log().contains("`spec.nats` is not in this build"), "{}", node.daemon_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_are_the_same_in_words_and_in_json() {
    let mut node = Node::with(Script::rules(Vec::new())).start().await;
    let id = "01a1fea1-9a86-78e4-99ed-3cada3352635";
    let told: &[(&[&str], i32, &str)] = &[
        (&["agent", "show", "nobody"], 1, "not_found"),
        (&["task", "execute", "nobody"], 1, "not_found"),
        (&["task", "cancel", id], 1, "not_found"),
        (&["volume", "files", id], 1, "not_found"),
        (&["audit", "prove", "99999"], 1, "not_found"),
        (&["journal", "verify", "--data", "/nowhere"], 1, "not_found"),
        (&["audit", "export", "--to", "/nowhere/x", "--data", "/nowhere"], 1, "not_found"),
        (&["audit", "query", "--since", "yesterday"], 2, "invalid_input"),
        (&["task", "list", "--status", "bogus"], 2, "invalid_input"),
        (&["nonsense"], 2, "invalid_input"),
        (&["workflow", "list"], 2, "capability_missing"),
        (&["daemon", "start"], 4, "conflict"),
        (&["journal", "rebuild"], 4, "conflict"),
    ];
    let check = |node: &Node, arguments: &[&str], code: i32, name: &str| {
        let words = node.run(arguments).expect_code(code);
        assert!(
            words.stderr.starts_with("error: ") && words.stdout.is_empty(),
            "{arguments:?}: {}",
            words.stderr
        );
        let json = node.run(&[arguments, &["--output", "json"]].concat()).expect_code(code);
        let error: serde_json::Value = serde_json::from_str(&json.stderr).expect("one JSON object");
        assert_eq!(
            (&error["code"], &error["exit_code"]),
            (&name.into(), &code.into()),
            "{arguments:?}: {error}"
        );
        assert!(json.stdout.is_empty(), "{arguments:?}: {}", json.stdout);
    };
    for (arguments, code, name) in told {
        check(&node, arguments, *code, name);
    }
    assert_eq!(node.stop_daemon(), Some(0));
    for arguments in [["agent", "list"], ["task", "list"], ["audit", "query"], ["daemon", "status"]] {
        check(&node, &arguments, 5, "unreachable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_told_of_finished_and_running_executions() {
    let script =
        Script::new(|seen| match seen.messages.iter().filter(|message| message.role == "tool").count() {
            0 => Reply::call("fs.read", &json!({"path": "/workspace/missing.txt"})),
            1 => Reply::call("fs.write", &json!({"path": "/workspace/a.txt", "content": "a"})),
            _ => Reply::text("no JSON"),
        });
    let node = Node::with(script).start().await;
    let validation = "  execution:
    max_iterations: 1
    validation: [{type: json_schema, schema: {type: object}}]
";
    node.deploy(&worker("logged", validation));
    let id = node.execute("logged", "{}");
    // Follows it while it runs, to its end.
    let followed = node.run(&["task", "logs", &id, "--follow"]).expect_code(6);
    assert!(followed.stdout.contains("Tool: fs.write /workspace/a.txt"), "{}", followed.stdout);
    let logs = |flag: &str| node.run(&["task", "logs", &id, flag]).ok().stdout;
    let errors = logs("--errors-only");
    assert!(errors.contains("missing.txt") && errors.contains("json_schema=FAIL"), "{errors}");
    assert!(
        errors.contains(" Failed: ") && !errors.contains("Started") && !errors.contains("a.txt"),
        "{errors}"
    );
    let verbose = logs("--verbose");
    for told in
        ["    prompt: ", "    model default (", "    result: ", "    json_schema: ", "    output: no JSON"]
    {
        assert!(verbose.contains(told), "`{told}` is missing:\n{verbose}");
    }
}
