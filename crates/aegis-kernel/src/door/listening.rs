//! What passes between a tool server and its caller while a call is under way: the tenant's secrets are taken out of
//! it, it is bounded, and questions and answers are recorded before they are passed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aegis_core::{Actor, ActorLink, Body, Durability, Name, QuestionEnd};
use async_trait::async_trait;
use serde_json::Value;

use crate::port::{Given, Listener, LogEntry, LogLevel, Question, QuestionKind, Unanswered};
use crate::record::{Ledger, RecordError};
use crate::redaction::Redaction;

/// Most questions of one call.
pub(crate) const QUESTIONS_MAX: usize = 16;
/// Most bytes of a question, and of an answer.
const QUESTION_BYTES_MAX: usize = 256 << 10;
/// How long a caller may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(240);
/// Most lines of a server's log that are passed on during one call; further ones are dropped.
const LOG_LINES_MAX: usize = 1000;
/// Most bytes of such a line, and of words of progress.
const LINE_BYTES_MAX: usize = 16 << 10;

/// A listener, through the record.
pub(super) struct Recorded {
    inner: Arc<dyn Listener>,
    /// One after the other: what is asked and answered stands in this order on record too.
    ledger: tokio::sync::Mutex<Ledger>,
    redaction: Arc<Redaction>,
    caller: Actor,
    asked: AtomicUsize,
    logged: AtomicUsize,
}

impl Recorded {
    /// `ledger` may be behind.
    pub(super) fn new(inner: Arc<dyn Listener>, ledger: Ledger) -> Self {
        Self {
            inner,
            redaction: Arc::clone(&ledger.scribe.redaction),
            caller: ledger.actor.clone(),
            ledger: tokio::sync::Mutex::new(ledger),
            asked: AtomicUsize::new(0),
            logged: AtomicUsize::new(0),
        }
    }

    /// Without the tenant's secrets.
    fn redacted(&self, text: String) -> String {
        self.redaction.redactor().redact(&text).into_owned()
    }

    fn redacted_json(&self, value: &Value) -> Option<Value> {
        serde_json::from_str(&self.redacted(value.to_string())).ok()
    }

    /// Records what `body` makes of a text, as the server's deed or the caller's.
    async fn note(
        &self,
        by: Option<&Name>,
        text: Option<String>,
        body: impl FnOnce(Option<aegis_core::BlobRef>) -> Body,
    ) -> Result<(), RecordError> {
        let mut ledger = self.ledger.lock().await;
        ledger.actor = match by {
            Some(name) => self.caller.clone().then(ActorLink::Server { name: name.clone() }),
            None => self.caller.clone(),
        };
        let mut blobs = Vec::new();
        let blob = text.map(|text| ledger.scribe.blob(text, &mut blobs));
        ledger.fact(body(blob), blobs, Durability::Process).await
    }

    async fn note_end(
        &self,
        server: &Name,
        method: &str,
        settled: &Result<Value, Unanswered>,
    ) -> Result<(), RecordError> {
        let outcome = match settled {
            Ok(answer) => end_of(answer),
            Err(Unanswered::Refused(_)) => QuestionEnd::Refused,
            Err(Unanswered::TimedOut) => QuestionEnd::TimedOut,
        };
        let (server, method) = (server.clone(), method.to_owned());
        let text = settled.as_ref().ok().map(Value::to_string);
        self.note(None, text, |answer| Body::ServerAnswered { server, method, outcome, answer }).await
    }

    /// Records what a caller gives to `server` with a call of `method`, which names what nobody knows the question of.
    pub(super) async fn note_given(
        &self,
        server: &Name,
        method: &'static str,
        given: &Given,
    ) -> Result<(), RecordError> {
        for (_, kind, answer) in &given.answers {
            let method = kind.map_or(method, QuestionKind::method);
            self.note_end(server, method, &Ok(answer.clone())).await?;
        }
        Ok(())
    }

