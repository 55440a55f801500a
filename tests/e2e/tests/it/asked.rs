//! What tool servers ask of their callers: put to whoever made the call, and to nobody else.

mod beside;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use aegis_e2e::{Node, example};
use aegis_testkit::scripted_model::{Reply, Script};
use serde_json::{Value, json};

use crate::door::make_key;
use crate::mcp::{ask, call, post};
use crate::observe::{events, follow, until};
use crate::servers::{agent, context};
use crate::tools::calling;

const CREDENTIAL: &str = "its-credential-4711";
const GRANTED: &str = "grants: [elicitation, sampling, roots]";

/// A server that asks for a pin, with its credential in the question, and answers those who wait only then.
const ASKING: &str = r#"
import json, os, sys

def write(message):
    print(json.dumps({'jsonrpc': '2.0', **message}), flush=True)

def text(id, words):
    write({'id': id, 'result': {'content': [{'type': 'text', 'text': words}]}})

def ask(message):
    schema = {'type': 'object', 'properties': {'pin': {'type': 'string', 'default': '0000'}}}
    write({'id': 'q', 'method': 'elicitation/create', 'params': {'message': message, 'requestedSchema': schema}})
    for line in sys.stdin:
        answer = json.loads(line)
        if answer.get('id') == 'q' and 'method' not in answer:
            return answer.get('result') or answer.get('error')
        handle(answer)

waiting = []

def handle(message):
    id, method, params = message.get('id'), message.get('method'), message.get('params') or {}
    if id is None:
        return
    if method == 'initialize':
        write({'id': id, 'result': {'protocolVersion': '2025-11-25', 'capabilities': {'tools': {}},
                                    'serverInfo': {'name': 'asking', 'version': '1'}}})
    elif method == 'tools/list':
        empty = {'type': 'object', 'properties': {}}
        write({'id': id, 'result': {'tools': [{'name': name, 'inputSchema': empty} for name in ('ask', 'wait', 'flood')]}})
    elif method == 'tools/call' and params['name'] == 'ask':
        text(id, json.dumps(ask('I hold ' + os.environ['SERVER_KEY'] + ': your pin?')))
        while waiting:
            text(waiting.pop(), 'waited')
    elif method == 'tools/call' and params['name'] == 'flood':
        huge = ask('x' * 300000)
        answers = [ask('your pin?') for _ in range(20)]
        text(id, f"huge {huge.get('code')}, answered {sum('action' in answer for answer in answers)}")
    elif method == 'tools/call':
        waiting.append(id)
        write({'method': 'notifications/progress', 'params': {'progressToken': params['_meta']['progressToken'], 'progress': 1}})
    else:
        write({'id': id, 'error': {'code': -32601, 'message': 'unknown'}})

for line in sys.stdin:
    handle(json.loads(line))
"#;

/// A node with that server, and the folder of its program.
async fn asking(script: Script) -> (Node, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server.py"), ASKING).unwrap();
    let env = format!("{GRANTED}\n      env: {{SERVER_KEY: \"env:OF_THE_SERVER\"}}");
    node(folder, "server.py", &env, &["ask", "wait", "flood"], script).await
}

/// A node with the fixture of the conformance suite, which speaks `revision`.
async fn fixture(revision: &str, tools: &[&str]) -> (Node, tempfile::TempDir) {
    fixture_with(revision, GRANTED, tools).await
}

async fn fixture_with(revision: &str, more: &str, tools: &[&str]) -> (Node, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let program = example::repository().join("tests/conformance/fixture.py");
    std::fs::copy(program, folder.path().join("server.py")).unwrap();
    let args = format!("server.py, \"{revision}\"");
    node(folder, &args, more, tools, Script::new(|_| Reply::text("done"))).await
}

async fn node(
    folder: tempfile::TempDir,
    args: &str,
    more: &str,
    tools: &[&str],
    script: Script,
) -> (Node, tempfile::TempDir) {
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), readable).unwrap();
    let path = folder.path().display();
    let config = format!(
        "  mcp_servers:\n    - name: asking\n      executable: python3\n      args: [{path}/{args}]\n      \
         folders: [{path}]\n      {more}\n{}",
        context(tools, "")
    );
    let node = Node::with(script).config(&config).env("OF_THE_SERVER", CREDENTIAL).start().await;
    (node, folder)
}

/// One exchange with `/mcp`, whose answer is read as it comes.
struct Exchange {
    reader: BufReader<TcpStream>,
    status: u16,
    session: Option<String>,
}

