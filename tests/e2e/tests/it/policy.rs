//! Policy on the real binary: layers, souls, reloads under a running execution, and asking what policy says.

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Gate, Reply, Rule, Script, Turn};
use serde_json::{Value, json};

use crate::attacks::http::send;
use crate::manifests::worker;
use crate::observe::{events, follow, newest_execution, tool_results, until};

const FILE: &str = "/workspace/a.txt";

/// A model that makes these calls in one turn, then answers.
fn calling(calls: &[(&str, Value)]) -> Script {
    let mut turn = Turn::call(calls[0].0, &calls[0].1);
    for (tool, arguments) in &calls[1..] {
        turn = turn.and_call(*tool, arguments);
    }
    Script::rules(vec![
        Rule::always(Reply::Turn(turn)).when_tool_results(0),
        Rule::always(Reply::text("done")),
    ])
}

/// Code and rule of each refusal on record, in order.
fn denied(node: &Node) -> Vec<(String, String)> {
    let text = |event: &Value, field: &str| event["body"][field].as_str().unwrap_or_default().to_owned();
    events(node, "action.denied").iter().map(|event| (text(event, "code"), text(event, "rule"))).collect()
}

fn pairs(denied: &[(String, String)]) -> Vec<(&str, &str)> {
    denied.iter().map(|(code, rule)| (code.as_str(), rule.as_str())).collect()
}

