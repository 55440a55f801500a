//! What a hostile server gets: nothing, by name and in time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aegis_core::{Body, DenialCode, ServerEnd, Tenant};
use aegis_kernel::port::{ServerTools as _, ToolError, ToolHost};
use aegis_tools::mcp::{CallOptions, McpError, PinStore, Progress, ServerState};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, WAIT, bench, call, context, nothing, settings, tenant};
use super::server::Hostile;

/// How long a request may take here: long for a busy machine, and what hangs takes it whole.
pub(super) const HANG_SECONDS: u64 = 6;

pub(super) fn hostile(config: Value, server: Hostile) -> (Bench, Arc<Hostile>) {
    let mut all = json!({"name": "bad", "executable": "bad", "protocol": "auto",
        "limits": {"request_timeout_seconds": HANG_SECONDS, "response_bytes_max": 65536, "concurrent_max": 2, "queue_max": 1}});
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let server = Arc::new(server);
    (bench(vec![settings(all)], Arc::clone(&server) as _, &PinStore::in_memory()), server)
}

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < WAIT, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn text(bench: &Bench, tool: &str) -> Result<String, McpError> {
    let answer = bench.servers.call(&tenant(), "bad", tool, None, &CallOptions::default()).await?;
    Ok(answer.tool_result().content)
}

#[tokio::test]
async fn its_hints_grant_nothing_and_its_tools_keep_their_names() {
    let (bench, _) = hostile(nothing(), Hostile::default());
    let tools = bench.tools().await;
    assert_eq!(tools.tools().len(), 11);
    assert!(tools.tools().iter().all(|tool| !tool.idempotent), "a hint made a tool idempotent");
    assert_eq!(tools.place("add"), Some(("bad", "add")));
    let never = CancellationToken::new();
    let three = tools.call(&context(), &call("add", nothing()), &never).await.unwrap();
    assert_eq!((three.content.as_str(), three.is_error), ("3", false));
    assert_eq!(text(&bench, "garbage").await.unwrap(), "after garbage");
    let unknown = tools.call(&context(), &call("nope", nothing()), &never).await;
    assert!(matches!(unknown, Err(ToolError::Arguments(_))), "{unknown:?}");
}

#[tokio::test]
async fn a_call_that_hangs_ends_in_time_and_the_server_is_told() {
    let (bench, server) = hostile(nothing(), Hostile::default());
    bench.tools().await;
    let hang = text(&bench, "hang").await;
    assert!(matches!(hang, Err(McpError::TimedOut { .. })), "{hang:?}");
    let cancel = CancellationToken::new();
    let options = CallOptions { cancel: cancel.clone(), ..CallOptions::default() };
    let began = Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    });
    let hang = bench.servers.call(&tenant(), "bad", "hang", None, &options).await;
    assert!(matches!(hang, Err(McpError::Cancelled)), "{hang:?}");
    assert!(began.elapsed() < Duration::from_secs(HANG_SECONDS) / 2, "long before it ends by itself");
    let told = || {
        let heard = server.heard.lock().unwrap();
        heard.iter().filter(|message| message["method"] == "notifications/cancelled").count() == 2
    };
    until("two cancellations", told).await;
    assert_eq!(text(&bench, "add").await.unwrap(), "3", "it serves others all the same");
}

#[tokio::test]
async fn no_more_run_and_wait_than_permitted() {
    let (bench, _) = hostile(nothing(), Hostile::default());
    bench.tools().await;
    let answers = futures_util::future::join_all((0..5).map(|_| text(&bench, "hang"))).await;
    let busy = answers.iter().filter(|answer| matches!(answer, Err(McpError::Busy { .. }))).count();
    assert_eq!(busy, 2, "{answers:?}");
}

#[tokio::test]
async fn a_huge_answer_is_refused_by_name_and_the_server_started_again() {
    let (bench, server) = hostile(nothing(), Hostile::default());
    let tools = bench.tools().await;
    let huge = tools.call(&context(), &call("huge", nothing()), &CancellationToken::new()).await;
    let Err(ToolError::Denied(denial)) = huge else { panic!("{huge:?}") };
    assert_eq!(denial.code, DenialCode::OutputSizeExceeded);
    until("a second start", || server.starts.load(Ordering::SeqCst) == 2 && bench.saw("server.started") == 2)
        .await;
    assert_eq!(text(&bench, "add").await.unwrap(), "3");
    let ended = Body::ServerStopped { server: "bad".parse().unwrap(), reason: ServerEnd::MessageTooLarge };
    assert!(bench.events.lock().unwrap().contains(&ended));
}

