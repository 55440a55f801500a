//! The conformance suite of the `model` port.
//!
//! Whoever runs it stands up a model that answers [`scenes`] under the alias [`ALIAS`], from a
//! [`ScriptedModel`](crate::scripted_model::ScriptedModel) by [`script`] or from recordings, and calls [`run`].

use std::sync::Arc;
use std::time::Duration;

use aegis_core::{
    FinishReason, Message, ModelAnswer, ModelFailure, ModelFailureKind, ModelRequest, Role, ToolCall,
    ToolSchema,
};
use aegis_kernel::port::Model;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::scripted_model::{Reply, Rule, Script, Turn, UsageReport};

/// The alias the suite asks for.
pub const ALIAS: &str = "conformance";
/// The message a scripted model never answers.
const SILENCE: &str = "say nothing";

/// A request and what is answered to it.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The user's message, which no other scene has.
    pub said: &'static str,
    /// The text of the answer.
    pub content: &'static str,
    /// The tools called.
    pub calls: Vec<(&'static str, Value)>,
}

impl Scene {
    /// The request of the scene.
    pub fn request(&self) -> ModelRequest {
        request(self.said)
    }
    /// Why the model stops.
    pub fn finish(&self) -> FinishReason {
        if self.calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls }
    }
}

/// What the suite asks, with the tokens each answer reports: 11 of the request, 7 of the answer.
pub fn scenes() -> Vec<Scene> {
    vec![
        Scene { said: "greet", content: "Grüße, 世界! 👋🏽", calls: vec![] },
        Scene { said: "read", content: "", calls: vec![("fs.read", json!({"path": "/workspace/ä.txt"}))] },
        Scene {
            said: "do three things",
            content: "Three things.",
            calls: vec![
                ("fs.read", json!({"path": "a"})),
                ("fs.list", json!({"path": "b"})),
                ("fs.read", json!({"path": "c"})),
            ],
        },
    ]
}

/// The scenes as a script.
pub fn script() -> Script {
    let rules = scenes().into_iter().map(|scene| {
        let turn = Turn::text(scene.content).with_usage(UsageReport::Tokens { input: 11, output: 7 });
        let turn = scene.calls.iter().fold(turn, |turn, (tool, arguments)| turn.and_call(*tool, arguments));
        Rule::always(Reply::Turn(turn)).when(move |seen| seen.last_user() == scene.said)
    });
    let silence = Rule::always(Reply::Hang).when(|seen| seen.last_user() == SILENCE);
    Script::rules(rules.chain([silence]).collect())
}

fn request(said: &str) -> ModelRequest {
    let tool = |name: &str| ToolSchema {
        name: name.to_owned(),
        description: "A tool.".to_owned(),
        parameters: json!({"type": "object", "properties": {"path": {"type": "string"}}}),
    };
    ModelRequest {
        alias: ALIAS.to_owned(),
        messages: [Message::text(Role::System, "You are tested."), Message::text(Role::User, said)]
            .map(Arc::new)
            .into(),
        tools: vec![tool("fs.read"), tool("fs.list")],
        response_format: None,
        temperature_milli: Some(0),
        max_output_tokens: Some(1000),
        timeout_ms: 20_000,
        jitter_seed: 1,
    }
}

/// Runs the suite. `can_be_silent` says that the model behind can leave a request without an answer.
///
/// # Panics
/// If the model does not do what the port promises.
pub async fn run(model: &dyn Model, can_be_silent: bool) {
    for scene in scenes() {
        answers_as_recorded(model, &scene).await;
    }
    knows_its_aliases(model).await;
    obeys_cancellation_before_it_begins(model).await;
    if can_be_silent {
        ends_in_time(model).await;
        ends_when_cancelled(model).await;
    }
}

async fn answers_as_recorded(model: &dyn Model, scene: &Scene) {
    let answer = model.ask(&scene.request(), &CancellationToken::new()).await;
    let calls = |answer: &ModelAnswer| -> Vec<(String, Value)> {
        answer.tool_calls.iter().map(|call| (call.name.clone(), call.arguments.clone())).collect()
    };
    let expected: Vec<(String, Value)> =
        scene.calls.iter().map(|(tool, arguments)| ((*tool).to_owned(), arguments.clone())).collect();
    assert_eq!(answer.as_ref().map(|a| a.content.as_str()), Ok(scene.content));
    assert_eq!(answer.as_ref().map(calls), Ok(expected));
    assert_eq!(answer.as_ref().map(|a| a.finish), Ok(scene.finish()));
    let usage = |a: &ModelAnswer| (a.usage.input_tokens, a.usage.output_tokens, a.usage.estimated);
    assert_eq!(answer.as_ref().map(usage), Ok((11, 7, false)));
    assert_eq!(answer.as_ref().map(|a| a.attempts), Ok(1));
    let facts = model.facts(ALIAS).map(|facts| facts.provider);
    assert_eq!(answer.as_ref().ok().map(|a| a.provider.clone()), facts);
    assert!(answer.as_ref().is_ok_and(|a| !a.model.is_empty()));
    assert!(answer.as_ref().is_ok_and(|a| ids_are_distinct(&a.tool_calls)), "{answer:?}");
}

fn ids_are_distinct(calls: &[ToolCall]) -> bool {
    let ids: std::collections::BTreeSet<&str> = calls.iter().map(|call| call.id.as_str()).collect();
    ids.len() == calls.len() && !ids.contains("")
}

fn kind(result: Result<ModelAnswer, ModelFailure>) -> Option<ModelFailureKind> {
    result.err().map(|failure| failure.kind)
}

async fn knows_its_aliases(model: &dyn Model) {
    let aliases = model.aliases();
    assert!(aliases.is_sorted() && aliases.iter().any(|alias| alias == ALIAS), "{aliases:?}");
    assert!(aliases.iter().all(|alias| model.facts(alias).is_some()));
    assert_eq!(model.facts("no-such-alias"), None);
    let unknown = ModelRequest { alias: "no-such-alias".to_owned(), ..request("greet") };
    let failed = model.ask(&unknown, &CancellationToken::new()).await;
    assert!(failed.as_ref().is_err_and(|failure| failure.message.contains("no-such-alias")), "{failed:?}");
    assert_eq!(kind(failed), Some(ModelFailureKind::UnknownAlias));
}

async fn obeys_cancellation_before_it_begins(model: &dyn Model) {
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    assert_eq!(kind(model.ask(&request("greet"), &cancelled).await), Some(ModelFailureKind::Cancelled));
}

async fn ends_in_time(model: &dyn Model) {
    let hurried = ModelRequest { timeout_ms: 200, ..request(SILENCE) };
    let begun = tokio::time::Instant::now();
    assert_eq!(kind(model.ask(&hurried, &CancellationToken::new()).await), Some(ModelFailureKind::Timeout));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(150) && took < Duration::from_secs(5), "{took:?}");
}

async fn ends_when_cancelled(model: &dyn Model) {
    let cancel = CancellationToken::new();
    let begun = tokio::time::Instant::now();
    let silence = request(SILENCE);
    let (result, ()) = tokio::join!(model.ask(&silence, &cancel), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    });
    assert_eq!(kind(result), Some(ModelFailureKind::Cancelled));
    assert!(begun.elapsed() < Duration::from_secs(5));
}
