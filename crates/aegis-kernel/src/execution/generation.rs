//! One sandbox generation: the bootstrap's process tree, from its start until it is proved dead.

use std::sync::Arc;
use std::time::Duration;

use aegis_core::execution::{FailureReason, Phase};
use aegis_core::limits::{MODEL_ANSWER_BYTES_MAX, PROMPT_ARGUMENT_BYTES_MAX};
use aegis_core::{Body, Durability, ExitStatus, Message, Role as Speaker};
use aegis_security::smcp::KernelSigner;

use super::StopReason;
use super::door_keeping::kernel_session;
use super::driver::{Driver, Halt};
use crate::dispatch::{Channel, Down, Exchange, Up};
use crate::port::{Ended, HostFile, Role, SandboxError, SandboxSpec, Sandboxed, Violation};
use crate::record::RecordError;

/// How long a sandbox may take from its start to its first message.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a bootstrap may take to end once it has its answer.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Where the daemon's files appear inside.
const GUEST_FOLDER: &str = "/run/aegis";

/// A live generation.
pub(crate) struct Generation {
    pub(crate) number: u32,
    sandboxed: Arc<dyn Sandboxed>,
    /// Signs what the model calls in it.
    pub(crate) signer: KernelSigner,
    channel: Channel,
    /// The message that waits for its answer.
    pub(crate) waiting: Option<Exchange>,
    /// The execution, as its messages must name it.
    pub(crate) execution: String,
    /// How often a dispatch was answered under another id.
    pub(crate) wrong_answers: u64,
}

impl Driver {
    /// A live generation whose bootstrap waits for an answer; started if there is none.
    pub(crate) async fn ensure_generation(&mut self) -> Result<(), Halt> {
        if self.generation.is_some() {
            return Ok(());
        }
        let number = self.ledger.state.generation + 1;
        let prompt = match self.ledger.state.current.prompt {
            Some(blob) => self.text(&blob).await?,
            None => return Err(Halt::Execution(FailureReason::Internal, "no prompt is recorded".to_owned())),
        };
        self.prompt = Arc::new(Message::text(Speaker::User, prompt.clone()));
        let mounts = self.rooms().await?.mounts(false);
        let spec = self.bootstrap_spec(number, &prompt, mounts);
        let signer = self.kernel_signer(number)?;
        let sandboxed: Arc<dyn Sandboxed> =
            self.services.ports.sandbox.start(spec).await.map_err(sandbox_failed)?.into();
        let body = Body::GenerationStarted {
            generation: number,
            iteration: self.ledger.state.iteration,
            sandbox: sandboxed.facts().clone(),
            signer: Some(kernel_session(&signer)),
        };
        self.ledger.fact(body, Vec::new(), Durability::Process).await?;
        self.open_door(number, &sandboxed).await?;
        self.connect(number, (sandboxed, signer), &prompt).await
    }

