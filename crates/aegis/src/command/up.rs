//! `aegis up`: a daemon in the background, waited for.

use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aegis_api::Client;
use aegis_core::{Diagnosis, ErrorCode};
use serde_json::json;

use super::{file_error, until};
use crate::args::Global;
use crate::failure::Failure;
use crate::output;

/// Longest time a daemon may take to be ready: after a crash it first proves what was left dead.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Lines of the log shown when a daemon ends at its start.
const LOG_LINES_SHOWN: usize = 20;
/// Longest time systemd may take to say whether it gives scopes.
const SCOPE_TIMEOUT: Duration = Duration::from_secs(5);

/// The log of a daemon that was started in the background.
pub(super) fn log_file(home: &Path) -> PathBuf {
    home.join("daemon.log")
}

/// Starts a daemon if none is there, and waits until it is ready.
pub(super) async fn up(global: &Global) -> Result<(), Failure> {
    let client = global.client()?;
    if client.ready().await.is_ok() {
        return told(global, &client, false);
    }
    let home = global.home()?;
    if aegis_server::running_pid(&home).is_none() {
        start(global, &client, &home).await?;
    } else {
        output::note("a daemon is starting already; waiting for it");
        wait(&client, None, &home).await?;
    }
    // The token may have been made only now.
    told(global, &global.client()?, true)
}

fn told(global: &Global, client: &Client, started: bool) -> Result<(), Failure> {
    let address = client.endpoint().url();
    let value = json!({"status": "ready", "address": address, "started": started});
    output::show(global.output, &value, |_| format!("AEGIS is ready at {address}"))
}

async fn start(global: &Global, client: &Client, home: &Path) -> Result<(), Failure> {
    // A wrong configuration is told here, with its lines, and not in a log.
    aegis_server::load_config(global.config_file()?.as_deref())?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(home)
        .map_err(|error| file_error(home, &error))?;
    let log = log_file(home);
    let out = OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
    let out = out.map_err(|error| file_error(&log, &error))?;
    let begin = std::fs::metadata(&log).map_or(0, |meta| meta.len());
    let errors = out.try_clone().map_err(|error| file_error(&log, &error))?;
    let child = command(global, client, home)?
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors)
        .spawn()
        .map_err(|error| Diagnosis::internal(format!("the daemon cannot be started: {error}")))?;
    output::note("starting the daemon…");
    wait(client, Some((child, begin)), home).await
}

async fn wait(client: &Client, mut child: Option<(Child, u64)>, home: &Path) -> Result<(), Failure> {
    let log = log_file(home);
    let waited = until(READY_TIMEOUT, async || {
        if client.ready().await.is_ok() {
            return Some(Ok(()));
        }
        let (child, begin) = child.as_mut()?;
        // Under systemd-run the child goes when the daemon does, as it runs in its place.
        let status = child.try_wait().ok()??;
        Some(Err(died(&log, *begin, &status.to_string())))
    });
    match waited.await {
        Some(result) => result,
        None => {
            let what = format!("the daemon was not ready within {} s", READY_TIMEOUT.as_secs());
            Err(Diagnosis::new(ErrorCode::Unreachable, what).hint(format!("see {}", log.display())).into())
        }
    }
}

/// The failure of a daemon that ended at its start, with what it said.
fn died(log: &Path, begin: u64, status: &str) -> Failure {
    let bytes = std::fs::read(log).unwrap_or_default();
    let own = bytes.get(usize::try_from(begin).unwrap_or(usize::MAX)..).unwrap_or_default();
    let text = String::from_utf8_lossy(own);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default();
    for line in shown {
        output::note(&format!("  {line}"));
    }
    Diagnosis::new(ErrorCode::Internal, format!("the daemon ended at its start ({status})"))
        .hint(format!("its last words are above; the whole log is {}", log.display()))
        .into()
}

fn command(global: &Global, client: &Client, home: &Path) -> Result<Command, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Diagnosis::internal(format!("this program cannot be found again: {error}")))?;
    let mut command = if gives_scopes() {
        let mut command = Command::new("systemd-run");
        command.args(["--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(["daemon", "start", "--own-session"]);
    command.env("AEGIS_HOME", home);
    let endpoint = client.endpoint();
    command.args(["--host", &endpoint.host, "--port", &endpoint.port.to_string()]);
    if let Some(config) = global.config_file()? {
        command.arg("--config").arg(config);
    }
    if let Some(level) = global.log_level {
        command.args(["--log-level", level.name()]);
    }
    // The daemon has no use for the client's credential.
    command.env_remove("AEGIS_TOKEN").env_remove("AEGIS_TENANT");
    command.current_dir(home);
    Ok(command)
}

/// Whether this user's systemd gives a delegated scope, in which limits hold for whole process trees. Root needs none.
fn gives_scopes() -> bool {
    if rustix::process::geteuid().is_root() || std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        return false;
    }
    let trial = Command::new("systemd-run")
        .args(["--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut trial) = trial else { return false };
    let end = std::time::Instant::now() + SCOPE_TIMEOUT;
    while std::time::Instant::now() < end {
        match trial.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => break,
        }
    }
    let _ = trial.kill();
    let _ = trial.wait();
    false
}
