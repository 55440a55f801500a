//! The lines of `--follow` and of the logs commands.

use aegis_api::{ExecutionEvent, ValidationResult, printable_line};
use aegis_core::{Score, Timestamp};

/// Longest text of `--verbose`, in characters of one line.
const VERBOSE_CHARS_MAX: usize = 2_000;

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// Only what went wrong.
    pub(crate) errors_only: bool,
    /// Also answers, results of tools, reasons, sizes and what the next iteration is told.
    pub(crate) verbose: bool,
}

/// The lines of one event.
pub(crate) fn lines(event: &ExecutionEvent, wanted: Wanted) -> Vec<String> {
    if wanted.errors_only && !is_error(event) {
        return Vec::new();
    }
    let at = match Timestamp::parse(time_of(event)) {
        Some(time) => format!("[{}] ", time.seconds()),
        None => String::new(),
    };
    let mut lines: Vec<String> =
        plain(event).map(|words| format!("{at}{}", printable_line(&words))).into_iter().collect();
    if wanted.verbose {
        lines.extend(
            details(event).into_iter().map(|words| format!("    {}", printable_line(&shortened(words)))),
        );
    }
    lines
}

fn plain(event: &ExecutionEvent) -> Option<String> {
    Some(match event {
        ExecutionEvent::ExecutionStarted { execution_id, .. } => format!("Execution {execution_id} Started"),
        ExecutionEvent::IterationStarted { iteration_number, .. } => {
            format!("Iteration {iteration_number} Started")
        }
        ExecutionEvent::IterationCompleted { iteration_number, .. } => {
            format!("Iteration {iteration_number} Completed")
        }
        ExecutionEvent::IterationFailed { iteration_number, error, .. } => {
            format!("Iteration {iteration_number} Failed: {}", error.message)
        }
        ExecutionEvent::ToolInvoked { tool, first_argument, summary, denied, .. } => {
            let tail = match denied {
                Some(denied) => format!("DENIED ({})", denied.code),
                None => summary.clone(),
            };
            let words = ["Tool:", tool, first_argument, &tail];
            words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
        }
        ExecutionEvent::ValidationCompleted { results, score, .. } => {
            let results: Vec<String> = results.iter().map(verdict).collect();
            format!("Validation: {} (score={})", results.join(" "), Score::from_f64(*score))
        }
        ExecutionEvent::ExecutionCompleted { execution_id, total_iterations, duration_ms, .. } => {
            let plural = if *total_iterations == 1 { "" } else { "s" };
            let tenths = (duration_ms + 50) / 100;
            format!(
                "Execution {execution_id} Completed ({total_iterations} iteration{plural}, {}.{}s)",
                tenths / 10,
                tenths % 10
            )
        }
        ExecutionEvent::ExecutionFailed { execution_id, reason, .. } => {
            format!("Execution {execution_id} Failed: {reason}")
        }
        ExecutionEvent::ExecutionCancelled { execution_id, .. } => {
            format!("Execution {execution_id} Cancelled")
        }
        ExecutionEvent::IterationOutput { .. }
        | ExecutionEvent::RefinementApplied { .. }
        | ExecutionEvent::IterationPrompted { .. }
        | ExecutionEvent::ModelAnswered { .. } => return None,
    })
}

fn verdict(result: &ValidationResult) -> String {
    format!("{}={}", result.validator, if result.passed { "PASS" } else { "FAIL" })
}

fn details(event: &ExecutionEvent) -> Vec<String> {
    match event {
        ExecutionEvent::IterationOutput { output, .. } => vec![format!("output: {output}")],
        ExecutionEvent::RefinementApplied { previous_error, .. } => {
            vec![format!("previous_error: {previous_error}")]
        }
        ExecutionEvent::ValidationCompleted { results, .. } => results
            .iter()
            .filter(|result| !result.reasoning.is_empty())
            .map(|result| format!("{}: {}", result.validator, result.reasoning))
            .collect(),
        ExecutionEvent::IterationPrompted { prompt_bytes, .. } => {
            vec![format!("prompt: {prompt_bytes} bytes")]
        }
        ExecutionEvent::ModelAnswered {
            alias,
            model,
            input_tokens,
            output_tokens,
            tool_calls,
            duration_ms,
            ..
        } => vec![format!(
            "model {alias} ({model}): {input_tokens} tokens in, {output_tokens} out, {tool_calls} tool calls, {duration_ms} ms"
        )],
        ExecutionEvent::ToolInvoked { denied, is_error, exit_code, result, .. } => {
            let failed = match (denied, exit_code) {
                (Some(denied), _) => Some(format!("refused by {}", denied.rule)),
                (None, Some(code)) if *is_error => Some(format!("exit code {code}")),
                (None, None) if *is_error => Some("the tool failed".to_owned()),
                _ => None,
            };
            let result = result.as_ref().filter(|result| !result.is_empty());
            failed.into_iter().chain(result.map(|result| format!("result: {result}"))).collect()
        }
        ExecutionEvent::IterationFailed { error, .. } if !error.stacktrace.is_empty() => {
            vec![error.stacktrace.clone()]
        }
        _ => Vec::new(),
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(VERBOSE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

const fn is_error(event: &ExecutionEvent) -> bool {
    match event {
        ExecutionEvent::IterationFailed { .. } | ExecutionEvent::ExecutionFailed { .. } => true,
        ExecutionEvent::ToolInvoked { is_error, denied, .. } => *is_error || denied.is_some(),
        ExecutionEvent::ValidationCompleted { passed, .. } => !*passed,
        _ => false,
    }
}

fn time_of(event: &ExecutionEvent) -> &str {
    match event {
        ExecutionEvent::ExecutionStarted { started_at: at, .. }
        | ExecutionEvent::IterationStarted { started_at: at, .. }
        | ExecutionEvent::IterationCompleted { completed_at: at, .. }
        | ExecutionEvent::IterationFailed { failed_at: at, .. }
        | ExecutionEvent::RefinementApplied { applied_at: at, .. }
        | ExecutionEvent::ExecutionCompleted { completed_at: at, .. }
        | ExecutionEvent::ExecutionFailed { failed_at: at, .. }
        | ExecutionEvent::ToolInvoked { invoked_at: at, .. }
        | ExecutionEvent::ValidationCompleted { completed_at: at, .. }
        | ExecutionEvent::IterationPrompted { prompted_at: at, .. }
        | ExecutionEvent::ModelAnswered { answered_at: at, .. }
        | ExecutionEvent::ExecutionCancelled { cancelled_at: at, .. } => at,
        ExecutionEvent::IterationOutput { .. } => "",
    }
}

#[cfg(test)]
mod tests;
