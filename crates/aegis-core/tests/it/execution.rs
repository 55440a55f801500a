//! The execution machine under a simulated driver: random outcomes, random crashes, one record.

use std::collections::BTreeMap;

use aegis_core::execution::{FailureReason, Input, LoopPlan, Next, Phase, State, decide, evolve, next};
use aegis_core::*;
use proptest::prelude::*;
use uuid::Uuid;

pub(crate) fn blob() -> BlobRef {
    BlobRef {
        id: BlobId::from_uuid(Uuid::nil()),
        commitment: Sha256::from_bytes([0; 32]),
        bytes: 1,
        working: None,
    }
}

fn facts() -> SandboxFacts {
    SandboxFacts {
        engine: "process".into(),
        pid: 1,
        start_ticks: 1,
        uid: 1,
        cgroup: true,
        interpreter: "python3".into(),
    }
}

/// The record of one execution and what the outside world saw.
pub(crate) struct World {
    pub(crate) state: State,
    events: Vec<Event>,
    /// How often each model call or tool call was really performed, and during how many of these a crash came.
    performed: BTreeMap<(u32, u32, Option<u32>), (u32, u32)>,
    ids: u128,
    /// Exit codes of the sandboxes, in order.
    exit_codes: Vec<i32>,
    pub(crate) choices: Vec<u8>,
    at: usize,
}

const NON_IDEMPOTENT: u32 = 1;

impl World {
    pub(crate) fn new(plan: LoopPlan, choices: Vec<u8>) -> Self {
        let body = Body::ExecutionCreated {
            agent: AgentId::from_uuid(Uuid::nil()),
            name: "a".parse().unwrap(),
            version: "1.0.0".into(),
            digest: Sha256::from_bytes([0; 32]),
            document: blob(),
            input: blob(),
            overrides: None,
            plan,
            parent: None,
            depth: 0,
            external: false,
        };
        let created = event(1, body);
        let state = State::first(&created).unwrap();
        Self {
            state,
            events: vec![created],
            performed: BTreeMap::new(),
            ids: 0,
            exit_codes: Vec::new(),
            choices,
            at: 0,
        }
    }

    fn choose(&mut self, options: u8) -> u8 {
        self.at += 1;
        self.choices.get(self.at - 1).copied().unwrap_or(1) % options
    }

    pub(crate) fn record(&mut self, input: Input) {
        let bodies = decide(&self.state, input.clone()).unwrap_or_else(|error| panic!("{error}: {input:?}"));
        for body in bodies {
            let event = event(self.state.position + 1, body);
            self.state = evolve(self.state.clone(), &event);
            self.events.push(event);
        }
    }

    pub(crate) fn fact(&mut self, body: Body) {
        self.record(Input::Fact(Box::new(body)));
    }

    fn ensure_sandbox(&mut self) {
        if self.state.sandbox.is_none() {
            let generation = self.state.generation + 1;
            self.fact(Body::GenerationStarted {
                generation,
                iteration: self.state.iteration,
                sandbox: facts(),
                signer: None,
            });
        }
    }

    fn end_sandbox(&mut self) {
        if self.state.sandbox.is_some() {
            let code = i32::from(self.choose(8) == 0);
            self.exit_codes.push(code);
            let status = ExitStatus::Exited { code };
            let generation = self.state.generation;
            self.fact(Body::GenerationEnded { generation, status, stdout: None, stderr: None });
        }
    }

    /// What a daemon does that finds the execution unfinished.
    fn crash_and_recover(&mut self) {
        let folded = self.events.iter().skip(1).fold(State::first(&self.events[0]).unwrap(), evolve);
        assert_eq!(folded, self.state, "the fold of the record is the state");
        if self.state.started_at.is_none() || self.state.phase.is_final() {
            return;
        }
        self.end_sandbox();
        if let Some(index) = self.state.judging {
            self.fact(Body::ValidatorUnknown { iteration: self.state.iteration, index });
        }
        for (action, open) in self.state.open.clone() {
            let retry = match open.intent {
                Intent::Model { .. } | Intent::Judge { .. } => true,
                Intent::Tool { idempotent, .. } => idempotent,
                Intent::External { .. } | Intent::Connect { .. } => false,
            };
            self.fact(Body::ActionUnknown { action, retry, result: (!retry).then(blob) });
        }
        self.fact(Body::ExecutionResumed { crashes: self.state.crashes + 1, same_daemon: false });
    }

