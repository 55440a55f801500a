//! Validators: what judges an iteration. Written as a list, or as a mapping of `system`, `output` and `semantic`.

use std::str::FromStr;

use aegis_core::{Consensus, Score};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::command::CommandLine;
use crate::quantity::{Millis, fraction};

/// One validator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Validator {
    /// An exit code, of a command or of the bootstrap.
    ExitCode(ExitCodeValidator),
    /// JSON that satisfies a schema.
    JsonSchema(JsonSchemaValidator),
    /// Text that a pattern matches.
    Regex(RegexValidator),
    /// A command that judges by its exit code and answer.
    Script(ScriptValidator),
    /// A model that judges by criteria.
    Semantic(SemanticValidator),
    /// Several models that judge by criteria.
    MultiJudge(MultiJudgeValidator),
}

impl Validator {
    /// The kind, as the manifest writes it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ExitCode(_) => "exit_code",
            Self::JsonSchema(_) => "json_schema",
            Self::Regex(_) => "regex",
            Self::Script(_) => "script",
            Self::Semantic(_) => "semantic",
            Self::MultiJudge(_) => "multi_judge",
        }
    }
    /// What is judged; an exit code has no target.
    pub const fn target(&self) -> Option<&Target> {
        match self {
            Self::ExitCode(_) => None,
            Self::JsonSchema(validator) => Some(&validator.target),
            Self::Regex(validator) => Some(&validator.target),
            Self::Script(validator) => Some(&validator.target),
            Self::Semantic(validator) => Some(&validator.target),
            Self::MultiJudge(validator) => Some(&validator.target),
        }
    }
    /// The least score that passes.
    pub const fn min_score(&self) -> Score {
        match self {
            Self::ExitCode(validator) => validator.min_score,
            Self::JsonSchema(validator) => validator.min_score,
            Self::Regex(validator) => validator.min_score,
            Self::Script(validator) => validator.min_score,
            Self::Semantic(validator) => validator.min_score,
            Self::MultiJudge(validator) => validator.min_score,
        }
    }
    /// The least confidence that passes.
    pub const fn min_confidence(&self) -> Score {
        match self {
            Self::ExitCode(validator) => validator.min_confidence,
            Self::JsonSchema(validator) => validator.min_confidence,
            Self::Regex(validator) => validator.min_confidence,
            Self::Script(validator) => validator.min_confidence,
            Self::Semantic(validator) => validator.min_confidence,
            Self::MultiJudge(validator) => validator.min_confidence,
        }
    }
}

const fn one() -> Score {
    Score::ONE
}
const fn zero() -> Score {
    Score::ZERO
}
/// What a judge's score must reach without `min_score`.
const fn judged() -> Score {
    Score::from_millionths(700_000)
}
const fn yes() -> bool {
    true
}
const fn weight_one() -> f64 {
    1.0
}

/// Judges by an exit code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExitCodeValidator {
    /// The exit code that passes.
    #[serde(default)]
    #[schemars(range(min = 0, max = 255))]
    pub expected: i32,
    /// The command that is run after the iteration, on a read-only view of its volume; without it the exit code of the
    /// bootstrap counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandLine>,
    /// Whether standard error may hold text.
    #[serde(default = "yes")]
    pub allow_stderr: bool,
    /// Longest time of the command; 60s without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "60s"))]
    pub timeout: Option<Millis>,
    /// The least score that passes.
    #[serde(default = "one", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_score: Score,
    /// The least confidence that passes.
    #[serde(default = "zero", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_confidence: Score,
}

/// Judges JSON by a schema; the score is the share of what is satisfied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonSchemaValidator {
    /// The JSON Schema, draft 2020-12.
    #[schemars(extend("format" = "json-schema"))]
    pub schema: serde_json::Map<String, Value>,
    /// What is judged: `answer`, `stdout` or `file:PATH`.
    #[serde(default)]
    pub target: Target,
    /// The least score that passes.
    #[serde(default = "one", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_score: Score,
    /// The least confidence that passes.
    #[serde(default = "zero", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_confidence: Score,
}

/// Judges text by a pattern that must match somewhere in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegexValidator {
    /// The pattern: linear-time syntax, without look-around and back-references.
    #[schemars(extend("format" = "regex"))]
    pub pattern: String,
    /// What is judged: `answer`, `stdout` or `file:PATH`.
    #[serde(default)]
    pub target: Target,
    /// The least score that passes.
    #[serde(default = "one", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_score: Score,
    /// The least confidence that passes.
    #[serde(default = "zero", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_confidence: Score,
}

/// Judges by a command, run after the iteration on a read-only view of its volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScriptValidator {
    /// The command.
    pub command: CommandLine,
    /// Longest time of the command; 60s without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "60s"))]
    pub timeout: Option<Millis>,
    /// What is judged: `answer`, `stdout` or `file:PATH`. The file that `AEGIS_CANDIDATE_FILE` names holds it.
    #[serde(default)]
    pub target: Target,
    /// The least score that passes.
    #[serde(default = "one", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_score: Score,
    /// The least confidence that passes.
    #[serde(default = "zero", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_confidence: Score,
}

/// Judges by a model. Exactly one of `model` and `judge_agent` is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SemanticValidator {
    /// The alias of the model that is asked directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The agent that judges, as a child execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_agent: Option<String>,
    /// What is judged by, in sentences.
    pub criteria: String,
    /// What is judged: `answer`, `stdout` or `file:PATH`.
    #[serde(default)]
    pub target: Target,
    /// The least score that passes.
    #[serde(default = "judged", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_score: Score,
    /// The least confidence that passes.
    #[serde(default = "zero", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_confidence: Score,
}

