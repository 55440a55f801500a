//! Errors on the wire: problem documents (RFC 9457) with our `code` and `error`.

use aegis_core::{Diagnosis, ErrorCode};
use serde::{Deserialize, Serialize};

/// A problem document. Media type `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank`: the meaning is in `code`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong and where.
    pub detail: String,
    /// The stable code.
    pub code: ErrorCode,
    /// The same as `detail`, for clients that look for `error`.
    pub error: String,
    /// How to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// All problems, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Diagnosis>,
    /// The problems with the document's lines, for a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendered: Option<String>,
}

impl Problem {
    /// The media type of problem documents.
    pub const MEDIA_TYPE: &str = "application/problem+json";

    /// The problem document of several problems; the first gives code and status.
    pub fn of(problems: Vec<Diagnosis>, rendered: Option<String>) -> Self {
        let Some(first) = problems.first() else {
            return Diagnosis::internal("a refusal without a problem").into();
        };
        let mut problem = Self::from(first.clone());
        if problems.len() > 1 {
            let all: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            problem.detail = all.join("; ");
            problem.error.clone_from(&problem.detail);
        }
        problem.problems = problems;
        problem.rendered = rendered;
        problem
    }

    /// The same problem under another HTTP status, where HTTP knows a more exact one than the code's.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

impl From<Diagnosis> for Problem {
    fn from(diagnosis: Diagnosis) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: diagnosis.code.name().replace('_', " "),
            status: diagnosis.code.http_status(),
            detail: diagnosis.message.clone(),
            code: diagnosis.code,
            error: diagnosis.message,
            hint: diagnosis.hint,
            problems: Vec::new(),
            rendered: None,
        }
    }
}

impl From<Problem> for Diagnosis {
    fn from(problem: Problem) -> Self {
        Self { code: problem.code, message: problem.detail, hint: problem.hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_problem_has_the_fields_of_rfc_9457_and_ours() {
        let problem = Problem::from(Diagnosis::not_found("agent", "x").hint("see `aegis agent list`"));
        assert_eq!(
            serde_json::to_value(problem).unwrap(),
            json!({"type": "about:blank", "title": "not found", "status": 404, "detail": "no agent `x`",
                   "code": "not_found", "error": "no agent `x`", "hint": "see `aegis agent list`"})
        );
    }

    #[test]
    fn several_problems_are_all_told_and_the_first_gives_the_code() {
        let problems = vec![
            Diagnosis::new(ErrorCode::InvalidInput, "spec.a: wrong"),
            Diagnosis::new(ErrorCode::InvalidInput, "spec.b: wrong"),
        ];
        let problem = Problem::of(problems.clone(), Some("rendered".to_owned()));
        assert_eq!((problem.status, problem.code), (400, ErrorCode::InvalidInput));
        assert_eq!(problem.detail, "spec.a: wrong; spec.b: wrong");
        assert_eq!(problem.problems, problems);
    }
}
