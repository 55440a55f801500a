//! Proofs that an event is in the log, from the stored tiles: a few rows, whatever the log's size.

use aegis_core::Sha256;
use aegis_kernel::port::JournalError;
use aegis_security::checkpoint::{Checkpoint, verify_inclusion};
use aegis_security::merkle::{inclusion_nodes, inclusion_proof};
use aegis_security::note::NoteKey;
use serde::{Deserialize, Serialize};
use sqlx::Row;

use crate::leaves::{Archive, segments};
use crate::store::Store;
use crate::tree::load_nodes;
use crate::writer::store_error;

/// That an event is in the log a signed head is over; checked offline with the log's public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionProof {
    /// The event's place.
    pub seq: u64,
    /// Its exact bytes.
    pub leaf: String,
    /// The hashes from the leaf to the root (RFC 6962, section 2.1.1).
    pub hashes: Vec<Sha256>,
    /// The signed head (C2SP tlog-checkpoint).
    pub checkpoint: String,
}

impl InclusionProof {
    /// Checks the proof with the log's raw Ed25519 public key alone; answers with the head.
    ///
    /// # Errors
    /// A sentence, if the head is not signed by the key or the proof does not lead to its root.
    pub fn verify(&self, public_key: &[u8; 32]) -> Result<Checkpoint, String> {
        let origin = self.checkpoint.lines().next().unwrap_or_default();
        let key = NoteKey::new(origin, *public_key).map_err(|error| error.to_string())?;
        verify_inclusion(self.leaf.as_bytes(), self.seq, &self.hashes, &self.checkpoint, &key)
            .map_err(|error| error.to_string())
    }
}

impl Store {
    /// Proves that event `seq` is in the log, under the newest signed head; signs one if none is over it yet.
    ///
    /// # Errors
    /// If there is no such event, or its bytes or the nodes above it cannot be read.
    pub async fn prove(&self, seq: u64) -> Result<InclusionProof, JournalError> {
        let mut connection = self.readers.acquire().await.map_err(store_error)?;
        let mut note = newest(&mut connection).await?;
        if note.as_ref().is_none_or(|(size, _)| seq >= *size) {
            self.checkpoint().await?;
            note = newest(&mut connection).await?;
        }
        let (size, checkpoint) = note
            .filter(|(size, _)| seq < *size)
            .ok_or_else(|| store_error(format!("there is no event {seq}")))?;
        let nodes = inclusion_nodes(seq, size).map_err(store_error)?;
        let hashes = load_nodes(&mut connection, nodes.into_iter().flatten()).await.map_err(store_error)?;
        let hashes = inclusion_proof(seq, size, |node| hashes.get(&node).copied()).map_err(store_error)?;
        let leaf: Option<Vec<u8>> = sqlx::query_scalar("SELECT leaf FROM events WHERE seq = ?1")
            .bind(seq.cast_signed())
            .fetch_one(&mut *connection)
            .await
            .map_err(store_error)?;
        let leaf = match leaf {
            Some(leaf) => leaf,
            None => {
                let segments = segments(&mut connection).await.map_err(store_error)?;
                Archive::new(&self.folder, segments).leaf(seq).map_err(store_error)?
            }
        };
        let leaf = String::from_utf8(leaf).map_err(store_error)?;
        Ok(InclusionProof { seq, leaf, hashes, checkpoint })
    }
}

/// Size and note of the newest signed head.
pub(crate) async fn newest(
    connection: &mut sqlx::SqliteConnection,
) -> Result<Option<(u64, String)>, JournalError> {
    let row = sqlx::query("SELECT size, note FROM checkpoints ORDER BY number DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .map_err(store_error)?;
    let Some(row) = row else { return Ok(None) };
    let size: i64 = row.try_get(0).map_err(store_error)?;
    Ok(Some((size.cast_unsigned(), row.try_get(1).map_err(store_error)?)))
}
