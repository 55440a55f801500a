//! Ends that a run comes to by its daemon's or its node's fault, or by its own size.

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::json;

use crate::manifests::worker;
use crate::observe::{events, follow, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_this_node_can_no_longer_prepare_leaves_nothing_open() {
    let contexts =
        "  security_contexts:\n    - name: careful\n      capabilities: [{tool_pattern: 'fs.*'}]\n";
    let mut node = Node::with(Script::rules(vec![Rule::always(Reply::Hang)])).config(contexts).start().await;
    let careful = worker("careful", "").replace("spec:\n", "spec:\n  security_context: careful\n");
    node.deploy(&careful);
    let execution = node.execute("careful", "{}");
    until("the model was asked", || !node.model.requests().is_empty());
    node.kill_daemon();
    let path = node.home().join("config.yaml");
    let config = std::fs::read_to_string(&path).unwrap().replace(contexts, "");
    std::fs::write(&path, config).unwrap();
    node.start_daemon();
    let status = node.wait(&execution);
    assert_eq!(status["status"], "failed", "{status}");
    assert_eq!(status["iterations"][0]["status"], "failed", "{status}");
    assert_eq!(events(&node, "generation.ended").len(), 1, "the former sandbox is on record as dead");
    assert_eq!(events(&node, "action.unknown").len(), 1, "and the call that was under way as unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_iteration_ends_with_the_run_that_is_cancelled() {
    let node = Node::with(Script::rules(vec![Rule::always(Reply::Hang)])).start().await;
    node.deploy(&worker("stuck", ""));
    let execution = node.execute("stuck", "{}");
    until("the model was asked", || !node.model.requests().is_empty());
    node.run(&["task", "cancel", &execution, "--force"]).ok();
    let status = node.wait(&execution);
    assert_eq!(status["iterations"][0]["status"], "cancelled", "{status}");
    assert!(status["iterations"][0]["ended_at"].is_string(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_daemon_ends_each_time_is_given_up_by_name() {
    let mut node = Node::with(Script::rules(vec![Rule::always(Reply::Hang)])).start().await;
    node.deploy(&worker("deadly", ""));
    let execution = node.execute("deadly", "{}");
    until("the model was asked", || !node.model.requests().is_empty());
    let mut resumes = 0;
    while node.status(&execution)["status"] == "running" {
        assert!(resumes <= 21, "it is resumed for ever");
        node.kill_daemon();
        node.start_daemon();
        resumes += 1;
        until("it was resumed", || events(&node, "execution.resumed").len() == resumes);
        if resumes > 20 {
            node.wait(&execution);
        }
    }
    assert_eq!(resumes, 21);
    let failed = &events(&node, "execution.failed")[0];
    assert_eq!(failed["body"]["reason"], "resumes_exhausted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_grows_too_large_fails_the_iteration_in_words() {
    let content = "x".repeat(3 << 20);
    let call = Reply::call("fs.write", &json!({"path": "/workspace/big", "content": content}));
    let node = Node::with(Script::rules(vec![Rule::always(call)])).start().await;
    let run = follow(&node, &worker("talker", "  execution: {max_iterations: 1}\n")).expect_code(6);
    let sentence = "the conversation grew larger than one request may be: prompt, answers and tool results have more \
                    than 16 MiB; let the agent read less at once, or do its task in smaller parts";
    assert!(run.stdout.contains(sentence), "{}", run.stdout);
    assert_eq!(events(&node, "iteration.failed")[0]["body"]["reason"], "conversation_too_long");
    assert!(node.model.requests().len() <= 6, "{}", node.model.requests().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_other_content_under_the_same_version_counts_as_forced() {
    let node = Node::with(Script::rules(vec![Rule::always(Reply::text("x"))])).start().await;
    node.deploy(&worker("a", ""));
    node.deploy(&worker("a", "").replace("size_limit: 16Mi", "size_limit: 8Mi"));
    let id = node.deploy(&worker("b", ""));
    node.run(&["agent", "remove", &id]).ok();
    node.deploy(&worker("b", ""));
    let forced: Vec<bool> = events(&node, "agent.deployed")
        .iter()
        .filter_map(|event| event["body"]["forced"].as_bool())
        .collect();
    assert_eq!(forced, [false, true, false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validators_command_is_on_record_before_it_starts_and_run_again_after_a_crash() {
    let mut node = Node::with(Script::rules(vec![Rule::always(Reply::text("x"))])).start().await;
    let validation = "  execution:\n    mode: one-shot\n    validation:\n      - type: script\n        command: [sh, -c, \
                      'if [ -e /tmp/no ]; then exit 1; fi; sleep 2']\n";
    node.deploy(&worker("judged", validation));
    let execution = node.execute("judged", "{}");
    until("the validator was started", || !events(&node, "validation.started").is_empty());
    node.kill_daemon();
    node.start_daemon();
    let status = node.wait(&execution);
    assert_eq!(status["status"], "completed", "{status}");
    assert_eq!(events(&node, "validation.started").len(), 2);
    assert_eq!(events(&node, "validation.unknown").len(), 1);
    assert_eq!(events(&node, "validation.completed").len(), 1);
}
