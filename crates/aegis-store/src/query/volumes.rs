//! Volumes.

use aegis_core::{Tenant, Timestamp, VolumeId};
use aegis_kernel::port::VolumeRecord;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{id, limit_of, position, record};
use crate::projection::VolumeRow;

const COLUMNS: &str = "SELECT id, record, \
     (SELECT coalesce(max(stream_seq), 0) FROM events WHERE stream = 'volume/' || v.id) AS stream_seq \
     FROM volumes v";

fn read(row: &SqliteRow) -> Result<VolumeRecord, sqlx::Error> {
    Ok(record::<VolumeRow>(row)?.record(id(row)?, position(row)?))
}

pub(crate) async fn volume(pool: &SqlitePool, volume: VolumeId) -> Result<Option<VolumeRecord>, sqlx::Error> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query.push(" WHERE id = ").push_bind(volume.to_string());
    query.build().fetch_optional(pool).await?.as_ref().map(read).transpose()
}

pub(crate) async fn volumes(
    pool: &SqlitePool,
    tenant: &Tenant,
    removed: bool,
    limit: usize,
) -> Result<Vec<VolumeRecord>, sqlx::Error> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query.push(" WHERE tenant = ").push_bind(tenant.as_str().to_owned());
    if !removed {
        query.push(" AND removed = 0");
    }
    query.push(" ORDER BY created DESC LIMIT ").push_bind(limit_of(limit));
    query.build().fetch_all(pool).await?.iter().map(read).collect()
}

/// The time of a volume is counted from the end of its execution; from its own making where none is known.
pub(crate) async fn expired_volumes(
    pool: &SqlitePool,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<VolumeRecord>, sqlx::Error> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query.push(" WHERE removed = 0 AND expires_at <= ").push_bind(now.micros());
    query.push(
        " AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.id = v.record ->> '$.execution' \
         AND (e.status NOT IN ('completed', 'failed', 'cancelled') \
              OR (e.record ->> '$.ended_at') + expires_at - (v.record ->> '$.created_at') > ",
    );
    query.push_bind(now.micros()).push(")) ORDER BY expires_at LIMIT ");
    query.push_bind(limit_of(limit));
    query.build().fetch_all(pool).await?.iter().map(read).collect()
}
