//! Validators, each judging a real run.

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::{Value, json};

use crate::manifests::worker;
use crate::observe::{events, follow, newest_execution, prompts, told_between};

/// Models of the judges beside the agent's own.
const JUDGES: &str = "        - {alias: judge-a, model: judge-a}
        - {alias: judge-b, model: judge-b}
";

/// An agent that writes `file` to its workspace and answers `answer`; judges answer as given.
fn agent(file: &'static str, answer: &'static str, judges: [&'static str; 2]) -> Script {
    Script::rules(vec![
        Rule::always(Reply::text(judges[0])).when_model("judge-a"),
        Rule::always(Reply::text(judges[1])).when_model("judge-b"),
        Rule::always(Reply::call("fs.write", &json!({"path": "/workspace/out.txt", "content": file})))
            .when_tool_results(0),
        Rule::always(Reply::text(answer)),
    ])
}

/// What one iteration under these validators came to: the validation line and the verdicts.
async fn judged(script: Script, validators: &str) -> (String, Value) {
    let node = Node::with(script).models(JUDGES).start().await;
    let validation = format!("  execution:\n    mode: one-shot\n    validation:\n{validators}");
    let run = follow(&node, &worker("judged", &validation));
    let lines = told_between(&run.stdout);
    let line = lines.last().unwrap_or_else(|| panic!("{}{}", run.stdout, run.stderr));
    let status = node.status(&newest_execution(&node));
    let passed = line.contains("PASS") && !line.contains("FAIL");
    assert_eq!(run.code, if passed { 0 } else { 6 }, "{}{}", run.stdout, run.stderr);
    ((*line).to_owned(), status["iterations"][0]["validation"].clone())
}

async fn says(script: Script, validators: &str, line: &str) -> Value {
    let (said, verdicts) = judged(script, validators).await;
    assert_eq!(said, line, "{verdicts}");
    verdicts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_judges_answer_standard_output_and_file() {
    let script = || agent("checked: yes", "the answer is 42", ["", ""]);
    let validators = "      - {type: regex, pattern: 'answer is [0-9]+$'}
      - {type: regex, pattern: '42', target: stdout}
      - {type: regex, pattern: '^checked: yes$', target: 'file:/workspace/out.txt'}
";
    says(script(), validators, "Validation: regex=PASS regex=PASS regex=PASS (score=1.0)").await;
    let verdicts = says(
        script(),
        "      - {type: regex, pattern: x, target: 'file:out.txt'}\n      - {type: regex, pattern: '42'}\n",
        "Validation: regex=FAIL (score=0.0)",
    )
    .await;
    assert_eq!(verdicts.as_array().unwrap().len(), 1, "the first failure ends the pass");
    let verdicts = says(
        script(),
        "      - {type: regex, pattern: x, target: 'file:/workspace/absent.txt'}\n",
        "Validation: regex=FAIL (score=0.0)",
    )
    .await;
    assert!(verdicts[0]["reasoning"].as_str().unwrap().contains("absent.txt"), "{verdicts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_graded_by_what_it_satisfies() {
    let schema =
        "schema: {type: object, required: [a, b, c], properties: {a: {type: integer}, b: {type: string}}}";
    let (line, verdicts) = judged(
        agent("", "Here:\n```json\n{\"a\": 1, \"b\": 2}\n```", ["", ""]),
        &format!("      - {{type: json_schema, {schema}}}\n"),
    )
    .await;
    let score = verdicts[0]["score"].as_f64().unwrap();
    assert!(0.0 < score && score < 1.0, "{line} {verdicts}");
    assert_eq!(line, format!("Validation: json_schema=FAIL (score={score:.2})"));
    let reasoning = verdicts[0]["reasoning"].as_str().unwrap();
    assert!(reasoning.contains("/b") && reasoning.contains('c'), "failing paths are named: {reasoning}");
    says(
        agent("", "{\"a\": 1, \"b\": 2}", ["", ""]),
        &format!("      - {{type: json_schema, min_score: 0.1, {schema}}}\n"),
        &line.replace("FAIL", "PASS"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_judges_by_its_exit_code_on_a_read_only_view() {
    let program = "import sys\nassert open('/workspace/out.txt').read() == open(__file__).read()\n\
                   try:\n    open('/workspace/new', 'w')\nexcept OSError:\n    sys.exit(7)\n";
    let of = |more: &str| {
        format!("      - {{type: exit_code, command: [python3, /workspace/out.txt], expected: 7{more}}}\n")
    };
    says(agent(program, "done", ["", ""]), &of(""), "Validation: exit_code=PASS (score=1.0)").await;
    let verdicts = says(
        agent("raise SystemExit('not good')", "done", ["", ""]),
        &of(""),
        "Validation: exit_code=FAIL (score=0.0)",
    )
    .await;
    let reasoning = verdicts[0]["reasoning"].as_str().unwrap();
    assert!(reasoning.contains("exit code 1") && reasoning.contains("not good"), "{reasoning}");
    let verdicts = says(
        agent("import time; time.sleep(600)", "done", ["", ""]),
        &of(", timeout: 1s"),
        "Validation: exit_code=FAIL (score=0.0)",
    )
    .await;
    assert!(verdicts[0]["reasoning"].as_str().unwrap().contains("longer than 1 s"), "{verdicts}");
    says(
        agent("", "done", ["", ""]),
        "      - {type: exit_code}\n",
        "Validation: exit_code=PASS (score=1.0)",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_code_of_the_workspace_is_marked_so() {
    let validators = "  execution:
    mode: one-shot
    validation:
      - {type: regex, pattern: done}
      - {type: exit_code, command: [python3, /workspace/out.txt]}
      - {type: script, command: [python3, /workspace/out.txt]}
";
    let script = agent("print('fine')", "done", ["", ""]);
    let node = Node::with(script).start().await;
    follow(&node, &worker("judged", validators)).ok();
    let completed = events(&node, "validation.completed");
    let marks: Vec<&Value> = completed.iter().map(|event| &event["body"]["self_attested"]).collect();
    assert_eq!(marks, [&json!(false), &json!(true), &json!(true)], "{completed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_grades_with_json() {
    let program = "import json, os\nanswer = open(os.environ['AEGIS_CANDIDATE_FILE']).read()\n\
                   print(json.dumps({'score': 0.8, 'confidence': 0.5, 'reasoning': 'read ' + answer}))\n";
    let of = |more: &str| format!("      - {{type: script, command: [python3, out.txt]{more}}}\n");
    let verdicts =
        says(agent(program, "forty-two", ["", ""]), &of(""), "Validation: script=FAIL (score=0.80)").await;
    assert_eq!(verdicts[0]["reasoning"], "read forty-two");
    assert_eq!(verdicts[0]["confidence"], 0.5);
    says(agent(program, "x", ["", ""]), &of(", min_score: 0.8"), "Validation: script=PASS (score=0.80)")
        .await;
    says(
        agent(program, "x", ["", ""]),
        &of(", min_score: 0.8, min_confidence: 0.6"),
        "Validation: script=FAIL (score=0.80)",
    )
    .await;
    says(agent("print('fine')", "x", ["", ""]), &of(""), "Validation: script=PASS (score=1.0)").await;
    says(agent("raise SystemExit(3)", "x", ["", ""]), &of(""), "Validation: script=FAIL (score=0.0)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_reaches_neither_volume_control_socket_nor_network() {
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listening.local_addr().unwrap().port();
    std::net::TcpStream::connect(("127.0.0.1", port)).expect("outside it answers");
    let program = r#"
import json, os, socket
reached = []
try:
    open("/workspace/planted", "w").close()
    reached.append("volume")
except OSError:
    pass
try:
    os.remove("/workspace/out.txt")
    reached.append("removal")
except OSError:
    pass
try:
    reached += [name for name in os.listdir("/run/aegis") if name != "candidate"]
except OSError:
    reached += [name for name in ("control.sock", "api", "egress") if os.path.exists("/run/aegis/" + name)]
for name in ("AEGIS_CONTROL_SOCKET", "AEGIS_API_SOCKET"):
    if name in os.environ:
        reached.append(name)
try:
    socket.create_connection(("127.0.0.1", PORT), timeout=1)
    reached.append("network")
except OSError:
    pass
with open("/tmp/own", "w") as own:
    own.write("x")
print(json.dumps({"score": 0.0 if reached else 1.0, "reasoning": "reached: " + " ".join(reached)}))
"#;
    let program: &str = program.replace("PORT", &port.to_string()).leak();
    let verdicts = says(
        agent(program, "done", ["", ""]),
        "      - {type: script, command: [python3, /workspace/out.txt]}\n",
        "Validation: script=PASS (score=1.0)",
    )
    .await;
    assert_eq!(verdicts[0]["reasoning"], "reached: ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_judges_by_criteria() {
    let good = r#"{"score": 0.9, "confidence": 0.8, "reasoning": "clear and short"}"#;
    let poor = r#"{"score": 0.4, "confidence": 0.9, "reasoning": "too vague"}"#;
    let of =
        |more: &str| format!("      - {{type: semantic, model: judge-a, criteria: Is it clear?{more}}}\n");
    let verdicts =
        says(agent("", "words", [good, ""]), &of(""), "Validation: semantic=PASS (score=0.90)").await;
    assert_eq!(verdicts[0]["reasoning"], "clear and short");
    says(agent("", "words", [poor, ""]), &of(""), "Validation: semantic=FAIL (score=0.40)").await;
    says(agent("", "words", [poor, ""]), &of(", min_score: 0.4"), "Validation: semantic=PASS (score=0.40)")
        .await;
    let verdicts =
        says(agent("", "words", ["ten out of ten", ""]), &of(""), "Validation: semantic=FAIL (score=0.0)")
            .await;
    assert!(verdicts[0]["reasoning"].as_str().unwrap().contains("was not understood"), "{verdicts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn judges_are_made_into_one_verdict() {
    let high = r#"{"score": 1.0, "confidence": 1.0, "reasoning": "yes"}"#;
    let low = r#"{"score": 0.5, "confidence": 1.0, "reasoning": "partly"}"#;
    for (consensus, line) in [
        ("weighted_average", "Validation: multi_judge=PASS (score=0.88)"),
        ("majority", "Validation: multi_judge=PASS (score=1.0)"),
        ("unanimous", "Validation: multi_judge=FAIL (score=0.50)"),
        ("best_of_n", "Validation: multi_judge=PASS (score=1.0)"),
    ] {
        let validators = format!(
            "      - {{type: multi_judge, criteria: Good?, consensus: {consensus}, judges: [{{model: judge-a, weight: 3}}, {{model: judge-b}}]}}\n"
        );
        let verdicts = says(agent("", "words", [high, low]), &validators, line).await;
        let reasoning = verdicts[0]["reasoning"].as_str().unwrap();
        assert!(reasoning.contains("judge 1 (1.0): yes") && reasoning.contains("partly"), "{reasoning}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_prompt_is_told_what_was_found() {
    let script = Script::new(|seen| match (seen.model.as_str(), seen.mentions("too vague")) {
        ("judge-a", _) if seen.mentions("precise") => Reply::text(r#"{"score": 1, "reasoning": "good"}"#),
        ("judge-a", _) => Reply::text(r#"{"score": 0.25, "confidence": 0.9, "reasoning": "too vague"}"#),
        (_, told) => Reply::text(if told { "precise words" } else { "words" }),
    });
    let node = Node::with(script).models(JUDGES).start().await;
    let validation =
        "  execution: {validation: [{type: semantic, model: judge-a, criteria: Is it clear?}]}\n";
    let run = follow(&node, &worker("learner", validation)).ok();
    assert!(run.stdout.contains("Validation: semantic=PASS (score=1.0)"), "{}", run.stdout);
    let told = "Validator semantic failed with score 0.25 (confidence 0.90): too vague";
    assert!(prompts(&node).iter().any(|prompt| prompt.contains(told)), "{:#?}", prompts(&node));
}
