//! A provider that is a program on this machine: started by the daemon, watched, and stopped with it.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::backoff;

/// Variables of the daemon's environment that the program sees; all others, credentials among them, it does not.
const ENVIRONMENT: [&str; 7] =
    ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "LD_LIBRARY_PATH"];
/// Time a program has to become ready: a model of some gigabytes is loaded from disk.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// Time between two questions whether it is ready.
const READY_POLL: Duration = Duration::from_millis(200);
/// Time between the polite signal and the other one.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait before the first restart, in milliseconds; doubles with each, up to the bound of all retries.
const RESTART_DELAY_MS: u64 = 1000;

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSettings {
    /// Name of the provider.
    pub provider: String,
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The address that answers 2xx when it is ready.
    pub ready_url: String,
    /// A folder of the daemon for its pid file and its log.
    pub folder: PathBuf,
    /// Seed of the jitter between restarts.
    pub jitter_seed: u64,
}

/// Why a program cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Its files could not be written.
    #[error("the files of provider `{provider}` cannot be kept in `{folder}`: {source}")]
    Folder {
        /// The provider.
        provider: String,
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No HTTP client could be made to ask whether it is ready.
    #[error("the HTTP client could not be made: {0}")]
    Client(String),
}

/// How the program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessState {
    /// Started, and not yet ready.
    Starting,
    /// Its address answers.
    Ready,
    /// It ended or never became ready; it is started again after a pause. The text says what happened.
    Failed(String),
    /// Stopped, as the daemon wants it.
    Stopped,
}

/// A program under watch. [`ProviderProcess::stop`] ends it with everything it started. A daemon that dies leaves it
/// behind; its standard input then ends, and the next start of the daemon ends the rest by the pid file.
#[derive(Debug)]
pub struct ProviderProcess {
    state: watch::Receiver<ProcessState>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl ProviderProcess {
    /// Starts watching: ends what an earlier daemon left, then starts the program and keeps it running.
    ///
    /// # Errors
    /// If the folder cannot be used. A program that does not start is a [`ProcessState::Failed`], and tried again.
    pub fn start(settings: ProcessSettings) -> Result<Self, ProcessError> {
        let folder = |source| ProcessError::Folder {
            provider: settings.provider.clone(),
            folder: settings.folder.clone(),
            source,
        };
        std::fs::create_dir_all(&settings.folder).map_err(folder)?;
        end_leftover(&pid_file(&settings));
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.tls_certs_only([]).timeout(Duration::from_secs(2)).build();
        let client = client.map_err(|error| ProcessError::Client(error.without_url().to_string()))?;
        let (sender, state) = watch::channel(ProcessState::Starting);
        let cancel = CancellationToken::new();
        let watcher = Watcher { settings, client, sender, cancel: cancel.clone() };
        Ok(Self { state, cancel, task: tokio::spawn(watcher.watch()) })
    }
    /// How the program is now.
    pub fn state(&self) -> ProcessState {
        self.state.borrow().clone()
    }
    /// Waits until the program is ready. The last state if it is not within `patience`.
    ///
    /// # Errors
    /// What the program is instead.
    pub async fn ready(&self, patience: Duration) -> Result<(), ProcessState> {
        let mut state = self.state.clone();
        let waited =
            tokio::time::timeout(patience, state.wait_for(|state| *state == ProcessState::Ready)).await;
        if matches!(waited, Ok(Ok(_))) { Ok(()) } else { Err(self.state()) }
    }
    /// Stops the program and waits for its end.
    pub async fn stop(self) {
        self.cancel.cancel();
        drop(self.task.await);
    }
}

struct Watcher {
    settings: ProcessSettings,
    client: Client,
    sender: watch::Sender<ProcessState>,
    cancel: CancellationToken,
}

impl Watcher {
    async fn watch(self) {
        let mut restarts = 0u32;
        while !self.cancel.is_cancelled() {
            self.sender.send_replace(ProcessState::Starting);
            let started = Instant::now();
            let ended = self.run_once().await;
            let _ = std::fs::remove_file(pid_file(&self.settings));
            let Some(reason) = ended else { break };
            tracing::warn!(provider = %self.settings.provider, %reason, "a provider's program is started again");
            self.sender.send_replace(ProcessState::Failed(reason));
            // A program that ran for a while begins its count anew.
            restarts = if started.elapsed() > READY_WITHIN { 0 } else { restarts.saturating_add(1) };
            let wait = backoff(RESTART_DELAY_MS, restarts, self.settings.jitter_seed);
            let _ = tokio::time::timeout(wait, self.cancel.cancelled()).await;
        }
        self.sender.send_replace(ProcessState::Stopped);
    }

