//! A daemon of a test's own.

use std::ffi::OsString;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aegis_testkit::scripted_model::{Script, ScriptedModel, ServerOptions};

use crate::Output;

/// How long a daemon may take until it is ready, and a run until it is over. Generous: tests share two cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a node is set up.
pub struct NodeBuilder {
    script: Script,
    extra: String,
    models: String,
    log: Option<PathBuf>,
    environment: Vec<(String, OsString)>,
    config_file: Option<PathBuf>,
    user: Option<User>,
}

/// Another user than the test's own, which is root, to run daemon and commands as.
#[derive(Debug, Clone)]
pub struct User {
    /// Its id, and its group's.
    pub id: u32,
    /// A shell command run as root first, in a mount namespace of the daemon's own; empty for none.
    pub prepare: String,
}

impl NodeBuilder {
    /// Runs daemon and commands as `user`, which owns the data folder.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.user = Some(user);
        self
    }
    /// A variable of the daemon's and the commands' environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }
    /// Takes this file as the configuration, in the place of one that names the scripted model.
    #[must_use]
    pub fn config_file(mut self, path: &Path) -> Self {
        self.config_file = Some(path.to_owned());
        self
    }
    /// YAML put below `spec:` of the configuration, indented by two.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        self.extra.push_str(yaml);
        self.extra.push('\n');
        self
    }
    /// YAML of further entries below `models:` of the scripted provider, indented by eight.
    #[must_use]
    pub fn models(mut self, yaml: &str) -> Self {
        self.models.push_str(yaml);
        self
    }
    /// Where the scripted model writes each request down before it answers.
    #[must_use]
    pub fn model_log(mut self, path: &Path) -> Self {
        self.log = Some(path.to_owned());
        self
    }
    /// Starts model and daemon.
    pub async fn start(self) -> Node {
        let options = ServerOptions { log: self.log, ..ServerOptions::default() };
        let model =
            ScriptedModel::start_with(self.script, options).await.expect("the scripted model listens");
        let home = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let config = format!(
            "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata:\n  name: test\nspec:\n  llm_providers:\n    \
             - name: scripted\n      type: openai-compatible\n      endpoint: {}\n      models:\n        \
             - alias: default\n          model: scripted-1\n          cost_per_1k_input_tokens: 0.01\n          \
             cost_per_1k_output_tokens: 0.03\n{}{}",
            model.url(),
            self.models,
            self.extra
        );
        std::fs::write(home.path().join("config.yaml"), config).expect("the configuration is written");
        let config = self.config_file.unwrap_or_else(|| home.path().join("config.yaml"));
        if let Some(user) = &self.user {
            // The one that was built may lie where this user may not go.
            std::fs::copy(binary(), home.path().join("aegis")).expect("the binary is copied");
            std::os::unix::fs::chown(home.path(), Some(user.id), Some(user.id)).expect("root may do this");
        }
        let mut node =
            Node { home, port, model, config, environment: self.environment, user: self.user, daemon: None };
        node.start_daemon();
        node
    }
}

/// A data folder, a port, a model and, mostly, a running daemon.
pub struct Node {
    home: tempfile::TempDir,
    port: u16,
    /// The far side.
    pub model: ScriptedModel,
    config: PathBuf,
    environment: Vec<(String, OsString)>,
    user: Option<User>,
    daemon: Option<Child>,
}

impl Node {
    /// A node whose model follows `script`.
    pub fn with(script: Script) -> NodeBuilder {
        NodeBuilder {
            script,
            extra: String::new(),
            models: String::new(),
            log: None,
            environment: Vec::new(),
            config_file: None,
            user: None,
        }
    }

