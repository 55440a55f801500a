//! The official servers: what comes through AEGIS is what a direct client of the SDK gets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_kernel::port::{GovernedKind, Listener, ToolContext, ToolHost};
use aegis_tools::mcp::{
    CallOptions, McpError, PinStore, PlainStarter, ServerState, StartSpec, Starter, is_offered,
};
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, bench, call, context, nothing, settings, tenant};

/// Where `install_mcp_servers` of `xtask/install.sh` puts them.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/mcp-servers")
}

fn package(test: &str, name: &str) -> Option<(String, String)> {
    let file = installed().join("npm/node_modules/@modelcontextprotocol").join(name).join("dist/index.js");
    let there = file.exists();
    if !there {
        eprintln!(
            "SKIP {test}: {name} is not installed (npm is missing, or install_mcp_servers did not run)"
        );
    }
    there.then(|| ("node".to_owned(), file.display().to_string()))
}

fn script(test: &str, name: &str) -> Option<String> {
    let file = installed().join("py/bin").join(name);
    let there = file.exists();
    if !there {
        eprintln!(
            "SKIP {test}: {name} is not installed (pip is missing, or install_mcp_servers did not run)"
        );
    }
    there.then(|| file.display().to_string())
}

fn starter() -> PlainStarter {
    let path = std::env::var("PATH").unwrap_or_default();
    let home = std::env::temp_dir().display().to_string();
    PlainStarter { cwd: None, env: vec![("PATH".to_owned(), path), ("HOME".to_owned(), home)] }
}

/// The same server, and a client of the SDK with nothing between.
async fn direct(
    program: &str,
    args: &[String],
) -> (rmcp::service::RunningService<rmcp::RoleClient, ()>, Arc<dyn aegis_tools::mcp::ServerProcess>) {
    let spec = StartSpec {
        tenant: tenant(),
        server: "direct".parse().unwrap(),
        program: program.to_owned(),
        args: args.to_vec(),
        env: Vec::new(),
        domain_allowlist: Vec::new(),
        folders: Vec::new(),
    };
    let started = starter().start(spec).await.unwrap();
    let newest = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_11_25),
    };
    let client = ().serve_with_lifecycle((started.stdout, started.stdin), newest).await.unwrap();
    (client, started.process)
}

fn ours(name: &str, program: &str, args: &[String]) -> Bench {
    let config = json!({"name": name, "executable": program, "args": args});
    bench(vec![settings(config)], Arc::new(starter()), &PinStore::in_memory())
}

/// Makes the same calls both ways, on servers that start alike.
async fn alike(name: &str, program: &str, args: &[String], calls: &[(&str, Value)]) {
    let bench = ours(name, program, args);
    let tools = bench.tools().await;
    let (client, _process) = direct(program, args).await;
    let mut theirs: Vec<String> =
        client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into_owned()).collect();
    theirs.sort();
    let state = bench.servers.show(&tenant(), name).await.unwrap().state;
    let protocol = client.peer_info().unwrap().protocol_version.to_string();
    assert_eq!(state, ServerState::Ready { protocol }, "{name}");
    // The node's own names for resources and prompts stand beside them.
    let mine = tools.tools().iter().map(|tool| tool.schema.name.as_str()).filter(|tool| !is_offered(tool));
    assert_eq!(mine.collect::<Vec<_>>(), theirs, "{name}");
    for (tool, arguments) in calls {
        let params = CallToolRequestParams::new((*tool).to_owned())
            .with_arguments(arguments.as_object().unwrap().clone());
        let expected = serde_json::to_value(client.call_tool(params).await.unwrap()).unwrap();
        let got = tools.perform(&call(tool, arguments.clone()), &CallOptions::default()).await.unwrap();
        assert_eq!(got.to_json().unwrap(), expected, "{name}: {tool}");
    }
    assert_eq!(bench.saw("server.held"), 0, "{name} changed on its own");
    bench.servers.stop().await;
}

#[tokio::test]
async fn everything_answers_as_directly() {
    let Some((node, file)) = package("everything", "server-everything") else { return };
    let calls = [
        ("echo", json!({"message": "hello"})),
        ("get-sum", json!({"a": 2, "b": 3})),
        ("get-tiny-image", nothing()),
        ("get-structured-content", json!({"location": "New York"})),
        ("get-annotated-message", json!({"messageType": "error", "includeImage": true})),
        ("echo", json!({"wrong": 1})),
    ];
    alike("everything", &node, &[file, "stdio".to_owned()], &calls).await;
}

struct Nobody;

impl Listener for Nobody {
    fn progressed(&self, _: f64, _: Option<f64>, _: Option<String>) {}
}

#[tokio::test]
async fn everything_gives_resources_prompts_and_images() {
    let Some((node, file)) = package("everything", "server-everything") else { return };
    let bench = ours("everything", &node, &[file, "stdio".to_owned()]);
    let tools = bench.tools().await;
    let options = CallOptions::default();
    let of = async |tool: &str, arguments: Value| {
        let context = ToolContext { listener: Some(Arc::new(Nobody)), ..context() };
        let answer = tools.call(&context, &call(tool, arguments), &CancellationToken::new()).await.unwrap();
        serde_json::from_str::<Value>(&answer.content).unwrap()["result"].take()
    };
    let server = json!({"server": "everything"});
    let prompts = of("prompt.list", server.clone()).await;
    let prompts = prompts["prompts"].as_array().unwrap();
    let simple = prompts.iter().find(|prompt| prompt.get("arguments").is_none_or(|all| *all == json!([])));
    let name = simple.unwrap()["name"].clone();
    let prompt = of("prompt.get", json!({"server": "everything", "name": name})).await;
    assert!(prompt["messages"].as_array().is_some_and(|messages| !messages.is_empty()), "{prompt}");
    let resources = of("resource.list", server.clone()).await;
    let uri = resources["resources"][0]["uri"].as_str().unwrap().to_owned();
    let content = of("resource.read", json!({"server": "everything", "uri": uri})).await;
    assert_eq!(content["contents"][0]["uri"], uri.as_str());
    let templates = of("resource.templates", server).await;
    assert!(templates["resourceTemplates"][0]["uriTemplate"].is_string(), "{templates}");
    let image = tools.perform(&call("get-tiny-image", nothing()), &options).await.unwrap();
    let attachments = image.attachments();
    assert_eq!(attachments[0].media_type, "image/png");
    assert!(attachments[0].bytes.starts_with(b"\x89PNG"));
    assert!(image.tool_result().content.contains(&attachments[0].digest.to_string()));
}

