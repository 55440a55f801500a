//! `aegis policy …`

use std::path::Path;

use aegis_api::{
    CallError, PolicyComparison, PolicyDiff, PolicyDocument, PolicyExplanation, PolicyQuestion, PolicyReport,
    PolicyTested, PolicyUnmet,
};
use aegis_core::{Diagnosis, ErrorCode};
use serde_json::{Map, Value};

use crate::args::{Global, Policy};
use crate::failure::{Failure, invalid};
use crate::table::table;
use crate::{manifest, output};

pub(super) async fn run(global: &Global, command: Policy) -> Result<(), Failure> {
    match command {
        Policy::Check { file } => {
            let report = aegis_server::policy::check(&read(&file)?, folder(&file));
            output::show(global.output, &report, checked)?;
            if report.valid { Ok(()) } else { Err(wrong(&file, &report)) }
        }
        Policy::Explain { agent, tool, arguments, label, risk } => {
            let question = PolicyQuestion {
                agent,
                tool,
                arguments: object(arguments.as_deref())?,
                labels: label.into_iter().collect(),
                risk,
            };
            let explanation = global.client()?.explain_policy(&question).await?;
            output::show(global.output, &explanation, explained)
        }
        Policy::Test { file } => {
            let tested = global.client()?.test_policy(&read(&file)?).await?;
            output::show(global.output, &tested, rows)?;
            if tested.failed == 0 {
                return Ok(());
            }
            let of = tested.passed + tested.failed;
            let message =
                format!("{} of {of} rows of `{}` are not as expected", tested.failed, file.display());
            Err(Diagnosis::new(ErrorCode::RunFailed, message)
                .hint("change the policy, or the expectation")
                .into())
        }
        Policy::Diff { old, new, table } => {
            let (before, after) = (read(&old)?, read(&new)?);
            let mut diff = aegis_server::policy::diff((&before, &after), (folder(&old), folder(&new)))?;
            if let Some(path) = table {
                let comparison = PolicyComparison { old: before, new: after, table: Some(read(&path)?) };
                diff.verdicts = global.client()?.diff_policy(&comparison).await?.verdicts;
            }
            output::show(global.output, &diff, changed)
        }
    }
}

/// The folder that paths in a file start from.
fn folder(path: &Path) -> Option<&Path> {
    path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

fn read(path: &Path) -> Result<PolicyDocument, Failure> {
    Ok(PolicyDocument { file: path.display().to_string(), text: manifest::read_file(path)? })
}

fn object(arguments: Option<&str>) -> Result<Map<String, Value>, Failure> {
    let Some(text) = arguments else { return Ok(Map::new()) };
    serde_json::from_str(text).map_err(|error| {
        invalid(
            format!("the arguments are no JSON object: {error}"),
            "write them like '{\"path\": \"a.txt\"}'",
        )
    })
}

fn wrong(path: &Path, report: &PolicyReport) -> Failure {
    let errors = report.problems.iter().filter(|problem| problem.severity == "error");
    let problems: Vec<Diagnosis> = errors
        .map(|problem| {
            let rule = problem.rule.as_ref().map(|rule| format!("{rule}: ")).unwrap_or_default();
            let message = format!("{}: {rule}{}", problem.place, problem.message);
            Diagnosis::new(ErrorCode::InvalidInput, message)
        })
        .collect();
    let message = format!("`{}` cannot be used", path.display());
    let diagnosis = Diagnosis::new(ErrorCode::InvalidInput, message);
    CallError { diagnosis, problems, rendered: None }.into()
}

fn checked(report: &PolicyReport) -> String {
    let warnings = report.problems.iter().filter(|problem| problem.severity == "warning");
    let warnings = warnings.map(|problem| {
        let rule = problem.rule.as_ref().map(|rule| format!("{rule}: ")).unwrap_or_default();
        format!("warning: {}: {rule}{}", problem.place, problem.message)
    });
    let valid = report.valid.then(|| format!("Valid: {}", report.kind));
    warnings.chain(valid).collect::<Vec<_>>().join("\n")
}

fn explained(explanation: &PolicyExplanation) -> String {
    let layers = explanation.layers.iter().map(|layer| {
        let unmet = layer.unmet.iter().map(unmet);
        let questions = layer.questions.iter().map(|question| format!("asks: {question}"));
        let reasons = std::iter::once(layer.reason.clone()).chain(questions).chain(unmet);
        vec![
            layer.layer.clone(),
            layer.ruling.clone(),
            layer.rules.join(", "),
            reasons.collect::<Vec<_>>().join("; "),
            layer.remedy.clone().unwrap_or_default(),
        ]
    });
    let layers = table(&["LAYER", "SAYS", "RULE", "BECAUSE", "TO PERMIT IT"], layers);
    let code = explanation.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    let note = match explanation.ruling.as_str() {
        "ask" => "\nIt is refused (APPROVAL_REQUIRED): approvals do not stand on this node.",
        _ => "",
    };
    format!("{layers}\n\nTogether: {}{code}{note}", explanation.ruling)
}

fn unmet(unmet: &PolicyUnmet) -> String {
    format!("{} lacks its {}: {}", unmet.rule, unmet.part, unmet.condition)
}

fn rows(tested: &PolicyTested) -> String {
    let text = |row: &Value, field: &str| row.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let rows = tested.rows.iter().map(|row| {
        let said = row.explanation.as_ref().map(|explanation| explanation.ruling.clone());
        vec![
            if row.passed { "ok" } else { "FAIL" }.to_owned(),
            text(&row.row, "agent"),
            text(&row.row, "tool"),
            text(&row.row, "expect"),
            said.unwrap_or_default(),
            row.failure.clone().unwrap_or_default(),
        ]
    });
    let rows = table(&["", "AGENT", "TOOL", "EXPECTED", "POLICY SAYS", "WHY"], rows);
    format!("{rows}\n\n{} passed, {} failed", tested.passed, tested.failed)
}

fn changed(diff: &PolicyDiff) -> String {
    let mut parts = Vec::new();
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    if !diff.changes.is_empty() {
        let rows = diff.changes.iter().map(|change| {
            vec![change.direction.clone(), change.place.clone(), shown(&change.before), shown(&change.after)]
        });
        parts.push(table(&["", "WHERE", "OLD", "NEW"], rows));
    }
    if diff.lines.iter().any(|line| line.kind != "same") {
        let lines = diff.lines.iter().map(|line| {
            let sign = match line.kind.as_str() {
                "removed" => '-',
                "added" => '+',
                _ => ' ',
            };
            format!("{sign}{}", line.text)
        });
        parts.push(lines.collect::<Vec<_>>().join("\n"));
    }
    if !diff.verdicts.is_empty() {
        let rows = diff.verdicts.iter().map(|change| {
            vec![
                (change.row + 1).to_string(),
                change.direction.clone(),
                shown(&change.before),
                shown(&change.after),
                change.reason.clone(),
            ]
        });
        parts.push(table(&["ROW", "", "OLD", "NEW", "WHY"], rows));
    }
    if parts.is_empty() { "Nothing changes.".to_owned() } else { parts.join("\n\n") }
}
