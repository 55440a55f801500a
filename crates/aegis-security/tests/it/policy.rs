//! Layers of policy, asked from the outside.

mod authoring;
mod comparing;
mod laws;
mod layers;
mod speed;
mod values;

use std::sync::LazyLock;

use aegis_security::constraint::{Capability, GovernedValue, SecurityContext};
use aegis_security::policy::{ActionName, Layer, Link, Question, Ruling, Verdict, evaluate};
use serde_json::{Value, json};

pub(crate) fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|entry| (*entry).to_owned()).collect()
}

pub(crate) fn link(agent: &str) -> Link {
    Link {
        execution: format!("{agent}-execution"),
        agent: agent.to_owned(),
        version: "1.2.0".to_owned(),
        tenant: "acme".to_owned(),
    }
}

static CHAIN: LazyLock<[Link; 1]> = LazyLock::new(|| [link("writer")]);
static NO_ARGUMENTS: Value = Value::Null;

/// The agent `writer` of tenant `acme` calls a tool, without arguments.
pub(crate) fn call(tool: &str) -> Question<'_> {
    Question {
        chain: CHAIN.as_slice(),
        action: ActionName::CallTool,
        resource: tool,
        governed: &[],
        arguments: &NO_ARGUMENTS,
        matched: &[],
        notes: &[],
        labels: &[],
        risk: 0,
        time: 1_700_000_000,
    }
}

pub(crate) fn capability(tool_pattern: &str) -> Capability {
    Capability { tool_pattern: tool_pattern.to_owned(), ..Capability::default() }
}

pub(crate) fn context(patterns: &[&str], deny: &[&str]) -> Layer {
    let capabilities = patterns.iter().map(|pattern| capability(pattern)).collect();
    let context = SecurityContext::new("ci", capabilities, &list(deny)).unwrap();
    Layer::from_context(&context).unwrap()
}

pub(crate) fn text(text: &str) -> Layer {
    Layer::from_text("node", text).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn ruling(layer: &Layer, question: &Question<'_>) -> Ruling {
    evaluate(std::slice::from_ref(layer), question).ruling
}

pub(crate) fn verdict(layer: &Layer, question: &Question<'_>) -> Verdict {
    evaluate(std::slice::from_ref(layer), question)
}

/// Rule and code of the denial.
pub(crate) fn denial(layer: &Layer, question: &Question<'_>) -> (String, &'static str) {
    let denial = verdict(layer, question).denial().unwrap();
    assert!(!denial.message.is_empty() && !denial.remedy.is_empty());
    (denial.rule, denial.code.name())
}

pub(crate) fn path(path: &str) -> GovernedValue {
    GovernedValue::Path(path.to_owned())
}

pub(crate) fn domain(host: &str) -> GovernedValue {
    GovernedValue::Domain(host.to_owned())
}

pub(crate) fn command(argv: &[&str]) -> GovernedValue {
    GovernedValue::Command { argv: list(argv), cwd: None }
}

#[test]
fn the_schema_speaks_of_every_action() {
    let schema = aegis_security::policy::schema_json();
    for action in ActionName::ALL {
        let applies = &schema["Aegis"]["actions"][action.as_str()]["appliesTo"];
        assert_eq!(applies["principalTypes"], json!(["Execution"]), "{action}");
    }
}
