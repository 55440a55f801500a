//! One volume on the local disk: its descriptors, its ledger of bytes, and who is told of changes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use aegis_kernel::port::FileKind;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::fault::Fault;
use super::lock;
use super::path::VolumePath;

/// Bytes charged for each file, link and directory beside its content, so that empty ones are bounded too.
pub(crate) const INODE_CHARGE: u64 = 4096;
/// Most files, links and directories of a volume, whatever its size: its tree is told to the journal whole, and is in
/// memory while it is.
pub(crate) const ENTRIES_MAX: u64 = 100_000;
/// The permission bits a file may have: no setuid, no setgid.
const PERMISSION_BITS: u32 = 0o1777;
/// How often a resolution that a concurrent rename disturbed is tried again.
const RESOLVE_TRIES: usize = 8;

/// No symbolic link is followed, no mount is crossed, nothing above the root is reached: links are resolved by the
/// core, name by name, or by the kernel in front of it.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);

/// What is known of a file, directory or link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) kind: FileKind,
    pub(crate) size: u64,
    /// Permission bits, without setuid and setgid.
    pub(crate) mode: u32,
    pub(crate) links: u32,
    /// Seconds and nanoseconds since the Unix epoch.
    pub(crate) accessed: (i64, u32),
    pub(crate) modified: (i64, u32),
    pub(crate) changed: (i64, u32),
    /// The inode of the store below.
    pub(crate) inode: u64,
}

impl Attributes {
    /// From the system's answer; sockets, FIFOs and devices are refused.
    pub(crate) fn of(stat: &Stat) -> Result<Self, Fault> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            _ => return Err(Fault::Special),
        };
        let nanoseconds = |value| u32::try_from(value).unwrap_or(0);
        Ok(Self {
            kind,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & PERMISSION_BITS,
            links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            accessed: (stat.st_atime, nanoseconds(stat.st_atime_nsec)),
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
            inode: stat.st_ino,
        })
    }

    /// What it costs of the limit.
    pub(crate) fn charge(&self) -> u64 {
        let content = if self.kind == FileKind::Directory { 0 } else { self.size };
        INODE_CHARGE.saturating_add(content)
    }
}

/// What changed, told to the fronts that did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A name was made, removed, or stands for another file.
    Entry(VolumePath),
    /// Content or attributes of a file.
    Content(VolumePath),
}

/// Hears of changes. Called without any lock of the core held.
pub(crate) trait Watcher: Send + Sync {
    /// `wait`: return when it is in effect (bounded).
    fn changed(&self, change: &Change, wait: bool);
}

/// An inode that is open.
#[derive(Debug, Default)]
struct OpenInode {
    handles: u32,
    /// Its last name is gone; it is charged until its last handle is.
    unlinked: bool,
}

/// The count of bytes. Every change of sizes or names happens under its lock, so that it is exact.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    used: u64,
    /// Names in the tree. What has lost its name is charged while it is open, but is no entry.
    entries: u64,
    open: HashMap<u64, OpenInode>,
}

impl Ledger {
    /// Bytes in use, charges included.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }
    /// Names in the tree.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }
    /// Whether one more name fits, with `more` bytes.
    pub(crate) fn check_entry(&self, more: u64, limit: u64) -> Result<(), Fault> {
        if self.entries >= ENTRIES_MAX {
            return Err(Fault::TooMany);
        }
        self.check(more, limit)
    }
    /// Whether `more` bytes fit.
    pub(crate) fn check(&self, more: u64, limit: u64) -> Result<(), Fault> {
        if more > 0 && self.used.saturating_add(more) > limit { Err(Fault::Full(limit)) } else { Ok(()) }
    }
    /// Takes the change of a size or charge into account.
    pub(crate) fn replace(&mut self, before: u64, after: u64) {
        self.used = self.used.saturating_sub(before).saturating_add(after);
    }
    /// A name is made for what costs `charge`.
    pub(crate) fn added(&mut self, charge: u64) {
        self.entries = self.entries.saturating_add(1);
        self.replace(0, charge);
    }
    /// The name of something that no program made here is gone.
    pub(crate) fn removed_special(&mut self) {
        self.entries = self.entries.saturating_sub(1);
        self.replace(INODE_CHARGE, 0);
    }
    /// A file is held open.
    pub(crate) fn opened(&mut self, inode: u64) {
        self.open.entry(inode).or_default().handles += 1;
    }
    /// A name is gone: its charge is too, unless the file is open still.
    pub(crate) fn removed(&mut self, attributes: &Attributes) {
        self.entries = self.entries.saturating_sub(1);
        match self.open.get_mut(&attributes.inode) {
            Some(open) => open.unlinked = true,
            None => self.replace(attributes.charge(), 0),
        }
    }
    /// A handle is closed; `charge` is the file's now.
    fn closed(&mut self, inode: u64, charge: u64) {
        let Some(open) = self.open.get_mut(&inode) else { return };
        open.handles -= 1;
        if open.handles == 0 {
            let unlinked = open.unlinked;
            self.open.remove(&inode);
            if unlinked {
                self.replace(charge, 0);
            }
        }
    }
}

/// One volume, shared by all its grants.
pub(crate) struct Store {
    root: OwnedFd,
    staging: OwnedFd,
    /// The limit it was made with.
    limit: u64,
    staged: AtomicU64,
    pub(super) ledger: Mutex<Ledger>,
    watchers: Mutex<Vec<(u64, Weak<dyn Watcher>)>>,
    /// When the daemon is not root, files must stay open to their owner for the core to serve them.
    owner_bits: bool,
}

