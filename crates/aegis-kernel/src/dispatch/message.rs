//! The messages.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From the bootstrap.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Up {
    /// Ask for an answer to the prompt.
    Generate {
        agent_id: String,
        execution_id: String,
        iteration_number: u32,
        model_alias: String,
        prompt: String,
        #[serde(default)]
        messages: Vec<Value>,
    },
    /// What came of a command.
    DispatchResult {
        execution_id: String,
        dispatch_id: String,
        exit_code: i32,
        #[serde(default)]
        stdout: String,
        #[serde(default)]
        stderr: String,
        #[serde(default)]
        duration_ms: u64,
        #[serde(default)]
        truncated: bool,
    },
}

/// To the bootstrap.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Down {
    /// Run a command.
    Dispatch {
        dispatch_id: String,
        action: &'static str,
        command: String,
        args: Vec<String>,
        cwd: String,
        env_additions: std::collections::BTreeMap<String, String>,
        timeout_secs: u64,
        max_output_bytes: u64,
    },
    /// The answer; nothing follows.
    Final { content: String, tool_calls_executed: u32 },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_contracts_form() {
        let up: Up = serde_json::from_str(
            r#"{"type":"generate","agent_id":"a","execution_id":"e","iteration_number":1,"model_alias":"default",
                "prompt":"p","messages":[]}"#,
        )
        .unwrap();
        assert!(matches!(up, Up::Generate { iteration_number: 1, .. }));
        let down = Down::Final { content: "x".into(), tool_calls_executed: 2 };
        assert_eq!(
            serde_json::to_value(down).unwrap(),
            serde_json::json!({"type": "final", "content": "x", "tool_calls_executed": 2})
        );
    }
}