    /// Intent, effect, outcome, with a crash possible between any two.
    fn act(&mut self, key: (u32, u32, Option<u32>), intent: Intent, outcome: Outcome) {
        self.ids += 1;
        let action = ActionId::from_uuid(Uuid::from_u128(self.ids));
        self.ensure_sandbox();
        let (iteration, generation) = (self.state.iteration, self.state.generation);
        self.fact(Body::ActionIntended { action, iteration, generation, intent });
        if self.choose(12) == 0 {
            return self.crash_and_recover();
        }
        let entry = self.performed.entry(key).or_default();
        entry.0 += 1;
        if self.choose(12) == 0 {
            self.performed.entry(key).or_default().1 += 1;
            return self.crash_and_recover();
        }
        self.fact(Body::ActionCompleted { action, outcome, duration_ms: 1 });
    }

    fn validate(&mut self, index: u32) {
        let iteration = self.state.iteration;
        self.fact(Body::ValidatorStarted { iteration, index });
        if self.choose(12) == 0 {
            return self.crash_and_recover();
        }
        let score = Score::from_millionths(u32::from(self.choose(3)) * 500_000);
        let validator = "regex".into();
        let verdict = Verdict { validator, passed: score == Score::ONE, score, confidence: Score::ONE };
        let (reasoning, self_attested) = (blob(), false);
        self.fact(Body::ValidatorCompleted { iteration, index, verdict, reasoning, self_attested });
    }

    pub(crate) fn step(&mut self) -> bool {
        if self.choose(20) == 0 {
            self.crash_and_recover();
        }
        let iteration = self.state.iteration;
        match next(&self.state) {
            Next::Start => self.fact(Body::ExecutionStarted {}),
            Next::BeginIteration(iteration) => self.fact(Body::IterationStarted { iteration }),
            Next::Prompt => self.fact(Body::IterationPrompted { iteration, prompt: blob(), undefined: 0 }),
            Next::AskModel(turn) => {
                let tool_calls = if turn > 3 { 0 } else { u32::from(self.choose(3)) };
                let intent = Intent::Model { alias: "default".into(), turn };
                self.act((iteration, turn, None), intent, answer(tool_calls));
            }
            Next::CallTool((turn, index)) => {
                let intent = Intent::Tool {
                    turn,
                    index,
                    tool: "t".into(),
                    arguments: blob(),
                    rule: "r".into(),
                    idempotent: index != NON_IDEMPOTENT,
                    envelope: None,
                };
                let outcome = Outcome::Tool {
                    result: blob(),
                    is_error: false,
                    exit_code: None,
                    size: None,
                    denied: None,
                };
                self.act((iteration, turn, Some(index)), intent, outcome);
            }
            Next::Answer => self.fact(Body::IterationAnswered { iteration, answer: blob() }),
            Next::EndGeneration => {
                self.ensure_sandbox();
                self.end_sandbox();
            }
            Next::Validate(index) => self.validate(index),
            Next::Score => self.record(Input::Score),
            Next::Conclude => self.record(Input::Conclude { error: Some(blob()) }),
            Next::TurnsExhausted | Next::ConversationTooLong => panic!("the script stops calling tools"),
            Next::ResumesExhausted => {
                self.end_sandbox();
                self.record(Input::Fail { reason: FailureReason::ResumesExhausted, detail: blob() });
            }
            Next::BootstrapFailed => {
                self.record(Input::FailIteration { reason: FailureReason::BootstrapFailed, detail: blob() });
            }
            Next::Done => return false,
        }
        true
    }
}

