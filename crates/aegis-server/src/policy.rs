//! Documents of policy: understood, checked and compared without a running node.

use std::path::Path;
use std::sync::Arc;

use aegis_api::{
    PolicyChange, PolicyDiff, PolicyDocument, PolicyLine, PolicyProblem, PolicyReport, PolicyVerdictChange,
};
use aegis_core::{Diagnosis, ErrorCode};
use aegis_kernel::Overlay;
use aegis_kernel::policy::{NodePolicy, capabilities, inline_soul, soul_authority};
use aegis_manifest::agent::SoulDocument;
use aegis_manifest::node::SecurityContext;
use aegis_manifest::{Diagnostics, parse_agent, parse_data, parse_node_config};
use aegis_security::policy::{
    Change, Direction, Expectation, LineKind, Problem, RowResult, Severity, check_authority, check_context,
    check_text, diff_authorities, diff_contexts, diff_lines, diff_verdicts,
};
use serde::Serialize;
use serde_json::Value;

/// Most rows of a table.
const ROWS_MAX: usize = 1_000;

/// What a document of policy says.
enum Understood {
    /// Policies in Cedar.
    Cedar(String),
    /// Security contexts, and the policies that stand beside them.
    Contexts { contexts: Vec<SecurityContext>, policies: Vec<Text> },
    /// A soul.
    Soul { name: String, soul: Box<SoulDocument> },
}

/// A policy of a configuration.
struct Text {
    name: String,
    tenant: Option<aegis_core::Tenant>,
    /// The text, or why it cannot be read.
    text: Result<String, String>,
}

/// Everything wrong with a document. Files that it names are read below `base`; without it none are, so that nobody can
/// have the daemon read its machine's files.
pub fn check(document: &PolicyDocument, base: Option<&Path>) -> PolicyReport {
    let understood = match understand(document, base) {
        Ok(understood) => understood,
        Err(problems) => return PolicyReport { kind: "unknown".to_owned(), valid: false, problems },
    };
    let file = &document.file;
    let mut problems = Vec::new();
    let mut add = |within: &str, found: Vec<Problem>| {
        problems.extend(found.into_iter().map(|problem| wire(file, within, problem)));
    };
    let kind = match &understood {
        Understood::Cedar(text) => {
            add("", check_text(text));
            "cedar"
        }
        Understood::Contexts { contexts, policies } => {
            for context in contexts {
                let found = check_context(&context.name, &capabilities(context), &context.deny_list);
                add(&format!("security context `{}`", context.name), found);
            }
            for policy in policies {
                let found = match &policy.text {
                    Ok(text) => check_text(text),
                    Err(error) => vec![whole(error.clone())],
                };
                add(&format!("policy `{}`", policy.name), found);
            }
            "contexts"
        }
        Understood::Soul { name, soul } => {
            add("", check_authority(name, &soul_authority(&soul.authority)));
            "soul"
        }
    };
    let valid = problems.iter().all(|problem| problem.severity != "error");
    PolicyReport { kind: kind.to_owned(), valid, problems }
}

/// What changes between two documents of one kind, without asking a table.
///
/// # Errors
/// If one of them cannot be understood, or they are of different kinds.
pub fn diff(
    (old, new): (&PolicyDocument, &PolicyDocument),
    bases: (Option<&Path>, Option<&Path>),
) -> Result<PolicyDiff, Diagnosis> {
    let before = understand(old, bases.0).map_err(|problems| refused(&problems))?;
    let after = understand(new, bases.1).map_err(|problems| refused(&problems))?;
    let mut diff = PolicyDiff::default();
    match (&before, &after) {
        (Understood::Cedar(before), Understood::Cedar(after)) => diff.lines = lines(before, after),
        (Understood::Soul { soul: before, .. }, Understood::Soul { soul: after, .. }) => {
            let changes =
                diff_authorities(&soul_authority(&before.authority), &soul_authority(&after.authority));
            diff.changes = changes.into_iter().map(|change| change_at("", change)).collect();
        }
        (
            Understood::Contexts { contexts: before, policies: old },
            Understood::Contexts { contexts: after, policies: new },
        ) => {
            contexts_changed(before, after, &mut diff.changes);
            policies_changed(old, new, &mut diff);
        }
        _ => {
            let message = format!("`{}` and `{}` are of different kinds", old.file, new.file);
            let hint = "compare two texts in Cedar, two lists of contexts or configurations, or two souls";
            return Err(Diagnosis::new(ErrorCode::InvalidInput, message).hint(hint));
        }
    }
    Ok(diff)
}

