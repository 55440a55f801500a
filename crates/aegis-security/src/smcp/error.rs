//! Refusals as the protocol knows them (contract, section 5): a number, a name, an HTTP status and a wire shape.

use aegis_core::Denial;
use serde_json::{Value, json};

use super::envelope::{Protocol, RequestId};

/// The protocol's codes. The list is closed: a denial that has none of its own is [`SmcpCode::ToolNotAllowed`], with
/// its stable name beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SmcpCode {
    /// The message has not the shape the protocol gives it, or another protocol's name.
    InvalidEnvelope,
    /// The envelope was not signed by the session's key.
    InvalidSignature,
    /// The token's time is over.
    ExpiredToken,
    /// The token is not one that this node issued for this place.
    InvalidToken,
    /// The envelope was seen before, or made too long before or after now.
    ReplayDetected,
    /// The token's session is over, or was never opened.
    UnknownSession,
    /// No rule permits the call, or it was refused for a reason that [`SmcpError::reason`] names.
    ToolNotAllowed,
    /// A deny list names the tool.
    ToolExplicitlyDenied,
    /// A path argument lies outside what is permitted.
    PathNotAllowed,
    /// A domain is not permitted.
    DomainNotAllowed,
    /// A command, or its first argument, is not permitted.
    CommandNotAllowed,
    /// Too many calls in the window, or too many at once.
    RateLimitExceeded,
    /// The result is larger than permitted.
    OutputSizeExceeded,
    /// Nothing is known of the workload that asks for a session.
    UnknownWorkload,
    /// The requested scope is not the execution's security context.
    ScopeNotFound,
    /// The workload could not prove itself, or did so before.
    WorkloadVerificationFailed,
}

impl SmcpCode {
    /// All codes, ascending.
    pub const ALL: [Self; 16] = [
        Self::InvalidEnvelope,
        Self::InvalidSignature,
        Self::ExpiredToken,
        Self::InvalidToken,
        Self::ReplayDetected,
        Self::UnknownSession,
        Self::ToolNotAllowed,
        Self::ToolExplicitlyDenied,
        Self::PathNotAllowed,
        Self::DomainNotAllowed,
        Self::CommandNotAllowed,
        Self::RateLimitExceeded,
        Self::OutputSizeExceeded,
        Self::UnknownWorkload,
        Self::ScopeNotFound,
        Self::WorkloadVerificationFailed,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Self::InvalidEnvelope => 1000,
            Self::InvalidSignature => 1001,
            Self::ExpiredToken => 1002,
            Self::InvalidToken => 1003,
            Self::ReplayDetected => 1004,
            Self::UnknownSession => 1005,
            Self::ToolNotAllowed => 2000,
            Self::ToolExplicitlyDenied => 2001,
            Self::PathNotAllowed => 2002,
            Self::DomainNotAllowed => 2003,
            Self::CommandNotAllowed => 2004,
            Self::RateLimitExceeded => 2005,
            Self::OutputSizeExceeded => 2006,
            Self::UnknownWorkload => 3000,
            Self::ScopeNotFound => 3001,
            Self::WorkloadVerificationFailed => 3002,
        }
    }

    /// The stable name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidEnvelope => "INVALID_ENVELOPE",
            Self::InvalidSignature => "INVALID_SIGNATURE",
            Self::ExpiredToken => "EXPIRED_TOKEN",
            Self::InvalidToken => "INVALID_TOKEN",
            Self::ReplayDetected => "REPLAY_DETECTED",
            Self::UnknownSession => "UNKNOWN_SESSION",
            Self::ToolNotAllowed => "TOOL_NOT_ALLOWED",
            Self::ToolExplicitlyDenied => "TOOL_EXPLICITLY_DENIED",
            Self::PathNotAllowed => "PATH_NOT_ALLOWED",
            Self::DomainNotAllowed => "DOMAIN_NOT_ALLOWED",
            Self::CommandNotAllowed => "COMMAND_NOT_ALLOWED",
            Self::RateLimitExceeded => "RATE_LIMIT_EXCEEDED",
            Self::OutputSizeExceeded => "OUTPUT_SIZE_EXCEEDED",
            Self::UnknownWorkload => "UNKNOWN_WORKLOAD",
            Self::ScopeNotFound => "SCOPE_NOT_FOUND",
            Self::WorkloadVerificationFailed => "WORKLOAD_VERIFICATION_FAILED",
        }
    }

    /// The HTTP status.
    pub const fn http_status(self) -> u16 {
        match self.number() {
            1000 => 400,
            1001..=1005 => 401,
            2005 => 429,
            _ => 403,
        }
    }
}

/// A refusal, with all that its answer needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct SmcpError {
    /// Why, as a program reads it.
    pub code: SmcpCode,
    /// Why, as a person reads it: a lower-case fragment.
    pub message: String,
    /// The stable name of a denial that has no code of its own.
    pub reason: Option<&'static str>,
    /// The refused request's id, where one could be read.
    pub request_id: Option<RequestId>,
    /// The protocol's name as the request had it.
    pub protocol: Protocol,
}

