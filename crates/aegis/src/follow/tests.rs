use super::*;
use aegis_api::{Denied, EventError};

const ID: &str = "a1b2c3d4-1111-0000-0000-000000000001";

fn at(second: u32) -> String {
    format!("2026-02-23T10:00:{second:02}.654321Z")
}

fn tool(second: u32, tool: &str, first_argument: &str, summary: &str) -> ExecutionEvent {
    ExecutionEvent::ToolInvoked {
        execution_id: ID.to_owned(),
        iteration_number: 1,
        tool: tool.to_owned(),
        first_argument: first_argument.to_owned(),
        summary: summary.to_owned(),
        is_error: false,
        exit_code: None,
        denied: None,
        result: None,
        invoked_at: at(second),
    }
}

fn validation(results: &[(&str, bool)], score: f64) -> ExecutionEvent {
    ExecutionEvent::ValidationCompleted {
        execution_id: ID.to_owned(),
        iteration_number: 1,
        results: results
            .iter()
            .map(|(validator, passed)| ValidationResult {
                validator: (*validator).to_owned(),
                passed: *passed,
                score,
                confidence: 1.0,
                reasoning: "because".to_owned(),
            })
            .collect(),
        score,
        confidence: 1.0,
        passed: results.iter().all(|(_, passed)| *passed),
        completed_at: at(6),
    }
}

fn completed(total_iterations: u32, duration_ms: u64) -> ExecutionEvent {
    ExecutionEvent::ExecutionCompleted {
        execution_id: ID.to_owned(),
        final_output: "x".to_owned(),
        total_iterations,
        completed_at: at(6),
        duration_ms,
    }
}

fn told(event: &ExecutionEvent) -> String {
    lines(event, Wanted::default()).join("\n")
}

/// The example of S4, line for line.
#[test]
fn a_run_reads_as_in_the_guide() {
    let run = [
        ExecutionEvent::ExecutionStarted {
            execution_id: ID.to_owned(),
            agent_id: String::new(),
            started_at: at(1),
        },
        ExecutionEvent::IterationStarted {
            execution_id: ID.to_owned(),
            iteration_number: 1,
            action: "generate".to_owned(),
            started_at: at(1),
        },
        tool(3, "fs.write", "/workspace/solution.py", "(234 bytes)"),
        tool(4, "cmd.run", "python /workspace/solution.py", ""),
        tool(5, "fs.write", "/workspace/result.json", "(89 bytes)"),
        ExecutionEvent::IterationOutput {
            execution_id: ID.to_owned(),
            iteration_number: 1,
            output: "x".to_owned(),
        },
        ExecutionEvent::IterationCompleted {
            execution_id: ID.to_owned(),
            iteration_number: 1,
            output: "x".to_owned(),
            completed_at: at(6),
        },
        validation(&[("exit_code", true), ("json_schema", true)], 1.0),
        completed(1, 5_196),
    ];
    let lines: Vec<String> = run.iter().flat_map(|event| lines(event, Wanted::default())).collect();
    assert_eq!(
        lines.join("\n"),
        "[2026-02-23T10:00:01Z] Execution a1b2c3d4-1111-0000-0000-000000000001 Started\n\
         [2026-02-23T10:00:01Z] Iteration 1 Started\n\
         [2026-02-23T10:00:03Z] Tool: fs.write /workspace/solution.py (234 bytes)\n\
         [2026-02-23T10:00:04Z] Tool: cmd.run python /workspace/solution.py\n\
         [2026-02-23T10:00:05Z] Tool: fs.write /workspace/result.json (89 bytes)\n\
         [2026-02-23T10:00:06Z] Iteration 1 Completed\n\
         [2026-02-23T10:00:06Z] Validation: exit_code=PASS json_schema=PASS (score=1.0)\n\
         [2026-02-23T10:00:06Z] Execution a1b2c3d4-1111-0000-0000-000000000001 Completed (1 iteration, 5.2s)"
    );
}

