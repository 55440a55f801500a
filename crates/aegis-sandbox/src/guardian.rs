//! Watching one sandbox to its end, and proving that nothing of it is left.
//!
//! Each sandbox has a thread that drains its output, reaps bubblewrap, kills and proves dead what is left, and takes
//! away groups and folder. It does so whether or not anybody waits.

use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aegis_core::{ExecutionId, ExitStatus};
use aegis_kernel::port::{Ended, SandboxError, Violation};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionbio;
use tokio::sync::watch;

use crate::cgroup::{Counters, Groups};
use crate::launch::Engine;
use crate::name::SandboxName;
use crate::process::ProcessHandle;
use crate::run_folder::RunFolder;
use crate::tail::Tail;

/// How long the tree may take to be dead after its first process.
const DEATH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the kernel may call an empty group busy.
pub(crate) const GROUP_REMOVAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of bubblewrap's own report.
const STATUS_BYTES_MAX: usize = 4096;
/// Most bytes of bubblewrap's complaint when it could not set a sandbox up.
const COMPLAINT_BYTES_MAX: usize = 2048;
/// Bytes read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Stack of a guardian: the chunk and some frames.
const STACK_BYTES: usize = 256 * 1024;
/// Exit code by which bubblewrap says that its child was killed by SIGKILL: 128 and the signal.
const KILLED_CODE: i32 = 128 + libc::SIGKILL;

/// The outcome, once there is one.
pub(crate) type Outcome = Option<Result<Ended, SandboxError>>;

/// What the guardian and the sandbox's handle share.
#[derive(Debug)]
pub(crate) struct Guarded {
    first: ProcessHandle,
    groups: Groups,
    folder: RunFolder,
    killed: AtomicBool,
    /// Connections to the control socket by somebody else than the first process.
    pub(crate) wrong_peers: AtomicU64,
    /// Connections to the api socket by another user.
    pub(crate) wrong_api_peers: AtomicU64,
    /// Connections beyond the first.
    pub(crate) second_connections: AtomicU64,
}

impl Guarded {
    /// For a sandbox that has just started.
    pub(crate) fn new(first: ProcessHandle, groups: Groups, folder: RunFolder) -> Self {
        Self {
            first,
            groups,
            folder,
            killed: AtomicBool::new(false),
            wrong_peers: AtomicU64::new(0),
            wrong_api_peers: AtomicU64::new(0),
            second_connections: AtomicU64::new(0),
        }
    }

    /// Asks the tree to end. The first process's end ends its whole pid namespace.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.first.kill();
        self.groups.kill();
    }

    /// Removes the control socket's name.
    pub(crate) fn unlink_socket(&self) -> std::io::Result<()> {
        self.folder.unlink_socket()
    }

    fn violations(&self, counters: Counters) -> Vec<Violation> {
        let counted = [
            ("control", "wrong_peer", self.wrong_peers.load(Ordering::SeqCst)),
            ("control", "second_connection", self.second_connections.load(Ordering::SeqCst)),
            ("api", "wrong_peer", self.wrong_api_peers.load(Ordering::SeqCst)),
            ("limits", "memory", counters.oom_kills),
            ("limits", "pids", counters.pids_refused),
        ];
        let seen = counted.into_iter().filter(|(_, _, count)| *count > 0);
        seen.map(|(door, what, count)| Violation { door, what, count }).collect()
    }
}

/// What the guardian alone holds.
pub(crate) struct Watch {
    pub(crate) engine: Arc<Engine>,
    pub(crate) name: SandboxName,
    pub(crate) execution: ExecutionId,
    pub(crate) child: Child,
    pub(crate) outer: ProcessHandle,
    pub(crate) stdout: PipeReader,
    pub(crate) stderr: PipeReader,
    pub(crate) status: Status,
    pub(crate) output_bytes_max: usize,
}

/// Starts the guardian; the outcome appears in the receiver.
pub(crate) fn start(watch: Watch, guarded: Arc<Guarded>) -> watch::Receiver<Outcome> {
    let (publish, outcome) = watch::channel(None);
    let Watch { engine, name, execution, .. } = &watch;
    let (engine, name, execution) = (Arc::clone(engine), name.clone(), *execution);
    let (on_failure, failed) = (Arc::clone(&guarded), publish.clone());
    let spawned = std::thread::Builder::new()
        .name("aegis-guardian".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let result = guard(watch, &guarded);
            engine.released(&name, execution, !matches!(result, Err(SandboxError::Io(_))));
            // Whoever waits may count on nothing of this sandbox being held any more.
            drop(engine);
            publish.send_replace(Some(result));
        });
    if let Err(error) = spawned {
        on_failure.kill();
        failed.send_replace(Some(Err(SandboxError::Io(format!("no thread to watch the sandbox: {error}")))));
    }
    outcome
}