pub(crate) fn answer(tool_calls: u32) -> Outcome {
    Outcome::Model {
        answer: blob(),
        finish: FinishReason::Stop,
        tool_calls,
        usage: Usage { input_tokens: 1, output_tokens: 1, cost: MicroUsd::from_micros(3), estimated: false },
        provider: "p".into(),
        model: "m".into(),
        fingerprint: None,
        attempts: 1,
    }
}

fn event(stream_seq: u64, body: Body) -> Event {
    Event {
        seq: stream_seq - 1,
        id: EventId::from_uuid(Uuid::nil()),
        at: Timestamp::from_micros(i64::try_from(stream_seq).unwrap()),
        tenant: Tenant::default_tenant(),
        stream: StreamId::Execution(ExecutionId::from_uuid(Uuid::nil())),
        stream_seq,
        span: SpanContext {
            trace_id: TraceId::from_bytes([1; 16]),
            span_id: SpanId::from_bytes([1; 8]),
            parent_span_id: None,
        },
        actor: Actor::daemon(),
        body,
    }
}

pub(crate) fn plan(max_iterations: u32, validators: u32) -> LoopPlan {
    LoopPlan { max_iterations, iteration_timeout_ms: 1, total_timeout_ms: 1, validators }
}

proptest! {
    /// `security.md`, section 3: whatever crashes come, a non-idempotent effect happens at most once, any other at
    /// most once and once more per crash during that very call; and the run ends.
    #[test]
    fn effects_are_never_repeated_beyond_their_crashes(
        choices in proptest::collection::vec(any::<u8>(), 0..400),
        iterations in 1u32..5,
        validators in 0u32..3,
    ) {
        let mut world = World::new(plan(iterations, validators), choices);
        let mut steps = 0;
        while world.step() {
            steps += 1;
            prop_assert!(steps < 5_000, "the run does not end");
        }
        prop_assert!(matches!(world.state.phase, Phase::Completed | Phase::Failed));
        if validators == 0 && world.state.phase == Phase::Completed {
            prop_assert_eq!(world.exit_codes.last(), Some(&0), "nobody judged the bootstrap but its exit code");
        }
        prop_assert!(world.state.iteration <= iterations);
        for ((_, _, index), (times, crashes)) in &world.performed {
            if *index == Some(NON_IDEMPOTENT) {
                prop_assert!(*times <= 1);
            }
            prop_assert!(*times <= 1 + crashes);
        }
        let folded = world.events.iter().skip(1).fold(State::first(&world.events[0]).unwrap(), evolve);
        prop_assert_eq!(&folded, &world.state);
    }
}

/// Brings a world to the state in which the model has called one tool.
pub(crate) fn with_open_call() -> World {
    let mut world = World::new(plan(2, 1), Vec::new());
    world.fact(Body::ExecutionStarted {});
    world.fact(Body::IterationStarted { iteration: 1 });
    world.fact(Body::IterationPrompted { iteration: 1, prompt: blob(), undefined: 0 });
    world.ensure_sandbox();
    let action = ActionId::from_uuid(Uuid::from_u128(7));
    let intent = Intent::Model { alias: "default".into(), turn: 0 };
    world.fact(Body::ActionIntended { action, iteration: 1, generation: 1, intent });
    world.fact(Body::ActionCompleted { action, outcome: answer(1), duration_ms: 1 });
    world
}

pub(crate) fn refused(world: &World, body: Body) -> bool {
    decide(&world.state, Input::Fact(Box::new(body))).is_err()
}

fn tool_intent(turn: u32, index: u32) -> Body {
    Body::ActionIntended {
        action: ActionId::from_uuid(Uuid::from_u128(9)),
        iteration: 1,
        generation: 1,
        intent: Intent::Tool {
            turn,
            index,
            tool: "t".into(),
            arguments: blob(),
            rule: "r".into(),
            idempotent: false,
            envelope: None,
        },
    }
}

