//! The only unsafe code of the crate: what a child does between fork and exec, and one setting of the allocator.
#![expect(
    unsafe_code,
    reason = "`pre_exec`, the system calls a forked child may make and `mallopt` have no safe form in std"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::process::{Resource, Rlimit};

/// Buffers from this size on, in bytes, are mapped on their own and given back when they are freed.
const LARGE_BUFFER: libc::c_int = 1 << 20;

/// Keeps large buffers out of the heap of this process.
///
/// By itself glibc moves its limit up to the largest buffer ever freed. A front of a volume has a 16 MiB buffer per
/// thread, of which it uses some kilobytes: mapped on their own the rest is never resident; in the heap it is cleared,
/// and so resident, for every run.
pub fn keep_large_buffers_apart() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt changes a number of the allocator under its lock; any value is allowed.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BUFFER);
    }
}

/// A program to start, with what its process does before it becomes that program.
pub(crate) struct Launch {
    /// Program, arguments, environment, standard streams and host user.
    pub(crate) command: Command,
    /// Descriptors that stay open in the program, under the same numbers. All others are closed at exec.
    pub(crate) keep: Vec<OwnedFd>,
    /// Resource limits, soft and hard. A hard limit already lower stays.
    pub(crate) limits: Vec<(Resource, u64)>,
}

/// Starts the program from the calling thread: it is killed when that thread ends.
pub(crate) fn spawn(launch: Launch) -> io::Result<Child> {
    let Launch { mut command, keep, limits } = launch;
    let keep_numbers: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: getpid has no preconditions.
    let parent = unsafe { libc::getpid() };
    let prepare = move || {
        // SAFETY: the numbers are of descriptors that `keep` holds open until `spawn` returns, and the child is
        // single-threaded: nobody else can close or replace them.
        unsafe { begin(parent, &keep_numbers)? };
        for &(resource, value) in &limits {
            lower(resource, value)?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only; it does not allocate, lock, or touch anything another thread of
    // the parent might have held at the fork.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn();
    drop(keep);
    child
}

/// Ties the child to its parent and decides which descriptors survive exec.
///
/// # Safety
/// To be called in a forked child before exec, with descriptors that are open.
unsafe fn begin(parent: libc::pid_t, keep: &[RawFd]) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory. Set here and not only by bubblewrap, since
    // the parent may die before bubblewrap gets to it.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
    // SAFETY: getppid has no preconditions.
    if unsafe { libc::getppid() } != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    const FIRST_AFTER_STANDARD_STREAMS: libc::c_uint = 3;
    // SAFETY: CLOSE_RANGE_CLOEXEC only sets a flag on descriptors; none is closed before exec.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST_AFTER_STANDARD_STREAMS,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    for &number in keep {
        // SAFETY: F_SETFD sets a flag on an open descriptor (caller's promise).
        check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) })?;
    }
    Ok(())
}

fn check(result: impl Into<i64>) -> io::Result<()> {
    if result.into() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lowers a limit; one that is lower already stays.
fn lower(resource: Resource, value: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let wanted = hard.map_or(value, |hard| hard.min(value));
    rustix::process::setrlimit(resource, Rlimit { current: Some(wanted), maximum: Some(wanted) })?;
    Ok(())
}
