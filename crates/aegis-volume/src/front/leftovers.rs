//! The kernel's list of mounts: our own, and what a former daemon left.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::FrontSettings;
use crate::core::lock;

/// A mount with our name.
pub(super) struct Mounted {
    pub(super) point: PathBuf,
    /// Minor number of its device: the name of its FUSE connection.
    pub(super) minor: u32,
}

/// All mounts whose source is `name`, innermost first.
pub(super) fn mounted(name: &str) -> io::Result<Vec<Mounted>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut found: Vec<Mounted> = text.lines().filter_map(|line| parse(line, name)).collect();
    found.reverse();
    Ok(found)
}

/// One line of proc_pid_mountinfo(5): `id parent major:minor root point options… - type source options`.
fn parse(line: &str, name: &str) -> Option<Mounted> {
    let (before, after) = line.split_once(" - ")?;
    if after.split(' ').nth(1)? != name {
        return None;
    }
    let mut fields = before.split(' ').skip(2);
    let minor = fields.next()?.split_once(':')?.1.parse().ok()?;
    let point = PathBuf::from(unescape(fields.nth(1)?));
    Some(Mounted { point, minor })
}

/// Spaces and the like stand as three octal digits after a backslash.
fn unescape(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes)
}

/// Detaches mounts with our name that this process does not serve. How many there were.
pub(crate) fn detach(settings: &FrontSettings) -> io::Result<u32> {
    let live = lock(&settings.live).clone();
    let mut count = 0;
    for mount in mounted(&settings.name)?.into_iter().filter(|mount| !live.contains(&mount.point)) {
        unmount_lazily(&mount.point)?;
        // It was made for the mount; whether it goes does not matter.
        let _ = std::fs::remove_dir(&mount.point);
        count += 1;
    }
    Ok(count)
}

/// Takes a mount out of the tree at once, whoever uses it.
pub(super) fn unmount_lazily(point: &Path) -> io::Result<()> {
    match rustix::mount::unmount(point, UnmountFlags::DETACH) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(Errno::PERM) => unmount_by_program(point),
        Err(errno) => Err(errno.into()),
    }
}

/// Who is not root asks the setuid program; it does not wait for anything with `-z`.
fn unmount_by_program(point: &Path) -> io::Result<()> {
    let status = Command::new("fusermount3")
        .args(["-u", "-q", "-z", "--"])
        .arg(point)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("fusermount3 -u: {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_by_source_and_points_are_unescaped() {
        let line = r"36 35 0:57 / /run/a\040b rw,nosuid - fuse aegis-1 rw,user_id=0";
        let mount = parse(line, "aegis-1").unwrap();
        assert_eq!((mount.point.to_str().unwrap(), mount.minor), ("/run/a b", 57));
        assert!(parse(line, "aegis-2").is_none());
        assert!(parse("36 35 0:57 / /run/a rw shared:1 - fuse", "aegis-1").is_none());
    }
}
