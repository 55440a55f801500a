//! The examples as `./quickstart` deploys and runs them.

use aegis_e2e::{Node, example};
use aegis_testkit::scripted_model::Script;

const STALE: &str =
    "the recordings of examples/two-iterations do not fit the example: renew them with `just record`";

async fn replaying() -> Node {
    let config = example::folder().join("aegis-config.yaml");
    Node::with(Script::sequence(Vec::new())).config_file(&config).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_example_fails_once_and_then_completes() {
    let node = replaying().await;
    node.run(&["agent", "deploy", &example::folder().join("agent.yaml").display().to_string()]).ok();
    let input = example::quickstart_input();
    let run = node.run(&["task", "execute", example::NAME, "--input", &input, "--follow"]);
    assert!(run.code == 0, "{STALE}\n{}{}", run.stdout, run.stderr);
    for expected in ["json_schema=FAIL", "Iteration 2 Started", "json_schema=PASS (score=1.0)"] {
        assert!(run.stdout.contains(expected), "{STALE}\n`{expected}` is not in:\n{}", run.stdout);
    }
    assert!(run.stdout.contains("Completed (2 iterations, "), "{STALE}\n{}", run.stdout);
    assert_eq!(node.model.requests().len(), 0, "a replay asks no model");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_that_quickstart_deploys_is_accepted_twice() {
    let node = replaying().await;
    let script = std::fs::read_to_string(example::repository().join("quickstart")).unwrap();
    let manifests: Vec<&str> = script
        .split(|c: char| c.is_whitespace() || c == ';')
        .filter(|word| word.starts_with("examples/") && word.ends_with(".yaml"))
        .collect();
    assert!(manifests.len() >= 4, "{manifests:?}");
    for manifest in manifests {
        let path = example::repository().join(manifest).display().to_string();
        for _ in 0..2 {
            node.run(&["agent", "deploy", &path]).ok();
        }
    }
}
