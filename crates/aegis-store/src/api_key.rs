//! API keys: 32 random bytes that only their holder has. Kept is their SHA-256, which gives nothing back: the bytes are
//! random, so no slow hash is needed.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::PoisonError;

use aegis_core::{AgentId, ApiKeyId, Body, KeyRole, Name, Sha256, Tenant, Timestamp};
use aegis_security::commitment::sha256;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use zeroize::Zeroizing;

use crate::door::{Door, DoorError, bytes32};

/// What every key's text begins with.
pub const API_KEY_PREFIX: &str = "aegis_";
/// Keys of a tenant that open at the same time.
pub const API_KEYS_MAX: usize = 1024;
/// The time of use is written this seldom, in milliseconds.
const LAST_USED_EVERY_MS: u64 = 60_000;
const KEY_BYTES: usize = 32;

/// What is known of a key; not the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, for lists, events and revocation.
    pub id: ApiKeyId,
    /// Whose it is.
    pub tenant: Tenant,
    /// What it is called; unique among the keys of a tenant that open.
    pub name: Name,
    /// What it may do.
    pub role: KeyRole,
    /// The agent it may act as: set exactly for [`KeyRole::Agent`].
    pub agent: Option<Name>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ceased to open.
    pub revoked_at: Option<Timestamp>,
    /// When it was last presented, to the minute.
    pub last_used: Option<Timestamp>,
}

impl ApiKey {
    /// The event that says it was made.
    pub fn created_event(&self) -> Body {
        let agent = self.agent.as_ref().map(|agent| AgentId::of(&self.tenant, agent));
        Body::KeyCreated { key: self.id, role: self.role, agent }
    }
    /// The event that says it was revoked.
    pub const fn revoked_event(&self) -> Body {
        Body::KeyRevoked { key: self.id }
    }
}

