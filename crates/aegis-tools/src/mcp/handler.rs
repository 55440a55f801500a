//! What a server sends of its own accord: progress, changes of its lists, and requests.

#![expect(
    deprecated,
    reason = "sampling, roots and logging are part of revision 2025-11-25, which is still spoken"
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::{Body, Name, QuestionEnd, Tenant};
use aegis_kernel::port::{LogEntry, LogLevel, Question, QuestionKind, Unanswered};
use aegis_manifest::node::McpGrant;
use rmcp::model::{
    ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams,
    ElicitResult, ElicitationCapability, ErrorCode, ErrorData, Implementation, InputRequest, ListRootsResult,
    LoggingMessageNotificationParam, ProgressNotificationParam, ProgressToken, RootsCapabilities,
    SamplingCapability,
};
use rmcp::service::{InboundStreamOrigin, NotificationContext, RequestContext, RoleClient};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::asking::{Calls, UnderWay, Untied};
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

/// The kind of question that an input request of revision 2026-07-28 is.
pub(super) const fn kind_of(request: &InputRequest) -> Option<QuestionKind> {
    match request {
        InputRequest::CreateMessage(_) => Some(QuestionKind::Sampling),
        InputRequest::Elicitation(_) => Some(QuestionKind::Elicitation),
        InputRequest::ListRoots(_) => Some(QuestionKind::Roots),
        _ => None,
    }
}

/// Why a server's question is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("`{}` is not granted to this server", .0.method())]
    NotGranted(QuestionKind),
    #[error(transparent)]
    Untied(#[from] Untied),
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

/// What a server asked in vain is recorded at once the first time, then at most this often.
const ASKED_PAUSE: Duration = Duration::from_secs(60);
/// Method, and whether it was granted, to when it was last recorded and how often it was asked since.
type Asked = HashMap<(String, bool), (Instant, u32)>;

/// Counts what a server asks, so that one that asks without end does not fill the record.
#[derive(Clone, Default)]
pub(super) struct AskedLog(Arc<Mutex<Asked>>);

impl AskedLog {
    /// How many askings are to be recorded now, this one among them; none if this one only counts.
    fn note(&self, method: &str, granted: bool) -> Option<u32> {
        let now = Instant::now();
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, more)) = asked.get_mut(&(method.to_owned(), granted)) else {
            asked.insert((method.to_owned(), granted), (now, 0));
            return Some(1);
        };
        *more = more.saturating_add(1);
        if now.duration_since(*at) < ASKED_PAUSE {
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
    pub(super) events: ServerEvents,
    /// Told when what it says of itself may have changed.
    pub(super) tools_changed: Arc<Notify>,
    /// Told of every change of a list.
    pub(super) on_change: Arc<dyn Fn(ListChanged) + Send + Sync>,
    pub(super) told: AskedLog,
    /// The calls under way.
    pub(super) calls: Calls,
    /// The least level of its log that the server was told to send.
    pub(super) log_level: Mutex<Option<LogLevel>>,
    pub(super) progress: Mutex<HashMap<ProgressToken, ProgressSink>>,
}

impl Handler {
    /// Whether the configuration grants such questions to the server.
    pub(super) fn grants(&self, kind: QuestionKind) -> bool {
        self.grants.contains(&match kind {
            QuestionKind::Sampling => McpGrant::Sampling,
            QuestionKind::Elicitation => McpGrant::Elicitation,
            QuestionKind::Roots => McpGrant::Roots,
        })
    }

    /// Puts a question to whoever made the call it belongs to, or refuses it. What is put to a caller is recorded where
    /// the call is; what is not, here, coalesced.
    pub(super) async fn asked(
        &self,
        kind: QuestionKind,
        params: Value,
        call: Result<Arc<UnderWay>, Untied>,
    ) -> Result<Value, NoAnswer> {
        if !self.grants(kind) {
            self.record(kind, None);
            return Err(NoAnswer::NotGranted(kind));
        }
        let call = match call {
            Ok(call) => call,
            Err(untied) => {
                self.record(kind, Some(QuestionEnd::Refused));
                return Err(untied.into());
            }
        };
        match call.listener().filter(|listener| !listener.takes_questions()) {
            Some(listener) => {
                let question = Question { server: self.server.clone(), kind, params };
                Ok(call.ask(listener, question).await?)
            }
            // A model is no person, and is told nothing of what a server would have of one.
            None if kind == QuestionKind::Elicitation && call.listener().is_none() => {
                self.record(kind, Some(QuestionEnd::Declined));
                Ok(json!({"action": "decline"}))
            }
            None => {
                self.record(kind, Some(QuestionEnd::Refused));
                Err(Unanswered::Refused("whoever calls cannot be asked during the call".to_owned()).into())
            }
        }
    }

    /// Records a question that was passed on as the answer of a call.
    pub(super) fn passed_on(&self, kind: QuestionKind) {
        self.record(kind, None);
    }

    fn record(&self, kind: QuestionKind, outcome: Option<QuestionEnd>) {
        let (granted, method) = (self.grants(kind), kind.method().to_owned());
        let Some(times) = self.told.note(&method, granted) else { return };
        let (server, named) = (self.server.clone(), method.clone());
        let asked = Body::ServerAsked { server, method: named, granted, times, question: None };
        (self.events)(&self.tenant, asked);
        if let Some(outcome) = outcome {
            let server = self.server.clone();
            (self.events)(&self.tenant, Body::ServerAnswered { server, method, outcome, answer: None });
        }
    }

    async fn typed<P: Serialize, R: DeserializeOwned>(
        &self,
        kind: QuestionKind,
        params: P,
        context: &RequestContext<RoleClient>,
    ) -> Result<R, ErrorData> {
        let code = |error: &NoAnswer| match error {
            NoAnswer::Unanswered(Unanswered::TimedOut) => ErrorCode::INTERNAL_ERROR,
            _ => ErrorCode::METHOD_NOT_FOUND,
        };
        let malformed =
            |error: serde_json::Error| ErrorData::new(ErrorCode::INVALID_PARAMS, error.to_string(), None);
        let params = serde_json::to_value(params).map_err(malformed)?;
        let call = self.calls.of(context.extensions.get::<InboundStreamOrigin>()).await;
        let answer = self.asked(kind, params, call).await;
        let answer = answer.map_err(|error| ErrorData::new(code(&error), error.to_string(), None))?;
        serde_json::from_value(answer).map_err(malformed)
    }

    pub(super) fn watch(&self, token: ProgressToken, sink: ProgressSink) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).insert(token, sink);
    }
    pub(super) fn unwatch(&self, token: &ProgressToken) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }
    /// What may be asked here, of those kinds that `also` holds of.
    pub(super) fn capabilities(&self, also: impl Fn(QuestionKind) -> bool) -> ClientCapabilities {
        capabilities(|kind| self.grants(kind) && also(kind))
    }
}

