//! Retries, fallback and hot swap.

use std::time::{Duration, Instant};

use aegis_core::ModelFailureKind as Kind;
use aegis_kernel::port::Model;
use aegis_models::ProviderKind::{Anthropic, OpenAiCompatible};
use aegis_testkit::scripted_model::{Reply, Script, ScriptedModel, Turn};

use crate::setup::{ask, provider, request, router, settings};

async fn server(replies: Vec<Reply>) -> ScriptedModel {
    ScriptedModel::start(Script::sequence(replies)).await.unwrap()
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let cut = Reply::Turn(Turn { cut_after: Some(3), ..Turn::text("a long story that never ends") });
    let flaky =
        server(vec![Reply::status(503, "busy"), cut, Reply::status(529, "full"), Reply::text("at last")]);
    let flaky = flaky.await;
    let mut settings = settings(vec![provider("far", OpenAiCompatible, &flaky.url(), "main")]);
    settings.selection.max_retries = 3;
    let answer = ask(&router(settings), &request("hello")).await.unwrap();
    assert_eq!((answer.content.as_str(), answer.attempts), ("at last", 4));
}

#[tokio::test]
async fn what_cannot_pass_is_not() {
    for status in [400, 401, 403, 404, 422, 301] {
        let far = server(vec![Reply::status(status, "no")]).await;
        let mut settings = settings(vec![provider("far", Anthropic, &far.url(), "main")]);
        settings.selection.max_retries = 3;
        let failure = ask(&router(settings), &request("hello")).await.unwrap_err();
        assert_eq!((failure.attempts, far.requests().len()), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn retry_after_is_honoured_as_seconds_and_as_date() {
    for value in ["1", "Sat, 21 Nov 2026 10:00:01 GMT"] {
        let far = server(vec![Reply::rate_limited(value), Reply::text("now")]).await;
        let mut settings = settings(vec![provider("far", OpenAiCompatible, &far.url(), "main")]);
        settings.selection.max_retries = 1;
        let begun = Instant::now();
        assert_eq!(ask(&router(settings), &request("hello")).await.unwrap().content, "now");
        assert!(begun.elapsed() >= Duration::from_secs(1), "{value}");
    }
}

#[tokio::test]
async fn a_wait_beyond_the_call_is_not_begun() {
    let far = server(vec![Reply::rate_limited("60")]).await;
    let mut settings = settings(vec![provider("far", OpenAiCompatible, &far.url(), "main")]);
    settings.selection.max_retries = 5;
    let begun = Instant::now();
    let failure = ask(&router(settings), &request("hello")).await.unwrap_err();
    assert_eq!((failure.kind, failure.attempts), (Kind::RateLimited, 1));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn the_fallback_answers_after_the_last_retry() {
    let far = server(vec![Reply::status(500, "boom")]).await;
    let near = server(vec![Reply::text("here"), Reply::status(502, "gone")]).await;
    let mut settings = settings(vec![
        provider("far", OpenAiCompatible, &far.url(), "main"),
        provider("near", Anthropic, &near.url(), "other"),
    ]);
    settings.selection.max_retries = 1;
    settings.selection.fallback_provider = Some("near".to_owned());
    let router = router(settings);
    let answer = ask(&router, &request("hello")).await.unwrap();
    assert_eq!((answer.content.as_str(), answer.provider.as_str(), answer.attempts), ("here", "near", 3));
    let failure = ask(&router, &request("hello")).await.unwrap_err();
    assert_eq!(
        (failure.message.as_str(), failure.attempts),
        (
            "the model provider `far` answered 500 (server error): boom (2 attempts), and then the fallback `near` \
          answered 502 (server error): gone (2 attempts); try again later, or set `llm_selection.fallback_provider`",
            4
        )
    );
}

#[tokio::test]
async fn aliases_swap_while_calls_are_in_flight() {
    let old = server(vec![Reply::After(Duration::from_millis(300), Box::new(Reply::text("old")))]).await;
    let new = server(vec![Reply::text("new")]).await;
    let router = router(settings(vec![provider("old", OpenAiCompatible, &old.url(), "main")]));
    let (first, request) = (request("hello"), request("hello"));
    let (before, after) = tokio::join!(ask(&router, &first), async {
        assert!(old.wait_for_requests(1, Duration::from_secs(5)).await);
        router.replace(settings(vec![provider("new", Anthropic, &new.url(), "main")])).unwrap();
        ask(&router, &request).await
    });
    assert_eq!((before.unwrap().content.as_str(), after.unwrap().content.as_str()), ("old", "new"));
    let broken = vec![provider("x", Anthropic, "nonsense", "main")];
    let error = router.replace(settings(broken)).unwrap_err().to_string();
    assert_eq!(
        error,
        "the endpoint of provider `x` is not an address; write it as `https://host[:port][/path]`"
    );
    assert_eq!(router.facts("main").unwrap().provider, "new");
}
