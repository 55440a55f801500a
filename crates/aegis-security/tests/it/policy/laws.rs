//! What holds for all layers: each only takes away.

use aegis_security::constraint::{self, Decision, GovernedValue, Request, SecurityContext, ToolPattern};
use aegis_security::policy::{Authority, Layer, ManifestRules, Question, Ruling, evaluate, explain};
use proptest::prelude::*;
use serde_json::json;

use super::{call, capability, link, list, text};

fn tool() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "(fs|git|a|fsadmin)(\\.(read|x|b)){0,3}\\.?",
        1 => "\\.{0,3}[a-c*]{0,2}\\.{0,2}[a-c]?".prop_filter("empty names are not asked", |name| !name.is_empty()),
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    let any = prop_oneof![
        Just("*".to_owned()),
        "(fs|git|a|fsadmin)(\\.(read|x|b)){0,2}(\\.\\*)?",
        "\\.{0,3}[a-c]{0,2}(\\.\\*)?",
    ];
    any.prop_filter("a pattern", |text| ToolPattern::new(text).is_ok())
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(pattern(), 0..4)
}

#[derive(Debug, Clone)]
enum Source {
    Text(&'static str),
    Context(Vec<String>, Vec<String>),
    Soul(Authority),
    Manifest(Vec<String>),
}

const TEXTS: [&str; 6] = [
    "permit(principal, action, resource);",
    "permit(principal, action, resource); forbid(principal, action, resource in Aegis::ToolGroup::\"fs.*\");",
    "permit(principal, action, resource) when { context.risk < 500 };",
    "@ask(\"sure?\") permit(principal, action, resource) when { context.risk > 200 }; permit(principal, action, resource);",
    "permit(principal, action, resource) when { context has path && context.path in Aegis::Path::\"/workspace\" };",
    "permit(principal, action, resource) when { context.time + 9223372036854775807 > 0 };",
];

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        prop::sample::select(&TEXTS[..]).prop_map(Source::Text),
        (patterns(), patterns()).prop_map(|(allow, deny)| Source::Context(allow, deny)),
        (patterns(), patterns(), patterns(), prop::option::of(0.0..1.0)).prop_map(
            |(autonomous, review, forbidden, max_risk)| Source::Soul(Authority {
                autonomous,
                review,
                forbidden,
                max_risk
            })
        ),
        prop::collection::vec(tool(), 0..4).prop_map(Source::Manifest),
    ]
}

fn build(source: &Source) -> Layer {
    match source {
        Source::Text(policies) => text(policies),
        Source::Context(allow, deny) => Layer::from_context(&security_context(allow, deny)).unwrap(),
        Source::Soul(authority) => Layer::from_authority("s", authority).unwrap(),
        Source::Manifest(tools) => {
            let rules = ManifestRules { tools: tools.clone(), ..ManifestRules::default() };
            Layer::from_manifest("m", "1.0.0", &rules).unwrap()
        }
    }
}

fn security_context(allow: &[String], deny: &[String]) -> SecurityContext {
    let capabilities = allow.iter().map(|pattern| capability(pattern)).collect();
    SecurityContext::new("ci", capabilities, deny).unwrap()
}

/// What the monitor says matched: the capability the constraints select.
fn matched(context: &SecurityContext, tool: &str) -> Vec<String> {
    let request = Request { tool, governed: &[], arguments: &json!({}) };
    match constraint::evaluate(context, request, &|_, _| Ok(())) {
        Decision::Allow { capability_index } => vec![format!("context:ci/capability:{capability_index}")],
        Decision::Deny(_) => Vec::new(),
    }
}

fn governed() -> impl Strategy<Value = Vec<GovernedValue>> {
    let value = prop_oneof![
        "(/workspace|/etc|\\.\\.)/[ab]".prop_map(GovernedValue::Path),
        "[ab]\\.org".prop_map(GovernedValue::Domain)
    ];
    prop::collection::vec(value, 0..3)
}

