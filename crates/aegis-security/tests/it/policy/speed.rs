//! What a question costs: `AEGIS_MEASURE=1 cargo test --release -p aegis-security --test it speed -- --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use aegis_security::policy::{Authority, Layer, ManifestRules, Question, Ruling, evaluate};
use serde_json::json;

use super::{call, context, link, list, path, text};

const ROUNDS: u32 = 2000;

/// Four layers as a usual call meets them; the same again with a parent's; and one with arguments.
#[test]
fn the_cost_of_a_question() {
    let node = text(
        r#"permit(principal, action, resource);
           forbid(principal, action, resource in Aegis::ToolGroup::"mail.*") when { context.labels.contains("untrusted") };"#,
    );
    let soul = Authority {
        autonomous: list(&["fs.*", "web.fetch"]),
        review: list(&["git.push"]),
        forbidden: list(&["mail.*"]),
        max_risk: Some(0.4),
    };
    let rules = ManifestRules {
        tools: list(&["fs.read", "fs.write", "fs.list", "web.fetch", "git.push"]),
        models: list(&["default"]),
        ..ManifestRules::default()
    };
    let own = vec![
        node,
        context(&["git.*", "fs.*", "web.*"], &["fs.delete"]),
        Layer::from_authority("writer", &soul).unwrap(),
        Layer::from_manifest("writer", "1.2.0", &rules).unwrap(),
    ];
    let mut with_parent = own.clone();
    with_parent.extend(own.iter().map(|layer| layer.of_ancestor(1)));
    let mut with_arguments = own.clone();
    with_arguments
        .push(text(r#"permit(principal, action, resource) when { context.arguments.hasTag("path") };"#));
    let governed = [path("/workspace/src/main.rs")];
    let chain = [link("parent"), link("writer")];
    let matched = list(&["context:ci/capability:1", "ancestor:1/context:ci/capability:1"]);
    let arguments = json!({"path": "/workspace/src/main.rs", "offset": 1, "limit": 100});
    let question = Question {
        governed: &governed,
        chain: &chain,
        matched: &matched,
        arguments: &arguments,
        ..call("fs.read")
    };
    for (what, layers) in [
        ("4 layers", &own),
        ("8 layers, with a parent's", &with_parent),
        ("5 layers, with arguments", &with_arguments),
    ] {
        let rounds = if std::env::var_os("AEGIS_MEASURE").is_some() { ROUNDS } else { 20 };
        let start = Instant::now();
        for _ in 0..rounds {
            assert_eq!(evaluate(black_box(layers), black_box(&question)).ruling, Ruling::Permit);
        }
        let whole = start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
        let count = u32::try_from(layers.len()).unwrap();
        println!("{what}: {whole:.1} us a question, {:.1} us a layer", whole / f64::from(count));
    }
}
