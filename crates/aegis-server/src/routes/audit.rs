//! The log: its events, its head and proofs.

use std::sync::Arc;

use aegis_api::{Checkpoint, LogHead, Page};
use aegis_core::{Diagnosis, ErrorCode, Timestamp};
use aegis_kernel::Caller;
use aegis_kernel::port::EventQuery;
use axum::Extension;
use axum::extract::{Path, State};
use http::{HeaderMap, Uri};
use serde::Deserialize;

use super::{id, page_size, query};
use crate::answer::{Answer, Refused, json};
use crate::app::App;
use crate::view;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listing {
    kind: Option<String>,
    stream: Option<String>,
    trace_id: Option<String>,
    since: Option<String>,
    until: Option<String>,
    newest_first: bool,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Events that match. The node's owner reads all tenants', unless a tenant is named; the cursor is a `seq`.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
) -> Answer {
    let filter: Listing = query(&uri)?;
    let wrong = |what: String| Refused::from(Diagnosis::new(ErrorCode::InvalidInput, what));
    let time = |name: &str, text: Option<String>| {
        text.map(|text| {
            Timestamp::parse(&text)
                .ok_or_else(|| wrong(format!("`{name}`: `{text}` is not a time like `2026-02-23T10:00:01Z`")))
        })
        .transpose()
    };
    let cursor: Option<u64> = filter
        .cursor
        .map(|text| text.parse().map_err(|_| wrong(format!("`{text}` is not a cursor of this list"))))
        .transpose()?;
    let limit = page_size(filter.limit);
    let wanted = EventQuery {
        after: cursor.filter(|_| !filter.newest_first),
        before: cursor.filter(|_| filter.newest_first),
        tenant: headers.contains_key(aegis_api::header::TENANT).then_some(caller.tenant),
        stream: filter
            .stream
            .map(|text| text.parse())
            .transpose()
            .map_err(|error: aegis_core::EventError| wrong(error.to_string()))?,
        trace_id: filter
            .trace_id
            .map(|text| text.parse())
            .transpose()
            .map_err(|error: aegis_core::IdError| wrong(format!("`trace_id`: {error}")))?,
        kinds: filter.kind.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect(),
        since: time("since", filter.since)?,
        until: time("until", filter.until)?,
        newest_first: filter.newest_first,
        limit,
    };
    let found = app.journal().events(&wanted).await?;
    let next_cursor = found.last().filter(|_| found.len() == limit).map(|last| last.seq.to_string());
    Ok(json(&Page { items: found.iter().map(view::event).collect(), next_cursor }))
}

pub(super) async fn head(State(app): State<Arc<App>>) -> Answer {
    let head = app.journal().head().await?;
    Ok(json(&LogHead { size: head.size, root: head.root.to_string() }))
}

pub(super) async fn prove(State(app): State<Arc<App>>, Path(seq): Path<String>) -> Answer {
    let seq: u64 = id("event", &seq)?;
    Ok(json(&app.evidence.prove(seq).await?))
}

pub(super) async fn checkpoint(State(app): State<Arc<App>>) -> Answer {
    let checkpoint = app.evidence.checkpoint().await?;
    Ok(json(&Checkpoint { checkpoint, public_key: app.evidence.public_key() }))
}
