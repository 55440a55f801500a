//! Disks that are full: what is refused, what is still written, and that it goes on afterwards.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aegis_core::{Durability, StreamId};
use aegis_kernel::port::{Appended, EventQuery, Journal, JournalError};
use aegis_store::Store;
use aegis_testkit::conformance::journal::fixture::Fixture;

use crate::folder::{check, open, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_new_actions_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path(), 50);
    options.disk_floor_bytes = u64::MAX;
    let store = Store::open(options).await.unwrap();
    let fixture = Fixture::new(50);
    let stream = StreamId::Execution(fixture.execution());
    let intent = fixture.append(stream, None, vec![fixture.intended()]);
    assert_eq!(store.append(intent).await, Err(JournalError::DiskFull(u64::MAX)));
    let outcome = fixture.append(stream, Some(0), vec![fixture.answered(1)]);
    assert_eq!(store.append(outcome).await.unwrap().stream_seq, 1);
    assert!(!folder.path().join("ballast").exists(), "the ballast is released");
    store.close().await.unwrap();
}

/// The disk of the test below, for the process that has it mounted.
const DISK: &str = "AEGIS_TEST_SMALL_DISK";
const DISK_MIB: u64 = 64;
/// Below this much free disk the store refuses new actions.
const FLOOR: u64 = 16 << 20;
/// Longer than a look at the free disk counts.
const LOOKED_AGAIN: Duration = Duration::from_millis(600);
/// Longer than it takes until events are synced and their head is signed.
const SETTLED: Duration = Duration::from_millis(900);

/// Runs the story below in a mount namespace of its own, on a disk that is truly small.
#[test]
fn a_small_disk_fills_and_is_freed() {
    const NAME: &str = "a_small_disk_fills_and_is_freed";
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={DISK_MIB}m,mode=0700 none \"$0\"");
    let namespace = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(folder.path());
        unshare
    };
    match namespace(&mount).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            return eprintln!("SKIP {NAME}: no file system can be mounted here: {}", said.trim());
        }
        Err(error) => return eprintln!("SKIP {NAME}: `unshare` does not run: {error}"),
    }
    let story = namespace(&format!("{mount} && exec \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["full_disk::on_a_small_disk", "--exact", "--nocapture"])
        .env(DISK, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&story.stdout) + String::from_utf8_lossy(&story.stderr);
    assert!(story.status.success() && said.contains("1 passed"), "{said}");
}

/// Takes all but `left` bytes of the disk.
fn take_all_but(disk: &Path, left: u64) {
    let file = std::fs::File::create(disk.join("filler")).unwrap();
    let free = rustix::fs::statvfs(disk).unwrap();
    let bytes = (free.f_bavail * free.f_frsize).saturating_sub(left);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
}

struct Actor {
    store: Store,
    fixture: Fixture,
    stream: StreamId,
    position: u64,
}

impl Actor {
    async fn intend(&mut self) -> Result<Appended, JournalError> {
        let intent = self.fixture.append(self.stream, Some(self.position), vec![self.fixture.intended()]);
        let appended = self.store.append(intent).await?;
        self.position = appended.stream_seq;
        Ok(appended)
    }

    async fn end(&mut self) -> Result<Appended, JournalError> {
        let mut outcome =
            self.fixture.append(self.stream, Some(self.position), vec![self.fixture.answered(1)]);
        outcome.durability = Durability::Process;
        let appended = self.store.append(outcome).await?;
        self.position = appended.stream_seq;
        Ok(appended)
    }
}

/// Not a test of its own: what runs on the small disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_small_disk() {
    let Some(disk) = std::env::var_os(DISK) else { return };
    let disk = Path::new(&disk);
    let home = disk.join("home");
    let failed = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&failed);
    let mut how = options(&home, 51);
    how.disk_floor_bytes = FLOOR;
    how.on_fatal = Arc::new(move |_| failing.store(true, Ordering::Release));
    let fixture = Fixture::new(51);
    let stream = StreamId::Execution(fixture.execution());
    let mut actor = Actor { store: Store::open(how).await.unwrap(), fixture, stream, position: 0 };
    let ballast = home.join("ballast");
    for episode in 1..=2 {
        tokio::time::sleep(LOOKED_AGAIN).await;
        actor.intend().await.unwrap();
        assert!(ballast.exists(), "episode {episode}: disk is set aside");
        // All of it is taken between two looks at it: the outcome is committed, or refused as a whole and written when
        // it is tried again; its sync and its signed head find room too.
        take_all_but(disk, 0);
        let ended = match actor.end().await {
            Err(JournalError::DiskFull(_)) => actor.end().await,
            other => other,
        };
        ended.unwrap();
        tokio::time::sleep(SETTLED).await;
        assert!(!ballast.exists(), "episode {episode}: the ballast is given back");
        // From now on it is known: what begins something is refused by name, what ends something is not.
        let before = actor.store.head().await.unwrap().size;
        take_all_but(disk, 2 << 20);
        tokio::time::sleep(LOOKED_AGAIN).await;
        assert_eq!(actor.intend().await, Err(JournalError::DiskFull(FLOOR)));
        for _ in 0..20 {
            actor.end().await.unwrap();
        }
        tokio::time::sleep(SETTLED).await;
        assert_eq!(actor.store.head().await.unwrap().size, before + 20, "all of it is synced");
        assert!(!failed.load(Ordering::Acquire), "episode {episode}: the journal ended");
        std::fs::remove_file(disk.join("filler")).unwrap();
    }
    tokio::time::sleep(LOOKED_AGAIN).await;
    actor.intend().await.unwrap();
    let position = actor.position;
    actor.store.close().await.unwrap();
    assert!(check(&home).await.is_sound());
    let store = open(&home).await;
    let query = EventQuery { stream: Some(stream), limit: 1000, ..EventQuery::default() };
    assert_eq!(
        store.events(&query).await.unwrap().len() as u64,
        position,
        "each acknowledged event is there"
    );
    store.close().await.unwrap();
}
