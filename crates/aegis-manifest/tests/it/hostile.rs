//! Documents that were not written by a friend.

use std::fmt::Write;
use std::time::{Duration, Instant};

use aegis_manifest::{ProblemCode, parse_agent, parse_node_config};
use proptest::prelude::*;

/// Far above what a refusal takes, far below what reading the whole would.
const SOON: Duration = Duration::from_secs(5);

#[track_caller]
fn refused(text: &str) -> ProblemCode {
    let start = Instant::now();
    let problems = parse_agent(text, "x").unwrap_err().problems;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    problems[0].code
}

#[test]
fn bombs_are_refused_fast() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..40 {
        let below = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{}]", [below.as_str(); 9].join(",")).unwrap();
    }
    assert_eq!(refused(&bomb), ProblemCode::Limit);
    assert_eq!(refused(&"[".repeat(100_000)), ProblemCode::Limit);
    assert_eq!(refused(&"{a: ".repeat(100_000)), ProblemCode::Limit);
    assert_eq!(refused(&"- ".repeat(100_000)), ProblemCode::Limit);
    let mut chain = "- &a0 [x]\n".to_owned();
    for level in 1..5_000 {
        writeln!(chain, "- &a{level} [*a{}]", level - 1).unwrap();
    }
    assert_eq!(refused(&chain), ProblemCode::Limit);
    assert_eq!(refused(&"a: b\n".repeat(400_000)), ProblemCode::Limit);
    assert_eq!(refused(&format!("a: [{}]", "x,".repeat(200_000))), ProblemCode::Limit);
}

#[test]
fn what_is_shown_cannot_act_on_a_terminal() {
    let shown =
        parse_agent("kind: \"\u{1b}[31mAgent\u{202e}\"\nx\u{1b}y: 1\n", "x\u{1b}").unwrap_err().render();
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
}

#[test]
fn variables_are_replaced_in_configuration_only_and_never_shown() {
    let manifest = "apiVersion: 100monkeys.ai/v1\nkind: Agent\nmetadata: {name: a, version: 1.0.0}\nspec: {runtime: {language: python}, env: {A: \"${HOME}\"}}\n";
    assert_eq!(parse_agent(manifest, "x").unwrap().document.spec.env["A"], "${HOME}");
    let config = "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {name: a}\nspec: {network: {port: \"${KEY}\"}}\n";
    let shown = parse_node_config(config, "x", &|_| Some("hunter2".into())).unwrap_err().render();
    assert!(shown.contains("${KEY}") && !shown.contains("hunter2"), "{shown}");
}

fn yaml_like() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("apiVersion: 100monkeys.ai/v1\n"),
        Just("kind: Agent\n"),
        Just("metadata:\n"),
        Just("spec:\n"),
        Just("  runtime:\n"),
        Just("    language: python\n"),
        Just("  volumes:\n"),
        Just("  - "),
        Just("name: a\n"),
        Just("  execution: {validation: "),
        Just("[{type: regex, pattern: '('}]"),
        Just("}\n"),
        Just("{"),
        Just("["),
        Just("]"),
        Just(": "),
        Just("&a "),
        Just("*a "),
        Just("!!str "),
        Just("? "),
        Just("|\n"),
        Just("'"),
        Just("\""),
        Just("\t"),
        Just("\n"),
        Just("- "),
        Just("---\n"),
        Just("..."),
        Just("#"),
        Just("<<: "),
        Just("~"),
        Just("é\u{fffd}"),
    ];
    prop::collection::vec(word, 0..25).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse_agent(&text, "x").map_err(|problems| problems.render());
    }

    #[test]
    fn yaml_never_panics(text in yaml_like()) {
        let _ = parse_agent(&text, "x").map_err(|problems| problems.render());
        let _ = parse_node_config(&text, "x", &|_| None).map_err(|problems| problems.render());
    }
}
