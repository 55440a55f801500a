//! Reading blobs: the working copy while it lives, else the evidence copy.

use aegis_core::{BlobId, BlobRef, Sha256, StreamId};
use aegis_kernel::port::JournalError;
use bytes::Bytes;
use sqlx::Row;
use sqlx::sqlite::SqlitePool;

use crate::keys::KeyRing;
use crate::seal::open_blob;
use crate::writer::{WORKING, store_error};

pub(crate) async fn read(
    readers: &SqlitePool,
    keys: &KeyRing,
    stream: StreamId,
    blob: &BlobRef,
) -> Result<Bytes, JournalError> {
    if let Some(working) = blob.working {
        match read_copy(readers, keys, stream, working.id, &working.commitment).await {
            Err(JournalError::BlobDestroyed(_)) => {}
            read => return read,
        }
    }
    read_copy(readers, keys, stream, blob.id, &blob.commitment).await
}

async fn read_copy(
    readers: &SqlitePool,
    keys: &KeyRing,
    stream: StreamId,
    id: BlobId,
    commitment: &Sha256,
) -> Result<Bytes, JournalError> {
    let name = stream.to_string();
    // The copies are named so that the index serves.
    let row = sqlx::query(
        "SELECT b.sealed, k.key, k.destroyed_at, b.copy FROM blobs b \
         LEFT JOIN stream_keys k ON k.stream = b.stream AND k.copy = b.copy \
         WHERE b.stream = ?2 AND b.copy IN (0, 1) AND b.id = ?1",
    )
    .bind(id.uuid().as_bytes().to_vec())
    .bind(name.clone())
    .fetch_optional(readers)
    .await
    .map_err(store_error)?
    .ok_or(JournalError::BlobDamaged(id))?;
    if row.try_get::<Option<i64>, _>(2).map_err(store_error)?.is_some() {
        return Err(JournalError::BlobDestroyed(id));
    }
    let key: Option<i64> = row.try_get(1).map_err(store_error)?;
    let key = keys.get(key.ok_or(JournalError::BlobDamaged(id))?).await.map_err(store_error)?;
    let working = row.try_get::<i64, _>(3).map_err(store_error)? == WORKING;
    // A restored folder has no keys of working copies.
    let gone = if working { JournalError::BlobDestroyed(id) } else { JournalError::BlobDamaged(id) };
    let key = key.ok_or(gone)?;
    let sealed: &[u8] = row.try_get(0).map_err(store_error)?;
    open_blob(&key, &name, id, sealed, commitment).map(Bytes::from).map_err(|_| JournalError::BlobDamaged(id))
}