#[test]
fn what_cannot_follow_is_refused() {
    let world = with_open_call();
    assert_eq!(next(&world.state), Next::CallTool((0, 0)));
    let started = Body::GenerationStarted { generation: 2, iteration: 1, sandbox: facts(), signer: None };
    for body in [
        tool_intent(0, 1),
        tool_intent(1, 0),
        started,
        Body::ExecutionStarted {},
        Body::IterationStarted { iteration: 2 },
        Body::IterationAnswered { iteration: 1, answer: blob() },
        Body::ActionCompleted {
            action: ActionId::from_uuid(Uuid::from_u128(7)),
            outcome: answer(0),
            duration_ms: 1,
        },
        Body::ExecutionRemoved {},
    ] {
        assert!(refused(&world, body.clone()), "{}", body.kind());
    }
    assert!(!refused(&world, tool_intent(0, 0)));
}

#[test]
fn nothing_is_begun_after_a_cancel_and_nothing_recorded_after_the_end() {
    let mut world = with_open_call();
    assert!(decide(&world.state, Input::Cancelled).is_err(), "nobody asked");
    world.fact(Body::CancelRequested { forced: false });
    assert!(refused(&world, tool_intent(0, 0)));
    world.end_sandbox();
    world.record(Input::Cancelled);
    assert_eq!(world.state.phase, Phase::Cancelled);
    assert!(refused(&world, Body::IterationStarted { iteration: 2 }));
    assert!(decide(&world.state, Input::Cancelled).is_err());
    assert!(!refused(&world, Body::ExecutionRemoved {}));
}

#[test]
fn failures_that_do_not_mend_themselves_end_the_run() {
    for (reason, ends) in [
        (FailureReason::ModelFailed, false),
        (FailureReason::IterationTimeout, false),
        (FailureReason::OutOfMemory, false),
        (FailureReason::ModelRefused, true),
        (FailureReason::TemplateFailed, true),
        (FailureReason::CapabilityMissing, true),
        (FailureReason::Internal, true),
    ] {
        let mut world = with_open_call();
        world.end_sandbox();
        world.record(Input::FailIteration { reason, detail: blob() });
        world.record(Input::Conclude { error: Some(blob()) });
        assert_eq!(world.state.phase == Phase::Failed, ends, "{reason:?}");
    }
}

#[test]
fn an_execution_that_fails_within_an_iteration_fails_the_iteration_first() {
    let mut world = with_open_call();
    world.end_sandbox();
    let fail = || Input::Fail { reason: FailureReason::ModelRefused, detail: blob() };
    let kinds: Vec<_> = decide(&world.state, fail()).unwrap().iter().map(Body::kind).collect();
    assert_eq!(kinds, ["iteration.failed", "execution.failed"]);
    world.record(Input::FailIteration { reason: FailureReason::ModelFailed, detail: blob() });
    let kinds: Vec<_> = decide(&world.state, fail()).unwrap().iter().map(Body::kind).collect();
    assert_eq!(kinds, ["execution.failed"], "an iteration fails once");
    world.record(fail());
    assert!(decide(&world.state, fail()).is_err(), "it is over");
}

#[test]
fn a_failed_validator_ends_the_pass_and_the_lowest_score_counts() {
    let mut world = World::new(plan(1, 3), vec![1; 64]);
    world.fact(Body::ExecutionStarted {});
    world.fact(Body::IterationStarted { iteration: 1 });
    world.fact(Body::IterationPrompted { iteration: 1, prompt: blob(), undefined: 0 });
    world.act((1, 0, None), Intent::Model { alias: "default".into(), turn: 0 }, answer(0));
    while next(&world.state) != Next::Validate(0) {
        world.choices = vec![1; 1_000];
        world.step();
    }
    for (index, millionths, passed) in [(0, 900_000, true), (1, 400_000, false)] {
        let score = Score::from_millionths(millionths);
        let verdict = Verdict { validator: "regex".into(), passed, score, confidence: Score::ONE };
        world.fact(Body::ValidatorCompleted {
            iteration: 1,
            index,
            verdict,
            reasoning: blob(),
            self_attested: false,
        });
    }
    assert_eq!(next(&world.state), Next::Score, "the third validator does not run");
    world.record(Input::Score);
    assert_eq!(world.state.current.score, Some((Score::from_millionths(400_000), false)));
    world.record(Input::Conclude { error: Some(blob()) });
    assert_eq!(world.state.phase, Phase::Failed);
}
