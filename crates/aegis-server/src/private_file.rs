//! Small files that only the daemon's user reads, written whole or not at all.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file written aside and synced, which nobody reads under its name yet. Dropped, it is gone.
pub(crate) struct Staged {
    aside: PathBuf,
    path: PathBuf,
}

/// Writes `bytes` beside `path`, mode 0600, and syncs them.
pub(crate) fn stage(path: &Path, bytes: &[u8]) -> std::io::Result<Staged> {
    let staged = Staged { aside: path.with_extension("new"), path: path.to_owned() };
    let _ = std::fs::remove_file(&staged.aside);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged.aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(staged)
}

impl Staged {
    /// Puts it under its name, in the place of what was there, and syncs that.
    pub(crate) fn put(self) -> std::io::Result<()> {
        std::fs::rename(&self.aside, &self.path)?;
        sync_folder(&self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.aside);
    }
}

/// Makes a folder for such files, mode 0700, if it is not there.
pub(crate) fn folder(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Takes `path` away for good.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}