fn guard(watch: Watch, guarded: &Guarded) -> Result<Ended, SandboxError> {
    let Watch { name, mut child, outer, stdout, stderr, mut status, output_bytes_max, .. } = watch;
    let mut stdout = Output::new(stdout, output_bytes_max);
    let mut stderr = Output::new(stderr, output_bytes_max);
    drain_until_exit(&outer, &mut stdout, &mut stderr, &mut status);
    let waited = child.wait().map_err(|error| SandboxError::Io(format!("{name}: {error}")))?;
    guarded.first.kill();
    if !guarded.first.wait(DEATH_TIMEOUT) || !guarded.groups.kill_all(DEATH_TIMEOUT) {
        return Err(SandboxError::Io(format!(
            "{name} is not dead after {} s; a process may wait for a file system that does not answer",
            DEATH_TIMEOUT.as_secs()
        )));
    }
    // Whoever could write is dead: this reads to the end.
    stdout.read_available();
    stderr.read_available();
    while status.read() {}
    let counters = guarded.groups.counters();
    if !guarded.groups.remove(GROUP_REMOVAL_TIMEOUT) {
        tracing::warn!(%name, "a control group could not be removed");
    }
    if let Err(error) = guarded.folder.remove() {
        tracing::warn!(%name, %error, "a run folder could not be removed");
    }
    let killed = guarded.killed.load(Ordering::SeqCst);
    let exit = exit_status(waited, status.exit_code(), killed, counters.oom_kills > 0);
    let (stdout, stdout_cut) = stdout.tail.finish();
    let (stderr, stderr_cut) = stderr.tail.finish();
    let Some(exit) = exit else { return Err(SandboxError::Start(set_up_failed(&stderr))) };
    Ok(Ended {
        status: exit,
        stdout,
        stderr,
        truncated: stdout_cut || stderr_cut,
        violations: guarded.violations(counters),
    })
}

/// How the first process ended; `None` if the program was never started.
///
/// bubblewrap turns a death by signal into an exit code, 128 and the number. That is taken for a signal only where it
/// is certain that one was sent: a program may end with such a code itself.
fn exit_status(
    outer: std::process::ExitStatus,
    reported: Option<i32>,
    killed: bool,
    out_of_memory: bool,
) -> Option<ExitStatus> {
    let signal = outer.signal();
    let was_killed = signal == Some(libc::SIGKILL) || outer.code() == Some(KILLED_CODE);
    match (was_killed, out_of_memory, killed) {
        (true, _, true) => return Some(ExitStatus::Signalled { signal: libc::SIGKILL }),
        (true, true, false) => return Some(ExitStatus::OutOfMemory),
        // Killed by somebody else before the program was started: a failed set-up has another code.
        (true, false, false) if reported.is_none() => {
            return Some(ExitStatus::Signalled { signal: libc::SIGKILL });
        }
        _ => {}
    }
    match signal {
        Some(signal) => Some(ExitStatus::Signalled { signal }),
        None => reported.map(|code| ExitStatus::Exited { code }),
    }
}

