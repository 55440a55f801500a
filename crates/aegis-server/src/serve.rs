//! The daemon's life: start, serve, reload, stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aegis_core::{Body, Diagnosis, Tenant};
use aegis_manifest::node::NodeSpec;
use aegis_sandbox::ProcessSandbox;
use aegis_tools::mcp::ServerSettings;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Configured, STREAMS_MAX};
use crate::compose::{self, Composed};
use crate::config::{LoadedConfig, load_config};
use crate::evidence::StoreEvidence;
use crate::folder::Folder;
use crate::guard::{Hosts, Refusals, record_counted, record_refusals};
use crate::idempotency::Turns;
use crate::inside::Inside;
use crate::servers::record_events;
use crate::token::Token;
use crate::{VERSION, git, listen, models, platform, routes, secrets, servers};

/// Time for running executions to be parked when the daemon stops.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// How often volumes whose time has come are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// How often runs are looked for whose exact copies have had their time.
const FORGET_INTERVAL: Duration = Duration::from_secs(5);

/// How a daemon is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data folder; absolute.
    pub home: PathBuf,
    /// Listens here instead of where the configuration says.
    pub host: Option<String>,
    /// Listens on this port instead of the configured one; 0 takes a free one.
    pub port: Option<u16>,
    /// Goes on although the journal is behind a head kept outside it.
    pub accept_restored: bool,
}

/// Serves until SIGTERM or SIGINT. SIGHUP reads the configuration again.
///
/// # Errors
/// If the daemon cannot start. What is wrong, where, and the remedy.
pub async fn serve(config: LoadedConfig, options: Options) -> Result<(), Diagnosis> {
    not_dumpable()?;
    let mut signals = Signals::new()?;
    let address = config.address(options.host.as_deref(), options.port)?;
    let folder = Folder::take(&options.home)?;
    let listener = listen::bind(address).await?;
    let address = listener.local_addr().unwrap_or(address);
    folder.announce(address)?;
    let composed = compose::compose(folder.path(), &config, options.accept_restored).await?;
    let stop = CancellationToken::new();
    let app = Arc::new(app(&config, &folder, address, &composed, &stop)?);
    let Composed { kernel, store, providers, sandbox, servers, server_events, used, door, .. } = composed;
    let tasks = TaskTracker::new();
    let servers_stopped = CancellationToken::new();
    let recorder = tokio::spawn(record_events(app.clone(), server_events, servers_stopped.clone()));
    kernel.attend(Arc::new(Inside::new(&app, tasks.clone())));
    tasks.spawn(listen::listen(listener, routes::router(&app), stop.clone()));
    tasks.spawn(record_refusals(app.clone(), stop.clone()));
    tasks.spawn(sweep_volumes(app.clone(), stop.clone(), SWEEP_INTERVAL));
    tasks.spawn(sweep_working_copies(app.clone(), stop.clone()));
    let started = start(&app, &sandbox, &config, &options).await;
    secrets::record_uses(&app, used).await;
    if started.is_ok() {
        tracing::info!(%address, home = %folder.path().display(), version = VERSION, "ready");
        while let Signal::Reload = signals.next().await {
            reload(&app, &options).await;
        }
        tracing::info!("stopping");
    }
    app.ready.store(false, Ordering::Release);
    stop.cancel();
    kernel.shutdown(STOP_GRACE).await;
    tasks.close();
    tasks.wait().await;
    servers.stop().await;
    app.server_network.close().await;
    // What they told until then is recorded; nobody tells more.
    servers_stopped.cancel();
    let _ = recorder.await;
    record_counted(&app).await;
    if started.is_ok() {
        record(&app, Body::DaemonStopped {}).await;
    }
    door.close().await;
    providers.stop().await;
    // Closed by name, not by dropping: whoever still holds the journal must not keep its last head unsigned.
    let closed = store.close().await.map_err(|error| Diagnosis::internal(error.to_string()));
    started.and(closed)
}

