//! Connections from inside sandboxes: each is served by the routes of its door, as the execution it comes from.

use std::sync::Arc;

use aegis_kernel::port::{Door, DoorConnection};
use aegis_kernel::{Admits, Speaker};
use axum::{Extension, Router};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::listen::serve_connection;
use crate::routes;

/// Serves the api doors of all sandboxes.
pub(crate) struct Inside {
    router: Router,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Inside {
    pub(crate) fn new(app: &Arc<App>, connections: TaskTracker) -> Self {
        Self { router: routes::inside(app), stop: app.stop.clone(), connections }
    }
}

impl Admits for Inside {
    fn admit(&self, connection: DoorConnection) {
        let DoorConnection { door, execution, generation, stream } = connection;
        match door {
            Door::Api => {
                let speaker = Speaker::Sandbox { execution, generation };
                let router = self.router.clone().layer(Extension(speaker));
                let stop = self.stop.clone();
                self.connections.spawn(serve_connection(stream, router, stop));
            }
            // What goes out is kept by the execution's driver; here it is not let through.
            Door::Egress => drop(stream),
        }
    }
}
