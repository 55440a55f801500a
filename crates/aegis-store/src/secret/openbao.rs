//! Secrets in an `OpenBao` or Vault server: the KV v2 engine, behind a token or an `AppRole` login.
//!
//! A secret of a tenant lies at `MOUNT/data/PREFIX/TENANT/NAME`, in the field `value`. What another wrote with one field
//! of any name is read as well. Protocol: <https://openbao.org/api-docs/secret/kv/kv-v2/>, `auth/approle`, `auth/token`.

mod remembered;
mod session;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aegis_core::{Tenant, Timestamp};
use aegis_kernel::port::{
    KnownSecret, SecretError, SecretName, SecretRecord, SecretStore, StoredSecret, check_secret_value,
};
use async_trait::async_trait;
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use self::remembered::Remembered;
use self::session::Session;
use self::wire::Wire;
use super::SECRETS_PER_TENANT_MAX;

/// Deepest folder that is listed below a tenant's own.
const FOLDERS_MAX: usize = 256;

/// How the server knows this node.
#[derive(Debug, Clone)]
pub enum OpenBaoLogin {
    /// A token made elsewhere. It is renewed while the server allows it; what follows it is the operator's to give.
    Token(SecretString),
    /// A role: a new token is fetched whenever the former cannot be renewed.
    AppRole {
        /// Where the method is mounted, usually `approle`.
        mount: String,
        /// The role's id.
        role_id: String,
        /// The role's secret.
        secret_id: SecretString,
    },
}

/// Which server, and how it is asked.
#[derive(Debug, Clone)]
pub struct OpenBaoOptions {
    /// Its address: `https://…`, or `http://` on this machine.
    pub address: String,
    /// Where the KV v2 engine is mounted, usually `secret`.
    pub mount: String,
    /// The folder of this node's secrets within it.
    pub prefix: String,
    /// The namespace, where the server has such.
    pub namespace: Option<String>,
    /// How the server knows this node.
    pub login: OpenBaoLogin,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// First wait before another attempt; it doubles, up to 30 s.
    pub backoff: Duration,
}

impl OpenBaoOptions {
    /// Asks `address` with usual mounts, 10 s of patience and 500 ms before another attempt.
    pub fn new(address: impl Into<String>, login: OpenBaoLogin) -> Self {
        Self {
            address: address.into(),
            mount: "secret".to_owned(),
            prefix: "aegis".to_owned(),
            namespace: None,
            login,
            timeout: Duration::from_secs(10),
            backoff: Duration::from_millis(500),
        }
    }
}

/// Secrets of a server. Its token is renewed in the background until this is dropped.
pub struct OpenBao {
    session: Arc<Session>,
    mount: String,
    prefix: String,
    remembered: Remembered,
    renewal: tokio::task::JoinHandle<()>,
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl OpenBao {
    /// Logs in.
    ///
    /// # Errors
    /// If the address or a mount is malformed, the server cannot be reached, or it refuses the login.
    pub async fn connect(options: OpenBaoOptions) -> Result<Self, SecretError> {
        for path in [&options.mount, &options.prefix] {
            path.parse::<SecretName>()?;
        }
        let wire = Wire::new(&options)?;
        let session = Arc::new(Session::open(wire, options.login).await?);
        let renewal = tokio::spawn(session::renew(Arc::downgrade(&session), options.backoff));
        Ok(Self {
            session,
            mount: options.mount,
            prefix: options.prefix,
            remembered: Remembered::default(),
            renewal,
        })
    }

    fn path(&self, part: &str, tenant: &Tenant, name: &str) -> String {
        format!("{}/{part}/{}/{tenant}/{name}", self.mount, self.prefix)
    }

    /// Writes a new version. `former` is the version it must follow, if any is demanded.
    async fn write(
        &self,
        tenant: &Tenant,
        name: &SecretName,
        value: &SecretString,
        former: Option<u64>,
    ) -> Result<u64, SecretError> {
        let mut body = json!({ "data": { "value": value.expose_secret() } });
        if let (Some(former), Some(body)) = (former, body.as_object_mut()) {
            body.insert("options".to_owned(), json!({ "cas": former }));
        }
        let path = self.path("data", tenant, name.as_str());
        let answer = self.session.ask(Method::POST, &path, Some(&body), Some(value)).await?;
        let version =
            answer.as_ref().and_then(|answer| answer.pointer("/data/version")).and_then(Value::as_u64);
        version.ok_or_else(|| unexpected("a version"))
    }

    /// What the server tells of a secret; `None` if there is none.
    async fn metadata(&self, tenant: &Tenant, name: &str) -> Result<Option<Metadata>, SecretError> {
        let path = self.path("metadata", tenant, name);
        let Some(answer) = self.session.ask(Method::GET, &path, None, None).await? else { return Ok(None) };
        Metadata::read(&answer).map(Some).ok_or_else(|| unexpected("the metadata of a secret"))
    }
}

struct Metadata {
    current: u64,
    /// Versions that can be read, oldest first.
    readable: Vec<u64>,
    updated_at: Timestamp,
}

impl Metadata {
    fn read(answer: &Value) -> Option<Self> {
        let data = answer.get("data")?;
        let readable = data.get("versions")?.as_object()?.iter().filter_map(|(version, facts)| {
            let deleted =
                facts.get("deletion_time").and_then(Value::as_str).is_some_and(|time| !time.is_empty());
            let destroyed = facts.get("destroyed").and_then(Value::as_bool).unwrap_or_default();
            version.parse().ok().filter(|_| !deleted && !destroyed)
        });
        let mut readable: Vec<u64> = readable.collect();
        readable.sort_unstable();
        let updated_at = Timestamp::parse(data.get("updated_time")?.as_str()?)?;
        Some(Self { current: data.get("current_version")?.as_u64()?, readable, updated_at })
    }
    /// Whether the newest version can be read: only that one is given.
    fn is_there(&self) -> bool {
        self.readable.last() == Some(&self.current)
    }
}

fn missing(name: &SecretName) -> SecretError {
    SecretError::Missing(format!("secret:{name}"))
}

fn unexpected(what: &str) -> SecretError {
    SecretError::Store(format!("its answer holds not {what}"))
}

#[async_trait]
impl SecretStore for OpenBao {
    async fn read(&self, tenant: &Tenant, name: &SecretName) -> Result<StoredSecret, SecretError> {
        let path = self.path("data", tenant, name.as_str());
        let answer = self.session.ask(Method::GET, &path, None, None).await?.ok_or_else(|| missing(name))?;
        // A version that was deleted but not destroyed comes with its metadata and without data.
        let fields = answer.pointer("/data/data").and_then(Value::as_object).ok_or_else(|| missing(name))?;
        let sole = || fields.values().next().filter(|_| fields.len() == 1);
        let value = fields.get("value").or_else(sole).and_then(Value::as_str);
        let value = value.ok_or_else(|| SecretError::Value {
            name: name.to_string(),
            reason: "is not one text: store it in the field `value`",
        })?;
        let value = SecretString::from(value);
        check_secret_value(name, &value)?;
        let version = answer.pointer("/data/metadata/version").and_then(Value::as_u64);
        let version = version.ok_or_else(|| unexpected("a version"))?;
        self.remembered.given(tenant, name, version, &value);
        Ok(StoredSecret { value, version })
    }