/// Judges by several models, whose verdicts become one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiJudgeValidator {
    /// The judges, at least one.
    #[schemars(length(min = 1))]
    pub judges: Vec<Judge>,
    /// How their verdicts become one.
    #[serde(default = "weighted_average")]
    #[schemars(with = "ConsensusName")]
    pub consensus: Consensus,
    /// What is judged by, in sentences, for the judges without criteria of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criteria: Option<String>,
    /// What is judged: `answer`, `stdout` or `file:PATH`.
    #[serde(default)]
    pub target: Target,
    /// The least score that passes.
    #[serde(default = "judged", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_score: Score,
    /// The least confidence that passes.
    #[serde(default = "zero", with = "fraction")]
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub min_confidence: Score,
}

const fn weighted_average() -> Consensus {
    Consensus::WeightedAverage
}

/// One judge of several. Exactly one of `model` and `judge_agent` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    /// The alias of the model that is asked directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The agent that judges, as a child execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_agent: Option<String>,
    /// Its weight, above 0.
    #[serde(default = "weight_one")]
    pub weight: f64,
    /// What it judges by; the validator's `criteria` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criteria: Option<String>,
}

/// How the verdicts of several judges become one.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "stands for `aegis_core::Consensus` in the schema")]
enum ConsensusName {
    /// Mean by weight; confidence falls with disagreement.
    WeightedAverage,
    /// More than half of the weight passes.
    Majority,
    /// Every judge passes.
    Unanimous,
    /// The best judge decides.
    BestOfN,
}

/// What is judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Target {
    /// The final answer.
    #[default]
    Answer,
    /// What the bootstrap wrote to standard output.
    Stdout,
    /// A file of the agent's volume, by its path inside the sandbox.
    File(String),
}

/// Text that names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a target: write `answer`, `stdout` or `file:PATH`")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text {
            "answer" => Ok(Self::Answer),
            "stdout" => Ok(Self::Stdout),
            _ => match text.strip_prefix("file:") {
                Some(path) if !path.is_empty() => Ok(Self::File(path.to_owned())),
                _ => Err(TargetError(text.to_owned())),
            },
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answer => f.write_str("answer"),
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

crate::quantity::text_form!(Target, "target", "What is judged: `answer`, `stdout` or `file:PATH`.");

/// The mapping form of `execution.validation`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ValidationMapping {
    /// Judges the exit code of the bootstrap.
    system: Option<SystemRules>,
    /// Judges the form of the answer.
    output: Option<OutputRules>,
    /// Judges the answer by a model.
    semantic: Option<SemanticValidator>,
}

/// Judges the exit code of the bootstrap.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SystemRules {
    /// Whether it must exit with 0.
    #[serde(default = "yes")]
    must_succeed: bool,
    /// Whether standard error may hold text.
    #[serde(default = "yes")]
    allow_stderr: bool,
    /// Longest time, in seconds.
    #[schemars(range(min = 1, max = 86_400))]
    timeout_seconds: Option<u32>,
}

/// Judges the form of the answer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OutputRules {
    /// `json` asks for JSON, `text` for anything.
    format: Option<OutputFormat>,
    /// The JSON Schema of the answer.
    #[schemars(extend("format" = "json-schema"))]
    schema: Option<serde_json::Map<String, Value>>,
    /// A pattern that must match somewhere in the answer.
    #[schemars(extend("format" = "regex"))]
    pattern: Option<String>,
}

/// What form an answer has.
#[derive(Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
enum OutputFormat {
    /// JSON.
    Json,
    /// Anything.
    Text,
}

impl ValidationMapping {
    fn into_list(self) -> Vec<Validator> {
        let mut list = Vec::new();
        if let Some(system) = self.system
            && system.must_succeed
        {
            list.push(Validator::ExitCode(ExitCodeValidator {
                expected: 0,
                command: None,
                allow_stderr: system.allow_stderr,
                timeout: system.timeout_seconds.map(|seconds| Millis::from_secs(seconds.into())),
                min_score: one(),
                min_confidence: zero(),
            }));
        }
        if let Some(output) = self.output {
            let wants_json = output.format == Some(OutputFormat::Json);
            if let Some(schema) = output.schema.or_else(|| wants_json.then(serde_json::Map::new)) {
                list.push(Validator::JsonSchema(JsonSchemaValidator {
                    schema,
                    target: Target::Answer,
                    min_score: one(),
                    min_confidence: zero(),
                }));
            }
            if let Some(pattern) = output.pattern {
                list.push(Validator::Regex(RegexValidator {
                    pattern,
                    target: Target::Answer,
                    min_score: one(),
                    min_confidence: zero(),
                }));
            }
        }
        list.extend(self.semantic.map(Validator::Semantic));
        list
    }
}

/// Reads the list form and the mapping form.
pub(super) fn either_form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Validator>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if value.is_object() {
        serde_json::from_value::<ValidationMapping>(value).map(ValidationMapping::into_list)
    } else {
        serde_json::from_value(value)
    }
    .map_err(serde::de::Error::custom)
}

/// The schema of both forms.
pub(super) fn either_form_schema(generator: &mut SchemaGenerator) -> Schema {
    let list = generator.subschema_for::<Vec<Validator>>();
    let mapping = generator.subschema_for::<ValidationMapping>();
    json_schema!({ "anyOf": [list, mapping] })
}
