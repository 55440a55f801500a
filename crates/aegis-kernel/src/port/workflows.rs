//! Who drives workflows: the embedded engine or a distributed one.

use aegis_core::{Diagnosis, ExecutionId};
use async_trait::async_trait;
use serde_json::Value;

/// Starts runs of deployed workflows.
#[async_trait]
pub trait Workflows: Send + Sync {
    /// Starts a run of the workflow called `name` and returns its id.
    async fn run(&self, name: &str, input: Value) -> Result<ExecutionId, Diagnosis>;
}
