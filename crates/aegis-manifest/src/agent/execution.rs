//! How often an agent tries, how long, and what judges it.

use aegis_core::Score;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validation::{self, Validator};
use crate::quantity::{Millis, fraction};

/// Iterations, timeouts and validators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutionRules {
    /// `iterative` tries again until the validators pass; `one-shot` is one iteration.
    pub mode: ExecutionMode,
    /// Most iterations.
    #[schemars(range(min = 1, max = 20))]
    pub max_iterations: u32,
    /// Longest time of one iteration.
    pub iteration_timeout: Millis,
    /// Longest time of one model call, in seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub llm_timeout_seconds: u32,
    /// Whether the agent remembers earlier executions.
    pub memory: bool,
    /// What judges an iteration, in order; the first failure ends the pass. A list of validators, or a mapping of
    /// `system`, `output` and `semantic`.
    #[serde(deserialize_with = "validation::either_form", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "validation::either_form_schema")]
    pub validation: Vec<Validator>,
    /// Judges asked before a tool call is made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_validation: Vec<ToolValidation>,
}

impl Default for ExecutionRules {
    fn default() -> Self {
        Self {
            mode: ExecutionMode::Iterative,
            max_iterations: 10,
            iteration_timeout: Millis::from_secs(300),
            llm_timeout_seconds: 300,
            memory: false,
            validation: Vec::new(),
            tool_validation: Vec::new(),
        }
    }
}

impl ExecutionRules {
    /// Most iterations, `mode` considered.
    pub const fn iterations_max(&self) -> u32 {
        match self.mode {
            ExecutionMode::OneShot => 1,
            ExecutionMode::Iterative => self.max_iterations,
        }
    }
}

/// Whether an agent tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExecutionMode {
    /// One iteration.
    OneShot,
    /// Until the validators pass.
    #[default]
    Iterative,
}

/// A judge asked before a tool call is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolValidation {
    /// Always `semantic`.
    #[serde(rename = "type", default)]
    pub kind: ToolValidationType,
    /// The agent that judges.
    pub judge_agent: String,
    /// What it judges by.
    pub criteria: String,
    /// The least score that lets the call pass.
    #[serde(default = "score_one", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_score: Score,
}

fn score_one() -> Score {
    Score::ONE
}

/// The kind of a judge before tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolValidationType {
    /// A model judges by criteria.
    #[default]
    Semantic,
}
