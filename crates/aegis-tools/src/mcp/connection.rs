//! One connection to a server, through the SDK.

mod calling;
mod describing;
mod wanted;

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aegis_core::{Name, ServerEnd, Tenant};
use aegis_manifest::node::McpProtocol;
use rmcp::model::{
    ClientRequest, ProgressToken, ProtocolVersion, ServerCapabilities, ServerNotification, ServerResult,
    SubscriptionFilter,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt, PeerRequestOptions, RequestHandle, RoleClient, RunningService,
    ServiceError,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::asking::{Calls, Entered};
use super::bounded::{BoundedLines, StreamEnd};
use super::error::McpError;
use super::handler::{AskedLog, Handler, ListChanged, ProgressSink};
use super::http::CredentialedClient;
use super::log::LogRing;
use super::oauth::Authorizer;
use super::servers::McpParts;
use super::settings::{Reach, ServerSettings};
use super::starter::{ServerProcess, StartSpec};

pub(super) use wanted::Wanted;

/// How long a server that does not read may keep us from telling it that a call is over.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);
/// Most requests in flight on HTTP beside those that are limited here: lists and replies.
const HTTP_SPARE_REQUESTS: usize = 4;

/// A start that came to nothing, or a connection that ended.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) end: ServerEnd,
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn new(end: ServerEnd, reason: impl Into<String>) -> Self {
        Self { end, reason: reason.into() }
    }
}

/// A connection that is open. Dropping it ends the process.
pub(super) struct Connection {
    server: String,
    service: RunningService<RoleClient, Handler>,
    stream: Option<StreamEnd>,
    process: Option<Arc<dyn ServerProcess>>,
    response_bytes_max: usize,
}

/// What a request is given beside its content.
pub(super) struct Terms<'a> {
    pub(super) time: Duration,
    pub(super) cancel: &'a CancellationToken,
    pub(super) progress: Option<ProgressSink>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a connection is opened with.
pub(super) struct Opening<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) settings: &'a ServerSettings,
    pub(super) parts: &'a McpParts,
    pub(super) logs: &'a Arc<LogRing>,
    pub(super) tools_changed: &'a Arc<Notify>,
    pub(super) asked: &'a AskedLog,
    pub(super) authorizer: Option<&'a Arc<Authorizer>>,
    pub(super) on_change: Arc<dyn Fn(ListChanged) + Send + Sync>,
}

impl Connection {
    /// Starts or reaches the server and agrees on a revision.
    pub(super) async fn open(opening: Opening<'_>) -> Result<Self, Failure> {
        let settings = opening.settings;
        let handler = Handler {
            tenant: opening.tenant.clone(),
            server: settings.name.clone(),
            grants: settings.grants.clone(),
            events: Arc::clone(&opening.parts.events),
            tools_changed: Arc::clone(opening.tools_changed),
            on_change: Arc::clone(&opening.on_change),
            told: opening.asked.clone(),
            calls: Calls::default(),
            log_level: Mutex::new(None),
            progress: Mutex::new(HashMap::new()),
        };
        let lifecycle = lifecycle(settings.protocol);
        let (service, stream, process) = match &settings.reach {
            Reach::Program { .. } => {
                let started = start(&opening).await?;
                let (stdout, stream) = BoundedLines::new(started.stdout, settings.limits.response_bytes_max);
                let logs = Arc::clone(opening.logs);
                tokio::spawn(logs.fill(started.stderr, Arc::clone(&opening.parts.clock)));
                let killer = KillOnDrop(Some(Arc::clone(&started.process)));
                let service = handler.serve_with_lifecycle((stdout, started.stdin), lifecycle).await;
                let service = service.map_err(|error| {
                    let end =
                        if stream.too_large() { ServerEnd::MessageTooLarge } else { ServerEnd::Protocol };
                    Failure::new(end, error.to_string())
                })?;
                (service, Some(stream), killer.keep())
            }
            Reach::Address { url, headers, .. } => {
                let inner = opening.parts.http.get();
                let inner = inner.map_err(|error| Failure::new(ServerEnd::NotStarted, error.to_string()))?;
                let client = CredentialedClient {
                    inner,
                    tenant: opening.tenant.clone(),
                    server: settings.name.clone(),
                    headers: headers.clone().into(),
                    credentials: Arc::clone(&opening.parts.credentials),
                    authorizer: opening.authorizer.cloned(),
                };
                let config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
                    .max_concurrent_requests(settings.limits.concurrent_max + HTTP_SPARE_REQUESTS)
                    .max_sse_event_size(settings.limits.response_bytes_max);
                let transport = StreamableHttpClientTransport::with_client(client, config);
                let service = handler.serve_with_lifecycle(transport, lifecycle).await;
                let service =
                    service.map_err(|error| Failure::new(ServerEnd::NotStarted, error.to_string()))?;
                (service, None, None)
            }
        };
        let response_bytes_max = settings.limits.response_bytes_max;
        Ok(Self { server: settings.name.to_string(), service, stream, process, response_bytes_max })
    }