impl SmcpError {
    /// A refusal that answers no known request.
    pub fn new(code: SmcpCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reason: None, request_id: None, protocol: Protocol::default() }
    }

    /// A message that has not the protocol's shape.
    pub(super) fn shape(message: impl Into<String>) -> Self {
        Self::new(SmcpCode::InvalidEnvelope, message)
    }

    /// The same refusal as the answer to a request.
    #[must_use]
    pub fn answering(mut self, protocol: Protocol, request_id: &RequestId) -> Self {
        self.protocol = protocol;
        self.request_id = Some(request_id.clone());
        self
    }

    /// The body of the answer: `{protocol, status, error}`. Its HTTP status is that of the code.
    pub fn to_json(&self) -> Value {
        let mut error = json!({
            "code": self.code.number(),
            "name": self.code.name(),
            "message": self.message,
            "request_id": self.request_id.as_ref().map_or(Value::Null, RequestId::to_json),
        });
        if let (Some(reason), Some(error)) = (self.reason, error.as_object_mut()) {
            error.insert("reason".to_owned(), reason.into());
        }
        json!({ "protocol": self.protocol.name(), "status": "error", "error": error })
    }
}

impl From<&Denial> for SmcpError {
    fn from(denial: &Denial) -> Self {
        // By number, so that a denial which is added later is 2000 with its name until it has a code.
        let number = denial.code.number();
        let code = SmcpCode::ALL.into_iter().find(|code| code.number() == number);
        let code = code.unwrap_or(SmcpCode::ToolNotAllowed);
        let named = denial.code.name() != code.name();
        Self {
            reason: named.then(|| denial.code.name()),
            ..Self::new(code, format!("{}; {}", denial.message, denial.remedy))
        }
    }
}

#[cfg(test)]
mod tests {
    use aegis_core::DenialCode;

    use super::*;

    fn denied(code: DenialCode) -> SmcpError {
        SmcpError::from(&Denial {
            code,
            rule: "context:ci/deny_list:0".to_owned(),
            message: "`x` is not permitted".to_owned(),
            remedy: "ask the operator".to_owned(),
        })
    }

    /// Typed from the contract, section 5.
    #[test]
    fn codes_have_the_numbers_names_and_statuses_of_the_contract() {
        let listed = [
            (1000, "INVALID_ENVELOPE", 400),
            (1001, "INVALID_SIGNATURE", 401),
            (1002, "EXPIRED_TOKEN", 401),
            (1003, "INVALID_TOKEN", 401),
            (1004, "REPLAY_DETECTED", 401),
            (1005, "UNKNOWN_SESSION", 401),
            (2000, "TOOL_NOT_ALLOWED", 403),
            (2001, "TOOL_EXPLICITLY_DENIED", 403),
            (2002, "PATH_NOT_ALLOWED", 403),
            (2003, "DOMAIN_NOT_ALLOWED", 403),
            (2004, "COMMAND_NOT_ALLOWED", 403),
            (2005, "RATE_LIMIT_EXCEEDED", 429),
            (2006, "OUTPUT_SIZE_EXCEEDED", 403),
            (3000, "UNKNOWN_WORKLOAD", 403),
            (3001, "SCOPE_NOT_FOUND", 403),
            (3002, "WORKLOAD_VERIFICATION_FAILED", 403),
        ];
        let ours = SmcpCode::ALL.map(|code| (code.number(), code.name(), code.http_status()));
        assert_eq!(ours, listed);
    }

    #[test]
    fn denials_keep_their_code_or_their_name() {
        let rate = denied(DenialCode::RateLimitExceeded);
        assert_eq!((rate.code, rate.reason), (SmcpCode::RateLimitExceeded, None));
        let tool = denied(DenialCode::ToolNotAllowed);
        assert_eq!((tool.code, tool.reason), (SmcpCode::ToolNotAllowed, None));
        let approval = denied(DenialCode::ApprovalRequired);
        assert_eq!((approval.code, approval.reason), (SmcpCode::ToolNotAllowed, Some("APPROVAL_REQUIRED")));
    }

    #[test]
    fn the_answer_has_the_shape_of_the_contract() {
        let id = RequestId::Text("a".to_owned());
        let error = denied(DenialCode::InvalidArguments).answering(Protocol::Seal, &id);
        assert_eq!(
            error.to_json(),
            json!({
                "protocol": "seal/v1", "status": "error",
                "error": {
                    "code": 2000, "name": "TOOL_NOT_ALLOWED", "message": "`x` is not permitted; ask the operator",
                    "request_id": "a", "reason": "INVALID_ARGUMENTS",
                },
            })
        );
        let unknown = SmcpError::shape("not JSON").to_json();
        assert_eq!(unknown["error"]["request_id"], Value::Null);
        assert_eq!(unknown["protocol"], "smcp/v1");
        assert!(unknown["error"].get("reason").is_none());
    }
}
