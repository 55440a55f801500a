//! The commands of the system, one method each. Reads go to the [`Journal`](crate::port::Journal).

mod acting;
mod agents;
mod door;
mod executions;
mod policies;
mod retention;
mod served;
mod types;
mod volumes;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aegis_core::{Diagnosis, Tenant};

pub use acting::{Act, Acted, Acting};
pub use policies::{Asked, Overlay};
pub use types::{
    AgentSelector, Caller, DeployOptions, Deployed, Execute, KernelSettings, NodeInfo, Ports, Refusal,
    Started,
};

use crate::door::Admits;
use crate::execution::Services;
use crate::monitor::{Limiter, Monitor};
use crate::policy::Rules;
use crate::port::{Journal, Volume};
use crate::record::Scribe;
use crate::redaction::{Redaction, Redactions, Unredactable};
use crate::schedule::Scheduler;
use crate::tools::Router;

/// The kernel. Cheap to clone.
#[derive(Clone)]
pub struct Kernel {
    services: Arc<Services>,
    rules: Arc<Rules>,
    scheduler: Scheduler,
    /// Counts deployments and changes of agents: what was asked of the record since the last one need not be asked again.
    agents_revision: Arc<AtomicU64>,
}

impl Kernel {
    /// Composes a kernel. Nothing runs until [`Kernel::start`].
    pub fn new(ports: Ports, settings: KernelSettings) -> Self {
        let rules = Arc::new(Rules::new(settings.clone()));
        let services = Services {
            monitor: Monitor::new(Limiter::default(), Arc::clone(&rules), Arc::clone(&ports.tokens)),
            doors: Arc::default(),
            router: Router::new(&ports.tools),
            redactions: Redactions::new(
                Arc::clone(&ports.secrets),
                settings.personal_data_rules(),
                Arc::clone(&ports.linkage),
            ),
            servers: OnceLock::new(),
            bootstrap: Arc::clone(&settings.bootstrap),
            ports,
        };
        let agents_revision = Arc::new(AtomicU64::new(1));
        Self { services: Arc::new(services), rules, scheduler: Scheduler::new(), agents_revision }
    }

    /// Clears what a former daemon left, resumes unfinished executions and begins to schedule.
    ///
    /// # Errors
    /// If the journal cannot be read or leftovers cannot be proved dead.
    pub async fn start(&self) -> Result<(), Diagnosis> {
        let ports = &self.services.ports;
        let dead =
            ports.sandbox.reap_leftovers().await.map_err(|error| Diagnosis::internal(error.to_string()))?;
        let detached =
            ports.volume.detach_leftovers().await.map_err(|error| Diagnosis::internal(error.to_string()))?;
        if dead > 0 || detached > 0 {
            tracing::info!(sandboxes = dead, mounts = detached, "cleared what a former daemon left");
        }
        self.resume_unfinished().await
    }

    /// Stops scheduling and waits, up to `grace`, until running executions are parked at a recorded point; they
    /// resume when a daemon starts again.
    pub async fn shutdown(&self, grace: Duration) {
        self.scheduler.stop(grace).await;
    }

    /// The record, for reads.
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.services.ports.journal
    }

    /// The volumes, for the operator's reads.
    pub fn volumes(&self) -> &Arc<dyn Volume> {
        &self.services.ports.volume
    }

    /// Says who serves connections from inside sandboxes. Once; before [`Kernel::start`].
    pub fn attend(&self, admits: Arc<dyn Admits>) {
        self.services.doors.attend(admits);
    }

    /// Takes new security contexts, policies and defaults, and gives the epoch of policy. Running executions are judged
    /// by them from their next action on: when this returns, nothing that only the former rules permitted is begun.
    pub async fn reload(&self, settings: KernelSettings) -> u64 {
        self.services.redactions.replace_rules(settings.personal_data_rules());
        let epoch = self.rules.replace(settings).await;
        self.services.monitor.changed();
        epoch
    }

    /// What `aegis status` shows.
    pub fn info(&self) -> NodeInfo {
        let (running, pending) = self.scheduler.counts();
        let capabilities = self.services.ports.sandbox.capabilities();
        let mut warnings = capabilities.warnings.clone();
        warnings.extend(capabilities.isolation_missing.clone());
        warnings.extend(capabilities.limits_missing.clone());
        warnings.extend(self.services.ports.volume.mount_missing());
        NodeInfo { running, pending, warnings }
    }

    fn settings(&self) -> KernelSettings {
        self.rules.current().1
    }

    fn scribe(&self) -> Scribe {
        let ports = &self.services.ports;
        Scribe {
            journal: Arc::clone(&ports.journal),
            clock: Arc::clone(&ports.clock),
            ids: Arc::clone(&ports.ids),
            redaction: Redaction::none(),
        }
    }

    /// A scribe for what may not hold the tenant's secrets.
    async fn scribe_for(&self, tenant: &Tenant) -> Result<Scribe, Diagnosis> {
        let redaction = self.services.redactions.of(tenant).await.map_err(unredactable)?;
        Ok(Scribe { redaction, ..self.scribe() })
    }
}

/// A journal's refusal on its way to a user.
fn unrecorded(error: crate::port::JournalError) -> Diagnosis {
    use crate::port::JournalError;
    match error {
        JournalError::Conflict { .. } => {
            Diagnosis::new(aegis_core::ErrorCode::Conflict, "somebody else changed it at the same moment")
                .hint("look at it and try again")
        }
        JournalError::Overloaded | JournalError::DiskFull(_) => {
            Diagnosis::new(aegis_core::ErrorCode::Overloaded, error.to_string()).hint("try again later")
        }
        other => Diagnosis::internal(other.to_string()),
    }
}

/// A secret store that does not answer, on its way to a user.
#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn unredactable(error: Unredactable) -> Diagnosis {
    Diagnosis::new(aegis_core::ErrorCode::Overloaded, error.to_string())
        .hint("look after the node's secret store; nothing is recorded without knowing its secrets")
}

/// Platform agents are changed by configuration only.
fn refuse_platform(caller: &Caller) -> Result<(), Diagnosis> {
    if caller.tenant != Tenant::platform() {
        return Ok(());
    }
    Err(Diagnosis::new(aegis_core::ErrorCode::PermissionDenied, "tenant `platform` is read-only")
        .hint("platform agents come from `platform_agents` of the node's configuration"))
}
