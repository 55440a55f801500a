//! A volume as one grant sees it: every change. Each asks the rules for each path, fits into the limit and is
//! counted under the ledger's lock, is recorded, and is told to the other fronts after the lock is released.

use aegis_kernel::port::FileKind;
use rustix::fs::{AtFlags, FallocateFlags, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::fault::Fault;
use super::file::OpenFile;
use super::lock;
use super::path::VolumePath;
use super::record::Operation;
use super::rules::Need;
use super::store::{Attributes, Change, INODE_CHARGE, Ledger};
use super::view::{Mode, View, access_flags};

/// What happens to a file already at the new place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rename {
    Replace,
    NoReplace,
    Exchange,
}

/// A time to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    Now,
    /// Seconds and nanoseconds since the Unix epoch.
    At(i64, u32),
}

/// Attributes to be set.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NewAttributes {
    pub(crate) mode: Option<u32>,
    pub(crate) accessed: Option<Stamp>,
    pub(crate) modified: Option<Stamp>,
}

impl View {
    /// Whether the rules let a file be written, asked before its missing directories are made.
    pub(crate) fn may_write(&self, path: &VolumePath) -> Result<(), Fault> {
        self.check(path, Need::Write)
    }

    /// Makes a file, or opens one that is there unless `exclusive`. The second value: whether it was made.
    pub(crate) fn create(
        &self,
        path: &VolumePath,
        permissions: u32,
        exclusive: bool,
        mode: Mode,
    ) -> Result<(OpenFile, bool), Fault> {
        self.check(path, Need::Write)?;
        let mut ledger = lock(&self.store.ledger);
        ledger.check_entry(INODE_CHARGE, self.limit()).or_else(|full| {
            // One that is there already costs nothing more.
            self.store.attributes(path).map(|_| ()).map_err(|_| self.refused(path, full))
        })?;
        let flags = access_flags(mode) | OFlags::CREATE | OFlags::EXCL | OFlags::NONBLOCK;
        let fd = match self.store.open(path, flags, 0o600) {
            Err(Fault::Os(Errno::EXIST)) if !exclusive => {
                drop(ledger);
                return Ok((self.open(path, mode)?, false));
            }
            other => other?,
        };
        rustix::fs::fchmod(&fd, self.store.stored_mode(permissions, FileKind::File))?;
        ledger.added(INODE_CHARGE);
        let label = path.in_sandbox(&self.mount_path);
        let file = OpenFile::adopt(&self.store, fd, mode != Mode::Read, path, label, Some(&mut ledger))?;
        drop(ledger);
        self.changed(Operation::Create, path);
        Ok((file, true))
    }

    /// Writes all of `bytes` at `offset`, or nothing if they do not fit into the limit.
    pub(crate) fn write_at(&self, file: &OpenFile, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let end = self.end_of(file, offset, bytes.len() as u64)?;
        let mut ledger = lock(&self.store.ledger);
        let before = file.attributes()?.size;
        self.fits(&ledger, &file.path, end.saturating_sub(before))?;
        let mut rest = bytes;
        let mut at = offset;
        let result = loop {
            match rustix::io::pwrite(&file.fd, rest, at) {
                Ok(0) if !rest.is_empty() => break Err(Fault::Os(Errno::IO)),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    at += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => break Err(errno.into()),
            }
            if rest.is_empty() {
                break Ok(());
            }
        };
        ledger.replace(before, file.attributes()?.size);
        drop(ledger);
        self.recorder.record(Operation::Write, &file.label, offset, at - offset);
        self.store.notify(self.origin, || Change::Content(file.path.clone()));
        result
    }

    /// Sets a file's length.
    pub(crate) fn truncate(&self, file: &OpenFile, length: u64) -> Result<(), Fault> {
        self.end_of(file, length, 0)?;
        let mut ledger = lock(&self.store.ledger);
        let before = file.attributes()?.size;
        self.fits(&ledger, &file.path, length.saturating_sub(before))?;
        rustix::fs::ftruncate(&file.fd, length)?;
        ledger.replace(before, length);
        drop(ledger);
        self.recorder.record(Operation::Truncate, &file.label, length, 0);
        self.store.notify(self.origin, || Change::Content(file.path.clone()));
        Ok(())
    }

