//! How long a sandbox takes from start to proof of death, against bare bubblewrap in the same run.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, and ends on the first failure"
)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aegis_kernel::port::Sandbox;
use aegis_sandbox::{ProcessSandbox, SandboxSettings};
use aegis_testkit::conformance::sandbox as suite;

const ROUNDS: u32 = 20;
const PROGRAM: [&str; 5] = ["/usr/bin/python3", "-I", "-S", "-c", "pass"];

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let started = Instant::now();
    let settings = SandboxSettings {
        run_folder: Some(folder.path().join("run")),
        ..SandboxSettings::new(folder.path())
    };
    let sandbox = ProcessSandbox::probe(settings).await.unwrap();
    println!("probe                      {:6.1} ms", milliseconds(started.elapsed()));
    if let Some(reason) = &sandbox.capabilities().isolation_missing {
        println!("nothing to measure: {reason}");
        return;
    }
    let mut bare = Vec::new();
    let mut start = Vec::new();
    let mut whole = Vec::new();
    // In turns, so that other load falls on both alike.
    for round in 0..ROUNDS {
        let began = Instant::now();
        bare_bubblewrap();
        bare.push(began.elapsed());
        let spec = suite::program(&sandbox, u128::from(round), &PROGRAM);
        let began = Instant::now();
        let running = sandbox.start(spec).await.unwrap();
        start.push(began.elapsed());
        running.wait().await.unwrap();
        whole.push(began.elapsed());
    }
    let bare = report("bare bwrap … python3", bare);
    report("start returned", start);
    let whole = report("sandbox, start to proof", whole);
    println!("ratio                      {:6.2}", whole / bare);
}

fn bare_bubblewrap() {
    let options = ["--unshare-all", "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"];
    let links = ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"];
    let mut command = Command::new("bwrap");
    command.args(options).args(links).arg("--").args(PROGRAM).stdin(Stdio::null());
    assert!(command.status().unwrap().success());
}

/// Prints the median and the range; returns the median in milliseconds.
fn report(what: &str, mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let at = |place: usize| times.get(place).copied().map_or(f64::NAN, milliseconds);
    let (least, median, most) = (at(0), at(times.len() / 2), at(times.len() - 1));
    println!("{what:<26} {median:6.1} ms   ({least:.1} to {most:.1})");
    median
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
