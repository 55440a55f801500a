//! Pins: what a tool server says of its tools, held to what was accepted.
//!
//! What a server says first is accepted with its configuration, which an operator wrote. What differs later is held, and
//! none of its tools may be called, until a person accepts the difference or the server says again what was accepted.

use aegis_core::{Sha256, Tenant, Timestamp};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::door::{Door, DoorError, bytes32};

/// Largest document of a server's descriptions and schemas, in bytes.
pub const PIN_DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// Whether what a server says is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinState {
    /// It is.
    Accepted,
    /// It waits for a person.
    Held,
}

/// What a server said at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The server's name in the node's configuration.
    pub server: String,
    /// Whether it is accepted.
    pub state: PinState,
    /// The caller's hash over the document.
    pub hash: Sha256,
    /// Descriptions and schemas, as the caller writes them: canonical JSON.
    pub document: String,
    /// When it was accepted, or first held.
    pub at: Timestamp,
}

/// What an observation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// The server was never seen: what it says is accepted.
    First,
    /// It says what was accepted.
    Unchanged,
    /// It says something else, which is held. This is what was accepted.
    Held(Pin),
}

impl Door {
    /// Compares what a server says with what was accepted.
    ///
    /// # Errors
    /// If the document is too large or the database fails: then the server's tools must not be called.
    pub async fn observe_server(
        &self,
        tenant: &Tenant,
        server: &str,
        hash: &Sha256,
        document: &str,
    ) -> Result<Observed, DoorError> {
        if document.len() > PIN_DOCUMENT_BYTES_MAX {
            return Err(DoorError::Invalid(format!("the descriptions of `{server}` are larger than 4 MiB")));
        }
        let mut change = self.power.begin_with("BEGIN IMMEDIATE").await?;
        let accepted = pin(&mut change, tenant, server, PinState::Accepted).await?;
        let now = self.clock.now();
        let observed = match accepted {
            None => {
                put(&mut change, tenant, server, PinState::Accepted, hash, document, now).await?;
                Observed::First
            }
            Some(accepted) if accepted.hash == *hash => {
                forget(&mut change, tenant, server, PinState::Held).await?;
                Observed::Unchanged
            }
            Some(accepted) => {
                let held = pin(&mut change, tenant, server, PinState::Held).await?;
                if held.is_none_or(|held| held.hash != *hash) {
                    put(&mut change, tenant, server, PinState::Held, hash, document, now).await?;
                }
                Observed::Held(accepted)
            }
        };
        change.commit().await?;
        Ok(observed)
    }

    /// Accepts what is held, if it is still what the person saw; answers with what was accepted before. That a person,
    /// and who, accepts is for the caller to know and to record.
    ///
    /// # Errors
    /// [`DoorError::NotHeld`] if something else, or nothing, is held.
    pub async fn accept_server(
        &self,
        tenant: &Tenant,
        server: &str,
        hash: &Sha256,
    ) -> Result<Pin, DoorError> {
        let mut change = self.power.begin_with("BEGIN IMMEDIATE").await?;
        let held = pin(&mut change, tenant, server, PinState::Held).await?;
        let accepted = pin(&mut change, tenant, server, PinState::Accepted).await?;
        let (Some(held), Some(accepted)) = (held.filter(|held| held.hash == *hash), accepted) else {
            return Err(DoorError::NotHeld(server.to_owned()));
        };
        put(&mut change, tenant, server, PinState::Accepted, hash, &held.document, self.clock.now()).await?;
        forget(&mut change, tenant, server, PinState::Held).await?;
        change.commit().await?;
        Ok(accepted)
    }

    /// What is pinned of a server: what was accepted and, if it differs, what is held.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn server_pins(
        &self,
        tenant: &Tenant,
        server: &str,
    ) -> Result<(Option<Pin>, Option<Pin>), DoorError> {
        let mut connection = self.power.acquire().await?;
        let accepted = pin(&mut connection, tenant, server, PinState::Accepted).await?;
        let held = pin(&mut connection, tenant, server, PinState::Held).await?;
        Ok((accepted, held))
    }

    /// Forgets a server that was taken out of the configuration. What it says when it comes back is accepted anew.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forget_server(&self, tenant: &Tenant, server: &str) -> Result<(), DoorError> {
        sqlx::query("DELETE FROM server_pin WHERE tenant = ?1 AND server = ?2")
            .bind(tenant.as_str())
            .bind(server)
            .execute(&self.power)
            .await?;
        Ok(())
    }
}

const fn state_name(state: PinState) -> &'static str {
    match state {
        PinState::Accepted => "accepted",
        PinState::Held => "held",
    }
}

async fn pin(
    connection: &mut SqliteConnection,
    tenant: &Tenant,
    server: &str,
    state: PinState,
) -> Result<Option<Pin>, DoorError> {
    let row = sqlx::query(
        "SELECT hash, document, at FROM server_pin WHERE tenant = ?1 AND server = ?2 AND state = ?3",
    )
    .bind(tenant.as_str())
    .bind(server)
    .bind(state_name(state))
    .fetch_optional(connection)
    .await?;
    let read = |row: &SqliteRow| -> Result<Pin, DoorError> {
        Ok(Pin {
            server: server.to_owned(),
            state,
            hash: Sha256::from_bytes(bytes32(row.try_get("hash")?)?),
            document: row.try_get("document")?,
            at: Timestamp::from_micros(row.try_get("at")?),
        })
    };
    row.as_ref().map(read).transpose()
}

async fn put(
    connection: &mut SqliteConnection,
    tenant: &Tenant,
    server: &str,
    state: PinState,
    hash: &Sha256,
    document: &str,
    at: Timestamp,
) -> Result<(), DoorError> {
    sqlx::query(
        "INSERT OR REPLACE INTO server_pin (tenant, server, state, hash, document, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(tenant.as_str())
    .bind(server)
    .bind(state_name(state))
    .bind(hash.as_bytes().as_slice())
    .bind(document)
    .bind(at.micros())
    .execute(connection)
    .await?;
    Ok(())
}

async fn forget(
    connection: &mut SqliteConnection,
    tenant: &Tenant,
    server: &str,
    state: PinState,
) -> Result<(), DoorError> {
    sqlx::query("DELETE FROM server_pin WHERE tenant = ?1 AND server = ?2 AND state = ?3")
        .bind(tenant.as_str())
        .bind(server)
        .bind(state_name(state))
        .execute(connection)
        .await?;
    Ok(())
}
