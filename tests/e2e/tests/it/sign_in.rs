//! Signing in at a tool server behind an address, by the real command line and an authorization server of our own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use aegis_e2e::Node;
use aegis_testkit::oauth::{OauthServer, OauthTricks};
use serde_json::json;

use crate::manifests::worker;
use crate::observe::{events, follow, tool_results, until};
use crate::tools::{calling, tool_lines};

async fn node(far: &OauthServer, oauth: &str) -> Node {
    let config = format!(
        "  mcp_servers:\n    - name: far\n      url: {}\n      oauth: {oauth}\n  security_contexts:\n    - name: served\n      \
         capabilities: [{{tool_pattern: \"*\"}}]\n",
        far.url()
    );
    let calls = vec![("echo_token", json!({})), ("write", json!({}))];
    Node::with(calling(calls)).config(&config).start().await
}

/// Runs `aegis server login far` with a person who agrees; the address that was printed, and the output.
fn login(node: &Node, far: &OauthServer) -> (String, String) {
    let mut command = node.command(&["server", "login", "far"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let url = lines.find_map(|line| line.ok().filter(|line| line.starts_with("http"))).expect("an address");
    let answer = far.browse(&url).expect("the browser is sent back");
    let (host, target) = answer.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{target} HTTP/1.1\r\nhost: {host}\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains("You may close this window"), "{page}");
    let output = child.wait_with_output().unwrap();
    let told: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(output.status.success(), "{told:?}");
    (url, String::from_utf8(output.stdout).unwrap())
}

fn agent() -> String {
    let manifest = worker("served", "  security_context: served\n");
    let own = manifest.lines().find(|line| line.starts_with("  tools:")).expect("the worker has tools");
    manifest.replace(own, "  tools: [echo_token, write]")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_at_a_tool_server_and_no_token_is_seen_again() {
    let far = OauthServer::start(OauthTricks::default()).await.unwrap();
    let mut node = node(&far, "{}").await;
    let shown = || node.run(&["server", "show", "far"]).ok().stdout;
    until("it says what it lacks", || shown().contains("aegis server login far"));
    let (url, told) = login(&node, &far);
    assert!(url.starts_with(&far.base()) && url.contains("code_challenge_method=S256"), "{url}");
    assert!(told.contains("Signed in at server far"), "{told}");
    until("it answers", || shown().contains("far: ready"));

    let run = follow(&node, &agent()).ok();
    let results = tool_results(&node);
    assert_eq!(results[0], "Bearer [secret:oauth/far/access_token]", "{results:#?}");
    assert!(results[1].contains("`write`") && results[1].contains("aegis server login far"), "{results:#?}");
    let signed_in = events(&node, "server.signed_in");
    assert!(signed_in[0].to_string().contains("local"), "a person is on record: {signed_in:?}");
    let used = events(&node, "secret.used");
    assert!(used.iter().any(|event| event.to_string().contains("oauth/far/access_token")), "{used:?}");

    login(&node, &far);
    follow(&node, &agent()).ok();
    assert_eq!(tool_results(&node).last().unwrap(), "read offline_access write");

    let journal = node.run(&["audit", "query", "--output", "json"]).ok().stdout;
    let home = node.home().to_owned();
    assert!(far.issued().len() >= 2, "tokens to look for");
    for token in far.issued() {
        assert!(!journal.contains(&token) && !run.stdout.contains(&token), "{token}");
        assert!(!node.daemon_log().contains(&token), "{token} is in the log");
        assert_eq!(holding(&home, &token), Vec::<String>::new(), "{token}");
    }
    assert!(tool_lines(&run.stdout).len() >= 2);

    let told = node.run(&["server", "logout", "far"]).ok();
    assert!(told.stdout.contains("its tokens are revoked"), "{}", told.stdout);
    assert_eq!(far.revoked()[..2], ["refresh_token", "access_token"]);
    until("it is signed out", || shown().contains("aegis server login far"));
    let names = node.run(&["secret", "list"]).ok().stdout;
    assert!(!names.contains("oauth/far"), "{names}");
    node.stop_daemon();
    let record = crate::redaction::record(node.home(), |blob| blob).await;
    assert!(
        record.iter().any(|text| text.contains("[secret:oauth/far/access_token]")),
        "what was echoed is there"
    );
    for token in far.issued() {
        assert!(!record.iter().any(|text| text.contains(&token)), "{token} is on record");
    }
}

/// Files below `folder` that hold `text`.
fn holding(folder: &std::path::Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(holding(&path, text));
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_of_a_server_go_with_it() {
    let far = OauthServer::start(OauthTricks::default()).await.unwrap();
    let node = Node::with(calling(Vec::new())).start().await;
    let section = node.file("far.yaml", &format!("name: far\nurl: {}\noauth: {{}}\n", far.url()));
    node.run(&["server", "add", "-f", &section]).ok();
    until("it says what it lacks", || {
        node.run(&["server", "show", "far"]).ok().stdout.contains("aegis server login far")
    });
    login(&node, &far);
    assert!(node.run(&["secret", "list"]).ok().stdout.contains("oauth/far"));
    node.run(&["server", "remove", "far"]).ok();
    assert_eq!(far.revoked(), ["refresh_token", "access_token"]);
    assert!(!node.run(&["secret", "list"]).ok().stdout.contains("oauth/far"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_cannot_be_revoked_are_destroyed_here_and_that_is_told() {
    let far = OauthServer::start(OauthTricks::default()).await.unwrap();
    let node = node(&far, "{}").await;
    let shown = || node.run(&["server", "show", "far"]).ok().stdout;
    until("it says what it lacks", || shown().contains("aegis server login far"));
    login(&node, &far);
    far.turn(OauthTricks { revocation_fails: true, ..OauthTricks::default() });
    let told = node.run(&["server", "logout", "far"]).ok();
    assert!(told.stderr.contains("not revoked") && told.stderr.contains("503"), "{}", told.stderr);
    assert!(!node.run(&["secret", "list"]).ok().stdout.contains("oauth/far"));
    let signed_out = events(&node, "server.signed_out");
    assert_eq!(signed_out[0]["body"]["revoked"], json!(null), "{signed_out:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_signs_in_by_its_own_secret() {
    let far = OauthServer::start(OauthTricks::default()).await.unwrap();
    let node = node(
        &far,
        "{grant: client_credentials, client_id: client-by-hand, client_secret: \"secret:far-client\", scopes: [write]}",
    )
    .await;
    let value = node.file("client", OauthServer::CLIENT_SECRET);
    node.run(&["secret", "set", "far-client", "--from-file", &value]).ok();
    until("it answers", || node.run(&["server", "show", "far"]).ok().stdout.contains("far: ready"));
    follow(&node, &agent()).ok();
    assert_eq!(tool_results(&node)[1], "write");
    let refused = node.run(&["server", "login", "far"]);
    assert!(refused.stderr.contains("by itself"), "{}", refused.stderr);
}
