//! Tool servers that connect: each program to its own list, on record, and to nothing else.

use std::path::Path;

use aegis_e2e::Node;
use serde_json::{Value, json};

use super::server::Server;
use super::{is_root, loopback, private};
use crate::observe::{can_run, events, until};
use crate::restart::hang_up;
use crate::servers::{agent, context};
use crate::tools::calling;

/// A server whose tools connect, through the proxy that its environment names or around it.
const PROGRAM: &str = r#"
import json, os, socket, sys, threading, urllib.error, urllib.request as request
for name in ('NO_PROXY', 'no_proxy'): os.environ.pop(name, None)
held = []
def get(url):
    try: return 'said: ' + request.urlopen(url, timeout=20).read().decode()
    except urllib.error.HTTPError as error: return 'refused: %s %s' % (error, error.read().decode())
    except OSError as error: return 'failed: %s' % error
def direct(place):
    host, port = place.split(' ')
    try: socket.create_connection((host, int(port)), 5).close(); return 'open'
    except OSError as error: return 'failed: %s' % error
def hold(url):
    def work():
        try: held.append('whole' if len(request.urlopen(url, timeout=60).read()) == 99 else 'cut')
        except Exception: held.append('cut')
    threading.Thread(target=work, daemon=True).start()
    return 'held'
tools = {'get': get, 'direct': direct, 'hold': hold, 'held': lambda _: json.dumps(held)}
schema = {'type': 'object', 'properties': {'to': {'type': 'string'}}}
for line in sys.stdin:
    message = json.loads(line)
    if 'id' not in message: continue
    method, answer = message.get('method'), {'jsonrpc': '2.0', 'id': message['id']}
    if method == 'initialize':
        answer['result'] = {'protocolVersion': '2025-11-25', 'capabilities': {'tools': {}},
                            'serverInfo': {'name': 'connecting', 'version': '1'}}
    elif method == 'tools/list':
        answer['result'] = {'tools': [{'name': name, 'description': name, 'inputSchema': schema} for name in tools]}
    elif method == 'tools/call':
        params = message['params']
        text = tools[params['name']](params.get('arguments', {}).get('to', ''))
        answer['result'] = {'content': [{'type': 'text', 'text': text}]}
    elif method == 'ping': answer['result'] = {}
    else: answer['error'] = {'code': -32601, 'message': 'unknown'}
    print(json.dumps(answer), flush=True)
"#;

const TOOLS: [&str; 8] = [
    "near.get",
    "near.direct",
    "near.hold",
    "near.held",
    "bare.get",
    "bare.direct",
    "bare.hold",
    "bare.held",
];

fn call(node: &Node, tool: &str, to: &str) -> String {
    let arguments = json!({"to": to}).to_string();
    let called = ["tool", "call", tool, "--agent", "served", "--arguments", &arguments];
    node.run(&called).ok().stdout
}

/// The configuration: one server with a list, and one without.
fn config(folder: &Path, list: &[String]) -> String {
    std::fs::write(folder.join("server.py"), PROGRAM).unwrap();
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (path, list) = (folder.display(), serde_json::to_string(list).unwrap());
    let server = |name: &str, more: &str| {
        format!(
            "    - name: {name}\n      executable: python3\n      args: [{path}/server.py]\n      folders: [{path}]\n{more}"
        )
    };
    let list = format!("      domain_allowlist: {list}\n");
    format!("  mcp_servers:\n{}{}{}", server("near", &list), server("bare", ""), context(&TOOLS, ""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_server_reaches_its_own_list_and_nothing_else() {
    let test = "a_tool_server_reaches_its_own_list_and_nothing_else";
    let (open, closed) = (Server::start().await, Server::start().await);
    let folder = tempfile::tempdir().unwrap();
    let list = [vec![format!("localhost:{}", open.port)], loopback(open.port)].concat();
    // The node permits both to anybody who may: what closes one is the server's own list.
    let ranges = [loopback(open.port), loopback(closed.port)].concat();
    let config = format!("{}{}", config(folder.path(), &list), private(&ranges));
    let node = Node::with(calling(Vec::new())).config(&config).start().await;
    let manifest = agent(&format!("[{}]", TOOLS.join(", ")));
    if !is_root(test) || !can_run(&node, &manifest, test) {
        return;
    }
    node.deploy(&manifest);
    let at = |server: &Server, path: &str| format!("http://localhost:{}{path}", server.port);
    assert_eq!(call(&node, "near.get", &at(&open, "/ok")).trim(), "said: hello");
    for (tool, to, told) in [
        ("near.get", at(&closed, "/ok"), "DOMAIN_NOT_ALLOWED"),
        ("near.get", at(&open, "/redirect"), "DOMAIN_NOT_ALLOWED"),
        ("near.get", "http://169.254.169.254/latest/meta-data/".to_owned(), "DOMAIN_NOT_ALLOWED"),
        ("near.direct", "1.1.1.1 443".to_owned(), "unreachable"),
        ("near.direct", format!("127.0.0.1 {}", open.port), "refused"),
        ("bare.get", at(&open, "/ok"), "failed"),
        ("bare.direct", "127.0.0.1 3128".to_owned(), "refused"),
    ] {
        let said = call(&node, tool, &to);
        assert!(said.contains(told), "{tool} {to}: {said}");
    }
    assert_eq!((open.seen().len(), closed.seen().len()), (2, 0), "what was refused reached nobody");

    let asked = events(&node, "server.connecting");
    let of = |event: &Value| (event["body"]["port"].as_u64().unwrap(), event["body"]["denied"].clone());
    let refused: Vec<u64> =
        asked.iter().map(of).filter(|(_, denied)| !denied.is_null()).map(|(port, _)| port).collect();
    assert_eq!(refused, [u64::from(closed.port), 80, 80], "{asked:#?}");
    assert!(asked[0]["body"]["rule"].as_str().unwrap().starts_with("server:near/"), "{asked:#?}");
    let ended = events(&node, "server.disconnected");
    assert_eq!(ended.len(), 2, "{ended:#?}");
    assert!(ended[0]["body"]["bytes_received"].as_u64().unwrap() > 0 && ended[0]["body"]["end"] == "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_narrows_the_network_cuts_what_a_tool_server_holds() {
    let test = "a_reload_that_narrows_the_network_cuts_what_a_tool_server_holds";
    let open = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let list = [vec![format!("localhost:{}", open.port)], loopback(open.port)].concat();
    let config = format!("{}{}", config(folder.path(), &list), private(&loopback(open.port)));
    let node = Node::with(calling(Vec::new())).config(&config).start().await;
    let manifest = agent(&format!("[{}]", TOOLS.join(", ")));
    if !is_root(test) || !can_run(&node, &manifest, test) {
        return;
    }
    node.deploy(&manifest);
    call(&node, "near.hold", &format!("http://localhost:{}/slow", open.port));
    until("it is connected", || open.seen().len() == 1);
    let file = node.home().join("config.yaml");
    let wide = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, wide.replace("network: {private", "network: {denylist: [localhost], private"))
        .unwrap();
    hang_up(&node);
    until("it is cut", || call(&node, "near.held", "").contains("cut"));
    until("that is on record", || events(&node, "server.disconnected").len() == 1);
    let cut = events(&node, "server.disconnected");
    assert_eq!(cut[0]["body"]["denied"]["rule"], "node/denylist:0", "{cut:#?}");
    let said = call(&node, "near.get", &format!("http://localhost:{}/ok", open.port));
    assert!(said.contains("DOMAIN_NOT_ALLOWED"), "{said}");
}
