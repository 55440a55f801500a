//! Connections out of sandboxes: what is permitted works and is on record, everything else is refused and on record.

mod bytes;
mod fetch;
mod index;
mod limits;
mod server;
mod servers;

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::{Value, json};

use crate::manifests::worker;
use crate::observe::{can_run, events, follow, tool_results};
use server::Server;

const INSIDE: &str = include_str!("network/inside.py");

/// Asks for an address through the proxy, which local hosts are asked around of unless told otherwise.
const ASKING: &str = "import os, sys, urllib.error, urllib.request as request
for name in ('NO_PROXY', 'no_proxy'): os.environ.pop(name, None)
opener = request.build_opener(request.ProxyHandler({'http': 'http://127.0.0.1:3128'}))
try: print('said:', opener.open(sys.argv[1]).read())
except urllib.error.HTTPError as error: print('refused:', error, error.read().decode())";

/// Holds a connection in the background, while the model reads on, and writes down when it is cut.
const HOLDING: &str = "import os, socket, sys
if os.fork(): sys.exit(0)
os.setsid()
for n in (0, 1, 2): os.close(n)
s = socket.create_connection(('127.0.0.1', 3128))
s.sendall(('GET %s HTTP/1.1\\r\\nHost: %s\\r\\nContent-Length: 99\\r\\n\\r\\n' % (sys.argv[1], sys.argv[1].split('/')[2])).encode())
s.settimeout(60)
try:
    while s.recv(4096): pass
except OSError: pass
open('/workspace/cut', 'w').write('cut')
";

/// Waits until that is written down.
const WAITING: &str = "import os, time
for _ in range(200):
    if os.path.exists('/workspace/cut'): break
    time.sleep(0.1)
print('seen:', os.path.exists('/workspace/cut'))";

/// A model that runs these programs one after another, then answers.
fn running(commands: Vec<Vec<String>>) -> Script {
    let count = commands.len();
    let mut rules: Vec<Rule> = commands
        .into_iter()
        .enumerate()
        .map(|(done, command)| {
            let (program, arguments) = command.split_first().expect("a program");
            let call = json!({"command": program, "args": arguments, "timeout_secs": 300});
            Rule::always(Reply::call("cmd.run", &call)).when_tool_results(done)
        })
        .collect();
    rules.push(Rule::always(Reply::text("done")).when_tool_results(count));
    Script::rules(rules)
}

fn python(script: &str, arguments: &[String]) -> Vec<String> {
    let mut command = vec!["python3".to_owned(), "-c".to_owned(), script.to_owned()];
    command.extend(arguments.iter().cloned());
    command
}

/// An agent that may connect to these.
fn connecting(name: &str, allowlist: &[String]) -> String {
    let list = serde_json::to_string(allowlist).unwrap();
    worker(name, "")
        .replace("  security:\n", &format!("  security:\n    network: {{mode: allow, allowlist: {list}}}\n"))
}

/// Configuration that lets manifests open these ranges.
fn private(ranges: &[String]) -> String {
    let list = serde_json::to_string(ranges).unwrap();
    format!("  governance:\n    network: {{private: {list}}}\n")
}

/// This machine's loopback at a port.
fn loopback(port: u16) -> Vec<String> {
    vec![format!("127.0.0.1/32:{port}"), format!("[::1/128]:{port}")]
}

/// Whether connections can be given here; says so where not.
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP {test}: only a daemon that is root can listen in a sandbox's network");
    }
    root
}

fn line<'a>(output: &'a str, name: &str) -> &'a str {
    let start = format!("{name}: ");
    let found = output.lines().find_map(|line| line.strip_prefix(start.as_str()));
    found.unwrap_or_else(|| panic!("no `{name}` in {output}"))
}

