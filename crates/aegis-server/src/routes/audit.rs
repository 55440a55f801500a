//! The log: its events, its head and proofs.

use std::sync::Arc;

use aegis_api::{Checkpoint, LogHead, Page};
use aegis_core::{Body, Diagnosis, ErrorCode, Event, Intent, Tenant, Timestamp};
use aegis_kernel::Caller;
use aegis_kernel::port::EventQuery;
use axum::Extension;
use axum::extract::{Path, State};
use http::{HeaderMap, Uri};
use serde::Deserialize;
use serde_json::Value;

use super::{id, page_size, query};
use crate::answer::{Answer, Refused, json};
use crate::app::App;
use crate::{texts, view};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listing {
    kind: Option<String>,
    stream: Option<String>,
    trace_id: Option<String>,
    since: Option<String>,
    until: Option<String>,
    newest_first: bool,
    /// Shows the envelopes of signed calls whole.
    envelopes: bool,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Events that match, newest or oldest first; the cursor is a `seq`.
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
        tenant: readable(&caller, &headers),
        stream: filter
            .stream
            .map(|text| text.parse())
            .transpose()
            .map_err(|error: aegis_core::EventError| wrong(error.to_string()))?,
        past: None,
        trace_id: filter
            .trace_id
            .map(|text| text.parse())
            .transpose()
            .map_err(|error: aegis_core::IdError| wrong(format!("`trace_id`: {error}")))?,
        kinds: kinds(filter.kind.as_deref())?,
        since: time("since", filter.since)?,
        until: time("until", filter.until)?,
        newest_first: filter.newest_first,
        limit,
    };
    let found = app.journal().events(&wanted).await?;
    let next_cursor = found.last().filter(|_| found.len() == limit).map(|last| last.seq.to_string());
    let mut items: Vec<_> = found.iter().map(view::event).collect();
    if filter.envelopes {
        for (event, shown) in found.iter().zip(&mut items) {
            show_envelope(&app, event, &mut shown.body).await;
        }
    }
    Ok(json(&Page { items, next_cursor }))
}

/// Whose events are read: the node's owner reads all tenants', unless a tenant is named; a key never further than its own.
fn readable(caller: &Caller, headers: &HeaderMap) -> Option<Tenant> {
    let named = headers.contains_key(aegis_api::header::TENANT);
    (named || !caller.actor.is_person()).then(|| caller.tenant.clone())
}

/// Puts the envelope of a signed call in the place of its reference.
async fn show_envelope(app: &App, event: &Event, body: &mut Value) {
    let Body::ActionIntended { intent, .. } = &event.body else { return };
    let envelope = match intent {
        Intent::Tool { envelope: Some(envelope), .. } | Intent::External { envelope, .. } => envelope,
        _ => return,
    };
    let Some(blob) = &envelope.text else { return };
    let text = texts::text(app.journal(), event.stream, blob).await;
    if let Some(place) = body.pointer_mut("/intent/envelope/text") {
        *place = serde_json::from_str(&text).unwrap_or(Value::String(text));
    }
}

/// Kinds of events from a list with commas; `group.*` means all of a group. A kind that no event can have is a mistake,
/// not an empty answer.
fn kinds(list: Option<&str>) -> Result<Vec<String>, Refused> {
    let known = |kind: &str| match kind.strip_suffix('*') {
        Some(prefix) => Body::KINDS.iter().any(|known| known.starts_with(prefix)),
        None => Body::KINDS.contains(&kind),
    };
    let wanted: Vec<String> = list.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
    let Some(unknown) = wanted.iter().find(|kind| !known(kind)) else { return Ok(wanted) };
    let group = unknown.split_once('.').map(|(group, _)| format!("{group}."));
    let mut near: Vec<&str> = Body::KINDS.to_vec();
    if let Some(group) = group.filter(|group| near.iter().any(|kind| kind.starts_with(group.as_str()))) {
        near.retain(|kind| kind.starts_with(&group));
    }
    let diagnosis = Diagnosis::new(ErrorCode::InvalidInput, format!("no event is of the kind `{unknown}`"));
    Err(Refused::from(diagnosis.hint(format!("kinds are: {}", near.join(", ")))))
}

pub(super) async fn head(State(app): State<Arc<App>>) -> Answer {
    let head = app.journal().head().await?;
    Ok(json(&LogHead { size: head.size, root: head.root.to_string() }))
}

pub(super) async fn prove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Path(seq): Path<String>,
) -> Answer {
    let seq: u64 = id("event", &seq)?;
    if let Some(tenant) = readable(&caller, &headers) {
        let only =
            EventQuery { after: seq.checked_sub(1), tenant: Some(tenant), limit: 1, ..EventQuery::default() };
        if app.journal().events(&only).await?.first().is_none_or(|event| event.seq != seq) {
            return Err(Diagnosis::not_found("event", seq).hint("see `aegis audit query`").into());
        }
    }
    Ok(json(&app.evidence.prove(seq).await?))
}

pub(super) async fn checkpoint(State(app): State<Arc<App>>) -> Answer {
    let checkpoint = app.evidence.checkpoint().await?;
    Ok(json(&Checkpoint { checkpoint, public_key: app.evidence.public_key() }))
}

#[cfg(test)]
mod tests {
    use super::kinds;

    #[test]
    fn a_kind_no_event_has_is_refused_with_its_neighbours() {
        assert_eq!(kinds(None).unwrap(), Vec::<String>::new());
        for known in ["log.opened", "action.*", "action.denied,volume.recorded"] {
            assert!(kinds(Some(known)).is_ok(), "{known}");
        }
        for (unknown, near) in [
            ("action.denid", "action.denied"),
            ("actions.*", "action.denied"),
            ("", "log.opened"),
            ("x*", "log.opened"),
        ] {
            let refused = format!("{:?}", kinds(Some(unknown)).unwrap_err());
            assert!(refused.contains(near) && refused.contains(unknown), "{unknown}: {refused}");
        }
    }
}
