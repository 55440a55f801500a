//! The tools' side of a grant.

use std::path::PathBuf;
use std::sync::Arc;

use aegis_kernel::port::{DirectoryEntry, FileKind, FileMeta, FileRecords, Files, Grant, Tree, VolumeError};
use rustix::io::Errno;

use crate::core::{Attributes, Fault, Mode, Recorder, Rules, View, VolumePath};
use crate::front::Front;

/// Files under a grant on a local volume.
pub(crate) struct GrantedFiles {
    pub(crate) grant: Grant,
    pub(crate) view: View,
    pub(crate) front: Option<Front>,
}

impl GrantedFiles {
    /// The path within the volume, links on the way followed; the one at the end only if `last`.
    fn resolve(&self, path: &str, last: bool) -> Result<VolumePath, Fault> {
        let named = VolumePath::from_sandbox(path, &self.grant.mount_path);
        let named = named.map_err(|fault| self.view.refused(&VolumePath::root(), fault))?;
        self.view.follow(&named, last)
    }

    fn make_directories(&self, path: &VolumePath) -> Result<(), Fault> {
        match self.view.attributes(path) {
            Ok(found) if found.kind == FileKind::Directory => return Ok(()),
            Ok(_) => return Err(Fault::Os(Errno::NOTDIR)),
            Err(Fault::Os(Errno::NOENT)) => {}
            Err(fault) => return Err(fault),
        }
        if let Some((parent, _)) = path.split() {
            self.make_directories(&parent)?;
        }
        match self.view.make_directory(path, 0o755) {
            Err(Fault::Os(Errno::EXIST)) => Ok(()),
            other => other,
        }
    }
}

impl Files for GrantedFiles {
    fn grant(&self) -> &Grant {
        &self.grant
    }

    fn mount_point(&self) -> Option<PathBuf> {
        self.front.as_ref().map(|front| front.mount_point().to_owned())
    }

    fn stat(&self, path: &str) -> Result<FileMeta, VolumeError> {
        let look = || {
            let at = self.resolve(path, false)?;
            let attributes = self.view.attributes(&at)?;
            self.view.looked(&at);
            Ok(meta(&attributes))
        };
        look().map_err(|fault: Fault| fault.at(path))
    }

    fn read(&self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>, VolumeError> {
        let read = || {
            let file = self.view.open(&self.resolve(path, true)?, Mode::Read)?;
            self.view.read_at(&file, offset, length)
        };
        read().map_err(|fault: Fault| fault.at(path))
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), VolumeError> {
        let write = || {
            let at = self.resolve(path, true)?;
            self.view.may_write(&at)?;
            if let Some((parent, _)) = at.split() {
                self.make_directories(&parent)?;
            }
            self.view.replace(&at, bytes)
        };
        write().map_err(|fault: Fault| fault.at(path))
    }

    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, VolumeError> {
        let list = || {
            let at = self.resolve(path, true)?;
            let mut listed = Vec::new();
            for (name, _) in self.view.entries(&at)? {
                match self.view.attributes(&at.join(&name)?) {
                    Ok(attributes) => listed.push(DirectoryEntry { name, meta: meta(&attributes) }),
                    // Removed or replaced meanwhile.
                    Err(Fault::Os(Errno::NOENT | Errno::NOTDIR) | Fault::Special) => {}
                    Err(fault) => return Err(fault),
                }
            }
            listed.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(listed)
        };
        list().map_err(|fault: Fault| fault.at(path))
    }

    fn create_dir(&self, path: &str) -> Result<(), VolumeError> {
        self.resolve(path, true).and_then(|at| self.make_directories(&at)).map_err(|fault| fault.at(path))
    }

    fn remove(&self, path: &str, recursive: bool) -> Result<(), VolumeError> {
        let remove = || {
            let at = self.resolve(path, false)?;
            let directory = self.view.attributes(&at)?.kind == FileKind::Directory;
            if at.is_root() {
                return Err(Fault::Os(Errno::BUSY));
            }
            if directory && recursive { self.view.remove_all(&at) } else { self.view.remove(&at, directory) }
        };
        remove().map_err(|fault: Fault| fault.at(path))
    }

    fn take_records(&self) -> Option<FileRecords> {
        self.view.recorder.take()
    }

    fn tree(&self) -> Result<Tree, VolumeError> {
        operator_view(&self.view).tree().map_err(|fault| fault.at(&self.grant.mount_path))
    }

    fn close(&self) {
        if let Some(front) = &self.front {
            front.close();
        }
    }
}

/// The same volume without a grant: for its recorded tree and for the operator.
pub(crate) fn operator_view(view: &View) -> View {
    View { rules: Arc::new(Rules::operator()), recorder: Arc::new(Recorder::default()), ..view.clone() }
}

fn meta(attributes: &Attributes) -> FileMeta {
    let (seconds, nanoseconds) = attributes.modified;
    FileMeta {
        kind: attributes.kind,
        size: attributes.size,
        modified_micros: seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanoseconds / 1000)),
    }
}
