//! Configuration to adapters to kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_core::{Body, Diagnosis, ErrorCode, Tenant};
use aegis_kernel::port::{Clock, Ids, SandboxError, VolumeError};
use aegis_kernel::{Kernel, KernelSettings, Ports, TokenKeys};
use aegis_manifest::agent::Isolation;
use aegis_manifest::node::JournalDurability;
use aegis_manifest::{NodeConfig, parse_agent};
use aegis_models::Router;
use aegis_sandbox::{EgressProxy, ProcessSandbox, SandboxSettings};
use aegis_security::redact::PiiKey;
use aegis_store::{Door, NodeSecrets, OpenError, Store};
use aegis_tools::mcp::McpServers;
use aegis_tools::{FileTools, GitTools, WebTools};
use aegis_volume::{LocalSettings, LocalVolumes};

use crate::app::ManifestFacts;
use crate::config::LoadedConfig;
use crate::models::{self, Gathered};
use crate::providers::Providers;
use crate::run_folder::{mark, run_folder};
use crate::servers::{self, ServerEvents, ServerNetwork};
use crate::system::{SystemClock, SystemIds};
use crate::{git, secrets, signing_keys};

/// The bootstrap program that goes into sandboxes.
const BOOTSTRAP: &str = include_str!("../../../guest/bootstrap.py");
/// The host user that owns volumes' folders under a root daemon: `nobody` on Debian and Ubuntu. No sandbox runs as it.
const VOLUME_OWNER: u32 = 65_534;

/// Everything a daemon is made of.
pub(crate) struct Composed {
    pub(crate) kernel: Kernel,
    pub(crate) store: Arc<Store>,
    pub(crate) router: Arc<Router>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) providers: Arc<Providers>,
    pub(crate) sandbox: Arc<ProcessSandbox>,
    pub(crate) secrets: Arc<NodeSecrets>,
    /// Uses of secrets so far, to be recorded.
    pub(crate) used: Vec<Body>,
    /// Credentials that are referred to and not there.
    pub(crate) missing: Vec<String>,
    pub(crate) door: Arc<Door>,
    pub(crate) tokens: Arc<TokenKeys>,
    pub(crate) servers: Arc<McpServers>,
    pub(crate) server_events: ServerEvents,
    pub(crate) git: Arc<GitTools>,
    pub(crate) server_network: Arc<ServerNetwork>,
}

/// Composes a daemon of the folder `home`.
pub(crate) async fn compose(
    home: &Path,
    config: &LoadedConfig,
    accept_restored: bool,
) -> Result<Composed, Diagnosis> {
    compose_at(home, config, accept_restored, Arc::new(SystemClock::new())).await
}

/// The same by another clock.
pub(crate) async fn compose_at(
    home: &Path,
    config: &LoadedConfig,
    accept_restored: bool,
    clock: Arc<dyn Clock>,
) -> Result<Composed, Diagnosis> {
    aegis_sandbox::keep_large_buffers_apart();
    let node = config.node();
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let run = run_folder(home)?;
    let sandbox = SandboxSettings { run_folder: Some(run.clone()), ..SandboxSettings::new(home) };
    // The probe goes on while the databases open and the daemon begins to listen; it is awaited before any work is taken.
    let sandbox = Arc::new(ProcessSandbox::begin(sandbox));
    // Each waits for its own syncs: side by side, the daemon starts in the time of the longest.
    let (secrets, store, door) = tokio::try_join!(
        secrets::open(home, node, &clock, &ids),
        open_store(home, node, clock.clone(), ids.clone(), accept_restored),
        open_door(home, clock.clone(), ids.clone(), accept_restored),
    )?;
    let Gathered { settings, used, mut missing } =
        models::settings(node, secrets.as_ref(), &base(config, home)).await?;
    secrets::leave_out_of_log(secrets.as_ref(), &Tenant::default_tenant()).await;
    let router = Arc::new(Router::new(settings, clock.clone()).map_err(|error| models::refused(&error))?);
    let tokens = Arc::new(signing_keys::open(home, node.spec.smcp.as_ref(), clock.as_ref(), ids.as_ref())?);
    let git = open_git(node, &sandbox, &secrets, &ids, &mut missing).await?;
    let ports = Ports {
        journal: store.clone(),
        model: router.clone(),
        sandbox: sandbox.clone(),
        volume: open_volumes(home, &run)?,
        tools: vec![Arc::new(FileTools::new()), Arc::new(WebTools::new()), git.clone()],
        egress: Arc::new(EgressProxy::new()),
        secrets: secrets.clone(),
        sessions: door.clone(),
        tokens: tokens.clone(),
        linkage: linkage_key(&store, ids.as_ref())?,
        clock: clock.clone(),
        ids: ids.clone(),
    };
    let kernel = Kernel::new(ports, kernel_settings(config));
    let parts = servers::Parts {
        sandbox: sandbox.clone(),
        secrets: secrets.clone(),
        door: door.clone(),
        journal: store.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
    };
    let (servers, server_events, server_network) = servers::open(node, home, kernel.tool_names(), parts)?;
    kernel.use_servers(servers.clone());
    let providers = open_providers(home, node, ids.as_ref()).await?;
    Ok(Composed {
        kernel,
        store,
        router,
        clock,
        ids,
        providers,
        sandbox,
        secrets,
        used,
        missing,
        door,
        tokens,
        servers,
        server_events,
        git,
        server_network,
    })
}

