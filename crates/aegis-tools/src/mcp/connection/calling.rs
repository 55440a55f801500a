//! Calls of tools, reads of resources and gets of prompts, with what a server asks before it answers.

#![expect(deprecated, reason = "logging is part of revision 2025-11-25, which is still spoken")]

use std::sync::Arc;
use std::time::Duration;

use aegis_kernel::port::{Given, Listener, LogLevel, QuestionKind};
use rmcp::model::{
    ClientRequest, ElicitRequestParams, ErrorCode, InputRequest, InputRequiredResult, InputResponses,
    LoggingLevel, RequestMetaObject, ServerResult, SetLevelRequest, SetLevelRequestParams,
};
use serde_json::json;
use tokio::time::Instant;

use super::{Connection, Terms, Wanted};
use crate::mcp::asking::Entered;
use crate::mcp::error::McpError;
use crate::mcp::handler::{NoAnswer, capabilities, kind_of};

/// Most rounds in which a server may ask for input before it answers a call.
const INPUT_ROUNDS_MAX: usize = 8;
/// Most questions of one round.
const QUESTIONS_MAX: usize = 16;
/// How long a server may take to change what it logs.
const LOG_LEVEL_TIMEOUT: Duration = Duration::from_secs(2);

impl Connection {
    /// Sends a request that the server may ask something for before it answers. `listener` listens, and may be asked.
    pub(in crate::mcp) async fn call(
        &self,
        mut wanted: Wanted,
        listener: Option<Arc<dyn Listener>>,
        terms: Terms<'_>,
    ) -> Result<ServerResult, McpError> {
        if let Some(given) = listener.as_ref().and_then(|listener| listener.given()) {
            self.give(&mut wanted, given)?;
        }
        let mut entered = self.service.service().calls.enter(listener);
        self.wake_log(&entered).await;
        let answer = self.rounds(&entered, wanted, terms).await;
        if !matches!(answer, Err(McpError::Cancelled | McpError::TimedOut { .. })) {
            entered.answered();
        }
        answer
    }

