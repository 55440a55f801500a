//! Errors as the command line tells them: on standard error, in words or as one JSON object.

use std::io::Write as _;
use std::process::ExitCode;

use aegis_api::{CallError, printable_json, printable_line, printable_text};
use aegis_core::{Diagnosis, ErrorCode};
use serde_json::json;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell.
    Told(Box<CallError>),
    /// The reader of our output is gone: nothing to tell, and nobody to tell it to.
    BrokenPipe,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Told(Box::new(error))
    }
}

impl From<Diagnosis> for Failure {
    fn from(diagnosis: Diagnosis) -> Self {
        CallError::from(diagnosis).into()
    }
}

impl From<std::io::Error> for Failure {
    /// An error of writing output.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Diagnosis::internal(format!("the output cannot be written: {error}")).into()
    }
}

impl Failure {
    /// Tells it and gives the exit code.
    pub(crate) fn tell(&self, json: bool) -> ExitCode {
        let Self::Told(error) = self else { return ExitCode::SUCCESS };
        let text = if json { as_json(error) } else { as_text(error) };
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        ExitCode::from(error.diagnosis.code.exit_code())
    }
}

fn as_json(error: &CallError) -> String {
    let diagnosis = &error.diagnosis;
    let mut object = json!({"code": diagnosis.code, "error": diagnosis.message});
    if let Some(map) = object.as_object_mut() {
        if let Some(hint) = &diagnosis.hint {
            map.insert("hint".to_owned(), json!(hint));
        }
        if !error.problems.is_empty() {
            map.insert("problems".to_owned(), json!(error.problems));
        }
        map.insert("exit_code".to_owned(), json!(diagnosis.code.exit_code()));
    }
    format!("{}\n", printable_json(&object.to_string()))
}

fn as_text(error: &CallError) -> String {
    if let Some(rendered) = &error.rendered {
        return format!("{}\n", printable_text(rendered.trim_end()));
    }
    let problems =
        if error.problems.is_empty() { std::slice::from_ref(&error.diagnosis) } else { &error.problems };
    let mut text = String::new();
    for problem in problems {
        text.push_str(&format!("error: {}\n", printable_line(&problem.message)));
        if let Some(hint) = &problem.hint {
            text.push_str(&format!("  hint: {}\n", printable_line(hint)));
        }
    }
    text
}

/// A wrong argument.
pub(crate) fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Failure {
    Diagnosis::new(ErrorCode::InvalidInput, message).hint(hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown() -> CallError {
        Diagnosis::not_found("agent", "x\u{1b}[2J").hint("see `aegis agent list`").into()
    }

    #[test]
    fn words_name_the_remedy_and_no_escape_sequence_passes() {
        assert_eq!(as_text(&unknown()), "error: no agent `x\\u{1b}[2J`\n  hint: see `aegis agent list`\n");
    }

    #[test]
    fn json_is_one_object_on_one_line() {
        let text = as_json(&unknown());
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["code"], &value["exit_code"]), (&json!("not_found"), &json!(1)));
    }

    #[test]
    fn several_problems_are_all_told() {
        let mut error = unknown();
        error.problems = vec![
            Diagnosis::new(ErrorCode::InvalidInput, "a"),
            Diagnosis::new(ErrorCode::InvalidInput, "b").hint("c"),
        ];
        assert_eq!(as_text(&error), "error: a\nerror: b\n  hint: c\n");
    }
}