/// The state of the HTTP side; not ready yet.
pub(crate) fn app(
    config: &LoadedConfig,
    folder: &Folder,
    address: SocketAddr,
    composed: &Composed,
    stop: &CancellationToken,
) -> Result<App, Diagnosis> {
    let ids = composed.ids.clone();
    let token = Token::open(folder.path(), |bytes| ids.fill(bytes))
        .map_err(|error| Diagnosis::internal(format!("the token cannot be kept: {error}")))?;
    Ok(App {
        kernel: composed.kernel.clone(),
        since: composed.clock.monotonic(),
        clock: composed.clock.clone(),
        ids,
        evidence: Arc::new(StoreEvidence(composed.store.clone())),
        read_manifest: compose::read_manifest,
        token,
        door: composed.door.clone(),
        tokens: composed.tokens.clone(),
        hosts: Hosts::new(address, Vec::new()),
        refusals: Refusals::default(),
        turns: Turns::default(),
        configured: RwLock::new(configured(config, folder.path(), composed.missing.clone())),
        taking: tokio::sync::Mutex::default(),
        router: composed.router.clone(),
        secrets: composed.secrets.clone(),
        providers: composed.providers.clone(),
        servers: composed.servers.clone(),
        git: composed.git.clone(),
        questions: Arc::default(),
        server_network: composed.server_network.clone(),
        home: folder.path().to_owned(),
        address,
        ready: AtomicBool::new(false),
        stop: stop.clone(),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    })
}

async fn start(
    app: &App,
    sandbox: &ProcessSandbox,
    config: &LoadedConfig,
    options: &Options,
) -> Result<(), Diagnosis> {
    sandbox.known().await.map_err(compose::sandbox_failed)?;
    platform::deploy(&app.kernel, config.node(), &compose::base(config, &options.home)).await?;
    app.kernel.start().await?;
    let spec = &config.node().spec;
    let started = Body::DaemonStarted {
        version: VERSION.to_owned(),
        config: config.digest(),
        label_rules_off: spec.label_rules_off(),
        personal_data_rules_off: spec.personal_data_rules_off(),
    };
    record(app, started).await;
    for warning in app.warnings() {
        tracing::warn!("{warning}");
    }
    app.ready.store(true, Ordering::Release);
    Ok(())
}

fn configured(config: &LoadedConfig, home: &Path, missing: Vec<String>) -> Configured {
    let isolation = config.node().spec.runtime.default_isolation;
    Configured {
        masked: config.masked(),
        source: config.source().map(PathBuf::from),
        warnings: config.warnings(),
        node: config.node().clone(),
        base: compose::base(config, home),
        missing,
        default_isolation: compose::isolation_name(isolation),
    }
}

async fn record(app: &App, body: Body) {
    let append = app.fleet_events(std::iter::once(body));
    if let Err(error) = app.kernel.journal().append(append).await {
        tracing::warn!(%error, "an event of the daemon cannot be recorded");
    }
}

/// Takes providers and repositories, if both and the tool servers can be put into force: uses of secrets, what is
/// missing, and the servers, which are still to be taken.
async fn take_sources(
    app: &App,
    config: &LoadedConfig,
    base: &Path,
) -> Result<(Vec<Body>, Vec<String>, Vec<ServerSettings>), Diagnosis> {
    let servers = servers::settings(config.node(), &app.home)?;
    let remotes = git::remotes(config.node())?;
    let gathered = models::settings(config.node(), app.secrets.as_ref(), base).await?;
    app.router.replace(gathered.settings).map_err(|error| models::refused(&error))?;
    app.git.replace(remotes);
    let mut missing = gathered.missing;
    missing.extend(git::missing(config.node(), &app.git, app.secrets.as_ref()).await);
    Ok((gathered.used, missing, servers))
}

/// Takes the tool servers of a configuration, and the network they have.
async fn take_servers(app: &App, config: &LoadedConfig, servers: Vec<ServerSettings>) {
    if let Err(error) = app.server_network.replace(config.node()) {
        tracing::error!(%error, "the tool servers' network is not as configured");
    }
    if let Err(error) = app.servers.replace(servers).await {
        tracing::error!(%error, "the tool servers are not as configured");
    }
}

