//! The repositories that the configuration names: opened with the node, changed with its configuration.

use std::sync::Arc;

use aegis_core::{Diagnosis, ErrorCode, Tenant};
use aegis_kernel::port::{Ids, Secrets};
use aegis_manifest::NodeConfig;
use aegis_sandbox::{EgressProxy, ProcessSandbox};
use aegis_tools::{GitParts, GitRemotes, GitTools};

/// The tools of Git for this configuration.
///
/// # Errors
/// If a remote cannot be put into force.
pub(crate) fn open(
    node: &NodeConfig,
    sandbox: Arc<ProcessSandbox>,
    secrets: Arc<dyn Secrets>,
    ids: Arc<dyn Ids>,
) -> Result<Arc<GitTools>, Diagnosis> {
    let parts = GitParts { sandbox, egress: Arc::new(EgressProxy::new()), secrets, ids };
    Ok(Arc::new(GitTools::new(remotes(node)?, parts)))
}

/// The repositories of this configuration.
///
/// # Errors
/// If a remote cannot be put into force.
pub(crate) fn remotes(node: &NodeConfig) -> Result<GitRemotes, Diagnosis> {
    GitRemotes::of(node).map_err(|error| Diagnosis::new(ErrorCode::InvalidInput, error))
}

/// What remotes need and is not there: git itself, and credentials that are referred to.
pub(crate) async fn missing(node: &NodeConfig, tools: &GitTools, secrets: &dyn Secrets) -> Vec<String> {
    let mut missing: Vec<String> = tools.missing().into_iter().collect();
    for remote in node.spec.git.iter().flat_map(|git| &git.remotes) {
        // Read only to see that it is there: each call reads it again, for its own tenant.
        let reference = remote.credential.to_string();
        if let Err(error) = secrets.resolve(&Tenant::default_tenant(), &reference).await {
            missing.push(format!("Git repository `{}`: `credential`: {error}", remote.name));
        }
    }
    missing
}
