//! Acts of a person whose client goes away, or that were left half done.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;

impl Node {
    async fn operator(&self, name: &str) -> aegis_store::ApiKey {
        let (tenant, name) = (Tenant::default_tenant(), name.parse().unwrap());
        self.app.door.create_key(&tenant, &name, aegis_core::KeyRole::Operator, None).await.unwrap().0
    }

    async fn recorded(&self, kind: &str) -> usize {
        self.client().audit_events(&[("kind", kind.to_owned())]).await.unwrap().items.len()
    }

    async fn delete(&self, path: &str) -> String {
        let (host, token) = (self.app.address, self.token());
        let headers = format!("Host: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n");
        self.raw(&format!("DELETE {path} HTTP/1.1\r\n{headers}\r\n")).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_revoked_on_record_though_the_client_goes_away() {
    let node = Node::start().await;
    let key = node.operator("ci").await;
    let request = http::Request::delete(format!("/v1/keys/{}", key.id))
        .header(http::header::HOST, node.app.address.to_string())
        .header(http::header::AUTHORIZATION, format!("Bearer {}", node.token()));
    let request = request.body(axum::body::Body::empty()).unwrap();
    // Begun, and dropped at the first place where it waits.
    let answer = tower::Service::call(&mut routes::router(&node.app), request).now_or_never();
    assert!(answer.is_none(), "{answer:?}");
    for _ in 0..500 {
        if node.recorded("key.revoked").await == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it is not on record that the key was revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_left_half_done_is_ended_by_the_next() {
    let node = Node::start().await;
    let key = node.operator("ci").await;
    // As a daemon leaves it that was killed in between.
    node.app.door.revoke_key(&Tenant::default_tenant(), key.id).await.unwrap();
    for _ in 0..2 {
        let answer = node.delete(&format!("/v1/keys/{}", key.id)).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        assert_eq!(node.recorded("key.revoked").await, 1, "once, however often it is asked for");
    }
    let unknown = node.delete("/v1/keys/00000000-0000-4000-8000-000000000000").await;
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_changed_secret_brings_is_taken_after_a_reload_under_way() {
    let node = Node::start().await;
    let reload = node.app.taking.lock().await;
    let app = node.app.clone();
    let set = tokio::spawn(async move { crate::secrets::refresh_models(&app).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!set.is_finished(), "it took models of the configuration that is about to be replaced");
    drop(reload);
    tokio::time::timeout(Duration::from_secs(10), set).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_call_of_a_tool_is_finished_like_others() {
    let node = Node::start().await;
    let (host, token) = (node.app.address, node.token());
    let body = r#"{"agent":"nobody","arguments":{}}"#;
    let request = format!(
        "POST /v1/tools/fs.read/call HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = node.raw(&request).await;
    for header in ["cache-control: no-store", "x-content-type-options: nosniff", "x-aegis-checkpoint-root"] {
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(header), "{header}: {answer}");
    }
}
