//! Callers who listen while a call is under way, and who can be asked by the server that is called.

use aegis_core::Name;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a tool server may ask of whoever calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionKind {
    /// A person is asked to fill in a form.
    Elicitation,
    /// A model is asked.
    Sampling,
    /// Which folders the caller works in.
    Roots,
}

impl QuestionKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Elicitation, Self::Sampling, Self::Roots];

    /// The protocol's method.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Elicitation => "elicitation/create",
            Self::Sampling => "sampling/createMessage",
            Self::Roots => "roots/list",
        }
    }
    /// The name of what a caller declares who answers it.
    pub const fn capability(self) -> &'static str {
        match self {
            Self::Elicitation => "elicitation",
            Self::Sampling => "sampling",
            Self::Roots => "roots",
        }
    }
}

/// What a server asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Who asks.
    pub server: Name,
    /// What for.
    pub kind: QuestionKind,
    /// In the protocol's words. Untrusted.
    pub params: Value,
}

/// Why a question has no answer. The text is given to the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Nobody can be asked, or not so much.
    #[error("{0}")]
    Refused(String),
    /// Nobody answered in time.
    #[error("nobody answered in time")]
    TimedOut,
}

/// How grave a line of a server's log is, from the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names of RFC 5424 say it")]
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

/// A line of a server's log. Untrusted.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    /// How grave.
    pub level: LogLevel,
    /// Which part of the server.
    pub logger: Option<String>,
    /// What it says.
    pub data: Value,
}

/// What a caller gives with a call that answers a former one's questions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Given {
    /// Answers by the server's names for its questions, with what was asked where that is known.
    pub answers: Vec<(String, Option<QuestionKind>, Value)>,
    /// What the server wants back with them.
    pub state: Option<String>,
}

/// A caller who is told what happens while a call is under way. Such a caller is given a server's answer whole, as one
/// JSON object: `{"result": …}` or `{"error": …}`, as the protocol writes them.
#[async_trait]
pub trait Listener: Send + Sync {
    /// How far the call has come. Must not block.
    fn progressed(&self, done: f64, total: Option<f64>, message: Option<String>);

    /// The least level of the server's log that is wanted; none if nothing is.
    fn log_level(&self) -> Option<LogLevel> {
        None
    }

    /// A line of the server's log, of a wanted level. Must not block.
    fn logged(&self, _entry: LogEntry) {}

    /// Whether the caller can answer such questions.
    fn answers(&self, _kind: QuestionKind) -> bool {
        false
    }

    /// Whether the caller takes questions as the answer of the call, and then calls again with [`Given`]: such a one is
    /// not asked meanwhile.
    fn takes_questions(&self) -> bool {
        false
    }

    /// What the caller gives with this call.
    fn given(&self) -> Option<Given> {
        None
    }

    /// Asks the caller, who can answer such questions.
    ///
    /// # Errors
    /// If there is no answer.
    async fn asked(&self, _question: Question) -> Result<Value, Unanswered> {
        Err(Unanswered::Refused("nobody can be asked".to_owned()))
    }
}
