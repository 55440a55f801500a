//! Sections whose features this build does not have: known and parsed, so that a configuration written for a larger
//! build is understood, and named by [`NodeConfig::unenforced`](super::NodeConfig::unenforced).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reference;

type Settings = serde_json::Map<String, serde_json::Value>;

/// Certificates of the listeners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Path of the certificate chain, PEM.
    pub cert_path: String,
    /// Path of the private key, PEM.
    pub key_path: String,
    /// Path of the authorities that client certificates are checked against, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_path: Option<String>,
}

/// Micro-VMs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FirecrackerSettings {
    /// Path of the monitor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_path: Option<String>,
    /// Path of the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_path: Option<String>,
    /// Path of the root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_path: Option<String>,
}

/// The signed tool protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Smcp {
    /// Whether programs may attest.
    pub enabled: bool,
    /// Who issues the tokens, as their claim `iss` says; a name that the node made of itself, without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub issuer: Option<String>,
    /// Whom the tokens are for, as their claim `aud` says and this node demands; that name too, without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub audience: Option<String>,
    /// How long a token of a program outside holds, in seconds; an hour without it. One inside a sandbox holds as long
    /// as its iteration may take, at most a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub token_ttl_seconds: Option<u32>,
}

impl Default for Smcp {
    fn default() -> Self {
        Self { enabled: true, issuer: None, audience: None, token_ttl_seconds: None }
    }
}

/// Sign-in by an OIDC provider.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Iam {
    /// The issuer's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// This node's client id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// This node's client secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Reference>,
    /// Other settings: realms, claims, roles.
    #[serde(skip_serializing_if = "Settings::is_empty")]
    pub config: Settings,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its address: `postgres://…`.
    pub url: Reference,
}

/// The Temporal service that drives workflows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Temporal {
    /// Its address: `host:port`.
    pub address: Reference,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The task queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_queue: Option<String>,
}

/// The NATS service events are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nats {
    /// Its address: `nats://…`.
    pub url: Reference,
    /// The prefix of the subjects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_prefix: Option<String>,
}

/// Prometheus metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether `/metrics` answers.
    pub enabled: bool,
    /// A port of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// OpenTelemetry traces.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tracing {
    /// Whether traces are sent.
    pub enabled: bool,
    /// The collector's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Reference>,
}
