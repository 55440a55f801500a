//! The kernel's requests, each handed to the view. Nothing here waits for anything but the local disk.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use aegis_kernel::port::FileKind;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::OFlags;

use super::attributes::{access_mode, file_type, reported, stamp};
use super::handles::State;
use super::nodes::ROOT;
use crate::core::{Attributes, Fault, Mode, NewAttributes, OpenFile, Rename, View, VolumePath, lock};

/// How long the kernel may use names and attributes without asking. Changes from elsewhere are told to it at once.
const TIME_TO_LIVE: Duration = Duration::from_secs(1);
/// Most bytes of one write request.
const WRITE_BYTES_MAX: u32 = 1024 * 1024;
/// The unit of `statfs`, in bytes.
const BLOCK_BYTES: u32 = 4096;
/// Longest name of an entry.
const NAME_BYTES_MAX: u32 = 255;
/// In a listing: an entry whose number the kernel does not know yet.
const UNKNOWN_NODE: u64 = u32::MAX as u64;
/// Type bits of a mode, and those of a regular file (inode(7)).
const TYPE_BITS: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// One mounted view.
pub(super) struct Served {
    pub(super) view: View,
    pub(super) state: Arc<State>,
    /// Owner and group of everything.
    pub(super) uid: u32,
}

fn errno(fault: Fault) -> Errno {
    Errno::from_i32(fault.errno().raw_os_error())
}

impl Served {
    fn path(&self, node: INodeNo) -> Result<VolumePath, Fault> {
        if self.state.closed.load(Ordering::Acquire) {
            return Err(Fault::Closed);
        }
        // Stale, not missing: the kernel then looks the name up again by itself.
        lock(&self.state.nodes).path(node.0).ok_or(Fault::Os(rustix::io::Errno::STALE))
    }

