//! Where credentials come from.

use async_trait::async_trait;
use secrecy::SecretString;

/// A reference that gave no secret. Never holds the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing is stored under the reference.
    #[error("no secret under `{0}`")]
    Missing(String),
    /// No store on this node serves such references.
    #[error("this node has no secret store for `{0}`")]
    NoStore(String),
}

/// Resolves references from the node's configuration: `env:NAME`, `secret:path`, `literal:value`.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The value `reference` stands for.
    async fn resolve(&self, reference: &str) -> Result<SecretString, SecretError>;
}
