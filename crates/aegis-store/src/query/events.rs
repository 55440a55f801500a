//! Events by place, stream, trace, kind and time.

use aegis_core::Event;
use aegis_kernel::port::{EventQuery, JournalError};
use sqlx::QueryBuilder;
use sqlx::Row as _;
use sqlx::Sqlite;
use sqlx::sqlite::SqlitePool;

use super::limit_of;
use crate::folder::Folder;
use crate::leaves::{self, Archive};
use crate::writer::store_error;

pub(crate) async fn events(
    pool: &SqlitePool,
    folder: &Folder,
    wanted: &EventQuery,
) -> Result<Vec<Event>, JournalError> {
    let mut query = select(wanted);
    let mut connection = pool.acquire().await.map_err(store_error)?;
    let mut rows = query.build().fetch_all(&mut *connection).await.map_err(store_error)?;
    let archived = rows.iter().any(|row| matches!(row.try_get::<Option<&[u8]>, _>("leaf"), Ok(None)));
    let segments =
        if archived { leaves::segments(&mut connection).await.map_err(store_error)? } else { Vec::new() };
    let mut archive = Archive::new(folder, segments);
    // Segments are read forwards.
    if wanted.newest_first {
        rows.reverse();
    }
    let read = rows.iter().map(|row| leaves::event(row, &mut archive).map_err(store_error));
    let mut events = read.collect::<Result<Vec<_>, _>>()?;
    if wanted.newest_first {
        events.reverse();
    }
    Ok(events)
}

fn select(wanted: &EventQuery) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT seq, leaf FROM events WHERE true");
    push_filters(&mut query, wanted);
    query.push(order(wanted));
    query.push_bind(limit_of(wanted.limit));
    query
}

/// Within a stream both numbers give the same order, and only the stream's own can be had from its index: by `seq`, all
/// events of the stream would be read and sorted for the few that are wanted.
fn order(wanted: &EventQuery) -> &'static str {
    match (wanted.stream.is_some(), wanted.newest_first) {
        (true, false) => " ORDER BY stream_seq LIMIT ",
        (true, true) => " ORDER BY stream_seq DESC LIMIT ",
        (false, false) => " ORDER BY seq LIMIT ",
        (false, true) => " ORDER BY seq DESC LIMIT ",
    }
}

fn push_filters(query: &mut QueryBuilder<Sqlite>, wanted: &EventQuery) {
    if let Some(after) = wanted.after {
        query.push(" AND seq > ").push_bind(bounded(after));
    }
    if let Some(before) = wanted.before {
        query.push(" AND seq < ").push_bind(bounded(before));
    }
    if let Some(tenant) = &wanted.tenant {
        query.push(" AND tenant = ").push_bind(tenant.as_str().to_owned());
    }
    if let Some(stream) = wanted.stream {
        query.push(" AND stream = ").push_bind(stream.to_string());
        if let Some(past) = wanted.past {
            query.push(" AND stream_seq > ").push_bind(bounded(past));
        }
    }
    if let Some(trace) = wanted.trace_id {
        query.push(" AND trace_id = ").push_bind(trace.as_bytes().to_vec());
    }
    if let Some(since) = wanted.since {
        query.push(" AND at >= ").push_bind(since.micros());
    }
    if let Some(until) = wanted.until {
        query.push(" AND at < ").push_bind(until.micros());
    }
    if !wanted.kinds.is_empty() {
        query.push(" AND (false");
        for kind in &wanted.kinds {
            match kind.strip_suffix('*') {
                Some(prefix) => {
                    query.push(" OR substr(kind, 1, ").push_bind(i64::try_from(prefix.len()).unwrap_or(0));
                    query.push(") = ").push_bind(prefix.to_owned());
                }
                None => {
                    query.push(" OR kind = ").push_bind(kind.clone());
                }
            }
        }
        query.push(")");
    }
}

fn bounded(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use aegis_core::{ExecutionId, StreamId};
    use sqlx::Connection as _;
    use sqlx::sqlite::SqliteConnection;

    use super::*;

    /// What the ends of a stream cost may not grow with its length: SQLite must neither sort nor look through it.
    #[tokio::test]
    async fn the_ends_of_a_stream_are_read_from_its_index() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::migrate!("migrations/sqlite").run(&mut connection).await.unwrap();
        let stream = Some(StreamId::Execution(ExecutionId::from_uuid(uuid::Uuid::from_u128(1))));
        let wanted = EventQuery { stream, limit: 10, ..EventQuery::default() };
        for (wanted, place) in [
            (EventQuery { newest_first: true, ..wanted.clone() }, "(stream=?)"),
            (EventQuery { past: Some(5), ..wanted }, "(stream=? AND stream_seq>?)"),
        ] {
            let query = select(&wanted);
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", query.sql().as_str()));
            let rows = sqlx::query(explain).fetch_all(&mut connection).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            assert_eq!(plan, [format!("SEARCH events USING INDEX events_stream {place}")]);
        }
    }
}
