//! Models behind aliases.

use aegis_core::{ModelAnswer, ModelFailure, ModelRequest};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// What the node's configuration says of an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// Provider's name in the configuration.
    pub provider: String,
    /// The model, as the provider names it.
    pub model: String,
    /// Most tokens of request and answer together, if stated.
    pub context_window: Option<u64>,
    /// Whether it, and whatever answers in its place, is trusted with personal data.
    pub personal_data: bool,
}

/// Asks models. Retries, fallback, pricing and dialects are the adapter's; the answer says what happened.
#[async_trait]
pub trait Model: Send + Sync {
    /// Asks the model behind `request.alias`. Ends within `request.timeout_ms`, and soon after `cancel`.
    async fn ask(
        &self,
        request: &ModelRequest,
        cancel: &CancellationToken,
    ) -> Result<ModelAnswer, ModelFailure>;
    /// What stands behind an alias; `None` if it is not configured.
    fn facts(&self, alias: &str) -> Option<ModelFacts>;
    /// The configured aliases, sorted.
    fn aliases(&self) -> Vec<String>;
}
