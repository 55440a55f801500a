//! Data keys: one per stream and copy, in a database of their own, sealed under the node key.
//!
//! Keys are made in stock ahead of use. Which stream took which key is recorded by the journal in the transaction that
//! needs it, so that a new stream waits for one sync, not two.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aegis_kernel::port::Ids;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use zeroize::Zeroizing;

use crate::error::OpenError;
use crate::folder::{Folder, key_file, private_file};
use crate::seal::SealKey;

/// Keys made at once.
const STOCK: i64 = 256;
/// Keys copied in one statement.
const COPIED_AT_ONCE: usize = 512;
/// Opened keys kept in memory.
const OPENED_MAX: usize = 1024;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/keys");

pub(crate) struct KeyRing {
    database: SqlitePool,
    node: SealKey,
    opened: Mutex<HashMap<i64, Arc<SealKey>>>,
}

fn context(id: i64) -> Vec<u8> {
    format!("aegis/stream-key/{id}").into_bytes()
}

fn damaged(id: i64) -> sqlx::Error {
    sqlx::Error::Protocol(format!("key {id} in keys.db does not open under the node key"))
}

impl KeyRing {
    /// Opens the key database of a daemon's folder; makes it on first start.
    pub(crate) async fn open(folder: &Folder, ids: &dyn Ids) -> Result<Self, OpenError> {
        let path = folder.key_database();
        private_file(&path).map_err(OpenError::io("open", &path))?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "ON");
        let node = key_file(&folder.node_key(), |bytes| ids.fill(bytes))?;
        let database = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        MIGRATIONS.run(&database).await?;
        Self::over(database, &node)
    }

    /// Opens the key database of a folder to read; `None` if the folder has no keys.
    pub(crate) async fn open_existing(folder: &Folder) -> Result<Option<Self>, OpenError> {
        if folder.missing_key_file().is_some() {
            return Ok(None);
        }
        let options = SqliteConnectOptions::new().filename(folder.key_database()).pragma("query_only", "ON");
        let node = key_file(&folder.node_key(), |_| ())?;
        let database = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        Self::over(database, &node).map(Some)
    }

    fn over(database: SqlitePool, node: &[u8; 32]) -> Result<Self, OpenError> {
        let node = SealKey::new(node).map_err(|_| damaged(0))?;
        Ok(Self { database, node, opened: Mutex::default() })
    }

    /// Makes keys until there is one called `id`; durable when this returns.
    pub(crate) async fn stock(&self, id: i64, ids: &dyn Ids) -> Result<(), sqlx::Error> {
        let last: i64 =
            sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM keys").fetch_one(&self.database).await?;
        if last >= id {
            return Ok(());
        }
        let mut insert = sqlx::QueryBuilder::new("INSERT INTO keys (id, sealed) ");
        // Keys below `id` were taken; a restored copy may lack some of them, and another key under such a number would
        // pass for the lost one.
        let sealed: Result<Vec<(i64, Vec<u8>)>, sqlx::Error> = (id.max(last + 1)..id + STOCK)
            .map(|id| {
                let mut key = Zeroizing::new(vec![0u8; 32]);
                ids.fill(&mut key);
                // The tag and nonce need room: sealing in place must not leave a plain copy behind on growth.
                let mut plain = Vec::with_capacity(64);
                plain.extend_from_slice(&key);
                let sealed = self.node.seal(&context(id), plain).map_err(|_| damaged(id))?;
                Ok((id, sealed))
            })
            .collect();
        insert.push_values(sealed?, |mut row, (id, sealed)| {
            row.push_bind(id).push_bind(sealed);
        });
        insert.build().persistent(false).execute(&self.database).await?;
        Ok(())
    }

    /// The last key there is.
    pub(crate) async fn last(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM keys").fetch_one(&self.database).await
    }

    /// Those of these keys that still exist.
    pub(crate) async fn existing(&self, ids: &[i64]) -> Result<Vec<i64>, sqlx::Error> {
        let ids = serde_json::to_string(ids).map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query_scalar("SELECT id FROM keys WHERE id IN (SELECT value FROM json_each(?1))")
            .bind(ids)
            .fetch_all(&self.database)
            .await
    }

    /// A key; `None` if it was destroyed.
    pub(crate) async fn get(&self, id: i64) -> Result<Option<Arc<SealKey>>, sqlx::Error> {
        if let Some(key) = self.opened().get(&id) {
            return Ok(Some(Arc::clone(key)));
        }
        let sealed: Option<Vec<u8>> = sqlx::query_scalar("SELECT sealed FROM keys WHERE id = ?1")
            .bind(id)
            .fetch_optional(&self.database)
            .await?;
        let Some(sealed) = sealed else { return Ok(None) };
        let plain = Zeroizing::new(self.node.open(&context(id), &sealed).map_err(|_| damaged(id))?);
        let plain = Zeroizing::new(<[u8; 32]>::try_from(plain.as_slice()).map_err(|_| damaged(id))?);
        let key = Arc::new(SealKey::new(&plain).map_err(|_| damaged(id))?);
        let mut opened = self.opened();
        if opened.len() >= OPENED_MAX {
            opened.clear();
        }
        opened.insert(id, Arc::clone(&key));
        Ok(Some(key))
    }

    /// Destroys a key: overwritten, deleted, and taken out of the write-ahead log.
    pub(crate) async fn destroy(&self, id: i64) -> Result<(), sqlx::Error> {
        self.opened().remove(&id);
        sqlx::query("UPDATE keys SET sealed = zeroblob(length(sealed)) WHERE id = ?1")
            .bind(id)
            .execute(&self.database)
            .await?;
        sqlx::query("DELETE FROM keys WHERE id = ?1").bind(id).execute(&self.database).await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.database).await?;
        Ok(())
    }

    /// Writes those of the keys `ids` that still exist to a key database at `path`, sealed as they are.
    pub(crate) async fn copy_to(&self, path: &Path, ids: &[i64]) -> Result<(), OpenError> {
        let mut copy =
            SqliteConnectOptions::new().filename(path).synchronous(SqliteSynchronous::Full).connect().await?;
        MIGRATIONS.run(&mut copy).await?;
        for piece in ids.chunks(COPIED_AT_ONCE) {
            let piece = serde_json::to_string(piece).map_err(|error| sqlx::Error::Encode(error.into()))?;
            let found: Vec<(i64, Vec<u8>)> = sqlx::query_as(
                "SELECT id, sealed FROM keys WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY id",
            )
            .bind(piece)
            .fetch_all(&self.database)
            .await?;
            if found.is_empty() {
                continue;
            }
            let mut insert = sqlx::QueryBuilder::new("INSERT INTO keys (id, sealed) ");
            insert.push_values(found, |mut row, (id, sealed)| {
                row.push_bind(id).push_bind(sealed);
            });
            insert.build().persistent(false).execute(&mut copy).await?;
        }
        copy.close().await?;
        Ok(())
    }

    pub(crate) async fn close(&self) {
        self.database.close().await;
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Arc<SealKey>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
