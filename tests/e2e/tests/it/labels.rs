//! Labels: each call alone is allowed, what they do together is not.

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::json;

use crate::manifests::worker;
use crate::observe::{events, follow, tool_results};

/// A model that reads what is sensitive and what nobody vouches for, then sends.
fn sends() -> Script {
    Script::rules(vec![
        Rule::always(Reply::call("fs.list", &json!({"path": "/workspace"}))).when_tool_results(0),
        Rule::always(Reply::call("fs.glob", &json!({"pattern": "**"}))).when_tool_results(1),
        Rule::always(Reply::call("cmd.run", &json!({"command": "true"}))).when_tool_results(2),
        Rule::always(Reply::text("done")),
    ])
}

fn governance(rules: &str) -> String {
    format!(
        "  governance:
    tool_labels:
      - {{tool_pattern: fs.list, sensitive: true}}
      - {{tool_pattern: fs.glob, untrusted: true}}
      - {{tool_pattern: cmd.run, egress: true}}
{rules}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sensitive_does_not_leave_after_something_untrusted_was_read() {
    let node = Node::with(sends()).config(&governance("")).start().await;
    let run = follow(&node, &worker("sender", "")).ok();
    assert!(run.stdout.contains("Tool: cmd.run true DENIED"), "{}", run.stdout);
    let told = tool_results(&node);
    assert!(told[2].contains("untrusted-sensitive-egress"), "{told:?}");
    let grown = events(&node, "labels.grown");
    assert_eq!(grown.len(), 2, "{grown:#?}");
    let denied = events(&node, "action.denied");
    assert!(denied[0].to_string().contains("node/label:untrusted-sensitive-egress"), "{denied:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_on_labels_is_switched_off_by_its_name_and_that_is_on_record() {
    let off = governance("    label_rules: {untrusted-sensitive-egress: false}\n");
    let node = Node::with(sends()).config(&off).start().await;
    let run = follow(&node, &worker("sender", "")).ok();
    assert!(!run.stdout.contains("DENIED"), "{}", run.stdout);
    let started = events(&node, "daemon.started");
    assert!(started[0].to_string().contains("untrusted-sensitive-egress"), "{started:#?}");
}
