//! The node's tool servers: what they work with here.

pub(crate) mod added;
mod pins;
mod starter;
mod tokens;
mod way_out;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use aegis_core::{Body, Diagnosis, Durability, ErrorCode, Name, SecretUser, Tenant};
use aegis_kernel::port::{Append, Clock, Ids, Journal, Secrets};
use aegis_manifest::NodeConfig;
use aegis_manifest::node::McpServer;
use aegis_sandbox::{EgressProxy, ProcessSandbox};
use aegis_security::egress::{Destination, EgressMode, EgressRules};
use aegis_store::{Door, NodeSecrets};
use aegis_tools::mcp::{Credentials, HttpClient, McpError, McpParts, McpServers, ServerSettings};
use async_trait::async_trait;
use secrecy::SecretString;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::answer::Refused;
use crate::app::App;
use crate::fleet::fleet_events;
use crate::secrets::OutOfLog;

pub(crate) use way_out::ServerNetwork;

/// Events of servers that wait to be recorded; beyond these they are dropped, and the log says so.
const EVENTS_WAITING_MAX: usize = 1024;

/// What happened to a tenant's server, on its way to the record.
pub(crate) type ServerEvents = mpsc::Receiver<(Tenant, Body)>;

/// What servers are made of beside the configuration.
pub(crate) struct Parts {
    pub(crate) sandbox: Arc<ProcessSandbox>,
    pub(crate) secrets: Arc<NodeSecrets>,
    pub(crate) door: Arc<Door>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
}

/// What is in force of a section, or the field that is wrong and why.
fn checked(server: &McpServer, home: &Path) -> Result<ServerSettings, (&'static str, String)> {
    let checked = ServerSettings::new(server).map_err(|error| (error.field(), error.to_string()))?;
    let own = checked.folders.iter().find(|folder| is_own(Path::new(folder), home));
    own_network(&checked.name, &checked.domain_allowlist).map_err(|what| ("domain_allowlist", what))?;
    match own {
        Some(folder) => Err(("folders", format!("`{folder}` holds what is the node's own"))),
        None => Ok(checked),
    }
}

/// Whether a folder holds what is the node's own, or lies in it; links are looked through.
fn is_own(folder: &Path, home: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (folder, home) = (real(folder), real(home));
    home.starts_with(&folder) || folder.starts_with(&home)
}

/// The rules of a server's own list.
fn own_network(server: &Name, list: &[String]) -> Result<EgressRules, String> {
    let list: Vec<Destination> = list.iter().map(|text| Destination::from(text.as_str())).collect();
    EgressRules::new(format!("server:{server}"), EgressMode::Allow, &list, &[])
        .map_err(|error| error.to_string())
}

/// The servers that are to be there: those of the configuration, and those that were added to it.
///
/// # Errors
/// If a section cannot be put into force, or a name stands in both.
pub(crate) fn settings(node: &NodeConfig, home: &Path) -> Result<Vec<ServerSettings>, Diagnosis> {
    let configured = &node.spec.mcp_servers;
    let mut settings = Vec::new();
    for server in configured.iter().filter(|server| server.enabled) {
        settings.push(checked(server, home).map_err(|(_, what)| wrong(&what))?);
    }
    for added in added::read(home)? {
        if configured.iter().any(|server| server.name == added.name.as_str()) {
            let what = format!("the server `{}` stands in the configuration and was added too", added.name);
            let hint = "take one of them away: `aegis server remove` takes the one that was added, or its file below \
                        `servers` in the data folder while the node does not run";
            return Err(Diagnosis::new(ErrorCode::Conflict, what).hint(hint));
        }
        settings.push(added);
    }
    Ok(settings)
}

fn wrong(what: &str) -> Diagnosis {
    Diagnosis::new(ErrorCode::InvalidInput, format!("`spec.mcp_servers`: {what}"))
}

