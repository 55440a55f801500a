//! The TCP port: who may not speak, and what another tenant may not read.

use std::io::{Read as _, Write as _};

use aegis_e2e::Node;
use serde_json::json;

use super::{bodies, puppet, python, run, until, volume_of};
use crate::door::{Peer, make_key};
use crate::manifests::worker;

/// Sends one request with exactly these header lines and gives status and body.
pub(crate) fn send(node: &Node, line: &str, headers: &[&str], body: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", node.port())).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    write!(stream, "{request}\r\n{body}").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code =
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
    (code, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_and_counted() {
    let node = Node::with(puppet()).start().await;
    let host = format!("Host: 127.0.0.1:{}", node.port());
    let own = format!("Authorization: Bearer {}", node.token());
    let cut = format!("Authorization: Bearer {}", &node.token()[..node.token().len() - 1]);
    let code = |line: &str, headers: &[&str]| send(&node, line, headers, "").0;
    assert_eq!(code("GET /v1/agents", &[&host, &own]), 200, "the owner is heard");
    for headers in [
        vec![host.as_str()],
        vec![&host, "Authorization: Bearer"],
        vec![&host, "Authorization: Bearer wrong"],
        vec![&host, &cut],
        vec![&host, "Authorization: Basic YWRtaW46YWRtaW4="],
        vec![&host, &own, &own],
        vec![&host, "X-Aegis-Tenant: default", "Cookie: token=x"],
    ] {
        for line in [
            "GET /v1/agents",
            "POST /v1/executions",
            "GET /v1/audit/events",
            "GET /v1/config",
            "GET /openapi.json",
            "GET /nothing",
        ] {
            assert_eq!(code(line, &headers), 401, "{line} {headers:?}");
        }
    }
    for headers in [
        vec!["Host: evil.example", own.as_str()],
        vec!["Host: 127.0.0.1.evil.example:8088", &own],
        vec!["Host: localhost.evil.example", &own],
        vec![&own],
        vec![&host, "Host: evil.example", &own],
        vec![&host, &own, "Origin: https://evil.example"],
        vec![&host, &own, "Origin: null"],
        vec![&host, &own, "Origin: http://127.0.0.1:1"],
    ] {
        for line in ["GET /v1/agents", "POST /v1/executions", "GET /health"] {
            let code = code(line, &headers);
            assert!(code == 403 || code == 400, "{line} {headers:?}: {code}");
        }
    }
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
    ] {
        let kind = format!("Content-Type: {kind}");
        assert_eq!(send(&node, "POST /v1/executions", &[&host, &own, &kind], "{}").0, 415, "{kind}");
    }
    assert_eq!(send(&node, "POST /v1/executions", &[&host, &own], "{}").0, 415, "no type at all");
    // The gateway of sandboxes has no TCP form.
    assert_eq!(code("POST /v1/dispatch-gateway", &[&host, &own]), 404);
    // Recorded at most once a second, so that a flood is one event.
    for reason in ["no_credential", "wrong_credential", "foreign_host", "foreign_origin"] {
        until(|| {
            let seen = bodies(&node, "fleet", "access.refused");
            seen.iter().any(|body| body["reason"] == reason).then_some(())
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_sees_nothing() {
    let node = Node::with(puppet()).start().await;
    let agent = node.deploy(&worker("private", ""));
    let run = run(&node, "private", &python("print('private words')"));
    let volume = volume_of(&node, &run).replace("volume/", "");
    let trace = run.status["trace_id"].as_str().unwrap().to_owned();
    let host = format!("Host: 127.0.0.1:{}", node.port());
    let token = format!("Authorization: Bearer {}", node.token());
    let headers = [host.as_str(), &token, "X-Aegis-Tenant: other", "Content-Type: application/json"];
    let execution = &run.execution;
    for path in [
        format!("/v1/agents/{agent}"),
        "/v1/agents/lookup/private".to_owned(),
        format!("/v1/agents/{agent}/versions"),
        format!("/v1/agents/{agent}/events"),
        format!("/v1/executions/{execution}"),
        format!("/v1/executions/{execution}/events"),
        format!("/v1/executions/{execution}/stream"),
        format!("/v1/volumes/{volume}"),
        format!("/v1/volumes/{volume}/files"),
        format!("/v1/volumes/{volume}/get?path=attack.py"),
        format!("/v1/traces/{trace}"),
        format!("/v1/traces/{execution}"),
    ] {
        let (code, body) = send(&node, &format!("GET {path}"), &headers, "");
        assert_eq!(code, 404, "{path}: {body}");
        assert!(!body.contains("private words"), "{path}");
        // For its owner it is there; the streams of what goes on would not end.
        if !path.ends_with("/events") {
            assert_eq!(send(&node, &format!("GET {path}"), &[&host, &token], "").0, 200, "{path}");
        }
    }
    for (line, body) in [
        (format!("DELETE /v1/agents/{agent}"), String::new()),
        (format!("POST /v1/agents/{agent}/pause"), String::new()),
        (format!("POST /v1/agents/{agent}/execute"), "{}".to_owned()),
        ("POST /v1/executions".to_owned(), json!({"agent": "private", "input": {}}).to_string()),
        ("POST /v1/executions".to_owned(), json!({"agent_id": agent, "input": {}}).to_string()),
        (format!("POST /v1/executions/{execution}/cancel"), String::new()),
        (format!("DELETE /v1/executions/{execution}"), String::new()),
        (format!("DELETE /v1/volumes/{volume}"), String::new()),
    ] {
        assert_eq!(send(&node, &line, &headers, &body).0, 404, "{line}");
    }
    for path in ["/v1/agents", "/v1/executions", "/v1/volumes", "/v1/audit/events"] {
        let (code, body) = send(&node, &format!("GET {path}"), &headers, "");
        assert_eq!(code, 200, "{path}");
        let page: serde_json::Value = serde_json::from_str(body.trim()).unwrap_or_else(|_| panic!("{body}"));
        assert_eq!(page["items"], json!([]), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_reads_the_record_of_its_own_tenant_alone() {
    let node = Node::with(puppet()).start().await;
    let words = ["--tenant", "other", "key", "create", "reader", "--role", "viewer", "--output", "json"];
    let key = node.run(&words).ok().json()["key"].as_str().unwrap().to_owned();
    let own = Peer::attest(&node, &speaker(&node), 1);
    assert_eq!(own.call(&node, 1, "fs.list", json!({"path": "/workspace/private-words"})).0, 200);
    let read = |bearer: &str, path: &str| crate::door::send(&node, ("GET", path), bearer, b"");
    let listing = "/v1/audit/events?envelopes=true&limit=1000";
    let (code, all) = read(&node.token(), listing);
    assert!(code == 200 && all.to_string().contains("private-words"), "the owner reads everything: {all}");
    let (code, seen) = read(&key, listing);
    assert_eq!(code, 200, "{seen}");
    let events = |page: &serde_json::Value| page["items"].as_array().unwrap().clone();
    let own: Vec<_> = events(&all).into_iter().filter(|event| event["tenant"] == "other").collect();
    assert!(!own.is_empty() && own.len() < events(&all).len(), "{all}");
    assert_eq!(events(&seen), own);
    for event in events(&all) {
        let expected = if event["tenant"] == "other" { 200 } else { 404 };
        let path = format!("/v1/audit/prove/{}", event["seq"]);
        let (code, proof) = read(&key, &path);
        assert_eq!(code, expected, "{event}: {proof}");
        assert_eq!(read(&node.token(), &path).0, 200, "{event}");
    }
    assert_eq!(read(&key, "/v1/audit/prove/1000000").0, 404);
}

/// A key of the tenant `default` that speaks as an agent.
fn speaker(node: &Node) -> String {
    node.deploy(&worker("speaker", ""));
    make_key(node, "speaker", "agent", Some("speaker")).1
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_of_volume_files_do_not_lead_outside() {
    let node = Node::with(puppet()).start().await;
    node.deploy(&worker("keeper", ""));
    let run = run(&node, "keeper", &python("print('kept')"));
    let volume = volume_of(&node, &run).replace("volume/", "");
    let host = format!("Host: 127.0.0.1:{}", node.port());
    let token = format!("Authorization: Bearer {}", node.token());
    let get =
        |path: &str| send(&node, &format!("GET /v1/volumes/{volume}/get?path={path}"), &[&host, &token], "");
    assert_eq!(get("attack.py").0, 200);
    for path in [
        "../limit",
        "..",
        "../../../token",
        "%2e%2e/%2e%2e/%2e%2e/token",
        "..%2f..%2f..%2ftoken",
        "/etc/passwd",
        "//etc/passwd",
        "/../../../../etc/passwd",
        "a/../../limit",
        "attack.py/../../limit",
        "./../limit",
        "%00",
        "attack.py%00.txt",
        "",
        ".",
    ] {
        let (code, body) = get(path);
        assert!((400..=404).contains(&code), "{path}: {code} {body}");
        assert!(!body.contains("root:") && !body.contains(&node.token()), "{path}");
    }
    for id in ["..", "%2e%2e%2fkeys", "00000000-0000-0000-0000-000000000000", "*"] {
        let (code, _) = send(&node, &format!("GET /v1/volumes/{id}/files"), &[&host, &token], "");
        assert_eq!(code, 404, "{id}");
    }
}
