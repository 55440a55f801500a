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

/// What `PRAGMA synchronous` answers where a commit waits for the disk.
pub(super) const SYNCHRONOUS_FULL: i64 = 2;
/// And where it does not.
const SYNCHRONOUS_NORMAL: i64 = 1;

/// Moves the head: the last statement of a batch. It fails, and all of the batch with it, where the commit would not
/// wait for the disk as it must: a setting that did not take would lose acknowledged events.
pub(super) fn advance(script: &mut Script, frontier: &Frontier, power: bool) {
    let setting = if power { SYNCHRONOUS_FULL } else { SYNCHRONOUS_NORMAL };
    script.push("UPDATE journal_head SET next_seq = CASE (SELECT synchronous FROM pragma_synchronous) WHEN ");
    script.push_bind(setting).push(" THEN ").push_bind(frontier.size().cast_signed());
    script.push(" END, frontier = ").push_bind(frontier.to_bytes());
    script.push(", root = ").push_bind(frontier.root().as_bytes().to_vec());
    script.push(" WHERE one = 1;");
}

#[cfg(test)]
mod tests {
    use aegis_core::Sha256;
    use sqlx::{ConnectOptions as _, Connection as _};

    use super::*;

    #[tokio::test]
    async fn a_batch_is_refused_where_its_commit_would_not_wait_as_it_must() {
        let folder = tempfile::tempdir().unwrap();
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("a.db"));
        let mut connection = options.create_if_missing(true).connect().await.unwrap();
        let table = include_str!("../../migrations/sqlite/0001_journal.sql");
        sqlx::raw_sql(table).execute(&mut connection).await.unwrap();
        let head = StoredHead { frontier: Frontier::new(), origin: "origin".to_owned(), epoch: 1 };
        head.write(&mut connection).await.unwrap();
        let mut frontier = Frontier::new();
        let mut stored = 0;
        for (setting, power, written) in [
            ("OFF", true, false),
            ("OFF", false, false),
            ("NORMAL", true, false),
            ("NORMAL", false, true),
            ("FULL", true, true),
        ] {
            let mut script = Script::new(format!("PRAGMA synchronous = {setting}; BEGIN IMMEDIATE;"));
            frontier.push(Sha256::from_bytes([1; 32]));
            advance(&mut script, &frontier, power);
            script.push("COMMIT");
            let result = script.build().execute(&mut connection).await;
            assert_eq!(result.is_ok(), written, "{setting} {power}: {result:?}");
            if written {
                stored = frontier.size();
            } else {
                sqlx::query("ROLLBACK").execute(&mut connection).await.unwrap();
            }
            let found = StoredHead::read(&mut connection).await.unwrap().unwrap();
            assert_eq!(found.frontier.size(), stored, "{setting} {power}");
        }
        connection.close().await.unwrap();
    }
}
