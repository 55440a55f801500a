//! What a server sends of its own accord: progress, changes of its lists, and requests.

#![expect(deprecated, reason = "sampling and roots are part of revision 2025-11-25, which is still spoken")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::{Actor, ActorLink, Body, Name, Tenant};
use aegis_manifest::node::McpGrant;
use async_trait::async_trait;
use rmcp::model::{
    ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams,
    ElicitResult, ElicitationCapability, ErrorCode, ErrorData, Implementation, InputRequest, ListRootsResult,
    ProgressNotificationParam, ProgressToken, RootsCapabilities, SamplingCapability,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::servers::ServerEvents;

/// How far a call has come, as its server tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// What is done.
    pub done: f64,
    /// Of how much, if known.
    pub total: Option<f64>,
    /// In words. Untrusted text.
    pub message: Option<String>,
}

/// Told of progress. Must not block.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// Which of a server's lists changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListChanged {
    /// Its tools.
    Tools,
    /// Its resources.
    Resources,
    /// Its prompts.
    Prompts,
}

/// Answers what a server asks, where its grants permit it: each an action of the principal `Server`, through the
/// monitor. What is not granted never comes here.
#[async_trait]
pub trait ServerRequests: Send + Sync {
    /// The answer to `method` (`sampling/createMessage`, `elicitation/create`, `roots/list`) with `params`, both as
    /// the protocol writes them.
    ///
    /// # Errors
    /// If it is refused; the text is given to the server.
    async fn answer(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        method: &str,
        params: Value,
    ) -> Result<Value, String>;
}

pub(super) const SAMPLING: &str = "sampling/createMessage";
pub(super) const ELICITATION: &str = "elicitation/create";
pub(super) const ROOTS: &str = "roots/list";

/// The method an input request of revision 2026-07-28 stands for.
pub(super) const fn method_of(request: &InputRequest) -> &'static str {
    match request {
        InputRequest::CreateMessage(_) => SAMPLING,
        InputRequest::Elicitation(_) => ELICITATION,
        InputRequest::ListRoots(_) => ROOTS,
        _ => "an unknown request",
    }
}

/// What a server asked in vain is recorded at once the first time, then at most this often.
const ASKED_PAUSE: Duration = Duration::from_secs(60);
/// Method, and whether it was granted, to when it was last recorded and how often it was asked since.
type Asked = HashMap<(String, bool), (Instant, u32)>;

/// Counts what a server asks, so that one that asks without end does not fill the record.
#[derive(Clone, Default)]
pub(super) struct AskedLog(Arc<Mutex<Asked>>);

impl AskedLog {
    /// How many askings are to be recorded now, this one among them; none if this one only counts. What is granted is
    /// always recorded.
    fn note(&self, method: &str, granted: bool) -> Option<u32> {
        let now = Instant::now();
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, more)) = asked.get_mut(&(method.to_owned(), granted)) else {
            asked.insert((method.to_owned(), granted), (now, 0));
            return Some(1);
        };
        *more = more.saturating_add(1);
        if !granted && now.duration_since(*at) < ASKED_PAUSE {
            return None;
        }
        *at = now;
        Some(std::mem::take(more))
    }
}

/// The client's side of one connection.
pub(super) struct Handler {
    pub(super) tenant: Tenant,
    pub(super) server: Name,
    pub(super) grants: Vec<McpGrant>,
    pub(super) requests: Option<Arc<dyn ServerRequests>>,
    pub(super) events: ServerEvents,
    /// Told when what it says of itself may have changed.
    pub(super) tools_changed: Arc<Notify>,
    /// Told of every change of a list.
    pub(super) on_change: Arc<dyn Fn(ListChanged) + Send + Sync>,
    pub(super) told: AskedLog,
    pub(super) progress: Mutex<HashMap<ProgressToken, ProgressSink>>,
}

impl Handler {
    fn grants(&self, method: &str) -> bool {
        let grant = match method {
            SAMPLING => McpGrant::Sampling,
            ELICITATION => McpGrant::Elicitation,
            ROOTS => McpGrant::Roots,
            _ => return false,
        };
        self.requests.is_some() && self.grants.contains(&grant)
    }
    /// Puts a request to whoever answers them, or refuses it. Recorded either way, refusals coalesced.
    pub(super) async fn asked(&self, method: &str, params: Value) -> Result<Value, String> {
        let granted = self.grants(method);
        if let Some(times) = self.told.note(method, granted) {
            let (server, method) = (self.server.clone(), method.to_owned());
            (self.events)(&self.tenant, Body::ServerAsked { server, method, granted, times });
        }
        match &self.requests {
            Some(requests) if granted => {
                let actor = Actor::daemon().then(ActorLink::Server { name: self.server.clone() });
                requests.answer(&self.tenant, &actor, method, params).await
            }
            _ => Err(format!("`{method}` is not granted to this server")),
        }
    }
    async fn typed<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        params: P,
    ) -> Result<R, ErrorData> {
        let refuse = |message: String| ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None);
        let params = serde_json::to_value(params).map_err(|error| refuse(error.to_string()))?;
        let answer = self.asked(method, params).await.map_err(refuse)?;
        serde_json::from_value(answer).map_err(|error| refuse(error.to_string()))
    }
    pub(super) fn watch(&self, token: ProgressToken, sink: ProgressSink) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).insert(token, sink);
    }
    pub(super) fn unwatch(&self, token: &ProgressToken) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }
    fn capabilities(&self) -> ClientCapabilities {
        let mut capabilities = ClientCapabilities::default();
        if self.grants(SAMPLING) {
            capabilities.sampling = Some(SamplingCapability::default());
        }
        if self.grants(ELICITATION) {
            capabilities.elicitation = Some(ElicitationCapability::default());
        }
        if self.grants(ROOTS) {
            capabilities.roots = Some(RootsCapabilities::default());
        }
        capabilities
    }
}

impl rmcp::ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let implementation = Implementation::new("aegis", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(self.capabilities(), implementation)
    }
    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.typed(SAMPLING, params).await
    }
    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        self.typed(ROOTS, Value::Null).await
    }
    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.typed(ELICITATION, params).await
    }
    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let sink = {
            let sinks = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            sinks.get(&params.progress_token).cloned()
        };
        if let Some(sink) = sink {
            sink(Progress { done: params.progress, total: params.total, message: params.message });
        }
    }
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.tools_changed.notify_one();
        (self.on_change)(ListChanged::Tools);
    }
    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        // Its templates may be others.
        self.tools_changed.notify_one();
        (self.on_change)(ListChanged::Resources);
    }
    async fn on_prompt_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.tools_changed.notify_one();
        (self.on_change)(ListChanged::Prompts);
    }
}
