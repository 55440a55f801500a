//! `aegis audit …`, `journal …` and `trace show`.

use std::path::{Path, PathBuf};

use aegis_api::{AuditEvent, Span, Trace, TraceSummary};
use aegis_core::{Diagnosis, ErrorCode};
use aegis_server::offline::VerifyReport;
use serde_json::json;

use crate::args::{Audit, Filter, Format, Global, Journal, Verified};
use crate::failure::Failure;
use crate::output;
use crate::table::table;

/// Deepest nesting shown in a tree of spans.
const TREE_DEPTH_MAX: usize = 32;

pub(super) async fn audit(global: &Global, command: Audit) -> Result<(), Failure> {
    match command {
        Audit::Query(filter) => query(global, filter).await,
        Audit::Prove { seq } => {
            let proof = global.client()?.audit_prove(seq).await?;
            match global.output {
                Some(Format::Yaml) => output::show(global.output, &proof, |_| String::new()),
                _ => output::json(&proof),
            }
        }
        Audit::Verify { what, export: None } => verify(global, what).await,
        Audit::Verify { what, export: Some(export) } => verify_export(global, &export, &what),
        Audit::Export { to, data } => {
            let events = aegis_server::offline::export(&folder(global, data)?, &to).await?;
            output::line(&format!("Wrote {events} events to {}", to.display()))
        }
        Audit::Checkpoint => {
            let signed = global.client()?.audit_checkpoint().await?;
            if matches!(global.output, None | Some(Format::Text | Format::Table)) {
                output::note(&format!("public key: {}", signed.public_key));
            }
            output::show(global.output, &signed, |signed| signed.checkpoint.clone())
        }
    }
}

pub(super) async fn journal(global: &Global, command: Journal) -> Result<(), Failure> {
    match command {
        Journal::Verify(what) => verify(global, what).await,
        Journal::Rebuild { data } => {
            aegis_server::offline::rebuild(&folder(global, data)?).await?;
            output::line("The projections were made anew from the events")
        }
        Journal::Backup { to, keys, data } => backup(global, &to, keys, data).await,
        Journal::Archive { before, data } => {
            let name = aegis_server::offline::archive(&folder(global, data)?, before).await?;
            output::line(&match name {
                Some(name) => format!("Archived the events before {before} into {name}"),
                None => format!("There is nothing to archive before {before}"),
            })
        }
    }
}

fn folder(global: &Global, data: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match data {
        Some(data) => Ok(std::path::absolute(&data).unwrap_or(data)),
        None => global.home(),
    }
}

async fn backup(
    global: &Global,
    to: &Path,
    keys: Option<PathBuf>,
    data: Option<PathBuf>,
) -> Result<(), Failure> {
    let keys = keys.map(|keys| {
        let mut node = keys.clone().into_os_string();
        node.push(".node-key");
        (keys, PathBuf::from(node))
    });
    let files = keys.as_ref().map(|(keys, node)| (keys.as_path(), node.as_path()));
    let folder = folder(global, data)?;
    aegis_server::offline::backup(&folder, to, files).await?;
    let signing = folder.join("keys/log.key");
    let value = json!({
        "journal": to,
        "keys": files.map(|(keys, _)| keys),
        "node_key": files.map(|(_, node)| node),
        "not_copied": [signing],
    });
    output::show(global.output, &value, |_| {
        let copied = match files {
            None => format!("Copied the journal to {}; its keys are not in the copy", to.display()),
            Some((keys, node)) => format!(
                "Copied the journal to {}, the keys of its evidence to {} and the node key to {}: keep the three apart",
                to.display(),
                keys.display(),
                node.display()
            ),
        };
        format!(
            "{copied}\nNot copied: the log's signing key, {}; without it no daemon goes on with this log",
            signing.display()
        )
    })
}

/// Checks an exported file. One that is not what was signed is exit 4.
fn verify_export(global: &Global, file: &Path, what: &Verified) -> Result<(), Failure> {
    let key = aegis_server::offline::public_key(what.public_key.as_deref().unwrap_or_default())?;
    let header = aegis_server::offline::verify_export(file, &key)?;
    let head: Vec<&str> = header.checkpoint.lines().take(3).collect();
    let value = json!({"sound": true, "file": file, "first": header.first, "next": header.next,
        "checkpoint": header.checkpoint});
    output::show(global.output, &value, |_| {
        let [origin, size, root] = head.as_slice() else { return String::new() };
        format!(
            "The export is whole: events {} to {} are those of {origin} under its signed head of {size} events\nroot {root}",
            header.first,
            header.next.saturating_sub(1),
        )
    })
}

/// Says what could not be checked, so that nobody takes it for whole.
fn unchecked(report: &VerifyReport) -> Option<String> {
    let count = report.blobs_unchecked;
    let why = match &report.keys_missing {
        _ if count == 0 => return None,
        Some(file) => format!("`{file}` is not there"),
        None => "these keys are a backup's, which has none of working copies".to_owned(),
    };
    Some(format!("NOT CHECKED: {count} blobs: {why}"))
}