    /// The revision both sides speak.
    pub(super) fn protocol(&self) -> String {
        self.service.peer_info().map(|info| info.protocol_version.to_string()).unwrap_or_default()
    }

    /// Ends the process, whoever still waits for an answer.
    pub(super) fn end(&self) {
        if let Some(process) = &self.process {
            process.kill();
        }
        self.service.cancellation_token().cancel();
    }

    /// Waits until the server is gone; says why.
    pub(super) async fn ended(&self) -> Failure {
        let Some(stream) = &self.stream else { return pending().await };
        stream.ended.cancelled().await;
        if stream.too_large() {
            let reason = format!("it sent a message of more than {} bytes", self.response_bytes_max);
            return Failure::new(ServerEnd::MessageTooLarge, reason);
        }
        let status = match &self.process {
            Some(process) => tokio::time::timeout(CANCEL_TIMEOUT, process.wait()).await.ok(),
            None => None,
        };
        Failure::new(ServerEnd::Ended, status.unwrap_or_else(|| "it closed its output".to_owned()))
    }

    /// Passes on the words of a server of revision 2026-07-28 that its lists changed; returns when it is gone.
    pub(super) async fn lists_change(&self) {
        let Some(info) = self.service.peer_info() else { return pending().await };
        if info.protocol_version.has_initialize() {
            return pending().await;
        }
        let Some(filter) = told_of(&info.capabilities) else { return pending().await };
        let Ok(mut subscription) = self.service.peer().listen(filter).await else { return pending().await };
        loop {
            match subscription.next().await {
                Ok(Some(told)) => {
                    self.service.service().tools_changed.notify_one();
                    (self.service.service().on_change)(match told {
                        ServerNotification::PromptListChangedNotification(_) => ListChanged::Prompts,
                        ServerNotification::ResourceListChangedNotification(_) => ListChanged::Resources,
                        _ => ListChanged::Tools,
                    });
                }
                // The look at regular times finds what is no longer told.
                Ok(None) | Err(_) => return pending().await,
            }
        }
    }

    /// Sends a request of some caller that no server may ask anything for. What it asks meanwhile may be about it, and
    /// is put to nobody.
    pub(super) async fn request_beside(
        &self,
        request: ClientRequest,
        terms: Terms<'_>,
    ) -> Result<ServerResult, McpError> {
        let mut entered = self.service.service().calls.enter(None);
        let answer = self.request_in(Some(&entered), request, terms).await;
        if !matches!(answer, Err(McpError::Cancelled | McpError::TimedOut { .. })) {
            entered.answered();
        }
        answer
    }

    /// Sends a request; the server is told if nobody waits for its answer any more.
    pub(super) async fn request(
        &self,
        request: ClientRequest,
        terms: Terms<'_>,
    ) -> Result<ServerResult, McpError> {
        self.request_in(None, request, terms).await
    }

    /// The same, as part of a call: what the server asks meanwhile is put to its caller, whose time stands still then.
    pub(super) async fn request_in(
        &self,
        call: Option<&Entered<'_>>,
        request: ClientRequest,
        terms: Terms<'_>,
    ) -> Result<ServerResult, McpError> {
        let Terms { time, cancel, progress } = terms;
        let late = tokio::time::sleep(time);
        tokio::pin!(late);
        let timed_out = |sent| McpError::TimedOut { server: self.server.clone(), after: time, sent };
        let mut options = PeerRequestOptions::no_options();
        options.meta = self.meta(call);
        let sending = self.service.peer().send_cancellable_request(request, options);
        let handle = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(McpError::Cancelled),
            handle = sending => handle.map_err(|error| self.failed(error, false))?,
            () = &mut late => return Err(timed_out(false)),
        };
        if let Some(call) = call {
            call.sent(handle.id.clone());
        }
        let token = progress.map(|sink| {
            self.service.service().watch(handle.progress_token.clone(), sink);
            handle.progress_token.clone()
        });
        let _watched = Watched { handler: self.service.service(), token };
        let mut waiting = Waiting(Some(handle));
        let Some(handle) = waiting.0.as_mut() else { return Err(timed_out(true)) };
        // What was asked in former rounds has put the time off already.
        let mut put_off = call.map(|call| call.call().asked_for().0).unwrap_or_default();
        let answered = loop {
            tokio::select! {
                biased;
                answer = &mut handle.rx => break Ok(answer),
                () = cancel.cancelled() => break Err(McpError::Cancelled),
                () = &mut late => match call.and_then(|call| call.call().put_off(&mut put_off)) {
                    Some(more) => late.as_mut().reset(Instant::now() + more),
                    None => break Err(timed_out(true)),
                },
            }
        };
        match answered {
            Ok(answer) => {
                waiting.0 = None;
                answer.map_err(|_| ServiceError::TransportClosed).flatten().map_err(|error| {
                    let sent = !is_unreached(&error);
                    self.failed(error, sent)
                })
            }
            Err(error) => Err(error),
        }
    }

    fn failed(&self, error: ServiceError, sent: bool) -> McpError {
        let server = self.server.clone();
        match error {
            ServiceError::McpError(error) => McpError::Protocol {
                code: error.code.0,
                message: error.message.into_owned(),
                data: error.data,
            },
            ServiceError::TransportClosed if self.stream.as_ref().is_some_and(StreamEnd::too_large) => {
                self.too_large()
            }
            ServiceError::UnexpectedResponse => self.malformed("it answered with something else"),
            other => McpError::Down { server, reason: other.to_string(), sent },
        }
    }
    fn too_large(&self) -> McpError {
        McpError::TooLarge { server: self.server.clone(), max: self.response_bytes_max }
    }
    fn malformed(&self, reason: impl Into<String>) -> McpError {
        McpError::Malformed { server: self.server.clone(), reason: reason.into() }
    }
}

