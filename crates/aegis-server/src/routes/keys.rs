//! API keys. Only a person makes and revokes them.

use std::sync::Arc;

use aegis_api::{ApiKey, CreatedKey, NewKey, Page, RotatedKey};
use aegis_core::{ApiKeyId, Body as Event, Diagnosis, Durability, ErrorCode, KeyRole, Name};
use aegis_kernel::Caller;
use aegis_kernel::port::Append;
use aegis_store::DoorError;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use http::StatusCode;
use secrecy::ExposeSecret as _;

use super::{bytes, from_json, id};
use crate::answer::{Answer, Refused, done, json, json_with};
use crate::app::App;
use crate::signing_keys;

pub(super) async fn list(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    person(&caller)?;
    let keys = app.door.keys(&caller.tenant).await.map_err(refused)?;
    Ok(json(&Page { items: keys.iter().map(shown).collect(), next_cursor: None }))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answer {
    person(&caller)?;
    let asked: NewKey = from_json(&bytes(body).await?)?;
    let wrong = |what: String| Refused::from(Diagnosis::new(ErrorCode::InvalidInput, what));
    let role = KeyRole::parse(&asked.role).ok_or_else(|| {
        wrong(format!("`{}` is no role; a key is a viewer's, an operator's or an agent's", asked.role))
    })?;
    let name = |text: &str| text.parse::<Name>().map_err(|error| wrong(format!("`{text}`: {error}")));
    let agent = asked.agent.as_deref().map(name).transpose()?;
    let made = app.door.create_key(&caller.tenant, &name(&asked.name)?, role, agent.as_ref()).await;
    let (key, text) = made.map_err(refused)?;
    if let Err(error) = note(&app, &caller, key.created_event()).await {
        // A key that no record knows must not open.
        app.door.revoke_key(&caller.tenant, key.id).await.map_err(refused)?;
        return Err(error);
    }
    let made = CreatedKey { id: key.id.to_string(), key: text.expose_secret().to_owned() };
    Ok(json_with(StatusCode::CREATED, &made))
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(key): Path<String>,
) -> Answer {
    person(&caller)?;
    let key: ApiKeyId = id("key", &key)?;
    let revoked = app.door.revoke_key(&caller.tenant, key).await.map_err(refused)?;
    let revoked = revoked.ok_or_else(|| Diagnosis::not_found("key", key).hint("see `aegis key list`"))?;
    app.door.end_sessions_by(key).await.map_err(refused)?;
    app.kernel.end_key(&caller, key).await;
    note(&app, &caller, revoked.revoked_event()).await?;
    Ok(done())
}

/// Changes the key that signs security tokens; tokens of the former stay valid until they expire.
pub(super) async fn rotate(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    person(&caller)?;
    let changed = {
        let app = app.clone();
        tokio::task::spawn_blocking(move || {
            signing_keys::rotate(&app.home, &app.tokens, app.clock.as_ref(), app.ids.as_ref())
        })
    };
    let key_id = changed.await.map_err(|error| Diagnosis::internal(error.to_string()))??;
    note(&app, &caller, Event::SigningKeyRotated { key_id: key_id.clone() }).await?;
    Ok(json(&RotatedKey { key_id }))
}

fn person(caller: &Caller) -> Result<(), Refused> {
    if caller.actor.is_person() {
        return Ok(());
    }
    Err(Diagnosis::new(ErrorCode::PermissionDenied, "only a person may look after keys")
        .hint("use the node's own token")
        .into())
}

async fn note(app: &App, caller: &Caller, body: Event) -> Result<(), Refused> {
    let mut append: Append = app.fleet_events(std::iter::once(body));
    append.tenant = caller.tenant.clone();
    append.durability = Durability::Power;
    for event in &mut append.events {
        event.actor = caller.actor.clone();
    }
    app.journal().append(append).await?;
    Ok(())
}

fn shown(key: &aegis_store::ApiKey) -> ApiKey {
    ApiKey {
        id: key.id.to_string(),
        name: key.name.to_string(),
        role: key.role.as_str().to_owned(),
        agent: key.agent.as_ref().map(ToString::to_string),
        created_at: key.created_at.to_string(),
        last_used: key.last_used.map(|at| at.to_string()),
        revoked_at: key.revoked_at.map(|at| at.to_string()),
    }
}

fn refused(error: DoorError) -> Refused {
    match error {
        DoorError::Invalid(what) => Diagnosis::new(ErrorCode::InvalidInput, what).into(),
        other => Diagnosis::internal(other.to_string()).into(),
    }
}