impl Door {
    /// Makes a key. Its text is given this once and is nowhere else.
    ///
    /// # Errors
    /// If the role and the agent do not fit, the name is taken, or the tenant has too many keys.
    pub async fn create_key(
        &self,
        tenant: &Tenant,
        name: &Name,
        role: KeyRole,
        agent: Option<&Name>,
    ) -> Result<(ApiKey, SecretString), DoorError> {
        match (role, agent) {
            (KeyRole::Agent, None) => return Err(invalid("a key of role `agent` needs `--agent NAME`")),
            (KeyRole::Operator | KeyRole::Viewer, Some(_)) => {
                return Err(invalid("only a key of role `agent` takes `--agent`"));
            }
            _ => {}
        }
        let mut bytes = Zeroizing::new([0u8; KEY_BYTES]);
        self.ids.fill(bytes.as_mut());
        let hash = sha256(bytes.as_ref());
        let key = ApiKey {
            id: ApiKeyId::from_uuid(self.ids.uuid()),
            tenant: tenant.clone(),
            name: name.clone(),
            role,
            agent: agent.cloned(),
            created_at: self.clock.now(),
            revoked_at: None,
            last_used: None,
        };
        if self.live(|keys| keys.values().filter(|other| other.tenant == *tenant).count()) >= API_KEYS_MAX {
            return Err(invalid("the tenant has 1024 keys; revoke some with `aegis key revoke`"));
        }
        let inserted = sqlx::query(
            "INSERT INTO api_key (id, tenant, name, role, agent, hash, created_at) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS \
             (SELECT 1 FROM api_key WHERE tenant = ?2 AND name = ?3 AND revoked_at IS NULL)",
        )
        .bind(key.id.to_string())
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(role.as_str())
        .bind(agent.map(Name::as_str))
        .bind(hash.as_bytes().as_slice())
        .bind(key.created_at.micros())
        .execute(&self.power)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(DoorError::Invalid(format!(
                "a key called `{name}` is there already; revoke it first"
            )));
        }
        self.change(|keys| drop(keys.insert(hash, key.clone())));
        Ok((key, key_text(&bytes)))
    }

    /// The keys of a tenant, revoked ones included, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn keys(&self, tenant: &Tenant) -> Result<Vec<ApiKey>, DoorError> {
        let rows = sqlx::query("SELECT * FROM api_key WHERE tenant = ?1 ORDER BY created_at, id")
            .bind(tenant.as_str())
            .fetch_all(&self.power)
            .await?;
        rows.iter().map(|row| read(row).map(|(_, key)| key)).collect()
    }

    /// Makes a key open nothing from now on. `None` if the tenant has no such key that opens.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn revoke_key(&self, tenant: &Tenant, id: ApiKeyId) -> Result<Option<ApiKey>, DoorError> {
        let now = self.clock.now();
        let row = sqlx::query(
            "UPDATE api_key SET revoked_at = ?3 WHERE tenant = ?1 AND id = ?2 AND revoked_at IS NULL RETURNING *",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(now.micros())
        .fetch_optional(&self.power)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (hash, key) = read(&row)?;
        self.change(|keys| drop(keys.remove(&hash)));
        Ok(Some(key))
    }

    /// The key whose text this is; `None` for text that is no key's or a revoked one's.
    ///
    /// Keys are found by a hash of their hash under a random seed, and compared in constant time: how long it takes says
    /// nothing of how much of a key is right.
    pub async fn authenticate(&self, text: &str) -> Option<ApiKey> {
        let encoded = text.strip_prefix(API_KEY_PREFIX)?;
        let mut bytes = Zeroizing::new([0u8; KEY_BYTES + 1]);
        let length = URL_SAFE_NO_PAD.decode_slice(encoded, bytes.as_mut()).ok()?;
        let hash = sha256(bytes.get(..length).filter(|bytes| bytes.len() == KEY_BYTES)?);
        let now = self.clock.now();
        let (key, stale) = self.change(|keys| {
            let (stored, _) = keys.get_key_value(&hash)?;
            verify_slices_are_equal(stored.as_bytes(), hash.as_bytes()).ok()?;
            let key = keys.get_mut(&hash)?;
            let stale = key.last_used.is_none_or(|last| now.millis_since(last) >= LAST_USED_EVERY_MS);
            if stale {
                key.last_used = Some(now);
            }
            Some((key.clone(), stale))
        })?;
        if stale {
            let written = sqlx::query("UPDATE api_key SET last_used = ?2 WHERE id = ?1")
                .bind(key.id.to_string())
                .bind(now.micros())
                .execute(&self.process)
                .await;
            if let Err(error) = written {
                tracing::warn!(%error, key = %key.id, "the time of a key's use could not be written");
            }
        }
        Some(key)
    }

    fn live<T>(&self, look: impl FnOnce(&HashMap<Sha256, ApiKey>) -> T) -> T {
        look(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Sha256, ApiKey>) -> T) -> T {
        change(&mut self.keys.write().unwrap_or_else(PoisonError::into_inner))
    }
}

fn invalid(text: &str) -> DoorError {
    DoorError::Invalid(text.to_owned())
}

fn key_text(bytes: &[u8; KEY_BYTES]) -> SecretString {
    let mut text = Zeroizing::new(String::with_capacity(API_KEY_PREFIX.len() + 44));
    text.push_str(API_KEY_PREFIX);
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    SecretString::from(text.as_str())
}

/// All keys that open.
pub(crate) async fn live_keys(database: &SqlitePool) -> Result<HashMap<Sha256, ApiKey>, DoorError> {
    let rows = sqlx::query("SELECT * FROM api_key WHERE revoked_at IS NULL").fetch_all(database).await?;
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<(Sha256, ApiKey), DoorError> {
    fn parsed<T: FromStr>(text: &str) -> Result<T, DoorError> {
        text.parse().map_err(|_| DoorError::Damaged("an API key's row has a wrong id or name"))
    }
    let time = |column| row.try_get::<Option<i64>, _>(column).map(|at| at.map(Timestamp::from_micros));
    let role =
        KeyRole::parse(row.try_get("role")?).ok_or(DoorError::Damaged("an API key has no known role"))?;
    let key = ApiKey {
        id: parsed(row.try_get("id")?)?,
        tenant: parsed(row.try_get("tenant")?)?,
        name: parsed(row.try_get("name")?)?,
        role,
        agent: row.try_get::<Option<&str>, _>("agent")?.map(parsed).transpose()?,
        created_at: Timestamp::from_micros(row.try_get("created_at")?),
        revoked_at: time("revoked_at")?,
        last_used: time("last_used")?,
    };
    Ok((Sha256::from_bytes(bytes32(row.try_get("hash")?)?), key))
}
