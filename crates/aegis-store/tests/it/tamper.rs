//! Whatever is done to the stored log is named by verify.

use std::path::Path;

use aegis_core::{Body, StreamId};
use aegis_kernel::port::{BlobCopy, Journal};
use aegis_store::{Damage, HeadSource, VerifyOptions, verify};
use aegis_testkit::conformance::journal::fixture::Fixture;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof};
use proptest::test_runner::TestRunner;
use sqlx::{Connection, Row};

use crate::folder::{append_one, damage, database, fill, open};

const EVENTS: u64 = 60;

/// A closed log of `EVENTS` events.
async fn make(folder: &Path) {
    let store = open(folder).await;
    fill(&store, 30).await;
    let mut seed = 500;
    while append_one(&store, seed).await < EVENTS - 1 {
        seed += 1;
    }
    store.close().await.unwrap();
}

#[derive(Debug, Clone)]
enum Harm {
    FlipLeaf { seq: u64, at: usize, bit: u8 },
    FlipHash { seq: u64, at: usize, bit: u8 },
    Replace { seq: u64 },
    Delete { seq: u64 },
    Swap { one: u64, two: u64 },
    CutTail { left: u64 },
    Column { seq: u64, column: usize },
}

fn harms() -> impl Strategy<Value = Harm> {
    let seq = || 0..EVENTS;
    prop_oneof![
        (seq(), any::<usize>(), 0..8u8).prop_map(|(seq, at, bit)| Harm::FlipLeaf { seq, at, bit }),
        (seq(), any::<usize>(), 0..8u8).prop_map(|(seq, at, bit)| Harm::FlipHash { seq, at, bit }),
        seq().prop_map(|seq| Harm::Replace { seq }),
        seq().prop_map(|seq| Harm::Delete { seq }),
        (seq(), 1..EVENTS).prop_map(|(one, by)| Harm::Swap { one, two: (one + by) % EVENTS }),
        (1..EVENTS).prop_map(|left| Harm::CutTail { left }),
        (seq(), 0..6usize).prop_map(|(seq, column)| Harm::Column { seq, column }),
    ]
}

