//! Bodies of `/v1/policy/…`: what policy says, and what is wrong with documents of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A document of policy: a text in Cedar, or a NodeConfig, a list of security contexts, a Soul or an Agent in YAML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Its file's name: `.yaml`, `.yml` and `.json` are documents, anything else is Cedar.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// Something wrong with a document of policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyProblem {
    /// `error` or `warning`.
    pub severity: String,
    /// Where: `FILE:LINE:COLUMN`, or what is known of it.
    pub place: String,
    /// Which rule or field, where that is known.
    pub rule: Option<String>,
    /// What is wrong, and how to mend it.
    pub message: String,
}

/// What was found in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// `cedar`, `contexts` or `soul`.
    pub kind: String,
    /// Whether it can be used.
    pub valid: bool,
    /// Everything wrong with it.
    pub problems: Vec<PolicyProblem>,
}

/// A call somebody wants to know about.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyQuestion {
    /// Which agent would call: id, name or name@version.
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
}

/// A rule that would have permitted, and what was missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyUnmet {
    /// Its name.
    pub rule: String,
    /// `action`, `principal`, `resource` or `condition`.
    pub part: String,
    /// The condition that failed.
    pub condition: String,
    /// What would meet it.
    pub remedy: String,
}

/// What one layer says, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyLayer {
    /// Its name.
    pub layer: String,
    /// `permit`, `ask` or `deny`.
    pub ruling: String,
    /// If it denies: `forbidden`, `not_permitted`, `policy_error` or `unintelligible`; null for constraints.
    pub cause: Option<String>,
    /// The rules that decided.
    pub rules: Vec<String>,
    /// In words.
    pub reason: String,
    /// What a person is asked.
    pub questions: Vec<String>,
    /// The rules that came closest, where none permits.
    pub unmet: Vec<PolicyUnmet>,
    /// What would make it permit without asking; null where it does.
    pub remedy: Option<String>,
}

/// What all layers say together, and each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyExplanation {
    /// `permit`, `ask` or `deny`. What asks is refused as long as approvals do not stand on the node.
    pub ruling: String,
    /// The code of the denial, if it is one.
    pub code: Option<String>,
    /// Each layer, in order; before them what constraints refuse.
    pub layers: Vec<PolicyLayer>,
}

/// How a row of a table fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyRow {
    /// The row as written.
    pub row: Value,
    /// Whether it is as expected.
    pub passed: bool,
    /// Why not.
    pub failure: Option<String>,
    /// What policy says; null if the row could not be asked.
    pub explanation: Option<PolicyExplanation>,
}

/// How a table of expectations fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyTested {
    /// Rows that are as expected.
    pub passed: usize,
    /// Rows that are not.
    pub failed: usize,
    /// All rows, in order.
    pub rows: Vec<PolicyRow>,
}

/// Two versions of a document to be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyComparison {
    /// The old one.
    pub old: PolicyDocument,
    /// The new one, of the same kind.
    pub new: PolicyDocument,
    /// A table of expectations, asked under both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<PolicyDocument>,
}

/// A structured change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// `widens`, `narrows` or `unclear`.
    pub direction: String,
    /// Where.
    pub place: String,
    /// What it was; null if it was not there.
    pub before: Option<String>,
    /// What it is; null if it is gone.
    pub after: Option<String>,
}

/// A line of a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyLine {
    /// `same`, `removed` or `added`.
    pub kind: String,
    /// The line.
    pub text: String,
}

/// A row on which two versions differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVerdictChange {
    /// Its place in the table, from 0.
    pub row: usize,
    /// `widens`, `narrows` or `unclear`.
    pub direction: String,
    /// What the old version says; null if it could not be asked.
    pub before: Option<String>,
    /// What the new one says.
    pub after: Option<String>,
    /// Why the new one says so.
    pub reason: String,
}

/// What changes between two versions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PolicyDiff {
    /// What widens and what narrows, for contexts and souls.
    pub changes: Vec<PolicyChange>,
    /// The difference of the texts, for Cedar.
    pub lines: Vec<PolicyLine>,
    /// The rows of the table whose verdicts differ.
    pub verdicts: Vec<PolicyVerdictChange>,
}