fn drain_until_exit(outer: &ProcessHandle, stdout: &mut Output, stderr: &mut Output, status: &mut Status) {
    loop {
        let ready = {
            let mut fds = vec![PollFd::new(outer, PollFlags::IN)];
            let pipes = [stdout.pipe.as_fd(), stderr.pipe.as_fd(), status.as_fd()];
            let open = [stdout.open, stderr.open, status.open];
            for (pipe, _) in pipes.iter().zip(open).filter(|(_, open)| *open) {
                fds.push(PollFd::from_borrowed_fd(*pipe, PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            }
            fds.first().is_some_and(|fd| !fd.revents().is_empty())
        };
        if ready {
            return;
        }
        stdout.read_once();
        stderr.read_once();
        if status.open {
            status.read();
        }
    }
}

/// One of the sandbox's output streams.
struct Output {
    pipe: PipeReader,
    tail: Tail,
    open: bool,
}

impl Output {
    fn new(pipe: PipeReader, bytes_max: usize) -> Self {
        let open = ioctl_fionbio(&pipe, true).is_ok();
        Self { pipe, tail: Tail::new(bytes_max), open }
    }

    /// Reads one chunk if there is one; `false` if there is none now.
    fn read_once(&mut self) -> bool {
        if !self.open {
            return false;
        }
        let mut chunk = [0; CHUNK_BYTES];
        match self.pipe.read(&mut chunk) {
            Ok(0) => {
                self.open = false;
                false
            }
            Ok(count) => {
                self.tail.push(chunk.get(..count).unwrap_or_default());
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
        }
    }

    fn read_available(&mut self) {
        while self.read_once() {}
    }
}

/// bubblewrap's report: JSON documents, `{"child-pid": N, …}` at the start, `{"exit-code": N}` at the end and only if
/// the program was started.
#[derive(Debug)]
pub(crate) struct Status {
    pipe: PipeReader,
    text: Vec<u8>,
    open: bool,
}

impl Status {
    /// Reads from bubblewrap's `--json-status-fd`.
    pub(crate) fn new(pipe: PipeReader) -> Self {
        let open = ioctl_fionbio(&pipe, true).is_ok();
        Self { pipe, text: Vec::new(), open }
    }

    /// Reads what is there; `false` if nothing more will come or nothing is there now.
    pub(crate) fn read(&mut self) -> bool {
        let mut chunk = [0; 512];
        match self.pipe.read(&mut chunk) {
            Ok(count) if count > 0 && self.text.len() < STATUS_BYTES_MAX => {
                self.text.extend_from_slice(chunk.get(..count).unwrap_or_default());
                true
            }
            Ok(_) => {
                self.open = false;
                false
            }
            Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
        }
    }

    /// The first process, seen from the host.
    pub(crate) fn child_pid(&self) -> Option<u32> {
        u32::try_from(self.number("child-pid")?).ok()
    }

    fn exit_code(&self) -> Option<i32> {
        i32::try_from(self.number("exit-code")?).ok()
    }

    fn number(&self, key: &str) -> Option<i64> {
        let documents = serde_json::Deserializer::from_slice(&self.text).into_iter::<serde_json::Value>();
        documents.map_while(Result::ok).find_map(|document| document.get(key)?.as_i64())
    }
}

impl AsFd for Status {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Why bubblewrap ended before it had a child.
pub(crate) fn complaint(stderr: PipeReader) -> String {
    let mut output = Output::new(stderr, COMPLAINT_BYTES_MAX);
    output.read_available();
    set_up_failed(&output.tail.finish().0)
}

fn set_up_failed(stderr: &[u8]) -> String {
    let text =
        String::from_utf8_lossy(stderr.get(..COMPLAINT_BYTES_MAX.min(stderr.len())).unwrap_or_default());
    match text.trim() {
        "" => "the sandbox could not be set up".to_owned(),
        text => format!("the sandbox could not be set up: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> std::process::ExitStatus {
        std::process::ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn an_exit_is_a_signal_only_where_one_was_sent() {
        let killed = Some(ExitStatus::Signalled { signal: 9 });
        let signalled = std::process::ExitStatus::from_raw(9);
        assert_eq!(exit_status(exited(7), Some(7), false, false), Some(ExitStatus::Exited { code: 7 }));
        assert_eq!(exit_status(exited(137), Some(137), false, false), Some(ExitStatus::Exited { code: 137 }));
        assert_eq!(exit_status(exited(137), Some(137), true, false), killed);
        assert_eq!(exit_status(exited(137), Some(137), false, true), Some(ExitStatus::OutOfMemory));
        assert_eq!(exit_status(signalled, None, true, false), killed);
        assert_eq!(exit_status(exited(137), None, false, false), killed);
        assert_eq!(exit_status(signalled, None, false, true), Some(ExitStatus::OutOfMemory));
        assert_eq!(exit_status(exited(0), Some(0), false, true), Some(ExitStatus::Exited { code: 0 }));
        assert_eq!(exit_status(exited(0), Some(0), true, false), Some(ExitStatus::Exited { code: 0 }));
        assert_eq!(exit_status(exited(1), None, false, false), None, "set-up failed");
    }
}
