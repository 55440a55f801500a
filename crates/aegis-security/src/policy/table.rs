//! Tables of expectations: what policy should say, checked before it is used.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Explanation, Ruling};

/// A row: a call, and what is expected of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Which agent calls: `name` or `name@version`.
    pub agent: String,
    /// Which tool.
    pub tool: String,
    /// With what arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Labels on the execution.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    /// The risk, from 0 to 1; absent is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<f64>,
    /// What is expected.
    pub expect: Ruling,
    /// The rule or layer expected to decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

impl Expectation {
    /// The risk in thousandths.
    ///
    /// # Errors
    ///
    /// Fails unless it lies between 0 and 1.
    pub fn risk_thousandths(&self) -> Result<i64, super::PolicyError> {
        let risk = self.risk.unwrap_or(0.0);
        super::soul::thousandths(risk).ok_or(super::PolicyError::Risk(risk))
    }
}

/// How a row fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowResult {
    /// The row.
    pub row: Expectation,
    /// Whether it is as expected.
    pub passed: bool,
    /// Why not.
    pub failure: Option<String>,
    /// What policy says; absent if the row could not be asked.
    pub explanation: Option<Explanation>,
}

/// Asks every row by `ask`, which finds the agent's layers and explains, and compares.
pub fn run_table(
    rows: &[Expectation],
    mut ask: impl FnMut(&Expectation) -> Result<Explanation, String>,
) -> Vec<RowResult> {
    let results = rows.iter().map(|row| {
        let asked = ask(row);
        let failure = match &asked {
            Ok(explanation) => difference(row, explanation),
            Err(error) => Some(error.clone()),
        };
        RowResult { row: row.clone(), passed: failure.is_none(), failure, explanation: asked.ok() }
    });
    results.collect()
}

fn difference(row: &Expectation, explanation: &Explanation) -> Option<String> {
    let said = explanation.ruling;
    if said != row.expect {
        let why: Vec<String> = explanation.deciding().map(ToString::to_string).collect();
        return Some(format!("expected {}, but policy says {said}: {}", row.expect, why.join("; ")));
    }
    let wanted = row.rule.as_ref()?;
    let decided: Vec<&str> = explanation
        .deciding()
        .flat_map(|layer| layer.rules.iter().map(String::as_str).chain([layer.layer.as_str()]))
        .collect();
    if decided.contains(&wanted.as_str()) {
        return None;
    }
    Some(format!("expected {said} by `{wanted}`, but it is by {}", decided.join(", ")))
}
