//! Who may speak: host, origin, credential and body type, before any route is looked at.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_api::is_loopback;
use aegis_core::{Actor, ActorLink, Body, Diagnosis, ErrorCode, KeyRole, Tenant};
use aegis_kernel::{Caller, Speaker};
use aegis_store::ApiKey;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, StatusCode, header};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::answer::Refused;
use crate::app::App;

/// Shortest time between two records of refused access.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// The names this daemon answers to.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    address: SocketAddr,
    named: Vec<String>,
}

impl Hosts {
    /// `named` are further host names the operator vouches for.
    pub(crate) fn new(address: SocketAddr, named: Vec<String>) -> Self {
        Self { address, named }
    }

    /// Whether `Host` names this daemon. A web page that had its own name resolve to our address (DNS rebinding)
    /// sends its name, so names are listed; a bare address cannot be rebound.
    fn are_meant_by(&self, host: &str) -> bool {
        let bare = without_port(host);
        if is_loopback(bare) || self.named.iter().any(|name| name.eq_ignore_ascii_case(bare)) {
            return true;
        }
        let address = bare.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.is_ok_and(|ip| self.address.ip().is_unspecified() || ip == self.address.ip())
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => {
            if name.contains(':') && !name.ends_with(']') {
                host
            } else {
                name
            }
        }
        _ => host,
    }
}

/// Why somebody may not speak; the names are those of `access.refused` events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Foreign {
    Host,
    Origin,
    NoCredential,
    WrongCredential,
    /// An API key whose role does not reach so far.
    Role,
    /// A route that is not for programs inside a sandbox.
    Route,
}

impl Foreign {
    const fn name(self) -> &'static str {
        match self {
            Self::Host => "foreign_host",
            Self::Origin => "foreign_origin",
            Self::NoCredential => "no_credential",
            Self::WrongCredential => "wrong_credential",
            Self::Role => "role",
            Self::Route => "foreign_route",
        }
    }

    const fn door(self) -> &'static str {
        match self {
            Self::Route => "api",
            _ => "http",
        }
    }

    fn diagnosis(self) -> Diagnosis {
        match self {
            Self::Host => Diagnosis::new(
                ErrorCode::PermissionDenied,
                "the `Host` header names another server",
            )
            .hint("use a loopback name, the bind address, or a name from the node's `network` configuration"),
            Self::Origin => {
                Diagnosis::new(ErrorCode::PermissionDenied, "requests of other sites are refused")
                    .hint("call the API from a program, or from a page this daemon serves")
            }
            Self::NoCredential => Diagnosis::new(ErrorCode::Unauthenticated, "no credential was given")
                .hint("send `Authorization: Bearer TOKEN`; the token lies in `$AEGIS_HOME/token`"),
            Self::WrongCredential => {
                Diagnosis::new(ErrorCode::Unauthenticated, "the credential is not this node's")
                    .hint("check `AEGIS_TOKEN` and `AEGIS_HOME`: each data folder has a token of its own")
            }
            Self::Role => Diagnosis::new(
                ErrorCode::PermissionDenied,
                "the key's role, or its tenant, does not permit this",
            )
            .hint("a viewer only reads, an agent only speaks SMCP and MCP, and keys are a person's to look after"),
            Self::Route => Diagnosis::new(ErrorCode::NotFound, "no such route"),
        }
    }
}

/// Checks host and origin.
pub(crate) fn check_source(headers: &HeaderMap, hosts: &Hosts) -> Result<(), Foreign> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).ok_or(Foreign::Host)?;
    if !hosts.are_meant_by(host) || headers.get_all(header::HOST).iter().count() != 1 {
        return Err(Foreign::Host);
    }
    let same = |origin: &http::HeaderValue| {
        let origin = origin.to_str().ok();
        let authority = origin.and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    if headers.get_all(header::ORIGIN).iter().all(same) { Ok(()) } else { Err(Foreign::Origin) }
}

/// The bearer token of a request, if it has exactly one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