    async fn rounds(
        &self,
        entered: &Entered<'_>,
        mut wanted: Wanted,
        terms: Terms<'_>,
    ) -> Result<ServerResult, McpError> {
        let mut deadline = Instant::now() + terms.time;
        let cancel = terms.cancel;
        for _ in 0..INPUT_ROUNDS_MAX {
            let terms = Terms {
                time: deadline.saturating_duration_since(Instant::now()),
                cancel: terms.cancel,
                progress: terms.progress.clone(),
            };
            let asked = match self.request_in(Some(entered), wanted.request(), terms).await? {
                ServerResult::InputRequiredResult(asked) => asked,
                answer => return Ok(answer),
            };
            let takes = entered.call().listener().filter(|listener| listener.takes_questions());
            if let Some(listener) = takes {
                return Err(self.pass_on(&asked, listener.as_ref()));
            }
            let state = asked.request_state.clone();
            let began = Instant::now();
            let responses = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(McpError::Cancelled),
                given = self.input(asked, entered) => given?,
            };
            wanted.answer(responses, state);
            // The time of the call stood still while its caller was asked.
            deadline += began.elapsed();
        }
        Err(self.malformed("it asks for input again and again"))
    }

    /// The questions of a round, each with its kind, if there are not too many.
    fn questions<'a>(
        &self,
        asked: &'a InputRequiredResult,
    ) -> Result<Vec<(&'a String, QuestionKind, &'a InputRequest)>, McpError> {
        let requests = asked.input_requests.iter().flatten();
        if requests.clone().any(|(_, request)| opens_an_address(request)) {
            // Only forms were declared.
            let (server, method) = (self.server.clone(), QuestionKind::Elicitation.method().to_owned());
            let reason = "only forms are asked here, no addresses to open".to_owned();
            return Err(McpError::Unanswered { server, method, reason });
        }
        let questions: Option<Vec<_>> =
            requests.map(|(key, request)| Some((key, kind_of(request)?, request))).collect();
        match questions {
            Some(questions) if questions.len() <= QUESTIONS_MAX => Ok(questions),
            Some(_) => Err(self.malformed(format!("it asks more than {QUESTIONS_MAX} things at once"))),
            None => Err(self.malformed("it asks for something unknown")),
        }
    }

    /// Puts the questions of a round to the caller.
    async fn input(
        &self,
        asked: InputRequiredResult,
        entered: &Entered<'_>,
    ) -> Result<Option<InputResponses>, McpError> {
        let mut responses = InputResponses::new();
        for (key, kind, request) in self.questions(&asked)? {
            let params = match request {
                InputRequest::CreateMessage(request) => serde_json::to_value(&request.params),
                InputRequest::Elicitation(request) => serde_json::to_value(&request.params),
                _ => Ok(json!({})),
            };
            let params = params.map_err(|error| self.malformed(error.to_string()))?;
            let call = Ok(Arc::clone(entered.call()));
            let answer = self.service.service().asked(kind, params, call).await;
            responses.insert(key.clone(), answer.map_err(|reason| self.unanswered(kind, &reason))?);
        }
        Ok((!responses.is_empty()).then_some(responses))
    }

    /// The questions of a round as the answer of the call, for a caller who takes them so; or why they are not passed on.
    fn pass_on(&self, asked: &InputRequiredResult, listener: &dyn Listener) -> McpError {
        let questions = match self.questions(asked) {
            Ok(questions) => questions,
            Err(error) => return error,
        };
        let handler = self.service.service();
        for (_, kind, _) in &questions {
            if !handler.grants(*kind) {
                handler.passed_on(*kind);
                return self.unanswered(*kind, &NoAnswer::NotGranted(*kind));
            }
            if !listener.answers(*kind) {
                let required = capabilities(|other| other == *kind);
                return McpError::Protocol {
                    code: ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY.0,
                    message: format!("the server asks for `{}`, which was not declared", kind.method()),
                    data: Some(json!({"requiredCapabilities": required})),
                };
            }
        }
        for (_, kind, _) in &questions {
            handler.passed_on(*kind);
        }
        match serde_json::to_value(asked) {
            Ok(asked) if asked.to_string().len() <= self.response_bytes_max => McpError::Asks(asked),
            Ok(_) => self.too_large(),
            Err(error) => self.malformed(error.to_string()),
        }
    }

    /// Puts a caller's answers into its call. A server that may ask nothing is answered nothing.
    fn give(&self, wanted: &mut Wanted, given: Given) -> Result<(), McpError> {
        let handler = self.service.service();
        // One that asks during its calls never asked so.
        if self.service.peer_info().is_none_or(|info| info.protocol_version.has_initialize()) {
            return Ok(());
        }
        let mut responses = InputResponses::new();
        for (key, kind, answer) in given.answers {
            let granted = match kind {
                Some(kind) => handler.grants(kind),
                None => QuestionKind::ALL.into_iter().any(|kind| handler.grants(kind)),
            };
            if !granted {
                return Err(self.unanswered(
                    kind.unwrap_or(QuestionKind::Elicitation),
                    &NoAnswer::NotGranted(kind.unwrap_or(QuestionKind::Elicitation)),
                ));
            }
            responses.insert(key, answer);
        }
        wanted.answer((!responses.is_empty()).then_some(responses), given.state);
        Ok(())
    }

    fn unanswered(&self, kind: QuestionKind, reason: &NoAnswer) -> McpError {
        let (server, method) = (self.server.clone(), kind.method().to_owned());
        match reason {
            NoAnswer::NotGranted(_) => McpError::NotGranted { server, method },
            _ => McpError::Unanswered { server, method, reason: reason.to_string() },
        }
    }

    /// What is said of a request to a server that keeps nothing between requests: what its caller answers, and how
    /// much of the server's log it wants.
    pub(super) fn meta(&self, call: Option<&Entered<'_>>) -> Option<RequestMetaObject> {
        let call = call?.call();
        if self.service.peer_info()?.protocol_version.has_initialize() {
            return None;
        }
        let mut meta = RequestMetaObject::new();
        let listener = call.listener();
        meta.set_client_capabilities(
            self.service
                .service()
                .capabilities(|kind| listener.is_some_and(|listener| listener.answers(kind))),
        );
        if let Some(level) = call.log_level().and_then(level_of) {
            meta.set_log_level(level);
        }
        Some(meta)
    }

    /// Tells a server that keeps a level of its log to send what this call's caller wants, if it sends less.
    async fn wake_log(&self, entered: &Entered<'_>) {
        let Some(wanted) = entered.call().log_level() else { return };
        let info = self.service.peer_info();
        let logs = info.is_some_and(|info| {
            info.protocol_version.has_initialize() && info.capabilities.logging.is_some()
        });
        let least = &self.service.service().log_level;
        {
            let mut least = least.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if !logs || least.is_some_and(|least| least <= wanted) {
                return;
            }
            *least = Some(wanted);
        }
        let Some(level) = level_of(wanted) else { return };
        let request = SetLevelRequest::new(SetLevelRequestParams::new(level));
        let never = tokio_util::sync::CancellationToken::new();
        let terms = Terms { time: LOG_LEVEL_TIMEOUT, cancel: &never, progress: None };
        // One that does not take it sends what it likes, as before.
        let _ = self.request(ClientRequest::SetLevelRequest(request), terms).await;
    }
}

/// The SDK's name of a level.
fn level_of(level: LogLevel) -> Option<LoggingLevel> {
    serde_json::to_value(level).and_then(serde_json::from_value).ok()
}

/// Whether a question is not a form but a page to open.
fn opens_an_address(request: &InputRequest) -> bool {
    let InputRequest::Elicitation(request) = request else { return false };
    matches!(request.params, ElicitRequestParams::UrlElicitationParams { .. })
}