    async fn connect(
        &mut self,
        number: u32,
        (sandboxed, signer): (Arc<dyn Sandboxed>, KernelSigner),
        prompt: &str,
    ) -> Result<(), Halt> {
        let connected = tokio::select! {
            connected = tokio::time::timeout(START_TIMEOUT, sandboxed.control()) => connected,
            reason = self.stopper.interrupted() => {
                self.bury(number, sandboxed, Vec::new()).await?;
                return Err(Halt::Stopped(reason));
            }
        };
        let connection = match connected {
            Ok(Ok(connection)) => connection,
            failed => {
                let ended = self.bury(number, sandboxed, Vec::new()).await?;
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => format!("no connection within {} s", START_TIMEOUT.as_secs()),
                };
                return Err(Halt::Iteration(FailureReason::BootstrapFailed, with_stderr(&why, &ended)));
            }
        };
        self.generation = Some(Generation {
            number,
            sandboxed,
            signer,
            channel: Channel::serve(connection),
            waiting: None,
            execution: self.ledger.execution.to_string(),
            wrong_answers: 0,
        });
        let exchange = self.receive(START_TIMEOUT).await?;
        self.check_generate(&exchange.up, prompt)?;
        if let Some(generation) = &mut self.generation {
            generation.waiting = Some(exchange);
        }
        Ok(())
    }

    /// The bootstrap's next message. Its end, or silence, is the iteration's failure.
    pub(crate) async fn receive(&mut self, patience: Duration) -> Result<Exchange, Halt> {
        let Some(generation) = &mut self.generation else {
            return Err(Halt::Execution(FailureReason::Internal, "no sandbox runs".to_owned()));
        };
        let received = tokio::select! {
            received = tokio::time::timeout(patience, generation.channel.receive()) => received,
            reason = self.stopper.interrupted() => return Err(Halt::Stopped(reason)),
        };
        match received {
            Ok(Some(exchange)) => Ok(exchange),
            Ok(None) => {
                let ended = self.end_generation(false).await?;
                let oom = ended.as_ref().is_some_and(|ended| ended.status == ExitStatus::OutOfMemory);
                let reason = if oom { FailureReason::OutOfMemory } else { FailureReason::BootstrapFailed };
                let why =
                    ended.map_or_else(String::new, |ended| with_stderr("the bootstrap hung up", &ended));
                Err(Halt::Iteration(reason, format!("{}: {why}", reason.words())))
            }
            Err(_) => Err(Halt::Iteration(
                FailureReason::BootstrapFailed,
                format!("the bootstrap was silent for {} s", patience.as_secs()),
            )),
        }
    }

    /// What comes up is a claim: every id, the alias, the prompt and the history must be the daemon's own.
    fn check_generate(&self, up: &Up, expected_prompt: &str) -> Result<(), Halt> {
        let wrong = |what: &str| {
            Err(Halt::Iteration(
                FailureReason::ProtocolViolation,
                format!("the bootstrap's first message claims another {what} than the daemon gave it"),
            ))
        };
        let Up::Generate { agent_id, execution_id, iteration_number, model_alias, prompt, messages } = up
        else {
            return wrong("message type");
        };
        if *execution_id != self.ledger.execution.to_string() {
            return wrong("execution_id");
        }
        if *agent_id != self.blueprint.agent.to_string() {
            return wrong("agent_id");
        }
        if *iteration_number != self.ledger.state.iteration {
            return wrong("iteration_number");
        }
        if *model_alias != self.blueprint.model {
            return wrong("model_alias");
        }
        if prompt != expected_prompt {
            return wrong("prompt");
        }
        if !messages.is_empty() {
            return wrong("message history");
        }
        Ok(())
    }

    /// Gives the answer to the bootstrap and waits until its process tree is dead.
    pub(crate) async fn finish_generation(&mut self) -> Result<(), Halt> {
        self.ensure_generation().await?;
        let content = match &self.ledger.state.current.answer {
            Some(blob) => self.text(blob).await?,
            None => String::new(),
        };
        let tool_calls_executed = self.ledger.state.current.turns.iter().map(|turn| turn.calls).sum();
        let Some(mut generation) = self.generation.take() else { return Ok(()) };
        if let Some(exchange) = generation.waiting.take() {
            // A bootstrap that is gone already shows in its exit status.
            let _ = exchange.reply.send(Down::Final { content, tool_calls_executed });
        }
        let (number, violations) = (generation.number, generation.violations());
        let stop = tokio::select! {
            _ = generation.sandboxed.wait() => None,
            () = tokio::time::sleep(END_TIMEOUT) => None,
            reason = self.stopper.interrupted() => Some(reason),
        };
        if let Some(reason @ (StopReason::Cancel | StopReason::Park)) = stop {
            self.bury_unseen(number, generation.sandboxed, violations).await?;
            return Err(Halt::Stopped(reason));
        }
        let ended = self.bury(number, generation.sandboxed, violations).await?;
        if let Some(reason) = stop {
            return Err(Halt::Stopped(reason));
        }
        match ended.status {
            ExitStatus::Exited { code: 0 } => Ok(()),
            // With validators the exit code is theirs to judge; without, success needs it to be 0.
            _ if self.ledger.state.plan.validators > 0 => Ok(()),
            status => Err(Halt::Iteration(
                FailureReason::BootstrapFailed,
                with_stderr(&format!("the bootstrap ended with {}", words(status)), &ended),
            )),
        }
    }

    /// Ends the live generation, if there is one, and whatever was under way in it.
    pub(crate) async fn end_generation(&mut self, kill: bool) -> Result<Option<Ended>, RecordError> {
        let Some(generation) = self.generation.take() else { return Ok(None) };
        if kill {
            generation.sandboxed.kill();
        }
        let violations = generation.violations();
        if kill && self.ledger.state.phase == Phase::Answered {
            return self.bury_unseen(generation.number, generation.sandboxed, violations).await.map(Some);
        }
        self.bury(generation.number, generation.sandboxed, violations).await.map(Some)
    }

    /// Ends a generation for a reason of the daemon's own: how it ended says nothing, and is recorded as unknown.
    async fn bury_unseen(
        &mut self,
        number: u32,
        sandboxed: Arc<dyn Sandboxed>,
        violations: Vec<Violation>,
    ) -> Result<Ended, RecordError> {
        let ended = self.prove_ended(number, sandboxed).await?;
        let ended = Ended { status: ExitStatus::Unknown, ..ended };
        self.record_ended(number, &ended, violations).await?;
        Ok(ended)
    }

    /// Kills what is left, proves it dead and records the end.
    async fn bury(
        &mut self,
        number: u32,
        sandboxed: Arc<dyn Sandboxed>,
        violations: Vec<Violation>,
    ) -> Result<Ended, RecordError> {
        let ended = self.prove_ended(number, sandboxed).await?;
        self.record_ended(number, &ended, violations).await?;
        Ok(ended)
    }

    async fn prove_ended(
        &mut self,
        number: u32,
        sandboxed: Arc<dyn Sandboxed>,
    ) -> Result<Ended, RecordError> {
        self.close_door().await;
        sandboxed.kill();
        let error = match sandboxed.wait().await {
            Ok(ended) => return Ok(ended),
            Err(error) => error,
        };
        tracing::warn!(execution = %self.ledger.execution, %error, "the end of a sandbox was not seen; proving it dead");
        let facts = sandboxed.facts().clone();
        drop(sandboxed);
        let proved = self.services.ports.sandbox.prove_dead(self.ledger.execution, number, &facts).await;
        proved.map_err(|error| crate::port::JournalError::Store(error.to_string()))?;
        Ok(Ended { stderr: error.to_string().into_bytes(), ..unseen() })
    }

    async fn record_ended(
        &mut self,
        number: u32,
        ended: &Ended,
        seen: Vec<Violation>,
    ) -> Result<(), RecordError> {
        self.record_violations(ended.violations.iter().copied().chain(seen).collect()).await?;
        let mut blobs = Vec::new();
        let mut output = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            (!text.is_empty()).then(|| self.ledger.scribe.blob(text, &mut blobs))
        };
        let (stdout, stderr) = (output(&ended.stdout), output(&ended.stderr));
        let body = Body::GenerationEnded { generation: number, status: ended.status, stdout, stderr };
        self.ledger.fact(body, blobs, Durability::Process).await
    }

    /// Puts on record what was tried in the last generation.
    pub(crate) async fn record_violations(&mut self, violations: Vec<Violation>) -> Result<(), RecordError> {
        let generation = self.ledger.state.generation;
        for Violation { door, what, count } in violations {
            let body = Body::ViolationRecorded { generation, door: door.into(), what: what.into(), count };
            self.ledger.fact(body, Vec::new(), Durability::Process).await?;
        }
        Ok(())
    }

    fn bootstrap_spec(&self, generation: u32, prompt: &str, mounts: Vec<crate::port::Mount>) -> SandboxSpec {
        let guest = |name: &str| format!("{GUEST_FOLDER}/{name}");
        let mut argv =
            vec![self.blueprint.interpreter.clone(), "-I".to_owned(), "-S".to_owned(), guest("bootstrap.py")];
        if prompt.len() <= PROMPT_ARGUMENT_BYTES_MAX && !prompt.contains('\0') {
            argv.push(prompt.to_owned());
        }
        // The manifest's own variables go to commands alone: the loader obeys some, and who loads code into the
        // bootstrap speaks for it.
        let mut env = base_environment(&[]);
        env.extend([
            ("AEGIS_AGENT_ID".to_owned(), self.blueprint.agent.to_string()),
            ("AEGIS_EXECUTION_ID".to_owned(), self.ledger.execution.to_string()),
            ("AEGIS_ITERATION".to_owned(), self.ledger.state.iteration.to_string()),
            ("AEGIS_MODEL_ALIAS".to_owned(), self.blueprint.model.clone()),
            ("AEGIS_CONTROL_SOCKET".to_owned(), guest("control.sock")),
            ("AEGIS_PROMPT_FILE".to_owned(), guest("prompt.txt")),
        ]);
        env.extend(self.blueprint.doors.environment());
        SandboxSpec {
            execution: self.ledger.execution,
            generation,
            ordinal: 0,
            role: Role::Bootstrap,
            argv,
            env,
            cwd: "/workspace".to_owned(),
            files: vec![
                HostFile {
                    name: "bootstrap.py".to_owned(),
                    bytes: self.services.bootstrap.as_bytes().to_vec(),
                },
                HostFile { name: "prompt.txt".to_owned(), bytes: prompt.as_bytes().to_vec() },
            ],
            mounts,
            doors: self.blueprint.doors,
            uid: self.services.ports.sandbox.uid_for(self.ledger.execution),
            limits: self.blueprint.limits,
            // A validator may look at standard output: what a model may answer has to fit.
            output_bytes_max: MODEL_ANSWER_BYTES_MAX,
        }
    }
}

