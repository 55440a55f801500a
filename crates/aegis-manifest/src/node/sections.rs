//! The sections that say where a node runs, listens, keeps and logs.

use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FirecrackerSettings, Metrics, Tls, Tracing};
use crate::agent::Isolation;

/// What the node is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSection {
    /// Its id; made at the first start without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its role among others.
    #[serde(rename = "type")]
    pub role: NodeRole,
    /// Its region, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Tags, to select by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// A node's role among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Plans and runs.
    #[default]
    Hybrid,
    /// Plans only.
    Orchestrator,
    /// Runs only.
    Edge,
}

/// Where agents run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSection {
    /// What `isolation: inherit` means.
    pub default_isolation: Isolation,
    /// The socket of Docker or Podman.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_socket_path: Option<String>,
    /// Micro-VMs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firecracker: Option<FirecrackerSettings>,
}

impl Default for RuntimeSection {
    fn default() -> Self {
        Self { default_isolation: Isolation::Process, container_socket_path: None, firecracker: None }
    }
}

/// Where the node listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSection {
    /// The address.
    #[schemars(with = "String", extend("format" = "ip"))]
    pub bind_address: IpAddr,
    /// The port of HTTP and the console.
    pub port: u16,
    /// The port of gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_port: Option<u16>,
    /// Certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Default for NetworkSection {
    fn default() -> Self {
        Self { bind_address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 8088, grpc_port: None, tls: None }
    }
}

/// Where the node keeps its data.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSection {
    /// The data folder; `AEGIS_HOME` without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    /// Directories of the host that `type: hostPath` volumes may lie below.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_paths: Vec<String>,
}

/// How the journal is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JournalSection {
    /// What an acknowledged event survives.
    pub durability: JournalDurability,
}

/// What an acknowledged event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JournalDurability {
    /// The end of the process; events with effects outside also a loss of power.
    #[default]
    Process,
    /// A loss of power, for every event.
    Power,
}

/// Logs, metrics and traces.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Observability {
    /// The daemon's own log.
    pub logging: Logging,
    /// Prometheus metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// OpenTelemetry traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
}

/// The daemon's own log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// The least level that is written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// A level of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find faults.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What should be looked at.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    /// As the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
