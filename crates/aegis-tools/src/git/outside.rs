//! Requests to a remote: the credential goes to this address alone, over TLS, and to nobody on this machine.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use aegis_core::{Denial, DenialCode, ExecutionId};
use aegis_kernel::port::{
    Door, DoorConnection, DoorStream, Egress, EgressGrant, EgressLimits, EgressPolicy, EgressRequest,
    EgressWay,
};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::sync::CancellationToken;

use super::settings::Remote;
use crate::web::tunnel;

/// Bytes of a connection beside packs.
const OVERHEAD_BYTES: u64 = 16 << 20;
/// Largest answer that is no pack.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Longest time without a byte.
const IDLE: Duration = Duration::from_secs(60);

/// A service of a Git server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Service {
    /// Gives objects.
    Upload,
    /// Takes objects.
    Receive,
}

impl Service {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Upload => "git-upload-pack",
            Self::Receive => "git-receive-pack",
        }
    }
}

/// What a remote is signed in at with.
pub(super) struct SignIn(HeaderValue);

impl SignIn {
    /// By a name and a password or token (RFC 7617).
    ///
    /// # Errors
    /// If it cannot be sent.
    pub(super) fn new(username: &str, password: &SecretString) -> Result<Self, String> {
        let pair = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
        let mut value = HeaderValue::from_str(&format!("Basic {pair}"))
            .map_err(|_| "the credential cannot be sent".to_owned())?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

/// Connections to remotes.
pub(super) struct Outside {
    pub(super) egress: Arc<dyn Egress>,
    pub(super) connector: TlsConnector,
}

impl Outside {
    /// What the remote's service shows.
    ///
    /// # Errors
    /// The reason, for the model.
    pub(super) async fn references(
        &self,
        remote: &Remote,
        service: Service,
        sign_in: &SignIn,
    ) -> Result<Vec<u8>, String> {
        let name = service.name();
        let path = format!("{}/info/refs?service={name}", remote.path);
        let kind = format!("application/x-{name}-advertisement");
        let asked = Asked { path, kind, body: None, most: ANSWER_BYTES_MAX };
        self.ask(remote, asked, sign_in).await
    }

    /// Sends a request to the remote's service and takes at most `most` bytes of its answer.
    ///
    /// # Errors
    /// The reason, for the model.
    pub(super) async fn call(
        &self,
        remote: &Remote,
        service: Service,
        (body, most): (Vec<u8>, usize),
        sign_in: &SignIn,
    ) -> Result<Vec<u8>, String> {
        let name = service.name();
        let sent =
            HeaderValue::from_str(&format!("application/x-{name}-request")).map_err(|e| e.to_string())?;
        let (path, kind) = (format!("{}/{name}", remote.path), format!("application/x-{name}-result"));
        self.ask(remote, Asked { path, kind, body: Some((sent, body)), most }, sign_in).await
    }

    async fn ask(&self, remote: &Remote, asked: Asked, sign_in: &SignIn) -> Result<Vec<u8>, String> {
        let connection = self.connect(remote).await?;
        let wrong = |error: &dyn std::fmt::Display| error.to_string();
        let Connection { stream, serving: _serving } = connection;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| wrong(&error))?;
        let authority = match remote.port {
            443 => remote.written_host.clone(),
            port => format!("{}:{port}", remote.written_host),
        };
        let Asked { path, kind, body, most } = asked;
        let request = match &body {
            Some((sent, _)) => Request::post(path).header(header::CONTENT_TYPE, sent),
            None => Request::get(path),
        };
        let request = request
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("git/2 (aegis/", env!("CARGO_PKG_VERSION"), ")"))
            .header(header::ACCEPT, &kind)
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::AUTHORIZATION, &sign_in.0)
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body.map(|(_, bytes)| bytes).unwrap_or_default())))
            .map_err(|error| wrong(&error))?;
        let answering = async {
            let response = sender.send_request(request).await.map_err(|error| wrong(&error))?;
            let (parts, mut body) = response.into_parts();
            taken(parts.status, parts.headers.get(header::CONTENT_TYPE), &kind)?;
            let mut bytes = Vec::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(|error| wrong(&error))?.into_data() else { continue };
                if bytes.len() + data.len() > most {
                    return Err(format!("it sends more than {most} bytes"));
                }
                bytes.extend_from_slice(&data);
            }
            Ok(bytes)
        };
        let driving = async {
            // Its end shows in the answer.
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answered = answering => answered,
            () = driving => Err("the connection ended".to_owned()),
        }
    }

    async fn connect(&self, remote: &Remote) -> Result<Connection, String> {
        let (near, far) = UnixStream::pair().map_err(|error| error.to_string())?;
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.map_err(|error| error.to_string())?;
        let policy = OneHost {
            host: remote.host.clone(),
            port: remote.port,
            layers: Arc::clone(&remote.layers),
            limits: EgressLimits {
                bytes: remote.said.pack_size_max.bytes().saturating_add(OVERHEAD_BYTES),
                idle: IDLE,
                duration: remote.timeout(),
            },
        };
        let connection = DoorConnection {
            door: Door::Egress,
            execution: ExecutionId::from_uuid(Default::default()),
            generation: 0,
            stream: DoorStream::unix(far, place),
        };
        let egress = Arc::clone(&self.egress);
        let serving = tokio::spawn(async move { egress.serve(connection, &policy).await });
        let serving = Serving(serving.abort_handle());
        let stream = tunnel(near, &format!("{}:{}", remote.written_host, remote.port)).await?;
        let bare = remote.written_host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|error| error.to_string())?;
        let stream = self.connector.connect(name, stream).await.map_err(|error| error.to_string())?;
        Ok(Connection { stream, serving })
    }
}