impl Exchange {
    fn new(node: &Node, method: &str, bearer: &str, session: Option<&str>, message: Option<&Value>) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", node.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let body = message.map(Value::to_string).unwrap_or_default();
        let accept =
            if method == "GET" { "text/event-stream" } else { "application/json, text/event-stream" };
        let session = session.map(|session| format!("Mcp-Session-Id: {session}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} /mcp HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {bearer}\r\nAccept: {accept}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{session}\r\n",
            node.port(),
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
        let named = head
            .iter()
            .find_map(|line| line.to_lowercase().starts_with("mcp-session-id:").then(|| line.clone()));
        let session = named.map(|line| line.split_once(':').unwrap().1.trim().to_owned());
        Self { reader, status, session }
    }

    /// The next message; `Null` at the end.
    fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).unwrap_or(0) == 0 {
                return Value::Null;
            }
            if let Ok(message @ Value::Object(_)) =
                serde_json::from_str(line.trim().trim_start_matches("data: "))
            {
                return message;
            }
        }
    }
}

/// Opens a session of a caller who declares this; gives its id.
fn session(node: &Node, bearer: &str, capabilities: Value) -> String {
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": capabilities,
        "clientInfo": {"name": "t", "version": "1"}});
    let mut opened = Exchange::new(node, "POST", bearer, None, Some(&ask(0, "initialize", hello)));
    assert_eq!(opened.next()["result"]["protocolVersion"], "2025-11-25");
    let session = opened.session.expect("a session");
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(Exchange::new(node, "POST", bearer, Some(&session), Some(&ready)).status, 202);
    session
}

