//! Writing the record: drafts of events with their blobs, and the ledger of one execution.

use std::borrow::Cow;
use std::sync::Arc;

use aegis_core::execution::{Input, Refused, State, apply, decide, evolve};
use aegis_core::{
    Actor, BlobId, BlobRef, Body, Durability, Event, EventId, ExecutionId, NewEvent, SpanContext, SpanId,
    StreamId, Tenant, TraceId, WorkingCopy,
};
use aegis_security::commitment;
use bytes::Bytes;

use crate::port::{Append, Appended, BlobCopy, Clock, EventQuery, Ids, Journal, JournalError, NewBlob};
use crate::redaction::{Redaction, Unredactable};

/// Events read from the journal at once.
const PAGE: usize = 512;
/// How often an append is tried again when another writer (a cancel, a call through the door) came first.
const CONFLICT_RETRIES: u32 = 64;

/// Something that could not be recorded; then nothing may be performed either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// The journal did not take it.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It cannot follow what is recorded.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nobody can say what may not be in it.
    #[error(transparent)]
    Unredactable(#[from] Unredactable),
    /// The stream is not an execution's.
    #[error("the record of execution `{0}` is missing")]
    Missing(ExecutionId),
}

/// Makes events and blobs: the only place where ids, salts and times of the record come from.
#[derive(Clone)]
pub(crate) struct Scribe {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    /// What no blob may hold.
    pub(crate) redaction: Arc<Redaction>,
}

impl Scribe {
    /// A new span below `parent`.
    pub(crate) fn child_span(&self, trace_id: TraceId, parent: Option<SpanId>) -> SpanContext {
        let mut bytes = [0u8; 8];
        self.ids.fill(&mut bytes);
        SpanContext { trace_id, span_id: SpanId::from_bytes(bytes), parent_span_id: parent }
    }

    /// The root span of a new trace.
    pub(crate) fn root_span(&self) -> SpanContext {
        let mut bytes = [0u8; 16];
        self.ids.fill(&mut bytes);
        self.child_span(TraceId::from_bytes(bytes), None)
    }

    /// An event that happens now.
    pub(crate) fn event(&self, span: SpanContext, actor: &Actor, body: Body) -> NewEvent {
        NewEvent {
            id: EventId::from_uuid(self.ids.uuid()),
            at: self.clock.now(),
            span,
            actor: actor.clone(),
            body,
        }
    }

    /// A blob to be stored with the event that refers to it.
    ///
    /// What holds no personal data is stored once. What does is stored redacted, to stay, and exact, until the run is over.
    pub(crate) fn blob(&self, bytes: impl Into<Bytes>, blobs: &mut Vec<NewBlob>) -> BlobRef {
        let exact = self.redacted(bytes.into());
        match self.redaction.without_personal_data(&exact) {
            None => self.sealed(exact, BlobCopy::Evidence, blobs),
            Some(evidence) => {
                let working = self.sealed(exact, BlobCopy::Working, blobs);
                let working = Some(WorkingCopy { id: working.id, commitment: working.commitment });
                BlobRef { working, ..self.sealed(evidence, BlobCopy::Evidence, blobs) }
            }
        }
    }

    fn sealed(&self, bytes: Bytes, copy: BlobCopy, blobs: &mut Vec<NewBlob>) -> BlobRef {
        let mut salt = [0u8; 32];
        self.ids.fill(&mut salt);
        let mut id = [0u8; 16];
        self.ids.fill(&mut id);
        // Random, not time-ordered: an id says nothing about when or what.
        let id = BlobId::from_uuid(uuid::Builder::from_random_bytes(id).into_uuid());
        let reference = BlobRef {
            id,
            commitment: commitment::commit(&salt, &bytes),
            bytes: bytes.len() as u64,
            working: None,
        };
        blobs.push(NewBlob { id, salt, bytes, copy });
        reference
    }

