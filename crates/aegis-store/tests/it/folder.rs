//! Folders to open stores in.

use std::path::Path;
use std::sync::Arc;

use aegis_core::{Body, StreamId, Timestamp};
use aegis_kernel::port::Journal;
use aegis_store::{Damage, OpenOptions, Store, VerifyOptions, VerifyReport, verify};
use aegis_testkit::conformance::journal::fixture::Fixture;
use aegis_testkit::{SeededIds, TestClock};
use sqlx::{ConnectOptions, SqliteConnection};

/// Options for a store in `folder`.
pub(crate) fn options(folder: &Path, seed: u64) -> OpenOptions {
    let clock = Arc::new(TestClock::at(Timestamp::from_micros(1_771_840_800_000_000)));
    OpenOptions { disk_floor_bytes: 0, ..OpenOptions::new(folder, clock, Arc::new(SeededIds::new(seed))) }
}

/// A store in `folder`.
pub(crate) async fn open(folder: &Path) -> Store {
    Store::open(options(folder, 7)).await.unwrap()
}

/// Some runs, an agent and a volume: every projection has records.
pub(crate) async fn fill(store: &Store, seed: u64) {
    let fixture = Fixture::new(seed);
    let (agent, name) = (fixture.agent(), "filler".parse().unwrap());
    let deployed = fixture.deployed(&name, "1.0.0");
    store.append(fixture.append(StreamId::Agent(agent), Some(0), vec![deployed])).await.unwrap();
    for _ in 0..3 {
        let id = fixture.execution();
        let run = fixture.run(agent, &name);
        store.append(fixture.append(StreamId::Execution(id), Some(0), run)).await.unwrap();
        let volume = StreamId::Volume(fixture.volume());
        let made = vec![fixture.volume_created(Some(id), None)];
        store.append(fixture.append(volume, Some(0), made)).await.unwrap();
    }
}

/// Appends one small event.
pub(crate) async fn append_one(store: &Store, seed: u64) -> u64 {
    let fixture = Fixture::new(seed);
    let stream = StreamId::Execution(fixture.execution());
    store.append(fixture.append(stream, None, vec![Body::ExecutionStarted {}])).await.unwrap().seq
}

/// Verifies a folder, projections included.
pub(crate) async fn check(folder: &Path) -> VerifyReport {
    verify(&VerifyOptions { folder: folder.to_owned(), deep: true, ..VerifyOptions::default() })
        .await
        .unwrap()
}

/// What is wrong with a folder.
pub(crate) async fn damage(folder: &Path) -> Vec<Damage> {
    check(folder).await.damage
}

/// The journal database, to do harm to.
pub(crate) async fn database(folder: &Path) -> SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("journal.db")).connect().await.unwrap()
}
