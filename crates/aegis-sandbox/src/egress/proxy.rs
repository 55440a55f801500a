//! One connection from inside, from its first byte to its end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aegis_core::{Denial, DenialCode};
use aegis_kernel::port::{
    DoorConnection, Egress, EgressEnd, EgressGrant, EgressOutcome, EgressPolicy, EgressRequest, EgressWay,
};
use aegis_security::egress::{EgressRules, Host, RequestHead, RequestTarget};
use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::progress::{Progress, broken};
use super::resolve::{Resolver, SystemResolver};
use super::{answer, own, plain, tunnel};

/// How long a program may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most addresses of a name that are tried.
const ATTEMPTS_MAX: usize = 4;
/// Bytes read at once of a head.
const CHUNK_BYTES: usize = 4096;

/// The proxy. It keeps nothing between connections: each is decided on anew.
#[derive(Clone)]
pub struct EgressProxy {
    resolver: Arc<dyn Resolver>,
}

impl EgressProxy {
    /// A proxy that asks the host's resolver.
    pub fn new() -> Self {
        Self::with_resolver(Arc::new(SystemResolver))
    }

    /// A proxy that asks this resolver.
    pub fn with_resolver(resolver: Arc<dyn Resolver>) -> Self {
        Self { resolver }
    }

    /// Serves one stream to its end: one tunnel, or one plain request. Dropping the future cuts it.
    pub async fn serve_stream<S>(&self, mut stream: S, policy: &dyn EgressPolicy)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Ok(read) = tokio::time::timeout(HEAD_TIMEOUT, read_head(&mut stream)).await else { return };
        let (head, early) = match read {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(refused) => return answer::malformed(&mut stream, &refused).await,
        };
        let way = match &head.target {
            RequestTarget::Tunnel => EgressWay::Tunnel,
            RequestTarget::Plain { path } => {
                EgressWay::Plain { method: head.method.clone(), path: path.clone() }
            }
        };
        let request = EgressRequest { host: head.host.clone(), port: head.port, way };
        let grant = match policy.decide(&request).await {
            Ok(grant) => grant,
            Err(denial) => return answer::denied(&mut stream, &denial).await,
        };
        let EgressGrant { layers, raw, cut, limits, volume, ended } = grant;
        let progress = Progress::new(limits, volume);
        let end = tokio::select! {
            biased;
            () = cut.cancelled() => EgressEnd::Cut,
            () = tokio::time::sleep(limits.duration) => EgressEnd::Limit("duration"),
            end = self.carry(stream, &head, early, &layers, raw, &progress) => end,
        };
        // Whoever has lost interest in the outcome has recorded what there was to record.
        let _ = ended.send(EgressOutcome {
            address: progress.address.get().copied(),
            bytes_sent: progress.sent(),
            bytes_received: progress.received(),
            duration: progress.duration(),
            end,
        });
    }

    async fn carry<S>(
        &self,
        mut stream: S,
        head: &RequestHead,
        early: Vec<u8>,
        layers: &[EgressRules],
        raw: bool,
        progress: &Progress,
    ) -> EgressEnd
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let addresses = match &head.host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) => self.resolver.resolve(name).await,
        };
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(error) => {
                let sentence = format!("`{}` cannot be resolved: {error}", head.host);
                answer::unreachable(&mut stream, &sentence).await;
                return EgressEnd::Failed(sentence);
            }
        };
        if let Err(denial) = permit(layers, &head.host, &addresses, head.port) {
            answer::denied(&mut stream, &denial).await;
            return EgressEnd::Denied(denial);
        }
        let outside = match connect(&addresses, head.port).await {
            Ok((outside, address)) => {
                let _ = progress.address.set(address);
                outside
            }
            Err(error) => {
                let sentence = format!("`{}:{}` cannot be connected to: {error}", head.host, head.port);
                answer::unreachable(&mut stream, &sentence).await;
                return EgressEnd::Failed(sentence);
            }
        };
        match &head.target {
            RequestTarget::Tunnel => tunnel::carry(stream, early, outside, &head.host, raw, progress).await,
            RequestTarget::Plain { path } => {
                plain::forward(stream, early, outside, head, path, progress).await
            }
        }
    }
}

impl Default for EgressProxy {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EgressProxy").finish_non_exhaustive()
    }
}

#[async_trait]
impl Egress for EgressProxy {
    async fn serve(&self, connection: DoorConnection, policy: &dyn EgressPolicy) {
        self.serve_stream(connection.stream, policy).await;
    }
}

/// The head, and what came with it; `None` if the program went away, or the sentence to refuse it with.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<(RequestHead, Vec<u8>)>, String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(head) = RequestHead::parse(&bytes).map_err(|error| error.to_string())? {
            let early = bytes.split_off(head.bytes.min(bytes.len()));
            return Ok(Some((head, early)));
        }
        let mut chunk = [0; CHUNK_BYTES];
        match stream.read(&mut chunk).await.map_err(broken) {
            Ok(0) | Err(_) => return Ok(None),
            Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
}

/// Every layer must permit every address.
fn permit(layers: &[EgressRules], host: &Host, addresses: &[IpAddr], port: u16) -> Result<(), Denial> {
    if layers.is_empty() {
        return Err(Denial {
            code: DenialCode::DomainNotAllowed,
            rule: "egress/address".to_owned(),
            message: format!("no rule permits an address of `{host}`"),
            remedy: "add it to `security.network.allowlist`".to_owned(),
        });
    }
    let own = own::addresses();
    layers.iter().try_for_each(|layer| layer.permits_addresses(host, addresses, port, &own))
}

/// Connects to the first of the permitted addresses that answers.
async fn connect(addresses: &[IpAddr], port: u16) -> io::Result<(TcpStream, IpAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for &address in addresses.iter().take(ATTEMPTS_MAX) {
        let attempt = TcpStream::connect(SocketAddr::new(address, port));
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok((stream, address));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        }
    }
    Err(last)
}
