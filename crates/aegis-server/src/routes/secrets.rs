//! Secrets: set, listed, deleted. No route gives a value.

use std::sync::Arc;

use aegis_api::{Page, Secret, SetSecret};
use aegis_core::{Body as Event, Diagnosis, SecretChange};
use aegis_kernel::Caller;
use aegis_kernel::port::{SecretName, SecretRecord, SecretStore};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use secrecy::SecretString;

use super::{bytes, from_json, person, to_its_end};
use crate::answer::{Answer, Refused, done, json};
use crate::app::App;
use crate::secrets::{leave_out_of_log, refresh_models, refused};

/// The store, for whom it is open to: people. Agents never, and no key of a program.
fn store<'app>(app: &'app App, caller: &Caller) -> Result<&'app Arc<dyn SecretStore>, Refused> {
    person::only(caller, "look after secrets")?;
    app.secrets.store().ok_or_else(|| {
        Diagnosis::capability_missing("this node has no secret store", "set `spec.secrets`").into()
    })
}

fn name(text: &str) -> Result<SecretName, Refused> {
    text.parse().map_err(|error| refused(error).into())
}

fn shown(record: &SecretRecord) -> Secret {
    Secret {
        name: record.name.to_string(),
        version: record.versions.last().copied().unwrap_or_default(),
        versions: record.versions.clone(),
        updated_at: record.updated_at.to_string(),
    }
}

pub(super) async fn list(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let records = store(&app, &caller)?.list(&caller.tenant).await.map_err(refused)?;
    Ok(json(&Page { items: records.iter().map(shown).collect(), next_cursor: None }))
}

/// Sets a value, or with `rotate` puts a new one in the place of the former.
pub(super) async fn set(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<String>,
    body: Body,
) -> Answer {
    let name = name(&path)?;
    store(&app, &caller)?;
    let SetSecret { value, rotate } = from_json(&bytes(body).await?)?;
    let value = SecretString::from(value);
    let change = if rotate { SecretChange::Rotated } else { SecretChange::Set };
    let work = async move { changed(&app, &caller, &name, change, Some(value)).await };
    Ok(json(&to_its_end(work).await?))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<String>,
) -> Answer {
    let name = name(&path)?;
    store(&app, &caller)?;
    let work = async move { changed(&app, &caller, &name, SecretChange::Deleted, None).await };
    to_its_end(work).await?;
    Ok(done())
}

async fn changed(
    app: &App,
    caller: &Caller,
    name: &SecretName,
    change: SecretChange,
    value: Option<SecretString>,
) -> Result<Secret, Refused> {
    let store = store(app, caller)?;
    let tenant = &caller.tenant;
    let done = match (change, value) {
        (SecretChange::Set, Some(value)) => store.set(tenant, name, value).await.map(Some),
        (SecretChange::Rotated, Some(value)) => store.rotate(tenant, name, value).await.map(Some),
        _ => store.delete(tenant, name).await.map(|()| None),
    };
    let version = done.map_err(refused)?;
    leave_out_of_log(app.secrets.as_ref(), tenant).await;
    person::record(app, caller, Event::SecretChanged { name: name.to_string(), version, change }).await?;
    refresh_models(app).await;
    Ok(Secret {
        name: name.to_string(),
        version: version.unwrap_or_default(),
        versions: version.into_iter().collect(),
        updated_at: app.clock.now().to_string(),
    })
}
