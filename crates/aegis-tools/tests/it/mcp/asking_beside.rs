//! What a server asks before it gives a prompt or a resource: put to whoever wants it, as with a call of a tool.

use std::sync::Arc;
use std::time::Duration;

use aegis_core::{QuestionEnd, ToolCall};
use aegis_kernel::port::{
    Given, Listener, Question, QuestionKind, ServerTools as _, ToolError, ToolHost as _,
};
use aegis_kernel::port::{ToolContext, Unanswered};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::asking::{Caller, recorded};
use super::bench::{Bench, call, context};
use super::hostile::{HANG_SECONDS, hostile, until};
use super::server::Hostile;

/// A server of either revision that has a prompt and resources, and is granted this.
fn offering(newer: bool, grants: Value) -> (Bench, Arc<Hostile>) {
    hostile(json!({ "grants": grants }), Hostile { offers: true, newer, ..Hostile::default() })
}

fn prompt() -> ToolCall {
    call("prompt.get", json!({"server": "bad", "name": "elicit"}))
}

fn resource() -> ToolCall {
    call("resource.read", json!({"server": "bad", "uri": "bad://one"}))
}

/// Whoever wants it, and what they are given.
async fn given(bench: &Bench, call: &ToolCall, listener: Arc<dyn Listener>) -> Result<Value, ToolError> {
    let context = ToolContext { listener: Some(listener), ..context() };
    let result = bench.tools().await.call(&context, call, &CancellationToken::new()).await?;
    Ok(serde_json::from_str(&result.content).unwrap())
}

#[tokio::test]
async fn whoever_wants_a_prompt_or_a_resource_is_asked() {
    for newer in [false, true] {
        let (bench, _) = offering(newer, json!(["elicitation"]));
        let caller = Arc::new(Caller::default());
        for call in [prompt(), resource()] {
            let given = given(&bench, &call, Arc::clone(&caller) as _).await.unwrap();
            assert!(given["result"].to_string().contains("1234"), "{given}");
        }
        let asked = caller.asked.lock().unwrap();
        assert!(asked.iter().all(|question| question.params["message"] == "your pin"), "{asked:?}");
        // In the newer revision the server asks twice.
        assert_eq!(asked.len(), if newer { 4 } else { 2 });
    }
}

