//! Each stage by itself: what it refuses, and what it leaves on record.

use std::sync::Arc;
use std::time::Duration;

use aegis_core::execution::Phase;
use aegis_core::{
    ActionId, ActionKind, Body, Denial, DenialCode, FinishReason, Intent, ModelAnswer, ModelFailure,
    ModelFailureKind, Outcome, Tenant, ToolCall, ToolResult, Usage,
};
use aegis_security::redact::Redactor;
use serde_json::{Value, json};

use super::speed::{Signing, waiting_ledger};
use super::{Action, Performed, Permit, Proof, Settled, Target, stages};
use crate::port::ToolError;
use crate::record::Ledger;
use crate::test_journal::TestJournal;

const MODEL: Target<'_> = Target::Model { alias: "default", turn: 0 };
const JUDGE: Target<'_> = Target::Judge { alias: "default", validator: 0, judge: 0 };
const SECRET: &str = "correct-horse-battery";

fn waiting() -> (Ledger, Arc<TestJournal>) {
    let journal = Arc::new(TestJournal::starting_at(5));
    (waiting_ledger(journal.clone()), journal)
}

/// An execution that is to ask its model for the first time.
fn asking() -> (Ledger, Arc<TestJournal>) {
    let (mut ledger, journal) = waiting();
    ledger.state.current.turns.clear();
    (ledger, journal)
}

fn call(name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: "1".into(), name: name.into(), arguments }
}

fn tool(call: &ToolCall) -> Action<'_> {
    Action {
        target: Target::Tool { turn: 0, index: 0, call, facts: None, proof: Proof::Nobody },
        generation: 1,
    }
}

fn permit(max_response_bytes: Option<u64>, questions: Vec<(String, String)>) -> Permit {
    let rule = "context:ci/capability:0".to_owned();
    Permit {
        tenant: Tenant::default_tenant(),
        rule,
        limits: Vec::new(),
        max_response_bytes,
        questions,
        egress: None,
    }
}

fn answer(text: &str) -> ModelAnswer {
    ModelAnswer {
        content: text.to_owned(),
        tool_calls: vec![call("fs.read", json!({"path": text}))],
        finish: FinishReason::Stop,
        usage: Usage::default(),
        provider: "p".into(),
        model: text.to_owned(),
        fingerprint: Some(text.to_owned()),
        request_id: None,
        attempts: 2,
    }
}

fn failure(message: String) -> ModelFailure {
    ModelFailure { kind: ModelFailureKind::Timeout, message, attempts: 3 }
}

#[test]
fn only_the_sandbox_generation_that_lives_may_ask() {
    let signing = Signing::new();
    let call = call("fs.read", json!({}));
    let (envelope, session) = signing.sign(&waiting().0, &call);
    let proof = Proof::Kernel { envelope: envelope.as_ref(), session: &session };
    let signed = Target::Tool { turn: 0, index: 0, call: &call, facts: None, proof };
    let ask = |change: &dyn Fn(&mut Ledger), target: Target<'_>, generation: u32| {
        let (mut ledger, _) = waiting();
        change(&mut ledger);
        stages::authenticate(&ledger, &Action { target, generation }, &signing.tokens)
            .map(|signed| signed.is_some())
            .map_err(|denial| (denial.code, denial.rule))
    };
    let as_it_is: &dyn Fn(&mut Ledger) = &|_| {};
    let ended: &dyn Fn(&mut Ledger) = &|ledger| ledger.state.sandbox = None;
    let refused = Err((DenialCode::ExecutionNotActive, "node:execution".to_owned()));
    for target in [MODEL, signed] {
        let is_tool = matches!(target, Target::Tool { .. });
        assert_eq!(ask(as_it_is, target, 1), Ok(is_tool));
        assert_eq!(ask(as_it_is, target, 0), refused, "a generation that is over");
        assert_eq!(ask(as_it_is, target, 2), refused, "one that never was");
        assert_eq!(ask(ended, target, 1), refused, "one that was ended");
    }
    // A judge speaks for no sandbox.
    assert_eq!(ask(ended, JUDGE, 0), Ok(false));
    for target in [MODEL, signed, JUDGE] {
        for phase in [Phase::Completed, Phase::Failed, Phase::Cancelled] {
            assert_eq!(ask(&|ledger| ledger.state.phase = phase, target, 1), refused, "{phase:?}");
        }
        for forced in [false, true] {
            assert_eq!(ask(&|ledger| ledger.state.cancel = Some(forced), target, 1), refused);
        }
    }
    // From outside no model is asked, and a call counts only as what was signed for there.
    let external: &dyn Fn(&mut Ledger) = &|ledger| {
        ledger.state.external = true;
        ledger.state.sandbox = None;
    };
    assert_eq!(ask(external, MODEL, 0), refused);
    assert_eq!(ask(external, signed, 1), refused);
    assert_eq!(ask(external, signed, 0), Err((DenialCode::ToolNotAllowed, "node:envelope".to_owned())));
}

