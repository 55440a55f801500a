//! Answers and refusals as HTTP says them.

use aegis_api::Problem;
use aegis_core::{Diagnosis, ErrorCode};
use aegis_kernel::Refusal;
use aegis_kernel::port::{JournalError, VolumeError};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// Seconds after which an overloaded daemon may be asked again.
const RETRY_AFTER_SECONDS: &str = "1";

/// A refusal on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) Box<Problem>);

impl Refused {
    /// A refusal under a more exact HTTP status than its code's.
    pub(crate) fn with_status(diagnosis: Diagnosis, status: StatusCode) -> Self {
        Self(Box::new(Problem::from(diagnosis).with_status(status.as_u16())))
    }
}

impl From<Diagnosis> for Refused {
    fn from(diagnosis: Diagnosis) -> Self {
        Self(Box::new(diagnosis.into()))
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(Box::new(Problem::of(refusal.problems, refusal.rendered)))
    }
}

impl From<JournalError> for Refused {
    fn from(error: JournalError) -> Self {
        let diagnosis = match error {
            JournalError::Overloaded | JournalError::DiskFull(_) => {
                Diagnosis::new(ErrorCode::Overloaded, error.to_string())
            }
            JournalError::Conflict { .. } => Diagnosis::new(ErrorCode::Conflict, error.to_string()),
            JournalError::BlobDestroyed(_) => Diagnosis::new(ErrorCode::NotFound, error.to_string()),
            JournalError::BlobDamaged(_) | JournalError::Store(_) => {
                tracing::error!(%error, "the journal failed");
                Diagnosis::internal(error.to_string())
                    .hint("see the daemon's log; `aegis audit verify` checks the record")
            }
        };
        diagnosis.into()
    }
}

impl From<VolumeError> for Refused {
    fn from(error: VolumeError) -> Self {
        let code = match &error {
            VolumeError::NotFound(_) => ErrorCode::NotFound,
            VolumeError::NotAllowed(_) => ErrorCode::PermissionDenied,
            VolumeError::Exists(_) | VolumeError::QuotaExceeded(_) => ErrorCode::Conflict,
            VolumeError::WrongKind(_) => ErrorCode::InvalidInput,
            VolumeError::CapabilityMissing(_) => ErrorCode::CapabilityMissing,
            VolumeError::Io(_) => ErrorCode::Internal,
        };
        Diagnosis::new(code, error.to_string()).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = body(status, Problem::MEDIA_TYPE, &self.0);
        let headers = response.headers_mut();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What a handler answers.
pub(crate) type Answer = Result<Response, Refused>;

/// `value` as JSON with status 200.
pub(crate) fn json(value: &impl Serialize) -> Response {
    body(StatusCode::OK, "application/json", value)
}

/// `value` as JSON with another status.
pub(crate) fn json_with(status: StatusCode, value: &impl Serialize) -> Response {
    body(status, "application/json", value)
}

/// Done, nothing to say.
pub(crate) fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn body(status: StatusCode, media_type: &'static str, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, media_type)], Body::from(bytes)).into_response(),
        // Only maps with keys that are no strings cannot be written, and no answer has one.
        Err(error) => {
            tracing::error!(%error, "an answer does not serialise");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_says_when_to_ask_again() {
        let response = Refused::from(JournalError::Overloaded).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], RETRY_AFTER_SECONDS);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn a_missing_credential_names_the_scheme() {
        let response = Refused::from(Diagnosis::new(ErrorCode::Unauthenticated, "x")).into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}
