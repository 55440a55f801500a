//! Resources, prompts and completions of tool servers: each passes the monitor as a call does, whoever asks.

mod attempts;

use aegis_e2e::{Node, Output};
use aegis_testkit::scripted_model::{Reply, Script};
use serde_json::{Value, json};

use crate::door::make_key;
use crate::mcp::{ask, call, post};
use crate::observe::{events, follow, tool_results};
use crate::servers::agent;
use crate::tools::{calling, tool_lines};

/// A server of our own. It echoes its credential in what it gives, and says on standard error what it was asked.
const SERVER: &str = r#"
import json, os, sys
name, here = sys.argv[1], os.path.dirname(os.path.abspath(__file__))
key = os.environ.get('KEY', '')
texts = {'note://' + name: 'a note of ' + name + ' ' + key, 'note://shared': 'shared by ' + name, 'note://large': 'x' * 300000,
         'https://docs.example/a': 'from docs', 'https://evil.example/a': 'from evil', 'file:///workspace/a': 'inside',
         'file:///etc/passwd': 'root'}
def answer(method, params):
    if method == 'initialize':
        return {'result': {'protocolVersion': '2025-11-25', 'serverInfo': {'name': name, 'version': '1'},
                           'capabilities': {'tools': {}, 'resources': {}, 'prompts': {}, 'completions': {}}}}
    if method == 'tools/list':
        tool = {'name': 'look-' + name, 'title': 'Look', 'description': 'Looks.', 'inputSchema': {'type': 'object'},
                'outputSchema': {'type': 'object'}, 'annotations': {'readOnlyHint': True}, '_meta': {'example.org/a': 1},
                'icons': [{'src': 'https://example.org/icon.png'}]}
        return {'result': {'tools': [tool]}}
    if method == 'resources/list':
        own = [{'uri': uri, 'name': uri} for uri in texts if uri != 'note://hidden']
        at = int((params or {}).get('cursor') or 0)
        more = {'nextCursor': str(at + 4)} if at + 4 < len(own) else {}
        return {'result': {'resources': own[at:at + 4], **more}}
    if method == 'resources/templates/list':
        return {'result': {'resourceTemplates': [{'uriTemplate': name + '://{id}', 'name': 'made'}]}}
    if method == 'resources/read':
        uri = params['uri']
        if uri.startswith(name + '://'):
            return {'result': {'contents': [{'uri': uri, 'text': 'made by ' + name}]}}
        if uri not in texts:
            return {'error': {'code': -32002, 'message': 'Resource not found', 'data': {'uri': uri}}}
        return {'result': {'contents': [{'uri': uri, 'text': texts[uri]}]}}
    if method == 'prompts/list':
        described = open(os.path.join(here, 'description.txt')).read()
        return {'result': {'prompts': [{'name': 'greet', 'description': described}, {'name': 'only-' + name}]}}
    if method == 'prompts/get':
        said = params['name'] + ' of ' + name + ' ' + json.dumps(params.get('arguments')) + ' ' + key
        return {'result': {'messages': [{'role': 'user', 'content': {'type': 'text', 'text': said}}]}}
    if method == 'completion/complete':
        return {'result': {'completion': {'values': [name, key]}}}
    if method == 'ping':
        return {'result': {}}
    return {'error': {'code': -32601, 'message': 'unknown'}}
for line in sys.stdin:
    message = json.loads(line)
    if 'id' in message:
        print('asked', message.get('method'), json.dumps(message.get('params')), file=sys.stderr, flush=True)
        print(json.dumps({'jsonrpc': '2.0', 'id': message['id'], **answer(message.get('method'), message.get('params'))}), flush=True)
"#;

/// All of the node's names for what servers have beside tools.
const ALL: [&str; 6] = [
    "resource.list",
    "resource.templates",
    "resource.read",
    "prompt.list",
    "prompt.get",
    "completion.complete",
];

/// Everything, without constraints.
fn everything() -> String {
    ALL.iter().map(|name| format!("        - {{tool_pattern: {name}}}\n")).collect()
}