/// The rows of two runs of a table whose verdicts differ.
pub(crate) fn verdicts_changed(before: &[RowResult], after: &[RowResult]) -> Vec<PolicyVerdictChange> {
    let changes = diff_verdicts(before, after).into_iter();
    changes
        .map(|change| PolicyVerdictChange {
            row: change.row,
            direction: name(&change.direction),
            before: change.before.map(|ruling| ruling.to_string()),
            after: change.after.map(|ruling| ruling.to_string()),
            reason: change.reason,
        })
        .collect()
}

/// The rules a document puts in place of those that hold: contexts and policies of a configuration, a soul, or a text in
/// Cedar as the node's only policy.
///
/// # Errors
/// If it cannot be used.
pub(crate) fn overlay(document: &PolicyDocument) -> Result<Overlay, Diagnosis> {
    let wrong = |message: String| Diagnosis::new(ErrorCode::InvalidInput, message);
    let compile = |name: &str, tenant, text: &str| {
        NodePolicy::new(name, tenant, text)
            .map_err(|error| wrong(format!("`{}`: {error}", document.file)).hint("see `aegis policy check`"))
    };
    Ok(match understand(document, None).map_err(|problems| refused(&problems))? {
        Understood::Cedar(text) => {
            Overlay { policies: Some(Arc::new([compile("compared", None, &text)?])), ..Overlay::default() }
        }
        Understood::Soul { soul, .. } => Overlay { soul: Some(soul), ..Overlay::default() },
        Understood::Contexts { contexts, policies } => {
            let compiled = policies.into_iter().map(|policy| {
                let text = policy.text.map_err(wrong)?;
                compile(&policy.name, policy.tenant, &text)
            });
            let policies = compiled.collect::<Result<Vec<_>, Diagnosis>>()?;
            Overlay { contexts: Some(contexts), policies: Some(policies.into()), ..Overlay::default() }
        }
    })
}

/// The rows of a table of expectations.
///
/// # Errors
/// If it is no list of them, or too long.
pub(crate) fn rows(table: &PolicyDocument) -> Result<Vec<Expectation>, Diagnosis> {
    let wrong = |what: String| {
        Diagnosis::new(ErrorCode::InvalidInput, format!("`{}`: {what}", table.file)).hint(
            "a table is a list of `{agent: NAME, tool: NAME, arguments: {…}, expect: permit, ask or deny}`",
        )
    };
    let value = parse_data(&table.text, &table.file).map_err(|found| wrong(found.render()))?;
    let rows: Vec<Value> = serde_json::from_value(value).map_err(|_| wrong("is no list".to_owned()))?;
    if rows.len() > ROWS_MAX {
        return Err(wrong(format!("has {} rows, at most {ROWS_MAX} are asked", rows.len())));
    }
    let read = (1usize..).zip(rows).map(|(place, row)| {
        let row: Expectation =
            serde_json::from_value(row).map_err(|error| wrong(format!("row {place}: {error}")))?;
        row.risk_thousandths().map_err(|error| wrong(format!("row {place}: {error}")))?;
        Ok(row)
    });
    read.collect()
}

fn understand(document: &PolicyDocument, base: Option<&Path>) -> Result<Understood, Vec<PolicyProblem>> {
    let PolicyDocument { file, text } = document;
    let extension = Path::new(file).extension().and_then(|extension| extension.to_str());
    if !matches!(extension, Some("yaml" | "yml" | "json")) {
        return Ok(Understood::Cedar(text.clone()));
    }
    let problems = |found: Diagnostics| {
        let told = found.to_diagnoses().into_iter();
        told.map(|problem| wire(file, "", whole(problem.message))).collect::<Vec<_>>()
    };
    let wrong = |message: String| vec![wire(file, "", whole(message))];
    let data = parse_data(text, file).map_err(problems)?;
    let of = |field: &str| data.get(field).cloned().unwrap_or_default();
    match data.get("kind").and_then(Value::as_str) {
        Some("NodeConfig") => {
            let parsed = parse_node_config(text, file, &|_| None).map_err(problems)?;
            let spec = parsed.document.spec;
            let stated = spec.governance.into_iter().flat_map(|governance| governance.policies);
            let policies = stated.map(|policy| Text {
                text: crate::policies::read(&policy, base),
                name: policy.name,
                tenant: policy.tenant,
            });
            Ok(Understood::Contexts { contexts: spec.security_contexts, policies: policies.collect() })
        }
        Some("Agent") => {
            let manifest = parse_agent(text, file).map_err(problems)?.document;
            let soul = inline_soul(&manifest).cloned();
            let soul =
                soul.ok_or_else(|| wrong("the agent has no soul of its own at spec.soul".to_owned()))?;
            Ok(Understood::Soul { name: manifest.metadata.name.to_string(), soul: Box::new(soul) })
        }
        Some("Soul") => soul(&of("spec"), data.pointer("/metadata/name")).map_err(wrong),
        Some(other) => Err(wrong(format!("a document of kind `{other}` holds no policy"))),
        None if data.get("soul").is_some() => soul(&of("soul"), None).map_err(wrong),
        None if data.get("intent").is_some() => soul(&data, None).map_err(wrong),
        None => {
            let list = if data.is_array() { data } else { of("security_contexts") };
            let contexts = serde_json::from_value(list).map_err(|error| {
                wrong(format!("is no NodeConfig, Soul, Agent or list of security contexts: {error}"))
            })?;
            Ok(Understood::Contexts { contexts, policies: Vec::new() })
        }
    }
}