    /// Text without the tenant's secrets.
    fn redacted(&self, bytes: Bytes) -> Bytes {
        let redactor = self.redaction.redactor();
        if redactor.is_empty() {
            return bytes;
        }
        let redacted = match std::str::from_utf8(&bytes).map(|text| redactor.redact(text)) {
            Ok(Cow::Owned(redacted)) => Some(redacted),
            // Whatever is recorded is text.
            _ => None,
        };
        redacted.map_or(bytes, Bytes::from)
    }

    /// The text behind a reference: the exact one, while it is there.
    pub(crate) async fn text(&self, stream: StreamId, blob: &BlobRef) -> Result<String, JournalError> {
        let bytes = self.journal.blob(stream, blob).await?;
        String::from_utf8(bytes.to_vec()).map_err(|_| JournalError::BlobDamaged(blob.id))
    }

    /// Records one event on a stream that is no execution's.
    pub(crate) async fn note(
        &self,
        tenant: &Tenant,
        stream: StreamId,
        actor: &Actor,
        span: SpanContext,
        (body, blobs): (Body, Vec<NewBlob>),
        durability: Durability,
    ) -> Result<Appended, JournalError> {
        let events = vec![self.event(span, actor, body)];
        let append = Append { tenant: tenant.clone(), stream, expected: None, events, blobs, durability };
        self.journal.append(append).await
    }
}

/// The record of one execution and its fold. One driver owns it; a cancel, and calls through the door, may be appended
/// beside it, each by a ledger of its own.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) scribe: Scribe,
    pub(crate) tenant: Tenant,
    pub(crate) execution: ExecutionId,
    pub(crate) actor: Actor,
    pub(crate) state: State,
    pub(crate) created: Box<Event>,
}

impl Ledger {
    /// Folds the stream of an execution.
    pub(crate) async fn open(scribe: Scribe, execution: ExecutionId) -> Result<Self, RecordError> {
        let stream = StreamId::Execution(execution);
        let mut state: Option<State> = None;
        let mut created = None;
        loop {
            let known = state.as_ref().map(|state| state.position);
            let events = later(&scribe, stream, known).await?;
            for event in &events {
                state = match state {
                    Some(state) => Some(evolve(state, event)),
                    None => State::first(event).inspect(|_| created = Some(event.clone())),
                };
            }
            if events.len() < PAGE || state.is_none() {
                break;
            }
        }
        let (Some(state), Some(created)) = (state, created) else {
            return Err(RecordError::Missing(execution));
        };
        let actor = match &created.body {
            Body::ExecutionCreated { name, version, .. } => {
                created.actor.clone().then(aegis_core::ActorLink::Agent {
                    name: name.clone(),
                    version: version.clone(),
                    execution,
                })
            }
            _ => return Err(RecordError::Missing(execution)),
        };
        Ok(Self {
            scribe,
            tenant: created.tenant.clone(),
            execution,
            actor,
            state,
            created: Box::new(created),
        })
    }

    /// The execution's stream.
    pub(crate) fn stream(&self) -> StreamId {
        StreamId::Execution(self.execution)
    }

    /// Records what `input` leads to, and folds it in. Refused inputs record nothing.
    pub(crate) async fn record(
        &mut self,
        input: Input,
        blobs: Vec<NewBlob>,
        durability: Durability,
    ) -> Result<(), RecordError> {
        for _ in 0..CONFLICT_RETRIES {
            let bodies = decide(&self.state, input.clone())?;
            match self.append(bodies, blobs.clone(), durability).await {
                Err(RecordError::Journal(JournalError::Conflict { .. })) => drop(self.catch_up().await?),
                settled => return settled,
            }
        }
        Err(JournalError::Overloaded.into())
    }

