//! Sandboxes: where agents and validators run.

use std::path::PathBuf;

use aegis_core::{ExecutionId, ExitStatus, SandboxFacts};
use async_trait::async_trait;
use tokio::net::UnixStream;

/// What runs in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The bootstrap, with a control socket.
    Bootstrap,
    /// A validator's command: no socket of any kind.
    Validator,
}

/// A file put into the sandbox, readable by it, below `/run/aegis`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFile {
    /// Name within `/run/aegis`, without a slash.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A volume's front inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The front's mount point on the host.
    pub source: PathBuf,
    /// Where it appears inside.
    pub target: String,
    /// Whether nothing may be written through it.
    pub read_only: bool,
}

/// Limits on the process tree. `None` means the node's default where it can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxLimits {
    /// Processor time in thousandths of a core.
    pub cpu_millicores: u32,
    /// Memory in bytes, swap included.
    pub memory_bytes: u64,
    /// Bytes of each writable temporary file system (`/tmp`, `/dev/shm`, a `/workspace` without volume).
    pub disk_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Whether the manifest states the limits: then they are enforced exactly or the start is refused.
    pub explicit: bool,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// The execution.
    pub execution: ExecutionId,
    /// The generation: one sandbox, one generation. Validators use the generation they judge.
    pub generation: u32,
    /// Distinguishes sandboxes of one generation: 0 for the bootstrap, 1.. for validators.
    pub ordinal: u32,
    /// What it is for.
    pub role: Role,
    /// Program (absolute, inside) and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory inside.
    pub cwd: String,
    /// Files below `/run/aegis`.
    pub files: Vec<HostFile>,
    /// Volumes.
    pub mounts: Vec<Mount>,
    /// The host user to run as; the daemon's own where it is not root.
    pub uid: u32,
    /// Limits.
    pub limits: SandboxLimits,
    /// Most bytes kept of each of standard output and standard error; the tail is kept.
    pub output_bytes_max: usize,
}

/// Something that happened inside that the daemon saw and that should be on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// Which door: `control`, `limits`.
    pub door: &'static str,
    /// A stable name: `second_connection`, `wrong_peer`, `memory`, `pids`.
    pub what: &'static str,
    /// How often.
    pub count: u64,
}

/// How a sandbox ended. Its process tree is proved dead when this exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How its first process ended.
    pub status: ExitStatus,
    /// Tail of standard output.
    pub stdout: Vec<u8>,
    /// Tail of standard error.
    pub stderr: Vec<u8>,
    /// Whether either was cut.
    pub truncated: bool,
    /// What should be on record.
    pub violations: Vec<Violation>,
}

/// What this node's sandbox can and cannot enforce, with remedies. Read when manifests are deployed and executed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxCapabilities {
    /// Why nothing can be isolated here, and what to do; `None` if it can.
    pub isolation_missing: Option<String>,
    /// Why memory, cpu and pids cannot be limited for a whole process tree, and what to do.
    pub limits_missing: Option<String>,
    /// Interpreters in /usr/bin by manifest language, with their version: `("python", "3.11.2", "/usr/bin/python3")`.
    pub interpreters: Vec<(String, String, String)>,
    /// Warnings an operator should see at start.
    pub warnings: Vec<String>,
}

/// A start or control connection that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// This node cannot do it; the string has reason and remedy.
    #[error("capability_missing: {0}")]
    CapabilityMissing(String),
    /// The sandbox ended, or never connected.
    #[error("{0}")]
    Start(String),
    /// Something below failed.
    #[error("{0}")]
    Io(String),
}

/// The one connection from a bootstrap, authenticated by its socket.
pub struct ControlConnection {
    /// HTTP/1.1 is spoken on it: one POST a message.
    pub stream: UnixStream,
}

/// A running sandbox. Dropping it kills the process tree.
#[async_trait]
pub trait Sandboxed: Send + Sync {
    /// How to find it again after a crash.
    fn facts(&self) -> &SandboxFacts;
    /// Waits for the bootstrap's one connection, checks its peer, closes the listener and unlinks the socket before
    /// it returns. Fails if the sandbox ends first. At most once; a validator has none.
    async fn control(&self) -> Result<ControlConnection, SandboxError>;
    /// Waits until the first process ended, then kills what is left and proves the tree dead.
    async fn wait(&self) -> Result<Ended, SandboxError>;
    /// Asks the whole tree to end now; `wait` then returns soon.
    fn kill(&self);
}

/// Starts sandboxes of one kind.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// What it can enforce here.
    fn capabilities(&self) -> &SandboxCapabilities;
    /// The host user an execution's sandbox runs as.
    fn uid_for(&self, execution: ExecutionId) -> u32;
    /// Starts one.
    async fn start(&self, spec: SandboxSpec) -> Result<Box<dyn Sandboxed>, SandboxError>;
    /// Proves a former generation dead, killing what is left of it. `facts` are those recorded when it started.
    async fn prove_dead(
        &self,
        execution: ExecutionId,
        generation: u32,
        facts: &SandboxFacts,
    ) -> Result<(), SandboxError>;
    /// Kills and removes everything a former daemon of this data folder left; returns how many sandboxes.
    async fn reap_leftovers(&self) -> Result<u32, SandboxError>;
}
