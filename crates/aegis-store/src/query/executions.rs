//! Executions, their iterations, and what they cost.

use aegis_core::{ExecutionId, MicroUsd, Tenant, Timestamp};
use aegis_kernel::port::{ExecutionPage, ExecutionQuery, ExecutionRecord, IterationRecord};
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{id, limit_of, position, record};
use crate::projection::{ExecutionRow, IterationRow};

const COLUMNS: &str = "SELECT id, record, created, \
     (SELECT coalesce(max(stream_seq), 0) FROM events WHERE stream = 'execution/' || id) AS stream_seq \
     FROM executions";

fn read(row: &SqliteRow) -> Result<ExecutionRecord, sqlx::Error> {
    Ok(record::<ExecutionRow>(row)?.record(id(row)?, position(row)?))
}

pub(crate) async fn execution(
    pool: &SqlitePool,
    execution: ExecutionId,
) -> Result<Option<ExecutionRecord>, sqlx::Error> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query.push(" WHERE id = ").push_bind(execution.to_string());
    query.build().fetch_optional(pool).await?.as_ref().map(read).transpose()
}

pub(crate) async fn executions(
    pool: &SqlitePool,
    wanted: &ExecutionQuery,
) -> Result<ExecutionPage, sqlx::Error> {
    let limit = limit_of(wanted.limit);
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query.push(" WHERE removed = 0");
    if let Some(tenant) = &wanted.tenant {
        query.push(" AND tenant = ").push_bind(tenant.as_str().to_owned());
    }
    if let Some(agent) = wanted.agent {
        query.push(" AND agent = ").push_bind(agent.to_string());
    }
    if !wanted.statuses.is_empty() {
        query.push(" AND status IN (");
        let mut statuses = query.separated(", ");
        for status in &wanted.statuses {
            statuses.push_bind(status.name());
        }
        query.push(")");
    }
    if let Some(cursor) = &wanted.cursor {
        let before: i64 = cursor
            .parse()
            .map_err(|_| sqlx::Error::Protocol(format!("`{cursor}` is not a cursor of executions")))?;
        query.push(" AND created < ").push_bind(before);
    }
    query.push(" ORDER BY created DESC LIMIT ").push_bind(limit + 1);
    let mut rows = query.build().fetch_all(pool).await?;
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > page;
    rows.truncate(page);
    let last = rows.last().map(|row| row.try_get::<i64, _>("created")).transpose()?;
    let items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(ExecutionPage { items, next_cursor: last.filter(|_| more).map(|created| created.to_string()) })
}

pub(crate) async fn ended_with_working_copies(
    pool: &SqlitePool,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<ExecutionRecord>, sqlx::Error> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    // Literals, so that the index on these streams alone is used.
    query.push(
        " WHERE id IN (SELECT substr(stream, 11) FROM stream_keys WHERE copy = 1 AND destroyed_at IS NULL \
         AND stream LIKE 'execution/%') AND status IN ('completed', 'failed', 'cancelled') \
         AND record ->> '$.ended_at' <= ",
    );
    query.push_bind(before.micros()).push(" ORDER BY created LIMIT ").push_bind(limit_of(limit));
    query.build().fetch_all(pool).await?.iter().map(read).collect()
}

pub(crate) async fn iterations(
    pool: &SqlitePool,
    execution: ExecutionId,
) -> Result<Vec<IterationRecord>, sqlx::Error> {
    let rows = sqlx::query("SELECT record FROM iterations WHERE execution = ?1 ORDER BY number")
        .bind(execution.to_string())
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| Ok(record::<IterationRow>(row)?.record())).collect()
}

pub(crate) async fn cost_since(
    pool: &SqlitePool,
    tenant: &Tenant,
    since: Timestamp,
) -> Result<MicroUsd, sqlx::Error> {
    let micros: i64 =
        sqlx::query_scalar("SELECT coalesce(sum(micros), 0) FROM costs WHERE tenant = ?1 AND at >= ?2")
            .bind(tenant.as_str().to_owned())
            .bind(since.micros())
            .fetch_one(pool)
            .await?;
    Ok(MicroUsd::from_micros(micros.max(0).unsigned_abs()))
}