    async fn append(
        &mut self,
        bodies: Vec<Body>,
        blobs: Vec<NewBlob>,
        durability: Durability,
    ) -> Result<(), RecordError> {
        let events: Vec<NewEvent> = bodies
            .into_iter()
            .map(|body| self.scribe.event(self.span_of(&body), &self.actor, body))
            .collect();
        let append = Append {
            tenant: self.tenant.clone(),
            stream: self.stream(),
            expected: Some(self.state.position),
            events: events.clone(),
            blobs,
            durability,
        };
        let appended = self.scribe.journal.append(append).await?;
        self.fold(events, appended);
        Ok(())
    }

    /// Records a fact.
    pub(crate) async fn fact(
        &mut self,
        body: Body,
        blobs: Vec<NewBlob>,
        durability: Durability,
    ) -> Result<(), RecordError> {
        self.record(Input::Fact(Box::new(body)), blobs, durability).await
    }

    /// Records a fact, unless others appended something meanwhile: then it is folded in, nothing is recorded, and the
    /// answer is `false`.
    pub(crate) async fn attempt(
        &mut self,
        body: Body,
        blobs: Vec<NewBlob>,
        durability: Durability,
    ) -> Result<bool, RecordError> {
        let bodies = decide(&self.state, Input::Fact(Box::new(body)))?;
        match self.append(bodies, blobs, durability).await {
            Ok(()) => Ok(true),
            Err(RecordError::Journal(JournalError::Conflict { .. })) => {
                self.catch_up().await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Folds in what others appended, such as a cancel; whether there was anything.
    pub(crate) async fn catch_up(&mut self) -> Result<bool, RecordError> {
        let before = self.state.position;
        loop {
            let events = later(&self.scribe, self.stream(), Some(self.state.position)).await?;
            for event in &events {
                apply(&mut self.state, event);
            }
            if events.len() < PAGE {
                return Ok(self.state.position > before);
            }
        }
    }

    fn fold(&mut self, events: Vec<NewEvent>, appended: Appended) {
        let count = events.len() as u64;
        for (offset, event) in (1u64..).zip(events) {
            let event = Event {
                seq: (appended.seq + offset).saturating_sub(count),
                id: event.id,
                at: event.at,
                tenant: self.tenant.clone(),
                stream: self.stream(),
                stream_seq: (appended.stream_seq + offset).saturating_sub(count),
                span: event.span,
                actor: event.actor,
                body: event.body,
            };
            apply(&mut self.state, &event);
        }
    }

    fn span_of(&self, body: &Body) -> SpanContext {
        let trace = self.state.root.trace_id;
        let iteration = SpanContext {
            trace_id: trace,
            span_id: self.state.iteration_span,
            parent_span_id: Some(self.state.root.span_id),
        };
        match body {
            Body::IterationStarted { .. } => self.scribe.child_span(trace, Some(self.state.root.span_id)),
            Body::ActionIntended { .. } | Body::ActionDenied { .. } => {
                self.scribe.child_span(trace, Some(self.state.iteration_span))
            }
            Body::ActionCompleted { action, .. } | Body::ActionUnknown { action, .. } => {
                self.state.open.get(action).map_or(iteration, |open| open.span)
            }
            Body::IterationPrompted { .. }
            | Body::IterationAnswered { .. }
            | Body::IterationCompleted { .. }
            | Body::IterationFailed { .. }
            | Body::ValidatorStarted { .. }
            | Body::ValidatorUnknown { .. }
            | Body::ValidatorCompleted { .. }
            | Body::GenerationStarted { .. }
            | Body::GenerationEnded { .. }
            | Body::SessionOpened { .. }
            | Body::ViolationRecorded { .. } => iteration,
            _ => self.state.root,
        }
    }
}

/// A page of the events of a stream that follow its `position`, in order.
async fn later(scribe: &Scribe, stream: StreamId, position: Option<u64>) -> Result<Vec<Event>, JournalError> {
    let query = EventQuery { stream: Some(stream), past: position, limit: PAGE, ..EventQuery::default() };
    scribe.journal.events(&query).await
}
