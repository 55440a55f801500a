//! Security contexts: what an agent may do with which tool (contract, section 2).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NodeSpec;
use crate::quantity::{ByteSize, Millis};

/// A named set of permissions. Deny first, then the first capability whose static constraints all hold, else deny.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecurityContext {
    /// The name manifests use.
    pub name: String,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What is permitted, in order.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Tool patterns that are denied whatever else holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny_list: Vec<String>,
}

/// A permission. An absent list does not constrain, an empty one permits nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capability {
    /// The tools it is about: a name, or `fs.*` for all that begin with `fs.`.
    pub tool_pattern: String,
    /// Paths, as in `security.filesystem`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_allowlist: Option<Vec<String>>,
    /// Domains, `*.domain` or CIDR ranges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "destinations"))]
    pub domain_allowlist: Option<Vec<String>>,
    /// Programs that may be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_allowlist: Option<Vec<String>>,
    /// First arguments that programs may be run with, by program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subcommand_allowlist: Option<BTreeMap<String, Vec<String>>>,
    /// A JSON Schema the arguments must satisfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "json-schema"))]
    pub arguments: Option<serde_json::Map<String, serde_json::Value>>,
    /// Largest result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_response_size: Option<ByteSize>,
    /// How often it may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// How many uses may run at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_concurrent: Option<u32>,
}

/// How often something may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Uses.
    #[schemars(range(min = 1))]
    pub calls: u32,
    /// In how many seconds.
    #[schemars(range(min = 1))]
    pub per_seconds: u32,
}

impl RateLimit {
    /// The time the uses are counted in.
    pub fn window(&self) -> Millis {
        Millis::from_secs(self.per_seconds.into())
    }
}

impl SecurityContext {
    /// The name of the built-in context.
    pub const DEFAULT_NAME: &str = "default";

    /// The built-in context `default`: `fs.*` and `cmd.run`, narrowed by the manifest.
    pub fn built_in() -> Self {
        let of = |pattern: &str| Capability { tool_pattern: pattern.to_owned(), ..Capability::default() };
        Self {
            name: Self::DEFAULT_NAME.to_owned(),
            description: Some("files and commands on the execution's own volumes".to_owned()),
            capabilities: vec![of("fs.*"), of("cmd.run")],
            deny_list: Vec::new(),
        }
    }
}

impl NodeSpec {
    /// The security context called `name`, the built-in one included; a configured `default` replaces it.
    pub fn security_context(&self, name: &str) -> Option<SecurityContext> {
        let configured = self.security_contexts.iter().find(|context| context.name == name);
        configured
            .cloned()
            .or_else(|| (name == SecurityContext::DEFAULT_NAME).then(SecurityContext::built_in))
    }
}