/// The environment of every sandbox; the manifest's own variables never replace the daemon's.
pub(crate) fn base_environment(manifest: &[(String, String)]) -> Vec<(String, String)> {
    let fixed = [("PATH", "/usr/bin:/bin"), ("HOME", "/tmp"), ("LANG", "C.UTF-8")];
    let own = fixed.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let foreign = command_environment(manifest);
    own.into_iter()
        .filter(|(name, _)| !manifest.iter().any(|(other, _)| other == name))
        .chain(foreign)
        .collect()
}

/// The manifest's variables for commands; none of them replaces the daemon's.
pub(crate) fn command_environment(manifest: &[(String, String)]) -> impl Iterator<Item = (String, String)> {
    manifest.iter().filter(|(name, _)| !name.starts_with("AEGIS_")).cloned()
}

fn sandbox_failed(error: SandboxError) -> Halt {
    match error {
        SandboxError::CapabilityMissing(_) => {
            Halt::Execution(FailureReason::CapabilityMissing, error.to_string())
        }
        other => Halt::Execution(FailureReason::SandboxFailed, other.to_string()),
    }
}

fn unseen() -> Ended {
    Ended {
        status: ExitStatus::Unknown,
        stdout: Vec::new(),
        stderr: Vec::new(),
        truncated: false,
        violations: Vec::new(),
    }
}

fn with_stderr(why: &str, ended: &Ended) -> String {
    let stderr = String::from_utf8_lossy(&ended.stderr);
    let stderr = stderr.trim();
    if stderr.is_empty() { format!("{why} ({})", words(ended.status)) } else { format!("{why}: {stderr}") }
}

/// An exit status in words.
pub(crate) fn words(status: ExitStatus) -> String {
    match status {
        ExitStatus::Exited { code } => format!("exit code {code}"),
        ExitStatus::Signalled { signal } => format!("signal {signal}"),
        ExitStatus::OutOfMemory => "its memory limit".to_owned(),
        ExitStatus::Unknown => "an unknown status".to_owned(),
    }
}

impl Generation {
    /// What the daemon saw at its end of the control connection that should be on record.
    fn violations(&self) -> Vec<Violation> {
        let seen =
            [("foreign_message", self.channel.violations()), ("wrong_dispatch_id", self.wrong_answers)];
        let counted = seen.into_iter().filter(|(_, count)| *count > 0);
        counted.map(|(what, count)| Violation { door: "control", what, count }).collect()
    }

    /// The next message of the bootstrap; `None` once it hung up.
    pub(crate) async fn next_message(&mut self) -> Option<Exchange> {
        self.channel.receive().await
    }
}