fn words(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_asks_the_caller_of_its_one_call_and_nobody_else() {
    let (node, _folder) = asking(Script::new(|_| Reply::text("done"))).await;
    node.deploy(&agent("[ask, wait]"));
    let (_, ann) = make_key(&node, "a", "agent", Some("served"));
    let (_, bob) = make_key(&node, "b", "agent", Some("served"));
    let of_ann = session(&node, &ann, json!({"elicitation": {}}));
    let of_bob = session(&node, &bob, json!({"elicitation": {}}));
    let asks = call("ask", json!({}));

    // Two callers at once: the question may be about either's call, so neither is asked.
    let wait = json!({"name": "wait", "arguments": {}, "_meta": {"progressToken": "p"}});
    let mut waits = Exchange::new(&node, "POST", &bob, Some(&of_bob), Some(&ask(3, "tools/call", wait)));
    assert_eq!(waits.next()["method"], "notifications/progress");
    let mut refused = Exchange::new(&node, "POST", &ann, Some(&of_ann), Some(&asks));
    let answer = refused.next();
    assert!(words(&answer).contains("which call"), "{answer}");
    assert_eq!(words(&waits.next()), "waited", "nothing was asked on the other's stream");

    // One call: its caller is asked, without the server's credential.
    let mut asked = Exchange::new(&node, "POST", &ann, Some(&of_ann), Some(&asks));
    let question = asked.next();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    let message = question["params"]["message"].as_str().unwrap();
    assert_eq!(message, "I hold [secret:env:OF_THE_SERVER]: your pin?");
    let pin = json!({"jsonrpc": "2.0", "id": question["id"],
        "result": {"action": "accept", "content": {"pin": "1234"}}});
    // To another credential the session does not exist: it hears nothing of it, answers nothing, ends nothing.
    for (method, message) in [("POST", Some(&pin)), ("POST", Some(&asks)), ("GET", None), ("DELETE", None)] {
        assert_eq!(Exchange::new(&node, method, &bob, Some(&of_ann), message).status, 404, "{method}");
    }
    assert_eq!(Exchange::new(&node, "POST", &bob, Some(&of_bob), Some(&pin)).status, 202);
    assert_eq!(Exchange::new(&node, "POST", &ann, Some(&of_ann), Some(&pin)).status, 202);
    let answer = asked.next();
    assert!(words(&answer).contains("1234"), "{answer}");

    // Who does not answer is not asked.
    let silent = session(&node, &ann, json!({}));
    for session in [Some(silent.as_str()), None] {
        let answer = Exchange::new(&node, "POST", &ann, session, Some(&asks)).next();
        assert!(words(&answer).contains("-32601"), "{answer}");
    }

    let asked = events(&node, "server.asked");
    let put = asked.iter().find(|event| event["body"]["question"].is_object()).expect("a question on record");
    assert!(put["actor"].to_string().contains("asking"), "the server is who asks: {put}");
    let ended = events(&node, "server.answered");
    let ends = |outcome: &str| ended.iter().filter(|event| event["body"]["outcome"] == outcome).count();
    assert_eq!(ends("answered"), 1, "{ended:?}");
    assert!(ends("refused") >= 2, "{ended:?}");
    let told = format!("{asked:?}{ended:?}");
    assert!(!told.contains("your pin") && !told.contains("1234"), "no free text in events: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_without_end_or_measure_is_refused() {
    let (node, _folder) = asking(Script::new(|_| Reply::text("done"))).await;
    node.deploy(&agent("[flood]"));
    let flood = node.run(&["tool", "call", "flood", "--agent", "served", "--accept-defaults"]).ok();
    // The one that is too large counts as well.
    assert_eq!(flood.stdout.trim_end(), "huge -32601, answered 15");
    assert_eq!(events(&node, "server.asked").len(), 16, "what is beyond the limit is not even recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_told_nothing_of_what_a_server_would_ask_a_person() {
    let (node, _folder) = asking(calling(vec![("ask", json!({}))])).await;
    follow(&node, &agent("[ask, wait]")).ok();
    let results = crate::observe::tool_results(&node);
    assert_eq!(results, [r#"{"action": "decline"}"#]);
    assert!(crate::observe::prompts(&node).iter().all(|prompt| !prompt.contains("your pin")));
    let ended = events(&node, "server.answered");
    assert_eq!((ended.len(), &ended[0]["body"]["outcome"]), (1, &json!("declined")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_without_a_terminal_answers_with_defaults_or_declines() {
    let (node, _folder) =
        fixture("2025-11-25", &["test_elicitation_sep1034_defaults", "test_sampling"]).await;
    node.deploy(&agent("[test_elicitation_sep1034_defaults, test_sampling]"));
    let words = ["tool", "call", "test_elicitation_sep1034_defaults", "--agent", "served"];
    let declined = node.run(&words).ok();
    assert!(declined.stdout.contains("action=decline"), "{}", declined.stdout);
    let accepted = node.run(&[words.as_slice(), &["--accept-defaults"]].concat()).ok();
    assert!(
        accepted.stdout.contains("action=accept") && accepted.stdout.contains("John Doe"),
        "{}",
        accepted.stdout
    );
    let arguments = ["--arguments", r#"{"prompt": "think"}"#];
    let sampled =
        node.run(&[["tool", "call", "test_sampling", "--agent", "served"].as_slice(), &arguments].concat());
    assert!(
        sampled.stderr.contains("does not answer"),
        "a person is no model: {} {}",
        sampled.stdout,
        sampled.stderr
    );
    until("the runs are over", || {
        let runs = node.run(&["task", "list", "--output", "json"]).ok().json();
        runs["items"].as_array().unwrap().iter().all(|run| run["status"] == "completed")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_carries_between_rounds_is_its_own() {
    let tool = "test_input_required_result_request_state";
    let (node, _folder) = fixture("2026-07-28", &[tool]).await;
    node.deploy(&agent(&format!("[{tool}]")));
    let (_, ann) = make_key(&node, "a", "agent", Some("served"));
    let (_, bob) = make_key(&node, "b", "agent", Some("served"));
    let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", tool)];
    let send = |bearer: &str, capabilities: Value, more: Value| {
        let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": capabilities,
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}});
        let mut params = json!({"name": tool, "arguments": {}, "_meta": meta});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(&node, bearer, &headers, &ask(1, "tools/call", params))
    };
    let declared = json!({"elicitation": {}});
    let asked = send(&ann, declared.clone(), json!({})).1;
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    let state = asked["result"]["requestState"].as_str().unwrap();
    let answers = json!({"confirm": {"action": "accept", "content": {"ok": true}}});
    let again = |state: &str| json!({"inputResponses": answers, "requestState": state});
    let taken = send(&bob, declared.clone(), again(state)).1;
    assert_eq!(taken["error"]["code"], -32602, "another caller's: {taken}");
    let tampered = send(&ann, declared.clone(), again(&format!("{state}0"))).1;
    assert_eq!(tampered["error"]["code"], -32602, "{tampered}");
    let answered = send(&ann, declared, again(state)).1;
    assert!(words(&answered).contains("state-ok"), "{answered}");
    let (status, undeclared) = send(&ann, json!({}), json!({}));
    assert_eq!((status, &undeclared["error"]["code"]), (400, &json!(-32021)), "{undeclared}");
    assert_eq!(events(&node, "action.intended").len(), 3, "each call passes the monitor anew");
    assert_eq!(events(&node, "server.answered").len(), 1);
}
