//! A daemon that is killed takes its sandboxes along, and the next one finds what it left.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aegis_core::SandboxFacts;
use aegis_kernel::port::Sandbox;
use aegis_sandbox::ProcessSandbox;
use aegis_testkit::conformance::sandbox as suite;

use crate::fixture::{Fixture, settings};

/// Names the folder for the process that plays the daemon.
const FOLDER: &str = "AEGIS_TEST_CRASH_FOLDER";
const NUMBER: u128 = 401;
const DEATH_MAX: Duration = Duration::from_secs(10);

/// Not a test of its own: the daemon of the test below, in a process that can be killed. It does nothing unless told.
#[tokio::test(flavor = "multi_thread")]
async fn plays_a_daemon_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let sandbox = ProcessSandbox::probe(settings(Path::new(&folder))).await.unwrap();
    let script = "for i in 1 2 3; do (setsid sh -c 'setsid sleep 300' &); done; sleep 300";
    let running = sandbox.start(suite::shell(&sandbox, NUMBER, script)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    println!("facts {}", serde_json::to_string(running.facts()).unwrap());
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_survives_a_daemon_that_is_killed() {
    let Some(fixture) = Fixture::new("nothing_survives_a_daemon_that_is_killed").await else { return };
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::plays_a_daemon_that_is_killed", "--nocapture"])
        .env(FOLDER, fixture.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines().map_while(Result::ok);
    let facts = lines.find_map(|line| Some(line.split_once("facts ")?.1.to_owned())).unwrap();
    let facts: SandboxFacts = serde_json::from_str(&facts).unwrap();
    let namespace = namespace_of(facts.pid).unwrap();
    assert!(members(&namespace) >= 7, "three hidden pairs and the first");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let deadline = Instant::now() + DEATH_MAX;
    while members(&namespace) > 0 {
        assert!(Instant::now() < deadline, "somebody outlived the daemon");
        std::thread::sleep(Duration::from_millis(10));
    }
    let execution = aegis_core::ExecutionId::from_uuid(uuid::Uuid::from_u128(NUMBER));
    assert!(std::fs::read_dir(fixture.run_folder()).unwrap().count() > 0, "the folder tells what ran");
    fixture.sandbox.prove_dead(execution, 1, &facts).await.unwrap();
    assert_eq!(std::fs::read_dir(fixture.run_folder()).unwrap().count(), 0);
    assert_eq!(fixture.sandbox.reap_leftovers().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_reaped_once_and_nothing_else_is() {
    let Some(fixture) = Fixture::new("leftovers_are_reaped_once_and_nothing_else_is").await else { return };
    let running = fixture.sandbox.start(suite::shell(&fixture.sandbox, 402, "sleep 300")).await.unwrap();
    let name = std::fs::read_dir(fixture.run_folder()).unwrap().next().unwrap().unwrap().file_name();
    let own = name.into_string().unwrap();
    let former = own.replace("-1-0", "-7-0");
    let foreign = former.replace("aegis-", "aegis-0");
    for name in [&former, &foreign] {
        std::fs::create_dir_all(fixture.run_folder().join(name).join("inside")).unwrap();
    }
    assert_eq!(fixture.sandbox.reap_leftovers().await.unwrap(), 1);
    assert_eq!(fixture.sandbox.reap_leftovers().await.unwrap(), 0);
    assert!(!fixture.run_folder().join(former).exists());
    assert!(fixture.run_folder().join(foreign).exists(), "another data folder's");
    assert!(fixture.run_folder().join(own).exists(), "still running");
    running.kill();
    running.wait().await.unwrap();
}

fn namespace_of(pid: u32) -> Option<String> {
    let target = std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// Live processes of a pid namespace.
fn members(namespace: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| namespace_of(*pid).as_deref() == Some(namespace)).count()
}
