//! A call of a tool server's tool through `/mcp`: token, monitor, envelope, intent and outcome on record; beside the
//! same call on the server's own pipes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};
use serde_json::{Value, json};

use crate::measure::{Table, median, milliseconds, percentile, setting};

/// How long the server may take to start, and a call to be answered.
const PATIENCE: Duration = Duration::from_secs(30);
/// Calls before those that are measured: caches are cold.
const WARM_UP: usize = 50;

const SERVER: &str = r#"
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if 'id' not in message:
        continue
    method, answer = message['method'], {'jsonrpc': '2.0', 'id': message['id']}
    if method == 'initialize':
        answer['result'] = {'protocolVersion': '2025-11-25', 'capabilities': {'tools': {}},
                            'serverInfo': {'name': 'own', 'version': '1'}}
    elif method == 'tools/list':
        answer['result'] = {'tools': [{'name': 'say', 'inputSchema': {'type': 'object', 'properties': {'text': {'type': 'string'}}}}]}
    elif method == 'tools/call':
        answer['result'] = {'content': [{'type': 'text', 'text': message['params']['arguments']['text']}]}
    elif method == 'ping':
        answer['result'] = {}
    else:
        answer['error'] = {'code': -32601, 'message': 'unknown'}
    print(json.dumps(answer), flush=True)
"#;

const MANIFEST: &str = "apiVersion: 100monkeys.ai/v1
kind: Agent
metadata: {name: caller, version: \"1.0.0\"}
spec:
  runtime: {language: python, version: \"3.8\", isolation: process}
  task: {instruction: Say done.}
  security_context: served
  tools: [say]
";

/// Measures it.
pub(crate) async fn calls(table: &mut Table) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("server.py");
    std::fs::write(&program, SERVER).expect("the server is written");
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), readable).expect("it may be read");
    let config = format!(
        "  mcp_servers:\n    - {{name: own, executable: python3, args: [{}], folders: [{}]}}\n  security_contexts:\n    \
         - name: served\n      capabilities: [{{tool_pattern: say, rate_limit: {{calls: 10000, per_seconds: 1}}}}]",
        program.display(),
        folder.path().display()
    );
    let script = Script::rules(vec![Rule::always(Reply::text("done"))]);
    let node = Node::with(script).config(&config).start().await;
    tokio::task::block_in_place(|| compare(table, &node, &program));
}

fn compare(table: &mut Table, node: &Node, program: &Path) {
    node.deploy(MANIFEST);
    let begun = Instant::now();
    while !node.run(&["tool", "list"]).stdout.contains("say") {
        assert!(begun.elapsed() < PATIENCE, "the server starts");
    }
    let key = ["key", "create", "bench", "--role", "agent", "--agent", "caller", "--output", "json"];
    let made = node.run(&key).ok().json();
    let key = made.get("key").and_then(Value::as_str).expect("a key").to_owned();
    let mut governed = Governed::connect(node.port(), key);
    let mut direct = Direct::start(program);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + usize::try_from(setting("AEGIS_BENCH_CALLS", 500)).expect("a number of calls") {
        let message = json!({"jsonrpc": "2.0", "id": round, "method": "tools/call",
            "params": {"name": "say", "arguments": {"text": format!("word {round}")}}});
        // In turns, so that other load falls on both alike.
        let begun = Instant::now();
        let answer = governed.ask(&message);
        let governed = begun.elapsed();
        let begun = Instant::now();
        let same = direct.ask(&message);
        let direct = begun.elapsed();
        let content = "/result/content";
        assert!(same.pointer(content).is_some(), "{same}");
        assert_eq!(answer.pointer(content), same.pointer(content), "{answer}");
        if round >= WARM_UP {
            ours.push(governed);
            bare.push(direct);
        }
    }
    for (percent, most) in [(50, 0.5), (99, 2.0)] {
        let added = milliseconds(percentile(&ours, percent)) - milliseconds(percentile(&bare, percent));
        let what = format!("governed MCP call, added at p{percent} to a direct one (baseline, p50)");
        table.figure(&what, "ms", added, Some(milliseconds(median(&bare))), most);
    }
}

/// A client of `/mcp` that keeps its connection.
struct Governed {
    stream: BufReader<TcpStream>,
    port: u16,
    key: String,
}

impl Governed {
    fn connect(port: u16, key: String) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the daemon listens");
        stream.set_nodelay(true).expect("an option of TCP");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { stream: BufReader::new(stream), port, key }
    }

    fn ask(&mut self, message: &Value) -> Value {
        let body = message.to_string();
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            self.key,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("it is sent");
        let head = self.head();
        let sized = head.iter().find_map(|line| line.strip_prefix("content-length: "));
        let body = match sized {
            Some(length) => self.bytes(length.parse().expect("a length")),
            None => self.chunks(),
        };
        let text = String::from_utf8(body).expect("text");
        let mut lines = text.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
        let line = lines.rfind(|line| line.starts_with('{')).expect("an answer");
        serde_json::from_str(line).expect("JSON")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn head(&mut self) -> Vec<String> {
        std::iter::from_fn(|| Some(self.line().to_ascii_lowercase()).filter(|line| !line.is_empty()))
            .collect()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("the whole answer");
        bytes
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line(), 16).expect("the size of a chunk");
            body.extend(self.bytes(size));
            self.line();
            if size == 0 {
                return body;
            }
        }
    }
}

/// The server with nothing between.
struct Direct {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Direct {
    fn start(program: &Path) -> Self {
        let mut child = Command::new("python3")
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let (stdin, stdout) =
            (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        let mut direct = Self { child, stdin, stdout: BufReader::new(stdout) };
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}});
        direct.ask(&json!({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": params}));
        direct
    }

    fn ask(&mut self, message: &Value) -> Value {
        self.stdin.write_all(format!("{message}\n").as_bytes()).expect("it is sent");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