    /// Reserves space, or makes a hole. Space beyond the end of the file is refused: the ledger counts lengths.
    pub(crate) fn allocate(
        &self,
        file: &OpenFile,
        flags: u32,
        offset: u64,
        length: u64,
    ) -> Result<(), Fault> {
        let flags = FallocateFlags::from_bits(flags).ok_or(Fault::Os(Errno::OPNOTSUPP))?;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if !flags.is_empty() && flags != hole {
            return Err(Fault::Os(Errno::OPNOTSUPP));
        }
        let end = self.end_of(file, offset, length)?;
        let mut ledger = lock(&self.store.ledger);
        let before = file.attributes()?.size;
        if flags.is_empty() {
            self.fits(&ledger, &file.path, end.saturating_sub(before))?;
        }
        rustix::fs::fallocate(&file.fd, flags, offset, length)?;
        ledger.replace(before, file.attributes()?.size);
        drop(ledger);
        self.recorder.record(Operation::Write, &file.label, offset, 0);
        self.store.notify(self.origin, || Change::Content(file.path.clone()));
        Ok(())
    }

    /// Whether `more` bytes fit into the limit; what does not is recorded.
    fn fits(&self, ledger: &Ledger, path: &VolumePath, more: u64) -> Result<(), Fault> {
        ledger.check(more, self.limit()).map_err(|full| self.refused(path, full))
    }

    /// The same for one more name that costs `more` bytes.
    fn entry_fits(&self, ledger: &Ledger, path: &VolumePath, more: u64) -> Result<(), Fault> {
        ledger.check_entry(more, self.limit()).map_err(|full| self.refused(path, full))
    }

    fn end_of(&self, file: &OpenFile, offset: u64, length: u64) -> Result<u64, Fault> {
        if !file.writable {
            return Err(Fault::Os(Errno::BADF));
        }
        let end = offset.checked_add(length).filter(|&end| i64::try_from(end).is_ok());
        end.ok_or(Fault::Os(Errno::FBIG))
    }

    /// Makes a directory.
    pub(crate) fn make_directory(&self, path: &VolumePath, permissions: u32) -> Result<(), Fault> {
        self.check(path, Need::MakeDirectory)?;
        let mut ledger = lock(&self.store.ledger);
        let (parent, name) = self.store.parent(path)?;
        self.entry_fits(&ledger, path, INODE_CHARGE)?;
        rustix::fs::mkdirat(&parent, name, rustix::fs::Mode::RWXU)?;
        ledger.added(INODE_CHARGE);
        let made = self.store.directory(path)?;
        rustix::fs::fchmod(&made, self.store.stored_mode(permissions, FileKind::Directory))?;
        drop(ledger);
        self.changed(Operation::CreateDirectory, path);
        Ok(())
    }

    /// Makes a symbolic link that stays within the volume.
    pub(crate) fn make_link(&self, path: &VolumePath, target: &str) -> Result<(), Fault> {
        self.check(path, Need::Write)?;
        path.link_target(target).map_err(|fault| self.refused(path, fault))?;
        let mut ledger = lock(&self.store.ledger);
        let (parent, name) = self.store.parent(path)?;
        let charge = INODE_CHARGE + target.len() as u64;
        self.entry_fits(&ledger, path, charge)?;
        rustix::fs::symlinkat(target, &parent, name)?;
        ledger.added(charge);
        drop(ledger);
        self.changed(Operation::Link, path);
        Ok(())
    }

