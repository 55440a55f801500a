//! What a server asks of its own accord: put to whoever made the call it belongs to, or to nobody.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aegis_core::{Body, QuestionEnd};
use aegis_kernel::port::{Listener, LogEntry, LogLevel, Question, QuestionKind, Unanswered};
use aegis_tools::mcp::{CallOptions, McpError};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, tenant};
use super::hostile::{HANG_SECONDS, hostile, until};
use super::server::Hostile;

/// A caller who answers everything, and remembers what it was asked and told.
#[derive(Default)]
pub(super) struct Caller {
    pub(super) asked: Mutex<Vec<Question>>,
    pub(super) told: Mutex<Vec<LogEntry>>,
    pub(super) slow: Duration,
}

#[async_trait]
impl Listener for Caller {
    fn progressed(&self, _: f64, _: Option<f64>, _: Option<String>) {}
    fn log_level(&self) -> Option<LogLevel> {
        Some(LogLevel::Info)
    }
    fn logged(&self, entry: LogEntry) {
        self.told.lock().unwrap().push(entry);
    }
    fn answers(&self, _: QuestionKind) -> bool {
        true
    }
    async fn asked(&self, question: Question) -> Result<Value, Unanswered> {
        self.asked.lock().unwrap().push(question.clone());
        tokio::time::sleep(self.slow).await;
        Ok(match question.kind {
            QuestionKind::Elicitation => json!({"action": "accept", "content": {"pin": "1234"}}),
            _ => json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "said"}}),
        })
    }
}

fn granted() -> (Bench, Arc<Hostile>) {
    hostile(json!({"grants": ["sampling", "elicitation"]}), Hostile::default())
}

fn options(caller: &Arc<Caller>) -> CallOptions {
    CallOptions { listener: Some(Arc::clone(caller) as _), ..CallOptions::default() }
}

async fn said(bench: &Bench, tool: &str, options: &CallOptions) -> Result<String, McpError> {
    let answer = bench.servers.call(&tenant(), "bad", tool, None, options).await?;
    Ok(answer.tool_result().content)
}

pub(super) fn recorded(bench: &Bench, end: QuestionEnd) -> usize {
    let events = bench.events.lock().unwrap();
    let ended = |event: &&Body| matches!(event, Body::ServerAnswered { outcome, .. } if *outcome == end);
    events.iter().filter(ended).count()
}

#[tokio::test]
async fn whoever_made_the_call_is_asked() {
    let (bench, _) = granted();
    bench.tools().await;
    let caller = Arc::new(Caller::default());
    assert!(said(&bench, "sample", &options(&caller)).await.unwrap().contains("said"));
    assert!(said(&bench, "elicit", &options(&caller)).await.unwrap().contains("1234"));
    let asked = caller.asked.lock().unwrap();
    assert_eq!(
        asked.iter().map(|question| question.kind.method()).collect::<Vec<_>>(),
        ["sampling/createMessage", "elicitation/create"]
    );
    assert_eq!(asked[1].params["message"], "your pin");
    assert_eq!(asked[1].server.as_str(), "bad");
}

#[tokio::test]
async fn with_two_calls_under_way_nobody_is_asked() {
    let (bench, server) = granted();
    bench.tools().await;
    let (one, other) = (Arc::new(Caller::default()), Arc::new(Caller::default()));
    let never = CancellationToken::new();
    let waits = CallOptions { cancel: never.clone(), ..options(&one) };
    let hang = said(&bench, "hang", &waits);
    let ask = async {
        let heard = || server.heard.lock().unwrap().iter().any(|line| line["params"]["name"] == "hang");
        until("the other call", heard).await;
        let refused = said(&bench, "elicit", &options(&other)).await.unwrap();
        never.cancel();
        refused
    };
    let (hang, refused) = tokio::join!(hang, ask);
    assert!(matches!(hang, Err(McpError::Cancelled)), "{hang:?}");
    assert!(refused.contains("-32601") && refused.contains("which call"), "{refused}");
    assert!(one.asked.lock().unwrap().is_empty() && other.asked.lock().unwrap().is_empty());
    assert_eq!(recorded(&bench, QuestionEnd::Refused), 1);

    // Nor is the next one asked, as long as the call that was given up may still go on.
    let next = said(&bench, "sample", &options(&other)).await.unwrap();
    assert!(next.contains("which call"), "{next}");
    assert!(other.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_model_is_asked_nothing() {
    let (bench, _) = granted();
    bench.tools().await;
    let nobody = CallOptions::default();
    let declined = said(&bench, "elicit", &nobody).await.unwrap();
    assert!(declined.contains(r#""action":"decline""#), "{declined}");
    let refused = said(&bench, "sample", &nobody).await.unwrap();
    assert!(refused.contains("-32601"), "{refused}");
    assert_eq!((recorded(&bench, QuestionEnd::Declined), recorded(&bench, QuestionEnd::Refused)), (1, 1));
}

#[tokio::test]
async fn what_is_not_granted_is_not_asked_of_a_caller_either() {
    let (bench, _) = hostile(json!({"grants": ["elicitation"]}), Hostile::default());
    bench.tools().await;
    let caller = Arc::new(Caller::default());
    let refused = said(&bench, "sample", &options(&caller)).await.unwrap();
    assert!(refused.contains("not granted"), "{refused}");
    assert!(caller.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_time_of_a_call_stands_still_while_its_caller_is_asked() {
    let (bench, _) = granted();
    bench.tools().await;
    // Longer than a request to this server may take.
    let caller = Arc::new(Caller { slow: Duration::from_secs(HANG_SECONDS + 1), ..Caller::default() });
    assert!(said(&bench, "elicit", &options(&caller)).await.unwrap().contains("1234"));
}

#[tokio::test]
async fn a_servers_log_reaches_the_caller_from_the_level_it_wants() {
    let (bench, _) = granted();
    bench.tools().await;
    let caller = Arc::new(Caller::default());
    assert_eq!(said(&bench, "log", &options(&caller)).await.unwrap(), "logged");
    let line =
        LogEntry { level: LogLevel::Warning, logger: Some("bad".to_owned()), data: json!("a warning line") };
    assert_eq!(*caller.told.lock().unwrap(), [line]);
}
