//! Where `git` itself runs: sandboxes that hold no credential and have no network.
//!
//! One kind sees the agent's volume, as the agent's own user; it is asked for objects, or given them. The other sees
//! nothing of anybody: it checks objects in a repository that nobody else can reach.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aegis_core::{ExecutionId, ExitStatus};
use aegis_kernel::port::{
    Doors, HostFile, Ids, Mount, Role, Sandbox, SandboxError, SandboxLimits, SandboxSpec,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::wire::foreign;

/// The program that runs `git`, compiled in.
const GUEST: &str = include_str!("../../../../guest/git.py");
/// Where git may lie.
const PROGRAMS: [&str; 2] = ["/usr/bin/git", "/usr/local/bin/git"];
/// Memory and temporary files beside packs.
const BASE_BYTES: u64 = 256 << 20;
/// Longest standard error that is read.
const WORDS_BYTES_MAX: u64 = 4096;

/// Why work was not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Git would not; the text is escaped and says that it is git's.
    Refused(String),
    /// More than this many bytes came out.
    TooLarge(usize),
    /// Something below failed.
    Broken(String),
}

impl From<SandboxError> for Failed {
    fn from(error: SandboxError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Whose files the work sees.
pub(super) enum Place {
    /// Nobody's.
    Apart,
    /// A volume of this execution.
    Beside(ExecutionId, Mount),
}

/// Work for git.
pub(super) struct Work {
    pub(super) place: Place,
    /// Arguments of the guest program.
    pub(super) arguments: Vec<String>,
    /// Its standard input.
    pub(super) input: Vec<u8>,
    /// Largest pack that is part of it.
    pub(super) pack_bytes_max: usize,
}

/// Starts git's sandboxes.
pub(super) struct Workshop {
    sandbox: Arc<dyn Sandbox>,
    ids: Arc<dyn Ids>,
    /// The git program.
    program: &'static str,
    ordinal: AtomicU32,
}

impl Workshop {
    /// `None` where there is no git.
    pub(super) fn open(sandbox: Arc<dyn Sandbox>, ids: Arc<dyn Ids>) -> Option<Self> {
        let program = PROGRAMS.into_iter().find(|path| Path::new(path).is_file())?;
        Some(Self { sandbox, ids, program, ordinal: AtomicU32::new(1) })
    }

    /// Does it, and gives its standard output: at most the largest pack and a line.
    pub(super) async fn run(&self, work: Work) -> Result<Vec<u8>, Failed> {
        /// The line before a pack.
        const LINE_BYTES_MAX: usize = 4096;
        let most = work.pack_bytes_max.saturating_add(LINE_BYTES_MAX);
        let spec = self.spec(&work)?;
        let sandboxed = self.sandbox.start(spec).await?;
        let io = |error: std::io::Error| Failed::Broken(error.to_string());
        let pipes = sandboxed.pipes()?;
        let mut stdin = Sender::from_owned_fd(pipes.stdin.into()).map_err(io)?;
        let stdout = Receiver::from_owned_fd(pipes.stdout.into()).map_err(io)?;
        let stderr = Receiver::from_owned_fd(pipes.stderr.into()).map_err(io)?;
        let writing = async move {
            // Who has refused reads no further; what it says shows why.
            let _ = stdin.write_all(&work.input).await;
        };
        let reading = async {
            let mut output = Vec::new();
            let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
            let read = stdout.take(limit).read_to_end(&mut output).await;
            if output.len() > most {
                sandboxed.kill();
            }
            read.map(|_| output)
        };
        let listening = async {
            let mut words = Vec::new();
            let _ = stderr.take(WORDS_BYTES_MAX).read_to_end(&mut words).await;
            words
        };
        let ((), output, words) = tokio::join!(writing, reading, listening);
        let (output, ended) = (output.map_err(io)?, sandboxed.wait().await?);
        if output.len() > most {
            return Err(Failed::TooLarge(work.pack_bytes_max));
        }
        match ended.status {
            ExitStatus::Exited { code: 0 } => Ok(output),
            ExitStatus::Exited { .. } => Err(Failed::Refused(String::from_utf8_lossy(&words).into_owned())),
            ExitStatus::OutOfMemory => {
                Err(Failed::Refused("it needs more memory than it is given".to_owned()))
            }
            other => Err(Failed::Broken(format!("git ended with {other:?}"))),
        }
    }

    fn spec(&self, work: &Work) -> Result<SandboxSpec, Failed> {
        let interpreters = &self.sandbox.capabilities().interpreters;
        let python = interpreters.iter().find(|(language, ..)| language == "python");
        let (_, _, interpreter) = python.ok_or_else(|| {
            Failed::Broken(
                "there is no python3 in /usr/bin here; install it: `apt install python3`".to_owned(),
            )
        })?;
        let (execution, mounts) = match &work.place {
            Place::Apart => (ExecutionId::from_uuid(self.ids.uuid()), Vec::new()),
            Place::Beside(execution, mount) => (*execution, vec![mount.clone()]),
        };
        let argv = [interpreter, "-I", "-S", "/run/aegis/git.py", self.program].map(str::to_owned);
        let pack_bytes = u64::try_from(work.pack_bytes_max).unwrap_or(u64::MAX);
        Ok(SandboxSpec {
            execution,
            // No generation has this number: it is beside all of them.
            generation: 0,
            ordinal: self.ordinal.fetch_add(1, Ordering::Relaxed),
            role: Role::Server,
            argv: argv.into_iter().chain(work.arguments.iter().cloned()).collect(),
            env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())],
            cwd: "/tmp".to_owned(),
            files: vec![HostFile { name: "git.py".to_owned(), bytes: GUEST.as_bytes().to_vec() }],
            mounts,
            doors: Doors::NONE,
            uid: self.sandbox.uid_for(execution),
            limits: SandboxLimits {
                cpu_millicores: 1000,
                memory_bytes: pack_bytes.saturating_mul(4).saturating_add(2 * BASE_BYTES),
                disk_bytes: pack_bytes.saturating_mul(2).saturating_add(BASE_BYTES),
                pids: 128,
                explicit: false,
            },
            output_bytes_max: 0,
        })
    }
}

/// What git said, for a model.
pub(super) fn words(text: &str) -> String {
    foreign(text).replace("words of the server", "words of git")
}