fn kinds(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event.to_string().contains(&format!("\"{kind}\""))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_rules_permit_leaves_a_sandbox() {
    let test = "only_what_the_rules_permit_leaves_a_sandbox";
    let (open, closed) = (Server::start().await, Server::start().await);
    let arguments = [open.port.to_string(), closed.port.to_string()];
    let node = Node::with(running(vec![python(INSIDE, &arguments)]))
        .config(&private(&loopback(open.port)))
        .start()
        .await;
    let mut allowlist = loopback(open.port);
    // The manifest states metadata, and the node does not: its layer closes it.
    allowlist.extend([format!("localhost:{}", open.port), "169.254.169.254/32".to_owned()]);
    let manifest = connecting("connecting", &allowlist);
    if !is_root(test) || !can_run(&node, &manifest, test) {
        return;
    }
    let run = follow(&node, &manifest).ok();
    let said = tool_results(&node).remove(0);
    for (name, begins) in [
        ("allowed", "HTTP/1.1 200"),
        ("redirect", "HTTP/1.1 302"),
        ("redirected", "HTTP/1.1 403 DOMAIN_NOT_ALLOWED"),
        ("port", "HTTP/1.1 403 DOMAIN_NOT_ALLOWED"),
        ("host", "HTTP/1.1 400"),
        ("two hosts", "HTTP/1.1 400"),
        ("two lengths", "HTTP/1.1 400"),
        ("user", "HTTP/1.1 400"),
        ("metadata", "HTTP/1.1 403 DOMAIN_NOT_ALLOWED"),
        ("mapped metadata", "HTTP/1.1 403 DOMAIN_NOT_ALLOWED"),
        ("short address", "HTTP/1.1 400"),
        ("number", "HTTP/1.1 400"),
        ("hexadecimal", "HTTP/1.1 400"),
        ("connect elsewhere", "HTTP/1.1 403 DOMAIN_NOT_ALLOWED"),
        ("connect port", "HTTP/1.1 403 DOMAIN_NOT_ALLOWED"),
        ("raw tunnel", "HTTP/1.1 200"),
        ("direct", "Network is unreachable"),
        ("datagram", "Network is unreachable"),
    ] {
        assert!(line(&said, name).starts_with(begins), "{name}: {said}");
    }
    assert!(!line(&said, "raw answer").contains("HTTP"), "{said}");
    for name in ["other name", "no name"] {
        assert!(line(&said, name).to_lowercase().contains("unrecognized"), "{name}: {said}");
    }
    assert!(closed.seen().is_empty(), "{:?}", closed.seen());
    let seen = open.seen();
    assert!(!seen.iter().any(|bytes| String::from_utf8_lossy(bytes).contains("smuggled")), "{seen:?}");
    let greeted: Vec<_> = seen.iter().filter(|bytes| bytes.starts_with(&[22, 3])).collect();
    assert_eq!(greeted.len(), 1, "the right name alone reaches the far side");
    assert!(
        run.stdout.contains("Tool: connect elsewhere.example DENIED (DOMAIN_NOT_ALLOWED)"),
        "{}",
        run.stdout
    );

    let intended = events(&node, "action.intended");
    let completed = events(&node, "action.completed");
    let denied = events(&node, "action.denied");
    // Two requests, the raw tunnel, three greetings, and the two spellings of metadata are decided on by name.
    assert!(kinds(&intended, "connect") >= 6, "{intended:#?}");
    assert_eq!(kinds(&intended, "connect"), kinds(&completed, "connection"), "{completed:#?}");
    assert!(kinds(&denied, "connect") >= 4, "{denied:#?}");
    let ended = completed.iter().map(Value::to_string).collect::<String>();
    assert!(ended.contains("egress/server_name") && ended.contains("\"bytes_received\""), "{ended}");
    let grown = events(&node, "labels.grown");
    assert!(grown[0].to_string().contains("source:net/localhost"), "{grown:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_or_a_range_of_the_manifest_alone_opens_no_private_address() {
    let test = "a_name_or_a_range_of_the_manifest_alone_opens_no_private_address";
    let server = Server::start().await;
    let url = format!("http://localhost:{}/ok", server.port);
    let node = Node::with(running(vec![python(ASKING, &[url])])).start().await;
    let name = format!("localhost:{}", server.port);
    let named = connecting("named", std::slice::from_ref(&name));
    if !is_root(test) || !can_run(&node, &named, test) {
        return;
    }
    follow(&node, &named).ok();
    let said = tool_results(&node).remove(0);
    assert!(said.contains("manifest:named@1.0.0/address") && said.contains("loopback"), "{said}");
    let ranged = connecting("ranged", &[vec![name], loopback(server.port)].concat());
    follow(&node, &ranged).ok();
    let said = tool_results(&node).remove(0);
    assert!(said.contains("node/address") && said.contains("spec.governance.network.private"), "{said}");
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_cut_when_what_is_sensitive_comes_in_and_no_other_is_made() {
    let test = "a_tunnel_is_cut_when_what_is_sensitive_comes_in_and_no_other_is_made";
    let server = Server::start().await;
    let url = format!("http://localhost:{}/ok", server.port);
    let script = Script::rules(vec![
        Rule::always(call(&python(HOLDING, &[url.replace("/ok", "/slow")]))).when_tool_results(0),
        Rule::always(call(&python("import time; time.sleep(1)", &[]))).when_tool_results(1),
        Rule::always(Reply::call("fs.list", &json!({"path": "/workspace"}))).when_tool_results(2),
        Rule::always(call(&python(WAITING, &[]))).when_tool_results(3),
        Rule::always(call(&python(ASKING, &[url]))).when_tool_results(4),
        Rule::always(Reply::text("done")),
    ]);
    let labels = "    tool_labels: [{tool_pattern: fs.list, sensitive: true}]\n";
    let config = private(&loopback(server.port)) + labels;
    let node = Node::with(script).config(&config).start().await;
    let allowlist = [vec![format!("localhost:{}", server.port)], loopback(server.port)].concat();
    let manifest = connecting("leaking", &allowlist);
    if !is_root(test) || !can_run(&node, &manifest, test) {
        return;
    }
    follow(&node, &manifest).ok();
    let said = tool_results(&node);
    assert!(said[3].contains("seen: True"), "{said:?}");
    assert!(said[4].contains("untrusted-sensitive-egress"), "{said:?}");
    let completed = events(&node, "action.completed");
    let cut =
        completed.iter().any(|event| event.to_string().contains("node/label:untrusted-sensitive-egress"));
    assert!(cut, "{completed:#?}");
}

fn call(command: &[String]) -> Reply {
    Reply::call("cmd.run", &json!({"command": command[0], "args": command[1..]}))
}
