//! What holds for all agents of the node, whatever their manifests say.

use std::collections::BTreeMap;

use aegis_core::Tenant;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NodeSpec;
use crate::quantity::{ByteSize, Millis};

type Settings = serde_json::Map<String, serde_json::Value>;

/// Policies, budgets and freezes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Governance {
    /// Policies in Cedar. Each is a layer of its own: all of them must permit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
    /// What calls of tools bring with them; the first entry that means a tool decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_labels: Vec<ToolLabels>,
    /// Rules on labels, by name, and whether each is on; all are, unless it says otherwise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub label_rules: BTreeMap<String, bool>,
    /// What holds for connections of all agents, beside what their manifests say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NodeNetwork>,
    /// What is left out of the evidence.
    #[serde(skip_serializing_if = "RedactionSettings::is_default")]
    pub redaction: RedactionSettings,
    /// Settings of other parts, by name.
    #[serde(skip_serializing_if = "Settings::is_empty")]
    pub config: Settings,
}

impl NodeSpec {
    /// The rules on labels that are switched off, by name.
    pub fn label_rules_off(&self) -> Vec<String> {
        let rules = self.governance.iter().flat_map(|governance| &governance.label_rules);
        rules.filter(|(_, on)| !**on).map(|(name, _)| name.clone()).collect()
    }
}

/// What holds for connections of all agents, beside what their manifests say: both must permit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeNetwork {
    /// Domains, `*.domain` or CIDR ranges, each perhaps with `:port`: nobody connects to anything else. Empty, every
    /// public address is open to manifests that name it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "destinations"))]
    pub allowlist: Vec<String>,
    /// Where nobody connects to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "destinations"))]
    pub denylist: Vec<String>,
    /// Ranges that are not public (private, loopback, metadata) and that manifests may open by naming them too; without
    /// a port at every port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "destinations"))]
    pub private: Vec<String>,
    /// Domains or `*.domain` whose bytes are vouched for: connecting there brings no label `untrusted`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "destinations"))]
    pub trusted: Vec<String>,
    /// Connections a minute, of all agents of a tenant together.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_minute: u32,
    /// Bytes that may pass through the connections of one execution, both ways together.
    pub bytes_per_execution: ByteSize,
}

impl Default for NodeNetwork {
    fn default() -> Self {
        Self {
            allowlist: Vec::new(),
            denylist: Vec::new(),
            private: Vec::new(),
            trusted: Vec::new(),
            connections_per_minute: 6_000,
            bytes_per_execution: ByteSize::from_bytes(16 << 30),
        }
    }
}

/// What calls of some tools bring with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolLabels {
    /// Which tools: `*`, a name, or `prefix.*`.
    pub tool_pattern: String,
    /// Whether their answers must not leave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sensitive: bool,
    /// Whether nobody vouches for their answers; so it is for the tools of servers, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<bool>,
    /// Whether their arguments leave the node; so it is for the tools of servers, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<bool>,
}

/// How long the exact copies of redacted texts are kept after a run, if the configuration does not say.
const WORKING_COPY_GRACE: Millis = Millis::from_secs(24 * 60 * 60);

/// What is left out of the evidence, and when the exact copies go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedactionSettings {
    /// Rules for personal data, by name, and whether each is on; all are, unless it says otherwise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub personal_data_rules: BTreeMap<String, bool>,
    /// How long after a run its exact texts are kept for who asked for it; `24h` without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_copy_grace: Option<Millis>,
}

impl RedactionSettings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl NodeSpec {
    /// The rules for personal data that are switched off, by name.
    pub fn personal_data_rules_off(&self) -> Vec<String> {
        let rules = self.governance.iter().flat_map(|governance| &governance.redaction.personal_data_rules);
        rules.filter(|(_, on)| !**on).map(|(name, _)| name.clone()).collect()
    }

    /// How long after a run its exact texts are kept.
    pub fn working_copy_grace(&self) -> Millis {
        let said = self.governance.as_ref().and_then(|governance| governance.redaction.working_copy_grace);
        said.unwrap_or(WORKING_COPY_GRACE)
    }
}

/// A policy in Cedar, of the node or of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name, which denials tell: 1 to 63 of `a-z`, `0-9` and `-`, not starting with `-`.
    #[schemars(extend("format" = "name", "pattern" = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: String,
    /// The tenant whose agents it is about; all, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "name", "pattern" = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub tenant: Option<Tenant>,
    /// The text, or the path of a file that ends in `.cedar`, below the configuration's folder.
    pub cedar: String,
}

impl Policy {
    /// The path of its file, if it does not hold its text itself.
    pub fn file(&self) -> Option<&str> {
        let path = self.cedar.trim();
        (path.ends_with(".cedar") && !path.contains(['\n', '(', ';'])).then_some(path)
    }
}
