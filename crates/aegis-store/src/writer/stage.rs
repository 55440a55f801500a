//! Staging: what a batch will write, worked out in memory before its transaction begins.

use std::collections::HashMap;

use aegis_core::{BlobId, Event, StreamId};
use aegis_kernel::port::{Append, Appended, BlobCopy, Ids, JournalError};
use aegis_security::canonical;
use aegis_security::merkle::{Frontier, leaf_hash};

use super::{EVIDENCE, WORKING};

/// One row of `events`.
pub(super) struct EventRow {
    pub(super) event: Event,
    pub(super) stream: String,
    pub(super) hash: [u8; 32],
    pub(super) leaf: Vec<u8>,
}

/// One row of `blobs`.
pub(super) struct BlobRow {
    pub(super) id: BlobId,
    pub(super) stream: String,
    pub(super) copy: i64,
    pub(super) sealed: Vec<u8>,
}

/// Everything one transaction writes.
pub(super) struct Staged {
    pub(super) frontier: Frontier,
    pub(super) positions: HashMap<StreamId, u64>,
    pub(super) events: Vec<EventRow>,
    pub(super) blobs: Vec<BlobRow>,
    /// Stream, copy, key.
    pub(super) new_keys: Vec<(StreamId, i64, i64)>,
}

pub(super) const fn copy_number(copy: BlobCopy) -> i64 {
    match copy {
        BlobCopy::Evidence => EVIDENCE,
        BlobCopy::Working => WORKING,
    }
}

impl Staged {
    pub(super) fn new(frontier: Frontier) -> Self {
        Self {
            frontier,
            positions: HashMap::new(),
            events: Vec::new(),
            blobs: Vec::new(),
            new_keys: Vec::new(),
        }
    }

    /// Gives the events of an append their places, or refuses all of them.
    pub(super) fn take(
        &mut self,
        append: Append,
        known: &HashMap<StreamId, u64>,
        ids: &dyn Ids,
    ) -> Result<Appended, JournalError> {
        let position = self.positions.get(&append.stream).or_else(|| known.get(&append.stream));
        let position = position.copied().unwrap_or(0);
        if let Some(expected) = append.expected
            && expected != position
        {
            return Err(JournalError::Conflict {
                stream: append.stream.to_string(),
                expected,
                actual: position,
            });
        }
        if append.events.is_empty() {
            return Err(JournalError::Store("an append needs at least one event".to_owned()));
        }
        let stream = append.stream.to_string();
        let mut rows = Vec::with_capacity(append.events.len());
        for (place, new) in (1u64..).zip(append.events) {
            let event = Event {
                seq: self.frontier.size() + place - 1,
                id: new.id,
                at: new.at,
                tenant: append.tenant.clone(),
                stream: append.stream,
                stream_seq: position + place,
                span: new.span,
                actor: new.actor,
                body: new.body,
            };
            rows.push(event_row(event, &stream, ids)?);
        }
        let appended = Appended {
            seq: self.frontier.size() + rows.len() as u64 - 1,
            stream_seq: position + rows.len() as u64,
        };
        for row in &rows {
            self.frontier.push(aegis_core::Sha256::from_bytes(row.hash));
        }
        self.positions.insert(append.stream, appended.stream_seq);
        self.events.append(&mut rows);
        Ok(appended)
    }
}

fn event_row(event: Event, stream: &str, ids: &dyn Ids) -> Result<EventRow, JournalError> {
    let refused = |error: &dyn std::fmt::Display| {
        JournalError::Store(format!("event `{}` cannot be stored: {error}", event.body.kind()))
    };
    let mut nonce = [0u8; 16];
    ids.fill(&mut nonce);
    let value = event.to_leaf(nonce).map_err(|error| refused(&error))?;
    let leaf = canonical::to_bytes(&value).map_err(|error| refused(&error))?;
    let hash = *leaf_hash(&leaf).as_bytes();
    Ok(EventRow { event, stream: stream.to_owned(), hash, leaf })
}
