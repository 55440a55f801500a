//! Tool servers and tools on the wire.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a tool server does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It starts.
    Starting,
    /// It answers.
    Ready,
    /// It is down, and is started again after a pause.
    Down,
    /// Nobody called it for a while; the next call starts it.
    Idle,
    /// It was told to stop.
    Stopped,
}

impl ServerState {
    /// As on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Down => "down",
            Self::Idle => "idle",
            Self::Stopped => "stopped",
        }
    }
}

/// A tool server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// What it does now.
    pub state: ServerState,
    /// The protocol revision both sides speak, where it answers.
    pub protocol: Option<String>,
    /// Why it is down.
    pub reason: Option<String>,
    /// How often it was started again since it was last well.
    pub restarts: u32,
    /// Whether it was added to those of the node's configuration.
    #[serde(default)]
    pub added: bool,
    /// Whether it changed since it was accepted: then its tools refuse.
    pub held: bool,
    /// How many tools were accepted.
    pub tools: usize,
    /// Hash of what was accepted.
    pub accepted: Option<String>,
    /// Hash of what it shows, where that waits for a person.
    pub shown: Option<String>,
}

/// A tool server with what it says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerDetail {
    /// The server.
    #[serde(flatten)]
    pub server: Server,
    /// Instructions and tools, as accepted; null if it was never seen. Untrusted text.
    pub description: Value,
    /// How what it shows differs; null if it does not. Untrusted text.
    pub changes: Value,
}

/// A person's acceptance of what a held server shows: the body of `POST /v1/servers/{name}/accept`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptServer {
    /// The hash that was shown.
    pub digest: String,
}

/// A person's wish to sign in at a server: the body of `POST /v1/servers/{name}/login`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginServer {
    /// Where the browser comes back to: `http://127.0.0.1:PORT/callback` on the person's own machine.
    pub redirect_uri: String,
}

/// A sign-in that waits for its person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLogin {
    /// The address to open in a browser. Untrusted text.
    pub url: String,
}

/// What came of signing out: the tokens are gone here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLogout {
    /// Whether who issued them takes them no more.
    pub revoked: bool,
    /// Why it may still take them until they end, if there were any. Untrusted text.
    pub reason: Option<String>,
}

/// What the browser came back with: the body of `POST /v1/servers/{name}/login/finish`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishLogin {
    /// The whole address it was sent to.
    pub callback: String,
}

/// A line of a server's standard error. Untrusted text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLine {
    /// When it was read.
    pub at: String,
    /// The text.
    pub text: String,
}

/// A tool that agents may name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The tool server it comes from, if it is not the node's own.
    pub server: Option<String>,
    /// What it does. Of a server's tool: untrusted text.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
    /// Arguments the monitor checks.
    pub governed: Vec<String>,
}

/// A call of a tool: the body of `POST /v1/tools/{name}/call`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallTool {
    /// The agent to act as, by name: its authority holds.
    pub agent: String,
    /// The arguments, a JSON object.
    #[serde(default = "no_arguments")]
    pub arguments: Value,
    /// Whether what the tool's server asks of a person is put to the caller. Then the answer is a stream of `asked`,
    /// and at its end `called` or `refused`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub questions: bool,
}

fn no_arguments() -> Value {
    Value::Object(serde_json::Map::new())
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCalled {
    /// The run the call was made in.
    pub execution_id: String,
    /// The result as MCP writes it: `content`, `structuredContent`, `isError`. Untrusted.
    pub result: Value,
}

/// What a tool's server asks while the tool is called: the data of `asked`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolQuestion {
    /// The run the call is made in.
    pub execution_id: String,
    /// The question's number in the run.
    pub question: u32,
    /// Who asks.
    pub server: String,
    /// The protocol's method: `elicitation/create`.
    pub method: String,
    /// What is asked, as MCP writes it. Untrusted.
    pub params: Value,
}

/// The body of `POST /v1/executions/{id}/questions/{question}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerQuestion {
    /// The answer, as MCP writes it: `{"action": "accept", "content": {…}}`, `decline` or `cancel`.
    pub answer: Value,
}
