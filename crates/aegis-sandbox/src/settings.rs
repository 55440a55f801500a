//! What an operator can set.

use std::path::PathBuf;

/// The first host user of sandboxes under a root daemon. Above every range that distributions hand out to people,
/// services, containers or subordinate ids (`/etc/subuid`), so that nobody else on the host is this user.
const UID_FIRST: u32 = 1_900_000_000;
/// How many host users there are for sandboxes.
const UID_COUNT: u32 = 65_536;

/// Settings of the process sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSettings {
    /// The daemon's data folder. It is never visible inside; its hash marks groups and folders as this daemon's.
    pub data_folder: PathBuf,
    /// Folder for control sockets and mounted files instead of `/run/aegis` (root) or `$XDG_RUNTIME_DIR/aegis`. Each
    /// of its parents must be traversable (`o+x`) for the sandboxes' host users.
    pub run_folder: Option<PathBuf>,
    /// The bubblewrap program.
    pub bubblewrap: PathBuf,
    /// First host user of sandboxes; used by a root daemon alone.
    pub uid_first: u32,
    /// Number of host users of sandboxes, at least 1.
    pub uid_count: u32,
}

impl SandboxSettings {
    /// The defaults for a data folder.
    pub fn new(data_folder: impl Into<PathBuf>) -> Self {
        Self {
            data_folder: data_folder.into(),
            run_folder: None,
            bubblewrap: PathBuf::from("/usr/bin/bwrap"),
            uid_first: UID_FIRST,
            uid_count: UID_COUNT,
        }
    }
}
