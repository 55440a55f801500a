//! Tool servers, and the tools there are.

use std::sync::Arc;
use std::time::Duration;

use aegis_api::{
    AcceptServer, FinishLogin, LoginServer, Page, Server, ServerDetail, ServerLine, ServerLogin,
    ServerLogout, ServerState, Tool,
};
use aegis_core::{Body as Event, Diagnosis, ErrorCode, Name, Sha256, SignIn, SignOut};
use aegis_kernel::Caller;
use aegis_tools::mcp::{LogLine, McpError, Revocation, ServerState as State_, ServerView};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use http::HeaderMap;

use super::{bytes, from_json, person, to_its_end};
use crate::answer::{Answer, Refused, done, json};
use crate::app::App;
use crate::logging::without_secrets;
use crate::servers::added;

/// How long the answer to who adds a server waits for what that server says.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

fn shown(app: &App, view: &ServerView) -> Server {
    let (state, protocol, reason) = match &view.state {
        State_::Starting => (ServerState::Starting, None, None),
        State_::Ready { protocol } => (ServerState::Ready, Some(protocol.clone()), None),
        State_::Down { reason, .. } => (ServerState::Down, None, Some(without_secrets(reason.clone()))),
        State_::Idle => (ServerState::Idle, None, None),
        State_::Stopped => (ServerState::Stopped, None, None),
    };
    Server {
        name: view.key.server.to_string(),
        state,
        protocol,
        reason,
        restarts: view.restarts,
        added: !added::is_configured(app, view.key.server.as_str()),
        held: view.shown.is_some(),
        tools: view.accepted.as_ref().map_or(0, |(_, document)| document.tools.len()),
        accepted: view.accepted.as_ref().map(|(digest, _)| digest.to_string()),
        shown: view.shown.as_ref().map(|(digest, _)| digest.to_string()),
    }
}

pub(super) async fn list(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let views = app.servers.list(&caller.tenant).await?;
    Ok(json(&Page { items: views.iter().map(|view| shown(&app, view)).collect(), next_cursor: None }))
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    let view = app.servers.show(&caller.tenant, &name).await?;
    let wrong = |error: serde_json::Error| Diagnosis::internal(error.to_string());
    let detail = ServerDetail {
        description: serde_json::to_value(view.accepted.as_ref().map(|(_, document)| document))
            .map_err(wrong)?,
        changes: serde_json::to_value(&view.diff).map_err(wrong)?,
        server: shown(&app, &view),
    };
    Ok(json(&detail))
}

/// Adds a server to those of the configuration: an act of a person alone.
pub(super) async fn add(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    person::only(&caller, "add a tool server")?;
    let text = String::from_utf8(bytes(body).await?.into())
        .map_err(|_| Diagnosis::new(ErrorCode::InvalidInput, "the section is not UTF-8"))?;
    let file = headers
        .get(aegis_api::header::FILE)
        .map_or_else(|| "server".to_owned(), |name| String::from_utf8_lossy(name.as_bytes()).into_owned());
    let added = to_its_end(async move {
        let name = added::add(&app, &caller, &text, &file).await?;
        let view = app.servers.show_settled(&caller.tenant, name.as_str(), SETTLE_WAIT).await?;
        Ok(shown(&app, &view))
    });
    Ok(json(&added.await?))
}

/// Removes a server that was added.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    person::only(&caller, "remove a tool server")?;
    to_its_end(async move { added::remove(&app, &caller, &name).await }).await?;
    Ok(done())
}

/// Accepts what a held server shows: an act of a person alone.
pub(super) async fn accept(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer {
    person::only(&caller, "accept a changed tool server")?;
    let AcceptServer { digest } = from_json(&bytes(body).await?)?;
    let digest: Sha256 = digest.parse().map_err(|_| {
        Diagnosis::new(ErrorCode::InvalidInput, format!("`{digest}` is not a hash"))
            .hint(format!("take the one that `aegis server show {name}` shows"))
    })?;
    Ok(json(&to_its_end(async move { accepted(&app, &caller, &name, digest).await }).await?))
}

async fn accepted(app: &App, caller: &Caller, name: &str, digest: Sha256) -> Result<Server, Refused> {
    let by_person = Event::ServerAccepted { server: named(name)?, digest, first: false };
    // It widens what agents may call: on record before it holds.
    app.servers.accept(&caller.tenant, name, digest, person::record(app, caller, by_person)).await?;
    let view = app.servers.show(&caller.tenant, name).await?;
    Ok(shown(app, &view))
}

fn named(server: &str) -> Result<Name, Refused> {
    server.parse().map_err(|_| McpError::UnknownServer(server.to_owned()).into())
}

/// Begins a person's sign-in at a server: answers with the address that the person opens.
pub(super) async fn login(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer {
    person::only(&caller, "sign in at a tool server")?;
    let LoginServer { redirect_uri } = from_json(&bytes(body).await?)?;
    let url = app.servers.begin_login(&caller.tenant, &name, &redirect_uri).await?;
    Ok(json(&ServerLogin { url }))
}

/// Ends a person's sign-in at a server.
pub(super) async fn finish_login(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer {
    person::only(&caller, "sign in at a tool server")?;
    let FinishLogin { callback } = from_json(&bytes(body).await?)?;
    let finished = to_its_end(async move {
        app.servers.finish_login(&caller.tenant, &name, &callback).await?;
        let server = named(&name)?;
        person::record(&app, &caller, Event::ServerSignedIn { server, by: SignIn::Person }).await?;
        Ok(shown(&app, &app.servers.show(&caller.tenant, &name).await?))
    });
    Ok(json(&finished.await?))
}

/// Destroys the tokens of a server, and has them revoked where that can be had.
pub(super) async fn logout(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    person::only(&caller, "sign out at a tool server")?;
    let signed_out = to_its_end(async move {
        let revocation = app.servers.logout(&caller.tenant, &name).await?;
        let server = named(&name)?;
        let revoked = revocation == Revocation::Revoked;
        let by_person = Event::ServerSignedOut { server, by: SignOut::Person, revoked };
        person::record(&app, &caller, by_person).await?;
        let reason = match revocation {
            Revocation::Failed(reason) => Some(without_secrets(reason)),
            Revocation::Revoked | Revocation::Nothing => None,
        };
        Ok(ServerLogout { revoked, reason })
    });
    Ok(json(&signed_out.await?))
}

pub(super) async fn logs(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    let lines = app.servers.logs(&caller.tenant, &name)?;
    // A server may say again what it was given.
    let shown = |line: LogLine| ServerLine { at: line.at.to_string(), text: without_secrets(line.text) };
    let items = lines.into_iter().map(shown);
    Ok(json(&Page { items: items.collect(), next_cursor: None }))
}

/// The tools that agents of the tenant may name: the node's own, then those of its servers.
pub(super) async fn tools(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let tools = app.kernel.tools(&caller.tenant).await?;
    let items = tools.into_iter().map(|(facts, place)| Tool {
        name: facts.schema.name,
        server: place,
        description: facts.schema.description,
        parameters: facts.schema.parameters,
        governed: facts.governed.iter().map(|governed| governed.argument.to_string()).collect(),
    });
    Ok(json(&Page { items: items.collect(), next_cursor: None }))
}
