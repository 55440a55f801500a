//! Many runs at once: they finish, the daemon stays small, and stopping it in their midst loses nothing.
//!
//! `AEGIS_LOAD_RUNS` sets how many run at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aegis_e2e::Node;
use aegis_testkit::scripted_model::{Gate, Reply, Script};
use serde_json::json;

use crate::crash::{number, tell};
use crate::manifests::worker;
use crate::observe::can_run;

/// Runs at once unless the environment says otherwise.
const RUNS: u64 = 60;
/// The most memory a daemon may ever have had.
const MEMORY_KIB_MAX: u64 = 256 << 10;
/// Runs in whose midst the daemon is stopped.
const RUNS_WHEN_STOPPED: usize = 50;
/// How often runs are looked at.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Time of all runs together, on two cores.
const TOGETHER: Duration = Duration::from_secs(600);

/// The first answer comes late: all runs have to be under way.
const PATIENT: &str = "  execution:
    max_iterations: 1
    iteration_timeout: 600s
";

/// Writes a file and looks at it with a command. No run has its first answer before `together` runs have asked.
fn script(together: usize) -> Script {
    let (asked, gate) = (AtomicUsize::new(0), Gate::new());
    Script::new(move |seen| match seen.tool_results() {
        0 => {
            if asked.fetch_add(1, Ordering::SeqCst) + 1 >= together {
                gate.open();
            }
            let call = Reply::call("fs.write", &json!({"path": "/workspace/a", "content": "a"}));
            Reply::Behind(gate.clone(), Box::new(call))
        }
        1 => Reply::call("cmd.run", &json!({"command": "cat", "args": ["/workspace/a"]})),
        _ => Reply::text("done"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_at_once_finish_within_bounded_memory() {
    let count = usize::try_from(number("AEGIS_LOAD_RUNS").unwrap_or(RUNS)).expect("a number of runs");
    let node = Node::with(script(count)).start().await;
    if !can_run(&node, &worker("worker", PATIENT), "many_runs_at_once_finish_within_bounded_memory") {
        return;
    }
    node.deploy(&worker("worker", PATIENT));
    let begun = Instant::now();
    let runs: Vec<String> = (0..count).map(|_| node.execute("worker", "{}")).collect();
    let started = begun.elapsed();
    assert!(node.model.wait_for_requests(count, TOGETHER).await, "not all runs are under way at once");
    let together = begun.elapsed();
    wait_for_all(&node, &runs).await;
    let peak = peak_memory_kib(node.pid());
    tell(&format!(
        "load: {count} runs: accepted after {:.1} s, all under way after {:.1} s, over after {:.1} s; \
         the daemon's peak memory {} MiB",
        started.as_secs_f64(),
        together.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        peak >> 10
    ));
    assert!(peak < MEMORY_KIB_MAX, "the daemon had {peak} KiB");
    assert!(node.run(&["audit", "verify"]).ok().stdout.contains("whole"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_daemon_loses_nothing() {
    let mut node = Node::with(script(RUNS_WHEN_STOPPED)).start().await;
    if !can_run(&node, &worker("worker", PATIENT), "a_stopped_daemon_loses_nothing") {
        return;
    }
    node.deploy(&worker("worker", PATIENT));
    let runs: Vec<String> = (0..RUNS_WHEN_STOPPED).map(|_| node.execute("worker", "{}")).collect();
    // All have asked once, and the first of them twice: some think, some write, some run commands.
    assert!(node.model.wait_for_requests(RUNS_WHEN_STOPPED + 5, TOGETHER).await, "the runs do not begin");
    let begun = Instant::now();
    assert_eq!(node.stop_daemon(), Some(0), "{}", node.daemon_log());
    tell(&format!("load: the daemon stopped after {:.1} s", begun.elapsed().as_secs_f64()));
    assert!(node.run(&["audit", "verify"]).ok().stdout.contains("whole"));
    node.start_daemon();
    let unfinished = runs.iter().filter(|run| node.status(run)["status"] != "completed").count();
    assert!(unfinished > 0, "the stop came when all runs were over");
    wait_for_all(&node, &runs).await;
    assert!(node.run(&["audit", "verify"]).ok().stdout.contains("whole"));
}

/// Waits until all runs are completed.
async fn wait_for_all(node: &Node, runs: &[String]) {
    let begun = Instant::now();
    for run in runs {
        loop {
            let status = node.status(run);
            match status["status"].as_str() {
                Some("completed") => break,
                Some("running" | "pending") if begun.elapsed() < TOGETHER => {}
                _ => panic!("{status}"),
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }
}

/// The most memory the process ever had resident, in KiB (`VmHWM` of proc_pid_status(5)).
fn peak_memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
