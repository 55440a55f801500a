//! Loss of power: a disk that forgets all that was not synced, and everything acknowledged as durable is there.
//!
//! The process that appends runs over `power/disk.c`, which keeps a copy of each file as it was when it was last synced.
//! Those copies alone are what the next process finds.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_core::{Body, Durability, StreamId};
use aegis_kernel::port::{EventQuery, Journal};
use aegis_store::{OpenOptions, Store};
use aegis_testkit::conformance::journal::fixture::Fixture;
use sqlx::Connection;

use crate::folder::{check, database, open, options};

const DISK: &str = "AEGIS_TEST_DISK";
const SYNCED: &str = "AEGIS_TEST_SYNCED";
/// Set where the process comes to rest before the power fails.
const RESTS: &str = "AEGIS_TEST_RESTS";
/// Set where every event is to survive, whatever its own durability.
const ALWAYS: &str = "AEGIS_TEST_ALWAYS";
const APPENDERS: u64 = 6;
/// Durable appends before the power fails, however slow the disk is.
const DURABLE_MIN: usize = 10;
const ROUNDS: u64 = 6;
/// Longer than it takes until events are synced and their head is signed.
const SETTLED: Duration = Duration::from_millis(900);

/// Not a test of its own: what runs until its power fails. Prints each event once it is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_appends_until_the_power_fails() {
    let Some(folder) = std::env::var_os(DISK) else { return };
    let always = std::env::var_os(ALWAYS).is_some();
    let settings = OpenOptions { always_power: always, ..options(Path::new(&folder), 7) };
    let store = Arc::new(Store::open(settings).await.unwrap());
    let mut appenders = tokio::task::JoinSet::new();
    let rests = std::env::var_os(RESTS).is_some();
    let begun = Instant::now();
    for appender in 0..APPENDERS {
        let store = Arc::clone(&store);
        appenders.spawn(async move {
            let fixture = Fixture::new(u64::from(std::process::id()) * 100 + appender);
            let stream = StreamId::Execution(fixture.execution());
            while !rests || begun.elapsed() < Duration::from_millis(200) {
                let mut append = fixture.append(stream, None, vec![Body::ExecutionStarted {}; 2]);
                let power = appender % 2 == 0 && !always;
                append.durability = if power { Durability::Power } else { Durability::Process };
                let seq = store.append(append).await.unwrap().seq;
                tell(if power || always { "durable" } else { "written" }, seq, stream);
            }
        });
    }
    while let Some(ended) = appenders.join_next().await {
        ended.unwrap();
    }
    tokio::time::sleep(SETTLED).await;
    let head = store.head().await.unwrap().size;
    tell("durable", head - 1, StreamId::Fleet);
    let fixture = Fixture::new(u64::from(std::process::id()) * 100 + APPENDERS);
    let stream = StreamId::Execution(fixture.execution());
    let mut append = fixture.append(stream, None, vec![Body::ExecutionStarted {}]);
    append.durability = Durability::Process;
    tell("last", store.append(append).await.unwrap().seq, stream);
    std::future::pending::<()>().await;
}

fn tell(how: &str, seq: u64, stream: StreamId) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{how} {seq} {stream}").unwrap();
    out.flush().unwrap();
}

/// The library that keeps what is synced; `None`, and says so, where nothing compiles it.
fn disk_library(folder: &Path, test: &str) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/power/disk.c");
    let library = folder.join("disk.so");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").output();
    match compiled {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(library)
        }
        Err(error) => {
            eprintln!("SKIP {test}: `cc` does not run: {error}");
            None
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else if !entry.file_name().to_string_lossy().contains(".copy-") {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn stored(folder: &Path) -> i64 {
    let mut connection = database(folder).await;
    let count = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    count
}

/// Runs the child over `disk` until its power fails; gives what it said was durable: place and stream.
fn until_the_power_fails(
    library: &Path,
    (disk, synced): (&Path, &Path),
    round: u64,
    always: bool,
) -> Vec<(u64, String)> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["power::child_that_appends_until_the_power_fails", "--exact", "--nocapture"])
        .envs([(DISK, disk), (SYNCED, synced), ("LD_PRELOAD", library)])
        .stdout(Stdio::piped());
    if always {
        command.env(ALWAYS, "1");
    }
    let rests = round % 2 == 1;
    if rests {
        command.env(RESTS, "1");
    }
    let mut child = command.spawn().unwrap();
    let mut durable = Vec::new();
    let mut begun = None;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let [how, seq, stream] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        let begun = *begun.get_or_insert_with(Instant::now);
        match how {
            "durable" => durable.push((seq.parse().unwrap(), stream.to_owned())),
            "last" => child.kill().unwrap(),
            _ => {}
        }
        let long_enough = begun.elapsed() > Duration::from_millis(150 + 90 * round);
        if !rests && long_enough && durable.len() > DURABLE_MIN {
            // What is still in the pipe was acknowledged too: the loop reads on to its end.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    durable
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_as_durable_survives_loss_of_power() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) =
        disk_library(folder.path(), "everything_acknowledged_as_durable_survives_loss_of_power")
    else {
        return;
    };
    let place = |name: &str, round: u64| folder.path().join(format!("{name}-{round}"));
    std::fs::create_dir(place("disk", 0)).unwrap();
    std::fs::create_dir(place("synced", 0)).unwrap();
    let mut forgotten = 0;
    for round in 0..ROUNDS {
        let (disk, synced) = (place("disk", round), place("synced", round));
        let durable = until_the_power_fails(&library, (&disk, &synced), round, false);
        assert!(durable.len() > DURABLE_MIN, "round {round}: only {} durable appends", durable.len());
        // The next process begins with what is left, and all of that is on its disk.
        copy_folder(&synced, &place("disk", round + 1));
        copy_folder(&synced, &place("synced", round + 1));
        forgotten += stored(&disk).await - stored(&synced).await;

        all_there(&synced, durable, round).await;
    }
    assert!(
        forgotten > 0,
        "no round lost anything: the disk forgets nothing, so this test would see nothing"
    );
}

/// What was acknowledged as durable is on the disk that is left.
async fn all_there(synced: &Path, durable: Vec<(u64, String)>, round: u64) {
    let report = check(synced).await;
    assert!(report.is_sound(), "round {round}: {:?}", report.damage);
    let store = open(synced).await;
    for (seq, stream) in durable {
        let query = EventQuery { after: seq.checked_sub(1), limit: 1, ..EventQuery::default() };
        let found = store.events(&query).await.unwrap();
        assert!(found.first().is_some_and(|found| found.seq == seq), "round {round}: event {seq} is lost");
        let stored = found.first().unwrap().stream.to_string();
        // Of the newest event of a process at rest only the place is known.
        assert!(stream == "fleet" || stored == stream, "round {round}: event {seq}");
    }
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_is_to_survive_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let test = "where_all_is_to_survive_nothing_acknowledged_is_lost";
    let Some(library) = disk_library(folder.path(), test) else { return };
    for round in [0, 2] {
        let place = |name: &str| folder.path().join(format!("{name}-{round}"));
        let (disk, synced) = (place("disk"), place("synced"));
        std::fs::create_dir(&disk).unwrap();
        std::fs::create_dir(&synced).unwrap();
        let durable = until_the_power_fails(&library, (&disk, &synced), round, true);
        assert!(durable.len() > DURABLE_MIN, "round {round}: only {} appends", durable.len());
        all_there(&synced, durable, round).await;
    }
}
