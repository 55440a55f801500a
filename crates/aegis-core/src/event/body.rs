//! What can happen: every kind of event, with what it holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::BlobRef;
use super::bodies::bodies;
use super::parts::{
    ConnectionEnd, ExitStatus, Intent, KernelSession, KeyRole, LateDenial, Outcome, QuestionEnd,
    SandboxFacts, SecretChange, SecretUser, ServerEnd, SignIn, SignOut,
};
use crate::execution::{FailureReason, LoopPlan};
use crate::{ActionId, AgentId, ApiKeyId, DenialCode, ExecutionId, Name, Score, Sha256, Timestamp, Verdict};

const fn once() -> u32 {
    1
}

bodies! {
    /// A manifest was accepted under a version.
    AgentDeployed = "agent.deployed" {
        /// The agent's name.
        name: Name,
        /// The version.
        version: String,
        /// SHA-256 of the document as deployed.
        digest: Sha256,
        /// The document as deployed.
        document: BlobRef,
        /// Whether it replaced other content under the same version.
        forced: bool,
        /// How many warnings it was accepted with.
        warnings: u32,
    }
    /// New executions are refused until it is resumed.
    AgentPaused = "agent.paused" {}
    /// The agent takes executions again.
    AgentResumed = "agent.resumed" {}
    /// The registration is gone; its history stays.
    AgentRemoved = "agent.removed" {}

    /// A run was asked for.
    ExecutionCreated = "execution.created" {
        /// The agent.
        agent: AgentId,
        /// Its name.
        name: Name,
        /// The version it runs, for good.
        version: String,
        /// SHA-256 of that version's document.
        digest: Sha256,
        /// The document it runs, for good.
        document: BlobRef,
        /// The input, JSON.
        input: BlobRef,
        /// Values for the template beside the input, JSON, if any.
        overrides: Option<BlobRef>,
        /// The loop's limits.
        plan: LoopPlan,
        /// The execution that asked for it.
        parent: Option<ExecutionId>,
        /// How deep in a chain of executions.
        depth: u32,
        /// True if a program outside acts as the agent: no sandbox, no inner loop; it ends with its session.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        external: bool,
    }
    /// The scheduler let it run.
    ExecutionStarted = "execution.started" {}
    /// A daemon found it unfinished and goes on with it.
    ExecutionResumed = "execution.resumed" {
        /// How often that has happened.
        crashes: u32,
        /// Whether it is the same daemon, which waited until its record could be written again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        same_daemon: bool,
    }
    /// A sandbox was started for an iteration.
    GenerationStarted = "generation.started" {
        /// Generation, from 1, counted over the whole execution.
        generation: u32,
        /// The iteration it serves.
        iteration: u32,
        /// How to find it again.
        sandbox: SandboxFacts,
        /// Who signs what a model calls in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signer: Option<KernelSession>,
    }
    /// A sandbox's process tree is proved dead.
    GenerationEnded = "generation.ended" {
        /// The generation.
        generation: u32,
        /// How its first process ended.
        status: ExitStatus,
        /// What it wrote to standard output.
        stdout: Option<BlobRef>,
        /// What it wrote to standard error.
        stderr: Option<BlobRef>,
    }
    /// A program was given a session to sign tool calls in.
    SessionOpened = "session.opened" {
        /// The session's id, as tokens and calls name it.
        session: String,
        /// The sandbox generation it speaks for; 0 outside one.
        generation: u32,
        /// The Ed25519 key its calls are signed with, base64.
        public_key: String,
        /// When it ends by itself.
        expires_at: Timestamp,
        /// The API key it was opened with, outside a sandbox.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<ApiKeyId>,
    }
    /// Something inside a sandbox tried what it may not, at one of the daemon's own doors.
    ViolationRecorded = "sandbox.violation" {
        /// The generation.
        generation: u32,
        /// Which door: `control`, `limits`. What a volume refused is in `volume.recorded`.
        door: String,
        /// What it tried, as a stable name such as `second_connection`, `wrong_peer`, `foreign_message`, `memory`, `pids`.
        what: String,
        /// How often since the last record.
        count: u64,
    }
    /// An iteration began.
    IterationStarted = "iteration.started" {
        /// The iteration, from 1.
        iteration: u32,
    }
    /// The prompt was rendered.
    IterationPrompted = "iteration.prompted" {
        /// The iteration.
        iteration: u32,
        /// The rendered prompt.
        prompt: BlobRef,
        /// How many names the template used that were not defined.
        undefined: u32,
    }
    /// An action passed the monitor and is about to be performed.
    ActionIntended = "action.intended" {
        /// The action.
        action: ActionId,
        /// The iteration.
        iteration: u32,
        /// The sandbox generation it serves; 0 outside one.
        generation: u32,
        /// What it asks for.
        intent: Intent,
    }
    /// An action was performed.
    ActionCompleted = "action.completed" {
        /// The action.
        action: ActionId,
        /// What came of it.
        outcome: Outcome,
        /// Milliseconds it took.
        duration_ms: u64,
    }
    /// An action was refused by the monitor.
    ActionDenied = "action.denied" {
        /// The action.
        action: ActionId,
        /// The iteration.
        iteration: u32,
        /// What kind of action.
        target: crate::ActionKind,
        /// The tool or alias.
        name: String,
        /// Turn of the model call that made it.
        turn: u32,
        /// Place among the calls of that turn.
        index: u32,
        /// The arguments as canonical JSON, or as the model wrote them.
        arguments: BlobRef,
        /// The code.
        code: DenialCode,
        /// The rule that refused.
        rule: String,
        /// What the model is told.
        result: BlobRef,
    }
    /// The execution touched something of another kind: from now on it holds these labels too, for good.
    LabelsGrown = "labels.grown" {
        /// The labels that are new, as `untrusted`, `sensitive`, `source:NAME`.
        labels: std::collections::BTreeSet<String>,
        /// The action that brought them.
        action: Option<ActionId>,
    }
    /// An intent without an outcome was found after a crash. Its effect may or may not have happened.
    ActionUnknown = "action.unknown" {
        /// The action.
        action: ActionId,
        /// Whether it will be performed again.
        retry: bool,
        /// What the model is told, when it is not.
        result: Option<BlobRef>,
    }
    /// The inner loop ended in an answer.
    IterationAnswered = "iteration.answered" {
        /// The iteration.
        iteration: u32,
        /// The answer's text.
        answer: BlobRef,
    }
    /// A validator's command is about to run, in a sandbox of its own that may change nothing outside it.
    ValidatorStarted = "validation.started" {
        /// The iteration.
        iteration: u32,
        /// The validator's place, from 0.
        index: u32,
    }
    /// A validator's start without a verdict was found after a crash. Its sandbox is dead; it is run again.
    ValidatorUnknown = "validation.unknown" {
        /// The iteration.
        iteration: u32,
        /// The validator's place, from 0.
        index: u32,
    }
    /// One validator gave its verdict.
    ValidatorCompleted = "validation.completed" {
        /// The iteration.
        iteration: u32,
        /// The validator's place, from 0.
        index: u32,
        /// The finding.
        verdict: Verdict,
        /// Why, in words.
        reasoning: BlobRef,
        /// Whether it ran code from the workspace.
        self_attested: bool,
    }
    /// An iteration ended with a score.
    IterationCompleted = "iteration.completed" {
        /// The iteration.
        iteration: u32,
        /// The lowest score of its validators.
        score: Score,
        /// The confidence of the lowest.
        confidence: Score,
        /// Whether every validator passed.
        passed: bool,
    }
    /// An iteration ended by an error or timeout.
    IterationFailed = "iteration.failed" {
        /// The iteration.
        iteration: u32,
        /// Why.
        reason: FailureReason,
        /// Why, in words.
        detail: BlobRef,
    }
    /// The next iteration was given what was wrong with this one.
    RefinementApplied = "refinement.applied" {
        /// The iteration that will see it.
        iteration: u32,
        /// What it is told.
        previous_error: BlobRef,
    }
    /// Somebody asked for the run to stop.
    CancelRequested = "execution.cancel_requested" {
        /// Whether running work is killed at once.
        forced: bool,
    }
    /// The run reached its goal.
    ExecutionCompleted = "execution.completed" {
        /// The answer.
        answer: BlobRef,
        /// Iterations it took.
        total_iterations: u32,
    }
    /// The run did not reach its goal.
    ExecutionFailed = "execution.failed" {
        /// Why.
        reason: FailureReason,
        /// Why, in words.
        detail: BlobRef,
        /// Iterations it took.
        total_iterations: u32,
    }
    /// The run was stopped on request.
    ExecutionCancelled = "execution.cancelled" {
        /// Iterations begun.
        total_iterations: u32,
    }
    /// The run was taken from the lists; its evidence stays.
    ExecutionRemoved = "execution.removed" {}
    /// The exact copies of what was redacted are destroyed: the run is over, and its time of grace with it.
    WorkingCopiesDestroyed = "execution.working_copies_destroyed" {}

    /// A volume was made.
    VolumeCreated = "volume.created" {
        /// Its name in the manifest.
        name: String,
        /// The execution it was made for, if ephemeral.
        execution: Option<ExecutionId>,
        /// Most bytes it may hold.
        size_limit: u64,
        /// When it is removed, if ephemeral.
        expires_at: Option<Timestamp>,
    }
    /// An execution was given rights on the volume.
    VolumeGranted = "volume.granted" {
        /// The execution.
        execution: ExecutionId,
        /// Where it is mounted.
        mount_path: String,
        /// Whether nothing may be written.
        read_only: bool,
        /// The path rules, JSON.
        rules: BlobRef,
    }
    /// File operations under a grant, coalesced.
    VolumeRecorded = "volume.recorded" {
        /// The execution.
        execution: ExecutionId,
        /// Operations that read.
        reads: u64,
        /// Operations that changed something.
        writes: u64,
        /// Bytes read.
        read_bytes: u64,
        /// Bytes written.
        written_bytes: u64,
        /// Operations refused.
        refused: u64,
        /// Why, by stable names such as `path_rule`, `special_file`, `hard_link`, `escaping_link`, `size_limit`.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        refusals: BTreeMap<String, u64>,
        /// What was touched: JSON list of `{path, op, offset, bytes}`.
        ranges: BlobRef,
    }
    /// The volume's tree at an iteration's end.
    VolumeTreeRecorded = "volume.tree_recorded" {
        /// The execution.
        execution: ExecutionId,
        /// The iteration.
        iteration: u32,
        /// SHA-256 over the canonical list.
        root: Sha256,
        /// How many files.
        files: u64,
        /// How many bytes.
        bytes: u64,
        /// The list: JSON of `{path, size, sha256}`.
        tree: BlobRef,
    }
    /// After a crash the volume was not as last recorded.
    VolumeDiverged = "volume.diverged" {
        /// The execution.
        execution: ExecutionId,
        /// The difference: JSON of `{added, changed, removed}`.
        difference: BlobRef,
    }
    /// The volume and its files are gone.
    VolumeRemoved = "volume.removed" {
        /// Why: `expired` or `requested`.
        reason: String,
    }

    /// A log began, or goes on under a new epoch after a restore.
    LogOpened = "log.opened" {
        /// The log's origin line (C2SP tlog-checkpoint).
        origin: String,
        /// The Ed25519 key that signs its heads, base64.
        public_key: String,
        /// Epoch, from 1.
        epoch: u32,
        /// The head it goes on from, if restored.
        former_root: Option<Sha256>,
    }
    /// A daemon began to serve.
    DaemonStarted = "daemon.started" {
        /// Its version.
        version: String,
        /// SHA-256 of its configuration document; absent for the embedded defaults.
        config: Option<Sha256>,
        /// Rules on labels that the configuration switches off, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        label_rules_off: Vec<String>,
        /// Rules for personal data that the configuration switches off, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        personal_data_rules_off: Vec<String>,
    }
    /// The configuration was read again.
    ConfigReloaded = "daemon.config_reloaded" {
        /// SHA-256 of the document.
        config: Option<Sha256>,
        /// Rules on labels that it switches off, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        label_rules_off: Vec<String>,
        /// Rules for personal data that it switches off, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        personal_data_rules_off: Vec<String>,
    }
    /// A daemon stopped in good order.
    DaemonStopped = "daemon.stopped" {}
    /// Somebody without, or with a wrong, credential stood at a door.
    AccessRefused = "access.refused" {
        /// Which door: `http`, or `api` for the one inside sandboxes.
        door: String,
        /// Why: `no_credential`, `wrong_credential`, `foreign_host`, `foreign_origin`, `role`, `foreign_route`.
        reason: String,
        /// How often since the last record.
        count: u64,
    }

    /// An API key was made. Neither the key nor its hash is here.
    KeyCreated = "key.created" {
        /// Its id.
        key: ApiKeyId,
        /// What it may do.
        role: KeyRole,
        /// The agent it may act as, if that is its role.
        agent: Option<AgentId>,
    }
    /// An API key opens nothing any more.
    KeyRevoked = "key.revoked" {
        /// Its id.
        key: ApiKeyId,
    }
    /// The key that signs security tokens was replaced; tokens of the former one stay valid until they expire.
    SigningKeyRotated = "key.rotated" {
        /// The new key's id: its RFC 7638 thumbprint.
        key_id: String,
    }
    /// A stored secret changed. No value is here.
    SecretChanged = "secret.changed" {
        /// Its name.
        name: String,
        /// The version that is now the newest; absent once it is deleted.
        version: Option<u64>,
        /// What was done.
        change: SecretChange,
    }
    /// A secret was handed to what needs it. No value is here.
    SecretUsed = "secret.used" {
        /// The reference's name: `secret:NAME` or `env:NAME`; `literal` for one written in the configuration.
        reference: String,
        /// The stored version; absent where the source has none.
        version: Option<u64>,
        /// Who was given it.
        by: SecretUser,
        /// The action it was for, if it was one action.
        action: Option<ActionId>,
    }
    /// What a push sends is known exactly, and not sent yet.
    PushBound = "push.bound" {
        /// The action that sends it.
        action: ActionId,
        /// The remote's name in the node's configuration.
        remote: String,
        /// The id of the commit that the branch is to name.
        commit: String,
        /// The id of the commit that it names there now; absent for a new branch.
        former: Option<String>,
        /// The branch, as `refs/heads/NAME`.
        reference: BlobRef,
    }

    /// A tool server answers, and its tools are known.
    ServerStarted = "server.started" {
        /// Its name in the node's configuration.
        server: Name,
        /// The protocol revision both sides speak.
        protocol: String,
        /// How often it was started again since it was last well.
        restarts: u32,
    }
    /// A tool server no longer answers.
    ServerStopped = "server.stopped" {
        /// Its name.
        server: Name,
        /// Why.
        reason: ServerEnd,
    }
    /// A tool server describes itself otherwise than was accepted: its tools refuse until a person accepts the change.
    ServerHeld = "server.held" {
        /// Its name.
        server: Name,
        /// SHA-256 of the canonical description that was accepted; absent where none was.
        accepted: Option<Sha256>,
        /// SHA-256 of the canonical description it shows.
        shown: Sha256,
    }
    /// A tool server's description was accepted.
    ServerAccepted = "server.accepted" {
        /// Its name.
        server: Name,
        /// SHA-256 of the canonical description.
        digest: Sha256,
        /// Whether it was taken on first sight, by the configuration that names the server.
        first: bool,
    }
    /// A tool server asked for something of its own accord.
    ServerAsked = "server.asked" {
        /// Its name.
        server: Name,
        /// The method: `sampling/createMessage`, `elicitation/create`, `roots/list`.
        method: String,
        /// Whether it was granted.
        granted: bool,
        /// How often, since this was last recorded.
        #[serde(default = "once")]
        times: u32,
        /// What it asked, as the protocol writes it, where it was passed on to whoever called.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        question: Option<BlobRef>,
    }
    /// What a tool server asked came to an end. Who answered is whoever acts.
    ServerAnswered = "server.answered" {
        /// Its name.
        server: Name,
        /// The method.
        method: String,
        /// How it ended.
        outcome: QuestionEnd,
        /// What was answered, as the protocol writes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<BlobRef>,
    }
    /// Tokens for a tool server's address were taken in. None is here.
    ServerSignedIn = "server.signed_in" {
        /// Its name.
        server: Name,
        /// How they were come by.
        by: SignIn,
    }
    /// Tokens for a tool server's address were destroyed.
    ServerSignedOut = "server.signed_out" {
        /// Its name.
        server: Name,
        /// Why.
        by: SignOut,
        /// Whether the authorization server was asked to revoke them, and did.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        revoked: bool,
    }
    /// A tool server's program asks for a connection. What it may reach is its own list, and what the node permits anybody.
    ServerConnecting = "server.connecting" {
        /// Its name.
        server: Name,
        /// Which connection.
        connection: ActionId,
        /// The host as it was named: a name in ASCII, or an address.
        host: String,
        /// The port.
        port: u16,
        /// The rule that permits it, or refuses it.
        rule: String,
        /// Why it is refused; absent if it is permitted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        denied: Option<DenialCode>,
    }
    /// A connection of a tool server's program ended.
    ServerDisconnected = "server.disconnected" {
        /// Its name.
        server: Name,
        /// Which connection.
        connection: ActionId,
        /// Why.
        end: ConnectionEnd,
        /// The address that was connected to, if one was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// Bytes sent out.
        bytes_sent: u64,
        /// Bytes that came in.
        bytes_received: u64,
        /// The rule that forbade it in the end, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        denied: Option<LateDenial>,
    }
    /// A tool server was added to those of the node's configuration.
    ServerAdded = "server.added" {
        /// Its name.
        server: Name,
        /// SHA-256 of its section as it was given.
        digest: Sha256,
    }
    /// A tool server that had been added was removed.
    ServerRemoved = "server.removed" {
        /// Its name.
        server: Name,
        /// SHA-256 of its section.
        digest: Sha256,
    }
    /// A tool server that was held describes itself again as was accepted.
    ServerReleased = "server.released" {
        /// Its name.
        server: Name,
        /// SHA-256 of the canonical description.
        digest: Sha256,
    }
}
