//! Models behind aliases: other dialects, models that cannot call tools, fallback, and what is told of each call.

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script, ScriptedModel, Turn, UsageReport};
use serde_json::json;

use crate::manifests::worker;
use crate::observe::{events, follow, newest_execution, told_between};

/// A further provider of a node, listed behind the scripted one.
fn provider(name: &str, kind: &str, endpoint: &str, models: &str) -> String {
    format!(
        "    - name: {name}\n      type: {kind}\n      endpoint: {endpoint}\n      api_key: literal:k\n      models: [{models}]\n"
    )
}

fn write_then_answer() -> Script {
    Script::rules(vec![
        Rule::always(Reply::call("fs.write", &json!({"path": "/workspace/a.txt", "content": "a"})))
            .when_tool_results(0),
        Rule::always(Reply::text("done")),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_runs_on_either_dialect() {
    let other = ScriptedModel::start(write_then_answer()).await.unwrap();
    let second = provider("claude", "anthropic", &other.url(), "{alias: reasoning, model: scripted-a}");
    let node = Node::with(write_then_answer()).models(&second).start().await;
    for model in ["default", "reasoning"] {
        let manifest =
            worker(model, "").replace("isolation: process", &format!("isolation: process, model: {model}"));
        let run = follow(&node, &manifest).ok();
        let expected =
            ["Iteration 1 Started", "Tool: fs.write /workspace/a.txt (1 bytes)", "Iteration 1 Completed"];
        assert_eq!(told_between(&run.stdout), expected, "{model}");
    }
    assert!(other.requests().iter().all(|request| request.path.ends_with("/messages")));
    assert_eq!((node.model.requests().len(), other.requests().len()), (2, 2));
    let absent = worker("absent", "").replace("isolation: process", "isolation: process, model: nowhere");
    let run = follow(&node, &absent).expect_code(6);
    assert!(run.stdout.contains("Iteration 1 Failed: no model has the alias `nowhere`"), "{}", run.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_call_tools_answers_by_a_schema() {
    let script = Script::sequence(vec![
        Reply::text(r#"{"tool": "fs.write", "arguments": {"path": "/workspace/a.txt", "content": "abc"}}"#),
        Reply::text(r#"{"answer": "written"}"#),
    ]);
    let node = Node::with(script)
        .models("        - {alias: small, model: small-1, tool_calling: schema}\n")
        .start()
        .await;
    let manifest = worker("small", "").replace("isolation: process", "isolation: process, model: small");
    let run = follow(&node, &manifest).ok();
    assert_eq!(told_between(&run.stdout)[1], "Tool: fs.write /workspace/a.txt (3 bytes)");
    assert_eq!(node.status(&newest_execution(&node))["final_output"], "written");
    assert_eq!(node.model.requests()[0].body.get("tools"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_is_replaced_by_the_fallback() {
    let spare =
        ScriptedModel::start(Script::rules(vec![Rule::always(Reply::text("from the spare"))])).await.unwrap();
    let second = provider("spare", "openai-compatible", &spare.url(), "{alias: default, model: spare-1}");
    let node = Node::with(Script::rules(vec![Rule::always(Reply::status(503, "down"))]))
        .models(&second)
        .config(
            "  llm_selection: {default_provider: scripted, fallback_provider: spare, max_retries: 0, retry_delay_ms: 10}",
        )
        .start()
        .await;
    follow(&node, &worker("lucky", "")).ok();
    assert_eq!(node.status(&newest_execution(&node))["final_output"], "from the spare");
    let answered = json!(events(&node, "action.completed")).to_string();
    assert!(answered.contains("\"spare\"") && answered.contains("spare-1"), "provenance: {answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_cost_are_counted() {
    let turn = Turn::text("done").with_usage(UsageReport::Tokens { input: 1000, output: 500 });
    let node = Node::with(Script::rules(vec![Rule::always(Reply::Turn(turn))])).start().await;
    follow(&node, &worker("paid", "")).ok();
    let execution = newest_execution(&node);
    let usage = node.status(&execution)["usage"].clone();
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(1000), &json!(500)));
    // 1000 at 0.01 and 500 at 0.03 a thousand.
    assert!((usage["cost_usd"].as_f64().unwrap() - 0.025).abs() < 1e-9, "{usage}");
    let shown = node.run(&["task", "status", &execution]).ok();
    assert!(shown.stdout.contains("1000 in, 500 out, $0.025000"), "{}", shown.stdout);
}
