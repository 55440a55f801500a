//! Scripts: what to answer to what is seen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::seen::Seen;

/// A tool call the script makes.
#[derive(Debug, Clone, PartialEq)]
pub struct ScriptedCall {
    /// The tool, by its AEGIS name (`fs.read`); sent as the name on the wire if it is offered.
    pub tool: String,
    /// The arguments as text, so that a script can send what is not JSON.
    pub arguments: String,
}

/// What a turn says it used.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum UsageReport {
    /// A quarter of the characters seen and said.
    #[default]
    Plausible,
    /// Nothing: the field is left out.
    Missing,
    /// These tokens.
    Tokens {
        /// Tokens of the request.
        input: u64,
        /// Tokens of the answer.
        output: u64,
    },
    /// This value, whatever it is.
    Raw(Value),
}

/// One well-formed answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Turn {
    /// The text.
    pub text: String,
    /// Tools called, in order.
    pub calls: Vec<ScriptedCall>,
    /// Usage reported.
    pub usage: UsageReport,
    /// Finish reason in the dialect's words; what fits the turn if `None`.
    pub finish: Option<String>,
    /// Answers whole although a stream was asked for.
    pub ignore_stream: bool,
    /// Sends the body in pieces of this many bytes, through the middle of characters and lines.
    pub chop_bytes: Option<usize>,
    /// Waits this long before each piece or event.
    pub pause: Option<Duration>,
    /// Cuts the connection after this many events of the stream (bytes of a whole answer).
    pub cut_after: Option<usize>,
}

impl Turn {
    /// A turn that says `text`.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
    /// A turn that calls `tool`.
    pub fn call(tool: impl Into<String>, arguments: &Value) -> Self {
        Self::default().and_call(tool, arguments)
    }
    /// This turn with one more call.
    #[must_use]
    pub fn and_call(mut self, tool: impl Into<String>, arguments: &Value) -> Self {
        self.calls.push(ScriptedCall { tool: tool.into(), arguments: arguments.to_string() });
        self
    }
    /// This turn with other usage.
    #[must_use]
    pub fn with_usage(mut self, usage: UsageReport) -> Self {
        self.usage = usage;
        self
    }
}

/// What the server does with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Answers.
    Turn(Turn),
    /// Takes the request and never says anything.
    Hang,
    /// Sends headers and the first event, then never says anything.
    HangMidway(Turn),
    /// Closes the connection without an answer.
    Drop,
    /// Answers with a status.
    Status {
        /// The status code.
        status: u16,
        /// Value of `Retry-After`, if one is sent.
        retry_after: Option<String>,
        /// The body.
        body: String,
    },
    /// Answers with status 200 and this.
    Raw {
        /// Value of `Content-Type`.
        content_type: String,
        /// The body.
        body: Vec<u8>,
    },
    /// Answers with a text of this many bytes.
    Flood {
        /// Bytes of text.
        bytes: usize,
    },
    /// Waits, then does what follows.
    After(Duration, Box<Self>),
    /// Waits until the gate is open, then does what follows.
    Behind(Gate, Box<Self>),
}

/// Holds replies back until it is opened, so that many requests are under way at once.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// A closed gate.
    #[expect(clippy::new_without_default, reason = "that a new gate is closed is worth a word")]
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
    /// Opens it, for good.
    pub fn open(&self) {
        self.0.close();
    }
    pub(super) async fn passed(&self) {
        // There are no permits: this returns when the semaphore is closed.
        drop(self.0.acquire().await);
    }
}

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Reply {
    /// Says `text`.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Turn(Turn::text(text))
    }
    /// Calls `tool`.
    pub fn call(tool: impl Into<String>, arguments: &Value) -> Self {
        Self::Turn(Turn::call(tool, arguments))
    }
    /// Answers with a status and an error body as providers send it.
    pub fn status(status: u16, message: &str) -> Self {
        let body = serde_json::json!({"error": {"message": message, "type": "scripted"}}).to_string();
        Self::Status { status, retry_after: None, body }
    }
    /// Answers 429 with `Retry-After`.
    pub fn rate_limited(retry_after: impl Into<String>) -> Self {
        Self::Status {
            status: 429,
            retry_after: Some(retry_after.into()),
            body: r#"{"error":{"message":"slow down"}}"#.to_owned(),
        }
    }
}

type Condition = Arc<dyn Fn(&Seen) -> bool + Send + Sync>;

/// A reply and when it is given. The conditions of one rule all have to hold.
#[derive(Clone)]
pub struct Rule {
    conditions: Vec<Condition>,
    replies: Vec<Reply>,
}

impl Rule {
    /// A rule that always holds.
    pub fn always(reply: Reply) -> Self {
        Self { conditions: Vec::new(), replies: vec![reply] }
    }
    /// Holds if the last message of a user contains `text`.
    #[must_use]
    pub fn when_last_user_contains(self, text: impl Into<String>) -> Self {
        let text = text.into();
        self.when(move |seen| seen.last_user().contains(&text))
    }
    /// Holds if any message contains `text`.
    #[must_use]
    pub fn when_mentioned(self, text: impl Into<String>) -> Self {
        let text = text.into();
        self.when(move |seen| seen.mentions(&text))
    }
    /// Holds if the conversation has this many tool results.
    #[must_use]
    pub fn when_tool_results(self, count: usize) -> Self {
        self.when(move |seen| seen.tool_results() == count)
    }
    /// Holds if this model is asked for.
    #[must_use]
    pub fn when_model(self, model: impl Into<String>) -> Self {
        let model = model.into();
        self.when(move |seen| seen.model == model)
    }
    /// Holds if `condition` does.
    #[must_use]
    pub fn when(mut self, condition: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Arc::new(condition));
        self
    }
    /// What to reply when the same request comes again; the last reply stays.
    #[must_use]
    pub fn then(mut self, reply: Reply) -> Self {
        self.replies.push(reply);
        self
    }
    fn reply(&self, seen: &Seen) -> Option<Reply> {
        let holds = self.conditions.iter().all(|condition| condition(seen));
        let index = usize::try_from(seen.times.saturating_sub(1)).unwrap_or(usize::MAX);
        holds.then(|| self.replies.get(index).or(self.replies.last()).cloned()).flatten()
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({} conditions, {:?})", self.conditions.len(), self.replies)
    }
}

/// Decides what is answered.
#[derive(Clone)]
pub struct Script(Arc<dyn Fn(&Seen) -> Reply + Send + Sync>);

impl Script {
    /// Asks a function.
    pub fn new(decide: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }
    /// The first rule that holds; a request no rule foresees is answered 400 and says so.
    pub fn rules(rules: Vec<Rule>) -> Self {
        Self::new(move |seen| {
            rules.iter().find_map(|rule| rule.reply(seen)).unwrap_or_else(|| {
                let said: String = seen.last_user().chars().take(200).collect();
                Reply::status(400, &format!("no rule of the script foresees this request: {said}"))
            })
        })
    }
    /// One reply after another, by the number of the request; the last one stays.
    pub fn sequence(replies: Vec<Reply>) -> Self {
        Self::new(move |seen| {
            let index = usize::try_from(seen.ordinal.saturating_sub(1)).unwrap_or(usize::MAX);
            replies
                .get(index)
                .or(replies.last())
                .cloned()
                .unwrap_or_else(|| Reply::status(400, "the script is empty"))
        })
    }
    pub(super) fn decide(&self, seen: &Seen) -> Reply {
        (self.0)(seen)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script(..)")
    }
}
