//! The conformance suite of the `sandbox` port.
//!
//! Runs shell commands inside; the implementation must offer `/bin/sh`. Every function panics on a breach, as a test
//! does.
#![expect(clippy::expect_used, reason = "a suite of tests: a failed expectation is its result")]

use std::time::{Duration, Instant};

use aegis_core::{ExecutionId, ExitStatus};
use aegis_kernel::port::{Ended, HostFile, Role, Sandbox, SandboxError, SandboxLimits, SandboxSpec};
use uuid::Uuid;

/// Longest life of any sandbox of the suite; a longer one is a hang.
const LIFE_MAX: Duration = Duration::from_secs(30);
/// Output kept per stream.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// A specification that runs `script` by the shell as a validator, with modest limits.
pub fn shell(sandbox: &dyn Sandbox, number: u128, script: &str) -> SandboxSpec {
    program(sandbox, number, &["/bin/sh", "-c", script])
}

/// A specification that runs `argv` as a validator, with modest limits.
pub fn program(sandbox: &dyn Sandbox, number: u128, argv: &[&str]) -> SandboxSpec {
    let execution = ExecutionId::from_uuid(Uuid::from_u128(number));
    SandboxSpec {
        execution,
        generation: 1,
        ordinal: 0,
        role: Role::Validator,
        argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        cwd: "/workspace".to_owned(),
        files: Vec::new(),
        mounts: Vec::new(),
        doors: aegis_kernel::port::Doors::NONE,
        uid: sandbox.uid_for(execution),
        limits: SandboxLimits {
            cpu_millicores: 2000,
            memory_bytes: 256 << 20,
            disk_bytes: 16 << 20,
            pids: 64,
            explicit: false,
        },
        output_bytes_max: OUTPUT_BYTES_MAX,
    }
}

/// Starts and waits.
pub async fn run(sandbox: &dyn Sandbox, spec: SandboxSpec) -> Result<Ended, SandboxError> {
    let running = sandbox.start(spec).await?;
    tokio::time::timeout(LIFE_MAX, running.wait()).await.expect("the sandbox ends in time")
}

/// Every promise of the port that needs no limit on a whole process tree.
pub async fn suite(sandbox: &dyn Sandbox) {
    says_how_it_ended(sandbox).await;
    gives_exactly_the_environment(sandbox).await;
    gives_temporary_folders_and_a_closed_root(sandbox).await;
    gives_the_files(sandbox).await;
    keeps_the_tail_of_the_output(sandbox).await;
    takes_children_along(sandbox).await;
    kills_when_told_or_dropped(sandbox).await;
    refuses_what_cannot_run(sandbox).await;
    refuses_the_same_sandbox_twice(sandbox).await;
    control_fails_when_nobody_connects(sandbox).await;
    proves_death_as_often_as_asked(sandbox).await;
}

/// Exit code, standard output and standard error arrive; standard input is empty.
pub async fn says_how_it_ended(sandbox: &dyn Sandbox) {
    let script = "printf out; printf err >&2; cat; exit 7";
    let ended = run(sandbox, shell(sandbox, 101, script)).await.expect("it starts");
    assert_eq!(ended.status, ExitStatus::Exited { code: 7 });
    assert_eq!((ended.stdout.as_slice(), ended.stderr.as_slice()), (&b"out"[..], &b"err"[..]));
    assert!(!ended.truncated && ended.violations.is_empty(), "{ended:?}");
}

/// Nothing of the daemon's environment goes in.
pub async fn gives_exactly_the_environment(sandbox: &dyn Sandbox) {
    let mut spec = program(sandbox, 102, &["/usr/bin/env"]);
    spec.env.push(("AEGIS_TEST".to_owned(), "a b\nc".to_owned()));
    let ended = run(sandbox, spec).await.expect("it starts");
    let text = String::from_utf8(ended.stdout).expect("text");
    let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(text.contains("AEGIS_TEST=a b\nc\n"), "{text}");
    assert!(names.iter().all(|name| ["PATH", "AEGIS_TEST", "PWD"].contains(name)), "{names:?}");
}

/// /workspace, /tmp and /dev/shm can be written up to their size, nothing else can.
pub async fn gives_temporary_folders_and_a_closed_root(sandbox: &dyn Sandbox) {
    let script = "pwd; for d in /workspace /tmp /dev/shm; do echo x > $d/f && cat $d/f; done; \
                  for d in / /etc /usr /dev /run /run/aegis /var /home; do echo x 2>/dev/null > $d/f && echo open $d; \
                  done; head -c 64000000 /dev/zero > /tmp/big 2>/dev/null || echo full";
    let ended = run(sandbox, shell(sandbox, 103, script)).await.expect("it starts");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "/workspace\nx\nx\nx\nfull\n");
}

/// Files appear below /run/aegis and can only be read.
pub async fn gives_the_files(sandbox: &dyn Sandbox) {
    let mut spec = shell(sandbox, 104, "cat /run/aegis/one; rm /run/aegis/one 2>/dev/null || echo kept");
    spec.files = vec![HostFile { name: "one".to_owned(), bytes: b"content\n".to_vec() }];
    let ended = run(sandbox, spec).await.expect("it starts");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "content\nkept\n");
}

