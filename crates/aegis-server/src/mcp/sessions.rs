//! Sessions of `/mcp`, for revision 2025-11-25: they hold the requests of a client together, so that what a server asks
//! during a call reaches whoever made it, and its answer finds the way back.
//!
//! A session has no authority. It belongs to the credential that opened it, every request in it is judged by its own,
//! and to any other credential it does not exist. Revision 2026-07-28 has none, and who opens none is served without.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::limits::REQUEST_BYTES_MAX;
use aegis_core::{Diagnosis, ErrorCode, Tenant};
use aegis_kernel::Caller;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use rmcp::transport::StreamableHttpService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use serde::Deserialize;

use super::McpServer;
use crate::answer::Refused;

/// Sessions open at the same time; who opens one more is served without.
const SESSIONS_MAX: usize = 256;
/// Sessions of one credential open at the same time.
const SESSIONS_BY_ONE_MAX: usize = 16;
/// A session in which nothing happened for this long is closed.
const SESSION_IDLE: Duration = Duration::from_secs(900);
/// Time for a client to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// The header that names a session.
const SESSION_HEADER: &str = "mcp-session-id";

/// Whose a session is: a tenant, and who the credential says that asks.
type Owner = (Tenant, String);

/// What is known of the sessions that are open.
#[derive(Default)]
struct Owned {
    owners: HashMap<String, Owner>,
    /// Of each owner, those that are about to be opened.
    opening: Vec<Owner>,
}

/// `/mcp`, with sessions and without.
pub(crate) struct Sessions {
    without: StreamableHttpService<McpServer, NeverSessionManager>,
    within: StreamableHttpService<McpServer, LocalSessionManager>,
    manager: Arc<LocalSessionManager>,
    owned: Mutex<Owned>,
}

/// Where sessions are kept.
pub(super) fn manager() -> Arc<LocalSessionManager> {
    let mut manager = LocalSessionManager::default();
    manager.session_config.keep_alive = Some(SESSION_IDLE);
    Arc::new(manager)
}

impl Sessions {
    pub(super) fn new(
        without: StreamableHttpService<McpServer, NeverSessionManager>,
        within: StreamableHttpService<McpServer, LocalSessionManager>,
        manager: Arc<LocalSessionManager>,
    ) -> Self {
        Self { without, within, manager, owned: Mutex::default() }
    }

    /// Answers a request that passed the door.
    pub(crate) async fn serve(self: Arc<Self>, request: Request) -> Response {
        let Some(owner) = request.extensions().get::<Caller>().and_then(owner) else {
            return Refused::from(Diagnosis::internal("nobody asks")).into_response();
        };
        if let Some(session) = session_of(request.headers()) {
            if session.is_none_or(|session| !self.is_of(session, &owner)) {
                let what = Diagnosis::new(ErrorCode::NotFound, "no such session");
                return Refused::from(what).into_response();
            }
            return self.within.handle(request).await.map(Body::new);
        }
        if *request.method() != Method::POST {
            return self.without.handle(request).await.map(Body::new);
        }
        let (parts, body) = request.into_parts();
        let body = match read(body).await {
            Ok(body) => body,
            Err(refused) => return refused.into_response(),
        };
        let opens = opens(&body);
        let request = Request::from_parts(parts, Body::from(body));
        let place = if opens { self.reserve(owner).await } else { None };
        let Some(place) = place else { return self.without.handle(request).await.map(Body::new) };
        let answer = self.within.handle(request).await;
        if let Some(Some(session)) = session_of(answer.headers()) {
            place.opened(session);
        }
        answer.map(Body::new)
    }

    fn is_of(&self, session: &str, owner: &Owner) -> bool {
        self.owned().owners.get(session) == Some(owner)
    }

    fn owned(&self) -> std::sync::MutexGuard<'_, Owned> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more session of `owner`, if there is one.
    async fn reserve(&self, owner: Owner) -> Option<Place<'_>> {
        let open = self.manager.sessions.read().await;
        let mut owned = self.owned();
        owned.owners.retain(|session, _| open.contains_key(session.as_str()));
        let by_one = owned.owners.values().chain(&owned.opening).filter(|other| **other == owner).count();
        let all = owned.owners.len() + owned.opening.len();
        if all >= SESSIONS_MAX || by_one >= SESSIONS_BY_ONE_MAX {
            return None;
        }
        owned.opening.push(owner.clone());
        Some(Place { sessions: self, owner })
    }
}

/// A session about to be opened.
struct Place<'a> {
    sessions: &'a Sessions,
    owner: Owner,
}

impl Place<'_> {
    fn opened(self, session: &str) {
        self.sessions.owned().owners.insert(session.to_owned(), self.owner.clone());
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut owned = self.sessions.owned();
        if let Some(place) = owned.opening.iter().position(|owner| *owner == self.owner) {
            owned.opening.swap_remove(place);
        }
    }
}

fn owner(caller: &Caller) -> Option<Owner> {
    Some((caller.tenant.clone(), serde_json::to_string(&caller.actor).ok()?))
}

/// The session that is named; the inner is none if what names it is no text, or there are several.
fn session_of(headers: &HeaderMap) -> Option<Option<&str>> {
    let mut named = headers.get_all(SESSION_HEADER).iter();
    let first = named.next()?;
    Some(first.to_str().ok().filter(|_| named.next().is_none()))
}

async fn read(body: Body) -> Result<Bytes, Refused> {
    let late = || Diagnosis::new(ErrorCode::InvalidInput, "the body did not come in time");
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, REQUEST_BYTES_MAX));
    read.await.map_err(|_| late())?.map_err(|error| {
        let what = Diagnosis::new(ErrorCode::InvalidInput, format!("the body cannot be read: {error}"));
        Refused::with_status(what, StatusCode::PAYLOAD_TOO_LARGE)
    })
}

/// Whether a message asks for a session.
fn opens(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Message {
        method: String,
    }
    serde_json::from_slice::<Message>(body).is_ok_and(|message| message.method == "initialize")
}