proptest! {
    /// The layer's verdict is that of the constraints, for any patterns and tools.
    #[test]
    fn a_context_layer_says_what_the_constraints_say(allow in patterns(), deny in patterns(), tool in tool()) {
        let context = security_context(&allow, &deny);
        let layer = Layer::from_context(&context).unwrap();
        let matched = matched(&context, &tool);
        let question = Question { matched: &matched, ..call(&tool) };
        let expected = if matched.is_empty() { Ruling::Deny } else { Ruling::Permit };
        prop_assert_eq!(evaluate(&[layer], &question).ruling, expected);
    }

    /// Claiming that everything matched changes nothing: scope and deny list are the layer's own.
    #[test]
    fn a_false_match_permits_no_other_tool(allow in patterns(), deny in patterns(), tool in tool()) {
        let context = security_context(&allow, &deny);
        let layer = Layer::from_context(&context).unwrap();
        let all: Vec<_> = (0..allow.len()).map(|index| format!("context:ci/capability:{index}")).collect();
        let question = Question { matched: &all, ..call(&tool) };
        let expected = if matched(&context, &tool).is_empty() { Ruling::Deny } else { Ruling::Permit };
        prop_assert_eq!(evaluate(&[layer], &question).ruling, expected);
    }

    /// A soul's lists mean what tool patterns mean.
    #[test]
    fn a_soul_means_what_patterns_mean(autonomous in patterns(), review in patterns(), forbidden in patterns(), tool in tool()) {
        let named = |list: &[String]| list.iter().any(|text| ToolPattern::new(text).unwrap().matches(&tool));
        let expected = if named(&forbidden) {
            Ruling::Deny
        } else if named(&autonomous) && !named(&review) {
            Ruling::Permit
        } else {
            Ruling::Ask
        };
        let layer = Layer::from_authority("s", &Authority { autonomous, review, forbidden, max_risk: None }).unwrap();
        prop_assert_eq!(evaluate(&[layer], &call(&tool)).ruling, expected);
    }

    /// Adding a layer, wherever it stands, never turns a denial into anything else nor a question into a permission,
    /// and each layer says the same beside others as alone.
    #[test]
    fn a_layer_only_takes_away(
        sources in prop::collection::vec(source(), 1..4),
        added in source(),
        place in any::<prop::sample::Index>(),
        tool in tool(),
        risk in 0_i64..1000,
        governed in governed(),
    ) {
        let matched = list(&["context:ci/capability:0", "context:ci/capability:1"]);
        let question = Question { matched: &matched, risk, governed: &governed, ..call(&tool) };
        let mut layers: Vec<Layer> = sources.iter().map(build).collect();
        let before = evaluate(&layers, &question);
        layers.insert(place.index(layers.len() + 1), build(&added));
        let after = evaluate(&layers, &question);
        prop_assert!(after.ruling >= before.ruling);
        for (layer, said) in layers.iter().zip(&after.layers) {
            prop_assert_eq!(&evaluate(std::slice::from_ref(layer), &question).layers[0], said);
        }
        prop_assert_eq!(after.ruling, after.layers.iter().map(|layer| layer.ruling).max().unwrap());
        prop_assert_eq!(after.denial().is_some(), after.ruling == Ruling::Deny);
        prop_assert_eq!(after.questions().count() > 0, after.ruling == Ruling::Ask);
    }

    /// Explaining says what evaluating says.
    #[test]
    fn an_explanation_agrees_with_the_verdict(
        sources in prop::collection::vec(source(), 1..3),
        tool in tool(),
        risk in 0_i64..1000,
        governed in governed(),
    ) {
        let layers: Vec<Layer> = sources.iter().map(build).collect();
        let question = Question { risk, governed: &governed, ..call(&tool) };
        let (said, explained) = (evaluate(&layers, &question), explain(&layers, &question));
        prop_assert_eq!(explained.ruling, said.ruling);
        for (one, other) in said.layers.iter().zip(&explained.layers) {
            prop_assert_eq!((one.ruling, &one.rules), (other.ruling, &other.rules));
            prop_assert_eq!(other.remedy.is_none(), one.ruling == Ruling::Permit);
        }
    }

    /// What a child may do under its own layers and its parent's, the parent may do under its own.
    #[test]
    fn a_child_never_exceeds_its_parent(
        parent in prop::collection::vec(source(), 1..3),
        child in prop::collection::vec(source(), 1..3),
        tool in tool(),
        risk in 0_i64..1000,
    ) {
        let parents: Vec<Layer> = parent.iter().map(build).collect();
        let mut layers: Vec<Layer> = child.iter().map(build).collect();
        layers.extend(parents.iter().map(|layer| layer.of_ancestor(1)));
        let own = list(&["context:ci/capability:0"]);
        let both = list(&["context:ci/capability:0", "context:ci/capability:1", "ancestor:1/context:ci/capability:0"]);
        let chain = [link("parent"), link("child")];
        let by_child = evaluate(&layers, &Question { chain: &chain, matched: &both, risk, ..call(&tool) });
        let by_parent = evaluate(&parents, &Question { chain: &chain[..1], matched: &own, risk, ..call(&tool) });
        prop_assert!(by_parent.ruling <= by_child.ruling, "{:?} {:?}", by_parent, by_child);
    }
}

#[test]
fn a_tenants_own_permit_all_cancels_nothing() {
    let all = Layer::from_text("tenant:acme", "permit(principal, action, resource);").unwrap();
    let matched = list(&["context:ci/capability:0"]);
    for (other, tool) in [
        (super::context(&["fs.*"], &[]), "git.push"),
        (super::context(&["*"], &["git.*"]), "git.push"),
        (text("permit(principal, action, resource); forbid(principal, action, resource);"), "fs.read"),
        (Layer::from_manifest("m", "1.0.0", &ManifestRules::default()).unwrap(), "fs.read"),
    ] {
        let question = Question { matched: &matched, ..call(tool) };
        for layers in [[all.clone(), other.clone()], [other.clone(), all.clone()]] {
            let said = evaluate(&layers, &question);
            assert_eq!(said.ruling, Ruling::Deny);
            assert!(said.denial().unwrap().rule.starts_with(other.name()));
        }
    }
}
