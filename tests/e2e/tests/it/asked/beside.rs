//! What servers ask before they give a prompt or a resource: as before they answer a call of a tool.

use aegis_e2e::Node;
use serde_json::{Value, json};

use super::{Exchange, GRANTED, fixture, fixture_with, session};
use crate::door::make_key;
use crate::mcp::{ask, post};
use crate::observe::events;
use crate::servers::agent;

const TOOLS: [&str; 2] = ["prompt.get", "resource.read"];

/// A request whose server asks first.
struct Asks {
    method: &'static str,
    /// What its parameters name, and how they call it.
    name: (&'static str, &'static str),
    /// The server's name for its question, and the field of its form.
    question: (&'static str, &'static str),
}

const PROMPT: Asks = Asks {
    method: "prompts/get",
    name: ("name", "test_input_required_result_prompt"),
    question: ("user_context", "context"),
};
const RESOURCE: Asks = Asks {
    method: "resources/read",
    name: ("uri", "test://asking-resource"),
    question: ("reader", "reader"),
};

impl Asks {
    fn params(&self) -> Value {
        json!({ self.name.0: self.name.1 })
    }

    /// The request of a caller of revision 2026-07-28 who declares this.
    fn send(&self, node: &Node, bearer: &str, capabilities: Value, more: &Value) -> (u16, Value) {
        let headers =
            [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", self.method), ("Mcp-Name", self.name.1)];
        let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": capabilities,
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}});
        let mut params = json!({self.name.0: self.name.1, "_meta": meta});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(node, bearer, &headers, &ask(1, self.method, params))
    }

    /// A form filled in.
    fn filled(&self, word: &str) -> Value {
        json!({"action": "accept", "content": {self.question.1: word}})
    }

    /// What was given in the end.
    fn text(&self, answer: &Value) -> String {
        let place =
            if self.method == PROMPT.method { "/messages/0/content/text" } else { "/contents/0/text" };
        let text = answer["result"].pointer(place).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_and_a_resource_are_asked_for_in_rounds() {
    let (node, _folder) = fixture("2026-07-28", &TOOLS).await;
    node.deploy(&agent("[prompt.get, resource.read]"));
    let (_, ann) = make_key(&node, "a", "agent", Some("served"));
    let (_, bob) = make_key(&node, "b", "agent", Some("served"));
    let declared = || json!({"elicitation": {}});
    for (asks, other) in [(&PROMPT, &RESOURCE), (&RESOURCE, &PROMPT)] {
        let asked = asks.send(&node, &ann, declared(), &json!({})).1;
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        assert!(asked["result"]["inputRequests"][asks.question.0].is_object(), "{asked}");
        let state = asked["result"]["requestState"].as_str().unwrap();
        let again = |state: &str| json!({"inputResponses": {asks.question.0: asks.filled("the attic")}, "requestState": state});
        for (refused, who) in [
            (asks.send(&node, &bob, declared(), &again(state)), "another caller"),
            (asks.send(&node, &ann, declared(), &again(&format!("{state}0"))), "another state"),
            (other.send(&node, &ann, declared(), &again(state)), "another request"),
        ] {
            assert_eq!(refused.1["error"]["code"], -32602, "{who}: {refused:?}");
        }
        let given = asks.send(&node, &ann, declared(), &again(state)).1;
        let text = asks.text(&given);
        assert!(text.contains("state-ok") && text.contains("the attic"), "{text}");
        assert_eq!(given["result"]["resultType"], "complete", "{given}");
        let (status, undeclared) = asks.send(&node, &ann, json!({}), &json!({}));
        assert_eq!((status, &undeclared["error"]["code"]), (400, &json!(-32021)), "{undeclared}");
    }
    assert_eq!(events(&node, "action.intended").len(), 6, "each request passes the monitor anew");
    let answered = events(&node, "server.answered");
    assert_eq!(answered.len(), 2, "{answered:?}");
    for event in &answered {
        let body = &event["body"];
        assert_eq!(
            (&body["server"], &body["method"]),
            (&json!("asking"), &json!("elicitation/create")),
            "{body}"
        );
    }
    assert!(!format!("{answered:?}").contains("the attic"), "no free text in events: {answered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_asked_before_a_prompt_or_a_resource_is_given() {
    for revision in ["2025-11-25", "2026-07-28"] {
        let (node, _folder) = fixture(revision, &TOOLS).await;
        node.deploy(&agent("[prompt.get, resource.read]"));
        let (_, ann) = make_key(&node, "a", "agent", Some("served"));
        let of_ann = session(&node, &ann, json!({"elicitation": {}}));
        for asks in [&PROMPT, &RESOURCE] {
            let request = ask(3, asks.method, asks.params());
            let mut asked = Exchange::new(&node, "POST", &ann, Some(&of_ann), Some(&request));
            let question = asked.next();
            assert_eq!(question["method"], "elicitation/create", "{revision}: {question}");
            let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": asks.filled("the attic")});
            assert_eq!(Exchange::new(&node, "POST", &ann, Some(&of_ann), Some(&answer)).status, 202);
            let text = asks.text(&asked.next());
            assert!(text.contains("the attic"), "{revision}: {text}");
        }
        // A person without a terminal.
        let arguments = json!({"server": "asking", "name": PROMPT.name.1}).to_string();
        let words = ["tool", "call", "prompt.get", "--agent", "served", "--arguments", &arguments];
        let accepted = node.run(&[words.as_slice(), &["--accept-defaults"]].concat()).ok();
        assert!(accepted.stdout.contains("the default"), "{revision}: {}", accepted.stdout);

        let ends = events(&node, "server.answered");
        let of_server = |event: &&Value| event["body"]["server"] == "asking";
        assert_eq!(ends.iter().filter(of_server).count(), 3, "{revision}: {ends:?}");
        assert!(ends.iter().all(|event| event["body"]["outcome"] == "answered"), "{revision}: {ends:?}");
        let puts = events(&node, "server.asked");
        assert!(puts.iter().all(|event| event["body"]["question"].is_object()), "{revision}: {puts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_not_asked_for_a_prompt_or_a_resource_either() {
    let ungranted = GRANTED.replace("elicitation, ", "");
    for revision in ["2025-11-25", "2026-07-28"] {
        let (node, _folder) = fixture_with(revision, &ungranted, &TOOLS).await;
        node.deploy(&agent("[prompt.get, resource.read]"));
        let (_, ann) = make_key(&node, "a", "agent", Some("served"));
        let of_ann = session(&node, &ann, json!({"elicitation": {}}));
        for asks in [&PROMPT, &RESOURCE] {
            let request = ask(3, asks.method, asks.params());
            let in_session = Exchange::new(&node, "POST", &ann, Some(&of_ann), Some(&request)).next();
            let message = in_session["error"]["message"].as_str().unwrap_or_else(|| panic!("{in_session}"));
            assert!(message.contains("not granted"), "{revision}: {message}");
            if revision == "2026-07-28" {
                let refused = asks.send(&node, &ann, json!({"elicitation": {}}), &json!({})).1;
                assert_eq!(refused["error"]["data"]["code"], "TOOL_NOT_ALLOWED", "{refused}");
            }
        }
        let asked = events(&node, "server.asked");
        assert!(
            !asked.is_empty() && asked.iter().all(|event| event["body"]["granted"] == false),
            "{asked:?}"
        );
        assert!(events(&node, "server.answered").is_empty(), "{revision}");
    }
}
