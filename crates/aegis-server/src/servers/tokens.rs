//! Tokens of tool servers, in the node's store of secrets: redacted and left out of the log like every secret.

use std::sync::Arc;

use aegis_core::Tenant;
use aegis_kernel::port::{SecretError, SecretName, SecretStore};
use aegis_store::NodeSecrets;
use aegis_tools::mcp::Tokens;
use async_trait::async_trait;
use secrecy::SecretString;

use crate::secrets::OutOfLog;

/// Keeps tokens in the store that `secret:` is resolved by.
pub(super) struct StoredTokens {
    pub(super) secrets: Arc<NodeSecrets>,
    pub(super) out_of_log: Arc<OutOfLog>,
}

impl StoredTokens {
    fn store(&self, name: &str) -> Result<(&Arc<dyn SecretStore>, SecretName), String> {
        let store = self.secrets.store().ok_or_else(|| SecretError::NoStore(name.to_owned()).to_string())?;
        Ok((store, name.parse().map_err(|error: SecretError| error.to_string())?))
    }
}

#[async_trait]
impl Tokens for StoredTokens {
    async fn read(&self, tenant: &Tenant, name: &str) -> Result<Option<SecretString>, String> {
        let (store, name) = self.store(name)?;
        match store.read(tenant, &name).await {
            Ok(stored) => self.out_of_log.keep(tenant).await.map(|()| Some(stored.value)),
            Err(SecretError::Missing(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn write(&self, tenant: &Tenant, name: &str, value: SecretString) -> Result<(), String> {
        let (store, name) = self.store(name)?;
        // The former may still be valid, and echoed, at its far side: it stays known for a while.
        let written = match store.rotate(tenant, &name, value.clone()).await {
            Err(SecretError::Missing(_)) => store.set(tenant, &name, value).await,
            rotated => rotated,
        };
        written.map_err(|error| error.to_string())?;
        self.out_of_log.keep(tenant).await
    }

    async fn delete(&self, tenant: &Tenant, name: &str) -> Result<(), String> {
        let (store, name) = self.store(name)?;
        match store.delete(tenant, &name).await {
            Ok(()) | Err(SecretError::Missing(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}
