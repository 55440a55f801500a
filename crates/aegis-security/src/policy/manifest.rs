//! The static lists of a manifest as a layer.

use super::draft::{Draft, Scope};
use super::schema::{ActionName, Kind};
use super::{Layer, PolicyError};
use crate::constraint::DomainPattern;
use crate::egress::{Destination, EgressMode, EgressRules};

/// Where a manifest lets its programs connect to. An entry is a host, `*.domain`, or an address or CIDR range, each
/// perhaps with a port; addresses, ranges and ports are decided by the egress rules, which say so in a question's
/// `matched` (`manifest:…/network:INDEX`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Network {
    /// Nowhere.
    #[default]
    None,
    /// To these alone.
    Allow(Vec<String>),
    /// Everywhere but to these.
    Deny(Vec<String>),
}

/// What a manifest lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManifestRules {
    /// Whole names of tools.
    pub tools: Vec<String>,
    /// Aliases of models.
    pub models: Vec<String>,
    /// Whether it has judges. Which model they ask is the operator's choice.
    pub judges: bool,
    /// Where it may connect to.
    pub network: Network,
    /// Names of volumes.
    pub volumes: Vec<String>,
}

impl Layer {
    /// The layer `manifest:NAME@VERSION`. What it does not list is denied; secrets are granted to tools by the
    /// operator, so using one passes.
    ///
    /// # Errors
    ///
    /// Fails on a network entry that cannot be understood, or too many rules.
    pub fn from_manifest(name: &str, version: &str, rules: &ManifestRules) -> Result<Self, PolicyError> {
        let layer = format!("manifest:{name}@{version}");
        let mut drafts = Vec::new();
        for (kind, action, resource, names, field) in [
            ("tools", ActionName::CallTool, Kind::Tool, &rules.tools, "spec.tools"),
            ("model", ActionName::AskModel, Kind::Model, &rules.models, "spec.runtime.model"),
            ("volumes", ActionName::Mount, Kind::Volume, &rules.volumes, "spec.volumes"),
        ] {
            drafts.extend(names.iter().enumerate().map(|(index, listed)| {
                Draft::permit(format!("{kind}:{index}"), format!("{field} lists `{listed}`"))
                    .on(action, Scope::Is(resource, listed.clone()))
            }));
        }
        if rules.judges {
            drafts.push(
                Draft::permit("judge:0", "spec.execution.validation has judges")
                    .on(ActionName::Judge, Scope::Any),
            );
        }
        drafts.push(
            Draft::permit("use_secret:0", "secrets are granted to tools by the operator")
                .on(ActionName::UseSecret, Scope::Any),
        );
        network(&layer, &rules.network, &mut drafts)?;
        Self::compile(layer, drafts)
    }
}

fn network(layer: &str, network: &Network, drafts: &mut Vec<Draft>) -> Result<(), PolicyError> {
    let (entries, permits) = match network {
        Network::None => return Ok(()),
        Network::Allow(entries) => (entries, true),
        Network::Deny(entries) => (entries, false),
    };
    if !permits {
        drafts.push(
            Draft::permit("network", "spec.security.network is open").on(ActionName::Connect, Scope::Any),
        );
    }
    for (index, entry) in entries.iter().enumerate() {
        let id = format!("network:{index}");
        let rule = format!("{layer}/{id}");
        let draft = if permits {
            Draft::permit(id, format!("spec.security.network.allowlist lists `{entry}`"))
        } else {
            Draft::forbid(id, format!("spec.security.network.denylist lists `{entry}`"))
                .remedy(format!("remove `{entry}` from spec.security.network.denylist"))
        };
        drafts.push(if is_decided_elsewhere(entry) {
            draft.on(ActionName::Connect, Scope::Any).when_matched(&rule)
        } else {
            draft.on_domains(&DomainPattern::new(entry)?)
        });
    }
    Ok(())
}

/// An address, a CIDR range, or anything with a port.
fn is_decided_elsewhere(entry: &str) -> bool {
    let known = || EgressRules::new("", EgressMode::Deny, &[], &[Destination::from(entry)]).is_ok();
    (entry.contains([':', '/']) || entry.parse::<std::net::IpAddr>().is_ok()) && known()
}
