//! The archive seam: leaves of old events move into files; their hashes, columns and tiles stay.

use std::io::{BufWriter, Write};

use futures_util::TryStreamExt;
use sqlx::{Row, SqliteConnection};

use crate::folder::{Folder, private_file, sync_parent};
use crate::leaves::LeafError;

/// Moves the leaves of all events below `before` that still lie in the database into one segment file. Answers with
/// the file's name; `None` if there was nothing to move.
pub(crate) async fn archive(
    connection: &mut SqliteConnection,
    folder: &Folder,
    before: u64,
) -> Result<Option<String>, LeafError> {
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    let row = sqlx::query("SELECT min(seq), max(seq) FROM events WHERE leaf IS NOT NULL AND seq < ?1")
        .bind(before)
        .fetch_one(&mut *connection)
        .await?;
    let (Some(first), Some(last)) = (row.try_get::<Option<i64>, _>(0)?, row.try_get::<Option<i64>, _>(1)?)
    else {
        return Ok(None);
    };
    let name = format!("segment-{first}-{last}.jsonl");
    write_segment(connection, folder, &name, (first, last)).await?;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let moved = move_rows(connection, &name, first, last).await;
    let end = if moved.is_ok() { "COMMIT" } else { "ROLLBACK" };
    sqlx::query(end).execute(&mut *connection).await?;
    moved?;
    Ok(Some(name))
}

async fn write_segment(
    connection: &mut SqliteConnection,
    folder: &Folder,
    name: &str,
    (first, last): (i64, i64),
) -> Result<(), LeafError> {
    let failed = |error| LeafError::Segment(name.to_owned(), error);
    let path = folder.archive().join(name);
    let part = path.with_extension("part");
    let file = private_file(&part).map_err(failed)?;
    file.set_len(0).map_err(failed)?;
    let mut file = BufWriter::new(file);
    let mut rows = sqlx::query("SELECT seq, leaf FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq")
        .bind(first)
        .bind(last)
        .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let seq = row.try_get::<i64, _>(0)?.cast_unsigned();
        let leaf = row.try_get::<Option<&[u8]>, _>(1)?.ok_or(LeafError::Missing(seq))?;
        // RFC 8785 escapes control characters: a leaf is one line.
        file.write_all(leaf).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
    }
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&part, &path).and_then(|()| sync_parent(&path)).map_err(failed)
}

async fn move_rows(
    connection: &mut SqliteConnection,
    name: &str,
    first: i64,
    last: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO segments (first, next, file) VALUES (?1, ?2, ?3)")
        .bind(first)
        .bind(last + 1)
        .bind(name.to_owned())
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE events SET leaf = NULL WHERE seq BETWEEN ?1 AND ?2")
        .bind(first)
        .bind(last)
        .execute(connection)
        .await?;
    Ok(())
}