/// A node with servers of these names, whose agent `served` lists everything and may what `capabilities` say.
async fn serving(servers: &[&str], capabilities: &str, script: Script) -> (Node, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server.py"), SERVER).unwrap();
    std::fs::write(folder.path().join("description.txt"), "Greets").unwrap();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), readable).unwrap();
    let path = folder.path().display();
    let servers: String = servers
        .iter()
        .map(|name| {
            format!(
                "    - name: {name}\n      executable: python3\n      args: [{path}/server.py, {name}]\n      folders: [{path}]\n      \
                 env: {{KEY: \"env:OF_THE_SERVER\"}}\n      limits: {{health_interval_seconds: 1}}\n"
            )
        })
        .collect();
    let config = format!(
        "  mcp_servers:\n{servers}  security_contexts:\n    - name: served\n      capabilities:\n{capabilities}"
    );
    let builder = Node::with(script).config(&config).env("OF_THE_SERVER", "its-credential-4711");
    let node = builder.start().await;
    node.deploy(&agent(&format!("[{}]", ALL.join(", "))));
    (node, folder)
}

fn quiet() -> Script {
    Script::new(|_| Reply::text("done"))
}

/// A key of the agent, and a way to ask with it.
fn key(node: &Node) -> String {
    make_key(node, "a", "agent", Some("served")).1
}

fn asked(node: &Node, key: &str, method: &str, params: Value) -> Value {
    post(node, key, &[], &ask(1, method, params)).1
}

fn uris(page: &Value) -> Vec<&str> {
    let resources = page["result"]["resources"].as_array().unwrap_or_else(|| panic!("{page}"));
    resources.iter().filter_map(|resource| resource["uri"].as_str()).collect()
}

/// What a server says that it was asked.
fn log(node: &Node, server: &str) -> String {
    node.run(&["server", "logs", server]).ok().stdout
}

