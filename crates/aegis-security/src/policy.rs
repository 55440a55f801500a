//! Policy: authority as a conjunction of layers, each asked alone, each only able to take away.
//!
//! A [`Layer`] is a set of Cedar policies with a name: a node's or tenant's own text, a security context, a soul, a
//! manifest, or one of these of an ancestor. Layers are built as Cedar JSON, never by formatting text, and validated
//! against one schema. In each layer no permit, a forbid, or any error of a policy is a denial; a permit annotated
//! `@ask` asks a person and wins over a plain one. Any denial denies, else any question asks.

mod analysis;
mod check;
mod context;
mod diff;
mod draft;
mod evaluate;
mod explain;
mod layer;
mod lines;
mod manifest;
mod question;
mod schema;
mod soul;
mod table;
mod text;

pub use check::{check_authority, check_context, check_text};
pub use diff::{Change, Direction, VerdictChange, diff_authorities, diff_contexts, diff_verdicts};
pub use evaluate::{Cause, LayerVerdict, Refusal, Ruling, Verdict, evaluate};
pub use explain::{Explanation, LayerExplanation, Part, Unmet, explain};
pub use layer::{LAYER_RULES_MAX, Layer};
pub use lines::{DIFF_LINES_MAX, Line, LineKind, diff_lines};
pub use manifest::{ManifestRules, Network};
pub use question::{Link, PATH_COMPONENTS_MAX, Question, RESOURCE_BYTES_MAX};
pub use schema::{ActionName, schema_json};
pub use soul::Authority;
pub use table::{Expectation, RowResult, run_table};
pub use text::{Problem, Severity, TEXT_BYTES_MAX};

/// Rules that make no layer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// A pattern that cannot be understood.
    #[error(transparent)]
    Constraint(#[from] crate::constraint::ConstraintError),
    /// A text that cannot be used: everything wrong with it.
    #[error("{} problem(s) in the policy of `{layer}`: {}", .problems.len(), .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Text {
        /// The layer it was meant for.
        layer: String,
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// Not a risk.
    #[error("max_risk is `{0}`: it lies between 0 and 1")]
    Risk(f64),
    /// More rules than can be asked for every action.
    #[error(
        "`{layer}` holds {rules} rules, at most {LAYER_RULES_MAX} can be asked: join patterns, such as `fs.*`"
    )]
    Rules {
        /// The layer.
        layer: String,
        /// How many it holds.
        rules: usize,
    },
    /// A rule the schema refuses; a fault of ours, since rules are built for it.
    #[error("the rule `{rule}` does not fit the schema: {reason}")]
    Rule {
        /// Its name.
        rule: String,
        /// What the validator says.
        reason: String,
    },
    /// The vocabulary itself cannot be read; a fault of ours.
    #[error("the policy schema cannot be read: {0}")]
    Schema(String),
}
