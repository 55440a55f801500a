//! Reads: events and projections.

mod agents;
mod events;
mod executions;
mod volumes;

pub(crate) use agents::{agent, agent_versions, agents};
pub(crate) use events::events;
pub(crate) use executions::{cost_since, ended_with_working_copies, execution, executions, iterations};
pub(crate) use volumes::{expired_volumes, volume, volumes};

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

/// Most rows one query returns.
const LIMIT_MAX: usize = 100_000;

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit.min(LIMIT_MAX)).unwrap_or(0)
}

/// The record in column `record`.
fn record<R: serde::de::DeserializeOwned>(row: &SqliteRow) -> Result<R, sqlx::Error> {
    serde_json::from_str(row.try_get("record")?).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The id in column `id`.
fn id<I: std::str::FromStr>(row: &SqliteRow) -> Result<I, sqlx::Error> {
    let text: &str = row.try_get("id")?;
    text.parse().map_err(|_| sqlx::Error::Decode(format!("`{text}` is not an id").into()))
}

/// The position in column `stream_seq`.
fn position(row: &SqliteRow) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>("stream_seq")?.cast_unsigned())
}
