//! Event streams over HTTP: server-sent events with `id:` = the journal's `seq`.
//!
//! A stream reads the journal by `seq`, never a broadcast, so a slow reader misses nothing; it is told everything
//! again from `Last-Event-ID` on. Where one journal event gives two events, only the second has the id.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aegis_api::ExecutionEvent;
use aegis_core::{AgentId, Diagnosis, ErrorCode, Event, ExecutionId, StreamId, Tenant};
use aegis_kernel::port::{EventQuery, ExecutionQuery, JournalError};
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::answer::Refused;
use crate::app::App;
use crate::follow::{Follow, Texts};
use crate::texts::texts;

/// Events read from the journal at a time.
const BATCH: usize = 256;
/// Chunks waiting for a slow reader; then the journal is not read further.
const CHUNKS_WAITING_MAX: usize = 32;
/// A comment is sent after this long without an event, so that both sides notice a dead connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Shortest time between two reads for new events: many commits at once are one read, a lone one does not wait.
const GATHER: Duration = Duration::from_millis(10);
/// Executions whose events begin an agent's stream.
const AGENT_EXECUTIONS_TOLD: usize = 20;
/// Foreign executions an agent's stream remembers before it forgets them all.
const FOREIGN_MAX: usize = 10_000;
/// Kinds that an agent's stream can tell something of.
const TOLD_KINDS: [&str; 5] = ["execution.*", "iteration.*", "action.*", "validation.*", "refinement.*"];

/// How a stream is asked for.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Asked {
    follow: bool,
    verbose: bool,
}

impl Default for Asked {
    fn default() -> Self {
        Self { follow: true, verbose: false }
    }
}

struct Feed {
    app: Arc<App>,
    out: mpsc::Sender<Bytes>,
    committed: watch::Receiver<u64>,
    follow: bool,
    /// Whether results of tools and sizes of prompts are told too.
    verbose: bool,
    /// What the reader has already.
    last: Option<u64>,
    /// When something was last sent.
    spoke: Instant,
    /// When the journal may be read again.
    gathered: Instant,
}

/// Why a stream ends.
enum End {
    ReaderGone,
    Journal(JournalError),
}

