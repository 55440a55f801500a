//! The embedded store: `secrets.db`, values sealed by AES-256-GCM with random nonces, bound to tenant, name and version.
//!
//! In memory a value exists while somebody holds it, and is wiped then. Neither the database nor its key is in a backup.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_core::{Tenant, Timestamp};
use aegis_kernel::port::{
    Clock, Ids, KnownSecret, SecretError, SecretName, SecretRecord, SecretStore, StoredSecret,
    check_secret_value,
};
use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row, SqliteConnection};
use tokio::sync::RwLock;
use zeroize::Zeroizing;

use super::key_source::{Key, KeySource, given_key};
use super::{ROTATION_OVERLAP, SECRETS_PER_TENANT_MAX};
use crate::error::OpenError;
use crate::folder::{Folder, private_file};
use crate::seal::SealKey;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/secrets");

/// Most bytes of all values of a tenant: all of them, in all their forms, are looked for in every text.
const TENANT_BYTES_MAX: i64 = 256 << 10;
/// Former versions kept through the overlap.
const FORMER_VERSIONS_MAX: i64 = 2;
const CHECK_CONTEXT: &[u8] = b"aegis/secrets/check";
const CHECK_BYTES: &[u8] = b"aegis secrets v1";

/// How the embedded store is opened.
pub struct EmbeddedOptions {
    /// The data folder.
    pub folder: PathBuf,
    /// The key, base64 of 32 bytes, from [`super::SECRETS_KEY_VARIABLE`]; from `keys/secrets.key` if `None`, which is
    /// made at first use.
    pub key: Option<SecretString>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub ids: Arc<dyn Ids>,
}

/// The secrets of this node.
pub struct EmbeddedSecrets {
    database: SqlitePool,
    source: KeySource,
    /// Held to write while all secrets are sealed anew.
    key: RwLock<SealKey>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    revision: AtomicU64,
}

