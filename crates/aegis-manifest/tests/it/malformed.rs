//! Manifests with mistakes: each `malformed/NAME.yaml` has beside it what is said of it, `NAME.txt`. With
//! `UPDATE_GOLDEN=1` the texts are written anew; a person reads the difference.

use std::fs;
use std::path::Path;

use aegis_manifest::{parse_agent, parse_node_config};

/// Compares a file with what it should hold, or writes it.
#[track_caller]
pub(crate) fn golden(path: &Path, expected: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, expected).unwrap();
        return;
    }
    let is = fs::read_to_string(path).unwrap_or_default();
    assert!(is == expected, "{} is not what it should be:\n{expected}", path.display());
}

#[test]
fn each_mistake_is_told_with_place_and_remedy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/malformed");
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    names.sort();
    assert!(names.len() >= 60, "{} cases", names.len());
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let problems = if name.starts_with("node-") {
            parse_node_config(&text, name, &|_| None).map(drop)
        } else {
            parse_agent(&text, name).map(drop)
        };
        let problems = problems.expect_err(name);
        for problem in &problems.problems {
            assert!(problem.line >= 1 && problem.column >= 1, "{name}: {problem:?}");
            assert!(problem.message.starts_with(|c: char| !c.is_uppercase()), "{name}: {problem:?}");
        }
        golden(&path.with_extension("txt"), &problems.render());
    }
}
