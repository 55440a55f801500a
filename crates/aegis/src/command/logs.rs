//! Event streams on the terminal.

use aegis_api::{EventStream, ExecutionEvent};
use aegis_core::{Diagnosis, ErrorCode};

use crate::args::{Format, Global};
use crate::failure::Failure;
use crate::follow::{Wanted, lines};
use crate::output;

/// Prints a stream to its end, as lines or as one JSON object a line, and gives the run's last event.
pub(super) async fn tell(
    global: &Global,
    mut stream: EventStream,
    wanted: Wanted,
) -> Result<Option<ExecutionEvent>, Failure> {
    let mut last = None;
    while let Some(item) = stream.next().await? {
        let Some(event) = item.event else {
            if global.output == Some(Format::Json) {
                output::json_line(&item.data)?;
            }
            continue;
        };
        let lines = lines(&event, wanted);
        match global.output {
            Some(Format::Json) if wanted.errors_only && lines.is_empty() => {}
            Some(Format::Json) => output::json_line(&item.data)?,
            _ => {
                for line in lines {
                    output::line(&line)?;
                }
            }
        }
        if event.is_final() {
            last = Some(event);
        }
    }
    Ok(last)
}

/// Fails if the awaited run did: exit code 6 or 7.
pub(super) fn verdict(last: Option<&ExecutionEvent>) -> Result<(), Failure> {
    match last {
        Some(ExecutionEvent::ExecutionFailed { execution_id, reason, .. }) => {
            Err(Diagnosis::new(ErrorCode::RunFailed, format!("execution {execution_id} failed: {reason}"))
                .hint(format!(
                    "see `aegis task status {execution_id}` and `aegis task logs {execution_id} --verbose`"
                ))
                .into())
        }
        Some(ExecutionEvent::ExecutionCancelled { execution_id, .. }) => {
            Err(Diagnosis::new(ErrorCode::RunCancelled, format!("execution {execution_id} was cancelled"))
                .into())
        }
        _ => Ok(()),
    }
}
