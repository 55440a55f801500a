//! Export: a range of the log as JSON Lines that can be checked with the log's public key alone.
//!
//! The first line is the header, each other line the exact bytes of one event. The frontier before the range is only a
//! claim; the consistency proof from the range's end to the signed head is what binds it.

use std::io::{BufRead, Write};
use std::ops::Range;

use aegis_core::Sha256;
use aegis_kernel::port::JournalError;
use aegis_security::checkpoint::Checkpoint;
use aegis_security::merkle::{Frontier, consistency_nodes, consistency_proof, leaf_hash, verify_consistency};
use aegis_security::note::NoteKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqlitePool;

use crate::folder::Folder;
use crate::leaves::{Archive, segments};
use crate::open::frontier_at;
use crate::prove::newest;
use crate::store::Store;
use crate::tree::load_nodes;
use crate::writer::store_error;

/// The form of exports this version writes and reads.
const VERSION: u32 = 1;
/// Longest line of an export that is read, in bytes.
const LINE_BYTES_MAX: usize = 8 << 20;

/// The first line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportHeader {
    /// Form of the export.
    pub aegis_export: u32,
    /// The log's raw Ed25519 public key, base64. For information: who checks brings the key from elsewhere.
    pub public_key: String,
    /// The signed head the range is proved under.
    pub checkpoint: String,
    /// First event.
    pub first: u64,
    /// One past the last event.
    pub next: u64,
    /// The tree before the range, base64.
    pub frontier: String,
    /// Consistency proof from the range's end to the signed head (RFC 6962, section 2.1.2).
    pub consistency: Vec<Sha256>,
}

/// An export that does not prove what it says.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It cannot be read.
    #[error("the export cannot be read")]
    Io(#[from] std::io::Error),
    /// It has another form.
    #[error("malformed export: {0}")]
    Malformed(String),
    /// Its head is not signed by the key.
    #[error("the export's signed head is not valid: {0}")]
    Checkpoint(String),
    /// Its events are not those that were signed.
    #[error("the events of the export are not those under its signed head: something in it was changed")]
    Differs,
    /// Events are missing or too many.
    #[error("the export says it holds {expected} events, but holds {found}")]
    Count {
        /// What the header says.
        expected: u64,
        /// What there is.
        found: u64,
    },
}

impl Store {
    /// Writes the events of `range` (cut to what is signed) with what is needed to check them; answers with the header.
    ///
    /// # Errors
    /// If the log or the writer fails.
    pub async fn export(
        &self,
        range: Range<u64>,
        to: &mut (dyn Write + Send),
    ) -> Result<ExportHeader, JournalError> {
        self.checkpoint().await?;
        write_export(&self.readers, &self.folder, &self.public_key, range, to).await
    }
}

/// Writes the export of what is signed.
pub(crate) async fn write_export(
    readers: &SqlitePool,
    folder: &Folder,
    public_key: &[u8; 32],
    range: Range<u64>,
    to: &mut (dyn Write + Send),
) -> Result<ExportHeader, JournalError> {
    let mut connection = readers.acquire().await.map_err(store_error)?;
    let (size, checkpoint) =
        newest(&mut connection).await?.ok_or_else(|| store_error("the log has no signed head"))?;
    let next = range.end.min(size);
    let first = range.start.min(next);
    let frontier = frontier_at(&mut connection, first).await.map_err(store_error)?;
    let nodes = consistency_nodes(next, size).map_err(store_error)?;
    let hashes = load_nodes(&mut connection, nodes.into_iter().flatten()).await.map_err(store_error)?;
    let consistency =
        consistency_proof(next, size, |node| hashes.get(&node).copied()).map_err(store_error)?;
    let header = ExportHeader {
        aegis_export: VERSION,
        public_key: STANDARD.encode(public_key),
        checkpoint,
        first,
        next,
        frontier: STANDARD.encode(frontier.to_bytes()),
        consistency,
    };
    let line = serde_json::to_string(&header).map_err(store_error)?;
    writeln!(to, "{line}").map_err(store_error)?;
    let mut archive = Archive::new(folder, segments(&mut connection).await.map_err(store_error)?);
    let mut rows = sqlx::query("SELECT seq, leaf FROM events WHERE seq >= ?1 AND seq < ?2 ORDER BY seq")
        .bind(first.cast_signed())
        .bind(next.cast_signed())
        .fetch(&mut *connection);
    while let Some(row) = rows.try_next().await.map_err(store_error)? {
        let written = match row.try_get::<Option<&[u8]>, _>(1).map_err(store_error)? {
            Some(leaf) => to.write_all(leaf),
            None => {
                let seq: i64 = row.try_get(0).map_err(store_error)?;
                to.write_all(&archive.leaf(seq.cast_unsigned()).map_err(store_error)?)
            }
        };
        written.and_then(|()| to.write_all(b"\n")).map_err(store_error)?;
    }
    Ok(header)
}

/// Checks an export with the log's raw Ed25519 public key alone; answers with its header.
///
/// # Errors
/// If anything in it was changed, left out, added or reordered, or its head is not signed by the key.
pub fn verify_export(from: &mut dyn BufRead, public_key: &[u8; 32]) -> Result<ExportHeader, ExportError> {
    let malformed = |error: &dyn std::fmt::Display| ExportError::Malformed(error.to_string());
    let mut line = Vec::new();
    read_line(from, &mut line)?;
    let header: ExportHeader = serde_json::from_slice(&line).map_err(|error| malformed(&error))?;
    if header.aegis_export != VERSION || header.first > header.next {
        return Err(malformed(&"a header of another form"));
    }
    let origin = header.checkpoint.lines().next().unwrap_or_default();
    let checkpoint = NoteKey::new(origin, *public_key)
        .map_err(|error| error.to_string())
        .and_then(|key| Checkpoint::open(&header.checkpoint, &key).map_err(|error| error.to_string()))
        .map_err(ExportError::Checkpoint)?;
    let frontier = STANDARD.decode(&header.frontier).map_err(|error| malformed(&error))?;
    let mut frontier = Frontier::from_bytes(&frontier).map_err(|error| malformed(&error))?;
    if frontier.size() != header.first {
        return Err(malformed(&"the frontier is not that before the range"));
    }
    while read_line(from, &mut line)? {
        frontier.push(leaf_hash(&line));
    }
    let (expected, found) = (header.next - header.first, frontier.size() - header.first);
    if expected != found {
        return Err(ExportError::Count { expected, found });
    }
    verify_consistency(header.next, &frontier.root(), checkpoint.size, &checkpoint.root, &header.consistency)
        .map_err(|_| ExportError::Differs)?;
    Ok(header)
}

/// Reads a line without its end; false at the end of the input.
fn read_line(from: &mut dyn BufRead, line: &mut Vec<u8>) -> Result<bool, ExportError> {
    line.clear();
    loop {
        let piece = from.fill_buf()?;
        if piece.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(piece.get(..end.unwrap_or(piece.len())).unwrap_or_default());
        let used = end.map_or(piece.len(), |end| end + 1);
        from.consume(used);
        if line.len() > LINE_BYTES_MAX {
            return Err(ExportError::Malformed(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
        }
        if end.is_some() {
            return Ok(true);
        }
    }
}