impl EmbeddedSecrets {
    /// Opens `secrets.db`, mode 0600, or makes it.
    ///
    /// # Errors
    /// If the folder cannot be used, or the key is not the one the secrets are sealed under.
    pub async fn open(options: EmbeddedOptions) -> Result<Self, OpenError> {
        Folder::prepare(&options.folder)?;
        let path = options.folder.join("secrets.db");
        private_file(&path).map_err(OpenError::io("open", &path))?;
        let database = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "ON");
        let database = SqlitePoolOptions::new().max_connections(1).connect_with(database).await?;
        MIGRATIONS.run(&database).await?;
        let (source, keys) = KeySource::keys(&options.folder, options.key.as_ref(), options.ids.as_ref())?;
        let wrong_key = || OpenError::File {
            path: path.clone(),
            reason: "its secrets are sealed under another key: restore `keys/secrets.key` or set \
                     `AEGIS_SECRETS_KEY` to the key they were sealed under"
                .to_owned(),
        };
        let (place, key) = right_key(&database, &keys).await?.ok_or_else(wrong_key)?;
        let settled = if place == 0 { source.forget_next() } else { source.settle() };
        settled.map_err(OpenError::io("settle the key of", &path))?;
        Ok(Self {
            database,
            source,
            key: RwLock::new(key),
            clock: options.clock,
            ids: options.ids,
            revision: AtomicU64::new(1),
        })
    }

    /// Seals all secrets under a new key, in one transaction. With a key file the key is random and takes the file's
    /// place; if the key was given from outside, the new one is given as well, and opens the store from now on.
    ///
    /// # Errors
    /// If the new key is missing or malformed, or a secret does not open. Then the former key stays.
    pub async fn reseal(&self, new_key: Option<&SecretString>) -> Result<(), SecretError> {
        let key = match (&self.source, new_key) {
            (KeySource::File(_), None) => {
                let mut key = Key::default();
                self.ids.fill(key.as_mut());
                key
            }
            (KeySource::Given, Some(text)) => given_key(text)
                .ok_or_else(|| SecretError::Store("the new key is not base64 of 32 bytes".to_owned()))?,
            (KeySource::File(_), Some(_)) => {
                return Err(SecretError::Store(
                    "the key lies in a file and is made anew by itself".to_owned(),
                ));
            }
            (KeySource::Given, None) => {
                return Err(SecretError::Store("the key comes from outside; give the new one".to_owned()));
            }
        };
        let mut current = self.key.write().await;
        let next = SealKey::new(&key).map_err(|_| damaged("the new key"))?;
        self.source.prepare(&key).map_err(|error| SecretError::Store(error.to_string()))?;
        let mut change = self.database.begin_with("BEGIN IMMEDIATE").await.map_err(store)?;
        let rows =
            sqlx::query("SELECT tenant, name, version, sealed FROM secret").fetch_all(&mut *change).await;
        for row in rows.map_err(store)? {
            let (tenant, name): (&str, &str) =
                (row.try_get(0).map_err(store)?, row.try_get(1).map_err(store)?);
            let version: i64 = row.try_get(2).map_err(store)?;
            let context = context(tenant, name, version);
            let plain = open(&current, &context, row.try_get(3).map_err(store)?, name)?;
            let sealed = seal(&next, &context, plain.as_bytes())?;
            sqlx::query("UPDATE secret SET sealed = ?4 WHERE tenant = ?1 AND name = ?2 AND version = ?3")
                .bind(tenant)
                .bind(name)
                .bind(version)
                .bind(sealed)
                .execute(&mut *change)
                .await
                .map_err(store)?;
        }
        let check = seal(&next, CHECK_CONTEXT, CHECK_BYTES)?;
        sqlx::query("UPDATE seal_check SET sealed = ?1")
            .bind(check)
            .execute(&mut *change)
            .await
            .map_err(store)?;
        change.commit().await.map_err(store)?;
        *current = next;
        drop(current);
        self.empty_log().await?;
        self.source.settle().map_err(|error| SecretError::Store(error.to_string()))
    }

    /// Lets the database go.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Stores a value as the newest version. `keep_former` is how a rotation differs from setting.
    async fn put(
        &self,
        tenant: &Tenant,
        name: &SecretName,
        value: &SecretString,
        keep_former: bool,
    ) -> Result<u64, SecretError> {
        check_secret_value(name, value)?;
        let key = self.key.read().await;
        let now = self.clock.now();
        let mut change = self.database.begin_with("BEGIN IMMEDIATE").await.map_err(store)?;
        let current = newest(&mut change, tenant, name).await?;
        if keep_former && current.is_none() {
            return Err(SecretError::Missing(format!("secret:{name}")));
        }
        let version: i64 = sqlx::query_scalar(
            "INSERT INTO secret_last (tenant, name, version) VALUES (?1, ?2, 1) \
             ON CONFLICT DO UPDATE SET version = version + 1 RETURNING version",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .fetch_one(&mut *change)
        .await
        .map_err(store)?;
        if keep_former {
            retire(&mut change, tenant, name, version, now).await?;
        } else {
            remove(&mut change, tenant, name).await?;
        }
        let sealed =
            seal(&key, &context(tenant.as_str(), name.as_str(), version), value.expose_secret().as_bytes())?;
        sqlx::query(
            "INSERT INTO secret (tenant, name, version, sealed, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(version)
        .bind(sealed)
        .bind(now.micros())
        .execute(&mut *change)
        .await
        .map_err(store)?;
        check_limits(&mut change, tenant).await?;
        change.commit().await.map_err(store)?;
        self.changed().await?;
        Ok(version.cast_unsigned())
    }

    /// What was overwritten or deleted is taken out of the write-ahead log, too.
    async fn changed(&self) -> Result<(), SecretError> {
        self.revision.fetch_add(1, Ordering::AcqRel);
        self.empty_log().await
    }

    async fn empty_log(&self) -> Result<(), SecretError> {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.database).await.map(drop).map_err(store)
    }

    /// Former versions that are over their time are gone for good.
    async fn sweep(&self) -> Result<(), SecretError> {
        let swept = sqlx::query("DELETE FROM secret WHERE retired_at < ?1")
            .bind(overlap_begins(self.clock.now()))
            .execute(&self.database)
            .await
            .map_err(store)?;
        if swept.rows_affected() > 0 { self.changed().await } else { Ok(()) }
    }
}

