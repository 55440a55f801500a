//! A data folder read beside the daemon that works on it.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use aegis_kernel::port::JournalError;
use aegis_security::signature::SigningKey;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};

use crate::backup::{copy_journal, copy_keys};
use crate::error::OpenError;
use crate::export::{ExportHeader, write_export};
use crate::folder::{Folder, key_file};
use crate::keys::KeyRing;
use crate::open::reader_options;
use crate::writer::store_error;

/// Reads a data folder without taking it: its daemon may run and write meanwhile. Signs nothing, so what is exported
/// ends with the newest head the daemon has signed.
pub struct Reading {
    readers: SqlitePool,
    folder: Folder,
    public_key: [u8; 32],
}

impl Reading {
    /// Opens `folder` to read.
    ///
    /// # Errors
    /// If it holds no journal, or the log's key is missing.
    pub async fn open(folder: &Path) -> Result<Self, OpenError> {
        let folder = Folder::at(folder);
        let path = folder.log_key();
        if !path.exists() {
            return Err(OpenError::File { path, reason: "there is no key of the log".to_owned() });
        }
        let public_key = SigningKey::from_seed(&*key_file(&path, |_| ())?).public_key();
        let readers =
            SqlitePoolOptions::new().max_connections(1).connect_with(reader_options(&folder)).await?;
        Ok(Self { readers, folder, public_key })
    }

    /// The raw Ed25519 key that verifies the log's heads.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// Writes the events of `range`, cut to what is signed; see [`Store::export`](crate::Store::export).
    ///
    /// # Errors
    /// If no head is signed yet, or the log or the writer fails.
    pub async fn export(
        &self,
        range: Range<u64>,
        to: &mut (dyn Write + Send),
    ) -> Result<ExportHeader, JournalError> {
        write_export(&self.readers, &self.folder, &self.public_key, range, to).await
    }

    /// Copies the journal without its keys; see [`Store::backup`](crate::Store::backup).
    ///
    /// # Errors
    /// If the folder holds a journal already or cannot be written.
    pub async fn backup(&self, to: &Path) -> Result<(), JournalError> {
        copy_journal(&self.readers, &self.folder, to).await
    }

    /// Copies the keys; see [`Store::backup_keys`](crate::Store::backup_keys).
    ///
    /// # Errors
    /// If either file exists or cannot be written.
    pub async fn backup_keys(&self, keys: &Path, node_key: &Path) -> Result<(), JournalError> {
        let ring = KeyRing::open_existing(&self.folder).await.map_err(store_error)?;
        let ring = ring.ok_or_else(|| store_error("the folder has no keys"))?;
        let copied = copy_keys(&self.readers, &ring, &self.folder, keys, node_key).await;
        ring.close().await;
        copied
    }

    /// Lets go of the folder.
    pub async fn close(&self) {
        self.readers.close().await;
    }
}
