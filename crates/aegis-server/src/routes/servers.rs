//! Tool servers, and the tools there are.

use std::sync::Arc;

use aegis_api::{
    AcceptServer, FinishLogin, LoginServer, Page, Server, ServerDetail, ServerLine, ServerLogin, ServerState,
    Tool,
};
use aegis_core::{Body as Event, Diagnosis, Durability, ErrorCode, Name, Sha256, SignIn, SignOut};
use aegis_kernel::Caller;
use aegis_kernel::port::Append;
use aegis_tools::mcp::{LogLine, ServerState as State_, ServerView};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};

use super::{bytes, from_json};
use crate::answer::{Answer, Refused, done, json};
use crate::app::App;
use crate::logging::without_secrets;
use crate::servers::refused;

fn shown(view: &ServerView) -> Server {
    let (state, protocol, reason) = match &view.state {
        State_::Starting => (ServerState::Starting, None, None),
        State_::Ready { protocol } => (ServerState::Ready, Some(protocol.clone()), None),
        State_::Down { reason, .. } => (ServerState::Down, None, Some(reason.clone())),
        State_::Idle => (ServerState::Idle, None, None),
        State_::Stopped => (ServerState::Stopped, None, None),
    };
    Server {
        name: view.key.server.to_string(),
        state,
        protocol,
        reason,
        restarts: view.restarts,
        held: view.shown.is_some(),
        tools: view.accepted.as_ref().map_or(0, |(_, document)| document.tools.len()),
        accepted: view.accepted.as_ref().map(|(digest, _)| digest.to_string()),
        shown: view.shown.as_ref().map(|(digest, _)| digest.to_string()),
    }
}

pub(super) async fn list(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let views = app.servers.list(&caller.tenant).await.map_err(|error| refused(&error))?;
    Ok(json(&Page { items: views.iter().map(shown).collect(), next_cursor: None }))
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    let view = app.servers.show(&caller.tenant, &name).await.map_err(|error| refused(&error))?;
    let wrong = |error: serde_json::Error| Diagnosis::internal(error.to_string());
    let detail = ServerDetail {
        description: serde_json::to_value(view.accepted.as_ref().map(|(_, document)| document))
            .map_err(wrong)?,
        changes: serde_json::to_value(&view.diff).map_err(wrong)?,
        server: shown(&view),
    };
    Ok(json(&detail))
}

/// Accepts what a held server shows: an act of a person alone.
pub(super) async fn accept(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer {
    of_person(&caller, "accept a changed tool server")?;
    let AcceptServer { digest } = from_json(&bytes(body).await?)?;
    let digest: Sha256 = digest.parse().map_err(|_| {
        Diagnosis::new(ErrorCode::InvalidInput, format!("`{digest}` is not a hash"))
            .hint(format!("take the one that `aegis server show {name}` shows"))
    })?;
    // On a task of its own: a client that goes away in between leaves no change unrecorded.
    let accepted = tokio::spawn(async move { accepted(&app, &caller, &name, digest).await });
    let server = accepted.await.map_err(|error| Diagnosis::internal(error.to_string()))??;
    Ok(json(&server))
}

async fn accepted(app: &App, caller: &Caller, name: &str, digest: Sha256) -> Result<Server, Refused> {
    app.servers.accept(&caller.tenant, name, digest).await.map_err(|error| refused(&error))?;
    let server = named(name)?;
    record(app, caller, Event::ServerAccepted { server, digest, first: false }).await?;
    let view = app.servers.show(&caller.tenant, name).await.map_err(|error| refused(&error))?;
    Ok(shown(&view))
}

/// Refuses whoever is no person.
fn of_person(caller: &Caller, what: &str) -> Result<(), Refused> {
    if caller.actor.is_person() {
        return Ok(());
    }
    let what = Diagnosis::new(ErrorCode::PermissionDenied, format!("only a person may {what}"));
    Err(what.hint("sign in, or use the node's own token").into())
}

fn named(server: &str) -> Result<Name, Refused> {
    server.parse().map_err(|_| Diagnosis::internal("a configured server without a name").into())
}

/// Records what a person did with a server.
async fn record(app: &App, caller: &Caller, body: Event) -> Result<(), Refused> {
    let mut append = app.fleet_events(std::iter::once(body));
    for event in &mut append.events {
        event.actor.clone_from(&caller.actor);
    }
    let append = Append { tenant: caller.tenant.clone(), durability: Durability::Power, ..append };
    app.kernel.journal().append(append).await?;
    Ok(())
}

/// Begins a person's sign-in at a server: answers with the address that the person opens.
pub(super) async fn login(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer {
    of_person(&caller, "sign in at a tool server")?;
    let LoginServer { redirect_uri } = from_json(&bytes(body).await?)?;
    let begun = app.servers.begin_login(&caller.tenant, &name, &redirect_uri).await;
    Ok(json(&ServerLogin { url: begun.map_err(|error| refused(&error))? }))
}

/// Ends a person's sign-in at a server.
pub(super) async fn finish_login(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer {
    of_person(&caller, "sign in at a tool server")?;
    let FinishLogin { callback } = from_json(&bytes(body).await?)?;
    // On a task of its own: a client that goes away in between leaves no sign-in unrecorded.
    let task = tokio::spawn(async move {
        let finished = app.servers.finish_login(&caller.tenant, &name, &callback).await;
        finished.map_err(|error| refused(&error))?;
        let server = named(&name)?;
        record(&app, &caller, Event::ServerSignedIn { server, by: SignIn::Person }).await?;
        let view = app.servers.show(&caller.tenant, &name).await.map_err(|error| refused(&error))?;
        Ok::<_, Refused>(shown(&view))
    });
    let server = task.await.map_err(|error| Diagnosis::internal(error.to_string()))??;
    Ok(json(&server))
}

/// Destroys the tokens of a server.
pub(super) async fn logout(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    of_person(&caller, "sign out at a tool server")?;
    let task = tokio::spawn(async move {
        app.servers.logout(&caller.tenant, &name).await.map_err(|error| refused(&error))?;
        let server = named(&name)?;
        record(&app, &caller, Event::ServerSignedOut { server, by: SignOut::Person }).await
    });
    task.await.map_err(|error| Diagnosis::internal(error.to_string()))??;
    Ok(done())
}

pub(super) async fn logs(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    let lines = app.servers.logs(&caller.tenant, &name).map_err(|error| refused(&error))?;
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