#[tokio::test]
async fn nothing_is_asked_that_is_not_granted() {
    for newer in [false, true] {
        let (bench, _) = offering(newer, json!(["sampling"]));
        let caller = Arc::new(Caller::default());
        for call in [prompt(), resource()] {
            match given(&bench, &call, Arc::clone(&caller) as _).await {
                Err(ToolError::Denied(denial)) => {
                    assert!(newer && denial.rule == "node/mcp_server:bad/grants", "{denial:?}");
                }
                // In the older revision the server is told so, and says it.
                told => assert!(told.unwrap().to_string().contains("not granted")),
            }
        }
        assert!(caller.asked.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_answer_that_only_looks_like_a_question_is_none() {
    for grants in [json!([]), json!(["elicitation"])] {
        let (bench, _) = offering(true, grants);
        let caller = Arc::new(Caller::default());
        let feigned = call("prompt.get", json!({"server": "bad", "name": "feigned"}));
        let context = ToolContext { listener: Some(Arc::clone(&caller) as _), ..context() };
        let told = bench.tools().await.call(&context, &feigned, &CancellationToken::new()).await.unwrap();
        assert!(told.is_error && told.content.contains("no answer"), "{told:?}");
        assert!(caller.asked.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_model_that_wants_them_is_asked_nothing() {
    for newer in [false, true] {
        let (bench, _) = offering(newer, json!(["elicitation"]));
        let tools = bench.tools().await;
        for call in [prompt(), resource()] {
            let told = tools.call(&context(), &call, &CancellationToken::new()).await.unwrap();
            assert!(told.content.contains("decline"), "{}", told.content);
        }
        assert_eq!(recorded(&bench, QuestionEnd::Declined), 1, "once, and counted from there");
    }
}

#[tokio::test]
async fn the_time_of_a_prompt_stands_still_while_somebody_is_asked() {
    let asked = |newer| async move {
        let (bench, _) = offering(newer, json!(["elicitation"]));
        let slow = Duration::from_secs(HANG_SECONDS + 1);
        // In the newer revision it is what both rounds take together that is longer than a request may take.
        let slow = if newer { slow / 2 } else { slow };
        let caller = Arc::new(Caller { slow, ..Caller::default() });
        given(&bench, &prompt(), caller).await.unwrap()
    };
    let (older, newer) = tokio::join!(asked(false), asked(true));
    assert!(older["result"].to_string().contains("1234"), "{older}");
    assert!(newer["result"].to_string().contains("1234"), "{newer}");
}

#[tokio::test]
async fn with_a_prompt_and_a_call_under_way_nobody_is_asked() {
    let (bench, server) = offering(false, json!(["elicitation"]));
    let tools = bench.tools().await;
    let (one, other) = (Arc::new(Caller::default()), Arc::new(Caller::default()));
    let never = CancellationToken::new();
    let hanging = call("prompt.get", json!({"server": "bad", "name": "hang"}));
    let waits = ToolContext { listener: Some(Arc::clone(&one) as _), ..context() };
    let hang = tools.call(&waits, &hanging, &never);
    let ask = async {
        let heard = || server.heard.lock().unwrap().iter().any(|line| line["params"]["name"] == "hang");
        until("the other prompt", heard).await;
        let refused = given(&bench, &resource(), Arc::clone(&other) as _).await.unwrap();
        never.cancel();
        refused
    };
    let (hang, refused) = tokio::join!(hang, ask);
    assert!(matches!(hang, Err(ToolError::Cancelled)), "{hang:?}");
    assert!(refused.to_string().contains("which call"), "{refused}");
    assert!(one.asked.lock().unwrap().is_empty() && other.asked.lock().unwrap().is_empty());
}

/// A caller who takes questions as the answer, and calls again.
struct Carrier(Option<Given>, bool);

#[async_trait]
impl Listener for Carrier {
    fn progressed(&self, _: f64, _: Option<f64>, _: Option<String>) {}
    fn answers(&self, kind: QuestionKind) -> bool {
        self.1 && kind == QuestionKind::Elicitation
    }
    fn takes_questions(&self) -> bool {
        true
    }
    fn given(&self) -> Option<Given> {
        self.0.clone()
    }
    async fn asked(&self, _: Question) -> Result<Value, Unanswered> {
        panic!("asked during the call")
    }
}

#[tokio::test]
async fn who_takes_questions_is_given_them_and_brings_the_answers_back() {
    let (bench, _) = offering(true, json!(["elicitation"]));
    for wanted in [call("ask", json!({})), prompt(), resource()] {
        let asked = given(&bench, &wanted, Arc::new(Carrier(None, true))).await.unwrap();
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        assert_eq!(asked["result"]["requestState"], "round-1", "{asked}");
        assert_eq!(asked["result"]["inputRequests"]["pin"]["params"]["message"], "your pin");
        let brings = |state: &str| {
            let answer = json!({"action": "accept", "content": {"pin": "4321"}});
            let answers = vec![("pin".to_owned(), Some(QuestionKind::Elicitation), answer)];
            Arc::new(Carrier(Some(Given { answers, state: Some(state.to_owned()) }), true))
        };
        let again = given(&bench, &wanted, brings("round-1")).await.unwrap();
        assert_eq!(again["result"]["requestState"], "round-2", "{again}");
        let answered = given(&bench, &wanted, brings("round-2")).await.unwrap().to_string();
        assert!(answered.contains("4321") && answered.contains("round-2"), "{answered}");

        let undeclared = given(&bench, &wanted, Arc::new(Carrier(None, false))).await.unwrap();
        assert_eq!(undeclared["error"]["code"], -32021, "{undeclared}");
    }
    let (ungranted, _) = offering(true, json!([]));
    for wanted in [call("ask", json!({})), prompt(), resource()] {
        let refused = given(&ungranted, &wanted, Arc::new(Carrier(None, true))).await;
        assert!(matches!(refused, Err(ToolError::Denied(_))), "{refused:?}");
        let answers = vec![("pin".to_owned(), Some(QuestionKind::Elicitation), json!({}))];
        let brings = Carrier(Some(Given { answers, state: Some("round-2".to_owned()) }), true);
        let refused = given(&ungranted, &wanted, Arc::new(brings)).await;
        assert!(matches!(refused, Err(ToolError::Denied(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn the_server_that_may_ask_is_found_by_the_call() {
    let (bench, _) = offering(false, json!([]));
    let tools = bench.tools().await;
    assert_eq!(tools.asker(&call("add", json!({"server": "other"}))), Some(("bad", "tools/call")));
    assert_eq!(tools.asker(&prompt()), Some(("bad", "prompts/get")));
    assert_eq!(tools.asker(&resource()), Some(("bad", "resources/read")));
    for (tool, arguments) in [
        ("resource.read", json!({"server": "other", "uri": "bad://one"})),
        ("prompt.get", json!({"name": "elicit"})),
        ("resource.list", json!({"server": "bad"})),
        ("nope", json!({"server": "bad"})),
    ] {
        assert_eq!(tools.asker(&call(tool, arguments)), None, "{tool}");
    }
}
