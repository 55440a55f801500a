//! The node's speed and memory, each beside a baseline of the same run.
//!
//! `just bench` builds the release binary and runs this; the raw times are kept in `target/bench/node.json`.
//! `AEGIS_BENCH_ROUNDS` sets how many starts and runs are measured, `AEGIS_BENCH_SECONDS` how long runs are sustained.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark ends at the first failure and prints"
)]

mod governed;
mod measure;
mod programs;

use std::path::Path;
use std::time::{Duration, Instant};

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Reply, Rule, Script};

use measure::{Table, median, milliseconds, setting};
use programs::{Program, run_once};

/// Idle time before memory is read.
const IDLE: Duration = Duration::from_secs(10);
/// Clients that keep runs under way while the rate is measured.
const CLIENTS: usize = 4;
/// Durable writes whose time is measured.
const SYNCS: usize = 50;

#[tokio::main]
async fn main() {
    let mut table = Table::new();
    starts(&mut table);
    memory(&mut table);
    let script = Script::rules(vec![Rule::always(Reply::text("done"))]);
    let node = Node::with(script).start().await;
    let node = &node;
    // The scripted model answers on this runtime; what is measured blocks, so it stays off the runtime's threads.
    tokio::task::block_in_place(|| {
        syncs(&mut table, node.home());
        runs(&mut table, node, "bare", "");
        runs(&mut table, node, "workspace", WORKSPACE);
        sustained(&mut table, node);
    });
    governed::calls(&mut table).await;
    table.keep("node");
}

/// Manifest lines that give an agent a workspace.
const WORKSPACE: &str = "  security: {filesystem: {read: [/workspace], write: [/workspace]}}
  volumes:
    - {name: workspace, mount_path: /workspace, size_limit: 16Mi, ttl_hours: 1}
";

fn manifest(name: &str, more: &str) -> String {
    format!(
        "apiVersion: 100monkeys.ai/v1\nkind: Agent\nmetadata: {{name: {name}, version: \"1.0.0\"}}\nspec:\n  \
         runtime: {{language: python, version: \"3.8\", isolation: process}}\n  \
         task: {{instruction: Say done.}}\n{more}"
    )
}

/// From exec to the first 200 of the health route, on an empty data folder.
fn starts(table: &mut Table) {
    let programs = [Program::aegis(), Program::nats_with_store(), Program::nats()];
    let mut times: [Vec<Duration>; 3] = Default::default();
    // In turns, so that other load falls on all alike.
    for _ in 0..setting("AEGIS_BENCH_ROUNDS", 20) {
        for (program, times) in programs.iter().zip(&mut times) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let Some(started) = program.start(folder.path()) else { continue };
            times.push(started.took());
            started.stop();
        }
    }
    let [aegis, store, plain] = &times;
    table.compare("daemon start, against nats-server with a store", aegis, store, 2.0);
    table.compare("daemon start, against nats-server without a store", aegis, plain, f64::NAN);
}

/// Resident memory of idle daemons.
fn memory(table: &mut Table) {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let aegis = Program::aegis().start(folders[0].path()).expect("the daemon starts");
    let nats = Program::nats_with_store().start(folders[1].path());
    std::thread::sleep(IDLE);
    let baseline = nats.as_ref().map(programs::Started::resident_mebibytes);
    table.figure(
        "idle memory after 10 s, beside nats-server's",
        "MiB",
        aegis.resident_mebibytes(),
        baseline,
        60.0,
    );
    aegis.stop();
    if let Some(nats) = nats {
        nats.stop();
    }
}

/// What one durable write costs on this disk.
fn syncs(table: &mut Table, folder: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(folder.join("sync-probe")).expect("a file");
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("a durable write");
        times.push(begun.elapsed());
    }
    table.note(format!(
        "a 4 KiB durable write takes {:.2} ms (p50) on this disk",
        milliseconds(median(&times))
    ));
}

/// From the request that starts a run until its event stream says `completed`, against a bare sandboxed Python.
fn runs(table: &mut Table, node: &Node, name: &str, more: &str) {
    node.deploy(&manifest(name, more));
    let token = node.token();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..=setting("AEGIS_BENCH_ROUNDS", 20) * 2 {
        let begun = Instant::now();
        run_once(node.port(), &token, name);
        let took = begun.elapsed();
        let begun = Instant::now();
        programs::bare_sandbox();
        // The first of each is not like the others: caches are cold.
        if round > 0 {
            ours.push(took);
            bare.push(begun.elapsed());
        }
    }
    let what = format!("run of an agent ({name}), against bwrap … python3 -c pass");
    table.compare(&what, &ours, &bare, 3.0);
}

/// Runs a second with several clients, against bare sandboxes a second with as many.
fn sustained(table: &mut Table, node: &Node) {
    let token = node.token();
    let span = Duration::from_secs(setting("AEGIS_BENCH_SECONDS", 10));
    let bare = rate(span, programs::bare_sandbox);
    let ours = rate(span, || run_once(node.port(), &token, "bare"));
    let what =
        format!("runs/s sustained over {} s, {CLIENTS} clients, against bare sandboxes", span.as_secs());
    table.rate(&what, ours, bare, 15.0);
}

fn rate(span: Duration, work: impl Fn() + Sync) -> f64 {
    let begun = Instant::now();
    let done: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = 0;
                    while begun.elapsed() < span {
                        work();
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client ends")).sum()
    });
    done as f64 / begun.elapsed().as_secs_f64()
}
