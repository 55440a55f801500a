//! What a validator said of a candidate, and how several judges are made into one verdict.

use serde::{Deserialize, Serialize};

use crate::Score;

/// One validator's finding. The reasoning is text about the candidate and therefore lies in a blob, not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The validator's kind, as the manifest names it.
    pub validator: String,
    /// Whether score and confidence reach the manifest's minimum.
    pub passed: bool,
    /// How good the candidate is.
    pub score: Score,
    /// How sure the validator is.
    pub confidence: Score,
}

/// How the verdicts of several judges become one (contract, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consensus {
    /// Mean by weight; confidence falls with disagreement.
    WeightedAverage,
    /// More than half of the weight passes.
    Majority,
    /// Every judge passes.
    Unanimous,
    /// The best judge decides.
    BestOfN,
}
