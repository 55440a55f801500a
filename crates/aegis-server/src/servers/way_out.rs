//! The way out of tool servers: each program has a list of its own, beside what the node permits anybody, and each
//! connection is on record before it is made.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::{
    ActionId, Body, ConnectionEnd, Denial, DenialCode, Diagnosis, Durability, ErrorCode, LateDenial, Name,
    Tenant,
};
use aegis_kernel::policy::node_egress;
use aegis_kernel::port::{
    Append, Clock, Door, Egress, EgressEnd, EgressGrant, EgressLimits, EgressOutcome, EgressPolicy,
    EgressRequest, Ids, Journal, Sandboxed,
};
use aegis_manifest::NodeConfig;
use aegis_security::constraint::RateLimit;
use aegis_security::egress::EgressRules;
use aegis_security::rate::Admission;
use aegis_tools::mcp::StartSpec;
use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fleet::fleet_events;

/// Connections of one program at once.
const CONNECTIONS_MAX: u32 = 64;
/// How long a refusal holds its place: whoever tries a great many hosts is on record, but not at any speed.
const REFUSAL_PAUSE: Duration = Duration::from_millis(50);
/// Connections of one program that are decided on at once; further ones wait.
const DECIDING_MAX: usize = 16;
/// How long the proxy may take to say that it has cut a connection.
const CUT_PATIENCE: Duration = Duration::from_secs(5);

/// What the node permits anybody.
#[derive(Debug)]
struct NodeRules {
    layer: EgressRules,
    per_minute: u32,
    bytes: u64,
}

/// The network as tool servers have it, by the configuration that holds.
pub(crate) struct ServerNetwork {
    rules: watch::Sender<Arc<NodeRules>>,
    proxy: Arc<dyn Egress>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// Connections whose end is to be recorded.
    attended: TaskTracker,
}

fn node_rules(node: &NodeConfig) -> Result<Arc<NodeRules>, Diagnosis> {
    let layer = node_egress(node).map_err(|error| Diagnosis::new(ErrorCode::InvalidInput, error))?;
    let network = node.spec.governance.as_ref().and_then(|governance| governance.network.clone());
    let network = network.unwrap_or_default();
    let bytes = network.bytes_per_execution.bytes();
    Ok(Arc::new(NodeRules { layer, per_minute: network.connections_per_minute, bytes }))
}

impl ServerNetwork {
    /// By this configuration.
    ///
    /// # Errors
    /// If what it says of the network cannot be understood.
    pub(crate) fn new(
        node: &NodeConfig,
        proxy: Arc<dyn Egress>,
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Arc<Self>, Diagnosis> {
        let rules = watch::Sender::new(node_rules(node)?);
        Ok(Arc::new(Self { rules, proxy, journal, clock, ids, attended: TaskTracker::new() }))
    }

    /// Takes another configuration: connections that it does not permit are cut.
    ///
    /// # Errors
    /// As [`new`](Self::new); then nothing changes.
    pub(crate) fn replace(&self, node: &NodeConfig) -> Result<(), Diagnosis> {
        self.rules.send_replace(node_rules(node)?);
        Ok(())
    }

    /// Waits until the ends of all connections are on record, once the programs are ended.
    pub(crate) async fn close(&self) {
        self.attended.close();
        if tokio::time::timeout(2 * CUT_PATIENCE, self.attended.wait()).await.is_err() {
            tracing::warn!("a connection of a tool server is not ended yet; its end is not on record");
        }
    }

    /// Opens the way out of one program, which ends with its sandbox or when what is given back is cancelled.
    ///
    /// # Errors
    /// The first entry of its list that cannot be understood.
    pub(super) fn open(
        self: &Arc<Self>,
        spec: &StartSpec,
        sandboxed: Arc<dyn Sandboxed>,
    ) -> Result<CancellationToken, String> {
        let own = super::own_network(&spec.server, &spec.domain_allowlist)?;
        let node = Arc::clone(&self.rules.borrow());
        let rate = RateLimit { calls: node.per_minute.min(RATE_CALLS_MAX), per_seconds: 60 };
        let closed = CancellationToken::new();
        let outlet = Arc::new(Outlet {
            tenant: spec.tenant.clone(),
            server: spec.server.clone(),
            own,
            volume: Arc::new(AtomicU64::new(node.bytes)),
            admission: Mutex::new(Admission::new(Some(rate), Some(CONNECTIONS_MAX))),
            deciding: Semaphore::new(DECIDING_MAX),
            network: Arc::clone(self),
            closed: closed.clone(),
        });
        let network = Arc::clone(self);
        tokio::spawn(async move {
            let closed = outlet.closed.clone();
            while let Some(Ok(connection)) = closed.run_until_cancelled(sandboxed.door()).await {
                if connection.door == Door::Egress {
                    let (outlet, network) = (Deciding(Arc::clone(&outlet)), Arc::clone(&network));
                    tokio::spawn(async move { network.proxy.serve(connection, &outlet).await });
                }
            }
            closed.cancel();
        });
        Ok(closed)
    }
}

/// Most connections a minute that are counted.
const RATE_CALLS_MAX: u32 = aegis_security::rate::CALLS_MAX;

/// The way out of one program.
struct Outlet {
    tenant: Tenant,
    server: Name,
    own: EgressRules,
    /// Bytes left to the program.
    volume: Arc<AtomicU64>,
    admission: Mutex<Admission>,
    /// Connections that are decided on, refusals with their pause among them.
    deciding: Semaphore,
    network: Arc<ServerNetwork>,
    closed: CancellationToken,
}

/// A permission of all layers.
struct Permitted {
    layers: Arc<[EgressRules]>,
    rule: String,
    raw: bool,
}

impl Outlet {
    fn judge(&self, request: &EgressRequest, node: &NodeRules) -> Result<Permitted, Denial> {
        let of_node = node.layer.permits_name(&request.host, request.port)?;
        let own = self.own.permits_name(&request.host, request.port)?;
        let layers = Arc::from([node.layer.clone(), self.own.clone()]);
        Ok(Permitted { layers, rule: own.rule, raw: own.raw && of_node.raw })
    }