    /// The data folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The HTTP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    /// The bearer token of the person `local`.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.home().join("token")).expect("a token").trim().to_owned()
    }

    /// The command line with this node's data folder, configuration and port.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program();
        command
            .args(["--port", &self.port.to_string(), "--config"])
            .arg(&self.config)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("AEGIS_HOME", self.home())
            .env_remove("AEGIS_TOKEN")
            .env_remove("AEGIS_CONFIG_PATH")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    fn program(&self) -> Command {
        let Some(user) = &self.user else { return Command::new(binary()) };
        let id = user.id;
        let prepare = if user.prepare.is_empty() { ":" } else { &user.prepare };
        // Each program becomes the next one: what is started is the daemon itself in the end.
        let become_user =
            format!("{prepare} && exec setpriv --reuid {id} --regid {id} --clear-groups \"$@\"");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", &become_user, "sh"])
            .arg(self.home().join("aegis"))
            .env("HOME", self.home())
            .env_remove("XDG_RUNTIME_DIR");
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().expect("the binary runs");
        Output {
            code: output.status.code().unwrap_or(128),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Writes `text` to a file of the test's own and gives its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.home().join(name);
        std::fs::write(&path, text).expect("the file is written");
        path.display().to_string()
    }

    /// Deploys a manifest and gives the agent's id.
    pub fn deploy(&self, manifest: &str) -> String {
        let path = self.file("agent.yaml", manifest);
        let deployed = self.run(&["agent", "deploy", &path, "--output", "json", "--force"]).ok().json();
        deployed["id"].as_str().expect("an id").to_owned()
    }

    /// Starts a run and gives its id.
    pub fn execute(&self, agent: &str, input: &str) -> String {
        let started = self.run(&["task", "execute", agent, "--input", input, "--output", "json"]).ok().json();
        started["execution_id"].as_str().expect("an id").to_owned()
    }

    /// The execution as JSON.
    pub fn status(&self, execution: &str) -> serde_json::Value {
        self.run(&["task", "status", execution, "--output", "json"]).ok().json()
    }

    /// Waits until the execution is over and gives it as JSON.
    #[expect(clippy::panic, reason = "a failed expectation of a test")]
    pub fn wait(&self, execution: &str) -> serde_json::Value {
        let begun = Instant::now();
        loop {
            let status = self.status(execution);
            if matches!(status["status"].as_str(), Some("completed" | "failed" | "cancelled")) {
                return status;
            }
            if begun.elapsed() > PATIENCE {
                panic!("execution {execution} is not over: {status}\n{}", self.daemon_log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts the daemon and waits until it is ready.
    #[expect(clippy::panic, reason = "a failed expectation of a test")]
    pub fn start_daemon(&mut self) {
        self.spawn_daemon();
        let begun = Instant::now();
        while !self.ready() {
            let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten());
            if ended.is_some() || begun.elapsed() > PATIENCE {
                panic!("the daemon is not ready ({ended:?}):\n{}", self.daemon_log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts the daemon without waiting.
    pub fn spawn_daemon(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.home().join("test-daemon.log"))
            .expect("a log file");
        let daemon = self
            .command(&["daemon", "start"])
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        self.daemon = Some(daemon);
    }

    /// Whether the daemon says it is ready.
    pub fn ready(&self) -> bool {
        self.get("/health/ready").is_some_and(|(code, _)| code == 200)
    }

    /// A plain GET without credential: status and body.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let port = self.port;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let code = text.split(' ').nth(1)?.parse().ok()?;
        Some((code, text.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())))
    }

    /// `kill -9`.
    pub fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("the daemon is killed");
            daemon.wait().expect("the daemon is reaped");
        }
    }

    /// SIGTERM, and the exit code.
    pub fn stop_daemon(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take()?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(daemon.id()).ok()?)?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok()?;
        daemon.wait().ok()?.code()
    }

    /// What the daemon wrote.
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.home().join("test-daemon.log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What the daemon said is the first thing to look at.
            eprint_log(&self.daemon_log());
        }
        self.stop_daemon();
    }
}

#[expect(clippy::print_stderr, reason = "the words of a failing test")]
fn eprint_log(log: &str) {
    eprintln!("the daemon's log:\n{log}");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// The binary beside this test's own: `target/PROFILE/aegis`.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE");
    let binary = folder.join("aegis");
    assert!(binary.exists(), "`{}` is not built: `cargo build -p aegis` first", binary.display());
    binary
}