/// The servers of a configuration, their events, and the network they have. `reserved` are the names of the node's own
/// tools.
///
/// # Errors
/// If a section cannot be put into force.
pub(crate) fn open(
    node: &NodeConfig,
    home: &Path,
    reserved: Vec<String>,
    parts: Parts,
) -> Result<(Arc<McpServers>, ServerEvents, Arc<ServerNetwork>), Diagnosis> {
    let settings = settings(node, home)?;
    let (journal, clock, ids) = (parts.journal.clone(), parts.clock.clone(), parts.ids.clone());
    let network = ServerNetwork::new(node, Arc::new(EgressProxy::new()), journal, clock, ids)?;
    let (tell, events) = mpsc::channel(EVENTS_WAITING_MAX);
    let out_of_log = Arc::new(OutOfLog::new(parts.secrets.clone()));
    let mcp = McpParts {
        starter: Arc::new(starter::SandboxStarter {
            sandbox: parts.sandbox,
            ids: Arc::clone(&parts.ids),
            network: network.clone(),
            home: home.to_owned(),
        }),
        tokens: Arc::new(tokens::StoredTokens {
            secrets: parts.secrets.clone(),
            out_of_log: Arc::clone(&out_of_log),
        }),
        credentials: Arc::new(NodeCredentials {
            secrets: parts.secrets,
            out_of_log,
            journal: parts.journal,
            clock: Arc::clone(&parts.clock),
            ids: Arc::clone(&parts.ids),
            told: Mutex::default(),
        }),
        pins: pins::in_door(parts.door),
        events: Arc::new(move |tenant: &Tenant, body: Body| {
            if tell.try_send((tenant.clone(), body)).is_err() {
                tracing::warn!("an event of a tool server is not recorded: too many wait");
            }
        }),
        on_change: Arc::new(|_, _, _| {}),
        http: HttpClient::default(),
        clock: parts.clock,
    };
    let servers = McpServers::new(settings, reserved.into_iter().collect::<BTreeSet<_>>(), mcp)
        .map_err(|error| wrong(&error.to_string()))?;
    Ok((servers, events, network))
}

/// A use of a secret: by whom, of what, in which version.
type Use = (Tenant, Name, String, Option<u64>);

/// References of the configuration, from the node's secrets: each value goes to the one process that it is for.
struct NodeCredentials {
    secrets: Arc<dyn Secrets>,
    out_of_log: Arc<OutOfLog>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// Uses that are on record: an address is given its headers with each request, which would fill it.
    told: Mutex<BTreeSet<Use>>,
}

impl NodeCredentials {
    /// Puts a use on record, once. What cannot be put there is not handed out.
    async fn record(&self, (tenant, server, reference, version): Use) -> Result<(), String> {
        let used = (tenant.clone(), server.clone(), reference.clone(), version);
        let mut told = self.told.lock().await;
        if told.contains(&used) {
            return Ok(());
        }
        let by = SecretUser::Server { server: server.to_string() };
        let body = Body::SecretUsed { reference, version, by, action: None };
        let events = fleet_events(self.clock.as_ref(), self.ids.as_ref(), std::iter::once(body));
        let append = Append { tenant, durability: Durability::Power, ..events };
        let appended = self.journal.append(append).await;
        appended.map_err(|error| format!("its use cannot be recorded: {error}"))?;
        told.insert(used);
        Ok(())
    }
}

#[async_trait]
impl Credentials for NodeCredentials {
    async fn resolve(&self, tenant: &Tenant, server: &Name, reference: &str) -> Result<SecretString, String> {
        let resolved = self.secrets.resolve(tenant, reference).await.map_err(|error| error.to_string())?;
        // A server may say again what it is given, on its standard error.
        self.out_of_log.keep(tenant).await?;
        if ["env:", "secret:"].iter().any(|prefix| reference.starts_with(prefix)) {
            self.record((tenant.clone(), server.clone(), resolved.reference, resolved.version)).await?;
        }
        Ok(resolved.value)
    }
}

/// Records what happens to servers until they are stopped, and what was told until then.
pub(crate) async fn record_events(app: Arc<App>, mut events: ServerEvents, stopped: CancellationToken) {
    loop {
        let told = tokio::select! {
            biased;
            told = events.recv() => told,
            () = stopped.cancelled() => None,
        };
        let Some((tenant, body)) = told else { return };
        let mut append = app.fleet_events(std::iter::once(body));
        append.tenant = tenant;
        if let Err(error) = app.kernel.journal().append(append).await {
            tracing::warn!(%error, "an event of a tool server cannot be recorded");
        }
    }
}

/// What went wrong with a server, as users meet it.
impl From<McpError> for Refused {
    fn from(error: McpError) -> Self {
        let code = match error {
            McpError::UnknownServer(_) | McpError::UnknownTool(_) => ErrorCode::NotFound,
            McpError::NotShown { .. } | McpError::Held { .. } | McpError::SignIn { .. } => {
                ErrorCode::Conflict
            }
            McpError::Busy { .. } | McpError::Down { .. } | McpError::TimedOut { .. } => {
                ErrorCode::Overloaded
            }
            McpError::NotGranted { .. } | McpError::Unanswered { .. } => ErrorCode::PermissionDenied,
            _ => ErrorCode::Internal,
        };
        Diagnosis::new(code, error.to_string()).into()
    }
}

#[cfg(test)]
mod tests;
