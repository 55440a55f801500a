//! All servers of a node, by tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aegis_core::{Body, Name, Sha256, Tenant};
use aegis_kernel::port::{Clock, Listener, ServerTools, ToolServers};
use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::McpError;
use super::handler::{ListChanged, ProgressSink};
use super::host::McpTools;
use super::http::HttpClient;
use super::log::LogLine;
use super::oauth::{Revocation, SignInError, Tokens};
use super::offers;
use super::pin::{PinDiff, PinDocument, PinStore};
use super::result::McpResult;
use super::settings::{ServerSettings, SettingsError};
use super::starter::{Credentials, Starter};
use super::upstream::{ServerState, Upstream};

/// Told what happens to servers, for the record. Must not block.
pub type ServerEvents = Arc<dyn Fn(&Tenant, Body) + Send + Sync>;

/// Told which of a server's lists changed. Must not block.
pub type ServerListChanges = Arc<dyn Fn(&Tenant, &Name, ListChanged) + Send + Sync>;

/// What the servers work with; filled by the integrator.
pub struct McpParts {
    /// Starts processes, each in a sandbox of its own.
    pub starter: Arc<dyn Starter>,
    /// Resolves references to credentials.
    pub credentials: Arc<dyn Credentials>,
    /// Keeps tokens of servers that are signed in at.
    pub tokens: Arc<dyn Tokens>,
    /// Keeps pins.
    pub pins: PinStore,
    /// Told what happens.
    pub events: ServerEvents,
    /// Told which lists change.
    pub on_change: ServerListChanges,
    /// Calls addresses.
    pub http: HttpClient,
    /// The time, for logs.
    pub clock: Arc<dyn Clock>,
}

/// One process or session: nothing is shared between two keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey {
    /// The tenant.
    pub tenant: Tenant,
    /// The server.
    pub server: Name,
    /// Where its credentials come from: references, never values.
    pub credential: String,
}

/// How a call is made.
#[derive(Clone, Default)]
pub struct CallOptions {
    /// Cancels the call; the server is told.
    pub cancel: CancellationToken,
    /// The time it has, at most the server's own limit.
    pub time: Option<Duration>,
    /// Told of progress.
    pub progress: Option<ProgressSink>,
    /// Told of the server's log, and asked what it asks.
    pub listener: Option<Arc<dyn Listener>>,
}

/// A server, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerView {
    /// Which.
    pub key: ServerKey,
    /// What it does now.
    pub state: ServerState,
    /// How often it was started again since it was last well.
    pub restarts: u32,
    /// What was accepted, with its hash.
    pub accepted: Option<(Sha256, PinDocument)>,
    /// What it shows since, with its hash; while it is here the server is held.
    pub shown: Option<(Sha256, PinDocument)>,
    /// How the two differ.
    pub diff: Option<PinDiff>,
}

/// All servers. Each tenant's are started when that tenant first needs them.
pub struct McpServers {
    reserved: BTreeSet<String>,
    parts: Arc<McpParts>,
    known: Mutex<Known>,
    tasks: TaskTracker,
}

/// What is configured now, and what was started for it. Both change together.
#[derive(Default)]
struct Known {
    settings: Vec<ServerSettings>,
    upstreams: BTreeMap<ServerKey, Arc<Upstream>>,
}

impl McpServers {
    /// The servers with these settings. `reserved` are the names of all other tools, which no server's tool may take.
    ///
    /// # Errors
    /// If two have one name.
    pub fn new(
        settings: Vec<ServerSettings>,
        mut reserved: BTreeSet<String>,
        parts: McpParts,
    ) -> Result<Arc<Self>, SettingsError> {
        reserved.extend(offers::all_names());
        each_once(&settings)?;
        Ok(Arc::new(Self {
            reserved,
            parts: Arc::new(parts),
            known: Mutex::new(Known { settings, upstreams: BTreeMap::new() }),
            tasks: TaskTracker::new(),
        }))
    }

