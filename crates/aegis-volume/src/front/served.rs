//! What one mounted view answers, before it is put into the kernel's words.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aegis_kernel::port::FileKind;
use fuser::{Errno, FileHandle, INodeNo, OpenFlags, RenameFlags, ReplyDirectory};
use rustix::fs::OFlags;

use super::attributes::{access_mode, file_type, reported};
use super::handles::State;
use super::nodes::ROOT;
use crate::core::{Attributes, Fault, Mode, NewAttributes, OpenFile, Rename, View, VolumePath, lock};

/// In a listing: an entry whose number the kernel does not know yet.
const UNKNOWN_NODE: u64 = u32::MAX as u64;

/// One mounted view.
pub(super) struct Served {
    pub(super) view: View,
    pub(super) state: Arc<State>,
    /// Owner and group of everything.
    pub(super) uid: u32,
}

pub(super) fn errno(fault: Fault) -> Errno {
    Errno::from_i32(fault.errno().raw_os_error())
}

impl Served {
    pub(super) fn path(&self, node: INodeNo) -> Result<VolumePath, Fault> {
        if self.state.closed.load(Ordering::Acquire) {
            return Err(Fault::Closed);
        }
        // Stale, not missing: the kernel then looks the name up again by itself.
        lock(&self.state.nodes).path(node.0).ok_or(Fault::Os(rustix::io::Errno::STALE))
    }

    pub(super) fn child<'a>(&self, parent: INodeNo, name: &'a OsStr) -> Result<(VolumePath, &'a str), Fault> {
        let name = name.to_str().ok_or(Fault::Os(rustix::io::Errno::ILSEQ))?;
        let path = self.path(parent)?.join(name).map_err(|_| Fault::Os(rustix::io::Errno::NAMETOOLONG))?;
        Ok((path, name))
    }

    pub(super) fn file(&self, handle: FileHandle) -> Result<Arc<OpenFile>, Fault> {
        if self.state.closed.load(Ordering::Acquire) {
            return Err(Fault::Closed);
        }
        self.state.file(handle.0).ok_or(Fault::Os(rustix::io::Errno::BADF))
    }

    pub(super) fn enter(&self, parent: INodeNo, name: &str, attributes: &Attributes) -> fuser::FileAttr {
        let number = lock(&self.state.nodes).looked_up(parent.0, name, attributes.inode);
        reported(number, attributes, self.uid)
    }

    /// Attributes by handle, by path, or, where the name is gone, by any open handle.
    pub(super) fn attributes(&self, node: INodeNo, handle: Option<FileHandle>) -> Result<Attributes, Fault> {
        if let Some(handle) = handle {
            return self.file(handle)?.attributes();
        }
        match self.path(node) {
            Ok(path) => self.view.attributes(&path),
            Err(Fault::Closed) => Err(Fault::Closed),
            Err(fault) => self.state.file_of(node.0).ok_or(fault)?.attributes(),
        }
    }

    pub(super) fn change(
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

    pub(super) fn make(
        &self,
        parent: INodeNo,
        name: &OsStr,
        make: impl FnOnce(&VolumePath) -> Result<(), Fault>,
    ) -> Result<fuser::FileAttr, Fault> {
        let (path, name) = self.child(parent, name)?;
        make(&path)?;
        Ok(self.enter(parent, name, &self.view.store.attributes(&path)?))
    }

    pub(super) fn make_and_open(
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

    pub(super) fn remove(&self, parent: INodeNo, name: &OsStr, directory: bool) -> Result<(), Fault> {
        let (path, name) = self.child(parent, name)?;
        self.view.remove(&path, directory)?;
        lock(&self.state.nodes).detach(parent.0, name);
        Ok(())
    }

    pub(super) fn list(
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

    pub(super) fn rename_entry(
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

    pub(super) fn refuse(&self, parent: INodeNo, name: &OsStr, fault: Fault) -> Errno {
        errno(
            self.child(parent, name).map_or_else(|other| other, |(path, _)| self.view.refused(&path, fault)),
        )
    }
}
