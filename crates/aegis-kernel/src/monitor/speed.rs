//! What a whole pass costs, against two bare signature checks. `just bench` runs it optimised, with more rounds.
//!
//! In memory: the record goes to a journal of tests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_core::execution::{LoopPlan, State, evolve};
use aegis_core::{
    ActionId, Actor, AgentId, BlobId, BlobRef, Body, Event, EventId, ExecutionId, FinishReason, Intent,
    Outcome, SandboxFacts, Sha256, SpanContext, SpanId, StreamId, Tenant, Timestamp, ToolCall, ToolResult,
    ToolSchema, TraceId, Usage,
};
use aegis_manifest::{AgentManifest, NodeConfig};
use aegis_security::signature::{self, SigningKey};
use aegis_security::smcp::checks::{self, Admitted, Recorded, Session};
use aegis_security::smcp::{Envelope, Grant, KernelCall, KernelSigner, KeyRing, Protocol, SmcpError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Action, Authority, Limiter, Member, Monitor, Performed, Proof, Settled, Target};
use crate::door::{TokenKeys, workload};
use crate::kernel::KernelSettings;
use crate::policy::Rules;
use crate::port::{Access, Governed, GovernedKind, ToolFacts};
use crate::record::Ledger;
use crate::test_journal::{TestJournal, scribe};

/// Passes unless `AEGIS_BENCH_PASSES` says otherwise.
const ROUNDS: u64 = 64;
/// Tool calls of one turn: as many as are taken from a model.
const CALLS: u32 = 32;
/// Of the session's key.
const SESSION_SEED: [u8; 32] = [6; 32];
const MANIFEST: &str = "apiVersion: 100monkeys.ai/v1
kind: Agent
metadata: {name: a, version: 1.0.0}
spec:
  runtime: {language: python}
  security: {filesystem: {read: [/workspace]}}
  tools: [fs.read]
";
const NODE: &str = "apiVersion: 100monkeys.ai/v1
kind: NodeConfig
metadata: {name: test}
spec: {}
";

/// Settings of which only a configuration is known.
pub(super) fn settings(config: &NodeConfig) -> KernelSettings {
    KernelSettings { config: Arc::new(config.clone()), policies: Arc::new([]), bootstrap: "".into() }
}

/// Rules of which only a configuration is known.
pub(super) fn rules(config: &NodeConfig) -> Arc<Rules> {
    Arc::new(Rules::new(settings(config)))
}

/// The authority of an agent that runs on its own behalf.
pub(super) fn authority(
    manifest: &AgentManifest,
    config: &NodeConfig,
    tools: &[Arc<ToolFacts>],
) -> Authority {
    let tenant = Tenant::default_tenant();
    let member = Member { execution: "e".to_owned(), tenant, manifest: Arc::new(manifest.clone()) };
    Authority::compile(vec![member], &rules(config), tools).unwrap()
}

pub(super) fn read_tool() -> ToolFacts {
    ToolFacts {
        schema: ToolSchema {
            name: "fs.read".to_owned(),
            description: String::new(),
            parameters: json!({
                "type": "object",
                "properties": {"path": {"type": "string"}},
                "required": ["path"],
                "additionalProperties": false,
            }),
        },
        idempotent: true,
        foreign: false,
        governed: vec![Governed { argument: "path".into(), kind: GovernedKind::Path(Access::Read) }],
    }
}

pub(super) fn event(position: u64, body: Body) -> Event {
    let span = SpanContext {
        trace_id: TraceId::from_bytes([1; 16]),
        span_id: SpanId::from_bytes([1; 8]),
        parent_span_id: None,
    };
    Event {
        seq: position,
        id: EventId::from_uuid(Uuid::nil()),
        at: Timestamp::from_micros(1),
        tenant: Tenant::default_tenant(),
        stream: StreamId::Execution(ExecutionId::from_uuid(Uuid::nil())),
        stream_seq: position,
        span,
        actor: Actor::daemon(),
        body,
    }
}

