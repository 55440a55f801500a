//! Attested sessions that survive a restart.

use std::str::FromStr;

use aegis_core::{ApiKeyId, ExecutionId, Sha256, Timestamp};
use aegis_kernel::port::{Claimed, SessionError, Sessions, SmcpSession};
use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::door::{Door, DoorError, bytes32};

/// Sessions that ended or expired are kept this long, in milliseconds, to tell them from unknown ones.
const ENDED_KEPT_MS: u64 = 7 * 24 * 3_600_000;

impl Door {
    /// Opens a session: one per execution and generation, ever.
    ///
    /// # Errors
    /// [`DoorError::AttestedAlready`] if that generation has, or had, one.
    pub async fn open_session(&self, session: &SmcpSession) -> Result<(), DoorError> {
        let inserted = sqlx::query(
            "INSERT INTO smcp_session \
             (id, tenant, execution, generation, public_key, scope, api_key, opened_at, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        )
        .bind(session.id.to_string())
        .bind(session.tenant.as_str())
        .bind(session.execution.to_string())
        .bind(i64::from(session.generation))
        .bind(session.public_key.as_slice())
        .bind(session.scope.as_deref())
        .bind(session.api_key.map(|key| key.to_string()))
        .bind(session.opened_at.micros())
        .bind(session.expires_at.micros())
        .execute(&self.power)
        .await?;
        match inserted.rows_affected() {
            0 => Err(DoorError::AttestedAlready(session.generation)),
            _ => Ok(()),
        }
    }

    /// A session, ended ones included.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn session(&self, id: Uuid) -> Result<Option<SmcpSession>, DoorError> {
        let row = sqlx::query("SELECT * FROM smcp_session WHERE id = ?1")
            .bind(id.to_string())
            .fetch_optional(&self.process)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Ends a session. False if there is none that speaks.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn end_session(&self, id: Uuid) -> Result<bool, DoorError> {
        self.end("UPDATE smcp_session SET ended_at = ?2 WHERE id = ?1 AND ended_at IS NULL", &id.to_string())
            .await
            .map(|ended| ended > 0)
    }

    /// Ends all sessions of an execution, as its end or its cancellation does; answers with how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn end_sessions_of(&self, execution: ExecutionId) -> Result<u64, DoorError> {
        let sql = "UPDATE smcp_session SET ended_at = ?2 WHERE execution = ?1 AND ended_at IS NULL";
        self.end(sql, &execution.to_string()).await
    }

    /// Ends the sessions that an API key opened, as its revocation does; answers with how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn end_sessions_by(&self, key: ApiKeyId) -> Result<u64, DoorError> {
        let sql = "UPDATE smcp_session SET ended_at = ?2 WHERE api_key = ?1 AND ended_at IS NULL";
        self.end(sql, &key.to_string()).await
    }

    /// Ends every session, as a restore from a backup does; answers with how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn end_all_sessions(&self) -> Result<u64, DoorError> {
        self.end("UPDATE smcp_session SET ended_at = ?2 WHERE ?1 = '' AND ended_at IS NULL", "").await
    }

    /// Forgets sessions that ended or expired over a week ago; answers with how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn sweep_sessions(&self) -> Result<u64, DoorError> {
        let kept = i64::try_from(ENDED_KEPT_MS).unwrap_or(i64::MAX).saturating_mul(1000);
        let swept = sqlx::query(
            "DELETE FROM smcp_session WHERE min(expires_at, coalesce(ended_at, expires_at)) < ?1",
        )
        .bind(self.clock.now().micros().saturating_sub(kept))
        .execute(&self.process)
        .await?;
        let told = "DELETE FROM smcp_request WHERE session NOT IN (SELECT id FROM smcp_session)";
        sqlx::query(told).execute(&self.process).await?;
        Ok(swept.rows_affected())
    }

    async fn end(&self, sql: &'static str, which: &str) -> Result<u64, DoorError> {
        let ended = sqlx::query(sql).bind(which).bind(self.clock.now().micros()).execute(&self.power).await?;
        Ok(ended.rows_affected())
    }
}

fn read(row: &SqliteRow) -> Result<SmcpSession, DoorError> {
    const DAMAGED: DoorError = DoorError::Damaged("a session's row has a wrong id or name");
    fn parsed<T: FromStr>(text: &str) -> Result<T, DoorError> {
        text.parse().map_err(|_| DAMAGED)
    }
    Ok(SmcpSession {
        id: parsed(row.try_get("id")?)?,
        tenant: parsed(row.try_get("tenant")?)?,
        execution: parsed(row.try_get("execution")?)?,
        generation: u32::try_from(row.try_get::<i64, _>("generation")?).map_err(|_| DAMAGED)?,
        public_key: bytes32(row.try_get("public_key")?)?,
        scope: row.try_get("scope")?,
        api_key: row.try_get::<Option<&str>, _>("api_key")?.map(parsed).transpose()?,
        opened_at: Timestamp::from_micros(row.try_get("opened_at")?),
        expires_at: Timestamp::from_micros(row.try_get("expires_at")?),
        ended_at: row.try_get::<Option<i64>, _>("ended_at")?.map(Timestamp::from_micros),
    })
}

#[async_trait]
impl Sessions for Door {
    async fn open(&self, session: &SmcpSession) -> Result<(), SessionError> {
        Ok(self.open_session(session).await?)
    }
    async fn find(&self, id: Uuid) -> Result<Option<SmcpSession>, SessionError> {
        Ok(self.session(id).await?)
    }
    async fn end_of(&self, execution: ExecutionId) -> Result<(), SessionError> {
        self.end_sessions_of(execution).await?;
        Ok(())
    }
    async fn claim(&self, session: Uuid, nonce: &Sha256, request: &str) -> Result<Claimed, SessionError> {
        Ok(self.claim_call(session, nonce, request).await?)
    }
}

impl From<DoorError> for SessionError {
    fn from(error: DoorError) -> Self {
        match error {
            DoorError::AttestedAlready(generation) => Self::AttestedAlready(generation),
            DoorError::Overloaded => Self::Overloaded,
            other => Self::Store(other.to_string()),
        }
    }
}
