//! What the tests have in common.

use std::sync::Arc;
use std::time::Duration;

use aegis_core::{Message, ModelAnswer, ModelFailure, ModelRequest, Role, Timestamp, ToolSchema};
use aegis_kernel::port::Model;
use aegis_models::{
    ModelSettings, Patience, Price, ProviderKind, ProviderSettings, Router, SelectionSettings, Settings,
    ToolCalling,
};
use aegis_testkit::TestClock;
use aegis_testkit::scripted_model::{Reply, Script, ScriptedModel};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(crate) const KEY: &str = "sk-very-secret";

pub(crate) fn clock() -> Arc<TestClock> {
    Arc::new(TestClock::at(Timestamp::parse("2026-11-21T10:00:00Z").unwrap()))
}

pub(crate) fn provider(name: &str, kind: ProviderKind, endpoint: &str, alias: &str) -> ProviderSettings {
    ProviderSettings {
        name: name.to_owned(),
        kind,
        endpoint: Some(endpoint.to_owned()),
        recordings: None,
        api_key: Some(KEY.into()),
        enabled: true,
        models: vec![ModelSettings {
            alias: alias.to_owned(),
            model: format!("{name}-model"),
            tool_calling: ToolCalling::Native,
            context_window: Some(8192),
            personal_data: true,
            price: Price::from_usd_per_1k(0.001, 0.002),
        }],
        record_to: None,
    }
}

pub(crate) fn settings(providers: Vec<ProviderSettings>) -> Settings {
    Settings {
        providers,
        selection: SelectionSettings { max_retries: 0, retry_delay_ms: 1, ..SelectionSettings::default() },
        patience: Patience {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(1),
            idle: Duration::from_millis(500),
        },
        ..Settings::default()
    }
}

pub(crate) fn router(settings: Settings) -> Router {
    Router::new(settings, clock()).unwrap()
}

pub(crate) fn request(said: &str) -> ModelRequest {
    let tool = |name: &str| ToolSchema {
        name: name.to_owned(),
        description: "A tool.".to_owned(),
        parameters: json!({"type": "object"}),
    };
    ModelRequest {
        alias: "main".to_owned(),
        messages: vec![Message::text(Role::User, said).into()],
        tools: vec![tool("fs.read")],
        response_format: None,
        temperature_milli: None,
        max_output_tokens: None,
        timeout_ms: 10_000,
        jitter_seed: 7,
    }
}

pub(crate) async fn ask(router: &Router, request: &ModelRequest) -> Result<ModelAnswer, ModelFailure> {
    router.ask(request, &CancellationToken::new()).await
}

/// Asks a provider `far` of this kind that answers with `reply`, without retries.
pub(crate) async fn answer_to(kind: ProviderKind, reply: Reply) -> Result<ModelAnswer, ModelFailure> {
    let server = ScriptedModel::start(Script::sequence(vec![reply])).await.unwrap();
    let router = router(settings(vec![provider("far", kind, &server.url(), "main")]));
    ask(&router, &request("hello")).await
}