#[test]
fn a_call_is_made_as_it_was_signed_or_not_at_all() {
    let signing = Signing::new();
    let (ledger, _) = waiting();
    let call_ = |name: &str, path: &str| call(name, json!({"path": path}));
    let asked = call_("fs.read", "a");
    let check = |call: &ToolCall, proof: Proof<'_>, ledger: &Ledger| {
        let target = Target::Tool { turn: 0, index: 0, call, facts: None, proof };
        stages::authenticate(ledger, &Action { target, generation: 1 }, &signing.tokens)
    };
    let rule = |checked: Result<Option<aegis_core::SignedCall>, Denial>| {
        let denial = checked.unwrap_err();
        (denial.code, denial.rule)
    };
    let (envelope, session) = signing.sign(&ledger, &asked);
    let envelope = envelope.unwrap();
    let kernel = Proof::Kernel { envelope: Ok(&envelope), session: &session };
    let signed = check(&asked, kernel, &ledger).unwrap().unwrap();
    assert!(signed.session == session_id() && signed.text.is_none());
    let admitted = signing.admit(&ledger, &asked);
    let client = Proof::Client(&admitted);
    assert_eq!(check(&asked, client, &ledger).unwrap().unwrap().nonce, admitted.nonce);

    let forged = (DenialCode::ToolNotAllowed, "node:envelope".to_owned());
    assert_eq!(rule(check(&asked, Proof::Nobody, &ledger)), forged);
    for proof in [kernel, client] {
        for other in [call_("fs.write", "a"), call_("fs.read", "b"), call("fs.read", json!({}))] {
            assert_eq!(rule(check(&other, proof, &ledger)), forged, "{other:?}");
        }
        let (mut another, _) = waiting();
        another.execution = aegis_core::ExecutionId::from_uuid(uuid::Uuid::from_u128(7));
        assert_eq!(rule(check(&asked, proof, &another)), forged, "the token of another execution");
    }
    // Keys of another node.
    let (envelope, session) = Signing::of(9).sign(&ledger, &asked);
    let foreign = Proof::Kernel { envelope: envelope.as_ref(), session: &session };
    assert_eq!(rule(check(&asked, foreign, &ledger)), forged);
    // Absent arguments are none, and what cannot be signed cannot be made.
    let none = call("fs.list", json!({}));
    assert!(check(&none, Proof::Client(&signing.admit(&ledger, &none)), &ledger).is_ok());
    let exact = call("fs.read", json!({"n": 9_007_199_254_740_993_u64}));
    let (envelope, session) = signing.sign(&ledger, &exact);
    let unsignable = Proof::Kernel { envelope: envelope.as_ref(), session: &session };
    let refused = rule(check(&exact, unsignable, &ledger));
    assert_eq!(refused, (DenialCode::InvalidArguments, "tool:fs.read/schema".to_owned()));
    // Commands run in the turn of the model alone.
    let run = call("cmd.run", json!({"command": "true"}));
    let admitted = signing.admit(&ledger, &run);
    let (envelope, session) = signing.sign(&ledger, &run);
    let reach = |call, proof| {
        let target = Target::Tool { turn: 0, index: 0, call, facts: None, proof };
        super::envelope::reachable(&Action { target, generation: 1 })
    };
    let refused = reach(&run, Proof::Client(&admitted)).unwrap_err();
    assert_eq!((refused.code, refused.rule.as_str()), (DenialCode::CapabilityMissing, "tool:cmd.run/door"));
    assert!(reach(&asked, client).is_ok());
    assert!(reach(&run, Proof::Kernel { envelope: envelope.as_ref(), session: &session }).is_ok());
}

