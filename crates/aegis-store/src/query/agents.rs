//! Agents and their versions.

use aegis_core::{AgentId, Tenant};
use aegis_kernel::port::{AgentPage, AgentRecord, AgentVersion};
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{id, limit_of, position, record};
use crate::projection::{AgentRow, VersionRow};

const COLUMNS: &str = "SELECT id, record, \
     (SELECT coalesce(max(stream_seq), 0) FROM events WHERE stream = 'agent/' || id) AS stream_seq FROM agents";

fn read(row: &SqliteRow) -> Result<AgentRecord, sqlx::Error> {
    Ok(record::<AgentRow>(row)?.record(id(row)?, position(row)?))
}

pub(crate) async fn agent(pool: &SqlitePool, agent: AgentId) -> Result<Option<AgentRecord>, sqlx::Error> {
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query.push(" WHERE id = ").push_bind(agent.to_string());
    query.build().fetch_optional(pool).await?.as_ref().map(read).transpose()
}

pub(crate) async fn agents(
    pool: &SqlitePool,
    tenant: &Tenant,
    cursor: Option<&str>,
    limit: usize,
) -> Result<AgentPage, sqlx::Error> {
    let limit = limit_of(limit);
    let mut query = sqlx::QueryBuilder::new(COLUMNS);
    query
        .push(" WHERE state <> 'removed' AND tenant IN (")
        .push_bind(tenant.as_str().to_owned())
        .push(", 'platform')");
    if let Some(cursor) = cursor {
        query.push(" AND name > ").push_bind(cursor.to_owned());
    }
    // Two more: one to see whether a page follows, one because a name may be the tenant's and the platform's.
    query.push(" ORDER BY name, tenant LIMIT ").push_bind(limit + 2);
    let rows = query.build().fetch_all(pool).await?;
    let mut items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut page = usize::try_from(limit).unwrap_or(usize::MAX).min(items.len());
    // A cursor is a name: agents of one name stay on one page.
    if page > 0 && items.get(page).map(|next| &next.name) == items.get(page - 1).map(|last| &last.name) {
        page += 1;
    }
    let more = items.len() > page;
    items.truncate(page);
    let next_cursor = items.last().filter(|_| more).map(|last| last.name.as_str().to_owned());
    Ok(AgentPage { items, next_cursor })
}

pub(crate) async fn agent_versions(
    pool: &SqlitePool,
    agent: AgentId,
) -> Result<Vec<AgentVersion>, sqlx::Error> {
    let rows = sqlx::query("SELECT record FROM agent_versions WHERE agent = ?1 ORDER BY deployed DESC")
        .bind(agent.to_string())
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| Ok(record::<VersionRow>(row)?.record())).collect()
}