/// Of long output the last bytes stay.
pub async fn keeps_the_tail_of_the_output(sandbox: &dyn Sandbox) {
    let mut spec = shell(sandbox, 105, "head -c 3000000 /dev/zero; printf end");
    spec.output_bytes_max = 1000;
    let ended = run(sandbox, spec).await.expect("it starts");
    assert!(ended.truncated);
    assert_eq!(ended.stdout.len(), 1000);
    assert!(ended.stdout.ends_with(b"\0end"));
}

/// What the first process leaves behind neither outlives it nor holds it up.
pub async fn takes_children_along(sandbox: &dyn Sandbox) {
    let started = Instant::now();
    let script = "(setsid sleep 300 &) ; setsid sh -c 'sleep 300 & sleep 300' & echo started";
    let ended = run(sandbox, shell(sandbox, 106, script)).await.expect("it starts");
    assert_eq!(ended.status, ExitStatus::Exited { code: 0 });
    assert_eq!(ended.stdout, b"started\n");
    assert!(started.elapsed() < LIFE_MAX / 2);
}

/// `kill` ends it at once; so does dropping the handle, after which the same sandbox can be started again.
pub async fn kills_when_told_or_dropped(sandbox: &dyn Sandbox) {
    let running = sandbox.start(shell(sandbox, 107, "trap '' TERM INT; sleep 300")).await.expect("it starts");
    running.kill();
    let ended = tokio::time::timeout(LIFE_MAX, running.wait()).await.expect("in time").expect("proved dead");
    assert_eq!(ended.status, ExitStatus::Signalled { signal: 9 });

    let spec = shell(sandbox, 108, "sleep 300");
    let running = sandbox.start(spec.clone()).await.expect("it starts");
    let (execution, facts) = (spec.execution, running.facts().clone());
    drop(running);
    sandbox.prove_dead(execution, spec.generation, &facts).await.expect("proved dead");
}

/// A program that is not there is an error of the start, not an exit.
pub async fn refuses_what_cannot_run(sandbox: &dyn Sandbox) {
    let error = run(sandbox, program(sandbox, 109, &["/nowhere/program"])).await.expect_err("not there");
    assert!(matches!(&error, SandboxError::Start(text) if text.contains("/nowhere/program")), "{error}");
    let mut spec = shell(sandbox, 110, "true");
    spec.cwd = "/nowhere".to_owned();
    assert!(matches!(run(sandbox, spec).await, Err(SandboxError::Start(_))));
}

/// One sandbox, one generation, one ordinal.
pub async fn refuses_the_same_sandbox_twice(sandbox: &dyn Sandbox) {
    let spec = shell(sandbox, 111, "sleep 300");
    let first = sandbox.start(spec.clone()).await.expect("it starts");
    assert!(sandbox.start(spec).await.is_err());
    first.kill();
    first.wait().await.expect("the first was not disturbed");
}

/// A bootstrap that ends without connecting ends the wait for its connection; a validator has no door.
pub async fn control_fails_when_nobody_connects(sandbox: &dyn Sandbox) {
    let mut spec = shell(sandbox, 112, "echo broken >&2; exit 3");
    spec.role = Role::Bootstrap;
    let running = sandbox.start(spec).await.expect("it starts");
    let connection = tokio::time::timeout(LIFE_MAX, running.control()).await.expect("in time");
    assert!(matches!(connection, Err(SandboxError::Start(text)) if text.contains("broken")));
    let running = sandbox.start(shell(sandbox, 113, "ls -A /run/aegis; sleep 0.1")).await.expect("it starts");
    assert!(running.control().await.is_err());
    assert_eq!(running.wait().await.expect("proved dead").stdout, b"");
}

/// Proving a generation dead kills what runs, and asking again changes nothing.
pub async fn proves_death_as_often_as_asked(sandbox: &dyn Sandbox) {
    let spec = shell(sandbox, 114, "sleep 300");
    let running = sandbox.start(spec.clone()).await.expect("it starts");
    for _ in 0..3 {
        sandbox.prove_dead(spec.execution, spec.generation, running.facts()).await.expect("proved dead");
    }
    let ended = tokio::time::timeout(LIFE_MAX, running.wait()).await.expect("in time").expect("proved dead");
    assert_ne!(ended.status, ExitStatus::Exited { code: 0 });
    assert_eq!(sandbox.reap_leftovers().await.expect("nothing in the way"), 0);
}

/// Memory and processes are limited for the tree; for nodes that have no `limits_missing`.
pub async fn limits_suite(sandbox: &dyn Sandbox) {
    let mut spec = program(
        sandbox,
        120,
        &["/usr/bin/python3", "-I", "-S", "-c", "x = []\nwhile True: x.append(bytearray(1 << 20))"],
    );
    spec.limits = SandboxLimits { memory_bytes: 64 << 20, explicit: true, ..spec.limits };
    let ended = run(sandbox, spec).await.expect("it starts");
    assert_eq!(ended.status, ExitStatus::OutOfMemory);
    assert!(ended.violations.iter().any(|seen| (seen.door, seen.what) == ("limits", "memory")), "{ended:?}");

    let mut spec = shell(sandbox, 121, "f() { f | f & }; f; sleep 0.5; echo alive");
    spec.limits = SandboxLimits { pids: 16, explicit: true, ..spec.limits };
    let ended = run(sandbox, spec).await.expect("it starts");
    assert!(ended.violations.iter().any(|seen| (seen.door, seen.what) == ("limits", "pids")), "{ended:?}");
}
