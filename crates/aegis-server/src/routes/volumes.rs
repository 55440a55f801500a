//! Volumes, as the operator reads them.

use std::sync::Arc;

use aegis_api::{File, Page};
use aegis_core::{Diagnosis, ErrorCode, VolumeId};
use aegis_kernel::Caller;
use aegis_kernel::port::VolumeRecord;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use http::{Uri, header};
use serde::Deserialize;

use super::{id, page_size, query};
use crate::answer::{Answer, Refused, done, json};
use crate::app::App;
use crate::view;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listing {
    removed: bool,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Answer {
    let Listing { removed, limit } = query(&uri)?;
    let records = app.journal().volumes(&caller.tenant, removed, page_size(limit)).await?;
    Ok(json(&Page { items: records.iter().map(view::volume).collect(), next_cursor: None }))
}

async fn visible(app: &App, caller: &Caller, volume: VolumeId) -> Result<VolumeRecord, Refused> {
    let record = app.journal().volume(volume).await?;
    record
        .filter(|record| record.tenant == caller.tenant)
        .ok_or_else(|| Diagnosis::not_found("volume", volume).hint("see `aegis volume list`").into())
}

/// The volume, if its files are still there.
async fn present(app: &App, caller: &Caller, volume: &str) -> Result<VolumeRecord, Refused> {
    let record = visible(app, caller, id("volume", volume)?).await?;
    if record.removed {
        return Err(Diagnosis::new(ErrorCode::NotFound, format!("volume `{}` was removed", record.id))
            .hint("its record stays: see `aegis audit query --stream volume/ID`")
            .into());
    }
    Ok(record)
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(volume): Path<String>,
) -> Answer {
    Ok(json(&view::volume(&visible(&app, &caller, id("volume", &volume)?).await?)))
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(volume): Path<String>,
) -> Answer {
    app.kernel.remove_volume(&caller, id("volume", &volume)?).await?;
    Ok(done())
}

pub(super) async fn files(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(volume): Path<String>,
) -> Answer {
    let record = present(&app, &caller, &volume).await?;
    let tree = app.kernel.volumes().tree(record.id).await?;
    let items = tree
        .entries
        .into_iter()
        .map(|entry| File { path: entry.path, size: entry.size, sha256: entry.sha256.to_string() })
        .collect();
    Ok(json(&Page { items, next_cursor: None }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Getting {
    path: String,
}

/// The bytes of one file, never to be run or shown as a page of this daemon.
pub(super) async fn get_file(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(volume): Path<String>,
    uri: Uri,
) -> Answer {
    let Getting { path } = query(&uri)?;
    let record = present(&app, &caller, &volume).await?;
    let bytes = app.kernel.volumes().read_file(record.id, path.trim_start_matches('/')).await?;
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, "attachment")];
    Ok((headers, Body::from(bytes)).into_response())
}
