//! Events: hashes, order, columns and the tree over them. Rows stream from one connection to a thread that checks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aegis_core::{Body, Event, Sha256};
use aegis_security::merkle::{Frontier, leaf_hash};
use futures_util::TryStreamExt;
use serde::Deserialize;
use sqlx::{Row, SqliteConnection};
use tokio::sync::mpsc;

use super::report::{Damage, VerifyReport};
use crate::error::OpenError;
use crate::folder::Folder;
use crate::leaves::{Archive, segments};

/// Rows handed over at once.
const PIECE: usize = 512;
/// Pieces that may wait.
const PIECES_WAITING: usize = 8;

/// The small columns in one text: each column a row carries costs as much as checking it.
const ROWS: &str = "SELECT seq, stream || ' ' || stream_seq || ' ' || tenant || ' ' || kind || ' ' || at || ' ' || \
     lower(hex(trace_id)) AS said, hash, leaf FROM events ORDER BY seq";
const COLUMNS: [&str; 6] = ["stream", "stream_seq", "tenant", "kind", "at", "trace_id"];

/// What the events themselves say.
pub(super) struct Found {
    /// Events there are.
    pub(super) size: u64,
    /// Roots at the sizes asked for.
    pub(super) roots: BTreeMap<u64, Sha256>,
    /// From here on the tree is not known: something is missing.
    pub(super) broken_at: Option<u64>,
    pub(super) frontier: Frontier,
    /// Place and origin of each epoch.
    pub(super) epochs: Vec<(u64, String)>,
}

/// One row of `events`.
struct Stored {
    seq: u64,
    said: String,
    hash: Vec<u8>,
    leaf: Vec<u8>,
}

/// The fields of a leaf that columns repeat.
#[derive(Deserialize)]
struct Leaf<'a> {
    seq: u64,
    stream: &'a str,
    stream_seq: u64,
    tenant: &'a str,
    kind: &'a str,
    at: i64,
    #[serde(borrow)]
    span: Span<'a>,
}

#[derive(Deserialize)]
struct Span<'a> {
    trace_id: &'a str,
}

pub(super) async fn check(
    connection: &mut SqliteConnection,
    folder: &Folder,
    sizes: BTreeSet<u64>,
    report: &mut VerifyReport,
) -> Result<Found, OpenError> {
    let mut archive = Archive::new(folder, segments(connection).await?);
    let (pieces, mut incoming) = mpsc::channel::<Vec<Stored>>(PIECES_WAITING);
    let checker = tokio::task::spawn_blocking(move || {
        let mut check = Check::new(sizes);
        while let Some(piece) = incoming.blocking_recv() {
            for row in piece {
                check.row(&row);
            }
        }
        check
    });
    let mut rows = sqlx::query(ROWS).fetch(connection);
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        let row = match rows.try_next().await {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(error) => {
                report.found(Damage::Unreadable(error.to_string()));
                break;
            }
        };
        let seq = row.try_get::<i64, _>(0)?.cast_unsigned();
        let leaf = match row.try_get::<Option<Vec<u8>>, _>(3)? {
            Some(leaf) => leaf,
            None => archive.leaf(seq).unwrap_or_default(),
        };
        piece.push(Stored { seq, said: row.try_get(1)?, hash: row.try_get(2)?, leaf });
        if piece.len() == PIECE {
            // The checker ends only when the channel does.
            let _ = pieces.send(std::mem::replace(&mut piece, Vec::with_capacity(PIECE))).await;
        }
    }
    let _ = pieces.send(piece).await;
    drop(pieces);
    let check = checker.await.map_err(|error| OpenError::Damaged(error.to_string()))?;
    report.events = check.events;
    for damage in check.damage {
        report.found(damage);
    }
    Ok(check.found)
}

struct Check {
    found: Found,
    sizes: BTreeSet<u64>,
    positions: HashMap<String, u64>,
    events: u64,
    damage: Vec<Damage>,
    said: String,
}

impl Check {
    fn new(sizes: BTreeSet<u64>) -> Self {
        let found = Found {
            size: 0,
            roots: BTreeMap::new(),
            broken_at: None,
            frontier: Frontier::new(),
            epochs: Vec::new(),
        };
        let mut check = Self {
            found,
            sizes,
            positions: HashMap::new(),
            events: 0,
            damage: Vec::new(),
            said: String::new(),
        };
        check.note_root();
        check
    }

    fn note_root(&mut self) {
        let size = self.found.size;
        if self.found.broken_at.is_none() && self.sizes.contains(&size) {
            self.found.roots.insert(size, self.found.frontier.root());
        }
    }

    fn report(&mut self, damage: Damage) {
        if self.damage.len() < super::report::DAMAGE_MAX {
            self.damage.push(damage);
        }
    }

    fn row(&mut self, row: &Stored) {
        self.events += 1;
        if row.seq > self.found.size {
            self.report(Damage::EventsMissing { first: self.found.size, last: row.seq - 1 });
            self.found.broken_at.get_or_insert(self.found.size);
        }
        self.found.size = row.seq + 1;
        let computed = leaf_hash(&row.leaf);
        if computed.as_bytes() != row.hash.as_slice() {
            self.report(Damage::EventChanged { seq: row.seq });
        }
        // The stored hash goes into the tree: changed bytes are named above, and what follows can still be checked.
        match <[u8; 32]>::try_from(row.hash.as_slice()) {
            Ok(hash) => self.found.frontier.push(Sha256::from_bytes(hash)),
            Err(_) => {
                self.report(Damage::Column { seq: row.seq, column: "hash".to_owned() });
                self.found.broken_at.get_or_insert(row.seq);
            }
        }
        self.note_root();
        if computed.as_bytes() == row.hash.as_slice() {
            self.content(row);
        }
    }

    fn content(&mut self, row: &Stored) {
        let Ok(leaf) = serde_json::from_slice::<Leaf<'_>>(&row.leaf) else {
            self.report(Damage::EventChanged { seq: row.seq });
            return;
        };
        if leaf.seq != row.seq {
            self.report(Damage::EventMoved { seq: row.seq, holds: leaf.seq });
            return;
        }
        self.columns(row, &leaf);
        let position = match self.positions.get_mut(leaf.stream) {
            Some(position) => position,
            None => self.positions.entry(leaf.stream.to_owned()).or_insert(0),
        };
        let expected = *position + 1;
        *position = leaf.stream_seq;
        if leaf.stream_seq != expected && self.found.broken_at.is_none() {
            self.report(Damage::StreamPosition { seq: row.seq, found: leaf.stream_seq, expected });
        }
        if leaf.kind == "log.opened"
            && let Ok(Event { body: Body::LogOpened { origin, .. }, .. }) = Event::from_leaf(&row.leaf)
        {
            self.found.epochs.push((row.seq, origin));
        }
    }

    fn columns(&mut self, row: &Stored, leaf: &Leaf<'_>) {
        use std::fmt::Write;
        let Leaf { stream, stream_seq, tenant, kind, at, span, .. } = leaf;
        self.said.clear();
        // Writing to a string does not fail.
        let _ = write!(self.said, "{stream} {stream_seq} {tenant} {kind} {at} {}", span.trace_id);
        if self.said == row.said {
            return;
        }
        let wrong: Vec<&str> = COLUMNS
            .iter()
            .zip(self.said.split(' ').zip(row.said.split(' ')))
            .filter(|(_, (leaf, column))| leaf != column)
            .map(|(name, _)| *name)
            .collect();
        for column in wrong {
            self.report(Damage::Column { seq: row.seq, column: column.to_owned() });
        }
    }
}
