//! The adapter against a server that speaks as the published API says.

use std::sync::Arc;
use std::time::Duration;

use aegis_core::Tenant;
use aegis_kernel::port::{SecretError, SecretStore};
use aegis_store::{OpenBao, OpenBaoLogin, OpenBaoOptions};
use aegis_testkit::vault::{VaultOptions, VaultServer};
use secrecy::ExposeSecret;
use serde_json::json;

fn role(secret_id: &str) -> OpenBaoLogin {
    OpenBaoLogin::AppRole {
        mount: "approle".to_owned(),
        role_id: VaultServer::ROLE_ID.to_owned(),
        secret_id: secret_id.into(),
    }
}

fn options(url: String) -> OpenBaoOptions {
    let backoff = Duration::from_millis(5);
    OpenBaoOptions { backoff, ..OpenBaoOptions::new(url, role(VaultServer::SECRET_ID)) }
}

async fn started(vault: VaultOptions) -> (VaultServer, OpenBao) {
    let server = VaultServer::start(vault).await.unwrap();
    let store = OpenBao::connect(options(server.url())).await.unwrap();
    (server, store)
}

async fn read(store: &OpenBao, name: &str) -> Result<String, SecretError> {
    let stored = store.read(&Tenant::default_tenant(), &name.parse().unwrap()).await?;
    Ok(stored.value.expose_secret().to_owned())
}

/// Waits until the condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..400 {
        if condition() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(condition(), "not within ten seconds: {what}");
}

#[tokio::test]
async fn the_adapter_passes_the_suite_of_its_port() {
    let (_server, store) = started(VaultOptions::default()).await;
    aegis_testkit::conformance::secrets::suite(Arc::new(store)).await;
}

#[tokio::test]
async fn an_expired_token_is_fetched_anew_and_the_request_repeated() {
    let (server, store) = started(VaultOptions::default()).await;
    server.store("aegis/default/key", &json!({ "value": "value-of-another" }));
    assert_eq!(read(&store, "key").await.unwrap(), "value-of-another");
    server.expire_tokens();
    assert_eq!(read(&store, "key").await.unwrap(), "value-of-another");
    assert_eq!(server.logins(), 2);
}

#[tokio::test]
async fn a_token_that_no_login_follows_is_refused_without_being_named() {
    let server = VaultServer::start(VaultOptions::default()).await.unwrap();
    let login = OpenBaoLogin::Token(VaultServer::ROOT_TOKEN.into());
    let store = OpenBao::connect(OpenBaoOptions { login, ..options(server.url()) }).await.unwrap();
    store.set(&Tenant::default_tenant(), &"key".parse().unwrap(), "some-value".into()).await.unwrap();
    for (login, word) in [
        (OpenBaoLogin::Token("no-such-token".into()), "no-such-token"),
        (role("wrong-secret-id"), "wrong-secret-id"),
    ] {
        let shown = format!("{login:?}");
        let error = OpenBao::connect(OpenBaoOptions { login, ..options(server.url()) }).await.err().unwrap();
        assert!(matches!(error, SecretError::Refused(_)), "{error}");
        assert!(!format!("{error} {error:?} {shown}").contains(word), "{error:?}");
    }
}

#[tokio::test]
async fn tokens_are_renewed_before_they_expire_and_fetched_when_they_cannot_be() {
    let lease = Duration::from_secs(1);
    let (server, store) = started(VaultOptions { lease, renewals: 2, ..VaultOptions::default() }).await;
    server.store("aegis/default/key", &json!({ "value": "value-of-another" }));
    until("two renewals", || server.renewals() == 2).await;
    assert_eq!(server.logins(), 1);
    until("a login after the last renewal", || server.logins() == 2).await;
    assert_eq!(read(&store, "key").await.unwrap(), "value-of-another");
    drop(store);
    let requests = server.requests();
    tokio::time::sleep(lease * 2).await;
    assert_eq!(server.requests(), requests, "nothing is renewed for nobody");
}

#[tokio::test]
async fn renewal_outlives_a_server_that_is_away() {
    let lease = Duration::from_secs(1);
    let (server, store) = started(VaultOptions { lease, ..VaultOptions::default() }).await;
    server.fail_next([Some(503); 4]);
    until("a renewal or login after four failures", || server.renewals() + server.logins() > 1).await;
    server.store("aegis/default/key", &json!({ "value": "value-of-another" }));
    assert_eq!(read(&store, "key").await.unwrap(), "value-of-another");
}

