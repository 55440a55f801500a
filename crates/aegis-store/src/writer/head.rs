//! The row that says where the log stands.

use aegis_security::merkle::Frontier;
use sqlx::{Row, SqliteConnection};

use super::script::Script;
use crate::error::OpenError;

/// The one row of `journal_head`.
#[derive(Debug, Clone)]
pub(crate) struct StoredHead {
    pub(crate) frontier: Frontier,
    pub(crate) origin: String,
    pub(crate) epoch: u32,
}

impl StoredHead {
    /// Reads it; `None` in a fresh database.
    pub(crate) async fn read(connection: &mut SqliteConnection) -> Result<Option<Self>, OpenError> {
        let row = sqlx::query("SELECT next_seq, frontier, root, origin, epoch FROM journal_head")
            .fetch_optional(connection)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let damaged = |what: &str| OpenError::Damaged(format!("the head's {what} is wrong"));
        let frontier =
            Frontier::from_bytes(&row.try_get::<Vec<u8>, _>("frontier")?).map_err(|_| damaged("frontier"))?;
        if row.try_get::<i64, _>("next_seq")? != frontier.size().cast_signed() {
            return Err(damaged("size"));
        }
        if row.try_get::<Vec<u8>, _>("root")? != frontier.root().as_bytes() {
            return Err(damaged("root"));
        }
        let epoch = u32::try_from(row.try_get::<i64, _>("epoch")?).map_err(|_| damaged("epoch"))?;
        Ok(Some(Self { frontier, origin: row.try_get("origin")?, epoch }))
    }

    /// Writes it whole: on first start, and when a new epoch begins.
    pub(crate) async fn write(&self, connection: &mut SqliteConnection) -> Result<(), OpenError> {
        sqlx::query(
            "INSERT INTO journal_head (one, next_seq, frontier, root, origin, epoch) VALUES (1, ?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (one) DO UPDATE SET origin = excluded.origin, epoch = excluded.epoch",
        )
        .bind(self.frontier.size().cast_signed())
        .bind(self.frontier.to_bytes())
        .bind(self.frontier.root().as_bytes().to_vec())
        .bind(self.origin.clone())
        .bind(i64::from(self.epoch))
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Moves the head: the last statement of a batch.
pub(super) fn advance(script: &mut Script, frontier: &Frontier) {
    script.push("UPDATE journal_head SET next_seq = ").push_bind(frontier.size().cast_signed());
    script.push(", frontier = ").push_bind(frontier.to_bytes());
    script.push(", root = ").push_bind(frontier.root().as_bytes().to_vec());
    script.push(" WHERE one = 1;");
}
