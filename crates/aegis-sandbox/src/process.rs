//! Processes of the host, told apart from later ones with the same number.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process of the host. No later process with the same number has the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Process id.
    pub(crate) pid: u32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub(crate) start_ticks: u64,
}

impl Identity {
    /// The identity of a process that is there now, or `None`.
    pub(crate) fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse_stat(&stat).map(|(_, start_ticks)| Self { pid, start_ticks })
    }

    /// A handle to this very process, or `None` if it has ended. A zombie has ended.
    ///
    /// # Errors
    /// When it cannot be told: no descriptors left, or no `/proc`.
    pub(crate) fn open(self) -> io::Result<Option<ProcessHandle>> {
        let handle = match ProcessHandle::open(self.pid) {
            Ok(handle) => handle,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Read after opening: the handle cannot move to another process any more.
        let stat = match fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Ok(stat) => stat,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (state, start_ticks) =
            parse_stat(&stat).ok_or_else(|| io::Error::other("`/proc/PID/stat` has an unknown form"))?;
        Ok((start_ticks == self.start_ticks && !matches!(state, 'Z' | 'X')).then_some(handle))
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// State (field 3) and start time (field 22) of `/proc/PID/stat`. The command name before them may hold anything.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    const BETWEEN_STATE_AND_START: usize = 18;
    let start_ticks = fields.nth(BETWEEN_STATE_AND_START)?.parse().ok()?;
    Some((state, start_ticks))
}

/// A handle that stays with one process (pidfd).
#[derive(Debug)]
pub(crate) struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// Opens whatever process has this number now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = raw.ok_or_else(|| io::Error::other(format!("`{pid}` is not a process id")))?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Sends SIGKILL; a process that has ended is no error.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }

    /// Waits until the process has ended; `false` if it has not in time. The first process of a pid namespace ends
    /// after all others in it.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(0) if left.is_zero() => return false,
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A duration as the kernel takes it.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: i64::from(duration.subsec_nanos()) }
}

/// Kills this very process, if it still runs, and waits for its end; `false` if it has not ended in time.
///
/// # Errors
/// When it cannot be told whether it runs.
pub(crate) fn kill_and_wait(identity: Identity, timeout: Duration) -> io::Result<bool> {
    Ok(identity.open()?.is_none_or(|handle| {
        handle.kill();
        handle.wait(timeout)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_command_name_with_parentheses_does_not_confuse_the_fields() {
        let stat = "7 (a) S (b) R) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_stat(stat), Some(('S', 4242)));
    }

    #[test]
    fn a_process_is_killed_only_under_its_own_start_time() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::read(child.id()).unwrap();
        let other = Identity { start_ticks: identity.start_ticks + 1, ..identity };
        assert!(kill_and_wait(other, Duration::from_secs(1)).unwrap());
        assert_eq!(child.try_wait().unwrap(), None, "another process with that number is left alone");
        assert!(kill_and_wait(identity, Duration::from_secs(5)).unwrap());
        child.wait().unwrap();
        assert!(identity.open().unwrap().is_none());
    }
}
