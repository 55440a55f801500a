//! AEGIS as an MCP server, and calls by people: under the authority of an agent, whoever asks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aegis_e2e::Node;
use aegis_testkit::scripted_model::Script;
use serde_json::{Value, json};

use crate::door::make_key;
use crate::observe::{events, until};
use crate::servers::{agent, context, installed, package, server};

/// Sends one message to `/mcp` with these headers; gives status and answer.
pub(crate) fn post(node: &Node, bearer: &str, headers: &[(&str, &str)], message: &Value) -> (u16, Value) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", node.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let body = message.to_string();
    let host = format!("127.0.0.1:{}", node.port());
    let mut head = format!(
        "POST /mcp HTTP/1.1\r\nAuthorization: Bearer {bearer}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    let named = headers.iter().any(|(name, _)| *name == "Host");
    for (name, value) in headers.iter().copied().chain((!named).then_some(("Host", host.as_str()))) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    // A body in chunks has its size before each; the message itself is one line.
    let lines = body.lines().map(|line| line.trim_start_matches("data: "));
    let line = lines.into_iter().find(|line| line.starts_with('{')).unwrap_or("null");
    (code, serde_json::from_str(line).unwrap_or(Value::Null))
}

pub(crate) fn ask(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub(crate) fn call(tool: &str, arguments: Value) -> Value {
    ask(7, "tools/call", json!({"name": tool, "arguments": arguments}))
}

fn names(listed: &Value) -> Vec<String> {
    let tools = listed["result"]["tools"].as_array();
    tools
        .unwrap_or_else(|| panic!("{listed}"))
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

/// What a server answers to these calls with nothing between: its results, as the protocol writes them.
pub(crate) fn direct(
    program: &str,
    args: &[String],
    env: &[(&str, &str)],
    calls: &[(&str, Value)],
) -> Vec<Value> {
    let mut child = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = BufReader::new(stdout).lines();
    let mut exchange = |message: Value| {
        writeln!(stdin, "{message}").unwrap();
        let id = message.get("id").cloned();
        id.map(|id| {
            loop {
                let line = lines.next().unwrap().unwrap();
                let answer: Value = serde_json::from_str(&line).unwrap_or_default();
                if answer["id"] == id && answer.get("method").is_none() {
                    return answer;
                }
            }
        })
    };
    let client = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    exchange(ask(0, "initialize", client));
    exchange(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let results = calls
        .iter()
        .map(|(tool, arguments)| exchange(call(tool, arguments.clone())).unwrap()["result"].clone());
    let results = results.collect();
    let _ = child.kill();
    let _ = child.wait();
    results
}

/// A result to compare: what the newer revision adds to every result is left out, and 1 is 1.0.
fn plain(mut result: Value) -> Value {
    fn level(value: &mut Value) {
        match value {
            Value::Number(number) => *value = json!(number.as_f64()),
            Value::Array(items) => items.iter_mut().for_each(level),
            Value::Object(map) => map.values_mut().for_each(level),
            _ => {}
        }
    }
    level(&mut result);
    if let Some(result) = result.as_object_mut() {
        result.remove("resultType");
        if let Some(meta) = result.get_mut("_meta").and_then(Value::as_object_mut) {
            meta.remove("io.modelcontextprotocol/serverInfo");
        }
        if result.get("_meta") == Some(&json!({})) {
            result.remove("_meta");
        }
        if result.get("isError") == Some(&Value::Bool(false)) {
            result.remove("isError");
        }
    }
    result
}

/// Makes the calls both ways: through the real binary as a person who acts as an agent, and with nothing between.
pub(crate) async fn alike(config: &str, tools: &str, direct: Vec<Value>, calls: &[(&str, Value)]) {
    let names: Vec<&str> = calls.iter().map(|(tool, _)| *tool).collect();
    let node = Node::with(Script::new(|_| aegis_testkit::scripted_model::Reply::text("done")))
        .config(&format!("  mcp_servers:\n{config}{}", context(&names, "")))
        .start()
        .await;
    let own = "filesystem: {read: [/workspace], write: [/workspace]}";
    let wider = "filesystem: {read: [/workspace, /usr, /tmp, /nowhere], write: [/workspace, /tmp]}";
    let manifest = agent(tools);
    assert!(manifest.contains(own), "{manifest}");
    node.deploy(&manifest.replace(own, wider));
    for ((tool, arguments), expected) in calls.iter().zip(direct) {
        let arguments = arguments.to_string();
        let words =
            ["tool", "call", tool, "--agent", "served", "--arguments", &arguments, "--output", "json"];
        let called = node.run(&words);
        let failed = expected["isError"] == true;
        assert_eq!(called.code, if failed { 6 } else { 0 }, "{tool}: {} {}", called.stdout, called.stderr);
        assert_eq!(plain(called.json()["result"].clone()), plain(expected), "{tool}");
    }
    let calls = events(&node, "action.completed").len();
    assert_eq!(calls, names.len(), "each is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_official_servers_answer_comes_through_as_it_is() {
    let test = "what_official_servers_answer_comes_through_as_it_is";
    let (Some(everything), Some(files)) =
        (package(test, "server-everything"), package(test, "server-filesystem"))
    else {
        return;
    };
    let calls = [
        ("echo", json!({"message": "hello"})),
        ("get-tiny-image", json!({})),
        ("get-structured-content", json!({"location": "New York"})),
        ("get-annotated-message", json!({"messageType": "error", "includeImage": true})),
    ];
    let program = everything.display().to_string();
    let expected = direct("node", &[program, "stdio".to_owned()], &[], &calls);
    let config = server("everything", &everything, ", stdio", "");
    alike(&config, "[echo, get-tiny-image, get-structured-content, get-annotated-message]", expected, &calls)
        .await;

    let calls = [
        ("read_text_file", json!({"path": "/usr/lib/os-release"})),
        ("list_directory", json!({"path": "/usr/lib/os-release"})),
        ("get_file_info", json!({"path": "/nowhere"})),
    ];
    let expected = direct("node", &[files.display().to_string(), "/usr".to_owned()], &[], &calls);
    let config = server("files", &files, ", /usr", "");
    alike(&config, "[read_text_file, list_directory, get_file_info]", expected, &calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_official_python_servers_answer_comes_through_as_it_is() {
    let python = installed().join("py/bin/python3");
    if !python.canonicalize().is_ok_and(|real| real.starts_with("/usr")) {
        eprintln!(
            "SKIP what_official_python_servers_answer_comes_through_as_it_is: pip is missing, or install_mcp_servers did not run"
        );
        return;
    }
    let repository = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(repository.path(), open).unwrap();
    let root = repository.path().display().to_string();
    assert!(Command::new("git").args(["init", "-q", "-b", "main", &root]).status().unwrap().success());
    std::fs::write(repository.path().join("a.txt"), "one\n").unwrap();
    let safe =
        [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")];
    let env: Vec<String> = safe.iter().map(|(name, value)| format!("{name}: \"{value}\"")).collect();
    let served = |name: &str, args: &str, folders: &str| {
        format!(
            "    - name: {name}\n      executable: {}\n      args: [{args}]\n      folders: [{}{folders}]\n      env: {{{}}}\n",
            python.display(),
            installed().join("py").display(),
            env.join(", "),
        )
    };
    let calls = [("git_status", json!({"repo_path": root})), ("git_diff_staged", json!({"repo_path": root}))];
    let args = ["-m", "mcp_server_git", "--repository", &root].map(str::to_owned);
    let expected = direct(&python.display().to_string(), &args, &safe, &calls);
    let config = served("git", &args.join(", "), &format!(", {root}"));
    alike(&config, "[git_status, git_diff_staged]", expected, &calls).await;

    let convert =
        json!({"source_timezone": "Europe/Berlin", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    let calls = [("convert_time", convert)];
    let args = ["-m", "mcp_server_time", "--local-timezone=UTC"].map(str::to_owned);
    let expected = direct(&python.display().to_string(), &args, &safe, &calls);
    alike(&served("time", &args.join(", "), ""), "[convert_time]", expected, &calls).await;
}

/// A node whose agent `served` may echo, and read in its own workspace.
async fn serving(everything: &Path) -> Node {
    let config = format!(
        "  mcp_servers:\n{}{}",
        server("everything", everything, ", stdio", ""),
        context(&["echo", "fs.read", "fs.write", "trigger-long-running-operation"], "")
    );
    let node = Node::with(Script::new(|_| aegis_testkit::scripted_model::Reply::text("done")))
        .config(&config)
        .start()
        .await;
    node.deploy(&agent("[echo, get-sum, fs.read, fs.write, cmd.run, trigger-long-running-operation]"));
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_calls_tools_as_an_agent_may() {
    let Some(everything) = package("a_person_calls_tools_as_an_agent_may", "server-everything") else {
        return;
    };
    let node = serving(&everything).await;
    let words = |tool: &'static str, arguments: &'static str| {
        vec!["tool", "call", tool, "--agent", "served", "--arguments", arguments]
    };
    let echoed = node.run(&words("echo", r#"{"message": "hello"}"#)).ok();
    assert_eq!(echoed.stdout.trim_end(), "Echo: hello");
    let denied = node.run(&words("get-sum", r#"{"a": 1, "b": 2}"#)).expect_code(3);
    assert!(
        denied.stderr.contains("TOOL_NOT_ALLOWED") && denied.stderr.contains("context:served"),
        "{}",
        denied.stderr
    );
    let outside = node.run(&words("fs.read", r#"{"path": "/etc/passwd"}"#)).expect_code(3);
    assert!(outside.stderr.contains("PATH_NOT_ALLOWED"), "{}", outside.stderr);
    node.run(&words("cmd.run", r#"{"command": "id"}"#)).expect_code(3);
    node.run(&words("echo", "[]")).expect_code(2);
    node.run(&["tool", "call", "echo", "--agent", "nobody"]).expect_code(3);
    assert_eq!(events(&node, "action.denied").len(), 3, "what is refused is on record too");
    until("the runs are over", || {
        let runs = node.run(&["task", "list", "--output", "json"]).ok().json();
        runs["items"].as_array().unwrap().iter().all(|run| run["status"] == "completed")
    });
    let intended = events(&node, "action.intended");
    assert!(intended[0].to_string().contains("local"), "the person is on record: {intended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_decides_what_mcp_serves() {
    let Some(everything) = package("who_asks_decides_what_mcp_serves", "server-everything") else { return };
    let node = serving(&everything).await;
    let (_, agents) = make_key(&node, "a", "agent", Some("served"));
    let (_, viewers) = make_key(&node, "v", "viewer", None);
    let (_, operators) = make_key(&node, "o", "operator", None);
    let as_agent = [("X-Aegis-Agent", "served")];
    let list = ask(1, "tools/list", json!({}));
    let listed = |bearer: &str, headers: &[(&str, &str)]| names(&post(&node, bearer, headers, &list).1);

    let offered = ["echo", "fs.read", "fs.write", "get-sum", "trigger-long-running-operation"];
    let mut own = listed(&agents, &[]);
    own.sort();
    assert_eq!(
        own, offered,
        "an agent's key names its tools alone, as they are called; `cmd.run` is the model's"
    );
    let viewer = listed(&viewers, &[]);
    assert!(
        viewer.contains(&"aegis.task.list".to_owned()) && !viewer.contains(&"aegis.task.execute".to_owned())
    );
    assert!(!listed(&node.token(), &[]).contains(&"echo".to_owned()), "no agent, no tools of one");
    let operator = listed(&operators, &as_agent);
    assert!(operator.contains(&"echo".to_owned()) && operator.contains(&"aegis.task.execute".to_owned()));

    let echo = call("echo", json!({"message": "hello"}));
    for (bearer, headers) in
        [(agents.as_str(), [].as_slice()), (&operators, &as_agent), (&node.token(), &as_agent)]
    {
        let (code, answer) = post(&node, bearer, headers, &echo);
        assert_eq!((code, &answer["result"]["content"][0]["text"]), (200, &json!("Echo: hello")), "{answer}");
    }
    let denied = post(&node, &agents, &[], &call("get-sum", json!({"a": 1, "b": 2}))).1;
    assert_eq!(denied["result"]["isError"], true, "{denied}");
    assert!(
        denied["result"]["content"][0]["text"].as_str().unwrap().starts_with("TOOL_NOT_ALLOWED"),
        "{denied}"
    );
    let ran =
        post(&node, &operators, &[], &call("aegis.task.execute", json!({"agent": "served", "input": {}}))).1;
    assert!(ran["result"]["content"][0]["text"].as_str().unwrap().contains("execution_id"), "{ran}");

    // What is not offered is not there.
    for (bearer, headers, tool) in [
        (agents.as_str(), [].as_slice(), "aegis.task.list"),
        (&agents, &[], "get-env"),
        (&viewers, &[], "aegis.task.execute"),
        (&viewers, &[], "echo"),
        (&operators, &[], "echo"),
    ] {
        let (_, answer) = post(&node, bearer, headers, &call(tool, json!({})));
        assert_eq!(answer["error"]["code"], -32602, "{tool}: {answer}");
    }
    let (_, answer) = post(&node, &viewers, &as_agent, &echo);
    assert_eq!(answer["error"]["code"], -32600, "a viewer acts as no agent: {answer}");
    let (_, answer) = post(&node, &agents, &[("X-Aegis-Agent", "other")], &echo);
    assert_eq!(answer["result"]["content"][0]["text"], "Echo: hello", "its key says whom: {answer}");
    // Nor is a stranger let in, a page of another site, or a name that was made to mean this machine.
    assert_eq!(post(&node, "wrong", &[], &list).0, 401);
    assert_eq!(post(&node, &agents, &[("Host", "evil.example")], &list).0, 403);
    assert_eq!(post(&node, &agents, &[("Origin", "http://evil.example")], &list).0, 403);
    let started =
        events(&node, "execution.created").into_iter().find(|event| event.to_string().contains("\"mcp\""));
    assert!(started.is_some(), "that a program asked is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_generations_are_spoken_and_a_redeployed_agent_holds_at_once() {
    let Some(everything) = package("both_generations", "server-everything") else { return };
    let node = serving(&everything).await;
    let (_, key) = make_key(&node, "a", "agent", Some("served"));
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let (_, agreed) = post(&node, &key, &[], &ask(0, "initialize", hello));
    assert_eq!(agreed["result"]["protocolVersion"], "2025-11-25", "{agreed}");
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}});
    let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "server/discover")];
    let (_, found) = post(&node, &key, &headers, &ask(1, "server/discover", json!({ "_meta": meta })));
    assert!(found["result"]["supportedVersions"].to_string().contains("2026-07-28"), "{found}");
    let headers =
        [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "echo")];
    let newer = ask(2, "tools/call", json!({"name": "echo", "arguments": {"message": "x"}, "_meta": meta}));
    let (_, answer) = post(&node, &key, &headers, &newer);
    assert_eq!(answer["result"]["content"][0]["text"], "Echo: x", "{answer}");
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");

    // In the run that stands, whose agent was looked at since.
    let echo = || post(&node, &key, &[], &call("echo", json!({"message": "x"}))).1;
    for _ in 0..2 {
        assert_eq!(echo()["result"]["content"][0]["text"], "Echo: x");
    }
    node.run(&["agent", "pause", "served"]).ok();
    let answer = echo();
    assert!(answer["error"]["message"].as_str().is_some_and(|told| told.contains("paused")), "{answer}");
    node.run(&["agent", "resume", "served"]).ok();
    for _ in 0..2 {
        assert_eq!(echo()["result"]["content"][0]["text"], "Echo: x");
    }
    let narrower = agent("[fs.read]").replace("version: \"1.0.0\"", "version: \"1.0.1\"");
    node.deploy(&narrower);
    let (_, answer) = post(&node, &key, &[], &call("echo", json!({"message": "x"})));
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mcp_is_served_on_standard_input_and_output() {
    let Some(everything) = package("mcp_is_served_on_standard_input_and_output", "server-everything") else {
        return;
    };
    let node = serving(&everything).await;
    let mut child = node
        .command(&["mcp", "serve", "--agent", "served"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let slow = json!({"name": "trigger-long-running-operation", "arguments": {"duration": 1, "steps": 2},
        "_meta": {"progressToken": "p"}});
    for message in [
        ask(1, "initialize", hello),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        call("echo", json!({"message": "hello"})),
        ask(8, "tools/call", slow),
    ] {
        writeln!(stdin, "{message}").unwrap();
    }
    drop(stdin);
    let answers: Vec<Value> =
        BufReader::new(stdout).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(child.wait().unwrap().success());
    let of =
        |id: u64| answers.iter().find(|answer| answer["id"] == id).unwrap_or_else(|| panic!("{answers:#?}"));
    assert_eq!(of(1)["result"]["serverInfo"]["name"], "aegis");
    assert_eq!(of(7)["result"]["content"][0]["text"], "Echo: hello");
    assert!(of(8)["result"]["content"][0]["text"].as_str().unwrap().contains("completed"), "{answers:#?}");
    let progress = answers.iter().filter(|answer| answer["method"] == "notifications/progress").count();
    assert!(progress >= 1, "progress comes through: {answers:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_and_another_tenants_are_served_nothing() {
    let test = "a_revoked_key_and_another_tenants_are_served_nothing";
    let Some(everything) = package(test, "server-everything") else { return };
    let node = serving(&everything).await;
    let (id, key) = make_key(&node, "a", "agent", Some("served"));
    let echo = call("echo", json!({"message": "hello"}));
    assert_eq!(post(&node, &key, &[], &echo).1["result"]["content"][0]["text"], "Echo: hello");
    let statuses = || {
        let runs = node.run(&["task", "list", "--output", "json"]).ok().json();
        let runs = runs["items"].as_array().unwrap().clone();
        runs.iter().map(|run| run["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(statuses(), ["running"], "the caller's run stays for its next call");
    node.run(&["key", "revoke", &id]).ok();
    assert_eq!(post(&node, &key, &[], &echo).0, 401);
    until("what it began is over", || statuses() == ["cancelled"]);

    let other = ["key", "create", "b", "--role", "operator", "--tenant", "other", "--output", "json"];
    let other = node.run(&other).ok().json()["key"].as_str().unwrap().to_owned();
    let as_agent = [("X-Aegis-Agent", "served")];
    let answer = post(&node, &other, &as_agent, &echo).1;
    assert!(answer["error"]["code"].is_i64(), "the agent is another tenant's: {answer}");
    let agents = post(&node, &other, &[], &call("aegis.agent.list", json!({}))).1;
    assert!(!agents["result"]["content"][0]["text"].as_str().unwrap().contains("served"), "{agents}");
    let named = [("X-Aegis-Agent", "served"), ("X-Aegis-Tenant", "default")];
    assert_eq!(post(&node, &other, &named, &echo).0, 403);
}