impl From<JournalError> for End {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// The events of one execution, to its end.
pub(crate) fn of_execution(
    app: &Arc<App>,
    execution: ExecutionId,
    headers: &HeaderMap,
    asked: &Asked,
) -> Result<Response, Refused> {
    open(app, headers, asked, move |feed| feed.tell_execution(execution))
}

/// The events of an agent's executions, until the reader goes.
pub(crate) fn of_agent(
    app: &Arc<App>,
    tenant: &Tenant,
    agent: AgentId,
    headers: &HeaderMap,
    asked: &Asked,
) -> Result<Response, Refused> {
    let tenant = tenant.clone();
    open(app, headers, asked, move |feed| feed.tell_agent(tenant, agent))
}

fn open<F>(
    app: &Arc<App>,
    headers: &HeaderMap,
    asked: &Asked,
    tell: impl FnOnce(Feed) -> F,
) -> Result<Response, Refused>
where
    F: Future<Output = Result<(), End>> + Send + 'static,
{
    let last = headers
        .get("last-event-id")
        .map(|id| id.to_str().ok().and_then(|id| id.parse().ok()))
        .map(|id| {
            id.ok_or_else(|| Diagnosis::new(ErrorCode::InvalidInput, "`Last-Event-ID` is not one of ours"))
        })
        .transpose()?;
    let permit = app.streams.clone().try_acquire_owned().map_err(|_| {
        Diagnosis::new(ErrorCode::Overloaded, "too many event streams are open")
            .hint("close some, or try later")
    })?;
    let (out, chunks) = mpsc::channel(CHUNKS_WAITING_MAX);
    let feed = Feed {
        app: app.clone(),
        out,
        committed: app.journal().committed(),
        follow: asked.follow,
        verbose: asked.verbose,
        last,
        spoke: Instant::now(),
        gathered: Instant::now(),
    };
    let telling = tell(feed);
    let stop = app.stop.clone();
    tokio::spawn(async move {
        if let Some(Err(End::Journal(error))) = stop.run_until_cancelled(telling).await {
            tracing::warn!(%error, "an event stream broke off");
        }
        drop(permit);
    });
    let body = Body::from_stream(ReceiverStream::new(chunks).map(Ok::<_, std::convert::Infallible>));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

impl Feed {
    async fn tell_execution(mut self, execution: ExecutionId) -> Result<(), End> {
        let mut follow = Follow::new(self.verbose);
        let mut query = EventQuery {
            stream: Some(StreamId::Execution(execution)),
            limit: BATCH,
            ..EventQuery::default()
        };
        loop {
            let events = self.app.journal().events(&query).await?;
            for event in &events {
                query.after = Some(event.seq);
                if self.tell(&mut follow, event).await? {
                    return Ok(());
                }
            }
            if events.len() < BATCH && !self.wait().await? {
                return Ok(());
            }
        }
    }

    async fn tell_agent(mut self, tenant: Tenant, agent: AgentId) -> Result<(), End> {
        let mut own: BTreeMap<ExecutionId, Follow> = BTreeMap::new();
        let mut foreign: BTreeSet<ExecutionId> = BTreeSet::new();
        let mut query = EventQuery {
            after: self.start_of_agent(&tenant, agent).await?,
            tenant: Some(tenant),
            kinds: TOLD_KINDS.map(str::to_owned).to_vec(),
            limit: BATCH,
            ..EventQuery::default()
        };
        loop {
            let events = self.app.journal().events(&query).await?;
            for event in &events {
                query.after = Some(event.seq);
                let StreamId::Execution(execution) = event.stream else { continue };
                if foreign.contains(&execution) {
                    continue;
                }
                let follow = match own.entry(execution) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => {
                        let record = self.app.journal().execution(execution).await?;
                        if record.is_none_or(|record| record.agent != agent) {
                            if foreign.len() >= FOREIGN_MAX {
                                foreign.clear();
                            }
                            foreign.insert(execution);
                            continue;
                        }
                        unknown.insert(self.former(execution, event.seq).await?)
                    }
                };
                if self.tell(follow, event).await? {
                    own.remove(&execution);
                }
            }
            if events.len() < BATCH && !self.wait().await? {
                return Ok(());
            }
        }
    }

    /// Where an agent's stream begins: behind what the reader has, or with the last few executions.
    async fn start_of_agent(&self, tenant: &Tenant, agent: AgentId) -> Result<Option<u64>, End> {
        if self.last.is_some() {
            return Ok(self.last);
        }
        let latest = ExecutionQuery {
            tenant: Some(tenant.clone()),
            agent: Some(agent),
            limit: AGENT_EXECUTIONS_TOLD,
            ..ExecutionQuery::default()
        };
        let Some(oldest) = self.app.journal().executions(&latest).await?.items.pop() else {
            return Ok(self.app.journal().head().await?.size.checked_sub(1));
        };
        let first =
            EventQuery { stream: Some(StreamId::Execution(oldest.id)), limit: 1, ..EventQuery::default() };
        let first = self.app.journal().events(&first).await?;
        Ok(first.first().and_then(|event| event.seq.checked_sub(1)))
    }

    /// What must be known of an execution's events before `seq`.
    async fn former(&self, execution: ExecutionId, seq: u64) -> Result<Follow, End> {
        let mut follow = Follow::new(self.verbose);
        let mut query = EventQuery {
            stream: Some(StreamId::Execution(execution)),
            before: Some(seq),
            limit: BATCH,
            ..EventQuery::default()
        };
        loop {
            let events = self.app.journal().events(&query).await?;
            for event in &events {
                query.after = Some(event.seq);
                follow.tell(event, &Texts::new());
            }
            if events.len() < BATCH {
                return Ok(follow);
            }
        }
    }

    /// Tells one journal event; true if nothing of its execution follows.
    async fn tell(&mut self, follow: &mut Follow, event: &Event) -> Result<bool, End> {
        if self.last.is_some_and(|last| event.seq <= last) {
            let told = follow.tell(event, &Texts::new());
            return Ok(told.iter().any(ExecutionEvent::is_final));
        }
        let texts = texts(self.app.journal(), event.stream, &follow.wanted(event)).await;
        let told = follow.tell(event, &texts);
        if let Some(chunk) = frame(&told, event.seq) {
            self.send(chunk).await?;
        }
        Ok(told.iter().any(ExecutionEvent::is_final))
    }

    /// Waits for new events; false if the stream should end here.
    async fn wait(&mut self) -> Result<bool, End> {
        if !self.follow {
            return Ok(false);
        }
        loop {
            tokio::select! {
                biased;
                () = self.out.closed() => return Err(End::ReaderGone),
                // Before the journal's wake-ups: on a busy node those could come without end, and none for us.
                () = tokio::time::sleep_until(self.spoke + HEARTBEAT) => {
                    self.send(Bytes::from_static(b":\n\n")).await?;
                }
                changed = self.committed.changed() => {
                    tokio::time::sleep_until(self.gathered).await;
                    self.gathered = Instant::now() + GATHER;
                    return Ok(changed.is_ok());
                }
            }
        }
    }

    async fn send(&mut self, chunk: Bytes) -> Result<(), End> {
        self.out.send(chunk).await.map_err(|_| End::ReaderGone)?;
        self.spoke = Instant::now();
        Ok(())
    }
}

/// Events as server-sent events, the id on the last.
fn frame(events: &[ExecutionEvent], seq: u64) -> Option<Bytes> {
    let mut text = String::new();
    for (index, event) in events.iter().enumerate() {
        // JSON has no line breaks of its own, so the data is one line.
        let data = serde_json::to_string(event).ok()?;
        if index + 1 == events.len() {
            let _ = writeln!(text, "id: {seq}");
        }
        let _ = write!(text, "event: {}\ndata: {data}\n\n", event.name());
    }
    (!text.is_empty()).then(|| Bytes::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_event_of_a_journal_event_has_the_id() {
        let event = |number| ExecutionEvent::IterationOutput {
            execution_id: "e".to_owned(),
            iteration_number: number,
            output: "a\nb".to_owned(),
        };
        let text = frame(&[event(1), event(2)], 7).unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        let frames: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(frames.len(), 2);
        assert!(frames[0].starts_with("event: iteration_output\ndata: {"), "{text}");
        assert!(frames[1].starts_with("id: 7\nevent: iteration_output\ndata: {"), "{text}");
        assert_eq!(frames[0].lines().count(), 2, "a line break in the text must not break the frame");
        assert_eq!(frame(&[], 7), None);
    }
}