#[async_trait]
impl SecretStore for EmbeddedSecrets {
    async fn read(&self, tenant: &Tenant, name: &SecretName) -> Result<StoredSecret, SecretError> {
        let key = self.key.read().await;
        let row = sqlx::query(
            "SELECT version, sealed FROM secret WHERE tenant = ?1 AND name = ?2 AND retired_at IS NULL",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .fetch_optional(&self.database)
        .await
        .map_err(store)?
        .ok_or_else(|| SecretError::Missing(format!("secret:{name}")))?;
        let version: i64 = row.try_get(0).map_err(store)?;
        let context = context(tenant.as_str(), name.as_str(), version);
        let value = open(&key, &context, row.try_get(1).map_err(store)?, name.as_str())?;
        Ok(StoredSecret { value: SecretString::from(value.as_str()), version: version.cast_unsigned() })
    }

    async fn list(&self, tenant: &Tenant) -> Result<Vec<SecretRecord>, SecretError> {
        self.sweep().await?;
        let rows = sqlx::query(
            "SELECT name, version, created_at FROM secret WHERE tenant = ?1 ORDER BY name, version",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.database)
        .await
        .map_err(store)?;
        let mut records: Vec<SecretRecord> = Vec::new();
        for row in rows {
            let name: SecretName = row.try_get::<&str, _>(0).map_err(store)?.parse()?;
            let version = row.try_get::<i64, _>(1).map_err(store)?.cast_unsigned();
            let updated_at = Timestamp::from_micros(row.try_get(2).map_err(store)?);
            match records.last_mut().filter(|last| last.name == name) {
                Some(last) => {
                    last.versions.push(version);
                    last.updated_at = updated_at;
                }
                None => records.push(SecretRecord { name, versions: vec![version], updated_at }),
            }
        }
        Ok(records)
    }

    async fn set(&self, tenant: &Tenant, name: &SecretName, value: SecretString) -> Result<u64, SecretError> {
        self.put(tenant, name, &value, false).await
    }

    async fn rotate(
        &self,
        tenant: &Tenant,
        name: &SecretName,
        value: SecretString,
    ) -> Result<u64, SecretError> {
        self.put(tenant, name, &value, true).await
    }

    async fn delete(&self, tenant: &Tenant, name: &SecretName) -> Result<(), SecretError> {
        let mut change = self.database.begin_with("BEGIN IMMEDIATE").await.map_err(store)?;
        if remove(&mut change, tenant, name).await? == 0 {
            return Err(SecretError::Missing(format!("secret:{name}")));
        }
        change.commit().await.map_err(store)?;
        self.changed().await
    }

    async fn known(&self, tenant: &Tenant) -> Result<Vec<KnownSecret>, SecretError> {
        self.sweep().await?;
        let key = self.key.read().await;
        let rows =
            sqlx::query("SELECT name, version, sealed FROM secret WHERE tenant = ?1 ORDER BY name, version")
                .bind(tenant.as_str())
                .fetch_all(&self.database)
                .await
                .map_err(store)?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let name: &str = row.try_get(0).map_err(store)?;
            let context = context(tenant.as_str(), name, row.try_get(1).map_err(store)?);
            let value = open(&key, &context, row.try_get(2).map_err(store)?, name)?;
            Ok(KnownSecret { name: name.to_owned(), value: SecretString::from(value.as_str()) })
        };
        rows.iter().map(read).collect()
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }
}

fn store(error: sqlx::Error) -> SecretError {
    SecretError::Store(error.to_string())
}

fn damaged(what: &str) -> SecretError {
    SecretError::Store(format!("`{what}` does not open under the node's key"))
}

/// Where a value lies; sealed with it, so that it opens nowhere else. Names hold no zero byte.
fn context(tenant: &str, name: &str, version: i64) -> Vec<u8> {
    format!("aegis/secret\0{tenant}\0{name}\0{version}").into_bytes()
}

fn seal(key: &SealKey, context: &[u8], value: &[u8]) -> Result<Vec<u8>, SecretError> {
    // Sealing in place needs room for the tag: growth would leave a plain copy behind.
    let mut plain = Vec::with_capacity(value.len() + 64);
    plain.extend_from_slice(value);
    key.seal(context, plain).map_err(|_| damaged("a value"))
}

