//! Which crate may use which: the layers of ARCHITECTURE.md as a table.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// One crate's row: what it may use, and what only its tests may use on top.
struct Row {
    name: &'static str,
    uses: &'static [&'static str],
    tests_use: &'static [&'static str],
}

/// Everything below `aegis-server`: it alone puts the parts together.
const PARTS: &[&str] = &[
    "aegis-api",
    "aegis-core",
    "aegis-kernel",
    "aegis-manifest",
    "aegis-models",
    "aegis-sandbox",
    "aegis-security",
    "aegis-store",
    "aegis-tools",
    "aegis-volume",
];

const TABLE: &[Row] = &[
    Row { name: "aegis-core", uses: &[], tests_use: &[] },
    Row { name: "aegis-manifest", uses: &["aegis-core"], tests_use: &[] },
    Row { name: "aegis-security", uses: &["aegis-core"], tests_use: &[] },
    Row { name: "aegis-kernel", uses: &["aegis-core", "aegis-manifest", "aegis-security"], tests_use: &[] },
    Row {
        name: "aegis-store",
        uses: &["aegis-core", "aegis-kernel", "aegis-security"],
        tests_use: &["aegis-testkit"],
    },
    Row {
        name: "aegis-models",
        uses: &["aegis-core", "aegis-kernel", "aegis-security"],
        tests_use: &["aegis-testkit"],
    },
    Row {
        name: "aegis-tools",
        // Tool servers are described by a section of the node's configuration.
        uses: &["aegis-core", "aegis-kernel", "aegis-manifest", "aegis-security"],
        // Built-in file tools are tested on the real file core.
        tests_use: &["aegis-testkit", "aegis-volume"],
    },
    Row {
        name: "aegis-volume",
        uses: &["aegis-core", "aegis-kernel", "aegis-security"],
        tests_use: &["aegis-testkit"],
    },
    Row {
        name: "aegis-sandbox",
        // The egress proxy applies the pure rules on addresses and first bytes.
        uses: &["aegis-core", "aegis-kernel", "aegis-security"],
        tests_use: &["aegis-testkit"],
    },
    Row { name: "aegis-api", uses: &["aegis-core"], tests_use: &[] },
    Row { name: "aegis-server", uses: PARTS, tests_use: &["aegis-testkit"] },
    Row {
        name: "aegis",
        uses: &["aegis-api", "aegis-core", "aegis-manifest", "aegis-server"],
        tests_use: &["aegis-testkit"],
    },
    Row { name: "aegis-testkit", uses: &["aegis-core", "aegis-kernel", "aegis-security"], tests_use: &[] },
    Row {
        name: "aegis-e2e",
        uses: &["aegis-api", "aegis-core", "aegis-testkit"],
        // The journal is a port: what a stopped node recorded is read through it.
        tests_use: &["aegis-kernel", "aegis-security", "aegis-store"],
    },
    Row { name: "xtask", uses: &["aegis-manifest"], tests_use: &[] },
];

/// Compares the workspace's own dependencies with the table.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let metadata = metadata(root)?;
    let packages =
        metadata.get("packages").and_then(Value::as_array).ok_or("`cargo metadata` lists no packages")?;
    let mut problems = Vec::new();
    for package in packages {
        let name = text(package, "name");
        let Some(row) = TABLE.iter().find(|row| row.name == name) else {
            problems.push(format!("{name}: not in the table of crate edges (xtask/src/tidy/edges.rs)"));
            continue;
        };
        let dependencies = package.get("dependencies").and_then(Value::as_array);
        let own = dependencies
            .into_iter()
            .flatten()
            .filter(|one| one.get("path").is_some_and(|path| !path.is_null()));
        for dependency in own {
            let target = text(dependency, "name");
            let for_tests = text(dependency, "kind") == "dev";
            if !allowed(row, target, for_tests) {
                let kind = if for_tests { "its tests may not use" } else { "may not use" };
                problems.push(format!("{name}: {kind} `{target}`; see \"Edges\" in ARCHITECTURE.md"));
            }
        }
    }
    Ok(problems)
}

fn allowed(row: &Row, target: &str, for_tests: bool) -> bool {
    row.uses.contains(&target) || (for_tests && row.tests_use.contains(&target))
}

fn metadata(root: &Path) -> Result<Value, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo metadata did not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata is not JSON: {error}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_point_downwards_only() {
        for row in TABLE {
            for target in row.uses {
                let below = TABLE.iter().find(|other| other.name == *target).unwrap();
                assert!(!below.uses.contains(&row.name), "{} and {target} use each other", row.name);
            }
        }
    }

    #[test]
    fn test_edges_are_refused_in_the_product() {
        let store = TABLE.iter().find(|row| row.name == "aegis-store").unwrap();
        assert!(allowed(store, "aegis-testkit", true));
        assert!(!allowed(store, "aegis-testkit", false));
        assert!(!allowed(store, "aegis-server", true));
    }
}
