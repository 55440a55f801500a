//! The way out of one sandbox generation: each connection is an action of its execution, judged and recorded by a
//! ledger of its own beside the driver's.

mod connection;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use aegis_core::ExecutionId;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::execution::Services;
use crate::port::{Door, DoorConnection, DoorStream, WayOut};
use crate::workers::Workers;

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
    pub(crate) workers: Workers,
    /// Bytes left to the execution.
    pub(crate) volume: u64,
}

/// The way out of one generation, for its programs and for the tools that are called in it.
pub(crate) struct Outlet {
    services: Arc<Services>,
    execution: ExecutionId,
    generation: u32,
    workers: Workers,
    volume: Arc<AtomicU64>,
    deciding: Semaphore,
    tool_places: Arc<Semaphore>,
    closed: CancellationToken,
    connections: TaskTracker,
}

impl Outlet {
    /// Opens it.
    pub(crate) fn open(services: &Arc<Services>, opening: Opening) -> OpenOutlet {
        let Opening { execution, generation, workers, volume } = opening;
        let outlet = Self {
            services: Arc::clone(services),
            execution,
            generation,
            workers,
            volume: Arc::new(AtomicU64::new(volume)),
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
