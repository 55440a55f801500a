//! `aegis task …`

use std::path::Path;

use aegis_api::{Client, ExecuteRequest, Execution, ExecutionEvent, Iteration};
use aegis_core::{Score, Timestamp};
use serde_json::{Value, json};

use super::{agent, file_error, logs};
use crate::args::{Global, Task};
use crate::failure::{Failure, invalid};
use crate::follow::Wanted;
use crate::later::missing;
use crate::table::{facts, table};
use crate::{manifest, output};

pub(super) async fn run(global: &Global, command: Task) -> Result<(), Failure> {
    match command {
        Task::Execute { agent, input, context, wait, follow, idempotency_key } => {
            let asked = Asked { agent, input, context, wait, follow, idempotency_key };
            execute(global, asked).await
        }
        Task::List { agent_id, status, limit } => {
            let client = global.client()?;
            let agent = match agent_id {
                Some(agent) => Some(agent::id_of(&client, &agent).await?),
                None => None,
            };
            let page = client.executions(agent.as_deref(), status.as_deref(), None, limit).await?;
            output::show(global.output, &page, |page| {
                table(
                    &["ID", "AGENT", "STATUS", "ITERATIONS", "STARTED", "DURATION"],
                    page.items.iter().map(row),
                )
            })
        }
        Task::Status { execution } => {
            let shown = global.client()?.execution(&execution).await?;
            output::show(global.output, &shown, words)
        }
        Task::Logs { execution, follow, errors_only, verbose } => {
            let stream = global.client()?.execution_events(&execution, follow).verbose(verbose);
            let last = logs::tell(global, stream, Wanted { errors_only, verbose }).await?;
            // Who follows waits for the run; who reads its logs does not.
            if follow { logs::verdict(last.as_ref()) } else { Ok(()) }
        }
        Task::Cancel { execution, force } => {
            global.client()?.cancel(&execution, force).await?;
            let value = json!({"execution_id": execution, "status": "cancelling"});
            output::show(global.output, &value, |_| format!("Cancelling execution {execution}"))
        }
        Task::Remove { execution } => {
            global.client()?.remove_execution(&execution).await?;
            let value = json!({"execution_id": execution, "status": "removed"});
            output::show(global.output, &value, |_| {
                format!("Removed execution {execution}; its evidence stays")
            })
        }
        Task::Replay { .. } => Err(missing("aegis task replay")),
    }
}

struct Asked {
    agent: String,
    input: Option<String>,
    context: Option<String>,
    wait: bool,
    follow: bool,
    idempotency_key: Option<String>,
}

async fn execute(global: &Global, asked: Asked) -> Result<(), Failure> {
    // Everything that can be wrong on this side is found before anything is deployed or started.
    let input = asked.input.as_deref().map_or(Ok(Value::Null), |text| json_argument("--input", text))?;
    let context_overrides =
        asked.context.as_deref().map(|text| json_argument("--context", text)).transpose()?;
    if context_overrides.as_ref().is_some_and(|value| !value.is_object()) {
        return Err(invalid(
            "`--context` is not a JSON object",
            "give names and their values: {\"name\": …}",
        ));
    }
    let client = global.client()?;
    let agent = named_agent(&client, &asked.agent).await?;
    let request = ExecuteRequest { agent_id: None, agent: Some(agent), input, context_overrides };
    let started = client.execute(&request, asked.idempotency_key.as_deref()).await?;
    if asked.follow {
        let stream = client.execution_events(&started.execution_id, true);
        let last = logs::tell(global, stream, Wanted::default()).await?;
        return logs::verdict(last.as_ref());
    }
    if !asked.wait {
        return output::show(global.output, &started, |started| {
            format!("Execution started: {}", started.execution_id)
        });
    }
    output::note(&format!("Execution started: {}", started.execution_id));
    let last = wait(&client, &started.execution_id).await?;
    let shown = client.execution(&started.execution_id).await?;
    output::show(global.output, &shown, words)?;
    logs::verdict(last.as_ref())
}

async fn wait(client: &Client, execution: &str) -> Result<Option<ExecutionEvent>, Failure> {
    let mut stream = client.execution_events(execution, true);
    while let Some(item) = stream.next().await? {
        if item.event.as_ref().is_some_and(ExecutionEvent::is_final) {
            return Ok(item.event);
        }
    }
    Ok(None)
}

/// An id, name or name@version as it is; a manifest file is deployed first.
async fn named_agent(client: &Client, text: &str) -> Result<String, Failure> {
    let path = Path::new(text);
    let looks_like_a_file = text.contains('/')
        || path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
    if !looks_like_a_file {
        return Ok(text.to_owned());
    }
    let deployed = client.deploy(manifest::read(path)?, path.to_str(), false, false).await?;
    for warning in &deployed.warnings {
        output::note(&format!("warning: {warning}"));
    }
    if deployed.changed {
        output::note(&format!("Deployed agent \"{}\" (id: {})", deployed.name, deployed.id));
    }
    Ok(format!("{}@{}", deployed.name, deployed.version))
}

