//! An open regular file of a volume. It survives the removal of its name, and is charged as long as it is open.

use std::sync::Arc;

use aegis_kernel::port::FileKind;
use rustix::fd::OwnedFd;

use super::fault::Fault;
use super::lock;
use super::path::VolumePath;
use super::store::{Attributes, Ledger, Store};

/// An open file.
pub(crate) struct OpenFile {
    store: Arc<Store>,
    pub(super) fd: OwnedFd,
    inode: u64,
    pub(super) writable: bool,
    /// Where it was when it was opened.
    pub(super) path: VolumePath,
    /// The same as seen in the sandbox, for the records.
    pub(super) label: Arc<str>,
}

impl OpenFile {
    /// Takes a descriptor in if it is a regular file with exactly one name.
    pub(super) fn adopt(
        store: &Arc<Store>,
        fd: OwnedFd,
        writable: bool,
        path: &VolumePath,
        label: Arc<str>,
        ledger: Option<&mut Ledger>,
    ) -> Result<Self, Fault> {
        let attributes = Attributes::of(&rustix::fs::fstat(&fd)?)?;
        match (attributes.kind, attributes.links) {
            (FileKind::File, 1) => {}
            (FileKind::File, 0) => return Err(Fault::Os(rustix::io::Errno::NOENT)),
            (FileKind::File, _) => return Err(Fault::HardLink),
            (FileKind::Directory, _) => return Err(Fault::Os(rustix::io::Errno::ISDIR)),
            (FileKind::Symlink, _) => return Err(Fault::Os(rustix::io::Errno::LOOP)),
        }
        match ledger {
            Some(ledger) => ledger.opened(attributes.inode),
            None => {
                let mut ledger = lock(&store.ledger);
                // The name may have gone, and its charge with it, since the descriptor was opened.
                if rustix::fs::fstat(&fd)?.st_nlink == 0 {
                    return Err(Fault::Os(rustix::io::Errno::NOENT));
                }
                ledger.opened(attributes.inode);
            }
        }
        let store = Arc::clone(store);
        Ok(Self { store, fd, inode: attributes.inode, writable, path: path.clone(), label })
    }

    /// What it is now.
    pub(crate) fn attributes(&self) -> Result<Attributes, Fault> {
        Attributes::of(&rustix::fs::fstat(&self.fd)?)
    }

    /// Waits until its content is on the disk.
    pub(crate) fn sync(&self, data_only: bool) -> Result<(), Fault> {
        if data_only {
            rustix::fs::fdatasync(&self.fd)?
        } else {
            rustix::fs::fsync(&self.fd)?
        }
        Ok(())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.store.closed(&self.fd, self.inode);
    }
}
