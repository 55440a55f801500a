//! `cmd.run`: a command as an argument vector, never a shell string.

use std::time::Duration;

use aegis_core::{ToolResult, ToolSchema};
use serde_json::{Value, json};

use crate::dispatch::Up;
use crate::port::{Governed, GovernedKind, ToolFacts};

/// Time a command has unless it asks for another.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Most time a command may ask for.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Its name.
pub(crate) const COMMAND_RUN: &str = "cmd.run";

/// What `cmd.run` is.
pub(crate) fn command_run_facts() -> ToolFacts {
    ToolFacts {
        schema: ToolSchema {
            name: COMMAND_RUN.to_owned(),
            description:
                "Runs a program inside the sandbox and gives its exit code and output. There is no shell: \
                          pass the program and each argument separately."
                    .to_owned(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "command": {"type": "string", "description": "The program, such as `python3`", "minLength": 1},
                    "args": {"type": "array", "items": {"type": "string"}, "description": "Its arguments, in order"},
                    "cwd": {"type": "string", "description": "Working directory; `/workspace` unless given"},
                    "timeout_secs": {"type": "integer", "minimum": 1, "maximum": TIMEOUT_MAX.as_secs()},
                },
                "required": ["command"],
                "additionalProperties": false,
            }),
        },
        idempotent: false,
        foreign: false,
        governed: vec![Governed { argument: "command".into(), kind: GovernedKind::Command }],
    }
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) timeout: Duration,
}

impl Command {
    /// Reads the arguments of a call, which the schema has passed.
    pub(crate) fn parse(arguments: &Value) -> Result<Self, String> {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).map(str::to_owned);
        let program = text("command").ok_or("`command` is missing")?;
        let args = match arguments.get("args") {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or("`args` must be strings"))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err("`args` must be a list of strings".to_owned()),
        };
        let timeout = arguments
            .get("timeout_secs")
            .and_then(Value::as_u64)
            .map_or(TIMEOUT_DEFAULT, |secs| Duration::from_secs(secs.max(1)).min(TIMEOUT_MAX));
        if program.contains('\0') || args.iter().any(|arg| arg.contains('\0')) {
            return Err("a NUL character is in the command".to_owned());
        }
        Ok(Self { program, args, cwd: text("cwd").unwrap_or_else(|| "/workspace".to_owned()), timeout })
    }
}

/// The result the model is given, if `up` is the answer to the dispatch; `None` if it is anything else.
pub(crate) fn command_result(up: &Up, execution: &str, dispatch: &str) -> Option<ToolResult> {
    let Up::DispatchResult { execution_id, dispatch_id, exit_code, stdout, stderr, truncated, .. } = up
    else {
        return None;
    };
    if dispatch_id != dispatch || execution_id != execution {
        return None;
    }
    let mut content = format!("exit_code: {exit_code}\n");
    if *truncated {
        content.push_str("(output was cut: only its end is shown)\n");
    }
    for (name, text) in [("stdout", stdout), ("stderr", stderr)] {
        if !text.is_empty() {
            content.push_str(&format!("{name}:\n{text}"));
            if !text.ends_with('\n') {
                content.push('\n');
            }
        }
    }
    Some(ToolResult { content, is_error: *exit_code != 0, size: None, exit_code: Some(*exit_code) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(dispatch_id: &str) -> Up {
        Up::DispatchResult {
            execution_id: "e".into(),
            dispatch_id: dispatch_id.into(),
            exit_code: 3,
            stdout: "out".into(),
            stderr: String::new(),
            duration_ms: 1,
            truncated: false,
        }
    }

    #[test]
    fn only_the_dispatch_that_was_sent_is_answered() {
        assert!(command_result(&result("other"), "e", "mine").is_none());
        assert!(command_result(&result("mine"), "other", "mine").is_none());
        let given = command_result(&result("mine"), "e", "mine").unwrap();
        assert_eq!((given.is_error, given.exit_code), (true, Some(3)));
        assert_eq!(given.content, "exit_code: 3\nstdout:\nout\n");
    }

    #[test]
    fn commands_are_vectors() {
        let parse = |value| Command::parse(&value);
        assert!(parse(json!({"command": "a", "args": "b c"})).is_err());
        assert!(parse(json!({"command": "a", "args": ["b\0"]})).is_err());
        assert!(parse(json!({})).is_err());
        let command = parse(json!({"command": "sh; rm", "args": ["$(x)"]})).unwrap();
        assert_eq!((command.program.as_str(), command.args.as_slice()), ("sh; rm", &["$(x)".to_owned()][..]));
    }
}
