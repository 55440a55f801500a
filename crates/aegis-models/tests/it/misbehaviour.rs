//! Whatever a provider does, a person is told in a sentence.

use std::time::Duration;

use aegis_core::ModelFailureKind as Kind;
use aegis_models::ProviderKind::{self, Anthropic, OpenAiCompatible};
use aegis_testkit::scripted_model::{Reply, Turn, UsageReport};
use serde_json::json;

use crate::setup::{KEY, answer_to, ask, provider, request, router, settings};

async fn fails(reply: Reply, kind: Kind, sentence: &str) {
    for dialect in [OpenAiCompatible, Anthropic] {
        let failure = answer_to(dialect, reply.clone()).await.unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (kind, sentence), "{dialect:?}");
    }
}

#[tokio::test]
async fn a_model_that_hangs() {
    let sentence = "the model provider `far` said nothing for 1 s; check its load, or take a smaller model";
    fails(Reply::Hang, Kind::Timeout, sentence).await;
    let sentence = "the model provider `far` said nothing for 0.5 s; check its load, or take a smaller model";
    fails(Reply::HangMidway(Turn::text("so")), Kind::Timeout, sentence).await;
}

#[tokio::test]
async fn a_call_that_outlives_its_time() {
    let drip = Turn { pause: Some(Duration::from_millis(100)), ..Turn::text("slow ".repeat(100)) };
    let server = aegis_testkit::scripted_model::ScriptedModel::start(
        aegis_testkit::scripted_model::Script::sequence(vec![Reply::Turn(drip)]),
    );
    let server = server.await.unwrap();
    let router = router(settings(vec![provider("far", OpenAiCompatible, &server.url(), "main")]));
    let mut hurried = request("hello");
    hurried.timeout_ms = 700;
    let failure = ask(&router, &hurried).await.unwrap_err();
    let sentence = "the model provider `far` gave no answer within the 0.7 s of this call; raise `llm_timeout_seconds`, or take a faster model";
    assert_eq!((failure.kind, failure.message.as_str()), (Kind::Timeout, sentence));
}

#[tokio::test]
async fn a_server_error() {
    let sentence = "the model provider `far` answered 500 (server error): boom; try again later, or set `llm_selection.fallback_provider`";
    fails(Reply::status(500, "boom"), Kind::ServerError, sentence).await;
}

#[tokio::test]
async fn too_many_requests() {
    let sentence = "the model provider `far` answered 429 (too many requests): slow down; wait, lower the load, or set `llm_selection.fallback_provider`";
    fails(Reply::rate_limited("3"), Kind::RateLimited, sentence).await;
}

#[tokio::test]
async fn a_refused_credential_is_never_repeated() {
    let sentence = "the model provider `far` answered 401 (credential refused); check its `api_key` in the node configuration";
    fails(Reply::status(401, &format!("bad key {KEY}")), Kind::Authentication, sentence).await;
    let sentence = "the model provider `far` answered 400 (bad request): key [secret] \\u{1b}[2J; check that the model supports what the manifest asks of it";
    fails(Reply::status(400, &format!("key {KEY} \u{1b}[2J")), Kind::BadRequest, sentence).await;
}

#[tokio::test]
async fn a_stream_cut_midway() {
    let sentence = "the model provider `far` broke off in the middle of its answer; check its log and the network between";
    let turn = Turn { cut_after: Some(3), ..Turn::text("a long story that never ends") };
    fails(Reply::Turn(turn.clone()), Kind::Connection, sentence).await;
    fails(Reply::Turn(Turn { ignore_stream: true, ..turn }), Kind::Connection, sentence).await;
    fails(Reply::Drop, Kind::Connection, sentence).await;
}

#[tokio::test]
async fn five_megabytes() {
    let sentence = "the model provider `far` answered more than the 4 MiB that are taken from a model; ask for a shorter answer";
    fails(Reply::Flood { bytes: 5 << 20 }, Kind::TooLarge, sentence).await;
    let whole = Turn { ignore_stream: true, ..Turn::text("x".repeat(5 << 20)) };
    fails(Reply::Turn(whole), Kind::TooLarge, sentence).await;
}