const POLICIES: &str = "  governance:
    policies:
      - name: base
        cedar: |
          permit(principal, action, resource);
          @id(\"keep\") @reason(\"what is kept stays\")
          forbid(principal, action == Aegis::Action::\"call_tool\", resource == Aegis::Tool::\"fs.delete\")
            when { context has path && context.path in Aegis::Path::\"/workspace/keep\" };
          @id(\"programs\") @ask(\"Run a program?\")
          permit(principal, action, resource == Aegis::Tool::\"cmd.run\")
            when { context has command && context.command == \"python3\" };
      - name: everything
        tenant: default
        cedar: permit(principal, action, resource);";

#[tokio::test(flavor = "multi_thread")]
async fn every_layer_must_permit_and_a_tenants_permit_cancels_nothing() {
    let node = Node::with(calling(&[
        ("fs.write", json!({"path": FILE, "content": "x"})),
        ("fs.delete", json!({"path": "/workspace/keep/../keep/a"})),
        ("fs.delete", json!({"path": FILE})),
        ("cmd.run", json!({"command": "python3", "args": ["--version"]})),
        ("cmd.run", json!({"command": "true"})),
        ("fs.read", json!({"path": "/etc/passwd"})),
        ("fsadmin.read", json!({"path": FILE})),
    ]))
    .config(POLICIES)
    .start()
    .await;
    follow(&node, &worker("layered", "")).ok();
    assert_eq!(
        pairs(&denied(&node)),
        [
            ("PATH_NOT_ALLOWED", "node:base/policy:keep"),
            ("APPROVAL_REQUIRED", "node:base/policy:programs"),
            ("PATH_NOT_ALLOWED", "manifest:security.filesystem"),
            ("TOOL_NOT_ALLOWED", "manifest:tools"),
        ]
    );
    let results = tool_results(&node);
    assert!(results[1].contains("what is kept stays"), "the reason is told: {}", results[1]);
    assert!(results[3].contains("Run a program?"), "{}", results[3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soul_forbids_and_what_it_would_ask_for_is_refused() {
    let node = Node::with(calling(&[
        ("fs.write", json!({"path": FILE, "content": "x"})),
        ("fs.delete", json!({"path": FILE})),
        ("cmd.run", json!({"command": "true"})),
        ("fs.list", json!({})),
    ]))
    .start()
    .await;
    let soul = "  soul:
    intent: Write, and never remove.
    authority: {autonomous: [fs.*], review: [fs.list], forbidden: [fs.delete]}
";
    follow(&node, &worker("careful", soul)).ok();
    assert_eq!(
        pairs(&denied(&node)),
        [
            ("TOOL_EXPLICITLY_DENIED", "soul:careful/forbidden:0"),
            ("APPROVAL_REQUIRED", "soul:careful/unlisted:0"),
            ("APPROVAL_REQUIRED", "soul:careful/review:0"),
        ]
    );
    // What of a soul is not enforced is refused by name.
    let more = format!("{soul}    acceptance: [it is good]\n").replace("careful", "other");
    let manifest = worker("other", &more);
    let path = node.file("other.yaml", &manifest);
    let deployed = node.run(&["agent", "deploy", &path]).ok();
    assert!(deployed.stderr.contains("spec.soul.acceptance"), "{}", deployed.stderr);
    for (field, value) in [
        ("acceptance", "[it is good]"),
        ("owner", "somebody"),
        ("gates", "{before: [ask]}"),
        ("inputs", "{type: object}"),
        ("failure_modes", "[{when: timeout, then: halt}]"),
        ("safe_mode", "{instruction: Only read., tools: [fs.read]}"),
    ] {
        let more = format!("{soul}    {field}: {value}\n");
        let path = node.file("other.yaml", &worker("other", &more));
        node.run(&["agent", "deploy", &path, "--force"]).ok();
        let refused = node.run(&["task", "execute", "other", "--output", "json"]).expect_code(2);
        let place = format!("spec.soul.{field}");
        assert!(refused.stderr.contains(&place), "{}", refused.stderr);
        assert!(refused.stderr.contains("capability_missing"), "{}", refused.stderr);
    }
}

fn reload(node: &Node, change: impl FnOnce(String) -> String) {
    let file = node.home().join("config.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, change(text)).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(node.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_from_a_running_execution_and_gives_back() {
    let context = "  security_contexts:\n    - {name: narrow, capabilities: [{tool_pattern: fs.list}, {tool_pattern: cmd.run}]}";
    let (first, second) = (Gate::new(), Gate::new());
    let list = || Box::new(Reply::call("fs.list", &json!({})));
    let node = Node::with(Script::rules(vec![
        Rule::always(*list()).when_tool_results(0),
        Rule::always(Reply::Behind(first.clone(), list())).when_tool_results(1),
        Rule::always(Reply::Behind(second.clone(), list())).when_tool_results(2),
        Rule::always(Reply::text("done")),
    ]))
    .config(context)
    .start()
    .await;
    let agent = node.deploy(&worker("running", "  security_context: narrow\n"));
    let execution = node.execute(&agent, "{}");
    assert_eq!(execution, newest_execution(&node));
    until("the model is asked again", || node.model.requests().len() == 2);
    reload(&node, |text| text.replace("{tool_pattern: fs.list}, ", ""));
    until("the reload is recorded", || events(&node, "daemon.config_reloaded").len() == 1);
    first.open();
    until("the model is told", || node.model.requests().len() == 3);
    assert_eq!(pairs(&denied(&node)), [("TOOL_NOT_ALLOWED", "context:narrow")]);
    // A configuration that is wrong changes nothing.
    let wrong = "  governance: {policies: [{name: wrong, cedar: 'permit('}]}\n";
    reload(&node, |text| format!("{text}{wrong}"));
    until("the wrong one is told", || node.daemon_log().contains("the configuration is not reloaded"));
    reload(&node, |text| {
        text.replace(wrong, "").replace("[{tool_pattern: cmd.run}]", "[{tool_pattern: fs.*}]")
    });
    until("the reload is recorded", || events(&node, "daemon.config_reloaded").len() == 2);
    second.open();
    assert_eq!(node.wait(&execution)["status"], "completed");
    assert_eq!(denied(&node).len(), 1, "what is permitted again is done again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_narrowed_under_a_running_execution_denies_its_next_action() {
    let gate = Gate::new();
    let read = |path: &str| Box::new(Reply::call("fs.list", &json!({"path": path})));
    let node = Node::with(Script::rules(vec![
        Rule::always(*read("/workspace")).when_tool_results(0),
        Rule::always(Reply::Behind(gate.clone(), read("/workspace"))).when_tool_results(1),
        Rule::always(Reply::text("done")),
    ]))
    .config("  governance: {policies: [{name: base, cedar: 'permit(principal, action, resource);'}]}")
    .start()
    .await;
    let execution = node.execute(&node.deploy(&worker("watched", "")), "{}");
    until("the model is asked again", || node.model.requests().len() == 2);
    let closed = " @id(\"closed\") forbid(principal in Aegis::Agent::\"watched\", action == Aegis::Action::\"call_tool\", resource);'";
    reload(&node, |text| text.replace("resource);'", &format!("resource);{closed}")));
    until("the reload is recorded", || events(&node, "daemon.config_reloaded").len() == 1);
    gate.open();
    assert_eq!(node.wait(&execution)["status"], "completed");
    assert_eq!(pairs(&denied(&node)), [("TOOL_EXPLICITLY_DENIED", "node:base/policy:closed")]);
    let performed = events(&node, "action.intended");
    let listed = performed.iter().filter(|event| event.to_string().contains("fs.list")).count();
    assert_eq!(listed, 1, "nothing was begun after it: {performed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_policy_says_is_asked_tested_and_compared() {
    let node = Node::with(Script::rules(Vec::new())).config(POLICIES).start().await;
    node.deploy(&worker("asked", ""));
    let explain = |arguments: &str| {
        node.run(&["policy", "explain", "asked", "fs.delete", arguments, "--output", "json"]).ok().json()
    };
    let permitted = explain("{\"path\": \"a.txt\"}");
    let layers: Vec<&str> = permitted["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["layer"].as_str().unwrap())
        .collect();
    assert_eq!(layers, ["node:base", "tenant:default:everything", "context:default", "manifest:asked@1.0.0"]);
    assert_eq!(permitted["ruling"], "permit");
    let kept = explain("{\"path\": \"keep/a\"}");
    assert_eq!((&kept["ruling"], &kept["code"]), (&json!("deny"), &json!("PATH_NOT_ALLOWED")));
    assert_eq!(kept["layers"][0]["rules"], json!(["node:base/policy:keep"]));
    let table = node.run(&["policy", "explain", "asked", "rocket.launch"]).ok().stdout;
    assert!(table.contains("the manifest does not list it") && table.contains("Together: deny"), "{table}");
    node.run(&["policy", "explain", "nobody", "fs.read"]).expect_code(1);
    let misspelt = node.file("misspelt.yaml", &worker("misspelt", "  security_context: defualt\n"));
    let refused = node.run(&["agent", "deploy", &misspelt]).expect_code(2);
    assert!(refused.stderr.contains("did you mean `default`"), "{}", refused.stderr);
    node.run(&["policy", "explain", "asked", "fs.read", "[1]"]).expect_code(2);

    let good = node.file(
        "table.yaml",
        "- {agent: asked, tool: fs.read, arguments: {path: a}, expect: permit}
- {agent: asked, tool: fs.delete, arguments: {path: keep/a}, expect: deny, rule: node:base/policy:keep}
- {agent: asked, tool: cmd.run, arguments: {command: python3}, expect: ask}
",
    );
    let tested = node.run(&["policy", "test", &good]).ok();
    assert!(tested.stdout.contains("3 passed, 0 failed"), "{}", tested.stdout);
    let bad =
        node.file("bad.yaml", "- {agent: asked, tool: fs.read, arguments: {path: /etc/x}, expect: permit}\n");
    let failed = node.run(&["policy", "test", &bad]).expect_code(6);
    assert!(failed.stdout.contains("FAIL") && failed.stderr.contains("1 of 1 rows"), "{}", failed.stdout);
    let unknown = node.file("unknown.yaml", "- {agent: asked, tol: fs.read, expect: permit}\n");
    node.run(&["policy", "test", &unknown]).expect_code(2);

    let old = node.file("old.cedar", "permit(principal, action, resource);\n");
    let new = node.file(
        "new.cedar",
        "permit(principal, action, resource);\nforbid(principal, action, resource == Aegis::Tool::\"fs.read\");\n",
    );
    let diff = node.run(&["policy", "diff", &old, &new, "--table", &good, "--output", "json"]).ok().json();
    assert_eq!(diff["lines"][1]["kind"], "added");
    // Under both, nothing of the node's own policy holds: of the rows only the first differs.
    assert_eq!(diff["verdicts"].as_array().unwrap().len(), 1, "{diff}");
    assert_eq!(
        (&diff["verdicts"][0]["row"], &diff["verdicts"][0]["direction"]),
        (&json!(0), &json!("narrows"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_policy_are_checked_with_their_places() {
    let node = Node::with(Script::rules(Vec::new())).start().await;
    let check = |name: &str, text: &str| node.run(&["policy", "check", &node.file(name, text)]);
    check("good.cedar", "permit(principal, action, resource);\n").ok();
    let wrong = check(
        "wrong.cedar",
        "permit(principal, action, resource);\nforbid(principal, action == Aegis::Action::\"fly\", resource);\n",
    )
    .expect_code(2);
    assert!(wrong.stderr.contains("wrong.cedar:2:"), "{}", wrong.stderr);
    let soul =
        check("soul.yaml", "soul: {intent: x, authority: {review: ['fs*'], max_risk: 2}}\n").expect_code(2);
    assert!(
        soul.stderr.contains("authority.review[0]") && soul.stderr.contains("max_risk"),
        "{}",
        soul.stderr
    );
    let contexts = check(
        "contexts.yaml",
        "security_contexts:\n  - {name: a, capabilities: [{tool_pattern: 'fs.*', domain_allowlist: ['a b']}]}\n",
    )
    .expect_code(2);
    assert!(contexts.stderr.contains("capabilities[0].domain_allowlist[0]"), "{}", contexts.stderr);

    let narrow = node.file("narrow.yaml", "- {name: ci, capabilities: [{tool_pattern: fs.read}]}\n");
    let wide = node.file(
        "wide.yaml",
        "- {name: ci, capabilities: [{tool_pattern: fs.read}, {tool_pattern: cmd.run}]}\n",
    );
    let diff = node.run(&["policy", "diff", &narrow, &wide]).ok();
    assert!(diff.stdout.contains("widens"), "{}", diff.stdout);
    let back = node.run(&["policy", "diff", &wide, &narrow]).ok();
    assert!(back.stdout.contains("narrows") && !back.stdout.contains("widens"), "{}", back.stdout);
    node.run(&["policy", "diff", &narrow, &node.file("x.cedar", "permit(principal, action, resource);")])
        .expect_code(2);

    let config = |cedar: &str| {
        let text = format!(
            "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {{name: x}}\nspec:\n  governance:\n    policies:\n      - {{name: a, cedar: {cedar}}}\n"
        );
        node.run(&["config", "validate", &node.file("node.yaml", &text)])
    };
    node.file("base.cedar", "permit(principal, action, resource);\nforbid(principal action, resource);\n");
    let inside = config("base.cedar").expect_code(2);
    assert!(inside.stderr.contains("base.cedar:2:18"), "{}", inside.stderr);
    let inline = config("'permit(principal, action, resource) when { context.rsk > 3 };'").expect_code(2);
    assert!(inline.stderr.contains("node.yaml:7:26") && inline.stderr.contains("1:"), "{}", inline.stderr);
    node.file("base.cedar", "permit(principal, action, resource);\n");
    config("base.cedar").ok();
    for outside in ["/etc/base.cedar", "../base.cedar", "a/../../base.cedar"] {
        let refused = config(outside).expect_code(2);
        assert!(refused.stderr.contains("below the configuration's folder"), "{}", refused.stderr);
    }
    // Over HTTP no file of the daemon's machine is read.
    let named = "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {name: x}\nspec: {governance: {policies: [{name: a, cedar: base.cedar}]}}\n";
    let body = json!({"file": "node.yaml", "text": named}).to_string();
    let host = format!("Host: 127.0.0.1:{}", node.port());
    let own = format!("Authorization: Bearer {}", node.token());
    let headers = [host.as_str(), &own, "Content-Type: application/json"];
    let (code, answer) = send(&node, "POST /v1/policy/check", &headers, &body);
    assert!(code == 200 && answer.contains("is not read here"), "{code} {answer}");
}
