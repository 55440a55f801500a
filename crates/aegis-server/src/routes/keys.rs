//! API keys. Only a person makes and revokes them.

use std::sync::Arc;

use aegis_api::{ApiKey, CreatedKey, NewKey, Page, RotatedKey};
use aegis_core::{ApiKeyId, Body as Event, Diagnosis, ErrorCode, KeyRole, Name};
use aegis_kernel::Caller;
use aegis_kernel::port::EventQuery;
use aegis_store::DoorError;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use http::StatusCode;
use secrecy::ExposeSecret as _;

use super::{PAGE_MAX, bytes, from_json, id, person, to_its_end};
use crate::answer::{Answer, Refused, done, json, json_with};
use crate::app::App;
use crate::signing_keys;

/// What only a person may do here.
const LOOK_AFTER: &str = "look after keys";

pub(super) async fn list(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    person::only(&caller, LOOK_AFTER)?;
    let keys = app.door.keys(&caller.tenant).await.map_err(refused)?;
    Ok(json(&Page { items: keys.iter().map(shown).collect(), next_cursor: None }))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answer {
    person::only(&caller, LOOK_AFTER)?;
    let asked: NewKey = from_json(&bytes(body).await?)?;
    let wrong = |what: String| Refused::from(Diagnosis::new(ErrorCode::InvalidInput, what));
    let role = KeyRole::parse(&asked.role).ok_or_else(|| {
        wrong(format!("`{}` is no role; a key is a viewer's, an operator's or an agent's", asked.role))
    })?;
    let name = |text: &str| text.parse::<Name>().map_err(|error| wrong(format!("`{text}`: {error}")));
    let agent = asked.agent.as_deref().map(name).transpose()?;
    let name = name(&asked.name)?;
    let made = to_its_end(async move {
        let made = app.door.create_key(&caller.tenant, &name, role, agent.as_ref()).await;
        let (key, text) = made.map_err(refused)?;
        if let Err(error) = person::record(&app, &caller, key.created_event()).await {
            // A key that no record knows must not open.
            app.door.revoke_key(&caller.tenant, key.id).await.map_err(refused)?;
            return Err(error);
        }
        Ok(CreatedKey { id: key.id.to_string(), key: text.expose_secret().to_owned() })
    });
    Ok(json_with(StatusCode::CREATED, &made.await?))
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(key): Path<String>,
) -> Answer {
    person::only(&caller, LOOK_AFTER)?;
    let key: ApiKeyId = id("key", &key)?;
    to_its_end(async move { revoked(&app, &caller, key).await }).await?;
    Ok(done())
}

/// Makes the key open nothing, ends what it began, and records it. What an earlier try left undone is done now.
async fn revoked(app: &App, caller: &Caller, key: ApiKeyId) -> Result<(), Refused> {
    let now = app.door.revoke_key(&caller.tenant, key).await.map_err(refused)?;
    let before = match now {
        Some(_) => None,
        None => app.door.keys(&caller.tenant).await.map_err(refused)?.into_iter().find(|old| old.id == key),
    };
    let known = now.as_ref().or(before.as_ref());
    let known = known.ok_or_else(|| Diagnosis::not_found("key", key).hint("see `aegis key list`"))?;
    app.door.end_sessions_by(key).await.map_err(refused)?;
    app.kernel.end_key(caller, key).await;
    if before.is_some() && is_on_record(app, caller, known).await? {
        return Ok(());
    }
    person::record(app, caller, known.revoked_event()).await
}

/// Whether it is on record that the key was revoked. Its event is among the first since then.
async fn is_on_record(app: &App, caller: &Caller, key: &aegis_store::ApiKey) -> Result<bool, Refused> {
    let event = key.revoked_event();
    let since = EventQuery {
        tenant: Some(caller.tenant.clone()),
        kinds: vec![event.kind().to_owned()],
        since: key.revoked_at,
        limit: PAGE_MAX,
        ..EventQuery::default()
    };
    Ok(app.journal().events(&since).await?.iter().any(|known| known.body == event))
}

/// Changes the key that signs security tokens; tokens of the former stay valid until they expire.
pub(super) async fn rotate(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    person::only(&caller, LOOK_AFTER)?;
    let rotated = to_its_end(async move {
        let changed = {
            let app = app.clone();
            tokio::task::spawn_blocking(move || {
                signing_keys::rotate(&app.home, &app.tokens, app.clock.as_ref(), app.ids.as_ref())
            })
        };
        let key_id = changed.await.map_err(|error| Diagnosis::internal(error.to_string()))??;
        person::record(&app, &caller, Event::SigningKeyRotated { key_id: key_id.clone() }).await?;
        Ok(RotatedKey { key_id })
    });
    Ok(json(&rotated.await?))
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
