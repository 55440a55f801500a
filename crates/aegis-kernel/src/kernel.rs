//! The commands of the system, one method each. Reads go to the [`Journal`](crate::port::Journal).

use std::sync::Arc;

use aegis_core::{Actor, AgentId, Diagnosis, ExecutionId, Tenant, VolumeId};
use serde_json::Value;

use crate::port::{Clock, Ids, Journal, Model, Sandbox, Secrets, ToolHost, Volume};

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
    /// Secrets.
    pub secrets: Arc<dyn Secrets>,
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
    /// The bootstrap program that is put into sandboxes.
    pub bootstrap: Arc<str>,
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

/// The kernel. Cheap to clone.
#[derive(Clone)]
pub struct Kernel {
    inner: Arc<Ports>,
}

impl Kernel {
    /// Composes a kernel. Nothing runs until [`Kernel::start`].
    pub fn new(ports: Ports, _settings: KernelSettings) -> Self {
        Self { inner: Arc::new(ports) }
    }

    /// Clears what a former daemon left, resumes unfinished executions and begins to schedule.
    ///
    /// # Errors
    /// If the journal cannot be read or leftovers cannot be proved dead.
    pub async fn start(&self) -> Result<(), Diagnosis> {
        Err(unfinished())
    }

    /// Stops scheduling and waits, up to `grace`, until running executions are parked at a recorded point; they
    /// resume when a daemon starts again.
    pub async fn shutdown(&self, _grace: std::time::Duration) {}

    /// The record, for reads.
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.inner.journal
    }

    /// The volumes, for the operator's reads.
    pub fn volumes(&self) -> &Arc<dyn Volume> {
        &self.inner.volume
    }

    /// Accepts a manifest.
    ///
    /// # Errors
    /// All problems of the document at once, or a conflict with what is deployed.
    pub async fn deploy(&self, _: &Caller, _document: &str, _: DeployOptions) -> Result<Deployed, Refusal> {
        Err(unfinished().into())
    }

    /// Refuses new executions of the agent until it is resumed.
    ///
    /// # Errors
    /// If the caller's tenant has no such agent.
    pub async fn pause_agent(&self, _: &Caller, _: AgentId) -> Result<(), Diagnosis> {
        Err(unfinished())
    }

    /// Takes executions of the agent again.
    ///
    /// # Errors
    /// If the caller's tenant has no such agent.
    pub async fn resume_agent(&self, _: &Caller, _: AgentId) -> Result<(), Diagnosis> {
        Err(unfinished())
    }

    /// Removes the registration; executions and their evidence stay.
    ///
    /// # Errors
    /// If the caller's tenant has no such agent.
    pub async fn remove_agent(&self, _: &Caller, _: AgentId) -> Result<(), Diagnosis> {
        Err(unfinished())
    }

    /// Starts a run.
    ///
    /// # Errors
    /// Unknown or paused agent, wrong input, or a manifest this node cannot enforce (`capability_missing`).
    pub async fn execute(&self, _: &Caller, _: Execute) -> Result<Started, Diagnosis> {
        Err(unfinished())
    }

    /// Asks a run to stop; `forced` kills its processes at once.
    ///
    /// # Errors
    /// Unknown or already ended execution.
    pub async fn cancel(&self, _: &Caller, _: ExecutionId, _forced: bool) -> Result<(), Diagnosis> {
        Err(unfinished())
    }

    /// Takes an ended run from the lists; its evidence stays.
    ///
    /// # Errors
    /// Unknown or running execution.
    pub async fn remove_execution(&self, _: &Caller, _: ExecutionId) -> Result<(), Diagnosis> {
        Err(unfinished())
    }

    /// Removes a volume and its files.
    ///
    /// # Errors
    /// Unknown volume, or one in use.
    pub async fn remove_volume(&self, _: &Caller, _: VolumeId) -> Result<(), Diagnosis> {
        Err(unfinished())
    }

    /// Takes new security contexts and defaults for executions that start from now on.
    pub fn reload(&self, _settings: KernelSettings) {}

    /// What `aegis status` shows.
    pub fn info(&self) -> NodeInfo {
        NodeInfo { running: 0, pending: 0, warnings: Vec::new() }
    }
}

fn unfinished() -> Diagnosis {
    Diagnosis::internal("the kernel is not built yet")
}
