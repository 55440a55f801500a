//! What commands take and give.

use std::sync::Arc;

use aegis_core::{Actor, AgentId, Diagnosis, ExecutionId, PERSONAL_DATA_RULES, Tenant};
use aegis_security::redact::{PiiKey, PiiRules};
use serde_json::Value;

use crate::door::TokenKeys;
use crate::policy::NodePolicy;
use crate::port::{Clock, Egress, Ids, Journal, Model, Sandbox, Secrets, Sessions, ToolHost, Volume};

/// The adapters the kernel works with.
#[derive(Clone)]
pub struct Ports {
    /// The record.
    pub journal: Arc<dyn Journal>,
    /// Models.
    pub model: Arc<dyn Model>,
    /// Sandboxes.
    pub sandbox: Arc<dyn Sandbox>,
    /// Volumes.
    pub volume: Arc<dyn Volume>,
    /// Tool hosts, asked in order.
    pub tools: Vec<Arc<dyn ToolHost>>,
    /// The proxy for connections out of sandboxes.
    pub egress: Arc<dyn Egress>,
    /// Secrets.
    pub secrets: Arc<dyn Secrets>,
    /// Sessions of SMCP.
    pub sessions: Arc<dyn Sessions>,
    /// The keys of its tokens.
    pub tokens: Arc<TokenKeys>,
    /// The key by which equal personal data is told to be equal in the evidence, and no other way.
    pub linkage: Arc<PiiKey>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and randomness.
    pub ids: Arc<dyn Ids>,
}

/// What the node's configuration says to the kernel.
#[derive(Debug, Clone)]
pub struct KernelSettings {
    /// The node's configuration, defaults filled in.
    pub config: Arc<aegis_manifest::NodeConfig>,
    /// Policies in Cedar of the node and its tenants, in their order.
    pub policies: Arc<[NodePolicy]>,
    /// The bootstrap program that is put into sandboxes.
    pub bootstrap: Arc<str>,
}

impl KernelSettings {
    /// Which personal data is left out of the evidence. A name that is no rule's was refused with the configuration.
    pub(crate) fn personal_data_rules(&self) -> PiiRules {
        let off = self.config.spec.personal_data_rules_off();
        let known = off.iter().map(String::as_str).filter(|name| PERSONAL_DATA_RULES.contains(name));
        PiiRules::without(known).unwrap_or_default()
    }

    /// Whether all that agents are judged by is the same.
    pub(crate) fn same_policy(&self, other: &Self) -> bool {
        let (spec, others) = (&self.config.spec, &other.config.spec);
        self.policies == other.policies
            && spec.security_contexts == others.security_contexts
            && spec.governance == others.governance
    }

    /// What of the rules on connections and labels cannot be understood: under such a configuration nothing would be
    /// permitted.
    ///
    /// # Errors
    /// The first entry that is wrong, by its field.
    pub fn check_rules(config: &aegis_manifest::NodeConfig) -> Result<(), String> {
        crate::monitor::check_rules(config)
    }
}

/// Who asks, and for which tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant.
    pub tenant: Tenant,
    /// The chain of those on whose behalf.
    pub actor: Actor,
}

/// A refusal of a command: one or several problems, each with code, place and remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; "))]
pub struct Refusal {
    /// At least one; the first gives the code.
    pub problems: Vec<Diagnosis>,
    /// The problems rendered for a terminal with the document's lines, where the input was a document.
    pub rendered: Option<String>,
}

impl From<Diagnosis> for Refusal {
    fn from(problem: Diagnosis) -> Self {
        Self { problems: vec![problem], rendered: None }
    }
}

/// How to deploy.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeployOptions {
    /// Replace other content under the same version.
    pub force: bool,
    /// Only validate.
    pub validate_only: bool,
}

/// An accepted manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The agent's id.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// The version.
    pub version: String,
    /// `deployed`, or `valid` if only validated.
    pub status: &'static str,
    /// What this node cannot enforce yet, each with its remedy.
    pub warnings: Vec<String>,
    /// False if the identical document was deployed already.
    pub changed: bool,
}

/// Which agent: id, name or name@version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSelector {
    /// By id, current version.
    Id(AgentId),
    /// By name, current version or the one given; the caller's tenant first, then `platform`.
    Name {
        /// The name.
        name: String,
        /// The version, if not the current one.
        version: Option<String>,
    },
}

/// A run to start.
#[derive(Debug, Clone)]
pub struct Execute {
    /// The agent.
    pub agent: AgentSelector,
    /// Its input.
    pub input: Value,
    /// More names for the template; an object.
    pub context_overrides: Option<Value>,
}

/// A started run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its id.
    pub execution_id: ExecutionId,
    /// `pending`.
    pub status: &'static str,
}

/// What `aegis status` shows of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Executions that run.
    pub running: usize,
    /// Executions that wait for the scheduler.
    pub pending: usize,
    /// Warnings about what this node cannot enforce.
    pub warnings: Vec<String>,
}
