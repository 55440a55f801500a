//! The caller of a tool through `/mcp`, as the server that is called may reach it: told of progress and of the server's
//! log, and asked what the caller declared that it answers.

#![expect(deprecated, reason = "logging is part of revision 2025-11-25, which is still spoken")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_kernel::port::{Given, Listener, LogEntry, LogLevel, Question, QuestionKind, Unanswered};
use async_trait::async_trait;
use rmcp::model::{
    ClientCapabilities, CustomRequest, LoggingLevel, LoggingMessageNotificationParam,
    ProgressNotificationParam, ProgressToken, RequestId, ServerRequest,
};
use rmcp::service::{
    OriginatingRequestId, Peer, PeerRequestOptions, RequestContext, RoleServer, ServiceError,
};
use serde_json::Value;
use tokio::sync::mpsc;

/// Words that wait to be sent; further ones are dropped.
const WORDS_WAITING_MAX: usize = 64;
/// How long a client may take to answer; the kernel waits no longer either.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(235);

/// The least level of servers' logs that a session wants, once it said so.
pub(super) type SessionLog = Arc<Mutex<Option<LogLevel>>>;

/// What is told while a call is under way.
enum Word {
    /// What is done, of how much, in words.
    Progress(f64, Option<f64>, Option<String>),
    Log(LogEntry),
}

/// How a caller is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Not at all: nothing holds its requests together, and its revision has no other way.
    None,
    /// While its call is under way, on that call's own stream.
    Meanwhile,
    /// By an answer that says what is wanted, after which it calls again.
    ByAnswer,
}

/// A caller.
pub(super) struct Asking {
    words: mpsc::Sender<Word>,
    progresses: bool,
    peer: Peer<RoleServer>,
    request: RequestId,
    way: Way,
    declared: ClientCapabilities,
    log_level: Option<LogLevel>,
    given: Option<Given>,
}

impl Asking {
    /// The caller of a request. `session` is of the session it came in.
    pub(super) fn of(
        context: &RequestContext<RoleServer>,
        session: Option<&SessionLog>,
        given: Option<Given>,
    ) -> Self {
        let token = context.meta.get_progress_token();
        let progresses = token.is_some();
        let (words, told) = mpsc::channel(WORDS_WAITING_MAX);
        tokio::spawn(forward(context.peer.clone(), token, told));
        let stateless = keeps_nothing(context);
        let (way, declared, log_level) = match session {
            _ if stateless => (
                Way::ByAnswer,
                context.meta.client_capabilities(),
                context.meta.log_level().and_then(level_here),
            ),
            Some(log) => (
                Way::Meanwhile,
                context.peer.peer_info().map(|info| info.capabilities.clone()),
                *log.lock().unwrap_or_else(PoisonError::into_inner),
            ),
            None => (Way::None, None, None),
        };
        let declared = declared.unwrap_or_default();
        let (peer, request) = (context.peer.clone(), context.id.clone());
        let given = given.filter(|_| stateless);
        Self { words, progresses, peer, request, way, declared, log_level, given }
    }
}

/// Whether the request is of a revision that keeps nothing between requests.
pub(super) fn keeps_nothing(context: &RequestContext<RoleServer>) -> bool {
    context.meta.protocol_version().is_some_and(|version| !version.has_initialize())
}

#[async_trait]
impl Listener for Asking {
    fn progressed(&self, done: f64, total: Option<f64>, message: Option<String>) {
        if self.progresses {
            let _ = self.words.try_send(Word::Progress(done, total, message));
        }
    }
    fn log_level(&self) -> Option<LogLevel> {
        self.log_level
    }
    fn logged(&self, entry: LogEntry) {
        let _ = self.words.try_send(Word::Log(entry));
    }
    fn answers(&self, kind: QuestionKind) -> bool {
        self.way != Way::None
            && match kind {
                QuestionKind::Elicitation => self.declared.elicitation.is_some(),
                QuestionKind::Sampling => self.declared.sampling.is_some(),
                QuestionKind::Roots => self.declared.roots.is_some(),
            }
    }
    fn takes_questions(&self) -> bool {
        self.way == Way::ByAnswer
    }
    fn given(&self) -> Option<Given> {
        self.given.clone()
    }

    async fn asked(&self, question: Question) -> Result<Value, Unanswered> {
        let mut request = CustomRequest::new(question.kind.method(), Some(question.params));
        // This call's own stream: nobody else hears it.
        request.extensions.insert(OriginatingRequestId(self.request.clone()));
        let options = PeerRequestOptions::with_timeout(ANSWER_TIMEOUT);
        let peer = self.peer.clone();
        // On a task of its own: here the SDK would take the server's request, which this answers, for what it belongs to.
        let sent = tokio::spawn(async move {
            peer.send_request_with_option(ServerRequest::CustomRequest(request), options).await
        });
        let sent = sent.await.map_err(|error| Unanswered::Refused(error.to_string()))?;
        let answer = match sent {
            Ok(handle) => handle.await_response().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => {
                serde_json::to_value(answer).map_err(|error| Unanswered::Refused(error.to_string()))
            }
            Err(ServiceError::Timeout { .. }) => Err(Unanswered::TimedOut),
            Err(ServiceError::McpError(error)) => Err(Unanswered::Refused(error.message.into_owned())),
            Err(error) => Err(Unanswered::Refused(error.to_string())),
        }
    }
}

/// Tells what is told, in order.
async fn forward(peer: Peer<RoleServer>, token: Option<ProgressToken>, mut told: mpsc::Receiver<Word>) {
    while let Some(word) = told.recv().await {
        let sent = match word {
            Word::Progress(done, total, message) => {
                let Some(token) = token.clone() else { continue };
                let mut progress = ProgressNotificationParam::new(token, done);
                (progress.total, progress.message) = (total, message);
                peer.notify_progress(progress).await
            }
            Word::Log(entry) => {
                let Some(level) = level_there(entry.level) else { continue };
                let mut line = LoggingMessageNotificationParam::new(level, entry.data);
                line.logger = entry.logger;
                peer.notify_logging_message(line).await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Our name of a level.
pub(super) fn level_here(level: LoggingLevel) -> Option<LogLevel> {
    serde_json::to_value(level).and_then(serde_json::from_value).ok()
}

fn level_there(level: LogLevel) -> Option<LoggingLevel> {
    serde_json::to_value(level).and_then(serde_json::from_value).ok()
}
