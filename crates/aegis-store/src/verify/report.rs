//! What a verification found.

use std::fmt;

use aegis_core::{BlobId, Sha256};
use serde::Serialize;

/// Most findings of one kind that are listed; a journal that is all damage would not fit.
pub(super) const DAMAGE_MAX: usize = 1000;

/// Where a signed head was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadSource {
    /// The database.
    Database,
    /// The file `checkpoints` beside it.
    File,
    /// A copy kept elsewhere.
    Copy,
}

impl fmt::Display for HeadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "the database",
            Self::File => "the file `checkpoints`",
            Self::Copy => "the copy kept elsewhere",
        })
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "damage", rename_all = "snake_case")]
pub enum Damage {
    /// The bytes of an event do not match its hash.
    #[error("event {seq} was changed: its bytes do not match its hash")]
    EventChanged {
        /// Its place.
        seq: u64,
    },
    /// Bytes and hash of an event match, but the tree holds another hash for it.
    #[error("event {seq} was replaced: the tree holds another hash for it")]
    EventReplaced {
        /// Its place.
        seq: u64,
    },
    /// Events are not there.
    #[error("events {first} to {last} are missing")]
    EventsMissing {
        /// First.
        first: u64,
        /// Last.
        last: u64,
    },
    /// An event stands in another's place.
    #[error("events were reordered: place {seq} holds event {holds}")]
    EventMoved {
        /// The place.
        seq: u64,
        /// The event there.
        holds: u64,
    },
    /// A query column contradicts the event's bytes.
    #[error("column `{column}` of event {seq} contradicts its bytes")]
    Column {
        /// The event.
        seq: u64,
        /// The column.
        column: String,
    },
    /// A stream's positions are not dense.
    #[error("event {seq} is number {found} of its stream, where {expected} was expected")]
    StreamPosition {
        /// The event.
        seq: u64,
        /// What it says.
        found: u64,
        /// What its place demands.
        expected: u64,
    },
    /// The stored head is wrong.
    #[error("the journal's head is wrong: {0}")]
    Head(String),
    /// A signed head cannot be used.
    #[error("a signed head in {place} is not valid: {reason}")]
    Checkpoint {
        /// Where it was kept.
        place: HeadSource,
        /// Why.
        reason: String,
    },
    /// The log is not the one that was signed.
    #[error("the first {size} events are not those of the signed head in {place}")]
    CheckpointDiffers {
        /// Events under it.
        size: u64,
        /// Where it was kept.
        place: HeadSource,
    },
    /// The log ends before a signed head.
    #[error("the tail was cut: {journal} events are left, but the signed head in {place} is over {signed}")]
    TailCut {
        /// Events there are.
        journal: u64,
        /// Events there were.
        signed: u64,
        /// Where the head was kept.
        place: HeadSource,
    },
    /// A blob does not open or does not match its commitment.
    #[error("blob `{id}` of event {seq} was changed")]
    BlobChanged {
        /// The blob.
        id: BlobId,
        /// An event that commits to it.
        seq: u64,
    },
    /// A blob is not there and was not destroyed on record.
    #[error("blob `{id}` of event {seq} is missing")]
    BlobMissing {
        /// The blob.
        id: BlobId,
        /// An event that commits to it.
        seq: u64,
    },
    /// The envelope of a signed call is not by the session it names, or not the one that was counted.
    #[error("the envelope of event {seq} does not hold: {reason}")]
    Envelope {
        /// The event.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// A blob was destroyed, and no event says so.
    #[error("blob `{id}` of event {seq} was destroyed, and no event says so")]
    BlobDestroyedUnsaid {
        /// The blob.
        id: BlobId,
        /// An event that commits to it.
        seq: u64,
    },
    /// A projection's record is not what the events say.
    #[error("record `{id}` in `{table}` is not what the events say; `aegis journal rebuild` makes it anew")]
    Projection {
        /// The table.
        table: String,
        /// The record.
        id: String,
    },
    /// Something could not be read at all.
    #[error("the journal cannot be read: {0}")]
    Unreadable(String),
}

/// What was verified, and what is wrong.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// Events checked.
    pub events: u64,
    /// RFC 6962 root over them, if they are all there.
    pub root: Option<Sha256>,
    /// Signed heads checked.
    pub checkpoints: u64,
    /// Signed heads of former epochs that name events given up at a restore.
    pub superseded: u64,
    /// Blobs opened and held against their commitments.
    pub blobs: u64,
    /// Blobs that were destroyed on record.
    pub blobs_destroyed: u64,
    /// Blobs that are there but could not be opened, because their keys are not in the folder: what they hold is not
    /// checked.
    pub blobs_unchecked: u64,
    /// Which key file is missing, if that left blobs unchecked; `None` if the keys are those of a backup, which has no
    /// keys of working copies.
    pub keys_missing: Option<String>,
    /// Envelopes of signed calls checked against the key of their session.
    pub envelopes: u64,
    /// Envelopes that could not be checked: secrets were taken out of them, or they are destroyed or not opened.
    pub envelopes_unchecked: u64,
    /// Projection records compared.
    pub records: u64,
    /// Everything that is wrong; empty if nothing is.
    pub damage: Vec<Damage>,
}

impl VerifyReport {
    /// True if nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
    pub(super) fn found(&mut self, damage: Damage) {
        if self.damage.len() < DAMAGE_MAX {
            self.damage.push(damage);
        }
    }
}
