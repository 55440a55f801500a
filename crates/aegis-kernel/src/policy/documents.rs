//! From documents to rules: the one place where policy of manifests and configuration becomes policy that is asked.

use aegis_core::Tenant;
use aegis_manifest::agent::{self, NetworkMode, Soul, SoulDocument, Validator};
use aegis_manifest::{AgentManifest, node};
use aegis_security::constraint::{self, Capability, ConstraintError, RateLimit};
use aegis_security::egress::{Destination, EgressMode, EgressRuleError, EgressRules};
use aegis_security::policy::{Authority, Layer, ManifestRules, Network, PolicyError};

/// A policy in Cedar of the node's configuration, checked and compiled: one layer of its own, so that no policy can
/// give what another takes.
#[derive(Debug, Clone)]
pub struct NodePolicy {
    tenant: Option<Tenant>,
    text: String,
    layer: Layer,
}

impl NodePolicy {
    /// Compiles the policy called `name`: of the node, or of one tenant. Its layer is `node:NAME` or
    /// `tenant:TENANT:NAME`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the text.
    pub fn new(name: &str, tenant: Option<Tenant>, text: &str) -> Result<Self, PolicyError> {
        let layer = match &tenant {
            None => format!("node:{name}"),
            Some(tenant) => format!("tenant:{tenant}:{name}"),
        };
        Ok(Self { layer: Layer::from_text(&layer, text)?, tenant, text: text.to_owned() })
    }
    /// Its layer, if it is about that tenant.
    pub(crate) fn layer_for(&self, tenant: &Tenant) -> Option<&Layer> {
        self.tenant.as_ref().is_none_or(|own| own == tenant).then_some(&self.layer)
    }
    /// Whether it is a tenant's own.
    pub(crate) fn is_tenants(&self) -> bool {
        self.tenant.is_some()
    }
}

impl PartialEq for NodePolicy {
    fn eq(&self, other: &Self) -> bool {
        self.layer.name() == other.layer.name() && self.text == other.text
    }
}

/// What a security context permits, as the constraints take it.
pub fn capabilities(context: &node::SecurityContext) -> Vec<Capability> {
    let of = |capability: &node::Capability| Capability {
        tool_pattern: capability.tool_pattern.clone(),
        path_allowlist: capability.path_allowlist.clone(),
        domain_allowlist: capability.domain_allowlist.clone(),
        command_allowlist: capability.command_allowlist.clone(),
        subcommand_allowlist: capability.subcommand_allowlist.clone(),
        arguments: capability.arguments.clone().map(serde_json::Value::Object),
        max_response_size: capability.max_response_size.map(aegis_manifest::ByteSize::bytes),
        rate_limit: capability
            .rate_limit
            .map(|limit| RateLimit { calls: limit.calls, per_seconds: limit.per_seconds }),
        max_concurrent: capability.max_concurrent,
    };
    context.capabilities.iter().map(of).collect()
}

/// A security context, ready to be asked.
///
/// # Errors
///
/// The first rule that cannot be understood.
pub fn security_context(
    context: &node::SecurityContext,
) -> Result<constraint::SecurityContext, ConstraintError> {
    constraint::SecurityContext::new(context.name.clone(), capabilities(context), &context.deny_list)
}

/// The part of a soul that policy decides by.
pub fn soul_authority(authority: &agent::Authority) -> Authority {
    Authority {
        autonomous: authority.autonomous.clone(),
        review: authority.review.clone(),
        forbidden: authority.forbidden.clone(),
        max_risk: authority.max_risk,
    }
}

/// The soul a manifest holds itself. One that it only names is refused elsewhere: this node keeps no souls.
pub fn inline_soul(manifest: &AgentManifest) -> Option<&SoulDocument> {
    match manifest.spec.soul.as_ref()? {
        Soul::Inline(soul) => Some(soul),
        Soul::Named(_) => None,
    }
}

/// The layer of the soul a manifest holds; the agent's name is its name.
pub(crate) fn compile_soul(manifest: &AgentManifest) -> Result<Option<Layer>, PolicyError> {
    let name = manifest.metadata.name.as_str();
    let soul = inline_soul(manifest);
    soul.map(|soul| Layer::from_authority(name, &soul_authority(&soul.authority))).transpose()
}

/// Where a manifest lets its programs connect to, as the layer `PREFIXmanifest:NAME@VERSION`.
pub(crate) fn egress_rules(manifest: &AgentManifest, prefix: &str) -> Result<EgressRules, EgressRuleError> {
    let network = &manifest.spec.security.network;
    let mode = match network.mode {
        NetworkMode::None => EgressMode::None,
        NetworkMode::Allow => EgressMode::Allow,
        NetworkMode::Deny => EgressMode::Deny,
    };
    let list = |texts: &[String]| -> Vec<Destination> {
        texts.iter().map(|text| Destination::from(text.as_str())).collect()
    };
    let metadata = &manifest.metadata;
    let layer = format!("{prefix}manifest:{}@{}", metadata.name, metadata.version);
    EgressRules::new(layer, mode, &list(&network.allowlist), &list(&network.denylist))
}

/// What a manifest lists.
pub(crate) fn manifest_rules(manifest: &AgentManifest) -> ManifestRules {
    let spec = &manifest.spec;
    let network = &spec.security.network;
    ManifestRules {
        tools: spec.tools.iter().map(|tool| tool.name.clone()).collect(),
        models: vec![spec.runtime.model.clone()],
        judges: spec
            .execution
            .validation
            .iter()
            .any(|validator| matches!(validator, Validator::Semantic(_) | Validator::MultiJudge(_))),
        network: match network.mode {
            NetworkMode::None => Network::None,
            NetworkMode::Allow => Network::Allow(network.allowlist.clone()),
            NetworkMode::Deny => Network::Deny(network.denylist.clone()),
        },
        volumes: spec.volumes.iter().map(|volume| volume.name.clone()).collect(),
    }
}

#[cfg(test)]
mod tests;