async fn open_git(
    node: &NodeConfig,
    sandbox: &Arc<ProcessSandbox>,
    secrets: &Arc<NodeSecrets>,
    ids: &Arc<dyn Ids>,
    missing: &mut Vec<String>,
) -> Result<Arc<GitTools>, Diagnosis> {
    let git = git::open(node, sandbox.clone(), secrets.clone(), ids.clone())?;
    missing.extend(git::missing(node, &git, secrets.as_ref()).await);
    Ok(git)
}

async fn open_providers(home: &Path, node: &NodeConfig, ids: &dyn Ids) -> Result<Arc<Providers>, Diagnosis> {
    let mut seed = [0u8; 8];
    ids.fill(&mut seed);
    let providers = Arc::new(Providers::new(home, u64::from_ne_bytes(seed)));
    providers.apply(node).await?;
    Ok(providers)
}

async fn open_door(
    home: &Path,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    accept_restored: bool,
) -> Result<Arc<Door>, Diagnosis> {
    let door = Door::open(home, clock, ids).await.map_err(store_failed)?;
    if accept_restored {
        // What was said before the restore may be said again after it.
        door.end_all_sessions().await.map_err(|error| Diagnosis::internal(error.to_string()))?;
    }
    Ok(Arc::new(door))
}

/// What the kernel takes from a configuration.
pub(crate) fn kernel_settings(config: &LoadedConfig) -> KernelSettings {
    KernelSettings {
        config: config.node().clone(),
        policies: config.policies().clone(),
        bootstrap: BOOTSTRAP.into(),
    }
}

/// The folder that relative paths of a configuration start from: its own.
pub(crate) fn base(config: &LoadedConfig, home: &Path) -> PathBuf {
    config.source().and_then(Path::parent).unwrap_or(home).to_owned()
}

async fn open_store(
    home: &Path,
    node: &NodeConfig,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    accept_restored: bool,
) -> Result<Arc<Store>, Diagnosis> {
    let mut options = store_options(home, node, clock, ids);
    options.accept_restored = accept_restored;
    Store::open(options).await.map(Arc::new).map_err(store_failed)
}

/// The store as the configuration wants it.
pub(crate) fn store_options(
    home: &Path,
    node: &NodeConfig,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
) -> aegis_store::OpenOptions {
    let mut options = aegis_store::OpenOptions::new(home, clock, ids);
    options.always_power = node.spec.journal.durability == JournalDurability::Power;
    options.on_fatal = Arc::new(|reason| {
        // What the disk holds is unknown now; the next start reads what is truly there.
        tracing::error!(%reason, "the journal cannot be written: the daemon ends");
        std::process::abort();
    });
    options
}

fn linkage_key(store: &Store, ids: &dyn Ids) -> Result<Arc<PiiKey>, Diagnosis> {
    let key = store.linkage_key(ids).map_err(store_failed)?;
    Ok(Arc::new(PiiKey::new(*key)))
}

/// A store that does not open, as users meet it.
pub(crate) fn store_failed(error: OpenError) -> Diagnosis {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let code = match &error {
        OpenError::Locked(_)
        | OpenError::Behind { .. }
        | OpenError::Restored { .. }
        | OpenError::Differs { .. } => ErrorCode::Conflict,
        OpenError::File { .. } => ErrorCode::InvalidInput,
        _ => ErrorCode::Internal,
    };
    Diagnosis::new(code, message)
}

fn open_volumes(home: &Path, run: &Path) -> Result<Arc<LocalVolumes>, Diagnosis> {
    LocalVolumes::new(volume_settings(home, run)).map(Arc::new).map_err(volume_failed)
}

fn volume_settings(home: &Path, run: &Path) -> LocalSettings {
    // Mount points lie outside the data folder, whose parents the sandboxes' users may not pass.
    let run = run.join(format!("volumes-{}", mark(home)));
    let owner = rustix::process::geteuid().is_root().then_some(VOLUME_OWNER);
    LocalSettings { data: home.to_owned(), run, owner }
}

pub(crate) fn sandbox_failed(error: SandboxError) -> Diagnosis {
    match error {
        SandboxError::CapabilityMissing(what) => Diagnosis::new(ErrorCode::CapabilityMissing, what),
        SandboxError::Start(what) | SandboxError::Io(what) => Diagnosis::internal(what),
    }
}

fn volume_failed(error: VolumeError) -> Diagnosis {
    match error {
        VolumeError::CapabilityMissing(what) => Diagnosis::new(ErrorCode::CapabilityMissing, what),
        other => Diagnosis::internal(format!("volumes: {other}")),
    }
}

/// What lists show of a document that was accepted once.
pub(crate) fn read_manifest(document: &str, default_isolation: &str) -> ManifestFacts {
    let Ok(parsed) = parse_agent(document, "manifest") else {
        return ManifestFacts { runtime: "unknown".to_owned(), ..ManifestFacts::default() };
    };
    let manifest = parsed.document;
    let runtime = match manifest.spec.runtime.isolation {
        Isolation::Inherit => default_isolation.to_owned(),
        named => isolation_name(named),
    };
    let labels: BTreeMap<String, String> = manifest.metadata.labels.into_iter().collect();
    ManifestFacts { runtime, labels, description: manifest.metadata.description }
}

/// An isolation as manifests write it.
pub(crate) fn isolation_name(isolation: Isolation) -> String {
    serde_json::to_value(isolation).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}
