//! Opening, closing, restoring, rebuilding, archiving, exporting, backing up.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use aegis_core::{Body, Durability, StreamId};
use aegis_kernel::port::{BlobCopy, EventQuery, Journal};
use aegis_store::{OpenError, Store, VerifyOptions, verify, verify_export};
use aegis_testkit::conformance::journal::fixture::Fixture;
use sqlx::{Connection, Row};

use crate::folder::{append_one, check, damage, database, fill, open, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_opens_once_and_goes_on_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let first = store.events(&EventQuery { limit: 10, ..EventQuery::default() }).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].stream, StreamId::Fleet);
    assert!(matches!(&first[0].body, Body::LogOpened { epoch: 1, former_root: None, .. }));
    fill(&store, 1).await;
    let head = store.head().await.unwrap();
    let refused = Store::open(options(folder.path(), 8)).await.err().unwrap();
    assert!(matches!(refused, OpenError::Locked(_)), "{refused}");
    store.close().await.unwrap();

    let store = open(folder.path()).await;
    assert_eq!(store.head().await.unwrap(), head);
    for seed in 2..300 {
        append_one(&store, seed).await;
    }
    store.close().await.unwrap();
    let report = check(folder.path()).await;
    assert!(report.is_sound(), "{:?}", report.damage);
    assert_eq!(report.events, head.size + 298);
    assert!(report.checkpoints >= 4 && report.records > 10);
    for (path, mode) in
        [("", 0o700), ("keys", 0o700), ("journal.db", 0o600), ("keys.db", 0o600), ("keys/log.key", 0o600)]
    {
        let found = std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "`{path}` has mode {found:o}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_signed_within_a_second_and_only_when_synced() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let fixture = Fixture::new(3);
    let mut append =
        fixture.append(StreamId::Execution(fixture.execution()), None, vec![Body::ExecutionStarted {}]);
    append.durability = Durability::Process;
    let size = store.append(append).await.unwrap().seq + 1;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(store.head().await.unwrap().size, size, "synced by the marker");
    tokio::time::sleep(Duration::from_millis(800)).await;
    let heads = std::fs::read_to_string(folder.path().join("checkpoints")).unwrap();
    assert!(heads.contains(&format!("\n{size}\n")), "{heads}");
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_journal_is_refused_until_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    fill(&store, 4).await;
    let backup = tempfile::tempdir().unwrap();
    store.backup(backup.path()).await.unwrap();
    let older = store.head().await.unwrap();
    fill(&store, 5).await;
    store.close().await.unwrap();
    for file in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join(file));
    }
    std::fs::copy(backup.path().join("journal.db"), folder.path().join("journal.db")).unwrap();

    let refused = Store::open(options(folder.path(), 9)).await.err().unwrap();
    assert!(matches!(refused, OpenError::Behind { journal, .. } if journal == older.size), "{refused}");
    let mut accept = options(folder.path(), 9);
    accept.accept_restored = true;
    let store = Store::open(accept).await.unwrap();
    let query = EventQuery { kinds: vec!["log.opened".to_owned()], limit: 9, ..EventQuery::default() };
    let opened = store.events(&query).await.unwrap();
    assert!(
        matches!(&opened[1].body, Body::LogOpened { epoch: 2, former_root: Some(root), .. } if *root == older.root)
    );
    fill(&store, 6).await;
    store.close().await.unwrap();
    let report = check(folder.path()).await;
    assert!(report.is_sound(), "{:?}", report.damage);
    assert!(report.superseded > 0);
    open(folder.path()).await.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_journal_under_the_same_heads_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (folder, seed) in [(&one, 10), (&two, 11)] {
        let store = Store::open(options(folder.path(), seed)).await.unwrap();
        fill(&store, seed).await;
        store.close().await.unwrap();
    }
    std::fs::copy(two.path().join("journal.db"), one.path().join("journal.db")).unwrap();
    let refused = Store::open(options(one.path(), 12)).await.err().unwrap();
    assert!(matches!(refused, OpenError::Differs { .. }), "{refused}");
}