    /// Removes a file or link, or an empty directory if `directory`.
    pub(crate) fn remove(&self, path: &VolumePath, directory: bool) -> Result<(), Fault> {
        self.check(path, Need::Write)?;
        let mut ledger = lock(&self.store.ledger);
        let (parent, name) = self.store.parent(path)?;
        let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::unlinkat(&parent, name, if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() })?;
        match Attributes::of(&stat) {
            Ok(attributes) => ledger.removed(&attributes),
            Err(_) => ledger.removed_special(),
        }
        drop(ledger);
        self.changed(Operation::Remove, path);
        Ok(())
    }

    /// Removes a directory and all below it; each name goes through [`Self::remove`].
    pub(crate) fn remove_all(&self, path: &VolumePath) -> Result<(), Fault> {
        self.check(path, Need::WriteAll)?;
        let mut pending = vec![(path.clone(), false)];
        while let Some((directory, emptied)) = pending.pop() {
            if emptied {
                self.remove(&directory, true)?;
                continue;
            }
            pending.push((directory.clone(), true));
            for (name, kind) in self.entries(&directory)? {
                let below = directory.join(&name)?;
                match kind {
                    FileKind::Directory => pending.push((below, false)),
                    FileKind::File | FileKind::Symlink => self.remove(&below, false)?,
                }
            }
        }
        Ok(())
    }

    /// Moves a file, link or directory. Both places must be writable; for a directory, with all below it.
    pub(crate) fn rename(&self, from: &VolumePath, to: &VolumePath, how: Rename) -> Result<(), Fault> {
        self.check(from, Need::Write)?;
        self.check(to, Need::Write)?;
        let mut ledger = lock(&self.store.ledger);
        let (from_parent, from_name) = self.store.parent(from)?;
        let (to_parent, to_name) = self.store.parent(to)?;
        let moved = Attributes::of(&rustix::fs::statat(&from_parent, from_name, AtFlags::SYMLINK_NOFOLLOW)?)?;
        let there = match rustix::fs::statat(&to_parent, to_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(Attributes::of(&stat)?),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        let exchanged = there.filter(|_| how == Rename::Exchange);
        if [Some(moved), exchanged].into_iter().flatten().any(|found| found.kind == FileKind::Directory) {
            self.check(from, Need::WriteAll)?;
            self.check(to, Need::WriteAll)?;
            self.fits_below(from, to)?;
            if exchanged.is_some() {
                self.fits_below(to, from)?;
            }
        }
        let flags = match how {
            Rename::Replace => RenameFlags::empty(),
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        rustix::fs::renameat_with(&from_parent, from_name, &to_parent, to_name, flags)?;
        if let Some(gone) = there.filter(|gone| how == Rename::Replace && gone.inode != moved.inode) {
            ledger.removed(&gone);
        }
        drop(ledger);
        self.changed(Operation::Rename, from);
        self.changed(Operation::Rename, to);
        Ok(())
    }

    /// Whether all below `from` can still be named at `to`: each path must stay under the limit of its length.
    fn fits_below(&self, from: &VolumePath, to: &VolumePath) -> Result<(), Fault> {
        if to.as_str().len() <= from.as_str().len() {
            return Ok(());
        }
        let mut pending = vec![(from.clone(), to.clone())];
        while let Some((old, new)) = pending.pop() {
            let fd = match self.store.directory(&old) {
                Err(Fault::Os(Errno::NOTDIR)) => continue,
                other => other?,
            };
            for entry in rustix::fs::Dir::read_from(&fd)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().to_str() else { continue };
                if matches!(name, "." | "..") {
                    continue;
                }
                let below = new.join(name).map_err(|_| Fault::Os(Errno::NAMETOOLONG))?;
                if matches!(
                    entry.file_type(),
                    rustix::fs::FileType::Directory | rustix::fs::FileType::Unknown
                ) {
                    pending.push((old.join(name)?, below));
                }
            }
        }
        Ok(())
    }

    /// Sets permissions and times. Permissions of links are not a thing; setuid and setgid are dropped.
    pub(crate) fn set_attributes(&self, path: &VolumePath, new: &NewAttributes) -> Result<(), Fault> {
        self.check(path, Need::Write)?;
        let kind = self.store.attributes(path)?.kind;
        if let Some(mode) = new.mode {
            let flags = match kind {
                FileKind::File => OFlags::RDONLY | OFlags::NONBLOCK,
                FileKind::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
                FileKind::Symlink => return Err(Fault::Os(Errno::OPNOTSUPP)),
            };
            let fd = self.store.open(path, flags, 0)?;
            let now = Attributes::of(&rustix::fs::fstat(&fd)?)?;
            if now.kind == FileKind::File && now.links > 1 {
                return Err(self.refused(path, Fault::HardLink));
            }
            rustix::fs::fchmod(&fd, self.store.stored_mode(mode, now.kind))?;
        }
        if new.accessed.is_some() || new.modified.is_some() {
            let times =
                Timestamps { last_access: timespec(new.accessed), last_modification: timespec(new.modified) };
            match path.split() {
                Some(_) => {
                    let (parent, name) = self.store.parent(path)?;
                    rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                }
                None => rustix::fs::futimens(self.store.directory(path)?, &times)?,
            }
        }
        self.record(Operation::Attributes, path, 0, 0);
        self.store.notify(self.origin, || Change::Content(path.clone()));
        Ok(())
    }

    /// The same on an open file, whose name may be gone.
    pub(crate) fn set_open_attributes(&self, file: &OpenFile, new: &NewAttributes) -> Result<(), Fault> {
        self.check(&file.path, Need::Write)?;
        if let Some(mode) = new.mode {
            rustix::fs::fchmod(&file.fd, self.store.stored_mode(mode, FileKind::File))?;
        }
        if new.accessed.is_some() || new.modified.is_some() {
            let times =
                Timestamps { last_access: timespec(new.accessed), last_modification: timespec(new.modified) };
            rustix::fs::futimens(&file.fd, &times)?;
        }
        self.recorder.record(Operation::Attributes, &file.label, 0, 0);
        self.store.notify(self.origin, || Change::Content(file.path.clone()));
        Ok(())
    }

    /// Makes or replaces a file, whole or not at all: it is written beside the tree and moved to its place.
    pub(crate) fn replace(&self, path: &VolumePath, bytes: &[u8]) -> Result<(), Fault> {
        self.check(path, Need::Write)?;
        let mut ledger = lock(&self.store.ledger);
        let (parent, name) = self.store.parent(path)?;
        let before = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(Attributes::of(&stat)?),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        match before.map(|before| before.kind) {
            Some(FileKind::Directory) => return Err(Fault::Os(Errno::ISDIR)),
            Some(FileKind::Symlink) => return Err(Fault::Os(Errno::LOOP)),
            Some(FileKind::File) | None => {}
        }
        let charge = INODE_CHARGE + bytes.len() as u64;
        match &before {
            Some(before) => self.fits(&ledger, path, charge.saturating_sub(before.charge()))?,
            None => self.entry_fits(&ledger, path, charge)?,
        }
        let (staged, staged_name) = self.store.stage()?;
        let mode = before.map_or(0o644, |before| before.mode);
        let placed = write_all(&staged, bytes)
            .and_then(|()| rustix::fs::fchmod(&staged, self.store.stored_mode(mode, FileKind::File)))
            .and_then(|()| rustix::fs::renameat(self.store.staging(), staged_name.as_str(), &parent, name));
        if let Err(errno) = placed {
            let _ = rustix::fs::unlinkat(self.store.staging(), staged_name.as_str(), AtFlags::empty());
            return Err(errno.into());
        }
        ledger.added(charge);
        if let Some(before) = before {
            ledger.removed(&before);
        }
        drop(ledger);
        let operation = if before.is_some() { Operation::Write } else { Operation::Create };
        self.record(operation, path, 0, bytes.len() as u64);
        if operation == Operation::Create {
            self.record(Operation::Write, path, 0, bytes.len() as u64);
        }
        self.store.notify(self.origin, || Change::Entry(path.clone()));
        Ok(())
    }

    fn changed(&self, operation: Operation, path: &VolumePath) {
        self.record(operation, path, 0, 0);
        self.store.notify(self.origin, || Change::Entry(path.clone()));
    }
}

fn write_all(fd: &rustix::fd::OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn timespec(stamp: Option<Stamp>) -> Timespec {
    match stamp {
        Some(Stamp::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(Stamp::At(seconds, nanoseconds)) => {
            Timespec { tv_sec: seconds, tv_nsec: nanoseconds.min(999_999_999).into() }
        }
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    }
}
