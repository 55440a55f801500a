//! A sandbox that was started.

use std::fmt;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};

use aegis_core::SandboxFacts;
use aegis_kernel::port::{ControlConnection, DoorConnection, Ended, Pipes, SandboxError, Sandboxed};
use async_trait::async_trait;
use tokio::sync::watch;

use crate::control;
use crate::doors::Doors;
use crate::guardian::{Guarded, Outcome};

/// The handle of a running sandbox; dropping it kills the tree.
pub(crate) struct Running {
    facts: SandboxFacts,
    guarded: Arc<Guarded>,
    listener: Mutex<Option<UnixListener>>,
    doors: Option<Doors>,
    pipes: Mutex<Option<Pipes>>,
    outcome: watch::Receiver<Outcome>,
}

impl Running {
    /// A handle over what the guardian watches.
    pub(crate) fn new(
        facts: SandboxFacts,
        guarded: Arc<Guarded>,
        (listener, doors, pipes): (Option<UnixListener>, Option<Doors>, Option<Pipes>),
        outcome: watch::Receiver<Outcome>,
    ) -> Self {
        let (listener, pipes) = (Mutex::new(listener), Mutex::new(pipes));
        Self { facts, guarded, listener, doors, pipes, outcome }
    }

    async fn outcome(&self) -> Result<Ended, SandboxError> {
        let mut outcome = self.outcome.clone();
        let lost = || SandboxError::Io("the sandbox's guardian ended without a word".to_owned());
        let ended = outcome.wait_for(Option::is_some).await.map_err(|_| lost())?;
        ended.clone().ok_or_else(lost)?
    }
}

#[async_trait]
impl Sandboxed for Running {
    fn facts(&self) -> &SandboxFacts {
        &self.facts
    }

    async fn control(&self) -> Result<ControlConnection, SandboxError> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listener = listener.ok_or_else(|| {
            SandboxError::Start("this sandbox has no control socket, or its connection was taken".to_owned())
        })?;
        tokio::select! {
            biased;
            ended = self.outcome() => match ended {
                Ok(ended) => Err(SandboxError::Start(format!(
                    "the sandbox ended ({:?}) before it connected: {}",
                    ended.status,
                    String::from_utf8_lossy(&ended.stderr).trim()
                ))),
                Err(error) => Err(error),
            },
            connection = control::accept(listener, &self.guarded, &self.facts) => connection,
        }
    }

    async fn door(&self) -> Result<DoorConnection, SandboxError> {
        let Some(doors) = &self.doors else {
            return Err(SandboxError::Start("this sandbox has no doors".to_owned()));
        };
        tokio::select! {
            biased;
            ended = self.outcome() => {
                ended?;
                Err(SandboxError::Start("the sandbox has ended".to_owned()))
            }
            connection = doors.accept(&self.guarded, &self.facts) => connection,
        }
    }

    fn pipes(&self) -> Result<Pipes, SandboxError> {
        let pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner).take();
        pipes.ok_or_else(|| {
            SandboxError::Start("this sandbox keeps its standard streams, or they were taken".to_owned())
        })
    }

    async fn wait(&self) -> Result<Ended, SandboxError> {
        self.outcome().await
    }

    fn kill(&self) {
        self.guarded.kill();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.outcome.borrow().is_none() {
            self.guarded.kill();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("facts", &self.facts).finish_non_exhaustive()
    }
}
