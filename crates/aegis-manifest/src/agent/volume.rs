//! Volumes as a manifest asks for them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::ByteSize;

/// A volume mounted into the agent's sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its name within the manifest.
    pub name: String,
    /// Whether it ends with the execution (`ephemeral`) or stays (`persistent`).
    #[serde(default)]
    pub storage_class: StorageClass,
    /// Where it appears inside: an absolute path without `.`, `..` or a trailing slash.
    pub mount_path: String,
    /// Whether the agent may write to it.
    #[serde(default)]
    pub access_mode: AccessMode,
    /// Most bytes it may hold; 1Gi without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "1Gi"))]
    pub size_limit: Option<ByteSize>,
    /// Hours an ephemeral volume is kept after its execution ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8_760))]
    pub ttl_hours: Option<u32>,
    /// The persistent volume that is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<VolumeSource>,
    /// Where its bytes lie.
    #[serde(rename = "type", default)]
    pub kind: VolumeType,
    /// The storage provider of the node's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Settings of the storage. With `type: hostPath`: `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Volume {
    /// Most bytes it may hold.
    pub fn size_limit_bytes(&self) -> u64 {
        self.size_limit.map_or(1 << 30, ByteSize::bytes)
    }
}

/// Whether a volume ends with its execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StorageClass {
    /// It does.
    #[default]
    Ephemeral,
    /// It stays.
    Persistent,
}

/// Whether an agent may write to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccessMode {
    /// It may.
    #[default]
    ReadWrite,
    /// It may only read.
    ReadOnly,
}

/// Where a volume's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VolumeType {
    /// The node's disk.
    #[default]
    Local,
    /// An S3-compatible store.
    S3,
    /// SeaweedFS.
    Seaweedfs,
    /// A directory of the host, below one of the operator's `storage.host_paths`.
    #[serde(rename = "hostPath")]
    HostPath,
}

impl VolumeType {
    /// As the manifest writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::S3 => "s3",
            Self::Seaweedfs => "seaweedfs",
            Self::HostPath => "hostPath",
        }
    }
}

/// The persistent volume that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeSource {
    /// Its id.
    pub volume_id: String,
}
