//! Leaves in order, wherever they lie: in the database, or in archive segments.

use std::fs::File;
use std::io::{BufRead, BufReader};

use aegis_core::Event;
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::folder::Folder;
use crate::projection::Projections;

/// Leaves that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeafError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("event {0} is in no archive segment and not in the database")]
    Missing(u64),
    #[error("archive segment `{0}` cannot be read: {1}")]
    Segment(String, std::io::Error),
    #[error("event {0}: {1}")]
    Decode(u64, aegis_core::EventError),
}

/// One archive segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) next: u64,
    pub(crate) file: String,
}

pub(crate) async fn segments(connection: &mut SqliteConnection) -> Result<Vec<Segment>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT first, next, file FROM segments ORDER BY first").fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(Segment {
                first: row.try_get::<i64, _>(0)?.cast_unsigned(),
                next: row.try_get::<i64, _>(1)?.cast_unsigned(),
                file: row.try_get(2)?,
            })
        })
        .collect()
}

/// Reads archived leaves; cheapest when asked for them in order.
pub(crate) struct Archive {
    folder: Folder,
    segments: Vec<Segment>,
    open: Option<(BufReader<File>, u64, u64, String)>,
}

impl Archive {
    pub(crate) fn new(folder: &Folder, segments: Vec<Segment>) -> Self {
        Self { folder: folder.clone(), segments, open: None }
    }

    /// The leaf of event `seq`.
    pub(crate) fn leaf(&mut self, seq: u64) -> Result<Vec<u8>, LeafError> {
        let at_hand = self.open.as_ref().is_some_and(|(_, at, next, _)| (*at..*next).contains(&seq));
        if !at_hand {
            let segment = self
                .segments
                .iter()
                .find(|segment| (segment.first..segment.next).contains(&seq))
                .ok_or(LeafError::Missing(seq))?;
            let file = File::open(self.folder.archive().join(&segment.file))
                .map_err(|error| LeafError::Segment(segment.file.clone(), error))?;
            self.open = Some((BufReader::new(file), segment.first, segment.next, segment.file.clone()));
        }
        let (reader, at, _, name) = self.open.as_mut().ok_or(LeafError::Missing(seq))?;
        let mut line = Vec::new();
        while *at <= seq {
            line.clear();
            let read = reader.read_until(b'\n', &mut line);
            if read.map_err(|error| LeafError::Segment(name.clone(), error))? == 0 {
                return Err(LeafError::Missing(seq));
            }
            *at += 1;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(line)
    }
}

/// An event from a row with the columns `seq` and `leaf`.
pub(crate) fn event(row: &SqliteRow, archive: &mut Archive) -> Result<Event, LeafError> {
    let seq = row.try_get::<i64, _>("seq")?.cast_unsigned();
    let decoded = match row.try_get::<Option<&[u8]>, _>("leaf")? {
        Some(leaf) => Event::from_leaf(leaf),
        None => Event::from_leaf(&archive.leaf(seq)?),
    };
    decoded.map_err(|error| LeafError::Decode(seq, error))
}

/// Every projection, from the leaves alone.
pub(crate) async fn fold(
    connection: &mut SqliteConnection,
    folder: &Folder,
) -> Result<Projections, LeafError> {
    let mut archive = Archive::new(folder, segments(connection).await?);
    let mut projections = Projections::default();
    let mut rows = sqlx::query("SELECT seq, leaf FROM events ORDER BY seq").fetch(connection);
    while let Some(row) = rows.try_next().await? {
        projections.apply(&event(&row, &mut archive)?);
    }
    Ok(projections)
}
