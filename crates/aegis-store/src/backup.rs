//! Backup while running: a consistent copy of the journal; keys only when asked for, in a file of their own.

use std::path::Path;

use aegis_kernel::port::JournalError;
use sqlx::sqlite::SqlitePool;

use crate::folder::{Folder, private_file, sync_parent, write_new};
use crate::keys::KeyRing;
use crate::open::mark_as_copy;
use crate::store::Store;
use crate::writer::{EVIDENCE, store_error};

impl Store {
    /// Copies the journal, its archive and its signed heads to a new or empty folder, mode 0700. Keys are not in it:
    /// without them the copy verifies, but its blobs stay sealed. Opening it in place of the original needs
    /// `accept_restored`.
    ///
    /// # Errors
    /// If the folder holds a journal already or cannot be written.
    pub async fn backup(&self, to: &Path) -> Result<(), JournalError> {
        self.checkpoint().await?;
        copy_journal(&self.readers, &self.folder, to).await
    }

    /// Copies the keys of evidence to `keys` and the node key that opens them to `node_key`. Keep both apart from backups
    /// of the journal, and from each other. Keys of working copies are not in it: they are destroyed with their run.
    ///
    /// # Errors
    /// If either file exists or cannot be written.
    pub async fn backup_keys(&self, keys: &Path, node_key: &Path) -> Result<(), JournalError> {
        copy_keys(&self.readers, &self.keys, &self.folder, keys, node_key).await
    }
}

/// Copies the journal as it is now.
pub(crate) async fn copy_journal(
    readers: &SqlitePool,
    folder: &Folder,
    to: &Path,
) -> Result<(), JournalError> {
    let target = Folder::prepare(to).map_err(store_error)?;
    if target.journal().exists() {
        return Err(store_error(format!("`{}` holds a journal already; give an empty folder", to.display())));
    }
    // Segments first: one that is archived meanwhile is then still in the database copy.
    copy_files(&folder.archive(), &target.archive()).map_err(store_error)?;
    if let Err(error) = copy_database(readers, &target).await {
        // Half a copy is none, and must not stand in the way of the next.
        let _ = std::fs::remove_file(target.journal());
        return Err(error);
    }
    copy_files(&folder.archive(), &target.archive()).map_err(store_error)?;
    let heads = std::fs::read(folder.checkpoints()).map_err(store_error)?;
    write_new(&target.checkpoints(), &heads).map_err(store_error)
}

async fn copy_database(readers: &SqlitePool, target: &Folder) -> Result<(), JournalError> {
    let path = target.journal();
    // Made first: SQLite would make it readable by others.
    let file = private_file(&path).map_err(store_error)?;
    let text = path.to_str().ok_or_else(|| store_error("the folder's path is not UTF-8"))?;
    // VACUUM INTO writes another file; the reader's own database stays as it is.
    let mut connection = readers.acquire().await.map_err(store_error)?;
    sqlx::query("PRAGMA query_only = OFF").execute(&mut *connection).await.map_err(store_error)?;
    let copied = sqlx::query("VACUUM INTO ?1").bind(text.to_owned()).execute(&mut *connection).await;
    sqlx::query("PRAGMA query_only = ON").execute(&mut *connection).await.map_err(store_error)?;
    drop(connection);
    copied.map_err(store_error)?;
    mark_as_copy(&path).await.map_err(store_error)?;
    file.sync_all().and_then(|()| sync_parent(&path)).map_err(store_error)
}

/// Copies the keys of evidence that are in use. Keys of working copies are destroyed at the end of their run and those in
/// stock are not taken yet: a copy of either would open what was destroyed later.
pub(crate) async fn copy_keys(
    readers: &SqlitePool,
    ring: &KeyRing,
    folder: &Folder,
    keys: &Path,
    node_key: &Path,
) -> Result<(), JournalError> {
    for path in [keys, node_key] {
        if path.exists() {
            return Err(store_error(format!("`{}` is there already", path.display())));
        }
    }
    // Made first, so that the copy never is readable by others.
    let file = private_file(keys).map_err(store_error)?;
    let used: Vec<i64> = sqlx::query_scalar(
        "SELECT key FROM stream_keys WHERE copy = ?1 AND destroyed_at IS NULL ORDER BY key",
    )
    .bind(EVIDENCE)
    .fetch_all(readers)
    .await
    .map_err(store_error)?;
    ring.copy_to(keys, &used).await.map_err(store_error)?;
    file.sync_all().and_then(|()| sync_parent(keys)).map_err(store_error)?;
    let key = zeroize::Zeroizing::new(std::fs::read(folder.node_key()).map_err(store_error)?);
    write_new(node_key, &key).map_err(store_error)
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().extension().is_some_and(|extension| extension == "jsonl") && !target.exists() {
            write_new(&target, &std::fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
