//! What bounds connections that the rules permit: rates, volumes, policies, and a reload.

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Gate, Reply, Rule, Script};
use serde_json::Value;

use super::server::Server;
use super::{ASKING, HOLDING, WAITING, call, connecting, is_root, loopback, private, python, running};
use crate::observe::{can_run, events, follow, tool_results, until};
use crate::restart::hang_up;

/// Asks for an address a number of times, each by a connection of its own.
const MANY: &str = "import os, sys, urllib.error, urllib.request as request
for name in ('NO_PROXY', 'no_proxy'): os.environ.pop(name, None)
opener = request.build_opener(request.ProxyHandler({'http': 'http://127.0.0.1:3128'}))
for _ in range(int(sys.argv[2])):
    try: print('said:', opener.open(sys.argv[1], timeout=20).read())
    except urllib.error.HTTPError as error: print('refused:', error, error.read().decode())
    except Exception as error: print('broken:', error)";

/// The server under the name `localhost`, which manifests may open here.
fn near(server: &Server) -> Vec<String> {
    [vec![format!("localhost:{}", server.port)], loopback(server.port)].concat()
}

/// What a program is told that asks so often, under these limits of the node.
async fn asked(test: &str, limits: &str, times: usize) -> Option<(Node, String)> {
    let server = Server::start().await;
    let url = format!("http://localhost:{}/ok", server.port);
    let config = private(&loopback(server.port)).replace("{private", &format!("{{{limits}, private"));
    let script = running(vec![python(MANY, &[url, times.to_string()])]);
    let node = Node::with(script).config(&config).start().await;
    let manifest = connecting("asking", &near(&server));
    if !is_root(test) || !can_run(&node, &manifest, test) {
        return None;
    }
    follow(&node, &manifest).ok();
    let said = tool_results(&node).remove(0);
    Some((node, said))
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_connect_no_more_often_than_the_node_says() {
    let test = "agents_connect_no_more_often_than_the_node_says";
    let Some((node, said)) = asked(test, "connections_per_minute: 3", 5).await else { return };
    assert_eq!(said.matches("said:").count(), 3, "{said}");
    assert_eq!(said.matches("\"RATE_LIMIT_EXCEEDED\"").count(), 2, "{said}");
    let denied = events(&node, "action.denied");
    assert_eq!(denied.len(), 2, "{denied:#?}");
    assert_eq!(denied[0]["body"]["rule"], "node/network:connections", "{denied:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_bytes_leave_an_execution_than_the_node_says() {
    let test = "no_more_bytes_leave_an_execution_than_the_node_says";
    let Some((node, said)) = asked(test, "bytes_per_execution: 1Ki", 12).await else { return };
    let whole = said.matches("said:").count();
    assert!((1..8).contains(&whole), "{said}");
    assert_eq!(said.matches("broken:").count(), 12 - whole, "{said}");
    let completed = events(&node, "action.completed");
    let ends: Vec<&Value> = completed.iter().map(|event| &event["body"]["outcome"]).collect();
    let ends: Vec<&&Value> = ends.iter().filter(|outcome| outcome["kind"] == "connection").collect();
    let bytes = |outcome: &Value| {
        outcome["bytes_sent"].as_u64().unwrap_or(0) + outcome["bytes_received"].as_u64().unwrap_or(0)
    };
    assert!(ends.iter().map(|outcome| bytes(outcome)).sum::<u64>() <= 1024, "{ends:#?}");
    assert!(ends.last().unwrap()["end"] == "limit", "{ends:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_forbids_a_connection_that_all_lists_permit() {
    let test = "a_policy_forbids_a_connection_that_all_lists_permit";
    let server = Server::start().await;
    let policy = "    policies:
      - name: base
        cedar: |
          permit(principal, action, resource);
          @id(\"nowhere\") @reason(\"that name is not called from here\")
          forbid(principal, action == Aegis::Action::\"connect\", resource == Aegis::Domain::\"localhost\");
";
    let urls = ["localhost", "127.0.0.1"].map(|host| format!("http://{host}:{}/ok", server.port));
    let script = running(urls.map(|url| python(ASKING, &[url])).to_vec());
    let node = Node::with(script).config(&(private(&loopback(server.port)) + policy)).start().await;
    let manifest = connecting("asking", &near(&server));
    if !is_root(test) || !can_run(&node, &manifest, test) {
        return;
    }
    follow(&node, &manifest).ok();
    let said = tool_results(&node);
    assert!(
        said[0].contains("node:base/policy:nowhere") && said[0].contains("DOMAIN_NOT_ALLOWED"),
        "{said:?}"
    );
    assert!(said[0].contains("that name is not called from here"), "the reason is told: {said:?}");
    assert!(said[1].contains("hello"), "{said:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_narrows_the_network_cuts_an_open_connection() {
    let test = "a_reload_that_narrows_the_network_cuts_an_open_connection";
    let server = Server::start().await;
    let gate = Gate::new();
    let url = format!("http://localhost:{}/slow", server.port);
    let script = Script::rules(vec![
        Rule::always(call(&python(HOLDING, std::slice::from_ref(&url)))).when_tool_results(0),
        Rule::always(Reply::Behind(gate.clone(), Box::new(call(&python(WAITING, &[]))))).when_tool_results(1),
        Rule::always(call(&python(ASKING, &[url]))).when_tool_results(2),
        Rule::always(Reply::text("done")),
    ]);
    let node = Node::with(script).config(&private(&loopback(server.port))).start().await;
    let manifest = connecting("holding", &near(&server));
    if !is_root(test) || !can_run(&node, &manifest, test) {
        return;
    }
    let execution = node.execute(&node.deploy(&manifest), "{}");
    until("the connection is open", || server.seen().len() == 1 && node.model.requests().len() == 2);
    let file = node.home().join("config.yaml");
    let wide = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, wide.replace("{private", "{denylist: [localhost], private")).unwrap();
    hang_up(&node);
    until("it is cut, on record", || {
        events(&node, "action.completed").iter().any(|event| event.to_string().contains("node/denylist:0"))
    });
    gate.open();
    assert_eq!(node.wait(&execution)["status"], "completed");
    let said = tool_results(&node);
    assert!(said[1].contains("seen: True"), "{said:?}");
    assert!(said[2].contains("node/denylist:0"), "and no other is made: {said:?}");
}