    /// Runs the program until it ends. `None` if it was asked to.
    async fn run_once(&self) -> Option<String> {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => return Some(format!("`{}` could not be started: {error}", self.settings.command)),
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let written = group.map(|group| std::fs::write(pid_file(&self.settings), identity(group)));
        if let Some(Err(error)) = written {
            tracing::warn!(provider = %self.settings.provider, %error, "the pid file could not be written");
        }
        let reason = tokio::select! {
            () = self.cancel.cancelled() => None,
            status = child.wait() => Some(match status {
                Ok(status) => format!("`{}` ended with {status}; its output is in `{}`", self.settings.command, log_file(&self.settings).display()),
                Err(error) => format!("`{}` could not be waited for: {error}", self.settings.command),
            }),
            reason = self.supervise() => Some(reason),
        };
        if let Some(group) = group {
            end_group(group, &mut child).await;
        }
        reason
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let log = File::create(log_file(&self.settings))?;
        let environment: Vec<(&str, OsString)> =
            ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
        Command::new(&self.settings.command)
            .args(&self.settings.args)
            .env_clear()
            .envs(environment)
            // Never written to: it ends when the daemon does.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Waits for the program to become ready, and from then on for ever. Returns what went wrong.
    async fn supervise(&self) -> String {
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            let answer = self.client.get(&self.settings.ready_url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                self.sender.send_replace(ProcessState::Ready);
                return std::future::pending().await;
            }
            tokio::time::sleep(READY_POLL).await;
        }
        format!("`{}` was not ready within {} s", self.settings.command, READY_WITHIN.as_secs())
    }
}

fn pid_file(settings: &ProcessSettings) -> PathBuf {
    settings.folder.join(format!("provider-{}.pid", file_name(&settings.provider)))
}

fn log_file(settings: &ProcessSettings) -> PathBuf {
    settings.folder.join(format!("provider-{}.log", file_name(&settings.provider)))
}

fn file_name(provider: &str) -> String {
    provider.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// A process in words that no later process has: its pid and when it started.
fn identity(pid: Pid) -> String {
    format!("{} {}\n", pid.as_raw_nonzero(), start_time(pid).unwrap_or_default())
}

/// When a process started, in ticks since boot: field 22 of `/proc/PID/stat` (proc(5)).
fn start_time(pid: Pid) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name of the program, in parentheses, may hold spaces.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19).map(str::to_owned)
}

/// Ends a program that a daemon before this one left running, if it is still the same one.
fn end_leftover(pid_file: &Path) {
    let Ok(text) = std::fs::read_to_string(pid_file) else { return };
    let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid.filter(|pid| start_time(*pid).is_some() && identity(*pid) == text) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = std::fs::remove_file(pid_file);
}

/// Ends a group politely, then not, and takes the exit status of its leader.
async fn end_group(group: Pid, child: &mut Child) {
    let _ = kill_process_group(group, Signal::TERM);
    let deadline = Instant::now() + STOP_WITHIN;
    let _ = tokio::time::timeout_at(deadline, child.wait()).await;
    while test_kill_process_group(group).is_ok() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait().await;
}
