//! Policy documents of the node as `aegis-security` understands them, and which of them hold now.

mod documents;
mod rules;

pub use documents::{NodePolicy, capabilities, inline_soul, security_context, soul_authority};
pub(crate) use documents::{compile_soul, egress_rules, manifest_rules};
pub(crate) use rules::Rules;

use aegis_manifest::NodeConfig;
use aegis_security::egress::EgressRules;

/// What a configuration permits anybody to connect to: the layer `node`.
///
/// # Errors
/// The first entry that cannot be understood.
pub fn node_egress(config: &NodeConfig) -> Result<EgressRules, String> {
    crate::monitor::NodeNetwork::of(config).map(|network| network.rules)
}
