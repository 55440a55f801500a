//! Renews the recordings of `examples/two-iterations`: runs the example on the real daemon against a scripted model,
//! with recording on, and puts what was recorded in the place of what was there. `just record` runs it.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program of the developer's: it ends at the first failure and says what it did"
)]

use aegis_e2e::{Node, example};

#[tokio::main]
async fn main() {
    let recorded = tempfile::tempdir().expect("a temporary folder");
    let node = Node::with(example::answers()).env("AEGIS_RECORD_MODELS_TO", recorded.path()).start().await;
    let manifest = example::folder().join("agent.yaml");
    node.run(&["agent", "deploy", &manifest.display().to_string()]).ok();
    let input = example::quickstart_input();
    let run = node.run(&["task", "execute", example::NAME, "--input", &input, "--follow"]).ok();
    print!("{}", run.stdout);
    assert!(run.stdout.contains("Completed (2 iterations, "), "the example must take two iterations");

    let target = example::folder().join("recordings");
    for entry in std::fs::read_dir(&target).expect("the folder of the recordings") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "json") {
            std::fs::remove_file(path).expect("an old recording is removed");
        }
    }
    for entry in std::fs::read_dir(recorded.path()).expect("recordings") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), target.join(entry.file_name())).expect("a recording is copied");
        println!("recorded {}", entry.file_name().to_string_lossy());
    }
}