fn session_id() -> String {
    uuid::Uuid::from_u128(1).to_string()
}

#[test]
fn policies_are_told_labels_and_the_time_in_seconds() {
    let (mut ledger, _) = waiting();
    assert_eq!(ledger.scribe.clock.now().micros(), 1_700_000_000_999_999);
    ledger.state.labels.insert("untrusted".to_owned());
    let brought = [aegis_security::label::Label::Egress].into_iter().collect();
    let circumstances = stages::circumstances(&ledger, &brought);
    assert_eq!((circumstances.time, circumstances.risk), (1_700_000_000, 0));
    assert_eq!(circumstances.labels, ["egress", "untrusted"]);
}

#[test]
fn what_would_be_asked_is_refused_by_the_first_question() {
    assert_eq!(stages::judge(&permit(None, Vec::new())), Ok(()));
    let questions = vec![("soul:a/review:0".into(), "Really?".into()), ("node:b".into(), "Sure?".into())];
    let denial = stages::judge(&permit(None, questions)).unwrap_err();
    assert_eq!((denial.code, denial.rule.as_str()), (DenialCode::ApprovalRequired, "soul:a/review:0"));
    assert!(denial.message.starts_with("Really?: "), "{}", denial.message);
}

#[test]
fn results_beyond_the_capabilitys_size_are_withheld_and_no_others() {
    let cap = |most: Option<u64>, content: &str| {
        stages::cap_response(Performed::Tool(Ok(ToolResult::ok(content))), &permit(most, Vec::new()))
    };
    for (most, content) in [(None, "12345"), (Some(5), "12345"), (Some(6), "12345"), (Some(0), "")] {
        let Performed::Tool(Ok(result)) = cap(most, content) else { panic!("{most:?} withheld") };
        assert_eq!(result.content, content);
    }
    // Bytes, not characters.
    for (most, content) in [(Some(4), "12345"), (Some(4), "äöü"), (Some(0), "x")] {
        let Performed::Tool(Err(ToolError::Denied(denial))) = cap(most, content) else {
            panic!("{most:?} {content} let through")
        };
        assert_eq!(denial.code, DenialCode::OutputSizeExceeded);
        assert_eq!(denial.rule, "context:ci/capability:0");
        assert!(!denial.message.contains(content), "{}", denial.message);
    }
    let model = stages::cap_response(Performed::Model(Ok(answer("12345"))), &permit(Some(1), Vec::new()));
    assert!(matches!(model, Performed::Model(Ok(_))));
}

#[test]
fn secrets_are_taken_out_of_whatever_comes_back() {
    let redactor = Redactor::new([("key", SECRET)]).unwrap();
    let said = format!("it is {SECRET}.");
    let redact = |performed| format!("{:?}", stages::redact(&redactor, performed));
    for performed in [
        Performed::Model(Ok(answer(&said))),
        Performed::Model(Err(failure(said.clone()))),
        Performed::Tool(Ok(ToolResult::ok(said.clone()))),
        Performed::Tool(Ok(ToolResult::error(said.clone()))),
    ] {
        let redacted = redact(performed);
        assert!(!redacted.contains(SECRET) && redacted.contains("[secret:key]"), "{redacted}");
    }
    assert!(redact(Performed::Interrupted).contains("Interrupted"));
}

fn denial() -> Denial {
    Denial {
        code: DenialCode::PathNotAllowed,
        rule: "context:ci/paths".into(),
        message: "no.".into(),
        remedy: "ask less".into(),
    }
}

/// Kind, name, turn, index, code, rule, and the texts of arguments and result.
type Refusal = (ActionKind, String, u32, u32, DenialCode, String, String, String);