fn soul(value: &Value, name: Option<&Value>) -> Result<Understood, String> {
    let soul = serde_json::from_value(value.clone()).map_err(|error| format!("is no soul: {error}"))?;
    let name = name.and_then(Value::as_str).unwrap_or("soul").to_owned();
    Ok(Understood::Soul { name, soul: Box::new(soul) })
}

fn contexts_changed(before: &[SecurityContext], after: &[SecurityContext], changes: &mut Vec<PolicyChange>) {
    let find = |list: &[SecurityContext], name: &str| list.iter().find(|one| one.name == name).cloned();
    let whole = |name: &str, there: bool| PolicyChange {
        direction: name_of(if there { Direction::Widens } else { Direction::Narrows }),
        place: format!("security_contexts.{name}"),
        before: (!there).then(|| name.to_owned()),
        after: there.then(|| name.to_owned()),
    };
    for old in before {
        let Some(new) = find(after, &old.name) else {
            changes.push(whole(&old.name, false));
            continue;
        };
        let (was, is) = (capabilities(old), capabilities(&new));
        let found = diff_contexts((&was, &old.deny_list), (&is, &new.deny_list));
        let within = format!("security_contexts.{}.", old.name);
        changes.extend(found.into_iter().map(|change| change_at(&within, change)));
    }
    let added = after.iter().filter(|new| find(before, &new.name).is_none());
    changes.extend(added.map(|new| whole(&new.name, true)));
}

/// A policy is a layer of its own, which only takes away: one more narrows, one less widens.
fn policies_changed(before: &[Text], after: &[Text], diff: &mut PolicyDiff) {
    let same = |one: &Text, other: &Text| one.name == other.name && one.tenant == other.tenant;
    let text = |policy: &Text| policy.text.clone().unwrap_or_default();
    let change = |policy: &Text, direction, before: Option<String>, after: Option<String>| PolicyChange {
        direction: name_of(direction),
        place: format!("governance.policies.{}", policy.name),
        before,
        after,
    };
    for old in before {
        match after.iter().find(|new| same(old, new)) {
            None => diff.changes.push(change(old, Direction::Widens, Some(old.name.clone()), None)),
            Some(new) if text(old) != text(new) => {
                let (was, is) = (Some("its text".to_owned()), Some("another text".to_owned()));
                diff.changes.push(change(old, Direction::Unclear, was, is));
                diff.lines.extend(lines(&text(old), &text(new)));
            }
            Some(_) => {}
        }
    }
    for new in after.iter().filter(|new| !before.iter().any(|old| same(old, new))) {
        diff.changes.push(change(new, Direction::Narrows, None, Some(new.name.clone())));
    }
}

fn lines(old: &str, new: &str) -> Vec<PolicyLine> {
    let of = |kind: &LineKind| name(kind);
    diff_lines(old, new)
        .into_iter()
        .map(|line| PolicyLine { kind: of(&line.kind), text: line.text })
        .collect()
}

fn change_at(within: &str, change: Change) -> PolicyChange {
    let Change { direction, place, before, after } = change;
    PolicyChange { direction: name_of(direction), place: format!("{within}{place}"), before, after }
}

fn name_of(direction: Direction) -> String {
    name(&direction)
}

/// The name a value of an enum has on the wire.
fn name(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn whole(message: String) -> Problem {
    Problem { severity: Severity::Error, place: None, rule: None, message }
}

fn wire(file: &str, within: &str, problem: Problem) -> PolicyProblem {
    let place = match (problem.place, within) {
        (Some((line, column)), "") => format!("{file}:{line}:{column}"),
        (Some((line, column)), within) => format!("{file}: {within}: {line}:{column}"),
        (None, "") => file.to_owned(),
        (None, within) => format!("{file}: {within}"),
    };
    PolicyProblem { severity: name(&problem.severity), place, rule: problem.rule, message: problem.message }
}

fn refused(problems: &[PolicyProblem]) -> Diagnosis {
    let told = problems.iter().map(|problem| format!("{}: {}", problem.place, problem.message));
    Diagnosis::new(ErrorCode::InvalidInput, told.collect::<Vec<_>>().join("; "))
        .hint("`aegis policy check FILE` tells everything wrong with a document")
}