    async fn put(&self, question: Question) -> Result<Value, Unanswered> {
        let kind = question.kind;
        if !self.inner.answers(kind) {
            return Err(refused("whoever calls does not answer this"));
        }
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.inner.asked(question)).await;
        let answer = answer.unwrap_or(Err(Unanswered::TimedOut))?;
        if answer.to_string().len() > QUESTION_BYTES_MAX {
            return Err(refused("the answer is too large"));
        }
        Ok(answer)
    }
}

fn refused(why: &str) -> Unanswered {
    Unanswered::Refused(why.to_owned())
}

/// How an answer ends a question: elicitation has words for it.
fn end_of(answer: &Value) -> QuestionEnd {
    match answer.get("action").and_then(Value::as_str) {
        Some("decline") => QuestionEnd::Declined,
        Some("cancel") => QuestionEnd::Cancelled,
        _ => QuestionEnd::Answered,
    }
}

#[async_trait]
impl Listener for Recorded {
    fn progressed(&self, done: f64, total: Option<f64>, message: Option<String>) {
        let message = message.filter(|text| text.len() <= LINE_BYTES_MAX);
        self.inner.progressed(done, total, message.map(|text| self.redacted(text)));
    }
    fn log_level(&self) -> Option<LogLevel> {
        self.inner.log_level()
    }
    fn logged(&self, entry: LogEntry) {
        let wanted = self.inner.log_level().is_some_and(|least| entry.level >= least);
        let size = entry.data.to_string().len() + entry.logger.as_ref().map_or(0, String::len);
        if !wanted || size > LINE_BYTES_MAX || self.logged.fetch_add(1, Ordering::Relaxed) >= LOG_LINES_MAX {
            return;
        }
        let Some(data) = self.redacted_json(&entry.data) else { return };
        let logger = entry.logger.map(|logger| self.redacted(logger));
        self.inner.logged(LogEntry { level: entry.level, logger, data });
    }
    fn answers(&self, kind: QuestionKind) -> bool {
        self.inner.answers(kind)
    }
    fn takes_questions(&self) -> bool {
        self.inner.takes_questions()
    }
    fn given(&self) -> Option<Given> {
        self.inner.given()
    }

    async fn asked(&self, mut question: Question) -> Result<Value, Unanswered> {
        if self.asked.fetch_add(1, Ordering::Relaxed) >= QUESTIONS_MAX {
            return Err(refused("too many questions in one call"));
        }
        let unrecorded = |error: RecordError| {
            tracing::warn!(%error, "a question of a tool server is refused: it cannot be recorded");
            refused("the question cannot be recorded")
        };
        // A secret may have been set since the call began.
        self.redaction.refresh().await.map_err(|error| unrecorded(error.into()))?;
        question.params = self.redacted_json(&question.params).ok_or_else(|| refused("it is no JSON"))?;
        let text = question.params.to_string();
        let (server, method) = (question.server.clone(), question.kind.method());
        let too_large = text.len() > QUESTION_BYTES_MAX;
        let (name, asked) = (server.clone(), (!too_large).then_some(text));
        let body = |question| Body::ServerAsked {
            server: name,
            method: method.to_owned(),
            granted: true,
            times: 1,
            question,
        };
        self.note(Some(&server), asked, body).await.map_err(unrecorded)?;
        let settled =
            if too_large { Err(refused("the question is too large")) } else { self.put(question).await };
        self.note_end(&server, method, &settled).await.map_err(unrecorded)?;
        settled
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_say_how_they_end() {
        assert_eq!(end_of(&json!({"action": "accept", "content": {}})), QuestionEnd::Answered);
        assert_eq!(end_of(&json!({"action": "decline"})), QuestionEnd::Declined);
        assert_eq!(end_of(&json!({"action": "cancel"})), QuestionEnd::Cancelled);
        assert_eq!(end_of(&json!({"roots": []})), QuestionEnd::Answered);
    }
}