#[tokio::test]
async fn the_file_server_answers_as_directly_and_its_paths_are_governed() {
    let Some((node, file)) = package("filesystem", "server-filesystem") else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = std::fs::canonicalize(folder.path()).unwrap().display().to_string();
    std::fs::write(format!("{root}/a.txt"), "one\ntwo\n").unwrap();
    let calls = [
        ("read_text_file", json!({"path": format!("{root}/a.txt")})),
        ("list_directory", json!({"path": root})),
        ("write_file", json!({"path": format!("{root}/b.txt"), "content": "x"})),
        ("read_multiple_files", json!({"paths": [format!("{root}/a.txt"), format!("{root}/no")]})),
        ("read_text_file", json!({"path": "/etc/passwd"})),
    ];
    let args = [file, root.clone()];
    alike("files", &node, &args, &calls).await;
    let bench = ours("files", &node, &args);
    for tool in bench.tools().await.tools() {
        let takes_path = tool.schema.parameters["properties"].as_object().is_some_and(|properties| {
            ["path", "paths", "source", "destination"].iter().any(|name| properties.contains_key(*name))
        });
        let governs = tool.governed.iter().any(|governed| matches!(governed.kind, GovernedKind::Path(_)));
        assert_eq!(takes_path, governs, "{}", tool.schema.name);
    }
}

#[tokio::test]
async fn the_memory_server_answers_as_directly() {
    let Some((node, file)) = package("memory", "server-memory") else { return };
    let calls = [
        ("read_graph", nothing()),
        ("search_nodes", json!({"query": "nothing"})),
        ("open_nodes", json!({"names": ["x"]})),
    ];
    alike("memory", &node, &[file], &calls).await;
}

#[tokio::test]
async fn the_git_server_answers_as_directly() {
    let Some(program) = script("git", "mcp-server-git") else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display().to_string();
    let made = std::process::Command::new("git").args(["init", "-q", &root]).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIP the_git_server_answers_as_directly: git is missing");
        return;
    }
    std::fs::write(folder.path().join("a.txt"), "one\n").unwrap();
    let calls = [
        ("git_status", json!({"repo_path": root})),
        ("git_branch", json!({"repo_path": root, "branch_type": "local"})),
        ("git_diff_staged", json!({"repo_path": root})),
    ];
    alike("git", &program, &["--repository".to_owned(), root.clone()], &calls).await;
}

#[tokio::test]
async fn the_time_server_answers_as_directly() {
    let Some(program) = script("time", "mcp-server-time") else { return };
    let convert =
        json!({"source_timezone": "Europe/Berlin", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    let calls = [("convert_time", convert), ("convert_time", json!({"time": "late"}))];
    alike("time", &program, &["--local-timezone=UTC".to_owned()], &calls).await;
}

#[tokio::test]
async fn everything_answers_on_http_with_a_credential_for_each_request() {
    let Some((node, file)) = package("http", "server-everything") else { return };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = tokio::process::Command::new(node)
        .args([file, "streamableHttp".to_owned()])
        .env("PORT", port.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let url = format!("http://127.0.0.1:{port}/mcp");
    let config = json!({"name": "far", "url": url, "headers": {"Authorization": "secret:far"}});
    let bench = bench(vec![settings(config)], Arc::new(starter()), &PinStore::in_memory());
    let tools = bench.tools().await;
    let echo = call("echo", json!({"message": "hello"}));
    let answer = tools.perform(&echo, &CallOptions::default()).await.unwrap();
    assert_eq!(answer.tool_result().content, "Echo: hello");
    server.kill().await.unwrap();
    let gone = tools.perform(&echo, &CallOptions::default()).await;
    assert!(matches!(gone, Err(McpError::Down { .. })), "{gone:?}");
}

/// Run with `--ignored --nocapture`, in release: the added time of a call over the SDK alone, to the same server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn added_latency() {
    let Some((node, file)) = package("added_latency", "server-everything") else { return };
    let args = [file, "stdio".to_owned()];
    let bench = ours("everything", &node, &args);
    let tools = bench.tools().await;
    let (client, _process) = direct(&node, &args).await;
    let (mut through, mut straight) = (Vec::new(), Vec::new());
    let echo = call("echo", json!({"message": "hello"}));
    for round in 0..2200 {
        let began = Instant::now();
        tools.perform(&echo, &CallOptions::default()).await.unwrap().tool_result();
        let ours = began.elapsed();
        let params =
            CallToolRequestParams::new("echo").with_arguments(echo.arguments.as_object().unwrap().clone());
        let began = Instant::now();
        client.call_tool(params).await.unwrap();
        if round >= 200 {
            through.push(ours);
            straight.push(began.elapsed());
        }
    }
    through.sort();
    straight.sort();
    let at = |times: &[Duration], share: usize| times[times.len() * share / 100].as_micros();
    for share in [50, 99] {
        eprintln!("p{share}: {} µs through AEGIS, {} µs directly", at(&through, share), at(&straight, share));
    }
}
