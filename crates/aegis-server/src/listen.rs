//! The TCP port: a bounded number of connections, each with a limit on slow headers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections served at the same time; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 1024;
/// Time for a client to send its request's headers.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, such as one without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time for open requests to end once the daemon stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `router` until `stop`, then lets open requests end.
pub(crate) async fn listen(listener: TcpListener, router: Router, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let serving = async {
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    connections.spawn(async move {
                        connection(stream, router, stop).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(serving).await;
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "requests are cut off");
    }
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    // Small answers must not wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    serve_connection(stream, router, stop).await;
}

/// Serves one connection until it ends, or `stop` and its last answer.
pub(crate) async fn serve_connection<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        async move {
            let request: Request = request.map(axum::body::Body::new);
            tower::Service::call(&mut router, request).await.map_err(|never: Infallible| never)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection broke");
            }
            return;
        }
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Binds the port.
///
/// # Errors
/// What the system says, with the remedy for the usual cases.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, aegis_core::Diagnosis> {
    use aegis_core::{Diagnosis, ErrorCode};
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Diagnosis::new(ErrorCode::Conflict, format!("{address} is taken by another program"))
                .hint("is a daemon running already (`aegis status`)? Else choose another `--port`")
        }
        std::io::ErrorKind::PermissionDenied => {
            Diagnosis::new(ErrorCode::PermissionDenied, format!("{address} may not be bound"))
                .hint("choose a `--port` above 1023")
        }
        _ => Diagnosis::new(ErrorCode::InvalidInput, format!("{address} cannot be bound: {error}"))
            .hint("check `network.bind_address` and `network.port`"),
    })
}
