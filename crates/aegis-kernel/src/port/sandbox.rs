//! Sandboxes: where agents and validators run.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use aegis_core::{ExecutionId, ExitStatus, SandboxFacts};
use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;

/// What runs in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The bootstrap, with a control socket.
    Bootstrap,
    /// A validator's command: no socket of any kind.
    Validator,
    /// A tool server: no socket to the daemon but perhaps the way out, and its standard streams are given to whoever
    /// started it.
    Server,
}

/// The standard streams of a [`Role::Server`].
#[derive(Debug)]
pub struct Pipes {
    /// Its standard input.
    pub stdin: io::PipeWriter,
    /// Its standard output.
    pub stdout: io::PipeReader,
    /// Its standard error.
    pub stderr: io::PipeReader,
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

/// Which ways to the daemon a bootstrap's sandbox has beside the control socket; a server's may have the second. Each
/// sandbox has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doors {
    /// Models and SMCP: a socket at [`API_SOCKET`], and HTTP on 127.0.0.1, port [`API_PORT`].
    pub api: bool,
    /// The egress proxy: HTTP on 127.0.0.1, port [`EGRESS_PORT`].
    pub egress: bool,
}

/// The api socket inside, where [`Doors::api`] is given.
pub const API_SOCKET: &str = "/run/aegis/api/api.sock";
/// Where programs inside that need TCP find the API, on 127.0.0.1 of the sandbox's own network.
pub const API_PORT: u16 = 8088;
/// Where programs inside find the egress proxy, on 127.0.0.1 of the sandbox's own network.
pub const EGRESS_PORT: u16 = 3128;

impl Doors {
    /// No way but the control socket.
    pub const NONE: Self = Self { api: false, egress: false };

    /// The environment variables by which programs inside find the doors; none for a door that is not there.
    pub fn environment(self) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        let mut add = |name: &str, value: String| variables.push((name.to_owned(), value));
        if self.api {
            let url = format!("http://127.0.0.1:{API_PORT}");
            add("AEGIS_API_SOCKET", API_SOCKET.to_owned());
            add("OPENAI_BASE_URL", format!("{url}/v1"));
            add("ANTHROPIC_BASE_URL", url.clone());
            add("AEGIS_ORCHESTRATOR_URL", url);
        }
        if self.egress {
            let url = format!("http://127.0.0.1:{EGRESS_PORT}");
            for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
                add(name, url.clone());
            }
            for name in ["NO_PROXY", "no_proxy"] {
                add(name, "127.0.0.1,localhost,::1".to_owned());
            }
        }
        variables
    }
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
    /// Ways to the daemon beside the control socket; a validator has none. The variables of
    /// [`Doors::environment`] are not added by themselves.
    pub doors: Doors,
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
    /// Which door: `control`, `api`, `limits`.
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
    /// Why programs inside cannot be given connections, and what to do.
    pub network_missing: Option<String>,
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

/// Through which door a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// Models and SMCP.
    Api,
    /// The egress proxy.
    Egress,
}

/// A connection from inside a sandbox. The door it came through says who speaks: the execution, in this generation.
#[derive(Debug)]
pub struct DoorConnection {
    /// Which door.
    pub door: Door,
    /// The execution.
    pub execution: ExecutionId,
    /// Its generation.
    pub generation: u32,
    /// The connection. HTTP/1.1 is spoken on it.
    pub stream: DoorStream,
}

/// The stream of a [`DoorConnection`]. It takes one of the sandbox's places until it is dropped.
#[derive(Debug)]
pub struct DoorStream {
    stream: Either,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Either {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl DoorStream {
    /// A connection to the socket in the sandbox's folder.
    pub fn unix(stream: UnixStream, place: OwnedSemaphorePermit) -> Self {
        Self { stream: Either::Unix(stream), _place: place }
    }
    /// A connection over the sandbox's own network.
    pub fn tcp(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        Self { stream: Either::Tcp(stream), _place: place }
    }
}

impl AsyncRead for DoorStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Either::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Either::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for DoorStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Either::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Either::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Either::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Either::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Either::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Either::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A running sandbox. Dropping it kills the process tree.
#[async_trait]
pub trait Sandboxed: Send + Sync {
    /// How to find it again after a crash.
    fn facts(&self) -> &SandboxFacts;
    /// Waits for the bootstrap's one connection, checks its peer, closes the listener and unlinks the socket before
    /// it returns. Fails if the sandbox ends first. At most once; a validator has none.
    async fn control(&self) -> Result<ControlConnection, SandboxError>;
    /// Waits for the next connection through one of the spec's doors. While as many are held as a sandbox may have,
    /// further ones wait. Fails when the sandbox ends, and at once if it has no doors. May be called by one task at a
    /// time, again and again.
    async fn door(&self) -> Result<DoorConnection, SandboxError> {
        Err(SandboxError::Start("this sandbox has no doors".to_owned()))
    }
    /// The standard streams of a server. At most once; nothing else has them.
    ///
    /// # Errors
    /// If this is no server, or they were taken.
    fn pipes(&self) -> Result<Pipes, SandboxError> {
        Err(SandboxError::Start("this sandbox keeps its standard streams".to_owned()))
    }
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
