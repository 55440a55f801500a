//! Errors as users meet them: one stable code, one sentence, one remedy.

use serde::{Deserialize, Serialize};

/// Stable names of errors; the same on CLI, HTTP and in the journal. Each has a page in the docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No such thing.
    NotFound,
    /// Manifest, configuration or arguments are wrong.
    InvalidInput,
    /// The caller has no credential, or a wrong one.
    Unauthenticated,
    /// The caller may not.
    PermissionDenied,
    /// The state of things forbids it.
    Conflict,
    /// This node cannot enforce or do what was asked.
    CapabilityMissing,
    /// Too much at once; try later.
    Overloaded,
    /// The daemon cannot be reached.
    Unreachable,
    /// The awaited run failed.
    RunFailed,
    /// The awaited run was cancelled.
    RunCancelled,
    /// A fault of AEGIS itself.
    Internal,
}

impl ErrorCode {
    /// The process exit code (contract, section 1).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::NotFound => 1,
            Self::InvalidInput | Self::CapabilityMissing => 2,
            Self::Unauthenticated | Self::PermissionDenied => 3,
            Self::Conflict => 4,
            Self::Unreachable | Self::Overloaded => 5,
            Self::RunFailed => 6,
            Self::RunCancelled => 7,
            Self::Internal => 10,
        }
    }
    /// The HTTP status.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::InvalidInput => 400,
            Self::CapabilityMissing => 422,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::Conflict | Self::RunFailed | Self::RunCancelled => 409,
            Self::Overloaded | Self::Unreachable => 503,
            Self::Internal => 500,
        }
    }
    /// The stable name, as it appears on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::InvalidInput => "invalid_input",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::Conflict => "conflict",
            Self::CapabilityMissing => "capability_missing",
            Self::Overloaded => "overloaded",
            Self::Unreachable => "unreachable",
            Self::RunFailed => "run_failed",
            Self::RunCancelled => "run_cancelled",
            Self::Internal => "internal",
        }
    }
}

/// An error on its way to a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Diagnosis {
    /// The stable code.
    pub code: ErrorCode,
    /// What is wrong and where; a lower-case fragment with the user's input in backticks.
    pub message: String,
    /// How to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Diagnosis {
    /// An error without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }
    /// The same error with a remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// `kind` called `id` does not exist.
    pub fn not_found(kind: &str, id: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("no {kind} `{id}`"))
    }
    /// A part this node does not have or cannot enforce, by its manifest path or command.
    pub fn capability_missing(what: impl std::fmt::Display, remedy: impl Into<String>) -> Self {
        Self::new(ErrorCode::CapabilityMissing, format!("capability_missing: {what}")).hint(remedy)
    }
    /// A fault of AEGIS itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }
}
