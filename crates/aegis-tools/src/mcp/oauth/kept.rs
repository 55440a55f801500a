//! Where tokens are kept: each a secret of its own, so that each is known to redaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aegis_core::{Name, Tenant};
use async_trait::async_trait;
use reqwest::Url;
use rmcp::transport::auth::{AuthError, CredentialStore, StoredCredentials};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Keeps the tokens of tool servers: the node's store of secrets.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// The secret of this name, if there is one.
    ///
    /// # Errors
    /// If the store failed; the text holds no secret.
    async fn read(&self, tenant: &Tenant, name: &str) -> Result<Option<SecretString>, String>;
    /// Keeps `value` under this name, in the place of what was there.
    ///
    /// # Errors
    /// If the store failed; the text holds no secret.
    async fn write(&self, tenant: &Tenant, name: &str, value: SecretString) -> Result<(), String>;
    /// Destroys what is kept under this name, if anything is.
    ///
    /// # Errors
    /// If the store failed.
    async fn delete(&self, tenant: &Tenant, name: &str) -> Result<(), String>;
}

const ACCESS_TOKEN: &str = "access_token";
const REFRESH_TOKEN: &str = "refresh_token";
const CLIENT_SECRET: &str = "client_secret";
const GRANT: &str = "grant";

/// What is known of a grant beside its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grant {
    pub(super) client_id: String,
    /// Who issued it: its tokens go nowhere else.
    pub(super) issuer: Option<String>,
    /// The address they were granted for: they are shown to no other.
    #[serde(default)]
    pub(super) resource: Option<String>,
    pub(super) scopes: Vec<String>,
    /// Seconds since 1970.
    pub(super) received_at: Option<u64>,
    /// Seconds the access token lives.
    pub(super) expires_in: Option<u64>,
}

/// The tokens of one tenant at one server, below `oauth/SERVER/`.
#[derive(Clone)]
pub(super) struct Kept {
    tokens: Arc<dyn Tokens>,
    tenant: Tenant,
    server: Name,
    resource: String,
    saves: Arc<AtomicU32>,
}

impl Kept {
    /// `resource` is the server's address.
    pub(super) fn new(tokens: Arc<dyn Tokens>, tenant: Tenant, server: Name, resource: &str) -> Self {
        let resource = Url::parse(resource).map_or_else(|_| resource.to_owned(), String::from);
        Self { tokens, tenant, server, resource, saves: Arc::default() }
    }
    fn name(&self, part: &str) -> String {
        format!("oauth/{}/{part}", self.server)
    }
    /// The reference by which the access token is handed out.
    pub(super) fn access_token(&self) -> String {
        format!("secret:{}", self.name(ACCESS_TOKEN))
    }
    /// How often tokens were taken in since this was made.
    pub(super) fn saves(&self) -> u32 {
        self.saves.load(Ordering::Acquire)
    }
    async fn read(&self, part: &str) -> Result<Option<SecretString>, String> {
        self.tokens.read(&self.tenant, &self.name(part)).await
    }
    async fn put(&self, part: &str, value: Option<&str>) -> Result<(), String> {
        match value {
            Some(value) => self.tokens.write(&self.tenant, &self.name(part), value.to_owned().into()).await,
            None => self.tokens.delete(&self.tenant, &self.name(part)).await,
        }
    }
    pub(super) async fn grant(&self) -> Result<Option<Grant>, String> {
        let kept = self.read(GRANT).await?;
        // What cannot be read is as good as not there: a person signs in again.
        Ok(kept.and_then(|text| serde_json::from_str(text.expose_secret()).ok()))
    }
    /// The secret of a client that registered itself.
    pub(super) async fn client_secret(&self) -> Result<Option<SecretString>, String> {
        self.read(CLIENT_SECRET).await
    }
    pub(super) async fn put_client_secret(&self, secret: Option<&str>) -> Result<(), String> {
        self.put(CLIENT_SECRET, secret).await
    }
    /// The tokens with their kinds (RFC 7009), the one that outlives the other first.
    pub(super) async fn tokens(&self) -> Result<Vec<(&'static str, SecretString)>, String> {
        let mut tokens = Vec::new();
        for kind in [REFRESH_TOKEN, ACCESS_TOKEN] {
            tokens.extend(self.read(kind).await?.map(|token| (kind, token)));
        }
        Ok(tokens)
    }
    /// Destroys all of it.
    pub(super) async fn forget(&self) -> Result<(), String> {
        // The grant first: what is left without it opens nothing here.
        for part in [GRANT, ACCESS_TOKEN, REFRESH_TOKEN, CLIENT_SECRET] {
            self.put(part, None).await?;
        }
        Ok(())
    }

    async fn stored(&self) -> Result<Option<StoredCredentials>, String> {
        let (Some(grant), Some(access)) = (self.grant().await?, self.read(ACCESS_TOKEN).await?) else {
            return Ok(None);
        };
        let mut tokens = json!({"access_token": access.expose_secret(), "token_type": "bearer"});
        if let (Some(tokens), Some(seconds)) = (tokens.as_object_mut(), grant.expires_in) {
            tokens.insert("expires_in".to_owned(), seconds.into());
        }
        let refresh = self.read(REFRESH_TOKEN).await?;
        if let (Some(tokens), Some(refresh)) = (tokens.as_object_mut(), &refresh) {
            tokens.insert(REFRESH_TOKEN.to_owned(), refresh.expose_secret().into());
        }
        let tokens = serde_json::from_value(tokens).map_err(|_| "the kept tokens are damaged".to_owned())?;
        let stored = StoredCredentials::new(grant.client_id, Some(tokens), grant.scopes, grant.received_at);
        Ok(Some(stored.with_issuer(grant.issuer)))
    }

    async fn take_in(&self, stored: &StoredCredentials) -> Result<(), String> {
        let Some(tokens) = &stored.token_response else { return self.forget().await };
        let tokens = serde_json::to_value(tokens).map_err(|_| "the tokens have no text form".to_owned())?;
        let text = |part: &str| tokens.get(part).and_then(Value::as_str);
        let grant = Grant {
            client_id: stored.client_id.clone(),
            issuer: stored.issuer.clone(),
            resource: Some(self.resource.clone()),
            scopes: stored.granted_scopes.clone(),
            received_at: stored.token_received_at,
            expires_in: tokens.get("expires_in").and_then(Value::as_u64),
        };
        let grant = serde_json::to_string(&grant).map_err(|error| error.to_string())?;
        // In this order: whatever a crash cuts off, the newest refresh token is there, which may be the only good one.
        self.put(REFRESH_TOKEN, text(REFRESH_TOKEN)).await?;
        self.put(ACCESS_TOKEN, text(ACCESS_TOKEN)).await?;
        self.put(GRANT, Some(&grant)).await?;
        self.saves.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

#[async_trait]
impl CredentialStore for Kept {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        self.stored().await.map_err(AuthError::CredentialStoreError)
    }
    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        self.take_in(&credentials).await.map_err(AuthError::CredentialStoreError)
    }
    async fn clear(&self) -> Result<(), AuthError> {
        self.forget().await.map_err(AuthError::CredentialStoreError)
    }
    /// Tokens that are known to be worthless are not kept.
    async fn on_refresh_token_rejected(&self, _: &StoredCredentials) -> Result<(), AuthError> {
        self.clear().await
    }
}
