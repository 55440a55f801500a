//! What policy says, and what is wrong with documents of it.

use std::sync::Arc;

use aegis_api::{PolicyComparison, PolicyDocument, PolicyQuestion};
use aegis_core::{Diagnosis, ErrorCode};
use aegis_kernel::{Asked, Caller, Overlay};
use aegis_security::policy::{Expectation, Explanation, RowResult, Ruling, run_table};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use serde_json::{Value, json};

use super::executions::selector;
use super::{bytes, from_json};
use crate::answer::{Answer, json as answer};
use crate::app::App;
use crate::policy;

pub(super) async fn check(body: Body) -> Answer {
    let document: PolicyDocument = from_json(&bytes(body).await?)?;
    Ok(answer(&policy::check(&document, None)))
}

pub(super) async fn explain(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answer {
    let question: PolicyQuestion = from_json(&bytes(body).await?)?;
    let row = Expectation {
        agent: question.agent,
        tool: question.tool,
        arguments: question.arguments,
        labels: question.labels,
        risk: question.risk,
        expect: Ruling::Permit,
        rule: None,
    };
    Ok(answer(&ask(&app, &caller, &row, None).await?))
}

pub(super) async fn test(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answer {
    let table: PolicyDocument = from_json(&bytes(body).await?)?;
    let rows = policy::rows(&table)?;
    let results = run(&app, &caller, &rows, None).await;
    let passed = results.iter().filter(|result| result.passed).count();
    let tested: Value = json!({"passed": passed, "failed": results.len() - passed, "rows": results});
    Ok(answer(&tested))
}

pub(super) async fn diff(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answer {
    let PolicyComparison { old, new, table } = from_json(&bytes(body).await?)?;
    let mut diff = policy::diff((&old, &new), (None, None))?;
    if let Some(table) = table {
        let rows = policy::rows(&table)?;
        let before = run(&app, &caller, &rows, Some(&policy::overlay(&old)?)).await;
        let after = run(&app, &caller, &rows, Some(&policy::overlay(&new)?)).await;
        diff.verdicts = policy::verdicts_changed(&before, &after);
    }
    Ok(answer(&diff))
}

async fn run(app: &App, caller: &Caller, rows: &[Expectation], overlay: Option<&Overlay>) -> Vec<RowResult> {
    let mut answers = Vec::with_capacity(rows.len());
    for row in rows {
        answers.push(ask(app, caller, row, overlay).await.map_err(|error| error.message));
    }
    let mut answers = answers.into_iter();
    run_table(rows, |_| answers.next().unwrap_or_else(|| Err("the row was not asked".to_owned())))
}

async fn ask(
    app: &App,
    caller: &Caller,
    row: &Expectation,
    overlay: Option<&Overlay>,
) -> Result<Explanation, Diagnosis> {
    let risk =
        row.risk_thousandths().map_err(|error| Diagnosis::new(ErrorCode::InvalidInput, error.to_string()))?;
    let asked = Asked {
        agent: selector(&row.agent),
        tool: row.tool.clone(),
        arguments: Value::Object(row.arguments.clone()),
        labels: row.labels.iter().cloned().collect(),
        risk,
    };
    app.kernel.explain_policy(caller, &asked, overlay).await
}