impl Store {
    /// Opens the volume in `folder` (which holds `root` and `staging`), clears what an interrupted replacement
    /// left, and counts what is there.
    pub(crate) fn load(folder: &Path, limit: u64) -> Result<Self, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |name| rustix::fs::open(folder.join(name), flags, Mode::empty());
        let store = Self {
            root: open("root")?,
            staging: open("staging")?,
            limit,
            staged: AtomicU64::new(0),
            ledger: Mutex::default(),
            watchers: Mutex::default(),
            owner_bits: !rustix::process::geteuid().is_root(),
        };
        for entry in Dir::read_from(&store.staging)? {
            let entry = entry?;
            if entry.file_type() == FileType::RegularFile {
                rustix::fs::unlinkat(&store.staging, entry.file_name(), AtFlags::empty())?;
            }
        }
        let (used, entries) = store.count()?;
        *lock(&store.ledger) = Ledger { used, entries, open: HashMap::new() };
        Ok(store)
    }

    /// Bytes in use, charges included, and names in the tree.
    fn count(&self) -> Result<(u64, u64), Fault> {
        let (mut used, mut entries) = (0_u64, 0_u64);
        let mut pending = vec![VolumePath::root()];
        while let Some(directory) = pending.pop() {
            let fd = self.directory(&directory)?;
            for entry in Dir::read_from(&fd)? {
                let entry = entry?;
                if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    continue;
                }
                entries = entries.saturating_add(1);
                let stat = rustix::fs::statat(&fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                let attributes = Attributes::of(&stat);
                used = used.saturating_add(attributes.map_or(INODE_CHARGE, |found| found.charge()));
                if let (Ok(FileKind::Directory), Ok(name)) =
                    (attributes.map(|found| found.kind), entry.file_name().to_str())
                {
                    pending.push(directory.join(name)?);
                }
            }
        }
        Ok((used, entries))
    }

    /// The volume's limit or the grant's, whichever is less.
    pub(crate) fn limit(&self, granted: u64) -> u64 {
        self.limit.min(granted)
    }

    /// The one way to a file of the volume.
    pub(crate) fn open(&self, path: &VolumePath, flags: OFlags, mode: u32) -> Result<OwnedFd, Fault> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & PERMISSION_BITS);
        for _ in 0..RESOLVE_TRIES {
            match rustix::fs::openat2(&self.root, path.to_open(), flags, mode, RESOLVE) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
        Err(Fault::Os(Errno::BUSY))
    }

    /// A directory, to look into or to name entries of.
    pub(crate) fn directory(&self, path: &VolumePath) -> Result<OwnedFd, Fault> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)
    }

    /// The directory that holds `path`, and its name there; the root has none.
    pub(crate) fn parent<'a>(&self, path: &'a VolumePath) -> Result<(OwnedFd, &'a str), Fault> {
        let (parent, name) = path.split().ok_or(Fault::Os(Errno::BUSY))?;
        Ok((self.open(&parent, OFlags::PATH | OFlags::DIRECTORY, 0)?, name))
    }

    /// What is at `path`; a link itself, not where it leads.
    pub(crate) fn attributes(&self, path: &VolumePath) -> Result<Attributes, Fault> {
        let fd = self.open(path, OFlags::PATH, 0)?;
        Attributes::of(&rustix::fs::fstat(&fd)?)
    }

    /// The bits a file is stored with for the mode asked for.
    pub(crate) fn stored_mode(&self, mode: u32, kind: FileKind) -> Mode {
        let owner = match (self.owner_bits, kind) {
            (false, _) => 0,
            (true, FileKind::Directory) => 0o700,
            (true, _) => 0o600,
        };
        Mode::from_raw_mode((mode & PERMISSION_BITS) | owner)
    }

    /// A new, empty file outside the tree that programs see, on the same file system, and its name there.
    pub(crate) fn stage(&self) -> Result<(OwnedFd, String), Fault> {
        let name = self.staged.fetch_add(1, Ordering::Relaxed).to_string();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok((rustix::fs::openat(&self.staging, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?, name))
    }

    /// Where staged files lie.
    pub(crate) fn staging(&self) -> impl AsFd {
        &self.staging
    }

    /// A handle is closed.
    pub(crate) fn closed(&self, fd: &OwnedFd, inode: u64) {
        let mut ledger = lock(&self.ledger);
        let charge = rustix::fs::fstat(fd).ok().and_then(|stat| Attributes::of(&stat).ok());
        ledger.closed(inode, charge.map_or(0, |attributes| attributes.charge()));
    }

    /// Tells `watcher` of changes that others than `id` make, as long as it lives.
    pub(crate) fn watch(&self, id: u64, watcher: Weak<dyn Watcher>) {
        let mut watchers = lock(&self.watchers);
        watchers.retain(|(_, other)| other.strong_count() > 0);
        watchers.push((id, watcher));
    }

    /// Tells all fronts but `origin`; tools wait until it is in effect.
    pub(crate) fn notify(&self, origin: Option<u64>, change: impl FnOnce() -> Change) {
        let others: Vec<Arc<dyn Watcher>> = lock(&self.watchers)
            .iter()
            .filter(|(id, _)| Some(*id) != origin)
            .filter_map(|(_, watcher)| watcher.upgrade())
            .collect();
        if others.is_empty() {
            return;
        }
        let change = change();
        for watcher in others {
            watcher.changed(&change, origin.is_none());
        }
    }
}