    async fn list(&self, tenant: &Tenant) -> Result<Vec<SecretRecord>, SecretError> {
        let mut folders = vec![String::new()];
        let mut names = Vec::new();
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            seen += 1;
            let path = format!("{}?list=true", self.path("metadata", tenant, &folder).trim_end_matches('/'));
            let Some(answer) = self.session.ask(Method::GET, &path, None, None).await? else { continue };
            let keys =
                answer.pointer("/data/keys").and_then(Value::as_array).ok_or_else(|| unexpected("keys"))?;
            for key in keys.iter().filter_map(Value::as_str) {
                let list = if key.ends_with('/') { &mut folders } else { &mut names };
                list.push(format!("{folder}{key}"));
            }
            if seen > FOLDERS_MAX || names.len() > SECRETS_PER_TENANT_MAX {
                return Err(SecretError::Store("it holds more than 1024 secrets of this tenant".to_owned()));
            }
        }
        let mut records = BTreeMap::new();
        // What another program named in other ways cannot be referred to.
        for name in names.iter().filter_map(|name| name.parse::<SecretName>().ok()) {
            let Some(metadata) = self.metadata(tenant, name.as_str()).await? else { continue };
            if metadata.is_there() {
                let (versions, updated_at) = (metadata.readable, metadata.updated_at);
                records.insert(name.clone(), SecretRecord { name, versions, updated_at });
            }
        }
        Ok(records.into_values().collect())
    }

    async fn set(&self, tenant: &Tenant, name: &SecretName, value: SecretString) -> Result<u64, SecretError> {
        check_secret_value(name, &value)?;
        let former =
            self.metadata(tenant, name.as_str()).await?.map(|former| former.readable).unwrap_or_default();
        let version = self.write(tenant, name, &value, None).await?;
        if !former.is_empty() {
            let path = self.path("destroy", tenant, name.as_str());
            self.session.ask(Method::POST, &path, Some(&json!({ "versions": former })), None).await?;
        }
        self.remembered.forget(tenant, name);
        self.remembered.given(tenant, name, version, &value);
        Ok(version)
    }

    async fn rotate(
        &self,
        tenant: &Tenant,
        name: &SecretName,
        value: SecretString,
    ) -> Result<u64, SecretError> {
        check_secret_value(name, &value)?;
        let former = self.metadata(tenant, name.as_str()).await?;
        let former = former.filter(Metadata::is_there).ok_or_else(|| missing(name))?;
        let version = self.write(tenant, name, &value, Some(former.current)).await?;
        self.remembered.given(tenant, name, version, &value);
        Ok(version)
    }

    async fn delete(&self, tenant: &Tenant, name: &SecretName) -> Result<(), SecretError> {
        self.metadata(tenant, name.as_str()).await?.ok_or_else(|| missing(name))?;
        let path = self.path("metadata", tenant, name.as_str());
        self.session.ask(Method::DELETE, &path, None, None).await?;
        self.remembered.forget(tenant, name);
        Ok(())
    }

    /// The values that were read or written here since the node's start: what never left the server need not be looked
    /// for.
    async fn known(&self, tenant: &Tenant) -> Result<Vec<KnownSecret>, SecretError> {
        Ok(self.remembered.known(tenant))
    }

    fn revision(&self) -> u64 {
        self.remembered.revision()
    }
}
