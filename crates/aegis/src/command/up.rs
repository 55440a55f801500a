//! `aegis up`: a daemon in the background, waited for.

use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aegis_api::{Client, ModelStatus, Status};
use aegis_core::{Diagnosis, ErrorCode};
use serde_json::json;

use super::{file_error, until};
use crate::args::Global;
use crate::failure::Failure;
use crate::output;

/// Longest time a daemon may take to be ready: after a crash it first proves what was left dead.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for programs of model providers to be ready or to fail.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
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
    let home = global.home()?;
    if client.ready().await.is_ok() {
        let status = own(&client, &home).await?;
        return told(global, &client, status, false).await;
    }
    if aegis_server::running_pid(&home).is_none() {
        start(global, &client, &home).await?;
    } else {
        listens_elsewhere(&client, &home)?;
        output::note("a daemon is starting already; waiting for it");
        wait(&client, None, &home).await?;
    }
    // The token may have been made only now.
    let client = global.client()?;
    let status = own(&client, &home).await?;
    told(global, &client, status, true).await
}

/// The status of the daemon that answers, if it is the one of this data folder: it knows our token and says our folder.
async fn own(client: &Client, home: &Path) -> Result<Status, Failure> {
    let endpoint = client.endpoint();
    let taken = |by: String| {
        let what = format!("{} is taken by another daemon: {by}", endpoint.url());
        let own = match aegis_server::running_address(home) {
            Some(address) => format!(
                "the one of `{}` runs at {address}: name it with `--host` and `--port`",
                home.display()
            ),
            None => "choose another `--port`, or stop that daemon".to_owned(),
        };
        Failure::from(Diagnosis::new(ErrorCode::Conflict, what).hint(own))
    };
    match client.status().await {
        Ok(status) if is_same_folder(Path::new(&status.data), home) => Ok(status),
        Ok(status) => Err(taken(format!("it works on `{}`, not on `{}`", status.data, home.display()))),
        Err(error) if error.diagnosis.code == ErrorCode::Unauthenticated => {
            Err(taken(format!("it does not know the token of `{}`", home.display())))
        }
        Err(error) => Err(error.into()),
    }
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// Refuses to wait at one address for a daemon that listens at another.
fn listens_elsewhere(client: &Client, home: &Path) -> Result<(), Failure> {
    let Some(address) = aegis_server::running_address(home) else { return Ok(()) };
    if address.port() == client.endpoint().port {
        return Ok(());
    }
    let what = format!("the daemon of `{}` runs already, at {address}", home.display());
    Err(Diagnosis::new(ErrorCode::Conflict, what)
        .hint(format!("use `--port {}`, or stop it with `aegis down`", address.port()))
        .into())
}

/// Says that it is ready. Programs of model providers are given a moment to be ready or to fail; a model that takes
/// longer to load is said to load, and not waited for.
async fn told(global: &Global, client: &Client, status: Status, started: bool) -> Result<(), Failure> {
    let is_loading = |status: &Status| status.models.iter().any(|model| model.state == "loading");
    let mut status = status;
    if is_loading(&status) {
        let settled =
            until(SETTLE_TIMEOUT, async || client.status().await.ok().filter(|status| !is_loading(status)));
        if let Some(settled) = settled.await {
            status = settled;
        }
    }
    for warning in status.warnings.iter().filter(|_| started) {
        output::note(&format!("warning: {warning}"));
    }
    for model in &status.models {
        let ModelStatus { alias, provider, .. } = model;
        match (model.state.as_str(), &model.detail) {
            ("loading", _) => output::note(&format!(
                "model `{alias}` of provider `{provider}` is still loading; `aegis status` says when it is ready"
            )),
            ("failed", Some(why)) => {
                output::note(&format!("warning: model `{alias}` of provider `{provider}`: {why}"));
            }
            _ => {}
        }
    }
    let address = client.endpoint().url();
    let value = json!({"status": "ready", "address": address, "started": started, "models": status.models});
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
