//! Between the core's attributes and the kernel's.

use std::time::{Duration, SystemTime};

use aegis_kernel::port::FileKind;
use fuser::{FileAttr, FileType, INodeNo, OpenAccMode, OpenFlags, TimeOrNow};

use crate::core::{Attributes, Mode, Stamp};

/// The unit of `st_blocks` (stat(2)), in bytes.
const STAT_BLOCK_BYTES: u64 = 512;
/// The preferred size of a read or write, in bytes.
const IO_BYTES: u32 = 128 * 1024;

/// What the kernel is told of a file: one owner for all, permission bits as the core reports them.
pub(super) fn reported(number: u64, attributes: &Attributes, uid: u32) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size: attributes.size,
        blocks: attributes.size.div_ceil(STAT_BLOCK_BYTES),
        atime: time(attributes.accessed),
        mtime: time(attributes.modified),
        ctime: time(attributes.changed),
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type(attributes.kind),
        perm: u16::try_from(attributes.mode).unwrap_or(0),
        nlink: attributes.links,
        uid,
        gid: uid,
        rdev: 0,
        blksize: IO_BYTES,
        flags: 0,
    }
}

/// The answer that nothing is there: number 0.
pub(super) fn nothing() -> FileAttr {
    let nowhen = (0, 0);
    let attributes = Attributes {
        kind: FileKind::File,
        size: 0,
        mode: 0,
        links: 0,
        accessed: nowhen,
        modified: nowhen,
        changed: nowhen,
        inode: 0,
    };
    reported(0, &attributes, 0)
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
    }
}

pub(super) fn access_mode(flags: OpenFlags) -> Mode {
    match flags.acc_mode() {
        OpenAccMode::O_RDONLY => Mode::Read,
        OpenAccMode::O_WRONLY => Mode::Write,
        OpenAccMode::O_RDWR => Mode::ReadWrite,
    }
}

pub(super) fn stamp(time: TimeOrNow) -> Stamp {
    let moment = match time {
        TimeOrNow::Now => return Stamp::Now,
        TimeOrNow::SpecificTime(moment) => moment,
    };
    match moment.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Stamp::At(i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => Stamp::At(-seconds, 0),
                nanoseconds => Stamp::At(-seconds - 1, 1_000_000_000 - nanoseconds),
            }
        }
    }
}

fn time((seconds, nanoseconds): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let moment = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    moment
        .and_then(|moment| moment.checked_add(Duration::from_nanos(nanoseconds.into())))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_keep_their_fraction() {
        for instant in [(0, 0), (5, 7), (-3, 500_000_000), (-1, 0)] {
            assert_eq!(stamp(TimeOrNow::SpecificTime(time(instant))), Stamp::At(instant.0, instant.1));
        }
    }
}
