//! Copies of a folder: what is in them, who may read them, and what is needed to go on from them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aegis_core::{Body, StreamId};
use aegis_kernel::port::{BlobCopy, EventQuery, Journal, JournalError};
use aegis_store::{OpenError, Reading, Store, VerifyOptions, VerifyReport, verify, verify_export};
use aegis_testkit::conformance::journal::fixture::Fixture;
use sqlx::{ConnectOptions, Row};

use crate::folder::{append_one, check, fill, open, options};

/// A run that answered with a text that has two copies, and one whose text has one.
async fn answered(store: &Store, seed: u64) -> StreamId {
    let fixture = Fixture::new(seed);
    let stream = StreamId::Execution(fixture.execution());
    let (two, reference) = fixture.two_copies("[mail]", "me@example.com");
    let mut append =
        fixture.append(stream, None, vec![Body::IterationAnswered { iteration: 1, answer: reference }]);
    append.blobs = two;
    store.append(append).await.unwrap();
    let (blob, reference) = fixture.blob("evidence", BlobCopy::Evidence);
    let mut append =
        fixture.append(stream, None, vec![Body::IterationAnswered { iteration: 2, answer: reference }]);
    append.blobs = vec![blob];
    store.append(append).await.unwrap();
    stream
}

async fn check_copy(folder: &Path, key: &[u8; 32]) -> VerifyReport {
    let options = VerifyOptions {
        folder: folder.to_owned(),
        public_key: Some(*key),
        blobs: true,
        deep: true,
        ..VerifyOptions::default()
    };
    verify(&options).await.unwrap()
}

/// Modes of a folder and of all in it.
fn modes(folder: &Path) -> Vec<(String, u32)> {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut found = vec![(folder.display().to_string(), mode(folder))];
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(modes(&entry.path()));
        } else {
            found.push((entry.path().display().to_string(), mode(&entry.path())));
        }
    }
    found
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_private_and_says_what_it_cannot_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    answered(&store, 40).await;
    store.archive(2).await.unwrap().unwrap();
    let backup = tempfile::tempdir().unwrap();
    std::fs::set_permissions(backup.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    store.backup(backup.path()).await.unwrap();
    assert!(store.backup(backup.path()).await.is_err());
    for (path, mode) in modes(backup.path()) {
        let wanted = if Path::new(&path).is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, wanted, "`{path}` has mode {mode:o}");
    }
    assert!(!backup.path().join("keys.db").exists() && !backup.path().join("keys/node.key").exists());
    let key = *store.public_key();
    store.close().await.unwrap();

    let report = check_copy(backup.path(), &key).await;
    assert!(report.is_sound(), "{:?}", report.damage);
    assert_eq!((report.blobs, report.blobs_unchecked), (0, 3), "what was not opened was not checked");
    assert!(report.keys_missing.unwrap().ends_with("keys.db"));
    // The same where a folder has lost its keys.
    std::fs::remove_file(folder.path().join("keys/node.key")).unwrap();
    let report = check_copy(folder.path(), &key).await;
    assert_eq!((report.blobs, report.blobs_unchecked), (0, 3));
    assert!(report.keys_missing.unwrap().ends_with("node.key"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_keys_opens_evidence_and_nothing_that_is_destroyed_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let stream = answered(&store, 41).await;
    let backup = tempfile::tempdir().unwrap();
    store.backup(backup.path()).await.unwrap();
    let files = (backup.path().join("keys.db"), backup.path().join("keys/node.key"));
    store.backup_keys(&files.0, &files.1).await.unwrap();
    assert!(store.backup_keys(&files.0, &files.1).await.is_err(), "it is there already");
    for (path, mode) in modes(backup.path()) {
        assert!(mode == 0o600 || Path::new(&path).is_dir(), "`{path}` has mode {mode:o}");
    }
    let mut keys = sqlx::sqlite::SqliteConnectOptions::new().filename(&files.0).connect().await.unwrap();
    let count: i64 = sqlx::query("SELECT count(*) FROM keys").fetch_one(&mut keys).await.unwrap().get(0);
    assert_eq!(count, 1, "neither the key of the working copy nor those in stock");
    let key = *store.public_key();
    let query = EventQuery { stream: Some(stream), limit: 9, ..EventQuery::default() };
    let events = store.events(&query).await.unwrap();
    store.close().await.unwrap();
    let report = check_copy(backup.path(), &key).await;
    assert!(report.is_sound(), "{:?}", report.damage);
    assert_eq!((report.blobs, report.blobs_unchecked, report.keys_missing), (2, 1, None));

    // Another machine: the signing key is carried there by hand.
    let other = tempfile::tempdir().unwrap();
    copy_folder(backup.path(), other.path());
    std::fs::copy(folder.path().join("keys/log.key"), other.path().join("keys/log.key")).unwrap();
    let refused = Store::open(options(other.path(), 9)).await.err().unwrap();
    assert!(matches!(refused, OpenError::Restored { journal } if journal == report.events), "{refused}");
    let mut accept = options(other.path(), 9);
    accept.accept_restored = true;
    let store = Store::open(accept).await.unwrap();
    let Body::IterationAnswered { answer, .. } = &events[0].body else { panic!("{events:?}") };
    assert_eq!(
        store.blob(stream, answer).await.unwrap(),
        "[mail]",
        "the evidence stands in for the exact text"
    );
    answered(&store, 42).await;
    store.close().await.unwrap();
    let report = check_copy(other.path(), &key).await;
    assert!(report.is_sound(), "{:?}", report.damage);
    assert_eq!((report.blobs, report.blobs_unchecked), (5, 1));
    // Once accepted, it is a journal like any other.
    let store = open(other.path()).await;
    let query = EventQuery { kinds: vec!["log.opened".to_owned()], limit: 9, ..EventQuery::default() };
    let opened = store.events(&query).await.unwrap();
    assert!(matches!(&opened[1].body, Body::LogOpened { epoch: 2, former_root: Some(_), .. }));
    assert_eq!(opened.len(), 2);
    store.close().await.unwrap();
    assert!(check(other.path()).await.is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_in_use_is_exported_and_copied_from_beside() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    fill(&store, 1).await;
    store.checkpoint().await.unwrap();
    let size = store.head().await.unwrap().size;
    let reading = Reading::open(folder.path()).await.unwrap();
    assert_eq!(reading.public_key(), store.public_key());
    let mut exported = Vec::new();
    assert_eq!(reading.export(0..u64::MAX, &mut exported).await.unwrap().next, size);
    assert_eq!(verify_export(&mut exported.as_slice(), store.public_key()).unwrap().next, size);
    let backup = tempfile::tempdir().unwrap();
    reading.backup(backup.path()).await.unwrap();
    reading.backup_keys(&backup.path().join("keys.db"), &backup.path().join("keys/node.key")).await.unwrap();
    reading.close().await;
    assert!(std::fs::metadata(backup.path().join("keys.db")).unwrap().len() > 0);
    append_one(&store, 2).await;
    let report = verify(&VerifyOptions {
        folder: backup.path().to_owned(),
        public_key: Some(*store.public_key()),
        blobs: false,
        deep: true,
        ..VerifyOptions::default()
    })
    .await
    .unwrap();
    assert!(report.is_sound() && report.events == size, "{:?}", report.damage);
    // Who still holds a closed store is told so.
    let shared = std::sync::Arc::new(store);
    let holder = std::sync::Arc::clone(&shared);
    shared.close().await.unwrap();
    assert!(matches!(holder.checkpoint().await, Err(JournalError::Store(_))));
    assert!(Reading::open(&folder.path().join("nowhere")).await.is_err());
}