/// Signs calls as the inner loop does.
pub(super) struct Signing {
    pub(super) tokens: Arc<TokenKeys>,
    signer: KernelSigner,
}

impl Signing {
    pub(super) fn new() -> Self {
        Self::of(5)
    }

    /// A node with the token key of this seed.
    pub(super) fn of(seed: u8) -> Self {
        let ring = KeyRing::new("node", SigningKey::from_seed(&[seed; 32]), []).unwrap();
        let grant = Grant {
            subject: "a".into(),
            scope: "default".into(),
            workload: workload(ExecutionId::from_uuid(Uuid::nil()), 1),
            session: Uuid::from_u128(1).to_string(),
            seconds: 3600,
        };
        let ledger = waiting_ledger(Arc::new(TestJournal::starting_at(5)));
        let now = ledger.scribe.clock.now();
        let signer = KernelSigner::new(SESSION_SEED.into(), &ring, &grant, now).unwrap();
        Self { tokens: Arc::new(TokenKeys::new(ring)), signer }
    }

    pub(super) fn sign(&self, ledger: &Ledger, call: &ToolCall) -> (Result<Envelope, SmcpError>, Session) {
        let id = ledger.scribe.ids.uuid().to_string();
        let asked = KernelCall {
            request_id: &id,
            model_call: &call.id,
            tool: &call.name,
            arguments: &call.arguments,
        };
        (self.signer.sign(&asked, ledger.scribe.clock.now()), self.signer.session())
    }

    /// A call as a program signs it, once it has passed the door.
    pub(super) fn admit(&self, ledger: &Ledger, call: &ToolCall) -> Admitted {
        self.admitted(ledger, self.sign(ledger, call).0.unwrap())
    }

    /// The same of a call that is signed without arguments.
    pub(super) fn admit_bare(&self, ledger: &Ledger, tool: &str) -> Admitted {
        let signed = self.sign(ledger, &ToolCall { id: "1".into(), name: tool.into(), arguments: json!({}) });
        let signed = signed.0.unwrap().to_json();
        let token = signed.get("security_token").and_then(Value::as_str).unwrap();
        let mut payload = signed.get("payload").cloned().unwrap();
        payload.pointer_mut("/params").and_then(Value::as_object_mut).unwrap().remove("arguments");
        let key = SigningKey::from_seed(&SESSION_SEED);
        let now = ledger.scribe.clock.now();
        self.admitted(ledger, Envelope::sign(Protocol::Smcp, token, payload, now, &key).unwrap())
    }

    fn admitted(&self, ledger: &Ledger, envelope: Envelope) -> Admitted {
        let (now, session) = (ledger.scribe.clock.now(), self.signer.session());
        let here = workload(ledger.execution, 1);
        let authenticated = self.tokens.with(|keys| checks::authenticate(envelope, keys, Some(&here), now));
        let verified = checks::verify(authenticated.unwrap(), Some(&session), now).unwrap();
        checks::admit(verified, Recorded::New).unwrap()
    }
}

