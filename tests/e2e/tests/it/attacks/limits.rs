//! Programs that take more than they were given.

use aegis_e2e::Node;

use super::{ATTEMPT, attempts, bodies, puppet, python, refusals, run, violations, volume_of};
use crate::manifests::worker;

/// Whether limits hold for whole process trees here; says so where not.
fn limited(node: &Node, test: &str) -> bool {
    let status = node.run(&["status", "--output", "json"]).ok().json();
    let warned = status["warnings"].as_array().into_iter().flatten();
    let missing = warned.filter_map(|warning| warning.as_str()).find(|text| text.contains("control group"));
    if let Some(reason) = missing {
        skip(test, reason);
    }
    missing.is_none()
}

fn skip(test: &str, reason: &str) {
    eprintln!("SKIP {test}: {reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_is_contained_gone_and_on_record() {
    let node = Node::with(puppet()).start().await;
    if !limited(&node, "a_fork_bomb_is_contained_gone_and_on_record") {
        return;
    }
    node.deploy(&worker("bomber", "").replace("  security:", "  security:\n    resources: {pids: 40}"));
    let program = "
import os, time
def bomb():
    while True:
        try:
            if os.fork() == 0: os.setsid()
        except OSError:
            time.sleep(0.001)
for _ in range(4):
    try:
        if os.fork() == 0:
            null = os.open('/dev/null', os.O_RDWR)
            os.dup2(null, 1); os.dup2(null, 2)
            bomb()
    except OSError:
        pass
time.sleep(0.5)
print(len([p for p in os.listdir('/proc') if p.isdigit()]) <= 40)
";
    let run = run(&node, "bomber", &python(program));
    assert_eq!(run.lines(), ["True"]);
    assert!(violations(&node, &run, "limits", "pids") > 0, "the refused forks are on record");
    let started = bodies(&node, &format!("execution/{}", run.execution), "generation.started");
    let uid = started[0]["sandbox"]["uid"].as_u64().unwrap();
    let mark = format!("Uid:\t{uid}\t");
    let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        std::fs::read_to_string(entry.path().join("status")).is_ok_and(|text| text.contains(&mark))
    });
    assert_eq!(left.count(), 0, "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_bomb_is_killed_and_on_record() {
    let node = Node::with(puppet()).start().await;
    if !limited(&node, "a_memory_bomb_is_killed_and_on_record") {
        return;
    }
    let limit = "  execution: {max_iterations: 1}\n";
    node.deploy(
        &worker("glutton", limit).replace("  security:", "  security:\n    resources: {memory: 64Mi}"),
    );
    let program = "
held = []
while True:
    held.append(bytearray(8 << 20))
";
    let run = run(&node, "glutton", &python(program));
    // Whichever process the kernel chose, command or bootstrap, the run is over and the limit is on record.
    assert!(matches!(run.status["status"].as_str(), Some("completed" | "failed")), "{}", run.status);
    if let Some(told) = run.results.last() {
        assert!(!told.contains("exit_code: 0"), "{told}");
    }
    assert!(violations(&node, &run, "limits", "memory") > 0, "{}", run.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_folders_are_bounded() {
    let node = Node::with(puppet()).start().await;
    node.deploy(&worker("filler", "").replace("  security:", "  security:\n    resources: {disk: 1Mi}"));
    let program = "
def fill(path):
    with open(path, 'wb') as file:
        for _ in range(64): file.write(bytes(1 << 16))
for folder in ['/tmp', '/dev/shm']:
    attempt(folder, lambda: fill(folder + '/big'))
for folder in ['/', '/usr', '/etc', '/dev', '/run', '/run/aegis', '/proc']:
    attempt(folder, lambda: open(folder + '/new', 'w'))
";
    let lines = attempts(&node, "filler", program);
    assert_eq!(lines[..2], ["/tmp ENOSPC", "/dev/shm ENOSPC"]);
    assert!(lines[2..].iter().all(|line| !line.contains("OPEN")), "{lines:#?}");
    assert_eq!(lines.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_past_the_quota_is_refused_and_on_record() {
    let node = Node::with(puppet()).start().await;
    node.deploy(&worker("writer", "").replace("size_limit: 16Mi", "size_limit: 1Mi"));
    let program = format!(
        "{ATTEMPT}
def fill():
    with open('/workspace/big', 'wb') as file:
        for _ in range(4096): file.write(bytes(4096)); file.flush()
attempt('write', fill)
attempt('truncate', lambda: os.truncate('/workspace/big', 1 << 40))
def allocate():
    with open('/workspace/reserved', 'wb') as file: os.posix_fallocate(file.fileno(), 0, 1 << 30)
attempt('allocate', allocate)
def many():
    for number in range(5000): open('/workspace/empty-%d' % number, 'w').close()
attempt('many empty files', many)
print('used', sum(os.stat('/workspace/' + name).st_size for name in os.listdir('/workspace')) <= 1 << 20)
"
    );
    let run = run(&node, "writer", &python(&program));
    let lines = run.lines();
    assert_eq!(
        lines,
        ["write ENOSPC", "truncate ENOSPC", "allocate ENOSPC", "many empty files ENOSPC", "used True"]
    );
    let recorded = bodies(&node, &volume_of(&node, &run), "volume.recorded");
    let refused: u64 = recorded.iter().filter_map(|body| body["refused"].as_u64()).sum();
    assert!(refused >= 4, "{recorded:?}");
    assert!(refusals(&node, &run, "size_limit") >= 4, "{recorded:?}");
}
