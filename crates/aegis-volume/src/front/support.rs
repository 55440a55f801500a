//! Whether this node can mount fronts.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The capability that mounting needs, as a bit of `CapEff` in `/proc/self/status` (capabilities(7)).
const CAP_SYS_ADMIN_BIT: u32 = 21;

/// Why no front can be mounted here, and what to do; `None` if one can.
pub(crate) fn missing() -> Option<String> {
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(
                "/dev/fuse is missing; load the `fuse` kernel module, or start the container with `--device /dev/fuse`"
                    .to_owned(),
            );
        }
        Err(error) => {
            return Some(format!(
                "/dev/fuse cannot be opened ({error}); run as root or give this user read and write access to it"
            ));
        }
        Ok(_) => {}
    }
    if rustix::process::geteuid().is_root() {
        if may_mount() {
            return None;
        }
        return Some(
            "this root user may not mount; give the process CAP_SYS_ADMIN (containers: `--cap-add SYS_ADMIN`)"
                .to_owned(),
        );
    }
    if !has_fusermount() {
        return Some(
            "no setuid `fusermount3` on the PATH; install the package `fuse3`, or run as root".to_owned(),
        );
    }
    if !has_name() {
        return Some(
            "`fusermount3` mounts nothing for a user without a name; add this user's id to /etc/passwd, or run as root"
                .to_owned(),
        );
    }
    None
}

fn may_mount() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits & (1 << CAP_SYS_ADMIN_BIT) != 0)
}

/// Whether the system knows a name for this user: containers are often run as a number alone.
fn has_name() -> bool {
    static NAMED: OnceLock<bool> = OnceLock::new();
    *NAMED.get_or_init(|| {
        let asked = Command::new("id").arg("-un").stdin(Stdio::null()).output();
        // Where it cannot be asked, the mount itself tells.
        asked.map_or(true, |output| output.status.success())
    })
}

fn has_fusermount() -> bool {
    const SETUID: u32 = 0o4000;
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .any(|folder| folder.join("fusermount3").metadata().is_ok_and(|found| found.mode() & SETUID != 0))
}
