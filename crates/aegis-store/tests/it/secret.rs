//! The embedded store: its suite, its files, its key.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aegis_core::{Tenant, Timestamp};
use aegis_kernel::port::{SecretError, SecretName, SecretStore, Secrets};
use aegis_store::{EmbeddedOptions, EmbeddedSecrets, NodeSecrets, OpenError, ROTATION_OVERLAP};
use aegis_testkit::{SeededIds, TestClock};
use secrecy::{ExposeSecret, SecretString};
use sqlx::ConnectOptions;

const VALUE: &str = "correct-horse-battery";

fn clock() -> Arc<TestClock> {
    Arc::new(TestClock::at(Timestamp::from_micros(1_771_840_800_000_000)))
}

async fn try_open(
    folder: &Path,
    key: Option<&str>,
    clock: Arc<TestClock>,
) -> Result<EmbeddedSecrets, OpenError> {
    let key = key.map(SecretString::from);
    EmbeddedSecrets::open(EmbeddedOptions {
        folder: folder.to_owned(),
        key,
        clock,
        ids: Arc::new(SeededIds::new(11)),
    })
    .await
}

async fn open(folder: &Path) -> EmbeddedSecrets {
    try_open(folder, None, clock()).await.unwrap()
}

fn tenant() -> Tenant {
    Tenant::default_tenant()
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

async fn value(store: &EmbeddedSecrets, text: &str) -> Result<String, SecretError> {
    let stored = store.read(&tenant(), &name(text)).await?;
    Ok(stored.value.expose_secret().to_owned())
}

/// Every byte of every file of the folder.
fn everything(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        bytes.extend(if path.is_dir() { everything(&path) } else { std::fs::read(&path).unwrap() });
    }
    bytes
}

fn holds(folder: &Path, text: &str) -> bool {
    everything(folder).windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn the_embedded_store_passes_the_suite_of_its_port() {
    let folder = tempfile::tempdir().unwrap();
    aegis_testkit::conformance::secrets::suite(Arc::new(open(folder.path()).await)).await;
}

#[tokio::test]
async fn values_lie_sealed_in_private_files_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.set(&tenant(), &name("key"), VALUE.into()).await.unwrap();
    for file in ["secrets.db", "keys/secrets.key"] {
        let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(holds(folder.path(), "key"), "the name is there, so the search finds what is");
    assert!(!holds(folder.path(), VALUE));
    store.close().await;
    assert_eq!(value(&open(folder.path()).await, "key").await.unwrap(), VALUE);
}

#[tokio::test]
async fn a_sealed_value_opens_nowhere_else_and_not_when_altered() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    for (secret, value) in [("one", "value-of-one"), ("two", "value-of-two")] {
        store.set(&tenant(), &name(secret), value.into()).await.unwrap();
    }
    store.close().await;
    let path = folder.path().join("secrets.db");
    let mut database = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::query(
        "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE name = 'two') WHERE name = 'one'",
    )
    .execute(&mut database)
    .await
    .unwrap();
    sqlx::query("UPDATE secret SET tenant = 'other' WHERE name = 'two'")
        .execute(&mut database)
        .await
        .unwrap();
    drop(database);
    let store = open(folder.path()).await;
    let error = value(&store, "one").await.unwrap_err();
    assert!(matches!(&error, SecretError::Store(text) if text.contains("`one`")), "{error}");
    assert!(store.read(&"other".parse().unwrap(), &name("two")).await.is_err());
}

#[tokio::test]
async fn sealing_anew_keeps_the_values_and_drops_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("keys/secrets.key");
    let store = open(folder.path()).await;
    store.set(&tenant(), &name("key"), VALUE.into()).await.unwrap();
    let former = std::fs::read(&key).unwrap();
    store.reseal(None).await.unwrap();
    assert_ne!(std::fs::read(&key).unwrap(), former);
    assert_eq!(value(&store, "key").await.unwrap(), VALUE);
    store.rotate(&tenant(), &name("key"), "another-value".into()).await.unwrap();
    store.close().await;
    assert_eq!(value(&open(folder.path()).await, "key").await.unwrap(), "another-value");
    std::fs::write(&key, &former).unwrap();
    let error = try_open(folder.path(), None, clock()).await.err().unwrap();
    assert!(error.to_string().contains("another key"), "{error}");
}

