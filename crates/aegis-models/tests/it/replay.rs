//! Recording and replay.

use aegis_core::{Message, ModelFailureKind, Role};
use aegis_models::{ProviderKind, request_key};
use aegis_testkit::scripted_model::{Reply, Script, ScriptedModel};
use serde_json::json;

use crate::setup::{ask, provider, request, router, settings};

#[tokio::test]
async fn what_was_recorded_is_replayed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script::sequence(vec![Reply::call("fs.read", &json!({"path": "a"}))]);
    let server = ScriptedModel::start(script).await.unwrap();
    let mut live = provider("far", ProviderKind::OpenAi, &server.url(), "main");
    live.record_to = Some(folder.path().to_owned());
    let recorded = ask(&router(settings(vec![live])), &request("hello")).await.unwrap();

    let mut replay = provider("replay", ProviderKind::Replay, "", "main");
    replay.recordings = Some(folder.path().to_owned());
    let router = router(settings(vec![replay]));
    let replayed = ask(&router, &request("hello")).await.unwrap();
    assert_eq!((&replayed.tool_calls, &replayed.model), (&recorded.tool_calls, &recorded.model));
    assert_eq!((replayed.usage, replayed.provider.as_str()), (recorded.usage, "replay"));
    assert_eq!(server.requests().len(), 1);

    let file = format!("{}.json", &request_key(&request("hello"))[..12]);
    let mut other = request("hello");
    other.messages.push(Message::text(Role::Assistant, "what?").into());
    let failure = ask(&router, &other).await.unwrap_err();
    let key = request_key(&other);
    let sentence = format!(
        "the model provider `replay` has no recording of this request (key {}); the nearest, in `{file}`, differs from \
         message 2 (assistant) on; record it again with `just record`, or take a live model",
        &key[..12]
    );
    assert_eq!((failure.kind, failure.message), (ModelFailureKind::NotRecorded, sentence));

    let mut fewer = request("hello");
    fewer.tools.clear();
    let failure = ask(&router, &fewer).await.unwrap_err();
    assert!(failure.message.contains("differs in the tools offered"), "{}", failure.message);
}

#[test]
fn the_key_depends_on_what_the_answer_depends_on() {
    let key = request_key(&request("hello"));
    let mut same = request("hello");
    (same.timeout_ms, same.jitter_seed, same.temperature_milli) = (1, 2, Some(3));
    assert_eq!(request_key(&same), key);
    let mut alias = request("hello");
    alias.alias = "other".to_owned();
    for other in [alias, request("bye")] {
        assert_ne!(request_key(&other), key);
    }
}

#[test]
fn a_file_that_is_no_recording_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.json"), "{\"request\": {}}").unwrap();
    let mut replay = provider("replay", ProviderKind::Replay, "", "main");
    replay.recordings = Some(folder.path().to_owned());
    let error =
        aegis_models::Router::new(settings(vec![replay]), crate::setup::clock()).err().unwrap().to_string();
    assert!(error.contains("x.json` is not a recording: missing field `answer`"), "{error}");
}
