//! `aegis daemon …`, `down` and `status`.

use std::time::Duration;

use aegis_api::{ModelStatus, Status};
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
    let home = global.home()?;
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
        ("up for", lasted(status.uptime_ms)),
        (
            "executions",
            format!("{} running, {} waiting", status.executions_running, status.executions_pending),
        ),
        ("models", models(&status.models)),
        ("record", format!("{} events, root {}", status.log.size, status.log.root)),
    ])
}

/// A time in its two largest units.
fn lasted(millis: u64) -> String {
    let seconds = millis / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

fn models(models: &[ModelStatus]) -> String {
    if models.is_empty() {
        return "none configured".to_owned();
    }
    let words = models.iter().map(|model| {
        let why = model.detail.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("{} = {}/{} ({}{why})", model.alias, model.provider, model.model, model.state)
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_what_runs_and_how_its_models_are() {
        let model = |alias: &str, state: &str, detail: Option<&str>| ModelStatus {
            alias: alias.to_owned(),
            provider: "local".to_owned(),
            model: "m".to_owned(),
            state: state.to_owned(),
            detail: detail.map(str::to_owned),
        };
        assert_eq!(
            models(&[model("default", "loading", None), model("judge", "failed", Some("it ended"))]),
            "default = local/m (loading), judge = local/m (failed: it ended)"
        );
        assert_eq!(models(&[]), "none configured");
        for (millis, words) in
            [(900, "0 s"), (61_000, "1 min 1 s"), (3_660_000, "1 h 1 min"), (90_000_000, "1 d 1 h")]
        {
            assert_eq!(lasted(millis), words);
        }
    }
}
