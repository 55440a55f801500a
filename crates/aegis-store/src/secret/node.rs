//! References are resolved: by the node's store, from the daemon's environment, or as they are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aegis_core::Tenant;
use aegis_kernel::port::{
    KnownSecret, Resolved, SECRET_BYTES_MIN, SecretError, SecretReference, SecretStore, Secrets,
};
use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

/// Values from elsewhere than the store that are remembered for redaction.
const REMEMBERED_MAX: usize = 256;

/// Resolves what the node's configuration refers to.
///
/// What came from the environment or from `literal:` is redacted for every tenant once it was handed out, unless it is
/// shorter than 8 bytes: such values occur in any text. Text without a prefix is no secret and is not redacted.
pub struct NodeSecrets {
    store: Option<Arc<dyn SecretStore>>,
    remembered: Mutex<BTreeMap<String, SecretString>>,
    revision: AtomicU64,
}

impl NodeSecrets {
    /// Resolves `secret:` by `store`, if there is one.
    pub fn new(store: Option<Arc<dyn SecretStore>>) -> Self {
        Self { store, remembered: Mutex::default(), revision: AtomicU64::new(0) }
    }

    /// The store that `secret:` is resolved by.
    pub fn store(&self) -> Option<&Arc<dyn SecretStore>> {
        self.store.as_ref()
    }

    fn remember(&self, name: &str, value: &SecretString) -> Result<(), SecretError> {
        let text = value.expose_secret();
        if text.len() < SECRET_BYTES_MIN {
            return Ok(());
        }
        if text.contains("[secret:") {
            let reason = "holds `[secret:`, by which redacted values are written";
            return Err(SecretError::Value { name: name.to_owned(), reason });
        }
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |value: &SecretString| value.expose_secret() == text;
        if remembered.values().any(known) {
            return Ok(());
        }
        if remembered.len() >= REMEMBERED_MAX {
            return Err(SecretError::Store(
                "more than 256 values from the environment are in use".to_owned(),
            ));
        }
        // A variable does not change while the daemon runs, but there may be many literals.
        let count = remembered.len();
        let key = if remembered.contains_key(name) { format!("{name}:{count}") } else { name.to_owned() };
        remembered.insert(key, value.clone());
        self.revision.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

#[async_trait]
impl Secrets for NodeSecrets {
    async fn resolve(&self, tenant: &Tenant, reference: &str) -> Result<Resolved, SecretError> {
        let parsed: SecretReference = reference.parse()?;
        let shown = parsed.to_string();
        match parsed {
            SecretReference::Stored(name) => {
                let store = self.store.as_ref().ok_or_else(|| SecretError::NoStore(shown.clone()))?;
                let stored = store.read(tenant, &name).await?;
                Ok(Resolved { value: stored.value, reference: shown, version: Some(stored.version) })
            }
            SecretReference::Environment(name) => {
                let value = std::env::var(name).map_err(|_| SecretError::Missing(shown.clone()))?;
                let value = SecretString::from(value);
                self.remember(&shown, &value)?;
                Ok(Resolved { value, reference: shown, version: None })
            }
            SecretReference::Literal(value) => {
                if reference.starts_with("literal:") {
                    self.remember(&shown, &value)?;
                }
                Ok(Resolved { value, reference: shown, version: None })
            }
        }
    }

    async fn known(&self, tenant: &Tenant) -> Result<Vec<KnownSecret>, SecretError> {
        let mut known = match &self.store {
            Some(store) => store.known(tenant).await?,
            None => Vec::new(),
        };
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let from_elsewhere = |(name, value): (&String, &SecretString)| KnownSecret {
            name: name.clone(),
            value: value.clone(),
        };
        known.extend(remembered.iter().map(from_elsewhere));
        Ok(known)
    }

    fn revision(&self) -> u64 {
        let stored = self.store.as_ref().map_or(0, |store| store.revision());
        // Both only grow, so their sum changes whenever one does.
        stored.wrapping_add(self.revision.load(Ordering::Acquire))
    }
}
