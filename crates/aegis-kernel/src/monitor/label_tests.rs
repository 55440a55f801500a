//! Labels, from the attacker's side: each call alone is allowed, what they do together is not.

use std::sync::Arc;

use aegis_core::{Body, Denial, ToolCall, ToolResult, ToolSchema};
use serde_json::json;

use super::speed::{Signing, authority, rules, waiting_ledger};
use super::{Action, Limiter, Monitor, Performed, Proof, Settled, Target};
use crate::port::ToolFacts;
use crate::test_journal::TestJournal;

const AGENT: &str = "apiVersion: 100monkeys.ai/v1
kind: Agent
metadata: {name: a, version: 1.0.0}
spec:
  runtime: {language: python}
  tools: [hr.read, web.get, mail.send]
";

fn node(governance: &str) -> String {
    format!(
        "apiVersion: 100monkeys.ai/v1
kind: NodeConfig
metadata: {{name: test}}
spec:
  security_contexts: [{{name: default, capabilities: [{{tool_pattern: '*'}}]}}]
  governance:
    tool_labels: [{{tool_pattern: 'hr.*', sensitive: true, untrusted: false, egress: false}}]
{governance}"
    )
}

fn tools() -> Vec<Arc<ToolFacts>> {
    ["hr.read", "web.get", "mail.send"]
        .map(|name| {
            let schema = ToolSchema {
                name: name.to_owned(),
                description: String::new(),
                parameters: json!({"type": "object"}),
            };
            Arc::new(ToolFacts { schema, idempotent: false, governed: Vec::new(), foreign: true })
        })
        .into()
}

/// Makes these calls one after another in one run: what refused each, and what is on record.
async fn run(governance: &str, calls: &[&str]) -> (Vec<Option<Denial>>, Arc<TestJournal>) {
    let journal = Arc::new(TestJournal::default());
    let mut ledger = waiting_ledger(journal.clone());
    let manifest = aegis_manifest::parse_agent(AGENT, "a.yaml").unwrap().document;
    let config = aegis_manifest::parse_node_config(&node(governance), "c.yaml", &|_| None).unwrap().document;
    let tools = tools();
    let mut authority = authority(&manifest, &config, &tools);
    let signing = Signing::new();
    let monitor = Monitor::new(Limiter::default(), rules(&config), Arc::clone(&signing.tokens));
    let mut refused = Vec::new();
    for (index, name) in (0u32..).zip(calls) {
        let call = ToolCall { id: "1".into(), name: (*name).to_owned(), arguments: json!({}) };
        let facts = tools.iter().find(|facts| facts.schema.name == *name).map(AsRef::as_ref);
        let (envelope, session) = signing.sign(&ledger, &call);
        let proof = Proof::Kernel { envelope: envelope.as_ref(), session: &session };
        let target = Target::Tool { turn: 0, index, call: &call, facts, proof };
        let action = Action { target, generation: 1 };
        let perform = |_| async { Performed::Tool(Ok(ToolResult::ok("some text"))) };
        let settled = monitor.pass(&mut ledger, &mut authority, &action, perform).await.unwrap();
        refused.push(match settled {
            Settled::Denied(denial) => Some(denial),
            _ => None,
        });
    }
    (refused, journal)
}

#[tokio::test]
async fn what_is_sensitive_does_not_leave_once_something_untrusted_was_read() {
    for alone in ["hr.read", "web.get", "mail.send"] {
        assert_eq!(run("", &[alone]).await.0, [None], "{alone}");
    }
    for pair in [["hr.read", "mail.send"], ["web.get", "mail.send"], ["web.get", "hr.read"]] {
        assert_eq!(run("", &pair).await.0, [None, None], "{pair:?}");
    }
    for order in [["hr.read", "web.get", "mail.send"], ["web.get", "hr.read", "mail.send"]] {
        let (refused, journal) = run("", &order).await;
        assert_eq!((&refused[0], &refused[1]), (&None, &None), "{order:?}");
        let denial = refused[2].as_ref().unwrap_or_else(|| panic!("{order:?}"));
        assert_eq!(denial.rule, "node/label:untrusted-sensitive-egress");
        let grown: Vec<String> = journal
            .bodies()
            .into_iter()
            .filter_map(|body| match body {
                Body::LabelsGrown { labels, action: Some(_) } => {
                    Some(labels.into_iter().collect::<Vec<_>>().join(" "))
                }
                _ => None,
            })
            .collect();
        assert_eq!(grown.len(), 2, "{grown:?}");
        assert!(grown.contains(&"sensitive source:hr.read".to_owned()), "{grown:?}");
        assert!(grown.contains(&"source:web.get untrusted".to_owned()), "{grown:?}");
    }
}

#[tokio::test]
async fn labels_never_go_away_and_repeated_ones_are_recorded_once() {
    let (refused, journal) =
        run("", &["hr.read", "web.get", "hr.read", "mail.send", "hr.read", "mail.send"]).await;
    let denied: Vec<bool> = refused.iter().map(Option::is_some).collect();
    assert_eq!(denied, [false, false, false, true, false, true]);
    let grown = journal.bodies().iter().filter(|body| matches!(body, Body::LabelsGrown { .. })).count();
    assert_eq!(grown, 2);
}

#[tokio::test]
async fn the_rule_is_switched_off_by_its_name_and_policies_see_labels() {
    let off = "    label_rules: {untrusted-sensitive-egress: false}\n";
    assert_eq!(run(off, &["hr.read", "web.get", "mail.send"]).await.0, [None, None, None]);
    let trusted = node("")
        .replace("tool_labels: [", "tool_labels: [{tool_pattern: web.get, untrusted: false, egress: true}, ");
    assert!(aegis_manifest::parse_node_config(&trusted, "c.yaml", &|_| None).is_ok());
    for wrong in
        ["    label_rules: {no-such: false}\n", "    label_rules: {untrusted-sensitive-egress: maybe}\n"]
    {
        assert!(aegis_manifest::parse_node_config(&node(wrong), "c.yaml", &|_| None).is_err(), "{wrong}");
    }
}
