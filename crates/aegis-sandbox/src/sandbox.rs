//! The process sandbox as an implementation of the port.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aegis_core::{ExecutionId, SandboxFacts};
use aegis_kernel::port::{Sandbox, SandboxCapabilities, SandboxError, SandboxSpec, Sandboxed};
use async_trait::async_trait;
use tokio::sync::{OnceCell, watch};

use crate::cgroup::Groups;
use crate::guardian::GROUP_REMOVAL_TIMEOUT;
use crate::launch::{self, Engine};
use crate::probe;
use crate::process::{Identity, kill_and_wait};
use crate::run_folder::Leftover;
use crate::settings::SandboxSettings;
use crate::unrecorded;

/// How long a former sandbox may take to be dead.
const DEATH_TIMEOUT: Duration = Duration::from_secs(10);

/// Sandboxes made of bubblewrap, seccomp and control groups.
///
/// Dropping it, and every handle it gave out, kills what runs.
#[derive(Debug)]
pub struct ProcessSandbox {
    engine: OnceCell<Arc<Engine>>,
    probed: watch::Receiver<Option<Probed>>,
}

type Probed = Result<Arc<Engine>, SandboxError>;

/// What is said of a node whose probe has not ended: nothing can be isolated yet.
static NOT_YET: LazyLock<SandboxCapabilities> = LazyLock::new(|| SandboxCapabilities {
    isolation_missing: Some("the sandbox is still being tried; ask again in a moment".to_owned()),
    ..SandboxCapabilities::default()
});

impl ProcessSandbox {
    /// Looks at what this node can enforce and runs a sandbox to see. A node that can isolate nothing still gives a
    /// value, which refuses every start with the reason.
    ///
    /// # Errors
    /// When not even the thread that starts sandboxes can be had.
    pub async fn probe(settings: SandboxSettings) -> Result<Self, SandboxError> {
        let sandbox = Self::begin(settings);
        sandbox.known().await?;
        Ok(sandbox)
    }

    /// Like [`Self::probe`], but returns at once: until the probe has ended, starts wait for it, and the capabilities
    /// say that nothing can be isolated.
    pub fn begin(settings: SandboxSettings) -> Self {
        let (publish, probed) = watch::channel(None);
        tokio::spawn(async move {
            let probed = in_background(move || probe::probe(settings)).await.map(Arc::new);
            publish.send_replace(Some(probed));
        });
        Self { engine: OnceCell::new(), probed }
    }

    /// Waits until the probe has ended.
    ///
    /// # Errors
    /// When not even the thread that starts sandboxes can be had.
    pub async fn known(&self) -> Result<(), SandboxError> {
        self.engine().await.map(drop)
    }

    async fn engine(&self) -> Result<&Arc<Engine>, SandboxError> {
        self.engine
            .get_or_try_init(|| async {
                let mut probed = self.probed.clone();
                let ended = probed.wait_for(Option::is_some).await;
                let gone = || SandboxError::Io("the probe of the sandbox broke off".to_owned());
                ended.map_err(|_| gone())?.clone().ok_or_else(gone)?
            })
            .await
    }
}

#[async_trait]
impl Sandbox for ProcessSandbox {
    fn capabilities(&self) -> &SandboxCapabilities {
        self.engine.get().map_or(&NOT_YET, |engine| &engine.capabilities)
    }

    fn uid_for(&self, execution: ExecutionId) -> u32 {
        // Nobody's, until users can be given out: a start under it is refused.
        self.engine.get().map_or(u32::MAX, |engine| engine.uid_for(execution))
    }

    async fn start(&self, spec: SandboxSpec) -> Result<Box<dyn Sandboxed>, SandboxError> {
        let engine = Arc::clone(self.engine().await?);
        if let Some(reason) = &engine.capabilities.isolation_missing {
            return Err(SandboxError::CapabilityMissing(reason.clone()));
        }
        let running = in_background(move || launch::launch(&engine, &spec)).await?;
        Ok(Box::new(running))
    }

    async fn prove_dead(
        &self,
        execution: ExecutionId,
        generation: u32,
        facts: &SandboxFacts,
    ) -> Result<(), SandboxError> {
        let engine = Arc::clone(self.engine().await?);
        let prefix = engine.owner.generation(execution, generation);
        let first = Identity { pid: facts.pid, start_ticks: facts.start_ticks };
        in_background(move || {
            ensure_dead(&prefix, first)?;
            end_all(&engine, &prefix, |_| true).map(drop)
        })
        .await
    }

    async fn reap_leftovers(&self) -> Result<u32, SandboxError> {
        let engine = Arc::clone(self.engine().await?);
        let prefix = engine.owner.prefix();
        in_background(move || {
            let former = |name: &str| !engine.is_running(name);
            let dead = unrecorded::kill(&prefix, former, DEATH_TIMEOUT);
            if !dead.map_err(|error| SandboxError::Io(error.to_string()))? {
                return Err(not_dead(&prefix));
            }
            end_all(&engine, &prefix, former)
        })
        .await
    }
}

/// Kills and removes the sandboxes whose name starts with `prefix` and that `applies` to; returns how many there were.
fn end_all(engine: &Engine, prefix: &str, applies: impl Fn(&str) -> bool) -> Result<u32, SandboxError> {
    let io = |error: std::io::Error| SandboxError::Io(error.to_string());
    let leftovers = Leftover::find(&engine.run_root, prefix).map_err(io)?;
    let mut names: BTreeSet<String> = engine.former_hierarchies.names(prefix);
    names.extend(leftovers.iter().map(|leftover| leftover.name.clone()));
    names.retain(|name| applies(name));
    for name in &names {
        let leftover = leftovers.iter().find(|leftover| leftover.name == *name);
        if let Some(first) = leftover.and_then(|leftover| leftover.first) {
            ensure_dead(name, first)?;
        }
        let groups = Groups::existing(&engine.former_hierarchies, name);
        if !groups.kill_all(DEATH_TIMEOUT) || !groups.remove(GROUP_REMOVAL_TIMEOUT) {
            return Err(not_dead(name));
        }
        if let Some(leftover) = leftover {
            leftover.remove().map_err(io)?;
        }
    }
    Ok(u32::try_from(names.len()).unwrap_or(u32::MAX))
}

/// The end of the first process ends its pid namespace, and the kernel lets it end last.
fn ensure_dead(name: &str, first: Identity) -> Result<(), SandboxError> {
    match kill_and_wait(first, DEATH_TIMEOUT) {
        Ok(true) => Ok(()),
        Ok(false) => Err(not_dead(name)),
        Err(error) => Err(SandboxError::Io(format!("process {} of {name}: {error}", first.pid))),
    }
}

fn not_dead(name: &str) -> SandboxError {
    SandboxError::Io(format!(
        "{name} is not dead after {} s; a process may wait for a file system that does not answer",
        DEATH_TIMEOUT.as_secs()
    ))
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| SandboxError::Io(format!("background work of the sandbox: {error}")))?
}