/// JSON, or `@FILE` with JSON.
pub(super) fn json_argument(flag: &str, text: &str) -> Result<Value, Failure> {
    if let Some(path) = text.strip_prefix('@') {
        let path = Path::new(path);
        let content = std::fs::read_to_string(path).map_err(|error| file_error(path, &error))?;
        return serde_json::from_str(&content).map_err(|error| {
            let place = format!("{}:{}:{}", path.display(), error.line(), error.column());
            invalid(format!("{place}: `{flag}` is not JSON: {error}"), "the file must hold one JSON value")
        });
    }
    serde_json::from_str(text).map_err(|error| {
        let quoted = Value::String(text.to_owned());
        invalid(
            format!("`{flag}` is not JSON: {error}"),
            format!("a text is quoted twice: {flag} '{quoted}'; or give {flag} @FILE"),
        )
    })
}

fn row(execution: &Execution) -> Vec<String> {
    vec![
        execution.execution_id.clone(),
        format!("{}@{}", execution.agent.name, execution.agent.version),
        execution.status.clone(),
        execution.total_iterations.to_string(),
        execution.started_at.as_deref().map(seconds).unwrap_or_default(),
        execution.duration_ms.map(duration).unwrap_or_default(),
    ]
}

fn seconds(time: &str) -> String {
    Timestamp::parse(time).map_or_else(|| time.to_owned(), Timestamp::seconds)
}

fn duration(millis: u64) -> String {
    let tenths = (millis + 50) / 100;
    format!("{}.{}s", tenths / 10, tenths % 10)
}

fn words(execution: &Execution) -> String {
    let usage = &execution.usage;
    let estimated = if usage.estimated { " (estimated)" } else { "" };
    let cost =
        format!("{} in, {} out, ${:.6}{estimated}", usage.input_tokens, usage.output_tokens, usage.cost_usd);
    let mut text = facts(&[
        ("execution", execution.execution_id.clone()),
        ("agent", format!("{}@{} ({})", execution.agent.name, execution.agent.version, execution.agent.id)),
        ("status", execution.status.clone()),
        ("started", execution.started_at.as_deref().map(seconds).unwrap_or_default()),
        ("ended", execution.ended_at.as_deref().map(seconds).unwrap_or_default()),
        ("duration", execution.duration_ms.map(duration).unwrap_or_default()),
        ("iterations", execution.total_iterations.to_string()),
        ("tokens", cost),
        ("trace", execution.trace_id.clone()),
        ("error", execution.error.as_ref().map(|error| error.message.clone()).unwrap_or_default()),
    ]);
    for iteration in execution.iterations.iter().flatten() {
        text.push_str("\n\n");
        text.push_str(&iteration_words(iteration));
    }
    if let Some(output) = &execution.final_output {
        text.push_str("\n\noutput:\n");
        text.push_str(output.trim_end());
    }
    text
}

fn iteration_words(iteration: &Iteration) -> String {
    let score =
        iteration.score.map(|score| format!(" (score={})", Score::from_f64(score))).unwrap_or_default();
    let mut text = format!("iteration {}: {}{score}", iteration.number, iteration.status);
    for result in &iteration.validation {
        let passed = if result.passed { "PASS" } else { "FAIL" };
        let score = Score::from_f64(result.score);
        text.push_str(&format!("\n  {}={passed} (score={score}) {}", result.validator, result.reasoning));
    }
    if let Some(error) = &iteration.error {
        text.push_str(&format!("\n  {}", error.message));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(failure: Failure) -> (String, String) {
        match failure {
            Failure::Told(error) => (error.diagnosis.message, error.diagnosis.hint.unwrap_or_default()),
            Failure::BrokenPipe => panic!("a broken pipe"),
        }
    }

    #[test]
    fn input_is_json_or_a_file_with_json() {
        assert_eq!(json_argument("--input", r#"{"a": 1}"#).unwrap(), json!({"a": 1}));
        assert_eq!(json_argument("--input", "\"text\"").unwrap(), json!("text"));
        let file = std::env::temp_dir().join(format!("aegis-input-{}.json", std::process::id()));
        std::fs::write(&file, "[1,\n x]").unwrap();
        let (message, _) = told(json_argument("--input", &format!("@{}", file.display())).unwrap_err());
        assert!(message.contains(".json:2:2"), "{message}");
        std::fs::write(&file, "[1]").unwrap();
        assert_eq!(json_argument("--input", &format!("@{}", file.display())).unwrap(), json!([1]));
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn plain_text_is_refused_with_what_to_type() {
        let (message, hint) = told(json_argument("--input", "say \"hi\"").unwrap_err());
        assert!(message.starts_with("`--input` is not JSON"), "{message}");
        assert!(hint.contains(r#"--input '"say \"hi\""'"#), "{hint}");
    }
}
