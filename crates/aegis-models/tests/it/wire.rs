//! What goes over the wire, and what comes back in odd pieces.

use std::sync::Arc;

use aegis_core::{FinishReason, Message, ResponseFormat, Role, ToolCall};
use aegis_models::ProviderKind::{self, Anthropic, OpenAi, OpenAiCompatible};
use aegis_models::ToolCalling;
use aegis_testkit::scripted_model::{Reply, Script, ScriptedModel, Turn, UsageReport};
use serde_json::json;

use crate::setup::{KEY, answer_to, ask, provider, request, router, settings};

#[tokio::test]
async fn pieces_of_any_size_make_the_same_answer() {
    for kind in [OpenAi, Anthropic] {
        for chop in [1, 2, 3, 7, 1000] {
            let turn = Turn { chop_bytes: Some(chop), ..Turn::text("Grüße 👋🏽") };
            let turn = turn.and_call("fs.read", &json!({"path": "ä"}));
            let answer = answer_to(kind, Reply::Turn(turn)).await.unwrap();
            assert_eq!(answer.content, "Grüße 👋🏽");
            assert_eq!(answer.tool_calls[0].arguments, json!({"path": "ä"}));
            assert_eq!(
                (answer.tool_calls[0].name.as_str(), answer.finish),
                ("fs.read", FinishReason::ToolCalls)
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    for kind in [OpenAi, Anthropic] {
        let turn = Turn { ignore_stream: true, ..Turn::text("whole").and_call("fs.read", &json!({"a": 1})) };
        let turn = turn.with_usage(UsageReport::Tokens { input: 1000, output: 1001 });
        let answer = answer_to(kind, Reply::Turn(turn)).await.unwrap();
        assert_eq!((answer.content.as_str(), answer.tool_calls[0].name.as_str()), ("whole", "fs.read"));
        assert_eq!((answer.usage.cost.micros(), answer.usage.estimated), (3002, false));
    }
}

#[tokio::test]
async fn provenance_is_kept() {
    let answer = answer_to(OpenAi, Reply::text("x")).await.unwrap();
    assert_eq!(
        (
            answer.provider.as_str(),
            answer.model.as_str(),
            answer.fingerprint.as_deref(),
            answer.request_id.as_deref()
        ),
        ("far", "far-model", Some("fp_scripted"), Some("chatcmpl-1"))
    );
    let turn = Turn { finish: Some("max_tokens".to_owned()), ..Turn::text("x") };
    assert_eq!(answer_to(Anthropic, Reply::Turn(turn)).await.unwrap().finish, FinishReason::Length);
}

/// The body a provider of this kind is sent for a conversation with everything in it.
async fn sent(kind: ProviderKind) -> (String, String) {
    let server = ScriptedModel::start(Script::sequence(vec![Reply::text("ok")])).await.unwrap();
    let router = router(settings(vec![provider("far", kind, &server.url(), "main")]));
    let mut request = request("Read a.");
    request.messages.insert(0, Message::text(Role::System, "Be brief.").into());
    let call = |id: &str, arguments| ToolCall { id: id.into(), name: "fs.read".into(), arguments };
    let mut turn = Message::text(Role::Assistant, "");
    turn.tool_calls = vec![call("c1", json!({"path": "a"})), call("c2", json!("not json"))];
    let result =
        |id: &str, text: &str| Message { tool_call_id: Some(id.into()), ..Message::text(Role::Tool, text) };
    request.messages.extend([turn, result("c1", "text of a"), result("c2", "bad arguments")].map(Arc::new));
    request.temperature_milli = Some(250);
    request.max_output_tokens = Some(99);
    let schema = json!({"type": "object"});
    request.response_format = Some(ResponseFormat::JsonSchema { name: "verdict".to_owned(), schema });
    ask(&router, &request).await.unwrap();
    let seen = server.requests().remove(0);
    let credential = match kind {
        Anthropic => seen.headers["x-api-key"].clone(),
        _ => seen.headers["authorization"].clone(),
    };
    (credential, serde_json::to_string_pretty(&seen.body).unwrap() + "\n")
}

#[tokio::test]
async fn requests_are_the_golden_ones() {
    let goldens = [
        (OpenAi, format!("Bearer {KEY}"), "openai", include_str!("golden/openai.json")),
        (
            OpenAiCompatible,
            format!("Bearer {KEY}"),
            "openai-compatible",
            include_str!("golden/openai-compatible.json"),
        ),
        (Anthropic, KEY.to_owned(), "anthropic", include_str!("golden/anthropic.json")),
    ];
    for (kind, credential, name, golden) in goldens {
        let (header, body) = sent(kind).await;
        assert_eq!(header, credential);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let path = format!("{}/tests/it/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(path, &body).unwrap();
        } else {
            assert_eq!(body, golden, "{name}");
        }
    }
}

#[tokio::test]
async fn a_server_that_refuses_stream_options_is_asked_without() {
    let script = Script::new(|seen| {
        if seen.body.get("stream_options").is_some() {
            Reply::status(400, "unknown field stream_options")
        } else {
            Reply::text("fine")
        }
    });
    let server = ScriptedModel::start(script).await.unwrap();
    let router = router(settings(vec![provider("far", OpenAiCompatible, &server.url(), "main")]));
    for requests in [2, 3] {
        let answer = ask(&router, &request("hello")).await.unwrap();
        assert_eq!((answer.content.as_str(), answer.usage.estimated), ("fine", true));
        assert_eq!(server.requests().len(), requests);
    }
}

#[tokio::test]
async fn models_without_tool_calls_call_by_schema() {
    for (text, expected) in [
        (r#"{"tool":"fs.read","arguments":{"path":"a"}}"#, Ok("fs.read")),
        ("Let me.\n```json\n{\"tool\": \"fs.read\", \"arguments\": {}}\n```", Ok("fs.read")),
        (r#"{"answer":"done"}"#, Err("done")),
        ("just words", Err("just words")),
    ] {
        let server = ScriptedModel::start(Script::sequence(vec![Reply::text(text)])).await.unwrap();
        let mut far = provider("far", OpenAiCompatible, &server.url(), "main");
        far.models[0].tool_calling = ToolCalling::Schema;
        let answer = ask(&router(settings(vec![far])), &request("hello")).await.unwrap();
        let body = server.requests().remove(0).body;
        assert!(
            body.get("tools").is_none()
                && body["response_format"]["json_schema"]["schema"]["oneOf"].is_array()
        );
        match expected {
            Ok(tool) => assert_eq!(
                (answer.tool_calls[0].name.as_str(), answer.finish),
                (tool, FinishReason::ToolCalls)
            ),
            Err(said) => assert_eq!((answer.content.as_str(), answer.finish), (said, FinishReason::Stop)),
        }
    }
}
