//! What an execution was promised when it was created.

use serde::{Deserialize, Serialize};

/// The limits of one execution's loop, fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopPlan {
    /// Most iterations; 1 for one-shot.
    pub max_iterations: u32,
    /// Time for one iteration, in milliseconds; down time of the daemon does not count.
    pub iteration_timeout_ms: u64,
    /// Time for the whole execution, in milliseconds; down time counts.
    pub total_timeout_ms: u64,
    /// How many validators judge each iteration.
    pub validators: u32,
}

/// Why an iteration or execution did not reach its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// No iteration passed its validators.
    ValidationExhausted,
    /// The iteration took too long.
    IterationTimeout,
    /// The execution took too long.
    ExecutionTimeout,
    /// The model gave no answer.
    ModelFailed,
    /// The model cannot answer such requests: unknown alias, refused credential or request.
    ModelRefused,
    /// The bootstrap ended without an answer, or with a code other than 0.
    BootstrapFailed,
    /// The sandbox could not be started.
    SandboxFailed,
    /// The process tree used more memory than allowed.
    OutOfMemory,
    /// The inner loop took more turns than allowed.
    TurnsExhausted,
    /// The conversation of the inner loop grew larger than allowed.
    ConversationTooLong,
    /// Daemon after daemon ended while the execution ran, and it came no further.
    ResumesExhausted,
    /// The prompt template could not be rendered.
    TemplateFailed,
    /// What came up the control socket was not the protocol's.
    ProtocolViolation,
    /// A volume could not be made or mounted.
    VolumeFailed,
    /// A validator could not be run.
    ValidatorFailed,
    /// This node lacks a part the manifest needs.
    CapabilityMissing,
    /// A fault of AEGIS itself.
    Internal,
}

impl FailureReason {
    /// Whether another iteration might do better. What the node or the manifest lacks does not mend itself.
    pub const fn may_be_retried(self) -> bool {
        matches!(
            self,
            Self::ValidationExhausted
                | Self::IterationTimeout
                | Self::ModelFailed
                | Self::BootstrapFailed
                | Self::OutOfMemory
                | Self::TurnsExhausted
                | Self::ConversationTooLong
                | Self::ProtocolViolation
        )
    }
    /// The words people see in follow lines and errors.
    pub const fn words(self) -> &'static str {
        match self {
            Self::ValidationExhausted => "no iteration passed validation",
            Self::IterationTimeout => "the iteration took longer than `execution.iteration_timeout`",
            Self::ExecutionTimeout => "the execution took longer than `security.resources.timeout`",
            Self::ModelFailed => "the model gave no answer",
            Self::ModelRefused => "the model refused the request",
            Self::BootstrapFailed => "the agent's bootstrap failed",
            Self::SandboxFailed => "the sandbox could not be started",
            Self::OutOfMemory => "the agent used more memory than `security.resources.memory`",
            Self::TurnsExhausted => "the model went on calling tools past the limit of turns",
            Self::ConversationTooLong => "the conversation grew larger than one request may be",
            Self::ResumesExhausted => "the daemon ended again and again while the execution ran",
            Self::TemplateFailed => "the prompt template could not be rendered",
            Self::ProtocolViolation => "the bootstrap broke the dispatch protocol",
            Self::VolumeFailed => "a volume could not be made ready",
            Self::ValidatorFailed => "a validator could not be run",
            Self::CapabilityMissing => "this node lacks a part the manifest needs",
            Self::Internal => "an internal error",
        }
    }
}