#[tokio::test]
async fn a_description_changed_in_the_middle_holds_the_server_until_its_hash_is_accepted() {
    let (bench, _) = hostile(nothing(), Hostile::default());
    let tools = bench.tools().await;
    text(&bench, "change").await.unwrap();
    until("a hold", || bench.saw("server.held") == 1).await;
    let held = tools.call(&context(), &call("add", nothing()), &CancellationToken::new()).await;
    let Err(ToolError::Denied(denial)) = held else { panic!("{held:?}") };
    assert_eq!(
        (denial.code, denial.rule.as_str()),
        (DenialCode::ApprovalRequired, "node/mcp_server:bad/pin")
    );
    let view = bench.servers.show(&tenant(), "bad").await.unwrap();
    let (accepted, shown) = (view.accepted.unwrap().0, view.shown.unwrap().0);
    let change = &view.diff.unwrap().changed[0];
    assert_eq!((change.tool.as_str(), change.changes[0].pointer.as_str()), ("add", "/description"));
    let mut recorded = false;
    let record = async {
        recorded = true;
        Ok(())
    };
    let refused = bench.servers.accept(&tenant(), "bad", accepted, record).await;
    assert!(matches!(refused, Err(McpError::NotShown { .. })), "{refused:?}");
    assert!(!recorded, "what is not shown is not put on record");
    // An acceptance that cannot be recorded does not hold, and can be tried again.
    let unrecorded = McpError::Pins { server: "bad".to_owned(), reason: "the disk is full".to_owned() };
    let record = async { Err(unrecorded.clone()) };
    assert_eq!(bench.servers.accept(&tenant(), "bad", shown, record).await, Err(unrecorded.clone()));
    assert!(matches!(text(&bench, "add").await, Err(McpError::Held { .. })));
    let record = async { Ok::<_, McpError>(()) };
    bench.servers.accept(&tenant(), "bad", shown, record).await.unwrap();
    assert_eq!(text(&bench, "add").await.unwrap(), "3");
    let described = bench.tools().await;
    let add = described.tools().iter().find(|tool| tool.schema.name == "add").unwrap();
    assert!(add.schema.description.contains("sends"));
}

#[tokio::test]
async fn a_change_it_does_not_tell_is_found_and_is_over_when_it_is_taken_back() {
    let pins = PinStore::in_memory();
    let config = json!({"name": "bad", "executable": "bad", "limits": {"health_interval_seconds": 1}});
    let first = bench(vec![settings(config.clone())], Arc::new(Hostile::default()), &pins);
    first.tools().await;
    text(&first, "quiet_change").await.unwrap();
    until("a hold", || first.saw("server.held") == 1).await;
    let held = text(&first, "add").await;
    assert!(matches!(held, Err(McpError::Held { .. })), "{held:?}");
    first.servers.stop().await;
    // The next daemon's server says again what was accepted: nothing else is called under an old acceptance.
    let second = bench(vec![settings(config)], Arc::new(Hostile::default()), &pins);
    second.tools().await;
    until("a release", || second.saw("server.released") == 1).await;
    assert_eq!(text(&second, "add").await.unwrap(), "3");
}

