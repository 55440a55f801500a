//! Egress: connections that leave a sandbox, and who decides on them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use aegis_core::Denial;
use aegis_security::egress::{EgressRules, Host};
use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::DoorConnection;

/// What a program inside asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRequest {
    /// The host as it was named; not resolved yet.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// In which way.
    pub way: EgressWay,
}

/// How a connection is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressWay {
    /// `CONNECT`: TLS to the named host, or anything where the grant is raw.
    Tunnel,
    /// One plain HTTP request and its response.
    Plain {
        /// The method.
        method: String,
        /// Path and query.
        path: String,
    },
}

/// A permission for one connection.
#[derive(Debug)]
pub struct EgressGrant {
    /// The layers that have permitted the name: each is asked about the addresses too, and all must permit. With none
    /// of them nothing may be connected to.
    pub layers: Arc<[EgressRules]>,
    /// Whether a tunnel may carry something else than TLS to the named host.
    pub raw: bool,
    /// Cuts the connection, at any time.
    pub cut: CancellationToken,
    /// How much may pass.
    pub limits: EgressLimits,
    /// Bytes left to the execution, all its connections together.
    pub volume: Arc<AtomicU64>,
    /// Told once when it is over. Dropped without a word, the proxy was itself ended.
    pub ended: oneshot::Sender<EgressOutcome>,
}

/// Limits of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressLimits {
    /// Most bytes, both ways together.
    pub bytes: u64,
    /// Longest time without a byte in either direction.
    pub idle: Duration,
    /// Longest time in all.
    pub duration: Duration,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self { bytes: 16 << 30, idle: Duration::from_secs(120), duration: Duration::from_secs(6 * 3600) }
    }
}

/// How a permitted connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressOutcome {
    /// The address that was connected to; `None` if none was.
    pub address: Option<IpAddr>,
    /// Bytes sent out of the sandbox, without what belongs to the proxy.
    pub bytes_sent: u64,
    /// Bytes that came in.
    pub bytes_received: u64,
    /// From the grant to the end.
    pub duration: Duration,
    /// Why.
    pub end: EgressEnd,
}

/// Why a permitted connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressEnd {
    /// Both sides were done.
    Done,
    /// Its addresses, or its first bytes, are not permitted; the program was told so.
    Denied(Denial),
    /// It could not be made, or broke.
    Failed(String),
    /// By [`EgressGrant::cut`].
    Cut,
    /// Too many bytes, of the connection or of the execution, too long, or idle too long: which.
    Limit(&'static str),
}

/// Who decides, once for each connection, before its name is resolved.
#[async_trait]
pub trait EgressPolicy: Send + Sync {
    /// Permits or refuses. Whatever must be recorded before the connection is made is recorded when this returns.
    async fn decide(&self, request: &EgressRequest) -> Result<EgressGrant, Denial>;
}

/// The proxy that stands behind [`super::Door::Egress`].
#[async_trait]
pub trait Egress: Send + Sync {
    /// Serves one connection from inside to its end: one tunnel, or one plain request. Dropping the future cuts it.
    async fn serve(&self, connection: DoorConnection, policy: &dyn EgressPolicy);
}