/// What a client declares that answers the kinds that `holds` is true of.
pub(super) fn capabilities(holds: impl Fn(QuestionKind) -> bool) -> ClientCapabilities {
    let mut capabilities = ClientCapabilities::default();
    capabilities.sampling = holds(QuestionKind::Sampling).then(SamplingCapability::default);
    capabilities.elicitation = holds(QuestionKind::Elicitation).then(ElicitationCapability::default);
    capabilities.roots = holds(QuestionKind::Roots).then(RootsCapabilities::default);
    capabilities
}

impl rmcp::ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let implementation = Implementation::new("aegis", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(self.capabilities(|_| true), implementation)
    }
    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.typed(QuestionKind::Sampling, params, &context).await
    }
    async fn list_roots(&self, context: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        self.typed(QuestionKind::Roots, json!({}), &context).await
    }
    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        // A web page to open was not declared: only forms are passed on.
        if matches!(params, ElicitRequestParams::UrlElicitationParams { .. }) {
            return Err(ErrorData::invalid_params("only forms are asked here, no addresses to open", None));
        }
        self.typed(QuestionKind::Elicitation, params, &context).await
    }
    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        let level = serde_json::to_value(params.level).and_then(serde_json::from_value);
        if let (Ok(call), Ok(level)) = (self.calls.sole(), level) {
            call.log(LogEntry { level, logger: params.logger, data: params.data });
        }
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
