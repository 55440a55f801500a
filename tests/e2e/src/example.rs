//! The example `two-iterations` as `./quickstart` runs it, and the answers its recordings are made of.

use std::path::{Path, PathBuf};

use aegis_testkit::scripted_model::{Reply, Script};
use serde_json::json;

/// The example's name, which is its agent's too.
pub const NAME: &str = "two-iterations";

const PROGRAM: &str = "import statistics\n\nprint(statistics.median([7, 1, 4, 9]))\n";

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// The example's folder.
pub fn folder() -> PathBuf {
    repository().join("examples").join(NAME)
}

/// The input that `./quickstart` gives the example, read from the script itself: a recording fits no other.
pub fn quickstart_input() -> String {
    let script = std::fs::read_to_string(repository().join("quickstart")).expect("quickstart");
    let (_, rest) = script.split_once("execute two-iterations '").expect("quickstart runs the example");
    rest.split_once('\'').expect("a quoted input").0.to_owned()
}

/// What the example's model answers. Written by hand: no model was asked.
///
/// First it writes the program and runs it, but its report misses `program`; told so, it runs the program again and
/// gives the whole report.
pub fn answers() -> Script {
    Script::new(|seen| {
        let run = || Reply::call("cmd.run", &json!({"command": "python3", "args": ["/workspace/median.py"]}));
        let told = seen.mentions("Your previous attempt failed");
        match (told, seen.tool_results()) {
            (false, 0) => {
                Reply::call("fs.write", &json!({"path": "/workspace/median.py", "content": PROGRAM}))
            }
            (false, 1) | (true, 0) => run(),
            (false, _) => Reply::text(r#"{"median": 5.5, "count": 4}"#),
            (true, _) => Reply::text(r#"{"median": 5.5, "count": 4, "program": "/workspace/median.py"}"#),
        }
    })
}