#[tokio::test]
async fn a_crash_while_sealing_anew_loses_neither_key() {
    let folder = tempfile::tempdir().unwrap();
    let (key, next) = (folder.path().join("keys/secrets.key"), folder.path().join("keys/secrets-next.key"));
    let store = open(folder.path()).await;
    store.set(&tenant(), &name("key"), VALUE.into()).await.unwrap();
    // Before the database changed: the next key is there and of no use.
    std::fs::write(&next, [9; 32]).unwrap();
    store.close().await;
    let store = open(folder.path()).await;
    assert!(!next.exists());
    // After it changed: the former key still lies where the key does.
    let former = std::fs::read(&key).unwrap();
    store.reseal(None).await.unwrap();
    store.close().await;
    std::fs::rename(&key, &next).unwrap();
    std::fs::write(&key, &former).unwrap();
    assert_eq!(value(&open(folder.path()).await, "key").await.unwrap(), VALUE);
    assert!(!next.exists());
}

#[tokio::test]
async fn a_key_from_the_environment_is_never_written() {
    const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    const NEXT: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
    let folder = tempfile::tempdir().unwrap();
    let store = try_open(folder.path(), Some(KEY), clock()).await.unwrap();
    store.set(&tenant(), &name("key"), VALUE.into()).await.unwrap();
    assert!(!folder.path().join("keys/secrets.key").exists());
    assert!(!holds(folder.path(), "01234567890123456789012345678901"));
    assert!(store.reseal(None).await.is_err());
    store.reseal(Some(&NEXT.into())).await.unwrap();
    store.close().await;
    assert!(try_open(folder.path(), Some(KEY), clock()).await.is_err());
    let store = try_open(folder.path(), Some(NEXT), clock()).await.unwrap();
    assert_eq!(value(&store, "key").await.unwrap(), VALUE);
    let error = try_open(folder.path(), Some("c2hvcnQ="), clock()).await.err().unwrap();
    assert!(
        error.to_string().contains("AEGIS_SECRETS_KEY") && !error.to_string().contains("c2hvcnQ"),
        "{error}"
    );
}

#[tokio::test]
async fn what_was_rotated_away_is_forgotten_after_the_overlap() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let store = try_open(folder.path(), None, clock.clone()).await.unwrap();
    store.set(&tenant(), &name("key"), VALUE.into()).await.unwrap();
    for round in 0..4 {
        store.rotate(&tenant(), &name("key"), format!("value-number-{round}").into()).await.unwrap();
    }
    assert_eq!(store.known(&tenant()).await.unwrap().len(), 3, "the newest and the two before it");
    clock.advance(ROTATION_OVERLAP + Duration::from_secs(1));
    assert_eq!(store.known(&tenant()).await.unwrap().len(), 1);
    assert_eq!(value(&store, "key").await.unwrap(), "value-number-3");
}

#[tokio::test]
async fn references_are_resolved_from_their_sources_and_known_then() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).await);
    store.set(&tenant(), &name("key"), VALUE.into()).await.unwrap();
    let secrets = NodeSecrets::new(Some(store));
    let before = secrets.revision();
    let stored = secrets.resolve(&tenant(), "secret:key").await.unwrap();
    assert_eq!((stored.value.expose_secret(), stored.version), (VALUE, Some(1)));
    let variable = secrets.resolve(&tenant(), "env:CARGO_MANIFEST_DIR").await.unwrap();
    assert_eq!(variable.value.expose_secret(), env!("CARGO_MANIFEST_DIR"));
    for (reference, text) in
        [("literal:long-literal", "long-literal"), ("literal:short", "short"), ("http://h:1", "http://h:1")]
    {
        let literal = secrets.resolve(&tenant(), reference).await.unwrap();
        assert_eq!((literal.value.expose_secret(), literal.reference.as_str()), (text, "literal"));
    }
    let mut known: Vec<String> =
        secrets.known(&tenant()).await.unwrap().into_iter().map(|known| known.name).collect();
    known.sort();
    assert_eq!(known, ["env:CARGO_MANIFEST_DIR", "key", "literal"]);
    assert_eq!(secrets.revision(), before + 2);
    let missing = secrets.resolve(&tenant(), "env:AEGIS_NO_SUCH_VARIABLE").await.unwrap_err();
    assert_eq!(missing, SecretError::Missing("env:AEGIS_NO_SUCH_VARIABLE".to_owned()));
    let without = NodeSecrets::new(None).resolve(&tenant(), "secret:key").await.unwrap_err();
    assert_eq!(without, SecretError::NoStore("secret:key".to_owned()));
}

#[tokio::test]
async fn a_backup_of_the_journal_holds_no_secret_and_no_key() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(folder.path()).await;
    store.set(&tenant(), &name("key"), VALUE.into()).await.unwrap();
    let journal = crate::folder::open(folder.path()).await;
    crate::folder::append_one(&journal, 3).await;
    journal.backup(copy.path()).await.unwrap();
    journal.close().await.unwrap();
    let mut files: Vec<String> = std::fs::read_dir(copy.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.retain(|file| file.contains("secret") || file.contains("door"));
    assert_eq!(files, [""; 0]);
    assert!(!copy.path().join("keys/secrets.key").exists());
}
