//! The real binary: what it says, where, and how it exits. No daemon is needed.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails there")]

use std::process::{Command, Output};

fn aegis(home: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aegis"))
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("AEGIS_HOME", home.join("data"))
        .current_dir(home)
        .output()
        .expect("the binary runs")
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A port nobody listens on.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

#[test]
fn an_absent_daemon_is_exit_5_with_the_remedy_on_stderr() {
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let output = aegis(home.path(), &["--port", &port, "agent", "list"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(output.stdout.is_empty());
    let told = words(&output.stderr);
    assert!(told.starts_with("error: no daemon answers at http://127.0.0.1:"), "{told}");
    assert!(told.contains("aegis up"), "{told}");
}

#[test]
fn errors_are_json_when_json_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let port = free_port();
    let output = aegis(home.path(), &["agent", "list", "--output", "json", "--port", &port]);
    assert_eq!(output.status.code(), Some(5));
    let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told["code"], "unreachable");
    let output = aegis(home.path(), &["agent", "lits", "--output", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told["code"], "invalid_input");
}

#[test]
fn what_comes_later_is_refused_by_name_with_exit_2() {
    let home = tempfile::tempdir().unwrap();
    let cases: [&[&str]; 7] = [
        &["workflow", "run", "nightly", "--param", "a=b", "--follow"],
        &["task", "replay", "a1b2c3d4-1111-0000-0000-000000000001"],
        &["agent", "generate", "--input", "an agent that writes poems"],
        &["apply", "-f", "x.yaml"],
        &["freeze"],
        &["mcp", "serve"],
        &["trace", "list"],
    ];
    for arguments in cases {
        let output = aegis(home.path(), arguments);
        let told = words(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        let name = format!("`aegis {}", arguments[0]);
        assert!(told.contains("capability_missing") && told.contains(&name), "{arguments:?}: {told}");
    }
}

#[test]
fn plain_text_is_no_input() {
    let home = tempfile::tempdir().unwrap();
    let output =
        aegis(home.path(), &["task", "execute", "coder", "--input", "hello", "--port", &free_port()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output.stderr).contains(r#"--input '"hello"'"#), "{}", words(&output.stderr));
}

#[test]
fn a_wrong_configuration_is_never_a_silent_default() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("aegis-config.yaml"),
        "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nspce: {}\n",
    )
    .unwrap();
    for arguments in
        [&["status"][..], &["up"], &["daemon", "start"], &["config", "show"], &["config", "validate"]]
    {
        let output = aegis(home.path(), arguments);
        let told = words(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains("spce"), "{arguments:?}: {told}");
    }
    let output = aegis(home.path(), &["--config", "nowhere.yaml", "config", "show"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn documents_are_explained() {
    let home = tempfile::tempdir().unwrap();
    let output = aegis(home.path(), &["explain", "agent.spec.security.network"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(words(&output.stdout).contains("allowlist"));
    let output = aegis(home.path(), &["schema", "agent"]);
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap().is_object());
    assert_eq!(aegis(home.path(), &["schema", "spaceship"]).status.code(), Some(2));
    let generated = aegis(home.path(), &["config", "generate"]).stdout;
    std::fs::write(home.path().join("c.yaml"), generated).unwrap();
    assert_eq!(aegis(home.path(), &["config", "validate", "c.yaml"]).status.code(), Some(0));
}

#[test]
fn a_reader_that_goes_away_is_quiet() {
    let home = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_aegis");
    let script = format!("\"{program}\" schema agent | head -c 1 >/dev/null");
    let output = Command::new("sh").args(["-c", &script]).env("AEGIS_HOME", home.path()).output().unwrap();
    assert_eq!(words(&output.stderr), "");
}

#[test]
fn the_reference_lists_every_command() {
    let home = tempfile::tempdir().unwrap();
    let text = words(&aegis(home.path(), &["__reference"]).stdout);
    for command in [
        "aegis agent deploy",
        "aegis task execute",
        "aegis audit verify",
        "aegis up",
        "aegis journal archive",
    ] {
        assert!(text.contains(&format!("`{command}")), "{command}");
    }
    assert!(text.contains("`workflow`"));
    assert!(!text.contains("__reference` "), "hidden commands stay hidden");
}
