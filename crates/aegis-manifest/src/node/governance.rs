//! What holds for all agents of the node, whatever their manifests say.

use aegis_core::Tenant;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

type Settings = serde_json::Map<String, serde_json::Value>;

/// Policies, budgets and freezes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Governance {
    /// Policies in Cedar. Each is a layer of its own: all of them must permit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
    /// Settings of other parts, by name.
    #[serde(skip_serializing_if = "Settings::is_empty")]
    pub config: Settings,
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
