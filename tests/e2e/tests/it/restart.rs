//! A daemon that is stopped, told to read its configuration again, or started twice.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::json;

use crate::manifests::worker;
use crate::observe::{events, until};

pub(crate) fn hang_up(node: &Node) {
    let pid = i32::try_from(node.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("the signal is sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_under_way_at_sigterm_goes_on_at_the_next_start() {
    let released = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&released);
    let script = Script::new(move |seen| match (seen.tool_results(), open.load(Ordering::Acquire)) {
        (0, _) => Reply::call(
            "cmd.run",
            &json!({"command": "sh", "args": ["-c", "echo once >> /workspace/count; cat /workspace/count"]}),
        ),
        (_, false) => Reply::After(Duration::from_millis(50), Box::new(Reply::call("fs.list", &json!({})))),
        (_, true) => Reply::text("done"),
    });
    let mut node = Node::with(script).start().await;
    node.deploy(&worker("steady", ""));
    let execution = node.execute("steady", "{}");
    until("the run is well under way", || node.model.requests().len() > 3);
    assert_eq!(node.stop_daemon(), Some(0), "{}", node.daemon_log());
    node.run(&["task", "status", &execution]).expect_code(5);
    node.start_daemon();
    released.store(true, Ordering::Release);
    let status = node.wait(&execution);
    assert_eq!(
        (&status["status"], &status["total_iterations"]),
        (&json!("completed"), &json!(1)),
        "{status}"
    );
    assert_eq!(events(&node, "execution.resumed").len(), 1);
    assert_eq!(events(&node, "daemon.stopped").len(), 1);
    let volume = node.run(&["volume", "list", "--output", "json"]).ok().json()["items"][0]["id"].clone();
    let count = node.run(&["volume", "get", volume.as_str().unwrap(), "count"]).ok();
    assert_eq!(count.stdout, "once\n", "a recorded outcome is never asked for again");
    let notice =
        node.model.requests().iter().any(|request| request.body.to_string().contains("was restarted"));
    assert!(notice, "the model is told that processes and /tmp are gone");
    assert!(node.run(&["audit", "verify"]).ok().stdout.contains("whole"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_swapped_without_redeploy() {
    let node = Node::with(Script::rules(vec![Rule::always(Reply::text("done"))])).start().await;
    node.deploy(&worker("plain", ""));
    let ran_on = |node: &Node| {
        assert_eq!(node.wait(&node.execute("plain", "{}"))["status"], "completed");
        node.model.requests().last().unwrap().body["model"].clone()
    };
    assert_eq!(ran_on(&node), "scripted-1");
    let path = node.home().join("config.yaml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("scripted-1", "scripted-2")).unwrap();
    hang_up(&node);
    until("the configuration is reloaded", || events(&node, "daemon.config_reloaded").len() == 1);
    assert_eq!(ran_on(&node), "scripted-2");

    std::fs::write(&path, config.replace("llm_providers", "llm_provider")).unwrap();
    hang_up(&node);
    until("the wrong configuration is refused", || node.daemon_log().contains("is not reloaded"));
    // Commands read the file too, so it is mended, without the daemon being told.
    std::fs::write(&path, &config).unwrap();
    assert_eq!(ran_on(&node), "scripted-2", "a wrong configuration changes nothing");
    assert_eq!(events(&node, "daemon.config_reloaded").len(), 1);
    assert_eq!(events(&node, "agent.deployed").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_folder_is_refused() {
    let node = Node::with(Script::rules(Vec::new())).start().await;
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let second = Command::new(node.command(&[]).get_program())
        .args(["daemon", "start", "--port", &port.to_string(), "--config"])
        .arg(node.home().join("config.yaml"))
        .env("AEGIS_HOME", node.home())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(4), "{said}");
    assert!(said.contains(&node.home().display().to_string()), "it does not say which folder: {said}");
    assert!(node.ready());
    node.run(&["agent", "list"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn up_and_down_find_the_daemon_of_their_folder() {
    let mut node = Node::with(Script::rules(Vec::new())).start().await;
    let up = node.run(&["up"]).ok();
    assert!(up.stdout.contains(&node.port().to_string()), "{}", up.stdout);
    assert_eq!(node.stop_daemon(), Some(0));
    node.run(&["status"]).expect_code(5);
    node.run(&["up"]).ok();
    node.run(&["agent", "list"]).ok();
    node.run(&["down"]).ok();
    node.run(&["agent", "list"]).expect_code(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn access_refused_just_before_the_stop_is_on_record() {
    let mut node = Node::with(Script::rules(Vec::new())).start().await;
    let refused = |node: &Node| {
        let (code, _) = node.get("/v1/agents").expect("an answer");
        assert_eq!(code, 401);
    };
    let counted = |node: &Node| -> u64 {
        let counts = events(node, "access.refused");
        counts.iter().filter_map(|event| event["body"]["count"].as_u64()).sum()
    };
    refused(&node);
    until("the first is recorded at once", || counted(&node) == 1);
    (0..7).for_each(|_| refused(&node));
    // Within the second in which refusals are only counted.
    assert_eq!(node.stop_daemon(), Some(0), "{}", node.daemon_log());
    node.start_daemon();
    assert_eq!(counted(&node), 8, "{}", node.daemon_log());
}