/// Whether no connection was made: an address that nobody listens at was given nothing.
fn is_unreached(error: &ServiceError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = match error {
        ServiceError::TransportSend(error) => Some(error.error.as_ref()),
        _ => None,
    };
    while let Some(error) = cause {
        if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A request whose answer is awaited; dropped unanswered, the server is told `notifications/cancelled`.
struct Waiting(Option<RequestHandle<RoleClient>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Not awaited: a server that does not read must not hold up whoever cancelled.
            runtime.spawn(async move {
                let told = handle.cancel(Some("nobody waits for the answer any more".to_owned()));
                let _ = tokio::time::timeout(CANCEL_TIMEOUT, told).await;
            });
        }
    }
}

struct Watched<'a> {
    handler: &'a Handler,
    token: Option<ProgressToken>,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if let Some(token) = &self.token {
            self.handler.unwatch(token);
        }
    }
}

struct KillOnDrop(Option<Arc<dyn ServerProcess>>);

impl KillOnDrop {
    fn keep(mut self) -> Option<Arc<dyn ServerProcess>> {
        self.0.take()
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.kill();
        }
    }
}

async fn start(opening: &Opening<'_>) -> Result<super::starter::Started, Failure> {
    let settings = opening.settings;
    let Reach::Program { program, args, env } = &settings.reach else {
        return Err(Failure::new(ServerEnd::NotStarted, "it is no program"));
    };
    let mut resolved = Vec::with_capacity(env.len());
    for (name, reference) in env {
        let value = resolve(opening, &settings.name, &reference.to_string()).await;
        let value =
            value.map_err(|reason| Failure::new(ServerEnd::NotStarted, format!("`{name}`: {reason}")))?;
        resolved.push((name.clone(), value));
    }
    let spec = StartSpec {
        tenant: opening.tenant.clone(),
        server: settings.name.clone(),
        program: program.clone(),
        args: args.clone(),
        env: resolved,
        domain_allowlist: settings.domain_allowlist.clone(),
        folders: settings.folders.clone(),
    };
    let started = opening.parts.starter.start(spec).await;
    started.map_err(|error| Failure::new(ServerEnd::NotStarted, error.to_string()))
}

async fn resolve(
    opening: &Opening<'_>,
    server: &Name,
    reference: &str,
) -> Result<secrecy::SecretString, String> {
    opening.parts.credentials.resolve(opening.tenant, server, reference).await
}

/// The lists whose changes a server says it tells; none if it tells of none.
fn told_of(capabilities: &ServerCapabilities) -> Option<SubscriptionFilter> {
    let mut filter = SubscriptionFilter::builder();
    let mut any = false;
    if capabilities.tools.as_ref().is_some_and(|tools| tools.list_changed == Some(true)) {
        (filter, any) = (filter.tools_list_changed(), true);
    }
    if capabilities.prompts.as_ref().is_some_and(|prompts| prompts.list_changed == Some(true)) {
        (filter, any) = (filter.prompts_list_changed(), true);
    }
    if capabilities.resources.as_ref().is_some_and(|resources| resources.list_changed == Some(true)) {
        (filter, any) = (filter.resources_list_changed(), true);
    }
    any.then(|| filter.build())
}

fn lifecycle(protocol: McpProtocol) -> ClientLifecycleMode {
    match protocol {
        McpProtocol::Auto => ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        },
        McpProtocol::Handshake => ClientLifecycleMode::Initialize,
        McpProtocol::Discovery => {
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
        }
    }
}