    /// Takes other settings. Servers that are gone or configured otherwise now are ended, whoever waits for them, and
    /// this returns once they are; the others go on undisturbed. Pins stay: who comes back under a name is held against
    /// what was accepted under it.
    ///
    /// # Errors
    /// If two have one name: then nothing changes.
    pub async fn replace(&self, settings: Vec<ServerSettings>) -> Result<(), SettingsError> {
        each_once(&settings)?;
        let ended: Vec<Arc<Upstream>> = {
            let mut known = self.known();
            known.settings = settings;
            let Known { settings, upstreams } = &mut *known;
            let stays = |upstream: &Arc<Upstream>| settings.contains(&upstream.settings);
            let ended = upstreams.values().filter(|upstream| !stays(upstream)).cloned().collect();
            upstreams.retain(|_, upstream| stays(upstream));
            ended
        };
        for upstream in &ended {
            upstream.stop();
        }
        let deadline = tokio::time::Instant::now() + END_WAIT;
        for upstream in &ended {
            // One that is cut off while it starts may be busy a while; nobody is given it any more.
            let _ = tokio::time::timeout_at(deadline, upstream.stopped()).await;
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tools of a tenant's servers as they were accepted, under their AEGIS names. Starts what does not run, and
    /// waits at most `wait` for it: what was accepted before is there at once, a server never seen once it has started.
    /// The list does not change; take a new one for each execution or turn.
    ///
    /// # Errors
    /// If pins cannot be read.
    pub async fn tools(&self, tenant: &Tenant, wait: Duration) -> Result<McpTools, McpError> {
        let upstreams = self.upstreams(tenant);
        let deadline = tokio::time::Instant::now() + wait;
        for upstream in &upstreams {
            upstream.remember().await?;
            if upstream.with_accepted(|accepted| accepted.is_none()) {
                let _ = tokio::time::timeout_at(deadline, upstream.settled()).await;
            }
        }
        Ok(McpTools::new(&upstreams, &self.reserved))
    }

    /// Calls a tool by its server's name for it. The caller has passed the monitor.
    ///
    /// # Errors
    /// If there is no result.
    pub async fn call(
        &self,
        tenant: &Tenant,
        server: &str,
        tool: &str,
        arguments: Option<Map<String, Value>>,
        options: &CallOptions,
    ) -> Result<McpResult, McpError> {
        let upstream = self.find(tenant, server)?;
        let known = upstream.with_accepted(|accepted| {
            accepted.is_none_or(|document| document.tools.iter().any(|other| other.name == tool))
        });
        if !known {
            return Err(McpError::UnknownTool(format!("{server}.{tool}")));
        }
        upstream.call(tool, arguments, options).await
    }

    /// A tenant's servers, for people. Starts what does not run.
    ///
    /// # Errors
    /// If pins cannot be read, or have no hash.
    pub async fn list(&self, tenant: &Tenant) -> Result<Vec<ServerView>, McpError> {
        let mut views = Vec::new();
        for upstream in self.upstreams(tenant) {
            views.push(view(&upstream).await?);
        }
        Ok(views)
    }

    /// One server, for people.
    ///
    /// # Errors
    /// If there is none, or its pins cannot be read.
    pub async fn show(&self, tenant: &Tenant, server: &str) -> Result<ServerView, McpError> {
        let upstream = self.find(tenant, server)?;
        view(&upstream).await
    }

    /// One server, for people, once it answers or is down; or as it is after `wait`.
    ///
    /// # Errors
    /// As [`show`](Self::show).
    pub async fn show_settled(
        &self,
        tenant: &Tenant,
        server: &str,
        wait: Duration,
    ) -> Result<ServerView, McpError> {
        let upstream = self.find(tenant, server)?;
        let _ = tokio::time::timeout(wait, upstream.settled()).await;
        view(&upstream).await
    }

    /// Accepts what a server shows. `digest` is the hash that was shown to the person who accepts; who may do it is
    /// decided before. `record` puts it on record as that person's act: it is done once nothing else can refuse, and
    /// before the acceptance holds.
    ///
    /// # Errors
    /// If it shows something else by now, or cannot be recorded; then it stays held.
    pub async fn accept<E: From<McpError>>(
        &self,
        tenant: &Tenant,
        server: &str,
        digest: Sha256,
        record: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        self.find(tenant, server)?.accept(digest, record).await
    }

    /// The last lines of a server's standard error.
    ///
    /// # Errors
    /// If there is no such server.
    pub fn logs(&self, tenant: &Tenant, server: &str) -> Result<Vec<LogLine>, McpError> {
        Ok(self.find(tenant, server)?.logs.lines())
    }

    /// Ends a server's process and starts it anew: after its credential changed, or at a person's wish.
    ///
    /// # Errors
    /// If there is no such server.
    pub fn restart(&self, tenant: &Tenant, server: &str) -> Result<(), McpError> {
        self.find(tenant, server)?.restart();
        Ok(())
    }

    /// Begins a person's sign-in at a server; answers with the address to open in a browser, which comes back to
    /// `redirect` on that person's own machine.
    ///
    /// # Errors
    /// If it needs none, or its authorization server does not take part.
    pub async fn begin_login(
        &self,
        tenant: &Tenant,
        server: &str,
        redirect: &str,
    ) -> Result<String, McpError> {
        let upstream = self.find(tenant, server)?;
        let begun = match upstream.authorizer() {
            Ok(authorizer) => authorizer.begin(redirect).await,
            Err(error) => Err(error),
        };
        begun.map_err(|error| sign_in(server, &error))
    }

    /// Ends a person's sign-in with the address that the browser came back to, and starts the server anew.
    ///
    /// # Errors
    /// If it was refused, or does not belong to the sign-in that was begun.
    pub async fn finish_login(&self, tenant: &Tenant, server: &str, callback: &str) -> Result<(), McpError> {
        let upstream = self.find(tenant, server)?;
        let finished = match upstream.authorizer() {
            Ok(authorizer) => authorizer.finish(callback).await,
            Err(error) => Err(error),
        };
        finished.map_err(|error| sign_in(server, &error))?;
        upstream.restart();
        let _ = tokio::time::timeout(upstream.settings.limits.start_timeout, upstream.settled()).await;
        Ok(())
    }

    /// Destroys the tokens of a server, ends its connection, and asks who issued them to take them no more: they are
    /// gone here whatever comes of that.
    ///
    /// # Errors
    /// If it has no sign-in, or the store failed.
    pub async fn logout(&self, tenant: &Tenant, server: &str) -> Result<Revocation, McpError> {
        let upstream = self.find(tenant, server)?;
        let signed_out = match upstream.authorizer() {
            Ok(authorizer) => authorizer.sign_out().await,
            Err(error) => Err(error),
        };
        upstream.restart();
        signed_out.map_err(|error| sign_in(server, &error))
    }

    /// Stops all servers and waits for it.
    pub async fn stop(&self) {
        self.known().upstreams.values().for_each(|upstream| upstream.stop());
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn find(&self, tenant: &Tenant, server: &str) -> Result<Arc<Upstream>, McpError> {
        let mut known = self.known();
        let found = known.settings.iter().find(|settings| settings.name.as_str() == server).cloned();
        let settings = found.ok_or_else(|| McpError::UnknownServer(server.to_owned()))?;
        Ok(self.upstream(&mut known, tenant, &settings))
    }

    /// A tenant's servers, each started.
    fn upstreams(&self, tenant: &Tenant) -> Vec<Arc<Upstream>> {
        let mut known = self.known();
        let settings = known.settings.clone();
        settings.iter().map(|settings| self.upstream(&mut known, tenant, settings)).collect()
    }

    fn upstream(&self, known: &mut Known, tenant: &Tenant, settings: &ServerSettings) -> Arc<Upstream> {
        let upstream = known.upstreams.entry(key(tenant, settings)).or_insert_with(|| {
            let (on_change, of, server) =
                (Arc::clone(&self.parts.on_change), tenant.clone(), settings.name.clone());
            let on_change = Arc::new(move |list| on_change(&of, &server, list));
            let upstream =
                Upstream::new(tenant.clone(), settings.clone(), Arc::clone(&self.parts), on_change);
            self.tasks.spawn(Arc::clone(&upstream).run());
            upstream
        });
        Arc::clone(upstream)
    }
}

fn each_once(settings: &[ServerSettings]) -> Result<(), SettingsError> {
    let mut names = BTreeSet::new();
    match settings.iter().find(|server| !names.insert(&server.name)) {
        Some(twice) => Err(SettingsError::Twice(twice.name.to_string())),
        None => Ok(()),
    }
}

async fn view(upstream: &Upstream) -> Result<ServerView, McpError> {
    upstream.remember().await?;
    let record = upstream.record();
    let hashed = |document: PinDocument| match document.digest() {
        Ok(digest) => Ok((digest, document)),
        Err(reason) => Err(McpError::Malformed { server: upstream.settings.name.to_string(), reason }),
    };
    let diff = record.shown.as_ref().map(|shown| record.accepted.clone().unwrap_or_default().diff(shown));
    Ok(ServerView {
        key: key(&upstream.tenant, &upstream.settings),
        state: upstream.state(),
        restarts: upstream.restarts(),
        accepted: record.accepted.map(hashed).transpose()?,
        shown: record.shown.map(hashed).transpose()?,
        diff,
    })
}

/// How long a server that is ended may take to be gone.
const END_WAIT: Duration = Duration::from_secs(10);
/// How long a server never seen may take to tell its tools before a list is taken without them.
const FIRST_TOOLS_WAIT: Duration = Duration::from_secs(20);

#[async_trait]
impl ToolServers for McpServers {
    async fn tools(&self, tenant: &Tenant) -> Result<Arc<dyn ServerTools>, String> {
        let tools = Self::tools(self, tenant, FIRST_TOOLS_WAIT).await.map_err(|error| error.to_string())?;
        Ok(Arc::new(tools))
    }
}

fn sign_in(server: &str, error: &SignInError) -> McpError {
    McpError::SignIn { server: server.to_owned(), reason: error.to_string() }
}

fn key(tenant: &Tenant, settings: &ServerSettings) -> ServerKey {
    ServerKey { tenant: tenant.clone(), server: settings.name.clone(), credential: settings.credential() }
}

impl Drop for McpServers {
    fn drop(&mut self) {
        self.known().upstreams.values().for_each(|upstream| upstream.stop());
    }
}
