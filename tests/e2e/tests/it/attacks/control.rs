//! The control connection: knocking at it, and speaking on it.
//!
//! A program that the agent starts finds no door (`sandbox::the_bootstrap_cannot_be_read_stopped_or_spoken_for`): it
//! was taken away before the program was started. So whoever knocks here got hold of more than an agent can: root of
//! the host. The daemon lets nobody but the first process in, and has on record who tried.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aegis_e2e::Node;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde_json::{Value, json};

use super::{Run, bodies, call, puppet, run, until, violations};
use crate::manifests::worker;

/// Where sandboxes of root's daemons have their folders.
const RUN_ROOT: &str = "/run/aegis";

/// Whether this test may do what it does; says so where not.
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP {test}: only root can reach into another sandbox");
    }
    root
}

async fn node() -> Node {
    let node = Node::with(puppet()).start().await;
    node.deploy(&worker("attacker", ""));
    node
}

fn sleeping(seconds: &str) -> Vec<Value> {
    vec![call("cmd.run", &json!({"command": "sleep", "args": [seconds]}))]
}

/// The folders of this node's sandboxes, which carry a mark of its data folder.
fn folders(mark: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(RUN_ROOT).into_iter().flatten().flatten();
    let own = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(mark)));
    own.map(|entry| entry.path()).collect()
}

/// The mark, seen on a sandbox that runs.
fn mark_of(node: &Node) -> String {
    let execution = node.execute("attacker", &json!({"calls": sleeping("1")}).to_string());
    let digits = execution.replace('-', "");
    let name = until(|| {
        let found = folders("aegis-").into_iter().find(|path| path.to_string_lossy().contains(&digits))?;
        Some(found.file_name()?.to_str()?.to_owned())
    });
    node.wait(&execution);
    name.split_once(&digits).expect("the execution's id").0.to_owned()
}

/// How long the race at the door is tried.
const KNOCKING: Duration = Duration::from_secs(90);

/// Connects to the door of each sandbox that comes, as often as it can, until told to stop.
fn knock(mark: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for folder in folders(mark) {
            let door: &Path = &folder.join("inside/control.sock");
            let mut held = Vec::new();
            while let Ok(connection) = UnixStream::connect(door) {
                held.push(connection);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knocks_beside_the_bootstrap_is_turned_away_and_on_record() {
    if !is_root("who_knocks_beside_the_bootstrap_is_turned_away_and_on_record") {
        return;
    }
    let node = node().await;
    let mark = mark_of(&node);
    let stop = AtomicBool::new(false);
    let (mut wrong, mut second) = (0, 0);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| knock(&mark, &stop));
        }
        // Whether somebody waits at the door when the bootstrap is let in is a matter of microseconds.
        let begun = std::time::Instant::now();
        while begun.elapsed() < KNOCKING {
            let run = run(&node, "attacker", &sleeping("0"));
            assert_eq!(run.status["status"], "completed", "the bootstrap is heard all the same");
            wrong += violations(&node, &run, "control", "wrong_peer");
            second += violations(&node, &run, "control", "second_connection");
            if wrong > 0 && second > 0 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(wrong > 0, "knocks of another process are on record");
    assert!(second > 0, "knocks after the bootstrap's are on record");
}

/// The bootstrap's end of its control connection, taken out of it.
fn stolen(pid: i32) -> Option<UnixStream> {
    let bootstrap = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    (3..64).find_map(|number| {
        let descriptor = pidfd_getfd(&bootstrap, number, PidfdGetfdFlags::empty()).ok()?;
        rustix::net::sockopt::socket_type(&descriptor).ok()?;
        Some(UnixStream::from(descriptor))
    })
}

/// Posts `body` and gives the answer's first line, if one comes. The bootstrap does not listen while its command runs.
fn post(connection: &mut UnixStream, path: &str, body: &Value) -> String {
    let body = body.to_string();
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: aegis\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    connection.write_all(request.as_bytes()).expect("it is sent");
    connection.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut answer = [0; 1024];
    let count = connection.read(&mut answer).unwrap_or_default();
    String::from_utf8_lossy(&answer[..count]).lines().next().unwrap_or_default().to_owned()
}

/// Starts a run whose first command takes its time; the run's id, and the connection of its bootstrap.
fn occupied(node: &Node) -> (String, UnixStream) {
    let execution = node.execute("attacker", &json!({"calls": sleeping("3")}).to_string());
    let stream = format!("execution/{execution}");
    let pid = until(|| {
        let intended = !bodies(node, &stream, "action.intended").is_empty();
        let started = bodies(node, &stream, "generation.started");
        intended.then(|| started.first()?["sandbox"]["pid"].as_i64()).flatten()
    });
    // Its command runs by then, and it does not listen.
    std::thread::sleep(Duration::from_millis(500));
    let connection = stolen(i32::try_from(pid).expect("a process id")).expect("the connection");
    (execution, connection)
}

fn ended(node: &Node, execution: String) -> Run {
    let status = node.wait(&execution);
    let results = serde_json::from_str(status["final_output"].as_str().unwrap_or("[]")).unwrap_or_default();
    Run { execution, status, results }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_of_the_protocol_is_refused_and_on_record() {
    if !is_root("what_is_no_message_of_the_protocol_is_refused_and_on_record") {
        return;
    }
    let node = node().await;
    let (execution, mut connection) = occupied(&node);
    let gateway = "/v1/dispatch-gateway";
    let generate = json!({"type": "generate"});
    assert!(post(&mut connection, "/v1/agents", &generate).contains(" 404 "));
    assert!(post(&mut connection, gateway, &json!({"type": "smcp"})).contains(" 400 "));
    assert!(post(&mut connection, gateway, &json!(["dispatch_result"])).contains(" 400 "));
    drop(connection);
    let run = ended(&node, execution);
    assert_eq!(violations(&node, &run, "control", "foreign_message"), 3);
    assert_eq!(run.status["status"], "completed", "the bootstrap goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_not_asked_for_is_not_believed_and_on_record() {
    if !is_root("a_result_that_was_not_asked_for_is_not_believed_and_on_record") {
        return;
    }
    let node = node().await;
    let (execution, mut connection) = occupied(&node);
    let forged = json!({
        "type": "dispatch_result", "execution_id": execution, "dispatch_id": "forged", "exit_code": 0,
        "stdout": "forged", "stderr": "", "duration_ms": 1, "truncated": false,
    });
    post(&mut connection, "/v1/dispatch-gateway", &forged);
    drop(connection);
    let run = ended(&node, execution);
    assert!(run.results.iter().all(|result| !result.contains("forged")), "{:?}", run.results);
    assert_eq!(violations(&node, &run, "control", "wrong_dispatch_id"), 1, "{}", run.status);
}
