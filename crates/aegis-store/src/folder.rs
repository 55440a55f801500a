//! The data folder: where things lie and who may read them.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::error::OpenError;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Disk kept in hand, so that outcomes of admitted actions can still be written on a full disk.
pub(crate) const BALLAST_BYTES: u64 = 16 << 20;

/// How long a lock may take to be free. A process that a killed daemon was just starting holds the daemon's locks
/// until it becomes another program or ends.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Paths below the data folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }
    /// Makes what is missing and takes away the rights of others.
    pub(crate) fn prepare(path: &Path) -> Result<Self, OpenError> {
        let folder = Self::at(path);
        for path in [folder.0.clone(), folder.keys(), folder.archive()] {
            DirBuilder::new()
                .recursive(true)
                .mode(FOLDER_MODE)
                .create(&path)
                .map_err(OpenError::io("create", &path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(FOLDER_MODE))
                .map_err(OpenError::io("set the mode of", &path))?;
        }
        Ok(folder)
    }
    /// Takes the folder for this process until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File, OpenError> {
        let path = self.0.join("lock");
        let file = private_file(&path).map_err(OpenError::io("open", &path))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(LOOK_AGAIN_AFTER);
                }
                Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(self.0.clone())),
                Err(TryLockError::Error(source)) => {
                    return Err(OpenError::Io { action: "lock", path, source });
                }
            }
        }
    }
    pub(crate) fn journal(&self) -> PathBuf {
        self.0.join("journal.db")
    }
    pub(crate) fn key_database(&self) -> PathBuf {
        self.0.join("keys.db")
    }
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }
    pub(crate) fn archive(&self) -> PathBuf {
        self.0.join("archive")
    }
    pub(crate) fn node_key(&self) -> PathBuf {
        self.keys().join("node.key")
    }
    /// The first of the files without which no blob opens that is not there.
    pub(crate) fn missing_key_file(&self) -> Option<PathBuf> {
        [self.key_database(), self.node_key()].into_iter().find(|path| !path.exists())
    }
    pub(crate) fn linkage_key(&self) -> PathBuf {
        self.keys().join("linkage.key")
    }
    pub(crate) fn log_key(&self) -> PathBuf {
        self.keys().join("log.key")
    }
    fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }
    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
    /// Bytes that may still be written to this disk.
    pub(crate) fn free_bytes(&self) -> std::io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.0)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
    /// Sets disk aside, if there is enough.
    pub(crate) fn keep_ballast(&self) -> std::io::Result<()> {
        let file = private_file(&self.ballast())?;
        if file.metadata()?.len() < BALLAST_BYTES {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES)?;
        }
        Ok(())
    }
    /// Gives the set-aside disk back. True if there was some.
    pub(crate) fn release_ballast(&self) -> bool {
        fs::remove_file(self.ballast()).is_ok()
    }
}

/// Opens a file that only its owner may read, and makes it if it is not there.
pub(crate) fn private_file(path: &Path) -> std::io::Result<File> {
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(FILE_MODE).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

/// Reads a 32-byte key file; makes it with `fill` if it is not there.
pub(crate) fn key_file(path: &Path, fill: impl FnOnce(&mut [u8])) -> Result<Zeroizing<[u8; 32]>, OpenError> {
    match fs::read(path) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| OpenError::File {
                path: path.to_owned(),
                reason: "expected 32 bytes of key; restore it from a backup".to_owned(),
            })?;
            Ok(Zeroizing::new(key))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut key = Zeroizing::new([0u8; 32]);
            fill(key.as_mut());
            write_new(path, key.as_ref()).map_err(OpenError::io("write", path))?;
            Ok(key)
        }
        Err(source) => Err(OpenError::Io { action: "read", path: path.to_owned(), source }),
    }
}

/// Writes a new private file whole or not at all, and syncs it and its folder.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = private_file(&part)?;
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    sync_parent(path)
}

/// Makes a new name in a folder survive loss of power.
pub(crate) fn sync_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