fn open(key: &SealKey, context: &[u8], sealed: &[u8], name: &str) -> Result<Zeroizing<String>, SecretError> {
    let plain = Zeroizing::new(key.open(context, sealed).map_err(|_| damaged(name))?);
    let text = std::str::from_utf8(&plain).map_err(|_| damaged(name))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Which of the keys the database is sealed under; a new database is sealed under the first.
async fn right_key(database: &SqlitePool, keys: &[Key]) -> Result<Option<(usize, SealKey)>, OpenError> {
    let stored: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT sealed FROM seal_check").fetch_optional(database).await?;
    for (place, bytes) in keys.iter().enumerate() {
        let unusable = |_| OpenError::Damaged("a key of 32 bytes is refused".to_owned());
        let key = SealKey::new(bytes).map_err(unusable)?;
        let Some(stored) = &stored else {
            return take(database, bytes).await.map(|key| Some((place, key)));
        };
        if key.open(CHECK_CONTEXT, stored).is_ok_and(|opened| opened == CHECK_BYTES) {
            return Ok(Some((place, key)));
        }
    }
    let sealed: i64 = sqlx::query_scalar("SELECT count(*) FROM secret").fetch_one(database).await?;
    match keys.first() {
        // Nothing is lost with the former key: a node that was restored without it goes on.
        Some(bytes) if sealed == 0 => take(database, bytes).await.map(|key| Some((0, key))),
        _ => Ok(None),
    }
}

/// Makes a key the one that the store is opened by from now on.
async fn take(database: &SqlitePool, bytes: &Key) -> Result<SealKey, OpenError> {
    let unusable = |_| OpenError::Damaged("a key of 32 bytes is refused".to_owned());
    let key = SealKey::new(bytes).map_err(unusable)?;
    let check = key.seal(CHECK_CONTEXT, CHECK_BYTES.to_vec()).map_err(unusable)?;
    sqlx::query("INSERT INTO seal_check (id, sealed) VALUES (0, ?1) ON CONFLICT DO UPDATE SET sealed = ?1")
        .bind(check)
        .execute(database)
        .await?;
    Ok(key)
}

async fn newest(
    connection: &mut SqliteConnection,
    tenant: &Tenant,
    name: &SecretName,
) -> Result<Option<i64>, SecretError> {
    sqlx::query_scalar("SELECT version FROM secret WHERE tenant = ?1 AND name = ?2 AND retired_at IS NULL")
        .bind(tenant.as_str())
        .bind(name.as_str())
        .fetch_optional(connection)
        .await
        .map_err(store)
}

/// Retires the current version, and removes the oldest retired ones.
async fn retire(
    connection: &mut SqliteConnection,
    tenant: &Tenant,
    name: &SecretName,
    version: i64,
    now: Timestamp,
) -> Result<(), SecretError> {
    sqlx::query("UPDATE secret SET retired_at = ?3 WHERE tenant = ?1 AND name = ?2 AND retired_at IS NULL")
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(now.micros())
        .execute(&mut *connection)
        .await
        .map_err(store)?;
    sqlx::query("DELETE FROM secret WHERE tenant = ?1 AND name = ?2 AND (version < ?3 OR retired_at < ?4)")
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(version - FORMER_VERSIONS_MAX)
        .bind(overlap_begins(now))
        .execute(connection)
        .await
        .map_err(store)?;
    Ok(())
}

/// What was retired before this, in microseconds, is not redacted any more.
fn overlap_begins(now: Timestamp) -> i64 {
    now.micros().saturating_sub(i64::try_from(ROTATION_OVERLAP.as_micros()).unwrap_or(i64::MAX))
}

async fn remove(
    connection: &mut SqliteConnection,
    tenant: &Tenant,
    name: &SecretName,
) -> Result<u64, SecretError> {
    let removed = sqlx::query("DELETE FROM secret WHERE tenant = ?1 AND name = ?2")
        .bind(tenant.as_str())
        .bind(name.as_str())
        .execute(connection)
        .await
        .map_err(store)?;
    Ok(removed.rows_affected())
}

async fn check_limits(connection: &mut SqliteConnection, tenant: &Tenant) -> Result<(), SecretError> {
    let (names, bytes): (i64, i64) = sqlx::query_as(
        "SELECT count(DISTINCT name), coalesce(sum(length(sealed)), 0) FROM secret WHERE tenant = ?1",
    )
    .bind(tenant.as_str())
    .fetch_one(connection)
    .await
    .map_err(store)?;
    if names.cast_unsigned() > SECRETS_PER_TENANT_MAX as u64 || bytes > TENANT_BYTES_MAX {
        return Err(SecretError::Store(
            "a tenant may have 1024 secrets of 256 KiB together; delete some that are not used".to_owned(),
        ));
    }
    Ok(())
}