#[test]
fn what_goes_wrong_has_lines_of_its_own() {
    let denied = match tool(3, "fs.read", "/etc/passwd", "") {
        ExecutionEvent::ToolInvoked {
            execution_id,
            iteration_number,
            tool,
            first_argument,
            summary,
            invoked_at,
            ..
        } => ExecutionEvent::ToolInvoked {
            execution_id,
            iteration_number,
            tool,
            first_argument,
            summary,
            is_error: true,
            exit_code: None,
            denied: Some(Denied { code: "PATH_NOT_ALLOWED".to_owned(), rule: "manifest".to_owned() }),
            result: None,
            invoked_at,
        },
        other => other,
    };
    assert_eq!(told(&denied), "[2026-02-23T10:00:03Z] Tool: fs.read /etc/passwd DENIED (PATH_NOT_ALLOWED)");
    assert_eq!(
        told(&validation(&[("json_schema", false)], 0.6)),
        "[2026-02-23T10:00:06Z] Validation: json_schema=FAIL (score=0.60)"
    );
    let failed = ExecutionEvent::IterationFailed {
        execution_id: ID.to_owned(),
        iteration_number: 2,
        error: EventError {
            error_type: "iteration_timeout".to_owned(),
            message: "it took too long".to_owned(),
            stacktrace: String::new(),
        },
        failed_at: at(6),
    };
    assert_eq!(told(&failed), "[2026-02-23T10:00:06Z] Iteration 2 Failed: it took too long");
    let failed = ExecutionEvent::ExecutionFailed {
        execution_id: ID.to_owned(),
        reason: "no iteration passed validation".to_owned(),
        error_type: "validation_exhausted".to_owned(),
        total_iterations: 2,
        failed_at: at(6),
    };
    assert_eq!(
        told(&failed),
        format!("[2026-02-23T10:00:06Z] Execution {ID} Failed: no iteration passed validation")
    );
    let cancelled = ExecutionEvent::ExecutionCancelled {
        execution_id: ID.to_owned(),
        total_iterations: 2,
        cancelled_at: at(6),
    };
    assert_eq!(told(&cancelled), format!("[2026-02-23T10:00:06Z] Execution {ID} Cancelled"));
}

#[test]
fn counts_and_times_are_spoken_well() {
    for (iterations, duration, tail) in [
        (2, 0, "(2 iterations, 0.0s)"),
        (1, 49, "(1 iteration, 0.0s)"),
        (1, 950, "(1 iteration, 1.0s)"),
        (3, 125_049, "(3 iterations, 125.0s)"),
    ] {
        assert!(told(&completed(iterations, duration)).ends_with(tail), "{tail}");
    }
}

#[test]
fn errors_only_leaves_out_what_went_well() {
    let wanted = Wanted { errors_only: true, verbose: false };
    assert!(lines(&tool(3, "fs.read", "/x", ""), wanted).is_empty());
    assert!(lines(&completed(1, 1), wanted).is_empty());
    assert!(lines(&validation(&[("regex", true)], 1.0), wanted).is_empty());
    assert_eq!(lines(&validation(&[("regex", false)], 0.0), wanted).len(), 1);
}

#[test]
fn verbose_gives_reasons_and_nothing_reaches_the_terminal_raw() {
    let wanted = Wanted { errors_only: false, verbose: true };
    let shown = lines(&validation(&[("regex", false)], 0.0), wanted);
    assert_eq!(shown[1], "    regex: because");
    let shown = lines(&tool(3, "fs.read", "/x\u{1b}]0;evil\u{7}\n[2026] Execution x Completed", ""), wanted);
    assert_eq!(shown.len(), 1);
    assert!(!shown[0].contains(['\u{1b}', '\u{7}', '\n']), "{shown:?}");
}

#[test]
fn verbose_lines_tell_results_and_sizes() {
    let wanted = Wanted { verbose: true, errors_only: false };
    let called = match tool(3, "cmd.run", "ls", "") {
        ExecutionEvent::ToolInvoked {
            execution_id,
            iteration_number,
            tool,
            first_argument,
            summary,
            invoked_at,
            ..
        } => ExecutionEvent::ToolInvoked {
            execution_id,
            iteration_number,
            tool,
            first_argument,
            summary,
            is_error: true,
            exit_code: Some(2),
            denied: None,
            result: Some("a\nb".to_owned()),
            invoked_at,
        },
        other => other,
    };
    assert_eq!(
        lines(&called, wanted),
        ["[2026-02-23T10:00:03Z] Tool: cmd.run ls", "    exit code 2", "    result: a\\nb"]
    );
    let prompted = ExecutionEvent::IterationPrompted {
        execution_id: ID.to_owned(),
        iteration_number: 1,
        prompt_bytes: 512,
        prompted_at: at(1),
    };
    assert_eq!(lines(&prompted, wanted), ["    prompt: 512 bytes"]);
    assert!(lines(&prompted, Wanted::default()).is_empty());
}
