//! Tool servers that speak the Model Context Protocol.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reference;

type Settings = serde_json::Map<String, serde_json::Value>;

/// A tool server: a program on standard input and output, or an address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpServer {
    /// Its name: 1 to 63 of `a-z`, `0-9` and `-`, not starting with `-`.
    pub name: String,
    /// Whether it is used.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The program, for a server on standard input and output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment, beside `PATH`, `HOME` and `LANG`; here is where its credentials go.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Reference>,
    /// The address, for a server on streamable HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Headers of each request to the address; here is where its credentials go.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Reference>,
    /// How the node signs in at the address, if the server asks for that (OAuth 2.1). `{}` will do for most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<McpOauth>,
    /// The protocol revision to speak.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: McpProtocol,
    /// Arguments to check, by tool and argument, where the server does not declare them itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub governed: BTreeMap<String, BTreeMap<String, GovernedArgument>>,
    /// Tools that may be called again after a crash, by the server's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idempotent: Vec<String>,
    /// What the server may ask of whoever calls it, while it is called; nothing by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<McpGrant>,
    /// Domains, `*.domain` or CIDR ranges, each perhaps with `:port`, that the program itself may reach, by the proxy that
    /// its environment names; none by default. What `governance.network` says holds beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "destinations"))]
    pub domain_allowlist: Vec<String>,
    /// Folders of this machine that the server sees, read-only and under their own paths: where its program lies, and
    /// what it works on. Beside them it sees `/usr`, and writes in a `/tmp` of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
    /// Limits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: McpLimits,
    /// Other settings.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub config: Settings,
}

/// How the node signs in at a server's address. Its tokens are kept in the node's store of secrets, by tenant.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct McpOauth {
    /// Who is granted the tokens.
    pub grant: OauthGrant,
    /// The id of a client that was registered by hand; without it the node registers itself, where it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// That client's secret, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Reference>,
    /// An https address of a document that describes the client, used where the authorization server takes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_metadata_url: Option<String>,
    /// What to ask for; without it, what the server names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Whether the server and its authorization server may have private addresses (RFC 1918, ULA).
    #[serde(skip_serializing_if = "is_default")]
    pub private_addresses: bool,
}

/// Who is granted tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OauthGrant {
    /// A person, who signs in by `aegis server login`.
    #[default]
    AuthorizationCode,
    /// The node itself, by its client's secret.
    ClientCredentials,
}

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GovernedArgument {
    /// A path that may be changed.
    Path,
    /// A path that is only read.
    ReadPath,
    /// A URL.
    Url,
    /// A command.
    Command,
    /// A host name.
    Domain,
}

/// What a server may ask of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum McpGrant {
    /// A model's answer.
    Sampling,
    /// A person's answer.
    Elicitation,
    /// The folders it works on.
    Roots,
}

/// A revision of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum McpProtocol {
    /// The newest both sides speak.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// With a handshake.
    #[serde(rename = "2025-11-25")]
    Handshake,
    /// Without a handshake.
    #[serde(rename = "2026-07-28")]
    Discovery,
}

/// Limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct McpLimits {
    /// Seconds until it has started and told its tools.
    #[schemars(range(min = 1, max = 600))]
    pub start_timeout_seconds: u32,
    /// Seconds a request may take.
    #[schemars(range(min = 1, max = 3600))]
    pub request_timeout_seconds: u32,
    /// Seconds between two looks at whether it is well and unchanged.
    #[schemars(range(min = 1, max = 3600))]
    pub health_interval_seconds: u32,
    /// Most bytes of one message of it.
    #[schemars(range(min = 1024, max = 16_777_216))]
    pub response_bytes_max: u32,
    /// Most requests at once.
    #[schemars(range(min = 1, max = 256))]
    pub concurrent_max: u32,
    /// Most requests that wait for their turn.
    #[schemars(range(min = 0, max = 4096))]
    pub queue_max: u32,
    /// Lines of its standard error that are kept.
    #[schemars(range(min = 0, max = 10_000))]
    pub log_lines_max: u32,
}

impl Default for McpLimits {
    fn default() -> Self {
        Self {
            start_timeout_seconds: 30,
            request_timeout_seconds: 60,
            health_interval_seconds: 30,
            response_bytes_max: 4 << 20,
            concurrent_max: 8,
            queue_max: 64,
            log_lines_max: 500,
        }
    }
}

const fn yes() -> bool {
    true
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
