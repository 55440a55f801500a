//! Agents.

use std::sync::Arc;

use aegis_api::{AgentVersion, Deployed, Page};
use aegis_core::limits::DOCUMENT_BYTES_MAX;
use aegis_core::{AgentId, Diagnosis, ErrorCode, Name, Tenant};
use aegis_kernel::port::{AgentRecord, AgentState};
use aegis_kernel::{Caller, DeployOptions, Refusal};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;

use super::{bytes, id, page_size, query};
use crate::answer::{Answer, Refused, done, json, json_with};
use crate::app::App;
use crate::{stream, view};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Answer {
    let Listing { limit, cursor } = query(&uri)?;
    let page = app.journal().agents(&caller.tenant, cursor.as_deref(), page_size(limit)).await?;
    let mut items = Vec::with_capacity(page.items.len());
    for record in page.items.iter().filter(|record| !is_shadowed(record, &page.items)) {
        items.push(view::agent(&app, record, false).await);
    }
    Ok(json(&Page { items, next_cursor: page.next_cursor }))
}

/// Whether a name of the platform's means the tenant's own agent; agents of one name stand on one page.
fn is_shadowed(record: &AgentRecord, page: &[AgentRecord]) -> bool {
    record.tenant == Tenant::platform()
        && page.iter().any(|other| other.name == record.name && other.tenant != record.tenant)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Deploying {
    force: bool,
    validate_only: bool,
}

pub(super) async fn deploy(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Answer {
    let Deploying { force, validate_only } = query(&uri)?;
    let bytes = bytes(body).await?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let what = format!("the document is larger than {DOCUMENT_BYTES_MAX} bytes");
        return Err(Refused::with_status(
            Diagnosis::new(ErrorCode::InvalidInput, what),
            StatusCode::PAYLOAD_TOO_LARGE,
        ));
    }
    let document = std::str::from_utf8(&bytes).map_err(|error| {
        Diagnosis::new(ErrorCode::InvalidInput, format!("the document is not UTF-8: {error}"))
    })?;
    let deployed = app.kernel.deploy(&caller, document, DeployOptions { force, validate_only }).await;
    let deployed = deployed.map_err(|refusal| named(refusal, document, &headers))?;
    let status = if deployed.changed && !validate_only { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json_with(
        status,
        &Deployed {
            id: deployed.id.to_string(),
            name: deployed.name,
            version: deployed.version,
            status: deployed.status.to_owned(),
            warnings: deployed.warnings,
            changed: deployed.changed,
        },
    ))
}

/// The refusal with the name of the user's file at its places, if the request says it.
fn named(refusal: Refusal, document: &str, headers: &HeaderMap) -> Refused {
    let file = headers.get(aegis_api::header::FILE).map(|name| String::from_utf8_lossy(name.as_bytes()));
    let Some(file) = file.filter(|_| refusal.rendered.is_some()) else { return refusal.into() };
    match aegis_manifest::parse_agent(document, &file) {
        Err(found) => Refusal { rendered: Some(found.render()), problems: found.to_diagnoses() }.into(),
        Ok(_) => refusal.into(),
    }
}

/// The agent, if the caller may see it: its own tenant's, or the platform's.
pub(super) async fn visible(app: &App, caller: &Caller, agent: AgentId) -> Result<AgentRecord, Refused> {
    let record = app.journal().agent(agent).await?.filter(|record| {
        record.state != AgentState::Removed
            && (record.tenant == caller.tenant || record.tenant == Tenant::platform())
    });
    record.ok_or_else(|| Diagnosis::not_found("agent", agent).hint("see `aegis agent list`").into())
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
) -> Answer {
    let record = visible(&app, &caller, id("agent", &agent)?).await?;
    Ok(json(&view::agent(&app, &record, true).await))
}

/// By name or name@version; the caller's tenant first, then `platform`.
pub(super) async fn lookup(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(wanted): Path<String>,
) -> Answer {
    let (name, version) = match wanted.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (wanted.as_str(), None),
    };
    let missing = || Diagnosis::not_found("agent", &wanted).hint("see `aegis agent list`");
    let name: Name = name.parse().map_err(|_| missing())?;
    let mut record = match visible(&app, &caller, AgentId::of(&caller.tenant, &name)).await {
        Ok(record) => record,
        Err(Refused(problem)) if problem.code == ErrorCode::NotFound => {
            visible(&app, &caller, AgentId::of(&Tenant::platform(), &name)).await.map_err(|_| missing())?
        }
        Err(refused) => return Err(refused),
    };
    if let Some(version) = version {
        let versions = app.journal().agent_versions(record.id).await?;
        let found = versions.into_iter().find(|known| known.version == version).ok_or_else(missing)?;
        record.version = found.version;
        record.digest = found.digest;
        record.document = found.document;
        record.updated_at = found.deployed_at;
    }
    Ok(json(&view::agent(&app, &record, true).await))
}

pub(super) async fn versions(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
) -> Answer {
    let record = visible(&app, &caller, id("agent", &agent)?).await?;
    let versions = app.journal().agent_versions(record.id).await?;
    let items = versions
        .into_iter()
        .map(|known| AgentVersion {
            version: known.version,
            digest: known.digest.to_string(),
            deployed_at: known.deployed_at.to_string(),
        })
        .collect();
    Ok(json(&Page { items, next_cursor: None }))
}

pub(super) async fn pause(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
) -> Answer {
    app.kernel.pause_agent(&caller, id("agent", &agent)?).await?;
    Ok(done())
}

pub(super) async fn resume(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
) -> Answer {
    app.kernel.resume_agent(&caller, id("agent", &agent)?).await?;
    Ok(done())
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
) -> Answer {
    app.kernel.remove_agent(&caller, id("agent", &agent)?).await?;
    Ok(done())
}

/// The events of the agent's executions, as server-sent events.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refused> {
    let record = visible(&app, &caller, id("agent", &agent)?).await?;
    stream::of_agent(&app, &caller.tenant, record.id, &headers, &query(&uri)?)
}
