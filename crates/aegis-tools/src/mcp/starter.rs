//! How a server's process is started: passed in, so that it can be a sandbox of its own.

use std::process::Stdio;
use std::sync::Arc;

use aegis_core::{Name, Tenant};
use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What to start.
#[derive(Debug, Clone)]
pub struct StartSpec {
    /// On whose behalf.
    pub tenant: Tenant,
    /// The server.
    pub server: Name,
    /// The program.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment beside what the starter gives every server: the credentials, resolved for this process alone.
    pub env: Vec<(String, SecretString)>,
    /// Hosts it may reach itself, as the configuration states them.
    pub domain_allowlist: Vec<String>,
    /// Folders of this machine that it sees, read-only and under their own paths.
    pub folders: Vec<String>,
}

/// A process that could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// A process that runs.
pub struct Started {
    /// Its standard input.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// The process itself.
    pub process: Arc<dyn ServerProcess>,
}

/// A process that runs. It is killed when it is dropped.
#[async_trait]
pub trait ServerProcess: Send + Sync {
    /// Asks its whole tree to end now.
    fn kill(&self);
    /// Waits until it has ended; says how, for people. May be called more than once.
    async fn wait(&self) -> String;
}

/// Starts servers. The integrator puts a sandbox of its own behind each.
#[async_trait]
pub trait Starter: Send + Sync {
    /// Starts one.
    ///
    /// # Errors
    /// If it cannot be started; the text is for people.
    async fn start(&self, spec: StartSpec) -> Result<Started, StartError>;
}

/// Where a server's credentials come from; asked once per process, and once per request on HTTP.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The value of `reference` (`env:NAME`, `secret:path`, `literal:value`) for `tenant`, to be given to `server`.
    ///
    /// # Errors
    /// If there is none; the text is for people and holds no secret.
    async fn resolve(&self, tenant: &Tenant, server: &Name, reference: &str) -> Result<SecretString, String>;
}

/// Starts servers as plain processes with no isolation at all: for tests and measurements.
#[derive(Debug, Clone, Default)]
pub struct PlainStarter {
    /// The folder they start in; the caller's own without it.
    pub cwd: Option<std::path::PathBuf>,
    /// Variables given to every server, such as `PATH`.
    pub env: Vec<(String, String)>,
}

struct PlainProcess {
    kill: CancellationToken,
    ended: watch::Receiver<Option<String>>,
}

#[async_trait]
impl ServerProcess for PlainProcess {
    fn kill(&self) {
        self.kill.cancel();
    }
    async fn wait(&self) -> String {
        let mut ended = self.ended.clone();
        let status = ended.wait_for(Option::is_some).await.ok().and_then(|status| status.clone());
        status.unwrap_or_else(|| "it is gone".to_owned())
    }
}

impl Drop for PlainProcess {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

#[async_trait]
impl Starter for PlainStarter {
    async fn start(&self, spec: StartSpec) -> Result<Started, StartError> {
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .env_clear()
            .envs(self.env.iter().cloned())
            .envs(spec.env.iter().map(|(name, value)| (name, value.expose_secret())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        let failed = |error: std::io::Error| StartError(format!("`{}`: {error}", spec.program));
        let mut child = command.spawn().map_err(failed)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(StartError(format!("`{}` has no pipes", spec.program)));
        };
        let kill = CancellationToken::new();
        let (tell, ended) = watch::channel(None);
        tokio::spawn(reap(child, kill.clone(), tell));
        Ok(Started {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            process: Arc::new(PlainProcess { kill, ended }),
        })
    }
}

async fn reap(mut child: Child, kill: CancellationToken, tell: watch::Sender<Option<String>>) {
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = kill.cancelled() => {
            let _ = child.start_kill();
            child.wait().await
        }
    };
    let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
    let _ = tell.send(Some(status));
}
