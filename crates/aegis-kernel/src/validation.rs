//! Validation: from a candidate to verdicts. Scoring is pure; what touches the world (a fresh sandbox, a judge's
//! model call) goes through the driver and the monitor.

mod candidate;
mod command;
mod consensus;
mod judge;
mod schema;

use aegis_core::execution::FailureReason;
use aegis_core::{Body, Durability, ExitStatus, Score, Verdict};
use aegis_manifest::agent::{ExitCodeValidator, Validator};

pub(crate) use candidate::Candidate;
pub(crate) use schema::Schema;

use crate::execution::{Driver, Halt, words};

/// What a validator found, before the manifest's minimum is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) score: Score,
    pub(crate) confidence: Score,
    /// Why, for people and for the next prompt.
    pub(crate) reasoning: String,
    /// Whether code from the workspace had a part in it.
    pub(crate) self_attested: bool,
}

impl Finding {
    /// A finding without doubt.
    pub(crate) fn sure(score: Score, reasoning: impl Into<String>) -> Self {
        Self { score, confidence: Score::ONE, reasoning: reasoning.into(), self_attested: false }
    }
    /// Right or wrong, nothing between.
    pub(crate) fn binary(right: bool, reasoning: impl Into<String>) -> Self {
        Self::sure(if right { Score::ONE } else { Score::ZERO }, reasoning)
    }
}

impl Driver {
    /// Runs validator `index` and records its verdict.
    pub(crate) async fn validate(&mut self, index: u32) -> Result<(), Halt> {
        let Some(validator) = self.blueprint.validators.get(index as usize).cloned() else {
            return Err(Halt::Execution(FailureReason::Internal, format!("there is no validator {index}")));
        };
        let named = |detail: String| format!("validator {}: {detail}", validator.name());
        let finding = self.find(&validator, index).await.map_err(|halt| match halt {
            Halt::Execution(reason, detail) => Halt::Execution(reason, named(detail)),
            Halt::Iteration(reason, detail) => Halt::Iteration(reason, named(detail)),
            other => other,
        })?;
        let verdict = Verdict {
            validator: validator.name().to_owned(),
            passed: finding.score >= validator.min_score()
                && finding.confidence >= validator.min_confidence(),
            score: finding.score,
            confidence: finding.confidence,
        };
        let mut blobs = Vec::new();
        let body = Body::ValidatorCompleted {
            iteration: self.ledger.state.iteration,
            index,
            verdict,
            reasoning: self.ledger.scribe.blob(finding.reasoning, &mut blobs),
            self_attested: finding.self_attested,
        };
        self.ledger.fact(body, blobs, Durability::Process).await?;
        Ok(())
    }

    async fn find(&mut self, validator: &Validator, index: u32) -> Result<Finding, Halt> {
        let candidate = match validator.target() {
            Some(target) => match self.candidate(target).await? {
                Ok(candidate) => candidate,
                Err(missing) => return Ok(Finding::binary(false, missing)),
            },
            None => Candidate::default(),
        };
        match validator {
            Validator::ExitCode(rule) => match &rule.command {
                Some(command) => self.run_exit_code(index, command, rule).await,
                None => Ok(self.bootstrap_exit(rule)),
            },
            Validator::JsonSchema(rule) => {
                let schema = serde_json::Value::Object(rule.schema.clone());
                let grade = move || Schema::compile(&schema).map(|schema| schema.grade_text(&candidate.text));
                self.compute(grade).await
            }
            Validator::Regex(rule) => {
                let pattern = rule.pattern.clone();
                self.compute(move || match_regex(&pattern, &candidate.text)).await
            }
            Validator::Script(rule) => self.run_script(index, rule, &candidate).await,
            Validator::Semantic(rule) => self.judge_alone(index, rule, &candidate).await,
            Validator::MultiJudge(rule) => self.judge_together(index, rule, &candidate).await,
        }
    }

    /// Judges on a thread of its own: a candidate may have megabytes, and other runs go on meanwhile. Patterns and schemas
    /// take linear time; what is given up is let end unheeded.
    async fn compute(
        &self,
        judge: impl FnOnce() -> Result<Finding, String> + Send + 'static,
    ) -> Result<Finding, Halt> {
        let failed = |detail: String| Halt::Execution(FailureReason::ValidatorFailed, detail);
        tokio::select! {
            found = tokio::task::spawn_blocking(judge) => {
                found.map_err(|error| failed(error.to_string()))?.map_err(failed)
            }
            reason = self.stopper.interrupted() => Err(Halt::Stopped(reason)),
        }
    }

    /// The bootstrap's own exit code, seen by the daemon as the status of its child.
    fn bootstrap_exit(&self, rule: &ExitCodeValidator) -> Finding {
        let state = &self.ledger.state.current;
        let status = state.exit.unwrap_or(ExitStatus::Unknown);
        judge_exit(rule, "the bootstrap", status, state.stderr.is_some())
    }
}

/// Whether `who` ended as the rule wants it.
fn judge_exit(rule: &ExitCodeValidator, who: &str, status: ExitStatus, complained: bool) -> Finding {
    let right = status == ExitStatus::Exited { code: rule.expected };
    if right && !rule.allow_stderr && complained {
        return Finding::binary(false, format!("{who} wrote to standard error, which is not allowed"));
    }
    let expected = rule.expected;
    Finding::binary(right, format!("expected exit code {expected}, {who} ended with {}", words(status)))
}

fn match_regex(pattern: &str, text: &str) -> Result<Finding, String> {
    /// Largest compiled pattern, in bytes.
    const SIZE_MAX: usize = 1 << 20;
    let regex =
        regex::RegexBuilder::new(pattern).size_limit(SIZE_MAX).build().map_err(|error| error.to_string())?;
    let found = regex.is_match(text);
    let verb = if found { "matches" } else { "does not match" };
    Ok(Finding::binary(found, format!("the text {verb} `{pattern}`")))
}

#[cfg(test)]
mod tests {
    use aegis_manifest::agent::CommandLine;

    use super::*;

    fn rule(expected: i32, allow_stderr: bool) -> ExitCodeValidator {
        ExitCodeValidator {
            expected,
            command: None::<CommandLine>,
            allow_stderr,
            timeout: None,
            min_score: Score::ONE,
            min_confidence: Score::ZERO,
        }
    }

    #[test]
    fn an_end_is_right_by_its_code_and_by_its_silence_where_that_is_asked_for() {
        let exited = |code| ExitStatus::Exited { code };
        for (rule, status, complained, right) in [
            (rule(0, true), exited(0), true, true),
            (rule(0, true), exited(3), false, false),
            (rule(3, true), exited(3), false, true),
            (rule(3, true), exited(0), false, false),
            (rule(0, false), exited(0), false, true),
            (rule(0, false), exited(0), true, false),
            (rule(0, true), ExitStatus::Unknown, false, false),
        ] {
            let finding = judge_exit(&rule, "it", status, complained);
            assert_eq!(finding.score == Score::ONE, right, "{rule:?} {status:?} {complained}");
            assert_eq!(finding.reasoning.contains("standard error"), complained && !right, "{finding:?}");
        }
    }
}