async fn run(connection: &mut sqlx::SqliteConnection, sql: String) {
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

async fn flip(connection: &mut sqlx::SqliteConnection, column: &str, seq: u64, at: usize, bit: u8) {
    let sql = sqlx::AssertSqlSafe(format!("SELECT {column} FROM events WHERE seq = {seq}"));
    let mut bytes: Vec<u8> = sqlx::query(sql).fetch_one(&mut *connection).await.unwrap().get(0);
    let at = at % bytes.len();
    bytes[at] ^= 1 << bit;
    let sql = sqlx::AssertSqlSafe(format!("UPDATE events SET {column} = ?1 WHERE seq = {seq}"));
    sqlx::query(sql).bind(bytes).execute(connection).await.unwrap();
}

async fn harm(folder: &Path, harm: &Harm) {
    let mut db = database(folder).await;
    match *harm {
        Harm::FlipLeaf { seq, at, bit } => flip(&mut db, "leaf", seq, at, bit).await,
        Harm::FlipHash { seq, at, bit } => flip(&mut db, "hash", seq, at, bit).await,
        Harm::Replace { seq } => {
            // Bytes and hash are changed together.
            let sql = sqlx::AssertSqlSafe(format!("SELECT leaf FROM events WHERE seq = {seq}"));
            let leaf: Vec<u8> = sqlx::query(sql).fetch_one(&mut db).await.unwrap().get(0);
            let leaf = String::from_utf8(leaf).unwrap().replacen("\"daemon\"", "\"demon!\"", 1).into_bytes();
            let leaf = if leaf.windows(6).any(|part| part == b"demon!") {
                leaf
            } else {
                [leaf, b" ".to_vec()].concat()
            };
            let hash = aegis_security::merkle::leaf_hash(&leaf);
            let sql =
                sqlx::AssertSqlSafe(format!("UPDATE events SET leaf = ?1, hash = ?2 WHERE seq = {seq}"));
            sqlx::query(sql).bind(leaf).bind(hash.as_bytes().to_vec()).execute(&mut db).await.unwrap();
        }
        Harm::Delete { seq } => run(&mut db, format!("DELETE FROM events WHERE seq = {seq}")).await,
        Harm::Swap { one, two } => {
            for (from, to) in [(one, 1000), (two, one), (1000, two)] {
                run(&mut db, format!("UPDATE events SET seq = {to} WHERE seq = {from}")).await;
            }
        }
        Harm::CutTail { left } => run(&mut db, format!("DELETE FROM events WHERE seq >= {left}")).await,
        Harm::Column { seq, column } => {
            let set = [
                "stream = 'agent/x'",
                "stream_seq = stream_seq + 1000",
                "tenant = 'other'",
                "kind = 'agent.paused'",
                "at = at + 1",
                "trace_id = zeroblob(16)",
            ][column];
            run(&mut db, format!("UPDATE events SET {set} WHERE seq = {seq}")).await;
        }
    }
    db.close().await.unwrap();
}

fn is_named(harm: &Harm, damage: &[Damage]) -> bool {
    let has = |wanted: Damage| damage.contains(&wanted);
    match *harm {
        Harm::FlipLeaf { seq, .. } | Harm::FlipHash { seq, .. } => has(Damage::EventChanged { seq }),
        Harm::Replace { seq } => has(Damage::EventReplaced { seq }),
        Harm::Delete { seq } => has(Damage::EventsMissing { first: seq, last: seq }),
        Harm::Swap { one, two } => {
            has(Damage::EventMoved { seq: one, holds: two })
                && has(Damage::EventMoved { seq: two, holds: one })
        }
        Harm::CutTail { left } => {
            has(Damage::EventsMissing { first: left, last: EVENTS - 1 })
                && has(Damage::TailCut { journal: left, signed: EVENTS, place: HeadSource::File })
        }
        Harm::Column { seq, column } => {
            let name = ["stream", "stream_seq", "tenant", "kind", "at", "trace_id"][column];
            has(Damage::Column { seq, column: name.to_owned() })
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "ballast" {
            let copied = std::fs::copy(entry.path(), target);
            // SQLite removes its own two files once the last reader is gone, a moment after the store is closed.
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(copied.is_ok() || name.ends_with("-wal") || name.ends_with("-shm"), "{name}: {copied:?}");
        }
    }
}

#[test]
fn every_harm_is_named() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let whole = tempfile::tempdir().unwrap();
    runtime.block_on(make(whole.path()));
    assert_eq!(runtime.block_on(damage(whole.path())), []);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 120, failure_persistence: None, ..Default::default() });
    runner
        .run(&harms(), |case| {
            let folder = tempfile::tempdir().unwrap();
            copy(whole.path(), folder.path());
            let found = runtime.block_on(async {
                harm(folder.path(), &case).await;
                damage(folder.path()).await
            });
            proptest::prop_assert!(is_named(&case, &found), "{case:?} is named {found:?}");
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_cut_with_the_file_is_named_only_by_a_copy_kept_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    fill(&store, 31).await;
    store.close().await.unwrap();
    let earlier = tempfile::tempdir().unwrap();
    copy(folder.path(), earlier.path());
    let store = open(folder.path()).await;
    fill(&store, 32).await;
    let newest = store.checkpoint().await.unwrap();
    let size = store.head().await.unwrap().size;
    store.close().await.unwrap();
    // The folder as it was before is a perfect cut: database, heads and file agree.
    assert_eq!(damage(earlier.path()).await, []);
    let options = VerifyOptions {
        folder: earlier.path().to_owned(),
        checkpoint_copy: newest,
        ..VerifyOptions::default()
    };
    let found = verify(&options).await.unwrap().damage;
    assert!(
        matches!(found[..], [Damage::TailCut { signed, place: HeadSource::Copy, .. }] if signed == size),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_or_missing_blob_is_named_and_a_destroyed_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let fixture = Fixture::new(33);
    let stream = StreamId::Execution(fixture.execution());
    let (changed, changed_ref) = fixture.blob("changed", BlobCopy::Evidence);
    let (missing, missing_ref) = fixture.blob("missing", BlobCopy::Evidence);
    let (copies, both) = fixture.two_copies("redacted", "exact");
    let answer = |answer| Body::IterationAnswered { iteration: 1, answer };
    let bodies = vec![answer(changed_ref), answer(missing_ref), answer(both)];
    let mut append = fixture.append(stream, None, bodies);
    append.blobs = copies;
    append.blobs.extend([changed, missing]);
    let last = store.append(append).await.unwrap().seq;
    store.destroy_working_copies(stream).await.unwrap();
    let options = VerifyOptions { folder: folder.path().to_owned(), blobs: true, ..VerifyOptions::default() };
    // Destroyed without a word: that is what whoever hides something would do.
    store.close().await.unwrap();
    let exact = both.working.unwrap().id;
    let unsaid = verify(&options).await.unwrap().damage;
    assert_eq!(unsaid, [Damage::BlobDestroyedUnsaid { id: exact, seq: last }]);
    let store = open(folder.path()).await;
    store.append(fixture.append(stream, None, vec![Body::WorkingCopiesDestroyed {}])).await.unwrap();
    store.close().await.unwrap();
    let report = verify(&options).await.unwrap();
    assert!(report.is_sound(), "{:?}", report.damage);
    assert_eq!((report.blobs, report.blobs_destroyed), (3, 1));

    let mut db = database(folder.path()).await;
    let id = |reference: aegis_core::BlobRef| reference.id.uuid().as_bytes().to_vec();
    let sealed: Vec<u8> = sqlx::query_scalar("SELECT sealed FROM blobs WHERE id = ?1")
        .bind(id(changed_ref))
        .fetch_one(&mut db)
        .await
        .unwrap();
    let flipped: Vec<u8> = sealed.iter().map(|byte| byte ^ 1).collect();
    sqlx::query("UPDATE blobs SET sealed = ?2 WHERE id = ?1")
        .bind(id(changed_ref))
        .bind(flipped)
        .execute(&mut db)
        .await
        .unwrap();
    sqlx::query("DELETE FROM blobs WHERE id = ?1").bind(id(missing_ref)).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let found = verify(&options).await.unwrap().damage;
    assert_eq!(
        found,
        [
            Damage::BlobChanged { id: changed_ref.id, seq: last - 2 },
            Damage::BlobMissing { id: missing_ref.id, seq: last - 1 },
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_of_a_run_is_looked_for_where_its_agent_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let fixture = Fixture::new(34);
    let (agent, name) = (fixture.agent(), "kept".parse().unwrap());
    let (text, document) = fixture.blob("the document", BlobCopy::Evidence);
    let mut deployed = fixture.deployed(&name, "1.0.0");
    let mut created = fixture.created(agent, &name);
    let (input_text, input) = fixture.blob("the input", BlobCopy::Evidence);
    let Body::AgentDeployed { document: one, .. } = &mut deployed else { panic!("no deployment") };
    *one = document;
    let Body::ExecutionCreated { document: other, input: of, .. } = &mut created else { panic!("no run") };
    (*other, *of) = (document, input);
    let mut append = fixture.append(StreamId::Agent(agent), Some(0), vec![deployed]);
    append.blobs.push(text);
    let first = store.append(append).await.unwrap().seq;
    let mut append = fixture.append(StreamId::Execution(fixture.execution()), Some(0), vec![created]);
    append.blobs.push(input_text);
    store.append(append).await.unwrap();
    store.close().await.unwrap();
    let options = VerifyOptions { folder: folder.path().to_owned(), blobs: true, ..VerifyOptions::default() };
    assert_eq!(verify(&options).await.unwrap().blobs, 2);

    // The agent's own event cannot be read: the run's still says where the text is.
    let mut db = database(folder.path()).await;
    let unread = sqlx::query("UPDATE events SET leaf = x'00' WHERE seq = ?1").bind(first.cast_signed());
    unread.execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let report = verify(&options).await.unwrap();
    assert_eq!(report.blobs, 2);
    let about_blobs =
        |damage: &Damage| matches!(damage, Damage::BlobMissing { .. } | Damage::BlobChanged { .. });
    assert!(!report.damage.is_empty() && !report.damage.iter().any(about_blobs), "{:?}", report.damage);
}