    fn admit(&self) -> Result<(), Denial> {
        let now = self.network.clock.monotonic();
        let admitted = self.admission.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        admitted.map_err(|exceeded| Denial {
            code: DenialCode::RateLimitExceeded,
            rule: format!("server:{}/connections", self.server),
            message: format!("{exceeded}."),
            remedy: "wait, or raise `governance.network.connections_per_minute`".to_owned(),
        })
    }

    async fn record(&self, body: Body, durability: Durability) -> Result<(), Denial> {
        let append =
            fleet_events(self.network.clock.as_ref(), self.network.ids.as_ref(), std::iter::once(body));
        let append = Append { tenant: self.tenant.clone(), durability, ..append };
        self.network.journal.append(append).await.map(drop).map_err(|error| Denial {
            code: DenialCode::CapabilityMissing,
            rule: "node/journal".to_owned(),
            message: format!("the connection cannot be recorded, and is not made: {error}"),
            remedy: "see the daemon's log".to_owned(),
        })
    }

    /// Waits for the end of a connection, which a change of the node's rules may bring about, and records it.
    async fn attend(
        self: Arc<Self>,
        request: EgressRequest,
        connection: ActionId,
        cut: CancellationToken,
        mut ended: oneshot::Receiver<EgressOutcome>,
        mut rules: watch::Receiver<Arc<NodeRules>>,
    ) {
        let mut denied = None;
        let outcome = loop {
            tokio::select! {
                outcome = &mut ended => break outcome.ok(),
                Ok(()) = rules.changed() => {
                    let node = Arc::clone(&rules.borrow_and_update());
                    if let Err(denial) = self.judge(&request, &node) {
                        cut.cancel();
                        denied = Some(denial);
                        break tokio::time::timeout(CUT_PATIENCE, &mut ended).await.ok().and_then(Result::ok);
                    }
                }
            }
        };
        self.admission.lock().unwrap_or_else(PoisonError::into_inner).finish();
        let end = match outcome.as_ref().map(|outcome| &outcome.end) {
            Some(EgressEnd::Denied(denial)) => {
                denied = Some(denial.clone());
                ConnectionEnd::Denied
            }
            _ if denied.is_some() => ConnectionEnd::Denied,
            Some(EgressEnd::Done) => ConnectionEnd::Done,
            Some(EgressEnd::Failed(_)) => ConnectionEnd::Failed,
            Some(EgressEnd::Limit(_)) => ConnectionEnd::Limit,
            Some(EgressEnd::Cut) | None => ConnectionEnd::Cut,
        };
        let body = Body::ServerDisconnected {
            server: self.server.clone(),
            connection,
            end,
            address: outcome.as_ref().and_then(|outcome| outcome.address).map(|address| address.to_string()),
            bytes_sent: outcome.as_ref().map_or(0, |outcome| outcome.bytes_sent),
            bytes_received: outcome.as_ref().map_or(0, |outcome| outcome.bytes_received),
            denied: denied.map(|denial| LateDenial { code: denial.code, rule: denial.rule }),
        };
        if let Err(denial) = self.record(body, Durability::Process).await {
            tracing::warn!(server = %self.server, error = denial.message, "the end of a connection is not on record");
        }
    }
}

/// Who decides on the connections of one program.
struct Deciding(Arc<Outlet>);

#[async_trait]
impl EgressPolicy for Deciding {
    async fn decide(&self, request: &EgressRequest) -> Result<EgressGrant, Denial> {
        let outlet = &self.0;
        // Held through the pause of a refusal: nobody fills the record at any speed.
        let _place = outlet.deciding.acquire().await;
        // Taken first: a change that comes in between is seen by who attends to the connection.
        let mut rules = outlet.network.rules.subscribe();
        let node = Arc::clone(&rules.borrow_and_update());
        let judged = outlet.judge(request, &node).and_then(|permitted| outlet.admit().map(|()| permitted));
        let connection = ActionId::from_uuid(outlet.network.ids.uuid());
        let connecting = |rule: String, denied: Option<DenialCode>| Body::ServerConnecting {
            server: outlet.server.clone(),
            connection,
            host: request.host.to_string(),
            port: request.port,
            rule,
            denied,
        };
        let permitted = match judged {
            Ok(permitted) => permitted,
            Err(denial) => {
                let body = connecting(denial.rule.clone(), Some(denial.code));
                outlet.record(body, Durability::Process).await?;
                tokio::time::sleep(REFUSAL_PAUSE).await;
                return Err(denial);
            }
        };
        if let Err(denial) = outlet.record(connecting(permitted.rule, None), Durability::Power).await {
            outlet.admission.lock().unwrap_or_else(PoisonError::into_inner).finish();
            return Err(denial);
        }
        let cut = outlet.closed.child_token();
        let (ended, outcome) = oneshot::channel();
        let attending = Arc::clone(outlet).attend(request.clone(), connection, cut.clone(), outcome, rules);
        outlet.network.attended.spawn(attending);
        Ok(EgressGrant {
            layers: permitted.layers,
            raw: permitted.raw,
            cut,
            limits: EgressLimits::default(),
            volume: Arc::clone(&outlet.volume),
            ended,
        })
    }
}
