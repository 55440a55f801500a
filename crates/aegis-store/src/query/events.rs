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
    let mut query = QueryBuilder::new("SELECT seq, leaf FROM events WHERE true");
    push_filters(&mut query, wanted);
    query.push(if wanted.newest_first { " ORDER BY seq DESC LIMIT " } else { " ORDER BY seq LIMIT " });
    query.push_bind(limit_of(wanted.limit));
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