/// An execution whose sandbox waits for the result of a tool.
pub(super) fn waiting_ledger(journal: Arc<TestJournal>) -> Ledger {
    let blob = || BlobRef {
        id: BlobId::from_uuid(Uuid::nil()),
        commitment: Sha256::from_bytes([0; 32]),
        bytes: 1,
        working: None,
    };
    let created = event(
        1,
        Body::ExecutionCreated {
            agent: AgentId::from_uuid(Uuid::nil()),
            name: "a".parse().unwrap(),
            version: "1.0.0".into(),
            digest: Sha256::from_bytes([0; 32]),
            document: blob(),
            input: blob(),
            overrides: None,
            plan: LoopPlan {
                max_iterations: 1,
                iteration_timeout_ms: 1000,
                total_timeout_ms: 1000,
                validators: 0,
            },
            parent: None,
            depth: 0,
            external: false,
        },
    );
    let action = ActionId::from_uuid(Uuid::nil());
    let intent = Intent::Model { alias: "default".into(), turn: 0 };
    let outcome = Outcome::Model {
        answer: blob(),
        finish: FinishReason::ToolCalls,
        tool_calls: CALLS,
        usage: Usage::default(),
        provider: "p".into(),
        model: "m".into(),
        fingerprint: None,
        attempts: 1,
    };
    let sandbox = SandboxFacts {
        engine: "process".into(),
        pid: 1,
        start_ticks: 1,
        uid: 1,
        cgroup: true,
        interpreter: "python3".into(),
    };
    let bodies = [
        Body::ExecutionStarted {},
        Body::IterationStarted { iteration: 1 },
        Body::IterationPrompted { iteration: 1, prompt: blob(), undefined: 0 },
        Body::GenerationStarted { generation: 1, iteration: 1, sandbox, signer: None },
        Body::ActionIntended { action, iteration: 1, generation: 1, intent },
        Body::ActionCompleted { action, outcome, duration_ms: 1 },
    ];
    let first = State::first(&created).unwrap();
    let state =
        (2..).zip(bodies).fold(first, |state, (position, body)| evolve(state, &event(position, body)));
    Ledger {
        scribe: scribe(&journal),
        tenant: Tenant::default_tenant(),
        execution: ExecutionId::from_uuid(Uuid::nil()),
        actor: Actor::daemon(),
        state,
        created: Box::new(created),
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn a_pass_is_measured_and_records_intent_and_outcome() {
    let rounds =
        std::env::var("AEGIS_BENCH_PASSES").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let journal = Arc::new(TestJournal::starting_at(5));
    let manifest = aegis_manifest::parse_agent(MANIFEST, "a.yaml").unwrap().document;
    let config = aegis_manifest::parse_node_config(NODE, "c.yaml", &|_| None).unwrap().document;
    let facts = Arc::new(read_tool());
    let mut authority = authority(&manifest, &config, std::slice::from_ref(&facts));
    let signing = Signing::new();
    let monitor = Monitor::new(Limiter::default(), rules(&config), Arc::clone(&signing.tokens));
    let call =
        ToolCall { id: "1".into(), name: "fs.read".into(), arguments: json!({"path": "/workspace/a"}) };
    let message = [7u8; 256];
    let key = SigningKey::from_seed(&[3; 32]);
    let (public, signed) = (key.public_key(), key.sign(&message));

    let mut ledger = waiting_ledger(journal.clone());
    let (mut passes, mut checks) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let index = u32::try_from(round % u64::from(CALLS)).unwrap();
        if index == 0 {
            ledger = waiting_ledger(journal.clone());
        }
        let begun = Instant::now();
        // Signing is part of what a call costs.
        let (envelope, session) = signing.sign(&ledger, &call);
        let proof = Proof::Kernel { envelope: envelope.as_ref(), session: &session };
        let target = Target::Tool { turn: 0, index, call: &call, facts: Some(&facts), proof };
        let action = Action { target, generation: 1 };
        let perform = |_| async {
            let result = ToolResult { content: "text".into(), is_error: false, size: None, exit_code: None };
            Performed::Tool(Ok(result))
        };
        let settled = monitor.pass(&mut ledger, &mut authority, &action, perform).await.unwrap();
        passes.push(begun.elapsed());
        assert!(matches!(settled, Settled::Tool { .. }), "{settled:?}");
        let begun = Instant::now();
        assert!((0..2).all(|_| signature::verify(&public, &message, &signed).is_ok()));
        checks.push(begun.elapsed());
    }
    assert_eq!(journal.taken(), 5 + 2 * rounds, "an intent and an outcome for each pass");
    let (pass, check) = (median(passes), median(checks));
    println!(
        "monitor pass in memory, signing and checking token and envelope, with Cedar: {:.1} µs p50; two Ed25519 checks: {:.1} µs; ratio {:.2} (target: at most 3)",
        pass.as_secs_f64() * 1e6,
        check.as_secs_f64() * 1e6,
        pass.as_secs_f64() / check.as_secs_f64()
    );
}
