//! What bodies of events are made of: how processes ended, what actions ask for, and what came of them.

use serde::{Deserialize, Serialize};

use crate::event::BlobRef;
use crate::{DenialCode, FinishReason, ModelFailureKind, Sha256, Usage};

/// How a sandbox's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum ExitStatus {
    /// By itself.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// By a signal, ours included.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// Killed for using more memory than allowed.
    OutOfMemory,
    /// The daemon that could have seen it is gone.
    Unknown,
}

/// Whom a sandbox generation ran as, so that it can be found and proved dead after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxFacts {
    /// `process`, later `container`, `microvm`.
    pub engine: String,
    /// Process id of the sandbox's first process, seen from the host.
    pub pid: u32,
    /// Its start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// The host user it runs as.
    pub uid: u32,
    /// Whether a control group holds the whole process tree.
    pub cgroup: bool,
    /// The interpreter that runs the bootstrap, such as `python3 3.11.2`.
    pub interpreter: String,
}

/// What an action asks for, without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Intent {
    /// A model call of the inner loop.
    Model {
        /// The alias.
        alias: String,
        /// Turn within the iteration, from 0.
        turn: u32,
    },
    /// A tool call of the inner loop.
    Tool {
        /// Turn of the model call that made it.
        turn: u32,
        /// Place among the calls of that turn, from 0.
        index: u32,
        /// The AEGIS name of the tool.
        tool: String,
        /// The arguments as canonical JSON.
        arguments: BlobRef,
        /// The rule that permits it.
        rule: String,
        /// Whether it may be performed again after a crash.
        idempotent: bool,
        /// The envelope it came in, signed by the daemon.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        envelope: Option<SignedCall>,
    },
    /// A tool call from outside the inner loop. No turn waits for it, and it is never performed again.
    External {
        /// The AEGIS name of the tool.
        tool: String,
        /// The arguments as canonical JSON.
        arguments: BlobRef,
        /// The rule that permits it.
        rule: String,
        /// The envelope it came in, signed by its caller.
        envelope: SignedCall,
    },
    /// A connection to a host outside, of a program inside or of a tool. No turn waits for it, and it is never made
    /// again.
    Connect {
        /// The host as it was named: a name in ASCII, or an address.
        host: String,
        /// The port.
        port: u16,
        /// Method and path of a plain request, JSON; absent for a tunnel.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<BlobRef>,
        /// The rule that permits it.
        rule: String,
    },
    /// A judge's model call in validation.
    Judge {
        /// The alias.
        alias: String,
        /// The validator's place, from 0.
        validator: u32,
        /// The judge's place within the validator, from 0.
        judge: u32,
    },
}

impl Intent {
    /// Whether programs or tools ask for it beside the model's turns, several at a time.
    pub const fn is_beside_the_loop(&self) -> bool {
        matches!(self, Self::External { .. } | Self::Connect { .. })
    }
}

/// What came of an action, without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// A model (or judge) answered.
    Model {
        /// The answer: JSON of `{content, tool_calls}`.
        answer: BlobRef,
        /// Why it stopped.
        finish: FinishReason,
        /// How many tools it calls.
        tool_calls: u32,
        /// Tokens and cost.
        usage: Usage,
        /// Provider's name in the node's configuration.
        provider: String,
        /// The model that answered.
        model: String,
        /// The provider's fingerprint, if given.
        fingerprint: Option<String>,
        /// Attempts made.
        attempts: u32,
    },
    /// A model (or judge) gave no answer.
    ModelFailed {
        /// What kind of failure.
        failure: ModelFailureKind,
        /// The sentence for people.
        detail: BlobRef,
        /// Attempts made.
        attempts: u32,
    },
    /// A tool answered.
    Tool {
        /// The text given to the model.
        result: BlobRef,
        /// Whether the tool says it failed.
        is_error: bool,
        /// Exit code, for commands.
        exit_code: Option<i32>,
        /// Bytes written or read, shown in follow lines as `(234 bytes)`.
        size: Option<u64>,
        /// Set if a rule met only while it was performed refused the call or withheld its result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        denied: Option<LateDenial>,
    },
    /// A connection ended.
    Connection {
        /// Why.
        end: ConnectionEnd,
        /// The address that was connected to, if one was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// Bytes sent out.
        bytes_sent: u64,
        /// Bytes that came in.
        bytes_received: u64,
        /// The rule that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        denied: Option<LateDenial>,
        /// The reason in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<BlobRef>,
    },
}