fn refusal(journal: &TestJournal) -> Refusal {
    let bodies = journal.bodies();
    let [Body::ActionDenied { target, name, turn, index, arguments, code, rule, result, iteration, .. }] =
        &bodies[..]
    else {
        panic!("{bodies:?}")
    };
    assert_eq!(*iteration, 1);
    let (arguments, told) = (journal.text(arguments), journal.text(result));
    (*target, name.clone(), *turn, *index, *code, rule.clone(), arguments, told)
}

#[tokio::test]
async fn a_refusal_is_recorded_with_what_the_model_is_told() {
    let refuse = async |target: Target<'_>| {
        let (mut ledger, journal) = waiting();
        let action = Action { target, generation: 1 };
        let settled = stages::record_denial(&mut ledger, &action, denial()).await.unwrap();
        assert!(matches!(settled, Settled::Denied(told) if told == denial()));
        refusal(&journal)
    };
    let told = "PATH_NOT_ALLOWED (context:ci/paths). no. To permit it: ask less";
    let expected = |kind: ActionKind, name: &str, (turn, index): (u32, u32), arguments: &str| {
        let (code, rule) = (DenialCode::PathNotAllowed, "context:ci/paths".to_owned());
        (kind, name.to_owned(), turn, index, code, rule, arguments.to_owned(), told.to_owned())
    };
    let asked = refuse(Target::Model { alias: "smart", turn: 3 }).await;
    assert_eq!(asked, expected(ActionKind::Model, "smart", (3, 0), ""));
    let judged = refuse(Target::Judge { alias: "fair", validator: 2, judge: 5 }).await;
    assert_eq!(judged, expected(ActionKind::Judge, "fair", (2, 5), ""));
    let longest = "a".repeat(64);
    let too_long = "a".repeat(65);
    for (name, recorded) in [
        ("fs.read", "fs.read"),
        ("my-tool_2", "my-tool_2"),
        (longest.as_str(), longest.as_str()),
        (too_long.as_str(), "unknown"),
        ("", "unknown"),
        ("fs read", "unknown"),
        ("\u{1b}[2Jfs", "unknown"),
        ("fs.réad", "unknown"),
        ("drop table;", "unknown"),
    ] {
        let call = call(name, json!({"b": 1.0, "a": 2}));
        let made_up = refuse(tool(&call).target).await;
        assert_eq!(made_up, expected(ActionKind::Tool, recorded, (0, 0), "{\"a\":2,\"b\":1}"), "{name:?}");
    }
    // What has no canonical form is recorded as it was written.
    let exact = call("fs.read", json!({"n": 9_007_199_254_740_993_u64}));
    assert_eq!(refuse(tool(&exact).target).await.6, "{\"n\":9007199254740993}");
    // Of what is long, its beginning.
    let long = call("fs.write", json!({"content": "ü".repeat(1 << 20)}));
    let recorded: Value = serde_json::from_str(&refuse(tool(&long).target).await.6).unwrap();
    assert_eq!(recorded["bytes"], (2 << 20) + r#"{"content":""}"#.len());
    let begins = recorded["begins"].as_str().unwrap();
    assert!(begins.starts_with(r#"{"content":"üü"#) && begins.len() <= 16 << 10, "{}", begins.len());
}

#[tokio::test]
async fn a_secret_in_a_call_that_is_signed_outside_is_refused_and_not_recorded() {
    let signing = Signing::new();
    let (mut ledger, journal) = waiting();
    ledger.scribe.redaction = crate::redaction::Redaction::knowing(Redactor::new([("key", SECRET)]).unwrap());
    let leaking = call("fs.write", json!({"content": format!("it is {SECRET}")}));
    let admitted = signing.admit(&ledger, &leaking);
    let of = |proof| Action {
        target: Target::Tool { turn: 0, index: 0, call: &leaking, facts: None, proof },
        generation: 1,
    };
    let denial = stages::withhold(&ledger, &of(Proof::Client(&admitted))).unwrap_err();
    assert_eq!((denial.code, denial.rule.as_str()), (DenialCode::InvalidArguments, "node:secrets"));
    assert!(stages::withhold(&ledger, &of(Proof::Nobody)).is_ok(), "a model's calls were cleaned before");
    stages::record_denial(&mut ledger, &of(Proof::Client(&admitted)), denial).await.unwrap();
    assert_eq!(refusal(&journal).6, r#"{"content":"it is [secret:key]"}"#);
    let clean = call("fs.write", json!({"content": "nothing"}));
    let admitted = signing.admit(&ledger, &clean);
    let target =
        Target::Tool { turn: 0, index: 0, call: &clean, facts: None, proof: Proof::Client(&admitted) };
    assert!(stages::withhold(&ledger, &Action { target, generation: 1 }).is_ok());
}

/// Records an intent and what came of it.
async fn settle(
    (mut ledger, journal): (Ledger, Arc<TestJournal>),
    target: Target<'_>,
    performed: Performed,
) -> (Settled, Arc<TestJournal>) {
    let action = Action { target, generation: 1 };
    let id: ActionId =
        stages::record_intent(&mut ledger, &action, &permit(None, Vec::new()), None).await.unwrap().unwrap();
    let took = Duration::from_millis(77);
    let settled = stages::record_outcome(&mut ledger, id, performed, took).await.unwrap();
    let bodies = journal.bodies();
    let Body::ActionIntended { action, iteration: 1, generation: 1, .. } = bodies[0] else {
        panic!("{bodies:?}")
    };
    assert_eq!(action, id);
    match &bodies[1] {
        Body::ActionCompleted { action, duration_ms, .. } => assert_eq!((*action, *duration_ms), (id, 77)),
        Body::ActionUnknown { action, .. } => assert_eq!(*action, id),
        other => panic!("{other:?}"),
    }
    (settled, journal)
}

fn outcome(journal: &TestJournal) -> Outcome {
    match journal.bodies().swap_remove(1) {
        Body::ActionCompleted { outcome, .. } => outcome,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_model_answers_is_recorded_whole() {
    let (settled, journal) = settle(asking(), MODEL, Performed::Model(Ok(answer("hello")))).await;
    assert!(matches!(settled, Settled::Model(told) if told == answer("hello")));
    let Outcome::Model { answer, finish, tool_calls, provider, model, fingerprint, attempts, .. } =
        outcome(&journal)
    else {
        panic!()
    };
    assert_eq!((finish, tool_calls, attempts), (FinishReason::Stop, 1, 2));
    assert_eq!((provider.as_str(), model.as_str(), fingerprint.as_deref()), ("p", "hello", Some("hello")));
    let stored: Value = serde_json::from_str(&journal.text(&answer)).unwrap();
    assert_eq!(stored["content"], "hello");
    assert_eq!(stored["tool_calls"][0]["name"], "fs.read");
    let intended = journal.bodies().swap_remove(0);
    assert!(
        matches!(&intended, Body::ActionIntended { intent: Intent::Model { alias, turn: 0 }, .. } if alias == "default")
    );

    let failed = Performed::Model(Err(failure("late".into())));
    let (settled, journal) = settle(asking(), MODEL, failed).await;
    assert!(matches!(settled, Settled::ModelFailed(told) if told == failure("late".into())));
    let Outcome::ModelFailed { failure, detail, attempts } = outcome(&journal) else { panic!() };
    assert_eq!((failure, journal.text(&detail).as_str(), attempts), (ModelFailureKind::Timeout, "late", 3));
}

#[tokio::test]
async fn what_a_tool_answers_is_recorded_and_who_refused_it() {
    let call = call("fs.read", json!({"path": "a"}));
    let target = tool(&call).target;
    let result = ToolResult { exit_code: Some(4), size: Some(9), ..ToolResult::error("text") };
    let (settled, journal) = settle(waiting(), target, Performed::Tool(Ok(result))).await;
    assert!(matches!(&settled, Settled::Tool { result, denied: None } if result.content == "text"));
    let Outcome::Tool { result, is_error: true, exit_code: Some(4), size: Some(9), denied: None } =
        outcome(&journal)
    else {
        panic!("{journal:?}")
    };
    assert_eq!(journal.text(&result), "text");
    let bodies = journal.bodies();
    let Body::ActionIntended { intent: Intent::Tool { rule, idempotent: false, tool, .. }, .. } = &bodies[0]
    else {
        panic!("{bodies:?}")
    };
    assert_eq!((rule.as_str(), tool.as_str()), ("context:ci/capability:0", "fs.read"));

    let refused = Performed::Tool(Err(ToolError::Denied(denial())));
    let (settled, journal) = settle(waiting(), target, refused).await;
    assert!(matches!(settled, Settled::Tool { denied: Some(told), .. } if told == denial()));
    let Outcome::Tool { result, is_error: true, denied: Some(late), .. } = outcome(&journal) else {
        panic!("{journal:?}")
    };
    assert_eq!((late.code, late.rule.as_str()), (DenialCode::PathNotAllowed, "context:ci/paths"));
    assert!(journal.text(&result).ends_with("To permit it: ask less"));

    let broken = Performed::Tool(Err(ToolError::Internal("it broke".into())));
    let (_, journal) = settle(waiting(), target, broken).await;
    let Outcome::Tool { result, is_error: true, denied: None, .. } = outcome(&journal) else {
        panic!("{journal:?}")
    };
    assert_eq!(journal.text(&result), "it broke");
}

#[tokio::test]
async fn what_was_given_up_is_unknown_and_not_asked_again() {
    let call = call("fs.read", json!({"path": "a"}));
    let (settled, journal) = settle(waiting(), tool(&call).target, Performed::Interrupted).await;
    assert!(matches!(settled, Settled::Interrupted));
    let Body::ActionUnknown { retry: false, result: Some(told), .. } = journal.bodies().swap_remove(1) else {
        panic!("{journal:?}")
    };
    assert!(journal.text(&told).starts_with("interrupted: "));
}

#[tokio::test]
async fn an_intent_holds_the_envelope_it_was_permitted_for_without_secrets() {
    for (redactor, redacted, kept) in [
        (Redactor::default(), false, SECRET),
        (Redactor::new([("key", SECRET)]).unwrap(), true, "[secret:key]"),
    ] {
        let signing = Signing::new();
        let (mut ledger, journal) = waiting();
        let call = call("fs.read", json!({"path": SECRET}));
        let (envelope, session) = signing.sign(&ledger, &call);
        let proof = Proof::Kernel { envelope: envelope.as_ref(), session: &session };
        let target = Target::Tool { turn: 0, index: 0, call: &call, facts: None, proof };
        let action = Action { target, generation: 1 };
        let signed = stages::authenticate(&ledger, &action, &signing.tokens).unwrap();
        ledger.scribe.redaction = crate::redaction::Redaction::knowing(redactor);
        stages::record_intent(&mut ledger, &action, &permit(None, Vec::new()), signed).await.unwrap();
        let [Body::ActionIntended { intent: Intent::Tool { envelope: Some(signed), .. }, .. }] =
            &journal.bodies()[..]
        else {
            panic!("{:?}", journal.bodies())
        };
        assert_eq!(signed.redacted, redacted, "whoever checks the signature must know");
        let text = journal.text(signed.text.as_ref().unwrap());
        assert!(text.contains(kept), "{text}");
        assert_eq!(text.contains(SECRET), !redacted, "{text}");
        if !redacted {
            assert_eq!(text, envelope.unwrap().to_json().to_string());
        }
    }
}

#[test]
fn a_call_that_was_signed_without_arguments_has_none() {
    let signing = Signing::new();
    let (ledger, _) = waiting();
    let admitted = signing.admit_bare(&ledger, "fs.list");
    for (arguments, permitted) in [(json!({}), true), (json!({"path": "/"}), false), (json!([]), false)] {
        let call = call("fs.list", arguments);
        let target =
            Target::Tool { turn: 0, index: 0, call: &call, facts: None, proof: Proof::Client(&admitted) };
        let signed = stages::authenticate(&ledger, &Action { target, generation: 1 }, &signing.tokens);
        assert_eq!(signed.is_ok(), permitted, "{call:?}: {signed:?}");
    }
}