struct Asked {
    path: String,
    /// The content type that the answer must have.
    kind: String,
    body: Option<(HeaderValue, Vec<u8>)>,
    most: usize,
}

struct Connection {
    stream: TlsStream<UnixStream>,
    serving: Serving,
}

/// Cuts the connection when it is dropped.
struct Serving(AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether an answer is what was asked for. Nothing is followed anywhere: neither the request nor the credential leaves
/// the address that the configuration names.
fn taken(status: StatusCode, kind: Option<&HeaderValue>, expected: &str) -> Result<(), String> {
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(format!("it refuses the credential of this node (status {})", status.as_u16()));
        }
        StatusCode::NOT_FOUND => return Err("it has no such repository, or hides it (status 404)".to_owned()),
        status if status.is_redirection() => {
            return Err(format!(
                "it sends to another place (status {}), which is not followed",
                status.as_u16()
            ));
        }
        status => return Err(format!("it answers with status {}", status.as_u16())),
    }
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) == Some(expected) {
        return Ok(());
    }
    Err("it does not answer as Git servers do over HTTP".to_owned())
}

/// Permits one host and nothing else, under the rules of the remote and of the node.
struct OneHost {
    host: aegis_security::egress::Host,
    port: u16,
    layers: Arc<[aegis_security::egress::EgressRules]>,
    limits: EgressLimits,
}

#[async_trait]
impl EgressPolicy for OneHost {
    async fn decide(&self, request: &EgressRequest) -> Result<EgressGrant, Denial> {
        if request.host != self.host || request.port != self.port || request.way != EgressWay::Tunnel {
            return Err(Denial {
                code: DenialCode::DomainNotAllowed,
                rule: "node:git".to_owned(),
                message: format!("`{}:{}` is not the remote's address", request.host, request.port),
                remedy: "name it in `spec.git.remotes` of the node's configuration".to_owned(),
            });
        }
        for layer in self.layers.iter() {
            layer.permits_name(&request.host, request.port)?;
        }
        // Nobody asks how it ended: the call is what is recorded.
        let (ended, _) = oneshot::channel();
        Ok(EgressGrant {
            layers: Arc::clone(&self.layers),
            raw: false,
            cut: CancellationToken::new(),
            limits: self.limits,
            volume: Arc::new(AtomicU64::new(self.limits.bytes)),
            ended,
        })
    }
}