/// Checks the record. A damaged record is exit 4: what is stored contradicts what was signed.
async fn verify(global: &Global, what: Verified) -> Result<(), Failure> {
    let key = what.public_key.as_deref().map(aegis_server::offline::public_key).transpose()?;
    let folder = folder(global, what.data)?;
    let report = aegis_server::offline::verify(&folder, what.checkpoint.as_deref(), key).await?;
    let sentence = |damage: &dyn std::fmt::Display| format!("DAMAGED: {damage}");
    let mut value = serde_json::to_value(&report).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        let words: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
        map.insert("sound".to_owned(), json!(report.is_sound()));
        map.insert("findings".to_owned(), json!(words));
        map.insert("unchecked".to_owned(), json!(unchecked(&report)));
    }
    output::show(global.output, &value, |_| {
        let mut lines: Vec<String> = report.damage.iter().map(|damage| sentence(damage)).collect();
        lines.extend(unchecked(&report));
        lines.push(format!(
            "{}: {} events, {} signed heads, {} blobs ({} destroyed on record), {} signed calls, {} projection records",
            if report.is_sound() { "The record is whole" } else { "The record is damaged" },
            report.events,
            report.checkpoints,
            report.blobs,
            report.blobs_destroyed,
            report.envelopes,
            report.records
        ));
        if let Some(root) = &report.root {
            lines.push(format!("root {root}"));
        }
        lines.join("\n")
    })?;
    if report.is_sound() {
        return Ok(());
    }
    let what = format!("the record in `{}` is damaged: {} findings", folder.display(), report.damage.len());
    Err(Diagnosis::new(ErrorCode::Conflict, what)
        .hint("keep the folder as it is; compare it with a backup and with copies of its checkpoint file")
        .into())
}

async fn query(global: &Global, filter: Filter) -> Result<(), Failure> {
    let mut query = vec![("limit", filter.limit.to_string())];
    let given = [
        ("kind", filter.kind),
        ("stream", filter.stream),
        ("trace_id", filter.trace_id),
        ("since", filter.since),
        ("until", filter.until),
        ("cursor", filter.cursor),
    ];
    query.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
    if filter.newest_first {
        query.push(("newest_first", "true".to_owned()));
    }
    if filter.envelopes {
        query.push(("envelopes", "true".to_owned()));
    }
    let page = global.client()?.audit_events(&query).await?;
    if let (Some(cursor), None | Some(Format::Text | Format::Table)) = (&page.next_cursor, global.output) {
        output::note(&format!("more with --cursor {cursor}"));
    }
    output::show(global.output, &page, |page| {
        table(&["SEQ", "AT", "KIND", "STREAM"], page.items.iter().map(row))
    })
}

fn row(event: &AuditEvent) -> Vec<String> {
    vec![event.seq.to_string(), event.at.clone(), event.kind.clone(), event.stream.clone()]
}

pub(super) async fn traces(global: &Global, cursor: Option<&str>, limit: usize) -> Result<(), Failure> {
    let page = global.client()?.traces(cursor, limit).await?;
    if let (Some(cursor), None | Some(Format::Text | Format::Table)) = (&page.next_cursor, global.output) {
        output::note(&format!("more with --cursor {cursor}"));
    }
    output::show(global.output, &page, |page| {
        table(&["TRACE", "NAME", "STATUS", "STARTED", "MS", "EXECUTION"], page.items.iter().map(trace_row))
    })
}

fn trace_row(trace: &TraceSummary) -> Vec<String> {
    vec![
        trace.trace_id.clone(),
        trace.name.clone(),
        trace.status.clone(),
        trace.started_at.clone(),
        trace.duration_ms.map(|millis| millis.to_string()).unwrap_or_default(),
        trace.execution_id.clone(),
    ]
}

pub(super) async fn trace(global: &Global, id: &str) -> Result<(), Failure> {
    let trace = global.client()?.trace(id).await?;
    output::show(global.output, &trace, tree)
}

/// The spans, each below its parent.
fn tree(trace: &Trace) -> String {
    let mut lines = vec![format!("trace {}", trace.trace_id)];
    let known = |id: &str| trace.spans.iter().any(|span| span.span_id == id);
    for span in &trace.spans {
        if span.parent_span_id.as_deref().is_none_or(|parent| !known(parent)) {
            branch(trace, span, 1, &mut lines);
        }
    }
    if trace.truncated {
        lines.push("… the trace has more events than are shown".to_owned());
    }
    lines.join("\n")
}

fn branch(trace: &Trace, span: &Span, depth: usize, lines: &mut Vec<String>) {
    let facts: Vec<String> = span
        .attributes
        .iter()
        .filter(|(name, value)| !value.is_null() && *name != "duration_ms")
        .map(|(name, value)| {
            format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    let line = format!("{}{} ({} ms) {}", "  ".repeat(depth), span.name, span.duration_ms, facts.join(" "));
    lines.push(aegis_api::printable_line(line.trim_end()).into_owned());
    if depth >= TREE_DEPTH_MAX {
        return;
    }
    let below = trace.spans.iter().filter(|child| {
        child.parent_span_id.as_deref() == Some(&span.span_id) && child.span_id != span.span_id
    });
    for child in below {
        branch(trace, child, depth + 1, lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn span(id: &str, parent: Option<&str>, name: &str) -> Span {
        Span {
            span_id: id.to_owned(),
            parent_span_id: parent.map(str::to_owned),
            name: name.to_owned(),
            stream: "fleet".to_owned(),
            started_at: String::new(),
            ended_at: String::new(),
            duration_ms: 5,
            events: Vec::new(),
            attributes: BTreeMap::from([("score".to_owned(), serde_json::json!(1.0))]),
        }
    }

    #[test]
    fn spans_stand_below_their_parent() {
        let spans = vec![
            span("a", None, "execute x@1"),
            span("b", Some("a"), "iteration 1"),
            span("c", Some("z"), "orphan"),
        ];
        let trace = Trace { trace_id: "t".to_owned(), spans, truncated: false };
        assert_eq!(
            tree(&trace),
            "trace t\n  execute x@1 (5 ms) score=1.0\n    iteration 1 (5 ms) score=1.0\n  orphan (5 ms) score=1.0"
        );
    }
}
