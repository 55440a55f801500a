//! Where secrets are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reference;

/// Which store keeps secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretsBackend {
    /// A sealed database in the data folder.
    #[default]
    Local,
    /// An OpenBao or Vault server.
    Openbao,
}

/// Where secrets are kept; sealed in the data folder without it. Taken at start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsSection {
    /// `local` keeps them in the data folder; `openbao` in an OpenBao or Vault.
    pub backend: SecretsBackend,
    /// The server's address: `https://…`, or `http://` on this machine. With `openbao`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The server's token, as `env:NAME`. With `openbao`, or `approle` in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Reference>,
    /// The role by which the server knows this node. With `openbao`, or `token` in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approle: Option<AppRole>,
    /// Where the KV v2 engine is mounted; `secret` without it. With `openbao`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// The folder of this node's secrets within the engine; `aegis` without it. With `openbao`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The server's namespace, where it has such. With `openbao`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A role of an OpenBao or Vault server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// The role's id.
    pub role_id: String,
    /// The role's secret, as `env:NAME`.
    pub secret_id: Reference,
    /// Where the method is mounted; `approle` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
}
