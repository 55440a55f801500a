//! The kernel's requests, each handed to the view. Nothing here waits for anything but the local disk.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::OFlags;

use super::attributes::{access_mode, nothing, reported, stamp};
use super::served::{Served, errno};
use crate::core::{ENTRIES_MAX, Fault, INODE_CHARGE, Mode, NewAttributes, VolumePath, lock};

/// How long the kernel may use names and attributes without asking. Changes from elsewhere are told to it at once.
const TIME_TO_LIVE: Duration = Duration::from_secs(1);
/// Most bytes of one write request.
const WRITE_BYTES_MAX: u32 = 1024 * 1024;
/// The unit of `statfs`, in bytes.
const BLOCK_BYTES: u32 = 4096;
/// Longest name of an entry.
const NAME_BYTES_MAX: u32 = 255;
/// Type bits of a mode, and those of a regular file (inode(7)).
const TYPE_BITS: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

impl Filesystem for Served {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What the kernel does not offer it does without.
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        for wish in [InitFlags::FUSE_AUTO_INVAL_DATA, InitFlags::FUSE_PARALLEL_DIROPS] {
            let _ = config.add_capabilities(wish);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.child(parent, name).and_then(|(path, name)| {
            let attributes = self.view.attributes(&path)?;
            Ok(self.enter(parent, name, &attributes))
        });
        match found {
            Ok(attr) => reply.entry(&TIME_TO_LIVE, &attr, Generation(0)),
            // Number 0 lets the kernel remember that nothing is there.
            Err(Fault::Os(rustix::io::Errno::NOENT)) => {
                reply.entry(&TIME_TO_LIVE, &nothing(), Generation(0));
            }
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn forget(&self, _: &Request, node: INodeNo, count: u64) {
        lock(&self.state.nodes).forget(node.0, count);
    }

    fn getattr(&self, _: &Request, node: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(node, handle) {
            Ok(attributes) => reply.attr(&TIME_TO_LIVE, &reported(node.0, &attributes, self.uid)),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if [uid, gid].into_iter().flatten().any(|id| id != self.uid) {
            let path = self.path(node).unwrap_or_else(|_| VolumePath::root());
            return reply.error(errno(self.view.refused(&path, Fault::Owner)));
        }
        let new = NewAttributes { mode, accessed: accessed.map(stamp), modified: modified.map(stamp) };
        match self.change(node, handle, size, &new).and_then(|()| self.attributes(node, handle)) {
            Ok(attributes) => reply.attr(&TIME_TO_LIVE, &reported(node.0, &attributes, self.uid)),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn readlink(&self, _: &Request, node: INodeNo, reply: ReplyData) {
        match self.path(node).and_then(|path| self.view.read_link(&path)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        if !matches!(mode & TYPE_BITS, REGULAR | 0) {
            return reply.error(self.refuse(parent, name, Fault::Special));
        }
        let made = self.make(parent, name, |path| self.view.create(path, mode, true, Mode::Write).map(drop));
        entry(reply, made);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.make(parent, name, |path| self.view.make_directory(path, mode)));
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let Some(target) = target.to_str() else {
            return reply.error(self.refuse(parent, name, Fault::EscapingLink));
        };
        entry(reply, self.make(parent, name, |path| self.view.make_link(path, target)));
    }

    fn link(&self, _: &Request, _: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        reply.error(self.refuse(parent, name, Fault::HardLink));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.remove(parent, name, false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.remove(parent, name, true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.rename_entry((parent, name), (new_parent, new_name), flags));
    }

    fn open(&self, _: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.path(node).and_then(|path| self.view.open(&path, access_mode(flags))) {
            Ok(file) => {
                let handle = self.state.add_file(node.0, file);
                reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let flags = OFlags::from_bits_retain(flags.cast_unsigned());
        match self.make_and_open(parent, name, mode, flags) {
            Ok((attr, handle)) => reply.created(
                &TIME_TO_LIVE,
                &attr,
                Generation(0),
                FileHandle(handle),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.file(handle).and_then(|file| self.view.read_at(&file, offset, size as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.file(handle).and_then(|file| self.view.write_at(&file, offset, data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocated = self
            .file(handle)
            .and_then(|file| self.view.allocate(&file, mode.cast_unsigned(), offset, length));
        empty(reply, allocated);
    }

    fn release(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.state.remove_file(node.0, handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        empty(reply, self.file(handle).and_then(|file| file.sync(data_only)));
    }

    fn opendir(&self, _: &Request, node: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.path(node).and_then(|path| self.view.entries(&path)) {
            Ok(entries) => {
                reply.opened(FileHandle(self.state.add_listing(entries)), FopenFlags::empty());
            }
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        match self.list(node, handle, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.state.remove_listing(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.path(node).and_then(|path| self.view.sync_directory(&path)));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (used, limit, entries) = self.view.usage();
        let free = limit.saturating_sub(used);
        let block = u64::from(BLOCK_BYTES);
        let files = (limit / INODE_CHARGE).min(ENTRIES_MAX);
        let free_files = (free / INODE_CHARGE).min(ENTRIES_MAX.saturating_sub(entries));
        reply.statfs(
            limit / block,
            free / block,
            free / block,
            files,
            free_files,
            BLOCK_BYTES,
            NAME_BYTES_MAX,
            BLOCK_BYTES,
        );
    }

    // Not there: the kernel remembers the answer, stops asking, and does what is general by itself.

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::ENOSYS);
    }
}

fn entry(reply: ReplyEntry, made: Result<fuser::FileAttr, Fault>) {
    match made {
        Ok(attr) => reply.entry(&TIME_TO_LIVE, &attr, Generation(0)),
        Err(fault) => reply.error(errno(fault)),
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Fault>) {
    match done {
        Ok(()) => reply.ok(),
        Err(fault) => reply.error(errno(fault)),
    }
}
