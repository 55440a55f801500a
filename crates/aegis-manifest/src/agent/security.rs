//! What an agent may reach and how much it may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{ByteSize, Millis};

/// What the agent may reach and how much it may use; without it, nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// Where it may connect to.
    pub network: Network,
    /// Which paths of its volumes it may read and write.
    pub filesystem: Filesystem,
    /// How much it may use.
    pub resources: ResourceLimits,
}

/// Where the agent may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// `none` connects nowhere, `allow` only to the allowlist, `deny` anywhere but to the denylist.
    pub mode: NetworkMode,
    /// Domains, `*.domain` or CIDR ranges, with `mode: allow`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "destinations"))]
    pub allowlist: Vec<String>,
    /// Domains, `*.domain` or CIDR ranges, with `mode: deny`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "destinations"))]
    pub denylist: Vec<String>,
}

impl Network {
    /// Whether nothing can be reached: `none`, or `allow` with an empty list.
    pub const fn is_none(&self) -> bool {
        match self.mode {
            NetworkMode::None => true,
            NetworkMode::Allow => self.allowlist.is_empty(),
            NetworkMode::Deny => false,
        }
    }
}

/// How the network lists are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Nowhere.
    #[default]
    None,
    /// Only to the allowlist.
    Allow,
    /// Anywhere but to the denylist.
    Deny,
}

/// Which paths of its volumes the agent may read and write. A plain path means it and all below; globs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filesystem {
    /// Readable paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<String>,
    /// Writable paths; what is writable is readable too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<String>,
    /// Whether nothing may be written at all.
    pub read_only: bool,
}

/// How much the agent may use. A value stated here is enforced exactly or the run is refused; a value left out is the
/// default, enforced as well as the node can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceLimits {
    /// Processor time in thousandths of a core; 1000 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000), extend("x-default" = 1000))]
    pub cpu: Option<u32>,
    /// Memory, swap included; 512Mi without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "512Mi"))]
    pub memory: Option<ByteSize>,
    /// Temporary files; 1Gi without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "1Gi"))]
    pub disk: Option<ByteSize>,
    /// Longest time of the whole execution; 30m without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-default" = "30m"))]
    pub timeout: Option<Millis>,
    /// Processes and threads; 256 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_194_304), extend("x-default" = 256))]
    pub pids: Option<u32>,
}

impl ResourceLimits {
    /// Processor time in thousandths of a core.
    pub fn cpu_millicores(&self) -> u32 {
        self.cpu.unwrap_or(1_000)
    }
    /// Memory in bytes, swap included.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.map_or(512 << 20, ByteSize::bytes)
    }
    /// Bytes of temporary files.
    pub fn disk_bytes(&self) -> u64 {
        self.disk.map_or(1 << 30, ByteSize::bytes)
    }
    /// Longest time of the whole execution.
    pub fn total_timeout(&self) -> Millis {
        self.timeout.unwrap_or(Millis::from_secs(30 * 60))
    }
    /// Most processes and threads.
    pub fn pids_max(&self) -> u32 {
        self.pids.unwrap_or(256)
    }
    /// Whether the manifest states a limit on the process tree (cpu, memory or pids): then it is enforced exactly or
    /// the start is refused. `disk` and `timeout` can be enforced everywhere.
    pub const fn explicit(&self) -> bool {
        self.cpu.is_some() || self.memory.is_some() || self.pids.is_some()
    }
}
