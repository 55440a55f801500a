//! Starts tool servers, each in a sandbox of its own: a user, a root and a network of its own, with nothing in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_core::{ExecutionId, ExitStatus};
use aegis_kernel::port::{Doors, Ids, Mount, Role, Sandbox as _, SandboxLimits, SandboxSpec, Sandboxed};
use aegis_sandbox::ProcessSandbox;
use aegis_tools::mcp::{ServerProcess, StartError, StartSpec, Started, Starter, shown_folder};
use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio_util::sync::CancellationToken;

use super::way_out::ServerNetwork;

/// Limits of a server's process tree.
const LIMITS: SandboxLimits = SandboxLimits {
    cpu_millicores: 1000,
    memory_bytes: 1 << 30,
    disk_bytes: 64 << 20,
    pids: 128,
    explicit: false,
};
/// Where a program is looked for that is named without a folder.
const PROGRAM_FOLDERS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];
/// Where a server starts: all it may write.
const WORKING_FOLDER: &str = "/tmp";

/// Starts servers in process sandboxes.
pub(super) struct SandboxStarter {
    pub(super) sandbox: Arc<ProcessSandbox>,
    pub(super) ids: Arc<dyn Ids>,
    pub(super) network: Arc<ServerNetwork>,
    /// The node's own folder, which no server is shown.
    pub(super) home: PathBuf,
}

#[async_trait]
impl Starter for SandboxStarter {
    async fn start(&self, spec: StartSpec) -> Result<Started, StartError> {
        let failed = |error: aegis_kernel::port::SandboxError| StartError(error.to_string());
        self.sandbox.known().await.map_err(failed)?;
        let sandboxed = self.sandbox.start(self.spec(&spec)?).await.map_err(failed)?;
        let sandboxed: Arc<dyn Sandboxed> = sandboxed.into();
        let pipes = sandboxed.pipes().map_err(failed)?;
        let way_out = match spec.domain_allowlist.is_empty() {
            true => None,
            false => Some(self.network.open(&spec, Arc::clone(&sandboxed)).map_err(StartError)?),
        };
        let io = |error: std::io::Error| StartError(format!("its standard streams: {error}"));
        Ok(Started {
            stdin: Box::new(Sender::from_owned_fd(pipes.stdin.into()).map_err(io)?),
            stdout: Box::new(Receiver::from_owned_fd(pipes.stdout.into()).map_err(io)?),
            stderr: Box::new(Receiver::from_owned_fd(pipes.stderr.into()).map_err(io)?),
            process: Arc::new(SandboxedServer { sandboxed, way_out }),
        })
    }
}

impl SandboxStarter {
    fn spec(&self, spec: &StartSpec) -> Result<SandboxSpec, StartError> {
        let fixed = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", WORKING_FOLDER), ("LANG", "C.UTF-8")];
        let doors = Doors { egress: !spec.domain_allowlist.is_empty(), ..Doors::NONE };
        let given = spec.env.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned()));
        let own = fixed.iter().filter(|(name, _)| spec.env.iter().all(|(other, _)| other != name));
        let own = own.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let env = own.chain(doors.environment()).chain(given).collect();
        // Each life is a sandbox of its own, which a later daemon finds by its name.
        let execution = ExecutionId::from_uuid(self.ids.uuid());
        Ok(SandboxSpec {
            execution,
            generation: 1,
            ordinal: 0,
            role: Role::Server,
            argv: std::iter::once(program(&spec.program)?).chain(spec.args.iter().cloned()).collect(),
            env,
            cwd: WORKING_FOLDER.to_owned(),
            files: Vec::new(),
            mounts: spec.folders.iter().map(|folder| self.mount(folder)).collect::<Result<_, _>>()?,
            doors,
            uid: self.sandbox.uid_for(execution),
            limits: LIMITS,
            output_bytes_max: 0,
        })
    }

    /// Looked at again at each start: a link may lead elsewhere since.
    fn mount(&self, folder: &str) -> Result<Mount, StartError> {
        let refuse = |why: &str| StartError(format!("the folder `{folder}` {why}"));
        let source = shown_folder(folder).map_err(refuse)?;
        if super::is_own(&source, &self.home) {
            return Err(refuse("holds what is the node's own"));
        }
        Ok(Mount { source, target: folder.trim_end_matches('/').to_owned(), read_only: true })
    }
}

fn program(named: &str) -> Result<String, StartError> {
    if named.starts_with('/') {
        return Ok(named.to_owned());
    }
    let found =
        PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(named)).find(|path| path.is_file());
    match found.filter(|_| !named.contains('/')) {
        Some(path) => Ok(path.display().to_string()),
        None => Err(StartError(format!(
            "`{named}` is neither an absolute path nor a program in {}",
            PROGRAM_FOLDERS.join(" or ")
        ))),
    }
}

/// A server that runs; dropped, its tree is killed.
struct SandboxedServer {
    sandboxed: Arc<dyn Sandboxed>,
    way_out: Option<CancellationToken>,
}

impl Drop for SandboxedServer {
    fn drop(&mut self) {
        // Whoever waits for its connections has a share in it too.
        self.kill();
    }
}

#[async_trait]
impl ServerProcess for SandboxedServer {
    fn kill(&self) {
        if let Some(way_out) = &self.way_out {
            way_out.cancel();
        }
        self.sandboxed.kill();
    }
    async fn wait(&self) -> String {
        match self.sandboxed.wait().await.map(|ended| ended.status) {
            Ok(ExitStatus::Exited { code }) => format!("it ended with exit code {code}"),
            Ok(ExitStatus::Signalled { signal }) => format!("it ended by signal {signal}"),
            Ok(ExitStatus::OutOfMemory) => "it ended at its memory limit".to_owned(),
            Ok(ExitStatus::Unknown) => "it is gone".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}