#[tokio::test]
async fn what_was_deleted_or_has_another_form_is_no_value() {
    let (server, store) = started(VaultOptions::default()).await;
    server.store("aegis/default/gone", &json!({ "value": "value-of-another" }));
    server.soft_delete("aegis/default/gone");
    assert_eq!(read(&store, "gone").await, Err(SecretError::Missing("secret:gone".to_owned())));
    assert!(store.list(&Tenant::default_tenant()).await.unwrap().is_empty());
    server.store("aegis/default/sole", &json!({ "password": "value-of-another" }));
    assert_eq!(read(&store, "sole").await.unwrap(), "value-of-another");
    server.store("aegis/default/two", &json!({ "user": "value-of-another", "password": "value-of-another" }));
    assert!(matches!(read(&store, "two").await, Err(SecretError::Value { .. })));
    server.store("aegis/default/short", &json!({ "value": "short" }));
    assert!(matches!(read(&store, "short").await, Err(SecretError::Value { .. })));
}

#[tokio::test]
async fn a_server_that_fails_is_asked_again_only_where_that_changes_nothing() {
    let (server, store) = started(VaultOptions::default()).await;
    server.store("aegis/default/key", &json!({ "value": "value-of-another" }));
    server.fail_next([Some(503), Some(429)]);
    assert_eq!(read(&store, "key").await.unwrap(), "value-of-another");
    server.fail_next([Some(500); 3]);
    assert!(matches!(read(&store, "key").await, Err(SecretError::Unreachable(_))));
    let before = server.requests();
    // The first request of setting reads; the second one writes.
    server.fail_next([Some(404), Some(500)]);
    let set = store.set(&Tenant::default_tenant(), &"new".parse().unwrap(), "some-value".into()).await;
    assert!(matches!(set, Err(SecretError::Unreachable(_))), "{set:?}");
    assert_eq!(server.requests(), before + 2);
}

#[tokio::test]
async fn silence_and_floods_are_bounded() {
    let server = VaultServer::start(VaultOptions::default()).await.unwrap();
    let patient = OpenBaoOptions { timeout: Duration::from_secs(1), ..options(server.url()) };
    let store = OpenBao::connect(patient).await.unwrap();
    server.fail_next([None; 3]);
    assert!(matches!(read(&store, "key").await, Err(SecretError::Unreachable(_))));
    server.flood();
    let error = read(&store, "key").await.unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
    let gone = server.url();
    drop(server);
    assert!(OpenBao::connect(options(gone)).await.is_err());
}

#[tokio::test]
async fn the_namespace_is_sent_and_plain_http_stays_on_this_machine() {
    let namespace = Some("team-a".to_owned());
    let vault = VaultOptions { namespace: namespace.clone(), ..VaultOptions::default() };
    let server = VaultServer::start(vault).await.unwrap();
    assert!(OpenBao::connect(options(server.url())).await.is_err());
    assert!(OpenBao::connect(OpenBaoOptions { namespace, ..options(server.url()) }).await.is_ok());
    for address in
        ["http://vault.example.org", "https://user:pass@vault.example.org", "ftp://localhost", "vault"]
    {
        let error = OpenBao::connect(options(address.to_owned())).await.err().unwrap();
        assert!(matches!(error, SecretError::Store(_)), "{address}: {error}");
    }
}

#[tokio::test]
async fn no_error_says_a_value_or_a_token() {
    let (server, store) = started(VaultOptions::default()).await;
    server.expire_tokens();
    // The login is refused as well, in the server's own words.
    server.fail_next([Some(403), Some(400)]);
    let name = "key".parse().unwrap();
    let error = store.set(&Tenant::default_tenant(), &name, "very-secret-value".into()).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    for word in ["very-secret-value", "token-number", VaultServer::SECRET_ID] {
        assert!(!shown.contains(word), "{shown}");
    }
}

/// The real thing, in its development mode, where it is installed.
#[tokio::test]
async fn a_real_server_passes_the_suite() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = ["bao", "vault"].iter().find_map(|program| {
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
    });
    let Some(program) = program else {
        eprintln!("SKIP a_real_server_passes_the_suite: neither `bao` nor `vault` is in PATH");
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let home = tempfile::tempdir().unwrap();
    let mut child = tokio::process::Command::new(program)
        .args(["server", "-dev", "-dev-root-token-id=root-token-of-the-tests"])
        .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
        .env("HOME", home.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let login = OpenBaoLogin::Token(VaultServer::ROOT_TOKEN.into());
    let options = OpenBaoOptions { login, ..options(format!("http://127.0.0.1:{port}")) };
    let mut store = OpenBao::connect(options.clone()).await;
    for _ in 0..100 {
        if store.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        store = OpenBao::connect(options.clone()).await;
    }
    aegis_testkit::conformance::secrets::suite(Arc::new(store.ok().unwrap())).await;
    child.kill().await.unwrap();
}
