//! What the node's configuration says of connections, beside what manifests say.

use std::time::Duration;

use aegis_manifest::NodeConfig;
use aegis_security::constraint::DomainPattern;
use aegis_security::egress::{Destination, EgressRules, Host};

use super::limiter::Limits;

/// The rule that limits how often agents of a tenant connect.
const CONNECTIONS_RULE: &str = "node/network:connections";
/// Connections of a tenant's agents at once.
const CONCURRENT_MAX: u32 = 4_096;

/// The node's rules on connections.
#[derive(Debug)]
pub(crate) struct NodeNetwork {
    /// The layer `node`.
    pub(crate) rules: EgressRules,
    trusted: Vec<DomainPattern>,
    per_minute: u32,
}

impl NodeNetwork {
    /// Reads what the configuration says.
    ///
    /// # Errors
    /// The first entry that cannot be understood.
    pub(crate) fn of(config: &NodeConfig) -> Result<Self, String> {
        let governance = config.spec.governance.as_ref();
        let network = governance.and_then(|governance| governance.network.clone()).unwrap_or_default();
        let list = |texts: &[String]| -> Vec<Destination> {
            texts.iter().map(|text| Destination::from(text.as_str())).collect()
        };
        let (allow, deny, private) =
            (list(&network.allowlist), list(&network.denylist), list(&network.private));
        let wrong = |error: &dyn std::fmt::Display| format!("spec.governance.network: {error}");
        let trusted = network.trusted.iter().map(|text| DomainPattern::new(text));
        Ok(Self {
            rules: EgressRules::of_node(&allow, &deny, &private).map_err(|error| wrong(&error))?,
            trusted: trusted.collect::<Result<_, _>>().map_err(|error| wrong(&error))?,
            per_minute: network.connections_per_minute,
        })
    }

    /// Whether somebody vouches for what comes from there. Nobody does for an address: who answers there may change.
    pub(crate) fn trusts(&self, host: &Host) -> bool {
        host.name().is_some_and(|name| self.trusted.iter().any(|pattern| pattern.matches(name)))
    }

    /// How often, and how many at once.
    pub(crate) fn limits(&self) -> (String, Limits) {
        let rate = Some((self.per_minute, Duration::from_secs(60)));
        (CONNECTIONS_RULE.to_owned(), Limits { rate, concurrent: Some(CONCURRENT_MAX) })
    }
}

#[cfg(test)]
mod tests;