async fn dump(folder: &std::path::Path) -> Vec<(String, String, String)> {
    let mut connection = database(folder).await;
    let mut all = Vec::new();
    for table in ["agents", "agent_versions", "executions", "iterations", "volumes", "costs"] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT id, record FROM {table} ORDER BY id"));
        let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
        assert!(!rows.is_empty(), "{table} is empty");
        all.extend(rows.iter().map(|row| (table.to_owned(), row.get(0), row.get(1))));
    }
    connection.close().await.unwrap();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_reproduces_every_table_also_across_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    fill(&store, 20).await;
    fill(&store, 21).await;
    let before = dump(folder.path()).await;
    let head = store.head().await.unwrap();
    let all = EventQuery { limit: 1000, ..EventQuery::default() };
    let events = store.events(&all).await.unwrap();
    assert!(store.archive(10).await.unwrap().is_some());
    assert!(store.archive(30).await.unwrap().is_some());
    assert!(store.archive(30).await.unwrap().is_none());
    sqlx::query("UPDATE executions SET record = json_set(record, '$.status', 'failed')")
        .execute(&mut database(folder.path()).await)
        .await
        .unwrap();
    assert!(!damage(folder.path()).await.is_empty());
    store.rebuild().await.unwrap();
    assert_eq!(dump(folder.path()).await, before);
    assert_eq!(store.events(&all).await.unwrap(), events);
    assert_eq!(store.head().await.unwrap(), head);
    let proof = store.prove(5).await.unwrap();
    assert_eq!(proof.verify(store.public_key()).unwrap().size, head.size);
    store.close().await.unwrap();
    assert!(check(folder.path()).await.is_sound());
    let segment = folder.path().join("archive/segment-0-9.jsonl");
    let text = std::fs::read_to_string(&segment).unwrap().replacen("\"seq\":3", "\"seq\":4", 1);
    std::fs::write(&segment, text).unwrap();
    assert!(!damage(folder.path()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_and_exports_are_checked_with_the_public_key_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let mut last = 0;
    for seed in 0..600 {
        last = append_one(&store, 1000 + seed).await;
    }
    let key = *store.public_key();
    for seq in [0, 1, 255, 256, 257, 511, 512, last] {
        let proof = store.prove(seq).await.unwrap();
        assert!(proof.verify(&key).unwrap().size > seq, "{seq}");
        let mut lied = proof.clone();
        lied.leaf = lied.leaf.replacen("execution", "executiom", 1).replacen("fleet", "fleer", 1);
        assert!(lied.verify(&key).is_err());
        assert!(proof.verify(&[3; 32]).is_err());
    }
    assert!(store.prove(last + 1).await.is_err());
    for range in [0..last + 1, 0..1, 17..300, 255..257, 300..300] {
        let mut file = Vec::new();
        let header = store.export(range.clone(), &mut file).await.unwrap();
        assert_eq!((header.first, header.next), (range.start, range.end));
        assert_eq!(verify_export(&mut file.as_slice(), &key).unwrap(), header);
        if range.end - range.start > 1 {
            let text = String::from_utf8(file).unwrap();
            let mut lines: Vec<&str> = text.lines().collect();
            let changed = text.replacen("execution.started", "execution.starter", 1);
            assert!(verify_export(&mut changed.as_bytes(), &key).is_err());
            lines.swap(1, 2);
            assert!(verify_export(&mut lines.join("\n").as_bytes(), &key).is_err());
            lines.pop();
            assert!(verify_export(&mut lines.join("\n").as_bytes(), &key).is_err());
        }
    }
    store.close().await.unwrap();
}

/// Gives a folder the shape that it had before migration 4.
const FORMER_BLOBS: &str = "\
    CREATE TABLE former (id BLOB PRIMARY KEY, stream TEXT NOT NULL, copy INTEGER NOT NULL, sealed BLOB NOT NULL) \
        STRICT, WITHOUT ROWID; \
    INSERT INTO former SELECT id, stream, copy, sealed FROM blobs; \
    DROP TABLE blobs; \
    ALTER TABLE former RENAME TO blobs; \
    CREATE INDEX blobs_stream ON blobs (stream, copy); \
    DELETE FROM _sqlx_migrations WHERE version = 4";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_a_former_version_is_taken_over_with_all_its_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let fixture = Fixture::new(44);
    let stream = StreamId::Execution(fixture.execution());
    let (kept, kept_ref) = fixture.blob("kept", BlobCopy::Evidence);
    let (copies, both) = fixture.two_copies("redacted", "exact");
    let answer = |answer| Body::IterationAnswered { iteration: 1, answer };
    let bodies = vec![answer(kept_ref), answer(both), Body::WorkingCopiesDestroyed {}];
    let mut append = fixture.append(stream, None, bodies);
    append.blobs = copies;
    append.blobs.push(kept);
    store.append(append).await.unwrap();
    store.destroy_working_copies(stream).await.unwrap();
    let (long, long_ref) = fixture.blob(&"long ".repeat(4 << 20), BlobCopy::Evidence);
    let mut append = fixture.append(stream, None, vec![answer(long_ref)]);
    append.blobs.push(long);
    store.append(append).await.unwrap();
    store.close().await.unwrap();
    let mut db = database(folder.path()).await;
    sqlx::raw_sql(FORMER_BLOBS).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let options = VerifyOptions { folder: folder.path().to_owned(), blobs: true, ..VerifyOptions::default() };
    // A copy of a former version is verified as it is: it is not for a reader to change it.
    let former = verify(&options).await.unwrap();
    assert!(former.is_sound(), "{:?}", former.damage);
    assert_eq!((former.blobs, former.blobs_destroyed), (3, 1));

    let store = open(folder.path()).await;
    let log = std::fs::metadata(folder.path().join("journal.db-wal")).unwrap().len();
    assert!(log < 1 << 20, "the write-ahead log still holds {log} bytes of the former table");
    assert_eq!(&store.blob(stream, &kept_ref).await.unwrap()[..], b"kept");
    assert_eq!(&store.blob(stream, &both).await.unwrap()[..], b"redacted");
    append_one(&store, 45).await;
    store.close().await.unwrap();
    let taken = verify(&options).await.unwrap();
    assert!(taken.is_sound(), "{:?}", taken.damage);
    assert_eq!((taken.blobs, taken.blobs_destroyed), (3, 1));
}
