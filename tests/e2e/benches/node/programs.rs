//! What is measured: daemons, one run over HTTP, a bare sandbox.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often a daemon that starts is asked whether it is ready.
const POLL: Duration = Duration::from_micros(500);
/// How long a daemon may take to start, and a run to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that can be started on an empty folder.
pub(crate) struct Program {
    command: fn(&Path, u16) -> Command,
    health: &'static str,
}

impl Program {
    pub(crate) fn aegis() -> Self {
        let command = |folder: &Path, port: u16| {
            let mut command = Command::new(aegis_e2e::binary());
            command.args(["--port", &port.to_string(), "daemon", "start"]);
            command.env("AEGIS_HOME", folder).env_remove("AEGIS_CONFIG_PATH").current_dir(folder);
            command
        };
        Self { command, health: "/health" }
    }

    /// As a message broker without persistence, so without a data folder at all.
    pub(crate) fn nats() -> Self {
        Self { command: nats, health: "/healthz" }
    }

    /// With JetStream in a data folder: what AEGIS is to be compared with.
    pub(crate) fn nats_with_store() -> Self {
        let command = |folder: &Path, port: u16| {
            let mut command = nats(folder, port);
            command.arg("-js").arg("-sd").arg(folder);
            command
        };
        Self { command, health: "/healthz" }
    }

    /// Starts it and waits until it is healthy; `None` if it is not installed.
    pub(crate) fn start(&self, folder: &Path) -> Option<Started> {
        let port = free_port();
        let mut command = (self.command)(folder, port);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let child = command.spawn().ok()?;
        while !is_healthy(port, self.health) {
            assert!(begun.elapsed() < PATIENCE, "{command:?} does not become healthy");
            std::thread::sleep(POLL);
        }
        Some(Started { child, took: begun.elapsed() })
    }
}

fn nats(_: &Path, port: u16) -> Command {
    let mut command = Command::new("nats-server");
    command.args(["-a", "127.0.0.1", "-p", &free_port().to_string(), "-m", &port.to_string()]);
    command
}

/// A daemon that runs.
pub(crate) struct Started {
    child: Child,
    took: Duration,
}

impl Started {
    /// From exec to the first healthy answer.
    pub(crate) fn took(&self) -> Duration {
        self.took
    }

    /// Resident memory in MiB.
    pub(crate) fn resident_mebibytes(&self) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes / 1024.0
    }

    /// Ends it with SIGTERM and waits.
    pub(crate) fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process id"), rustix::process::Signal::TERM)
            .expect("it is told to end");
        self.child.wait().expect("it ends");
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn is_healthy(port: u16, path: &str) -> bool {
    ask(port, &format!("GET {path} HTTP/1.1\r\n"), "")
        .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Sends a request on a connection of its own and reads to the end of the answer.
fn ask(port: u16, head: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = body.len();
    let request = format!(
        "{head}Host: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Starts a run and reads its events until it is completed.
pub(crate) fn run_once(port: u16, token: &str, agent: &str) {
    let credential = format!("Authorization: Bearer {token}\r\n");
    let body = format!("{{\"agent\": \"{agent}\", \"input\": {{}}}}");
    let head = format!("POST /v1/executions HTTP/1.1\r\n{credential}Content-Type: application/json\r\n");
    let started = ask(port, &head, &body).expect("an answer");
    let (_, rest) = started.split_once("\"execution_id\":\"").expect("a started run");
    let (id, _) = rest.split_once('"').expect("its id");
    let head = format!("GET /v1/executions/{id}/events HTTP/1.1\r\n{credential}");
    let events = ask(port, &head, "").expect("events");
    assert!(events.contains("event: execution_completed"), "{events}");
}

/// A sandbox with nothing around it.
pub(crate) fn bare_sandbox() {
    let status = Command::new("bwrap")
        .args(["--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--"])
        .args(["/usr/bin/python3", "-I", "-S", "-c", "pass"])
        .stdin(Stdio::null())
        .status()
        .expect("bwrap is installed");
    assert!(status.success(), "bwrap ended with {status}");
}
