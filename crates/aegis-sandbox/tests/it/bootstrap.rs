//! The stock bootstrap against a daemon played by hand.

use aegis_core::ExitStatus;
use aegis_kernel::port::{HostFile, Role, Sandbox, SandboxSpec, Sandboxed};
use aegis_testkit::conformance::sandbox as suite;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::fixture::Fixture;

/// The bootstrap as it is shipped.
pub(crate) const BOOTSTRAP: &str = include_str!("../../../../guest/bootstrap.py");

/// A specification that runs the bootstrap with a prompt file.
pub(crate) fn spec(fixture: &Fixture, number: u128) -> SandboxSpec {
    let argv = ["/usr/bin/python3", "-I", "-S", "/run/aegis/bootstrap.py"];
    let mut spec = suite::program(&fixture.sandbox, number, &argv);
    spec.role = Role::Bootstrap;
    let file = |name: &str, text: &str| HostFile { name: name.to_owned(), bytes: text.as_bytes().to_vec() };
    spec.files = vec![file("bootstrap.py", BOOTSTRAP), file("prompt", "Say “hello”.\n")];
    for (key, value) in [
        ("AEGIS_AGENT_ID", "agent"),
        ("AEGIS_EXECUTION_ID", "execution"),
        ("AEGIS_ITERATION", "3"),
        ("AEGIS_MODEL_ALIAS", "default"),
        ("AEGIS_PROMPT_FILE", "/run/aegis/prompt"),
        ("AEGIS_CONTROL_SOCKET", "/run/aegis/control.sock"),
    ] {
        spec.env.push((key.to_owned(), value.to_owned()));
    }
    spec
}

/// The daemon's side of the conversation.
pub(crate) struct Daemon {
    stream: BufReader<UnixStream>,
    dispatches: u32,
}

impl Daemon {
    pub(crate) async fn connect(running: &dyn Sandboxed) -> Self {
        let connection = running.control().await.unwrap();
        Self { stream: BufReader::new(connection.stream), dispatches: 0 }
    }

    /// The next message of the bootstrap.
    pub(crate) async fn receive(&mut self) -> Value {
        let mut length = 0;
        let mut first = String::new();
        self.stream.read_line(&mut first).await.unwrap();
        assert_eq!(first, "POST /v1/dispatch-gateway HTTP/1.1\r\n");
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.unwrap();
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) async fn answer(&mut self, message: &Value) {
        let body = message.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.get_mut().write_all((head + &body).as_bytes()).await.unwrap();
    }

    /// Has a program run and gives the result.
    pub(crate) async fn python(&mut self, program: &str) -> Value {
        self.execute(json!({"command": "python3", "args": ["-I", "-c", program]})).await
    }

    /// Has a command run, with fields beside the usual ones, and gives the result.
    pub(crate) async fn execute(&mut self, fields: Value) -> Value {
        self.dispatches += 1;
        let mut order = json!({
            "type": "dispatch", "dispatch_id": self.dispatches.to_string(), "action": "exec", "args": [],
            "cwd": "/workspace", "env_additions": {}, "timeout_secs": 10, "max_output_bytes": 10_000,
        });
        order.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.answer(&order).await;
        let result = self.receive().await;
        assert_eq!(result["type"], "dispatch_result");
        assert_eq!(result["execution_id"], "execution");
        assert_eq!(result["dispatch_id"], self.dispatches.to_string());
        result
    }

    pub(crate) async fn finish(&mut self, content: &str) {
        self.answer(&json!({"type": "final", "content": content, "tool_calls_executed": self.dispatches}))
            .await;
    }
}

