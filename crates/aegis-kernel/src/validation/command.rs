//! Commands that judge: run after the iteration's processes are dead, in a fresh sandbox without sockets, on a
//! read-only view of the volume. The result is the wait status of the daemon's own child.

use std::time::Duration;

use aegis_core::execution::FailureReason;
use aegis_core::limits::COMMAND_OUTPUT_BYTES_MAX;
use aegis_core::{Body, Durability, ExitStatus, Score};
use aegis_manifest::agent::{CommandLine, ExitCodeValidator, ScriptValidator};
use serde_json::Value;

use super::{Candidate, Finding, judge_exit};
use crate::execution::{Driver, Halt, base_environment, words};
use crate::port::{Ended, HostFile, Role, SandboxSpec, Sandboxed};

/// Time a validator's command has unless the manifest says otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Output of a command shown to the next iteration, in bytes.
const SHOWN_BYTES_MAX: usize = 2_000;
/// Where the candidate lies inside.
const CANDIDATE_FILE: &str = "/run/aegis/candidate";

impl Driver {
    /// The finding of `exit_code{command}`.
    pub(crate) async fn run_exit_code(
        &mut self,
        index: u32,
        command: &CommandLine,
        rule: &ExitCodeValidator,
    ) -> Result<Finding, Halt> {
        let timeout = rule.timeout.map_or(TIMEOUT_DEFAULT, aegis_manifest::Millis::duration);
        let Some(ended) = self.run_validator(index, command, timeout, &Candidate::default()).await? else {
            return Ok(timed_out(timeout));
        };
        let finding = judge_exit(rule, "the command", ended.status, !ended.stderr.is_empty());
        let reasoning = with_output(finding.reasoning, &ended);
        Ok(Finding { self_attested: true, reasoning, ..finding })
    }

    /// The finding of `script`: exit code 0 passes; a JSON object with a `score` on its output grades.
    pub(crate) async fn run_script(
        &mut self,
        index: u32,
        rule: &ScriptValidator,
        candidate: &Candidate,
    ) -> Result<Finding, Halt> {
        let timeout = rule.timeout.map_or(TIMEOUT_DEFAULT, aegis_manifest::Millis::duration);
        let Some(ended) = self.run_validator(index, &rule.command, timeout, candidate).await? else {
            return Ok(timed_out(timeout));
        };
        let finding = if ended.status == (ExitStatus::Exited { code: 0 }) {
            graded(&ended).unwrap_or_else(|| Finding::binary(true, "the script ended with exit code 0"))
        } else {
            let why = format!("the script ended with {}", words(ended.status));
            Finding::binary(false, with_output(why, &ended))
        };
        Ok(Finding { self_attested: true, ..finding })
    }

    /// Runs a command; `None` if it took too long.
    async fn run_validator(
        &mut self,
        index: u32,
        command: &CommandLine,
        timeout: Duration,
        candidate: &Candidate,
    ) -> Result<Option<Ended>, Halt> {
        let mounts = self.rooms().await?.mounts(true);
        let mut env = base_environment(&self.blueprint.env);
        env.push(("AEGIS_CANDIDATE_FILE".to_owned(), CANDIDATE_FILE.to_owned()));
        let spec = SandboxSpec {
            execution: self.ledger.execution,
            generation: self.ledger.state.generation,
            ordinal: index + 1,
            role: Role::Validator,
            argv: inside(command.arguments()),
            env,
            cwd: "/workspace".to_owned(),
            files: vec![HostFile { name: "candidate".to_owned(), bytes: candidate.text.as_bytes().to_vec() }],
            mounts,
            doors: crate::port::Doors::NONE,
            uid: self.services.ports.sandbox.uid_for(self.ledger.execution),
            limits: self.blueprint.limits,
            output_bytes_max: COMMAND_OUTPUT_BYTES_MAX,
        };
        let failed = |error: crate::port::SandboxError| {
            Halt::Execution(FailureReason::ValidatorFailed, error.to_string())
        };
        // It sees a read-only view and no network, so surviving `kill -9` is enough, and after one it is run again.
        let started = Body::ValidatorStarted { iteration: self.ledger.state.iteration, index };
        self.ledger.fact(started, Vec::new(), Durability::Process).await?;
        let sandboxed = self.services.ports.sandbox.start(spec).await.map_err(failed)?;
        let outcome = self.watch_validator(sandboxed.as_ref(), timeout).await;
        if let Ok(Some(ended)) = &outcome {
            self.record_violations(ended.violations.clone()).await?;
        }
        outcome
    }

    async fn watch_validator(
        &self,
        sandboxed: &dyn Sandboxed,
        timeout: Duration,
    ) -> Result<Option<Ended>, Halt> {
        let failed = |error: crate::port::SandboxError| {
            Halt::Execution(FailureReason::ValidatorFailed, error.to_string())
        };
        tokio::select! {
            ended = sandboxed.wait() => ended.map(Some).map_err(failed),
            () = tokio::time::sleep(timeout) => {
                sandboxed.kill();
                sandboxed.wait().await.map_err(failed)?;
                Ok(None)
            }
            reason = self.stopper.interrupted() => {
                sandboxed.kill();
                sandboxed.wait().await.map_err(failed)?;
                Err(Halt::Stopped(reason))
            }
        }
    }
}

/// The command as the sandbox takes it: a bare name is looked up in the sandbox's PATH, a relative path is the
/// workspace's.
fn inside(arguments: &[String]) -> Vec<String> {
    let mut argv = Vec::with_capacity(arguments.len() + 1);
    match arguments.first() {
        Some(program) if program.starts_with('/') => argv.push(program.clone()),
        Some(program) if program.contains('/') => argv.push(format!("/workspace/{program}")),
        Some(program) => argv.extend(["/usr/bin/env".to_owned(), program.clone()]),
        None => {}
    }
    argv.extend(arguments.iter().skip(1).cloned());
    argv
}

fn timed_out(timeout: Duration) -> Finding {
    let why = format!("the command took longer than {} s", timeout.as_secs());
    Finding { self_attested: true, ..Finding::binary(false, why) }
}

fn graded(ended: &Ended) -> Option<Finding> {
    let value: Value = serde_json::from_slice(&ended.stdout).ok()?;
    let score =
        value.get("score")?.as_f64().filter(|score| (0.0..=1.0).contains(score)).map(Score::from_f64)?;
    let confidence = value.get("confidence").and_then(Value::as_f64).map_or(Score::ONE, Score::from_f64);
    let reasoning =
        value.get("reasoning").and_then(Value::as_str).unwrap_or("the script graded it").to_owned();
    Some(Finding { score, confidence, reasoning, self_attested: true })
}

fn with_output(why: String, ended: &Ended) -> String {
    let tail = |bytes: &[u8]| {
        let cut = bytes.len().saturating_sub(SHOWN_BYTES_MAX);
        String::from_utf8_lossy(bytes.get(cut..).unwrap_or_default()).trim().to_owned()
    };
    let output = if ended.stderr.is_empty() { tail(&ended.stdout) } else { tail(&ended.stderr) };
    if output.is_empty() { why } else { format!("{why}; its output ends: {output}") }
}