/// Takes a changed configuration: aliases, providers and their programs, tool servers, security contexts, defaults and
/// platform agents. A wrong one changes nothing.
async fn reload(app: &App, options: &Options) {
    // A secret that is set meanwhile is taken with what holds then.
    let taking = app.taking.lock().await;
    let source = app.configured(|configured| configured.source.clone());
    let config = match load_config(source.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "the configuration is not reloaded");
            return;
        }
    };
    let base = compose::base(&config, &options.home);
    let swapped = take_sources(app, &config, &base).await;
    let (used, missing, servers) = match swapped {
        Ok(swapped) => swapped,
        Err(error) => {
            tracing::error!(%error, "the configuration is not reloaded");
            return;
        }
    };
    for section in app.configured(|configured| at_next_start(&configured.node.spec, &config.node().spec)) {
        tracing::warn!("`{section}` is taken at the next start");
    }
    let epoch = app.kernel.reload(compose::kernel_settings(&config)).await;
    *app.configured.write().unwrap_or_else(PoisonError::into_inner) =
        configured(&config, &options.home, missing);
    take_servers(app, &config, servers).await;
    drop(taking);
    secrets::leave_out_of_log(app.secrets.as_ref(), &Tenant::default_tenant()).await;
    secrets::record_uses(app, used).await;
    if let Err(error) = app.providers.apply(config.node()).await {
        tracing::error!(%error, "a provider's program is not started");
    }
    if let Err(error) = platform::deploy(&app.kernel, config.node(), &base).await {
        tracing::error!(%error, "the platform agents are not as configured");
    }
    let spec = &config.node().spec;
    let reloaded = Body::ConfigReloaded {
        config: config.digest(),
        label_rules_off: spec.label_rules_off(),
        personal_data_rules_off: spec.personal_data_rules_off(),
    };
    record(app, reloaded).await;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    tracing::info!(policy_epoch = epoch, "the configuration is reloaded");
}

/// Sections that differ and that a reload leaves as they were.
fn at_next_start(held: &NodeSpec, read: &NodeSpec) -> Vec<&'static str> {
    let names = |spec: &NodeSpec| {
        let smcp = spec.smcp.clone().unwrap_or_default();
        (smcp.issuer, smcp.audience)
    };
    let secrets = (held.secrets != read.secrets).then_some("spec.secrets");
    let smcp = (names(held) != names(read)).then_some("spec.smcp");
    secrets.into_iter().chain(smcp).collect()
}

/// Removes ephemeral volumes whose time has come; looks once in each interval.
pub(crate) async fn sweep_volumes(app: Arc<App>, stop: CancellationToken, interval: Duration) {
    while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        if !app.is_ready() {
            continue;
        }
        if let Err(error) = app.door.sweep_sessions().await {
            tracing::warn!(%error, "old sessions cannot be forgotten");
        }
        match app.kernel.sweep_volumes().await {
            Ok(0) => {}
            Ok(volumes) => tracing::info!(volumes, "removed volumes whose time had come"),
            Err(error) => tracing::warn!(%error, "expired volumes cannot be listed"),
        }
    }
}

/// Destroys the exact copies of runs that ended long enough ago.
async fn sweep_working_copies(app: Arc<App>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(FORGET_INTERVAL)).await.is_some() {
        if !app.is_ready() {
            continue;
        }
        match app.kernel.sweep_working_copies().await {
            Ok(0) => {}
            Ok(executions) => tracing::info!(executions, "destroyed the exact copies of ended runs"),
            Err(error) => tracing::warn!(%error, "exact copies of ended runs stay"),
        }
    }
}

/// Nobody of the same user may read this process's memory: it holds keys.
fn not_dumpable() -> Result<(), Diagnosis> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| Diagnosis::internal(format!("the daemon cannot be made non-dumpable: {error}")))
}

enum Signal {
    Reload,
    Stop,
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Diagnosis> {
        let take = |kind| {
            signal(kind).map_err(|error| Diagnosis::internal(format!("signals cannot be taken: {error}")))
        };
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            hang_up: take(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_leaves_as_it_was_is_named() {
        let spec = |text: &str| -> NodeSpec { serde_json::from_str(text).unwrap() };
        let held = spec("{}");
        assert!(at_next_start(&held, &spec(r#"{"security_contexts": []}"#)).is_empty());
        let read = spec(r#"{"smcp": {"audience": "a"}, "secrets": {}}"#);
        assert_eq!(at_next_start(&held, &read), ["spec.secrets", "spec.smcp"]);
        assert!(at_next_start(&read, &read).is_empty());
    }
}