fn tool_call(node: &Node, tool: &str, arguments: &Value) -> Output {
    node.run(&["tool", "call", tool, "--agent", "served", "--arguments", &arguments.to_string()])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_has_beside_tools_passes_through() {
    let (node, _folder) = serving(&["own"], &everything(), quiet()).await;
    let key = key(&node);
    let client = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let hello = asked(&node, &key, "initialize", client);
    for declared in ["tools", "resources", "prompts", "completions"] {
        assert!(hello["result"]["capabilities"][declared].is_object(), "{declared}: {hello}");
    }
    let first = asked(&node, &key, "resources/list", json!({}));
    assert_eq!(uris(&first).len(), 4, "{first}");
    assert_eq!(first["result"]["nextCursor"], "4", "a sole server's cursors are its own: {first}");
    let second = asked(&node, &key, "resources/list", json!({"cursor": "4"}));
    assert!(uris(&second).contains(&"file:///etc/passwd"), "{second}");
    let templates = asked(&node, &key, "resources/templates/list", json!({}));
    assert_eq!(templates["result"]["resourceTemplates"][0]["uriTemplate"], "own://{id}");
    let read = asked(&node, &key, "resources/read", json!({"uri": "own://7"}));
    assert_eq!(read["result"]["contents"], json!([{"uri": "own://7", "text": "made by own"}]), "{read}");
    let missing = asked(&node, &key, "resources/read", json!({"uri": "note://none"}));
    assert_eq!(
        missing["error"],
        json!({"code": -32002, "message": "Resource not found", "data": {"uri": "note://none"}})
    );

    let prompts = asked(&node, &key, "prompts/list", json!({}));
    assert_eq!(
        prompts["result"]["prompts"][0],
        json!({"name": "greet", "description": "Greets"}),
        "{prompts}"
    );
    let prompt = asked(&node, &key, "prompts/get", json!({"name": "greet", "arguments": {"whom": "you"}}));
    let text =
        prompt["result"]["messages"][0]["content"]["text"].as_str().unwrap_or_else(|| panic!("{prompt}"));
    assert!(text.starts_with("greet of own {\"whom\": \"you\"}"), "{text}");
    let reference =
        json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "whom", "value": ""}});
    let completed = asked(&node, &key, "completion/complete", reference);
    assert_eq!(completed["result"]["completion"]["values"][0], "own", "{completed}");

    // Methods of their own, and no tools at `/mcp`; people and records know them by their names.
    let listed = asked(&node, &key, "tools/list", json!({}));
    assert_eq!(listed["result"]["tools"], json!([]), "the agent lists no other tool: {listed}");
    let (_, refused) =
        post(&node, &key, &[], &call("resource.read", json!({"server": "own", "uri": "own://7"})));
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    let called = tool_call(&node, "resource.read", &json!({"server": "own", "uri": "own://8"})).ok();
    assert_eq!(called.stdout.trim_end(), "made by own");
    let recorded = events(&node, "action.intended");
    for name in ALL {
        assert!(recorded.iter().any(|event| event.to_string().contains(&format!("\"{name}\""))), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_is_described_as_it_was_accepted() {
    let (node, _folder) = serving(&["own"], "        - {tool_pattern: look-own}\n", quiet()).await;
    node.deploy(&agent("[look-own]").replace("1.0.0", "1.0.1"));
    let listed = asked(&node, &key(&node), "tools/list", json!({}));
    let expected = json!({
        "name": "look-own", "title": "Look", "description": "Looks.", "inputSchema": {"type": "object"},
        "outputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}, "_meta": {"example.org/a": 1},
        "icons": [{"src": "https://example.org/icon.png"}],
    });
    assert_eq!(listed["result"]["tools"], json!([expected]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_each_resource_and_prompt_is_found_where_it_is() {
    let (node, _folder) = serving(&["one", "two"], &everything(), quiet()).await;
    let key = key(&node);
    let (mut all, mut cursor) = (Vec::new(), json!({}));
    for _ in 0..8 {
        let page = asked(&node, &key, "resources/list", cursor);
        all.extend(uris(&page).into_iter().map(str::to_owned));
        match page["result"]["nextCursor"].as_str() {
            Some(next) => cursor = json!({ "cursor": next }),
            None => break,
        }
    }
    assert_eq!(all.len(), 14, "{all:?}");
    let read = |params: Value| asked(&node, &key, "resources/read", params);
    let text =
        |answer: &Value| answer["result"]["contents"][0]["text"].as_str().unwrap_or_default().to_owned();
    assert!(text(&read(json!({"uri": "note://two"}))).starts_with("a note of two"));
    assert_eq!(text(&read(json!({"uri": "one://5"}))), "made by one");
    let both = read(json!({"uri": "note://shared"}));
    assert_eq!(both["error"]["code"], -32602, "{both}");
    assert!(both["error"]["message"].as_str().unwrap().contains("one, two"), "{both}");
    let said = read(json!({"uri": "note://shared", "_meta": {"ai.100monkeys/server": "two"}}));
    assert_eq!(text(&said), "shared by two", "{said}");
    assert_eq!(read(json!({"uri": "note://none"}))["error"]["code"], -32002);

    let prompts = asked(&node, &key, "prompts/list", json!({}));
    let names: Vec<&str> = prompts["result"]["prompts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|prompt| prompt["name"].as_str())
        .collect();
    assert_eq!(names, ["one.greet", "only-one", "two.greet", "only-two"]);
    for (name, begins) in [("two.greet", "greet of two"), ("only-one", "only-one of one")] {
        let got = asked(&node, &key, "prompts/get", json!({ "name": name }));
        let text =
            got["result"]["messages"][0]["content"]["text"].as_str().unwrap_or_else(|| panic!("{got}"));
        assert!(text.starts_with(begins), "{text}");
    }
    assert_eq!(asked(&node, &key, "prompts/get", json!({"name": "greet"}))["error"]["code"], -32602);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_reads_resources_and_prompts_in_its_own_run() {
    let calls = vec![
        ("resource.list", json!({"server": "own"})),
        ("resource.read", json!({"server": "own", "uri": "own://7"})),
        ("prompt.get", json!({"server": "own", "name": "greet", "arguments": {"whom": "you"}})),
        ("resource.read", json!({"server": "other", "uri": "own://7"})),
    ];
    let (node, _folder) = serving(&["own"], &everything(), calling(calls)).await;
    let run = follow(&node, &agent(&format!("[{}]", ALL.join(", ")))).ok();
    let results = tool_results(&node);
    assert!(results[0].contains("note://shared"), "{results:#?}");
    assert_eq!(results[1], "[resource own://7]\nmade by own");
    assert!(results[2].starts_with("user:\ngreet of own"), "{results:#?}");
    let lines = tool_lines(&run.stdout);
    assert!(lines[3].ends_with("DENIED (INVALID_ARGUMENTS)"), "{lines:?}");
}
