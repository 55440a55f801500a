//! Texts behind references, read from the journal. What retention destroyed, or what does not open any more, is said
//! in its place: a list must not fail for one blob.

use std::collections::hash_map::Entry;

use aegis_core::{BlobRef, StreamId};
use aegis_kernel::port::{Journal, JournalError};

use crate::follow::Texts;

/// One text as the evidence holds it.
pub(crate) async fn text(journal: &dyn Journal, stream: StreamId, blob: &BlobRef) -> String {
    exact_text(journal, stream, &blob.evidence()).await
}

/// One text as it was, while its exact copy is there; then as the evidence holds it. For answers alone: who asked for a run
/// is given what it found.
pub(crate) async fn exact_text(journal: &dyn Journal, stream: StreamId, blob: &BlobRef) -> String {
    match journal.blob(stream, blob).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(JournalError::BlobDestroyed(_)) => "[destroyed by retention]".to_owned(),
        Err(error) => {
            tracing::warn!(%stream, blob = %blob.id, %error, "a text cannot be read");
            "[missing or damaged]".to_owned()
        }
    }
}

/// Several texts of one stream, each of the copy its reference names.
pub(crate) async fn texts(journal: &dyn Journal, stream: StreamId, blobs: &[BlobRef]) -> Texts {
    let mut texts = Texts::new();
    for blob in blobs {
        if let Entry::Vacant(unread) = texts.entry(blob.id) {
            unread.insert(exact_text(journal, stream, blob).await);
        }
    }
    texts
}