#[tokio::test]
async fn one_that_crashes_is_started_again_ever_more_slowly() {
    let (bench, server) = hostile(nothing(), Hostile { crashes: true, ..Hostile::default() });
    let tools = bench.tools().await;
    assert!(tools.tools().is_empty());
    let down = text(&bench, "add").await;
    assert!(matches!(down, Err(McpError::Down { .. })), "{down:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    // 50 + 100 + 200 + 400 + 400 + 400 + 400 ms.
    let starts = server.starts.load(Ordering::SeqCst);
    assert!((4..=9).contains(&starts), "{starts} starts in two seconds");
    let state = bench.servers.show(&tenant(), "bad").await.unwrap().state;
    assert!(matches!(state, ServerState::Down { .. } | ServerState::Starting), "{state:?}");
}

#[tokio::test]
async fn one_that_crashes_in_a_call_fails_that_call_and_comes_back() {
    let (bench, server) = hostile(nothing(), Hostile::default());
    bench.tools().await;
    let crashed = text(&bench, "crash").await;
    assert!(matches!(crashed, Err(McpError::Down { .. })), "{crashed:?}");
    until("a second start", || server.starts.load(Ordering::SeqCst) == 2 && bench.saw("server.started") == 2)
        .await;
    assert_eq!(text(&bench, "add").await.unwrap(), "3");
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_unknown_unless_it_may_be_done_again() {
    let never = CancellationToken::new();
    for idempotent in [json!([]), json!(["hang", "crash"])] {
        let again = idempotent != json!([]);
        let (bench, _) = hostile(json!({"idempotent": idempotent}), Hostile::default());
        let tools = bench.tools().await;
        for tool in ["hang", "crash"] {
            match tools.call(&context(), &call(tool, nothing()), &never).await {
                Err(ToolError::Unanswered(_)) => assert!(!again, "{tool}"),
                Ok(result) => assert!(again && result.is_error, "{tool}: {result:?}"),
                other => panic!("{tool}: {other:?}"),
            }
        }
        // What it was never given did not happen.
        bench.servers.stop().await;
        let down = tools.call(&context(), &call("add", nothing()), &never).await;
        assert!(matches!(&down, Ok(result) if result.is_error), "{down:?}");
    }
}

#[tokio::test]
async fn what_the_operator_says_of_a_server_holds_and_nothing_more() {
    let config = json!({"idempotent": ["add"], "limits": {"log_lines_max": 7}});
    let (bench, _) = hostile(config, Hostile { floods: true, ..Hostile::default() });
    let tools = bench.tools().await;
    let again: Vec<&str> =
        tools.tools().iter().filter(|tool| tool.idempotent).map(|tool| tool.schema.name.as_str()).collect();
    assert_eq!(again, ["add"], "what may be called again after a crash");
    until("lines", || bench.servers.logs(&tenant(), "bad").unwrap().len() == 7).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.servers.logs(&tenant(), "bad").unwrap().len(), 7, "the last ones are kept");
}

#[tokio::test]
async fn one_that_never_tells_its_tools_is_given_up_in_time() {
    let config = json!({"limits": {"start_timeout_seconds": 1}});
    let (bench, server) = hostile(config, Hostile { mute: true, ..Hostile::default() });
    assert!(bench.tools().await.tools().is_empty());
    until("a second start", || server.starts.load(Ordering::SeqCst) >= 2).await;
    let down = text(&bench, "add").await;
    assert!(matches!(&down, Err(McpError::Down { .. })), "{down:?}");
    assert!(format!("{down:?}").contains("in 1 s"), "{down:?}");
}

#[tokio::test]
async fn a_flood_of_complaints_holds_up_nobody_and_fills_nothing() {
    let (bench, _) = hostile(nothing(), Hostile { floods: true, ..Hostile::default() });
    bench.tools().await;
    assert_eq!(text(&bench, "add").await.unwrap(), "3");
    until("lines", || bench.servers.logs(&tenant(), "bad").unwrap().len() == 500).await;
    let lines = bench.servers.logs(&tenant(), "bad").unwrap();
    assert!(lines.iter().any(|line| line.text == "flood"));
    assert!(lines.iter().all(|line| line.text.len() <= 4096));
}

#[tokio::test]
async fn what_it_asks_is_refused_and_recorded() {
    let (bench, _) = hostile(nothing(), Hostile::default());
    bench.tools().await;
    let refusal: Value = serde_json::from_str(&text(&bench, "sample").await.unwrap()).unwrap();
    assert_eq!(refusal["error"]["code"], -32601, "{refusal}");
    let asked = Body::ServerAsked {
        server: "bad".parse().unwrap(),
        method: "sampling/createMessage".to_owned(),
        granted: false,
        times: 1,
        question: None,
    };
    text(&bench, "sample").await.unwrap();
    assert_eq!(bench.events.lock().unwrap().iter().filter(|event| **event == asked).count(), 1);
    assert!(bench.events.lock().unwrap().contains(&asked));
}

#[tokio::test]
async fn progress_is_passed_on() {
    let (bench, _) = hostile(nothing(), Hostile::default());
    bench.tools().await;
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let options = CallOptions {
        progress: Some(Arc::new(move |progress| sink.lock().unwrap().push(progress))),
        ..CallOptions::default()
    };
    bench.servers.call(&tenant(), "bad", "progress", None, &options).await.unwrap();
    let half = Progress { done: 1.0, total: Some(2.0), message: Some("half".to_owned()) };
    assert_eq!(*seen.lock().unwrap(), [half]);
}

#[tokio::test]
async fn tenants_have_processes_and_credentials_of_their_own() {
    let (bench, server) = hostile(json!({"env": {"TOKEN": "secret:x"}}), Hostile::default());
    bench.tools().await;
    let other: Tenant = "other".parse().unwrap();
    bench.servers.tools(&other, WAIT).await.unwrap();
    bench.servers.tools(&other, WAIT).await.unwrap();
    let mut given = server.given.lock().unwrap().clone();
    given.sort();
    assert_eq!(given, ["default=default/secret:x", "other=other/secret:x"]);
}
