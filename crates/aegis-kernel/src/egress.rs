//! The way out of one sandbox generation: each connection is an action of its execution, judged and recorded by a
//! ledger of its own beside the driver's.

mod connection;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::ExecutionId;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::execution::Services;
use crate::monitor::Authority;
use crate::port::{Door, DoorConnection, DoorStream, ToolFacts, WayOut};
use crate::record::{Ledger, RecordError, Scribe};

/// Connections of one generation that are decided on at once; further ones wait.
const DECIDING_MAX: usize = 16;
/// Connections of one generation's tools at once; further ones wait.
const TOOL_CONNECTIONS_MAX: usize = 8;
/// How long connections that were cut are waited for.
const CLOSE_PATIENCE: Duration = Duration::from_secs(8);

/// What a way out is opened with.
pub(crate) struct Opening {
    pub(crate) execution: ExecutionId,
    pub(crate) generation: u32,
    pub(crate) authority: Authority,
    pub(crate) tools: Vec<Arc<ToolFacts>>,
    pub(crate) scribe: Scribe,
    /// Bytes left to the execution.
    pub(crate) volume: u64,
}

/// The way out of one generation, for its programs and for the tools that are called in it.
pub(crate) struct Outlet {
    services: Arc<Services>,
    execution: ExecutionId,
    generation: u32,
    authority: Authority,
    tools: Vec<Arc<ToolFacts>>,
    scribe: Scribe,
    volume: Arc<AtomicU64>,
    /// Ledgers and authorities that no connection uses now.
    idle: Mutex<Vec<(Ledger, Authority)>>,
    deciding: Semaphore,
    tool_places: Arc<Semaphore>,
    closed: CancellationToken,
    connections: TaskTracker,
}

impl Outlet {
    /// Opens it.
    pub(crate) fn open(services: &Arc<Services>, opening: Opening) -> OpenOutlet {
        let Opening { execution, generation, authority, tools, scribe, volume } = opening;
        let outlet = Self {
            services: Arc::clone(services),
            execution,
            generation,
            authority,
            tools,
            scribe,
            volume: Arc::new(AtomicU64::new(volume)),
            idle: Mutex::default(),
            deciding: Semaphore::new(DECIDING_MAX),
            tool_places: Arc::new(Semaphore::new(TOOL_CONNECTIONS_MAX)),
            closed: CancellationToken::new(),
            connections: TaskTracker::new(),
        };
        OpenOutlet { outlet: Arc::new(outlet), accepting: None }
    }

    /// Serves a connection from inside and returns at once.
    pub(crate) fn admit(self: &Arc<Self>, connection: DoorConnection) {
        let outlet = Arc::clone(self);
        let egress = Arc::clone(&self.services.ports.egress);
        self.connections.spawn(async move { egress.serve(connection, &outlet).await });
    }

    /// A ledger that knows what is recorded now, and an authority to judge by; `None` if the rules that hold have no
    /// place for the execution.
    async fn worker(&self) -> Result<Option<(Ledger, Authority)>, RecordError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some((mut ledger, authority)) = idle {
            ledger.catch_up().await?;
            return Ok(Some((ledger, authority)));
        }
        let Ok(authority) = self.services.monitor.another(&self.authority, &self.tools) else {
            return Ok(None);
        };
        Ok(Some((Ledger::open(self.scribe.clone(), self.execution).await?, authority)))
    }

    fn give_back(&self, worker: (Ledger, Authority)) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
    }
}

#[async_trait::async_trait]
impl WayOut for Arc<Outlet> {
    async fn connection(&self) -> std::io::Result<UnixStream> {
        let place = Arc::clone(&self.tool_places).acquire_owned().await.map_err(std::io::Error::other)?;
        let (near, far) = UnixStream::pair()?;
        self.admit(DoorConnection {
            door: Door::Egress,
            execution: self.execution,
            generation: self.generation,
            stream: DoorStream::unix(far, place),
        });
        Ok(near)
    }
}

/// A way out that is open; dropped, its connections are cut.
pub(crate) struct OpenOutlet {
    outlet: Arc<Outlet>,
    accepting: Option<AbortHandle>,
}

impl OpenOutlet {
    /// The way out itself.
    pub(crate) fn outlet(&self) -> Arc<Outlet> {
        Arc::clone(&self.outlet)
    }

    /// The same for tools.
    pub(crate) fn way_out(&self) -> Arc<dyn WayOut> {
        Arc::new(self.outlet())
    }

    /// The task that takes connections; it ends with the way out.
    pub(crate) fn accepts(&mut self, task: AbortHandle) {
        self.accepting = Some(task);
    }

    /// Cuts the connections and waits until their ends are on record.
    pub(crate) async fn close(self) {
        let outlet = Arc::clone(&self.outlet);
        drop(self);
        outlet.connections.close();
        if tokio::time::timeout(CLOSE_PATIENCE, outlet.connections.wait()).await.is_err() {
            tracing::warn!(execution = %outlet.execution, "a connection is not ended yet; its outcome stays unknown");
        }
    }
}

impl Drop for OpenOutlet {
    fn drop(&mut self) {
        if let Some(task) = &self.accepting {
            task.abort();
        }
        self.outlet.closed.cancel();
    }
}
