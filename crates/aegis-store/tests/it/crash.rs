//! `kill -9` in the middle of appends: everything that was acknowledged is there.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_core::{Body, Durability, StreamId};
use aegis_kernel::port::{EventQuery, Journal};
use aegis_testkit::conformance::journal::fixture::Fixture;

use crate::folder::{check, open};

const FOLDER: &str = "AEGIS_TEST_CRASH_FOLDER";

/// Not a test of its own: what the killed process runs. Appends until it is killed and prints each acknowledged event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_appends_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = Arc::new(open(std::path::Path::new(&folder)).await);
    let mut appenders = tokio::task::JoinSet::new();
    for appender in 0..8u64 {
        let store = Arc::clone(&store);
        appenders.spawn(async move {
            let fixture = Fixture::new(u64::from(std::process::id()) * 100 + appender);
            let stream = StreamId::Execution(fixture.execution());
            loop {
                let mut append = fixture.append(stream, None, vec![Body::ExecutionStarted {}; 3]);
                if appender % 2 == 0 {
                    append.durability = Durability::Process;
                }
                let appended = store.append(append).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "\nappended {} {stream} {}", appended.seq, appended.stream_seq).unwrap();
                out.flush().unwrap();
            }
        });
    }
    // An appender ends only by a failure, which ends this process too.
    let ended: Result<(), _> = appenders.join_next().await.unwrap();
    ended.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..4u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child_that_appends_until_killed", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut until = None;
        for line in lines {
            let line = line.unwrap();
            let until =
                *until.get_or_insert_with(|| Instant::now() + Duration::from_millis(300 + 170 * round));
            if let Some(appended) = line.strip_prefix("appended ") {
                acknowledged.push(appended.to_owned());
            }
            if Instant::now() > until {
                // Lines that are still in the pipe were acknowledged too: the loop reads on to their end.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() > 10, "only {} appends before the kill", acknowledged.len());

        let report = check(folder.path()).await;
        assert!(report.is_sound(), "{:?}", report.damage);
        let store = open(folder.path()).await;
        for line in &acknowledged {
            let [seq, stream, stream_seq] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
            let seq: u64 = seq.parse().unwrap();
            let query = EventQuery { after: seq.checked_sub(1), limit: 1, ..EventQuery::default() };
            let found = store.events(&query).await.unwrap();
            assert_eq!((found[0].seq, found[0].stream.to_string()), (seq, stream.to_owned()));
            assert_eq!(found[0].stream_seq.to_string(), stream_seq);
        }
        store.close().await.unwrap();
        assert!(check(folder.path()).await.is_sound());
    }
}
