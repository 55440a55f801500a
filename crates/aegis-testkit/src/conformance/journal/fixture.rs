//! Events and blobs to test with.

use aegis_core::execution::{FailureReason, LoopPlan};
use aegis_core::{
    ActionId, Actor, AgentId, BlobId, BlobRef, Body, Durability, EventId, ExecutionId, FinishReason, Intent,
    MicroUsd, Name, NewEvent, Outcome, Score, Sha256, SpanContext, SpanId, StreamId, Tenant, Timestamp,
    TraceId, Usage, Verdict, VolumeId, WorkingCopy,
};
use aegis_kernel::port::{Append, BlobCopy, Ids, NewBlob};
use aegis_security::commitment::commit;
use bytes::Bytes;

use crate::SeededIds;

/// Makes events whose ids follow from a seed.
pub struct Fixture {
    ids: SeededIds,
    /// The time of the next event.
    pub at: Timestamp,
}

impl Fixture {
    /// A fixture whose ids follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { ids: SeededIds::new(seed), at: Timestamp::from_micros(1_771_840_800_000_000) }
    }
    /// A new agent.
    pub fn agent(&self) -> AgentId {
        AgentId::from_uuid(self.ids.uuid())
    }
    /// A new execution.
    pub fn execution(&self) -> ExecutionId {
        ExecutionId::from_uuid(self.ids.uuid())
    }
    /// A new volume.
    pub fn volume(&self) -> VolumeId {
        VolumeId::from_uuid(self.ids.uuid())
    }
    /// A new action.
    pub fn action(&self) -> ActionId {
        ActionId::from_uuid(self.ids.uuid())
    }
    /// An event with this body.
    pub fn event(&self, body: Body) -> NewEvent {
        let mut trace = [0; 16];
        let mut span = [0; 8];
        self.ids.fill(&mut trace);
        self.ids.fill(&mut span);
        NewEvent {
            id: EventId::from_uuid(self.ids.uuid()),
            at: self.at,
            span: SpanContext {
                trace_id: TraceId::from_bytes(trace),
                span_id: SpanId::from_bytes(span),
                parent_span_id: None,
            },
            actor: Actor::daemon(),
            body,
        }
    }
    /// Events of one stream, durable against loss of power.
    pub fn append(&self, stream: StreamId, expected: Option<u64>, bodies: Vec<Body>) -> Append {
        Append {
            tenant: Tenant::default_tenant(),
            stream,
            expected,
            events: bodies.into_iter().map(|body| self.event(body)).collect(),
            blobs: Vec::new(),
            durability: Durability::Power,
        }
    }
    /// A blob and the reference to it.
    pub fn blob(&self, text: &str, copy: BlobCopy) -> (NewBlob, BlobRef) {
        let mut salt = [0; 32];
        self.ids.fill(&mut salt);
        let id = BlobId::from_uuid(self.ids.uuid());
        let reference = BlobRef {
            id,
            commitment: commit(&salt, text.as_bytes()),
            bytes: text.len() as u64,
            working: None,
        };
        (NewBlob { id, salt, bytes: Bytes::copy_from_slice(text.as_bytes()), copy }, reference)
    }
    /// A redacted and an exact copy, and the reference to both.
    pub fn two_copies(&self, redacted: &str, exact: &str) -> (Vec<NewBlob>, BlobRef) {
        let (evidence, mut reference) = self.blob(redacted, BlobCopy::Evidence);
        let (working, exact) = self.blob(exact, BlobCopy::Working);
        reference.working = Some(WorkingCopy { id: exact.id, commitment: exact.commitment });
        (vec![evidence, working], reference)
    }
    /// A reference to a blob that nobody stored.
    pub fn unstored(&self) -> BlobRef {
        self.blob("", BlobCopy::Evidence).1
    }
    /// The body that begins an execution.
    pub fn created(&self, agent: AgentId, name: &Name) -> Body {
        Body::ExecutionCreated {
            agent,
            name: name.clone(),
            version: "1.0.0".to_owned(),
            digest: Sha256::from_bytes([1; 32]),
            document: self.unstored(),
            input: self.unstored(),
            overrides: None,
            plan: LoopPlan {
                max_iterations: 3,
                iteration_timeout_ms: 1000,
                total_timeout_ms: 9000,
                validators: 1,
            },
            parent: None,
            depth: 0,
            external: false,
        }
    }
    /// The body that deploys a version.
    pub fn deployed(&self, name: &Name, version: &str) -> Body {
        Body::AgentDeployed {
            name: name.clone(),
            version: version.to_owned(),
            digest: Sha256::from_bytes([2; 32]),
            document: self.unstored(),
            forced: false,
            warnings: 0,
        }
    }
    /// The body of a tool call's intent.
    pub fn intended(&self) -> Body {
        Body::ActionIntended {
            action: self.action(),
            iteration: 1,
            generation: 1,
            intent: Intent::Tool {
                turn: 0,
                index: 0,
                tool: "fs.read".to_owned(),
                arguments: self.unstored(),
                rule: "capability `fs.read`".to_owned(),
                idempotent: true,
                envelope: None,
            },
        }
    }
    /// The body of a model's answer that cost `micros` millionths of a dollar.
    pub fn answered(&self, micros: u64) -> Body {
        Body::ActionCompleted {
            action: self.action(),
            outcome: Outcome::Model {
                answer: self.unstored(),
                finish: FinishReason::Stop,
                tool_calls: 0,
                usage: Usage {
                    input_tokens: 10,
                    output_tokens: 5,
                    cost: MicroUsd::from_micros(micros),
                    estimated: false,
                },
                provider: "scripted".to_owned(),
                model: "scripted-1".to_owned(),
                fingerprint: None,
                attempts: 1,
            },
            duration_ms: 12,
        }
    }
    /// The bodies of a run: one failed iteration, one that passes, and the end.
    pub fn run(&self, agent: AgentId, name: &Name) -> Vec<Body> {
        let verdict = |passed, score| Verdict {
            validator: "semantic".to_owned(),
            passed,
            score: Score::from_millionths(score),
            confidence: Score::ONE,
        };
        vec![
            self.created(agent, name),
            Body::ExecutionStarted {},
            Body::IterationStarted { iteration: 1 },
            self.answered(700),
            Body::IterationFailed {
                iteration: 1,
                reason: FailureReason::ModelFailed,
                detail: self.unstored(),
            },
            Body::IterationStarted { iteration: 2 },
            self.intended(),
            self.answered(300),
            Body::IterationAnswered { iteration: 2, answer: self.unstored() },
            Body::ValidatorCompleted {
                iteration: 2,
                index: 0,
                verdict: verdict(true, 900_000),
                reasoning: self.unstored(),
                self_attested: false,
            },
            Body::IterationCompleted {
                iteration: 2,
                score: Score::from_millionths(900_000),
                confidence: Score::ONE,
                passed: true,
            },
            Body::ExecutionCompleted { answer: self.unstored(), total_iterations: 2 },
        ]
    }
    /// The body that makes a volume for an execution.
    pub fn volume_created(&self, execution: Option<ExecutionId>, expires_at: Option<Timestamp>) -> Body {
        Body::VolumeCreated { name: "scratch".to_owned(), execution, size_limit: 1 << 20, expires_at }
    }
}
