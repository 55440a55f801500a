//! `aegis daemon …`, `down` and `status`.

use std::time::Duration;

use aegis_api::Status;
use aegis_core::{Diagnosis, ErrorCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{installed, until};
use crate::args::{Daemon, Global};
use crate::failure::Failure;
use crate::output;
use crate::table::facts;

/// Longest time a daemon may take to stop: it parks its executions first.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn run(global: &Global, command: Daemon) -> Result<(), Failure> {
    match command {
        Daemon::Start { accept_restored, own_session } => start(global, accept_restored, own_session).await,
        Daemon::Stop => stop(global).await,
        Daemon::Status => status(global).await,
        Daemon::Install { print } => installed::install(global, print),
        Daemon::Uninstall => installed::uninstall(),
    }
}

async fn start(global: &Global, accept_restored: bool, own_session: bool) -> Result<(), Failure> {
    if own_session {
        // Fails only for who leads a session already, which is as good.
        let _ = rustix::process::setsid();
    }
    let config = aegis_server::load_config(global.config_file()?.as_deref())?;
    let logging = config.node().spec.observability.logging.clone();
    aegis_server::init_logging(&logging, global.log_level.map(crate::args::Level::name));
    let home = match (&global.home, &config.node().spec.storage.data_dir) {
        (None, Some(folder)) => std::path::absolute(folder).unwrap_or_else(|_| folder.into()),
        _ => global.home()?,
    };
    let options =
        aegis_server::Options { home, host: global.host.clone(), port: global.port, accept_restored };
    Ok(aegis_server::serve(config, options).await?)
}

/// Stops the daemon of the data folder and waits until it is gone.
pub(super) async fn stop(global: &Global) -> Result<(), Failure> {
    let home = global.home()?;
    let Some(pid) = aegis_server::running_pid(&home) else {
        let value = json!({"status": "stopped", "changed": false});
        return output::show(global.output, &value, |_| format!("No daemon runs on {}", home.display()));
    };
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let sent = process.map(|process| kill_process(process, Signal::TERM));
    match sent {
        Some(Ok(())) => {}
        Some(Err(rustix::io::Errno::PERM)) => {
            return Err(Diagnosis::new(
                ErrorCode::PermissionDenied,
                format!("process {pid} is another user's"),
            )
            .hint("stop the daemon as the user that started it")
            .into());
        }
        _ => return Err(Diagnosis::internal(format!("process {pid} cannot be signalled")).into()),
    }
    let gone = until(STOP_TIMEOUT, async || aegis_server::running_pid(&home).is_none().then_some(())).await;
    if gone.is_none() {
        let what = format!("the daemon (process {pid}) did not stop within {} s", STOP_TIMEOUT.as_secs());
        return Err(Diagnosis::internal(what)
            .hint(format!("see {}", super::up::log_file(&home).display()))
            .into());
    }
    let value = json!({"status": "stopped", "changed": true, "pid": pid});
    output::show(global.output, &value, |_| format!("Stopped the daemon (process {pid})"))
}

/// Shows how the daemon does.
pub(super) async fn status(global: &Global) -> Result<(), Failure> {
    let status = global.client()?.status().await?;
    for warning in &status.warnings {
        output::note(&format!("warning: {warning}"));
    }
    output::show(global.output, &status, words)
}

fn words(status: &Status) -> String {
    facts(&[
        ("daemon", format!("{} (version {}, process {})", status.status, status.version, status.pid)),
        ("address", status.address.clone()),
        ("data", status.data.clone()),
        ("config", status.config.clone().unwrap_or_else(|| "embedded defaults".to_owned())),
        ("up since", format!("{} s", status.uptime_ms / 1000)),
        (
            "executions",
            format!("{} running, {} waiting", status.executions_running, status.executions_pending),
        ),
        (
            "models",
            if status.models.is_empty() { "none configured".to_owned() } else { status.models.join(", ") },
        ),
        ("record", format!("{} events, root {}", status.log.size, status.log.root)),
    ])
}
