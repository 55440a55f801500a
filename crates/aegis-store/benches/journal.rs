//! The journal's speed: appends against raw batched inserts with as many syncs, verification, inclusion proofs.
//!
//! `cargo bench -p aegis-store` prints a table; `AEGIS_BENCH_EVENTS` sets how many events verify and proofs run over.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark ends at the first failure and prints"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_core::{StreamId, Timestamp};
use aegis_kernel::port::{Ids, Journal};
use aegis_store::{OpenOptions, Store, VerifyOptions, verify};
use aegis_testkit::conformance::journal::fixture::Fixture;
use aegis_testkit::{SeededIds, TestClock};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

const APPENDERS: u64 = 64;
const APPENDS_EACH: u64 = 150;
const PROOFS: u64 = 2000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("{:<44} {:>14} {:>14} {:>8}", "what", "aegis", "baseline", "ratio");
        appends().await;
        audit().await;
    });
}

fn options(folder: &Path) -> OpenOptions {
    let clock = Arc::new(TestClock::at(Timestamp::from_micros(1_771_840_800_000_000)));
    OpenOptions::new(folder, clock, Arc::new(SeededIds::new(1)))
}

/// A folder on the disk the build lies on: the system's temporary folder may be memory.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

async fn appends() {
    let folder = folder();
    let store = Arc::new(Store::open(options(folder.path())).await.unwrap());
    let begin = Instant::now();
    let mut batches = std::collections::BTreeSet::new();
    let mut committed = store.committed();
    let counter = tokio::spawn(async move {
        while committed.changed().await.is_ok() {
            batches.insert(*committed.borrow_and_update());
        }
        batches.len()
    });
    let tasks: Vec<_> = (0..APPENDERS)
        .map(|appender| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let fixture = Fixture::new(appender);
                let stream = StreamId::Execution(fixture.execution());
                for position in 0..APPENDS_EACH {
                    let append = fixture.append(stream, Some(position), vec![fixture.intended()]);
                    store.append(append).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let took = begin.elapsed();
    Arc::into_inner(store).unwrap().close().await.unwrap();
    // Each batch is one commit; heads signed meanwhile are at most two more a second.
    let batches = counter.await.unwrap() as u64;
    let events = APPENDERS * APPENDS_EACH;
    let raw = raw_inserts(folder.path(), batches).await;
    let per_second = |took: Duration| events as f64 / took.as_secs_f64();
    println!(
        "{:<44} {:>12.0}/s {:>12.0}/s {:>8.2}",
        format!("durable appends, 64 appenders ({batches} syncs)"),
        per_second(took),
        per_second(raw),
        raw.as_secs_f64() / took.as_secs_f64()
    );
}

/// The same rows into the same table, in as many transactions, each synced.
async fn raw_inserts(from: &Path, batches: u64) -> Duration {
    let folder = folder();
    let mut source: SqliteConnection =
        SqliteConnectOptions::new().filename(from.join("journal.db")).connect().await.unwrap();
    let rows = sqlx::query(
        "SELECT seq, stream, stream_seq, tenant, kind, at, trace_id, hash, leaf FROM events ORDER BY seq",
    )
    .fetch_all(&mut source)
    .await
    .unwrap();
    let schema: Vec<String> = sqlx::query_scalar(
        "SELECT sql FROM sqlite_schema WHERE tbl_name = 'events' AND sql IS NOT NULL ORDER BY type DESC",
    )
    .fetch_all(&mut source)
    .await
    .unwrap();
    let mut target = SqliteConnectOptions::new()
        .filename(folder.path().join("raw.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "4000")
        .connect()
        .await
        .unwrap();
    for sql in schema {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut target).await.unwrap();
    }
    let size = rows.len().div_ceil(usize::try_from(batches).unwrap());
    let begin = Instant::now();
    for batch in rows.chunks(size) {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut target).await.unwrap();
        for piece in batch.chunks(64) {
            let mut insert = sqlx::QueryBuilder::new(
                "INSERT INTO events (seq, stream, stream_seq, tenant, kind, at, trace_id, hash, leaf) ",
            );
            insert.push_values(piece, |mut values, row| {
                values
                    .push_bind(row.get::<i64, _>(0))
                    .push_bind(row.get::<String, _>(1))
                    .push_bind(row.get::<i64, _>(2))
                    .push_bind(row.get::<String, _>(3))
                    .push_bind(row.get::<String, _>(4))
                    .push_bind(row.get::<i64, _>(5))
                    .push_bind(row.get::<Vec<u8>, _>(6))
                    .push_bind(row.get::<Vec<u8>, _>(7))
                    .push_bind(row.get::<Vec<u8>, _>(8));
            });
            insert.build().execute(&mut target).await.unwrap();
        }
        sqlx::query("COMMIT").execute(&mut target).await.unwrap();
    }
    let took = begin.elapsed();
    target.close().await.unwrap();
    took
}

async fn audit() {
    let events: u64 =
        std::env::var("AEGIS_BENCH_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let folder = folder();
    let store = Store::open(options(folder.path())).await.unwrap();
    let fixture = Fixture::new(9);
    let begin = Instant::now();
    let mut size = 1;
    while size < events {
        let stream = StreamId::Execution(fixture.execution());
        let bodies = (0..200).map(|_| fixture.intended()).collect();
        size = store.append(fixture.append(stream, Some(0), bodies)).await.unwrap().seq + 1;
    }
    let loaded = size as f64 / begin.elapsed().as_secs_f64();
    println!("{:<44} {loaded:>12.0}/s", "events in appends of 200, one appender");
    store.checkpoint().await.unwrap();

    let ids = SeededIds::new(4);
    let key = *store.public_key();
    let mut times = Vec::new();
    for _ in 0..PROOFS {
        let mut random = [0; 8];
        ids.fill(&mut random);
        let begin = Instant::now();
        let proof = store.prove(u64::from_le_bytes(random) % size).await.unwrap();
        times.push(begin.elapsed());
        proof.verify(&key).unwrap();
    }
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).unwrap().as_secs_f64() * 1e3;
    println!(
        "{:<44} {:>11.3} ms {:>11.3} ms",
        format!("inclusion proof over {size}: p50, p99"),
        at(50),
        at(99)
    );
    store.close().await.unwrap();

    let begin = Instant::now();
    let options = VerifyOptions { folder: folder.path().to_owned(), ..VerifyOptions::default() };
    let report = verify(&options).await.unwrap();
    assert!(report.is_sound());
    let per_second = report.events as f64 / begin.elapsed().as_secs_f64();
    println!(
        "{:<44} {per_second:>12.0}/s {:>12.0}/s {:>8.2}",
        format!("verify {} events (goal beside)", report.events),
        200_000.0,
        per_second / 200_000.0
    );
}
