//! A volume as one grant sees it: looking and reading. Changes are in `view_change`.

use std::collections::VecDeque;
use std::sync::Arc;

use aegis_kernel::port::FileKind;
use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use rustix::io::Errno;

use super::fault::Fault;
use super::file::OpenFile;
use super::lock;
use super::path::{PATH_BYTES_MAX, VolumePath};
use super::record::{Operation, Recorder};
use super::rules::{Need, Rules};
use super::store::{Attributes, Store};

/// Most symbolic links followed in one path, as in the kernel.
const LINKS_MAX: usize = 40;
/// Most bytes of one read.
const READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Read,
    Write,
    ReadWrite,
}

/// One grant's view: the only door to a store, for tools (no `origin`) and for a front (its number).
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) store: Arc<Store>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) mount_path: Arc<str>,
    /// Most bytes, as granted.
    pub(crate) size_limit: u64,
    /// Which front this is, so that it is not told of its own changes.
    pub(crate) origin: Option<u64>,
}

impl View {
    /// Asks the rules; a refusal is recorded.
    pub(super) fn check(&self, path: &VolumePath, need: Need) -> Result<(), Fault> {
        self.rules.check(path, need).map_err(|fault| self.refused(path, fault))
    }

    /// Records a refusal and hands the fault on.
    pub(crate) fn refused(&self, path: &VolumePath, fault: Fault) -> Fault {
        if let Some(why) = fault.refusal() {
            self.recorder.refuse(why, &path.in_sandbox(&self.mount_path));
        }
        fault
    }

    pub(super) fn record(&self, operation: Operation, path: &VolumePath, offset: u64, bytes: u64) {
        self.recorder.record(operation, &path.in_sandbox(&self.mount_path), offset, bytes);
    }

    /// Bytes in use, their limit, and entries.
    pub(crate) fn usage(&self) -> (u64, u64, u64) {
        let ledger = lock(&self.store.ledger);
        (ledger.used(), self.limit(), ledger.entries())
    }

    pub(super) fn limit(&self) -> u64 {
        self.store.limit(self.size_limit)
    }

    /// What is at `path`; a link itself.
    pub(crate) fn attributes(&self, path: &VolumePath) -> Result<Attributes, Fault> {
        self.check(path, Need::Look)?;
        self.store.attributes(path).map_err(|fault| self.refused(path, fault))
    }

    /// Opens a regular file.
    pub(crate) fn open(&self, path: &VolumePath, mode: Mode) -> Result<OpenFile, Fault> {
        self.check(path, if mode == Mode::Read { Need::Read } else { Need::Write })?;
        let fd = self
            .store
            .open(path, access_flags(mode) | OFlags::NONBLOCK, 0)
            .map_err(|fault| self.refused(path, fault))?;
        let label = path.in_sandbox(&self.mount_path);
        OpenFile::adopt(&self.store, fd, mode != Mode::Read, path, label, None)
            .map_err(|fault| self.refused(path, fault))
    }

    /// Up to `length` bytes from `offset`; fewer only at the end of the file.
    pub(crate) fn read_at(&self, file: &OpenFile, offset: u64, length: usize) -> Result<Vec<u8>, Fault> {
        let there = file.attributes()?.size.saturating_sub(offset);
        let length = length.min(READ_BYTES_MAX).min(usize::try_from(there).unwrap_or(usize::MAX));
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let mut piece = Vec::with_capacity(length - bytes.len());
            let at = offset.saturating_add(bytes.len() as u64);
            match rustix::io::pread(&file.fd, rustix::buffer::spare_capacity(&mut piece), at) {
                Ok(0) => break,
                Ok(_) if bytes.is_empty() => bytes = piece,
                Ok(_) => bytes.append(&mut piece),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        bytes.truncate(length);
        self.recorder.record(Operation::Read, &file.label, offset, bytes.len() as u64);
        Ok(bytes)
    }

    /// The names in a directory that the rules let be seen, unsorted. What is no file, directory or link, and what
    /// has no UTF-8 name, is not there.
    pub(crate) fn entries(&self, path: &VolumePath) -> Result<Vec<(String, FileKind)>, Fault> {
        self.check(path, Need::Look)?;
        let fd = self.store.directory(path)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Ok(below) = path.join(name) else { continue };
            let kind = match entry.file_type() {
                FileType::Unknown => match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(_) => continue,
                },
                known => known,
            };
            let kind = match kind {
                FileType::RegularFile => FileKind::File,
                FileType::Directory => FileKind::Directory,
                FileType::Symlink => FileKind::Symlink,
                _ => continue,
            };
            if self.rules.check(&below, Need::Look).is_ok() {
                entries.push((name.to_owned(), kind));
            }
        }
        self.record(Operation::Inspect, path, 0, 0);
        Ok(entries)
    }

    /// Waits until a directory's names are on the disk.
    pub(crate) fn sync_directory(&self, path: &VolumePath) -> Result<(), Fault> {
        self.check(path, Need::Look)?;
        Ok(rustix::fs::fsync(self.store.directory(path)?)?)
    }

    /// Counts a look at a path by a tool. (A front's are not: how many reach it depends on the kernel's cache.)
    pub(crate) fn looked(&self, path: &VolumePath) {
        self.record(Operation::Inspect, path, 0, 0);
    }

    /// The target of a link that stays within the volume.
    pub(crate) fn read_link(&self, path: &VolumePath) -> Result<String, Fault> {
        self.check(path, Need::Look)?;
        let fd = self.store.open(path, OFlags::PATH, 0)?;
        if Attributes::of(&rustix::fs::fstat(&fd)?)?.kind != FileKind::Symlink {
            return Err(Fault::Os(Errno::INVAL));
        }
        let target = rustix::fs::readlinkat(&fd, "", Vec::with_capacity(PATH_BYTES_MAX))?;
        let target = target.into_string().map_err(|_| self.refused(path, Fault::EscapingLink))?;
        path.link_target(&target).map_err(|fault| self.refused(path, fault))?;
        Ok(target)
    }

    /// The path without symbolic links on its way; at its end one is followed only if `last`. What is not there yet
    /// stays as it is named.
    pub(crate) fn follow(&self, path: &VolumePath, last: bool) -> Result<VolumePath, Fault> {
        let mut pending: VecDeque<String> = path.components().map(str::to_owned).collect();
        let mut done = VolumePath::root();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            let here = done.join(&name)?;
            if pending.is_empty() && !last {
                return Ok(here);
            }
            match self.store.attributes(&here) {
                Ok(found) if found.kind == FileKind::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Fault::Os(Errno::LOOP));
                    }
                    let target = self.read_link(&here)?;
                    let (base, names) = here.link_target(&target)?;
                    for name in names.into_iter().rev() {
                        pending.push_front(name.to_owned());
                    }
                    done = base;
                }
                Ok(_) | Err(Fault::Os(Errno::NOENT | Errno::NOTDIR) | Fault::Special) => done = here,
                Err(fault) => return Err(fault),
            }
        }
        Ok(done)
    }
}

pub(super) fn access_flags(mode: Mode) -> OFlags {
    match mode {
        Mode::Read => OFlags::RDONLY,
        Mode::Write => OFlags::WRONLY,
        Mode::ReadWrite => OFlags::RDWR,
    }
}
