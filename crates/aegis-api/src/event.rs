//! What happens in an execution, as event streams tell it (contract, section 4). Names and fields are those of the
//! gRPC stream; the kinds after `execution_failed` continue it. Times are RFC 3339, UTC.

use serde::{Deserialize, Serialize};

/// The `data` of a server-sent event. Its `event` field repeats the event's name, so that one line of
/// `--follow --output json` says what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are the contract's and say what they are")]
pub enum ExecutionEvent {
    /// The scheduler let it run.
    ExecutionStarted { execution_id: String, agent_id: String, started_at: String },
    /// An iteration began; `action` is `generate`, or `refine` once it is told what was wrong.
    IterationStarted { execution_id: String, iteration_number: u32, action: String, started_at: String },
    /// The inner loop ended in an answer.
    IterationOutput { execution_id: String, iteration_number: u32, output: String },
    /// An iteration ended with an answer, whatever its validators say.
    IterationCompleted { execution_id: String, iteration_number: u32, output: String, completed_at: String },
    /// An iteration ended by an error or timeout.
    IterationFailed { execution_id: String, iteration_number: u32, error: EventError, failed_at: String },
    /// The next iteration was given what was wrong; `code_diff` is empty where no code was changed.
    RefinementApplied {
        execution_id: String,
        iteration_number: u32,
        code_diff: String,
        previous_error: String,
        applied_at: String,
    },
    /// The run reached its goal.
    ExecutionCompleted {
        execution_id: String,
        final_output: String,
        total_iterations: u32,
        completed_at: String,
        duration_ms: u64,
    },
    /// The run did not reach its goal.
    ExecutionFailed {
        execution_id: String,
        reason: String,
        error_type: String,
        total_iterations: u32,
        failed_at: String,
    },
    /// A tool was called, or refused.
    ToolInvoked {
        execution_id: String,
        iteration_number: u32,
        tool: String,
        first_argument: String,
        summary: String,
        is_error: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        denied: Option<Denied>,
        /// What the model was given; only on a verbose stream.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<String>,
        invoked_at: String,
    },
    /// The validators of an iteration gave their verdicts.
    ValidationCompleted {
        execution_id: String,
        iteration_number: u32,
        results: Vec<ValidationResult>,
        score: f64,
        confidence: f64,
        passed: bool,
        completed_at: String,
    },
    /// The run was stopped on request.
    ExecutionCancelled { execution_id: String, total_iterations: u32, cancelled_at: String },
    /// The prompt was rendered; only on a verbose stream.
    IterationPrompted { execution_id: String, iteration_number: u32, prompt_bytes: u64, prompted_at: String },
    /// A model answered; only on a verbose stream.
    ModelAnswered {
        execution_id: String,
        iteration_number: u32,
        alias: String,
        model: String,
        input_tokens: u64,
        output_tokens: u64,
        tool_calls: u32,
        duration_ms: u64,
        answered_at: String,
    },
}

/// What went wrong in an iteration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventError {
    /// The stable reason, such as `iteration_timeout`.
    pub error_type: String,
    /// Why, in words.
    pub message: String,
    /// What the program wrote to standard error, where there is some; else empty.
    #[serde(default)]
    pub stacktrace: String,
}

/// A refusal by the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The stable code, such as `PATH_NOT_ALLOWED`.
    pub code: String,
    /// The rule that refused.
    pub rule: String,
}

/// One validator's finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationResult {
    /// The validator's kind.
    pub validator: String,
    /// Whether it passed.
    pub passed: bool,
    /// 0 to 1.
    pub score: f64,
    /// 0 to 1.
    pub confidence: f64,
    /// Why.
    pub reasoning: String,
}

impl ExecutionEvent {
    /// The event's name on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ExecutionStarted { .. } => "execution_started",
            Self::IterationStarted { .. } => "iteration_started",
            Self::IterationOutput { .. } => "iteration_output",
            Self::IterationCompleted { .. } => "iteration_completed",
            Self::IterationFailed { .. } => "iteration_failed",
            Self::RefinementApplied { .. } => "refinement_applied",
            Self::ExecutionCompleted { .. } => "execution_completed",
            Self::ExecutionFailed { .. } => "execution_failed",
            Self::ToolInvoked { .. } => "tool_invoked",
            Self::ValidationCompleted { .. } => "validation_completed",
            Self::ExecutionCancelled { .. } => "execution_cancelled",
            Self::IterationPrompted { .. } => "iteration_prompted",
            Self::ModelAnswered { .. } => "model_answered",
        }
    }

    /// True if nothing of the execution follows.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::ExecutionCompleted { .. } | Self::ExecutionFailed { .. } | Self::ExecutionCancelled { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_data_carries_its_name() {
        let event = ExecutionEvent::IterationStarted {
            execution_id: "e".to_owned(),
            iteration_number: 1,
            action: "generate".to_owned(),
            started_at: "2026-02-23T10:00:01Z".to_owned(),
        };
        let data = serde_json::to_value(&event).unwrap();
        assert_eq!(
            data,
            json!({"event": "iteration_started", "execution_id": "e", "iteration_number": 1,
                   "action": "generate", "started_at": "2026-02-23T10:00:01Z"})
        );
        assert_eq!(data["event"], event.name());
        assert_eq!(serde_json::from_value::<ExecutionEvent>(data).unwrap(), event);
    }
}
