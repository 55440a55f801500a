//! Every dialect passes the suite of the port.

use aegis_core::{ModelAnswer, ToolCall, Usage};
use aegis_kernel::port::Model as _;
use aegis_models::{ProviderKind, ProviderSettings, Recording, Router, SelectionSettings, Settings};
use aegis_testkit::conformance::model::{ALIAS, run, scenes, script};
use aegis_testkit::scripted_model::ScriptedModel;

use crate::setup::{clock, provider, router, settings};

async fn remote(kind: ProviderKind) {
    let server = ScriptedModel::start(script()).await.unwrap();
    let router = router(settings(vec![provider("far", kind, &server.url(), ALIAS)]));
    run(&router, true).await;
}

#[tokio::test]
async fn openai() {
    remote(ProviderKind::OpenAi).await;
}

#[tokio::test]
async fn openai_compatible() {
    remote(ProviderKind::OpenAiCompatible).await;
}

#[tokio::test]
async fn anthropic() {
    remote(ProviderKind::Anthropic).await;
}

#[test]
fn a_provider_that_is_switched_off_is_not_there() {
    let of = |name: &str| provider(name, ProviderKind::OpenAi, "http://127.0.0.1:9", name);
    let off = ProviderSettings { enabled: false, ..of("off") };
    let all = router(settings(vec![of("on"), off.clone()]));
    assert!(all.facts("on").is_some() && all.facts("off").is_none());
    assert!(!all.aliases().contains(&"off".to_owned()), "{:?}", all.aliases());
    let named =
        SelectionSettings { fallback_provider: Some("off".to_owned()), ..SelectionSettings::default() };
    assert!(Router::new(Settings { selection: named, ..settings(vec![of("on"), off]) }, clock()).is_err());
}

#[tokio::test]
async fn replay() {
    let folder = tempfile::tempdir().unwrap();
    for scene in scenes() {
        let calls = scene.calls.iter().enumerate();
        let answer = ModelAnswer {
            content: scene.content.to_owned(),
            tool_calls: calls
                .map(|(n, (name, arguments))| ToolCall {
                    id: format!("call_{n}"),
                    name: (*name).to_owned(),
                    arguments: arguments.clone(),
                })
                .collect(),
            finish: scene.finish(),
            usage: Usage { input_tokens: 11, output_tokens: 7, ..Usage::default() },
            provider: "far".to_owned(),
            model: "recorded".to_owned(),
            fingerprint: None,
            request_id: None,
            attempts: 1,
        };
        Recording::of(&scene.request(), &answer).write(folder.path()).await.unwrap();
    }
    let mut replay = provider("recorded", ProviderKind::Replay, "", ALIAS);
    replay.recordings = Some(folder.path().to_owned());
    run(&router(settings(vec![replay])), false).await;
}