/// Which rule refused a call that was under way already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateDenial {
    /// Why.
    pub code: DenialCode,
    /// The rule.
    pub rule: String,
}

/// The SMCP envelope of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCall {
    /// The session whose key signed it.
    pub session: String,
    /// SHA-256 of the signed bytes.
    pub nonce: Sha256,
    /// The whole envelope, JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<BlobRef>,
    /// True if known secrets were taken out of the text: then it is not what was signed any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

/// The daemon's own session in a sandbox generation: what a model calls in it is signed with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelSession {
    /// Its id, as calls name it.
    pub session: String,
    /// Its Ed25519 key, base64.
    pub public_key: String,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionEnd {
    /// Both sides were done.
    Done,
    /// Its addresses or first bytes are not permitted, or what was permitted is not any more.
    Denied,
    /// It could not be made, or broke.
    Failed,
    /// The daemon cut it: the sandbox ended.
    Cut,
    /// It met a limit on bytes or time.
    Limit,
}

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyRole {
    /// Everything that does not need a person.
    Operator,
    /// To look at everything of its tenant.
    Viewer,
    /// To act as one named agent.
    Agent,
}

impl KeyRole {
    /// The role's name, as it is written in commands and requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Agent => "agent",
        }
    }
    /// Reads a role's name; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Operator, Self::Viewer, Self::Agent].into_iter().find(|role| role.as_str() == text)
    }
}

/// Who was given a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "user", rename_all = "snake_case")]
pub enum SecretUser {
    /// A tool, for one call.
    Tool {
        /// Its AEGIS name.
        tool: String,
    },
    /// A tool server's process or connection.
    Server {
        /// Its name in the node's configuration.
        server: String,
    },
    /// A model provider.
    Provider {
        /// Its name in the node's configuration.
        provider: String,
    },
}

/// How a stored secret changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretChange {
    /// A value was set; former ones are gone.
    Set,
    /// A new version took the place of the former.
    Rotated,
    /// All its versions are gone.
    Deleted,
}

/// How tokens for a tool server were come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignIn {
    /// A person signed in.
    Person,
    /// A token that was about to end was renewed.
    Refresh,
    /// By the secret of the node's own client.
    ClientCredentials,
}

/// Why tokens for a tool server were destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignOut {
    /// A person signed out.
    Person,
    /// The authorization server no longer takes them.
    Refused,
    /// The server names another authorization server than the one that issued them.
    IssuerChanged,
    /// The server has another address than the one they were granted for.
    AddressChanged,
}

/// Why a tool server no longer answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerEnd {
    /// It could not be started or reached.
    NotStarted,
    /// It started, and did not speak the protocol.
    Protocol,
    /// Its process ended, or its connection closed.
    Ended,
    /// It gave no sign of life.
    Unresponsive,
    /// It sent a message larger than permitted.
    MessageTooLarge,
    /// It was told to.
    Told,
    /// Nobody called it for a while; the next call starts it again.
    Idle,
}

/// How something that a tool server asked of its own accord came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionEnd {
    /// It was answered.
    Answered,
    /// Whoever was asked declined, or nobody could be asked and the protocol knows that as declining.
    Declined,
    /// Whoever was asked gave it up.
    Cancelled,
    /// It was refused: nobody could be asked, or it is beyond a limit.
    Refused,
    /// Nobody answered in time.
    TimedOut,
}