/// Whether a request's body, if there is one, is of a type the API reads.
pub(crate) fn has_known_body_type(method: &Method, headers: &HeaderMap) -> bool {
    let empty = headers
        .get(header::CONTENT_LENGTH)
        .map_or_else(|| !headers.contains_key(header::TRANSFER_ENCODING), |length| length.as_bytes() == b"0");
    if empty || matches!(*method, Method::GET | Method::HEAD) {
        return true;
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else {
        return false;
    };
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(
        essence.as_str(),
        "application/json" | "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml"
    )
}

/// The door of the TCP port. Puts the [`Caller`] into the request for the handlers behind it.
pub(crate) async fn door(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let open = matches!(request.uri().path(), "/health" | "/health/live" | "/health/ready");
    let admitted =
        check_source(request.headers(), &app.hosts).and_then(|()| match bearer(request.headers()) {
            _ if open => Ok(None),
            None => Err(Foreign::NoCredential),
            Some(token) if app.token.is(token) => Ok(None),
            Some(token) => Ok(Some(token.to_owned())),
        });
    let admitted = match admitted {
        Ok(Some(token)) => app.door.authenticate(&token).await.map(Some).ok_or(Foreign::WrongCredential),
        Ok(None) => Ok(None),
        Err(foreign) => Err(foreign),
    };
    let admitted = admitted.and_then(|key| match key {
        Some(key) if !reaches(key.role, request.method(), request.uri().path()) => Err(Foreign::Role),
        key => Ok(key),
    });
    let key = match admitted {
        Ok(key) => key,
        Err(foreign) => return turned_away(&app, foreign, request.uri().path()),
    };
    if !has_known_body_type(request.method(), request.headers()) {
        let what = Diagnosis::new(ErrorCode::InvalidInput, "the body's type is neither JSON nor YAML")
            .hint("send `Content-Type: application/json` or `application/yaml`");
        return Refused::with_status(what, StatusCode::UNSUPPORTED_MEDIA_TYPE).into_response();
    }
    if !open && !app.is_ready() {
        let what = Diagnosis::new(ErrorCode::Overloaded, "the daemon is starting or stopping")
            .hint("try again soon");
        return Refused::from(what).into_response();
    }
    let caller = match (caller(request.headers()), &key) {
        (Err(refused), _) => return refused.into_response(),
        (Ok(caller), None) => caller,
        // Another tenant's name on a key's request is a mistake or a try; it is never followed.
        (Ok(caller), Some(key))
            if request.headers().contains_key(aegis_api::header::TENANT) && caller.tenant != key.tenant =>
        {
            return turned_away(&app, Foreign::Role, request.uri().path());
        }
        (Ok(_), Some(key)) => {
            let actor = Actor::default().then(ActorLink::Key { key: key.id });
            Caller { tenant: key.tenant.clone(), actor }
        }
    };
    request.extensions_mut().insert(caller);
    if let Some(key) = &key {
        request.extensions_mut().insert(key.role);
    }
    if let Some(ApiKey { tenant, id, agent: Some(agent), role: KeyRole::Agent, .. }) = key {
        request.extensions_mut().insert(Speaker::Key { tenant, key: id, agent });
    }
    next.run(request).await
}

fn turned_away(app: &App, foreign: Foreign, path: &str) -> Response {
    app.refusals.count(foreign);
    if path == "/" && foreign == Foreign::NoCredential {
        return crate::routes::notice(StatusCode::UNAUTHORIZED);
    }
    Refused::from(foreign.diagnosis()).into_response()
}

/// How far a key's role reaches. What needs a person is refused by the type of principal, not here.
pub(crate) fn reaches(role: KeyRole, method: &Method, path: &str) -> bool {
    let below =
        |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    let agents = ["/v1/smcp", "/v1/seal", "/mcp"].into_iter().any(below);
    match role {
        KeyRole::Agent => agents,
        _ if agents && !below("/mcp") => false,
        // What only reads is sorted out behind it.
        KeyRole::Viewer if below("/mcp") => true,
        KeyRole::Viewer => matches!(*method, Method::GET | Method::HEAD) && !below("/v1/keys"),
        KeyRole::Operator => !below("/v1/keys"),
    }
}

/// Until sign-in stands, whoever has the node's token is the Person `local`.
fn caller(headers: &HeaderMap) -> Result<Caller, Refused> {
    let tenant = match headers.get(aegis_api::header::TENANT) {
        None => Tenant::default_tenant(),
        Some(name) => name
            .to_str()
            .map_err(|_| Diagnosis::new(ErrorCode::InvalidInput, "`X-Aegis-Tenant` is not text"))?
            .parse()
            .map_err(|error| Diagnosis::new(ErrorCode::InvalidInput, format!("`X-Aegis-Tenant`: {error}")))?,
    };
    Ok(Caller { tenant, actor: Actor::person("local") })
}

/// Refused access, counted and recorded at most once a second, so that a flood is one event and not a full disk.
#[derive(Default)]
pub(crate) struct Refusals {
    counts: Mutex<BTreeMap<Foreign, u64>>,
    counted: Notify,
}

impl Refusals {
    pub(crate) fn count(&self, foreign: Foreign) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(foreign).or_default() += 1;
        self.counted.notify_one();
    }

    fn take(&self) -> BTreeMap<Foreign, u64> {
        std::mem::take(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts again what could not be recorded; the next refusal, or the stop, records it.
    fn give_back(&self, unrecorded: BTreeMap<Foreign, u64>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (foreign, count) in unrecorded {
            *counts.entry(foreign).or_default() += count;
        }
    }
}

/// Records refused access until `stop`; what is counted after the last record is left to [`record_counted`].
pub(crate) async fn record_refusals(app: Arc<App>, stop: CancellationToken) {
    while stop.run_until_cancelled(app.refusals.counted.notified()).await.is_some() {
        record_counted(&app).await;
        stop.run_until_cancelled(tokio::time::sleep(RECORD_INTERVAL)).await;
    }
}

/// Records what is counted now; once more when the last connection is closed.
pub(crate) async fn record_counted(app: &App) {
    let counts = app.refusals.take();
    if let Err(error) = record(app, &counts).await {
        tracing::warn!(%error, "refused access cannot be recorded");
        app.refusals.give_back(counts);
    }
}

async fn record(app: &App, counts: &BTreeMap<Foreign, u64>) -> Result<(), aegis_kernel::port::JournalError> {
    let bodies = counts.iter().map(|(foreign, count)| Body::AccessRefused {
        door: foreign.door().to_owned(),
        reason: foreign.name().to_owned(),
        count: *count,
    });
    let append = app.fleet_events(bodies);
    if append.events.is_empty() {
        return Ok(());
    }
    app.kernel.journal().append(append).await.map(drop)
}

#[cfg(test)]
mod tests;