    fn child<'a>(&self, parent: INodeNo, name: &'a OsStr) -> Result<(VolumePath, &'a str), Fault> {
        let name = name.to_str().ok_or(Fault::Os(rustix::io::Errno::ILSEQ))?;
        let path = self.path(parent)?.join(name).map_err(|_| Fault::Os(rustix::io::Errno::NAMETOOLONG))?;
        Ok((path, name))
    }

    fn file(&self, handle: FileHandle) -> Result<Arc<OpenFile>, Fault> {
        if self.state.closed.load(Ordering::Acquire) {
            return Err(Fault::Closed);
        }
        self.state.file(handle.0).ok_or(Fault::Os(rustix::io::Errno::BADF))
    }

    fn enter(&self, parent: INodeNo, name: &str, attributes: &Attributes) -> fuser::FileAttr {
        let number = lock(&self.state.nodes).looked_up(parent.0, name, attributes.inode);
        reported(number, attributes, self.uid)
    }

    /// Attributes by handle, by path, or, where the name is gone, by any open handle.
    fn attributes(&self, node: INodeNo, handle: Option<FileHandle>) -> Result<Attributes, Fault> {
        if let Some(handle) = handle {
            return self.file(handle)?.attributes();
        }
        match self.path(node) {
            Ok(path) => self.view.attributes(&path),
            Err(Fault::Closed) => Err(Fault::Closed),
            Err(fault) => self.state.file_of(node.0).ok_or(fault)?.attributes(),
        }
    }

    fn change(
        &self,
        node: INodeNo,
        handle: Option<FileHandle>,
        size: Option<u64>,
        new: &NewAttributes,
    ) -> Result<(), Fault> {
        let path = self.path(node);
        let open = match handle {
            Some(handle) => Some(self.file(handle)?),
            None if path.is_err() => self.state.file_of(node.0),
            None => None,
        };
        match (size, &open) {
            (None, _) => {}
            (Some(size), Some(file)) => self.view.truncate(file, size)?,
            (Some(size), None) => self.view.truncate(&self.view.open(&path.clone()?, Mode::Write)?, size)?,
        }
        if new.mode.is_none() && new.accessed.is_none() && new.modified.is_none() {
            return Ok(());
        }
        match (path, open) {
            (Ok(path), _) => self.view.set_attributes(&path, new),
            (Err(_), Some(file)) => self.view.set_open_attributes(&file, new),
            (Err(fault), None) => Err(fault),
        }
    }

    fn make(
        &self,
        parent: INodeNo,
        name: &OsStr,
        make: impl FnOnce(&VolumePath) -> Result<(), Fault>,
    ) -> Result<fuser::FileAttr, Fault> {
        let (path, name) = self.child(parent, name)?;
        make(&path)?;
        Ok(self.enter(parent, name, &self.view.store.attributes(&path)?))
    }

    fn make_and_open(
        &self,
        parent: INodeNo,
        name: &OsStr,
        permissions: u32,
        flags: OFlags,
    ) -> Result<(fuser::FileAttr, u64), Fault> {
        let (path, name) = self.child(parent, name)?;
        let mode = access_mode(OpenFlags(flags.bits().cast_signed()));
        let (file, made) = self.view.create(&path, permissions, flags.contains(OFlags::EXCL), mode)?;
        if !made && flags.contains(OFlags::TRUNC) {
            self.view.truncate(&file, 0)?;
        }
        let entry = self.enter(parent, name, &file.attributes()?);
        let handle = self.state.add_file(entry.ino.0, file);
        Ok((entry, handle))
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, directory: bool) -> Result<(), Fault> {
        let (path, name) = self.child(parent, name)?;
        self.view.remove(&path, directory)?;
        lock(&self.state.nodes).detach(parent.0, name);
        Ok(())
    }

    fn list(
        &self,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: &mut ReplyDirectory,
    ) -> Result<(), Fault> {
        let listing = self.state.listing(handle.0).ok_or(Fault::Os(rustix::io::Errno::BADF))?;
        let dots = [(".", FileKind::Directory), ("..", FileKind::Directory)];
        let all = dots.into_iter().chain(listing.iter().map(|(name, kind)| (name.as_str(), *kind)));
        for (at, (name, kind)) in (1..).zip(all).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let number = match name {
                "." => node.0,
                ".." => ROOT,
                _ => lock(&self.state.nodes).child(node.0, name).unwrap_or(UNKNOWN_NODE),
            };
            if reply.add(INodeNo(number), at, file_type(kind), name) {
                break;
            }
        }
        Ok(())
    }

    fn rename_entry(
        &self,
        from: (INodeNo, &OsStr),
        to: (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Result<(), Fault> {
        let how = match flags {
            RenameFlags::RENAME_NOREPLACE => Rename::NoReplace,
            RenameFlags::RENAME_EXCHANGE => Rename::Exchange,
            none if none.is_empty() => Rename::Replace,
            _ => return Err(Fault::Os(rustix::io::Errno::INVAL)),
        };
        let (from_path, from_name) = self.child(from.0, from.1)?;
        let (to_path, to_name) = self.child(to.0, to.1)?;
        self.view.rename(&from_path, &to_path, how)?;
        let (from, to) = ((from.0.0, from_name), (to.0.0, to_name));
        let mut nodes = lock(&self.state.nodes);
        if how == Rename::Exchange {
            nodes.exchanged(from, to)
        } else {
            nodes.moved(from, to)
        }
        Ok(())
    }

    fn refuse(&self, parent: INodeNo, name: &OsStr, fault: Fault) -> Errno {
        errno(
            self.child(parent, name).map_or_else(|other| other, |(path, _)| self.view.refused(&path, fault)),
        )
    }
}

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
                reply.entry(&TIME_TO_LIVE, &super::attributes::nothing(), Generation(0));
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
        let (used, limit) = self.view.usage();
        let free = limit.saturating_sub(used);
        let block = u64::from(BLOCK_BYTES);
        let free_files = free / crate::core::INODE_CHARGE;
        reply.statfs(
            limit / block,
            free / block,
            free / block,
            limit / crate::core::INODE_CHARGE,
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
