//! HTTP/1.1 on the control connection: one POST a message, its answer the reply. Anything else is 404 and counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Down, Up};
use crate::port::ControlConnection;

/// The only route of the control socket.
const ROUTE: &str = "/v1/dispatch-gateway";
/// Largest message taken from a bootstrap: a prompt, or a command's output, with room for JSON escapes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A message and the way to answer it.
pub(crate) struct Exchange {
    /// What came up.
    pub(crate) up: Up,
    /// Takes the one answer.
    pub(crate) reply: oneshot::Sender<Down>,
}

/// The daemon's end of a control connection.
pub(crate) struct Channel {
    incoming: mpsc::Receiver<Exchange>,
    violations: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Channel {
    /// Serves a connection.
    pub(crate) fn serve(connection: ControlConnection) -> Self {
        let (sender, incoming) = mpsc::channel(1);
        let violations = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&violations);
        let serving = tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let (sender, counted) = (sender.clone(), Arc::clone(&counted));
                async move { Ok::<_, Infallible>(answer(request, &sender, &counted).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .keep_alive(true)
                .serve_connection(TokioIo::new(connection.stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "control connection ended");
            }
        });
        Self { incoming, violations, serving }
    }

    /// The next message; `None` once the bootstrap hung up.
    pub(crate) async fn receive(&mut self) -> Option<Exchange> {
        self.incoming.recv().await
    }

    /// How often something else than the protocol's messages was sent.
    pub(crate) fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    sender: &mpsc::Sender<Exchange>,
    violations: &AtomicU64,
) -> Response<Full<Bytes>> {
    let refuse = |status| {
        violations.fetch_add(1, Ordering::Relaxed);
        plain(status)
    };
    if request.method() != Method::POST || request.uri().path() != ROUTE {
        return refuse(StatusCode::NOT_FOUND);
    }
    let Ok(body) = Limited::new(request.into_body(), MESSAGE_BYTES_MAX).collect().await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let Some(up) = aegis_security::canonical::parse_strict(&body.to_bytes())
        .ok()
        .and_then(|value| serde_json::from_value::<Up>(value).ok())
    else {
        return refuse(StatusCode::BAD_REQUEST);
    };
    let (reply, replied) = oneshot::channel();
    if sender.send(Exchange { up, reply }).await.is_err() {
        return plain(StatusCode::GONE);
    }
    match replied.await.map(|down| serde_json::to_vec(&down)) {
        Ok(Ok(bytes)) => json(bytes),
        _ => plain(StatusCode::GONE),
    }
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn json(bytes: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