#[tokio::test]
async fn not_json() {
    let html = |content_type: &str, body: &str| Reply::Raw {
        content_type: content_type.to_owned(),
        body: body.as_bytes().to_vec(),
    };
    let remedy = "check that its `endpoint` and `type` in the node configuration fit together";
    let sentence = format!(
        "the model provider `far` answered what its protocol does not allow: not JSON, it starts `<html>hi</html>`; {remedy}"
    );
    fails(html("text/html", "<html>hi</html>"), Kind::Malformed, &sentence).await;
    fails(html("text/event-stream", "data: <html>hi</html>\n\n"), Kind::Malformed, &sentence).await;
    let sentence = format!(
        "the model provider `far` answered what its protocol does not allow: an empty answer; {remedy}"
    );
    fails(html("application/json", ""), Kind::Malformed, &sentence).await;
}

#[tokio::test]
async fn an_error_under_a_status_of_success() {
    let sentence = "the model provider `far` answered with an error: out of memory; try again later, or set `llm_selection.fallback_provider`";
    let body = json!({"error": {"message": "out of memory"}}).to_string();
    let raw = |content_type: &str, body: String| Reply::Raw {
        content_type: content_type.into(),
        body: body.into(),
    };
    fails(raw("application/json", body.clone()), Kind::ServerError, sentence).await;
    fails(raw("text/event-stream", format!("data: {body}\n\n")), Kind::ServerError, sentence).await;
}

#[tokio::test]
async fn nobody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let router = router(settings(vec![provider("far", OpenAiCompatible, &address, "main")]));
    let failure = ask(&router, &request("hello")).await.unwrap_err();
    let sentence = format!(
        "the model provider `far` could not be reached at {address}: Connection refused; check that it runs, and its `endpoint` in the node configuration"
    );
    assert_eq!((failure.kind, failure.message), (Kind::Connection, sentence));
}

#[tokio::test]
async fn an_unknown_alias() {
    let router = router(settings(vec![provider("far", OpenAiCompatible, "http://127.0.0.1:1", "other")]));
    let failure = ask(&router, &request("hello")).await.unwrap_err();
    let sentence = "no model has the alias `main`; this node has `default`, `other`: add it to `llm_providers` in the node configuration";
    assert_eq!((failure.kind, failure.message.as_str()), (Kind::UnknownAlias, sentence));
}

#[tokio::test]
async fn unknown_tools_and_many_calls_are_the_kernels_to_judge() {
    for dialect in [ProviderKind::OpenAi, Anthropic] {
        let answer = answer_to(dialect, Reply::call("no.such", &json!({"a": 1}))).await.unwrap();
        assert_eq!(answer.tool_calls[0].name, "no.such");
        let ten = (0..10).fold(Turn::default(), |turn, n| turn.and_call("fs.read", &json!({"n": n})));
        let answer = answer_to(dialect, Reply::Turn(ten)).await.unwrap();
        let order: Vec<_> = answer.tool_calls.iter().map(|call| call.arguments["n"].as_u64()).collect();
        assert_eq!(order, (0..10).map(Some).collect::<Vec<_>>());
        let forty = (0..40).fold(Turn::default(), |turn, n| turn.and_call("fs.read", &json!({"n": n})));
        let failure = answer_to(dialect, Reply::Turn(forty)).await.unwrap_err();
        let sentence = "the model provider `far` called more than the 32 tools that are taken from one turn; ask for fewer steps at once";
        assert_eq!((failure.kind, failure.message.as_str()), (Kind::TooLarge, sentence));
    }
}

#[tokio::test]
async fn missing_and_wrong_usage_is_estimated() {
    for usage in [
        UsageReport::Missing,
        UsageReport::Raw(json!("lots")),
        UsageReport::Raw(json!({"prompt_tokens": -3})),
    ] {
        for dialect in [ProviderKind::OpenAi, Anthropic] {
            let turn = Turn::text("twelve chars").with_usage(usage.clone());
            let answer = answer_to(dialect, Reply::Turn(turn)).await.unwrap();
            assert!(answer.usage.estimated, "{dialect:?} {usage:?}");
            assert!(answer.usage.input_tokens > 0 && answer.usage.cost.micros() > 0);
        }
    }
}