/// Each of these takes a third of the bootstrap's start, at every iteration.
#[tokio::test(flavor = "multi_thread")]
async fn starts_and_runs_a_command_without_the_slow_modules() {
    let Some(fixture) = Fixture::new("starts_and_runs_a_command_without_the_slow_modules").await else {
        return;
    };
    let mut spec = spec(&fixture, 209);
    spec.argv.splice(1..1, ["-X".to_owned(), "importtime".to_owned()]);
    let running = fixture.sandbox.start(spec).await.unwrap();
    let mut daemon = Daemon::connect(running.as_ref()).await;
    daemon.receive().await;
    let result = daemon.execute(json!({"command": "echo", "args": ["hé"]})).await;
    assert_eq!(result["stdout"], "hé\n");
    daemon.finish("done").await;
    let told = String::from_utf8_lossy(&running.wait().await.unwrap().stderr).into_owned();
    let modules: Vec<&str> = told.lines().filter_map(|line| Some(line.rsplit_once('|')?.1.trim())).collect();
    assert!(modules.contains(&"os"), "{told}");
    for slow in ["ctypes", "enum", "json", "re", "selectors", "signal", "socket", "subprocess"] {
        assert!(!modules.contains(&slow), "`{slow}` was imported");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn converses_and_ends_with_the_answer() {
    let Some(fixture) = Fixture::new("converses_and_ends_with_the_answer").await else { return };
    let running = fixture.sandbox.start(spec(&fixture, 201)).await.unwrap();
    let mut daemon = Daemon::connect(running.as_ref()).await;
    let expected = json!({
        "type": "generate", "agent_id": "agent", "execution_id": "execution", "iteration_number": 3,
        "model_alias": "default", "prompt": "Say “hello”.\n", "messages": [],
    });
    assert_eq!(daemon.receive().await, expected);
    let result = daemon
        .execute(json!({
            "command": "sh", "args": ["-c", "echo $X $(pwd); echo warn >&2; exit 5"],
            "env_additions": {"X": "y"}, "cwd": "/tmp",
        }))
        .await;
    assert_eq!((&result["exit_code"], &result["stdout"]), (&json!(5), &json!("y /tmp\n")));
    assert_eq!((&result["stderr"], &result["truncated"]), (&json!("warn\n"), &json!(false)));
    assert!(result["duration_ms"].as_u64().is_some());
    daemon.finish("äöü\u{1f600}").await;
    let ended = running.wait().await.unwrap();
    assert_eq!(ended.status, ExitStatus::Exited { code: 0 }, "{ended:?}");
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), "äöü\u{1f600}");
    assert!(ended.violations.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_whatever_becomes_of_a_command() {
    let Some(fixture) = Fixture::new("answers_whatever_becomes_of_a_command").await else { return };
    let running = fixture.sandbox.start(spec(&fixture, 202)).await.unwrap();
    let mut daemon = Daemon::connect(running.as_ref()).await;
    daemon.receive().await;
    let result = daemon.execute(json!({"action": "teleport"})).await;
    assert_eq!((&result["exit_code"], &result["stderr"]), (&json!(-1), &json!("unknown_action:teleport")));
    let result = daemon.execute(json!({"command": "no-such-program"})).await;
    assert_eq!(result["exit_code"], 127, "{result}");
    let result = daemon.execute(json!({"command": "/etc/passwd"})).await;
    assert_eq!(result["exit_code"], 126, "{result}");
    // Arguments are never read by a shell.
    let result = daemon.execute(json!({"command": "echo", "args": ["$(id)", ";", "|"]})).await;
    assert_eq!(result["stdout"], "$(id) ; |\n");
    let script = "yes | head -c 50000; printf end";
    let result =
        daemon.execute(json!({"command": "sh", "args": ["-c", script], "max_output_bytes": 100})).await;
    let stdout = result["stdout"].as_str().unwrap();
    assert!(stdout.len() == 100 && stdout.ends_with("y\nend") && result["truncated"] == true, "{result}");
    let script = "echo before; (sleep 300 & sleep 300)";
    let result = daemon.execute(json!({"command": "sh", "args": ["-c", script], "timeout_secs": 1})).await;
    assert_eq!((&result["exit_code"], &result["stdout"]), (&json!(124), &json!("before\n")));
    assert!(result["stderr"].as_str().unwrap().contains("timed out after 1 s"));
    let result = daemon.execute(json!({"command": "sh", "args": ["-c", "kill -9 $$"]})).await;
    assert_eq!(result["exit_code"], 137);
    // Orphans are reaped, and a command does not wait for what it left in the background.
    let script = "for i in 1 2 3; do (setsid sh -c 'sleep 0.05' &); done; (setsid sleep 300 &)";
    daemon.execute(json!({"command": "sh", "args": ["-c", script]})).await;
    let program = "
import os, time
time.sleep(0.4)
states = [open('/proc/%s/stat' % p).read().rsplit(') ')[1][0] for p in os.listdir('/proc') if p.isdigit()]
print(states.count('Z'))";
    assert_eq!(daemon.python(program).await["stdout"], "0\n");
    daemon.finish("").await;
    assert_eq!(running.wait().await.unwrap().status, ExitStatus::Exited { code: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_with_a_reason_when_the_daemon_refuses() {
    let Some(fixture) = Fixture::new("ends_with_a_reason_when_the_daemon_refuses").await else { return };
    let running = fixture.sandbox.start(spec(&fixture, 203)).await.unwrap();
    let mut daemon = Daemon::connect(running.as_ref()).await;
    daemon.receive().await;
    let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nfrozen";
    daemon.stream.get_mut().write_all(refusal.as_bytes()).await.unwrap();
    let ended = running.wait().await.unwrap();
    assert_eq!(ended.status, ExitStatus::Exited { code: 1 });
    assert!(String::from_utf8_lossy(&ended.stderr).contains("status 403: frozen"));

    let mut spec = spec(&fixture, 204);
    spec.env.retain(|(key, _)| key != "AEGIS_MODEL_ALIAS");
    let ended = fixture.run(spec).await;
    assert_eq!(ended.status, ExitStatus::Exited { code: 2 });
    assert!(String::from_utf8_lossy(&ended.stderr).contains("AEGIS_MODEL_ALIAS"));
}
