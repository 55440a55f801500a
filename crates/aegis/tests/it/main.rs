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
    let cases: [&[&str]; 5] = [
        &["workflow", "run", "nightly", "--param", "a=b", "--follow"],
        &["task", "replay", "a1b2c3d4-1111-0000-0000-000000000001"],
        &["agent", "generate", "--input", "an agent that writes poems"],
        &["apply", "-f", "x.yaml"],
        &["freeze"],
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

#[test]
fn the_data_folder_of_the_configuration_holds_unless_the_environment_says_another() {
    let home = tempfile::tempdir().unwrap();
    let config = "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {name: n}\nspec:\n  storage: {data_dir: my-data}\n";
    std::fs::create_dir(home.path().join("etc")).unwrap();
    let file = home.path().join("etc/node.yaml");
    std::fs::write(&file, config).unwrap();
    let verify = |environment: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_aegis"))
            .args(["audit", "export", "--to", "x.jsonl", "--config"])
            .arg(&file)
            .env_clear()
            .env("HOME", home.path())
            .envs(environment.iter().copied())
            .current_dir(home.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        words(&output.stderr)
    };
    let told = verify(&[]);
    assert!(told.contains(&format!("`{}`", home.path().join("etc/my-data").display())), "{told}");
    assert!(verify(&[("AEGIS_HOME", "/nowhere/else")]).contains("`/nowhere/else`"));
    assert!(!home.path().join("x.jsonl").exists());
}

#[test]
fn a_configuration_is_shown_without_its_literals_and_checked_with_its_warnings() {
    let home = tempfile::tempdir().unwrap();
    let config = "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {name: n}\nspec:\n  nats: {url: \"nats://127.0.0.1\"}\n  \
        llm_providers:\n    - {name: a, type: openai, endpoint: \"literal:http://user:secret-word@x/v1\", api_key: \"literal:sk-1\", models: []}\n";
    std::fs::write(home.path().join("aegis-config.yaml"), config).unwrap();
    let shown = aegis(home.path(), &["config", "show"]);
    let text = words(&shown.stdout);
    assert_eq!(shown.status.code(), Some(0), "{}", words(&shown.stderr));
    assert!(text.contains("[masked]") && !text.contains("sk-1") && !text.contains("secret-word"), "{text}");
    assert!(text.contains("x/v1"), "an address itself is no secret: {text}");
    let checked = aegis(home.path(), &["config", "validate"]);
    assert!(words(&checked.stderr).contains("`spec.nats`"), "{}", words(&checked.stderr));
}

/// Renewed with `UPDATE_GOLDEN=1 cargo test -p aegis the_reference`.
#[test]
fn the_reference_in_the_documentation_is_this_binarys() {
    let home = tempfile::tempdir().unwrap();
    let text = words(&aegis(home.path(), &["__reference"]).stdout);
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == text, "docs/reference/cli.md is old: renew it with UPDATE_GOLDEN=1");
}
