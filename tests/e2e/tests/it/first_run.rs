//! The main job: deploy an agent, run it, see it fail, learn and pass, and look at everything afterwards.

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::json;

use crate::manifests::worker;

const VALIDATION: &str = "  execution:
    max_iterations: 3
    validation:
      - type: json_schema
        schema: {type: object, required: [answer], properties: {answer: {type: integer}}}
";

/// Writes a file, runs it, answers wrongly; told why, answers rightly.
fn learner() -> Script {
    Script::new(|seen| {
        let results = seen.messages.iter().filter(|message| message.role == "tool").count();
        let told = seen.messages.iter().any(|message| message.text.contains("Your previous attempt failed"));
        match (results, told) {
            (0, _) => {
                Reply::call("fs.write", &json!({"path": "/workspace/six.py", "content": "print(6 * 7)\n"}))
            }
            (1, _) => Reply::call("cmd.run", &json!({"command": "python3", "args": ["/workspace/six.py"]})),
            (_, false) => Reply::text("it is 42"),
            (_, true) => Reply::text("{\"answer\": 42}"),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_deployed_runs_twice_and_leaves_evidence() {
    let node = Node::with(learner()).start().await;
    node.deploy(&worker("learner", VALIDATION));
    let run = node.run(&["task", "execute", "learner", "--input", r#"{"q": "6*7"}"#, "--follow"]).ok();
    let lines: Vec<&str> =
        run.stdout.lines().map(|line| line.split_once("] ").map_or(line, |(_, rest)| rest)).collect();
    let [started, rest @ .., completed] = lines.as_slice() else { panic!("{}", run.stdout) };
    assert!(started.starts_with("Execution ") && started.ends_with(" Started"), "{started}");
    assert_eq!(
        rest,
        [
            "Iteration 1 Started",
            "Tool: fs.write /workspace/six.py (13 bytes)",
            "Tool: cmd.run python3 /workspace/six.py",
            "Iteration 1 Completed",
            "Validation: json_schema=FAIL (score=0.0)",
            "Iteration 2 Started",
            "Tool: fs.write /workspace/six.py (13 bytes)",
            "Tool: cmd.run python3 /workspace/six.py",
            "Iteration 2 Completed",
            "Validation: json_schema=PASS (score=1.0)",
        ]
    );
    assert!(completed.contains(" Completed (2 iterations, "), "{completed}");

    let listed = node.run(&["task", "list", "--output", "json"]).ok().json();
    let id = listed["items"][0]["execution_id"].as_str().unwrap();
    let status = node.status(id);
    assert_eq!(status["status"], "completed");
    assert_eq!(status["final_output"], "{\"answer\": 42}");
    assert_eq!(status["iterations"][0]["score"], 0.0);
    assert!(status["usage"]["cost_usd"].as_f64().unwrap() > 0.0, "{status}");
    let trace = node.run(&["trace", "show", status["trace_id"].as_str().unwrap()]).ok();
    assert!(trace.stdout.contains("tool cmd.run"), "{}", trace.stdout);
    let verified = node.run(&["audit", "verify"]).ok();
    assert!(verified.stdout.contains("whole"), "{}", verified.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_validators_is_done_with_its_answer() {
    let node = Node::with(Script::rules(vec![Rule::always(Reply::text("hello"))])).start().await;
    node.deploy(&worker("plain", ""));
    let id = node.execute("plain", "{}");
    let status = node.wait(&id);
    assert_eq!(
        (status["status"].as_str(), status["final_output"].as_str()),
        (Some("completed"), Some("hello"))
    );
    assert_eq!(node.model.requests().len(), 1);
}
