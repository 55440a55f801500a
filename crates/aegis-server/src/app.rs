//! What every handler may use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aegis_kernel::port::{Clock, Ids, Journal};
use aegis_kernel::{Kernel, TokenKeys};
use aegis_manifest::NodeConfig;
use aegis_models::Router;
use aegis_store::{Door, NodeSecrets};
use aegis_tools::GitTools;
use aegis_tools::mcp::McpServers;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::evidence::StoreEvidence;
use crate::guard::{Hosts, Refusals};
use crate::idempotency::Turns;
use crate::providers::Providers;
use crate::routes::Questions;
use crate::servers::ServerNetwork;
use crate::token::Token;

/// Event streams served at the same time.
pub(crate) const STREAMS_MAX: usize = 256;

/// What the server knows of an agent's document to show it in lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ManifestFacts {
    /// What it runs in.
    pub(crate) runtime: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// What it says it is.
    pub(crate) description: Option<String>,
}

/// Facts of the configuration that can change by a reload.
pub(crate) struct Configured {
    /// The configuration with secrets masked.
    pub(crate) masked: Value,
    /// Where it was read from.
    pub(crate) source: Option<PathBuf>,
    /// What it asks for and this version does not do, each with its remedy.
    pub(crate) warnings: Vec<String>,
    /// The configuration itself, and the folder that its relative paths start from.
    pub(crate) node: Arc<NodeConfig>,
    pub(crate) base: PathBuf,
    /// Credentials that it refers to and nobody has set, each with its remedy.
    pub(crate) missing: Vec<String>,
    /// What `isolation: inherit` means.
    pub(crate) default_isolation: String,
}

/// The state of the HTTP side.
pub(crate) struct App {
    pub(crate) kernel: Kernel,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) evidence: Arc<StoreEvidence>,
    /// Reads the facts of a document that was accepted; the second is what `isolation: inherit` means.
    pub(crate) read_manifest: fn(&str, &str) -> ManifestFacts,
    pub(crate) token: Token,
    /// API keys and sessions.
    pub(crate) door: Arc<Door>,
    pub(crate) tokens: Arc<TokenKeys>,
    pub(crate) hosts: Hosts,
    pub(crate) refusals: Refusals,
    pub(crate) turns: Turns,
    pub(crate) configured: RwLock<Configured>,
    /// Held by whoever takes models, tool servers and the configuration anew: a reload, a changed secret, a server that is
    /// added or removed.
    pub(crate) taking: tokio::sync::Mutex<()>,
    pub(crate) router: Arc<Router>,
    pub(crate) secrets: Arc<NodeSecrets>,
    pub(crate) providers: Arc<Providers>,
    pub(crate) servers: Arc<McpServers>,
    pub(crate) git: Arc<GitTools>,
    /// What tool servers ask of callers of the HTTP API.
    pub(crate) questions: Arc<Questions>,
    pub(crate) server_network: Arc<ServerNetwork>,
    pub(crate) home: PathBuf,
    pub(crate) address: std::net::SocketAddr,
    /// When it began to serve, on the monotonic clock.
    pub(crate) since: Duration,
    pub(crate) ready: AtomicBool,
    /// Ends streams when the daemon stops.
    pub(crate) stop: CancellationToken,
    pub(crate) streams: Arc<Semaphore>,
}

impl App {
    pub(crate) fn journal(&self) -> &dyn Journal {
        self.kernel.journal().as_ref()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.stop.is_cancelled()
    }

    /// What this node cannot enforce, each with its remedy: the machine's reasons, then the configuration's.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.kernel.info().warnings;
        warnings.extend(self.configured(|configured| configured.warnings.clone()));
        warnings.extend(self.configured(|configured| configured.missing.clone()));
        // One cause is told by several parts; its longest telling holds the others.
        let all = warnings.clone();
        warnings
            .retain(|one| !all.iter().any(|other| other.len() > one.len() && other.contains(one.as_str())));
        warnings
    }

    pub(crate) fn configured<T>(&self, read: impl FnOnce(&Configured) -> T) -> T {
        read(&self.configured.read().unwrap_or_else(PoisonError::into_inner))
    }
}
