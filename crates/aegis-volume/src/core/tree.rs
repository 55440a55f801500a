//! A volume's files with their digests, as they lie on the disk: the operator's and the journal's view.

use aegis_core::Sha256;
use aegis_kernel::port::{FileKind, Tree, TreeEntry};
use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::Digest;

use super::fault::Fault;
use super::file::OpenFile;
use super::path::VolumePath;
use super::store::ENTRIES_MAX;
use super::view::{Mode, View};

/// Most bytes of all paths of a recorded tree together: what [`ENTRIES_MAX`] does not bound.
pub(crate) const PATHS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How much of a file is in memory at a time.
const PIECE_BYTES: usize = 256 * 1024;

impl View {
    /// All files and links, sorted by path. What is removed meanwhile is left out. More than a tree may hold is an
    /// error before it is in memory.
    pub(crate) fn tree(&self) -> Result<Tree, Fault> {
        let mut entries: Vec<TreeEntry> = Vec::new();
        let (mut seen, mut paths_bytes) = (0, 0);
        let mut pending = vec![VolumePath::root()];
        while let Some(directory) = pending.pop() {
            let Some(names) = unless_gone(self.entries(&directory))? else { continue };
            for (name, kind) in names {
                let path = directory.join(&name)?;
                seen += 1;
                paths_bytes += path.as_str().len();
                if seen > ENTRIES_MAX || paths_bytes > PATHS_BYTES_MAX {
                    return Err(Fault::TooMany);
                }
                let digested = match kind {
                    FileKind::Directory => {
                        pending.push(path);
                        continue;
                    }
                    FileKind::File => self.digest_file(&path),
                    FileKind::Symlink => self.digest_link(&path),
                };
                match unless_gone(digested) {
                    Ok(Some((size, sha256))) => {
                        entries.push(TreeEntry { path: path.as_str().to_owned(), size, sha256 });
                    }
                    Ok(None) | Err(Fault::Special | Fault::HardLink) => {}
                    Err(fault) => return Err(fault),
                }
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { entries })
    }

    fn digest_file(&self, path: &VolumePath) -> Result<(u64, Sha256), Fault> {
        let file: OpenFile = self.open(path, Mode::Read)?;
        let mut digest = sha2::Sha256::new();
        let mut size = 0_u64;
        loop {
            let piece = self.read_at(&file, size, PIECE_BYTES)?;
            if piece.is_empty() {
                return Ok((size, Sha256::from_bytes(digest.finalize().into())));
            }
            digest.update(&piece);
            size += piece.len() as u64;
        }
    }

    fn digest_link(&self, path: &VolumePath) -> Result<(u64, Sha256), Fault> {
        let fd = self.store.open(path, OFlags::PATH, 0)?;
        let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
        let digest = sha2::Sha256::digest(target.as_bytes());
        Ok((target.as_bytes().len() as u64, Sha256::from_bytes(digest.into())))
    }
}

fn unless_gone<T>(result: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Fault::Os(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => Ok(None),
        Err(fault) => Err(fault),
    }
}
