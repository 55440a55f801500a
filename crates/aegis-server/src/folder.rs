//! The data folder: one daemon at a time, known by its process id.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aegis_core::{Diagnosis, ErrorCode};
use rustix::fs::{FlockOperation, flock};

/// The file that holds the daemon's process id, then its address, and is locked by it.
pub const PID_FILE: &str = "daemon.pid";

/// How long the folder may take to be free. A process that a killed daemon was just starting holds the daemon's lock
/// until it becomes another program or ends; who asks whether a daemon runs shares the lock for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The data folder, held by this process until dropped.
pub(crate) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Makes the folder if needed (mode 0700) and takes it for this process.
    pub(crate) fn take(path: &Path) -> Result<Self, Diagnosis> {
        let failed = |what: &str, error: std::io::Error| {
            Diagnosis::new(ErrorCode::InvalidInput, format!("`{}` {what}: {error}", path.display()))
                .hint("choose another data folder with `AEGIS_HOME`")
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| failed("cannot be made", error))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock =
            options.open(path.join(PID_FILE)).map_err(|error| failed("cannot be written", error))?;
        let begun = Instant::now();
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if begun.elapsed() < LOCK_PATIENCE {
                std::thread::sleep(LOOK_AGAIN_AFTER);
                continue;
            }
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            let pid = pid.lines().next().unwrap_or_default();
            let what = format!("a daemon (process {pid}) works on `{}` already", path.display());
            return Err(Diagnosis::new(ErrorCode::Conflict, what)
                .hint("stop it with `aegis down`, or give this one another folder with `AEGIS_HOME`"));
        }
        let write = |lock: &mut File| {
            lock.set_len(0)?;
            writeln!(lock, "{}", std::process::id())
        };
        write(&mut lock).map_err(|error| failed("cannot be written", error))?;
        Ok(Self { path: path.to_owned(), lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Says where the daemon of this folder listens, for [`running_address`].
    pub(crate) fn announce(&self, address: SocketAddr) -> Result<(), Diagnosis> {
        writeln!(&self.lock, "{address}")
            .map_err(|error| Diagnosis::internal(format!("`{PID_FILE}` cannot be written: {error}")))
    }
}

/// The process id of the daemon that holds the data folder now, if one does.
pub fn running_pid(home: &Path) -> Option<u32> {
    running(home)?.lines().next()?.trim().parse().ok()
}

/// Where the daemon that holds the data folder now listens, once it does.
pub fn running_address(home: &Path) -> Option<SocketAddr> {
    running(home)?.lines().nth(1)?.trim().parse().ok()
}

/// What the daemon wrote that holds the data folder now.
fn running(home: &Path) -> Option<String> {
    let mut file = OpenOptions::new().read(true).open(home.join(PID_FILE)).ok()?;
    // Who can share the lock proves that nobody holds it.
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_daemon() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(running_pid(home.path()), None);
        let first = Folder::take(home.path()).unwrap();
        assert_eq!(running_pid(home.path()), Some(std::process::id()));
        assert_eq!(running_address(home.path()), None);
        first.announce("127.0.0.1:8088".parse().unwrap()).unwrap();
        assert_eq!(running_pid(home.path()), Some(std::process::id()));
        assert_eq!(running_address(home.path()).unwrap().to_string(), "127.0.0.1:8088");
        let Err(refused) = Folder::take(home.path()) else { panic!("taken twice") };
        assert_eq!(refused.code, ErrorCode::Conflict);
        drop(first);
        assert_eq!(running_pid(home.path()), None);
        assert!(Folder::take(home.path()).is_ok());
    }
}
