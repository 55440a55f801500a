//! Rows as statements: what a batch writes, and what its staging reads of the projections first.

use sqlx::{Row as _, SqliteConnection};

use super::stage::{BlobRow, EventRow};
use crate::projection::{Projections, Row, Table};

/// Rows of one insert; a statement costs more than a row.
const ROWS_MANY: usize = 32;
/// Records of a projection in one statement.
const RECORDS_AT_ONCE: usize = 256;

/// Statements that the connection's thread executes in one turn.
pub(super) type Script = sqlx::QueryBuilder<sqlx::Sqlite>;

pub(super) fn insert_events(script: &mut Script, rows: &[EventRow]) {
    for piece in rows.chunks(ROWS_MANY) {
        script.push("INSERT INTO events (seq, stream, stream_seq, tenant, kind, at, trace_id, hash, leaf) ");
        script.push_values(piece, |mut values, row| {
            let event = &row.event;
            values
                .push_bind(event.seq.cast_signed())
                .push_bind(row.stream.clone())
                .push_bind(event.stream_seq.cast_signed())
                .push_bind(event.tenant.as_str().to_owned())
                .push_bind(event.body.kind())
                .push_bind(event.at.micros())
                .push_bind(event.span.trace_id.as_bytes().to_vec())
                .push_bind(row.hash.to_vec())
                .push_bind(row.leaf.clone());
        });
        script.push(";");
    }
}

pub(super) fn insert_blobs(script: &mut Script, blobs: &[BlobRow]) {
    for piece in blobs.chunks(ROWS_MANY) {
        script.push("INSERT INTO blobs (id, stream, copy, sealed) ");
        script.push_values(piece, |mut values, blob| {
            values
                .push_bind(blob.id.uuid().as_bytes().to_vec())
                .push_bind(blob.stream.clone())
                .push_bind(blob.copy)
                .push_bind(blob.sealed.clone());
        });
        script.push(";");
    }
}

pub(super) async fn load_wanted(
    connection: &mut SqliteConnection,
    projections: &mut Projections,
) -> Result<(), sqlx::Error> {
    load_table(connection, &mut projections.agents).await?;
    load_table(connection, &mut projections.executions).await?;
    load_table(connection, &mut projections.iterations).await?;
    load_table(connection, &mut projections.volumes).await
}

async fn load_table<R: Row>(
    connection: &mut SqliteConnection,
    table: &mut Table<R>,
) -> Result<(), sqlx::Error> {
    let Some(wanted) = table.take_wanted() else { return Ok(()) };
    for row in sqlx::query(R::SELECT).bind(wanted).fetch_all(connection).await? {
        let record: String = row.try_get(1)?;
        let record = serde_json::from_str(&record).map_err(|error| sqlx::Error::Decode(error.into()))?;
        table.loaded(row.try_get(0)?, record);
    }
    Ok(())
}

/// Every changed record, in pieces: the statement's two halves, and what stands between them.
fn changed(projections: &mut Projections) -> impl Iterator<Item = ([&'static str; 2], String)> + Send {
    let Projections { agents, versions, executions, iterations, volumes, costs } = projections;
    pieces(agents)
        .chain(pieces(versions))
        .chain(pieces(executions))
        .chain(pieces(iterations))
        .chain(pieces(volumes))
        .chain(pieces(costs))
}

/// Of one table, made when they are asked for.
fn pieces<R: Row + Send>(table: &mut Table<R>) -> impl Iterator<Item = ([&'static str; 2], String)> + Send {
    let taken = std::iter::once_with(move || table.take_changed(RECORDS_AT_ONCE));
    taken.flatten().map(|records| (R::UPSERT, records))
}

/// Stores every changed record.
pub(super) fn store_changed(script: &mut Script, projections: &mut Projections) {
    for ([before, after], records) in changed(projections) {
        script.push(before).push_bind(records).push(after).push(";");
    }
}

/// The same with a turn for each piece: after a rebuild there may be very many.
pub(super) async fn store_rebuilt(
    connection: &mut SqliteConnection,
    projections: &mut Projections,
) -> Result<(), sqlx::Error> {
    for ([before, after], records) in changed(projections) {
        let mut script = Script::new(before);
        script.push_bind(records).push(after);
        script.build().execute(&mut *connection).await?;
    }
    Ok(())
}
