//! Models that misbehave: each ends in a sentence a person understands, and no run hangs.

use std::time::{Duration, Instant};

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script, ScriptedCall, Turn};
use serde_json::json;

use crate::manifests::worker;
use crate::observe::{follow, newest_execution, told, told_between, tool_results};

/// Two attempts, quickly one after another.
const QUICK: &str = "  llm_selection: {max_retries: 1, retry_delay_ms: 10}";
const ONE_SHOT: &str = "  execution: {mode: one-shot, llm_timeout_seconds: 2}\n";

/// A run with this model fails; its iteration's line, its last line and its status all say `sentence`.
async fn fails(reply: Reply, sentence: &str, requests: usize) {
    let node = Node::with(Script::rules(vec![Rule::always(reply)])).config(QUICK).start().await;
    let run = follow(&node, &worker("unlucky", ONE_SHOT)).expect_code(6);
    let lines = told(&run.stdout);
    let reason = lines.iter().find_map(|line| line.strip_prefix("Iteration 1 Failed: "));
    let reason = reason.unwrap_or_else(|| panic!("no line of the iteration: {}", run.stdout));
    assert!(reason.contains(sentence), "`{sentence}` is not in `{reason}`");
    assert!(reason.contains("scripted"), "it is not said which provider: {reason}");
    let execution = newest_execution(&node);
    assert_eq!(lines.last(), Some(&format!("Execution {execution} Failed: {reason}").as_str()));
    let status = node.run(&["task", "status", &execution]).ok();
    assert!(status.stdout.contains(&format!("error       {reason}")), "{}", status.stdout);
    assert!(status.stdout.contains("iteration 1: failed"), "{}", status.stdout);
    assert_eq!(node.model.requests().len(), requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_hangs() {
    fails(Reply::Hang, "gave no answer within the 2 s of this call", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_stops_midway() {
    fails(Reply::HangMidway(Turn::text("I begin")), "gave no answer within the 2 s of this call", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_answers_500() {
    fails(
        Reply::status(500, "the engine is on fire"),
        "answered 500 (server error): the engine is on fire",
        2,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_always_busy() {
    fails(Reply::rate_limited("0"), "answered 429 (too many requests)", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cuts_the_stream() {
    let turn = Turn { cut_after: Some(1), ..Turn::text("a long answer of several pieces, cut") };
    fails(Reply::Turn(turn), "broke off in the middle of its answer", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_hangs_up() {
    fails(Reply::Drop, "check", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_answers_5_megabytes() {
    fails(Reply::Flood { bytes: 5 << 20 }, "answered more than the 4 MiB that are taken from a model", 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_answer_json() {
    let body = b"<html><body>It works!</body></html>".to_vec();
    fails(
        Reply::Raw { content_type: "text/html".to_owned(), body },
        "answered what its protocol does not allow",
        1,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_refuses_the_credential() {
    fails(Reply::status(401, "bad key"), "answered 401 (credential refused)", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_model_is_asked_again_when_it_says() {
    let script = Script::rules(vec![Rule::always(Reply::rate_limited("1")).then(Reply::text("at last"))]);
    let node = Node::with(script).config(QUICK).start().await;
    let begun = Instant::now();
    let run = follow(&node, &worker("patient", "")).ok();
    assert!(begun.elapsed() >= Duration::from_secs(1), "it was asked again too soon");
    assert_eq!(told_between(&run.stdout), ["Iteration 1 Started", "Iteration 1 Completed"]);
    assert_eq!(node.status(&newest_execution(&node))["final_output"], "at last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_is_another_iterations_chance() {
    let script = Script::new(|seen| match seen.mentions("Your previous attempt failed") {
        true => Reply::text("well again"),
        false => Reply::status(503, "down"),
    });
    let node = Node::with(script).config(QUICK).start().await;
    let run = follow(&node, &worker("patient", "")).ok();
    let lines = told_between(&run.stdout);
    assert!(lines[1].starts_with("Iteration 1 Failed: ") && lines[1].contains("answered 503"), "{lines:?}");
    assert_eq!(lines[2..], ["Iteration 2 Started", "Iteration 2 Completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_calls_an_unknown_tool_is_told_so() {
    let script = Script::rules(vec![
        Rule::always(Reply::call("rocket.launch", &json!({"target": "moon"}))).when_tool_results(0),
        Rule::always(Reply::text("I stay here")),
    ]);
    let node = Node::with(script).start().await;
    let run = follow(&node, &worker("pilot", "")).ok();
    let lines = told_between(&run.stdout);
    assert_eq!(lines[1], "Tool: rocket.launch moon DENIED (TOOL_NOT_ALLOWED)");
    let result = tool_results(&node).pop().unwrap();
    assert!(result.contains("the manifest does not list it") && result.contains("spec.tools"), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tools_at_once_are_all_answered_in_order() {
    let path = |n: usize| format!("/workspace/{n}.txt");
    let ten = (0..10).fold(Turn::default(), |turn, n| match n {
        4 => turn.and_call("fs.read", &json!({"path": "/workspace/absent.txt"})),
        7 => turn.and_call("cmd.run", &json!({"command": "cat", "args": [path(6)]})),
        _ => turn.and_call("fs.write", &json!({"path": path(n), "content": format!("content {n}")})),
    });
    let script = Script::rules(vec![
        Rule::always(Reply::Turn(ten)).when_tool_results(0),
        Rule::always(Reply::text("all done")).when_tool_results(10),
    ]);
    let node = Node::with(script).start().await;
    let run = follow(&node, &worker("busy", "")).ok();
    let tools: Vec<&str> = told(&run.stdout).into_iter().filter(|line| line.starts_with("Tool: ")).collect();
    assert_eq!(tools.len(), 10, "{}", run.stdout);
    let results = tool_results(&node);
    for (n, result) in results.iter().enumerate() {
        let expected = match n {
            4 => "absent.txt",
            7 => "content 6",
            _ => &format!("`{}`", path(n)),
        };
        assert!(result.contains(expected), "result {n}: {result}");
    }
    assert_eq!(node.model.requests().len(), 2, "all are answered before the next turn");
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_arguments_that_are_no_json_are_refused_with_a_reason() {
    let call = ScriptedCall { tool: "fs.write".to_owned(), arguments: "{\"path\": \"/works".to_owned() };
    let broken = Turn { calls: vec![call], ..Turn::default() };
    let script = Script::rules(vec![
        Rule::always(Reply::Turn(broken)).when_tool_results(0),
        Rule::always(Reply::text("sorry")),
    ]);
    let node = Node::with(script).start().await;
    let run = follow(&node, &worker("clumsy", "")).ok();
    let lines = told_between(&run.stdout);
    assert!(
        lines[1].starts_with("Tool: fs.write") && lines[1].ends_with("DENIED (INVALID_ARGUMENTS)"),
        "{lines:?}"
    );
    let result = tool_results(&node).pop().unwrap();
    assert!(result.contains("do not satisfy the tool's schema"), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_that_gives_no_answer_fails_the_run_by_name() {
    let script = Script::new(|seen| match seen.model.as_str() {
        "judge-1" => Reply::status(500, "no bench"),
        _ => Reply::text("judge me"),
    });
    let node =
        Node::with(script).models("        - {alias: judge, model: judge-1}\n").config(QUICK).start().await;
    let validation = "  execution: {mode: one-shot, validation: [{type: semantic, model: judge, criteria: Is it good?}]}\n";
    let run = follow(&node, &worker("judged", validation)).expect_code(6);
    let lines = told(&run.stdout);
    let reason = lines.iter().find_map(|line| line.strip_prefix("Iteration 1 Failed: ")).unwrap();
    assert!(reason.starts_with("validator semantic: "), "{reason}");
    assert!(reason.contains("answered 500"), "{reason}");
    assert!(lines.last().unwrap().ends_with(reason), "{}", run.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_never_learns_has_ten_iterations() {
    let node = Node::with(Script::rules(vec![Rule::always(Reply::text("wrong"))])).start().await;
    let validation = "  execution: {validation: {output: {pattern: right}}}\n";
    let run = follow(&node, &worker("stubborn", validation)).expect_code(6);
    assert_eq!(run.stdout.matches("Validation: regex=FAIL (score=0.0)").count(), 10, "{}", run.stdout);
    assert!(!run.stdout.contains("Iteration 10 Failed"), "an answer that does not pass is no error");
    let lines = told(&run.stdout);
    assert!(
        lines.last().unwrap().contains("Failed: ") && lines.last().unwrap().contains("`right`"),
        "{lines:?}"
    );
    let status = node.status(&newest_execution(&node));
    assert_eq!(status["total_iterations"], 10);
    assert_eq!(status["error"]["error_type"], "validation_exhausted");
}
