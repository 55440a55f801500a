use super::*;
use aegis_core::{
    Actor, AgentId, DenialCode, EventId, ExecutionId, Score, Sha256, SpanContext, SpanId, StreamId, Tenant,
    TraceId,
};

const EXECUTION: &str = "a1b2c3d4-1111-4000-8000-000000000001";
const AGENT: &str = "a1b2c3d4-0000-4000-8000-000000000001";

/// Tells bodies one after another, one second apart, with texts behind blobs by number.
struct Teller {
    follow: Follow,
    texts: BTreeMap<u32, &'static str>,
    seq: u64,
}

fn id<T: std::str::FromStr>(number: u32) -> T {
    format!("00000000-0000-4000-8000-{number:012}").parse().unwrap_or_else(|_| panic!("an id"))
}

fn blob(number: u32) -> BlobRef {
    BlobRef { id: id(number), commitment: Sha256::from_bytes([0; 32]), bytes: 1, working: None }
}

impl Teller {
    fn new(texts: &[(u32, &'static str)]) -> Self {
        Self { follow: Follow::default(), texts: texts.iter().copied().collect(), seq: 0 }
    }

    fn tell(&mut self, body: Body) -> Vec<ExecutionEvent> {
        self.seq += 1;
        let start = Timestamp::parse("2026-02-23T10:00:00Z").unwrap();
        let event = Event {
            seq: self.seq,
            id: id::<EventId>(1),
            at: start.plus_millis(self.seq * 1000),
            tenant: Tenant::default_tenant(),
            stream: StreamId::Execution(EXECUTION.parse::<ExecutionId>().unwrap()),
            stream_seq: self.seq,
            span: SpanContext {
                trace_id: TraceId::from_bytes([1; 16]),
                span_id: SpanId::from_bytes([1; 8]),
                parent_span_id: None,
            },
            actor: Actor::daemon(),
            body,
        };
        let texts = self
            .follow
            .wanted(&event)
            .into_iter()
            .map(|wanted| {
                let number = self.texts.iter().find(|(number, _)| blob(**number).id == wanted.id);
                (wanted.id, (*number.expect("a text that is wanted is known").1).to_owned())
            })
            .collect();
        self.follow.tell(&event, &texts)
    }
}

fn created() -> Body {
    Body::ExecutionCreated {
        agent: AGENT.parse::<AgentId>().unwrap(),
        name: "python-coder".parse().unwrap(),
        version: "1.0.0".to_owned(),
        digest: Sha256::from_bytes([0; 32]),
        document: blob(90),
        input: blob(91),
        overrides: None,
        plan: aegis_core::execution::LoopPlan {
            max_iterations: 10,
            iteration_timeout_ms: 1,
            total_timeout_ms: 1,
            validators: 1,
        },
        parent: None,
        depth: 0,
        external: false,
    }
}

fn intended(tool: &str) -> Body {
    Body::ActionIntended {
        action: id(50),
        iteration: 1,
        generation: 1,
        intent: Intent::Tool {
            turn: 0,
            index: 0,
            tool: tool.to_owned(),
            arguments: blob(1),
            rule: "manifest:tools".to_owned(),
            idempotent: true,
            envelope: None,
        },
    }
}

fn completed(size: Option<u64>) -> Body {
    let outcome = Outcome::Tool { result: blob(2), is_error: false, exit_code: None, size, denied: None };
    Body::ActionCompleted { action: id(50), outcome, duration_ms: 3 }
}

#[test]
fn a_start_names_the_agent() {
    let mut teller = Teller::new(&[]);
    assert_eq!(teller.tell(created()), []);
    assert_eq!(
        teller.tell(Body::ExecutionStarted {}),
        [ExecutionEvent::ExecutionStarted {
            execution_id: EXECUTION.to_owned(),
            agent_id: AGENT.to_owned(),
            started_at: "2026-02-23T10:00:02.000000Z".to_owned(),
        }]
    );
}

#[test]
fn a_tool_is_told_when_it_is_done_with_its_first_argument_and_size() {
    let mut teller = Teller::new(&[(1, r#"{"content":"print()","path":"/workspace/solution.py"}"#)]);
    assert_eq!(teller.tell(intended("fs.write")), []);
    let told = teller.tell(completed(Some(234)));
    let [ExecutionEvent::ToolInvoked { tool, first_argument, summary, denied: None, .. }] = told.as_slice()
    else {
        panic!("{told:?}")
    };
    assert_eq!((tool.as_str(), summary.as_str()), ("fs.write", "(234 bytes)"));
    assert_eq!(first_argument, "/workspace/solution.py");
}

#[test]
fn a_command_reads_as_it_would_be_typed() {
    let cases = [
        (r#"{"command":["python","/workspace/solution.py"]}"#, "python /workspace/solution.py"),
        (r#"{"command":["sh","-c","a b"]}"#, r#"sh -c "a b""#),
        (r#"{"command":"make","cwd":"/x"}"#, "make"),
        (r#"{"recursive":true,"zone":"eu"}"#, "eu"),
        (r#"{"count":1}"#, ""),
        ("not json", "not json"),
    ];
    for (arguments, told) in cases {
        assert_eq!(first_argument(arguments), told, "{arguments}");
    }
    let long = first_argument(&format!(r#"{{"path":"{}"}}"#, "é".repeat(500)));
    assert_eq!(long.chars().count(), FIRST_ARGUMENT_CHARS_MAX + 1);
}

#[test]
fn a_refused_tool_says_its_code() {
    let mut teller = Teller::new(&[(1, r#"{"path":"/etc/passwd"}"#)]);
    let told = teller.tell(Body::ActionDenied {
        action: id(51),
        iteration: 1,
        target: ActionKind::Tool,
        name: "fs.read".to_owned(),
        turn: 0,
        index: 0,
        arguments: blob(1),
        code: DenialCode::PathNotAllowed,
        rule: "manifest:filesystem".to_owned(),
        result: blob(2),
    });
    let [ExecutionEvent::ToolInvoked { denied: Some(denied), .. }] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(denied.code, "PATH_NOT_ALLOWED");
}

#[test]
fn an_iteration_ends_with_its_validation_behind_it() {
    let mut teller = Teller::new(&[(3, "the answer"), (4, "because")]);
    teller.tell(Body::IterationStarted { iteration: 1 });
    assert_eq!(teller.tell(Body::IterationAnswered { iteration: 1, answer: blob(3) }).len(), 1);
    let verdict = Verdict {
        validator: "json_schema".to_owned(),
        passed: false,
        score: Score::from_f64(0.6),
        confidence: Score::ONE,
    };
    let body = Body::ValidatorCompleted {
        iteration: 1,
        index: 0,
        verdict,
        reasoning: blob(4),
        self_attested: false,
    };
    assert_eq!(teller.tell(body), []);
    let told = teller.tell(Body::IterationCompleted {
        iteration: 1,
        score: Score::from_f64(0.6),
        confidence: Score::ONE,
        passed: false,
    });
    let [
        ExecutionEvent::IterationCompleted { output, .. },
        ExecutionEvent::ValidationCompleted { results, score, passed: false, .. },
    ] = told.as_slice()
    else {
        panic!("{told:?}")
    };
    assert_eq!((output.as_str(), *score), ("the answer", 0.6));
    assert_eq!((results[0].validator.as_str(), results[0].reasoning.as_str()), ("json_schema", "because"));
}

#[test]
fn the_next_iteration_does_not_inherit_verdicts() {
    let mut teller = Teller::new(&[(3, "a"), (4, "b"), (5, "why")]);
    let end = |iteration| Body::IterationCompleted {
        iteration,
        score: Score::ONE,
        confidence: Score::ONE,
        passed: true,
    };
    teller.tell(Body::IterationStarted { iteration: 1 });
    teller.tell(Body::IterationAnswered { iteration: 1, answer: blob(3) });
    assert_eq!(teller.tell(end(1)).len(), 1, "without validators there is no validation to tell");
    let told = teller.tell(Body::RefinementApplied { iteration: 2, previous_error: blob(5) });
    assert!(
        matches!(&told[..], [ExecutionEvent::RefinementApplied { previous_error, .. }] if previous_error == "why")
    );
    let told = teller.tell(Body::IterationStarted { iteration: 2 });
    assert!(matches!(&told[..], [ExecutionEvent::IterationStarted { action, .. }] if action == "refine"));
}

#[test]
fn endings_carry_reason_and_duration() {
    let mut teller = Teller::new(&[(3, "done"), (4, "")]);
    teller.tell(created());
    teller.tell(Body::ExecutionStarted {});
    let told = teller.tell(Body::ExecutionCompleted { answer: blob(3), total_iterations: 1 });
    assert!(matches!(&told[..], [ExecutionEvent::ExecutionCompleted { duration_ms: 1000, .. }]), "{told:?}");
    assert!(told[0].is_final());

    let told = teller.tell(Body::ExecutionFailed {
        reason: FailureReason::ValidationExhausted,
        detail: blob(4),
        total_iterations: 3,
    });
    let [ExecutionEvent::ExecutionFailed { reason, error_type, .. }] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(
        (reason.as_str(), error_type.as_str()),
        ("no iteration passed validation", "validation_exhausted")
    );
    let told = teller.tell(Body::ExecutionCancelled { total_iterations: 2 });
    assert!(matches!(&told[..], [ExecutionEvent::ExecutionCancelled { total_iterations: 2, .. }]));
}

#[test]
fn a_verbose_stream_tells_results_and_sizes_and_a_plain_one_does_not() {
    let prompted = || Body::IterationPrompted { iteration: 1, prompt: blob(5), undefined: 0 };
    let mut plain = Teller::new(&[(1, "{}"), (2, "the result")]);
    assert_eq!(plain.tell(prompted()), []);
    let mut verbose = Teller::new(&[(1, "{}"), (2, "the result")]);
    verbose.follow = Follow::new(true);
    let told = verbose.tell(prompted());
    assert!(
        matches!(told.as_slice(), [ExecutionEvent::IterationPrompted { prompt_bytes: 1, .. }]),
        "{told:?}"
    );
    for (teller, expected) in [(&mut plain, None), (&mut verbose, Some("the result"))] {
        teller.tell(intended("fs.read"));
        let told = teller.tell(completed(None));
        let [ExecutionEvent::ToolInvoked { result, .. }] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(result.as_deref(), expected);
    }
}
