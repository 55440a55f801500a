//! Why a provider gave no answer, and how that is told to people.

use std::fmt::Write;
use std::time::Duration;

use aegis_core::ModelFailureKind;
use aegis_core::limits::{MODEL_ANSWER_BYTES_MAX, TOOL_CALLS_PER_TURN_MAX};

/// Most characters of a provider's own words that are passed on.
const DETAIL_CHARS_MAX: usize = 300;

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No connection to `address`.
    Unreachable { address: String, cause: String },
    /// Nothing came for this long.
    Silent(Duration),
    /// The answer stopped in the middle.
    Broken,
    /// A status other than success.
    Status { status: u16, detail: String, retry_after: Option<Duration> },
    /// An error in the place of an answer, under a status of success.
    ErrorAnswer(String),
    /// Not what the protocol says.
    Malformed(String),
    /// Larger than allowed.
    TooLarge,
    /// More tool calls than allowed.
    TooManyCalls,
    /// No recording fits; the text says which one is nearest.
    NotRecorded(String),
    /// The time of the request is over.
    Deadline(Duration),
    /// The caller wants no answer any more.
    Cancelled,
}

impl Fault {
    pub(crate) const fn kind(&self) -> ModelFailureKind {
        match self {
            Self::Unreachable { .. } | Self::Broken => ModelFailureKind::Connection,
            Self::Silent(_) | Self::Deadline(_) => ModelFailureKind::Timeout,
            Self::Status { status, .. } => match *status {
                401 | 403 => ModelFailureKind::Authentication,
                429 => ModelFailureKind::RateLimited,
                408 => ModelFailureKind::Timeout,
                500..=599 => ModelFailureKind::ServerError,
                _ => ModelFailureKind::BadRequest,
            },
            Self::ErrorAnswer(_) => ModelFailureKind::ServerError,
            Self::Malformed(_) => ModelFailureKind::Malformed,
            Self::TooLarge | Self::TooManyCalls => ModelFailureKind::TooLarge,
            Self::NotRecorded(_) => ModelFailureKind::NotRecorded,
            Self::Cancelled => ModelFailureKind::Cancelled,
        }
    }

    /// True if the same request may succeed a moment later. A model call has no effect beyond its price, so one that
    /// broke in the middle may be made again.
    pub(crate) const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent(_) | Self::Broken | Self::ErrorAnswer(_) => true,
            Self::Status { status, .. } => matches!(*status, 408 | 409 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// What happened, to be put behind the provider's name.
    pub(crate) fn happened(&self) -> String {
        match self {
            Self::Unreachable { address, cause } => format!("could not be reached at {address}: {cause}"),
            Self::Silent(wait) => format!("said nothing for {} s", seconds(*wait)),
            Self::Broken => "broke off in the middle of its answer".to_owned(),
            Self::Status { status, detail, .. } => {
                let mut text = format!("answered {status}{}", meaning(*status));
                if !detail.is_empty() && !matches!(status, 401 | 403) {
                    let _ = write!(text, ": {detail}");
                }
                text
            }
            Self::ErrorAnswer(detail) => format!("answered with an error: {detail}"),
            Self::Malformed(what) => format!("answered what its protocol does not allow: {what}"),
            Self::TooLarge => {
                format!(
                    "answered more than the {} MiB that are taken from a model",
                    MODEL_ANSWER_BYTES_MAX >> 20
                )
            }
            Self::TooManyCalls => {
                format!("called more than the {TOOL_CALLS_PER_TURN_MAX} tools that are taken from one turn")
            }
            Self::NotRecorded(what) => what.clone(),
            Self::Deadline(limit) => format!("gave no answer within the {} s of this call", seconds(*limit)),
            Self::Cancelled => "was not waited for: the call was cancelled".to_owned(),
        }
    }

    /// What to do about it; empty if nothing is to be done.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "check that it runs, and its `endpoint` in the node configuration",
            Self::Silent(_) => "check its load, or take a smaller model",
            Self::Deadline(_) => "raise `llm_timeout_seconds`, or take a faster model",
            Self::Broken => "check its log and the network between",
            Self::Status { status, .. } => match *status {
                401 | 403 => "check its `api_key` in the node configuration",
                404 => "check its `endpoint` and `model` in the node configuration",
                429 => "wait, lower the load, or set `llm_selection.fallback_provider`",
                300..=399 => "set its `endpoint` to the address itself, redirects are not followed",
                408 | 409 | 425 | 500..=599 => "try again later, or set `llm_selection.fallback_provider`",
                _ => "check that the model supports what the manifest asks of it",
            },
            Self::ErrorAnswer(_) => "try again later, or set `llm_selection.fallback_provider`",
            Self::Malformed(_) => {
                "check that its `endpoint` and `type` in the node configuration fit together"
            }
            Self::TooLarge => "ask for a shorter answer",
            Self::TooManyCalls => "ask for fewer steps at once",
            Self::NotRecorded(_) => "record it again with `just record`, or take a live model",
            Self::Cancelled => "",
        }
    }

    /// The wait the provider asks for.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

const fn meaning(status: u16) -> &'static str {
    match status {
        300..=399 => " (redirect)",
        400 | 422 => " (bad request)",
        401 | 403 => " (credential refused)",
        404 => " (not found)",
        408 => " (timeout)",
        413 => " (request too large)",
        429 => " (too many requests)",
        529 => " (overloaded)",
        500..=599 => " (server error)",
        _ => "",
    }
}

/// Whole seconds where it is whole, else with a decimal.
fn seconds(duration: Duration) -> String {
    let tenths = duration.as_millis().div_ceil(100);
    if tenths.is_multiple_of(10) {
        (tenths / 10).to_string()
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

/// A provider's own words made fit for people: bounded, on one line, no control or direction characters, no secret.
pub(crate) fn words(text: &str, secret: Option<&str>) -> String {
    let text = match secret.filter(|secret| !secret.is_empty()) {
        Some(secret) => text.replace(secret, "[secret]"),
        None => text.to_owned(),
    };
    let mut shown = String::new();
    for c in text.trim().chars().take(DETAIL_CHARS_MAX) {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.extend(c.escape_unicode());
            }
            c if c.is_control() => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    if text.trim().chars().nth(DETAIL_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_tame() {
        assert_eq!(
            words("bad key sk-1\nnow\u{1b}[2J \u{202e}x", Some("sk-1")),
            "bad key [secret] now\\u{1b}[2J \\u{202e}x"
        );
        assert_eq!(words(&"é".repeat(400), None).chars().count(), DETAIL_CHARS_MAX + 1);
    }
}
